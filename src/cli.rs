//! The command line: parsed here, and made into a proxy.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use sessile::backend::LinkExit;
use sessile::demo::Demo;
use sessile::{Backend, ChildBackend, EndReason, HttpSettings, InProcessBackend, Proxy, SessionSettings};
use tokio::net::TcpListener;

use crate::telemetry::say;

const EXAMPLES: &str = "\
EXAMPLES
  Try it with the built-in demo server (a counter and a notebook of its own for each client):
    sessile serve

  A browser of its own for each client of a team:
    sessile serve -- npx @playwright/mcp --headless --isolated

  At most 20 browsers, and none for longer than ten minutes without use:
    sessile serve --max-sessions 20 --idle-timeout 10m -- npx @playwright/mcp --headless --isolated

  A stdio server for a client that starts it itself, with its processes ended for certain:
    sessile stdio -- uvx mcp-server-git

EXIT CODES
  0  it ended as it was asked to
  1  it could not start, for example because the address is in use
  2  the command line is wrong
  3  `stdio`: the backend exited or could not be started
  130  a second SIGINT or SIGTERM ended it at once
";

/// The stateful session proxy for MCP: every client session gets its own live backend.
#[derive(Debug, Parser)]
#[command(name = "sessile", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve streamable HTTP at /mcp; without COMMAND, the demo server.
    #[command(after_help = EXAMPLES)]
    Serve(Serve),
    /// Serve one client on stdin and stdout; without COMMAND, the demo server.
    #[command(after_help = EXAMPLES)]
    Stdio(Stdio),
    /// Be the demo server itself, on stdin and stdout.
    Demo,
}

#[derive(Debug, Args)]
struct Serve {
    /// The address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8808")]
    listen: SocketAddr,

    /// Listen beyond loopback although nobody is asked who they are.
    #[arg(long)]
    insecure_no_auth: bool,

    /// Tell clients from elsewhere than loopback, too, what a server wrote on stderr before it exited.
    #[arg(long)]
    expose_stderr: bool,

    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Stdio {
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// End a session that has been idle for so long; `off` for never. Idle means: no call in flight for a client that is
    /// there, and no open stream that is read.
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = parse_optional_time)]
    idle_timeout: OptionalTime,

    /// Keep what a client missed, and count it as present, for so long after it has lost its last stream.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_time)]
    lost_stream: Duration,

    /// Let a server's request wait so long for a stream that can carry it, before the server gets an error.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    stream_wait: Duration,

    /// Most sessions at once, and so most backends. The next client is told to try again later.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = parse_count)]
    max_sessions: usize,

    /// The largest message in either direction.
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = parse_size)]
    max_message_size: usize,

    /// Cancel a call that takes longer; `off` for never, because browsers take long.
    #[arg(long, value_name = "TIME", default_value = "off", value_parser = parse_optional_time)]
    request_timeout: OptionalTime,

    /// On SIGTERM and SIGINT, give calls in flight so long to end.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    drain: Duration,

    /// What to log on stderr: error, warn, info, debug, trace, or directives such as `warn,sessile::backend=info`.
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "SESSILE_LOG", value_parser = parse_log)]
    log: String,

    /// A host that clients may use besides loopback ones, with or without a port; `*` for any. May be repeated.
    #[arg(long, value_name = "HOST")]
    allow_host: Vec<String>,

    /// An origin that web pages may have besides loopback ones, such as `https://app.example.com`; `*` for any. May be
    /// repeated.
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,

    /// The server: a program that speaks MCP on its stdin and stdout, started once for each session.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<std::ffi::OsString>,
}

#[derive(Debug, Clone, Copy)]
struct OptionalTime(Option<Duration>);

fn parse_optional_time(text: &str) -> Result<OptionalTime, String> {
    match text {
        "off" | "never" | "none" | "0" => Ok(OptionalTime(None)),
        _ => parse_time(text).map(|time| OptionalTime(Some(time))),
    }
}

fn parse_time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}: write a time such as 30s, 10m or 1h30m"))
}

fn parse_log(text: &str) -> Result<String, String> {
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let known = |directive: &str| {
        let level = directive.rsplit('=').next().unwrap_or_default();
        levels.iter().any(|known| known.eq_ignore_ascii_case(level.trim()))
    };
    if text.split(',').all(known) {
        return Ok(text.to_owned());
    }
    Err(format!("use one of {}, or directives such as warn,sessile::backend=info", levels.join(", ")))
}

fn parse_count(text: &str) -> Result<usize, String> {
    let count = text.parse().map_err(|_| "not a whole number".to_owned())?;
    if count == 0 { Err("must be at least 1".to_owned()) } else { Ok(count) }
}

