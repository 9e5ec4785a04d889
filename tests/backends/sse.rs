//! Servers of HTTP+SSE (2024-11-05): one stream is the session, and it says where messages go.

use serde_json::{Value, json};
use sessile::Transport;

use crate::common::{HeardRequest, INITIALIZE_RESULT, NamedClient, ScriptedHttpServer, event, notification};
use crate::harness::{BackendHarness, error, settings};

async fn harness() -> BackendHarness {
    BackendHarness::new("/deep/sse", Transport::Sse, settings()).await
}

fn hello() -> Value {
    json!({"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}})
}

/// The stream of a session whose endpoint was said.
async fn opened(server: &mut ScriptedHttpServer, endpoint: &str) -> HeardRequest {
    let mut stream = server.hears("GET").await;
    stream.streams().await;
    stream.event("event: endpoint", endpoint).await;
    stream
}

/// A session after its handshake.
async fn session(harness: &mut BackendHarness, name: &str) -> (NamedClient, HeardRequest) {
    let mut client = harness.new_client(name).await;
    let server = &mut harness.server;
    let endpoint = format!("/messages?who={name}");
    let (stream, ()) = tokio::join!(
        async {
            let mut stream = opened(server, &endpoint).await;
            let hello = server.hears("initialize").await;
            let initialize_result = hello.result(INITIALIZE_RESULT);
            assert_eq!(hello.path, endpoint);
            hello.accept().await;
            stream.event("event: message", &initialize_result).await;
            let initialized = server.hears("notifications/initialized").await;
            assert_eq!(initialized.path, endpoint);
            initialized.accept().await;
            stream
        },
        client.shakes_hands()
    );
    (client, stream)
}

/// A session goes on as if nothing had been.
async fn works(harness: &mut BackendHarness, (client, stream): &mut (NamedClient, HeardRequest)) {
    let id = client.starts_tool("tool", json!({})).await;
    let asked = harness.server.hears("tools/call").await;
    assert_eq!(asked.path, format!("/messages?who={}", client.name));
    let answer = asked.result("{}");
    asked.accept().await;
    stream.event("event: message", &answer).await;
    assert_eq!(client.answer(id).await["result"], json!({}));
}

/// A client leaves: that is the stream's end.
async fn leaves((client, stream): (NamedClient, HeardRequest)) {
    client.leaves().await;
    stream.sees_the_client_leave().await;
}

#[tokio::test]
async fn an_endpoint_may_be_said_in_any_form_of_the_same_origin() {
    let mut harness = harness().await;
    let absolute = harness.server.url_of("/m?x=1");
    let same = format!("//{}/m", harness.server.address());
    let named = format!("http://user:secret@{}/m", harness.server.address());
    for (endpoint, path) in [
        ("/m?session=1%202", "/m?session=1%202"),
        ("m?x=1", "/deep/m?x=1"),
        ("../m", "/m"),
        ("?x=1", "/deep/sse?x=1"),
        (&*absolute, "/m?x=1"),
        (&*same, "/m"),
        (&*named, "/m"),
    ] {
        let mut client = harness.new_client("Anna").await;
        client.starts("initialize", hello()).await;
        let stream = opened(&mut harness.server, endpoint).await;
        let asked = harness.server.hears("initialize").await;
        assert_eq!((asked.path.as_str(), asked.header("authorization")), (path, None), "{endpoint}");
        asked.accept().await;
        drop(client);
        stream.sees_the_client_leave().await;
    }
    harness.close().await;
}

#[tokio::test]
async fn an_endpoint_elsewhere_is_refused() {
    let mut elsewhere = ScriptedHttpServer::open().await;
    let mut harness = harness().await;
    let mut berta = session(&mut harness, "Berta").await;
    let port = harness.server.address().port();
    for endpoint in [
        elsewhere.url_of("/messages"),
        format!("//{}/messages", elsewhere.address()),
        format!("https://127.0.0.1:{port}/messages"),
        format!("http://localhost:{port}/messages"),
        format!("\\\\{}\\messages", elsewhere.address()),
        "file:///etc/passwd".to_owned(),
        "http://".to_owned(),
    ] {
        let mut client = harness.new_client("Anna").await;
        let id = client.starts("initialize", hello()).await;
        let stream = opened(&mut harness.server, &endpoint).await;
        let error = error(&mut client, id, "bad_server_message").await;
        let said = error["message"].as_str().unwrap();
        assert!(said.contains("endpoint"), "{endpoint}: {said}");
        stream.sees_the_client_leave().await;
        client.leaves().await;
    }
    harness.server.hears_no("initialize").await;
    elsewhere.hears_nothing().await;
    works(&mut harness, &mut berta).await;
    leaves(berta).await;
    harness.close().await;
}

#[tokio::test]
async fn what_is_no_stream_is_told_to_the_client() {
    let mut harness = harness().await;
    for (status, kind, body, told) in [
        ("500 Internal ScriptedServer Error", "text/html", "<p>broken", "500"),
        ("404 Not Found", "text/plain", "", "404"),
        ("401 Unauthorized", "text/plain", "", "401"),
        ("200 OK", "text/html", "<p>Welcome", "no stream of events"),
        ("200 OK", "text/event-stream", "", "endpoint"),
        ("200 OK", "text/event-stream", "event: endpoint\ndata: /half", "endpoint"),
    ] {
        let mut client = harness.new_client("Anna").await;
        let id = client.starts("initialize", hello()).await;
        harness.server.hears("GET").await.replies(status, &[("content-type", kind)], body).await;
        let error = client.answer(id).await["error"].take();
        assert!(error.to_string().contains(told), "{status} {body:?}: {error}");
        client.leaves().await;
        harness.fronts.empty().await;
    }
    harness.server.hears_no("initialize").await;
    harness.close().await;
}

#[tokio::test]
async fn the_end_of_the_stream_is_the_end_of_the_session() {
    let mut harness = harness().await;
    let mut berta = session(&mut harness, "Berta").await;
    let (mut anna, stream) = session(&mut harness, "Anna").await;
    let id = anna.starts_tool("tool", json!({})).await;
    harness.server.hears("tools/call").await.accept().await;
    drop(stream);
    let error = error(&mut anna, id, "backend_lost").await;
    assert_eq!((&error["code"], &error["data"]["stateLost"]), (&json!(-31010), &json!(true)));
    // It is not opened again behind the client's back.
    harness.server.hears_no("GET").await;
    works(&mut harness, &mut berta).await;
    leaves(berta).await;
    harness.close().await;
}

#[tokio::test]
async fn a_message_that_is_refused_fails_its_call() {
    let mut harness = harness().await;
    let mut anna = session(&mut harness, "Anna").await;
    for (status, expected) in
        [("500 Internal ScriptedServer Error", "backend_refused"), ("413 Too Large", "backend_refused")]
    {
        let id = anna.0.starts_tool("tool", json!({})).await;
        harness.server.hears("tools/call").await.replies(status, &[], "no").await;
        error(&mut anna.0, id, expected).await;
        works(&mut harness, &mut anna).await;
    }
    let id = anna.0.starts_tool("tool", json!({})).await;
    let target = [("location", "http://127.0.0.1:1/messages")];
    harness.server.hears("tools/call").await.replies("307 Temporary Redirect", &target, "").await;
    error(&mut anna.0, id, "backend_refused").await;
    works(&mut harness, &mut anna).await;
    leaves(anna).await;
    harness.close().await;
}

/// Where nothing can be resumed, an answer that was not there in full is lost with the session.
#[tokio::test]
async fn a_stream_that_is_cut_at_any_byte_loses_the_session_and_says_so() {
    let mut harness = harness().await;
    let mut at = 0;
    loop {
        let (mut anna, mut stream) = session(&mut harness, "Anna").await;
        let id = anna.starts_tool("tool", json!({})).await;
        let asked = harness.server.hears("tools/call").await;
        let events = event("", &notification("notifications/x", "{}")) + &event("event: message", &asked.result("{}"));
        asked.accept().await;
        stream.says(&events[..at]).await;
        drop(stream);
        if at == events.len() {
            assert_eq!(anna.answer(id).await["result"], json!({}));
            break;
        }
        error(&mut anna, id, "backend_lost").await;
        at += 1;
    }
    harness.close().await;
}

#[tokio::test]
async fn an_old_server_is_recognised() {
    for status in ["400 Bad Request", "404 Not Found", "405 Method Not Allowed"] {
        let mut harness = BackendHarness::new("/old", Transport::Auto, settings()).await;
        let mut anna = harness.new_client("Anna").await;
        let id = anna.starts("initialize", hello()).await;
        harness.server.hears("initialize").await.replies(status, &[], "").await;
        let mut stream = opened(&mut harness.server, "/messages").await;
        let asked = harness.server.hears("initialize").await;
        assert_eq!(asked.path, "/messages");
        let initialize_result = asked.result(INITIALIZE_RESULT);
        asked.accept().await;
        stream.event("event: message", &initialize_result).await;
        assert_eq!(anna.answer(id).await["result"]["serverInfo"]["name"], "script", "{status}");
        leaves((anna, stream)).await;
        harness.close().await;
    }
}

#[tokio::test]
async fn a_new_server_is_recognised_and_its_errors_are_its_own() {
    let mut harness = BackendHarness::new("/mcp", Transport::Auto, settings()).await;
    let mut anna = harness.session("Anna").await;
    harness.works(&mut anna).await;
    harness.leaves(anna).await;
    // Neither is a failing server an old one, nor one that says what is wrong in JSON-RPC.
    for status in ["401 Unauthorized", "500 Internal ScriptedServer Error"] {
        let mut berta = harness.new_client("Berta").await;
        let id = berta.starts("initialize", hello()).await;
        harness.server.hears("initialize").await.replies(status, &[], "").await;
        assert!(berta.answer(id).await["error"].to_string().contains(&status[..3]));
        berta.leaves().await;
    }
    let mut clara = harness.new_client("Clara").await;
    let id = clara.starts("initialize", hello()).await;
    let asked = harness.server.hears("initialize").await;
    let own =
        format!(r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32602,"message":"which version?"}}}}"#, asked.id());
    asked.replies("400 Bad Request", &[("content-type", "application/json")], own).await;
    assert_eq!(clara.answer(id).await["error"]["message"], "which version?");
    clara.leaves().await;
    harness.server.hears_no("GET").await;
    harness.close().await;
}
