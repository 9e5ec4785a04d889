//! The HTTP+SSE front of 2024-11-05 over TCP: how a session opens, what goes over it, how it ends, and who is kept out.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test has failed it")]

mod common;

#[path = "sse/access.rs"]
mod access;
#[path = "sse/ends.rs"]
mod ends;
#[path = "sse/opening.rs"]
mod opening;
#[path = "sse/talk.rs"]
mod talk;
#[path = "sse/waiting.rs"]
mod waiting;

use common::{Harness, HttpClient, INITIALIZE, INITIALIZE_RESULT, INITIALIZED, Reply, ScriptedServer, result};

/// What a client of this transport opens with.
fn initialize() -> String {
    INITIALIZE.replace("2025-11-25", "2024-11-05")
}

fn initialize_result() -> String {
    INITIALIZE_RESULT.replace("2025-11-25", "2024-11-05")
}

/// A client with its stream, and the URI that it posts to.
struct SseClient {
    client: HttpClient,
    stream: Reply,
    endpoint: String,
}

impl SseClient {
    /// Opens the stream, and says nothing yet.
    async fn open(harness: &Harness) -> Self {
        Self::of(harness.new_client()).await
    }

    async fn of(client: HttpClient) -> Self {
        let mut stream = client.request("GET").path("/sse").header("accept", "text/event-stream").send().await;
        assert!(stream.status == 200 && stream.is_sse(), "{}", stream.status);
        let first = stream.event().await;
        assert_eq!(first.name.as_deref(), Some("endpoint"), "{first:?}");
        Self { client, stream, endpoint: first.data }
    }

    /// The secret in the endpoint's URI.
    fn secret(&self) -> &str {
        self.endpoint.split_once("session_id=").unwrap().1
    }

    async fn says(&self, body: &str) {
        let reply = self.post(body).send().await;
        assert_eq!((reply.status, reply.text().await.as_str()), (202, ""), "for {body}");
    }

    fn post(&self, body: &str) -> common::Request {
        self.client.post(body.to_owned()).path(self.endpoint.clone())
    }

    async fn hears(&mut self) -> String {
        let event = self.stream.event().await;
        // Events have no ids, because this transport cannot resume streams.
        assert_eq!((event.name.as_deref(), &event.id), (Some("message"), &None), "{event:?}");
        event.data
    }

    async fn hears_json(&mut self) -> serde_json::Value {
        serde_json::from_str(&self.hears().await).unwrap()
    }
}

impl Harness {
    /// A session over HTTP+SSE after its handshake.
    async fn sse_session(&mut self) -> (SseClient, ScriptedServer) {
        let mut client = SseClient::open(self).await;
        client.says(&initialize()).await;
        let mut server = self.server().await;
        let hello = server.hears("initialize").await;
        server.answers(&hello, &initialize_result()).await;
        assert_eq!(client.hears().await, result("\"hello\"", &initialize_result()));
        client.says(INITIALIZED).await;
        server.hears("notifications/initialized").await;
        (client, server)
    }
}
