//! Streams whose clients have not sent `initialize`: they do not count as sessions, and their number is limited.

use sessile::{HttpSettings, SessionSettings};

use crate::common::{Harness, HttpClient, HttpEndpoint, result, soon};
use crate::{SseClient, initialize, initialize_result};

/// A harness with room for so many sessions.
async fn house_of(max_sessions: usize) -> Harness {
    let settings = SessionSettings { max_sessions: Some(max_sessions), ..SessionSettings::default() };
    Harness::on_tcp(settings, HttpSettings::default()).await
}

#[tokio::test]
async fn streams_take_no_place_and_the_oldest_gives_way() {
    let mut harness = house_of(1).await;
    let oldest = SseClient::open(&harness).await;
    let mut second = SseClient::open(&harness).await;
    let mut others = Vec::new();
    for _ in 2..128 {
        others.push(SseClient::open(&harness).await);
    }
    assert_eq!(harness.proxy.sessions().len(), 0);
    // There is room for all of these, and for one more only if the oldest leaves.
    second.stream.stays_silent().await;
    others.push(SseClient::open(&harness).await);
    let reply = oldest.post(&initialize()).send().await;
    assert_eq!((reply.status, reply.json().await["error"]["data"]["type"].as_str()), (404, Some("session_not_found")));
    oldest.stream.ends().await;
    harness.no_more_servers();
    // Streams without a session do not keep other clients from opening sessions.
    let (client, _server) = harness.session().await;
    client.deletes().await;
    second.says(&initialize()).await;
    let mut server = harness.server().await;
    let hello = server.hears("initialize").await;
    server.answers(&hello, &initialize_result()).await;
    assert_eq!(second.hears().await, result("\"hello\"", &initialize_result()));
    harness.close().await;
}

#[tokio::test]
async fn a_stream_that_ended_leaves_its_place_to_others() {
    // Without a socket, a stream ends when it is dropped.
    let harness = Harness::in_process(SessionSettings::default(), HttpSettings::default());
    let mut patient = SseClient::open(&harness).await;
    for _ in 0..300 {
        drop(SseClient::open(&harness).await);
    }
    patient.stream.stays_silent().await;
    harness.close().await;
}

#[tokio::test]
async fn who_comes_too_late_for_a_place_is_told_on_the_stream() {
    let mut harness = house_of(1).await;
    let mut late = SseClient::open(&harness).await;
    let (client, _server) = harness.session().await;
    // A client that has no stream yet gets an HTTP status.
    let reply = harness.new_client().request("GET").path("/sse").send().await;
    assert_eq!((reply.status, reply.header("retry-after").is_some()), (503, true));
    assert_eq!(reply.json().await["error"]["code"], sessile::code::SESSION_LIMIT);
    late.says(&initialize()).await;
    let error = late.hears_json().await;
    assert_eq!((error["id"].as_str(), &error["error"]["code"]), (Some("hello"), &sessile::code::SESSION_LIMIT.into()));
    // Its stream is still there, and it may try again.
    client.deletes().await;
    late.says(&initialize()).await;
    let mut server = harness.server().await;
    let hello = server.hears("initialize").await;
    server.answers(&hello, &initialize_result()).await;
    assert_eq!(late.hears().await, result("\"hello\"", &initialize_result()));
    harness.close().await;
}

#[tokio::test]
async fn two_at_once_open_one_session() {
    let mut harness = Harness::new().await;
    let mut client = SseClient::open(&harness).await;
    let one = client.post(&initialize()).start();
    let two = client.post(&initialize().replace("hello", "again")).start();
    for post in [one, two] {
        assert_eq!(post.reply().await.status, 202);
    }
    let mut server = harness.server().await;
    let hello = server.hears("initialize").await;
    assert_eq!((harness.proxy.sessions().len(), harness.proxy.sessions().links()), (1, 1));
    server.answers(&hello, &initialize_result()).await;
    let mut initialized = 0;
    for _ in 0..2 {
        let heard = client.hears_json().await;
        initialized += usize::from(heard.get("result").is_some());
    }
    assert_eq!(initialized, 1);
    harness.no_more_servers();
    harness.close().await;
}

#[tokio::test]
async fn a_shutdown_ends_streams_that_wait() {
    let harness = Harness::new().await;
    let silent = SseClient::open(&harness).await;
    soon("the proxy shuts down", harness.proxy.shutdown()).await;
    let late = silent.post(&initialize()).send().await;
    assert_eq!(late.status, 404);
    silent.stream.ends().await;
    let reply = harness.new_client().request("GET").path("/sse").send().await;
    assert_eq!(
        (reply.status, reply.json().await["error"]["code"].as_i64()),
        (503, Some(sessile::code::SHUTTING_DOWN.into()))
    );
    harness.close().await;
}

#[tokio::test]
async fn all_routers_of_a_proxy_know_the_same_streams() {
    let (backend, mut servers) = crate::common::scripted();
    let proxy = sessile::Proxy::builder().backend(backend).build().unwrap();
    let app = axum::Router::new().nest("/deep", proxy.clone().into_router()).merge(proxy.clone().into_router());
    let mut client = SseClient::of(HttpClient::new(HttpEndpoint::Router(app))).await;
    client.endpoint.insert_str(0, "/deep");
    client.says(&initialize()).await;
    soon("a server is started", servers.recv()).await.unwrap().hears("initialize").await;
    soon("the proxy shuts down", proxy.sessions().clear()).await;
}
