//! The command line: parses it, and makes a job of it.

mod check;
mod letters;
mod options;
mod remote;
mod serve;
mod table;
mod target;
mod token;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use sessile::config::Settings;
use sessile::demo::Demo;
use sessile::tokens::NewToken;

use self::check::{Check, CheckArgs};
use self::options::{ListenArgs, LogArgs, ServerArgs, SessionArgs, TargetArgs, UnionArgs};
use self::target::ServerSelection;
use crate::telemetry::print_notice;

const EXAMPLES: &str = "\
EXAMPLES
  Try it with the built-in demo server (a counter and a notebook of its own for each client):
    sessile serve

  A browser of its own for each client of a team:
    sessile serve -- npx @playwright/mcp --headless --isolated

  At most 20 browsers, and none for longer than ten minutes without use:
    sessile serve --max-sessions 20 --idle-timeout 10m -- npx @playwright/mcp --headless --isolated

  A token for each client that may come; sessile goes on reading the file:
    sessile token alice >> tokens
    sessile serve --tokens tokens -- npx @playwright/mcp --headless --isolated

  A stdio server for a client that starts it itself, with its processes ended for certain:
    sessile stdio -- uvx mcp-server-git

  A remote server for a client that knows stdio only, with a login in the browser:
    sessile stdio --oauth login https://mcp.example.com/mcp

  All servers of a file as one, and whether they can be reached:
    sessile serve --config mcp.json
    sessile check --config mcp.json

EXIT CODES
  0  it ended as it was asked to; `check`: all servers were reached
  1  it could not start, for example because the address is in use; `check`: a server was not reached
  2  the command line or the file is wrong
  3  `stdio`: the backend exited or could not be started
  130  a second SIGINT or SIGTERM ended it at once
";

/// The stateful session proxy for MCP: every client session gets its own live backend.
#[derive(Debug, Parser)]
#[command(name = "sessile", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
    /// Serve HTTP at /mcp for the servers of a FILE, at a URL, or of a COMMAND; without any, the demo server.
    #[command(after_help = EXAMPLES)]
    Serve(Box<ServeArgs>),
    /// Serve one client on stdin and stdout.
    #[command(after_help = EXAMPLES)]
    Stdio(Box<StdioArgs>),
    /// Connect to each server once, and say what is there.
    Check(Box<CheckArgs>),
    /// Make a token for --tokens: its line is printed on stdout, and the token itself on stderr.
    Token {
        /// Whose token it is. Sessions belong to this name; it may have several tokens.
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Be the demo server itself, on stdin and stdout.
    Demo,
}

#[derive(Debug, Args)]
struct ServeArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Args)]
struct StdioArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Without effect. Accepted because scripts pass it: it was an option of `stdio` too.
    #[arg(long, hide = true)]
    allow_host: Vec<String>,
    /// Without effect, as `--allow-host`.
    #[arg(long, hide = true)]
    allow_origin: Vec<String>,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Args)]
struct CommonArgs {
    #[command(flatten)]
    sessions: SessionArgs,
    #[command(flatten)]
    union: UnionArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    log: LogArgs,
}

/// The exit code for a command line or a file that is wrong; clap's own errors have the same.
const USAGE_EXIT: u8 = 2;

/// What the command line asks for.
pub(crate) struct Job {
    task: Task,
    /// The command line's settings over those of the file.
    settings: Settings,
}

enum Task {
    Serve(ServerSelection),
    Stdio(ServerSelection),
    Check(Check),
    Token(NewToken),
    Demo,
}

impl Cli {
    /// Makes a job of the command line. If it is wrong, prints why and returns the exit code.
    pub(crate) fn into_job(self) -> Result<Job, ExitCode> {
        self.find().map_err(|error| {
            print_notice(&error);
            ExitCode::from(USAGE_EXIT)
        })
    }

    fn find(self) -> Result<Job, String> {
        let mut settings = Settings::default();
        match self.command {
            CliCommand::Serve(serve) => {
                serve.listen.add_to(&mut settings);
                serve.common.add_to(&mut settings)?;
                let (servers, settings) = ServerSelection::find(serve.target, settings, "serve")?;
                Ok(Job { task: Task::Serve(servers), settings })
            }
            CliCommand::Stdio(stdio) => {
                settings.allow_hosts = stdio.allow_host;
                settings.allow_origins = stdio.allow_origin;
                stdio.common.add_to(&mut settings)?;
                let (servers, settings) = ServerSelection::find(stdio.target, settings, "stdio")?;
                Ok(Job { task: Task::Stdio(servers), settings })
            }
            CliCommand::Check(args) => {
                let (check, settings) = args.find(settings)?;
                Ok(Job { task: Task::Check(check), settings })
            }
            CliCommand::Token { name } => {
                let new = NewToken::generate(&name).map_err(|error| error.to_string())?;
                Ok(Job { task: Task::Token(new), settings })
            }
            CliCommand::Demo => Ok(Job { task: Task::Demo, settings }),
        }
    }
}

impl CommonArgs {
    fn add_to(self, settings: &mut Settings) -> Result<(), String> {
        self.sessions.add_to(settings);
        self.union.add_to(settings);
        self.log.add_to(settings);
        self.server.add_to(settings)
    }
}

impl Job {
    pub(crate) fn log_level(&self) -> &str {
        let default = match self.task {
            Task::Serve(_) | Task::Stdio(_) => "info",
            // Lines of the log would stand between those of the table.
            Task::Check(_) => "error",
            Task::Token(_) | Task::Demo => "warn",
        };
        self.settings.log.as_deref().unwrap_or(default)
    }

    pub(crate) async fn run(self) -> ExitCode {
        match self.task {
            Task::Serve(servers) => serve::http(servers, &self.settings).await,
            Task::Stdio(servers) => serve::stdio(servers, &self.settings).await,
            Task::Check(check) => check.run(&self.settings).await,
            Task::Token(new) => token::print(&new),
            Task::Demo => match Demo::serve_stdio().await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&error.to_string()),
            },
        }
    }
}

fn fail(reason: &str) -> ExitCode {
    print_notice(reason);
    ExitCode::FAILURE
}

fn usage_error(reason: &str) -> ExitCode {
    print_notice(reason);
    ExitCode::from(USAGE_EXIT)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
