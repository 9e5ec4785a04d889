//! Answers that are none: each fails its own call, says what was wrong, and leaves the session as it was.

use serde_json::json;
use sessile::Transport;

use crate::common::{Fronts, NamedClient, ScriptedHttpServer, event, result};
use crate::harness::{BackendHarness, error, proxy, settings};

const JSON: (&str, &str) = ("content-type", "application/json");
const HTML: (&str, &str) = ("content-type", "text/html");
const SSE: (&str, &str) = ("content-type", "text/event-stream");

/// A status, headers, a body, and what the client is told.
type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, &'a str);

#[tokio::test]
async fn what_is_no_answer_fails_its_call_and_nothing_else() {
    let page = format!("<html><body>{}</body></html>", "It is broken. ".repeat(5000));
    let none = event("", r#"{"jsonrpc":"2.0","method":"notifications/x"}"#);
    let (stranger, half) = (result(987_654, "{}"), r#"{"jsonrpc":"2.0","id":1,"result":{"#);
    let table: &[Row<'_>] = &[
        ("500 Internal ScriptedServer Error", &[HTML], &page, "backend_refused"),
        ("502 Bad Gateway", &[], "", "backend_refused"),
        ("429 Too Many Requests", &[("retry-after", "7")], "slow down", "backend_refused"),
        ("400 Bad Request", &[HTML], "what?", "backend_refused"),
        ("200 OK", &[HTML], "<p>Welcome to the hotel's network", "bad_server_message"),
        ("200 OK", &[], "{}", "bad_server_message"),
        // What stops before its end was cut off somewhere.
        ("200 OK", &[JSON], "", "backend_connection_broken"),
        ("200 OK", &[JSON], half, "backend_connection_broken"),
        ("200 OK", &[JSON], "null", "bad_server_message"),
        ("200 OK", &[JSON], &stranger, "bad_server_message"),
        ("202 Accepted", &[], "", "bad_server_message"),
        ("204 No Content", &[], "", "bad_server_message"),
        ("200 OK", &[SSE], "", "backend_connection_broken"),
        ("200 OK", &[SSE], ": nothing but a comment\n\n", "backend_connection_broken"),
        ("200 OK", &[SSE], &none, "backend_connection_broken"),
        ("200 OK", &[SSE], "data: {\"jsonrpc\":\"2.0\",\"id\":", "backend_connection_broken"),
    ];
    let mut harness = BackendHarness::http().await;
    let (mut anna, mut berta) = (harness.session("Anna").await, harness.session("Berta").await);
    for (status, headers, body, expected) in table {
        println!("{status} {headers:?} {}", &body[..body.len().min(50)]);
        let (id, asked) = harness.calling(&mut anna).await;
        asked.replies(status, headers, body).await;
        let error = error(&mut anna, id, expected).await;
        if *expected == "backend_refused" {
            assert_eq!(error["data"]["status"].to_string(), status[..3]);
        }
        harness.works(&mut anna).await;
        harness.works(&mut berta).await;
    }
    harness.server.hears_no("tools/call").await;
    harness.leaves(anna).await;
    harness.leaves(berta).await;
    harness.close().await;
}

#[tokio::test]
async fn an_error_of_the_server_is_the_servers() {
    let mut harness = BackendHarness::http().await;
    let mut anna = harness.session("Anna").await;
    for status in ["200 OK", "400 Bad Request", "500 Internal ScriptedServer Error"] {
        let (id, asked) = harness.calling(&mut anna).await;
        let own = format!(r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32099,"message":"no"}}}}"#, asked.id());
        asked.replies(status, &[JSON], own).await;
        assert_eq!(anna.answer(id).await["error"], json!({"code": -32099, "message": "no"}), "{status}");
    }
    harness.leaves(anna).await;
    harness.close().await;
}

