//! Streamable HTTP of the handshake era (2025-03-26 to 2025-11-25, basic/transports, "Streamable HTTP").
//!
//! POST carries the client's messages and, as its response, what belongs to them; GET is the stream for all the rest;
//! DELETE ends the session.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::checks::{self, Answer, LAST_EVENT_ID, Rejection, SESSION_ID};
use super::events::{self, EventBody};
use super::responses::{
    Asked, Early, Handled, dropped, fault_response, gone, refusal, reject, sse_response, status_response,
    whole_response,
};
use super::{Front, Posted, Visitor, cut, is_initialize};
use crate::error::Fault;
use crate::frame::{Frame, Id, Incoming, Kind};
use crate::session::{
    EndReason, FoundBy, Outgoing, Refused, RespondOn, Role, SessionHandle, Stream, StreamKind, Transport,
};

/// How long a response waits for its first message. An answer within this time comes in the form that suits it best; a
/// call that takes longer gets its stream, and the means to resume it.
const HOLD: Duration = Duration::from_secs(1);
/// So much is held back until a server has answered `initialize`, in messages and in bytes: one that says more before it
/// answers has to be heard, or it would wait for that for ever.
const MOST_BEFORE: usize = 256;
const MOST_BYTES_BEFORE: usize = 1024 * 1024;
/// An answer of more bytes is sent as JSON where the client takes it: the Python SDK, for one, takes no event of more than
/// a mebibyte.
const LARGE: usize = 512 * 1024;

impl Front {
    pub(super) async fn post(&self, parts: &Parts, body: &mut Body, visitor: Visitor) -> Handled {
        let headers = &parts.headers;
        checks::check_body_headers(headers).map_err(|rejection| reject(&rejection, None))?;
        let answer = checks::check_accept(headers).map_err(|rejection| reject(&rejection, None))?;
        checks::check_version(headers).map_err(|rejection| reject(&rejection, None))?;
        // A session that is gone is said so before a large body is read for nothing.
        match self.session(headers, &visitor)? {
            Some(session) => {
                let posted = self.take(parts, body, visitor, Some(&session)).await?;
                self.relay(session, posted, answer, cut(parts)).await
            }
            None => self.open(parts, body, visitor, answer).await,
        }
    }

    /// The session that the client names; an error if it is gone, or another's; nothing if it names none.
    fn session(&self, headers: &HeaderMap, visitor: &Visitor) -> Result<Option<SessionHandle>, Early> {
        let Some(token) = headers.get(SESSION_ID) else { return Ok(None) };
        let find = |token: &str| self.opener.registry().find(token, visitor.caller(Transport::Streamable));
        let session = token.to_str().ok().and_then(find);
        session.map(Some).ok_or_else(|| gone(None).into())
    }

    fn named_session(&self, headers: &HeaderMap, visitor: &Visitor) -> Result<SessionHandle, Early> {
        self.session(headers, visitor)?.ok_or_else(|| {
            let message =
                "the Mcp-Session-Id header is missing: send the one that came with the answer to `initialize`";
            reject(&Rejection::new(StatusCode::BAD_REQUEST, message), None).into()
        })
    }

    /// A message without a session: `initialize` opens one.
    async fn open(&self, parts: &Parts, body: &mut Body, visitor: Visitor, answer: Answer) -> Handled {
        let (caller, may_see_stderr) = (visitor.caller(Transport::Streamable), self.may_see_stderr(&visitor));
        let posted = self.take(parts, body, visitor, None).await?;
        let initialize = match &posted.incoming {
            Incoming::One(frame) if is_initialize(frame) => frame,
            Incoming::One(frame) => return Err(not_initialized(frame.id().as_ref()).into()),
            Incoming::Batch(_) => return Err(not_initialized(None).into()),
        };
        let id = initialize.id();
        let version = initialize.lookup(&["params", "protocolVersion"]).ok().flatten();
        let prime = version
            .and_then(|raw| serde_json::from_slice::<String>(raw).ok())
            .is_some_and(|version| checks::can_be_primed(&version));
        let fresh = self.opener.open(FoundBy::NewToken(caller), may_see_stderr, None).await;
        let fresh = fresh.map_err(|refused| refusal(refused, id.as_ref()))?;
        let Some(session) = fresh.session().cloned() else { return Err(refusal(Refused::Failed, id.as_ref()).into()) };
        let stream = send(&session, posted, answer, cut(parts)).await;
        // From here on the stream answers for the session: if it is dropped before the handshake, both end.
        let token = fresh.take().and_then(|(_, token)| token).unwrap_or_default();
        let (stream, mut said) = handshake(stream).await;
        match said.last() {
            None => return Err(refusal(Refused::Failed, id.as_ref()).into()),
            Some(last) if matches!(last.role, Role::Refusal | Role::Challenge) => {
                session.end(EndReason::Refused);
                let refusal = said.pop().map(whole_response);
                return refusal.ok_or_else(|| gone(id.as_ref()).into());
            }
            Some(_) => {}
        }
        let mut response = begin(stream, said, answer, prime, self.keep_alive);
        if let Ok(token) = HeaderValue::from_str(&token) {
            response.headers_mut().insert(SESSION_ID, token);
        }
        Ok(response)
    }

