//! `sessile check`: connects to all servers at the same time, and prints what each of them offers.
//!
//! Each server gets a proxy of its own, and a client that speaks to it over a pipe, as any other client would. So
//! `check` finds what a client would find, errors included.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use futures_util::future::join_all;
use serde_json::{Value, json};
use sessile::config::{Settings, units};
use sessile::{Proxy, SessionSettings};
use tokio::io::{
    AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, ReadHalf, WriteHalf, duplex, split,
};
use tokio::time::{Instant, timeout};

use super::options::{LogArgs, ServerArgs, TargetArgs};
use super::serve::stop_signal;
use super::table::{self, Row, ServerSummary};
use super::target::{SelectedServer, ServerSelection, with_login_command};
use super::usage_error;

/// How many bytes the pipes hold.
const PIPE_BYTES: usize = 64 * 1024;
/// How long a server may take by default.
const SERVER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a server may take by default where somebody may have to log in: longer than a login may take.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(6 * 60);
/// Most pages that are read of one list.
const MAX_PAGES: usize = 1000;
/// How long calls in flight may take at the end. There are none, so no time is lost.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(100);
/// The protocol version that the client asks for.
const OFFERED_VERSION: &str = "2025-11-25";

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    target: TargetArgs,

    /// Print JSON.
    #[arg(long)]
    json: bool,

    /// How long each server may take for all of it [default: 30s, or 6m where somebody may have to log in]
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    timeout: Option<Duration>,

    #[command(flatten)]
    server: ServerArgs,

    #[command(flatten)]
    log: LogArgs,
}

/// The servers to check, and how the result is printed.
pub(super) struct Check {
    servers: ServerSelection,
    json: bool,
    timeout: Option<Duration>,
}

impl CheckArgs {
    pub(super) fn find(self, mut settings: Settings) -> Result<(Check, Settings), String> {
        self.log.add_to(&mut settings);
        self.server.add_to(&mut settings)?;
        let log = settings.log.clone();
        let (servers, mut settings) = ServerSelection::find(self.target, settings, "check")?;
        // The file's log level is for a proxy that serves: its lines would stand between those of the table.
        settings.log = log;
        Ok((Check { servers, json: self.json, timeout: self.timeout }, settings))
    }
}

impl Check {
    pub(super) async fn run(self, settings: &Settings) -> ExitCode {
        let servers = match self.servers.build() {
            Ok(servers) => servers,
            Err(error) => return usage_error(&error.to_string()),
        };
        let rows = servers.into_iter().map(|server| {
            let limit =
                self.timeout.unwrap_or(if server.login_command.is_some() { LOGIN_TIMEOUT } else { SERVER_TIMEOUT });
            check(server, settings, limit)
        });
        let rows = tokio::select! {
            rows = join_all(rows) => rows,
            // The reapers end all servers when this process exits.
            () = stop_signal() => return ExitCode::from(130),
        };
        let text = if self.json { table::json(&rows) } else { table::text(&rows) };
        let reached = rows.iter().all(|row| row.outcome.is_ok());
        match table::print(&text) {
            Ok(()) if reached => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }
    }
}

/// Checks one server, and ends it again.
async fn check(server: SelectedServer, settings: &Settings, limit: Duration) -> Row {
    let begun = Instant::now();
    let SelectedServer { name, backend, filter, login_command } = server;
    let session = SessionSettings { drain: DRAIN_TIMEOUT, ..settings.session() };
    let proxy = Proxy::builder().server(&name, backend).filter(&name, filter).session(session).build();
    let outcome = match &proxy {
        Ok(proxy) => {
            let (near, far) = duplex(PIPE_BYTES);
            let (reader, writer) = split(far);
            let serving = proxy.serve_io(reader, writer, std::future::pending());
            let asking = async {
                let asked = timeout(limit, CheckClient::new(near).inspect()).await;
                asked.unwrap_or_else(|_| Err(format!("no answer within {}", table::seconds(limit))))
            };
            // The front ends when the client has asked for everything and closes its end.
            let (outcome, _) = tokio::join!(asking, serving);
            outcome.map_err(|error| with_login_command(error, login_command.as_deref()))
        }
        Err(error) => Err(error.to_string()),
    };
    let took = begun.elapsed();
    if let Ok(proxy) = proxy {
        proxy.shutdown().await;
    }
    Row { name, outcome, took }
}

