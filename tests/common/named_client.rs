//! A client with a name, which stands in all its responses to server requests. If a request reaches the wrong client,
//! the name in the response shows it.

use std::collections::HashMap;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::transports::{ClientTransport, Connection};
use super::{QUIET_TIME, soon};

pub(crate) struct NamedClient {
    pub name: String,
    /// The result of `initialize`.
    pub initialize_result: Value,
    /// Notifications that the test has not taken yet, in the order in which they came.
    pub told: Vec<Value>,
    /// All server requests that came.
    pub asked: Vec<Value>,
    transport: Box<dyn ClientTransport>,
    heard: mpsc::Receiver<Value>,
    answers: HashMap<u64, Value>,
    last: u64,
}

impl NamedClient {
    pub(crate) fn new(name: &str, (transport, heard): Connection) -> Self {
        Self {
            name: name.to_owned(),
            initialize_result: Value::Null,
            told: Vec::new(),
            asked: Vec::new(),
            transport,
            heard,
            answers: HashMap::new(),
            last: 0,
        }
    }

    /// Opens its session with every capability.
    pub(crate) async fn shakes_hands(&mut self) {
        let capabilities = json!({"sampling": {}, "elicitation": {}, "roots": {"listChanged": true}});
        let hello = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": capabilities,
            "clientInfo": {"name": self.name, "version": "7"},
        });
        self.initialize_result = self.call("initialize", hello).await;
        self.tells("notifications/initialized", Value::Null).await;
    }

    /// Whether all messages come on one stream, so that their order is kept.
    pub(crate) fn has_one_stream(&self) -> bool {
        self.transport.has_one_stream()
    }

    /// Begins a call, and returns its id.
    pub(crate) async fn starts(&mut self, method: &str, params: Value) -> u64 {
        self.last += 1;
        let id = self.last;
        self.transport.say(&message(json!({"id": id, "method": method}), params)).await;
        id
    }

    pub(crate) async fn starts_tool(&mut self, name: &str, arguments: Value) -> u64 {
        self.starts("tools/call", json!({"name": name, "arguments": arguments})).await
    }

    pub(crate) async fn tells(&mut self, method: &str, params: Value) {
        self.transport.say(&message(json!({"method": method}), params)).await;
    }

    pub(crate) async fn cancels(&mut self, id: u64) {
        self.tells("notifications/cancelled", json!({"requestId": id, "reason": "enough"})).await;
    }

    /// The answer to a call that was started, a result or an error.
    pub(crate) async fn answer(&mut self, id: u64) -> Value {
        loop {
            if let Some(answer) = self.answers.remove(&id) {
                return answer;
            }
            self.hears_one("an answer").await;
        }
    }

    pub(crate) fn is_answered(&self, id: u64) -> bool {
        self.answers.contains_key(&id)
    }

    /// The result of a call; an error fails the test.
    pub(crate) async fn call(&mut self, method: &str, params: Value) -> Value {
        let id = self.starts(method, params).await;
        let mut answer = self.answer(id).await;
        assert!(answer.get("result").is_some(), "{}, {method}: {answer}", self.name);
        answer["result"].take()
    }

    /// The error of a call; a result fails the test.
    pub(crate) async fn fails(&mut self, method: &str, params: Value) -> Value {
        let id = self.starts(method, params).await;
        let mut answer = self.answer(id).await;
        assert!(answer.get("error").is_some(), "{}, {method}: {answer}", self.name);
        answer["error"].take()
    }

    /// The whole result of a tool; a failure of the tool fails the test.
    pub(crate) async fn uses(&mut self, name: &str, arguments: Value) -> Value {
        let result = self.call("tools/call", json!({"name": name, "arguments": arguments})).await;
        assert_ne!(result["isError"], true, "{}, {name}: {result}", self.name);
        result
    }

    /// The first text in the result of a tool.
    pub(crate) async fn text(&mut self, name: &str, arguments: Value) -> String {
        let result = self.uses(name, arguments).await;
        result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {result}")).to_owned()
    }

    /// Waits for a notification of this method, and takes it out of those that it was told.
    pub(crate) async fn is_told(&mut self, method: &str) -> Value {
        loop {
            if let Some(at) = self.told.iter().position(|told| told["method"] == method) {
                return self.told.remove(at);
            }
            self.hears_one(method).await;
        }
    }

    /// Waits until so many server requests have come in all.
    pub(crate) async fn is_asked(&mut self, count: usize) {
        while self.asked.len() < count {
            self.hears_one("a server request").await;
        }
    }

    /// Takes in whatever comes, until nothing has come for a moment.
    pub(crate) async fn settles(&mut self) {
        while let Ok(message) = timeout(QUIET_TIME, self.heard.recv()).await {
            let Some(message) = message else { return sleep(QUIET_TIME).await };
            self.takes(message).await;
        }
    }

    /// Leaves as a polite client does.
    pub(crate) async fn leaves(self) {
        soon("the client leaves", self.transport.leave()).await;
    }

    async fn hears_one(&mut self, what: &str) {
        let message = soon(what, self.heard.recv()).await;
        let message = message.unwrap_or_else(|| panic!("{}: the session ended before {what}", self.name));
        self.takes(message).await;
    }

    async fn takes(&mut self, message: Value) {
        match (message.get("id"), message["method"].as_str()) {
            (Some(id), Some(method)) => {
                let answer = self.answers_to(id, method, &message["params"]);
                self.asked.push(message);
                self.transport.say(&answer).await;
            }
            (Some(id), None) => {
                let id = id.as_u64().unwrap_or_else(|| panic!("not one of {}'s ids: {message}", self.name));
                assert!(id <= self.last, "{} has not asked that yet: {message}", self.name);
                assert!(self.answers.insert(id, message).is_none(), "{}: call {id} was answered twice", self.name);
            }
            (None, _) => self.told.push(message),
        }
    }

    fn answers_to(&self, id: &Value, method: &str, params: &Value) -> Value {
        let name = &self.name;
        let result = match method {
            "ping" => json!({}),
            "elicitation/create" => {
                let answer = format!("{name} to {}", params["message"].as_str().unwrap_or_default());
                json!({"action": "accept", "content": {"answer": answer}})
            }
            "sampling/createMessage" => {
                let prompt = params.pointer("/messages/0/content/text").and_then(Value::as_str).unwrap_or_default();
                let said = json!({"type": "text", "text": format!("{name} to {prompt}")});
                json!({"role": "assistant", "content": said, "model": name, "stopReason": "endTurn"})
            }
            "roots/list" => json!({"roots": [{"uri": format!("file:///home/{name}"), "name": name}]}),
            _ => {
                let error = json!({"code": -32601, "message": format!("{name} knows no {method}")});
                return json!({"jsonrpc": "2.0", "id": id, "error": error});
            }
        };
        json!({"jsonrpc": "2.0", "id": id, "result": result})
    }
}

fn message(mut message: Value, params: Value) -> Value {
    message["jsonrpc"] = json!("2.0");
    if !params.is_null() {
        message["params"] = params;
    }
    message
}
