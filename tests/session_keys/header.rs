//! Sessions that are found by a header, and headers that are not believed.

use sessile::{HttpSettings, ServerState};

use crate::common::{HttpClient, HttpEndpoint, INITIALIZE, call};
use crate::{Served, attach, count_once, demo, kinds, plain, settings, with};

#[tokio::test]
async fn clients_that_come_for_each_call_find_their_session() {
    let served = Served::new(settings("session-id,header:X-User")).await;
    for expected in 1..=4 {
        assert_eq!(count_once(&served.client, with("x-user", "ada")).await, expected);
    }
    assert_eq!(count_once(&served.client, with("x-user", "bob")).await, 1, "another value is another session");
    assert_eq!(count_once(&served.client, with("x-user", "Ada")).await, 1);
    // Without the header nothing is shared, and nothing outlives its client.
    for _ in 0..2 {
        assert_eq!(count_once(&served.client, plain).await, 1);
    }
    let sessions = served.sessions();
    assert_eq!(sessions.len(), 3);
    for session in &sessions {
        assert_eq!((session.clients, session.generation), (0, 1), "all have left");
        assert_eq!(kinds(session), ["session-id", "header:x-user"]);
        assert!(!format!("{session:?}").contains("ada"), "the value is in no listing");
        assert_eq!(session.servers[0].state, ServerState::Ready);
    }
    served.close().await;
}

#[tokio::test]
async fn by_default_nothing_is_shared() {
    let served = Served::new(HttpSettings::default()).await;
    let window = attach(&served.client, with("x-user", "ada")).await;
    for _ in 0..2 {
        assert_eq!(count_once(&served.client, with("x-user", "ada")).await, 1);
    }
    assert_eq!(crate::increment(&window, plain).await, 1);
    let sessions = served.sessions();
    assert_eq!((sessions.len(), sessions[0].clients, kinds(&sessions[0])), (1, 1, vec!["session-id".to_owned()]));
    served.close().await;
}

#[tokio::test]
async fn a_header_that_cannot_be_believed_is_refused() {
    let served = Served::new(settings("header:x-user")).await;
    let window = attach(&served.client, with("x-user", "ada")).await;
    let twice = |client: &HttpClient, body: String| client.post(body).header("x-user", "a").header_again("x-user", "a");
    for (request, status, text) in [
        (twice(&served.client, INITIALIZE.to_owned()), 400, "more than once"),
        (twice(&window, call(1, "ping", "{}")), 400, "more than once"),
        (served.client.post(INITIALIZE).header_again("x-user", ""), 400, "is empty"),
        (served.client.request("GET").path("/sse").header("x-user", "a").header_again("x-user", "b"), 400, "send one"),
    ] {
        let reply = request.send().await;
        assert_eq!(reply.status, status);
        let error = reply.text().await;
        assert!(error.contains(text), "{error}");
    }
    assert_eq!(served.sessions().len(), 1);
    served.close().await;

    let other_hosts = HttpSettings { allow_hosts: vec!["mcp.example".to_owned()], ..settings("header:x-user") };
    let served_elsewhere = HttpSettings { trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()], ..other_hosts.clone() };
    let served = Served::new(served_elsewhere).await;
    let reply = served.client.post(INITIALIZE).header("x-user", "ada").send().await;
    assert_eq!(reply.status, 403);
    let error = reply.text().await;
    assert!(error.contains("trusted_proxies") && error.contains("127.0.0.1"), "{error}");
    assert_eq!(count_once(&served.client, plain).await, 1, "without the header it is a client as others");
    served.close().await;

    let here = HttpSettings { trusted_proxies: vec!["127.0.0.1/32".parse().unwrap()], ..other_hosts };
    let served = Served::new(here).await;
    for expected in 1..=2 {
        assert_eq!(count_once(&served.client, with("x-user", "ada")).await, expected);
    }
    served.close().await;
}

#[tokio::test]
async fn a_listener_that_is_not_known_is_open_to_all() {
    for keys in ["header:x-user", "principal"] {
        let proxy = demo(settings(keys));
        let client = HttpClient::new(HttpEndpoint::Router(proxy.clone().into_router()));
        let reply = client.post(INITIALIZE).header("x-user", "ada").send().await;
        assert_eq!(reply.status, 403, "{keys}");
        let error = reply.text().await;
        assert!(error.contains("cannot be used here") && error.contains("authentic"), "{error}");
        proxy.shutdown().await;
    }
}

#[tokio::test]
async fn pages_may_send_the_headers_that_are_looked_at() {
    let served = Served::new(settings("header:X-User,header:X-Window")).await;
    let preflight = served.client.request("OPTIONS").header("origin", "http://localhost:3000");
    let preflight = preflight.header("access-control-request-method", "POST");
    let reply = preflight.send().await;
    assert_eq!(reply.status, 204);
    let allowed = reply.header("access-control-allow-headers").unwrap();
    assert!(allowed.contains("x-user, x-window"), "{allowed}");
    served.close().await;
}
