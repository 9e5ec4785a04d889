//! Streamable HTTP of the handshake era (2025-03-26 to 2025-11-25, basic/transports, "Streamable HTTP").
//!
//! POST carries the client's messages, and its response the server's messages that belong to them; GET opens the stream
//! for all other messages; DELETE ends the client's part in the session, and the session if nobody else can find it.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::header::SET_COOKIE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::checks::{self, LAST_EVENT_ID, Rejection, ResponseFormat, SESSION_ID};
use super::events::{self, EventBody};
use super::responses::{
    AwaitedIds, EarlyResponse, HandlerResult, error_response, rejection_response, responses_dropped, session_not_found,
    session_refused, sse_response, status_response, whole_response,
};
use super::{Front, PostedBody, RequestContext, connection_cut, is_initialize};
use crate::error::ProxyError;
use crate::frame::{Frame, Id, Incoming, Kind};
use crate::session::{
    ClientTransport, EndReason, FoundBy, MessageRole, MessageToClient, Refused, RespondOn, SessionHandle,
    SessionRequest, StreamConnection, StreamKind,
};

/// How long a response waits for its first message. If the answer comes within this time, it is sent in the format that
/// suits it best; a call that takes longer gets a stream, which the client can resume.
const WAIT_FOR_FIRST_MESSAGE: Duration = Duration::from_secs(1);
/// How many messages, and bytes of messages, are held back until a server has answered `initialize`. If a server sends
/// more before that, the response begins all the same: otherwise the server might wait for its messages to be read, for
/// ever.
const MOST_MESSAGES_HELD: usize = 256;
const MOST_BYTES_HELD: usize = 1024 * 1024;
/// A larger answer is sent as JSON if the client accepts it: the Python SDK, for example, accepts no event of more than
/// a mebibyte.
const LARGE_ANSWER: usize = 512 * 1024;

impl Front {
    pub(super) async fn post(&self, parts: &Parts, body: &mut Body, context: RequestContext) -> HandlerResult {
        let headers = &parts.headers;
        checks::check_body_headers(headers).map_err(|rejection| rejection_response(&rejection, None))?;
        let format = checks::check_accept(headers).map_err(|rejection| rejection_response(&rejection, None))?;
        checks::check_version(headers).map_err(|rejection| rejection_response(&rejection, None))?;
        // Look the session up first: a large body would be read for nothing if the session is gone.
        match self.session(headers, &context)? {
            Some(session) => {
                let posted = self.read_posted(parts, body, context.headers, Some(&session)).await?;
                self.relay(session, posted, format, connection_cut(parts)).await
            }
            None => self.open(parts, body, context, format).await,
        }
    }

    /// The session that the client names; an error if there is no such session for this client; `None` if it names
    /// none.
    fn session(&self, headers: &HeaderMap, context: &RequestContext) -> Result<Option<SessionHandle>, EarlyResponse> {
        let Some(token) = headers.get(SESSION_ID) else { return Ok(None) };
        let find =
            |token: &str| self.supervisor.registry().find(token, ClientTransport::Streamable, &context.sender.caller);
        let token = token.to_str().unwrap_or_default();
        let session = find(token).ok_or_else(|| session_not_found(None))?;
        context.sender.is_client(token, ClientTransport::Streamable);
        Ok(Some(session))
    }

    fn named_session(&self, headers: &HeaderMap, context: &RequestContext) -> Result<SessionHandle, EarlyResponse> {
        self.session(headers, context)?.ok_or_else(|| {
            let message =
                "the Mcp-Session-Id header is missing: send the one that came with the answer to `initialize`";
            rejection_response(&Rejection::new(StatusCode::BAD_REQUEST, message), None).into()
        })
    }

