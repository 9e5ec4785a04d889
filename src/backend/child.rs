//! A server that is a child process and speaks on its stdin and stdout.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::AsyncRead;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::auto_grow_pipe::auto_grow_pipe;
use super::queue_writer::QueueWriter;
use super::spawn::{self, Child, ExitStatusKind, Inherit, ServerCommand};
use super::{delivery, panics};
use crate::config::names_a_secret;
use crate::lines::{Line, LineReader};
use crate::link::{Exit, LinkContext, LinkExit, LinkOpener};

/// How long a server may take to exit by itself when its stdin was closed. Playwright takes about a second to close its
/// browser.
const EXIT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the server's processes may take after SIGTERM, before they get SIGKILL.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// How long the output of a server that has exited is read on: a process that it left behind may hold the pipe open.
const OUTPUT_TIMEOUT: Duration = Duration::from_millis(300);
/// How long a server that closed its output may take to exit. After that its exit is reported without a status.
const EXIT_STATUS_WAIT: Duration = Duration::from_millis(500);
/// How many lines of stderr an error quotes.
const STDERR_LINES: usize = 10;
/// The longest line of stderr that is kept, in bytes.
const MAX_STDERR_LINE: usize = 4096;

/// A program that is started once for each session.
///
/// Unless told otherwise, it inherits the environment except for `SESSILE_*`. `TMPDIR` is a folder of the session's
/// own, which is removed at its end.
#[derive(Clone)]
pub struct ChildBackend {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    inherit: Inherit,
    cwd: Option<PathBuf>,
    secrets: Vec<String>,
}

impl ChildBackend {
    /// A program, by path or by name in `PATH`.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            inherit: Inherit::All,
            cwd: None,
            secrets: Vec::new(),
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Sets what the program inherits of this process's environment: all of it, unless this is called. `SESSILE_*` is
    /// never inherited.
    #[must_use]
    pub fn inherit(mut self, inherit: Inherit) -> Self {
        self.inherit = inherit;
        self
    }

    /// Sets its working directory.
    #[must_use]
    pub fn cwd(mut self, cwd: impl Into<PathBuf>) -> Self {
        self.cwd = Some(cwd.into());
        self
    }

    /// Adds a text that is never shown: where the server prints it on stderr, or it stands in the command, logs and
    /// errors show `***`.
    ///
    /// Values of the environment whose names speak of keys, tokens, secrets or passwords are secrets already. Texts of
    /// fewer than six characters are not masked: they would make the log unreadable, and are not secrets.
    #[must_use]
    pub fn secret(mut self, secret: impl Into<String>) -> Self {
        self.secrets.push(secret.into());
        self
    }

    fn all_secrets(&self) -> Arc<[String]> {
        let own = self.env.iter().map(|(name, value)| (name.clone(), value.clone()));
        let named = own.chain(std::env::vars_os()).filter_map(|(name, value)| {
            names_a_secret(&name.to_string_lossy()).then(|| value.to_string_lossy().into_owned())
        });
        // Stderr is read by lines, so a secret of several lines is one for each of them.
        let lines = |secret: String| secret.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
        let all = self.secrets.iter().cloned().chain(named).flat_map(lines);
        let mut secrets: Vec<_> = all.filter(|text| text.len() >= 6).collect();
        // The longest first: one secret may be a part of another.
        secrets.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        secrets.into()
    }
}

impl LinkOpener for ChildBackend {
    fn run(self: Arc<Self>, context: LinkContext) -> BoxFuture<'static, ()> {
        let command = ServerCommand {
            program: self.program.clone(),
            args: self.args.clone(),
            env: self.env.clone(),
            cwd: self.cwd.clone(),
            scratch: Some(context.scratch.clone()),
            inherit: self.inherit.clone(),
        };
        Box::pin(run(command, self.all_secrets(), context))
    }

    fn describe(&self) -> String {
        format!("command {}", mask(&self.program.to_string_lossy(), &self.all_secrets()))
    }

    fn makes_scratch(&self) -> bool {
        true
    }
}

impl std::fmt::Debug for ChildBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Arguments and values of variables may be secrets that nobody has said to be any.
        let names: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("ChildBackend")
            .field("command", &self.describe())
            .field("args", &self.args.len())
            .field("env", &names)
            .field("inherit", &self.inherit)
            .finish_non_exhaustive()
    }
}

