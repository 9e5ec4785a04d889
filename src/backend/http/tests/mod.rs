//! The HTTP backend against scripted servers on loopback, and its pure parts.
//!
//! A [`Server`] is a function from requests to responses that remembers what it was asked; a [`Session`] is what a session is
//! to its link: a queue of messages out, and an inlet that hears.

mod auto;
mod bodies;
mod bounds;
mod credentials;
mod ends;
mod order;
mod panics;
mod redirects;
mod resume;
mod rules;
mod sse;
mod sse_decoder;
mod streamable;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::backend::Backend;
use crate::budget::Budget;
use crate::frame::{Forwarded, FrameError, Id, Incoming, Permit, Wire};
use crate::link::{CallFailure, Inlet, Launch, LinkExit, LostMessage, Outward, Purpose};

/// Longer than anything takes here.
const LONG: Duration = Duration::from_secs(20);
/// The largest message.
const LIMIT: usize = 64 * 1024;

/// A request that a server has seen.
#[derive(Debug, Clone)]
struct Seen {
    method: String,
    /// With the query.
    path: String,
    headers: http::HeaderMap,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn has(&self, text: &str) -> bool {
        self.body.contains(text)
    }

    /// In one word, for comparisons: the method, and what the body says its own is.
    fn what(&self) -> String {
        let message: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        let said = message["method"].as_str().unwrap_or(if message["id"].is_null() { "" } else { "answer" });
        format!("{} {said}", self.method).trim().to_owned()
    }
}

type Answer = Response<Body>;

/// A server on loopback. It ends with its handle.
struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    serving: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Server {
    async fn start<F>(answer: impl Fn(Seen) -> F + Clone + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Answer> + Send,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let router = router(seen.clone(), answer);
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, seen, serving }
    }

    fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn whats(&self) -> Vec<String> {
        self.seen().iter().map(Seen::what).collect()
    }

    /// Waits until as many requests of that kind were seen, and returns them.
    async fn saw(&self, what: &str, count: usize) -> Vec<Seen> {
        let find = async {
            loop {
                let found: Vec<_> = self.seen().into_iter().filter(|seen| seen.what() == what).collect();
                if found.len() >= count {
                    return found;
                }
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(LONG, find).await.unwrap_or_else(|_| panic!("{count} of {what}: {:?}", self.whats()))
    }
}

fn router<F>(seen: Arc<Mutex<Vec<Seen>>>, answer: impl Fn(Seen) -> F + Clone + Send + Sync + 'static) -> Router
where
    F: Future<Output = Answer> + Send,
{
    Router::new().fallback(move |request: Request| {
        let (seen, answer) = (seen.clone(), answer.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
            let path = parts.uri.path_and_query().unwrap().to_string();
            let request = Seen { method: parts.method.to_string(), path, headers: parts.headers, body };
            seen.lock().unwrap().push(request.clone());
            answer(request).await
        }
    })
}

fn status(status: u16) -> Answer {
    Response::builder().status(status).body(Body::empty()).unwrap()
}

fn text(status: u16, content_type: &str, body: impl Into<Body>) -> Answer {
    Response::builder().status(status).header("content-type", content_type).body(body.into()).unwrap()
}

fn json(body: impl Into<Body>) -> Answer {
    text(200, "application/json", body)
}

/// Events that are there, then the end.
fn events(body: impl Into<Body>) -> Answer {
    text(200, "text/event-stream", body)
}

/// Events as they are said; it ends when the sender is dropped.
fn live() -> (mpsc::Sender<String>, Answer) {
    let (sender, receiver) = mpsc::channel::<String>(100);
    let chunks = stream::unfold(receiver, async |mut receiver| {
        let chunk = receiver.recv().await?;
        Some((Ok::<_, Infallible>(Bytes::from(chunk)), receiver))
    });
    (sender, events(Body::from_stream(chunks)))
}

/// A stream on which nothing is ever said.
fn silence() -> Answer {
    events(Body::from_stream(stream::pending::<Result<Bytes, Infallible>>()))
}

/// A stream that says this and breaks off without an end.
fn cut(said: &str) -> Answer {
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
fn result_for(request: &Seen) -> String {
    let message: serde_json::Value = serde_json::from_str(&request.body).unwrap();
    format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"ok":true}}}}"#, message["id"])
}

const WELCOME: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"s","version":"1"}}}"#;

fn welcome() -> Answer {
    let mut answer = json(WELCOME);
    answer.headers_mut().insert("mcp-session-id", "s-1".parse().unwrap());
    answer
}

/// What a plain server says: a session on `initialize`, a result on calls, 202 on the rest, no GET stream.
fn plainly(request: &Seen) -> Answer {
    match request.what().as_str() {
        "POST initialize" => welcome(),
        "POST answer" => status(202),
        what if what.starts_with("POST notifications/") => status(202),
        "GET" => status(405),
        "DELETE" => status(200),
        _ => json(result_for(request)),
    }
}

/// What a session heard from its link.
#[derive(Debug, PartialEq)]
enum Heard {
    Message { text: String, on: Option<u64> },
    Bad { on: Option<u64> },
    Failed(u64, CallFailure),
    Lost(LostMessage),
    Closed(LinkExit),
}

struct Ear(mpsc::Sender<Heard>, Budget);

