//! Requests that are refused, with their statuses and headers.

use std::time::Duration;

use sessile::{HttpSettings, SessionSettings};

use crate::common::{Harness, INITIALIZE, INITIALIZED, call};

#[tokio::test]
async fn health_has_no_session() {
    let mut harness = Harness::new().await;
    let reply = harness.new_client().request("GET").path("/healthz").send().await;
    assert_eq!((reply.status, reply.text().await.as_str()), (200, "ok\n"));
    assert_eq!(harness.new_client().request("GET").path("/other").send().await.status, 404);
    harness.no_more_servers();
    harness.close().await;
}

#[tokio::test]
async fn an_unknown_session_is_not_found() {
    let mut harness = Harness::new().await;
    let (known, _server) = harness.session().await;
    let mut client = harness.new_client();
    let public = harness.proxy.sessions().list()[0].id.to_string();
    let upper = known.session.clone().unwrap().to_uppercase();
    for name in ["nobody", &public, &upper, "\u{20ac}"] {
        client.session = Some(name.to_owned());
        let request = client.post(call(1, "x", "{}"));
        for request in [request, client.post(INITIALIZE), client.request("GET"), client.request("DELETE")] {
            let reply = request.send().await;
            assert_eq!(reply.status, 404, "{name}");
            assert_eq!(reply.json().await["error"]["data"]["type"], "session_not_found");
        }
    }
    harness.close().await;
}

#[tokio::test]
async fn other_methods_are_not_allowed() {
    let harness = Harness::new().await;
    for method in ["PUT", "PATCH", "OPTIONS", "HEAD"] {
        let reply = harness.new_client().request(method).send().await;
        assert_eq!((reply.status, reply.header("allow")), (405, Some("POST, GET, DELETE")), "{method}");
    }
    harness.close().await;
}

#[tokio::test]
async fn what_cannot_be_accepted() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    for accept in ["text/html", "application/json;q=0, text/event-stream;q=0", "image/*"] {
        let reply = client.post(call(1, "x", "{}")).header("accept", accept).send().await;
        assert_eq!(reply.status, 406, "{accept}");
        assert_eq!(reply.json().await["error"]["code"], -32600);
    }
    assert_eq!(client.json_only().request("GET").send().await.status, 406);
    server.hears_nothing().await;
    harness.close().await;
}

#[tokio::test]
async fn the_body_must_be_plain_json() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    for kind in ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let reply = client.post(call(1, "x", "{}")).header("content-type", kind).send().await;
        assert_eq!(reply.status, 415, "{kind}");
    }
    for encoding in ["gzip", "br", "zstd", "identity, gzip"] {
        let reply = client.post(call(1, "x", "{}")).header("content-encoding", encoding).send().await;
        assert_eq!(reply.status, 415, "{encoding}");
    }
    server.hears_nothing().await;
    let kind = "Application/JSON; charset=utf-8";
    let fine = client.post(INITIALIZED).header("content-type", kind).header("content-encoding", "identity");
    assert_eq!(fine.send().await.status, 202);
    harness.close().await;
}

