//! Answers that can be read in one way only, in no way, or only by whoever means well; and ids without end.

use serde_json::{Value, json};
use sessile::{HttpSettings, SessionSettings};

use crate::common::{Harness, INITIALIZE, INITIALIZE_RESULT, INITIALIZED, ScriptedServer, call, notification, result};

const MARK: &str = "\u{feff}";

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// An error has this id and code.
fn is_error(error: &Value, id: &Value, code: i64) {
    assert_eq!((&error["id"], &error["error"]["code"]), (id, &json!(code)), "{error}");
}

#[tokio::test]
async fn a_byte_order_mark_is_skipped() {
    let mut harness = Harness::in_process(SessionSettings::default(), HttpSettings::default());
    // The first line of either side, and later ones.
    let mut client = harness.lines(64 * 1024);
    client.says(&format!("{MARK}{INITIALIZE}")).await;
    let mut server = harness.server().await;
    let hello = server.hears("initialize").await;
    assert!(hello.text.starts_with('{'), "the mark is not passed on");
    server.says(&format!("{MARK}{}", result(&hello.id, INITIALIZE_RESULT))).await;
    assert_eq!(client.hears().await, result("\"hello\"", INITIALIZE_RESULT));
    client.says(&format!("{MARK}{INITIALIZED}")).await;
    server.hears("notifications/initialized").await;
    client.says(&format!("{MARK}[{}]", call(1, "x", "{}"))).await;
    let heard = server.hears("x").await;
    server.says(&format!("{MARK}[{}]", result(&heard.id, "{}"))).await;
    assert_eq!(client.hears().await, format!("[{}]", result(1, "{}")));
    client.leaves().await;

    // The start of a body.
    let (client, mut server) = harness.session_of(&format!("{MARK}{INITIALIZE}"), INITIALIZE_RESULT).await;
    let calling = client.asks(&format!("{MARK}\r\n{}", call(1, "x", "{}")));
    let heard = server.hears("x").await;
    server.answers(&heard, "{}").await;
    assert_eq!(calling.data().await, result(1, "{}"));
    harness.close().await;
}

#[tokio::test]
async fn an_answer_may_spell_the_number_of_its_call_in_another_way() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    for (spell, own) in [(".0", "1"), ("e0", "1.0"), ("0e-1", "1e0")] {
        let calling = client.asks(&call(own, "x", "{}"));
        let heard = server.hears("x").await;
        server.says(&result(format!("{}{spell}", heard.id), "{}")).await;
        assert_eq!(calling.data().await, result(own, "{}"), "the client's own spelling");
    }
    harness.close().await;
}

/// Two calls in flight, and what the server knows them by.
async fn two_calls(client: &mut crate::common::LineClient, server: &mut ScriptedServer) -> [String; 2] {
    let mut ids = [const { String::new() }; 2];
    for (id, method) in ids.iter_mut().zip(["one", "two"]) {
        client.says(&call(format!("\"{method}\""), method, "{}")).await;
        *id = server.hears(method).await.id;
    }
    ids
}

