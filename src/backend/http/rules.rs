//! Decides what follows from a server's response: from its status, and from the redirects, endpoints and session ids in
//! it. Pure.

use http::header::{HeaderName, HeaderValue};
use http::{Method, StatusCode};
use url::Url;

use super::address::shown;
use super::position::StreamPosition;

/// The longest session id that is accepted, in bytes. Some are signed tokens.
const MAX_SESSION_ID: usize = 4096;
/// Most redirects that one request follows.
pub(super) const MAX_REDIRECTS: usize = 5;
/// The codes of JSON-RPC errors that mean an unknown session: implementations have no common code for it.
const UNKNOWN_SESSION_CODES: [i64; 2] = [-32001, -32000];

/// What kind of reply a response is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ReplyKind {
    /// A JSON body: the answer, or a batch.
    Json,
    /// Server-sent events.
    Events,
    /// Accepted, without a body.
    Accepted,
    /// A success with a body that is neither, and its media type.
    Foreign(String),
    /// 404: no such session if the request named one, else no such page.
    NotFound,
    /// 405: the server does not have this method.
    NotAllowed,
    /// Any other status.
    Refused,
}

/// Returns what a response is by its status and its `Content-Type` (2025-11-25, basic/transports, "Sending Messages to
/// the Server").
pub(super) fn reply_kind(status: StatusCode, content_type: Option<&[u8]>) -> ReplyKind {
    match status {
        StatusCode::ACCEPTED | StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT => ReplyKind::Accepted,
        StatusCode::NOT_FOUND => ReplyKind::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => ReplyKind::NotAllowed,
        status if status.is_success() => {
            let text = String::from_utf8_lossy(content_type.unwrap_or_default());
            let media = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            match media.as_str() {
                "application/json" => ReplyKind::Json,
                "text/event-stream" => ReplyKind::Events,
                _ => ReplyKind::Foreign(media.chars().filter(|character| !character.is_control()).take(80).collect()),
            }
        }
        _ => ReplyKind::Refused,
    }
}

/// Whether a refused `initialize` may mean that the server speaks HTTP+SSE (2025-11-25, basic/transports, "Backwards
/// Compatibility"). A server that explains a 400 in JSON-RPC has understood the message, so it speaks streamable HTTP.
pub(super) fn may_be_sse(status: StatusCode, json_rpc_error: bool) -> bool {
    match status {
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => true,
        StatusCode::BAD_REQUEST => !json_rpc_error,
        _ => false,
    }
}

/// Whether a request follows a redirect, and where to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RedirectDecision {
    /// The response is no redirect.
    None,
    /// The request is sent to this URL.
    Follow(Url),
    /// The redirect is not followed, and why.
    Refuse(String),
}

/// Redirects are followed within the origin only: another origin must not get the credentials and messages that were
/// meant for this one. A redirect that would make a GET of a POST is not followed either, because the message would be
/// lost.
pub(super) fn redirect(
    method: &Method,
    status: StatusCode,
    from: &Url,
    location: Option<&[u8]>,
    hops: usize,
) -> RedirectDecision {
    let keeps = match status.as_u16() {
        307 | 308 => true,
        301..=303 => method == Method::GET,
        _ => return RedirectDecision::None,
    };
    let location = location.and_then(|location| std::str::from_utf8(location).ok());
    let Some(to) = location.and_then(|location| from.join(location).ok()) else {
        return RedirectDecision::Refuse("it redirects, and names no URL that can be read".to_owned());
    };
    if to.origin() != from.origin() || !to.origin().is_tuple() {
        return RedirectDecision::Refuse(format!(
            "it redirects to another origin, which is not followed: if {} is right, configure that URL",
            shown(&to)
        ));
    }
    if !keeps {
        return RedirectDecision::Refuse(format!(
            "it redirects to {} in a way that loses the message: configure that URL",
            shown(&to)
        ));
    }
    if hops >= MAX_REDIRECTS {
        return RedirectDecision::Refuse(format!("more than {MAX_REDIRECTS} redirects"));
    }
    let mut to = to;
    // The credentials of the configured URL are sent as a header already.
    let _ = to.set_username("");
    let _ = to.set_password(None);
    RedirectDecision::Follow(to)
}

/// Returns the URL that takes messages, by the `endpoint` event (2024-11-05, basic/transports, "HTTP with SSE"). It has
/// to be within the origin of the URL that the event came from, or a server could make sessile send messages to any
/// address.
pub(super) fn endpoint(from: &Url, said: &[u8]) -> Result<Url, String> {
    let said = std::str::from_utf8(said).unwrap_or_default().trim();
    if said.is_empty() {
        return Err("its `endpoint` event names no URL".to_owned());
    }
    let Ok(mut url) = from.join(said) else { return Err("its `endpoint` event holds no URL".to_owned()) };
    if url.origin() != from.origin() || !url.origin().is_tuple() {
        return Err(format!(
            "its `endpoint` event names {}, which is of another origin than {}: messages are sent to the same origin only",
            shown(&url),
            shown(from)
        ));
    }
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    Ok(url)
}

/// Checks the session id that came with the response to `initialize` (2025-11-25, basic/transports, "Session
/// Management").
pub(super) fn session_id(value: &HeaderValue) -> Result<HeaderValue, String> {
    let bytes = value.as_bytes();
    if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_graphic) {
        return Err("its Mcp-Session-Id has other characters than visible ASCII".to_owned());
    }
    if bytes.len() > MAX_SESSION_ID {
        return Err(format!("its Mcp-Session-Id has more than {MAX_SESSION_ID} bytes"));
    }
    let mut value = value.clone();
    value.set_sensitive(true);
    Ok(value)
}

/// Returns the protocol version that a server chose as a header, if it can be one.
pub(super) fn version(text: &str) -> Option<HeaderValue> {
    let fits = !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { HeaderValue::from_str(text).ok() } else { None }
}

/// Returns the `Last-Event-ID` with which a stream is resumed, if its position has one.
pub(super) fn last_event_id(position: &StreamPosition) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(position.id.clone().unwrap_or_default()).ok().filter(|id| !id.is_empty())
}

/// Whether an error of this code that came with HTTP status 404 and the id of the request is the response to the
/// request. If not, the status says that the session is unknown (2025-11-25, basic/transports, "Session Management").
pub(super) fn is_response_with_404(code: i64) -> bool {
    !UNKNOWN_SESSION_CODES.contains(&code)
}

/// Whether a refusal with this status is likely to pass: the server is busy, or restarts behind its gateway.
pub(super) fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

/// Whether 403 means that other credentials would do (RFC 6750, section 3.1).
pub(super) fn wants_more_scope(challenges: &[String]) -> bool {
    challenges.iter().any(|challenge| challenge.contains("insufficient_scope"))
}

/// Checks the name of a header that the operator wants sent, or passed on from clients. `why_not` has the rule.
pub(super) fn header_name(
    name: &str,
    why_not: impl Fn(&HeaderName) -> Option<&'static str>,
) -> Result<HeaderName, &'static str> {
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| "that is no name of a header")?;
    why_not(&name).map_or(Ok(name), Err)
}
