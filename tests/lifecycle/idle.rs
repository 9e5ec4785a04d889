//! Sessions that nobody uses, and what counts as use.

use sessile::{EndReason, HttpSettings, SessionSettings};

use crate::common::{Harness, INITIALIZE, INITIALIZED, call, notification, result};
use crate::{after, harness, seconds};

fn a_minute() -> SessionSettings {
    SessionSettings { idle_timeout: Some(seconds(60)), ..SessionSettings::default() }
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_ends() {
    let mut harness = harness(SessionSettings { max_sessions: Some(1), ..a_minute() });
    let (client, server) = harness.session().await;
    after(59.0).await;
    assert_eq!(harness.proxy.sessions().len(), 1);
    assert_eq!(harness.new_client().post(INITIALIZE).send().await.status, 503);
    after(1.5).await;
    assert_eq!(harness.proxy.sessions().len(), 0);
    assert_eq!(client.post(INITIALIZED).send().await.status, 404);
    server.sees_the_end().await;
    // Its place is free.
    harness.session().await;
    harness.close().await;
}

#[tokio::test(start_paused = true)]
async fn whatever_the_client_says_is_use() {
    let mut harness = harness(a_minute());
    let (client, mut server) = harness.session().await;
    for _ in 0..5 {
        after(50.0).await;
        client.tells(&notification("notifications/x", "{}")).await;
        server.hears("notifications/x").await;
    }
    after(59.0).await;
    assert_eq!(harness.proxy.sessions().len(), 1);
    assert!(harness.proxy.sessions().list()[0].idle_for >= seconds(59));
    // What the server says is not.
    server.says(&notification("notifications/x", "{}")).await;
    after(1.5).await;
    assert_eq!(harness.proxy.sessions().len(), 0);
    harness.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_call_in_flight_is_use() {
    let mut harness = harness(a_minute());
    let (client, mut server) = harness.session().await;
    for client in [client.json_only(), client.clone()] {
        let calling = client.asks(&call(1, "slow", "{}"));
        let heard = server.hears("slow").await;
        let reading = tokio::spawn(calling.data_at_last());
        after(7200.0).await;
        assert_eq!(harness.proxy.sessions().list()[0].calls_in_flight, 1);
        server.answers(&heard, "{}").await;
        assert_eq!(reading.await.unwrap(), result(1, "{}"));
        after(58.0).await;
        assert_eq!(harness.proxy.sessions().len(), 1);
    }
    after(3.0).await;
    assert_eq!(harness.proxy.sessions().len(), 0);
    harness.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_open_stream_that_is_read_is_use() {
    let mut harness = harness(a_minute());
    let (client, server) = harness.session().await;
    let mut listening = client.listens().await;
    let reading = tokio::spawn(async move { listening.event_at_last().await });
    after(7200.0).await;
    assert_eq!(harness.proxy.sessions().len(), 1);
    server.says(&notification("notifications/x", "{}")).await;
    assert_eq!(reading.await.unwrap().data, notification("notifications/x", "{}"));
    // With its event the task has let go of the stream.
    after(59.0).await;
    assert_eq!(harness.proxy.sessions().len(), 1);
    after(1.5).await;
    assert_eq!(harness.proxy.sessions().len(), 0);
    harness.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_reads_is_given_up() {
    let mut harness = harness(SessionSettings { lost_stream: seconds(100), ..a_minute() });
    let (client, _server) = harness.session().await;
    let mut listening = client.listens().await;
    after(159.0).await;
    assert_eq!(harness.proxy.sessions().len(), 1);
    after(2.0).await;
    assert_eq!(harness.proxy.sessions().len(), 0);
    while listening.block().await.is_some() {}
    harness.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_client_counts_until_the_client_is_given_up() {
    let mut harness = harness(SessionSettings { lost_stream: seconds(300), ..a_minute() });
    let (client, mut server) = harness.session().await;
    drop(client.calls(&call(1, "slow", "{}")).await);
    server.hears("slow").await;
    after(299.0).await;
    assert_eq!(harness.proxy.sessions().len(), 1, "the client may come back");
    after(59.0).await;
    assert_eq!(harness.proxy.sessions().len(), 1);
    after(3.0).await;
    assert_eq!(harness.proxy.sessions().len(), 0);
    server.sees_the_end().await;
    harness.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_comes_back_in_time_finds_its_call() {
    let mut harness = harness(SessionSettings { lost_stream: seconds(300), ..a_minute() });
    let (client, mut server) = harness.session().await;
    let mut calling = client.calls(&call(1, "slow", "{}")).await;
    let prime = calling.block().await.unwrap();
    let prime = crate::common::Event::read(&prime).id.unwrap();
    drop(calling);
    let heard = server.hears("slow").await;
    after(290.0).await;
    let mut again = client.resumes(&prime).await;
    let reading = tokio::spawn(async move { again.event_at_last().await });
    after(290.0).await;
    server.answers(&heard, "{}").await;
    assert_eq!(reading.await.unwrap().data, result(1, "{}"));
    harness.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_was_opened_for_nothing_ends() {
    let mut harness = harness(a_minute());
    let (mut client, server) = harness.line_session(1024).await;
    // A line client is there for as long as its connection is.
    after(7200.0).await;
    assert_eq!(harness.proxy.sessions().len(), 1);
    client.closes_its_input();
    assert!(matches!(client.sees_the_end().await, EndReason::ClientLeft));
    server.sees_the_end().await;
    harness.close().await;
}

#[tokio::test(start_paused = true)]
async fn streams_are_kept_alive() {
    let http = HttpSettings { keep_alive: seconds(15), ..HttpSettings::default() };
    let mut harness = Harness::in_process(SessionSettings::default(), http);
    let (client, server) = harness.session().await;
    let mut listening = client.listens().await;
    listening.block().await;
    let begin = tokio::time::Instant::now();
    for number in 1..=10 {
        assert_eq!(listening.block().await.unwrap(), ": keep-alive\n\n");
        assert_eq!(begin.elapsed().as_secs(), 15 * number);
    }
    // A message is a sign of life as well.
    after(10.0).await;
    server.says(&notification("notifications/x", "{}")).await;
    listening.event().await;
    let begin = tokio::time::Instant::now();
    listening.block().await;
    assert_eq!(begin.elapsed().as_secs(), 15);
    harness.close().await;
}
