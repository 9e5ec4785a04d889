//! The scripted HTTP server of all integration tests: a test gets each request, and writes the response byte by byte.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::SocketAddr;

use http::{HeaderMap, HeaderName};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::{QUIET_TIME, soon};

pub(crate) struct ScriptedHttpServer {
    pub address: SocketAddr,
    asked: mpsc::Receiver<HeardRequest>,
    /// Requests of other kinds that came while a test waited for one.
    aside: VecDeque<HeardRequest>,
    accepting: JoinHandle<()>,
}

impl ScriptedHttpServer {
    pub(crate) async fn open() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap()).await
    }

    pub(crate) async fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (heard, asked) = mpsc::channel(1000);
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                socket.set_nodelay(true).unwrap();
                connections.spawn(read(socket, heard.clone()));
            }
        });
        Self { address, asked, aside: VecDeque::new(), accepting }
    }

    /// Stops, with all connections that wait for a request. Nobody listens at the address any more.
    pub(crate) async fn stops(self) -> SocketAddr {
        self.accepting.abort();
        let _ = self.accepting.await;
        self.address
    }

    /// Stops and starts again at the same address.
    pub(crate) async fn restarts(self) -> Self {
        Self::at(self.stops().await).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The next request of this kind: a JSON-RPC method, `answer`, `GET`, `RESUME` (a GET that says what it had last),
    /// or `DELETE`. Others wait for their turn.
    pub(crate) async fn hears(&mut self, kind: &str) -> HeardRequest {
        if let Some(at) = self.aside.iter().position(|asked| asked.kind == kind) {
            return self.aside.remove(at).unwrap();
        }
        soon(kind, async {
            loop {
                let asked = self.asked.recv().await.unwrap();
                if asked.kind == kind {
                    return asked;
                }
                self.aside.push_back(asked);
            }
        })
        .await
    }

    /// The next request of any kind.
    pub(crate) async fn hears_any(&mut self) -> HeardRequest {
        match self.aside.pop_front() {
            Some(asked) => asked,
            None => self.asked.recv().await.unwrap(),
        }
    }

    /// Nothing of this kind comes, now or for a moment.
    pub(crate) async fn hears_no(&mut self, kind: &str) {
        while let Ok(Some(asked)) = timeout(QUIET_TIME, self.asked.recv()).await {
            self.aside.push_back(asked);
        }
        if let Some(asked) = self.aside.iter().find(|asked| asked.kind == kind) {
            panic!("there was to be no {kind}: {asked:?}");
        }
    }

    /// Nothing at all comes.
    pub(crate) async fn hears_nothing(&mut self) {
        if let Ok(Some(asked)) = timeout(QUIET_TIME, self.asked.recv()).await {
            panic!("nothing was to come: {asked:?}");
        }
        assert!(self.aside.is_empty(), "{:?}", self.aside);
    }
}

/// Reads requests off a connection for as long as each is answered in full.
async fn read(mut socket: TcpStream, heard: mpsc::Sender<HeardRequest>) {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            if socket.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let text = String::from_utf8(buffer[..end].to_vec()).unwrap();
        let mut lines = text.split("\r\n");
        let mut words = lines.next().unwrap().split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
        assert!(headers.iter().all(|(name, _)| name != "transfer-encoding"), "messages have a length: {text}");
        while buffer.len() < end + 4 + length {
            if socket.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let body = String::from_utf8(buffer[end + 4..end + 4 + length].to_vec()).unwrap();
        buffer.drain(..end + 4 + length);
        let (back, returned) = oneshot::channel();
        let kind = kind(&method, &headers, &body);
        let asked = HeardRequest { kind, path, headers, body, socket, back: Some(back) };
        if heard.send(asked).await.is_err() {
            return;
        }
        let Ok(again) = returned.await else { return };
        socket = again;
    }
}

fn kind(method: &str, headers: &[(String, String)], body: &str) -> String {
    match method {
        "POST" => {
            let message: Value = serde_json::from_str(body).unwrap();
            message["method"].as_str().unwrap_or("answer").to_owned()
        }
        "GET" if headers.iter().any(|(name, _)| name == "last-event-id") => "RESUME".to_owned(),
        _ => method.to_owned(),
    }
}

/// A request whose response is up to the test. Dropping it closes its connection.
#[derive(Debug)]
pub(crate) struct HeardRequest {
    kind: String,
    pub path: String,
    headers: Vec<(String, String)>,
    pub body: String,
    socket: TcpStream,
    back: Option<oneshot::Sender<TcpStream>>,
}

impl HeardRequest {
    /// The kind of the request, in the words of [`ScriptedHttpServer::hears`].
    pub(crate) fn kind(&self) -> &str {
        &self.kind
    }

    pub(crate) fn headers(&self) -> HeaderMap {
        let header = |(name, value): &(String, String)| Some((name.parse::<HeaderName>().ok()?, value.parse().ok()?));
        self.headers.iter().filter_map(header).collect()
    }

    pub(crate) fn header(&self, wanted: &str) -> Option<&str> {
        self.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    }

    pub(crate) fn message(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The id of the JSON-RPC request.
    pub(crate) fn id(&self) -> Value {
        self.message()["id"].clone()
    }

    /// An answer to it, as a message.
    pub(crate) fn result(&self, result: &str) -> String {
        super::result(self.id(), result)
    }

    /// Writes bytes as they are. Nobody may be there any more to read them.
    pub(crate) async fn says(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.socket.write_all(bytes.as_ref()).await;
    }

    /// Writes the same bytes until the proxy closes the connection.
    pub(crate) async fn floods(mut self, bytes: &[u8]) {
        soon("the proxy has had enough", async { while self.socket.write_all(bytes).await.is_ok() {} }).await;
    }

    /// A response in full. The connection may be used again.
    pub(crate) async fn replies(self, status: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let mut head = format!("HTTP/1.1 {status}\r\n");
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if !status.starts_with("204") {
            let _ = write!(head, "content-length: {}\r\n", body.len());
        }
        head.push_str("\r\n");
        let mut all = head.into_bytes();
        all.extend_from_slice(body);
        let Self { mut socket, back, .. } = self;
        let _ = socket.write_all(&all).await;
        let _ = back.map(|back| back.send(socket));
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
        self.says(event(fields, data)).await;
    }

    /// The proxy closes the connection.
    pub(crate) async fn sees_the_client_leave(mut self) {
        let mut rest = [0; 1024];
        soon("the connection is closed", async {
            while self.socket.read(&mut rest).await.is_ok_and(|read| read > 0) {}
        })
        .await;
    }
}

/// An event as text; `fields` are lines in front of its data.
pub(crate) fn event(fields: &str, data: &str) -> String {
    let end = if fields.is_empty() { "" } else { "\n" };
    format!("{fields}{end}data: {data}\n\n")
}
