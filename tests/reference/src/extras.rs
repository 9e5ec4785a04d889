//! Tools that no scenario asks for, but sessile's own tests do.

use std::{
    io::Write,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rmcp::{
    ErrorData, RoleServer, ServerHandler as _,
    model::{CallToolResult, ContentBlock, LoggingLevel, ProgressNotificationParam, Resource},
    service::RequestContext,
};
use serde_json::{Value, json};

use crate::{
    catalog::GROWN,
    resources::WATCHED,
    server::Reference,
    server_requests,
    tools::{Arguments, error, text, unreachable},
};

/// Calls of `counter` in this process. With a stdio server that is the state of one client, or there is a leak.
static COUNTED: AtomicU64 = AtomicU64::new(0);

/// Carries out one of the tools that are not the conformance suite's.
pub(crate) async fn call(
    server: &Reference,
    name: &str,
    arguments: Arguments,
    context: RequestContext<RoleServer>,
) -> Result<CallToolResult, ErrorData> {
    match name {
        "echo" => Ok(CallToolResult::structured(Value::Object(arguments.0))),
        "counter" => Ok(counter(server)),
        "pid" => Ok(process()),
        "env" => Ok(variable(arguments.text("name")?)),
        "client" => Ok(client(server, &context)),
        "cancelled" => Ok(text(server.state.cancelled.load(Ordering::Relaxed).to_string())),
        "sleep_ms" => Ok(sleep(server, arguments.number("ms")?, &context).await),
        "big" => Ok(text(filler(arguments.number("bytes")?)?)),
        "flood" => flood(server, arguments.number("count")?, arguments.number("bytes")?, &context).await,
        "log" => log(server, arguments.text("level")?, arguments.text("message")?, &context).await,
        "link" => Ok(link(arguments.text("uri")?)),
        "ask" => server_requests::elicit(&context, "Answer", arguments.text("message")?, answer_form()).await,
        "remind" => {
            remind(server, arguments.number("ms")?, arguments.text("message")?, context);
            Ok(text("It will be asked"))
        }
        "reminded" => Ok(server.state.reminded().unwrap_or_else(|| text("Nothing came of it yet"))),
        "roots" => server_requests::roots(&context).await,
        "touch" => touch(server, &context).await,
        "grow" => grow(server, &context).await,
        "announce" => announce(arguments.text("what")?, &context).await,
        "noise" => noise(arguments.text("to")?, arguments.text("text")?),
        "spawn" => spawn(arguments.number("seconds")?),
        "crash" => crash(arguments.number("code")?),
        _ if server.get_tool(name).is_some() => Ok(text(name)),
        _ => Err(ErrorData::invalid_params(format!("unknown tool {name:?}"), None)),
    }
}

fn answer_form() -> Value {
    server_requests::form(&json!({"answer": {"type": "string"}}))
}

fn counter(server: &Reference) -> CallToolResult {
    let process = COUNTED.fetch_add(1, Ordering::Relaxed) + 1;
    let session = server.state.counted.fetch_add(1, Ordering::Relaxed) + 1;
    let mut result = text(process.to_string());
    result.structured_content = Some(json!({"process": process, "session": session}));
    result
}

fn process() -> CallToolResult {
    let pid = std::process::id();
    let directory = std::env::current_dir().unwrap_or_default();
    #[cfg(unix)]
    let parent = Some(std::os::unix::process::parent_id());
    #[cfg(not(unix))]
    let parent: Option<u32> = None;
    let mut result = text(pid.to_string());
    result.structured_content = Some(json!({
        "pid": pid,
        "parent": parent,
        "directory": directory.to_string_lossy(),
        "arguments": std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>(),
    }));
    result
}

fn variable(name: &str) -> CallToolResult {
    match std::env::var(name) {
        Ok(value) => text(value),
        Err(failure) => error(format!("{name}: {failure}")),
    }
}

fn client(server: &Reference, context: &RequestContext<RoleServer>) -> CallToolResult {
    CallToolResult::structured(json!({
        "protocolVersion": context.protocol_version(),
        "clientInfo": context.client_info(),
        "capabilities": context.client_capabilities(),
        "initialized": server.state.initialized.load(Ordering::Relaxed),
        "rootsChanged": server.state.roots_changed.load(Ordering::Relaxed),
    }))
}

async fn sleep(server: &Reference, ms: u64, context: &RequestContext<RoleServer>) -> CallToolResult {
    if let Some(token) = context.meta.get_progress_token() {
        // This notification tells the test that the call runs and can be cancelled.
        let _ = context.peer.notify_progress(ProgressNotificationParam::new(token, 0.0)).await;
    }
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(ms)) => text(format!("Slept {ms} ms")),
        () = context.ct.cancelled() => {
            server.state.cancelled.fetch_add(1, Ordering::Relaxed);
            error("Cancelled")
        }
    }
}

