//! One session's side of a server: what its requests carry, and how what comes back is handed on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Method;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::Response;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;
use url::Url;

use super::body::{FREE_COPY, ReplayableBody};
use super::position::StreamPosition;
use super::reader;
use super::responses::error_with_404;
use super::rules::{self, ReplyKind};
use super::send_gate::SentSignal;
use super::server_requests::OpenServerRequests;
use super::upstream::{ClientHeaders, Upstream, UpstreamRequest};
use crate::budget::Budget;
use crate::frame::{Frame, Wire};
use crate::headers::is_credential;
use crate::link::{CallFailure, Inlet, LinkExit};

/// How long a server may take to accept a notification or an answer.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a server may take to let a stream be resumed.
const RESUME_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the end of a session may take.
const DELETE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the session is waited for that an `initialize` may yet open which nobody wants any more.
const UNWANTED_SESSION_WAIT: Duration = Duration::from_secs(10);
/// How many of those are waited for at a time, over all servers.
static UNWANTED_SESSION_WAITERS: Semaphore = Semaphore::const_new(256);
/// How long a server may take to say whether it knows the session.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// What it is asked.
const PING: &str = r#"{"jsonrpc":"2.0","id":"sessile-ping","method":"ping"}"#;
/// How often an answer is sent to a server that is busy, in all, how long to wait before it is sent again, and how long all
/// of that may take.
const MAX_RESPONSE_SENDS: u32 = 5;
const FIRST_RESEND_DELAY: Duration = Duration::from_millis(250);
const RESEND_PERIOD: Duration = Duration::from_secs(60);
/// The longest answer that is kept to be sent again, in bytes.
const MAX_RESENT_RESPONSE: usize = 1024 * 1024;
const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
const JSON_OR_EVENTS: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");

/// What a session's tasks share.
pub(super) struct HttpLink {
    pub upstream: Arc<Upstream>,
    pub inlet: Arc<dyn Inlet>,
    /// The largest message, in bytes.
    pub limit: usize,
    /// Bounds the bytes of this session that are on their way to the server, and the copies of them that are kept to be
    /// sent a second time.
    pub outgoing: Budget,
    /// A name for logs.
    pub name: Arc<str>,
    known: Mutex<Known>,
    pub server_requests: OpenServerRequests,
}

/// What is known of the session on the server.
#[derive(Default)]
struct Known {
    session: Option<HeaderValue>,
    version: Option<HeaderValue>,
    /// The client's credentials, as they came last: for requests that are made on its behalf and not for one message.
    client: ClientHeaders,
}

impl HttpLink {
    pub(super) fn new(
        upstream: Arc<Upstream>,
        inlet: Arc<dyn Inlet>,
        limit: usize,
        name: Arc<str>,
        outgoing: Budget,
    ) -> Self {
        Self {
            upstream,
            inlet,
            limit,
            outgoing,
            name,
            known: Mutex::default(),
            server_requests: OpenServerRequests::default(),
        }
    }

