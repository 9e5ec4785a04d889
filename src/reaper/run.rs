//! The work of a reaper: it starts one server, waits, and ends all processes that came of it.
//!
//! A reaper has one thread and one `poll`, on the control socket and on SIGCHLD. So an idle reaper never wakes up, and
//! no process number can pass on to another process between being looked at and being waited for. There is no runtime:
//! a reaper has to stay small, because there is one for each server of each session.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Signal, WaitOptions, getpid, getrlimit, kill_process_group, setrlimit, wait};
use signal_hook::consts::signal as number;

use super::launch::{ExitStatusKind, ProcessSpec, SHORT_GRACE, StartError, StartStep};
use super::mark;
use super::scratch::{self, FolderLock};
use super::tree::{self, ProcessStat};
use super::wire::{self, Report};

/// The shortest and the longest pause between two rounds of SIGKILL; it doubles while no new process is found.
const KILL_PAUSE_MIN: Duration = Duration::from_millis(1);
const KILL_PAUSE_MAX: Duration = Duration::from_secs(1);

/// The longest time between SIGTERM and SIGKILL. The clock could not hold the end of a much longer one.
const GRACE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest line that the proxy may send.
const LINE_MAX: usize = 64;

/// Does a reaper's work, then exits.
pub(super) fn run() -> ! {
    let code = match prepare() {
        Ok((control, ended, output)) => match begin(control, ended, output) {
            Some(reaper) => reaper.reap_all(),
            None => 0,
        },
        Err(_) => 70,
    };
    std::process::exit(code)
}

/// The server's standard output and standard error.
type OutputPipes = (OwnedFd, OwnedFd);

/// Makes this process fit for the work, and tells its three descriptors apart.
fn prepare() -> io::Result<(UnixStream, UnixStream, OutputPipes)> {
    // The proxy may have inherited open files (shells and `make` leave some). The server must not get them.
    close_fds::set_fds_cloexec(3, &[]);

    // The signals get handlers that do nothing, and are not ignored: `exec` resets handlers, so the server starts with
    // the default actions even where the proxy was started with a signal ignored (`nohup` does so).
    let seen = Arc::new(AtomicBool::new(false));
    for signal in [
        number::SIGTERM,
        number::SIGINT,
        number::SIGHUP,
        number::SIGQUIT,
        number::SIGPIPE,
        number::SIGALRM,
        number::SIGUSR1,
        number::SIGUSR2,
        number::SIGTSTP,
        number::SIGTTIN,
        number::SIGTTOU,
        number::SIGWINCH,
        number::SIGCONT,
        number::SIGIO,
    ] {
        signal_hook::flag::register(signal, Arc::clone(&seen))?;
    }
    let (ended, wake) = UnixStream::pair()?;
    ended.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(number::SIGCHLD, wake)?;

    rustix::process::setsid()?;
    rustix::process::set_child_subreaper(Some(getpid()))?;
    let _ = fs::write("/proc/self/comm", super::REAPER_NAME);

    let keep = |descriptor| rustix::io::fcntl_dupfd_cloexec(descriptor, 3);
    let control = UnixStream::from(keep(rustix::stdio::stdin())?);
    let output = (keep(rustix::stdio::stdout())?, keep(rustix::stdio::stderr())?);
    // The reaper must not hold the server's pipes open, or the proxy would not see them end with the server.
    let null = fs::File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok((control, ended, output))
}

/// Receives the spec and starts the server; `None` if it did not start, so that there is nothing to end.
fn begin(control: UnixStream, ended: UnixStream, output: OutputPipes) -> Option<Reaper> {
    let (spec, stdin) = wire::receive(&control).ok()?;
    let started = start(&spec, stdin, output);
    // The reaper's working directory would keep a file system from being unmounted.
    let _ = rustix::process::chdir("/");
    match started {
        Ok((server, lock)) => {
            let born = ProcessStat::read(server).map_or(0, |process| process.born);
            report(&control, Report::Started { pid: server, born });
            Some(Reaper {
                me: getpid().as_raw_nonzero().get(),
                control,
                partial_line: Some(Vec::new()),
                ended,
                server: Some(server),
                scratch: spec.scratch,
                _lock: lock,
                phase: ReaperPhase::Watching,
            })
        }
        Err(StartError { step, error }) => {
            let errno = error.raw_os_error().unwrap_or_else(|| Errno::INVAL.raw_os_error());
            report(&control, Report::Failed { step, errno });
            None
        }
    }
}

