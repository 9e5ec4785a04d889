//! The proxy's part when a reaper is killed: the reaper's processes become children of the proxy, which ends them.
//!
//! The proxy has other children too: those of an embedding program, those that a shell started before it became the
//! proxy, what these orphan, and, for process 1, whatever is orphaned anywhere. So a child is ended only if it is
//! proved to come from a reaper that is gone:
//!
//! - it has the [`mark`] of this proxy's reapers. No process below a living reaper is a direct child of the proxy; or
//! - its reaper has reported it as the server, by number and birth, or it was seen below such a child; or
//! - nobody else can have started it: see [`Orphans::all`].
//!
//! All other children are left alone, and the log names each of them once. Only orphans are ever waited for: an
//! embedding program waits for its own children, and must find their exit statuses.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, getpid, kill_process_group, waitid, waitpid};
use tokio::time::Instant;

use super::mark;
use super::tree::{self, ProcessStat};

/// The reapers that run, or have not been waited for.
static REAPERS: Mutex<Vec<i32>> = Mutex::new(Vec::new());

/// Held for reading while a reaper is started and not yet noted, so that a sweep never takes one for an orphan.
static STARTING: RwLock<()> = RwLock::new(());

/// Killed reapers whose orphans no sweep has taken on yet.
static KILLED: Mutex<Vec<KilledReaper>> = Mutex::new(Vec::new());

/// Held during a sweep: when all reapers are killed at once, one sweep ends the orphans of all.
static SWEEP: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Children that run and that the log has named as left alone.
static REPORTED: Mutex<Vec<(i32, u64)>> = Mutex::new(Vec::new());

/// Whether this process had no children when it became a sub-reaper.
static STARTED_CHILDLESS: AtomicBool = AtomicBool::new(false);
static CLAIMED: AtomicBool = AtomicBool::new(false);

/// How long a sweep goes on, and the pauses between two of its rounds.
const SWEEP_MAX: Duration = Duration::from_secs(10);
const SWEEP_PAUSE_MIN: Duration = Duration::from_millis(1);
const SWEEP_PAUSE_MAX: Duration = Duration::from_millis(50);

/// Most process numbers in one line of the log: process 1 may have any number of children.
const MAX_REPORTED: usize = 16;

/// `__WALL` of waitid(2), which rustix has no name for: children that tell of their end by another signal count too.
const EVERY_KIND: WaitIdOptions = WaitIdOptions::from_bits_retain(0x4000_0000);

/// Notes whether this process has children. To be called before it becomes a sub-reaper: a process without children
/// then has no descendants, and will only ever adopt descendants of the children that it starts itself.
pub(super) fn note_children() {
    let any = waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT | EVERY_KIND);
    STARTED_CHILDLESS.store(any.err() == Some(Errno::CHILD), Ordering::Relaxed);
}

/// Notes that this process starts no children but reapers.
pub(super) fn claim() {
    CLAIMED.store(true, Ordering::Relaxed);
}

/// A reaper as a child of this process. Until this is dropped, sweeps leave the process alone.
#[derive(Debug)]
pub(super) struct ReaperChild(i32);

impl ReaperChild {
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

impl Drop for ReaperChild {
    fn drop(&mut self) {
        lock(&REAPERS).retain(|pid| *pid != self.0);
    }
}

/// A reaper that ended before its work was done.
#[derive(Debug)]
pub(super) struct KilledReaper {
    pub(super) reaper: i32,
    /// The server's number and birth, as far as the reaper had reported them.
    pub(super) server: Option<(i32, u64)>,
}

/// Ends the processes that a killed reaper left to this process; resolves when they are gone.
pub(super) async fn end(killed: KilledReaper) {
    let reaper = killed.reaper;
    lock(&KILLED).push(killed);
    let _ending = SWEEP.lock().await;
    let taken = std::mem::take(&mut *lock(&KILLED));
    if taken.is_empty() {
        // An earlier sweep took this reaper on together with its own, and has ended.
        return;
    }
    let mut orphans = Orphans::new(&taken);
    let deadline = Instant::now() + SWEEP_MAX;
    let mut pause = SWEEP_PAUSE_MIN;
    loop {
        let round = tokio::task::spawn_blocking(move || {
            let round = orphans.sweep();
            (orphans, round)
        });
        let Ok((next, round)) = round.await else { return };
        orphans = next;
        pause = match round {
            SweepResult::NothingLeft => break,
            SweepResult::NewOnes => SWEEP_PAUSE_MIN,
            SweepResult::OldOnes => SWEEP_PAUSE_MAX.min(pause * 2),
        };
        if Instant::now() >= deadline {
            tracing::warn!(reaper, "processes of a reaper that was killed do not end");
            break;
        }
        tokio::time::sleep(pause).await;
    }
    let _ = tokio::task::spawn_blocking(move || orphans.report_others(reaper)).await;
}

/// The outcome of one round of a sweep.
enum SweepResult {
    NothingLeft,
    /// There were processes that had not been found before: there may be more, and they may start more.
    NewOnes,
    /// All processes found had been killed before, and have not ended yet.
    OldOnes,
}

struct Orphans {
    me: i32,
    my_session: Option<i32>,
    mark: Option<u64>,
    /// Whether every child that is no reaper is an orphan: this process had no children before it became a sub-reaper,
    /// starts none but reapers, and is not process 1, which adopts everybody's orphans.
    all: bool,
    /// Processes known to be orphans, by number and birth.
    known: HashSet<(i32, u64)>,
}

impl Orphans {
    fn new(killed: &[KilledReaper]) -> Self {
        let me = getpid().as_raw_nonzero().get();
        Self {
            me,
            my_session: ProcessStat::read(me).map(|process| process.session),
            mark: mark::own(),
            all: CLAIMED.load(Ordering::Relaxed) && STARTED_CHILDLESS.load(Ordering::Relaxed) && me != 1,
            known: killed.iter().filter_map(|killed| killed.server).collect(),
        }
    }

