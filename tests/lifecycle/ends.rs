//! How sessions end: by shutdown with a drain, by the end of the input, by a client that leaves.

use std::task::Poll;

use serde_json::{Value, json};
use sessile::{EndReason, SessionSettings};
use tokio::time::Instant;

use crate::common::{INITIALIZE, call, notification, result, soon};
use crate::{after, harness};

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_lets_calls_in_flight_end() {
    let mut harness = harness(SessionSettings::default());
    let (client, mut server) = harness.session().await;
    let (_idle, idle_server) = harness.session().await;
    let calling = client.asks(&call(1, "slow", "{}"));
    let heard = server.hears("slow").await;
    let proxy = harness.proxy.clone();
    let begin = Instant::now();
    let shutdown = tokio::spawn(async move { proxy.shutdown().await });
    after(1.0).await;
    idle_server.sees_the_end().await;
    // Nothing new is begun.
    let refused = client.asks(&call(2, "new", "{}")).json().await;
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(2), &json!(-31016)));
    let reply = harness.new_client().post(INITIALIZE).send().await;
    assert_eq!((reply.status, reply.header("retry-after").is_some()), (503, true));
    assert_eq!(reply.json().await["error"]["code"], -31016);
    // What the call needs passes still.
    server.says(&call("\"q\"", "roots/list", "{}")).await;
    let mut calling = calling.reply().await;
    let server_request = calling.data_json().await;
    client.tells(&result(&server_request["id"], "{}")).await;
    assert_eq!(server.hears_answer().await.text, result("\"q\"", "{}"));
    after(4.0).await;
    assert!(!shutdown.is_finished());
    server.answers(&heard, "{}").await;
    assert_eq!(calling.data().await, result(1, "{}"));
    soon("the proxy shuts down", shutdown).await.unwrap();
    assert!(begin.elapsed().as_secs() < 7, "{:?}", begin.elapsed());
    assert_eq!(harness.proxy.sessions().len(), 0);
    harness.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_has_an_end() {
    let mut harness = harness(SessionSettings::default());
    let (client, mut server) = harness.session().await;
    let calling = client.json_only().asks(&call(1, "slow", "{}"));
    server.hears("slow").await;
    let begin = Instant::now();
    soon("the proxy shuts down", harness.proxy.shutdown()).await;
    assert_eq!(begin.elapsed().as_secs(), 10);
    let error = calling.json().await;
    assert_eq!((&error["id"], &error["error"]["code"]), (&json!(1), &json!(-31016)), "{error}");
    server.sees_the_end().await;
    harness.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_line_client_that_has_said_all_hears_the_answers() {
    let mut harness = harness(SessionSettings::default());
    let (mut client, mut server) = harness.line_session(1024).await;
    client.says(&call(1, "one", "{}")).await;
    client.says(&call(2, "two", "{}")).await;
    let (one, two) = (server.hears("one").await, server.hears("two").await);
    server.says(&call("\"before\"", "roots/list", "{}")).await;
    client.hears().await;
    client.closes_its_input();
    // Nobody is left to answer what the server asks, neither before nor after.
    let answer = json_of(&server.hears_answer().await.text);
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!("before"), &json!(-31017)));
    server.says(&call("\"after\"", "roots/list", "{}")).await;
    let answer = json_of(&server.hears_answer().await.text);
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!("after"), &json!(-31017)));
    after(5.0).await;
    server.says(&notification("notifications/x", "{}")).await;
    server.answers(&two, "{}").await;
    server.answers(&one, "{}").await;
    assert_eq!(client.hears().await, notification("notifications/x", "{}"));
    assert_eq!(client.hears().await, result(2, "{}"));
    assert_eq!(client.hears().await, result(1, "{}"));
    assert!(matches!(client.sees_the_end().await, EndReason::ClientLeft));
    server.sees_the_end().await;
    harness.close().await;
}

