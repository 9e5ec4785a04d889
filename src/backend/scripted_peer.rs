//! The scripted HTTP server of all tests of backends: a test says what comes back for each request, and asks afterwards
//! what was asked.
//!
//! The peer of `tests/backends/` is another one: there a test holds the connection, and writes a response byte by byte
//! while it looks at what the proxy does. Here a test answers with whole responses, which a real HTTP server sends.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::serve::Listener;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Longer than anything takes in a test that passes.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct PeerRequest {
    pub method: String,
    /// With the query.
    pub path: String,
    pub headers: http::HeaderMap,
    pub body: String,
}

impl PeerRequest {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn has(&self, text: &str) -> bool {
        self.body.contains(text)
    }

    /// The HTTP method and that of the JSON-RPC message, `POST answer` for a response, or the HTTP method alone.
    pub(crate) fn kind(&self) -> String {
        let message: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        let method = message["method"].as_str().unwrap_or(if message["id"].is_null() { "" } else { "answer" });
        format!("{} {method}", self.method).trim().to_owned()
    }
}

pub(crate) type PeerResponse = Response<Body>;

/// A server that answers each request as a function says, and remembers the requests. It stops when this is dropped.
pub(crate) struct ScriptedPeer {
    origin: String,
    requests: Arc<Mutex<Vec<PeerRequest>>>,
    serving: JoinHandle<()>,
}

impl Drop for ScriptedPeer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl ScriptedPeer {
    /// Answers on a port of its own.
    pub(crate) async fn start<F>(respond: impl Fn(PeerRequest) -> F + Clone + Send + Sync + 'static) -> Self
    where
        F: Future<Output = PeerResponse> + Send,
    {
        let (listener, origin) = Self::listen().await;
        Self::on(listener, origin, respond)
    }

    /// A listener on a free port, and the origin of URLs that lead to it.
    pub(crate) async fn listen() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        (listener, origin)
    }

    /// Answers whoever connects to `listener`.
    pub(crate) fn on<F>(
        listener: impl Listener<Addr: std::fmt::Debug>,
        origin: String,
        respond: impl Fn(PeerRequest) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = PeerResponse> + Send,
    {
        let requests: Arc<Mutex<Vec<PeerRequest>>> = Arc::default();
        let came = requests.clone();
        let router = Router::new().fallback(move |request: Request| {
            let (came, respond) = (came.clone(), respond.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
                let path = parts.uri.path_and_query().unwrap().to_string();
                let request = PeerRequest { method: parts.method.to_string(), path, headers: parts.headers, body };
                came.lock().unwrap().push(request.clone());
                respond(request).await
            }
        });
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { origin, requests, serving }
    }

    /// Writes `bytes`, which need not be HTTP, to each POST of a call and closes the connection; answers everything
    /// else as [`plain_response`] does, and remembers nothing.
    pub(crate) async fn start_raw(bytes: Vec<u8>) -> Self {
        let (listener, origin) = Self::listen().await;
        let serving = tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let bytes = bytes.clone();
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while !request.ends_with(b"}}") && !request.starts_with(b"DELETE") && !request.starts_with(b"GET") {
                        if socket.read_buf(&mut request).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    let request = String::from_utf8_lossy(&request).into_owned();
                    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n";
                    let said = if request.contains("tools/call") {
                        bytes
                    } else if request.contains("\"initialize\"") {
                        let length = INITIALIZE_RESPONSE.len();
                        format!("{head}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{INITIALIZE_RESPONSE}").into()
                    } else {
                        format!("{head}content-length: 0\r\n\r\n").into()
                    };
                    let _ = socket.write_all(&said).await;
                    let _ = socket.shutdown().await;
                    // Until the peer has read it: a reset would take bytes with it.
                    let _ = timeout(Duration::from_secs(5), socket.read_buf(&mut Vec::new())).await;
                });
            }
        });
        Self { origin, requests: Arc::default(), serving }
    }

    /// The URL of the MCP endpoint.
    pub(crate) fn url(&self) -> String {
        format!("{}/mcp", self.origin)
    }

    /// The requests that have come, oldest first.
    pub(crate) fn requests(&self) -> Vec<PeerRequest> {
        self.requests.lock().unwrap().clone()
    }

    /// The [kinds](PeerRequest::kind) of all requests that have come.
    pub(crate) fn kinds(&self) -> Vec<String> {
        self.requests().iter().map(PeerRequest::kind).collect()
    }

    /// Waits until `count` requests of that kind have come, and returns all of that kind.
    pub(crate) async fn wait_for(&self, kind: &str, count: usize) -> Vec<PeerRequest> {
        let find = async {
            loop {
                let found: Vec<_> = self.requests().into_iter().filter(|request| request.kind() == kind).collect();
                if found.len() >= count {
                    return found;
                }
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(TEST_TIMEOUT, find).await.unwrap_or_else(|_| panic!("{count} of {kind}: {:?}", self.kinds()))
    }
}

pub(crate) fn status(status: u16) -> PeerResponse {
    Response::builder().status(status).body(Body::empty()).unwrap()
}

pub(crate) fn text(status: u16, content_type: &str, body: impl Into<Body>) -> PeerResponse {
    Response::builder().status(status).header("content-type", content_type).body(body.into()).unwrap()
}

pub(crate) fn json(body: impl Into<Body>) -> PeerResponse {
    text(200, "application/json", body)
}

/// Events that are there, then the end.
pub(crate) fn events(body: impl Into<Body>) -> PeerResponse {
    text(200, "text/event-stream", body)
}

/// Events as they are said; it ends when the sender is dropped.
pub(crate) fn live() -> (mpsc::Sender<String>, PeerResponse) {
    let (sender, receiver) = mpsc::channel::<String>(100);
    let chunks = stream::unfold(receiver, async |mut receiver| {
        let chunk = receiver.recv().await?;
        Some((Ok::<_, Infallible>(Bytes::from(chunk)), receiver))
    });
    (sender, events(Body::from_stream(chunks)))
}

/// A stream on which nothing is ever said.
pub(crate) fn silence() -> PeerResponse {
    events(Body::from_stream(stream::pending::<Result<Bytes, Infallible>>()))
}

/// A stream that says this and breaks off without an end.
pub(crate) fn cut(said: &str) -> PeerResponse {
    let said = Bytes::from(said.to_owned());
    let chunks = stream::unfold(Some(said), async |said| {
        if let Some(said) = said {
            return Some((Ok(said), None));
        }
        // What was said is on its way first.
        sleep(Duration::from_millis(30)).await;
        Some((Err(std::io::Error::other("cut")), None))
    });
    events(Body::from_stream(chunks))
}

/// A result for the request in the body.
pub(crate) fn result_for(request: &PeerRequest) -> String {
    let message: serde_json::Value = serde_json::from_str(&request.body).unwrap();
    format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"ok":true}}}}"#, message["id"])
}

pub(crate) const INITIALIZE_RESPONSE: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"s","version":"1"}}}"#;

pub(crate) fn initialize_response() -> PeerResponse {
    let mut answer = json(INITIALIZE_RESPONSE);
    answer.headers_mut().insert("mcp-session-id", "s-1".parse().unwrap());
    answer
}

/// What a plain server says: a session on `initialize`, a result on calls, 202 on the rest, no GET stream.
pub(crate) fn plain_response(request: &PeerRequest) -> PeerResponse {
    match request.kind().as_str() {
        "POST initialize" => initialize_response(),
        "POST answer" => status(202),
        what if what.starts_with("POST notifications/") => status(202),
        "GET" => status(405),
        "DELETE" => status(200),
        _ => json(result_for(request)),
    }
}
