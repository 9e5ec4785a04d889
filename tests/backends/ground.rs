//! A proxy whose backend is a scripted web server.

use std::time::Duration;

use serde_json::{Value, json};
use sessile::{HttpBackend, Proxy, SessionSettings, Transport};

use crate::common::{Caller, Front, Fronts, WELCOME};
use crate::web::{Asked, Web};

/// To be closed at the end of the test.
pub(crate) struct Ground {
    pub web: Web,
    pub fronts: Fronts,
}

impl Ground {
    /// Streamable HTTP.
    pub(crate) async fn http() -> Self {
        Self::new("/mcp", Transport::Http, settings()).await
    }

    pub(crate) async fn new(path: &str, transport: Transport, settings: SessionSettings) -> Self {
        let web = Web::open().await;
        let fronts = Fronts::open(proxy(&web.url(path), transport, settings)).await;
        Self { web, fronts }
    }

    /// A client that has not said anything yet.
    pub(crate) async fn stranger(&self, name: &str) -> Caller {
        self.fronts.stranger_at(Front::Stdio, name).await
    }

    /// A session after its handshake, of a server that has no GET stream. Its upstream session is named as its client.
    pub(crate) async fn session(&mut self, name: &str) -> Caller {
        let (caller, get) = self.listening_session(name).await;
        get.replies("405 Method Not Allowed", &[], "").await;
        caller
    }

    /// The same, with the request for the GET stream.
    pub(crate) async fn listening_session(&mut self, name: &str) -> (Caller, Asked) {
        let mut caller = self.stranger(name).await;
        let get = self.welcomes(&mut caller).await;
        (caller, get)
    }

    pub(crate) async fn welcomes(&mut self, caller: &mut Caller) -> Asked {
        let (name, web) = (caller.name.clone(), &mut self.web);
        let greeting = async {
            let hello = web.hears("initialize").await;
            let welcome = hello.result(WELCOME);
            let headers = [("content-type", "application/json"), ("mcp-session-id", name.as_str())];
            hello.replies("200 OK", &headers, welcome).await;
            web.hears("notifications/initialized").await.accept().await;
            web.hears("GET").await
        };
        tokio::join!(caller.shakes_hands(), greeting).1
    }

    /// Begins a call, and hears it at the server.
    pub(crate) async fn calling(&mut self, caller: &mut Caller) -> (u64, Asked) {
        let id = caller.starts_tool("tool", json!({})).await;
        let asked = self.web.hears("tools/call").await;
        assert_eq!(asked.header("mcp-session-id"), Some(caller.name.as_str()));
        (id, asked)
    }

    /// A session goes on as if nothing had been.
    pub(crate) async fn works(&mut self, caller: &mut Caller) {
        let (id, asked) = self.calling(caller).await;
        let answer = asked.result(r#"{"content":[]}"#);
        asked.answers(&answer).await;
        assert_eq!(caller.answer(id).await, json!({"jsonrpc": "2.0", "id": id, "result": {"content": []}}));
    }

    /// A client leaves, and its upstream session is deleted.
    pub(crate) async fn leaves(&mut self, caller: Caller) {
        let name = caller.name.clone();
        let deleting = async {
            let delete = self.web.hears("DELETE").await;
            assert_eq!(delete.header("mcp-session-id"), Some(name.as_str()));
            delete.replies("204 No Content", &[], "").await;
        };
        tokio::join!(caller.leaves(), deleting);
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

/// The call's error, which must be this fault.
pub(crate) async fn fault(caller: &mut Caller, id: u64, kind: &str) -> Value {
    let mut answer = caller.answer(id).await;
    let error = answer["error"].take();
    assert_eq!(error["data"]["type"], kind, "{error} {answer}");
    let said = error["message"].as_str().unwrap();
    assert!(said.len() > 20 && said.len() < 2000, "{said}");
    error
}