    /// Handles a message without a session: `initialize` opens or joins one, all others are refused.
    async fn open(
        &self,
        parts: &Parts,
        body: &mut Body,
        context: RequestContext,
        format: ResponseFormat,
    ) -> HandlerResult {
        let RequestContext { is_near, arrival, sender, headers } = context;
        let joining = self.joining(&parts.headers, &sender.caller, arrival)?;
        let expose_stderr = self.exposes_stderr(is_near, &joining, arrival);
        let posted = self.read_posted(parts, body, headers, None).await?;
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
        let (caller, join_by) = (sender.caller.clone(), joining.by.clone());
        let request = SessionRequest { caller, found_by: FoundBy::NewToken, join_by, expose_stderr, upward: None };
        let place = self.supervisor.open_or_join(request).await;
        let place = place.map_err(|refused| session_refused(refused, id.as_ref()))?;
        let cookie = joining.cookie_for(&place);
        let Some(session) = place.session().cloned() else {
            return Err(session_refused(Refused::Failed, id.as_ref()).into());
        };
        let stream = send_requests(&session, posted, format, connection_cut(parts)).await;
        // From here on the stream keeps the client's place: if the client leaves before the handshake, it loses it.
        let token = place.take().and_then(|(_, token)| token).unwrap_or_default();
        sender.is_client(&token, ClientTransport::Streamable);
        let (stream, mut messages) = read_until_initialized(stream).await;
        match messages.last() {
            None => return Err(session_refused(Refused::Failed, id.as_ref()).into()),
            Some(last) if matches!(last.role, MessageRole::InitializeRefused | MessageRole::CredentialsRefused) => {
                // Others that wait for the handshake may yet succeed.
                session.leave(EndReason::Refused);
                let refusal = messages.pop().map(whole_response);
                return refusal.ok_or_else(|| session_not_found(id.as_ref()).into());
            }
            Some(_) => {}
        }
        let mut response = respond_with(stream, messages, format, prime, self.keep_alive);
        if let Ok(token) = HeaderValue::from_str(&token) {
            response.headers_mut().insert(SESSION_ID, token);
        }
        if let Some(cookie) = cookie {
            response.headers_mut().insert(SET_COOKIE, cookie);
        }
        Ok(response)
    }

    /// Hands the messages to the session, and responds with what comes back.
    async fn relay(
        &self,
        session: SessionHandle,
        posted: PostedBody,
        format: ResponseFormat,
        cut: CancellationToken,
    ) -> HandlerResult {
        let Some(awaited) = awaited_ids(&posted.incoming) else {
            let id = match &posted.incoming {
                Incoming::One(frame) => frame.id(),
                Incoming::Batch(_) => None,
            };
            return match send_without_stream(&session, posted).await {
                Some(()) => Ok(status_response(StatusCode::ACCEPTED)),
                None => Err(session_not_found(id.as_ref()).into()),
            };
        };
        let stream = send_requests(&session, posted, format, cut).await;
        let prime = is_primed(&session);
        Ok(self.await_answer(stream, format, prime, &awaited).await)
    }

    /// Waits up to [`WAIT_FOR_FIRST_MESSAGE`] for the first message, which decides the best format, and responds.
    async fn await_answer(
        &self,
        mut stream: StreamConnection,
        format: ResponseFormat,
        prime: bool,
        awaited: &AwaitedIds,
    ) -> Response {
        let first = match format {
            ResponseFormat::Json => stream.next().await,
            ResponseFormat::Sse { .. } => match timeout(WAIT_FOR_FIRST_MESSAGE, stream.next()).await {
                Ok(first) => first,
                Err(_) => return sse_response(EventBody::new(stream, prime, Vec::new(), self.keep_alive)),
            },
        };
        if let Some(first) = first {
            return respond_with(stream, vec![first], format, prime, self.keep_alive);
        }
        if let Some(unread) = stream.given_up() {
            return match format {
                // The answer is kept for a while, and the client can resume the stream to get it.
                ResponseFormat::Sse { .. } if prime => {
                    sse_response(EventBody::new(stream, true, Vec::new(), self.keep_alive))
                }
                ResponseFormat::Sse { or_json } => responses_dropped(awaited, unread, or_json),
                ResponseFormat::Json => responses_dropped(awaited, unread, true),
            };
        }
        if stream.session().is_over() {
            return session_not_found(None);
        }
        // The calls were cancelled, so no answer will come.
        match format {
            ResponseFormat::Json => status_response(StatusCode::NO_CONTENT),
            ResponseFormat::Sse { .. } => sse_response(EventBody::new(stream, false, Vec::new(), self.keep_alive)),
        }
    }

    pub(super) async fn get(&self, parts: &Parts, context: &RequestContext) -> HandlerResult {
        let headers = &parts.headers;
        checks::check_accepts_sse(headers).map_err(|rejection| rejection_response(&rejection, None))?;
        checks::check_version(headers).map_err(|rejection| rejection_response(&rejection, None))?;
        let session = self.named_session(headers, context)?;
        let Some(last) = headers.get(LAST_EVENT_ID) else {
            let prime = is_primed(&session);
            let stream = session.open_stream(StreamKind::Get, connection_cut(parts));
            return Ok(sse_response(EventBody::new(stream, prime, Vec::new(), self.keep_alive)));
        };
        let event = last.to_str().ok().and_then(events::parse_event_id);
        let resumed = event.and_then(|(stream, event)| session.resume_stream(stream, event, connection_cut(parts)));
        let mut stream = resumed.ok_or_else(|| {
            let message = "this Last-Event-ID is not one of this session: open the stream without it";
            rejection_response(&Rejection::new(StatusCode::BAD_REQUEST, message), None)
        })?;
        // The session sends a first item if the stream goes on. A stream that has ended and was read to its end cannot
        // be resumed; an empty response would make the TypeScript SDK try again and again.
        match stream.next().await {
            Some(_) => Ok(sse_response(EventBody::new(stream, false, Vec::new(), self.keep_alive))),
            None if session.is_over() => Err(session_not_found(None).into()),
            None => {
                let message = "this stream has ended, and all of it was sent: there is nothing to resume";
                Err(rejection_response(&Rejection::new(StatusCode::METHOD_NOT_ALLOWED, message), None).into())
            }
        }
    }

