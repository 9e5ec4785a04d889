//! Builds the responses of the HTTP front: errors, whole messages, streams, and servers' refusals of a client's
//! credentials.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL,
    CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;

use super::body;
use super::checks::Rejection;
use super::events::EventBody;
use crate::error::ProxyError;
use crate::frame::{FrameError, Id, Kind, Wire};
use crate::session::{MessageRole, MessageToClient, Refused, RespondOn, SessionHandle};

/// The seconds after which a client may try again for which no session could be opened now.
const RETRY_AFTER_SECONDS: &str = "5";
/// The challenge of a 401 for which the server gave none: RFC 9110 requires one.
const BARE_CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer");

/// The result of a handler. A response that ends the handling early is the error, so that `?` can return it.
pub(super) type HandlerResult = Result<Response, EarlyResponse>;

/// A response that ends the handling of a request early. Boxed, because it is rare and large.
pub(super) struct EarlyResponse(pub Box<Response>);

impl From<Response> for EarlyResponse {
    fn from(response: Response) -> Self {
        Self(Box::new(response))
    }
}

/// The response for a session that has ended, or belongs to another client: the client must not learn which.
pub(super) fn session_not_found(id: Option<&Id>) -> Response {
    error_response(StatusCode::NOT_FOUND, &ProxyError::SessionNotFound, id)
}

/// The response to a body that cannot be read. If the body was a response to a server request, that request has to fail
/// as well; and its id is the server's, so the error for the client has none.
pub(super) async fn unreadable_body(session: Option<&SessionHandle>, error: &FrameError) -> Response {
    let is_answer = error.about == Some(Kind::Response);
    let id = error.id.clone().filter(|_| !is_answer);
    let response = error_response(StatusCode::BAD_REQUEST, &ProxyError::Frame(error.clone()), id.as_ref());
    if let Some(session) = session.filter(|_| is_answer) {
        session.receive(RespondOn::NoStream, session.let_in(Err(error.clone()), 0, None).await);
    }
    response
}

/// The error that tells a client why no session was opened.
pub(super) fn error_of_refusal(refused: Refused) -> ProxyError {
    match refused {
        Refused::Limit(limit) => ProxyError::SessionLimit { limit },
        Refused::ClientLimit(limit) => ProxyError::ClientLimit { limit },
        Refused::Ended => ProxyError::SessionNotFound,
        Refused::ShuttingDown => ProxyError::ShuttingDown,
        Refused::Failed => {
            let reason = "the session could not be made; the log of the proxy says why".to_owned();
            ProxyError::BackendUnavailable { reason, stderr: Vec::new() }
        }
    }
}

/// The response if no session was opened.
pub(super) fn session_refused(refused: Refused, id: Option<&Id>) -> Response {
    let error = error_of_refusal(refused);
    match refused {
        Refused::Failed => return error_response(StatusCode::INTERNAL_SERVER_ERROR, &error, id),
        Refused::Ended => return error_response(StatusCode::NOT_FOUND, &error, id),
        Refused::Limit(_) | Refused::ClientLimit(_) | Refused::ShuttingDown => {}
    }
    let mut response = error_response(StatusCode::SERVICE_UNAVAILABLE, &error, id);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
    response
}

pub(super) fn rejection_response(rejection: &Rejection, id: Option<&Id>) -> Response {
    error_response(rejection.status, &ProxyError::InvalidRequest(rejection.message.clone()), id)
}

/// The response to a method that is not in `allowed`.
pub(super) fn method_not_allowed(allowed: &'static str) -> Response {
    let message = format!("method not allowed: use {allowed}");
    let mut response = rejection_response(&Rejection::new(StatusCode::METHOD_NOT_ALLOWED, message), None);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

pub(super) fn error_response(status: StatusCode, error: &ProxyError, id: Option<&Id>) -> Response {
    json_response(status, error.to_wire(id))
}

pub(super) fn json_response(status: StatusCode, wire: Wire) -> Response {
    json_body(status, Body::from(wire.into_bytes()))
}

fn json_body(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A message of the session as the whole response. If a server has refused the client's own credentials, the response
/// has the HTTP status and the challenge too, because only these make a client get other credentials.
pub(super) fn whole_response(message: MessageToClient) -> Response {
    let MessageToClient { mut wire, held, role, .. } = message;
    let permit = wire.take_permit();
    let challenge =
        (role == MessageRole::CredentialsRefused).then(|| Challenge::read(&wire.clone_parts().into_bytes()));
    let status = challenge.as_ref().map_or(StatusCode::OK, Challenge::status);
    let mut response = json_body(status, Body::new(body::MessageBody::new(wire, Arc::new((permit, held)))));
    if let Some(challenge) = challenge {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge.header());
    }
    response
}

/// The `data` of an error that is a challenge.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Challenge {
    status: Option<u16>,
    www_authenticate: Option<String>,
}

