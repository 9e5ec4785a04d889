//! The streamable HTTP front of the handshake era (2025-03-26 to 2025-11-25, basic/transports, "Streamable HTTP").
//!
//! POST carries the client's messages and, as its response, what belongs to them; GET is the stream for all the rest;
//! DELETE ends the session. This file turns requests into messages to a session and streams into responses; what is let
//! in at all is decided in [`checks`].

mod body;
mod checks;
mod eager;
mod serve;
mod sse;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{any, get};
use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::time::timeout;

use crate::error::Fault;
use crate::frame::{self, Frame, FrameError, Id, Incoming, Kind, Wire};
use crate::session::{EndReason, Opener, Outgoing, Refused, Role, SessionHandle, Stream, StreamKind};
use checks::{Answer, LAST_EVENT_ID, Rejection, SESSION_ID};

pub(crate) use checks::Guests;
pub(crate) use serve::serve;

/// Seconds after which a client that was turned away for want of room may try again.
const TRY_AGAIN: &str = "5";

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

/// The address of a client, where the server that accepted its connection knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub SocketAddr);

/// What the HTTP front has to know.
#[derive(Debug)]
pub(crate) struct Front {
    pub opener: Arc<Opener>,
    pub guests: Guests,
    pub keep_alive: Duration,
    pub message_size: usize,
    /// Whether clients from afar may be told what a server wrote on stderr.
    pub expose_stderr: bool,
}

pub(crate) fn router(front: Front) -> Router {
    Router::new().route("/mcp", any(mcp)).route("/healthz", get(|| async { "ok\n" })).with_state(Arc::new(front))
}

async fn mcp(State(front): State<Arc<Front>>, request: Request) -> Response {
    let (parts, mut body) = request.into_parts();
    let origin = match front.check_guest(&parts) {
        Ok(origin) => origin,
        Err(rejection) => {
            body::discard(&parts.headers, &mut body).await;
            return reject(&rejection, None);
        }
    };
    let mut response = match parts.method {
        Method::POST => match front.post(&parts, &mut body).await {
            Ok(response) => response,
            Err(early) => {
                body::discard(&parts.headers, &mut body).await;
                *early.0
            }
        },
        Method::GET => front.get(&parts.headers).await.unwrap_or_else(|early| *early.0),
        Method::DELETE => front.delete(&parts.headers).await.unwrap_or_else(|early| *early.0),
        Method::OPTIONS if origin.is_some() => preflight(),
        _ => {
            let rejection =
                Rejection::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed: use POST, GET or DELETE");
            let mut response = reject(&rejection, None);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST, GET, DELETE"));
            response
        }
    };
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(VARY, HeaderValue::from_static("Origin"));
        let exposed = HeaderValue::from_static("Mcp-Session-Id, WWW-Authenticate");
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    response
}

/// The result of a handler; an early way out is a response as well.
type Handled = Result<Response, Early>;

/// Boxed, because it is rare and large.
struct Early(Box<Response>);

impl From<Response> for Early {
    fn from(response: Response) -> Self {
        Self(Box::new(response))
    }
}

impl Front {
    /// The origin of a page that may speak to this server, if it is a page that speaks.
    fn check_guest(&self, parts: &http::request::Parts) -> Result<Option<HeaderValue>, Rejection> {
        self.guests.check_host(&parts.headers, &parts.uri)?;
        Ok(self.guests.check_origin(&parts.headers)?.cloned())
    }

    async fn post(&self, parts: &http::request::Parts, body: &mut Body) -> Handled {
        let headers = &parts.headers;
        checks::check_body_headers(headers).map_err(|rejection| reject(&rejection, None))?;
        let answer = checks::check_accept(headers).map_err(|rejection| reject(&rejection, None))?;
        checks::check_version(headers).map_err(|rejection| reject(&rejection, None))?;
        // A session that is gone is said so before a large body is read for nothing.
        let session = self.session(headers)?;
        let bytes = body::read(headers, body, self.message_size).await.map_err(|fault| {
            let status = match fault {
                Fault::MessageTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
                _ => StatusCode::BAD_REQUEST,
            };
            fault_response(status, &fault, None)
        })?;
        let size = bytes.len();
        let incoming = frame::split(bytes).map_err(|error| refuse(session.as_ref(), error))?;
        match session {
            Some(session) => relay(self, session, incoming, size, answer).await,
            None => self.open(parts, incoming, size, answer).await,
        }
    }

    /// The session that the client names; an error if it is gone; nothing if it names none.
    fn session(&self, headers: &HeaderMap) -> Result<Option<SessionHandle>, Early> {
        let Some(token) = headers.get(SESSION_ID) else { return Ok(None) };
        let session = token.to_str().ok().and_then(|token| self.opener.registry().find(token));
        session.map(Some).ok_or_else(|| gone(None).into())
    }

    fn named_session(&self, headers: &HeaderMap) -> Result<SessionHandle, Early> {
        self.session(headers)?.ok_or_else(|| {
            let message =
                "the Mcp-Session-Id header is missing: send the one that came with the answer to `initialize`";
            reject(&Rejection::new(StatusCode::BAD_REQUEST, message), None).into()
        })
    }

