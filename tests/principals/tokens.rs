//! Who is let in by the tokens of a file, and who is not.

use axum::extract::Request as AxumRequest;
use axum::middleware::{Next, from_fn};
use sessile::backend::HttpBackend;
use sessile::{ConfigError, Principal, Proxy};

use crate::common::{Front, Fronts, HttpClient, HttpEndpoint, INITIALIZE, Reply, Request, call};
use crate::{TokensFile, demo, principals, session, sse_session, token, with_token};

const INVALID: &str = r#"Bearer error="invalid_token""#;

/// A request of each kind that there is, by a client without a token. `owned` is the client of a session, and
/// `endpoint` that of one over HTTP+SSE.
fn every_request(owned: &HttpClient, endpoint: &str) -> Vec<Request> {
    let owned = HttpClient { token: None, ..owned.clone() };
    let stranger = HttpClient { session: None, ..owned.clone() };
    vec![
        stranger.post(INITIALIZE),
        stranger.json_only().post(INITIALIZE),
        stranger.post("nonsense").header("content-type", "text/plain"),
        stranger.request("GET").path("/sse"),
        stranger.post(INITIALIZE).path("/messages"),
        stranger.request("PUT"),
        stranger.request("OPTIONS"),
        stranger.request("OPTIONS").header("origin", "http://localhost:1").path("/messages"),
        owned.post(call(1, "ping", "{}")),
        owned.request("GET"),
        owned.request("GET").header("last-event-id", "1-0"),
        owned.request("DELETE"),
        owned.post(call(1, "ping", "{}")).path(endpoint.to_owned()),
    ]
}

async fn open(proxy: &Proxy) -> Fronts {
    Fronts::open(proxy.clone()).await
}

#[tokio::test]
async fn nobody_comes_in_without_a_valid_token() {
    let alice = token("alice");
    let file = TokensFile::new(&[&alice]);
    let proxy = demo().http(file.settings()).build().unwrap();
    let fronts = open(&proxy).await;
    let client = with_token(&fronts.new_client(), &alice);
    let owned = session(&client, |request| request).await;
    let (stream, endpoint) = sse_session(&client, |request| request).await;
    let right = alice.expose();
    let (longer, shorter) = (format!("{right}x"), &right[..right.len() - 1]);
    let (upper, line) = (right.to_uppercase(), alice.line());
    let bearer = |token: &str| format!("Bearer {token}");
    for (sent, status, challenge) in [
        (String::new(), 401, Some("Bearer")),
        ("Basic dXNlcjpwYXNz".to_owned(), 401, Some("Bearer")),
        (format!("Basic {right}"), 401, Some("Bearer")),
        (right.to_owned(), 401, Some("Bearer")),
        (bearer("wrong"), 401, Some(INVALID)),
        (bearer(&longer), 401, Some(INVALID)),
        (bearer(shorter), 401, Some(INVALID)),
        (bearer(&upper), 401, Some(INVALID)),
        // Whoever reads the file gets nowhere with what stands there.
        (bearer(line.split(' ').next_back().unwrap()), 401, Some(INVALID)),
        ("Bearer".to_owned(), 400, None),
        ("bearer ".to_owned(), 400, None),
        (format!("Bearer {right} {right}"), 400, None),
    ] {
        for request in every_request(&owned, &endpoint) {
            let reply = request.header("authorization", &sent).send().await;
            let found = (reply.status, reply.header("www-authenticate").map(str::to_owned));
            let text = reply.text().await;
            assert_eq!(found, (status, challenge.map(str::to_owned)), "{sent:?}: {text}");
            let error: serde_json::Value = serde_json::from_str(&text).unwrap();
            let kind = if status == 401 { serde_json::json!("unauthenticated") } else { serde_json::Value::Null };
            assert_eq!((&error["error"]["data"]["type"], &error["id"]), (&kind, &serde_json::Value::Null), "{sent:?}");
            assert!(text.contains("Authorization: Bearer TOKEN") || text.contains("another one"), "{text}");
            assert!(!text.contains(right), "{text}");
        }
    }
    for request in every_request(&owned, &endpoint) {
        let twice = request.header("authorization", &bearer(right)).header_again("Authorization", &bearer(right));
        assert_eq!(twice.send().await.status, 400);
    }
    // A token in a URI is none.
    for path in [
        format!("/mcp?access_token={right}"),
        format!("/sse?token={right}"),
        format!("{endpoint}&access_token={right}"),
    ] {
        assert_eq!(fronts.new_client().request("GET").path(path).send().await.status, 401);
    }
    // The owner has noticed nothing, and the scheme may be written as one likes.
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let reply =
            owned.post(call(2, "ping", "{}")).header("authorization", &format!("{scheme} {right}")).send().await;
        assert_eq!(reply.status, 200);
    }
    assert_eq!(client.post(call(3, "ping", "{}")).path(endpoint).send().await.status, 202);
    assert_eq!(principals(&proxy), ["token \"alice\"", "token \"alice\""]);
    drop(stream);
    fronts.close().await;
}