    pub(super) async fn delete(&self, headers: &HeaderMap, context: &RequestContext) -> HandlerResult {
        let session = self.named_session(headers, context)?;
        session.leave(EndReason::Deleted);
        // Wait for that, so that the client cannot find the session any more once it has this response.
        session.left().await;
        Ok(status_response(StatusCode::NO_CONTENT))
    }
}

/// The server's messages up to its answer to `initialize`. The response begins only after that: if the server refuses,
/// no session id may be sent to the client.
async fn read_until_initialized(mut stream: StreamConnection) -> (StreamConnection, Vec<MessageToClient>) {
    let mut messages = Vec::new();
    let mut bytes = 0;
    while let Some(message) = stream.next().await {
        bytes += message.wire.len();
        let is_last =
            message.role != MessageRole::FromServer || messages.len() >= MOST_MESSAGES_HELD || bytes >= MOST_BYTES_HELD;
        messages.push(message);
        if is_last {
            break;
        }
    }
    (stream, messages)
}

/// The ids of the requests that have to be answered; `None` if there is nothing to answer. An element of a batch that
/// could not be read is answered with an error.
fn awaited_ids(incoming: &Incoming) -> Option<AwaitedIds> {
    let is_request = |frame: &Frame| frame.kind() == Kind::Request;
    match incoming {
        Incoming::One(frame) => is_request(frame).then(|| AwaitedIds::One(frame.id())),
        Incoming::Batch(frames) => {
            let any = frames.iter().any(|frame| frame.as_ref().map_or(true, is_request));
            let requests = || frames.iter().filter_map(|frame| frame.as_ref().ok()).filter(|frame| is_request(frame));
            any.then(|| AwaitedIds::Batch(requests().filter_map(Frame::id).collect()))
        }
    }
}

fn is_primed(session: &SessionHandle) -> bool {
    session.client().version.get().is_some_and(|version| checks::can_be_primed(version))
}

/// Hands messages to the session, with a stream for the answers.
async fn send_requests(
    session: &SessionHandle,
    posted: PostedBody,
    format: ResponseFormat,
    cut: CancellationToken,
) -> StreamConnection {
    let received = posted.let_in(session).await;
    let kind = match format {
        ResponseFormat::Sse { .. } => StreamKind::Post,
        ResponseFormat::Json => StreamKind::Single,
    };
    let stream = session.open_stream(kind, cut);
    session.receive(RespondOn::Stream(stream.id), received);
    stream
}

/// Hands messages to the session that nobody has to answer; `None` if the session is over.
async fn send_without_stream(session: &SessionHandle, posted: PostedBody) -> Option<()> {
    let received = posted.let_in(session).await;
    session.receive(RespondOn::NoStream, received);
    (!session.is_over()).then_some(())
}

/// The response that begins with these messages; the stream carries the rest.
fn respond_with(
    stream: StreamConnection,
    mut messages: Vec<MessageToClient>,
    format: ResponseFormat,
    prime: bool,
    keep_alive: Duration,
) -> Response {
    let Some(last) = messages.last_mut() else { return session_not_found(None) };
    let is_answer = last.role != MessageRole::FromServer;
    let failed = matches!(last.role, MessageRole::ErrorResponse | MessageRole::CredentialsRefused);
    let is_large = last.wire.len() > LARGE_ANSWER;
    if failed {
        // The TypeScript SDK does not count an error as an answer: it would try to resume a stream whose last event has
        // an id.
        last.event = None;
    }
    let as_json = match format {
        ResponseFormat::Json => true,
        // A client gets other credentials only because of the response's status, which a stream would hide.
        ResponseFormat::Sse { .. } if last.role == MessageRole::CredentialsRefused => messages.len() == 1,
        // No other message will come on this stream, and some clients limit the size of an event.
        ResponseFormat::Sse { or_json } => or_json && is_answer && is_large && messages.len() == 1,
    };
    match messages.pop() {
        Some(last) if as_json => whole_response(last),
        last => {
            messages.extend(last);
            sse_response(EventBody::new(stream, prime && !failed, messages, keep_alive))
        }
    }
}

fn not_initialized(id: Option<&Id>) -> Response {
    let message =
        "no session: send `initialize` as a single request first, then the Mcp-Session-Id that comes with its answer";
    let error = ProxyError::InvalidRequest(message.to_owned());
    error_response(StatusCode::BAD_REQUEST, &error, id)
}
