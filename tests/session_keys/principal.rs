//! Sessions that are found by who calls.

use std::io::ErrorKind;

use axum::extract::Request as AxumRequest;
use axum::middleware::{Next, from_fn};
use sessile::tokens::NewToken;
use sessile::{HttpSettings, Principal};
use tokio::net::TcpListener;

use crate::common::{HttpClient, HttpEndpoint, call};
use crate::{Served, attach, count_once, demo, increment, kinds, plain, settings, with};

/// Takes a request's word for who its sender is.
async fn believe(mut request: AxumRequest, next: Next) -> axum::response::Response {
    let said = request.headers().get("x-layer").and_then(|value| value.to_str().ok()).map(str::to_owned);
    if let Some(user) = said {
        request.extensions_mut().insert(Principal::embedder(user));
    }
    next.run(request).await
}

#[tokio::test]
async fn on_loopback_all_share_where_nobody_is_authenticated() {
    let served = Served::new(settings("principal")).await;
    for expected in 1..=3 {
        assert_eq!(count_once(&served.client, plain).await, expected);
    }
    assert_eq!(kinds(&served.sessions()[0]), ["session-id", "principal"]);
    served.close().await;

    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let error = demo(settings("principal")).serve_http(listener, std::future::pending()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("session key `principal`: all callers are the same one"), "{error}");
}

#[tokio::test]
async fn all_tokens_of_one_name_share_a_session() {
    let [alice, again, bob] = ["alice", "alice", "bob"].map(|name| NewToken::generate(name).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    std::fs::write(&path, [&alice, &again, &bob].map(NewToken::line).join("\n")).unwrap();
    let tokens = Some(path);
    for (keys, shares) in [("principal", true), ("header:x-user,principal", true), ("session-id", false)] {
        // With tokens it may be any listener, and any peer's header is believed: it counts for its sender alone.
        let served = Served::at("0.0.0.0:0", HttpSettings { tokens: tokens.clone(), ..settings(keys) }).await;
        let by = |token: &NewToken| HttpClient { token: Some(token.expose().to_owned()), ..served.client.clone() };
        let with_header = with("x-user", "me");
        let counts = [
            count_once(&by(&alice), with_header).await,
            count_once(&by(&again), with_header).await,
            count_once(&by(&bob), with_header).await,
            count_once(&by(&alice), with_header).await,
            count_once(&by(&bob), with_header).await,
        ];
        assert_eq!(counts, if shares { [1, 2, 1, 3, 2] } else { [1; 5] }, "{keys}");
        served.close().await;
    }
}

#[tokio::test]
async fn each_principal_has_a_session_of_its_own() {
    let proxy = demo(settings("principal,session-id"));
    let router = proxy.clone().into_router().layer(from_fn(believe));
    let client = HttpClient::new(HttpEndpoint::Router(router));
    let (ada, bob) = (with("x-layer", "ada"), with("x-layer", "bob"));
    for expected in 1..=3 {
        assert_eq!(count_once(&client, ada).await, expected);
    }
    assert_eq!(count_once(&client, bob).await, 1);
    let of_ada = attach(&client, ada).await;
    let of_bob = attach(&client, bob).await;
    assert_eq!((increment(&of_ada, ada).await, increment(&of_bob, bob).await), (4, 2));
    // What a client of one principal holds is nothing to another one.
    for request in [
        of_ada.post(call(1, "ping", "{}")),
        of_ada.request("GET"),
        of_ada.request("DELETE"),
        of_ada.post(crate::INITIALIZE),
    ] {
        assert_eq!(bob(request.clone()).send().await.status, 404);
        assert_eq!(request.send().await.status, 404, "nor to nobody");
    }
    assert_eq!(increment(&of_ada, ada).await, 5);
    assert_eq!(proxy.sessions().len(), 2);
    proxy.shutdown().await;
}

#[tokio::test]
async fn equal_headers_of_two_principals_are_two_keys() {
    let proxy = demo(settings("header:x-window"));
    let router = proxy.clone().into_router().layer(from_fn(believe));
    let client = HttpClient::new(HttpEndpoint::Router(router));
    for expected in 1..=2 {
        for user in ["ada", "bob"] {
            let with = move |request: crate::Request| request.header("x-layer", user).header("x-window", "1");
            assert_eq!(count_once(&client, with).await, expected, "{user}");
        }
    }
    proxy.shutdown().await;
}