/// A client that asks a server what it offers, and refuses whatever the server asks of it.
struct CheckClient {
    reader: BufReader<ReadHalf<DuplexStream>>,
    writer: WriteHalf<DuplexStream>,
    last: u64,
}

impl CheckClient {
    fn new(stream: DuplexStream) -> Self {
        let (reader, writer) = split(stream);
        Self { reader: BufReader::new(reader), writer, last: 0 }
    }

    /// Does the handshake, and reads all lists that the server says it has.
    async fn inspect(mut self) -> Result<ServerSummary, String> {
        let client = json!({ "name": "sessile check", "version": env!("CARGO_PKG_VERSION") });
        let params = json!({ "protocolVersion": OFFERED_VERSION, "capabilities": {}, "clientInfo": client });
        let initialized = self.call("initialize", params).await?;
        let is_version = |version: &str| {
            !version.is_empty() && version.len() <= 64 && version.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if !initialized["protocolVersion"].as_str().is_some_and(is_version) {
            return Err("initialize: the answer is not an initialize result: it names no protocolVersion".to_owned());
        }
        self.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await?;
        let has = |name: &str| initialized["capabilities"].get(name).is_some_and(Value::is_object);
        let (tools, resources, prompts) = (has("tools"), has("resources"), has("prompts"));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(ServerSummary {
            version: text(&initialized["protocolVersion"]),
            server: text(&initialized["serverInfo"]["name"]),
            server_version: text(&initialized["serverInfo"]["version"]),
            tools: self.count(tools, "tools").await?,
            resources: self.count(resources, "resources").await?,
            prompts: self.count(prompts, "prompts").await?,
        })
    }

    /// The number of entries on all pages of a list; `None` if the server does not have the list.
    async fn count(&mut self, has: bool, list: &str) -> Result<Option<usize>, String> {
        if !has {
            return Ok(None);
        }
        let method = format!("{list}/list");
        let (mut count, mut params) = (0, json!({}));
        for _ in 0..MAX_PAGES {
            let page = self.call(&method, params).await?;
            count += page[list]
                .as_array()
                .map(Vec::len)
                .ok_or_else(|| format!("{method}: there is no list in the answer"))?;
            match &page["nextCursor"] {
                // An empty cursor is the end of the list, as for other clients.
                Value::String(cursor) if !cursor.is_empty() => params = json!({ "cursor": cursor }),
                _ => return Ok(Some(count)),
            }
        }
        Err(format!("{method}: there are more than {MAX_PAGES} pages"))
    }

    async fn call(&mut self, method: &str, params: Value) -> Result<Value, String> {
        self.last += 1;
        self.send(&json!({ "jsonrpc": "2.0", "id": self.last, "method": method, "params": params })).await?;
        loop {
            let mut line = String::new();
            let read = self.reader.read_line(&mut line).await.map_err(|error| format!("{method}: {error}"))?;
            if read == 0 {
                return Err(format!("{method}: the server left without an answer"));
            }
            let mut message: Value = serde_json::from_str(&line).map_err(|error| format!("{method}: {error}"))?;
            if let Some(asked) = message.get("method") {
                let refusal =
                    json!({ "code": -32601, "message": format!("{asked} is not for a client that only checks") });
                if let Some(id) = message.get("id") {
                    self.send(&json!({ "jsonrpc": "2.0", "id": id, "error": refusal })).await?;
                }
                continue;
            }
            if message["id"] != json!(self.last) {
                continue;
            }
            if let Some(error) = message.get("error") {
                return Err(format!("{method}: {}", error["message"].as_str().unwrap_or("an error without a message")));
            }
            return Ok(message["result"].take());
        }
    }

    async fn send(&mut self, message: &Value) -> Result<(), String> {
        let line = format!("{message}\n");
        self.writer.write_all(line.as_bytes()).await.map_err(|error| error.to_string())
    }
}
