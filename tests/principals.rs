//! Who calls over HTTP: principals that an embedding program's layer names, the tokens of a file, and what is whose.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test has failed it")]

mod common;

#[path = "principals/embedder.rs"]
mod embedder;
#[path = "principals/revoked.rs"]
mod revoked;
#[path = "principals/rotated.rs"]
mod rotated;
#[path = "principals/tokens.rs"]
mod tokens;

use std::path::PathBuf;

use common::{HttpClient, INITIALIZE, INITIALIZED, Reply, Request};
use sessile::demo::Demo;
use sessile::tokens::NewToken;
use sessile::{HttpSettings, InProcessBackend, Proxy, ProxyBuilder};
use tempfile::TempDir;

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
    let mut all: Vec<_> = proxy.sessions().list().iter().map(|session| session.principal.to_string()).collect();
    all.sort_unstable();
    all
}

/// A file of tokens that a test writes.
struct TokensFile(TempDir);

impl TokensFile {
    fn new(tokens: &[&NewToken]) -> Self {
        let file = Self(tempfile::tempdir().unwrap());
        file.holds(tokens);
        file
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("tokens")
    }

    /// Puts these tokens into the file, and no others.
    fn holds(&self, tokens: &[&NewToken]) {
        let lines: Vec<_> = tokens.iter().map(|token| token.line()).collect();
        self.says(lines.join("\n"));
    }

    fn says(&self, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(), content).unwrap();
    }

    fn settings(&self) -> HttpSettings {
        HttpSettings { tokens: Some(self.path()), ..HttpSettings::default() }
    }
}

fn token(name: &str) -> NewToken {
    NewToken::generate(name).unwrap()
}

/// The client with this token.
fn with_token(client: &HttpClient, token: &NewToken) -> HttpClient {
    HttpClient { token: Some(token.expose().to_owned()), ..client.clone() }
}
