//! The HTTP+SSE transport of 2024-11-05 (basic/transports, "HTTP with SSE"), for clients that speak nothing newer.
//!
//! A GET opens the session, and its response is the stream of all that the client is sent; the stream's end is the
//! session's. It begins by naming the URI that messages are posted to. The secret part of that URI is what finds the
//! session: it stands in a URI because this transport has no other place for it, so no URI is ever logged.

use axum::body::Body;
use axum::extract::OriginalUri;
use http::request::Parts;
use http::{HeaderMap, StatusCode};

use super::checks::{self, Rejection};
use super::events::EventBody;
use super::responses::{Early, Handled, fault_response, gone, refusal, reject, sse_response, status_response};
use super::{Front, Posted, Visitor, is_initialize};
use crate::error::Fault;
use crate::frame::{Incoming, Kind};
use crate::session::{Refused, SessionHandle, StreamId, StreamKind, Transport};

/// Where the stream is.
pub(super) const PATH: &str = "/sse";
/// Where messages go.
pub(super) const MESSAGES: &str = "/messages";
/// What names the session there.
const PARAMETER: &str = "session_id";
/// Where a reverse proxy says what it has taken off in front of the path.
const PREFIX: &str = "x-forwarded-prefix";

impl Front {
    /// Opens a session. No server is started before the first message for it.
    pub(super) async fn open_events(&self, parts: &Parts, visitor: &Visitor) -> Handled {
        checks::check_accepts_sse(&parts.headers).map_err(|rejection| reject(&rejection, None))?;
        checks::check_version(&parts.headers).map_err(|rejection| reject(&rejection, None))?;
        let caller = visitor.caller(Transport::Sse);
        let fresh = self.opener.open(Some(caller), self.may_see_stderr(visitor)).await;
        let fresh = fresh.map_err(|refused| refusal(refused, None))?;
        let Some(session) = fresh.session() else { return Err(refusal(Refused::Failed, None).into()) };
        let stream = session.open_stream(StreamKind::Sse);
        // From here on the stream is the session: both end together.
        let token = fresh.take().and_then(|(_, token)| token).unwrap_or_default();
        let endpoint = endpoint(&original_path(parts), &prefix(&parts.headers), &token);
        Ok(sse_response(EventBody::opening(stream, &endpoint, self.keep_alive)))
    }

    /// Takes a message for a session. What answers it goes out on the session's stream.
    pub(super) async fn message(&self, parts: &Parts, body: &mut Body, visitor: Visitor) -> Handled {
        checks::check_body_headers(&parts.headers).map_err(|rejection| reject(&rejection, None))?;
        checks::check_version(&parts.headers).map_err(|rejection| reject(&rejection, None))?;
        let token = token(parts.uri.query()).map_err(|rejection| reject(&rejection, None))?;
        // A session that is gone is said so before a large body is read for nothing.
        let (session, stream) = self.events_session(token, &visitor).ok_or_else(|| gone(None))?;
        let posted = self.take(parts, body, visitor, Some(&session)).await?;
        if !session.was_greeted() && !greets(&session, &posted)? {
            return Ok(status_response(StatusCode::ACCEPTED));
        }
        let id = match &posted.incoming {
            Incoming::One(frame) => frame.id(),
            Incoming::Batch(_) => None,
        };
        let incoming = posted.admitted(&session).await.ok_or_else(|| gone(id.as_ref()))?;
        session.hear(Some(stream), Ok(incoming));
        if session.is_over() {
            return Err(gone(id.as_ref()).into());
        }
        Ok(status_response(StatusCode::ACCEPTED))
    }

    fn events_session(&self, token: &str, visitor: &Visitor) -> Option<(SessionHandle, StreamId)> {
        let session = self.opener.registry().find(token, visitor.caller(Transport::Sse))?;
        let stream = session.own_stream()?;
        Some((session, stream))
    }
}

