//! Messages over the limit, and large ones below it.

use serde_json::{Value, json};
use sessile::{HttpSettings, SessionSettings};

use crate::common::{Harness, call, notification, result};

const LIMIT: usize = 4096;

fn small_limit() -> SessionSettings {
    SessionSettings { max_message_size: LIMIT, ..SessionSettings::default() }
}

fn long() -> String {
    "x".repeat(LIMIT)
}

#[tokio::test]
async fn an_answer_over_the_limit_is_an_error_for_its_call() {
    let mut harness = Harness::on_tcp(small_limit(), HttpSettings::default()).await;
    let (client, mut server) = harness.session().await;
    for id_first in [true, false] {
        let calling = client.asks(&call("\"c\"", "x", "{}"));
        let heard = server.hears("x").await;
        let body = format!(r#""result":{{"id":99,"text":"{}"}}"#, long());
        let (id, rest) = (format!(r#""id":{}"#, heard.id), r#""jsonrpc":"2.0""#);
        server
            .says(&if id_first { format!("{{{rest},{id},{body}}}") } else { format!("{{{body},{rest},{id}}}") })
            .await;
        let error = calling.json().await;
        assert_eq!((&error["id"], &error["error"]["code"]), (&json!("c"), &json!(-31014)), "{error}");
        assert_eq!(error["error"]["data"]["limit"], LIMIT);
    }
    let calling = client.asks(&call(1, "x", "{}"));
    let heard = server.hears("x").await;
    server.answers(&heard, "{}").await;
    assert_eq!(calling.data().await, result(1, "{}"));
    harness.close().await;
}

#[tokio::test]
async fn a_server_request_over_the_limit_is_answered_and_a_notification_is_dropped() {
    let mut harness = Harness::on_tcp(small_limit(), HttpSettings::default()).await;
    let (client, mut server) = harness.session().await;
    let mut listening = client.listens().await;
    server.says(&notification("notifications/x", &format!(r#"["{}"]"#, long()))).await;
    server.says(&call("\"q\"", "sampling/createMessage", &format!(r#"["{}"]"#, long()))).await;
    let answer: Value = serde_json::from_str(&server.hears_answer().await.text).unwrap();
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!("q"), &json!(-31014)));
    server.says(&notification("notifications/after", "{}")).await;
    assert_eq!(listening.data().await, notification("notifications/after", "{}"));
    harness.close().await;
}

#[tokio::test]
async fn a_line_over_the_limit_is_answered_by_its_id() {
    let mut harness = Harness::in_process(small_limit(), HttpSettings::default());
    // Even before there is a session.
    let mut early = harness.lines(1024);
    early.says(&call(1, "initialize", &format!(r#"["{}"]"#, long()))).await;
    let error = early.hears_json().await;
    assert_eq!((&error["id"], &error["error"]["code"]), (&json!(1), &json!(-31014)));
    early.leaves().await;

    let (mut client, mut server) = harness.line_session(1024).await;
    client.says(&call("\"c\"", "x", &format!(r#"["{}"]"#, long()))).await;
    let error = client.hears_json().await;
    assert_eq!((&error["id"], &error["error"]["code"]), (&json!("c"), &json!(-31014)));
    // the answer to a server request: it is the server that waits for it.
    server.says(&call("\"q\"", "roots/list", "{}")).await;
    let server_request = client.hears_json().await;
    client.says(&result(&server_request["id"], &format!(r#"["{}"]"#, long()))).await;
    let answer: Value = serde_json::from_str(&server.hears_answer().await.text).unwrap();
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!("q"), &json!(-31014)));
    client.says(&call(2, "x", "{}")).await;
    server.hears("x").await;
    harness.close().await;
}

#[tokio::test]
async fn a_large_result_passes() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    // Larger than every budget of a session, and within the limit.
    let large = format!(r#"{{"image":"{}"}}"#, "A".repeat(20 * 1024 * 1024));
    let mut sse_only = client.clone();
    sse_only.accept = "text/event-stream";
    for client in [client.clone(), client.json_only(), sse_only] {
        let calling = client.asks(&call(1, "screenshot", "{}"));
        let heard = server.hears("screenshot").await;
        let answer = result(&heard.id, &large);
        let ((), text) = tokio::join!(server.says(&answer), calling.data());
        assert!(text == result(1, &large), "{} bytes came", text.len());
    }
    // And the other way round.
    let calling = client.asks(&call(2, "upload", &large));
    let heard = server.hears("upload").await;
    assert!(heard.params == large);
    server.answers(&heard, "{}").await;
    assert_eq!(calling.data().await, result(2, "{}"));
    harness.close().await;
}

#[tokio::test]
async fn a_large_result_passes_on_lines() {
    let mut harness = Harness::in_process(SessionSettings::default(), HttpSettings::default());
    let (mut client, mut server) = harness.line_session(64 * 1024).await;
    let large = format!(r#""{}""#, "A".repeat(20 * 1024 * 1024));
    client.says(&call(1, "screenshot", "{}")).await;
    let heard = server.hears("screenshot").await;
    let answer = result(&heard.id, &large);
    let ((), text) = tokio::join!(server.says(&answer), client.hears());
    assert!(text == result(1, &large), "{} bytes came", text.len());
    harness.close().await;
}
