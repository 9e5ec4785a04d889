//! A proxy whose backend is a scripted HTTP server.

use std::time::Duration;

use serde_json::{Value, json};
use sessile::{HttpBackend, Proxy, SessionSettings, Transport};

use crate::common::{Front, Fronts, HeardRequest, INITIALIZE_RESULT, NamedClient, ScriptedHttpServer};

/// To be closed at the end of the test.
pub(crate) struct BackendHarness {
    pub server: ScriptedHttpServer,
    pub fronts: Fronts,
}

impl BackendHarness {
    /// Streamable HTTP.
    pub(crate) async fn http() -> Self {
        Self::new("/mcp", Transport::Http, settings()).await
    }

    pub(crate) async fn new(path: &str, transport: Transport, settings: SessionSettings) -> Self {
        let server = ScriptedHttpServer::open().await;
        let fronts = Fronts::open(proxy(&server.url_of(path), transport, settings)).await;
        Self { server, fronts }
    }

    /// A client that has not said anything yet.
    pub(crate) async fn new_client(&self, name: &str) -> NamedClient {
        self.fronts.unopened_client_at(Front::Stdio, name).await
    }

    /// A session after its handshake, of a server that has no GET stream. Its upstream session is named as its client.
    pub(crate) async fn session(&mut self, name: &str) -> NamedClient {
        let (client, get) = self.listening_session(name).await;
        get.replies("405 Method Not Allowed", &[], "").await;
        client
    }

    /// The same, with the request for the GET stream.
    pub(crate) async fn listening_session(&mut self, name: &str) -> (NamedClient, HeardRequest) {
        let mut client = self.new_client(name).await;
        let get = self.answers_initialize(&mut client).await;
        (client, get)
    }

    pub(crate) async fn answers_initialize(&mut self, client: &mut NamedClient) -> HeardRequest {
        let (name, server) = (client.name.clone(), &mut self.server);
        let initializing = async {
            let hello = server.hears("initialize").await;
            let initialize_result = hello.result(INITIALIZE_RESULT);
            let headers = [("content-type", "application/json"), ("mcp-session-id", name.as_str())];
            hello.replies("200 OK", &headers, initialize_result).await;
            server.hears("notifications/initialized").await.accept().await;
            server.hears("GET").await
        };
        tokio::join!(client.shakes_hands(), initializing).1
    }

    /// Begins a call, and hears it at the server.
    pub(crate) async fn calling(&mut self, client: &mut NamedClient) -> (u64, HeardRequest) {
        let id = client.starts_tool("tool", json!({})).await;
        let asked = self.server.hears("tools/call").await;
        assert_eq!(asked.header("mcp-session-id"), Some(client.name.as_str()));
        (id, asked)
    }

    /// A session goes on as if nothing had been.
    pub(crate) async fn works(&mut self, client: &mut NamedClient) {
        let (id, asked) = self.calling(client).await;
        let answer = asked.result(r#"{"content":[]}"#);
        asked.answers(&answer).await;
        assert_eq!(client.answer(id).await, json!({"jsonrpc": "2.0", "id": id, "result": {"content": []}}));
    }

    /// A client leaves, and its upstream session is deleted.
    pub(crate) async fn leaves(&mut self, client: NamedClient) {
        let name = client.name.clone();
        let deleting = async {
            let delete = self.server.hears("DELETE").await;
            assert_eq!(delete.header("mcp-session-id"), Some(name.as_str()));
            delete.replies("204 No Content", &[], "").await;
        };
        tokio::join!(client.leaves(), deleting);
    }

    /// Nothing is left of any session.
    pub(crate) async fn close(self) {
        self.fronts.empty().await;
        self.fronts.close().await;
    }
}

/// A client that drops its connection is not waited for.
pub(crate) fn settings() -> SessionSettings {
    SessionSettings { drain: Duration::from_millis(50), ..SessionSettings::default() }
}

pub(crate) fn proxy(url: &str, transport: Transport, session: SessionSettings) -> Proxy {
    let backend = HttpBackend::new(url).unwrap().transport(transport);
    Proxy::builder().backend(backend).session(session).build().unwrap()
}

/// The call's error, which must be this error.
pub(crate) async fn error(client: &mut NamedClient, id: u64, kind: &str) -> Value {
    let mut answer = client.answer(id).await;
    let error = answer["error"].take();
    assert_eq!(error["data"]["type"], kind, "{error} {answer}");
    let said = error["message"].as_str().unwrap();
    assert!(said.len() > 20 && said.len() < 2000, "{said}");
    error
}
