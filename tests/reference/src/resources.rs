//! Resources: two fixed ones, one that changes, and a template.

use std::sync::atomic::Ordering;

use rmcp::{
    ErrorData,
    model::{ReadResourceResult, Resource, ResourceContents, ResourceTemplate},
};
use serde_json::{Value, json};

use crate::{server::State, tools::IMAGE};

/// The resource that the tool `touch` changes.
pub(crate) const WATCHED: &str = "test://watched-resource";

/// The fixed resources.
pub(crate) fn all() -> Vec<Resource> {
    vec![
        Resource::new("test://static-text", "static-text")
            .with_title("Static text")
            .with_description("A text that never changes")
            .with_mime_type("text/plain"),
        Resource::new("test://static-binary", "static-binary")
            .with_title("Static image")
            .with_description("An image that never changes")
            .with_mime_type("image/png"),
        Resource::new(WATCHED, "watched-resource")
            .with_title("Watched text")
            .with_description("A text that changes with each call of the tool `touch`")
            .with_mime_type("text/plain"),
    ]
}

/// The resource templates.
pub(crate) fn templates() -> Vec<ResourceTemplate> {
    vec![
        ResourceTemplate::new("test://template/{id}/data", "template")
            .with_title("Template")
            .with_description("Data for an id")
            .with_mime_type("application/json"),
    ]
}

/// Answers a `resources/read`.
pub(crate) fn read(uri: &str, state: &State) -> Result<ReadResourceResult, ErrorData> {
    let contents = match uri {
        "test://static-text" => ResourceContents::text("This is the content of the static text resource.", uri),
        "test://static-binary" => ResourceContents::blob(IMAGE, uri).with_mime_type("image/png"),
        WATCHED => ResourceContents::text(format!("Version {}", state.touched.load(Ordering::Relaxed)), uri),
        _ => match uri.strip_prefix("test://template/").and_then(|rest| rest.strip_suffix("/data")) {
            Some(id) => json(uri, &json!({"id": id, "templateTest": true, "data": format!("Data for ID: {id}")})),
            None => return Err(ErrorData::resource_not_found("resource not found", Some(json!({"uri": uri})))),
        },
    };
    Ok(ReadResourceResult::new(vec![contents]))
}

/// A resource whose text is JSON.
pub(crate) fn json(uri: &str, value: &Value) -> ResourceContents {
    ResourceContents::text(value.to_string(), uri).with_mime_type("application/json")
}