#[tokio::test(start_paused = true)]
async fn what_takes_longer_than_the_drain_is_told_so() {
    let mut harness = harness(SessionSettings::default());
    let (mut client, mut server) = harness.line_session(1024).await;
    client.says(&call(1, "slow", "{}")).await;
    server.hears("slow").await;
    client.closes_its_input();
    let begin = Instant::now();
    let error = client.hears_json().await;
    assert_eq!(begin.elapsed().as_secs(), 10);
    assert_eq!((&error["id"], &error["error"]["code"]), (&json!(1), &json!(-31012)), "{error}");
    assert!(matches!(client.sees_the_end().await, EndReason::ClientLeft));
    harness.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_line_client_without_a_call_is_let_go_at_once() {
    let mut harness = harness(SessionSettings::default());
    let (mut client, server) = harness.line_session(1024).await;
    client.closes_its_input();
    let begin = Instant::now();
    assert!(matches!(client.sees_the_end().await, EndReason::ClientLeft));
    server.sees_the_end().await;
    assert!(begin.elapsed().as_secs() < 1);
    harness.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_line_client_that_cannot_hear_has_left() {
    let mut harness = harness(SessionSettings::default());
    let (mut client, mut server) = harness.line_session(1024).await;
    client.says(&call(1, "slow", "{}")).await;
    server.hears("slow").await;
    let leaving = client.leaves();
    assert!(matches!(leaving.await, EndReason::ClientLeft));
    server.sees_the_end().await;
    harness.empties().await;
    harness.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_signal_lets_a_line_client_hear_its_answer() {
    let mut harness = harness(SessionSettings::default());
    let (mut client, mut server) = harness.line_session(1024).await;
    client.says(&call(1, "slow", "{}")).await;
    let heard = server.hears("slow").await;
    client.is_told_to_stop();
    after(1.0).await;
    client.says(&call(2, "new", "{}")).await;
    assert_eq!(client.hears_json().await["error"]["code"], -31016);
    server.answers(&heard, "{}").await;
    assert_eq!(client.hears().await, result(1, "{}"));
    assert!(matches!(client.sees_the_end().await, EndReason::Shutdown));
    harness.close().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_started_for_a_client_that_says_nothing() {
    let mut harness = harness(SessionSettings::default());
    let mut client = harness.lines(1024);
    client.is_told_to_stop();
    assert!(matches!(client.sees_the_end().await, EndReason::ClientLeft));
    let mut client = harness.lines(1024);
    client.closes_its_input();
    assert!(matches!(client.sees_the_end().await, EndReason::ClientLeft));
    // Nor for one that only wants to know of which era the proxy is, or that babbles.
    let mut client = harness.lines(1024);
    client.says(&call("\"d\"", "server/discover", "{}")).await;
    let error = client.hears_json().await;
    assert_eq!((&error["id"], &error["error"]["code"]), (&json!("d"), &json!(-32601)));
    client.says("babble").await;
    let error = client.hears_json().await;
    assert_eq!((&error["id"], &error["error"]["code"]), (&Value::Null, &json!(-32700)));
    client.says_bytes(b"{\"id\":1}\n\xff\n").await;
    assert_eq!(client.hears_json().await["error"]["code"], -32600);
    assert_eq!(client.hears_json().await["error"]["code"], -32700);
    harness.no_more_servers();
    client.says(INITIALIZE).await;
    let mut server = harness.server().await;
    server.hears("initialize").await;
    client.leaves().await;
    server.sees_the_end().await;
    harness.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_line_client_may_try_again() {
    let mut harness = harness(SessionSettings::default());
    let mut client = harness.lines(1024);
    client.says(INITIALIZE).await;
    let mut server = harness.server().await;
    let hello = server.hears("initialize").await;
    server.says(&format!(r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":1,"message":"no"}}}}"#, hello.id)).await;
    assert_eq!(client.hears_json().await["error"]["code"], 1);
    client.says(INITIALIZE).await;
    let hello = server.hears("initialize").await;
    server.answers(&hello, crate::common::INITIALIZE_RESULT).await;
    client.hears().await;
    client.says(INITIALIZE).await;
    assert_eq!(client.hears_json().await["error"]["code"], -32600);
    harness.close().await;
}

/// Lets every other task that is ready go on by one step.
async fn step() {
    let mut stepped = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut stepped, true) {
            return Poll::Ready(());
        }
        // `yield_now` would wait until nobody else is ready.
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_comes_while_the_door_closes_is_not_left_behind() {
    // The opening of a session takes some steps; the proxy is shut down between any two of them.
    for steps in 0..60 {
        let harness = harness(SessionSettings::default());
        let opening = harness.new_client().post(INITIALIZE).start();
        let proxy = harness.proxy.clone();
        let closing = tokio::spawn(async move {
            for _ in 0..steps {
                step().await;
            }
            proxy.shutdown().await;
        });
        soon("the proxy shuts down", closing).await.unwrap();
        after(1.0).await;
        let sessions = harness.proxy.sessions();
        assert_eq!((sessions.len(), sessions.links()), (0, 0), "a session was opened after {steps} steps");
        let reply = opening.reply().await;
        assert!(reply.header("mcp-session-id").is_none(), "{}", reply.status);
        harness.close().await;
    }
}
