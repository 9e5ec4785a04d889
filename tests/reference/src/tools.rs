//! The tools that the conformance suite calls, and the way to all others.

use std::time::Duration;

use rmcp::{
    ErrorData, RoleServer,
    model::{
        CallToolRequestParams, CallToolResult, ContentBlock, JsonObject, LoggingLevel, ProgressNotificationParam,
        ResourceContents,
    },
    service::{RequestContext, ServiceError},
};
use serde_json::{Value, json};

use crate::{extras, http::ReplyStream, resources, server::Reference, server_requests};

/// A one-pixel PNG.
pub(crate) const IMAGE: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGPQz58PAAIOAT6mnaQsAAAAAElFTkSuQmCC";

/// A WAV file with a millisecond of silence.
const SOUND: &str = "UklGRiwAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQgAAACAgICAgICAgA==";

/// The pause between two steps, as the scenarios describe it.
const STEP: Duration = Duration::from_millis(50);

/// Carries out a `tools/call`.
pub(crate) async fn call(
    server: &Reference,
    call: CallToolRequestParams,
    context: RequestContext<RoleServer>,
) -> Result<CallToolResult, ErrorData> {
    let arguments = Arguments(call.arguments.unwrap_or_default());
    match &*call.name {
        "test_simple_text" => Ok(text("This is a simple text response for testing.")),
        "test_image_content" => Ok(content(ContentBlock::image(IMAGE, "image/png"))),
        "test_audio_content" => Ok(content(ContentBlock::audio(SOUND, "audio/wav"))),
        "test_embedded_resource" => Ok(content(ContentBlock::resource(ResourceContents::text(
            "This is an embedded resource content.",
            "test://embedded-resource",
        )))),
        "test_multiple_content_types" => Ok(mixed()),
        "test_tool_with_logging" => logging(server, &context).await,
        "test_tool_with_progress" => progress(&context).await,
        "test_error_handling" => Ok(error("This tool intentionally returns an error for testing")),
        "test_reconnection" => reconnection(server, &context).await,
        "test_sampling" => server_requests::sample(&context, arguments.text("prompt")?).await,
        "test_elicitation" => {
            let form = server_requests::form(&json!({"response": {"type": "string", "description": "The answer"}}));
            server_requests::elicit(&context, "User response", arguments.text("message")?, form).await
        }
        "test_elicitation_sep1034_defaults" => server_requests::elicit_defaults(&context).await,
        "test_elicitation_sep1330_enums" => server_requests::elicit_choices(&context).await,
        "json_schema_2020_12_tool" => Ok(text(Value::Object(arguments.0).to_string())),
        name => extras::call(server, name, arguments, context).await,
    }
}

/// A tool's arguments, with errors that name what is missing.
pub(crate) struct Arguments(pub(crate) JsonObject);

impl Arguments {
    pub(crate) fn text(&self, name: &str) -> Result<&str, ErrorData> {
        self.0.get(name).and_then(Value::as_str).ok_or_else(|| Self::missing(name, "a string"))
    }

    pub(crate) fn number(&self, name: &str) -> Result<u64, ErrorData> {
        self.0.get(name).and_then(Value::as_u64).ok_or_else(|| Self::missing(name, "a number that is not negative"))
    }

    fn missing(name: &str, kind: &str) -> ErrorData {
        ErrorData::invalid_params(format!("argument {name:?} must be {kind}"), None)
    }
}

/// A result of one line of text.
pub(crate) fn text(text: impl Into<String>) -> CallToolResult {
    content(ContentBlock::text(text))
}

/// A result that says that the tool failed.
pub(crate) fn error(text: impl Into<String>) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(text)])
}

/// The error of a tool when the client can no longer be reached.
pub(crate) fn unreachable(error: &ServiceError) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}

fn content(block: ContentBlock) -> CallToolResult {
    CallToolResult::success(vec![block])
}

fn mixed() -> CallToolResult {
    CallToolResult::success(vec![
        ContentBlock::text("Multiple content types test:"),
        ContentBlock::image(IMAGE, "image/png"),
        ContentBlock::resource(resources::json(
            "test://mixed-content-resource",
            &json!({"test": "data", "value": 123}),
        )),
    ])
}

async fn logging(server: &Reference, context: &RequestContext<RoleServer>) -> Result<CallToolResult, ErrorData> {
    for (step, message) in
        ["Tool execution started", "Tool processing data", "Tool execution completed"].into_iter().enumerate()
    {
        if step > 0 {
            tokio::time::sleep(STEP).await;
        }
        server.log(&context.peer, LoggingLevel::Info, json!(message)).await.map_err(|error| unreachable(&error))?;
    }
    Ok(text("Tool with logging executed successfully"))
}

async fn progress(context: &RequestContext<RoleServer>) -> Result<CallToolResult, ErrorData> {
    let token = context.meta.get_progress_token();
    for (step, done) in [0.0, 50.0, 100.0].into_iter().enumerate() {
        if step > 0 {
            tokio::time::sleep(STEP).await;
        }
        if let Some(token) = token.clone() {
            let progress = ProgressNotificationParam::new(token, done)
                .with_total(100.0)
                .with_message(format!("{done} of 100 done"));
            context.peer.notify_progress(progress).await.map_err(|error| unreachable(&error))?;
        }
    }
    Ok(text(if token.is_some() { "Progress was reported" } else { "There was no progress token" }))
}

/// Over HTTP, closes the stream that the answer would have taken, so that the client must come back for it. Over stdio
/// there is no stream to close: the answer is late, and what becomes of the stream is up to the front.
async fn reconnection(server: &Reference, context: &RequestContext<RoleServer>) -> Result<CallToolResult, ErrorData> {
    if let Some(stream) = context.extensions.get::<ReplyStream>() {
        stream.close().await.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
    }
    tokio::time::sleep(server.options.late).await;
    Ok(text("The answer comes late, and it has come"))
}
