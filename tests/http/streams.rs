//! Which stream a server's message takes; calls, server requests, progress and cancellations.

use std::time::Duration;

use serde_json::json;
use sessile::{HttpSettings, SessionSettings};

use crate::common::{Harness, call, notification, result};

fn json_of(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn a_server_request_goes_out_with_the_only_call_and_its_answer_comes_home() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let calling = client.asks(&call(1, "tools/call", "{}"));
    let heard = server.hears("tools/call").await;
    server.says(&call(r#""q-1""#, "elicitation/create", r#"{"message":"?"}"#)).await;
    let mut calling = calling.reply().await;
    let server_request = calling.data_json().await;
    assert_eq!(
        (&server_request["method"], &server_request["params"]),
        (&"elicitation/create".into(), &json!({"message": "?"}))
    );
    // The server gets the response as the client wrote it, with the id that the server chose.
    let answer = r#"{"action":"accept","content":{"n":1.0e+2,"n":null}}"#;
    client.tells(&result(&server_request["id"], answer)).await;
    assert_eq!(server.hears_answer().await.text, result(r#""q-1""#, answer));
    server.answers(&heard, "{}").await;
    assert_eq!(calling.data().await, result(1, "{}"));
    calling.ends().await;
    harness.close().await;
}

#[tokio::test]
async fn an_error_is_an_answer_too_and_the_second_one_is_none() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let mut listening = client.listens().await;
    server.says(&call(5, "roots/list", "{}")).await;
    let server_request = listening.data_json().await;
    let no = format!(r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-1,"message":"no"}}}}"#, server_request["id"]);
    client.tells(&no).await;
    let heard = server.hears_answer().await;
    assert_eq!(json_of(&heard.text), json!({"jsonrpc": "2.0", "id": 5, "error": {"code": -1, "message": "no"}}));
    client.tells(&no).await;
    server.hears_nothing().await;
    harness.close().await;
}