    async fn relay(&self, session: SessionHandle, posted: Posted, answer: Answer, cut: CancellationToken) -> Handled {
        let Some(asked) = asked(&posted.incoming) else {
            let id = match &posted.incoming {
                Incoming::One(frame) => frame.id(),
                Incoming::Batch(_) => None,
            };
            return match send_silent(&session, posted).await {
                Some(()) => Ok(status_response(StatusCode::ACCEPTED)),
                None => Err(gone(id.as_ref()).into()),
            };
        };
        let stream = send(&session, posted, answer, cut).await;
        let prime = is_primed(&session);
        Ok(self.await_answer(stream, answer, prime, &asked).await)
    }

    /// Waits a little for the first message, because it says which form of response is best, and responds.
    async fn await_answer(&self, mut stream: Stream, answer: Answer, prime: bool, asked: &Asked) -> Response {
        let first = match answer {
            Answer::Json => stream.next().await,
            Answer::Sse { .. } => match timeout(HOLD, stream.next()).await {
                Ok(first) => first,
                Err(_) => return sse_response(EventBody::new(stream, prime, Vec::new(), self.keep_alive)),
            },
        };
        if let Some(first) = first {
            return begin(stream, vec![first], answer, prime, self.keep_alive);
        }
        if let Some(unread) = stream.given_up() {
            return match answer {
                // What was meant for it is kept for a while, and the client can come back for it.
                Answer::Sse { .. } if prime => sse_response(EventBody::new(stream, true, Vec::new(), self.keep_alive)),
                Answer::Sse { or_json } => dropped(asked, unread, or_json),
                Answer::Json => dropped(asked, unread, true),
            };
        }
        if stream.session().is_over() {
            return gone(None);
        }
        // Its calls were cancelled: there is nothing to be said, and nothing more to come.
        match answer {
            Answer::Json => status_response(StatusCode::NO_CONTENT),
            Answer::Sse { .. } => sse_response(EventBody::new(stream, false, Vec::new(), self.keep_alive)),
        }
    }

    pub(super) async fn get(&self, parts: &Parts, visitor: &Visitor) -> Handled {
        let headers = &parts.headers;
        checks::check_accepts_sse(headers).map_err(|rejection| reject(&rejection, None))?;
        checks::check_version(headers).map_err(|rejection| reject(&rejection, None))?;
        let session = self.named_session(headers, visitor)?;
        let Some(last) = headers.get(LAST_EVENT_ID) else {
            let prime = is_primed(&session);
            let stream = session.open_stream(StreamKind::Get, cut(parts));
            return Ok(sse_response(EventBody::new(stream, prime, Vec::new(), self.keep_alive)));
        };
        let event = last.to_str().ok().and_then(events::parse_event_id);
        let resumed = event.and_then(|(stream, event)| session.resume_stream(stream, event, cut(parts)));
        let mut stream = resumed.ok_or_else(|| {
            let message = "this Last-Event-ID is not one of this session: open the stream without it";
            reject(&Rejection::new(StatusCode::BAD_REQUEST, message), None)
        })?;
        // The session says whether the stream goes on. One that is over and was read to its end has nothing to be resumed;
        // an empty response would make the TypeScript SDK come back again and again.
        match stream.next().await {
            Some(_) => Ok(sse_response(EventBody::new(stream, false, Vec::new(), self.keep_alive))),
            None if session.is_over() => Err(gone(None).into()),
            None => {
                let message = "this stream has ended, and all of it was sent: there is nothing to resume";
                Err(reject(&Rejection::new(StatusCode::METHOD_NOT_ALLOWED, message), None).into())
            }
        }
    }

