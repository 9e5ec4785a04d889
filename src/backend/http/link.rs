//! The link of one session to an HTTP server: the requests that the link sends, with the headers of its session, and the
//! session that it has on the server.

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
use crate::link::{LinkEvents, LinkExit, RequestFailure};

/// How long a server may take to accept a notification or a response.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a server may take to begin its response to a request that resumes a stream.
const RESUME_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the DELETE of a session may take.
const DELETE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the response to `initialize` is waited for when the link has ended meanwhile: it may open a session on the
/// server, which then has to be deleted.
const UNWANTED_SESSION_WAIT: Duration = Duration::from_secs(10);
/// How many such responses are waited for at a time, over all servers.
static UNWANTED_SESSION_WAITERS: Semaphore = Semaphore::const_new(256);
/// How long a server may take to answer the ping that finds out whether it knows the session.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
const PING: &str = r#"{"jsonrpc":"2.0","id":"sessile-ping","method":"ping"}"#;
/// How often in all a response is sent to a server that is busy, how long to wait before the second time, and how long
/// all attempts may take.
const MAX_RESPONSE_SENDS: u32 = 5;
const FIRST_RESEND_DELAY: Duration = Duration::from_millis(250);
const RESEND_PERIOD: Duration = Duration::from_secs(60);
/// The longest response that is kept to be sent again, in bytes.
const MAX_RESENT_RESPONSE: usize = 1024 * 1024;
const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
const JSON_OR_EVENTS: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");

/// The link of one session to an HTTP server. All tasks of the link share this.
pub(super) struct HttpLink {
    pub upstream: Arc<Upstream>,
    pub link_events: Arc<dyn LinkEvents>,
    /// The largest message, in bytes.
    pub limit: usize,
    /// Bounds the bytes of this session that are on their way to the server, and the copies of them that are kept to be
    /// sent a second time.
    pub outgoing: Budget,
    /// The session's name, for logs.
    pub name: Arc<str>,
    session: Mutex<UpstreamSession>,
    pub server_requests: OpenServerRequests,
}

/// The session that this link has on the server, as far as the server has one.
#[derive(Default)]
struct UpstreamSession {
    id: Option<HeaderValue>,
    protocol_version: Option<HeaderValue>,
    /// The credentials that came with the client's last message: for requests that belong to no message, such as a
    /// DELETE.
    client_credentials: ClientHeaders,
}

impl HttpLink {
    pub(super) fn new(
        upstream: Arc<Upstream>,
        link_events: Arc<dyn LinkEvents>,
        limit: usize,
        name: Arc<str>,
        outgoing: Budget,
    ) -> Self {
        Self {
            upstream,
            link_events,
            limit,
            outgoing,
            name,
            session: Mutex::default(),
            server_requests: OpenServerRequests::default(),
        }
    }

