//! What is started, and what is known of it afterwards: the types that the reaper's two sides and the process groups
//! share. No work is done here.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

/// How long what a server left behind, or what a dead proxy left behind, may take to heed SIGTERM.
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
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// It is gone, and nobody saw how.
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

/// A server to start, with everything decided: the environment is the whole of what it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProcessSpec {
    pub(crate) program: OsString,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) cwd: Option<PathBuf>,
    /// Made before the start with mode 0700, and removed after the last process is gone.
    pub(crate) scratch: Option<PathBuf>,
    /// The soft limit of open files to start it with, where it is not the proxy's own.
    pub(crate) files: Option<u64>,
    /// What its processes are known by if its reaper is killed.
    pub(crate) mark: Option<u64>,
}

/// Which step of a start went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartStep {
    /// The reaper itself: it could not be started, or ended at once.
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

    /// Of a program that did not start: it may have been the working directory's doing.
    pub(super) fn of_program(spec: &ProcessSpec, error: io::Error) -> Self {
        let cwd_missing = spec.cwd.as_ref().is_some_and(|cwd| !cwd.is_dir());
        Self::new(if cwd_missing { StartStep::Cwd } else { StartStep::Program }, error)
    }
}

/// How far a server has come. It only ever moves down this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcessState {
    /// No word of it yet.
    Starting,
    /// It did not start; the number is the system's.
    Refused(StartStep, i32),
    /// It runs, as this process.
    Running(u32),
    /// The server has ended; what it left behind may not have.
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

/// A server that was started, or is about to be: its pipes, its state as it can be watched, and what ends it.
#[derive(Debug)]
pub(crate) struct StartedProcess {
    pub(crate) stdin: StdinPipe,
    pub(crate) stdout: StdoutPipe,
    pub(crate) stderr: StderrPipe,
    pub(crate) state: watch::Receiver<ProcessState>,
    /// A duration sent here ends the tree, with that much time between SIGTERM and SIGKILL; so does dropping it.
    pub(crate) stop: oneshot::Sender<Duration>,
}
