//! Servers of HTTP+SSE (2024-11-05): one stream is the session, and it says where messages go.

use serde_json::{Value, json};
use sessile::Transport;

use crate::common::{Caller, WELCOME, notice};
use crate::ground::{Ground, fault, settings};
use crate::web::{Asked, Web, event};

async fn ground() -> Ground {
    Ground::new("/deep/sse", Transport::Sse, settings()).await
}

fn hello() -> Value {
    json!({"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}})
}

/// The stream of a session whose endpoint was said.
async fn opened(web: &mut Web, endpoint: &str) -> Asked {
    let mut stream = web.hears("GET").await;
    stream.streams().await;
    stream.event("event: endpoint", endpoint).await;
    stream
}

/// A session after its handshake.
async fn session(ground: &mut Ground, name: &str) -> (Caller, Asked) {
    let mut caller = ground.stranger(name).await;
    let web = &mut ground.web;
    let endpoint = format!("/messages?who={name}");
    let (stream, ()) = tokio::join!(
        async {
            let mut stream = opened(web, &endpoint).await;
            let hello = web.hears("initialize").await;
            let welcome = hello.result(WELCOME);
            assert_eq!(hello.path, endpoint);
            hello.accept().await;
            stream.event("event: message", &welcome).await;
            let initialized = web.hears("notifications/initialized").await;
            assert_eq!(initialized.path, endpoint);
            initialized.accept().await;
            stream
        },
        caller.shakes_hands()
    );
    (caller, stream)
}

/// A session goes on as if nothing had been.
async fn works(ground: &mut Ground, (caller, stream): &mut (Caller, Asked)) {
    let id = caller.starts_tool("tool", json!({})).await;
    let asked = ground.web.hears("tools/call").await;
    assert_eq!(asked.path, format!("/messages?who={}", caller.name));
    let answer = asked.result("{}");
    asked.accept().await;
    stream.event("event: message", &answer).await;
    assert_eq!(caller.answer(id).await["result"], json!({}));
}

/// A client leaves: that is the stream's end.
async fn leaves((caller, stream): (Caller, Asked)) {
    caller.leaves().await;
    stream.sees_the_client_leave().await;
}

#[tokio::test]
async fn an_endpoint_may_be_said_in_any_form_of_the_same_origin() {
    let mut ground = ground().await;
    let absolute = ground.web.url("/m?x=1");
    let same = format!("//{}/m", ground.web.address);
    let named = format!("http://user:secret@{}/m", ground.web.address);
    for (endpoint, path) in [
        ("/m?session=1%202", "/m?session=1%202"),
        ("m?x=1", "/deep/m?x=1"),
        ("../m", "/m"),
        ("?x=1", "/deep/sse?x=1"),
        (&*absolute, "/m?x=1"),
        (&*same, "/m"),
        (&*named, "/m"),
    ] {
        let mut caller = ground.stranger("Anna").await;
        caller.starts("initialize", hello()).await;
        let stream = opened(&mut ground.web, endpoint).await;
        let asked = ground.web.hears("initialize").await;
        assert_eq!((asked.path.as_str(), asked.header("authorization")), (path, None), "{endpoint}");
        asked.accept().await;
        drop(caller);
        stream.sees_the_client_leave().await;
    }
    ground.close().await;
}

#[tokio::test]
async fn an_endpoint_elsewhere_is_refused() {
    let mut elsewhere = Web::open().await;
    let mut ground = ground().await;
    let mut berta = session(&mut ground, "Berta").await;
    let port = ground.web.address.port();
    for endpoint in [
        elsewhere.url("/messages"),
        format!("//{}/messages", elsewhere.address),
        format!("https://127.0.0.1:{port}/messages"),
        format!("http://localhost:{port}/messages"),
        format!("\\\\{}\\messages", elsewhere.address),
        "file:///etc/passwd".to_owned(),
        "http://".to_owned(),
    ] {
        let mut caller = ground.stranger("Anna").await;
        let id = caller.starts("initialize", hello()).await;
        let stream = opened(&mut ground.web, &endpoint).await;
        let error = fault(&mut caller, id, "bad_server_message").await;
        let said = error["message"].as_str().unwrap();
        assert!(said.contains("endpoint"), "{endpoint}: {said}");
        stream.sees_the_client_leave().await;
        caller.leaves().await;
    }
    ground.web.hears_no("initialize").await;
    elsewhere.hears_nothing().await;
    works(&mut ground, &mut berta).await;
    leaves(berta).await;
    ground.close().await;
}

#[tokio::test]
async fn what_is_no_stream_is_told_to_the_client() {
    let mut ground = ground().await;
    for (status, kind, body, told) in [
        ("500 Internal Server Error", "text/html", "<p>broken", "500"),
        ("404 Not Found", "text/plain", "", "404"),
        ("401 Unauthorized", "text/plain", "", "401"),
        ("200 OK", "text/html", "<p>Welcome", "no stream of events"),
        ("200 OK", "text/event-stream", "", "endpoint"),
        ("200 OK", "text/event-stream", "event: endpoint\ndata: /half", "endpoint"),
    ] {
        let mut caller = ground.stranger("Anna").await;
        let id = caller.starts("initialize", hello()).await;
        ground.web.hears("GET").await.replies(status, &[("content-type", kind)], body).await;
        let error = caller.answer(id).await["error"].take();
        assert!(error.to_string().contains(told), "{status} {body:?}: {error}");
        caller.leaves().await;
        ground.fronts.empty().await;
    }
    ground.web.hears_no("initialize").await;
    ground.close().await;
}

#[tokio::test]
async fn the_end_of_the_stream_is_the_end_of_the_session() {
    let mut ground = ground().await;
    let mut berta = session(&mut ground, "Berta").await;
    let (mut anna, stream) = session(&mut ground, "Anna").await;
    let id = anna.starts_tool("tool", json!({})).await;
    ground.web.hears("tools/call").await.accept().await;
    drop(stream);
    let error = fault(&mut anna, id, "backend_lost").await;
    assert_eq!((&error["code"], &error["data"]["stateLost"]), (&json!(-31010), &json!(true)));
    // It is not opened again behind the client's back.
    ground.web.hears_no("GET").await;
    works(&mut ground, &mut berta).await;
    leaves(berta).await;
    ground.close().await;
}

#[tokio::test]
async fn a_message_that_is_refused_fails_its_call() {
    let mut ground = ground().await;
    let mut anna = session(&mut ground, "Anna").await;
    for (status, expected) in [("500 Internal Server Error", "backend_refused"), ("413 Too Large", "backend_refused")] {
        let id = anna.0.starts_tool("tool", json!({})).await;
        ground.web.hears("tools/call").await.replies(status, &[], "no").await;
        fault(&mut anna.0, id, expected).await;
        works(&mut ground, &mut anna).await;
    }
    let id = anna.0.starts_tool("tool", json!({})).await;
    let target = [("location", "http://127.0.0.1:1/messages")];
    ground.web.hears("tools/call").await.replies("307 Temporary Redirect", &target, "").await;
    fault(&mut anna.0, id, "backend_refused").await;
    works(&mut ground, &mut anna).await;
    leaves(anna).await;
    ground.close().await;
}

/// Where nothing can be resumed, an answer that was not there in full is lost with the session.
#[tokio::test]
async fn a_stream_that_is_cut_at_any_byte_loses_the_session_and_says_so() {
    let mut ground = ground().await;
    let mut at = 0;
    loop {
        let (mut anna, mut stream) = session(&mut ground, "Anna").await;
        let id = anna.starts_tool("tool", json!({})).await;
        let asked = ground.web.hears("tools/call").await;
        let events = event("", &notice("notifications/x", "{}")) + &event("event: message", &asked.result("{}"));
        asked.accept().await;
        stream.says(&events[..at]).await;
        drop(stream);
        if at == events.len() {
            assert_eq!(anna.answer(id).await["result"], json!({}));
            break;
        }
        fault(&mut anna, id, "backend_lost").await;
        at += 1;
    }
    ground.close().await;
}

#[tokio::test]
async fn an_old_server_is_recognised() {
    for status in ["400 Bad Request", "404 Not Found", "405 Method Not Allowed"] {
        let mut ground = Ground::new("/old", Transport::Auto, settings()).await;
        let mut anna = ground.stranger("Anna").await;
        let id = anna.starts("initialize", hello()).await;
        ground.web.hears("initialize").await.replies(status, &[], "").await;
        let mut stream = opened(&mut ground.web, "/messages").await;
        let asked = ground.web.hears("initialize").await;
        assert_eq!(asked.path, "/messages");
        let welcome = asked.result(WELCOME);
        asked.accept().await;
        stream.event("event: message", &welcome).await;
        assert_eq!(anna.answer(id).await["result"]["serverInfo"]["name"], "script", "{status}");
        leaves((anna, stream)).await;
        ground.close().await;
    }
}

#[tokio::test]
async fn a_new_server_is_recognised_and_its_errors_are_its_own() {
    let mut ground = Ground::new("/mcp", Transport::Auto, settings()).await;
    let mut anna = ground.session("Anna").await;
    ground.works(&mut anna).await;
    ground.leaves(anna).await;
    // Neither is a failing server an old one, nor one that says what is wrong in JSON-RPC.
    for status in ["401 Unauthorized", "500 Internal Server Error"] {
        let mut berta = ground.stranger("Berta").await;
        let id = berta.starts("initialize", hello()).await;
        ground.web.hears("initialize").await.replies(status, &[], "").await;
        assert!(berta.answer(id).await["error"].to_string().contains(&status[..3]));
        berta.leaves().await;
    }
    let mut clara = ground.stranger("Clara").await;
    let id = clara.starts("initialize", hello()).await;
    let asked = ground.web.hears("initialize").await;
    let own =
        format!(r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32602,"message":"which version?"}}}}"#, asked.id());
    asked.replies("400 Bad Request", &[("content-type", "application/json")], own).await;
    assert_eq!(clara.answer(id).await["error"]["message"], "which version?");
    clara.leaves().await;
    ground.web.hears_no("GET").await;
    ground.close().await;
}
