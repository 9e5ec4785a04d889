//! The HTTP backend against scripted servers on loopback, and its pure parts.
//!
//! The servers are [`ScriptedHttpServer`]s. A [`TestLink`] is what a session is to its link: a queue of messages to the
//! server, and a `LinkEvents` that keeps what the link delivers.

mod auto;
mod bodies;
mod bounds;
mod credentials;
mod ends;
mod failures;
mod order;
mod panics;
mod redirects;
mod resume;
mod rules;
mod sse;
mod sse_decoder;
mod streamable;

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::backend::Backend;
use crate::backend::http::HttpBackend;
use crate::backend::scripted_http::{
    INITIALIZE_RESPONSE, PeerRequest, PeerResponse, ScriptedHttpServer, WAIT_LIMIT, cut, events, initialize_response,
    json, live, plain_response, silence, status, text,
};
use crate::budget::Budget;
use crate::frame::{FrameError, Id, Incoming, LostMessage, MessageHeaders, Permit, Wire};
use crate::link::{LinkContext, LinkEvents, LinkExit, MessageToServer, Purpose, RequestFailure};

/// The largest message.
const MESSAGE_LIMIT: usize = 64 * 1024;

/// What a session heard from its link.
#[derive(Debug, PartialEq)]
enum Delivery {
    Message { text: String, on: Option<u64> },
    Bad { on: Option<u64> },
    Failed(u64, RequestFailure),
    Lost(LostMessage),
    Closed(LinkExit),
}

struct RecordedEvents(mpsc::Sender<Delivery>, Budget);

impl RecordedEvents {
    fn record(&self, heard: Delivery) {
        self.0.try_send(heard).unwrap();
    }
}

impl LinkEvents for RecordedEvents {
    fn budget(&self) -> &Budget {
        &self.1
    }

    fn answers(&self) -> &Budget {
        &self.1
    }

    fn deliver(&self, frames: Result<Incoming, FrameError>, _: Option<Permit>, on: Option<u64>) {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        match frames {
            Ok(Incoming::One(frame)) => self.record(Delivery::Message { text: text(frame.bytes()), on }),
            Ok(Incoming::Batch(frames)) => {
                for frame in frames.into_iter().flatten() {
                    self.record(Delivery::Message { text: text(frame.bytes()), on });
                }
            }
            Err(_) => self.record(Delivery::Bad { on }),
        }
    }

    fn failed(&self, call: u64, failure: RequestFailure) {
        self.record(Delivery::Failed(call, failure));
    }

    fn lost(&self, message: LostMessage, _: Permit) {
        self.record(Delivery::Lost(message));
    }

    fn started(&self, _: u32) {}

    fn closed(&self, exit: LinkExit) {
        self.record(Delivery::Closed(exit));
    }
}

/// A session with a running link.
struct TestLink {
    outgoing: Option<mpsc::Sender<MessageToServer>>,
    heard: mpsc::Receiver<Delivery>,
    stop: CancellationToken,
    link: JoinHandle<()>,
}

impl Drop for TestLink {
    fn drop(&mut self) {
        self.link.abort();
    }
}

impl TestLink {
    fn start(backend: impl Into<Backend>) -> Self {
        Self::start_with(backend, |ear| Arc::new(ear))
    }

    /// A session whose `LinkEvents` is made of this one.
    fn start_with(
        backend: impl Into<Backend>,
        link_events: impl FnOnce(RecordedEvents) -> Arc<dyn LinkEvents>,
    ) -> Self {
        let (outgoing, waiting) = mpsc::channel(100);
        let (ear, heard) = mpsc::channel(10_000);
        let stop = CancellationToken::new();
        let budget = Budget::ample();
        let link = tokio::spawn(backend.into().run(LinkContext {
            name: "test".into(),
            server: "test".into(),
            scratch: std::path::PathBuf::new(),
            message_size: MESSAGE_LIMIT,
            link_events: link_events(RecordedEvents(ear, Budget::ample())),
            outgoing: waiting,
            outgoing_budget: budget.clone(),
            backlog: budget.backlog(|| ()),
            stalled: Arc::default(),
            stop: stop.clone(),
        }));
        Self { outgoing: Some(outgoing), heard, stop, link }
    }

    fn send(&self, purpose: Purpose, wire: impl Into<Wire>) {
        self.outgoing
            .as_ref()
            .unwrap()
            .try_send(MessageToServer { wire: wire.into(), purpose, held: None, response: None })
            .unwrap();
    }

    fn initialize(&self) {
        self.send(
            Purpose::Initialize(1),
            r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#.to_owned(),
        );
    }

    fn initialized(&self) {
        self.send(Purpose::Initialized, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_owned());
    }

    fn call(&self, number: u64) {
        self.send(Purpose::Request(number), call(number));
    }

    fn call_with(&self, number: u64, headers: &[(&str, &str)]) {
        self.send(Purpose::Request(number), Wire::from(call(number)).with_headers(Some(forwarded(headers))));
    }

    fn cancel(&self, number: u64) {
        let text =
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{number}}}}}"#);
        self.send(Purpose::Cancel(number), text);
    }

    fn notification(&self, number: usize) {
        self.send(Purpose::Notification, format!(r#"{{"jsonrpc":"2.0","method":"notifications/n{number}"}}"#));
    }

    async fn receive(&mut self) -> Delivery {
        timeout(WAIT_LIMIT, self.heard.recv()).await.expect("nothing is heard").expect("the link is gone")
    }

    /// What failed, and how.
    async fn failure(&mut self) -> (u64, RequestFailure) {
        match self.receive().await {
            Delivery::Failed(call, failure) => (call, failure),
            other => panic!("{other:?}"),
        }
    }

    async fn answer(&mut self, call: u64) -> String {
        match self.receive().await {
            Delivery::Message { text, on } => {
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
    async fn stop(mut self) -> Vec<Delivery> {
        self.stop.cancel();
        timeout(WAIT_LIMIT, &mut self.link).await.expect("the link does not end").unwrap();
        self.rest().await
    }

    /// What is heard until the link is gone.
    async fn rest(&mut self) -> Vec<Delivery> {
        let mut rest = Vec::new();
        while let Some(heard) = timeout(WAIT_LIMIT, self.heard.recv()).await.expect("the link does not end") {
            rest.push(heard);
        }
        rest
    }
}

fn call(number: u64) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{number},"method":"tools/call","params":{{"name":"t"}}}}"#)
}

fn forwarded(headers: &[(&str, &str)]) -> MessageHeaders {
    MessageHeaders::new(headers.iter().map(|(name, value)| ((*name).into(), value.as_bytes().into())))
}

fn message(text: &str, on: Option<u64>) -> Delivery {
    Delivery::Message { text: text.to_owned(), on }
}

fn http(server: &ScriptedHttpServer) -> HttpBackend {
    HttpBackend::new(&server.url()).unwrap()
}

/// A session with a server that answers calls like this.
async fn with_calls(
    answer: impl Fn(&PeerRequest) -> PeerResponse + Clone + Send + Sync + 'static,
) -> (ScriptedHttpServer, TestLink) {
    let server = ScriptedHttpServer::start(move |request| {
        let answer = answer.clone();
        async move { if request.kind() == "tools/call" { answer(&request) } else { plain_response(&request) } }
    })
    .await;
    let mut session = TestLink::start(http(&server));
    session.open().await;
    (server, session)
}
