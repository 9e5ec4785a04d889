//! Connections that are cut at every byte of a response in turn. What was not there in full never was, what was there
//! is not lost, and no call is repeated.

use std::collections::HashMap;

use serde_json::json;
use tokio::select;

use crate::common::{HeardRequest, INITIALIZE_RESULT, event, notification};
use crate::harness::{BackendHarness, error};

const CONTENT: &str = r#"{"content":[]}"#;

/// A response, and how much of its body is there after how many of its bytes.
struct Wire {
    bytes: Vec<u8>,
    body: Vec<usize>,
}

impl Wire {
    /// A body with its length in the head.
    fn sized(kind: &str, body: &str) -> Self {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nmcp-session-id: cut\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        Self::new(&head, &[("", body, "")])
    }

    /// An event stream that ends with its connection.
    fn closed(events: &[String]) -> Self {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        Self::new(head, &events.iter().map(|event| ("", &**event, "")).collect::<Vec<_>>())
    }

    /// An event stream in chunks.
    fn chunked(events: &[String]) -> Self {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let sizes: Vec<_> = events.iter().map(|event| format!("{:x}\r\n", event.len())).collect();
        let mut parts: Vec<_> = sizes.iter().zip(events).map(|(size, event)| (&**size, &**event, "\r\n")).collect();
        parts.push(("0\r\n\r\n", "", ""));
        Self::new(head, &parts)
    }

    fn new(head: &str, parts: &[(&str, &str, &str)]) -> Self {
        let mut wire = Self { bytes: Vec::new(), body: vec![0] };
        wire.add(head, false);
        for (before, body, after) in parts {
            wire.add(before, false);
            wire.add(body, true);
            wire.add(after, false);
        }
        wire
    }

    fn add(&mut self, text: &str, counts: bool) {
        for byte in text.bytes() {
            self.bytes.push(byte);
            self.body.push(self.body[self.body.len() - 1] + usize::from(counts));
        }
    }

    /// Sends so much of it and closes the connection.
    async fn cut(&self, at: usize, mut asked: HeardRequest) {
        asked.says(&self.bytes[..at.min(self.bytes.len())]).await;
    }

    /// How many of the events are there in full after so many bytes.
    fn whole(&self, events: &[String], at: usize) -> usize {
        let mut end = 0;
        let ends = events.iter().map(|event| {
            end += event.len();
            end
        });
        ends.filter(|end| *end <= self.body[at.min(self.bytes.len())]).count()
    }
}

#[tokio::test]
async fn within_a_json_answer() {
    let mut harness = BackendHarness::http().await;
    let (mut anna, mut berta) = (harness.session("Anna").await, harness.session("Berta").await);
    let mut at = 0;
    loop {
        let (id, asked) = harness.calling(&mut anna).await;
        let wire = Wire::sized("application/json", &asked.result(CONTENT));
        wire.cut(at, asked).await;
        if at == wire.bytes.len() {
            assert_eq!(anna.answer(id).await["result"], json!({"content": []}));
            break;
        }
        error(&mut anna, id, "backend_connection_broken").await;
        at += 1;
    }
    harness.server.hears_no("tools/call").await;
    harness.works(&mut berta).await;
    harness.leaves(anna).await;
    harness.leaves(berta).await;
    harness.close().await;
}

/// How many calls are cut at once. A stream that is resumed waits a little before, and so all wait together.
const AT_ONCE: usize = 64;

/// The events of a call's response: a notification that says which call it is of, and the answer.
fn events(at: usize, asked: &HeardRequest, ids: bool) -> Vec<String> {
    let message = notification("notifications/x", &json!({"at": at}).to_string());
    let answer = asked.result(CONTENT);
    if ids {
        vec![
            event(&format!("id: {at}-1\nretry: 1"), ""),
            event(&format!("id: {at}-2"), &message),
            event(&format!("id: {at}-3"), &answer),
        ]
    } else {
        vec![event("event: message", &message), event("", &answer)]
    }
}