#[tokio::test]
async fn what_comes_before_the_question_who_calls() {
    let file = TokensFile::new(&[&token("alice")]);
    let proxy = demo().http(file.settings()).build().unwrap();
    let fronts = open(&proxy).await;
    let client = fronts.new_client();
    assert_eq!(client.request("GET").path("/healthz").send().await.status, 200);
    for path in ["/mcp", "/sse", "/messages"] {
        let request = |method| client.request(method).path(path);
        assert_eq!(request("GET").header("host", "evil.com").send().await.status, 403);
        assert_eq!(request("GET").header("origin", "https://evil.com").send().await.status, 403);
        // A preflight has no credentials. It says that the page may send them.
        let preflight = request("OPTIONS").header("access-control-request-method", "POST");
        assert_eq!(preflight.clone().send().await.status, 401, "it comes from no page");
        assert_eq!(preflight.clone().header("origin", "https://evil.com").send().await.status, 403);
        let reply = preflight.header("origin", "http://localhost:6274").send().await;
        assert_eq!(reply.status, 204);
        assert!(reply.header("access-control-allow-headers").unwrap().contains("Authorization"));
        // A page can read what it is asked for.
        let reply = request("GET").header("origin", "http://localhost:6274").send().await;
        assert_eq!((reply.status, reply.header("www-authenticate")), (401, Some("Bearer")));
        assert_eq!(reply.header("access-control-allow-origin"), Some("http://localhost:6274"));
        assert!(reply.header("access-control-expose-headers").unwrap().contains("WWW-Authenticate"));
    }
    // The body is not asked for.
    let mut socket = fronts.endpoint().connect().await;
    let head = "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nexpect: 100-continue\r\n\
                content-length: 100\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut socket, head.as_bytes()).await.unwrap();
    assert_eq!(Reply::read(socket).await.unwrap().status, 401);
    fronts.close().await;
}

#[tokio::test]
async fn sessions_of_others_are_not_there() {
    let (alice, bob, anonymous) = (token("alice"), token("bob"), token("anonymous"));
    let (second, third) = (token("alice"), token("alice"));
    let file = TokensFile::new(&[&alice, &second, &bob, &anonymous]);
    let proxy = demo().http(file.settings()).build().unwrap();
    let fronts = open(&proxy).await;
    let hers = with_token(&fronts.new_client(), &alice);
    let owned = session(&hers, |request| request).await;
    let mut listening = owned.listens().await;
    listening.block().await.unwrap();
    let (mut stream, endpoint) = sse_session(&hers, |request| request).await;
    let unknown = {
        let client = HttpClient { session: Some("nobody".to_owned()), ..with_token(&fronts.new_client(), &bob) };
        client.post(call(1, "ping", "{}")).send().await.text().await
    };
    for other in [&bob, &anonymous] {
        let thief = with_token(&owned, other);
        for request in [
            thief.post(call(1, "ping", "{}")),
            thief.post(INITIALIZE),
            thief.request("GET"),
            thief.request("GET").header("last-event-id", "1-0"),
            thief.request("DELETE"),
            thief.post(call(1, "ping", "{}")).path(endpoint.clone()),
            thief.post(INITIALIZE).path(endpoint.clone()),
        ] {
            let reply = request.send().await;
            assert_eq!((reply.status, reply.header("www-authenticate")), (404, None));
            assert_eq!(reply.text().await, unknown, "as if it were not there");
        }
        // Nor is what an ordinary client of theirs opens hers.
        session(&with_token(&fronts.new_client(), other), |request| request).await;
    }
    listening.stays_silent().await;
    stream.stays_silent().await;
    // Her other token is as good; one that is not in the file is not.
    assert_eq!(with_token(&owned, &second).post(call(2, "ping", "{}")).send().await.status, 200);
    let reply = with_token(&hers, &second).post(call(3, "ping", "{}")).path(endpoint).send().await;
    assert_eq!(reply.status, 202);
    assert_eq!(stream.data_json().await["id"], 3);
    assert_eq!(with_token(&owned, &third).post(call(2, "ping", "{}")).send().await.status, 401);
    let listed = principals(&proxy);
    assert_eq!(listed, ["token \"alice\"", "token \"alice\"", "token \"anonymous\"", "token \"bob\""]);
    assert_eq!(with_token(&owned, &second).request("DELETE").send().await.status, 204);
    listening.ends().await;
    drop(stream);
    fronts.close().await;
}

