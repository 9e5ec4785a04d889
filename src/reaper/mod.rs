//! Leaving no process behind.
//!
//! On Linux every stdio backend runs under a small process of its own, its *reaper*: this same executable, started
//! again with a hidden command. The reaper is a child sub-reaper, so whatever the server starts stays below it, through
//! `setsid`, double forks and emptied environments. It ends all of that when the proxy asks, when the proxy goes away
//! in any manner (SIGKILL too: its control socket closes), or when the server ends by itself. The proxy is a
//! sub-reaper as well, for the case that a reaper is killed: every process below a reaper bears a mark, by which the
//! proxy knows it among its own children.
//!
//! Elsewhere, and in a program that did not call [`init`], a process group (a job object on Windows) is what there is.
//!
//! This is not a supervisor: it never starts a server again, and it knows nothing of MCP or of sessions.

mod group;
mod launch;
mod scratch;

#[cfg(target_os = "linux")]
mod mark;
#[cfg(target_os = "linux")]
mod orphans;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod start;
#[cfg(target_os = "linux")]
mod tree;
#[cfg(target_os = "linux")]
mod wire;

use std::io;
use std::path::Path;
#[cfg(target_os = "linux")]
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

pub use launch::ExitStatusKind;
pub(crate) use launch::{
    ProcessSpec, ProcessState, StartError, StartStep, StartedProcess, StderrPipe, StdinPipe, StdoutPipe,
};

/// The hidden command that makes an executable a reaper.
#[cfg(target_os = "linux")]
const REAPER_COMMAND: &str = "__reaper";

/// The name of a reaper in `ps`. With the proxy's name, a `pkill sessile` would hit all reapers too.
#[cfg(target_os = "linux")]
const REAPER_NAME: &str = "mcp-reaper";

static AVAILABLE: AtomicBool = AtomicBool::new(false);

/// The soft limit of open files before [`raise_file_limit`], which servers are started with.
#[cfg(target_os = "linux")]
static FILE_LIMIT: OnceLock<Option<u64>> = OnceLock::new();

/// Prepares this process for reapers. Call it first in `main`, before any thread or runtime is started.
///
/// In a process that was started as a reaper, this does a reaper's work and never returns. In any other process it
/// makes the process a child sub-reaper and notes that backends can run under reapers. Elsewhere than on Linux it does
/// nothing.
pub fn init() {
    #[cfg(target_os = "linux")]
    {
        if std::env::args_os().nth(1).is_some_and(|first| first == REAPER_COMMAND) {
            run::run();
        }
        let me = rustix::process::getpid();
        // In a `/proc` of another namespace, process numbers mean other processes.
        let own_proc = std::fs::read_link("/proc/self")
            .is_ok_and(|link| link.to_str() == Some(me.as_raw_nonzero().to_string().as_str()));
        orphans::note_children();
        let usable = own_proc
            && std::fs::read_link("/proc/self/exe").is_ok()
            && rustix::process::set_child_subreaper(Some(me)).is_ok();
        AVAILABLE.store(usable, Ordering::Release);
    }
}

/// Whether backends run under reapers: [`init`] was called, on a system that can do it.
pub fn available() -> bool {
    AVAILABLE.load(Ordering::Acquire)
}

/// Declares that this process starts no children except through this crate. Meant for `sessile`'s own `main`.
///
/// When a reaper is killed, its processes become children of the proxy, which ends those that it can prove to be the
/// reaper's: they have a limit on file locks (`RLIMIT_LOCKS`, which Linux does not enforce) that no other process has.
/// Where that limit cannot be set, only the server and the processes below it are known for certain. After this call,
/// every child that is no reaper counts as one of them, provided that this process had no children when [`init`] was
/// called and is not process 1.
///
/// Children that were there before, children of an embedding program, and what process 1 adopts are never touched.
pub fn claim_children() {
    #[cfg(target_os = "linux")]
    orphans::claim();
}

/// Raises this process's soft limit of open files to its hard one, and returns it.
///
/// A backend takes five descriptors, so the usual 1,024 are gone after 200 sessions. Servers still start with the limit
/// that was in force before, because programs that use `select` cannot do with more. Elsewhere than on Linux nothing
/// is raised.
pub fn raise_file_limit() -> io::Result<Option<u64>> {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        FILE_LIMIT.get_or_init(|| limit.current);
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit)?;
        Ok(limit.current)
    }
    #[cfg(not(target_os = "linux"))]
    Ok(None)
}

/// The soft limit of open files for servers, where it is not this process's own.
pub(crate) fn file_limit() -> Option<u64> {
    #[cfg(target_os = "linux")]
    return FILE_LIMIT.get().copied().flatten();
    #[cfg(not(target_os = "linux"))]
    None
}

/// The mark for servers that run under reapers; `None` where there are no marks.
pub(crate) fn mark() -> Option<u64> {
    #[cfg(target_os = "linux")]
    return mark::own();
    #[cfg(not(target_os = "linux"))]
    None
}

/// Removes the scratch folders in `parent` that no process keeps locked: a proxy that was killed together with its
/// reapers has left them. The removal goes on in the background, and only once for each `parent` in the life of this
/// process.
pub(crate) fn remove_abandoned(parent: &Path) {
    #[cfg(target_os = "linux")]
    scratch::remove_abandoned(parent);
    #[cfg(not(target_os = "linux"))]
    let _ = parent;
}

/// Starts a server, under a reaper where there are reapers. `None` if `unwanted` resolves before the start has begun.
pub(crate) async fn start(
    spec: ProcessSpec,
    unwanted: impl Future<Output = ()>,
) -> Result<Option<StartedProcess>, StartError> {
    #[cfg(target_os = "linux")]
    if available() {
        return start::start(spec, unwanted).await;
    }
    drop(unwanted);
    group::start(spec).await.map(Some)
}
