//! How sessions end: a session ends with its stream, and a stream with its session.

use std::time::Duration;

use serde_json::json;
use sessile::{HttpSettings, SessionSettings};

use crate::common::{Harness, call, notification, result, soon, until};
use crate::{SseClient, initialize};

#[tokio::test]
async fn who_vanishes_leaves_nothing_behind() {
    let mut harness = Harness::new().await;
    // After the handshake, with a call in flight.
    let (client, mut server) = harness.sse_session().await;
    client.says(&call(1, "slow", "{}")).await;
    server.hears("slow").await;
    drop(client);
    server.sees_the_end().await;
    harness.empties().await;
    // During the handshake.
    let client = SseClient::open(&harness).await;
    client.says(&initialize()).await;
    let mut server = harness.server().await;
    server.hears("initialize").await;
    drop(client);
    server.sees_the_end().await;
    // Before the handshake.
    drop(SseClient::open(&harness).await);
    harness.empties().await;
    harness.no_more_servers();
    harness.close().await;
}

#[tokio::test]
async fn a_session_that_ended_ends_its_stream_and_is_not_found() {
    let mut harness = Harness::new().await;
    let (mut client, mut server) = harness.sse_session().await;
    client.says(&call(1, "slow", "{}")).await;
    server.hears("slow").await;
    assert_eq!(harness.proxy.sessions().clear().await, 1);
    let error = client.hears_json().await;
    assert_eq!((&error["id"], &error["error"]["code"]), (&json!(1), &json!(-31012)), "{error}");
    server.sees_the_end().await;
    for body in [call(2, "x", "{}"), initialize(), result(1, "{}")] {
        let reply = client.post(&body).send().await;
        assert_eq!(reply.status, 404, "{body}");
        assert_eq!(reply.json().await["error"]["data"]["type"], "session_not_found");
    }
    client.stream.ends().await;
    harness.close().await;
}

#[tokio::test]
async fn a_server_that_ends_is_told_of() {
    let mut harness = Harness::new().await;
    let (mut client, mut server) = harness.sse_session().await;
    client.says(&call(1, "slow", "{}")).await;
    server.hears("slow").await;
    server.exits(Err("out of memory")).await;
    let error = client.hears_json().await;
    assert_eq!((&error["id"], &error["error"]["code"]), (&json!(1), &json!(-31010)), "{error}");
    assert_eq!(error["error"]["data"]["stateLost"], true);
    client.stream.ends().await;
    harness.empties().await;
    harness.close().await;
}

#[tokio::test]
async fn a_shutdown_lets_calls_in_flight_end() {
    let mut harness = Harness::new().await;
    let (mut client, mut server) = harness.sse_session().await;
    client.says(&call(1, "slow", "{}")).await;
    let slow = server.hears("slow").await;
    let proxy = harness.proxy.clone();
    let closing = tokio::spawn(async move { proxy.shutdown().await });
    // A new stream is refused as soon as the proxy shuts down.
    while harness.new_client().request("GET").path("/sse").send().await.status != 503 {
        assert!(!closing.is_finished(), "the call was not waited for");
    }
    server.answers(&slow, "{}").await;
    assert_eq!(client.hears().await, result(1, "{}"));
    client.stream.ends().await;
    soon("the proxy shuts down", closing).await.unwrap();
    harness.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_open_stream_is_never_idle() {
    let mut harness = Harness::in_process(SessionSettings::default(), HttpSettings::default());
    let (client, mut server) = harness.sse_session().await;
    let SseClient { client, mut stream, endpoint } = client;
    let begin = tokio::time::Instant::now();
    let listening = tokio::spawn(async move {
        let mut comments = 0;
        loop {
            match stream.block().await {
                Some(block) if block.starts_with(':') => comments += 1,
                Some(block) => return (comments, block),
                None => panic!("the session ended after {:?}", begin.elapsed()),
            }
        }
    });
    tokio::time::sleep(Duration::from_secs(24 * 60 * 60)).await;
    assert_eq!(client.post(call(1, "late", "{}")).path(endpoint).send().await.status, 202);
    let late = server.hears("late").await;
    server.answers(&late, "{}").await;
    let (comments, block) = listening.await.unwrap();
    assert!(comments > 1000 && block.contains(&result(1, "{}")), "{comments} {block}");
    harness.close().await;
}

fn tight() -> SessionSettings {
    SessionSettings {
        session_budget: 256 * 1024,
        lost_stream: Duration::from_millis(400),
        ..SessionSettings::default()
    }
}

#[tokio::test]
async fn who_does_not_read_loses_the_session_and_nobody_else_anything() {
    let http = HttpSettings { keep_alive: Duration::from_millis(50), ..HttpSettings::default() };
    let mut harness = Harness::on_tcp(tight(), http).await;
    let (client, server) = harness.sse_session().await;
    let (mut other, mut others_server) = harness.sse_session().await;
    // The client does not read from here on: the sockets fill up, and then the budget.
    let line = notification("notifications/message", &format!(r#"{{"data":"{}"}}"#, "x".repeat(64 * 1024)));
    let taken = server.floods(&line, 1000).await;
    assert!(taken < 400, "{taken} messages of 64 KiB were taken for a client that does not read");
    for number in 0..20 {
        other.says(&call(number, "quick", "{}")).await;
        let quick = others_server.hears("quick").await;
        others_server.answers(&quick, "{}").await;
        assert_eq!(other.hears().await, result(number, "{}"));
    }
    // The client reads nothing, not even a keep-alive: it counts as gone.
    server.is_gone().await;
    until("the session is gone", || harness.proxy.sessions().len() == 1).await;
    assert_eq!(client.post(&call(1, "x", "{}")).send().await.status, 404);
    harness.close().await;
}

#[tokio::test]
async fn who_lets_answers_pile_up_loses_the_session() {
    let settings = SessionSettings { max_message_size: 4096, session_budget: 4096, ..tight() };
    let http = HttpSettings { keep_alive: Duration::from_millis(50), ..HttpSettings::default() };
    // Without a socket, nothing is taken that is not read.
    let mut harness = Harness::in_process(settings, http);
    let (client, mut server) = harness.sse_session().await;
    let large = format!(r#""{}""#, "y".repeat(3000));
    let mut answered = 0;
    loop {
        let reply = client.post(&call(answered, "x", "{}")).send().await;
        if reply.status == 404 {
            break;
        }
        if answered < 10 {
            let heard = server.hears("x").await;
            server.answers(&heard, &large).await;
        }
        answered += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(answered > 10, "{answered}: it had no chance");
    server.sees_the_end().await;
    harness.empties().await;
    drop(client);
    until("nothing is left of it", || harness.proxy.bytes_under_way().to_clients == 0).await;
    harness.close().await;
}

#[tokio::test]
async fn who_asks_too_early_and_does_not_read_is_bounded() {
    let settings = SessionSettings { max_message_size: 4096, session_budget: 4096, ..SessionSettings::default() };
    let mut harness = Harness::in_process(settings, HttpSettings::default());
    let client = SseClient::open(&harness).await;
    let long = format!(r#""{}""#, "i".repeat(1000));
    let mut told = 0;
    // Each of these errors has the long id in it.
    while client.post(&call(&long, "x", "{}")).send().await.status == 202 {
        told += 1;
        assert!(told < 40, "all of it is kept");
    }
    assert!(told > 3, "{told}: it had no chance");
    harness.no_more_servers();
    drop(client);
    harness.empties().await;
    harness.close().await;
}
