//! The mark that tells a process of this proxy's reapers from every other process.
//!
//! A process that made a session of its own and lost its parent has nothing left that names its reaper: it may have
//! overwritten its environment too, as Chromium does. So each reaper sets a random number, the same for all reapers of
//! one proxy, as its limit on file locks (`RLIMIT_LOCKS`). Linux has not enforced that limit since 2.4.25, but children
//! inherit it, `exec` keeps it, it can be lowered but not raised without privileges, and `/proc/PID/limits` shows it
//! for every process. A process with this number can only have inherited it from a reaper.
//!
//! Where the limit cannot be set there is no mark, and [`orphans`](super::orphans) knows only some of the processes.

use std::fs;
use std::io;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A mark lies less than this below the proxy's own limit, so that proxies behind proxies can still go lower.
const MARK_SPAN: u64 = 1 << 56;

/// A limit below this was set on purpose by somebody else, and is left alone.
const MIN_HARD_LIMIT: u64 = 1 << 63;

static OWN_MARK: OnceLock<Option<u64>> = OnceLock::new();

/// The mark of this process's reapers, if there can be one.
pub(super) fn own() -> Option<u64> {
    *OWN_MARK.get_or_init(|| below(getrlimit(Resource::Locks).maximum.unwrap_or(u64::MAX), getrandom::u64().ok()?))
}

fn below(limit: u64, random: u64) -> Option<u64> {
    if limit < MIN_HARD_LIMIT { None } else { limit.checked_sub(1 + random % MARK_SPAN) }
}

/// Marks this process, and with it all that it starts from now on.
pub(super) fn apply(mark: u64) -> io::Result<()> {
    let before = getrlimit(Resource::Locks);
    let current = before.current.map_or(mark, |current| current.min(mark));
    Ok(setrlimit(Resource::Locks, Rlimit { current: Some(current), maximum: Some(mark) })?)
}

/// The hard limit on file locks of a process: its mark, if it has one.
pub(super) fn of(pid: i32) -> Option<u64> {
    parse(&fs::read_to_string(format!("/proc/{pid}/limits")).ok()?)
}

fn parse(limits: &str) -> Option<u64> {
    let locks = limits.lines().find_map(|line| line.strip_prefix("Max file locks"))?;
    locks.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hard_limit_is_the_mark() {
        let limits = "Max address space         unlimited            unlimited            bytes     \n\
                      Max file locks            7                    18446744073709551000 locks     \n\
                      Max pending signals       96365                96365                signals   \n";
        assert_eq!(parse(limits), Some(18_446_744_073_709_551_000));
        assert_eq!(parse("Max file locks            unlimited            unlimited            locks     \n"), None);
        assert_eq!(parse("Max pending signals       96365                96365                signals   \n"), None);
    }

    #[test]
    fn a_mark_is_lower_than_the_limit_and_leaves_room_for_others() {
        assert_eq!(below(u64::MAX, 0), Some(u64::MAX - 1));
        let mut limit = u64::MAX;
        for depth in 0..128 {
            limit = below(limit, u64::MAX).unwrap_or_else(|| panic!("no mark at depth {depth}"));
        }
        assert_eq!(below(MIN_HARD_LIMIT, 0), Some(MIN_HARD_LIMIT - 1));
        assert_eq!(below(MIN_HARD_LIMIT - 1, 0), None, "it could be a limit that somebody set");
        assert_eq!(below(1000, 0), None);
    }
}
