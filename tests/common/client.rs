//! The raw HTTP client of all integration tests: it sends exactly what a test says, and adds nothing to what comes
//! back.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::{Reply, soon};

/// How a client reaches the HTTP front: over a socket, or straight into the router.
#[derive(Clone)]
pub(crate) enum HttpEndpoint {
    Tcp(SocketAddr),
    Router(Router),
}

impl HttpEndpoint {
    /// A connection on which a test writes bytes by itself.
    pub(crate) async fn connect(&self) -> TcpStream {
        let Self::Tcp(address) = self else { panic!("there is no socket") };
        TcpStream::connect(address).await.unwrap()
    }
}

#[derive(Clone)]
pub(crate) struct HttpClient {
    pub endpoint: HttpEndpoint,
    /// The `Mcp-Session-Id` that the client sends.
    pub session: Option<String>,
    pub accept: &'static str,
    pub version: Option<&'static str>,
    /// The bearer token that the client shows.
    pub token: Option<String>,
}

impl HttpClient {
    pub(crate) fn new(endpoint: HttpEndpoint) -> Self {
        Self { endpoint, session: None, accept: "application/json, text/event-stream", version: None, token: None }
    }

    /// The same client, which takes JSON only.
    pub(crate) fn json_only(&self) -> Self {
        Self { accept: "application/json", ..self.clone() }
    }

    pub(crate) fn request(&self, method: &'static str) -> Request {
        let host = match &self.endpoint {
            HttpEndpoint::Tcp(address) => address.to_string(),
            HttpEndpoint::Router(_) => "localhost".to_owned(),
        };
        let request = Request {
            endpoint: self.endpoint.clone(),
            method,
            path: "/mcp".into(),
            headers: Vec::new(),
            body: Bytes::new(),
        };
        let request = request.header("host", &host).header("accept", self.accept);
        let request = match &self.session {
            Some(session) => request.header("mcp-session-id", session),
            None => request,
        };
        let request = match &self.token {
            Some(token) => request.header("authorization", &format!("Bearer {token}")),
            None => request,
        };
        match self.version {
            Some(version) => request.header("mcp-protocol-version", version),
            None => request,
        }
    }

    pub(crate) fn post(&self, body: impl Into<Bytes>) -> Request {
        self.request("POST").header("content-type", "application/json").body(body)
    }

    /// Starts a call, and does not wait for the response.
    pub(crate) fn asks(&self, body: &str) -> PendingRequest {
        self.post(body.to_owned()).start()
    }

    /// A call whose response comes on a stream, which is open when this returns. If no message comes, the front opens
    /// the stream after a second.
    pub(crate) async fn calls(&self, body: &str) -> Reply {
        let reply = self.post(body.to_owned()).send().await;
        assert!(reply.status == 200 && reply.is_sse(), "{} for {body}", reply.status);
        reply
    }

    /// Sends a notification or response.
    pub(crate) async fn tells(&self, body: &str) {
        let reply = self.post(body.to_owned()).send().await;
        assert_eq!(reply.status, 202, "for {body}");
        assert_eq!(reply.text().await, "", "for {body}");
    }

    pub(crate) async fn listens(&self) -> Reply {
        let reply = self.request("GET").send().await;
        assert!(reply.status == 200 && reply.is_sse(), "{}", reply.status);
        reply
    }

    pub(crate) async fn resumes(&self, last: &str) -> Reply {
        self.resumes_request(last).send().await
    }

    pub(crate) fn resumes_request(&self, last: &str) -> Request {
        self.request("GET").header("last-event-id", last)
    }

    pub(crate) async fn deletes(&self) {
        assert_eq!(self.request("DELETE").send().await.status, 204);
    }
}

#[derive(Clone)]
pub(crate) struct Request {
    endpoint: HttpEndpoint,
    method: &'static str,
    path: Cow<'static, str>,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Request {
    /// Sets a header, or takes it out if the value is empty.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        if !value.is_empty() {
            self.headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Adds a header, whatever there is of that name already.
    pub(crate) fn header_again(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn path(mut self, path: impl Into<Cow<'static, str>>) -> Self {
        self.path = path.into();
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends it and waits for the head of the response.
    pub(crate) async fn send(self) -> Reply {
        let what = format!("{} {}", self.method, String::from_utf8_lossy(&self.body[..self.body.len().min(200)]));
        soon(&what, self.exchange()).await
    }

    /// Sends it and does not wait.
    pub(crate) fn start(self) -> PendingRequest {
        PendingRequest(Some(tokio::spawn(self.exchange())))
    }

    /// Writes it to a connection, whose response is up to the test.
    pub(crate) async fn write_to(&self, socket: &mut TcpStream) {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if self.method == "POST" {
            let _ = write!(head, "content-length: {}\r\n", self.body.len());
        }
        head.push_str("\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(&self.body).await.unwrap();
    }

    async fn exchange(self) -> Reply {
        match self.endpoint {
            HttpEndpoint::Tcp(address) => {
                let mut socket = TcpStream::connect(address).await.unwrap();
                self.write_to(&mut socket).await;
                Reply::read(socket).await.expect("a response")
            }
            HttpEndpoint::Router(mut router) => {
                let mut request = http::Request::builder().method(self.method).uri(&*self.path);
                for (name, value) in &self.headers {
                    request = request.header(name, value);
                }
                let request = request.body(Body::from(self.body)).unwrap();
                Reply::of_router(tower_service::Service::call(&mut router, request).await.unwrap())
            }
        }
    }
}

/// A request that was sent and has no response yet. Dropping it closes its connection, as a client does that leaves.
pub(crate) struct PendingRequest(Option<JoinHandle<Reply>>);

impl PendingRequest {
    pub(crate) async fn reply(mut self) -> Reply {
        let task = self.0.take().unwrap();
        soon("a response comes", task).await.unwrap()
    }

    /// The data of the first event, or the JSON that came instead.
    pub(crate) async fn data(self) -> String {
        let mut reply = self.reply().await;
        if reply.is_sse() { reply.data().await } else { reply.text().await }
    }

    /// The same, however long it takes.
    pub(crate) async fn data_at_last(mut self) -> String {
        let mut reply = self.0.take().unwrap().await.unwrap();
        if reply.is_sse() { reply.event_at_last().await.data } else { reply.text().await }
    }

    pub(crate) async fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.data().await).unwrap()
    }

    pub(crate) fn is_answered(&self) -> bool {
        self.0.as_ref().is_some_and(JoinHandle::is_finished)
    }
}

impl Drop for PendingRequest {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}
