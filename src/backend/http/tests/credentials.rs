//! Headers and credentials: whose they are, where they go, and what becomes of a refusal.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;

use super::*;
use crate::backend::credentials::{AuthRefusal, BearerToken, CredentialError, TokenSource};
use crate::backend::http::{HttpBackend, HttpBackendError};
use crate::link::CredentialsOwner;

async fn plain() -> ScriptedHttpServer {
    ScriptedHttpServer::start(async |request: PeerRequest| match request.kind().as_str() {
        "GET" => silence(),
        _ => plain_response(&request),
    })
    .await
}

fn refused(challenge: Option<&str>) -> PeerResponse {
    let mut answer = status(401);
    if let Some(challenge) = challenge {
        answer.headers_mut().insert("www-authenticate", challenge.parse().unwrap());
    }
    answer
}

#[tokio::test]
async fn headers_of_the_operator_go_with_everything() {
    let server = plain().await;
    let url = server.url().replace("http://", "http://user:p%40ss@");
    let backend = HttpBackend::new(&url).unwrap().header("X-Key", " k3y-value ").unwrap();
    let shown = format!("{backend:?}");
    assert!(!shown.contains("p%40ss") && !shown.contains("k3y-value") && shown.contains("x-key: ***"), "{shown}");
    let mut session = TestLink::start(backend);
    session.open().await;
    server.wait_for("GET", 1).await;
    session.call(2);
    session.answer(2).await;
    session.stop().await;
    assert_eq!(server.requests().len(), 5);
    for request in server.requests() {
        assert_eq!(request.header("x-key"), Some("k3y-value"));
        assert_eq!(request.header("authorization"), Some("Basic dXNlcjpwQHNz"));
        assert!(request.header("user-agent").unwrap().starts_with("sessile/"));
        assert!(request.header("cookie").is_none());
    }
}

#[tokio::test]
async fn forwarded_headers_belong_to_their_own_message() {
    let server = plain().await;
    let backend = HttpBackend::new(&server.url()).unwrap();
    let backend = backend.forward_header("X-Tenant").unwrap().forward_header("authorization").unwrap();
    assert_eq!(Backend::from(backend.clone()).forwards(), ["x-tenant", "authorization"]);
    let mut session = TestLink::start(backend);
    session.open().await;
    server.wait_for("GET", 1).await;
    session.call_with(2, &[("x-tenant", "t2"), ("authorization", "Bearer c2"), ("x-other", "o"), ("cookie", "c")]);
    session.answer(2).await;
    session.call_with(3, &[("x-tenant", "t3"), ("x-tenant", "t4")]);
    session.answer(3).await;
    session.call(4);
    session.answer(4).await;
    let calls = server.wait_for("tools/call", 3).await;
    assert_eq!((calls[0].header("x-tenant"), calls[0].header("authorization")), (Some("t2"), Some("Bearer c2")));
    assert_eq!((calls[0].header("x-other"), calls[0].header("cookie")), (None, None), "what was not named stays here");
    assert_eq!(calls[1].headers.get_all("x-tenant").iter().collect::<Vec<_>>(), ["t3", "t4"]);
    assert_eq!(calls[1].header("authorization"), None);
    assert_eq!((calls[2].header("x-tenant"), calls[2].header("authorization")), (None, None));
}

