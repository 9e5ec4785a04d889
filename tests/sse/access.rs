//! Access over HTTP+SSE: clients are kept apart, and foreign requests kept out.

use sessile::{HttpSettings, SessionSettings};

use crate::common::{Harness, INITIALIZE, call, notification, result};
use crate::{SseClient, initialize};

#[tokio::test]
async fn two_clients_do_not_see_each_other() {
    let mut harness = Harness::new().await;
    let (mut one, mut server_one) = harness.sse_session().await;
    let (mut two, mut server_two) = harness.sse_session().await;
    assert_ne!(one.secret(), two.secret());
    one.says(&call(1, "who", "{}")).await;
    two.says(&call(1, "who", "{}")).await;
    let (heard_one, heard_two) = (server_one.hears("who").await, server_two.hears("who").await);
    server_two.answers(&heard_two, r#"{"i":"two"}"#).await;
    server_one.answers(&heard_one, r#"{"i":"one"}"#).await;
    assert_eq!(one.hears().await, result(1, r#"{"i":"one"}"#));
    assert_eq!(two.hears().await, result(1, r#"{"i":"two"}"#));
    server_one.says(&call("\"secret\"", "elicitation/create", "{}")).await;
    let server_request = one.hears_json().await;
    two.stream.stays_silent().await;
    two.says(&result(&server_request["id"], r#""stolen""#)).await;
    server_one.hears_nothing().await;
    one.says(&result(&server_request["id"], r#""mine""#)).await;
    assert_eq!(server_one.hears_answer().await.text, result("\"secret\"", r#""mine""#));
    drop(two);
    server_two.sees_the_end().await;
    one.says(&notification("n", "{}")).await;
    server_one.hears("n").await;
    harness.close().await;
}

#[tokio::test]
async fn a_session_is_found_by_its_own_endpoint_only() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.sse_session().await;
    let (streamable, mut streamables_server) = harness.session().await;
    let public: Vec<_> = harness.proxy.sessions().list().iter().map(|session| session.id.to_string()).collect();
    let secret = client.secret().to_owned();
    let header = streamable.session.clone().unwrap();
    let upper = secret.to_uppercase();
    let mut guesses: Vec<String> = ["", "nobody", &upper, &header, "%00"].map(str::to_owned).into();
    guesses.extend(public);
    for guess in &guesses {
        let path = format!("/messages?session_id={guess}");
        for body in [call(1, "x", "{}"), initialize()] {
            let reply = harness.new_client().post(body).path(path.clone()).send().await;
            assert_eq!(reply.status, 404, "{guess}");
            assert_eq!(reply.json().await["error"]["data"]["type"], "session_not_found");
        }
    }
    // The other way round it is no better.
    let mut thief = harness.new_client();
    thief.session = Some(secret.clone());
    for request in
        [thief.post(call(1, "x", "{}")), thief.post(INITIALIZE), thief.request("GET"), thief.request("DELETE")]
    {
        let reply = request.send().await;
        assert_eq!(reply.status, 404);
        assert_eq!(reply.json().await["error"]["data"]["type"], "session_not_found");
    }
    // The message endpoint takes the session from the URI only, not from a header.
    let mut thief = harness.new_client();
    thief.session = Some(header);
    assert_eq!(thief.post(call(1, "x", "{}")).path("/messages").send().await.status, 400);
    for query in ["", "?", "?session_id", "?sessionId=x", &format!("?session_id={secret}&session_id={secret}")] {
        let reply = harness.new_client().post(call(1, "x", "{}")).path(format!("/messages{query}")).send().await;
        assert_eq!(reply.status, 400, "{query}");
        assert!(!reply.text().await.contains(&secret));
    }
    server.hears_nothing().await;
    streamables_server.hears_nothing().await;
    client.says(&notification("n", "{}")).await;
    server.hears("n").await;
    harness.close().await;
}

#[tokio::test]
async fn only_known_hosts_and_origins_are_let_in() {
    let http = HttpSettings {
        allow_hosts: vec!["mcp.example.com".into()],
        allow_origins: vec!["https://app.example.com".into()],
        ..HttpSettings::default()
    };
    let mut harness = Harness::on_tcp(SessionSettings::default(), http).await;
    let (client, mut server) = harness.sse_session().await;
    let open = || harness.new_client().request("GET").path("/sse");
    let post = || client.post(&notification("n", "{}"));
    for (name, value) in [
        ("host", "evil.example.com"),
        ("host", "127.0.0.1.evil.com"),
        ("origin", "https://evil.com"),
        ("origin", "null"),
        ("origin", "http://app.example.com"),
    ] {
        for request in [open(), post()] {
            let reply = request.header(name, value).send().await;
            assert_eq!((reply.status, reply.header("access-control-allow-origin")), (403, None), "{name}: {value}");
        }
    }
    server.hears_nothing().await;
    assert_eq!(harness.proxy.sessions().len(), 1);
    for (name, value) in
        [("host", "mcp.example.com:8443"), ("origin", "https://app.example.com"), ("origin", "http://localhost:6274")]
    {
        for (request, status) in [(open(), 200), (post(), 202)] {
            let reply = request.header(name, value).send().await;
            assert_eq!(reply.status, status, "{name}: {value}");
            let origin = (name == "origin").then_some(value);
            assert_eq!(reply.header("access-control-allow-origin"), origin);
        }
        server.hears("n").await;
    }
    let asks_first =
        harness.new_client().request("OPTIONS").path("/messages").header("origin", "http://localhost:6274");
    let reply = asks_first.header("access-control-request-method", "POST").send().await;
    assert_eq!(reply.status, 204);
    assert!(reply.header("access-control-allow-headers").unwrap().contains("Content-Type"));
    harness.close().await;
}

#[tokio::test]
async fn pages_of_elsewhere_open_nothing() {
    let harness = Harness::new().await;
    let image = || harness.new_client().request("GET").path("/sse").header("accept", "image/avif,image/webp,*/*;q=0.8");
    for site in ["cross-site", "same-site"] {
        let get = image().header("sec-fetch-site", site).send().await;
        assert_eq!((get.status, get.json().await["error"]["code"].as_i64()), (403, Some(-32600)), "{site}");
        let post = harness.new_client().post(INITIALIZE).header("sec-fetch-site", site).send().await;
        assert_eq!(post.status, 403, "{site}");
    }
    assert_eq!(harness.proxy.sessions().len(), 0);
    for (site, origin) in [("none", ""), ("same-origin", ""), ("same-site", "http://localhost:6274")] {
        let reply = image().header("sec-fetch-site", site).header("origin", origin).send().await;
        assert_eq!(reply.status, 200, "{site}");
    }
    harness.close().await;
}

#[cfg(feature = "cli")]
#[tokio::test]
async fn the_secret_is_never_logged() {
    let log = crate::common::CapturedLog::start();
    let mut harness = Harness::new().await;
    let (mut client, mut server) = harness.sse_session().await;
    client.says(&call(1, "x", "{}")).await;
    let heard = server.hears("x").await;
    server.answers(&heard, "{}").await;
    client.hears().await;
    // Errors are where secrets usually get into logs.
    assert_eq!(client.post("nonsense").send().await.status, 400);
    assert_eq!(client.post("{}").header("content-type", "text/plain").send().await.status, 415);
    assert_eq!(client.post("{}").header("host", "evil.com").send().await.status, 403);
    assert_eq!(client.client.request("GET").path(client.endpoint.clone()).send().await.status, 405);
    let mut broken = harness.endpoint().connect().await;
    let odd = format!("POST {} HTTP/1.1\r\nhost: localhost\r\ncontent-length: x\r\n\r\n", client.endpoint);
    tokio::io::AsyncWriteExt::write_all(&mut broken, odd.as_bytes()).await.unwrap();
    drop(crate::common::Reply::read(broken).await);
    server.exits(Err("dead")).await;
    harness.empties().await;
    let reply = client.post(&call(2, "x", "{}")).send().await;
    assert_eq!(reply.status, 404);
    assert!(!reply.text().await.contains(client.secret()));
    let text = log.text();
    assert!(text.contains("session opened") && text.contains("session ended"), "{text}");
    assert!(!text.contains(client.secret()), "{text}");
    assert!(!format!("{:?}", harness.proxy).contains(client.secret()));
    harness.close().await;
}

#[tokio::test]
async fn a_secret_is_no_credential_of_the_next_session() {
    let mut harness = Harness::new().await;
    let (first, server) = harness.sse_session().await;
    let old = first.post(&call(1, "x", "{}"));
    drop(first);
    server.sees_the_end().await;
    harness.empties().await;
    let second = SseClient::open(&harness).await;
    assert_eq!(old.send().await.status, 404);
    second.says(&initialize()).await;
    harness.close().await;
}
