//! Responses for tests that answer by function: made in one line each, streams that go on or break off included.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::PeerRequest;

pub(crate) type PeerResponse = Response<Body>;

pub(crate) fn status(status: u16) -> PeerResponse {
    Response::builder().status(status).body(Body::empty()).unwrap()
}

pub(crate) fn text(status: u16, content_type: &str, body: impl Into<Body>) -> PeerResponse {
    Response::builder().status(status).header("content-type", content_type).body(body.into()).unwrap()
}

pub(crate) fn json(body: impl Into<Body>) -> PeerResponse {
    text(200, "application/json", body)
}

/// Events that are there, then the end.
pub(crate) fn events(body: impl Into<Body>) -> PeerResponse {
    text(200, "text/event-stream", body)
}

/// Events as they are said; it ends when the sender is dropped.
pub(crate) fn live() -> (mpsc::Sender<String>, PeerResponse) {
    let (sender, receiver) = mpsc::channel::<String>(100);
    let chunks = stream::unfold(receiver, async |mut receiver| {
        let chunk = receiver.recv().await?;
        Some((Ok::<_, Infallible>(Bytes::from(chunk)), receiver))
    });
    (sender, events(Body::from_stream(chunks)))
}

/// A stream on which nothing is ever said.
pub(crate) fn silence() -> PeerResponse {
    events(Body::from_stream(stream::pending::<Result<Bytes, Infallible>>()))
}

/// A stream that says this and breaks off without an end.
pub(crate) fn cut(said: &str) -> PeerResponse {
    let said = Bytes::from(said.to_owned());
    let chunks = stream::unfold(Some(said), async |said| {
        if let Some(said) = said {
            return Some((Ok(said), None));
        }
        // What was said is on its way first.
        sleep(Duration::from_millis(30)).await;
        Some((Err(std::io::Error::other("cut")), None))
    });
    events(Body::from_stream(chunks))
}

pub(crate) const INITIALIZE_RESPONSE: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"s","version":"1"}}}"#;

pub(crate) fn initialize_response() -> PeerResponse {
    let mut answer = json(INITIALIZE_RESPONSE);
    answer.headers_mut().insert("mcp-session-id", "s-1".parse().unwrap());
    answer
}

/// What a plain server says: a session on `initialize`, a result on calls, 202 on the rest, no GET stream.
pub(crate) fn plain_response(request: &PeerRequest) -> PeerResponse {
    match request.kind().as_str() {
        "initialize" => initialize_response(),
        "answer" => status(202),
        what if what.starts_with("notifications/") => status(202),
        "GET" => status(405),
        "DELETE" => status(200),
        _ => json(request.result(r#"{"ok":true}"#)),
    }
}

/// An event as text; `fields` are lines in front of its data.
pub(crate) fn event(fields: &str, data: &str) -> String {
    let end = if fields.is_empty() { "" } else { "\n" };
    format!("{fields}{end}data: {data}\n\n")
}
