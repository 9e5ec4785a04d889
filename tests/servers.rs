//! Several servers in one session, and filters, through the public API: servers in this process, scripted ones, and a
//! process that dies.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test has failed it")]

mod common;

#[path = "servers/demos.rs"]
mod demos;
#[path = "servers/ends.rs"]
mod ends;
#[path = "servers/files.rs"]
mod files;
#[path = "servers/http.rs"]
mod http;
#[path = "servers/settings.rs"]
mod settings;
#[path = "servers/slow.rs"]
mod slow;

use std::time::Duration;

use serde_json::{Value, json};
use sessile::{EndReason, InProcessBackend, Proxy, ProxyBuilder};
use tokio::sync::mpsc;

use common::{INITIALIZE, INITIALIZED, LineClient, ScriptedServer, call, scripted, soon};

/// A client that sends a request, waits for the response, and keeps the notifications that come in between.
struct SessionClient {
    line: LineClient,
    asked: u64,
    told: Vec<Value>,
}

impl SessionClient {
    fn new(proxy: &Proxy) -> Self {
        Self { line: LineClient::new(proxy, 64 * 1024), asked: 0, told: Vec::new() }
    }

    /// A client after its handshake, and the result of that.
    async fn open(proxy: &Proxy) -> (Self, Value) {
        let mut client = Self::new(proxy);
        client.line.says(INITIALIZE).await;
        let initialize_result = client.answer_to(&json!("hello")).await["result"].clone();
        client.line.says(INITIALIZED).await;
        (client, initialize_result)
    }

    /// Sends a request, and returns its id.
    async fn asks(&mut self, method: &str, params: &Value) -> Value {
        self.asked += 1;
        self.line.says(&call(self.asked, method, &params.to_string())).await;
        json!(self.asked)
    }

    /// Waits for the response to this request, and answers server requests in between.
    async fn answer_to(&mut self, id: &Value) -> Value {
        loop {
            let heard = self.line.hears_json().await;
            match (heard.get("method").and_then(Value::as_str), heard.get("id")) {
                (None, Some(answered)) if answered == id => return heard,
                (Some(method), Some(number)) => {
                    let result = match method {
                        "elicitation/create" => json!({ "action": "accept", "content": { "name": "Anna" } }),
                        "sampling/createMessage" => {
                            json!({ "role": "assistant", "model": "m", "content": { "type": "text", "text": "a poem" } })
                        }
                        other => panic!("asked {other}"),
                    };
                    self.line.says(&common::result(number, &result.to_string())).await;
                }
                (Some(_), None) => self.told.push(heard),
                (None, _) => panic!("nobody asked for {heard}"),
            }
        }
    }

    async fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.asks(method, &params).await;
        self.answer_to(&id).await
    }

    async fn result(&mut self, method: &str, params: Value) -> Value {
        let answer = self.request(method, params).await;
        assert!(answer.get("result").is_some(), "{method}: {answer}");
        answer["result"].clone()
    }

    async fn error(&mut self, method: &str, params: Value) -> (i64, String) {
        let answer = self.request(method, params).await;
        let message = answer["error"]["message"].as_str().unwrap_or_else(|| panic!("{method}: {answer}"));
        (answer["error"]["code"].as_i64().unwrap(), message.to_owned())
    }

    /// The text that a tool gives.
    async fn tool(&mut self, name: &str, arguments: Value) -> String {
        let result = self.result("tools/call", json!({ "name": name, "arguments": arguments })).await;
        result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{name}: {result}")).to_owned()
    }

    /// The names in a list.
    async fn names(&mut self, method: &str, member: &str, key: &str) -> Vec<String> {
        let result = self.result(method, json!({})).await;
        let entries = result[member].as_array().unwrap_or_else(|| panic!("{method}: {result}"));
        entries.iter().map(|entry| entry[key].as_str().unwrap().to_owned()).collect()
    }

    /// The next notification of this method.
    async fn hears_of(&mut self, method: &str) -> Value {
        loop {
            if let Some(at) = self.told.iter().position(|told| told["method"] == method) {
                return self.told.remove(at);
            }
            let heard = self.line.hears_json().await;
            assert!(heard.get("id").is_none(), "{heard}");
            self.told.push(heard);
        }
    }

    /// Leaves, and sees to it that nothing is left.
    async fn leaves(self, proxy: &Proxy) {
        assert!(matches!(self.line.leaves().await, EndReason::ClientLeft));
        let sessions = proxy.sessions();
        common::until("all is gone", || sessions.is_empty() && sessions.links() == 0).await;
    }
}

/// The servers of one name, in the order in which they are started.
type Servers = mpsc::Receiver<ScriptedServer>;

/// A proxy of two scripted servers, `a` and `b`.
fn two(change: impl FnOnce(ProxyBuilder) -> ProxyBuilder) -> (Proxy, Servers, Servers) {
    let ((a, servers_of_a), (b, servers_of_b)) = (scripted(), scripted());
    let proxy = change(Proxy::builder().server("a", a).server("b", b)).build().unwrap();
    (proxy, servers_of_a, servers_of_b)
}

fn demo() -> InProcessBackend {
    InProcessBackend::rmcp(sessile::demo::Demo::new)
}

/// A server that has heard `initialize`, and answers it.
async fn initialized_server(servers: &mut Servers, capabilities: &Value) -> ScriptedServer {
    let mut server = soon("a server is started", servers.recv()).await.unwrap();
    let hello = server.hears("initialize").await;
    let initialize_result = json!({
        "protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": { "name": "s", "version": "0" },
    });
    server.answers(&hello, &initialize_result.to_string()).await;
    server
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}
