//! Headers that are forwarded to the server, sessions that belong to the credentials that opened them, and the errors
//! of refused credentials.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::HeaderMap;
use serde_json::{Value, json};
use sessile::backend::{HttpBackend, Transport};
use sessile::{Backend, Proxy};
use tokio::task::JoinHandle;

use crate::common::{
    Fronts, HeardRequest, HttpClient, INITIALIZE, INITIALIZE_RESULT, INITIALIZED, Reply, Request, ScriptedHttpServer,
    call,
};

const CHALLENGE: &str = r#"Bearer resource_metadata="https://auth.example/.well-known/oauth-protected-resource""#;

type Seen = Arc<Mutex<Vec<(String, HeaderMap)>>>;

/// A server that wants `Bearer good`, and remembers what it was sent.
struct TokenServer {
    url: String,
    seen: Seen,
    answering: JoinHandle<()>,
}

impl TokenServer {
    async fn open() -> Self {
        let seen = Seen::default();
        let mut server = ScriptedHttpServer::open().await;
        let url = server.url();
        let remembered = Arc::clone(&seen);
        let answering = tokio::spawn(async move {
            loop {
                let request = server.hears_any().await;
                if !request.body.is_empty() {
                    remembered.lock().unwrap().push((request.kind(), request.headers.clone()));
                }
                tokio::spawn(answer(request));
            }
        });
        Self { url, seen, answering }
    }

    /// The headers that came with the only message of this method since it was asked last.
    fn sent_with(&self, method: &str) -> HeaderMap {
        let mut seen = self.seen.lock().unwrap();
        let mut with: Vec<_> = seen.drain(..).filter(|(known, _)| known == method).collect();
        assert_eq!(with.len(), 1, "{method}: {with:?}");
        with.remove(0).1
    }

