//! A server as a child process: its command and environment, its three pipes, and its end.
//!
//! Nothing here knows of frames. The reaper ends whole trees of processes; this module tells it what to start, and puts
//! into words why a command did not start.

use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf, absolute};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::reaper::{self, ProcessSpec, ProcessState, StartError, StartStep};

pub use crate::reaper::ExitStatusKind;

/// The writing end of a server's standard input.
pub type Stdin = reaper::StdinPipe;
/// The reading end of a server's standard output.
pub type Stdout = reaper::StdoutPipe;
/// The reading end of a server's standard error.
pub type Stderr = reaper::StderrPipe;

/// How long beyond its grace a tree of processes may take to be gone before [`Child::end`] stops waiting for it.
const GONE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may take after SIGTERM if it is ended while it starts, when it has nothing to save yet.
const UNSTARTED_GRACE: Duration = Duration::from_millis(500);

/// A server's command line and surroundings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerCommand {
    /// A name to be looked up on the server's `PATH`, or a path (then a relative one starts at `cwd`).
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables for it, over those it inherits.
    pub env: Vec<(OsString, OsString)>,
    /// What it inherits of this process's environment.
    pub inherit: Inherit,
    /// Where it starts; this process's own working directory if none.
    pub cwd: Option<PathBuf>,
    /// A folder of its own for temporary files, which must not exist yet. It is made with mode 0700, is named in
    /// `TMPDIR`, `TMP` and `TEMP` unless `env` sets these, and is removed when all of its processes are gone.
    pub scratch: Option<PathBuf>,
}

/// What a server inherits of the proxy's environment. `SESSILE_*` is never part of it: secrets may be in there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Inherit {
    /// All of it.
    #[default]
    All,
    /// The variables of these names.
    Named(Vec<OsString>),
    /// None of it.
    Nothing,
}

impl ServerCommand {
    /// A command without arguments, which inherits the environment and the working directory.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self { program: program.into(), ..Self::default() }
    }

    fn launch(&self, inherited: impl Iterator<Item = (OsString, OsString)>) -> io::Result<ProcessSpec> {
        let scratch = self.scratch.as_deref().map(absolute).transpose()?;
        let mut env: Vec<(OsString, OsString)> = inherited
            .filter(|(key, _)| !is_ours(key))
            .filter(|(key, _)| match &self.inherit {
                Inherit::All => true,
                Inherit::Named(names) => names.contains(key),
                Inherit::Nothing => false,
            })
            .collect();
        if let Some(scratch) = &scratch {
            env.extend(["TMPDIR", "TMP", "TEMP"].map(|key| (key.into(), scratch.into())));
        }
        // The last one of a name wins.
        env.extend(self.env.iter().cloned());
        let cwd = self.cwd.as_deref().map(absolute).transpose()?;
        let (program, args) = (self.program.clone(), self.args.clone());
        Ok(ProcessSpec { program, args, env, cwd, scratch, files: reaper::file_limit(), mark: reaper::mark() })
    }
}

