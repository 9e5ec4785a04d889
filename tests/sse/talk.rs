//! Messages over a session: calls, server requests, notifications, large messages, and texts that are no messages.

use std::time::Duration;

use serde_json::json;
use sessile::{HttpSettings, SessionSettings};

use crate::SseClient;
use crate::common::{Harness, call, notification, result};

#[tokio::test]
async fn messages_keep_their_bytes() {
    let mut harness = Harness::new().await;
    let (mut client, mut server) = harness.sse_session().await;
    let odd = r#"{"z":1.0e+2,"a":null,"a":[ 1 , 2.00 ],"\u006b":"\u00e9"}"#;
    client.says(&call("\"c-1\"", "tools/call", odd)).await;
    let heard = server.hears("tools/call").await;
    assert_eq!(heard.params, odd);
    server.answers(&heard, odd).await;
    assert_eq!(client.hears().await, result("\"c-1\"", odd));
    // A line break between two members would end the event.
    let body = call(2, "x", "{\n}").replace(',', ",\r\n");
    client.says(&body).await;
    let heard = server.hears("x").await;
    server.says(&result(&heard.id, "{}").replace(',', ",\t")).await;
    assert_eq!(client.hears_json().await, json!({ "jsonrpc": "2.0", "id": 2, "result": {} }));
    harness.close().await;
}

