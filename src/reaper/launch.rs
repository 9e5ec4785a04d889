//! The types that both sides of a reaper and the process groups share: a process to start, why it did not start, and
//! how far it has come. No work is done here.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

/// The time between SIGTERM and SIGKILL for processes that outlived their server or their proxy.
#[cfg(target_os = "linux")]
pub(super) const SHORT_GRACE: Duration = Duration::from_millis(500);

/// The proxy's end of a server's standard input.
#[cfg(target_os = "linux")]
pub(crate) type StdinPipe = tokio::net::unix::pipe::Sender;
/// The proxy's end of a server's standard output.
#[cfg(target_os = "linux")]
pub(crate) type StdoutPipe = tokio::net::unix::pipe::Receiver;
/// The proxy's end of a server's standard error.
#[cfg(target_os = "linux")]
pub(crate) type StderrPipe = tokio::net::unix::pipe::Receiver;

/// The proxy's end of a server's standard input.
#[cfg(not(target_os = "linux"))]
pub(crate) type StdinPipe = tokio::process::ChildStdin;
/// The proxy's end of a server's standard output.
#[cfg(not(target_os = "linux"))]
pub(crate) type StdoutPipe = tokio::process::ChildStdout;
/// The proxy's end of a server's standard error.
#[cfg(not(target_os = "linux"))]
pub(crate) type StderrPipe = tokio::process::ChildStderr;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExitStatusKind {
    /// The process exited with this code.
    Code(i32),
    /// This signal ended the process.
    Signal(i32),
    /// The process is gone, and its exit status was lost.
    Unknown,
}

impl fmt::Display for ExitStatusKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with code {code}"),
            Self::Signal(signal) => write!(f, "ended by signal {signal}"),
            Self::Unknown => f.write_str("ended, and how is not known"),
        }
    }
}

impl From<ExitStatus> for ExitStatusKind {
    fn from(status: ExitStatus) -> Self {
        #[cfg(unix)]
        if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
            return Self::Signal(signal);
        }
        status.code().map_or(Self::Unknown, Self::Code)
    }
}

/// A process to start, with everything decided: `env` is its whole environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProcessSpec {
    pub(crate) program: OsString,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) cwd: Option<PathBuf>,
    /// The scratch folder, which is made before the start with mode 0700 and removed after the last process is gone.
    pub(crate) scratch: Option<PathBuf>,
    /// The soft limit of open files, where it is not the proxy's own.
    pub(crate) files: Option<u64>,
    /// The mark by which the proxy knows the processes if their reaper is killed.
    pub(crate) mark: Option<u64>,
}

/// The step at which a start failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartStep {
    /// The reaper itself could not be started, or ended at once.
    Reaper,
    /// The scratch folder could not be made.
    Scratch,
    /// The working directory is not there or cannot be entered.
    Cwd,
    /// The program could not be run.
    Program,
}

/// A start that failed.
#[derive(Debug)]
pub(crate) struct StartError {
    pub(crate) step: StartStep,
    pub(crate) error: io::Error,
}

impl StartError {
    pub(super) fn new(step: StartStep, error: io::Error) -> Self {
        Self { step, error }
    }

    /// The error of a program that did not start. The system gives one error for a missing program and a missing
    /// working directory, so the directory is looked at.
    pub(super) fn of_program(spec: &ProcessSpec, error: io::Error) -> Self {
        let cwd_missing = spec.cwd.as_ref().is_some_and(|cwd| !cwd.is_dir());
        Self::new(if cwd_missing { StartStep::Cwd } else { StartStep::Program }, error)
    }
}

/// How far a server has come. The state only ever moves down this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcessState {
    /// The reaper has not reported yet.
    Starting,
    /// The server did not start; the number is the system's error.
    Refused(StartStep, i32),
    /// The server runs, as this process.
    Running(u32),
    /// The server has ended; processes that it started may still run.
    Ended(ExitStatusKind),
    /// Nothing of its tree is left, nor its scratch folder.
    Gone(ExitStatusKind),
}

impl ProcessState {
    /// How the server ended, once it has.
    pub(crate) fn ended(self) -> Option<ExitStatusKind> {
        match self {
            Self::Starting | Self::Refused(..) | Self::Running(_) => None,
            Self::Ended(status) | Self::Gone(status) => Some(status),
        }
    }
}

/// A server that was started, or is about to be: its pipes, its state to be watched, and the way to end it.
#[derive(Debug)]
pub(crate) struct StartedProcess {
    pub(crate) stdin: StdinPipe,
    pub(crate) stdout: StdoutPipe,
    pub(crate) stderr: StderrPipe,
    pub(crate) state: watch::Receiver<ProcessState>,
    /// A duration sent here ends the tree, with that much time between SIGTERM and SIGKILL; so does dropping it.
    pub(crate) stop: oneshot::Sender<Duration>,
}