fn filler(bytes: u64) -> Result<String, ErrorData> {
    let length = usize::try_from(bytes).map_err(|error| ErrorData::invalid_params(error.to_string(), None))?;
    Ok("x".repeat(length))
}

async fn flood(
    server: &Reference,
    count: u64,
    bytes: u64,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResult, ErrorData> {
    let filler = filler(bytes)?;
    for number in 0..count {
        let message = json!({"number": number, "filler": filler});
        server.log(&context.peer, LoggingLevel::Info, message).await.map_err(|error| unreachable(&error))?;
    }
    Ok(text(format!("Sent {count} messages")))
}

async fn log(
    server: &Reference,
    level: &str,
    message: &str,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResult, ErrorData> {
    let level: LoggingLevel = serde_json::from_value(json!(level))
        .map_err(|_| ErrorData::invalid_params(format!("there is no level {level:?}"), None))?;
    server.log(&context.peer, level, json!(message)).await.map_err(|error| unreachable(&error))?;
    Ok(text("Logged"))
}

fn link(uri: &str) -> CallToolResult {
    let resource = Resource::new(uri, "linked").with_description("A resource that this result links to");
    CallToolResult::success(vec![ContentBlock::resource_link(resource)])
}

/// Sends a request from a task of its own: the request belongs to no call, and so takes the GET stream.
fn remind(server: &Reference, ms: u64, message: &str, context: RequestContext<RoleServer>) {
    let (state, message) = (server.state.clone(), message.to_owned());
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        let answer = server_requests::elicit(&context, "Answer", &message, answer_form()).await;
        state.remind(answer.unwrap_or_else(|failure| error(failure.message)));
    });
}

async fn grow(server: &Reference, context: &RequestContext<RoleServer>) -> Result<CallToolResult, ErrorData> {
    let number = server.state.grown.fetch_add(1, Ordering::Relaxed) + 1;
    context.peer.notify_tool_list_changed().await.map_err(|error| unreachable(&error))?;
    Ok(text(format!("{GROWN}{number}")))
}

async fn touch(server: &Reference, context: &RequestContext<RoleServer>) -> Result<CallToolResult, ErrorData> {
    let version = server.state.touched.fetch_add(1, Ordering::Relaxed) + 1;
    let told = server.updated(&context.peer, WATCHED).await.map_err(|error| unreachable(&error))?;
    let mut result = text(version.to_string());
    result.structured_content = Some(json!({"version": version, "told": told}));
    Ok(result)
}

async fn announce(what: &str, context: &RequestContext<RoleServer>) -> Result<CallToolResult, ErrorData> {
    match what {
        "tools" => context.peer.notify_tool_list_changed().await,
        "prompts" => context.peer.notify_prompt_list_changed().await,
        "resources" => context.peer.notify_resource_list_changed().await,
        _ => return Ok(error(format!("there is no list of {what}"))),
    }
    .map_err(|error| unreachable(&error))?;
    Ok(text(format!("Announced that the {what} changed")))
}

/// Servers do print to stdout what is no message: a banner, a warning. The line is one write, and lands between
/// messages as long as no large one is being written at the same time.
fn noise(to: &str, line: &str) -> Result<CallToolResult, ErrorData> {
    let line = format!("{line}\n");
    let written = match to {
        "stdout" => {
            let mut out = std::io::stdout().lock();
            out.write_all(line.as_bytes()).and_then(|()| out.flush())
        }
        "stderr" => std::io::stderr().write_all(line.as_bytes()),
        _ => return Ok(error(format!("there is no {to} to write to"))),
    };
    written.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
    Ok(text("Written"))
}

/// Starts a process that is hard to find: it has its own session and an empty environment, and nothing waits for it.
fn spawn(seconds: u64) -> Result<CallToolResult, ErrorData> {
    let script = format!("setsid sleep {seconds} >/dev/null 2>&1 </dev/null & echo $!");
    let output = std::process::Command::new("/bin/sh")
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .args(["-c", &script])
        .output()
        .map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
    Ok(text(String::from_utf8_lossy(&output.stdout).trim()))
}

fn crash(code: u64) -> Result<CallToolResult, ErrorData> {
    let code = i32::try_from(code).map_err(|error| ErrorData::invalid_params(error.to_string(), None))?;
    std::process::exit(code);
}