fn start(
    spec: &ProcessSpec,
    stdin: OwnedFd,
    (stdout, stderr): OutputPipes,
) -> Result<(i32, Option<FolderLock>), StartError> {
    let lock = spec.scratch.as_deref().map(scratch::create).transpose();
    let lock = lock.map_err(|error| StartError::new(StartStep::Scratch, error))?;
    if spec.files.is_some() {
        let _ =
            setrlimit(Resource::Nofile, rustix::process::Rlimit { current: spec.files, ..getrlimit(Resource::Nofile) });
    }
    if let Some(mark) = spec.mark {
        // A server without the mark is better than none: the mark matters only if this reaper is killed.
        let _ = mark::apply(mark);
    }
    let mut command = Command::new(&spec.program);
    command.args(&spec.args).env_clear().envs(spec.env.iter().map(|(key, value)| (key, value)));
    command.stdin(Stdio::from(stdin)).stdout(Stdio::from(stdout)).stderr(Stdio::from(stderr));
    // A group of its own: a server that signals its whole group must not reach the reaper.
    command.process_group(0);
    if let Some(cwd) = &spec.cwd {
        command.current_dir(cwd);
    }
    let started = command.spawn().and_then(|child| i32::try_from(child.id()).map_err(io::Error::other));
    match started {
        Ok(server) => Ok((server, lock)),
        Err(error) => {
            if let Some(scratch) = &spec.scratch {
                scratch::remove(scratch);
            }
            Err(StartError::of_program(spec, error))
        }
    }
}

fn report(mut control: &UnixStream, report: Report) {
    // A proxy that is gone needs no report.
    let _ = control.write_all(format!("{report}\n").as_bytes());
}

#[allow(clippy::disallowed_methods, reason = "a reaper has no runtime, and so no clock of tokio's")]
fn now() -> Instant {
    Instant::now()
}

/// How far the reaper has come with ending its processes.
enum ReaperPhase {
    /// The server runs, and no end was asked for.
    Watching,
    /// All processes were sent SIGTERM, and may run until then.
    Terminating { until: Instant },
    /// All processes that are found are sent SIGKILL, again and again; `killed` has the number and birth of each.
    Killing { pause: Duration, killed: HashSet<(i32, u64)> },
}

struct Reaper {
    me: i32,
    control: UnixStream,
    /// The part of a line that the proxy has sent; `None` once it has closed its end.
    partial_line: Option<Vec<u8>>,
    /// Becomes readable when a child has ended.
    ended: UnixStream,
    /// The server's process number; `None` once it was waited for.
    server: Option<i32>,
    scratch: Option<PathBuf>,
    /// The lock of the scratch folder, held until the folder has been removed.
    _lock: Option<FolderLock>,
    phase: ReaperPhase,
}

impl Reaper {
    /// Returns when no process is left, with the exit code.
    fn reap_all(mut self) -> i32 {
        while self.wait_for_the_dead() {
            let timeout = self.advance();
            self.sleep(timeout);
        }
        if let Some(scratch) = &self.scratch {
            scratch::remove(scratch);
        }
        0
    }

