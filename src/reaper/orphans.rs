//! The proxy's part when a reaper is killed: what it kept falls to the proxy, which ends it.
//!
//! An embedding program has children of its own, so nobody is touched who is not known for a reaper's, and nothing but
//! these is ever waited for.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, getpid, waitpid};

use super::tree::{self, Process};

/// The reapers that live, or have not been waited for.
static REAPERS: Mutex<Vec<i32>> = Mutex::new(Vec::new());

/// Held for reading while a reaper is started and not yet noted, so that a sweep never takes one for an orphan.
static STARTING: RwLock<()> = RwLock::new(());

/// Reapers that were killed, and whose orphans nobody has taken on.
static KILLED: Mutex<Vec<Killed>> = Mutex::new(Vec::new());

/// One ending at a time: when all reapers are killed at once, one takes on the orphans of all.
static ENDING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

static CLAIMED: AtomicBool = AtomicBool::new(false);

/// For how long the ending goes on, in rounds.
const ROUNDS: u32 = 200;
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// Says that this process has no children but reapers and their orphans.
pub(super) fn claim() {
    CLAIMED.store(true, Ordering::Relaxed);
}

/// A reaper as a child of this process, until it was waited for.
#[derive(Debug)]
pub(super) struct Reaper(i32);

impl Reaper {
    /// Starts a reaper and notes it.
    pub(super) fn start<C>(start: impl FnOnce() -> io::Result<(C, i32)>) -> io::Result<(C, Self)> {
        let starting = STARTING.read().unwrap_or_else(PoisonError::into_inner);
        let (child, pid) = start()?;
        lock(&REAPERS).push(pid);
        drop(starting);
        Ok((child, Self(pid)))
    }

    pub(super) fn pid(&self) -> i32 {
        self.0
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        lock(&REAPERS).retain(|pid| *pid != self.0);
    }
}

/// A reaper that ended before its work was done.
#[derive(Debug)]
pub(super) struct Killed {
    /// It led a session, whose number lasts as long as anybody is in it.
    pub(super) reaper: i32,
    /// The server, by its number and birth.
    pub(super) server: Option<(i32, u64)>,
}

/// Ends what a reaper left to this process; resolves when it is gone.
pub(super) async fn end(killed: Killed) {
    let reaper = killed.reaper;
    lock(&KILLED).push(killed);
    let _ending = ENDING.lock().await;
    let taken = std::mem::take(&mut *lock(&KILLED));
    if taken.is_empty() {
        // An earlier one took this with its own, and has come to the end of it.
        return;
    }
    let mut orphans = Orphans::new(&taken);
    let mut pause = Duration::from_millis(1);
    for _ in 0..ROUNDS {
        let round = tokio::task::spawn_blocking(move || {
            let left = orphans.round();
            (orphans, left)
        });
        let Ok((next, left)) = round.await else { return };
        if !left {
            return;
        }
        orphans = next;
        tokio::time::sleep(pause).await;
        pause = PAUSE_MAX.min(pause * 2);
    }
    tracing::warn!(reaper, "processes of a reaper that was killed do not end");
}

struct Orphans {
    me: i32,
    my_session: Option<i32>,
    /// Processes known to be orphans, by number and birth.
    known: HashSet<(i32, u64)>,
    /// Sessions of which every member is one.
    sessions: HashSet<i32>,
}

impl Orphans {
    fn new(killed: &[Killed]) -> Self {
        let me = getpid().as_raw_nonzero().get();
        Self {
            me,
            // Zero in a container whose session began outside of it: then the session of nobody else's child.
            my_session: Process::read(me).map(|process| process.session),
            known: killed.iter().filter_map(|killed| killed.server).collect(),
            sessions: killed.iter().map(|killed| killed.reaper).collect(),
        }
    }

    /// Kills all that are found, and waits for those that have ended. False when none was found.
    fn round(&mut self) -> bool {
        let mut roots = self.roots();
        roots.retain(|root| !(root.dead && wait_for(root.pid)));
        if roots.is_empty() {
            return false;
        }
        let roots: Vec<i32> = roots.iter().map(|root| root.pid).collect();
        let found = tree::below(&roots);
        let family: HashSet<i32> = found.iter().chain(&roots).copied().chain([self.me]).collect();
        for pid in roots.into_iter().chain(found) {
            if let Some(victim) = tree::signal(pid, &family, Signal::KILL) {
                self.known.insert((victim.pid, victim.born));
                // When its parent dies it becomes our child, and may be known by its session only.
                if Some(victim.session) != self.my_session {
                    self.sessions.insert(victim.session);
                }
            }
        }
        true
    }

    /// The orphans among this process's children.
    fn roots(&self) -> Vec<Process> {
        let _starting = STARTING.write().unwrap_or_else(PoisonError::into_inner);
        let reapers: HashSet<i32> = lock(&REAPERS).iter().copied().collect();
        let claimed = CLAIMED.load(Ordering::Relaxed);
        let mut children = tree::directly_below(self.me);
        children.retain(|child| {
            !reapers.contains(&child.pid)
                && (claimed || self.known.contains(&(child.pid, child.born)) || self.sessions.contains(&child.session))
        });
        children
    }
}

/// Takes the exit status of one child; false if it has not ended.
fn wait_for(pid: i32) -> bool {
    Pid::from_raw(pid).is_none_or(|pid| !matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(None)))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