    /// A message without a session: `initialize` opens one.
    async fn open(&self, parts: &http::request::Parts, incoming: Incoming, size: usize, answer: Answer) -> Handled {
        let initialize = match incoming {
            Incoming::One(frame) if frame.kind() == Kind::Request && frame.method() == Some("initialize") => frame,
            Incoming::One(frame) => return Err(not_initialized(frame.id().as_ref()).into()),
            Incoming::Batch(_) => return Err(not_initialized(None).into()),
        };
        let id = initialize.id();
        let version = initialize.lookup(&["params", "protocolVersion"]).ok().flatten();
        let prime = version
            .and_then(|raw| serde_json::from_slice::<String>(raw).ok())
            .is_some_and(|version| checks::can_be_primed(&version));
        let near = parts.extensions.get::<Peer>().is_some_and(|peer| peer.0.ip().to_canonical().is_loopback());
        let fresh = self.opener.open(true, near || self.expose_stderr).await;
        let fresh = fresh.map_err(|refused| refusal(refused, id.as_ref()))?;
        let Some(session) = fresh.session().cloned() else { return Err(refusal(Refused::Failed, id.as_ref()).into()) };
        let stream = send(&session, Incoming::One(initialize), size, answer).await;
        let stream = stream.ok_or_else(|| refusal(Refused::Failed, id.as_ref()))?;
        // From here on the stream answers for the session: if it is dropped before the handshake, both end.
        let token = fresh.take().and_then(|(_, token)| token).unwrap_or_default();
        let (stream, mut said) = handshake(stream).await;
        match said.last() {
            None => return Err(refusal(Refused::Failed, id.as_ref()).into()),
            Some(last) if last.role == Role::Refusal => {
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

    async fn get(&self, headers: &HeaderMap) -> Handled {
        checks::check_accepts_sse(headers).map_err(|rejection| reject(&rejection, None))?;
        checks::check_version(headers).map_err(|rejection| reject(&rejection, None))?;
        let session = self.named_session(headers)?;
        let Some(last) = headers.get(LAST_EVENT_ID) else {
            let prime = is_primed(&session);
            let stream = session.open_stream(StreamKind::Get);
            return Ok(sse_response(sse::SseBody::new(stream, prime, Vec::new(), self.keep_alive)));
        };
        let event = last.to_str().ok().and_then(sse::parse_event_id);
        let resumed = event.and_then(|(stream, event)| session.resume_stream(stream, event));
        let mut stream = resumed.ok_or_else(|| {
            let message = "this Last-Event-ID is not one of this session: open the stream without it";
            reject(&Rejection::new(StatusCode::BAD_REQUEST, message), None)
        })?;
        // The session says whether the stream goes on. One that is over and was read to its end has nothing to be resumed;
        // an empty response would make the TypeScript SDK come back again and again.
        match stream.next().await {
            Some(_) => Ok(sse_response(sse::SseBody::new(stream, false, Vec::new(), self.keep_alive))),
            None if session.is_over() => Err(gone(None).into()),
            None => {
                let message = "this stream has ended, and all of it was sent: there is nothing to resume";
                Err(reject(&Rejection::new(StatusCode::METHOD_NOT_ALLOWED, message), None).into())
            }
        }
    }

    async fn delete(&self, headers: &HeaderMap) -> Handled {
        let session = self.named_session(headers)?;
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

async fn relay(front: &Front, session: SessionHandle, incoming: Incoming, size: usize, answer: Answer) -> Handled {
    let (wants_answer, id) = match &incoming {
        Incoming::One(frame) => (frame.kind() == Kind::Request, frame.id()),
        Incoming::Batch(frames) => (frames.iter().any(|frame| wants_answer(frame.as_ref().ok())), None),
    };
    if !wants_answer {
        return match send_silent(&session, incoming, size).await {
            Some(()) => Ok(status_response(StatusCode::ACCEPTED)),
            None => Err(gone(id.as_ref()).into()),
        };
    }
    let stream = send(&session, incoming, size, answer).await.ok_or_else(|| gone(id.as_ref()))?;
    let prime = is_primed(&session);
    Ok(respond(front, stream, answer, prime).await)
}

fn wants_answer(frame: Option<&Frame>) -> bool {
    // What cannot be read is answered with an error.
    frame.is_none_or(|frame| frame.kind() == Kind::Request)
}

fn gone(id: Option<&Id>) -> Response {
    fault_response(StatusCode::NOT_FOUND, &Fault::SessionNotFound, id)
}

fn is_primed(session: &SessionHandle) -> bool {
    session.shared().version.get().is_some_and(|version| checks::can_be_primed(version))
}

/// Hands messages that want an answer to the session, with a stream for it.
async fn send(session: &SessionHandle, incoming: Incoming, size: usize, answer: Answer) -> Option<Stream> {
    let incoming = session.admit(incoming, size).await?;
    let stream = session.open_stream(match answer {
        Answer::Sse { .. } => StreamKind::Post,
        Answer::Json => StreamKind::Single,
    });
    session.hear(Some(stream.id), Ok(incoming));
    Some(stream)
}

async fn send_silent(session: &SessionHandle, incoming: Incoming, size: usize) -> Option<()> {
    let incoming = session.admit(incoming, size).await?;
    session.hear(None, Ok(incoming));
    (!session.is_over()).then_some(())
}

/// Waits a little for the first message, because it says which form of response is best, and responds.
async fn respond(front: &Front, mut stream: Stream, answer: Answer, prime: bool) -> Response {
    let first = match answer {
        Answer::Json => stream.next().await,
        Answer::Sse { .. } => match timeout(HOLD, stream.next()).await {
            Ok(first) => first,
            Err(_) => return sse_response(sse::SseBody::new(stream, prime, Vec::new(), front.keep_alive)),
        },
    };
    match first {
        Some(first) => begin(stream, vec![first], answer, prime, front.keep_alive),
        None if stream.session().is_over() => gone(None),
        // Its calls were cancelled: there is nothing to be said, and nothing more to come.
        None => match answer {
            Answer::Json => status_response(StatusCode::NO_CONTENT),
            Answer::Sse { .. } => sse_response(sse::SseBody::new(stream, false, Vec::new(), front.keep_alive)),
        },
    }
}

/// The response to what was said up to now; the rest follows, if this was not all.
fn begin(stream: Stream, mut said: Vec<Outgoing>, answer: Answer, prime: bool, keep_alive: Duration) -> Response {
    let Some(last) = said.last_mut() else { return gone(None) };
    let is_answer = last.role != Role::Message;
    let failed = last.role == Role::Failure;
    let is_large = last.wire.len() > LARGE;
    if failed {
        // The TypeScript SDK does not count an error as an answer: it would come back for more to a stream that it could
        // resume.
        last.event = None;
    }
    let as_json = match answer {
        Answer::Json => true,
        // Nothing else will come on this stream, and some clients bound the size of an event.
        Answer::Sse { or_json } => or_json && is_answer && is_large && said.len() == 1,
    };
    match said.pop() {
        Some(last) if as_json => whole_response(last),
        last => {
            said.extend(last);
            sse_response(sse::SseBody::new(stream, prime && !failed, said, keep_alive))
        }
    }
}

/// A body that cannot be read. If it was to answer the server's question, that has to end as well; and its id is the
/// server's, so the client is told without one.
fn refuse(session: Option<&SessionHandle>, error: FrameError) -> Response {
    let is_answer = error.about == Some(Kind::Response);
    let id = error.id.clone().filter(|_| !is_answer);
    let response = fault_response(StatusCode::BAD_REQUEST, &Fault::Frame(error.clone()), id.as_ref());
    if let Some(session) = session.filter(|_| is_answer) {
        session.hear(None, Err(error));
    }
    response
}

fn not_initialized(id: Option<&Id>) -> Response {
    let message =
        "no session: send `initialize` as a single request first, then the Mcp-Session-Id that comes with its answer";
    let fault = Fault::InvalidRequest(message.to_owned());
    fault_response(StatusCode::BAD_REQUEST, &fault, id)
}

fn refusal(refused: Refused, id: Option<&Id>) -> Response {
    let mut response = match refused {
        Refused::Limit(limit) => fault_response(StatusCode::SERVICE_UNAVAILABLE, &Fault::SessionLimit { limit }, id),
        Refused::ShuttingDown => fault_response(StatusCode::SERVICE_UNAVAILABLE, &Fault::ShuttingDown, id),
        Refused::Failed => {
            let reason = "the session could not be made; the log of the proxy says why".to_owned();
            let fault = Fault::BackendUnavailable { reason, stderr: Vec::new() };
            return fault_response(StatusCode::INTERNAL_SERVER_ERROR, &fault, id);
        }
    };
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(TRY_AGAIN));
    response
}

fn reject(rejection: &Rejection, id: Option<&Id>) -> Response {
    fault_response(rejection.status, &Fault::InvalidRequest(rejection.message.clone()), id)
}

fn fault_response(status: StatusCode, fault: &Fault, id: Option<&Id>) -> Response {
    json_response(status, fault.to_wire(id))
}

fn json_response(status: StatusCode, wire: Wire) -> Response {
    let mut response = Response::new(Body::from(wire.into_bytes()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A message of the session as the whole response.
fn whole_response(message: Outgoing) -> Response {
    let Outgoing { mut wire, unread, .. } = message;
    let permit = wire.take_permit();
    json_response(StatusCode::OK, body::holding(wire.into_bytes(), (permit, unread)).into())
}

fn sse_response(body: sse::SseBody) -> Response {
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    // Reverse proxies of the nginx kind would otherwise hold events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn status_response(status: StatusCode) -> Response {
    let mut response = Response::new(Body::from(Bytes::new()));
    *response.status_mut() = status;
    response
}

fn preflight() -> Response {
    let mut response = status_response(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE, OPTIONS"));
    let allowed = "Content-Type, Accept, Authorization, Mcp-Session-Id, MCP-Protocol-Version, Last-Event-ID";
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(allowed));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    response
}
