//! Server requests that reach no client, calls that take too long, servers that do not leave.

use serde_json::{Value, json};
use sessile::SessionSettings;
use tokio::time::Instant;

use crate::common::{INITIALIZE, INITIALIZED, call, notification, result};
use crate::{after, harness, seconds};

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_server_request_waits_ten_seconds_for_a_stream() {
    let mut harness = harness(SessionSettings::default());
    let (client, mut server) = harness.session().await;
    let begin = Instant::now();
    server.says(&call("\"q\"", "roots/list", "{}")).await;
    let answer = json_of(&server.hears_answer().await.text);
    assert_eq!(begin.elapsed().as_secs(), 10);
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!("q"), &json!(-31017)));
    // One that is fetched in time is not answered by the proxy.
    server.says(&call(2, "roots/list", "{}")).await;
    after(9.5).await;
    let mut listening = client.listens().await;
    let server_request = listening.data_json().await;
    after(60.0).await;
    client.tells(&result(&server_request["id"], "{}")).await;
    assert_eq!(server.hears_answer().await.text, result(2, "{}"));
    harness.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_request_on_a_lost_stream_fails_when_the_stream_is_given_up() {
    let mut harness = harness(SessionSettings { lost_stream: seconds(120), ..SessionSettings::default() });
    let (client, mut server) = harness.session().await;
    let mut listening = client.listens().await;
    server.says(&call("\"q\"", "roots/list", "{}")).await;
    listening.event().await;
    drop(listening);
    after(119.0).await;
    server.hears_nothing().await;
    let answer = json_of(&server.hears_answer().await.text);
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!("q"), &json!(-31017)));
    harness.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_too_long_is_cancelled() {
    let mut harness = harness(SessionSettings { request_timeout: Some(seconds(30)), ..SessionSettings::default() });
    let (client, mut server) = harness.session().await;
    for client in [client.clone(), client.json_only()] {
        let begin = Instant::now();
        let calling = client.asks(&call("\"c\"", "slow", "{}"));
        let heard = server.hears("slow").await;
        after(15.0).await;
        let quick = client.asks(&call("\"d\"", "quick", "{}"));
        let heard_quick = server.hears("quick").await;
        let cancelled = server.hears("notifications/cancelled").await;
        assert_eq!(begin.elapsed().as_secs(), 30);
        assert_eq!(json_of(&cancelled.params)["requestId"].to_string(), heard.id);
        let error = calling.json().await;
        assert_eq!((&error["id"], &error["error"]["code"]), (&json!("c"), &json!(-31015)), "{error}");
        assert_eq!(error["error"]["data"], json!({"type": "request_timeout", "afterMs": 30_000}));
        // Too late. The other call has time left.
        server.answers(&heard, "{}").await;
        after(10.0).await;
        server.answers(&heard_quick, "{}").await;
        assert_eq!(quick.data().await, result("\"d\"", "{}"));
    }
    harness.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_initialize_is_given_up() {
    let mut harness = harness(SessionSettings { request_timeout: Some(seconds(30)), ..SessionSettings::default() });
    let opening = harness.new_client().post(INITIALIZE).start();
    let mut server = harness.server().await;
    server.hears("initialize").await;
    after(31.0).await;
    let reply = opening.reply().await;
    assert_eq!(reply.header("mcp-session-id"), None);
    assert_eq!(reply.json().await["error"]["code"], -31015);
    server.sees_the_end().await;
    harness.empties().await;
    harness.close().await;
}

#[tokio::test(start_paused = true)]
async fn calls_have_no_timeout_of_their_own() {
    let mut harness = harness(SessionSettings::default());
    let (client, mut server) = harness.session().await;
    let calling = client.json_only().asks(&call(1, "slow", "{}"));
    let heard = server.hears("slow").await;
    after(24.0 * 3600.0).await;
    server.hears_nothing().await;
    server.answers(&heard, "{}").await;
    assert_eq!(calling.data().await, result(1, "{}"));
    harness.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_leave_is_ended() {
    let mut harness = harness(SessionSettings::default());
    let (client, server) = harness.session().await;
    // It does not even see that its input has ended.
    server.stops_listening();
    client.tells(&notification("notifications/x", "{}")).await;
    client.deletes().await;
    assert_eq!(harness.proxy.sessions().len(), 0);
    assert_eq!(client.post(INITIALIZED).send().await.status, 404);
    server.is_gone().await;
    harness.empties().await;
    harness.close().await;
}
