//! How a session over HTTP+SSE opens, and which requests do not open one.

use std::time::Duration;

use sessile::{HttpSettings, SessionSettings};

use crate::common::{Harness, INITIALIZED, Reply, call, result};
use crate::{SseClient, initialize, initialize_result};

#[tokio::test]
async fn the_stream_begins_with_the_endpoint() {
    let mut harness = Harness::new().await;
    let mut stream =
        harness.new_client().request("GET").path("/sse").header("accept", "text/event-stream").send().await;
    assert_eq!(
        ["content-type", "cache-control", "x-accel-buffering", "mcp-session-id"].map(|name| stream.header(name)),
        [Some("text/event-stream"), Some("no-cache, no-transform"), Some("no"), None]
    );
    let first = stream.block().await.unwrap();
    let secret = first.strip_prefix("event: endpoint\ndata: /messages?session_id=").unwrap();
    let secret = secret.strip_suffix("\n\n").unwrap();
    assert!(secret.len() == 64 && secret.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{first}");
    stream.stays_silent().await;
    // No session is opened and no server is started before there is a message for them.
    assert_eq!((harness.proxy.sessions().len(), harness.proxy.sessions().links()), (0, 0));
    harness.no_more_servers();
    drop(stream);
    harness.empties().await;
    harness.close().await;
}

#[tokio::test]
async fn a_handshake() {
    let mut harness = Harness::new().await;
    let mut client = SseClient::open(&harness).await;
    client.says(&initialize()).await;
    let mut server = harness.server().await;
    let hello = server.hears("initialize").await;
    assert_eq!(hello.rest(), initialize().replace(r#""id":"hello""#, r#""id":#"#));
    server.answers(&hello, &initialize_result()).await;
    assert_eq!(client.hears().await, result("\"hello\"", &initialize_result()));
    client.says(INITIALIZED).await;
    server.hears("notifications/initialized").await;
    let listed = harness.proxy.sessions().list();
    assert_eq!(
        (listed[0].client.as_deref(), listed[0].version.as_deref()),
        (Some("scripted 1"), Some("2024-11-05")),
        "{listed:?}"
    );
    harness.close().await;
}

#[tokio::test]
async fn who_was_refused_may_try_again() {
    let mut harness = Harness::new().await;
    let mut client = SseClient::open(&harness).await;
    client.says(&initialize()).await;
    let mut server = harness.server().await;
    let hello = server.hears("initialize").await;
    server.says(&format!(r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32602,"message":"no"}}}}"#, hello.id)).await;
    assert_eq!(client.hears_json().await["error"]["code"], -32602);
    client.says(&initialize()).await;
    let hello = server.hears("initialize").await;
    server.answers(&hello, &initialize_result()).await;
    assert_eq!(client.hears().await, result("\"hello\"", &initialize_result()));
    client.says(&initialize()).await;
    assert_eq!(client.hears_json().await["error"]["code"], -32600, "once is enough");
    harness.close().await;
}

#[tokio::test]
async fn the_first_message_is_initialize() {
    let mut harness = Harness::new().await;
    let mut client = SseClient::open(&harness).await;
    // The error goes out on the stream, where the client waits for the response.
    for (method, code) in [("tools/list", -32600), ("ping", -32600), ("server/discover", -32601)] {
        client.says(&call(4, method, "{}")).await;
        let error = client.hears_json().await;
        assert_eq!((&error["id"], &error["error"]["code"]), (&4.into(), &code.into()), "{method}");
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains(if code == -32601 { method } else { "state is lost" }), "{error}");
    }
    for body in [INITIALIZED.into(), result(1, "{}"), format!("[{}]", initialize())] {
        let reply = client.post(&body).send().await;
        assert_eq!(reply.status, 400, "{body}");
        let error = reply.json().await;
        assert_eq!(error["error"]["code"], -32600, "{body}");
        assert!(error["error"]["message"].as_str().unwrap().contains("initialize"), "{error}");
    }
    harness.no_more_servers();
    client.stream.stays_silent().await;
    client.says(&initialize()).await;
    harness.server().await.hears("initialize").await;
    drop(client);
    harness.close().await;
}

#[tokio::test]
async fn calls_may_follow_initialize_at_once() {
    let mut harness = Harness::new().await;
    let mut client = SseClient::open(&harness).await;
    client.says(&initialize()).await;
    client.says(&call(2, "ping", "{}")).await;
    let mut server = harness.server().await;
    let hello = server.hears("initialize").await;
    server.answers(&hello, &initialize_result()).await;
    let ping = server.hears("ping").await;
    server.answers(&ping, "{}").await;
    assert_eq!(client.hears().await, result("\"hello\"", &initialize_result()));
    assert_eq!(client.hears().await, result(2, "{}"));
    harness.close().await;
}