/// Says that it knows who calls.
async fn claim(mut request: AxumRequest, next: Next) -> axum::response::Response {
    request.extensions_mut().insert(Principal::embedder("mallory"));
    next.run(request).await
}

#[tokio::test]
async fn what_sessile_found_out_stands_over_what_a_layer_says() {
    let alice = token("alice");
    let file = TokensFile::new(&[&alice]);
    let proxy = demo().http(file.settings()).build().unwrap();
    let client = HttpClient::new(HttpEndpoint::Router(proxy.clone().into_router().layer(from_fn(claim))));
    assert_eq!(client.post(INITIALIZE).send().await.status, 401);
    session(&with_token(&client, &alice), |request| request).await;
    assert_eq!(principals(&proxy), ["token \"alice\""]);
    proxy.shutdown().await;
}

#[tokio::test]
async fn other_fronts_ask_for_no_token() {
    let file = TokensFile::new(&[&token("alice")]);
    let fronts = open(&demo().http(file.settings()).build().unwrap()).await;
    let _clients = [fronts.client_at(Front::Stdio, "a").await, fronts.client_at(Front::InProcess, "b").await];
    assert_eq!(principals(&fronts.proxy), ["anonymous", "anonymous"]);
    fronts.close().await;
}

#[test]
fn tokens_for_sessile_go_to_no_server() {
    let file = TokensFile::new(&[&token("alice")]);
    let server = |header: &str| HttpBackend::new("http://127.0.0.1:1/mcp").unwrap().forward_header(header).unwrap();
    for spelling in ["Authorization", "authorization", "AUTHORIZATION"] {
        let build = |http| {
            Proxy::builder().server("plain", server("x-tenant")).server("far", server(spelling)).http(http).build()
        };
        let error = build(file.settings()).unwrap_err();
        assert_eq!(error, ConfigError::ForwardedToken { server: "far".to_owned() });
        let text = error.to_string();
        assert!(text.contains("`far`") && text.contains("--forward-header") && text.contains("`tokens`"), "{text}");
        assert!(build(sessile::HttpSettings::default()).is_ok());
    }
    assert!(Proxy::builder().backend(server("x-api-key")).http(file.settings()).build().is_ok());
}

#[test]
fn a_file_without_tokens_is_an_error() {
    let file = TokensFile::new(&[&token("alice")]);
    for (content, expected) in [
        ("", "there is no token in it"),
        ("# alice\n", "there is no token in it"),
        ("\nalice s3cret\n", "line 2: a line is a name"),
    ] {
        file.says(content);
        let error = demo().http(file.settings()).build().unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(&file.path().display().to_string()), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
    std::fs::remove_file(file.path()).unwrap();
    let error = demo().http(file.settings()).build().unwrap_err().to_string();
    assert!(error.contains("cannot be read"), "{error}");
}

#[cfg(feature = "cli")]
#[tokio::test]
async fn tokens_are_never_logged() {
    let log = crate::common::CapturedLog::start();
    let (alice, bob) = (token("alice"), token("bob"));
    let file = TokensFile::new(&[&alice]);
    let proxy = demo().http(file.settings()).build().unwrap();
    let fronts = open(&proxy).await;
    let client = with_token(&fronts.new_client(), &alice);
    let (stream, endpoint) = sse_session(&client, |request| request).await;
    let owned = session(&client, |request| request).await;
    for request in every_request(&owned, &endpoint) {
        let sent = [alice.expose(), bob.expose()].map(|token| format!("Bearer {token}"));
        request.clone().header("authorization", &sent[1]).send().await;
        request.clone().header("authorization", &sent[0]).header("host", "evil.com").send().await;
        request.header("authorization", &format!("{0} {0}", sent[0])).send().await;
    }
    file.says(format!("{}\n", bob.expose()));
    crate::common::until("the bad file is seen", || log.text().contains("stay known")).await;
    drop(stream);
    let shown = format!("{proxy:?}");
    fronts.close().await;
    let text = log.text();
    assert!(text.contains("token \"alice\"") && text.contains("session opened"), "{text}");
    for secret in [alice.expose(), bob.expose(), alice.line().split(' ').next_back().unwrap()] {
        assert!(!text.contains(secret) && !shown.contains(secret), "{secret}: {text}{shown}");
    }
}