impl Challenge {
    fn read(error: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct ErrorMessage {
            error: ErrorWithData,
        }
        #[derive(Deserialize)]
        struct ErrorWithData {
            data: Challenge,
        }
        serde_json::from_slice(error).map(|ErrorMessage { error }| error.data).unwrap_or_default()
    }

    fn status(&self) -> StatusCode {
        if self.status == Some(403) { StatusCode::FORBIDDEN } else { StatusCode::UNAUTHORIZED }
    }

    fn header(&self) -> HeaderValue {
        let said = self.www_authenticate.as_deref().filter(|text| !text.is_empty());
        said.and_then(|text| HeaderValue::from_str(text).ok()).unwrap_or(BARE_CHALLENGE)
    }
}

/// The response if the answers to these requests came and could not be kept, because the client leaves `unread` bytes
/// unread already. It has the format that the client accepts.
pub(super) fn responses_dropped(awaited: &AwaitedIds, unread: usize, as_json: bool) -> Response {
    let error = ProxyError::ResponseDropped { limit: unread };
    let message = |id: &Id| error.to_wire(Some(id)).into_bytes();
    let text = match awaited {
        AwaitedIds::One(id) => error.to_wire(id.as_ref()).into_bytes(),
        AwaitedIds::Batch(ids) => {
            let errors: Vec<_> = ids.iter().map(message).collect();
            Bytes::from([&b"["[..], &errors.join(&b","[..]), b"]"].concat())
        }
    };
    if as_json {
        return json_response(StatusCode::OK, text.into());
    }
    event_stream(Body::from([b"event: message\ndata: ", &*text, b"\n\n"].concat()))
}

/// The ids of the requests in one body, which have to be answered.
#[derive(Debug, Clone)]
pub(super) enum AwaitedIds {
    One(Option<Id>),
    Batch(Vec<Id>),
}

pub(super) fn sse_response(body: EventBody) -> Response {
    event_stream(Body::new(body))
}

pub(super) fn event_stream(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    // Without this, nginx and similar reverse proxies buffer events.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

pub(super) fn status_response(status: StatusCode) -> Response {
    let mut response = Response::new(Body::from(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// The response to a CORS preflight: a page may send all that the protocol needs, and the headers that are forwarded or
/// looked at.
pub(super) fn preflight<'a>(others: impl IntoIterator<Item = &'a HeaderName>) -> Response {
    let mut response = status_response(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE, OPTIONS"));
    let mut allowed =
        "Content-Type, Accept, Authorization, Mcp-Session-Id, MCP-Protocol-Version, Last-Event-ID".to_owned();
    for name in others {
        allowed.push_str(", ");
        allowed.push_str(name.as_str());
    }
    if let Ok(allowed) = HeaderValue::from_str(&allowed) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(data: &str) -> (u16, String) {
        let error = format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":-31007,"message":"no","data":{data}}}}}"#);
        let challenge = Challenge::read(error.as_bytes());
        (challenge.status().as_u16(), challenge.header().to_str().unwrap().to_owned())
    }

    #[test]
    fn what_a_challenge_becomes() {
        let full = r#"Bearer resource_metadata="https://x/.well-known/y", scope="a b""#;
        let data = serde_json::json!({ "status": 401, "wwwAuthenticate": full, "type": "backend_unauthorized" });
        assert_eq!(challenge(&data.to_string()), (401, full.to_owned()));
        let data = r#"{"status":403,"wwwAuthenticate":"Bearer error=\"insufficient_scope\""}"#;
        assert_eq!(challenge(data), (403, r#"Bearer error="insufficient_scope""#.to_owned()));
        for odd in [
            r#"{"status":401,"wwwAuthenticate":null}"#,
            r#"{"status":401,"wwwAuthenticate":""}"#,
            r#"{"status":401,"wwwAuthenticate":"a\r\nset-cookie: b"}"#,
            r#"{"status":500}"#,
            r#"{"status":"x"}"#,
            "null",
            "[]",
            "{}",
        ] {
            assert_eq!(challenge(odd), (401, "Bearer".to_owned()), "{odd}");
        }
    }

    #[tokio::test]
    async fn a_dropped_answer_is_told_in_the_clients_form() {
        let said = async |awaited: &AwaitedIds, as_json| {
            let response = responses_dropped(awaited, 9, as_json);
            assert_eq!(response.status(), StatusCode::OK);
            let kind = response.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
            let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
            (kind, String::from_utf8(body.to_vec()).unwrap())
        };
        let (kind, text) = said(&AwaitedIds::One(Some(Id::number(7))), true).await;
        let error: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (kind.as_str(), &error["id"], &error["error"]["code"]),
            ("application/json", &7.into(), &(-31018).into())
        );
        let (kind, text) = said(&AwaitedIds::Batch(vec![Id::number(7), Id::number(8)]), false).await;
        let data = text.strip_prefix("event: message\ndata: ").unwrap().strip_suffix("\n\n").unwrap();
        let errors: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!((kind.as_str(), &errors[0]["id"], &errors[1]["id"]), ("text/event-stream", &7.into(), &8.into()));
    }
}