    /// Kills all orphans that are found, and takes the exit statuses of those that have ended.
    fn sweep(&mut self) -> SweepResult {
        let (mut victims, _) = self.children();
        victims.retain(|orphan| !(orphan.dead && wait_for(orphan.pid)));
        if victims.is_empty() {
            return SweepResult::NothingLeft;
        }
        let roots: Vec<i32> = victims.iter().map(|root| root.pid).collect();
        let below = tree::below(&roots);
        let family: HashSet<i32> = roots.into_iter().chain(below.iter().copied()).collect();
        // All of them are read before the first is killed: its children then become children of this process, and
        // without a mark nothing would show any longer that they were below it.
        victims.extend(below.into_iter().filter_map(ProcessStat::read).filter(|child| family.contains(&child.parent)));
        let before = self.known.len();
        self.known.extend(victims.iter().map(|victim| (victim.pid, victim.born)));
        for victim in &victims {
            self.kill(victim);
        }
        if self.known.len() > before { SweepResult::NewOnes } else { SweepResult::OldOnes }
    }

    fn kill(&self, victim: &ProcessStat) {
        let Some(seen) = tree::signal_known(victim, Signal::KILL) else { return };
        // A child's group is killed too: that is one step for the kernel, which a tree that forks without end cannot
        // outrun. All processes of a group are in one session, and a session that is not this process's was made by a
        // reaper or by a process below one, so no stranger is hit. The number stays the group's until somebody waits
        // for the child, which only this process can.
        if seen.parent == self.me
            && self.my_session.is_some_and(|mine| mine != seen.session)
            && seen.group > 1
            && let Some(group) = Pid::from_raw(seen.group)
        {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// The children of this process that are no reapers: first the orphans, then the others.
    fn children(&self) -> (Vec<ProcessStat>, Vec<ProcessStat>) {
        let _starting = STARTING.write().unwrap_or_else(PoisonError::into_inner);
        let reapers: HashSet<i32> = lock(&REAPERS).iter().copied().collect();
        let mut children = tree::directly_below(self.me);
        children.retain(|child| !reapers.contains(&child.pid));
        children.into_iter().partition(|child| {
            self.all
                || self.known.contains(&(child.pid, child.born))
                || self.mark.is_some_and(|mark| mark::of(child.pid) == Some(mark))
        })
    }

    /// Names the children that are left alone in the log, each of them once.
    fn report_others(&self, reaper: i32) {
        let (_, others) = self.children();
        let others: Vec<(i32, u64)> =
            others.iter().filter(|child| !child.dead).map(|child| (child.pid, child.born)).collect();
        let before = std::mem::replace(&mut *lock(&REPORTED), others.clone());
        let mut pids: Vec<i32> = others.iter().filter(|child| !before.contains(child)).map(|(pid, _)| *pid).collect();
        let count = pids.len();
        if count > 0 {
            pids.truncate(MAX_REPORTED);
            tracing::warn!(
                reaper,
                count,
                ?pids,
                "children of this process that cannot be proved to be a killed reaper's are left alone"
            );
        }
    }
}

/// Takes the exit status of one child; false if it has not ended.
fn wait_for(pid: i32) -> bool {
    Pid::from_raw(pid).is_none_or(|pid| !matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(None)))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
