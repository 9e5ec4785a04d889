//! The address to which the browser returns: a listener on loopback for one login, closed when that login is over (RFC
//! 8252, section 7.3).
//!
//! Any page in the browser can send a request to it, so only a request with the login's own `state` counts. All others
//! get a page that says so, and change nothing.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use url::{Host, Url, form_urlencoded};

use super::http_client::quote;
use crate::config::{OAuthSettings, Secret, loopback_redirect};

/// Most connections at once. Browsers open some that they never use.
const MAX_CONNECTIONS: usize = 16;
/// How long a connection may take to send the head of its request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the browser may take to fetch the last page.
const LAST_PAGE_TIMEOUT: Duration = Duration::from_secs(3);
/// The largest head of a request, in bytes: a code is long at some authorization servers.
const MAX_REQUEST_HEAD: usize = 64 * 1024;

/// The listener of one login.
pub(super) struct RedirectListener {
    listeners: Vec<TcpListener>,
    uri: String,
    path: String,
    connections: FuturesUnordered<BoxFuture<'static, ()>>,
}

/// How the authorization server sent the person back (RFC 6749, section 4.1.2).
pub(super) enum AuthorizationResponse {
    Code { code: Secret, issuer: Option<String> },
    Refused { error: String, description: String },
}

/// What the person sees at the end of the login.
pub(super) enum LoginPage {
    Done,
    Failed(String),
}

/// A browser that waits for its page.
struct BrowserArrival {
    back: AuthorizationResponse,
    page: oneshot::Sender<LoginPage>,
}

impl RedirectListener {
    /// Listens where the settings say; else where the last login did, because the client may be registered for that
    /// address; else on any port. An error comes with the address.
    pub(super) async fn bind(settings: &OAuthSettings, last: Option<&str>) -> Result<Self, (String, io::Error)> {
        if let Some(uri) = settings.redirect_uri.as_deref().and_then(loopback_redirect) {
            return Self::bind_to(ListenAddress::of(&uri)).await;
        }
        if let Some(port) = settings.redirect_port {
            return Self::bind_to(ListenAddress::own(port)).await;
        }
        if let Some(uri) = last.and_then(loopback_redirect)
            && let Ok(bound) = Self::bind_to(ListenAddress::of(&uri)).await
        {
            return Ok(bound);
        }
        Self::bind_to(ListenAddress::own(0)).await
    }

    async fn bind_to(target: ListenAddress) -> Result<Self, (String, io::Error)> {
        let failed = |error| (target.address.to_string(), error);
        let first = TcpListener::bind(target.address).await.map_err(failed)?;
        let port = first.local_addr().map_err(failed)?.port();
        let mut listeners = vec![first];
        // Some browsers try the IPv6 address of `localhost` first. On systems without IPv6 they do not.
        if target.localhost
            && let Ok(second) = TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await
        {
            listeners.push(second);
        }
        let host = if target.localhost {
            format!("localhost:{port}")
        } else {
            SocketAddr::new(target.address.ip(), port).to_string()
        };
        let uri = format!("http://{host}{}", target.path);
        Ok(Self { listeners, uri, path: target.path, connections: FuturesUnordered::new() })
    }

    /// The redirect URI, as it is to be registered and sent.
    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    /// Waits for the browser that brings `state`.
    pub(super) async fn wait(&mut self, state: Secret) -> (AuthorizationResponse, WaitingBrowser) {
        let (arrivals, mut arrived) = mpsc::channel::<BrowserArrival>(1);
        let expected = Arc::new(ExpectedRedirect { state, path: self.path.clone() });
        loop {
            let room = self.connections.len() < MAX_CONNECTIONS;
            tokio::select! {
                Some(arrival) = arrived.recv() => {
                    return (arrival.back, WaitingBrowser(arrival.page));
                }
                Some(()) = self.connections.next() => {}
                stream = accept(&self.listeners), if room => {
                    self.connections.push(Box::pin(converse(stream, expected.clone(), arrivals.clone())));
                }
            }
        }
    }

