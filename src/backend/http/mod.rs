//! A server that is reached over HTTP: streamable HTTP, or HTTP+SSE of 2024-11-05.
//!
//! Each session has a session of its own on the server; all of them share one pool of connections (`upstream.rs`). What
//! follows from a server's responses is decided in files without I/O: `rules.rs`, `responses.rs`, `sse_decoder.rs` and
//! `reconnect.rs`.

mod address;
mod body;
mod call;
mod input;
mod link;
mod negotiation;
mod partial_event;
mod position;
mod reader;
mod receive;
mod reconnect;
mod responses;
mod rules;
mod secrets;
mod send_gate;
mod server_requests;
mod sse;
mod sse_decoder;
mod streamable;
mod upstream;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, redirect};
use tokio::sync::OnceCell;

use self::address::Address;
use self::upstream::Upstream;
use super::configured_token::ConfiguredToken;
use super::credentials::{CredentialError, TokenSource};
use super::oauth::OAuth;
use super::{Backend, factory};
use crate::config::OAuthSettings;
use crate::headers::{why_not_forwarded, why_not_sent};
use crate::link::{LinkContext, LinkExit, LinkOpener};

pub use crate::config::Transport;

/// How long it may take to connect, unless another time is set.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an unused connection is kept. A connection that its server closes at the moment when a call is sent on it
/// takes that call with it, and nobody knows whether the call was carried out. Plain servers such as Node's and uvicorn
/// close after five seconds, and a new connection to them costs little; gateways on the internet wait for a minute or
/// more.
const IDLE_PLAIN: Duration = Duration::from_secs(4);
const IDLE_TLS: Duration = Duration::from_secs(50);
/// Most unused connections that are kept for each server.
const MAX_IDLE_CONNECTIONS: usize = 64;
/// TCP keep-alive: calls and streams may be quiet for hours, so a peer that has vanished would not be noticed without
/// it.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_RETRIES: u32 = 3;

/// Why an [`HttpBackend`] cannot be built as it was configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpBackendError {
    /// The text is no URL.
    #[error("the server's URL cannot be read ({0}): write it as https://host/path")]
    Url(String),
    /// A URL of another scheme.
    #[error("the server's URL begins with `{0}:`: only http:// and https:// are spoken")]
    Scheme(String),
    /// A header that may not be set or forwarded.
    #[error("the header `{name}` cannot be sent to the server: {reason}")]
    Header {
        /// Its name.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// Credentials that are not there or cannot be used.
    #[error("{0}")]
    Credentials(String),
}

/// A server behind a URL. Each session gets a session of its own there; connections are shared.
///
/// Compressed responses are decoded, redirects are followed within the server's origin only, and HTTP proxies are taken
/// from the usual environment variables, but not used for servers on this machine. HTTP/1.1 is spoken: a stream that
/// nobody reads then holds up nothing but itself, and there may be as many streams as there are sessions.
#[derive(Clone)]
pub struct HttpBackend {
    address: Address,
    transport: Transport,
    headers: HeaderMap,
    forwards: Vec<HeaderName>,
    token_source: Option<Arc<dyn TokenSource>>,
    unix_socket: Option<PathBuf>,
    connect_timeout: Duration,
    /// Built with the first link, when all settings have been made.
    upstream: Arc<OnceCell<Result<Arc<Upstream>, String>>>,
}

impl HttpBackend {
    /// A server by its URL. A user name and password in it are sent as basic authentication.
    pub fn new(url: &str) -> Result<Self, HttpBackendError> {
        Ok(Self {
            address: Address::parse(url)?,
            transport: Transport::Auto,
            headers: HeaderMap::new(),
            forwards: Vec::new(),
            token_source: None,
            unix_socket: None,
            connect_timeout: CONNECT_TIMEOUT,
            upstream: Arc::default(),
        })
    }