#[tokio::test]
async fn each_endpoint_has_its_method() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.sse_session().await;
    for method in ["POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"] {
        // A client that tries streamable HTTP first learns from this status that it has to fall back.
        let request = harness.new_client().request(method).path("/sse").header("content-type", "application/json");
        let reply = request.body(initialize()).send().await;
        assert_eq!((reply.status, reply.header("allow")), (405, Some("GET")), "{method}");
    }
    for method in ["GET", "PUT", "DELETE", "HEAD", "OPTIONS"] {
        let reply = client.client.request(method).path(client.endpoint.clone()).send().await;
        assert_eq!((reply.status, reply.header("allow")), (405, Some("POST")), "{method}");
    }
    server.hears_nothing().await;
    assert_eq!(harness.proxy.sessions().len(), 1);
    harness.close().await;
}

#[tokio::test]
async fn the_stream_must_be_acceptable() {
    let mut harness = Harness::new().await;
    let open = |accept: &'static str| harness.new_client().request("GET").path("/sse").header("accept", accept);
    for (accept, status) in [("text/event-stream", 200), ("*/*", 200), ("", 200), ("application/json", 406)] {
        assert_eq!(open(accept).send().await.status, status, "{accept}");
    }
    let versioned = |version| open("text/event-stream").header("mcp-protocol-version", version);
    assert_eq!(versioned("2024-11-05").send().await.status, 200);
    assert_eq!(versioned("2026-07-28").send().await.status, 400);
    harness.empties().await;
    harness.no_more_servers();
    harness.close().await;
}

#[tokio::test]
async fn one_session_too_many_is_told_to_come_back() {
    let settings = SessionSettings { max_sessions: Some(2), ..SessionSettings::default() };
    let mut harness = Harness::on_tcp(settings, HttpSettings::default()).await;
    // Both kinds of sessions count for the limit.
    let (_one, _server) = harness.session().await;
    let (two, _server_two) = harness.sse_session().await;
    let reply = harness.new_client().request("GET").path("/sse").send().await;
    assert_eq!((reply.status, reply.header("retry-after").is_some()), (503, true));
    assert_eq!(reply.json().await["error"]["code"], -31013);
    drop(two);
    crate::common::until("there is room", || harness.proxy.sessions().len() == 1).await;
    harness.sse_session().await;
    harness.close().await;
}

#[tokio::test(start_paused = true)]
async fn who_never_says_a_word_is_let_go() {
    let mut harness = Harness::in_process(SessionSettings::default(), HttpSettings::default());
    let begin = tokio::time::Instant::now();
    let mut silent = SseClient::open(&harness).await;
    let mut initializing = SseClient::open(&harness).await;
    initializing.says(&initialize()).await;
    let mut server = harness.server().await;
    let hello = server.hears("initialize").await;
    let listening = tokio::spawn(async move {
        while silent.stream.block().await.is_some() {}
        begin.elapsed()
    });
    // The 30 seconds are for `initialize`: a server may take longer to start.
    let patient = tokio::spawn(async move {
        let event = initializing.stream.event_at_last().await;
        (event, initializing)
    });
    let silent_for = listening.await.unwrap();
    assert!((30..31).contains(&silent_for.as_secs()), "{silent_for:?}");
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(harness.proxy.sessions().len(), 1);
    server.answers(&hello, &initialize_result()).await;
    let (event, _initializing) = patient.await.unwrap();
    assert_eq!(event.data, result("\"hello\"", &initialize_result()));
    harness.close().await;
}

/// The `endpoint` event of a router that is part of a larger one.
async fn endpoint_behind(path: &str, prefix: Option<&str>) -> String {
    let (backend, _servers) = crate::common::scripted();
    let proxy = sessile::Proxy::builder().backend(backend).build().unwrap();
    let mut larger = axum::Router::new().nest("/tools/{name}", proxy.clone().into_router()).merge(proxy.into_router());
    let mut request = http::Request::get(path).header("host", "localhost").header("accept", "text/event-stream");
    if let Some(prefix) = prefix {
        request = request.header("x-forwarded-prefix", prefix);
    }
    let request = request.body(axum::body::Body::empty()).unwrap();
    let mut reply = Reply::of_router(tower_service::Service::call(&mut larger, request).await.unwrap());
    assert_eq!(reply.status, 200);
    let endpoint = reply.event().await.data;
    // Messages are accepted at this endpoint.
    let inside = prefix.and_then(|prefix| endpoint.strip_prefix(prefix)).unwrap_or(&endpoint);
    let post = http::Request::post(inside).header("host", "localhost").header("content-type", "application/json");
    let post = post.body(axum::body::Body::from(initialize())).unwrap();
    assert_eq!(tower_service::Service::call(&mut larger, post).await.unwrap().status(), 202);
    endpoint.split_once('?').unwrap().0.to_owned()
}

#[tokio::test]
async fn the_endpoint_is_where_the_client_finds_it() {
    assert_eq!(endpoint_behind("/sse", None).await, "/messages");
    assert_eq!(endpoint_behind("/tools/browser/sse", None).await, "/tools/browser/messages");
    assert_eq!(endpoint_behind("/sse", Some("/gateway")).await, "/gateway/messages");
    assert_eq!(endpoint_behind("/tools/x/sse", Some("/gateway")).await, "/gateway/tools/x/messages");
}