#[tokio::test]
async fn what_is_not_json_rpc_is_a_bad_request() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let cases = [
        ("", -32700, "null"),
        ("{", -32700, "null"),
        ("nonsense", -32700, "null"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"x"} {}"#, -32700, "1"),
        (r#""text""#, -32600, "null"),
        (r#"{"jsonrpc":"1.0","id":2,"method":"x"}"#, -32600, "2"),
        (r#"{"jsonrpc":"2.0","id":true,"method":"x"}"#, -32600, "null"),
        (r#"{"jsonrpc":"2.0","id":null,"method":"x"}"#, -32600, "null"),
        (r#"{"jsonrpc":"2.0","id":3,"method":"x","params":"y"}"#, -32600, "3"),
        (r#"{"jsonrpc":"2.0","id":4,"method":"x","method":"y"}"#, -32600, "4"),
        (r#"{"jsonrpc":"2.0","id":5,"id":6,"method":"x"}"#, -32600, "null"),
        (r#"{"jsonrpc":"2.0","id":7,"method":"x","\u006dethod":"y"}"#, -32600, "7"),
        ("[]", -32600, "null"),
    ];
    for (body, code, id) in cases {
        let reply = client.post(body).send().await;
        assert_eq!(reply.status, 400, "{body}");
        let error = reply.json().await;
        assert_eq!((error["error"]["code"].clone(), error["id"].to_string().as_str()), (code.into(), id), "{body}");
    }
    server.hears_nothing().await;
    harness.close().await;
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_ends_its_request() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let mut listening = client.listens().await;
    server.says(&call("\"q\"", "roots/list", "{}")).await;
    let server_request = listening.data_json().await;
    let bad = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}},"error":{{}}}}"#, server_request["id"]);
    let reply = client.post(bad).send().await;
    assert_eq!(reply.status, 400);
    // The id is that of the server request, and not of a client request.
    assert_eq!(reply.json().await["id"], serde_json::Value::Null);
    let answer: serde_json::Value = serde_json::from_str(&server.hears_answer().await.text).unwrap();
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&"q".into(), &(-32600).into()), "{answer}");
    listening.stays_silent().await;
    harness.close().await;
}

#[tokio::test]
async fn what_may_be_said_once_is_not_said_twice() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let (other, mut others_server) = harness.session().await;
    for (name, value) in [
        ("Host", "localhost"),
        ("Host", "evil.com"),
        ("Mcp-Session-Id", client.session.as_deref().unwrap()),
        ("Mcp-Session-Id", other.session.as_deref().unwrap()),
        ("Mcp-Session-Id", ""),
        ("Origin", "http://localhost"),
        ("Mcp-Protocol-Version", "2025-11-25"),
        ("Last-Event-Id", "1-0"),
        ("Content-Type", "application/json"),
        ("Authorization", "Bearer x"),
    ] {
        let twice = |request: crate::common::Request| {
            let once = match name {
                "Origin" => request.header("origin", "http://localhost"),
                "Last-Event-Id" => request.header("last-event-id", "1-0"),
                "Mcp-Protocol-Version" => request.header("mcp-protocol-version", "2025-11-25"),
                "Authorization" => request.header("authorization", "Bearer x"),
                _ => request,
            };
            // The names of the first ones are in lower case: this one is added.
            once.header_again(name, value)
        };
        let requests =
            [client.post(call(1, "x", "{}")), client.request("GET").header("content-type", "application/json")];
        for request in requests {
            let reply = twice(request).send().await;
            assert_eq!(reply.status, 400, "{name}: {value}");
            let text = reply.text().await;
            assert!(text.to_ascii_lowercase().contains(&name.to_ascii_lowercase()), "{text}");
        }
    }
    server.hears_nothing().await;
    others_server.hears_nothing().await;
    harness.close().await;
}

#[tokio::test]
async fn a_version_without_a_handshake_is_refused() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    for version in ["2026-07-28", "1", "DRAFT", ""] {
        let version = if version.is_empty() { "\u{1F600}" } else { version };
        for request in [client.post(INITIALIZED), client.request("GET")] {
            let reply = request.header("mcp-protocol-version", version).send().await;
            assert_eq!(reply.status, 400, "{version}");
        }
    }
    server.hears_nothing().await;
    // Any version of the era is taken, whatever was negotiated; and none at all.
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", ""] {
        let reply = client.post(INITIALIZED).header("mcp-protocol-version", version).send().await;
        assert_eq!(reply.status, 202, "{version}");
    }
    harness.close().await;
}