    /// Shows the last page, and stops listening.
    pub(super) async fn finish(mut self, waiting: WaitingBrowser, page: LoginPage) {
        self.listeners.clear();
        let _ = waiting.0.send(page);
        let _ = timeout(LAST_PAGE_TIMEOUT, async { while self.connections.next().await.is_some() {} }).await;
    }
}

/// An address to listen on.
struct ListenAddress {
    address: SocketAddr,
    /// Whether the redirect URI has the name `localhost`, which stands for an IPv4 and an IPv6 address.
    localhost: bool,
    path: String,
}

impl ListenAddress {
    fn own(port: u16) -> Self {
        Self { address: (Ipv4Addr::LOCALHOST, port).into(), localhost: false, path: "/callback".to_owned() }
    }

    /// `uri` is one that [`loopback_redirect`] has let pass.
    fn of(uri: &Url) -> Self {
        let port = uri.port_or_known_default().unwrap_or(0);
        let (address, localhost) = match uri.host() {
            Some(Host::Ipv4(address)) => ((address, port).into(), false),
            Some(Host::Ipv6(address)) => ((address, port).into(), false),
            _ => ((Ipv4Addr::LOCALHOST, port).into(), true),
        };
        Self { address, localhost, path: uri.path().to_owned() }
    }
}

/// A browser that is told how the login ended by [`RedirectListener::finish`].
pub(super) struct WaitingBrowser(oneshot::Sender<LoginPage>);

struct ExpectedRedirect {
    state: Secret,
    path: String,
}

async fn accept(listeners: &[TcpListener]) -> TcpStream {
    loop {
        let mut accepts: FuturesUnordered<_> = listeners.iter().map(TcpListener::accept).collect();
        if let Some(Ok((stream, _))) = accepts.next().await {
            return stream;
        }
        // Accepting has failed, perhaps for want of file descriptors, and would fail again at once.
        sleep(Duration::from_millis(100)).await;
    }
}

async fn converse(stream: TcpStream, expected: Arc<ExpectedRedirect>, arrivals: mpsc::Sender<BrowserArrival>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (expected, arrivals) = (expected.clone(), arrivals.clone());
        async move { Ok::<_, Infallible>(answer(&request, &expected, &arrivals).await) }
    });
    // Errors of a connection are ignored: a browser whose connection fails opens another.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_REQUEST_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(
    request: &Request<Incoming>,
    expected: &ExpectedRedirect,
    arrivals: &mpsc::Sender<BrowserArrival>,
) -> Response<Full<Bytes>> {
    if request.uri().path() != expected.path {
        return page(StatusCode::NOT_FOUND, "Nothing is here", "This address is for the end of a login only.");
    }
    if request.method() != Method::GET {
        return page(StatusCode::METHOD_NOT_ALLOWED, "Nothing is here", "A login ends with a GET request.");
    }
    let Some(back) = read_return(request.uri().query().unwrap_or_default(), &expected.state) else {
        tracing::warn!("something that is no answer to the login came to its redirect address, and was left aside");
        return page(
            StatusCode::BAD_REQUEST,
            "This is not the login that sessile waits for",
            "It may be an older one. Use the address that was printed last.",
        );
    };
    let (sender, ended) = oneshot::channel();
    if arrivals.try_send(BrowserArrival { back, page: sender }).is_err() {
        return page(StatusCode::CONFLICT, "This login is over already", "You can close this window.");
    }
    match ended.await {
        Ok(LoginPage::Done) => page(StatusCode::OK, "You are logged in", "You can close this window."),
        Ok(LoginPage::Failed(reason)) => page(StatusCode::BAD_REQUEST, "The login failed", &reason),
        Err(_) => page(StatusCode::BAD_REQUEST, "The login failed", "Nobody waited for it any more."),
    }
}

