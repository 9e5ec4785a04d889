//! Process groups (job objects on Windows), where there are no reapers.
//!
//! A process that leaves the group, as those of browsers do, is not found again: that is why there are reapers.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Once;
use std::time::Duration;

use process_wrap::tokio::{ChildWrapper, CommandWrap};
use tokio::sync::{oneshot, watch};
use tokio::task::spawn_blocking;

use super::launch::{ExitStatusKind, ProcessSpec, ProcessState, StartError, StartStep, StartedProcess};
use super::scratch::{self, FolderLock};

static WARNED: Once = Once::new();

/// Starts a server in a group of its own.
pub(super) async fn start(spec: ProcessSpec) -> Result<StartedProcess, StartError> {
    WARNED.call_once(|| {
        tracing::warn!(
            "servers run in process groups only, and processes that leave their group may stay behind: on Linux, call \
             sessile::reaper::init() first in main"
        );
    });
    let opened = spawn_blocking(move || open(&spec)).await;
    opened.map_err(|error| StartError::new(StartStep::Reaper, io::Error::other(error)))?
}

fn open(spec: &ProcessSpec) -> Result<StartedProcess, StartError> {
    let scratch = spec.scratch.clone().map(ScratchFolder::create).transpose();
    let scratch = scratch.map_err(|error| StartError::new(StartStep::Scratch, error))?;
    let mut command = CommandWrap::with_new(&spec.program, |command| {
        command.args(&spec.args).env_clear().envs(spec.env.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        if let Some(cwd) = &spec.cwd {
            command.current_dir(cwd);
        }
    });
    #[cfg(unix)]
    command.wrap(process_wrap::tokio::ProcessGroup::leader());
    #[cfg(windows)]
    command.wrap(process_wrap::tokio::JobObject);
    let mut child = command.spawn().map_err(|error| StartError::of_program(spec, error))?;

    let (state, watched) = watch::channel(ProcessState::Running(child.id().unwrap_or_default()));
    let (stop, held) = oneshot::channel();
    let (stdin, stdout, stderr) = pipes(child.as_mut()).map_err(|error| StartError::new(StartStep::Program, error))?;
    let started = StartedProcess { stdin, stdout, stderr, state: watched, stop };
    tokio::spawn(watch_over(child, held, state, scratch));
    Ok(started)
}

#[cfg(target_os = "linux")]
fn pipes(child: &mut dyn ChildWrapper) -> io::Result<(super::StdinPipe, super::StdoutPipe, super::StderrPipe)> {
    use tokio::net::unix::pipe::{Receiver, Sender};
    let (stdin, stdout, stderr) = taken(child)?;
    Ok((
        Sender::from_owned_fd(stdin.into_owned_fd()?)?,
        Receiver::from_owned_fd(stdout.into_owned_fd()?)?,
        Receiver::from_owned_fd(stderr.into_owned_fd()?)?,
    ))
}

#[cfg(not(target_os = "linux"))]
use taken as pipes;

type Pipes = (tokio::process::ChildStdin, tokio::process::ChildStdout, tokio::process::ChildStderr);

fn taken(child: &mut dyn ChildWrapper) -> io::Result<Pipes> {
    let pipes = (child.stdin().take(), child.stdout().take(), child.stderr().take());
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else { return Err(io::ErrorKind::BrokenPipe.into()) };
    Ok((stdin, stdout, stderr))
}

/// Ends the group when `stop` is sent or dropped, or when the group's leader has ended.
async fn watch_over(
    mut child: Box<dyn ChildWrapper>,
    stop: oneshot::Receiver<Duration>,
    state: watch::Sender<ProcessState>,
    scratch: Option<ScratchFolder>,
) {
    // Only the leader is waited for: others of its group that linger must not delay the news of its end.
    let ended = tokio::select! {
        status = child.inner_mut().wait() => Some(status),
        grace = stop => {
            let grace = grace.unwrap_or(Duration::ZERO);
            #[cfg(unix)]
            let _ = child.signal(15);
            tokio::time::timeout(grace, child.inner_mut().wait()).await.ok()
        }
    };
    // The group is killed as soon as its leader is gone: later its number could belong to another group.
    let _ = child.start_kill();
    let status = match ended {
        Some(status) => status,
        None => child.inner_mut().wait().await,
    };
    let how = status.map_or(ExitStatusKind::Unknown, ExitStatusKind::from);
    state.send_replace(ProcessState::Ended(how));
    let _ = spawn_blocking(move || drop(scratch)).await;
    state.send_replace(ProcessState::Gone(how));
}

/// A scratch folder, removed when dropped.
struct ScratchFolder {
    path: PathBuf,
    _lock: FolderLock,
}

impl ScratchFolder {
    fn create(path: PathBuf) -> io::Result<Self> {
        let lock = scratch::create(&path)?;
        Ok(Self { path, _lock: lock })
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        scratch::remove(&self.path);
    }
}