    fn known<T>(&self, read: impl FnOnce(&mut Known) -> T) -> T {
        read(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Another handshake begins. A session that the last one opened, although it failed, is ended.
    pub(super) async fn reset_for_handshake(&self) {
        self.delete().await;
        self.known(|known| known.version = None);
    }

    /// Sends `initialize`, and takes the session that it opens. If the caller goes away, a session that opens nevertheless is
    /// ended, for as long as the process lives.
    pub(super) async fn handshake(self: &Arc<Self>, request: UpstreamRequest) -> Result<Response, CallFailure> {
        let (mut answer, answered) = oneshot::channel();
        let link = self.clone();
        tokio::spawn(async move {
            let sending = link.upstream.send(request);
            tokio::pin!(sending);
            let sent = tokio::select! {
                sent = &mut sending => sent,
                () = answer.closed() => {
                    let Ok(_place) = UNWANTED_SESSION_WAITERS.try_acquire() else { return };
                    let Ok(sent) = timeout(UNWANTED_SESSION_WAIT, sending).await else { return };
                    sent
                }
            };
            let opens =
                |response: &Response| matches!(reader::reply_kind(response), ReplyKind::Json | ReplyKind::Events);
            let sent = match sent {
                Ok(response) if opens(&response) => match session(response.headers()) {
                    // What the link knows by now may be another session.
                    Ok(Some(session)) if answer.is_closed() => return link.delete_session(session).await,
                    Ok(session) => {
                        link.known(|known| known.session = session);
                        Ok(response)
                    }
                    Err(reason) => Err(CallFailure::BadAnswer { reason }),
                },
                other => other,
            };
            if answer.send(sent).is_err() {
                link.delete().await;
            }
        });
        let lost = || CallFailure::Broken { reason: "the handshake failed within sessile".to_owned() };
        answered.await.unwrap_or_else(|_| Err(lost()))
    }

    /// Takes the protocol version from the answer to `initialize`.
    pub(super) fn take_protocol_version(&self, answer: &Frame) {
        let version = answer.lookup(&["result", "protocolVersion"]).ok().flatten();
        let version = version.and_then(|raw| serde_json::from_slice::<String>(raw).ok());
        self.known(|known| known.version = version.as_deref().and_then(rules::version));
    }

    /// Whether the server keeps a session for this link.
    pub(super) fn has_session(&self) -> bool {
        self.known(|known| known.session.is_some())
    }

    /// The headers of the client's that are to go with this message.
    pub(super) fn client_headers(&self, wire: &Wire) -> ClientHeaders {
        let client_headers = self.upstream.client_headers(wire.forwarded());
        if wire.forwarded().is_some() {
            let credentials = client_headers.iter().filter(|(name, _)| is_credential(name));
            self.known(|known| known.client = credentials.cloned().collect());
        }
        client_headers
    }

    fn transport_headers(&self, accept: HeaderValue) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(header::ACCEPT, accept);
        self.known(|known| {
            headers.extend(known.session.iter().map(|session| (SESSION_ID, session.clone())));
            headers.extend(known.version.iter().map(|version| (PROTOCOL_VERSION, version.clone())));
        });
        headers
    }

    /// A message as a POST. `sent_signal` is dropped when it has been written.
    pub(super) fn post(
        &self,
        url: &Url,
        wire: Wire,
        client_headers: ClientHeaders,
        sent_signal: Option<SentSignal>,
    ) -> UpstreamRequest {
        let mut headers = self.transport_headers(JSON_OR_EVENTS);
        headers.insert(header::CONTENT_TYPE, JSON);
        UpstreamRequest {
            headers,
            client_headers,
            body: Some(ReplayableBody::new(wire, sent_signal, &self.outgoing)),
            ..UpstreamRequest::new(Method::POST, url)
        }
    }

    /// A message as a POST that has no answer: it may be sent again until somebody is there to take it.
    pub(super) fn post_without_response(&self, url: &Url, wire: Wire) -> UpstreamRequest {
        let client_headers = self.client_headers(&wire);
        UpstreamRequest {
            head_timeout: Some(ACCEPT_TIMEOUT),
            retry_unreachable: true,
            ..self.post(url, wire, client_headers, None)
        }
    }

    /// A stream of the server's messages, on behalf of the client and not for one message.
    pub(super) fn open_stream(&self, position: &StreamPosition) -> UpstreamRequest {
        let client_headers = self.known(|known| known.client.clone());
        let mut headers = self.transport_headers(EVENTS);
        headers.extend(rules::last_event_id(position).map(|id| (LAST_EVENT_ID, id)));
        UpstreamRequest { headers, client_headers, ..UpstreamRequest::new(Method::GET, &self.upstream.url) }
    }

    /// The rest of the stream of a call that came with `client_headers`.
    pub(super) async fn resume_stream(
        &self,
        position: &StreamPosition,
        client_headers: &ClientHeaders,
    ) -> Result<Response, CallFailure> {
        let request = UpstreamRequest {
            client_headers: client_headers.clone(),
            head_timeout: Some(RESUME_TIMEOUT),
            ..self.open_stream(position)
        };
        self.upstream.send(request).await
    }

    /// Whether the server says that it does not know the session. Only its reply to a message says that: for a stream, 404
    /// may mean that there is no such stream.
    pub(super) async fn is_session_forgotten(&self) -> bool {
        if !self.has_session() {
            return false;
        }
        let client_headers = self.known(|known| known.client.clone());
        let request = self.post(&self.upstream.url, PING.to_owned().into(), client_headers, None);
        let asking = async {
            let response = self.upstream.send(request).await.ok()?;
            let not_found = reader::reply_kind(&response) == ReplyKind::NotFound;
            let said = reader::read_refusal(response).await;
            Some(not_found && error_with_404(&said, None).is_none())
        };
        timeout(PING_TIMEOUT, asking).await.ok().flatten().unwrap_or_default()
    }

    /// A copy of a message, for a second sending, if there is memory for it.
    pub(super) fn copy_for_resend(&self, wire: &Wire) -> Option<Wire> {
        let permit = if wire.len() <= FREE_COPY { None } else { Some(self.outgoing.keep(wire.len())?) };
        Some(wire.clone_parts().with_forwarded(wire.forwarded().cloned()).with_permit(permit))
    }

    /// Sends an answer to a question of the server's, more than once if the server is busy: it waits for it. Sending it twice
    /// does no harm, because a question is answered once.
    pub(super) async fn send_response(&self, url: &Url, wire: Wire) -> Result<Response, CallFailure> {
        let kept = if wire.len() <= MAX_RESENT_RESPONSE { self.copy_for_resend(&wire) } else { None };
        let begun_at = Instant::now();
        let (mut wire, mut tries) = (wire, 0);
        loop {
            let sent = self.upstream.send(self.post_without_response(url, wire)).await;
            tries += 1;
            let passing = match &sent {
                Ok(response) => rules::is_passing(response.status()),
                Err(failure) => matches!(failure, CallFailure::Broken { .. }),
            };
            match &kept {
                Some(kept) if passing && tries < MAX_RESPONSE_SENDS && begun_at.elapsed() < RESEND_PERIOD => {
                    wire = kept.clone_parts().with_forwarded(kept.forwarded().cloned());
                }
                _ => return sent,
            }
            sleep(FIRST_RESEND_DELAY * 2_u32.pow(tries - 1)).await;
        }
    }

    /// Ends the session on the server, if there is one. That it may not be ended in this way is fine.
    pub(super) async fn delete(&self) {
        // Whoever takes it away ends it: once.
        if let Some(session) = self.known(|known| known.session.take()) {
            self.delete_session(session).await;
        }
    }

    async fn delete_session(&self, session: HeaderValue) {
        let mut request = UpstreamRequest { method: Method::DELETE, ..self.open_stream(&StreamPosition::default()) };
        request.headers.insert(SESSION_ID, session);
        match timeout(DELETE_TIMEOUT, self.upstream.send(request)).await {
            Ok(Ok(response)) => {
                debug!(link = %self.name, status = response.status().as_u16(), "session deleted");
            }
            Ok(Err(failure)) => debug!(link = %self.name, ?failure, "the session could not be deleted"),
            Err(_) => debug!(link = %self.name, "the deletion of the session was not answered"),
        }
    }

    /// That the server does not know the session any more.
    pub(super) fn session_lost() -> LinkExit {
        LinkExit::Lost {
            reason: "it does not know this session any more, and answered with HTTP status 404".to_owned(),
        }
    }
}

/// The session id that came with the answer to `initialize`.
fn session(headers: &HeaderMap) -> Result<Option<HeaderValue>, String> {
    headers.get(&SESSION_ID).map(rules::session_id).transpose()
}