impl Ear {
    fn hear(&self, heard: Heard) {
        self.0.try_send(heard).unwrap();
    }
}

impl Inlet for Ear {
    fn budget(&self) -> &Budget {
        &self.1
    }

    fn answers(&self) -> &Budget {
        &self.1
    }

    fn deliver(&self, frames: Result<Incoming, FrameError>, _: Option<Permit>, on: Option<u64>) {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        match frames {
            Ok(Incoming::One(frame)) => self.hear(Heard::Message { text: text(frame.bytes()), on }),
            Ok(Incoming::Batch(frames)) => {
                for frame in frames.into_iter().flatten() {
                    self.hear(Heard::Message { text: text(frame.bytes()), on });
                }
            }
            Err(_) => self.hear(Heard::Bad { on }),
        }
    }

    fn failed(&self, call: u64, failure: CallFailure) {
        self.hear(Heard::Failed(call, failure));
    }

    fn lost(&self, message: LostMessage, _: Permit) {
        self.hear(Heard::Lost(message));
    }

    fn started(&self, _: u32) {}

    fn closed(&self, exit: LinkExit) {
        self.hear(Heard::Closed(exit));
    }
}

/// A session with a running link.
struct Session {
    outgoing: Option<mpsc::Sender<Outward>>,
    heard: mpsc::Receiver<Heard>,
    stop: CancellationToken,
    link: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.link.abort();
    }
}

impl Session {
    fn start(backend: impl Into<Backend>) -> Self {
        Self::start_with(backend, |ear| Arc::new(ear))
    }

    /// A session whose inlet is made of this one.
    fn start_with(backend: impl Into<Backend>, inlet: impl FnOnce(Ear) -> Arc<dyn Inlet>) -> Self {
        let (outgoing, waiting) = mpsc::channel(100);
        let (ear, heard) = mpsc::channel(10_000);
        let stop = CancellationToken::new();
        let budget = Budget::ample();
        let link = tokio::spawn(backend.into().run(Launch {
            name: "test".into(),
            server: "test".into(),
            scratch: std::path::PathBuf::new(),
            message_size: LIMIT,
            inlet: inlet(Ear(ear, Budget::ample())),
            outgoing: waiting,
            outgoing_budget: budget.clone(),
            backlog: budget.backlog(|| ()),
            stalled: Arc::default(),
            stop: stop.clone(),
        }));
        Self { outgoing: Some(outgoing), heard, stop, link }
    }

    fn say(&self, purpose: Purpose, wire: impl Into<Wire>) {
        self.outgoing
            .as_ref()
            .unwrap()
            .try_send(Outward { wire: wire.into(), purpose, held: None, response: None })
            .unwrap();
    }

    fn initialize(&self) {
        self.say(
            Purpose::Initialize(1),
            r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#.to_owned(),
        );
    }

    fn initialized(&self) {
        self.say(Purpose::Initialized, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_owned());
    }

    fn call(&self, number: u64) {
        self.say(Purpose::Call(number), call(number));
    }

    fn call_with(&self, number: u64, headers: &[(&str, &str)]) {
        self.say(Purpose::Call(number), Wire::from(call(number)).with_forwarded(Some(forwarded(headers))));
    }

    fn cancel(&self, number: u64) {
        let text =
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{number}}}}}"#);
        self.say(Purpose::Cancel(number), text);
    }

    fn notice(&self, number: usize) {
        self.say(Purpose::Notice, format!(r#"{{"jsonrpc":"2.0","method":"notifications/n{number}"}}"#));
    }

    async fn hear(&mut self) -> Heard {
        timeout(LONG, self.heard.recv()).await.expect("nothing is heard").expect("the link is gone")
    }

    /// What failed, and how.
    async fn failure(&mut self) -> (u64, CallFailure) {
        match self.hear().await {
            Heard::Failed(call, failure) => (call, failure),
            other => panic!("{other:?}"),
        }
    }

    async fn answer(&mut self, call: u64) -> String {
        match self.hear().await {
            Heard::Message { text, on } => {
                assert!(text.contains(&format!(r#""id":{call}"#)), "{text}");
                assert!(on.is_none_or(|on| on == call), "{text} on {on:?}");
                text
            }
            other => panic!("{other:?}"),
        }
    }

    /// The handshake, with all that follows from it.
    async fn open(&mut self) {
        self.initialize();
        self.answer(1).await;
        self.initialized();
    }

    /// Stops the link, and returns what it had said besides.
    async fn stop(mut self) -> Vec<Heard> {
        self.stop.cancel();
        timeout(LONG, &mut self.link).await.expect("the link does not end").unwrap();
        self.rest().await
    }

    /// What is heard until the link is gone.
    async fn rest(&mut self) -> Vec<Heard> {
        let mut rest = Vec::new();
        while let Some(heard) = timeout(LONG, self.heard.recv()).await.expect("the link does not end") {
            rest.push(heard);
        }
        rest
    }
}

fn call(number: u64) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{number},"method":"tools/call","params":{{"name":"t"}}}}"#)
}

fn forwarded(headers: &[(&str, &str)]) -> Forwarded {
    Forwarded::new(headers.iter().map(|(name, value)| ((*name).into(), value.as_bytes().into())))
}

fn message(text: &str, on: Option<u64>) -> Heard {
    Heard::Message { text: text.to_owned(), on }
}
