//! The HTTP+SSE transport of 2024-11-05 (basic/transports, "HTTP with SSE"), for clients that speak nothing newer.
//!
//! The response to a GET is the stream of all messages to the client. Its first event names the URI that the client
//! posts its messages to. A secret in that URI finds the stream, and later the session. This transport has no other
//! place for the secret, so URIs are never logged.
//!
//! The session is opened when `initialize` is posted; until then [`waiting`](super::waiting) holds the stream. From
//! then on stream and session belong together: when one ends, so does the other.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::OriginalUri;
use http::header::SET_COOKIE;
use http::request::Parts;
use http::{HeaderMap, StatusCode};

use super::checks::{self, Rejection};
use super::responses::{
    HandlerResult, error_of_refusal, error_response, event_stream, rejection_response, session_not_found,
    session_refused, status_response,
};
use super::waiting::WaitingClient;
use super::{Front, RequestContext, connection_cut, is_initialize};
use crate::error::ProxyError;
use crate::frame::{Frame, Incoming, Kind};
use crate::mcp;
use crate::session::{
    Caller, ClientTransport, FoundBy, Refused, RespondOn, SessionHandle, SessionRequest, SessionSecret, new_token,
};

/// The path of the stream.
pub(super) const SSE_PATH: &str = "/sse";
/// The path that messages are posted to.
pub(super) const MESSAGES_PATH: &str = "/messages";
/// The query parameter that has the stream's secret.
const SESSION_PARAMETER: &str = "session_id";
/// The header in which a reverse proxy names the part of the path that it has removed.
const PREFIX_HEADER: &str = "x-forwarded-prefix";

/// The client that has posted a message.
enum MessageSender {
    /// A client whose stream is open, and whose session is not.
    Waiting(Arc<WaitingClient>),
    /// A client of this session, which ends with the stream.
    Connected(SessionHandle),
}

impl Front {
    /// Opens a stream. Its session is opened later, by `initialize`.
    pub(super) fn open_sse_stream(&self, parts: &Parts, context: &RequestContext) -> HandlerResult {
        checks::check_accepts_sse(&parts.headers).map_err(|rejection| rejection_response(&rejection, None))?;
        checks::check_version(&parts.headers).map_err(|rejection| rejection_response(&rejection, None))?;
        // If no session could be opened now, say so with an HTTP status: once the stream has begun, there is no other
        // one. A client that may join a session needs none to be opened.
        if !self.keys.joins() {
            self.supervisor.check_vacancy().map_err(|refused| session_refused(refused, None))?;
        }
        let token = new_token().map_err(|refused| session_refused(refused, None))?;
        let secret = SessionSecret::of(&token, ClientTransport::Sse, &context.sender.caller);
        context.sender.is_client(&token, ClientTransport::Sse);
        let endpoint = endpoint_uri(&original_path(parts), &stripped_prefix(&parts.headers), &token);
        let stream =
            self.waiting.add(secret, self.may_see_stderr(context), connection_cut(parts), &endpoint, self.keep_alive);
        let stream = stream.ok_or_else(|| session_refused(Refused::ShuttingDown, None))?;
        Ok(event_stream(Body::new(stream)))
    }