fn is_ours(key: &OsString) -> bool {
    key.as_encoded_bytes().starts_with(b"SESSILE_")
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// There is no such program, or not the interpreter that its first line names.
    #[error("program {} was not found: install it, or give its full path", .program.display())]
    NotFound {
        /// As it was asked for.
        program: OsString,
    },
    /// It may not be run.
    #[error("program {} may not be run: check that it is executable", .program.display())]
    PermissionDenied {
        /// As it was asked for.
        program: OsString,
    },
    /// The working directory is missing, or may not be entered.
    #[error("working directory {} cannot be entered: create it, or name another", .cwd.display())]
    Cwd {
        /// As it was asked for.
        cwd: PathBuf,
    },
    /// The scratch folder could not be made.
    #[error("scratch folder {} cannot be made: check that it does not exist and that its parent is writable", .scratch.display())]
    Scratch {
        /// As it was asked for.
        scratch: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The reaper, under which it was to run, did not start or was killed.
    #[error("no process could be started to keep the server: check the limits on processes and open files")]
    Reaper(#[source] io::Error),
    /// Anything else.
    #[error("program {} could not be started", .program.display())]
    Other {
        /// As it was asked for.
        program: OsString,
        /// What the system says.
        source: io::Error,
    },
}

impl SpawnError {
    fn new(command: &ServerCommand, StartError { step, error }: StartError) -> Self {
        let path = |path: &Option<PathBuf>| path.as_deref().unwrap_or(Path::new("")).to_owned();
        let program = command.program.clone();
        match (step, error.kind()) {
            (StartStep::Reaper, _) => Self::Reaper(error),
            (StartStep::Scratch, _) => Self::Scratch { scratch: path(&command.scratch), source: error },
            (StartStep::Cwd, _) => Self::Cwd { cwd: path(&command.cwd) },
            (StartStep::Program, io::ErrorKind::NotFound) => Self::NotFound { program },
            (StartStep::Program, io::ErrorKind::PermissionDenied) => Self::PermissionDenied { program },
            (StartStep::Program, _) => Self::Other { program, source: error },
        }
    }
}

/// A server that runs, or has run. Dropped without [`end`](Child::end), its tree is ended all the same, unwatched.
#[derive(Debug)]
pub struct Child {
    /// Its standard input, until it is taken.
    pub stdin: Option<Stdin>,
    /// Its standard output, until it is taken.
    pub stdout: Option<Stdout>,
    /// Its standard error, until it is taken.
    pub stderr: Option<Stderr>,
    /// The server's own process.
    pub pid: Option<u32>,
    life: watch::Receiver<ProcessState>,
    end_request: Option<oneshot::Sender<Duration>>,
}

/// Starts a server; resolves when it runs, or with why it does not. If this future is dropped, nothing stays.
pub async fn spawn(command: &ServerCommand) -> Result<Child, SpawnError> {
    let spawned = spawn_until(command, &CancellationToken::new()).await?;
    spawned.ok_or_else(|| SpawnError::Reaper(io::ErrorKind::Interrupted.into()))
}

/// Starts a server as [`spawn`] does. Returns `None` if `stop` is cancelled before the server runs, when nothing of it
/// is left. If the future were dropped instead, nobody would know when its processes are gone.
pub(crate) async fn spawn_until(
    command: &ServerCommand,
    stop: &CancellationToken,
) -> Result<Option<Child>, SpawnError> {
    let launch = command
        .launch(std::env::vars_os())
        .map_err(|source| SpawnError::Other { program: command.program.clone(), source })?;
    let started = reaper::start(launch, stop.cancelled()).await.map_err(|refusal| SpawnError::new(command, refusal))?;
    let Some(started) = started else { return Ok(None) };
    let mut child = Child {
        stdin: Some(started.stdin),
        stdout: Some(started.stdout),
        stderr: Some(started.stderr),
        pid: None,
        life: started.state,
        end_request: Some(started.stop),
    };
    let started = async { child.life.wait_for(|life| *life != ProcessState::Starting).await.map(|life| *life) };
    let life = tokio::select! {
        life = started => life,
        () = stop.cancelled() => {
            child.end(Duration::ZERO, UNSTARTED_GRACE).await;
            return Ok(None);
        }
    };
    match life {
        Ok(ProcessState::Running(pid)) => child.pid = Some(pid),
        Ok(ProcessState::Refused(failed, errno)) => {
            return Err(SpawnError::new(
                command,
                StartError { step: failed, error: io::Error::from_raw_os_error(errno) },
            ));
        }
        // The server ran, and exited before it was seen running.
        Ok(ProcessState::Starting | ProcessState::Ended(_) | ProcessState::Gone(_)) => {}
        Err(_) => return Err(SpawnError::Reaper(io::ErrorKind::BrokenPipe.into())),
    }
    Ok(Some(child))
}

impl Child {
    /// Resolves when the server itself has exited, even if a process that it left behind has not. The future may be
    /// dropped and made again, and several tasks may wait at once.
    pub fn exit(&self) -> impl Future<Output = ExitStatusKind> + Send + use<> {
        let mut life = self.life.clone();
        async move {
            let ended = life.wait_for(|life| life.ended().is_some()).await;
            ended.ok().and_then(|life| life.ended()).unwrap_or(ExitStatusKind::Unknown)
        }
    }

    /// Ends the server and all that came of it: closes its pipes (where they were taken, the caller has closed them),
    /// waits `patience` for it to leave by itself, then sends SIGTERM to the whole tree and, after `term_grace`,
    /// SIGKILL. Resolves when nothing of it is left, nor of its scratch folder.
    ///
    /// If this future is dropped, the ending goes on with a grace of half a second.
    pub async fn end(mut self, patience: Duration, term_grace: Duration) -> ExitStatusKind {
        drop(self.stdin.take());
        if timeout(patience, self.exit()).await.is_err()
            && let Some(end_request) = self.end_request.take()
        {
            // Sending fails only if the tree has ended already.
            let _ = end_request.send(term_grace);
        }
        let gone = self.life.wait_for(|life| matches!(life, ProcessState::Gone(_)));
        let Ok(gone) = timeout(term_grace.saturating_add(GONE_TIMEOUT), gone).await.map(|gone| gone.map(|life| *life))
        else {
            tracing::warn!(pid = self.pid, "a server's processes do not end; its reaper goes on trying");
            return self.life.borrow().ended().unwrap_or(ExitStatusKind::Unknown);
        };
        gone.ok().and_then(ProcessState::ended).unwrap_or(ExitStatusKind::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch_env(command: &ServerCommand) -> Vec<(String, String)> {
        let inherited = [("PATH", "/bin"), ("SESSILE_TOKEN", "secret"), ("TMPDIR", "/var")];
        let launch = command.launch(inherited.map(|(key, value)| (key.into(), value.into())).into_iter()).unwrap();
        let text = |text: OsString| text.into_string().unwrap();
        launch.env.into_iter().map(|(key, value)| (text(key), text(value))).collect()
    }

    fn last(env: &[(String, String)], key: &str) -> Option<String> {
        env.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.clone())
    }

    #[test]
    fn the_environment_is_inherited_as_asked_and_never_what_is_ours() {
        let mut command = ServerCommand::new("cat");
        assert_eq!(last(&launch_env(&command), "PATH").as_deref(), Some("/bin"));
        assert_eq!(last(&launch_env(&command), "SESSILE_TOKEN"), None);

        command.inherit = Inherit::Named(vec!["TMPDIR".into(), "SESSILE_TOKEN".into()]);
        assert_eq!(launch_env(&command), [("TMPDIR".to_owned(), "/var".to_owned())]);

        command.inherit = Inherit::Nothing;
        command.env = vec![("SESSILE_TOKEN".into(), "given".into())];
        assert_eq!(launch_env(&command), [("SESSILE_TOKEN".to_owned(), "given".to_owned())]);
    }

    #[test]
    fn temporary_files_go_to_the_scratch_folder_unless_told_otherwise() {
        let mut command = ServerCommand { scratch: Some("/scratch".into()), ..ServerCommand::new("cat") };
        for key in ["TMPDIR", "TMP", "TEMP"] {
            assert_eq!(last(&launch_env(&command), key).as_deref(), Some("/scratch"));
        }
        command.env = vec![("TMPDIR".into(), "/mine".into())];
        assert_eq!(last(&launch_env(&command), "TMPDIR").as_deref(), Some("/mine"));
    }
}
