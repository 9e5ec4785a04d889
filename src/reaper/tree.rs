//! Descendants of processes, as `/proc` has them, and signals that reach a process only if it is still the one meant.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

/// A process as it stands in `/proc/<pid>/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProcessStat {
    pub(super) pid: i32,
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) session: i32,
    /// Whether the process has ended, and only waits for its parent to take its exit status.
    pub(super) dead: bool,
    /// When the process was started, in ticks since the system started.
    pub(super) born: u64,
}

impl ProcessStat {
    pub(super) fn read(pid: i32) -> Option<Self> {
        Self::parse(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(pid: i32, stat: &[u8]) -> Option<Self> {
        // The name in parentheses may hold anything, other parentheses too: what follows starts after the last one.
        let rest = stat.get(stat.iter().rposition(|byte| *byte == b')')? + 1..)?;
        let fields: Vec<&str> = str::from_utf8(rest).ok()?.split_ascii_whitespace().collect();
        Some(Self {
            pid,
            dead: matches!(*fields.first()?, "Z" | "X" | "x"),
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            born: fields.get(19)?.parse().ok()?,
        })
    }
}

/// The numbers of all processes that descend from any of `roots` (which are not among them), parents first.
pub(super) fn below(roots: &[i32]) -> Vec<i32> {
    // Reading a few `children` files costs the same however many processes there are. Only on a kernel without these
    // files is every process looked at.
    let everyone = if has_children_files() { None } else { Some(scan()) };
    let mut seen: HashSet<i32> = roots.iter().copied().collect();
    let mut found = Vec::new();
    let mut waiting = roots.to_vec();
    while let Some(parent) = waiting.pop() {
        let children = match &everyone {
            Some(everyone) => everyone.get(&parent).cloned().unwrap_or_default(),
            None => children(parent),
        };
        for child in children {
            if seen.insert(child) {
                found.push(child);
                waiting.push(child);
            }
        }
    }
    found
}

/// The direct children of a process.
pub(super) fn directly_below(parent: i32) -> Vec<ProcessStat> {
    let found = if has_children_files() { children(parent) } else { scan().remove(&parent).unwrap_or_default() };
    found.into_iter().filter_map(ProcessStat::read).filter(|process| process.parent == parent).collect()
}

fn has_children_files() -> bool {
    Path::new("/proc/thread-self/children").exists()
}

/// The children of a process, from the `children` files of its threads.
fn children(parent: i32) -> Vec<i32> {
    let mut found = Vec::new();
    for thread in fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten() {
        let text = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        found.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    found
}

fn scan() -> HashMap<i32, Vec<i32>> {
    let mut everyone: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(process) = pid.and_then(ProcessStat::read) {
            everyone.entry(process.parent).or_default().push(process.pid);
        }
    }
    everyone
}

/// Sends a signal to a process if its parent is one of `family`. Returns the process if it ran and the signal was sent.
///
/// The number is turned into a handle first, and the parent is looked up by the number afterwards. In the other order,
/// the number could pass on to another process in between, which would be signalled.
pub(super) fn signal(pid: i32, family: &HashSet<i32>, signal: Signal) -> Option<ProcessStat> {
    signal_if(pid, signal, |process| family.contains(&process.parent))
}

/// Sends a signal to a process if its number is still its own. Returns its present state if it ran and the signal was
/// sent.
pub(super) fn signal_known(known: &ProcessStat, signal: Signal) -> Option<ProcessStat> {
    signal_if(known.pid, signal, |process| process.born == known.born)
}

fn signal_if(pid: i32, signal: Signal, ours: impl FnOnce(&ProcessStat) -> bool) -> Option<ProcessStat> {
    let number = Pid::from_raw(pid)?;
    let handle = pidfd_open(number, PidfdFlags::empty());
    let process = ProcessStat::read(pid)?;
    if process.dead || !ours(&process) {
        return None;
    }
    let sent = match handle {
        Ok(handle) => pidfd_send_signal(handle, signal),
        // Old kernels, and sandboxes that do not know the call.
        Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => kill_process(number, signal),
        Err(error) => Err(error),
    };
    sent.is_ok().then_some(process)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let stat = b"42 (a) R 1 (b c) S 7 8 9 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 1 1\n";
        let expected = ProcessStat { pid: 42, parent: 7, group: 8, session: 9, dead: false, born: 12345 };
        assert_eq!(ProcessStat::parse(42, stat), Some(expected));
        let zombie = b"42 (\xff) Z 7 8 9 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 1 1\n";
        assert_eq!(ProcessStat::parse(42, zombie), Some(ProcessStat { dead: true, ..expected }));
        assert_eq!(ProcessStat::parse(42, b"42 (a"), None);
        assert_eq!(ProcessStat::parse(42, b"42 (a) S 1"), None);
    }

    #[test]
    fn both_ways_of_looking_find_a_child_and_only_family_is_signalled() {
        let me = rustix::process::getpid().as_raw_nonzero().get();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();

        assert!(children(me).contains(&pid));
        assert!(below(&[me]).contains(&pid));
        assert!(scan()[&me].contains(&pid));

        assert_eq!(signal(pid, &HashSet::from([1]), Signal::KILL), None);
        assert!(child.try_wait().unwrap().is_none());
        assert_eq!(signal(pid, &HashSet::from([me]), Signal::KILL).unwrap().parent, me);
        child.wait().unwrap();
        assert_eq!(signal(pid, &HashSet::from([me]), Signal::KILL), None);
    }

    #[test]
    fn a_number_that_has_passed_on_is_not_signalled() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let now = ProcessStat::read(i32::try_from(child.id()).unwrap()).unwrap();
        let former = ProcessStat { born: now.born - 1, ..now };
        assert_eq!(signal_known(&former, Signal::KILL), None);
        assert!(child.try_wait().unwrap().is_none());
        assert_eq!(signal_known(&now, Signal::KILL), Some(now));
        child.wait().unwrap();
    }
}