async fn run(command: ServerCommand, secrets: Arc<[String]>, context: LinkContext) {
    let LinkContext { name, server, link_events, outgoing, backlog, stalled, stop, message_size, .. } = context;
    let mut child = match spawn::spawn_until(&command, &stop).await {
        Ok(Some(child)) => child,
        Ok(None) => return,
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            let reason = mask(&format!("{error}{cause}"), &secrets);
            warn!(session = %name, %server, error = %reason, "the backend did not start");
            link_events.closed(LinkExit::Failed { reason });
            return;
        }
    };
    if let Some(pid) = child.pid {
        link_events.started(pid);
    }
    let stderr_tail = Arc::new(StderrTail::default());
    let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        link_events.closed(LinkExit::Failed { reason: "the backend has no pipes".to_owned() });
        return;
    };
    let queue_writer = QueueWriter { queue: outgoing, backlog, stalled, link_events: link_events.clone() };
    // The writer ends, and closes stdin, when the session drops its end of the queue.
    let mut writing = spawn_task(queue_writer.write(auto_grow_pipe(stdin)));
    let mut reading = spawn_task(delivery::deliver_lines(auto_grow_pipe(stdout), message_size, link_events.clone()));
    let mut logging = spawn_task(log_stderr(stderr, (name.clone(), server), secrets, stderr_tail.clone()));
    let gone = tokio::select! {
        status = child.exit() => {
            let _ = timeout(OUTPUT_TIMEOUT, &mut reading).await;
            Some(Ok(status))
        }
        read = &mut reading => Some(match read {
            Ok(()) => Ok(exit_status(&child).await),
            Err(error) => Err(error),
        }),
        written @ (Ok(Err(_)) | Err(_)) = &mut writing => Some(match written {
            // A server that takes no more input cannot answer further calls: without an end here they would wait for
            // ever.
            Ok(_) => {
                let status = exit_status(&child).await;
                let _ = timeout(OUTPUT_TIMEOUT, &mut reading).await;
                Ok(status)
            }
            Err(error) => Err(error),
        }),
        Err(error) = &mut logging => Some(Err(error)),
        () = stop.cancelled() => None,
    };
    let is_gone = matches!(gone, Some(Ok(_)));
    match gone {
        Some(Ok(status)) => {
            if !logging.is_finished() {
                let _ = timeout(OUTPUT_TIMEOUT, &mut logging).await;
            }
            link_events.closed(LinkExit::Exited { exit: status.into(), stderr: stderr_tail.take() });
        }
        Some(Err(error)) => link_events.closed(panics::exit(&name, error)),
        None => {}
    }
    end(child, writing, is_gone).await;
}

fn spawn_task<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> AbortOnDropHandle<T> {
    AbortOnDropHandle::new(tokio::spawn(task))
}

/// Waits a moment for the exit status of a server that has closed a pipe.
async fn exit_status(child: &Child) -> ExitStatusKind {
    timeout(EXIT_STATUS_WAIT, child.exit()).await.unwrap_or(ExitStatusKind::Unknown)
}

async fn end(child: Child, mut writing: AbortOnDropHandle<std::io::Result<()>>, gone: bool) {
    // Queued messages are written if the server still reads. A server that does not read must not hold up its own end.
    if !writing.is_finished() && (gone || timeout(OUTPUT_TIMEOUT, &mut writing).await.is_err()) {
        writing.abort();
        let _ = writing.await;
    }
    child.end(if gone { Duration::ZERO } else { EXIT_TIMEOUT }, TERM_GRACE).await;
}

impl From<ExitStatusKind> for Exit {
    fn from(status: ExitStatusKind) -> Self {
        match status {
            ExitStatusKind::Code(code) => Self::Code(code),
            ExitStatusKind::Signal(signal) => Self::Signal(signal),
            ExitStatusKind::Unknown => Self::Closed,
        }
    }
}

/// The newest lines of a server's stderr.
#[derive(Debug, Default)]
struct StderrTail(Mutex<VecDeque<String>>);

impl StderrTail {
    fn add(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == STDERR_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    fn take(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }
}

/// Puts the server's stderr into the log, line by line.
async fn log_stderr(
    stderr: impl AsyncRead + Unpin,
    (session, server): (Arc<str>, Arc<str>),
    secrets: Arc<[String]>,
    stderr_tail: Arc<StderrTail>,
) {
    let mut lines = LineReader::new(stderr, MAX_STDERR_LINE, None);
    while let Ok(Some(line)) = lines.next().await {
        let text = match line {
            Line::Message { bytes, .. } => mask(&String::from_utf8_lossy(&bytes), &secrets),
            Line::Lost(lost) => format!("[a line of {} bytes]", lost.size),
        };
        info!(target: "sessile::backend", %session, %server, "{text}");
        stderr_tail.add(text);
    }
}

fn mask(line: &str, secrets: &[String]) -> String {
    let visible: String = line.chars().filter(|character| !character.is_control() || *character == '\t').collect();
    secrets.iter().fold(visible, |text, secret| text.replace(secret.as_str(), "***"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked() {
        let child = ChildBackend::new("x").env("MY_API_KEY", "hunter2-long").env("PLAIN", "visible").secret("hunter2");
        let secrets = child.all_secrets();
        assert_eq!(mask("key hunter2-long, hunter2, visible", &secrets), "key ***, ***, visible");
        let secrets = ChildBackend::new("x").env("PRIVATE_KEY", "first line\n  second line\n").all_secrets();
        assert_eq!(mask("it reads second line", &secrets), "it reads ***");
    }

    #[test]
    fn nothing_of_a_command_but_its_program_is_shown() {
        let child = ChildBackend::new("/bin/x-hunter2").args(["--key=s3cret"]).env("A", "s3cret").secret("hunter2");
        let debug = format!("{child:?}");
        assert!(debug.contains("/bin/x-***") && !debug.contains("s3cret"), "{debug}");
    }
}