#[tokio::test]
async fn refused_credentials_are_told_with_the_challenge() {
    let challenge = r#"Bearer resource_metadata="https://example.com/.well-known/oauth-protected-resource""#;
    let mut harness = BackendHarness::http().await;
    let mut anna = harness.session("Anna").await;
    for status in ["401 Unauthorized", "403 Forbidden"] {
        let (id, asked) = harness.calling(&mut anna).await;
        asked.replies(status, &[("www-authenticate", challenge), HTML], "<p>Go away").await;
        let error = error(&mut anna, id, "backend_unauthorized").await;
        assert_eq!(error["data"]["status"].to_string(), status[..3]);
        assert_eq!(error["data"]["wwwAuthenticate"], challenge);
        assert_eq!(error["data"]["credentials"], "operator");
        harness.works(&mut anna).await;
    }
    harness.leaves(anna).await;
    harness.close().await;
}

#[tokio::test]
async fn a_redirect_to_another_origin_is_not_followed() {
    let mut elsewhere = ScriptedHttpServer::open().await;
    let mut harness = BackendHarness::http().await;
    let mut anna = harness.session("Anna").await;
    // Another port is another origin, and so are another scheme and another name of the same machine.
    let port = harness.server.address().port();
    let targets = [
        elsewhere.url_of("/mcp"),
        format!("//{}/mcp", elsewhere.address()),
        format!("https://127.0.0.1:{port}/mcp"),
        format!("http://localhost:{port}/mcp"),
    ];
    for target in &targets {
        for status in ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
            let (id, asked) = harness.calling(&mut anna).await;
            asked.replies(status, &[("location", target)], "").await;
            let error = error(&mut anna, id, "backend_refused").await;
            assert!(error["message"].as_str().unwrap().contains("redirect"), "{error}");
        }
    }
    harness.server.hears_no("tools/call").await;
    elsewhere.hears_nothing().await;
    harness.works(&mut anna).await;
    harness.leaves(anna).await;
    harness.close().await;
}

#[tokio::test]
async fn a_redirect_within_the_origin_keeps_the_message() {
    let mut harness = BackendHarness::http().await;
    let mut anna = harness.session("Anna").await;
    for status in ["307 Temporary Redirect", "308 Permanent Redirect"] {
        let (id, asked) = harness.calling(&mut anna).await;
        let body = asked.body.clone();
        asked.replies(status, &[("location", "/mcp/")], "").await;
        let again = harness.server.hears("tools/call").await;
        assert_eq!((again.path.as_str(), &again.body), ("/mcp/", &body));
        assert_eq!(again.header("mcp-session-id"), Some("Anna"));
        let answer = again.result("{}");
        again.answers(&answer).await;
        assert_eq!(anna.answer(id).await["result"], json!({}));
    }
    // One that never ends does.
    let (id, mut asked) = harness.calling(&mut anna).await;
    loop {
        asked.replies("307 Temporary Redirect", &[("location", "/mcp")], "").await;
        tokio::select! {
            again = harness.server.hears("tools/call") => asked = again,
            error = error(&mut anna, id, "backend_refused") => break drop(error),
        }
    }
    harness.works(&mut anna).await;
    harness.leaves(anna).await;
    harness.close().await;
}

/// What a client is told whose session cannot be opened.
async fn refused(client: &mut NamedClient) -> serde_json::Value {
    client.fails("initialize", json!({"protocolVersion": "2025-11-25", "capabilities": {}})).await
}