#[tokio::test]
async fn an_answer_that_names_two_calls_fails_both() {
    let mut harness = Harness::in_process(SessionSettings::default(), HttpSettings::default());
    let (mut client, mut server) = harness.line_session(64 * 1024).await;
    let [one, two] = two_calls(&mut client, &mut server).await;
    server.says(&format!(r#"{{"jsonrpc":"2.0","id":{one},"id":{two},"result":{{}}}}"#)).await;
    for method in ["one", "two"] {
        let error = client.hears_json().await;
        is_error(&error, &json!(method), -31009);
        assert_eq!(error["error"]["data"]["type"], "bad_server_message");
    }
    // And an answer of the client.
    for id in ["\"p\"", "\"q\""] {
        server.says(&call(id, "roots/list", "{}")).await;
    }
    let [p, q] = [client.hears_json().await["id"].clone(), client.hears_json().await["id"].clone()];
    client.says(&format!(r#"{{"jsonrpc":"2.0","id":{p},"id":{q},"result":{{}}}}"#)).await;
    for id in ["p", "q"] {
        is_error(&json_of(&server.hears_answer().await.text), &json!(id), -32600);
    }
    is_error(&client.hears_json().await, &Value::Null, -32600);
    harness.close().await;
}

#[tokio::test]
async fn an_answer_that_names_none_fails_the_only_call() {
    let mut harness = Harness::in_process(SessionSettings::default(), HttpSettings::default());
    let (mut client, mut server) = harness.line_session(64 * 1024).await;
    for unreadable in [r#"{"jsonrpc":"2.0","result":{}}"#, r#"{"jsonrpc":"2.0","id":,"result":{}}"#] {
        client.says(&call(1, "x", "{}")).await;
        let heard = server.hears("x").await;
        // Lines of a log are no answers.
        for line in ["[info] jsonrpc", "{x}", r#"{"level":"info"}"#, r#"{"jsonrpc":"2.0","method":7}"#] {
            server.says(line).await;
        }
        server.says(&notification("notifications/x", "{}")).await;
        assert_eq!(client.hears().await, notification("notifications/x", "{}"));
        server.says(unreadable).await;
        is_error(&client.hears_json().await, &json!(1), -31009);
        server.answers(&heard, "{}").await;
    }
    // It may be that to either.
    let [one, two] = two_calls(&mut client, &mut server).await;
    server.says(r#"{"jsonrpc":"2.0","result":{}}"#).await;
    for (id, method) in [(one, "\"one\""), (two, "\"two\"")] {
        server.says(&result(id, "{}")).await;
        assert_eq!(client.hears().await, result(method, "{}"));
    }
    harness.close().await;
}

#[tokio::test]
async fn an_id_without_end_is_refused_and_not_repeated() {
    let mut harness = Harness::in_process(SessionSettings::default(), HttpSettings::default());
    let long = format!("\"{}\"", "x".repeat(100_000));
    let refused = |text: String, id: Value| {
        assert!(text.len() < 300, "{} bytes", text.len());
        is_error(&json_of(&text), &id, -32600);
    };
    let with_token = |id: &str| call(id, "x", &format!(r#"{{"_meta":{{"progressToken":{long}}}}}"#));

    // Before there is a session.
    let (mut early, stranger) = (harness.lines(1024), harness.new_client());
    for (message, id) in [(call(&long, "initialize", "{}"), Value::Null), (with_token("1"), json!(1))] {
        early.says(&message).await;
        refused(early.hears().await, id.clone());
        let reply = stranger.post(message).send().await;
        assert_eq!(reply.status, 400);
        refused(reply.text().await, id);
    }
    early.leaves().await;
    harness.no_more_servers();

    // In one.
    let (mut lines, mut lines_server) = harness.line_session(64 * 1024).await;
    let (client, mut server) = harness.session().await;
    for (message, id) in [(call(&long, "x", "{}"), Value::Null), (with_token("1"), json!(1))] {
        lines.says(&message).await;
        refused(lines.hears().await, id.clone());
        let reply = client.post(message.clone()).send().await;
        assert_eq!(reply.status, 400);
        refused(reply.text().await, id.clone());
        let batch = client.calls(&format!("[{message}]")).await.text().await;
        assert!(batch.len() < 400, "{} bytes", batch.len());
        // The server's own.
        server.says(&message).await;
        refused(server.hears_answer().await.text, id);
    }
    lines_server.hears_nothing().await;
    let calling = client.asks(&call(1, "x", "{}"));
    let heard = server.hears("x").await;
    server.answers(&heard, "{}").await;
    assert_eq!(calling.data().await, result(1, "{}"));
    harness.close().await;
}

#[tokio::test]
async fn an_id_without_end_is_not_repeated_where_its_message_is_too_large() {
    let settings = SessionSettings { max_message_size: 4096, ..SessionSettings::default() };
    let mut harness = Harness::in_process(settings, HttpSettings::default());
    let (mut client, mut server) = harness.line_session(64 * 1024).await;
    for digits in ["7".repeat(5000), format!("\"{}\"", "x".repeat(5000))] {
        client.says(&call(&digits, "x", "{}")).await;
        is_error(&client.hears_json().await, &Value::Null, -31014);
        client.says(&call(1, "x", "{}")).await;
        server.hears("x").await;
        server.says(&result(digits, "{}")).await;
        is_error(&client.hears_json().await, &json!(1), -31014);
    }
    harness.close().await;
}
