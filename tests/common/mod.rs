//! The harness of the integration tests: a proxy, scripted servers on one side, raw clients on the other.
//!
//! A test plays both ends in turn, so that it reads as what happens. The server of each session is handed to the test
//! ([`Harness::server`]), which hears every line and says what it likes; clients speak raw HTTP, over TCP or straight
//! into the router, or raw lines. Every wait has an end, and [`Harness::close`] fails the test that leaves a session or
//! a link.
#![allow(dead_code, unused_imports, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what goes wrong here has failed the test")]

mod client;
mod fronts;
mod lines;
#[cfg(feature = "cli")]
mod log;
mod named_client;
mod reply;
#[path = "../../src/backend/scripted_http/mod.rs"]
pub(crate) mod scripted_http;
mod server;
pub(crate) mod transports;

use std::time::Duration;

use sessile::{EndReason, HttpSettings, Proxy, SessionSettings};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

pub(crate) use client::{HttpClient, HttpEndpoint, PendingRequest, Request};
pub(crate) use fronts::{Front, Fronts};
pub(crate) use lines::LineClient;
#[cfg(feature = "cli")]
pub(crate) use log::CapturedLog;
pub(crate) use named_client::NamedClient;
pub(crate) use reply::{Event, Reply};
pub(crate) use scripted_http::{HeardRequest, QUIET_TIME, ScriptedHttpServer, WAIT_LIMIT, event, soon};
pub(crate) use server::{Heard, ScriptedServer, scripted};

/// The first message of a client of 2025-11-25.
pub(crate) const INITIALIZE: &str = concat!(
    r#"{"jsonrpc":"2.0","id":"hello","method":"initialize","params":{"protocolVersion":"2025-11-25","#,
    r#""capabilities":{"sampling":{},"elicitation":{},"roots":{}},"clientInfo":{"name":"scripted","version":"1"}}}"#
);
/// The result with which a scripted server answers `initialize`.
pub(crate) const INITIALIZE_RESULT: &str =
    r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"script","version":"0"}}"#;
pub(crate) const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// Waits until a condition holds, by looking again and again.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    soon(what, async {
        while !holds() {
            sleep(Duration::from_millis(3)).await;
        }
    })
    .await;
}

/// A proxy, its servers and its front. To be closed at the end of the test.
pub(crate) struct Harness {
    pub proxy: Proxy,
    servers: mpsc::Receiver<ScriptedServer>,
    endpoint: HttpEndpoint,
    serving: Option<(oneshot::Sender<()>, JoinHandle<std::io::Result<()>>)>,
    closed: bool,
}

impl Harness {
    /// On a TCP port.
    pub(crate) async fn on_tcp(session: SessionSettings, http: HttpSettings) -> Self {
        let mut harness = Self::in_process(session, http);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        harness.endpoint = HttpEndpoint::Tcp(listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let proxy = harness.proxy.clone();
        let serving = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            proxy.serve_http(listener, stopped).await
        });
        harness.serving = Some((stop, serving));
        harness
    }

    pub(crate) async fn new() -> Self {
        Self::on_tcp(SessionSettings::default(), HttpSettings::default()).await
    }

    /// Without a socket: what a test with a paused clock needs.
    pub(crate) fn in_process(session: SessionSettings, http: HttpSettings) -> Self {
        let (backend, servers) = scripted();
        let proxy = Proxy::builder().backend(backend).session(session).http(http).build().unwrap();
        let endpoint = HttpEndpoint::Router(proxy.clone().into_router());
        Self { proxy, servers, endpoint, serving: None, closed: false }
    }

    pub(crate) fn endpoint(&self) -> &HttpEndpoint {
        &self.endpoint
    }

    /// A client that has said nothing yet.
    pub(crate) fn new_client(&self) -> HttpClient {
        HttpClient::new(self.endpoint.clone())
    }

    /// The server that was started for a session.
    pub(crate) async fn server(&mut self) -> ScriptedServer {
        soon("a server is started", self.servers.recv()).await.unwrap()
    }

    pub(crate) fn no_more_servers(&mut self) {
        assert!(self.servers.try_recv().is_err(), "a server was started for nobody");
    }

    /// A session after its handshake.
    pub(crate) async fn session(&mut self) -> (HttpClient, ScriptedServer) {
        self.session_of(INITIALIZE, INITIALIZE_RESULT).await
    }

    /// A session whose client opened with `initialize` and was answered with the result `initialize_result`.
    pub(crate) async fn session_of(
        &mut self,
        initialize: &str,
        initialize_result: &str,
    ) -> (HttpClient, ScriptedServer) {
        let mut client = self.new_client();
        let opening = client.post(initialize.to_owned()).start();
        let mut server = self.server().await;
        let hello = server.hears("initialize").await;
        server.answers(&hello, initialize_result).await;
        let mut reply = opening.reply().await;
        assert_eq!(reply.status, 200);
        client.session = Some(reply.header("mcp-session-id").expect("a session id").to_owned());
        if reply.header("content-type") == Some("text/event-stream") {
            while reply.block().await.is_some() {}
        }
        assert_eq!(client.post(INITIALIZED).send().await.status, 202);
        server.hears("notifications/initialized").await;
        (client, server)
    }

    /// A client on a pair of byte streams, before it has said anything. `pipe` is what they hold.
    pub(crate) fn lines(&self, pipe: usize) -> LineClient {
        LineClient::new(&self.proxy, pipe)
    }

    /// A client on lines after its handshake.
    pub(crate) async fn line_session(&mut self, pipe: usize) -> (LineClient, ScriptedServer) {
        let mut client = self.lines(pipe);
        client.says(INITIALIZE).await;
        let mut server = self.server().await;
        let hello = server.hears("initialize").await;
        server.answers(&hello, INITIALIZE_RESULT).await;
        client.hears().await;
        client.says(INITIALIZED).await;
        server.hears("notifications/initialized").await;
        (client, server)
    }

    /// Waits until nothing is left of any session.
    pub(crate) async fn empties(&self) {
        let sessions = self.proxy.sessions();
        until("all sessions are gone", || sessions.is_empty()).await;
        until("all links are gone", || sessions.links() == 0).await;
    }

    /// Ends all sessions and the front, and sees to it that nothing is left.
    pub(crate) async fn close(mut self) {
        self.closed = true;
        soon("sessions are cleared", self.proxy.sessions().clear()).await;
        self.empties().await;
        if let Some((stop, serving)) = self.serving.take() {
            let _ = stop.send(());
            soon("the front ends", serving).await.unwrap().unwrap();
        }
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        assert!(
            self.closed || std::thread::panicking(),
            "close the harness: a test that leaks a session has to be found"
        );
    }
}

/// A request with an id and params, as text.
pub(crate) fn call(id: impl std::fmt::Display, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
}

pub(crate) fn notification(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#)
}

pub(crate) fn result(id: impl std::fmt::Display, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

pub(crate) fn is_client_left(reason: &EndReason) -> bool {
    matches!(reason, EndReason::ClientLeft)
}