#[tokio::test]
async fn what_is_wrong_with_the_handshake_is_told_to_the_client() {
    let mut harness = BackendHarness::http().await;
    let table: &[Row<'_>] = &[
        ("500 Internal ScriptedServer Error", &[HTML], "<p>broken", "500"),
        ("404 Not Found", &[HTML], "<p>no such page", "404"),
        ("405 Method Not Allowed", &[], "", "405"),
        ("401 Unauthorized", &[("www-authenticate", "Bearer")], "", "401"),
        ("307 Temporary Redirect", &[("location", "http://127.0.0.1:1/")], "", "redirect"),
        ("200 OK", &[HTML], "<p>Welcome", "text/html"),
        ("202 Accepted", &[], "", "202"),
    ];
    for (status, headers, body, told) in table {
        let mut client = harness.new_client("Anna").await;
        let (error, ()) = tokio::join!(refused(&mut client), async {
            harness.server.hears("initialize").await.replies(status, headers, body).await;
        });
        let said = error.to_string();
        assert!(said.contains(told), "{status}: {said}");
        // The client may try again or leave; nothing is left of it then.
        client.leaves().await;
        harness.fronts.empty().await;
    }
    harness.server.hears_no("initialize").await;
    harness.server.hears_no("GET").await;
    harness.close().await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let address = ScriptedHttpServer::open().await.stops().await;
    let proxy = proxy(&format!("http://{address}/mcp"), Transport::Http, settings());
    let fronts = Fronts::open(proxy).await;
    let mut client = fronts.unopened_client_at(crate::common::Front::Stdio, "Anna").await;
    let error = refused(&mut client).await;
    assert_eq!(error["code"], -31011);
    assert!(error["message"].as_str().unwrap().contains("refused"), "{error}");
    client.leaves().await;
    fronts.empty().await;
    fronts.close().await;
}

#[tokio::test]
async fn an_answer_may_begin_with_a_mark_and_spell_its_number_in_another_way() {
    let mut harness = BackendHarness::http().await;
    let mut anna = harness.session("Anna").await;
    for spell in [".0", "e0", "0e-1"] {
        for headers in [JSON, SSE] {
            let (id, asked) = harness.calling(&mut anna).await;
            let answer = result(format!("{}{spell}", asked.id()), "{}");
            let body = if headers == JSON { answer } else { format!("data: \u{feff}{answer}\n\n") };
            asked.replies("200 OK", &[headers], format!("\u{feff}{body}")).await;
            assert_eq!(anna.answer(id).await["result"], json!({}), "{spell} {headers:?}");
        }
        let (id, asked) = harness.calling(&mut anna).await;
        let own = format!(r#"{{"jsonrpc":"2.0","id":{}{spell},"error":{{"code":-32099,"message":"no"}}}}"#, asked.id());
        asked.replies("400 Bad Request", &[JSON], own).await;
        assert_eq!(anna.answer(id).await["error"], json!({"code": -32099, "message": "no"}));
    }
    harness.leaves(anna).await;
    harness.close().await;
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_fails_its_call_while_its_stream_goes_on() {
    let mut harness = BackendHarness::http().await;
    let (mut anna, mut get) = harness.listening_session("Anna").await;
    get.streams().await;
    let (other, others) = harness.calling(&mut anna).await;
    for unreadable in [
        r#"{"jsonrpc":"2.0","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":ID,"id":"x","result":{}}"#,
        r#"[{"jsonrpc":"2.0","id":"x","id":ID,"result":{}}]"#,
        r#"{"jsonrpc":"2.0","id":,"result":{}}"#,
    ] {
        let (id, mut asked) = harness.calling(&mut anna).await;
        let unreadable = unreadable.replace("ID", &asked.id().to_string());
        asked.streams().await;
        // What is no answer, or did not come on its stream, is not taken for that.
        asked.event("", "ready").await;
        get.event("", r#"{"jsonrpc":"2.0","result":{}}"#).await;
        asked.event("", r#"{"jsonrpc":"2.0","method":"notifications/x"}"#).await;
        get.event("", r#"{"jsonrpc":"2.0","method":"notifications/y"}"#).await;
        anna.is_told("notifications/x").await;
        anna.is_told("notifications/y").await;
        assert!(!anna.is_answered(id));
        asked.event("", &unreadable).await;
        error(&mut anna, id, "bad_server_message").await;
        asked.sees_the_client_leave().await;
    }
    let answer = others.result("{}");
    others.answers(&answer).await;
    assert_eq!(anna.answer(other).await["result"], json!({}));
    harness.leaves(anna).await;
    harness.close().await;
}
