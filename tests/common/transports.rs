//! The transports over which a client's messages reach a proxy, all behind one trait: what a test sends and receives is
//! the same on each.

use axum::http::StatusCode;
use futures_util::future::BoxFuture;
use serde_json::Value;
use sessile::{EndReason, Proxy};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, WriteHalf, duplex, split};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use super::{HttpClient, Reply, soon};

/// Messages that a client has not looked at yet.
const QUEUE: usize = 4096;
/// Bytes between a client on lines and the proxy before either has to wait.
const PIPE: usize = 64 * 1024;

/// A client's connection to a proxy.
pub(crate) trait ClientTransport: Send {
    /// Sends a message, and returns when it was taken.
    fn say<'a>(&'a mut self, message: &'a Value) -> BoxFuture<'a, ()>;

    /// Leaves as a polite client does.
    fn leave(self: Box<Self>) -> BoxFuture<'static, ()>;

    /// Whether all that the proxy says comes on one stream.
    fn has_one_stream(&self) -> bool {
        true
    }
}

/// A transport, and what the proxy says on it. The queue ends when nothing more can come.
pub(crate) type Connection = (Box<dyn ClientTransport>, mpsc::Receiver<Value>);

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Passes on all messages of an event stream.
async fn follow(mut reply: Reply, heard: mpsc::Sender<Value>) {
    while let Some(event) = reply.next_event().await {
        if heard.send(parse(&event.data)).await.is_err() {
            return;
        }
    }
}

/// Streamable HTTP. Each message has a connection of its own, and the GET stream is opened after the handshake.
pub(crate) fn http(client: HttpClient) -> Connection {
    let (heard, queue) = mpsc::channel(QUEUE);
    (Box::new(Http { client, heard, streams: JoinSet::new() }), queue)
}

struct Http {
    client: HttpClient,
    heard: mpsc::Sender<Value>,
    streams: JoinSet<()>,
}

impl ClientTransport for Http {
    fn say<'a>(&'a mut self, message: &'a Value) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let method = message["method"].as_str();
            if method == Some("initialize") {
                let reply = self.client.post(message.to_string()).send().await;
                self.client.session = reply.header("mcp-session-id").map(str::to_owned);
                take(reply, message["id"].clone(), self.heard.clone()).await;
            } else if method.is_some() && message.get("id").is_some() {
                let (request, heard) = (self.client.post(message.to_string()), self.heard.clone());
                let id = message["id"].clone();
                self.streams.spawn(async move { take(request.send().await, id, heard).await });
            } else {
                self.client.tells(&message.to_string()).await;
            }
            if method == Some("notifications/initialized") {
                let stream = self.client.listens().await;
                self.streams.spawn(follow(stream, self.heard.clone()));
            }
        })
    }

    fn leave(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let status = self.client.request("DELETE").send().await.status;
            assert!((200..300).contains(&status), "{status}");
        })
    }

    fn has_one_stream(&self) -> bool {
        false
    }
}

/// Passes on the response to a request, as an event stream or as JSON. A cancelled call has neither. An error without
/// an id answers this request too.
async fn take(reply: Reply, id: Value, heard: mpsc::Sender<Value>) {
    if reply.is_sse() {
        follow(reply, heard).await;
    } else if reply.status != StatusCode::NO_CONTENT {
        let mut answer = parse(&reply.text().await);
        if answer["id"].is_null() {
            answer["id"] = id;
        }
        let _ = heard.send(answer).await;
    }
}

/// HTTP+SSE: all messages come on one stream, whose first event is the endpoint for the client's messages.
pub(crate) async fn sse(client: HttpClient) -> Connection {
    let mut stream = client.request("GET").path("/sse").send().await;
    assert!(stream.status == 200 && stream.is_sse(), "{}", stream.status);
    let first = stream.event().await;
    assert_eq!(first.name.as_deref(), Some("endpoint"), "{first:?}");
    let (heard, queue) = mpsc::channel(QUEUE);
    let mut listening = JoinSet::new();
    listening.spawn(follow(stream, heard));
    (Box::new(Sse { client, endpoint: first.data, listening }), queue)
}

struct Sse {
    client: HttpClient,
    endpoint: String,
    /// The task that reads the stream; it ends with the client.
    listening: JoinSet<()>,
}

impl ClientTransport for Sse {
    fn say<'a>(&'a mut self, message: &'a Value) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let reply = self.client.post(message.to_string()).path(self.endpoint.clone()).send().await;
            assert_eq!(reply.status, 202, "for {message}");
        })
    }

    fn leave(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            assert!(self.listening.try_join_next().is_none(), "the stream ended before");
            self.listening.shutdown().await;
        })
    }
}

/// Lines to `Proxy::serve_io`.
pub(crate) fn lines(proxy: &Proxy) -> Connection {
    let (ours, theirs) = duplex(PIPE);
    let proxy = proxy.clone();
    let (reader, writer) = split(theirs);
    over(ours, tokio::spawn(async move { proxy.serve_io(reader, writer, std::future::pending()).await }))
}

/// Lines to an rmcp transport that `Proxy::serve` serves: both ends are in this process, and speak through rmcp's
/// types.
pub(crate) fn in_process(proxy: &Proxy) -> Connection {
    let (ours, theirs) = duplex(PIPE);
    let proxy = proxy.clone();
    over(ours, tokio::spawn(async move { proxy.serve(split(theirs)).await }))
}

fn over(stream: DuplexStream, serving: JoinHandle<EndReason>) -> Connection {
    let (reader, writer) = split(stream);
    let (heard, queue) = mpsc::channel(QUEUE);
    let mut listening = JoinSet::new();
    listening.spawn(async move {
        let mut lines = BufReader::new(reader).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if heard.send(parse(&line)).await.is_err() {
                return;
            }
        }
    });
    (Box::new(Lines { writer, serving, _listening: listening }), queue)
}

struct Lines {
    writer: WriteHalf<DuplexStream>,
    serving: JoinHandle<EndReason>,
    _listening: JoinSet<()>,
}

impl ClientTransport for Lines {
    fn say<'a>(&'a mut self, message: &'a Value) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let line = format!("{message}\n");
            soon("the proxy takes a line", self.writer.write_all(line.as_bytes())).await.unwrap();
        })
    }

    fn leave(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            self.writer.shutdown().await.unwrap();
            let reason = soon("the front ends", self.serving).await.unwrap();
            assert!(matches!(reason, EndReason::ClientLeft), "{reason:?}");
        })
    }
}