    /// Takes a message for a session. The answer goes out on the session's stream.
    pub(super) async fn post_message(&self, parts: &Parts, body: &mut Body, context: RequestContext) -> HandlerResult {
        checks::check_body_headers(&parts.headers).map_err(|rejection| rejection_response(&rejection, None))?;
        checks::check_version(&parts.headers).map_err(|rejection| rejection_response(&rejection, None))?;
        let token = token_in(parts.uri.query()).map_err(|rejection| rejection_response(&rejection, None))?;
        let RequestContext { sender, headers, arrival, .. } = context;
        let caller = &sender.caller;
        // Look the session up first: a large body would be read for nothing if the session is gone.
        let session = match self.sender(token, caller).ok_or_else(|| session_not_found(None))? {
            MessageSender::Waiting(_) => None,
            MessageSender::Connected(session) => Some(session),
        };
        sender.is_client(token, ClientTransport::Sse);
        let posted = self.read_posted(parts, body, headers, session.as_ref()).await?;
        let id = match &posted.incoming {
            Incoming::One(frame) => frame.id(),
            Incoming::Batch(_) => None,
        };
        // Look it up again: while the body came in, the stream may have ended or the session have been opened.
        let mut cookie = None;
        let session = match self.sender(token, caller).ok_or_else(|| session_not_found(id.as_ref()))? {
            MessageSender::Connected(session) => session,
            MessageSender::Waiting(client) => match first_message(&posted.incoming) {
                FirstMessage::Initialize => {
                    let joining = self.joining(&parts.headers, caller, arrival)?;
                    let expose_stderr = self.exposes_stderr(client.may_see_stderr(), &joining, arrival);
                    let found_by = FoundBy::Secret(SessionSecret::of(token, ClientTransport::Sse, caller));
                    let (caller, join_by) = (caller.clone(), joining.by.clone());
                    let request = SessionRequest { caller, found_by, join_by, expose_stderr, upward: None };
                    let open = async {
                        let place = self.supervisor.open_or_join(request).await?;
                        cookie = joining.cookie_for(&place);
                        Ok(place)
                    };
                    match client.session(&self.waiting, open).await {
                        Ok(session) => session,
                        Err(refused) => {
                            return answer_without_session(&client, &posted.incoming, &error_of_refusal(refused));
                        }
                    }
                }
                FirstMessage::Other(error) => return answer_without_session(&client, &posted.incoming, &error),
            },
        };
        let received = posted.let_in(&session).await;
        session.receive(RespondOn::OwnStream, received);
        if session.is_over() {
            return Err(session_not_found(id.as_ref()).into());
        }
        let mut response = status_response(StatusCode::ACCEPTED);
        if let Some(cookie) = cookie {
            response.headers_mut().insert(SET_COOKIE, cookie);
        }
        Ok(response)
    }

    fn sender(&self, token: &str, caller: &Caller) -> Option<MessageSender> {
        // Waiting clients first: a client is removed from them only after its session can be found.
        if let Some(client) = self.waiting.find(SessionSecret::of(token, ClientTransport::Sse, caller)) {
            return Some(MessageSender::Waiting(client));
        }
        // A session that has no stream yet cannot answer. Its client is told that there is none.
        let found = self.supervisor.registry().find(token, ClientTransport::Sse, caller);
        found.filter(SessionHandle::has_had_connection).map(MessageSender::Connected)
    }
}

/// The first message of a client without a session.
enum FirstMessage {
    Initialize,
    /// Any other message, which is answered with this error. No server is started for it.
    Other(ProxyError),
}

/// Only `initialize` opens a session. Some clients ask only to find out which era this is. And a client whose stream
/// was lost and that opens another one by itself, as `EventSource` does, would go on with a new server without knowing
/// that all state is gone.
fn first_message(incoming: &Incoming) -> FirstMessage {
    match incoming {
        Incoming::One(frame) if is_initialize(frame) => FirstMessage::Initialize,
        Incoming::One(frame) if frame.method() == Some(mcp::SERVER_DISCOVER) => {
            FirstMessage::Other(ProxyError::MethodNotFound(mcp::SERVER_DISCOVER.to_owned()))
        }
        Incoming::One(_) | Incoming::Batch(_) => {
            let message = "this session is not open yet: send `initialize` as a single request first; if there was a \
                           session before it, that one ended with its stream, and its state is lost";
            FirstMessage::Other(ProxyError::InvalidRequest(message.to_owned()))
        }
    }
}

/// Answers a message that was posted before there is a session. A request is answered on the stream, where its client
/// waits for the answer: the Python SDK, for example, only logs an error of the POST, and its request waits until it
/// times out.
fn answer_without_session(client: &WaitingClient, incoming: &Incoming, error: &ProxyError) -> HandlerResult {
    let request = match incoming {
        Incoming::One(frame) => Some(frame).filter(|frame| frame.kind() == Kind::Request),
        Incoming::Batch(_) => None,
    };
    let Some(id) = request.map(Frame::id) else {
        return Err(error_response(StatusCode::BAD_REQUEST, error, None).into());
    };
    if client.send_error(error.to_wire(id.as_ref())) {
        return Ok(status_response(StatusCode::ACCEPTED));
    }
    Err(session_not_found(id.as_ref()).into())
}

