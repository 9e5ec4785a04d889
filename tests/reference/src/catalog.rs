//! What `tools/list` answers. The schemas are written as JSON: a derived one could not say all that JSON Schema can.

use std::{borrow::Cow, sync::Arc};

use rmcp::model::{JsonObject, Tool};
use serde_json::{Value, json};

/// What the names of tools start with that `grow` adds; a number follows.
pub(crate) const GROWN: &str = "grown_";

/// Every tool, those of the conformance suite first, and last as many as this session has had grown.
pub(crate) fn tools(grown: u64) -> Vec<Tool> {
    let mut tools = conformance();
    tools.extend(extras());
    let none = &json!({});
    tools.extend((1..=grown).map(|number| tool(format!("{GROWN}{number}"), "Answers with its own name", none)));
    tools
}

fn conformance() -> Vec<Tool> {
    let none = &json!({});
    vec![
        tool("test_simple_text", "Answers with a line of text", none),
        tool("test_image_content", "Answers with an image", none),
        tool("test_audio_content", "Answers with a sound", none),
        tool("test_embedded_resource", "Answers with an embedded resource", none),
        tool("test_multiple_content_types", "Answers with text, an image and a resource", none),
        tool("test_tool_with_logging", "Logs three messages while it runs", none),
        tool("test_tool_with_progress", "Reports progress three times while it runs", none),
        tool("test_error_handling", "Always fails", none),
        tool("test_reconnection", "Over HTTP, closes its stream; then answers late", none),
        tool("test_sampling", "Asks the client's model", &json!({"prompt": text("What to ask")})),
        tool("test_elicitation", "Asks the user", &json!({"message": text("What to ask")})),
        tool("test_elicitation_sep1034_defaults", "Asks the user with a form full of defaults", none),
        tool("test_elicitation_sep1330_enums", "Asks the user with every kind of choice", none),
        Tool::new("json_schema_2020_12_tool", "Has a schema that uses much of JSON Schema 2020-12", schema_2020_12()),
    ]
}

fn extras() -> Vec<Tool> {
    vec![
        tool("echo", "Answers with its arguments, as text and as structured content", &json!({})),
        tool("counter", "Adds one and answers with the count of this process", &json!({})),
        tool("pid", "Tells about this process: id, parent, working directory, arguments", &json!({})),
        tool("env", "Answers with a variable of this process's environment", &json!({"name": text("Its name")})),
        tool("client", "Tells what this server knows of its client", &json!({})),
        tool("cancelled", "Counts the calls that were cancelled in this session", &json!({})),
        tool(
            "sleep_ms",
            "Reports that it has begun, then answers after some time, unless cancelled",
            &json!({"ms": number("How long")}),
        ),
        tool("big", "Answers with a text of a given length", &json!({"bytes": number("Its length")})),
        tool(
            "flood",
            "Sends log messages, then answers",
            &json!({"count": number("How many"), "bytes": number("The length of each")}),
        ),
        tool(
            "log",
            "Sends one log message, unless the client asked for less",
            &json!({"level": text("Its level"), "message": text("What it says")}),
        ),
        tool("link", "Answers with a link to a resource", &json!({"uri": text("Where it leads")})),
        tool("ask", "Asks the user and answers with the answer", &json!({"message": text("What to ask")})),
        tool(
            "remind",
            "Answers at once, and asks the user some time later, when no call may be open any more",
            &json!({"ms": number("How much later"), "message": text("What to ask")}),
        ),
        tool("reminded", "Tells what became of the last server request of `remind`", &json!({})),
        tool("roots", "Asks the client for its roots", &json!({})),
        tool("touch", "Changes test://watched-resource", &json!({})),
        tool("grow", "Adds a tool to this session's list and says that the list changed", &json!({})),
        tool("announce", "Sends a list_changed notification", &json!({"what": text("tools, prompts or resources")})),
        tool(
            "noise",
            "Writes a line that is no message",
            &json!({"to": text("stdout or stderr"), "text": text("The line")}),
        ),
        tool(
            "spawn",
            "Starts a process that sleeps, in a session of its own and without this one's environment",
            &json!({"seconds": number("How long it sleeps")}),
        ),
        tool("crash", "Ends this process without an answer", &json!({"code": number("The exit code")})),
    ]
}

/// A tool all of whose parameters are required.
fn tool(name: impl Into<Cow<'static, str>>, description: &'static str, properties: &Value) -> Tool {
    let required: Vec<&String> = properties.as_object().into_iter().flatten().map(|(name, _)| name).collect();
    let schema = if required.is_empty() {
        json!({"type": "object", "properties": {}})
    } else {
        json!({"type": "object", "required": required, "properties": properties})
    };
    Tool::new(name, description, object(schema))
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn number(description: &str) -> Value {
    json!({"type": "integer", "minimum": 0, "description": description})
}

fn object(value: Value) -> Arc<JsonObject> {
    match value {
        Value::Object(object) => Arc::new(object),
        _ => Arc::default(),
    }
}

/// The schema that the scenario `json-schema-2020-12` looks for.
fn schema_2020_12() -> Arc<JsonObject> {
    object(json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
            },
        },
        "properties": {
            "name": {"type": "string"},
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": {"type": "string"},
            "email": {"type": "string"},
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": false,
    }))
}
