//! What a client request is about, as far as that decides which server gets the request.

use std::ops::Range;

use super::List;
use super::directory::UriForm;
use crate::error::ProxyError;
use crate::frame::{Frame, only, string};
use crate::mcp;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RequestSubject {
    Initialize,
    Ping,
    /// A list, with the client's cursor.
    List(List, Option<String>),
    /// A tool or a prompt by its name, which stands at `at`, as a JSON string.
    Named {
        list: List,
        name: String,
        at: Range<usize>,
    },
    /// A resource by its URI, or a template by its text.
    Uri {
        uri: String,
        at: Range<usize>,
        form: UriForm,
    },
    Task {
        id: String,
    },
    LoggingLevel,
    /// One that names none of what servers offer.
    Other,
}

/// Reads a request. One that does not name its subject, or names it twice, is refused: a server might read another one.
pub(super) fn read_subject(frame: &Frame) -> Result<RequestSubject, ProxyError> {
    let text = |path: &[&str]| {
        let at = frame.lookup_range(path).map_err(ProxyError::Frame)?;
        let found = at.and_then(|at| Some((string(frame.bytes(), at.clone())?, at)));
        found.ok_or_else(|| ProxyError::InvalidParams(format!("`{}` must be a string", path.join("."))))
    };
    let method = frame.method().unwrap_or_default();
    Ok(match method {
        mcp::INITIALIZE => RequestSubject::Initialize,
        mcp::PING => RequestSubject::Ping,
        mcp::TOOLS_CALL | mcp::PROMPTS_GET => {
            let (name, at) = text(&["params", "name"])?;
            let list = if method == mcp::TOOLS_CALL { List::Tools } else { List::Prompts };
            RequestSubject::Named { list, name, at }
        }
        mcp::RESOURCES_READ | mcp::RESOURCES_SUBSCRIBE | mcp::RESOURCES_UNSUBSCRIBE => {
            let (uri, at) = text(&["params", "uri"])?;
            RequestSubject::Uri { uri, at, form: UriForm::Uri }
        }
        mcp::COMPLETION_COMPLETE => {
            let (kind, _) = text(&["params", "ref", "type"])?;
            match kind.as_str() {
                "ref/prompt" => {
                    let (name, at) = text(&["params", "ref", "name"])?;
                    RequestSubject::Named { list: List::Prompts, name, at }
                }
                "ref/resource" => {
                    let (uri, at) = text(&["params", "ref", "uri"])?;
                    RequestSubject::Uri { uri, at, form: UriForm::Template }
                }
                _ => {
                    return Err(ProxyError::InvalidParams(
                        "`params.ref.type` must be `ref/prompt` or `ref/resource`".into(),
                    ));
                }
            }
        }
        mcp::TASKS_GET | mcp::TASKS_RESULT | mcp::TASKS_CANCEL | mcp::TASKS_UPDATE => {
            RequestSubject::Task { id: text(&["params", "taskId"])?.0 }
        }
        mcp::LOGGING_SET_LEVEL => RequestSubject::LoggingLevel,
        method => match List::of_method(method) {
            Some(list) => RequestSubject::List(list, cursor(frame)?),
            None => RequestSubject::Other,
        },
    })
}

fn cursor(frame: &Frame) -> Result<Option<String>, ProxyError> {
    let Some(at) = frame.lookup_range(&["params", "cursor"]).map_err(ProxyError::Frame)? else { return Ok(None) };
    if frame.bytes().get(at.clone()).is_some_and(|raw| raw == b"null") {
        return Ok(None);
    }
    let cursor = string(frame.bytes(), at);
    cursor.map(Some).ok_or_else(|| ProxyError::InvalidParams("`params.cursor` must be a string".into()))
}

/// The URI that a notification is about, and where it stands.
pub(super) fn uri_of_notification(frame: &Frame) -> Option<(String, Range<usize>)> {
    let params = frame.lookup_range(&["params"]).ok().flatten()?;
    let at = only(frame.bytes(), params, "uri")?;
    Some((string(frame.bytes(), at.clone())?, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, params: &str) -> Result<RequestSubject, ProxyError> {
        read_subject(
            &Frame::parse(format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#)).unwrap(),
        )
    }

    #[test]
    fn subjects_are_read() {
        let complete = r#"{"ref":{"type":"ref/prompt","name":"x"}}"#;
        for (method, params, expected) in [
            ("tools/call", r#"{"name":"a\u005fb"}"#, (List::Tools, "a_b")),
            ("prompts/get", r#"{"name":"x"}"#, (List::Prompts, "x")),
            ("completion/complete", complete, (List::Prompts, "x")),
        ] {
            let RequestSubject::Named { list, name, .. } = request(method, params).unwrap() else { panic!("{method}") };
            assert_eq!((list, name.as_str()), expected);
        }
        let complete = r#"{"ref":{"type":"ref/resource","uri":"x://{y}"}}"#;
        let subject = request("completion/complete", complete).unwrap();
        assert!(matches!(subject, RequestSubject::Uri { uri, form: UriForm::Template, .. } if uri == "x://{y}"));
        assert_eq!(request("tasks/result", r#"{"taskId":"t"}"#).unwrap(), RequestSubject::Task { id: "t".into() });
        assert_eq!(request("tools/list", "{}").unwrap(), RequestSubject::List(List::Tools, None));
        assert_eq!(request("tools/list", r#"{"cursor":null}"#).unwrap(), RequestSubject::List(List::Tools, None));
        let page = request("resources/templates/list", r#"{"cursor":"c"}"#).unwrap();
        assert_eq!(page, RequestSubject::List(List::Templates, Some("c".into())));
        assert_eq!(request("vendor/x", "{}").unwrap(), RequestSubject::Other);
    }

    #[test]
    fn what_names_nothing_or_two_things_is_refused() {
        for (method, params, code) in [
            ("tools/call", "{}", -32602),
            ("tools/call", "[]", -32602),
            ("tools/call", "null", -32602),
            ("tools/call", r#"{"name":7}"#, -32602),
            ("tools/call", r#"{"name":"a","n\u0061me":"b"}"#, -32600),
            ("resources/read", r#"{"uri":"a","uri":"b"}"#, -32600),
            ("completion/complete", r#"{"ref":{"type":"ref/tool","name":"x"}}"#, -32602),
            ("completion/complete", r#"{"ref":"x"}"#, -32602),
            ("tasks/get", r#"{"taskId":null}"#, -32602),
            ("tools/list", r#"{"cursor":7}"#, -32602),
        ] {
            assert_eq!(request(method, params).unwrap_err().code(), code, "{method} {params}");
        }
    }
}