/// The secret in the query of a POST.
fn token_in(query: Option<&str>) -> Result<&str, Rejection> {
    let parameters = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let mut found = parameters.filter(|(name, _)| *name == SESSION_PARAMETER).map(|(_, value)| value);
    match (found.next(), found.next()) {
        (Some(token), None) => Ok(token),
        (None, _) => {
            let message = "session_id is missing: post to the URI that the `endpoint` event of the stream has named";
            Err(Rejection::new(StatusCode::BAD_REQUEST, message))
        }
        (Some(_), Some(_)) => {
            Err(Rejection::new(StatusCode::BAD_REQUEST, "session_id stands more than once: send one"))
        }
    }
}

/// The path as the client sent it: a larger router, which this one is a part of, may have removed the front of it.
fn original_path(parts: &Parts) -> String {
    let original = parts.extensions.get::<OriginalUri>();
    original.map_or(parts.uri.path(), |original| original.0.path()).to_owned()
}

/// The part of the path that a reverse proxy has removed, if it says so.
fn stripped_prefix(headers: &HeaderMap) -> String {
    let said = headers.get(PREFIX_HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // The header becomes a part of a URI, so only characters that mean nothing else there are accepted.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    if said.bytes().all(is_plain) { said.to_owned() } else { String::new() }
}

/// The URI that messages are posted to: an absolute path, which every client resolves to the origin that it is
/// connected to. Some clients compare origins, and others append the path to the host as it is.
fn endpoint_uri(path: &str, prefix: &str, token: &str) -> String {
    let mounted = path.strip_suffix(SSE_PATH).unwrap_or_default();
    let parts = [prefix, mounted].map(|part| part.trim_matches('/')).into_iter().filter(|part| !part.is_empty());
    // Two slashes at the start would turn the next part into a host.
    let base: String = parts.flat_map(|part| ["/", part]).collect();
    format!("{base}{MESSAGES_PATH}?{SESSION_PARAMETER}={token}")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn endpoints_stay_on_the_origin() {
        for (path, prefix, expected) in [
            ("/sse", "", "/messages?session_id=T"),
            ("/tools/a/sse", "", "/tools/a/messages?session_id=T"),
            ("/sse", "/gateway", "/gateway/messages?session_id=T"),
            ("/sse", "gateway/", "/gateway/messages?session_id=T"),
            ("/a/sse", "/b", "/b/a/messages?session_id=T"),
            ("//evil.com/sse", "", "/evil.com/messages?session_id=T"),
            ("/sse", "//evil.com", "/evil.com/messages?session_id=T"),
            ("/elsewhere", "/", "/messages?session_id=T"),
        ] {
            assert_eq!(endpoint_uri(path, prefix, "T"), expected);
            let base = url::Url::parse("https://host.example/some/where/sse").unwrap();
            assert_eq!(base.join(&endpoint_uri(path, prefix, "T")).unwrap().origin(), base.origin(), "{path} {prefix}");
        }
    }

    #[test]
    fn a_prefix_is_a_path_and_nothing_else() {
        let of = |said: &str| {
            stripped_prefix(&HeaderMap::from_iter([(PREFIX_HEADER.parse().unwrap(), said.parse().unwrap())]))
        };
        assert_eq!(of("/a/b-c"), "/a/b-c");
        for bad in ["https://evil.com", "/a?b", "/a#b", "\\\\evil.com", "/a b", "/a,/b", "/%0d%0a"] {
            assert_eq!(of(bad), "", "{bad}");
        }
        assert_eq!(
            stripped_prefix(&HeaderMap::from_iter([(
                PREFIX_HEADER.parse().unwrap(),
                HeaderValue::from_bytes(b"/\xff").unwrap()
            )])),
            ""
        );
    }

    #[test]
    fn tokens_are_read() {
        assert_eq!(token_in(Some("session_id=abc")).unwrap(), "abc");
        assert_eq!(token_in(Some("a=b&session_id=abc&c")).unwrap(), "abc");
        assert_eq!(token_in(Some("session_id=")).unwrap(), "");
        for bad in [None, Some(""), Some("sessionId=abc"), Some("session_id"), Some("session_id=a&session_id=a")] {
            assert_eq!(token_in(bad).unwrap_err().status, 400, "{bad:?}");
        }
    }
}