/// Whether this opens a session that is not open yet. Any other request is answered here, and no server is started for it:
/// a client may ask only to find out which era it speaks to. And one whose stream was lost, and that comes back by itself
/// with another one as `EventSource` does, would go on with a new server and not know that all state is gone.
fn greets(session: &SessionHandle, posted: &Posted) -> Result<bool, Early> {
    let fault = match &posted.incoming {
        Incoming::One(frame) if is_initialize(frame) => {
            session.greet();
            return Ok(true);
        }
        Incoming::One(frame) if frame.method() == Some("server/discover") => {
            Fault::MethodNotFound("server/discover".to_owned())
        }
        Incoming::One(_) | Incoming::Batch(_) => {
            let message = "this session is not open yet: send `initialize` as a single request first; if there was a \
                           session before it, that one ended with its stream, and its state is lost";
            Fault::InvalidRequest(message.to_owned())
        }
    };
    match &posted.incoming {
        // On the stream, where answers are awaited: some clients never speak again after an error of the POST itself.
        Incoming::One(frame) if frame.kind() == Kind::Request => {
            let id = frame.id();
            let said = session.say(fault.to_wire(id.as_ref()));
            if said { Ok(false) } else { Err(gone(id.as_ref()).into()) }
        }
        Incoming::One(_) | Incoming::Batch(_) => Err(fault_response(StatusCode::BAD_REQUEST, &fault, None).into()),
    }
}

/// The secret in the query of the message endpoint.
fn token(query: Option<&str>) -> Result<&str, Rejection> {
    let parameters = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let mut found = parameters.filter(|(name, _)| *name == PARAMETER).map(|(_, value)| value);
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

/// The path as the client wrote it, where this router is a part of a larger one.
fn original_path(parts: &Parts) -> String {
    let original = parts.extensions.get::<OriginalUri>();
    original.map_or(parts.uri.path(), |original| original.0.path()).to_owned()
}

/// The part of the path that a reverse proxy has taken off, if it says so.
fn prefix(headers: &HeaderMap) -> String {
    let said = headers.get(PREFIX).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // Only what stands for itself in a path: it is put into a URI.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    if said.bytes().all(is_plain) { said.to_owned() } else { String::new() }
}

/// The URI that messages are posted to: an absolute path, which every client resolves to the origin that it has connected
/// to (some compare origins, and others put the path behind the host as it is).
fn endpoint(path: &str, prefix: &str, token: &str) -> String {
    let mounted = path.strip_suffix(PATH).unwrap_or_default();
    let parts = [prefix, mounted].map(|part| part.trim_matches('/')).into_iter().filter(|part| !part.is_empty());
    // Two slashes in front would make a host of what follows.
    let base: String = parts.flat_map(|part| ["/", part]).collect();
    format!("{base}{MESSAGES}?{PARAMETER}={token}")
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
            assert_eq!(endpoint(path, prefix, "T"), expected);
            let base = url::Url::parse("https://host.example/some/where/sse").unwrap();
            assert_eq!(base.join(&endpoint(path, prefix, "T")).unwrap().origin(), base.origin(), "{path} {prefix}");
        }
    }

    #[test]
    fn a_prefix_is_a_path_and_nothing_else() {
        let of = |said: &str| prefix(&HeaderMap::from_iter([(PREFIX.parse().unwrap(), said.parse().unwrap())]));
        assert_eq!(of("/a/b-c"), "/a/b-c");
        for bad in ["https://evil.com", "/a?b", "/a#b", "\\\\evil.com", "/a b", "/a,/b", "/%0d%0a"] {
            assert_eq!(of(bad), "", "{bad}");
        }
        assert_eq!(
            prefix(&HeaderMap::from_iter([(PREFIX.parse().unwrap(), HeaderValue::from_bytes(b"/\xff").unwrap())])),
            ""
        );
    }

    #[test]
    fn tokens_are_read() {
        assert_eq!(token(Some("session_id=abc")).unwrap(), "abc");
        assert_eq!(token(Some("a=b&session_id=abc&c")).unwrap(), "abc");
        assert_eq!(token(Some("session_id=")).unwrap(), "");
        for bad in [None, Some(""), Some("sessionId=abc"), Some("session_id"), Some("session_id=a&session_id=a")] {
            assert_eq!(token(bad).unwrap_err().status, 400, "{bad:?}");
        }
    }
}