    fn has_seen(&self, method: &str) -> bool {
        self.seen.lock().unwrap().iter().any(|(known, _)| known == method)
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

async fn answer(request: HeardRequest) {
    if request.kind() == "late" {
        tokio::time::sleep(Duration::from_millis(1300)).await;
    }
    let is_good = request.header("authorization").is_some_and(|value| value.starts_with("Bearer good"));
    let (status, challenge) = match request.kind().as_str() {
        "GET" | "DELETE" => return request.replies("405 Method Not Allowed", &[], "").await,
        "secret" => ("403 Forbidden", r#"Bearer error="insufficient_scope", scope="more""#),
        "initialize" if is_good => {
            let result = request.result(INITIALIZE_RESULT);
            return request.answers(&result).await;
        }
        "late" | "expired" => ("401 Unauthorized", CHALLENGE),
        _ if !is_good => ("401 Unauthorized", CHALLENGE),
        _ if request.id().is_null() => return request.accept().await,
        _ => {
            let result = request.result("{}");
            return request.answers(&result).await;
        }
    };
    request.replies(status, &[("www-authenticate", challenge)], "come back with better ones").await;
}

async fn fronts(upstream: &TokenServer) -> Fronts {
    let backend = HttpBackend::new(&upstream.url).unwrap().transport(Transport::Http);
    let backend = backend.forward_header("Authorization").unwrap().forward_header("X-Tenant").unwrap();
    Fronts::open(Proxy::builder().backend(Backend::http(backend)).build().unwrap()).await
}

/// What is sent with each request of a client.
#[derive(Clone, Copy)]
struct With(&'static [(&'static str, &'static str)]);

const GOOD: With = With(&[("authorization", "Bearer good-1")]);
const OTHER: With = With(&[("authorization", "Bearer good-2")]);
const NONE: With = With(&[]);

impl With {
    fn on(self, request: Request) -> Request {
        self.0.iter().fold(request, |request, (name, value)| request.header(name, value))
    }
}

async fn session(fronts: &Fronts, with: With) -> HttpClient {
    let mut client = fronts.new_client();
    let reply = with.on(client.post(INITIALIZE)).send().await;
    assert_eq!(reply.status, 200);
    client.session = Some(reply.header("mcp-session-id").unwrap().to_owned());
    assert_eq!(with.on(client.post(INITIALIZED)).send().await.status, 202);
    client
}

/// The stream and the endpoint of a session over HTTP+SSE, after its handshake.
async fn sse_session(fronts: &Fronts, with: With) -> (Reply, String) {
    let client = fronts.new_client();
    let mut stream = with.on(client.request("GET").path("/sse")).send().await;
    let endpoint = stream.event().await.data;
    assert_eq!(with.on(client.post(INITIALIZE).path(endpoint.clone())).send().await.status, 202);
    assert!(stream.data_json().await["result"].is_object());
    assert_eq!(with.on(client.post(INITIALIZED).path(endpoint.clone())).send().await.status, 202);
    (stream, endpoint)
}

async fn json_of(mut reply: Reply) -> Value {
    if reply.is_sse() { reply.data_json().await } else { reply.json().await }
}

#[tokio::test]
async fn each_request_brings_its_own_headers() {
    let upstream = TokenServer::open().await;
    let fronts = fronts(&upstream).await;
    let sent = With(&[
        ("authorization", "Bearer good-1"),
        ("x-tenant", "one"),
        ("x-other", "not asked for"),
        ("cookie", "a=b"),
        ("proxy-authorization", "Basic x"),
    ]);
    let client = session(&fronts, sent).await;
    let seen = upstream.sent_with("initialize");
    assert!(seen["authorization"] == "Bearer good-1" && seen["x-tenant"] == "one", "{seen:?}");
    for name in ["x-other", "cookie", "proxy-authorization", "origin"] {
        assert!(!seen.contains_key(name), "{name}");
    }
    // The server has a session id of its own.
    assert!(seen.get("mcp-session-id").is_none());
    for tenant in ["two", ""] {
        let reply = sent.on(client.post(call(1, "x", "{}"))).header("x-tenant", tenant).send().await;
        assert_eq!(json_of(reply).await["result"], json!({}));
        let seen = upstream.sent_with("x");
        assert_eq!(seen.get("x-tenant").map_or("", |value| value.to_str().unwrap()), tenant);
        assert_eq!(seen["authorization"], "Bearer good-1");
    }
    // Headers that `Connection` names are not forwarded.
    let reply = sent.on(client.post(call(2, "x", "{}"))).header("connection", "X-Tenant").send().await;
    assert_eq!(json_of(reply).await["result"], json!({}));
    assert!(!upstream.sent_with("x").contains_key("x-tenant"));
    // Over the older transport it is the same.
    let (mut stream, endpoint) = sse_session(&fronts, sent).await;
    let request = client.post(call(3, "y", "{}")).path(endpoint);
    assert_eq!(sent.on(request).header("x-tenant", "three").send().await.status, 202);
    assert_eq!(stream.data_json().await["result"], json!({}));
    let seen = upstream.sent_with("y");
    assert!(seen["authorization"] == "Bearer good-1" && seen["x-tenant"] == "three", "{seen:?}");
    drop(stream);
    fronts.close().await;
}

#[tokio::test]
async fn a_session_belongs_to_who_opened_it() {
    let upstream = TokenServer::open().await;
    let fronts = fronts(&upstream).await;
    let client = session(&fronts, GOOD).await;
    let (stream, endpoint) = sse_session(&fronts, GOOD).await;
    let mut nobody = fronts.new_client();
    nobody.session = Some("nobody".to_owned());
    let unknown = nobody.post(call(1, "stolen", "{}")).send().await;
    assert_eq!(unknown.status, 404);
    let unknown = unknown.text().await;
    for with in [OTHER, NONE, With(&[("authorization", "")]), With(&[("authorization", "bearer good-1")])] {
        let requests = [
            client.post(call(1, "stolen", "{}")),
            client.post(INITIALIZE),
            client.request("GET"),
            client.request("GET").header("last-event-id", "1-0"),
            client.request("DELETE"),
            fronts.new_client().post(call(1, "stolen", "{}")).path(endpoint.clone()),
        ];
        for request in requests {
            let reply = with.on(request).send().await;
            // The response does not tell whether the session exists.
            assert_eq!((reply.status, reply.header("www-authenticate")), (404, None));
            assert_eq!(reply.text().await, unknown);
        }
    }
    assert!(!upstream.has_seen("stolen"));
    assert_eq!(fronts.proxy.sessions().len(), 2);
    for request in [client.post(call(1, "mine", "{}")), fronts.new_client().post(call(1, "mine", "{}")).path(endpoint)]
    {
        assert!(GOOD.on(request).send().await.status < 300);
    }
    assert_eq!(GOOD.on(client.request("DELETE")).send().await.status, 204);
    drop(stream);
    fronts.close().await;
}

#[tokio::test]
async fn who_opened_a_session_without_credentials_is_not_found_with_some() {
    // The proxy sends credentials of its own, and forwards a client's API key.
    let upstream = TokenServer::open().await;
    let backend = HttpBackend::new(&upstream.url).unwrap().transport(Transport::Http);
    let backend = backend.header("authorization", "Bearer good-0").unwrap().forward_header("x-api-key").unwrap();
    let fronts = Fronts::open(Proxy::builder().backend(Backend::http(backend)).build().unwrap()).await;
    let client = session(&fronts, NONE).await;
    let keyed = client.post(call(1, "x", "{}")).header("x-api-key", "k");
    assert_eq!(keyed.send().await.status, 404);
    // Headers that are not forwarded make no difference.
    assert_eq!(OTHER.on(client.post(call(1, "x", "{}"))).send().await.status, 200);
    fronts.close().await;
}

#[tokio::test]
async fn refused_credentials_are_told_in_the_words_of_http() {
    let upstream = TokenServer::open().await;
    let fronts = fronts(&upstream).await;
    for client in [fronts.new_client(), fronts.new_client().json_only()] {
        for with in [NONE, With(&[("authorization", "Bearer bad")])] {
            let reply = with.on(client.post(INITIALIZE)).send().await;
            assert_eq!(
                (reply.status, reply.header("www-authenticate"), reply.header("mcp-session-id")),
                (401, Some(CHALLENGE), None)
            );
            assert_eq!(reply.header("content-type"), Some("application/json"));
            let error = reply.json().await;
            assert_eq!((&error["id"], &error["error"]["code"]), (&json!("hello"), &json!(-31007)), "{error}");
            assert_eq!(error["error"]["data"]["wwwAuthenticate"], CHALLENGE);
        }
    }
    fronts.empty().await;
    // With the right ones it opens; later calls can be refused as well.
    let client = session(&fronts, GOOD).await;
    for client in [client.clone(), client.json_only()] {
        let reply = GOOD.on(client.post(call(1, "expired", "{}"))).send().await;
        assert_eq!((reply.status, reply.header("www-authenticate")), (401, Some(CHALLENGE)));
        assert_eq!(reply.json().await["id"], 1);
        let reply = GOOD.on(client.post(call(2, "secret", "{}"))).send().await;
        let wanted = r#"Bearer error="insufficient_scope", scope="more""#;
        assert_eq!((reply.status, reply.header("www-authenticate")), (403, Some(wanted)));
        assert_eq!(reply.json().await["id"], 2);
    }
    // The session goes on.
    let reply = GOOD.on(client.post(call(3, "x", "{}"))).send().await;
    assert_eq!(json_of(reply).await["result"], json!({}));
    fronts.close().await;
}

#[tokio::test]
async fn a_refusal_that_comes_late_is_an_event() {
    let upstream = TokenServer::open().await;
    let fronts = fronts(&upstream).await;
    let client = session(&fronts, GOOD).await;
    let reply = GOOD.on(client.post(call(1, "late", "{}"))).send().await;
    assert!(reply.status == 200 && reply.is_sse(), "{}", reply.status);
    let error = json_of(reply).await;
    assert_eq!((&error["id"], &error["error"]["data"]["status"]), (&json!(1), &json!(401)), "{error}");
    // For a client that accepts JSON only, the response waits for the status.
    let reply = GOOD.on(client.json_only().post(call(2, "late", "{}"))).send().await;
    assert_eq!((reply.status, reply.header("www-authenticate")), (401, Some(CHALLENGE)));
    // The older transport has answered every POST before there is anything to tell.
    let stranger = fronts.new_client();
    let mut stream = stranger.request("GET").path("/sse").send().await;
    let endpoint = stream.event().await.data;
    assert_eq!(stranger.post(INITIALIZE).path(endpoint).send().await.status, 202);
    let error = stream.data_json().await;
    assert_eq!((&error["id"], &error["error"]["code"]), (&json!("hello"), &json!(-31007)), "{error}");
    assert_eq!(error["error"]["data"]["wwwAuthenticate"], CHALLENGE);
    drop(stream);
    fronts.close().await;
}

#[tokio::test]
async fn what_is_forwarded_has_a_bound_and_is_allowed_to_pages() {
    let upstream = TokenServer::open().await;
    let fronts = fronts(&upstream).await;
    let client = session(&fronts, GOOD).await;
    let large = "t".repeat(33 * 1024);
    let reply = GOOD.on(client.post(call(1, "x", "{}"))).header("x-tenant", &large).send().await;
    assert_eq!(reply.status, 431);
    let text = reply.text().await;
    assert!(!text.contains("ttt") && text.contains("32768"), "{text}");
    assert!(!upstream.has_seen("x"));
    let page = client.request("OPTIONS").header("origin", "http://localhost:6274");
    let reply = page.header("access-control-request-headers", "x-tenant").send().await;
    assert!(reply.header("access-control-allow-headers").unwrap().contains("x-tenant"));
    fronts.close().await;
}
