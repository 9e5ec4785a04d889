//! The HTTP front: streamable HTTP of the handshake era at `/mcp`, and beside it the older HTTP+SSE at `/sse`.
//!
//! Both transports reach the same sessions and are subject to the same checks. This file has what they share: the
//! checks of a request ([`checks`]), the question who calls ([`authentication`]), the reading of its body and headers
//! ([`body`], [`forwarded`]), and the choice of the handler. [`keys`] decides which session an `initialize` is for.
//! [`streamable`] and [`sse`] turn requests into messages for a session, and streams into responses.

mod authentication;
mod body;
mod checks;
mod connections;
mod cookie;
mod events;
mod forwarded;
mod keys;
mod leases;
mod repoll;
mod responses;
mod serve;
mod sse;
mod streamable;
mod token_authority;
mod waiting;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response;
use axum::routing::{any, get};
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, VARY};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::error::ProxyError;
use crate::frame::{self, Frame, Incoming, Kind, Permit};
use crate::mcp;
use crate::principal::Principal;
use crate::session::{
    Caller, ClientTransport, JoinBy, Received, SessionHandle, SessionSecret, SupervisorHandle, UnclaimedSession,
    new_token,
};
use checks::Rejection;
use forwarded::ForwardedHeaders;
use keys::{Arrival, WantedKey};
use leases::Lease;
use responses::{
    EarlyResponse, HandlerResult, error_response, method_not_allowed, rejection_response, session_refused,
    unreadable_body,
};

pub(crate) use authentication::Authentication;
pub(crate) use checks::AllowList;
pub(crate) use keys::KeyRules;
pub(crate) use serve::serve;
pub(crate) use token_authority::TokenAuthority;
pub(crate) use waiting::WaitingStreams;

/// How long a client without a session may take to send a body.
const STRANGER_BODY_WITHIN: Duration = Duration::from_secs(30);

/// The HTTP front: its settings, and the way to the sessions.
#[derive(Debug)]
pub(crate) struct Front {
    pub supervisor: Arc<SupervisorHandle>,
    /// The streams of HTTP+SSE without a session. All routers of a proxy share them, as they share its sessions.
    pub waiting: Arc<WaitingStreams>,
    pub allow_list: AllowList,
    pub authentication: Authentication,
    /// By what an `initialize` finds a living session.
    pub keys: KeyRules,
    pub keep_alive: Duration,
    pub message_size: usize,
    /// Whether clients on other machines may be told what a server wrote on stderr.
    pub expose_stderr: bool,
    /// The headers of each request that are forwarded to the servers. Headers that belong to one connection, or that
    /// each side writes for itself, are never forwarded, even if they are listed here.
    pub forwards: Vec<HeaderName>,
}

pub(crate) fn router(mut front: Front) -> Router {
    front.forwards.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
    front.forwards.dedup();
    front.forwards.retain(forwarded::may_pass);
    Router::new()
        .route("/mcp", any(mcp))
        .route(sse::SSE_PATH, any(sse))
        .route(sse::MESSAGES_PATH, any(messages))
        .route("/healthz", get(|| async { "ok\n" }))
        .with_state(Arc::new(front))
}

/// The paths that requests are sent to.
#[derive(Debug, Clone, Copy)]
enum Endpoint {
    Mcp,
    Sse,
    Messages,
}

impl Endpoint {
    fn methods(self) -> &'static str {
        match self {
            Self::Mcp => "POST, GET, DELETE",
            Self::Sse => "GET",
            Self::Messages => "POST",
        }
    }
}

async fn mcp(State(front): State<Arc<Front>>, request: Request) -> Response {
    front.respond(Endpoint::Mcp, request).await
}

async fn sse(State(front): State<Arc<Front>>, request: Request) -> Response {
    front.respond(Endpoint::Sse, request).await
}

async fn messages(State(front): State<Arc<Front>>, request: Request) -> Response {
    front.respond(Endpoint::Messages, request).await
}

/// What is known of a request's sender.
#[derive(Debug)]
struct RequestContext {
    /// Whether the client is on this machine.
    is_near: bool,
    arrival: Arrival,
    sender: RequestSender,
    headers: ForwardedHeaders,
}

/// Who has sent a request.
#[derive(Debug)]
struct RequestSender {
    caller: Caller,
    /// What the request was let in with, if sessile itself has let it in.
    lease: Option<Arc<Lease>>,
}

impl RequestSender {
    /// Notes that the sender is the client which holds this token of a session.
    fn is_client(&self, token: &str, transport: ClientTransport) {
        if let Some(lease) = &self.lease {
            lease.assign(SessionSecret::of(token, transport, &self.caller));
        }
    }
}

