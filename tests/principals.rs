//! Who calls over HTTP: principals that an embedding program's layer names, and whom a session is found by.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test has failed it")]

mod common;

#[path = "principals/embedder.rs"]
mod embedder;

use common::{HttpClient, INITIALIZE, INITIALIZED, Reply, Request};
use sessile::demo::Demo;
use sessile::{InProcessBackend, Proxy, ProxyBuilder};

fn demo() -> ProxyBuilder {
    Proxy::builder().backend(InProcessBackend::rmcp(Demo::new))
}

/// Opens a session over streamable HTTP; `with` puts what says who calls on each request.
async fn session(client: &HttpClient, with: impl Fn(Request) -> Request) -> HttpClient {
    let mut client = client.clone();
    let reply = with(client.post(INITIALIZE)).send().await;
    assert_eq!(reply.status, 200);
    client.session = Some(reply.header("mcp-session-id").unwrap().to_owned());
    assert_eq!(with(client.post(INITIALIZED)).send().await.status, 202);
    client
}

/// Opens a session over HTTP+SSE; returns its stream and the endpoint.
async fn sse_session(client: &HttpClient, with: impl Fn(Request) -> Request) -> (Reply, String) {
    let mut stream = with(client.request("GET").path("/sse")).send().await;
    assert_eq!(stream.status, 200);
    let endpoint = stream.event().await.data;
    assert_eq!(with(client.post(INITIALIZE).path(endpoint.clone())).send().await.status, 202);
    assert!(stream.data_json().await["result"].is_object());
    assert_eq!(with(client.post(INITIALIZED).path(endpoint.clone())).send().await.status, 202);
    (stream, endpoint)
}

/// The principals of all sessions, in words.
fn principals(proxy: &Proxy) -> Vec<String> {
    proxy.sessions().list().iter().map(|session| session.principal.to_string()).collect()
}