    fn with_session<T>(&self, read: impl FnOnce(&mut UpstreamSession) -> T) -> T {
        read(&mut self.session.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Prepares for a handshake. If the last one failed and opened a session all the same, that session is deleted.
    pub(super) async fn reset_for_handshake(&self) {
        self.delete().await;
        self.with_session(|session| session.protocol_version = None);
    }

    /// Sends `initialize`, and remembers the session that the response opens. If this future is dropped, the response
    /// is still waited for, and a session that it opens is deleted: nobody else could.
    pub(super) async fn handshake(self: &Arc<Self>, request: UpstreamRequest) -> Result<Response, RequestFailure> {
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
                    // The link may know another session by now, so this one is not written over it.
                    Ok(Some(session)) if answer.is_closed() => return link.delete_session(session).await,
                    Ok(session) => {
                        link.with_session(|known| known.id = session);
                        Ok(response)
                    }
                    Err(reason) => Err(RequestFailure::BadAnswer { reason }),
                },
                other => other,
            };
            if answer.send(sent).is_err() {
                link.delete().await;
            }
        });
        let lost = || RequestFailure::Broken { reason: "the handshake failed within sessile".to_owned() };
        answered.await.unwrap_or_else(|_| Err(lost()))
    }

    /// Remembers the protocol version from the response to `initialize`.
    pub(super) fn take_protocol_version(&self, answer: &Frame) {
        let version = answer.lookup(&["result", "protocolVersion"]).ok().flatten();
        let version = version.and_then(|raw| serde_json::from_slice::<String>(raw).ok());
        self.with_session(|session| session.protocol_version = version.as_deref().and_then(rules::version));
    }

    /// Whether the server keeps a session for this link.
    pub(super) fn has_session(&self) -> bool {
        self.with_session(|session| session.id.is_some())
    }

    /// Returns the client's headers that are to be sent with this message, and remembers the credentials among them.
    pub(super) fn client_headers(&self, wire: &Wire) -> ClientHeaders {
        let client_headers = self.upstream.client_headers(wire.headers());
        if wire.headers().is_some() {
            let credentials = client_headers.iter().filter(|(name, _)| is_credential(name));
            self.with_session(|session| session.client_credentials = credentials.cloned().collect());
        }
        client_headers
    }

    fn transport_headers(&self, accept: HeaderValue) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(header::ACCEPT, accept);
        self.with_session(|session| {
            headers.extend(session.id.iter().map(|session| (SESSION_ID, session.clone())));
            headers.extend(session.protocol_version.iter().map(|version| (PROTOCOL_VERSION, version.clone())));
        });
        headers
    }

    /// Returns a message as a POST. `sent_signal` is dropped when the message has been written.
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

    /// Returns a message that has no response as a POST, which is sent again while the server cannot be reached.
    pub(super) fn post_without_response(&self, url: &Url, wire: Wire) -> UpstreamRequest {
        let client_headers = self.client_headers(&wire);
        UpstreamRequest {
            head_timeout: Some(ACCEPT_TIMEOUT),
            retry_unreachable: true,
            ..self.post(url, wire, client_headers, None)
        }
    }

    /// Returns the GET for a stream of the server's own messages, with the client's last credentials.
    pub(super) fn open_stream(&self, position: &StreamPosition) -> UpstreamRequest {
        let client_headers = self.with_session(|session| session.client_credentials.clone());
        let mut headers = self.transport_headers(EVENTS);
        headers.extend(rules::last_event_id(position).map(|id| (LAST_EVENT_ID, id)));
        UpstreamRequest { headers, client_headers, ..UpstreamRequest::new(Method::GET, &self.upstream.url) }
    }

    /// Asks for the rest of a call's stream, behind `position`, with the headers that came with the call.
    pub(super) async fn resume_stream(
        &self,
        position: &StreamPosition,
        client_headers: &ClientHeaders,
    ) -> Result<Response, RequestFailure> {
        let request = UpstreamRequest {
            client_headers: client_headers.clone(),
            head_timeout: Some(RESUME_TIMEOUT),
            ..self.open_stream(position)
        };
        self.upstream.send(request).await
    }

    /// Asks the server with a ping whether it knows the session. Only 404 to a message means that it does not: 404 to a
    /// GET may mean that there is no such stream.
    pub(super) async fn is_session_forgotten(&self) -> bool {
        if !self.has_session() {
            return false;
        }
        let client_headers = self.with_session(|session| session.client_credentials.clone());
        let request = self.post(&self.upstream.url, PING.to_owned().into(), client_headers, None);
        let asking = async {
            let response = self.upstream.send(request).await.ok()?;
            let not_found = reader::reply_kind(&response) == ReplyKind::NotFound;
            let said = reader::read_refusal(response).await;
            Some(not_found && error_with_404(&said, None).is_none())
        };
        timeout(PING_TIMEOUT, asking).await.ok().flatten().unwrap_or_default()
    }

    /// Returns a copy of a message for a second sending, if there is memory for one.
    pub(super) fn copy_for_resend(&self, wire: &Wire) -> Option<Wire> {
        let permit = if wire.len() <= FREE_COPY { None } else { Some(self.outgoing.keep(wire.len())?) };
        Some(wire.clone_parts().with_headers(wire.headers().cloned()).with_permit(permit))
    }

    /// Sends a response to a server request, several times if the server is busy, because the server waits for it. A
    /// second copy does no harm: the server has forgotten the id of a request that was answered.
    pub(super) async fn send_response(&self, url: &Url, wire: Wire) -> Result<Response, RequestFailure> {
        let kept = if wire.len() <= MAX_RESENT_RESPONSE { self.copy_for_resend(&wire) } else { None };
        let begun_at = Instant::now();
        let (mut wire, mut tries) = (wire, 0);
        loop {
            let sent = self.upstream.send(self.post_without_response(url, wire)).await;
            tries += 1;
            let passing = match &sent {
                Ok(response) => rules::is_passing(response.status()),
                Err(failure) => matches!(failure, RequestFailure::Broken { .. }),
            };
            match &kept {
                Some(kept) if passing && tries < MAX_RESPONSE_SENDS && begun_at.elapsed() < RESEND_PERIOD => {
                    wire = kept.clone_parts().with_headers(kept.headers().cloned());
                }
                _ => return sent,
            }
            sleep(FIRST_RESEND_DELAY * 2_u32.pow(tries - 1)).await;
        }
    }

    /// Deletes the session on the server, if there is one. Servers may refuse to (405), which is no error.
    pub(super) async fn delete(&self) {
        // The id is taken out first, so that the session is deleted once even if several tasks come here.
        if let Some(session) = self.with_session(|session| session.id.take()) {
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

    /// The end of a link whose server does not know the session any more.
    pub(super) fn session_lost() -> LinkExit {
        LinkExit::Lost {
            reason: "it does not know this session any more, and answered with HTTP status 404".to_owned(),
        }
    }
}

/// Returns the session id in the headers of the response to `initialize`.
fn session(headers: &HeaderMap) -> Result<Option<HeaderValue>, String> {
    headers.get(&SESSION_ID).map(rules::session_id).transpose()
}