/// Cuts the stream of a call at every byte. What has an id is taken up behind it.
async fn sweep(ids: bool, make: fn(&[String]) -> Wire) {
    let mut harness = BackendHarness::http().await;
    let (mut anna, mut berta) = (harness.session("Anna").await, harness.session("Berta").await);
    let (mut next, mut all) = (0, false);
    while !all {
        let mut calls = Vec::new();
        for at in next..next + AT_ONCE {
            calls.push((at, anna.starts_tool("tool", json!({"at": at})).await));
        }
        next += AT_ONCE;
        let (mut got, mut missing) = (HashMap::new(), HashMap::new());
        for _ in &calls {
            let asked = harness.server.hears("tools/call").await;
            let at = asked.message()["params"]["arguments"]["at"].as_u64().unwrap();
            let at = usize::try_from(at).unwrap();
            let events = events(at, &asked, ids);
            let wire = make(&events);
            all |= at >= wire.bytes.len();
            let whole = wire.whole(&events, at);
            wire.cut(at, asked).await;
            if ids && whole > 0 && whole < events.len() {
                missing.insert(format!("{at}-{whole}"), events[whole..].concat());
            }
            got.insert(at, (whole, events.len()));
        }
        while !missing.is_empty() {
            let mut resumed = harness.server.hears("RESUME").await;
            assert_eq!(resumed.header("mcp-session-id"), Some("Anna"));
            let last = resumed.header("last-event-id").unwrap().to_owned();
            let rest = missing.remove(&last).unwrap_or_else(|| panic!("{last} is not where a stream was cut"));
            resumed.streams().await;
            resumed.says(rest).await;
        }
        for (at, id) in calls {
            let (whole, events) = got[&at];
            let resumes = ids && whole > 0;
            if resumes || whole == events {
                assert_eq!(anna.answer(id).await["result"], json!({"content": []}), "cut at {at}");
            } else {
                error(&mut anna, id, "backend_connection_broken").await;
            }
            let notifications = anna.told.iter().filter(|told| told["params"]["at"] == at).count();
            assert_eq!(notifications, usize::from(resumes || whole > 0), "cut at {at}");
        }
        anna.told.clear();
    }
    harness.server.hears_no("tools/call").await;
    harness.server.hears_no("RESUME").await;
    harness.works(&mut anna).await;
    harness.works(&mut berta).await;
    harness.leaves(anna).await;
    harness.leaves(berta).await;
    harness.close().await;
}

#[tokio::test]
async fn within_a_stream_that_cannot_be_resumed() {
    sweep(false, Wire::closed).await;
}

#[tokio::test]
async fn within_chunks_that_cannot_be_resumed() {
    sweep(false, Wire::chunked).await;
}

#[tokio::test]
async fn within_a_stream_that_is_resumed() {
    sweep(true, Wire::closed).await;
}

#[tokio::test]
async fn within_chunks_that_are_resumed() {
    sweep(true, Wire::chunked).await;
}

#[tokio::test]
async fn within_the_handshake() {
    let mut harness = BackendHarness::http().await;
    let hello =
        json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}});
    let mut at = 0;
    loop {
        let mut client = harness.new_client("Anna").await;
        let id = client.starts("initialize", hello.clone()).await;
        let asked = harness.server.hears("initialize").await;
        let wire = Wire::sized("application/json", &asked.result(INITIALIZE_RESULT));
        let whole = at == wire.bytes.len();
        wire.cut(at, asked).await;
        let answer = client.answer(id).await;
        assert_eq!(answer["result"]["serverInfo"]["name"] == "script", whole, "cut at {at}: {answer}");
        assert_eq!(answer["error"]["code"] == -31011, !whole, "cut at {at}: {answer}");
        // Where the server named the session, it is deleted.
        let leaving = async {
            client.leaves().await;
            harness.fronts.empty().await;
        };
        let mut leaving = std::pin::pin!(leaving);
        loop {
            select! {
                () = &mut leaving => break,
                asked = harness.server.hears_any() => asked.replies("204 No Content", &[], "").await,
            }
        }
        if whole {
            break;
        }
        at += 1;
    }
    harness.close().await;
}
