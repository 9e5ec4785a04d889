//! The proxy's side of a reaper: starting it, and the task that listens to it until it is gone.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::spawn_blocking;

use super::launch::{ExitStatusKind, ProcessSpec, ProcessState, StartError, StartStep, StartedProcess};
use super::orphans::{self, KilledReaper, ReaperChild};
use super::wire::{self, Report};

/// How many reapers are started at the same time. The other starts wait here, where they take no thread.
static STARTS: Semaphore = Semaphore::const_new(4);

/// How long a reaper may take to read its spec, which it does as the first thing.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Starts a reaper and sends it a spec; `None` if `unwanted` resolves while this start waits for others. The server
/// itself may not have started when this returns: its state tells.
pub(super) async fn start(
    spec: ProcessSpec,
    unwanted: impl Future<Output = ()>,
) -> Result<Option<StartedProcess>, StartError> {
    let refused = |error| StartError::new(StartStep::Reaper, error);
    let permit = tokio::select! {
        biased;
        () = unwanted => return Ok(None),
        permit = STARTS.acquire() => permit.map_err(|_| refused(io::ErrorKind::Other.into()))?,
    };
    let runtime = Handle::current();
    // If the caller is dropped meanwhile, then the returned process is dropped, `stop` with it, and the tree ends.
    let started = spawn_blocking(move || {
        let _permit = permit;
        open(spec, &runtime)
    });
    started.await.map_err(|error| refused(io::Error::other(error)))?.map(Some).map_err(refused)
}

fn open(spec: ProcessSpec, runtime: &Handle) -> io::Result<StartedProcess> {
    let (ours, theirs) = UnixStream::pair()?;
    let (server_stdin, stdin) = io::pipe()?;
    let (stdout, server_stdout) = io::pipe()?;
    let (stderr, server_stderr) = io::pipe()?;

    let mut command = Command::new("/proc/self/exe");
    command.arg0(super::REAPER_NAME).arg(super::REAPER_COMMAND);
    command.stdin(OwnedFd::from(theirs)).stdout(server_stdout).stderr(server_stderr);
    // The reaper gets the proxy's own environment, not the server's: it may need that to find its libraries, and
    // variables that are meant for the server, such as `LD_PRELOAD`, must not change it.
    for (key, _) in std::env::vars_os().filter(|(key, _)| key.as_encoded_bytes().starts_with(b"SESSILE_")) {
        command.env_remove(key);
    }
    let mut command = tokio::process::Command::from(command);
    let (process, reaper) = ReaperChild::start(|| {
        let child = command.spawn()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).ok_or(io::ErrorKind::Other)?;
        Ok((child, pid))
    })?;
    // `command` holds the reaper's ends of the pipes. While this process has them open too, it does not see them close.
    drop(command);

    ours.set_write_timeout(Some(SEND_TIMEOUT))?;
    wire::send(&ours, &spec, server_stdin.as_fd())?;
    ours.set_nonblocking(true)?;

    let (state, watched) = watch::channel(ProcessState::Starting);
    let (stop, stopped) = oneshot::channel();
    let control = tokio::net::UnixStream::from_std(ours)?;
    let (stdin, stdout, stderr) = (OwnedFd::from(stdin), OwnedFd::from(stdout), OwnedFd::from(stderr));
    let started = StartedProcess {
        stdin: pipe::Sender::from_owned_fd(stdin)?,
        stdout: pipe::Receiver::from_owned_fd(stdout)?,
        stderr: pipe::Receiver::from_owned_fd(stderr)?,
        state: watched,
        stop,
    };
    runtime.spawn(listen(
        ReaperConnection { process, reaper, control, state, scratch: spec.scratch, server: None },
        stopped,
    ));
    Ok(started)
}

struct ReaperConnection {
    process: Child,
    reaper: ReaperChild,
    control: tokio::net::UnixStream,
    state: watch::Sender<ProcessState>,
    scratch: Option<PathBuf>,
    server: Option<(i32, u64)>,
}

async fn listen(mut connection: ReaperConnection, mut stop: oneshot::Receiver<Duration>) {
    let (reader, mut writer) = connection.control.split();
    let mut lines = BufReader::with_capacity(128, reader).lines();
    let mut stop_is_open = true;
    loop {
        tokio::select! {
            report = lines.next_line() => {
                let Ok(Some(report)) = report else { break };
                let state = match report.parse() {
                    Ok(Report::Started { pid, born }) => {
                        connection.server = Some((pid, born));
                        ProcessState::Running(pid.unsigned_abs())
                    }
                    Ok(Report::Failed { step, errno }) => ProcessState::Refused(step, errno),
                    Ok(Report::Ended(how)) => ProcessState::Ended(how),
                    Err(()) => continue,
                };
                connection.state.send_replace(state);
            }
            wish = &mut stop, if stop_is_open => {
                stop_is_open = false;
                // If neither can be written, the reaper is gone, and the next line is the end.
                let _ = match wish {
                    Ok(grace) => writer.write_all(format!("end {}\n", grace.as_millis()).as_bytes()).await,
                    Err(_) => writer.shutdown().await,
                };
            }
        }
    }
    finish(connection).await;
}

/// The reaper's end of the socket is closed: it has exited, or was killed.
async fn finish(mut connection: ReaperConnection) {
    connection.state.send_if_modified(|state| match state {
        ProcessState::Starting => {
            *state = ProcessState::Refused(StartStep::Reaper, Errno::CHILD.raw_os_error());
            true
        }
        ProcessState::Running(_) => {
            *state = ProcessState::Ended(ExitStatusKind::Unknown);
            true
        }
        ProcessState::Refused(..) | ProcessState::Ended(_) | ProcessState::Gone(_) => false,
    });
    let done = connection.process.wait().await.is_ok_and(|status| status.success());
    let pid = connection.reaper.pid();
    drop(connection.reaper);
    if !done {
        tracing::warn!(reaper = pid, "a reaper ended before its work was done; ending what it kept");
        orphans::end(KilledReaper { reaper: pid, server: connection.server }).await;
        if let Some(scratch) = connection.scratch {
            let _ = spawn_blocking(move || super::scratch::remove(&scratch)).await;
        }
    }
    connection.state.send_if_modified(|state| {
        let ended = state.ended();
        ended.inspect(|how| *state = ProcessState::Gone(*how)).is_some()
    });
}
