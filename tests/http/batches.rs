//! JSON-RPC batches: taken apart at either side, forwarded at none, answered with one reply.

use serde_json::{Value, json};

use crate::common::{Harness, call, notification, result};

/// The answers of a reply by their ids, as text; they may come in any order.
fn sorted(reply: &str) -> Vec<Value> {
    let mut answers: Vec<Value> = serde_json::from_str(reply).unwrap();
    answers.sort_by_key(|answer| answer["id"].to_string());
    answers
}

#[tokio::test]
async fn each_message_goes_on_alone_and_the_answers_come_together() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    for client in [client.clone(), client.json_only()] {
        let batch = format!(
            "[{},\n{} ,{}]",
            call(1, "a", "[]"),
            notification("notifications/n", "{}"),
            call("\"2\"", "b", "{}")
        );
        let asking = client.asks(&batch);
        let first = server.hears("a").await;
        assert_eq!(first.text, call(&first.id, "a", "[]"));
        assert_eq!(server.hears("notifications/n").await.text, notification("notifications/n", "{}"));
        let second = server.hears("b").await;
        server.answers(&second, r#"{"b":1.0}"#).await;
        server.hears_nothing().await;
        assert!(!asking.is_answered());
        server.answers(&first, r#"{"a":1.0}"#).await;
        let mut reply = asking.reply().await;
        let (one, two) = (result(1, r#"{"a":1.0}"#), result("\"2\"", r#"{"b":1.0}"#));
        if reply.is_sse() {
            let text = reply.data().await;
            assert!(text == format!("[{one},{two}]") || text == format!("[{two},{one}]"), "{text}");
            reply.ends().await;
        } else {
            assert_eq!(reply.status, 200);
            assert_eq!(sorted(&reply.text().await), sorted(&format!("[{one},{two}]")));
        }
    }
    harness.close().await;
}

#[tokio::test]
async fn bad_elements_are_answered_among_the_good() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let batch = format!(
        r#"[1,{},{{"jsonrpc":"2.0","id":"x"}},[],{{"jsonrpc":"2.0","id":{{}},"method":"m"}}]"#,
        call(5, "a", "{}")
    );
    let asking = client.json_only().asks(&batch);
    let heard = server.hears("a").await;
    server.answers(&heard, "{}").await;
    let answers = sorted(&asking.data().await);
    assert_eq!(answers.len(), 5);
    let codes: Vec<_> = answers.iter().map(|answer| (answer["id"].clone(), answer["error"]["code"].clone())).collect();
    let bad = json!(-32600);
    let expected = [
        (json!("x"), bad.clone()),
        (json!(5), Value::Null),
        (Value::Null, bad.clone()),
        (Value::Null, bad.clone()),
        (Value::Null, bad),
    ];
    assert_eq!(codes, expected);
    server.hears_nothing().await;
    // A batch without a valid message.
    let answers = sorted(&client.json_only().asks("[1,2]").data().await);
    assert_eq!(answers.len(), 2);
    harness.close().await;
}

#[tokio::test]
async fn a_batch_of_notifications_and_answers_is_accepted() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let mut listening = client.listens().await;
    server.says(&call(9, "roots/list", "{}")).await;
    let server_request = listening.data_json().await;
    let batch =
        format!("[{},{}]", notification("notifications/n", "{}"), result(&server_request["id"], r#"{"roots":[]}"#));
    client.tells(&batch).await;
    server.hears("notifications/n").await;
    assert_eq!(server.hears_answer().await.text, result(9, r#"{"roots":[]}"#));
    harness.close().await;
}

#[tokio::test]
async fn a_cancelled_call_is_missing_from_the_reply() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let asking = client.asks(&format!("[{},{}]", call(1, "a", "{}"), call(2, "b", "{}")));
    let (first, _) = (server.hears("a").await, server.hears("b").await);
    server.answers(&first, "{}").await;
    client.tells(&notification("notifications/cancelled", r#"{"requestId":2}"#)).await;
    server.hears("notifications/cancelled").await;
    assert_eq!(asking.data().await, format!("[{}]", result(1, "{}")));
    harness.close().await;
}

#[tokio::test]
async fn initialize_does_not_come_in_a_batch_of_a_session() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let answers = sorted(&client.json_only().asks(&format!("[{}]", call(3, "initialize", "{}"))).data().await);
    assert_eq!(answers[0]["error"]["code"], -32600);
    server.hears_nothing().await;
    harness.close().await;
}

#[tokio::test]
async fn one_id_twice_in_a_batch_is_answered_twice() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let asking = client.json_only().asks(&format!("[{},{}]", call(1, "a", "{}"), call(1, "a", "{}")));
    let heard = server.hears("a").await;
    server.hears_nothing().await;
    server.answers(&heard, "{}").await;
    let answers: Vec<Value> = serde_json::from_str(&asking.data().await).unwrap();
    assert_eq!(answers.len(), 2);
    assert_eq!(answers.iter().filter(|answer| answer["error"]["code"] == -32600).count(), 1);
    harness.close().await;
}

#[tokio::test]
async fn a_servers_batch_is_taken_apart_too() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let mut listening = client.listens().await;
    let one = client.asks(&call(1, "a", "{}"));
    let first = server.hears("a").await;
    let two = client.asks(&call(2, "b", "{}"));
    let second = server.hears("b").await;
    let parts = [
        notification("notifications/n", "{}"),
        call("\"x\"", "roots/list", "{}"),
        result(&second.id, r#"{"n":2}"#),
        result(&first.id, r#"{"n":1}"#),
        call("\"y\"", "roots/list", "{}"),
    ];
    server.says(&format!("[{}]", parts.join(", "))).await;
    assert_eq!((one.data().await, two.data().await), (result(1, r#"{"n":1}"#), result(2, r#"{"n":2}"#)));
    assert_eq!(listening.data().await, notification("notifications/n", "{}"));
    let (x, y) = (listening.data_json().await, listening.data_json().await);
    client.tells(&result(&y["id"], r#"{"r":"y"}"#)).await;
    server.hears_nothing().await;
    client.tells(&result(&x["id"], r#"{"r":"x"}"#)).await;
    let reply = server.line().await.unwrap();
    assert_eq!(
        sorted(&reply),
        sorted(&format!("[{},{}]", result("\"x\"", r#"{"r":"x"}"#), result("\"y\"", r#"{"r":"y"}"#)))
    );
    harness.close().await;
}
