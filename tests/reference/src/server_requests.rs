//! What this server asks of its client: sampling, elicitation, roots.
//!
//! The params are JSON that goes out as it stands, because the typed model of elicitation forms cannot hold every
//! schema. They are sent from within the handler of the call that causes them, never from a task of their own, so that
//! over HTTP they travel on that call's stream.

use rmcp::{
    ErrorData, RoleServer,
    model::{CallToolResult, ClientCapabilities, ClientResult, CustomRequest, ServerRequest},
    service::{RequestContext, ServiceError},
};
use serde_json::{Value, json};

use crate::tools::{error, text};

/// Asks the client's model and answers with what it says.
pub(crate) async fn sample(context: &RequestContext<RoleServer>, prompt: &str) -> Result<CallToolResult, ErrorData> {
    if !declared(context, |capabilities| capabilities.sampling.is_some()) {
        return Ok(error("The client cannot sample"));
    }
    let params = json!({
        "messages": [{"role": "user", "content": {"type": "text", "text": prompt}}],
        "maxTokens": 100,
    });
    Ok(match ask(context, "sampling/createMessage", params).await {
        Ok(answer) => {
            let said = answer.pointer("/content/text").and_then(Value::as_str).unwrap_or("nothing that is text");
            text(format!("LLM response: {said}"))
        }
        Err(failure) => error(format!("Sampling failed: {failure}")),
    })
}

/// Shows the user a form; the result's text starts with `said`.
pub(crate) async fn elicit(
    context: &RequestContext<RoleServer>,
    said: &str,
    message: &str,
    form: Value,
) -> Result<CallToolResult, ErrorData> {
    if !declared(context, |capabilities| capabilities.elicitation.is_some()) {
        return Ok(error("The client cannot elicit"));
    }
    let params = json!({"message": message, "requestedSchema": form});
    Ok(match ask(context, "elicitation/create", params).await {
        Ok(answer) => {
            let action = answer.get("action").and_then(Value::as_str).unwrap_or("none");
            let filled = answer.get("content").cloned().unwrap_or_else(|| json!({}));
            let mut result = text(format!("{said}: action={action}, content={filled}"));
            result.structured_content = Some(answer);
            result
        }
        Err(failure) => error(format!("Elicitation failed: {failure}")),
    })
}

/// Asks with a form in which every kind of field has a default.
pub(crate) async fn elicit_defaults(context: &RequestContext<RoleServer>) -> Result<CallToolResult, ErrorData> {
    let fields = json!({
        "name": {"type": "string", "description": "User name", "default": "John Doe"},
        "age": {"type": "integer", "description": "User age", "default": 30},
        "score": {"type": "number", "description": "User score", "default": 95.5},
        "status": {
            "type": "string",
            "description": "User status",
            "enum": ["active", "inactive", "pending"],
            "default": "active",
        },
        "verified": {"type": "boolean", "description": "Verification status", "default": true},
    });
    let form = json!({"type": "object", "properties": fields, "required": []});
    elicit(context, "Elicitation completed", "Please look over these defaults", form).await
}

/// Asks with a form that has each of the five kinds of choice.
pub(crate) async fn elicit_choices(context: &RequestContext<RoleServer>) -> Result<CallToolResult, ErrorData> {
    let plain = json!(["option1", "option2", "option3"]);
    let titled = |word: &str| {
        json!([
            {"const": "value1", "title": format!("First {word}")},
            {"const": "value2", "title": format!("Second {word}")},
            {"const": "value3", "title": format!("Third {word}")},
        ])
    };
    let fields = json!({
        "untitledSingle": {"type": "string", "enum": plain},
        "titledSingle": {"type": "string", "oneOf": titled("Option")},
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": plain}, "minItems": 1, "maxItems": 3},
        "titledMulti": {"type": "array", "items": {"anyOf": titled("Choice")}, "minItems": 1, "maxItems": 3},
    });
    let form = json!({"type": "object", "properties": fields, "required": []});
    elicit(context, "Elicitation completed", "Please choose", form).await
}

/// Asks the client for its roots and answers with the list.
pub(crate) async fn roots(context: &RequestContext<RoleServer>) -> Result<CallToolResult, ErrorData> {
    if !declared(context, |capabilities| capabilities.roots.is_some()) {
        return Ok(error("The client has no roots"));
    }
    Ok(match ask(context, "roots/list", Value::Null).await {
        Ok(answer) => CallToolResult::structured(answer),
        Err(failure) => error(format!("Asking for roots failed: {failure}")),
    })
}

/// A form of required fields.
pub(crate) fn form(fields: &Value) -> Value {
    let required: Vec<&String> = fields.as_object().into_iter().flatten().map(|(name, _)| name).collect();
    json!({"type": "object", "required": required, "properties": fields})
}

fn declared(context: &RequestContext<RoleServer>, has: impl FnOnce(&ClientCapabilities) -> bool) -> bool {
    context.client_capabilities().as_ref().is_some_and(has)
}

async fn ask(context: &RequestContext<RoleServer>, method: &str, params: Value) -> Result<Value, ServiceError> {
    let request = CustomRequest::new(method, (!params.is_null()).then_some(params));
    let answer: ClientResult = context.peer.send_request(ServerRequest::CustomRequest(request)).await?;
    serde_json::to_value(answer).map_err(|_| ServiceError::UnexpectedResponse)
}