#[tokio::test]
async fn the_get_stream_carries_what_belongs_to_no_call() {
    let mut harness = Harness::new().await;
    let (client, server) = harness.session().await;
    let mut listening = client.listens().await;
    for number in 0..20 {
        server.says(&notification("notifications/message", &format!(r#"{{"data":{number}}}"#))).await;
    }
    for number in 0..20 {
        assert_eq!(listening.data_json().await["params"]["data"], number);
    }
    harness.close().await;
}

#[tokio::test]
async fn a_message_goes_out_once() {
    let mut harness = Harness::new().await;
    let (client, server) = harness.session().await;
    let (mut older, mut newer) = (client.listens().await, client.listens().await);
    older.block().await;
    server.says(&notification("notifications/x", "{}")).await;
    assert_eq!(newer.data().await, notification("notifications/x", "{}"));
    older.stays_silent().await;
    // When the newer one is gone, the older one has its turn.
    drop(newer);
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.says(&notification("notifications/y", "{}")).await;
    assert_eq!(older.data().await, notification("notifications/y", "{}"));
    harness.close().await;
}

#[tokio::test]
async fn the_only_call_comes_before_the_get_stream_and_it_before_several_calls() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let mut listening = client.listens().await;
    let first = client.asks(&call(1, "slow", "{}"));
    let heard_first = server.hears("slow").await;
    server.says(&notification("notifications/a", "{}")).await;
    let mut first = first.reply().await;
    assert_eq!(first.data().await, notification("notifications/a", "{}"));
    let second = client.asks(&call(2, "slow", "{}"));
    let heard_second = server.hears("slow").await;
    server.says(&notification("notifications/b", "{}")).await;
    assert_eq!(listening.data().await, notification("notifications/b", "{}"));
    // Without the GET stream it is the newest call's.
    drop(listening);
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.says(&notification("notifications/c", "{}")).await;
    let mut second = second.reply().await;
    assert_eq!(second.data().await, notification("notifications/c", "{}"));
    server.answers(&heard_first, "{}").await;
    server.answers(&heard_second, "{}").await;
    assert_eq!((first.data().await, second.data().await), (result(1, "{}"), result(2, "{}")));
    harness.close().await;
}

#[tokio::test]
async fn a_message_waits_for_a_stream_and_keeps_its_place() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    server.says(&notification("notifications/first", "{}")).await;
    server.says(&call(1, "roots/list", "{}")).await;
    server.says(&notification("notifications/last", "{}")).await;
    server.hears_nothing().await;
    let mut listening = client.listens().await;
    assert_eq!(listening.data().await, notification("notifications/first", "{}"));
    let server_request = listening.data_json().await;
    assert_eq!(server_request["method"], "roots/list");
    assert_eq!(listening.data().await, notification("notifications/last", "{}"));
    client.tells(&result(&server_request["id"], r#"{"roots":[]}"#)).await;
    assert_eq!(server.hears_answer().await.text, result(1, r#"{"roots":[]}"#));
    harness.close().await;
}

#[tokio::test]
async fn a_client_that_never_listens_is_asked_with_its_next_call() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    server.says(&call(1, "sampling/createMessage", "{}")).await;
    server.hears_nothing().await;
    let calling = client.asks(&call("\"c\"", "tools/list", "{}"));
    let mut calling = calling.reply().await;
    let server_request = calling.data_json().await;
    client.tells(&result(&server_request["id"], "{}")).await;
    let heard = server.hears("tools/list").await;
    assert_eq!(server.hears_answer().await.text, result(1, "{}"));
    server.answers(&heard, "{}").await;
    assert_eq!(calling.data().await, result("\"c\"", "{}"));
    harness.close().await;
}

#[tokio::test]
async fn a_client_of_json_is_asked_on_its_get_stream() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let json_only = client.json_only();
    let mut listening = client.listens().await;
    let calling = json_only.asks(&call(1, "ask", r#"{"_meta":{"progressToken":"p"}}"#));
    let heard = server.hears("ask").await;
    server
        .says(&notification("notifications/progress", &format!(r#"{{"progressToken":{},"progress":1}}"#, heard.id)))
        .await;
    server.says(&call(9, "elicitation/create", "{}")).await;
    let progress = listening.data().await;
    assert_eq!(progress, notification("notifications/progress", r#"{"progressToken":"p","progress":1}"#));
    let server_request = listening.data_json().await;
    json_only.tells(&result(&server_request["id"], "{}")).await;
    assert_eq!(server.hears_answer().await.text, result(9, "{}"));
    server.answers(&heard, r#"{"done":true}"#).await;
    let reply = calling.reply().await;
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.text().await, result(1, r#"{"done":true}"#));
    harness.close().await;
}

#[tokio::test]
async fn a_server_request_that_no_client_can_take_fails() {
    let settings = SessionSettings { stream_wait: Duration::from_millis(150), ..SessionSettings::default() };
    let mut harness = Harness::on_tcp(settings, HttpSettings::default()).await;
    let (client, mut server) = harness.session().await;
    let calling = client.json_only().asks(&call(1, "ask", "{}"));
    let heard = server.hears("ask").await;
    server.says(&call(7, "elicitation/create", "{}")).await;
    let answer = json_of(&server.hears_answer().await.text);
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&7.into(), &(-31017).into()), "{answer}");
    // A client that comes too late does not get the server request.
    let mut listening = client.listens().await;
    listening.block().await;
    listening.stays_silent().await;
    server.answers(&heard, "{}").await;
    assert_eq!(calling.data().await, result(1, "{}"));
    harness.close().await;
}

#[tokio::test]
async fn progress_goes_to_its_call_under_the_clients_token() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let mut listening = client.listens().await;
    listening.block().await;
    let with = |token: &str| format!(r#"{{"name":"t","_meta":{{"x":1,"progressToken":{token}}}}}"#);
    let one = client.asks(&call(1, "slow", &with("\"tok\"")));
    let heard_one = server.hears("slow").await;
    let two = client.asks(&call(2, "slow", &with("\"tok\"")));
    let heard_two = server.hears("slow").await;
    // The two have the same token on their side; the server can tell them apart.
    let tokens = [&heard_one, &heard_two].map(|heard| json_of(&heard.params)["_meta"]["progressToken"].to_string());
    assert_ne!(tokens[0], tokens[1]);
    let progress = |token: &str, at: u32| {
        notification("notifications/progress", &format!(r#"{{"progress":{at}.0,"progressToken":{token},"k":null}}"#))
    };
    server.says(&progress(&tokens[1], 2)).await;
    server.says(&progress(&tokens[0], 1)).await;
    let (mut one, mut two) = (one.reply().await, two.reply().await);
    assert_eq!((one.data().await, two.data().await), (progress("\"tok\"", 1), progress("\"tok\"", 2)));
    server.answers(&heard_one, "{}").await;
    assert_eq!(one.data().await, result(1, "{}"));
    // A message after the response has no stream to take.
    server.says(&progress(&tokens[0], 3)).await;
    listening.stays_silent().await;
    two.stays_silent().await;
    harness.close().await;
}

#[tokio::test]
async fn a_servers_ping_is_answered_at_once() {
    let mut harness = Harness::new().await;
    let (_client, mut server) = harness.session().await;
    server.says(r#"{"jsonrpc":"2.0","id":"p\u0021","method":"ping"}"#).await;
    assert_eq!(server.hears_answer().await.text, result(r#""p\u0021""#, "{}"));
    harness.close().await;
}

#[tokio::test]
async fn a_cancelled_call_has_no_answer() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let calling = client.asks(&call("\"mine\"", "slow", "{}"));
    let heard = server.hears("slow").await;
    client.tells(&notification("notifications/cancelled", r#"{"requestId":"mine","reason":"late","x":1.0}"#)).await;
    let cancelled = server.hears("notifications/cancelled").await;
    assert_eq!(cancelled.params, format!(r#"{{"requestId":{},"reason":"late","x":1.0}}"#, heard.id));
    let reply = calling.reply().await;
    assert_eq!(reply.status, 200);
    reply.ends().await;
    // Too late; and the id can be used again.
    server.answers(&heard, r#"{"late":true}"#).await;
    let calling = client.asks(&call("\"mine\"", "quick", "{}"));
    let heard = server.hears("quick").await;
    server.answers(&heard, "{}").await;
    assert_eq!(calling.data().await, result("\"mine\"", "{}"));
    // Of unknown calls, and of `initialize`, nothing is cancelled.
    client.tells(&notification("notifications/cancelled", r#"{"requestId":"hello"}"#)).await;
    client.tells(&notification("notifications/cancelled", r#"{"requestId":3}"#)).await;
    client.tells(&notification("notifications/cancelled", "{}")).await;
    server.hears_nothing().await;
    harness.close().await;
}

#[tokio::test]
async fn a_cancelled_json_call_is_let_go() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let calling = client.json_only().asks(&call(1, "slow", "{}"));
    server.hears("slow").await;
    client.tells(&notification("notifications/cancelled", r#"{"requestId":1}"#)).await;
    server.hears("notifications/cancelled").await;
    let reply = calling.reply().await;
    assert_eq!((reply.status, reply.text().await.as_str()), (204, ""));
    harness.close().await;
}

#[tokio::test]
async fn a_server_cancels_its_request() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let mut listening = client.listens().await;
    server.says(&call(77, "elicitation/create", "{}")).await;
    let server_request = listening.data_json().await;
    server.says(&notification("notifications/cancelled", r#"{"requestId":77,"reason":"enough"}"#)).await;
    let cancelled = listening.data_json().await;
    assert_eq!(cancelled["method"], "notifications/cancelled");
    assert_eq!(cancelled["params"], json!({"requestId": server_request["id"], "reason": "enough"}));
    client.tells(&result(&server_request["id"], "{}")).await;
    server.hears_nothing().await;
    harness.close().await;
}

#[tokio::test]
async fn an_id_is_used_once_at_a_time() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let calling = client.asks(&call(1, "slow", "{}"));
    let heard = server.hears("slow").await;
    let error = client.asks(&call(1, "other", "{}")).json().await;
    assert_eq!((&error["id"], &error["error"]["code"]), (&1.into(), &(-32600).into()));
    // The string and the number are different ids.
    let other = client.asks(&call("\"1\"", "other", "{}"));
    let heard_other = server.hears("other").await;
    server.answers(&heard_other, r#""s""#).await;
    server.answers(&heard, r#""n""#).await;
    assert_eq!((calling.data().await, other.data().await), (result(1, r#""n""#), result("\"1\"", r#""s""#)));
    harness.close().await;
}

#[tokio::test]
async fn the_progress_of_a_server_request_is_told_to_the_server() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let mut listening = client.listens().await;
    server.says(&call(1, "sampling/createMessage", r#"{"_meta":{"progressToken":"theirs"}}"#)).await;
    let server_request = listening.data_json().await;
    assert_eq!(server_request["params"]["_meta"]["progressToken"], "theirs");
    let progress = notification("notifications/progress", r#"{"progressToken":"theirs","progress":1}"#);
    client.tells(&progress).await;
    assert_eq!(server.hears("notifications/progress").await.text, progress);
    client.tells(&result(&server_request["id"], "{}")).await;
    server.hears_answer().await;
    harness.close().await;
}

#[tokio::test]
async fn a_task_goes_on_to_report_progress_after_its_answer() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let mut listening = client.listens().await;
    let calling = client.asks(&call(1, "tools/call", r#"{"task":{"ttl":1000},"_meta":{"progressToken":"mine"}}"#));
    let heard = server.hears("tools/call").await;
    let token = json_of(&heard.params)["_meta"]["progressToken"].to_string();
    server.answers(&heard, r#"{"task":{"taskId":"t","status":"working"}}"#).await;
    calling.data().await;
    server.says(&notification("notifications/progress", &format!(r#"{{"progressToken":{token},"progress":1}}"#))).await;
    let told = listening.data().await;
    assert_eq!(told, notification("notifications/progress", r#"{"progressToken":"mine","progress":1}"#));
    harness.close().await;
}
