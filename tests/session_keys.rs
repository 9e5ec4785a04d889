//! Session keys over HTTP: clients that open a session for each call and find the one that lives, and those that must not.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test has failed it")]

mod common;

#[path = "session_keys/clients.rs"]
mod clients;
#[path = "session_keys/cookie.rs"]
mod cookie;
#[path = "session_keys/header.rs"]
mod header;
#[path = "session_keys/lost_state.rs"]
mod lost_state;
#[path = "session_keys/principal.rs"]
mod principal;

use std::io;
use std::net::SocketAddr;

use common::{HttpClient, HttpEndpoint, INITIALIZE, INITIALIZED, Request, call, soon};
use serde_json::Value;
use sessile::demo::Demo;
use sessile::{HttpSettings, InProcessBackend, KeyKind, Proxy, SessionInfo};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

fn settings(keys: &str) -> HttpSettings {
    let session_keys = keys.split(',').map(|kind| kind.parse::<KeyKind>().unwrap()).collect();
    HttpSettings { session_keys, ..HttpSettings::default() }
}

fn demo(http: HttpSettings) -> Proxy {
    Proxy::builder().backend(InProcessBackend::rmcp(Demo::new)).http(http).build().unwrap()
}

/// A proxy in front of demo servers, each with a counter of its own.
struct Served {
    proxy: Proxy,
    client: HttpClient,
    port: u16,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<io::Result<()>>,
}

impl Served {
    async fn new(http: HttpSettings) -> Self {
        Self::at("127.0.0.1:0", http).await
    }

    async fn at(address: &str, http: HttpSettings) -> Self {
        let proxy = demo(http);
        let listener = TcpListener::bind(address).await.unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
        let (stop, stopped) = oneshot::channel();
        let serving = proxy.clone();
        let serving = tokio::spawn(async move { serving.serve_http(listener, async { drop(stopped.await) }).await });
        let client = HttpClient::new(HttpEndpoint::Tcp(address));
        Self { proxy, client, port: address.port(), stop, serving }
    }

    fn sessions(&self) -> Vec<SessionInfo> {
        self.proxy.sessions().list()
    }

    async fn close(self) {
        soon("sessions are cleared", self.proxy.sessions().clear()).await;
        let _ = self.stop.send(());
        soon("the front ends", self.serving).await.unwrap().unwrap();
    }
}

/// The request as it is: what a client sends that says nothing of itself.
fn plain(request: Request) -> Request {
    request
}

/// Puts a header on a request.
fn with(name: &'static str, value: &'static str) -> impl Fn(Request) -> Request + Copy {
    move |request| request.header(name, value)
}

/// A client after its handshake; `with` is done to each of its requests.
async fn attach(client: &HttpClient, with: impl Fn(Request) -> Request) -> HttpClient {
    let mut client = client.clone();
    let mut reply = with(client.post(INITIALIZE)).send().await;
    assert_eq!(reply.status, 200);
    assert!(reply.data_json().await["result"]["serverInfo"].is_object());
    client.session = Some(reply.header("mcp-session-id").unwrap().to_owned());
    assert_eq!(with(client.post(INITIALIZED)).send().await.status, 202);
    client
}

/// The response to a call of a tool.
async fn tool(client: &HttpClient, name: &str, with: impl Fn(Request) -> Request) -> Value {
    let params = format!(r#"{{"name":"{name}","arguments":{{}}}}"#);
    let mut reply = with(client.post(call(7, "tools/call", &params))).send().await;
    assert_eq!(reply.status, 200);
    reply.data_json().await
}

/// Counts one further, and says how far that is.
async fn increment(client: &HttpClient, with: impl Fn(Request) -> Request) -> u64 {
    let response = tool(client, "increment", with).await;
    response["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{response}")).parse().unwrap()
}

/// What a client does that opens a session for each call, and deletes it afterwards.
async fn count_once(client: &HttpClient, with: impl Fn(Request) -> Request + Copy) -> u64 {
    let client = attach(client, with).await;
    let count = increment(&client, with).await;
    assert_eq!(with(client.request("DELETE")).send().await.status, 204);
    assert_eq!(with(client.post(call(1, "ping", "{}"))).send().await.status, 404, "it has left");
    count
}

/// The kinds of keys of a session.
fn kinds(session: &SessionInfo) -> Vec<String> {
    session.found_by.iter().map(ToString::to_string).collect()
}