    pub(super) async fn delete(&self, headers: &HeaderMap, visitor: &Visitor) -> Handled {
        let session = self.named_session(headers, visitor)?;
        session.end(EndReason::Deleted);
        // The session is not to be found any more when its client hears of it.
        session.ended().await;
        Ok(status_response(StatusCode::NO_CONTENT))
    }
}

/// What the server says up to its answer to `initialize`. Nothing is promised to the client before that: if the server
/// refuses, there is no session to be named.
async fn handshake(mut stream: Stream) -> (Stream, Vec<Outgoing>) {
    let mut said = Vec::new();
    let mut bytes = 0;
    while let Some(message) = stream.next().await {
        bytes += message.wire.len();
        let is_last = message.role != Role::Message || said.len() >= MOST_BEFORE || bytes >= MOST_BYTES_BEFORE;
        said.push(message);
        if is_last {
            break;
        }
    }
    (stream, said)
}

/// What wants an answer; `None` if nothing does. What cannot be read is answered with an error.
fn asked(incoming: &Incoming) -> Option<Asked> {
    let is_request = |frame: &Frame| frame.kind() == Kind::Request;
    match incoming {
        Incoming::One(frame) => is_request(frame).then(|| Asked::One(frame.id())),
        Incoming::Batch(frames) => {
            let any = frames.iter().any(|frame| frame.as_ref().map_or(true, is_request));
            let requests = || frames.iter().filter_map(|frame| frame.as_ref().ok()).filter(|frame| is_request(frame));
            any.then(|| Asked::Batch(requests().filter_map(Frame::id).collect()))
        }
    }
}

fn is_primed(session: &SessionHandle) -> bool {
    session.shared().version.get().is_some_and(|version| checks::can_be_primed(version))
}

/// Hands messages that want an answer to the session, with a stream for it.
async fn send(session: &SessionHandle, posted: Posted, answer: Answer, cut: CancellationToken) -> Stream {
    let received = posted.let_in(session).await;
    let kind = match answer {
        Answer::Sse { .. } => StreamKind::Post,
        Answer::Json => StreamKind::Single,
    };
    let stream = session.open_stream(kind, cut);
    session.hear(RespondOn::Stream(stream.id), received);
    stream
}

async fn send_silent(session: &SessionHandle, posted: Posted) -> Option<()> {
    let received = posted.let_in(session).await;
    session.hear(RespondOn::NoStream, received);
    (!session.is_over()).then_some(())
}

/// The response to what was said up to now; the rest follows, if this was not all.
fn begin(stream: Stream, mut said: Vec<Outgoing>, answer: Answer, prime: bool, keep_alive: Duration) -> Response {
    let Some(last) = said.last_mut() else { return gone(None) };
    let is_answer = last.role != Role::Message;
    let failed = matches!(last.role, Role::Failure | Role::Challenge);
    let is_large = last.wire.len() > LARGE;
    if failed {
        // The TypeScript SDK does not count an error as an answer: it would come back for more to a stream that it could
        // resume.
        last.event = None;
    }
    let as_json = match answer {
        Answer::Json => true,
        // It is the status that tells the client to get other credentials.
        Answer::Sse { .. } if last.role == Role::Challenge => said.len() == 1,
        // Nothing else will come on this stream, and some clients bound the size of an event.
        Answer::Sse { or_json } => or_json && is_answer && is_large && said.len() == 1,
    };
    match said.pop() {
        Some(last) if as_json => whole_response(last),
        last => {
            said.extend(last);
            sse_response(EventBody::new(stream, prime && !failed, said, keep_alive))
        }
    }
}

fn not_initialized(id: Option<&Id>) -> Response {
    let message =
        "no session: send `initialize` as a single request first, then the Mcp-Session-Id that comes with its answer";
    let fault = Fault::InvalidRequest(message.to_owned());
    fault_response(StatusCode::BAD_REQUEST, &fault, id)
}
