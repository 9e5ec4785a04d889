//! Principals that a layer of an embedding program has put into the extensions of requests.

use axum::extract::Request as AxumRequest;
use axum::middleware::{Next, from_fn};
use sessile::Principal;

use crate::common::{HttpClient, HttpEndpoint, INITIALIZE, Request, call};
use crate::{demo, principals, session, sse_session};

/// Takes a request's word for who its sender is.
async fn believe(mut request: AxumRequest, next: Next) -> axum::response::Response {
    let said = request.headers().get("x-user").and_then(|value| value.to_str().ok()).map(str::to_owned);
    if let Some(user) = said {
        request.extensions_mut().insert(Principal::embedder(user));
    }
    next.run(request).await
}

fn by(user: &'static str) -> impl Fn(Request) -> Request + Copy {
    move |request| request.header("x-user", user)
}

#[tokio::test]
async fn a_session_belongs_to_the_principal_that_a_layer_names() {
    let proxy = demo().build().unwrap();
    let router = proxy.clone().into_router().layer(from_fn(believe));
    let client = HttpClient::new(HttpEndpoint::Router(router));
    let owned = session(&client, by("ada")).await;
    let (stream, endpoint) = sse_session(&client, by("ada")).await;
    session(&client, by("bob")).await;
    session(&client, by("")).await;
    let mut listed = principals(&proxy);
    listed.sort_unstable();
    assert_eq!(listed, ["anonymous", "embedder \"ada\"", "embedder \"ada\"", "embedder \"bob\""]);
    let stranger = {
        let mut client = client.clone();
        client.session = Some("nobody".to_owned());
        client.post(call(1, "ping", "{}")).send().await.text().await
    };
    for other in ["bob", "anonymous", ""] {
        for request in [
            owned.post(call(1, "ping", "{}")),
            owned.post(INITIALIZE),
            owned.request("GET"),
            owned.request("GET").header("last-event-id", "1-0"),
            owned.request("DELETE"),
            client.post(call(1, "ping", "{}")).path(endpoint.clone()),
        ] {
            let reply = by(other)(request).send().await;
            assert_eq!(reply.status, 404, "{other}");
            assert_eq!(reply.text().await, stranger, "as if it were not there");
        }
    }
    assert_eq!(by("ada")(owned.post(call(2, "ping", "{}"))).send().await.status, 200);
    assert_eq!(by("ada")(client.post(call(2, "ping", "{}")).path(endpoint)).send().await.status, 202);
    assert_eq!(by("ada")(owned.request("DELETE")).send().await.status, 204);
    drop(stream);
    proxy.shutdown().await;
}