    /// Sets the transport; [`Transport::Auto`] unless this is called.
    #[must_use]
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self.changed()
    }

    /// Adds a header to every request. Its value is a secret, and is never shown.
    ///
    /// Headers of the connection and of the message cannot be set: `Host`, `Accept`, `Content-*`, `Mcp-*` and the like.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, HttpBackendError> {
        let refuse = |reason| HttpBackendError::Header { name: name.to_owned(), reason };
        let known = rules::header_name(name, why_not_sent).map_err(refuse)?;
        let mut value =
            HeaderValue::from_str(value.trim()).map_err(|_| refuse("its value has characters that no header has"))?;
        value.set_sensitive(true);
        self.headers.append(known, value);
        Ok(self.changed())
    }

    /// Passes a header of the client's own request on with its message, if the client sent it.
    ///
    /// `Authorization` and `Cookie` are passed on only if they are named here. Headers of the connection and of the
    /// message cannot be passed on: `Host`, `Accept`, `Content-*`, `Mcp-*` and the like.
    pub fn forward_header(mut self, name: &str) -> Result<Self, HttpBackendError> {
        let refuse = |reason| HttpBackendError::Header { name: name.to_owned(), reason };
        let known = rules::header_name(name, why_not_forwarded).map_err(refuse)?;
        if !self.forwards.contains(&known) {
            self.forwards.push(known);
        }
        Ok(self.changed())
    }

    /// Sends the bearer token in this file, which is read again when it changes. Replaces credentials that were set
    /// before.
    pub fn bearer_file(self, path: impl Into<PathBuf>) -> Result<Self, HttpBackendError> {
        ConfiguredToken::file(path.into()).map_err(no_credentials).map(|configured| self.with_token_source(configured))
    }

    /// Sends the bearer token that this environment variable holds now. Replaces credentials that were set before.
    pub fn bearer_env(self, name: &str) -> Result<Self, HttpBackendError> {
        ConfiguredToken::variable(name).map_err(no_credentials).map(|configured| self.with_token_source(configured))
    }

    /// Sends this bearer token. Replaces credentials that were set before.
    pub fn bearer(self, token: &str) -> Result<Self, HttpBackendError> {
        let configured = ConfiguredToken::given("the configuration".to_owned(), token);
        configured.map_err(no_credentials).map(|configured| self.with_token_source(configured))
    }

    /// Logs in as the server says, and sends the tokens that the login brings. Replaces credentials that were set
    /// before.
    pub fn oauth(self, settings: OAuthSettings) -> Result<Self, HttpBackendError> {
        settings.check().map_err(|error| HttpBackendError::Credentials(error.to_string()))?;
        let oauth = OAuth::new(&self.address.without_userinfo(), settings);
        Ok(self.with_token_source(oauth))
    }

    fn with_token_source(mut self, token_source: impl TokenSource + 'static) -> Self {
        self.token_source = Some(Arc::new(token_source));
        self.changed()
    }

    /// Connects to a unix socket. The URL then says which path and `Host` are requested.
    #[must_use]
    pub fn unix_socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.unix_socket = Some(path.into());
        self.changed()
    }

    /// Sets how long it may take to connect, with TLS; 10 seconds unless this is called.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self.changed()
    }

    /// Forgets the built upstream: a clone whose settings were changed must not share that of the original.
    fn changed(mut self) -> Self {
        self.upstream = Arc::default();
        self
    }

    /// Returns the [`Upstream`] that all links of this server share, or `None` if this link is stopped before it is
    /// built.
    ///
    /// The first link builds it while the others wait. To build it reads the system's certificates, which may block.
    async fn upstream(self: Arc<Self>, context: &LinkContext) -> Option<Result<Arc<Upstream>, LinkExit>> {
        let server = self.clone();
        let making = self.upstream.get_or_try_init(async || {
            let made = factory::make(context, move || server.build().map(Arc::new)).await;
            made.map_or(Err(None), |made| made.map_err(Some))
        });
        tokio::select! {
            made = making => match made {
                Ok(upstream) => Some(upstream.clone().map_err(|reason| LinkExit::Failed { reason })),
                Err(exit) => exit.map(Err),
            },
            () = context.stop.cancelled() => None,
        }
    }

    fn build(&self) -> Result<Upstream, String> {
        super::tls::ensure_provider();
        let tls = self.address.url().scheme() == "https";
        let mut client = Client::builder()
            .user_agent(concat!("sessile/", env!("CARGO_PKG_VERSION")))
            .http1_only()
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(self.connect_timeout)
            .pool_idle_timeout(if tls { IDLE_TLS } else { IDLE_PLAIN })
            .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS)
            .tcp_nodelay(true)
            .tcp_keepalive(KEEPALIVE_INTERVAL)
            .tcp_keepalive_interval(KEEPALIVE_INTERVAL)
            .tcp_keepalive_retries(KEEPALIVE_RETRIES);
        if !tls {
            // Without TLS there is no need to read the system's certificates.
            client = client.tls_certs_only([]);
        }
        if self.address.is_loopback() {
            client = client.no_proxy();
        }
        if let Some(path) = &self.unix_socket {
            #[cfg(unix)]
            {
                client = client.unix_socket(path.as_path());
            }
            #[cfg(not(unix))]
            return Err(format!("there are no unix sockets on this system: leave {} out", path.display()));
        }
        let client = client.build().map_err(reader::error_chain)?;
        let (url, bare) = (self.address.url(), self.address.without_userinfo());
        let mut headers = self.headers.clone();
        if !url.username().is_empty() || url.password().is_some() {
            // Building a request turns the credentials in the URL into a header.
            let request = client.get(url.clone()).build().map_err(reader::error_chain)?;
            let basic = request.headers().get(header::AUTHORIZATION);
            if let (Some(basic), false) = (basic, headers.contains_key(header::AUTHORIZATION)) {
                headers.insert(header::AUTHORIZATION, basic.clone());
            }
        }
        Ok(Upstream {
            client,
            url: bare,
            headers,
            forwards: self.forwards.clone().into(),
            token_source: self.token_source.clone(),
            token: Mutex::default(),
            speaks_sse: AtomicBool::new(false),
        })
    }
}

impl fmt::Debug for HttpBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.keys().map(|name| format!("{name}: ***")).collect();
        f.debug_struct("HttpBackend")
            .field("url", &self.address.to_string())
            .field("transport", &self.transport)
            .field("headers", &headers)
            .field("forwards", &self.forwards)
            .field("credentials", &self.token_source)
            .field("unix_socket", &self.unix_socket)
            .field("connect_timeout", &self.connect_timeout)
            .finish_non_exhaustive()
    }
}

impl From<HttpBackend> for Backend {
    fn from(server: HttpBackend) -> Self {
        Self::http(server)
    }
}

impl LinkOpener for HttpBackend {
    fn run(self: Arc<Self>, context: LinkContext) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let transport = self.transport;
            match self.upstream(&context).await {
                Some(Ok(upstream)) => negotiation::run(upstream, transport, context).await,
                Some(Err(exit)) => context.link_events.closed(exit),
                None => {}
            }
        })
    }

    fn describe(&self) -> String {
        format!("http {}", self.address)
    }

    fn forwards(&self) -> Vec<String> {
        self.forwards.iter().map(|name| name.as_str().to_owned()).collect()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to `map_err`")]
fn no_credentials(error: CredentialError) -> HttpBackendError {
    HttpBackendError::Credentials(error.to_string())
}

/// Returns a random number that spreads reconnections over time, or 0 if the system has none to give.
fn random() -> u32 {
    getrandom::u32().unwrap_or(0)
}
