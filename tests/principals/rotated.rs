//! A client that changes its token keeps its streams, as long as the newest one is valid.

use std::time::Duration;

use sessile::SessionSettings;

use crate::common::{Harness, HttpClient, HttpEndpoint, INITIALIZE, INITIALIZE_RESULT, call, notification};
use crate::{TokensFile, demo, session, sse_session, token, with_token};

/// Longer than a change of the file takes to count.
const AFTER_A_CHANGE: Duration = Duration::from_millis(1100);

#[tokio::test(start_paused = true)]
async fn the_newest_token_that_a_client_has_shown_counts() {
    let (old, new) = (token("alice"), token("alice"));
    let file = TokensFile::new(&[&old, &new]);
    let proxy = demo().http(file.settings()).build().unwrap();
    let client = HttpClient::new(HttpEndpoint::Router(proxy.clone().into_router()));
    let client = with_token(&client, &old);
    let (first, second) = (session(&client, |request| request).await, session(&client, |request| request).await);
    let (mut listening, forgotten) = (first.listens().await, second.listens().await);
    listening.block().await.unwrap();
    let (mut stream, endpoint) = sse_session(&client, |request| request).await;
    // One client shows its new token on each transport; another one of the same name does not.
    assert_eq!(with_token(&first, &new).post(call(1, "ping", "{}")).send().await.status, 200);
    let reply = with_token(&client, &new).post(call(1, "ping", "{}")).path(endpoint).send().await;
    assert_eq!(reply.status, 202);
    assert_eq!(stream.data_json().await["id"], 1);
    file.holds(&[&new]);
    let mut forgotten = forgotten;
    forgotten.block().await.unwrap();
    forgotten.ends().await;
    listening.stays_silent_for(AFTER_A_CHANGE * 2).await;
    stream.stays_silent_for(AFTER_A_CHANGE * 2).await;
    // Back to the old one, which was taken in again: now that counts.
    file.holds(&[&old, &new]);
    listening.stays_silent_for(AFTER_A_CHANGE).await;
    assert_eq!(first.post(call(2, "ping", "{}")).send().await.status, 200);
    file.holds(&[&new]);
    listening.ends().await;
    stream.stays_silent_for(AFTER_A_CHANGE).await;
    file.holds(&[&old]);
    stream.ends().await;
    proxy.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_changes_its_token_before_the_handshake_keeps_its_stream() {
    let (old, new) = (token("alice"), token("alice"));
    let file = TokensFile::new(&[&old, &new]);
    let mut harness = Harness::in_process(SessionSettings::default(), file.settings());
    let mut client = with_token(&harness.new_client(), &old);
    let opening = client.post(INITIALIZE).start();
    let mut server = harness.server().await;
    let hello = server.hears("initialize").await;
    // The response begins before the answer, because the server says so much before it.
    for _ in 0..300 {
        server.says(&notification("notifications/x", "{}")).await;
    }
    let mut stream = opening.reply().await;
    client.session = Some(stream.header("mcp-session-id").unwrap().to_owned());
    with_token(&client, &new).tells(&notification("notifications/y", "{}")).await;
    file.holds(&[&new]);
    tokio::time::sleep(AFTER_A_CHANGE).await;
    server.answers(&hello, INITIALIZE_RESULT).await;
    while !stream.data().await.contains("protocolVersion") {}
    harness.close().await;
}
