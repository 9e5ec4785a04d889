//! Servers that never stop, or send little that becomes much.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use sessile::{SessionSettings, Transport};

use crate::common::notification;
use crate::harness::{BackendHarness, error, settings};

const LIMIT: usize = 64 * 1024;

async fn harness() -> BackendHarness {
    let settings = SessionSettings { max_message_size: LIMIT, ..settings() };
    BackendHarness::new("/mcp", Transport::Http, settings).await
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// A head that says neither length nor end.
fn head(kind: &str, more: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n{more}\r\n")
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let mut harness = harness().await;
    let (mut anna, mut berta) = (harness.session("Anna").await, harness.session("Berta").await);
    // As JSON, as white space, as one line of an event, as many.
    let cases = [
        (head("application/json", ""), r#"{"jsonrpc":"2.0","result":""#.to_owned(), "x".repeat(1000)),
        (head("application/json", ""), String::new(), " ".repeat(1000)),
        (head("text/event-stream", ""), r#"data: {"jsonrpc":"2.0","result":{"x":""#.to_owned(), "x".repeat(100_000)),
        (head("text/event-stream", ""), "data: [\n".to_owned(), format!("data: \"{}\",\n", "x".repeat(10_000))),
    ];
    for (head, start, more) in cases {
        println!("{head}{start}");
        let (id, mut asked) = harness.calling(&mut anna).await;
        asked.says(head).await;
        asked.says(start).await;
        let flooding = tokio::spawn(async move { asked.floods(more.as_bytes()).await });
        error(&mut anna, id, "message_too_large").await;
        flooding.await.unwrap();
        harness.works(&mut anna).await;
    }
    harness.works(&mut berta).await;
    harness.leaves(anna).await;
    harness.leaves(berta).await;
    harness.close().await;
}

#[tokio::test]
async fn an_endless_page_of_an_error_is_not_read_to_its_end() {
    let mut harness = harness().await;
    let mut anna = harness.session("Anna").await;
    let (id, mut asked) = harness.calling(&mut anna).await;
    asked.says("HTTP/1.1 500 Oh\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n").await;
    let flooding = tokio::spawn(async move { asked.floods(&b"<p>no</p>".repeat(100)).await });
    error(&mut anna, id, "backend_refused").await;
    flooding.await.unwrap();
    harness.works(&mut anna).await;
    harness.leaves(anna).await;
    harness.close().await;
}

#[tokio::test]
async fn what_unpacks_past_the_limit_is_cut_off() {
    let mut harness = harness().await;
    let (mut anna, mut berta) = (harness.session("Anna").await, harness.session("Berta").await);
    let bomb = "x".repeat(32 * 1024 * 1024);
    let encoded = "content-encoding: gzip\r\n";
    for (kind, start) in [("application/json", r#"{"jsonrpc":"2.0","result":""#), ("text/event-stream", "data: [\"")] {
        let (id, mut asked) = harness.calling(&mut anna).await;
        asked.says(head(kind, encoded)).await;
        asked.says(gzip((start.to_owned() + &bomb).as_bytes())).await;
        drop(asked);
        error(&mut anna, id, "message_too_large").await;
        harness.works(&mut anna).await;
    }
    // One that is small enough is as good as any.
    let (id, asked) = harness.calling(&mut anna).await;
    let answer = gzip(asked.result(r#"{"content":[]}"#).as_bytes());
    asked.replies("200 OK", &[("content-type", "application/json"), ("content-encoding", "gzip")], answer).await;
    assert_eq!(anna.answer(id).await["result"], json!({"content": []}));
    harness.works(&mut berta).await;
    harness.leaves(anna).await;
    harness.leaves(berta).await;
    harness.close().await;
}

#[tokio::test]
async fn an_event_without_end_on_the_get_stream_harms_no_call() {
    let mut harness = harness().await;
    let (mut anna, mut get) = harness.listening_session("Anna").await;
    get.streams().await;
    get.event("retry: 1", "").await;
    get.says(r#"data: {"jsonrpc":"2.0","method":"notifications/x","params":{"x":""#).await;
    let flooding = tokio::spawn(async move { get.floods("x".repeat(10_000).as_bytes()).await });
    let mut get = harness.server.hears("GET").await;
    flooding.await.unwrap();
    get.streams().await;
    harness.works(&mut anna).await;
    get.event("", &notification("notifications/y", "{}")).await;
    anna.is_told("notifications/y").await;
    harness.leaves(anna).await;
    harness.close().await;
}
