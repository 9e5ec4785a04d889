//! A request as the server read it, and its connection, on which a response is written.

use std::fmt::Write as _;
use std::ops::Deref;

use http::HeaderMap;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::oneshot;

use super::{PeerResponse, soon};

pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> ByteStream for T {}

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct PeerRequest {
    pub method: String,
    /// With the query.
    pub path: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl PeerRequest {
    /// Reads a request off a connection; `buffer` has what came behind the request before it. `None` at the end.
    pub(super) async fn read(socket: &mut dyn ByteStream, buffer: &mut Vec<u8>) -> Option<Self> {
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            if socket.read_buf(buffer).await.unwrap_or(0) == 0 {
                return None;
            }
        };
        let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let mut words = lines.next().unwrap().split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            headers.append(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
        }
        let length = headers.get(CONTENT_LENGTH).map_or(0, |length| length.to_str().unwrap().parse().unwrap());
        assert!(!headers.contains_key(TRANSFER_ENCODING), "messages have a length: {head}");
        let whole = end + 4 + length;
        while buffer.len() < whole {
            if socket.read_buf(buffer).await.unwrap_or(0) == 0 {
                return None;
            }
        }
        let body = String::from_utf8(buffer[end + 4..whole].to_vec()).unwrap();
        buffer.drain(..whole);
        Some(Self { method, path, headers, body })
    }

    /// The method of the JSON-RPC message in a POST, `answer` for a response; else the HTTP method.
    pub(crate) fn kind(&self) -> String {
        let message: Value = serde_json::from_str(&self.body).unwrap_or_default();
        match message["method"].as_str() {
            Some(method) => method.to_owned(),
            None if message["id"].is_null() => self.method.clone(),
            None => "answer".to_owned(),
        }
    }

    /// Whether the request is of this [kind](Self::kind), or of the kind `RESUME`: a GET that says what it had last.
    pub(super) fn is(&self, kind: &str) -> bool {
        if kind == "RESUME" { self.headers.contains_key("last-event-id") } else { self.kind() == kind }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn has(&self, text: &str) -> bool {
        self.body.contains(text)
    }

    pub(crate) fn message(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The id of the JSON-RPC request.
    pub(crate) fn id(&self) -> Value {
        self.message()["id"].clone()
    }

    /// An answer to the JSON-RPC request, as a message.
    pub(crate) fn result(&self, result: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, self.id())
    }
}

/// A request whose response is up to the test. Dropping it closes its connection.
pub(crate) struct HeardRequest {
    pub(super) request: PeerRequest,
    pub(super) socket: Box<dyn ByteStream>,
    /// Takes the connection back for the next request.
    pub(super) back: oneshot::Sender<Box<dyn ByteStream>>,
}

impl std::fmt::Debug for HeardRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.request.fmt(f)
    }
}

impl Deref for HeardRequest {
    type Target = PeerRequest;

    fn deref(&self) -> &PeerRequest {
        &self.request
    }
}

impl HeardRequest {
    /// Writes bytes as they are. Nobody may be there any more to read them.
    pub(crate) async fn says(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.socket.write_all(bytes.as_ref()).await;
    }

    /// Writes the same bytes until the proxy closes the connection.
    pub(crate) async fn floods(mut self, bytes: &[u8]) {
        soon("the proxy has had enough", async { while self.socket.write_all(bytes).await.is_ok() {} }).await;
    }

    /// A response in full. The connection may be used again.
    pub(crate) async fn replies(mut self, status: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let mut head = format!("HTTP/1.1 {status}\r\n");
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if !status.starts_with("204") {
            let _ = write!(head, "content-length: {}\r\n", body.len());
        }
        head.push_str("\r\n");
        self.says([head.as_bytes(), body].concat()).await;
        let _ = self.back.send(self.socket);
    }

    pub(crate) async fn accept(self) {
        self.replies("202 Accepted", &[], "").await;
    }

    /// A JSON-RPC message as JSON.
    pub(crate) async fn answers(self, message: &str) {
        self.replies("200 OK", &[("content-type", "application/json")], message).await;
    }

    /// The head of an event stream that goes on until the connection is closed.
    pub(crate) async fn streams(&mut self) {
        self.says("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n").await;
    }

    /// An event on a stream; `fields` are lines in front of its data.
    pub(crate) async fn event(&mut self, fields: &str, data: &str) {
        self.says(super::event(fields, data)).await;
    }

    /// The proxy closes the connection.
    pub(crate) async fn sees_the_client_leave(mut self) {
        soon("the connection is closed", left(&mut *self.socket)).await;
    }

    /// Writes the response that comes of this, as its body comes, and gives up both when the client leaves. The
    /// connection may be used again, unless the body fails.
    pub(super) async fn responds(mut self, response: impl Future<Output = PeerResponse>) {
        let response = tokio::select! {
            response = response => response,
            () = left(&mut *self.socket) => return,
        };
        let (parts, mut body) = response.into_parts();
        let mut head = format!("HTTP/1.1 {}\r\n", parts.status).into_bytes();
        for (name, value) in &parts.headers {
            head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        if let Some(length) = body.size_hint().exact() {
            head.extend(format!("content-length: {length}\r\n\r\n").into_bytes());
            head.extend(body.collect().await.unwrap().to_bytes());
            self.says(head).await;
        } else {
            head.extend(b"transfer-encoding: chunked\r\n\r\n");
            self.says(head).await;
            loop {
                let frame = tokio::select! {
                    frame = body.frame() => frame,
                    () = left(&mut *self.socket) => return,
                };
                let Some(frame) = frame else { break };
                let Ok(frame) = frame else { return };
                // A chunk without bytes would be the end.
                if let Some(chunk) = frame.into_data().ok().filter(|chunk| !chunk.is_empty()) {
                    self.says([format!("{:x}\r\n", chunk.len()).as_bytes(), &chunk, b"\r\n"].concat()).await;
                }
            }
            self.says("0\r\n\r\n").await;
        }
        let _ = self.back.send(self.socket);
    }
}

/// Resolves when the client has closed the connection. A client that waits for its response says nothing more.
async fn left(socket: &mut dyn ByteStream) {
    let mut rest = [0; 1024];
    while socket.read(&mut rest).await.is_ok_and(|read| read > 0) {}
}