fn parse_size(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let unit: usize = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "kb" => 1000,
        "m" | "mib" => 1 << 20,
        "mb" => 1_000_000,
        "g" | "gib" => 1 << 30,
        "gb" => 1_000_000_000,
        other => return Err(format!("unknown unit {other:?}: use KiB, MiB or GiB")),
    };
    let number: usize = digits.trim().parse().map_err(|_| "not a size: write one such as 64MiB".to_owned())?;
    number.checked_mul(unit).ok_or_else(|| "too large".to_owned())
}

impl Cli {
    pub(crate) fn log_level(&self) -> &str {
        match &self.command {
            Command::Serve(serve) => &serve.common.log,
            Command::Stdio(stdio) => &stdio.common.log,
            Command::Demo => "warn",
        }
    }
}

impl Common {
    fn proxy(self, expose_stderr: bool) -> Result<Proxy, sessile::ConfigError> {
        let mut command = self.command.into_iter();
        let backend: Backend = match command.next() {
            Some(program) => ChildBackend::new(program).args(command).into(),
            None => InProcessBackend::rmcp(Demo::new).into(),
        };
        Proxy::builder()
            .backend(backend)
            .session(SessionSettings {
                idle_timeout: self.idle_timeout.0,
                lost_stream: self.lost_stream,
                stream_wait: self.stream_wait,
                request_timeout: self.request_timeout.0,
                drain: self.drain,
                max_sessions: Some(self.max_sessions),
                max_message_size: self.max_message_size,
                ..SessionSettings::default()
            })
            .http(HttpSettings {
                allow_hosts: self.allow_host,
                allow_origins: self.allow_origin,
                expose_stderr,
                ..HttpSettings::default()
            })
            .build()
    }
}

/// The program's exit code for a backend that is gone.
const BACKEND_GONE: u8 = 3;
/// For a command line that is wrong; clap's own errors have the same.
const USAGE: u8 = 2;

pub(crate) async fn run(cli: Cli) -> ExitCode {
    match cli.command {
        Command::Serve(serve) => run_serve(serve).await,
        Command::Stdio(stdio) => run_stdio(stdio).await,
        Command::Demo => match Demo::serve_stdio().await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error.to_string()),
        },
    }
}

async fn run_serve(serve: Serve) -> ExitCode {
    if !serve.listen.ip().is_loopback() && !serve.insecure_no_auth {
        say(&format!(
            "{} can be reached from other machines, and nobody is asked who they are: listen on 127.0.0.1, or add \
             --insecure-no-auth if something in front of sessile does the asking",
            serve.listen
        ));
        return ExitCode::from(USAGE);
    }
    let proxy = match serve.common.proxy(serve.expose_stderr) {
        Ok(proxy) => proxy,
        Err(error) => return fail(&error.to_string()),
    };
    let bound = TcpListener::bind(serve.listen).await.and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, listener) = match bound {
        Ok(bound) => bound,
        Err(error) => return fail(&format!("cannot listen on {}: {error}", serve.listen)),
    };
    say(&format!("listening on http://{address}/mcp"));
    match proxy.serve_http(listener, asked_to_stop()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

async fn run_stdio(stdio: Stdio) -> ExitCode {
    let proxy = match stdio.common.proxy(true) {
        Ok(proxy) => proxy,
        Err(error) => return fail(&error.to_string()),
    };
    match proxy.serve_stdio_until(asked_to_stop()).await {
        EndReason::BackendGone(LinkExit::Exited { exit: sessile::backend::Exit::Code(0), .. }) => ExitCode::SUCCESS,
        EndReason::BackendGone(_) => ExitCode::from(BACKEND_GONE),
        EndReason::Failed => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

fn fail(reason: &str) -> ExitCode {
    say(reason);
    ExitCode::FAILURE
}

/// Signals within this time are one.
const ONE_SIGNAL: Duration = Duration::from_secs(1);

/// Resolves with the first SIGINT or SIGTERM. The second one ends the process at once; its reapers end the rest.
async fn asked_to_stop() {
    signalled().await;
    tracing::info!("draining; a second signal ends at once");
    tokio::spawn(async {
        // The same signal often comes twice: once from a parent that passes it on, and once for the whole group.
        tokio::time::sleep(ONE_SIGNAL).await;
        signalled().await;
        std::process::exit(130);
    });
}

#[cfg(unix)]
async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(not(unix))]
async fn signalled() {
    let _ = tokio::signal::ctrl_c().await;
}