#[tokio::test]
async fn what_is_done_for_a_client_is_done_with_its_credentials() {
    let server = plain().await;
    let backend = HttpBackend::new(&server.url()).unwrap();
    let backend = backend.forward_header("x-tenant").unwrap().forward_header("authorization").unwrap();
    let mut session = TestLink::start(backend);
    let headers = [("authorization", "Bearer mine"), ("x-tenant", "t")];
    let with = |text: &str| Wire::from(text.to_owned()).with_headers(Some(forwarded(&headers)));
    session.send(Purpose::Initialize(1), with(r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#));
    session.answer(1).await;
    session.send(Purpose::Initialized, with(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#));
    server.wait_for("GET", 1).await;
    session.stop().await;
    for what in ["GET", "DELETE"] {
        let request = &server.wait_for(what, 1).await[0];
        assert_eq!(
            (request.header("authorization"), request.header("x-tenant")),
            (Some("Bearer mine"), None),
            "{what}"
        );
    }
}

#[tokio::test]
async fn a_refusal_says_whose_credentials_it_was() {
    let server = ScriptedHttpServer::start(async |_| refused(Some("Bearer resource_metadata=\"https://x/y\""))).await;
    let unauthorized = |failure: (u64, RequestFailure)| match failure {
        (1, RequestFailure::Unauthorized { status: 401, challenge, whose, reason }) => {
            assert_eq!(challenge.as_deref(), Some("Bearer resource_metadata=\"https://x/y\""));
            (whose, reason)
        }
        other => panic!("{other:?}"),
    };
    let plain = HttpBackend::new(&server.url()).unwrap();
    let mut session = TestLink::start(plain.clone());
    session.initialize();
    let (whose, reason) = unauthorized(session.failure().await);
    assert!(whose == CredentialsOwner::Operator && reason.contains("none are configured"), "{reason}");

    let mut session = TestLink::start(plain.clone().header("authorization", "Bearer s3cret").unwrap());
    session.initialize();
    let (whose, reason) = unauthorized(session.failure().await);
    assert!(whose == CredentialsOwner::Operator && !reason.contains("s3cret"), "{reason}");

    let forwarding = plain.forward_header("authorization").unwrap();
    let mut session = TestLink::start(forwarding.clone());
    session.initialize();
    let (whose, reason) = unauthorized(session.failure().await);
    assert!(whose == CredentialsOwner::Client && reason.contains("authorization"), "{reason}");

    let mut session = TestLink::start(forwarding);
    let wire = Wire::from(r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#.to_owned());
    session.send(Purpose::Initialize(1), wire.with_headers(Some(forwarded(&[("authorization", "Bearer mine")]))));
    let (whose, reason) = unauthorized(session.failure().await);
    assert!(whose == CredentialsOwner::Client && !reason.contains("mine"), "{reason}");
}

#[tokio::test]
async fn forbidden_is_a_matter_of_credentials_only_with_a_challenge() {
    let server = ScriptedHttpServer::start(async |request: PeerRequest| match request.kind().as_str() {
        "tools/call" => text(403, "text/plain", "not from there"),
        _ => plain_response(&request),
    })
    .await;
    let mut session = TestLink::start(HttpBackend::new(&server.url()).unwrap());
    session.open().await;
    session.call(2);
    assert_eq!(
        session.failure().await,
        (2, RequestFailure::Refused { status: 403, reason: "not from there".to_owned() })
    );
}

#[tokio::test]
async fn a_server_that_repeats_secrets_is_not_quoted_with_them() {
    let server = ScriptedHttpServer::start(async |request: PeerRequest| {
        let said = format!("{:?} {:?}", request.header("authorization"), request.header("x-key"));
        text(500, "text/plain", said)
    })
    .await;
    let configured = HttpBackend::new(&server.url()).unwrap().header("x-key", "k3y-value").unwrap();
    for backend in [
        configured.clone().bearer("s3cret-token").unwrap(),
        configured.header("authorization", "Bearer s3cret-token").unwrap(),
    ] {
        let mut session = TestLink::start(backend);
        session.initialize();
        let reason = r#"Some("Bearer ***") Some("***")"#.to_owned();
        assert_eq!(session.failure().await, (1, RequestFailure::Refused { status: 500, reason }));
    }
}

/// Credentials that get better when they are refused, so many times.
#[derive(Debug)]
struct Renewing {
    version: AtomicUsize,
    renewals: usize,
    refusals: Mutex<Vec<(Option<BearerToken>, AuthRefusal)>>,
}

impl TokenSource for Renewing {
    fn token(&self) -> BoxFuture<'_, Result<Option<BearerToken>, CredentialError>> {
        let token = BearerToken::new(&format!("v{}", self.version.load(Ordering::SeqCst)));
        Box::pin(std::future::ready(Ok(token)))
    }

    fn refused(
        &self,
        used: Option<&BearerToken>,
        refusal: &AuthRefusal,
    ) -> BoxFuture<'_, Result<bool, CredentialError>> {
        self.refusals.lock().unwrap().push((used.cloned(), refusal.clone()));
        let better = self.version.fetch_add(1, Ordering::SeqCst) < self.renewals;
        Box::pin(std::future::ready(Ok(better)))
    }
}

fn renewing(server: &ScriptedHttpServer, renewals: usize) -> (HttpBackend, Arc<Renewing>) {
    let credentials = Arc::new(Renewing { version: AtomicUsize::new(0), renewals, refusals: Mutex::default() });
    let mut backend = HttpBackend::new(&server.url()).unwrap();
    backend.token_source = Some(credentials.clone());
    (backend, credentials)
}

/// A server that takes the second token only.
async fn picky(code: u16, challenge: &'static str) -> ScriptedHttpServer {
    ScriptedHttpServer::start(move |request: PeerRequest| async move {
        if request.header("authorization") == Some("Bearer v1") {
            return plain_response(&request);
        }
        let mut answer = refused(Some(challenge));
        *answer.status_mut() = http::StatusCode::from_u16(code).unwrap();
        answer
    })
    .await
}

#[tokio::test]
async fn a_refused_token_is_renewed_and_the_message_sent_once_more() {
    for (code, challenge) in [(401, "Bearer"), (403, "Bearer error=\"insufficient_scope\", scope=\"a b\"")] {
        let server = picky(code, challenge).await;
        let (backend, credentials) = renewing(&server, 9);
        let mut session = TestLink::start(backend);
        session.open().await;
        session.call(2);
        session.answer(2).await;
        let refusal = AuthRefusal { status: code, challenges: vec![challenge.to_owned()] };
        assert_eq!(*credentials.refusals.lock().unwrap(), [(BearerToken::new("v0"), refusal)]);
        assert_eq!(server.wait_for("initialize", 2).await[1].header("authorization"), Some("Bearer v1"));
        assert_eq!(server.wait_for("tools/call", 1).await.len(), 1);
    }
}

#[tokio::test]
async fn a_token_is_renewed_once_for_each_message() {
    let server = ScriptedHttpServer::start(async |_| refused(None)).await;
    let (backend, credentials) = renewing(&server, 9);
    let mut session = TestLink::start(backend);
    session.initialize();
    assert!(matches!(
        session.failure().await,
        (1, RequestFailure::Unauthorized { whose: CredentialsOwner::Operator, .. })
    ));
    assert_eq!(server.kinds(), ["initialize", "initialize"]);
    assert_eq!(credentials.refusals.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn the_clients_own_credentials_stand_in_place_of_the_operators() {
    let server = ScriptedHttpServer::start(async |_| refused(None)).await;
    let (backend, credentials) = renewing(&server, 9);
    let mut session = TestLink::start(backend.forward_header("authorization").unwrap());
    let wire = Wire::from(r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#.to_owned());
    session.send(Purpose::Initialize(1), wire.with_headers(Some(forwarded(&[("authorization", "Bearer mine")]))));
    assert!(matches!(
        session.failure().await,
        (1, RequestFailure::Unauthorized { whose: CredentialsOwner::Client, .. })
    ));
    assert_eq!(server.requests()[0].header("authorization"), Some("Bearer mine"));
    assert!(credentials.refusals.lock().unwrap().is_empty(), "the operator's were not refused");
}

#[test]
fn headers_that_sessile_sets_cannot_be_set() {
    let backend = HttpBackend::new("https://example.com/mcp").unwrap();
    for name in ["Host", "mcp-session-id", "Content-Type", "transfer-encoding", "a b"] {
        assert!(matches!(backend.clone().header(name, "x"), Err(HttpBackendError::Header { .. })), "{name}");
        assert!(matches!(backend.clone().forward_header(name), Err(HttpBackendError::Header { .. })), "{name}");
    }
    let error = backend.clone().header("x-key", "s3cret\r\nx: y").unwrap_err().to_string();
    assert!(error.contains("x-key") && !error.contains("s3cret"), "{error}");
}