#[tokio::test]
async fn everything_comes_on_the_one_stream_and_in_order() {
    let mut harness = Harness::new().await;
    let (mut client, mut server) = harness.sse_session().await;
    client.says(&call(1, "slow", r#"{"_meta":{"progressToken":"p"}}"#)).await;
    let slow = server.hears("slow").await;
    client.says(&call(2, "quick", "{}")).await;
    let quick = server.hears("quick").await;
    let token: serde_json::Value = serde_json::from_str(&slow.params).unwrap();
    let token = &token["_meta"]["progressToken"];
    server.says(&notification("notifications/message", r#"{"data":1}"#)).await;
    server.answers(&quick, "{}").await;
    server.says(&notification("notifications/progress", &format!(r#"{{"progressToken":{token},"progress":1}}"#))).await;
    server.says(&call("\"q\"", "elicitation/create", r#"{"message":"?"}"#)).await;
    assert_eq!(client.hears().await, notification("notifications/message", r#"{"data":1}"#));
    assert_eq!(client.hears().await, result(2, "{}"));
    assert_eq!(client.hears_json().await["params"]["progressToken"], "p");
    let server_request = client.hears_json().await;
    assert_eq!(server_request["method"], "elicitation/create");
    client.says(&result(&server_request["id"], r#"{"action":"accept"}"#)).await;
    assert_eq!(server.hears_answer().await.text, result("\"q\"", r#"{"action":"accept"}"#));
    server.answers(&slow, r#"{"n":1}"#).await;
    assert_eq!(client.hears().await, result(1, r#"{"n":1}"#));
    server.says(&notification("notifications/tools/list_changed", "{}")).await;
    assert_eq!(client.hears().await, notification("notifications/tools/list_changed", "{}"));
    harness.close().await;
}

#[tokio::test]
async fn a_call_can_be_cancelled() {
    let mut harness = Harness::new().await;
    let (mut client, mut server) = harness.sse_session().await;
    client.says(&call(1, "slow", "{}")).await;
    let slow = server.hears("slow").await;
    client.says(&notification("notifications/cancelled", r#"{"requestId":1}"#)).await;
    let cancelled = server.hears("notifications/cancelled").await;
    assert_eq!(cancelled.params, format!(r#"{{"requestId":{}}}"#, slow.id));
    server.answers(&slow, "{}").await;
    client.stream.stays_silent().await;
    harness.close().await;
}

#[tokio::test]
async fn large_messages_go_through() {
    let mut harness = Harness::new().await;
    let (mut client, mut server) = harness.sse_session().await;
    let large = format!(r#"{{"data":"{}"}}"#, "ü".repeat(10 * 1024 * 1024));
    let post = client.post(&call(1, "shot", &large)).start();
    let heard = server.hears("shot").await;
    assert_eq!(post.reply().await.status, 202);
    assert!(heard.params == large);
    let ((), said) = tokio::join!(server.answers(&heard, &large), client.hears());
    assert!(said == result(1, &large));
    harness.close().await;
}

#[tokio::test]
async fn batches_are_of_this_time() {
    let mut harness = Harness::new().await;
    let (mut client, mut server) = harness.sse_session().await;
    client.says(&format!("[{},{},{}]", call(1, "one", "{}"), notification("n", "{}"), call(2, "two", "{}"))).await;
    let one = server.hears("one").await;
    server.hears("n").await;
    let two = server.hears("two").await;
    server.answers(&two, "2").await;
    server.answers(&one, "1").await;
    let mut answers = client.hears_json().await;
    answers.as_array_mut().unwrap().sort_by_key(|answer| answer["id"].as_u64());
    assert_eq!((&answers[0]["result"], &answers[1]["result"]), (&json!(1), &json!(2)));
    // The error for the message that is not valid comes on the stream, together with the responses to the others.
    client.says(&format!(r#"[{},{{"jsonrpc":"1.0","id":4}}]"#, call(3, "three", "{}"))).await;
    let three = server.hears("three").await;
    server.answers(&three, "3").await;
    let answers = client.hears_json().await;
    assert_eq!(answers.as_array().unwrap().len(), 2, "{answers}");
    harness.close().await;
}

#[tokio::test]
async fn what_is_not_json_rpc_is_a_bad_request() {
    let mut harness = Harness::new().await;
    let (mut client, mut server) = harness.sse_session().await;
    for (body, code, id) in [
        ("", -32700, "null"),
        ("nonsense", -32700, "null"),
        (r#"{"jsonrpc":"1.0","id":2,"method":"x"}"#, -32600, "2"),
        (r#"{"jsonrpc":"2.0","id":4,"method":"x","method":"y"}"#, -32600, "4"),
        ("[]", -32600, "null"),
    ] {
        let reply = client.post(body).send().await;
        assert_eq!(reply.status, 400, "{body}");
        let error = reply.json().await;
        assert_eq!((error["error"]["code"].clone(), error["id"].to_string().as_str()), (code.into(), id), "{body}");
    }
    server.hears_nothing().await;
    // A response that is not valid fails the server request: the server would wait for it for ever.
    server.says(&call("\"q\"", "roots/list", "{}")).await;
    let server_request = client.hears_json().await;
    let bad = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}},"error":{{}}}}"#, server_request["id"]);
    assert_eq!(client.post(&bad).send().await.status, 400);
    let answer: serde_json::Value = serde_json::from_str(&server.hears_answer().await.text).unwrap();
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!("q"), &json!(-32600)), "{answer}");
    client.stream.stays_silent().await;
    harness.close().await;
}

#[tokio::test]
async fn a_body_has_its_form_and_its_bound() {
    let settings = SessionSettings { max_message_size: 2000, ..SessionSettings::default() };
    let mut harness = Harness::on_tcp(settings, HttpSettings::default()).await;
    let (mut client, mut server) = harness.sse_session().await;
    let body = call(1, "x", "{}");
    for kind in ["", "text/plain", "application/x-www-form-urlencoded"] {
        assert_eq!(client.post(&body).header("content-type", kind).send().await.status, 415, "{kind}");
    }
    assert_eq!(client.post(&body).header("content-encoding", "gzip").send().await.status, 415);
    assert_eq!(client.post(&body).header("mcp-protocol-version", "2026-07-28").send().await.status, 400);
    let over = call(2, "x", &format!(r#"{{"a":"{}"}}"#, "b".repeat(2000)));
    let reply = client.post(&over).send().await;
    assert_eq!(reply.status, 413);
    assert_eq!(reply.json().await["error"]["data"]["limit"], 2000);
    server.hears_nothing().await;
    // No `Accept` is needed where nothing is sent back.
    assert_eq!(client.post(&body).header("accept", "").send().await.status, 202);
    let heard = server.hears("x").await;
    // Messages of the server have the same limit.
    server.answers(&heard, &format!(r#"{{"a":"{}"}}"#, "b".repeat(2000))).await;
    assert_eq!(client.hears_json().await["error"]["code"], -31014);
    harness.close().await;
}

#[tokio::test]
async fn a_silent_stream_is_kept_alive() {
    let http = HttpSettings { keep_alive: Duration::from_millis(30), ..HttpSettings::default() };
    let mut harness = Harness::on_tcp(SessionSettings::default(), http).await;
    let mut client = SseClient::open(&harness).await;
    for _ in 0..3 {
        assert_eq!(client.stream.block().await.unwrap(), ": keep-alive\n\n");
    }
    drop(client);
    let (mut client, mut server) = harness.sse_session().await;
    client.says(&call(1, "slow", "{}")).await;
    let slow = server.hears("slow").await;
    for _ in 0..3 {
        assert_eq!(client.stream.block().await.unwrap(), ": keep-alive\n\n");
    }
    server.answers(&slow, "{}").await;
    assert_eq!(client.hears().await, result(1, "{}"));
    harness.close().await;
}

#[tokio::test]
async fn what_a_server_says_before_the_handshake_is_heard() {
    let mut harness = Harness::new().await;
    let mut client = SseClient::open(&harness).await;
    client.says(&crate::initialize()).await;
    let mut server = harness.server().await;
    let hello = server.hears("initialize").await;
    server.says(&notification("notifications/message", r#"{"data":"starting"}"#)).await;
    assert_eq!(client.hears().await, notification("notifications/message", r#"{"data":"starting"}"#));
    server.answers(&hello, &crate::initialize_result()).await;
    assert_eq!(client.hears().await, result("\"hello\"", &crate::initialize_result()));
    harness.close().await;
}