/// Reads the authorization response in a query. Returns `None` if it is not the response to the login with this
/// `state`.
fn read_return(query: &str, state: &Secret) -> Option<AuthorizationResponse> {
    let mut fields: [Option<String>; 5] = Default::default();
    let names = ["state", "code", "error", "error_description", "iss"];
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if let Some(at) = names.iter().position(|known| *known == name) {
            // A field that stands twice could be read differently by another program.
            if fields[at].replace(value.into_owned()).is_some() {
                return None;
            }
        }
    }
    let [came, code, error, description, issuer] = fields;
    if came.as_deref() != Some(state.expose()) {
        return None;
    }
    match (code, error) {
        (Some(code), None) if !code.is_empty() => Some(AuthorizationResponse::Code { code: code.into(), issuer }),
        (_, Some(error)) => Some(AuthorizationResponse::Refused {
            error: quote(&error),
            description: quote(&description.unwrap_or_default()),
        }),
        _ => None,
    }
}

/// Returns a small page without links and without anything to load, which browsers do not cache.
fn page(status: StatusCode, title: &str, text: &str) -> Response<Full<Bytes>> {
    let (title, text) = (escape(title), escape(text));
    let body = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>sessile</title>\
         <body style=\"font:16px sans-serif;margin:4em auto;max-width:32em\"><h1>{title}</h1><p>{text}</p></body></html>\n"
    );
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
        (header::CONNECTION, "close"),
    ] {
        response.headers_mut().insert(name, header::HeaderValue::from_static(value));
    }
    response
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> String {
        match read_return(query, &Secret::from("st4te")) {
            None => "nothing".to_owned(),
            Some(AuthorizationResponse::Code { code, issuer }) => format!("code {} {issuer:?}", code.expose()),
            Some(AuthorizationResponse::Refused { error, description }) => format!("refused {error} {description}"),
        }
    }

    #[test]
    fn only_the_own_state_counts() {
        let table = [
            ("code=abc&state=st4te", "code abc None"),
            ("state=st4te&code=a%2Bb&iss=https%3A%2F%2Fa.test&x=y", r#"code a+b Some("https://a.test")"#),
            ("error=access_denied&error_description=not%0Atoday&state=st4te", "refused access_denied not today"),
            ("code=abc", "nothing"),
            ("code=abc&state=other", "nothing"),
            ("code=abc&state=", "nothing"),
            ("error=access_denied", "nothing"),
            ("error=access_denied&state=other", "nothing"),
            ("code=abc&state=st4te&state=st4te", "nothing"),
            ("code=abc&code=def&state=st4te", "nothing"),
            ("code=&state=st4te", "nothing"),
            ("state=st4te", "nothing"),
            ("", "nothing"),
        ];
        for (query, expected) in table {
            assert_eq!(read(query), expected, "{query}");
        }
    }

    #[test]
    fn foreign_text_is_no_markup() {
        assert_eq!(escape("<script>&"), "&lt;script&gt;&amp;");
    }

    #[tokio::test]
    async fn the_last_port_is_taken_again_where_it_is_free() {
        let settings = OAuthSettings::default();
        let first = RedirectListener::bind(&settings, None)
            .await
            .unwrap_or_else(|(address, error)| panic!("{address}: {error}"));
        let uri = first.uri().to_owned();
        assert!(uri.starts_with("http://127.0.0.1:") && uri.ends_with("/callback"), "{uri}");
        let other = RedirectListener::bind(&settings, Some(&uri))
            .await
            .unwrap_or_else(|(address, error)| panic!("{address}: {error}"));
        assert_ne!(other.uri(), uri, "it is in use");
        let port = loopback_redirect(&uri).unwrap().port();
        let wanted = OAuthSettings { redirect_port: port, ..settings.clone() };
        let (address, _) = RedirectListener::bind(&wanted, None).await.err().unwrap();
        assert_eq!(Some(address), port.map(|port| format!("127.0.0.1:{port}")));
        drop(first);
        let again = RedirectListener::bind(&settings, Some(&uri))
            .await
            .unwrap_or_else(|(address, error)| panic!("{address}: {error}"));
        assert_eq!(again.uri(), uri);
    }
}