    /// Takes the exit statuses of all children that have ended. False when there are no children any more, and with
    /// them no descendants: an orphan becomes a child at the moment at which its parent dies.
    fn wait_for_the_dead(&mut self) -> bool {
        let mut server_ended = false;
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if self.server == Some(pid.as_raw_nonzero().get()) => {
                    self.server = None;
                    server_ended = true;
                    let how = match (status.exit_status(), status.terminating_signal()) {
                        (Some(code), _) => ExitStatusKind::Code(code),
                        (None, Some(signal)) => ExitStatusKind::Signal(signal),
                        (None, None) => ExitStatusKind::Unknown,
                    };
                    report(&self.control, Report::Ended(how));
                }
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => break,
                Err(_) => return false,
            }
        }
        if server_ended {
            self.end_within(SHORT_GRACE);
        }
        true
    }

    /// Begins to end all processes, or shortens the time that they have.
    fn end_within(&mut self, grace: Duration) {
        let until = now() + grace;
        match &mut self.phase {
            ReaperPhase::Watching => {
                let found = tree::below(&[self.me]);
                let family = self.family(&found);
                for pid in found {
                    tree::signal(pid, &family, Signal::TERM);
                }
                self.phase = ReaperPhase::Terminating { until };
            }
            ReaperPhase::Terminating { until: before } => *before = until.min(*before),
            ReaperPhase::Killing { .. } => {}
        }
    }

    /// Does what is due, and returns the time until something is due again; `None` for no time.
    fn advance(&mut self) -> Option<Duration> {
        match &self.phase {
            ReaperPhase::Watching => return None,
            ReaperPhase::Terminating { until } => {
                let left = until.saturating_duration_since(now());
                if !left.is_zero() {
                    return Some(left);
                }
                self.phase = ReaperPhase::Killing { pause: KILL_PAUSE_MIN, killed: HashSet::new() };
            }
            ReaperPhase::Killing { .. } => {}
        }
        let victims = self.kill();
        let ReaperPhase::Killing { pause, killed } = &mut self.phase else { return None };
        let before = killed.len();
        killed.extend(victims.iter().map(|victim| (victim.pid, victim.born)));
        *pause = if killed.len() > before { KILL_PAUSE_MIN } else { KILL_PAUSE_MAX.min(*pause * 2) };
        Some(*pause)
    }

    /// Sends SIGKILL to all descendants, and returns those that it was sent to.
    fn kill(&self) -> Vec<ProcessStat> {
        let found = tree::below(&[self.me]);
        let family = self.family(&found);
        let mut victims = Vec::new();
        let mut groups = HashSet::from([self.me]);
        for pid in found {
            let Some(victim) = tree::signal(pid, &family, Signal::KILL) else { continue };
            // The victim's group is killed too: that is one step for the kernel, which a tree that forks without end
            // cannot outrun. No stranger is hit: a group lies within one session, and this session was made below this
            // process.
            if groups.insert(victim.group)
                && let Some(group) = Pid::from_raw(victim.group)
            {
                let _ = kill_process_group(group, Signal::KILL);
            }
            victims.push(victim);
        }
        victims
    }

    fn family(&self, found: &[i32]) -> HashSet<i32> {
        found.iter().copied().chain([self.me]).collect()
    }

    /// Sleeps until the time is over, a child has ended, or the proxy has sent something.
    fn sleep(&mut self, timeout: Option<Duration>) {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut watched = vec![PollFd::from_borrowed_fd(self.ended.as_fd(), PollFlags::IN)];
        if self.partial_line.is_some() {
            watched.push(PollFd::from_borrowed_fd(self.control.as_fd(), PollFlags::IN));
        }
        if poll(&mut watched, timeout.as_ref()).is_err() {
            return;
        }
        let has_control = watched.get(1).is_some_and(|control| !control.revents().is_empty());
        let mut wakes = [0; 64];
        while matches!(self.ended.read(&mut wakes), Ok(1..)) {}
        if has_control {
            self.read_control();
        }
    }

    fn read_control(&mut self) {
        let Some(partial_line) = &mut self.partial_line else { return };
        let mut text = [0; LINE_MAX];
        let got = match self.control.read(&mut text) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return,
            got => got.unwrap_or_default(),
        };
        partial_line.extend_from_slice(text.get(..got).unwrap_or_default());
        if got == 0 || partial_line.len() > LINE_MAX {
            self.partial_line = None;
            return self.end_within(SHORT_GRACE);
        }
        if let Some(grace) = partial_line.strip_suffix(b"\n").map(requested_grace) {
            partial_line.clear();
            self.end_within(grace);
        }
    }
}

/// The time between SIGTERM and SIGKILL that a line asks for.
fn requested_grace(line: &[u8]) -> Duration {
    str::from_utf8(line)
        .ok()
        .and_then(|line| line.strip_prefix("end ")?.parse().ok())
        .map_or(SHORT_GRACE, |grace| GRACE_MAX.min(Duration::from_millis(grace)))
}
