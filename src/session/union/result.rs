//! The URIs and tasks that a result names: the client may ask for them later, and only the result's server has them.

use std::ops::Range;

use super::List;
use crate::frame::{Frame, elements, members, only, string};
use crate::mcp;

/// What a result is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ResultShape {
    /// Nothing that routing has to know.
    #[default]
    Plain,
    /// `content`, with links and embedded resources, or a task in its place.
    Content,
    /// `messages`, with one such content each, or several.
    Messages,
    /// `contents`: resources that were read.
    Contents,
    /// A task.
    Task,
    List(List),
}

impl ResultShape {
    /// What the result of this method is made of.
    pub(crate) fn of(method: &str) -> Self {
        match method {
            mcp::TOOLS_CALL | mcp::TASKS_RESULT => Self::Content,
            mcp::PROMPTS_GET => Self::Messages,
            mcp::RESOURCES_READ => Self::Contents,
            mcp::TASKS_GET | mcp::TASKS_CANCEL | mcp::TASKS_UPDATE => Self::Task,
            _ => List::of_method(method).map_or(Self::Plain, Self::List),
        }
    }
}

/// What a result names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct NamedInResult {
    /// Where the URIs of resources stand, as JSON strings, in order.
    pub uris: Vec<Range<usize>>,
    pub task: Option<String>,
}

/// What the result of a call names.
pub(super) fn named_in_result(frame: &Frame, shape: ResultShape) -> NamedInResult {
    let json: &[u8] = frame.bytes();
    let member = match shape {
        ResultShape::Content => "content",
        ResultShape::Messages => "messages",
        ResultShape::Contents => "contents",
        ResultShape::Task => "taskId",
        ResultShape::Plain | ResultShape::List(_) => return NamedInResult::default(),
    };
    // One walk: a result may be large.
    let Ok(Some(result)) = frame.lookup_range(&["result"]) else { return NamedInResult::default() };
    let items = members(json, result);
    // What stands there twice is not ours to choose from: it is relayed as it is.
    let only_item = |name: &str| {
        let mut found = items.iter().filter(|item| item.key == name);
        let first = found.next()?.value.clone();
        found.next().is_none().then_some(first)
    };
    let task = only_item("task").and_then(|task| only(json, task, "taskId")).or_else(|| only_item("taskId"));
    let uris = only_item(member).map_or_else(Vec::new, |at| spans_of_uris(json, at, shape));
    NamedInResult { uris, task: task.and_then(|task| string(json, task)) }
}

fn spans_of_uris(json: &[u8], at: Range<usize>, shape: ResultShape) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    for element in elements(json, at).unwrap_or_default() {
        match shape {
            ResultShape::Contents => spans.extend(only(json, element, "uri")),
            ResultShape::Messages => {
                let Some(content) = only(json, element, "content") else { continue };
                match elements(json, content.clone()) {
                    Some(blocks) => blocks.into_iter().for_each(|block| uri_of_block(json, block, &mut spans)),
                    None => uri_of_block(json, content, &mut spans),
                }
            }
            _ => uri_of_block(json, element, &mut spans),
        }
    }
    spans.retain(|span| json.get(span.start) == Some(&b'"'));
    spans
}

/// The URI of a content block, if it is a link or an embedded resource.
fn uri_of_block(json: &[u8], block: Range<usize>, spans: &mut Vec<Range<usize>>) {
    // One walk: most blocks are neither, and may be large.
    let mut kind = None;
    let (mut uri, mut resource) = (None, None);
    for item in members(json, block) {
        match &*item.key {
            "type" => kind = string(json, item.value),
            "uri" => uri = Some(item.value),
            "resource" => resource = Some(item.value),
            _ => {}
        }
    }
    spans.extend(match kind.as_deref() {
        Some("resource_link") => uri,
        Some("resource") => resource.and_then(|resource| only(json, resource, "uri")),
        _ => None,
    });
}

/// The task that a status notification is about.
pub(super) fn task_of_notification(frame: &Frame) -> Option<String> {
    let at = frame.lookup_range(&["params", "taskId"]).ok().flatten()?;
    string(frame.bytes(), at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uris(method: &str, result: &str) -> Vec<String> {
        let frame = Frame::parse(format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#)).unwrap();
        let spans = named_in_result(&frame, ResultShape::of(method)).uris;
        assert!(spans.is_sorted_by(|a, b| a.end <= b.start), "they are in order");
        spans.into_iter().map(|span| string(frame.bytes(), span).unwrap()).collect()
    }

    #[test]
    fn uris_are_found_where_they_may_stand() {
        let cases: [(&str, &str, &[&str]); 12] = [
            ("tools/call", r#"{"content":[{"type":"text","text":"x","uri":"no://"}]}"#, &[]),
            (
                "tools/call",
                r#"{"content":[{"uri":"a:\/\/b","type":"resource_link"},{"type":"resource","resource":{"uri":"c"}}]}"#,
                &["a://b", "c"],
            ),
            ("tasks/result", r#"{"content":[{"type":"resource_link","uri":"a"}]}"#, &["a"]),
            (
                "tools/call",
                r#"{"content":[],"structuredContent":{"content":[{"type":"resource_link","uri":"no"}]}}"#,
                &[],
            ),
            ("tools/call", r#"{"content":{"type":"resource_link","uri":"no"}}"#, &[]),
            ("tools/call", r#"{"content":[{"type":"resource_link","uri":7},{"type":"resource"},1,null]}"#, &[]),
            ("tools/call", r#"{"content":[],"content":[{"type":"resource_link","uri":"no"}]}"#, &[]),
            (
                "prompts/get",
                r#"{"messages":[{"role":"user","content":{"type":"resource","resource":{"uri":"a"}}},{"content":[{"type":"resource_link","uri":"b"}]}]}"#,
                &["a", "b"],
            ),
            ("resources/read", r#"{"contents":[{"uri":"a","text":"x"},{"blob":""},{"uri":"b"}]}"#, &["a", "b"]),
            ("completion/complete", r#"{"contents":[{"uri":"a"}]}"#, &[]),
            ("resources/list", r#"{"resources":[{"uri":"a"}]}"#, &[]),
            ("tools/call", "null", &[]),
        ];
        for (method, result, expected) in cases {
            assert_eq!(uris(method, result), expected, "{method} {result}");
        }
    }

    #[test]
    fn tasks_are_found() {
        let task = |method: &str, result: &str| {
            let frame = Frame::parse(format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#)).unwrap();
            named_in_result(&frame, ResultShape::of(method)).task
        };
        assert_eq!(task("tools/call", r#"{"task":{"taskId":"t"}}"#).as_deref(), Some("t"));
        assert_eq!(task("tasks/get", r#"{"taskId":"t"}"#).as_deref(), Some("t"));
        assert_eq!(task("tasks/cancel", r#"{"taskId":"t","taskId":"u"}"#), None);
        assert_eq!(task("tools/call", r#"{"task":{"taskId":7}}"#), None);
        assert_eq!(task("completion/complete", r#"{"taskId":"t"}"#), None);
        let told = Frame::parse(r#"{"jsonrpc":"2.0","method":"m","params":{"taskId":"t"}}"#).unwrap();
        assert_eq!(task_of_notification(&told).as_deref(), Some("t"));
    }
}