#[tokio::test]
async fn a_large_body_is_refused_and_the_session_lives() {
    let settings = SessionSettings { max_message_size: 2000, ..SessionSettings::default() };
    let mut harness = Harness::on_tcp(settings, HttpSettings::default()).await;
    let (client, mut server) = harness.session().await;
    let fits = call(1, "x", &format!(r#"{{"a":"{}"}}"#, "b".repeat(1900)));
    let over = call(2, "x", &format!(r#"{{"a":"{}"}}"#, "b".repeat(2000)));
    assert!(fits.len() <= 2000);
    let reply = client.post(over).send().await;
    assert_eq!(reply.status, 413);
    let error = reply.json().await;
    assert_eq!(error["error"]["code"], -31014);
    assert_eq!(error["error"]["data"]["limit"], 2000);
    server.hears_nothing().await;
    let calling = client.asks(&fits);
    let heard = server.hears("x").await;
    server.answers(&heard, "{}").await;
    calling.data().await;
    harness.close().await;
}

#[tokio::test]
async fn one_session_too_many_is_told_to_come_back() {
    let settings = SessionSettings { max_sessions: Some(2), ..SessionSettings::default() };
    let mut harness = Harness::on_tcp(settings, HttpSettings::default()).await;
    let (one, _first) = harness.session().await;
    let (two, mut second) = harness.session().await;
    let reply = harness.new_client().post(INITIALIZE).send().await;
    assert_eq!(reply.status, 503);
    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!(wait > 0 && reply.header("mcp-session-id").is_none());
    let error = reply.json().await;
    assert_eq!((&error["id"], &error["error"]["code"]), (&"hello".into(), &(-31013).into()));
    assert!(error["error"]["message"].as_str().unwrap().contains("sessions"), "{error}");
    harness.no_more_servers();
    // The others are untouched, and there is room when one has ended.
    let calling = two.asks(&call(1, "x", "{}"));
    let heard = second.hears("x").await;
    second.answers(&heard, "{}").await;
    calling.data().await;
    one.deletes().await;
    harness.session().await;
    harness.close().await;
}

#[tokio::test]
async fn only_known_hosts_are_let_in() {
    let http = HttpSettings { allow_hosts: vec!["mcp.example.com".into()], ..HttpSettings::default() };
    let mut harness = Harness::on_tcp(SessionSettings::default(), http).await;
    let (client, _server) = harness.session().await;
    for (host, status) in [
        ("localhost:1234", 202),
        ("[::1]:80", 202),
        ("mcp.example.com", 202),
        ("MCP.example.com:8443", 202),
        ("evil.example.com", 403),
        ("127.0.0.1.evil.com", 403),
        ("localhost.evil.com:80", 403),
        ("192.168.1.1:8808", 403),
    ] {
        assert_eq!(client.post(INITIALIZED).header("host", host).send().await.status, status, "{host}");
    }
    for request in [client.request("GET"), client.request("DELETE"), client.request("OPTIONS")] {
        let reply = request.header("host", "evil.example.com").send().await;
        assert_eq!((reply.status, reply.header("access-control-allow-origin")), (403, None));
    }
    harness.close().await;
}

#[tokio::test]
async fn only_known_origins_are_let_in() {
    let http = HttpSettings { allow_origins: vec!["https://app.example.com".into()], ..HttpSettings::default() };
    let mut harness = Harness::on_tcp(SessionSettings::default(), http).await;
    let (client, _server) = harness.session().await;
    for origin in ["https://evil.com", "null", "https://app.example.com.evil.com", "http://app.example.com"] {
        for request in
            [client.post(INITIALIZED), client.request("GET"), client.request("DELETE"), client.request("OPTIONS")]
        {
            let reply = request.header("origin", origin).send().await;
            assert_eq!((reply.status, reply.header("access-control-allow-origin")), (403, None), "{origin}");
        }
    }
    for origin in ["https://app.example.com", "http://localhost:6274", "http://127.0.0.1"] {
        let reply = client.post(INITIALIZED).header("origin", origin).send().await;
        assert_eq!(reply.status, 202, "{origin}");
        assert_eq!(reply.header("access-control-allow-origin"), Some(origin));
        assert_eq!(reply.header("vary"), Some("Origin"));
        let exposed = reply.header("access-control-expose-headers").unwrap().to_ascii_lowercase();
        assert!(exposed.contains("mcp-session-id") && exposed.contains("www-authenticate"), "{exposed}");
    }
    // Errors can be read by the page, too.
    let reply = client.post("{").header("origin", "http://localhost").send().await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (400, Some("http://localhost")));
    harness.close().await;
}

#[tokio::test]
async fn a_browser_asks_first() {
    let harness = Harness::new().await;
    let reply = harness
        .new_client()
        .request("OPTIONS")
        .header("origin", "http://localhost:6274")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type,mcp-session-id,mcp-protocol-version")
        .send()
        .await;
    assert_eq!(reply.status, 204);
    assert_eq!(reply.header("access-control-allow-origin"), Some("http://localhost:6274"));
    let methods = reply.header("access-control-allow-methods").unwrap();
    assert!(["GET", "POST", "DELETE"].iter().all(|method| methods.contains(method)), "{methods}");
    let headers = reply.header("access-control-allow-headers").unwrap().to_ascii_lowercase();
    for header in ["content-type", "accept", "mcp-session-id", "mcp-protocol-version", "last-event-id", "authorization"]
    {
        assert!(headers.contains(header), "{header}");
    }
    harness.close().await;
}

#[tokio::test]
async fn a_silent_stream_is_kept_alive() {
    let http = HttpSettings { keep_alive: Duration::from_millis(30), ..HttpSettings::default() };
    let mut harness = Harness::on_tcp(SessionSettings::default(), http).await;
    let (client, mut server) = harness.session().await;
    let mut listening = client.listens().await;
    let mut calling = client.calls(&call(1, "slow", "{}")).await;
    for stream in [&mut listening, &mut calling] {
        assert!(stream.block().await.unwrap().starts_with("id: "), "primed");
        for _ in 0..3 {
            assert_eq!(stream.block().await.unwrap(), ": keep-alive\n\n");
        }
    }
    let heard = server.hears("slow").await;
    server.answers(&heard, "{}").await;
    assert_eq!(calling.data().await, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    harness.close().await;
}
