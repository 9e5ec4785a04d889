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

use super::launch::{ExitStatusKind, Fault, Launch, Life, Refusal, Started};
use super::orphans::{self, Killed, Reaper};
use super::wire::{self, Report};

/// How many reapers are started at the same moment; the others queue up rather than taking a thread each.
static STARTS: Semaphore = Semaphore::const_new(4);

/// A reaper reads its launch at once: one that has not after this long never will.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Starts a reaper and sends it a launch, or `None` if `unwanted` resolves while others are started first. The server itself
/// has not started when this returns: its life says.
pub(super) async fn start(launch: Launch, unwanted: impl Future<Output = ()>) -> Result<Option<Started>, Refusal> {
    let refused = |error| Refusal::new(Fault::Reaper, error);
    let permit = tokio::select! {
        biased;
        () = unwanted => return Ok(None),
        permit = STARTS.acquire() => permit.map_err(|_| refused(io::ErrorKind::Other.into()))?,
    };
    let runtime = Handle::current();
    // If whoever asked goes away meanwhile, then what this returns is dropped, the leash with it, and the tree ends.
    let started = spawn_blocking(move || {
        let _permit = permit;
        open(launch, &runtime)
    });
    started.await.map_err(|error| refused(io::Error::other(error)))?.map(Some).map_err(refused)
}

fn open(launch: Launch, runtime: &Handle) -> io::Result<Started> {
    let (ours, theirs) = UnixStream::pair()?;
    let (server_stdin, stdin) = io::pipe()?;
    let (stdout, server_stdout) = io::pipe()?;
    let (stderr, server_stderr) = io::pipe()?;

    let mut command = Command::new("/proc/self/exe");
    command.arg0(super::NAME).arg(super::COMMAND);
    command.stdin(OwnedFd::from(theirs)).stdout(server_stdout).stderr(server_stderr);
    // The proxy's own environment, not the server's: it may need it to find its libraries, and must not be led
    // astray by what was meant for the server.
    for (key, _) in std::env::vars_os().filter(|(key, _)| key.as_encoded_bytes().starts_with(b"SESSILE_")) {
        command.env_remove(key);
    }
    let mut command = tokio::process::Command::from(command);
    let (process, reaper) = Reaper::start(|| {
        let child = command.spawn()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).ok_or(io::ErrorKind::Other)?;
        Ok((child, pid))
    })?;
    // It holds the reaper's ends, and as long as anybody here does, nobody sees the other end close.
    drop(command);

    ours.set_write_timeout(Some(SEND_TIMEOUT))?;
    wire::send(&ours, &launch, server_stdin.as_fd())?;
    ours.set_nonblocking(true)?;

    let (life, watched) = watch::channel(Life::Starting);
    let (leash, held) = oneshot::channel();
    let control = tokio::net::UnixStream::from_std(ours)?;
    let (stdin, stdout, stderr) = (OwnedFd::from(stdin), OwnedFd::from(stdout), OwnedFd::from(stderr));
    let started = Started {
        stdin: pipe::Sender::from_owned_fd(stdin)?,
        stdout: pipe::Receiver::from_owned_fd(stdout)?,
        stderr: pipe::Receiver::from_owned_fd(stderr)?,
        life: watched,
        leash,
    };
    runtime.spawn(listen(Listener { process, reaper, control, life, scratch: launch.scratch, server: None }, held));
    Ok(started)
}

struct Listener {
    process: Child,
    reaper: Reaper,
    control: tokio::net::UnixStream,
    life: watch::Sender<Life>,
    scratch: Option<PathBuf>,
    server: Option<(i32, u64)>,
}

async fn listen(mut listener: Listener, mut leash: oneshot::Receiver<Duration>) {
    let (reader, mut writer) = listener.control.split();
    let mut lines = BufReader::with_capacity(128, reader).lines();
    let mut held = true;
    loop {
        tokio::select! {
            report = lines.next_line() => {
                let Ok(Some(report)) = report else { break };
                let life = match report.parse() {
                    Ok(Report::Started { pid, born }) => {
                        listener.server = Some((pid, born));
                        Life::Running(pid.unsigned_abs())
                    }
                    Ok(Report::Failed { fault, errno }) => Life::Refused(fault, errno),
                    Ok(Report::Ended(how)) => Life::Ended(how),
                    Err(()) => continue,
                };
                listener.life.send_replace(life);
            }
            wish = &mut leash, if held => {
                held = false;
                // A reaper that does not take either is gone, which the next line tells.
                let _ = match wish {
                    Ok(grace) => writer.write_all(format!("end {}\n", grace.as_millis()).as_bytes()).await,
                    Err(_) => writer.shutdown().await,
                };
            }
        }
    }
    finish(listener).await;
}

/// The reaper's end of the socket is closed: it has exited, or was killed.
async fn finish(mut listener: Listener) {
    listener.life.send_if_modified(|life| match life {
        Life::Starting => {
            *life = Life::Refused(Fault::Reaper, Errno::CHILD.raw_os_error());
            true
        }
        Life::Running(_) => {
            *life = Life::Ended(ExitStatusKind::Unknown);
            true
        }
        Life::Refused(..) | Life::Ended(_) | Life::Gone(_) => false,
    });
    let done = listener.process.wait().await.is_ok_and(|status| status.success());
    let pid = listener.reaper.pid();
    drop(listener.reaper);
    if !done {
        tracing::warn!(reaper = pid, "a reaper ended before its work was done; ending what it kept");
        orphans::end(Killed { reaper: pid, server: listener.server }).await;
        if let Some(scratch) = listener.scratch {
            let _ = spawn_blocking(move || super::scratch::remove(&scratch)).await;
        }
    }
    listener.life.send_if_modified(|life| {
        let ended = life.ended();
        ended.inspect(|how| *life = Life::Gone(*how)).is_some()
    });
}