/// The content of a POST, before its session has charged it.
struct PostedBody {
    incoming: Incoming,
    /// The size in bytes, with the headers that are forwarded along.
    size: usize,
    /// The permit of a large body, which was charged while it was received.
    grown: Option<Permit>,
    /// Whether that permit is charged to the session; otherwise it is charged to the budget of clients without one.
    has_session: bool,
}

impl PostedBody {
    /// Waits until the session has charged the messages.
    async fn let_in(self, session: &SessionHandle) -> (Received, Option<Permit>) {
        let Self { incoming, size, grown, has_session } = self;
        if has_session {
            return session.let_in(Ok(incoming), size, grown).await;
        }
        let received = session.let_in(Ok(incoming), size, None).await;
        // Given back only now: until the session had charged the bytes, nothing else covered them.
        drop(grown);
        received
    }
}

impl Front {
    async fn respond(&self, endpoint: Endpoint, request: Request) -> Response {
        let (mut parts, mut body) = request.into_parts();
        let origin = match self.check_allowed(&parts) {
            Ok(origin) => origin,
            Err(rejection) => {
                body::discard(&parts.headers, &mut body).await;
                return rejection_response(&rejection, None);
            }
        };
        let mut response = match self.handle(endpoint, &mut parts, &mut body, origin.is_some()).await {
            Ok(response) => response,
            Err(early) => {
                body::discard(&parts.headers, &mut body).await;
                *early.0
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

    /// Checks whether the request may come in. Returns its origin if it comes from a web page.
    fn check_allowed(&self, parts: &Parts) -> Result<Option<HeaderValue>, Rejection> {
        checks::check_single(&parts.headers)?;
        self.allow_list.check_host(&parts.headers, &parts.uri)?;
        let origin = self.allow_list.check_origin(&parts.headers)?;
        checks::check_site(&parts.headers, origin.is_some())?;
        Ok(origin.cloned())
    }

    /// Finds out who calls, and has the request handled. A response whose caller loses its token ends with that.
    async fn handle(&self, endpoint: Endpoint, parts: &mut Parts, body: &mut Body, from_page: bool) -> HandlerResult {
        if from_page && checks::is_preflight(parts) {
            // A browser sends no credentials with it (Fetch, "CORS-preflight request"), and it has no effect.
            return Ok(self.preflight());
        }
        let lease = self.authentication.identify(parts)?;
        // Pinned, so that its memory is not taken twice.
        let mut handled = std::pin::pin!(self.choose(endpoint, parts, body, from_page, lease.clone()));
        let Some(lease) = lease else { return handled.await };
        let response = tokio::select! {
            biased;
            () = lease.revoked() => return Err(authentication::token_is_invalid()),
            handled = &mut handled => handled?,
        };
        Ok(lease.cover(response))
    }

    fn preflight(&self) -> Response {
        responses::preflight(self.forwards.iter().chain(self.keys.header_names()))
    }

    async fn choose(
        &self,
        endpoint: Endpoint,
        parts: &Parts,
        body: &mut Body,
        from_page: bool,
        lease: Option<Arc<Lease>>,
    ) -> HandlerResult {
        let context = self.context(parts, lease)?;
        match (endpoint, &parts.method) {
            (_, &Method::OPTIONS) if from_page => Ok(self.preflight()),
            (Endpoint::Mcp, &Method::POST) => self.post(parts, body, context).await,
            (Endpoint::Mcp, &Method::GET) => self.get(parts, &context).await,
            (Endpoint::Mcp, &Method::DELETE) => self.delete(&parts.headers, &context).await,
            (Endpoint::Sse, &Method::GET) => self.open_sse_stream(parts, &context),
            (Endpoint::Messages, &Method::POST) => self.post_message(parts, body, context).await,
            _ => Err(method_not_allowed(endpoint.methods()).into()),
        }
    }

    fn context(&self, parts: &Parts, lease: Option<Arc<Lease>>) -> Result<RequestContext, EarlyResponse> {
        let headers = forwarded::collect(&self.forwards, &parts.headers);
        let headers = headers.map_err(|rejection| rejection_response(&rejection, None))?;
        // The address is set by `serve.rs`, or by an embedding program that serves the router with axum.
        let arrival = Arrival {
            peer: parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip().to_canonical()),
            listener: parts.extensions.get::<ListenerAddress>().map(|listener| listener.0),
        };
        // A reverse proxy on this machine speaks for clients from elsewhere.
        let is_near = arrival.peer.is_some_and(|peer| peer.is_loopback()) && !self.keys.is_trusted_proxy(arrival);
        // Put there by `authentication`, or by a layer of an embedding program.
        let principal = parts.extensions.get::<Principal>().cloned().unwrap_or_default();
        let caller = Caller { principal, credentials: headers.credentials };
        let checked = self.keys.check_headers(&parts.headers, &caller, arrival);
        checked.map_err(|rejection| rejection_response(&rejection, None))?;
        Ok(RequestContext { is_near, arrival, sender: RequestSender { caller, lease }, headers })
    }

    /// Whether this client may be told what a server wrote on stderr.
    fn may_see_stderr(&self, context: &RequestContext) -> bool {
        context.is_near || self.expose_stderr
    }

    /// By which key the `initialize` of this request finds its session, if by any.
    fn joining(&self, headers: &HeaderMap, caller: &Caller, arrival: Arrival) -> Result<Joining, EarlyResponse> {
        let wanted = self.keys.wanted(headers, caller, arrival);
        let Some(wanted) = wanted.map_err(|rejection| rejection_response(&rejection, None))? else {
            return Ok(Joining::default());
        };
        let WantedKey::Cookie { .. } = wanted else {
            return Ok(Joining { by: Some(wanted.join_by("", caller)), cookie: None });
        };
        let minted = new_token().map_err(|refused| session_refused(refused, None))?;
        let cookie = self.keys.cookie_name(headers, arrival).set(&minted);
        Ok(Joining { by: Some(wanted.join_by(&minted, caller)), cookie })
    }

    /// Whether a session that is opened for this request, and that others may join by such a key, may tell them what a
    /// server wrote on stderr: one that clients from elsewhere may join does not.
    fn exposes_stderr(&self, is_near: bool, joining: &Joining, arrival: Arrival) -> bool {
        let is_for_near_clients =
            joining.by.is_none() || arrival.listener.is_some_and(|listener| listener.ip().to_canonical().is_loopback());
        self.expose_stderr || is_near && is_for_near_clients
    }

    /// Reads the body of a POST to `session`, or to no session yet.
    async fn read_posted(
        &self,
        parts: &Parts,
        body: &mut Body,
        headers: ForwardedHeaders,
        session: Option<&SessionHandle>,
    ) -> Result<PostedBody, EarlyResponse> {
        let read = if let Some(session) = session {
            let growth = session.upward().buffer_charge();
            body::read(&parts.headers, body, self.message_size, growth).await
        } else {
            let growth = self.supervisor.budget_without_session().buffer_charge();
            let reading = body::read(&parts.headers, body, self.supervisor.message_limit_without_session(), growth);
            timeout(STRANGER_BODY_WITHIN, reading).await.unwrap_or(Err(ProxyError::MessageStalled))
        };
        let (bytes, grown) = read.map_err(|error| {
            let status = match error {
                ProxyError::MessageTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
                ProxyError::MessageStalled => StatusCode::REQUEST_TIMEOUT,
                _ => StatusCode::BAD_REQUEST,
            };
            error_response(status, &error, None)
        })?;
        let size = bytes.len() + headers.bytes;
        let incoming = match frame::split(bytes) {
            Ok(incoming) => incoming.with_headers(headers.forwarded),
            Err(error) => return Err(unreadable_body(session, &error).await.into()),
        };
        Ok(PostedBody { incoming, size, grown, has_session: session.is_some() })
    }
}

/// How an `initialize` finds its session.
#[derive(Debug, Default)]
struct Joining {
    /// `None` if it opens one in any case.
    by: Option<JoinBy>,
    /// The header that gives the client a cookie, if a session is opened for a fresh one.
    cookie: Option<HeaderValue>,
}

impl Joining {
    /// The cookie that the client has to be given, now that it has this place in a session.
    fn cookie_for(self, place: &UnclaimedSession) -> Option<HeaderValue> {
        self.cookie.filter(|_| place.has_fresh_key())
    }
}

/// The token that ends the connection of a request, if its client does not read the response while others need the
/// memory. In an embedding program that serves connections itself, nobody listens to it.
fn connection_cut(parts: &Parts) -> CancellationToken {
    parts.extensions.get::<ConnectionCut>().map(|cut| cut.0.clone()).unwrap_or_default()
}

/// The token that ends the connection of a request; an extension of each request that `serve.rs` accepts.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionCut(pub CancellationToken);

/// The address of the listener that a request came to; an extension of each request that `serve.rs` accepts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ListenerAddress(pub SocketAddr);

/// Whether this is the request that opens a session.
fn is_initialize(frame: &Frame) -> bool {
    frame.kind() == Kind::Request && frame.method() == Some(mcp::INITIALIZE)
}
