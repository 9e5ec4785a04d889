//! Tokens that are taken out of the file: what ends, and what does not.

use std::time::Duration;

use sessile::SessionSettings;
use sessile::tokens::NewToken;
use tokio::io::AsyncReadExt as _;

use crate::common::{
    Harness, HttpClient, INITIALIZE, INITIALIZE_RESULT, INITIALIZED, Reply, ScriptedServer, call, notification, result,
    soon, until,
};
use crate::{TokensFile, principals, token, with_token};

/// A session over streamable HTTP with a scripted server.
async fn open(harness: &mut Harness, token: &NewToken) -> (HttpClient, ScriptedServer) {
    let mut client = with_token(&harness.new_client(), token);
    let opening = client.post(INITIALIZE).start();
    let mut server = harness.server().await;
    let hello = server.hears("initialize").await;
    server.answers(&hello, INITIALIZE_RESULT).await;
    client.session = Some(opening.reply().await.header("mcp-session-id").unwrap().to_owned());
    client.tells(INITIALIZED).await;
    server.hears("notifications/initialized").await;
    (client, server)
}

/// The same over HTTP+SSE: the stream and the endpoint.
async fn open_sse(harness: &mut Harness, token: &NewToken) -> (Reply, String, ScriptedServer) {
    let client = with_token(&harness.new_client(), token);
    let mut stream = client.request("GET").path("/sse").send().await;
    let endpoint = stream.event().await.data;
    assert_eq!(client.post(INITIALIZE).path(endpoint.clone()).send().await.status, 202);
    let mut server = harness.server().await;
    let hello = server.hears("initialize").await;
    server.answers(&hello, INITIALIZE_RESULT).await;
    stream.data().await;
    assert_eq!(client.post(INITIALIZED).path(endpoint.clone()).send().await.status, 202);
    server.hears("notifications/initialized").await;
    (stream, endpoint, server)
}

/// Longer than a change of the file takes to count.
const AFTER_A_CHANGE: Duration = Duration::from_millis(1100);

#[tokio::test(start_paused = true)]
async fn the_streams_of_a_token_end_with_it() {
    let (old, new, bob) = (token("alice"), token("alice"), token("bob"));
    let file = TokensFile::new(&[&old, &new, &bob]);
    let mut harness = Harness::in_process(SessionSettings::default(), file.settings());
    let (hers, mut server) = open(&mut harness, &old).await;
    let (his, mut others_server) = open(&mut harness, &bob).await;
    let (mut listening, mut his_listening) = (hers.listens().await, his.listens().await);
    assert!(listening.block().await.is_some() && his_listening.block().await.is_some(), "they are primed");
    let mut calling = hers.calls(&call(1, "slow", "{}")).await;
    let prime = calling.block().await.unwrap();
    let id = prime.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
    let his_call = his.asks(&call(1, "slow", "{}"));
    let json = hers.json_only().asks(&call(2, "slow", "{}"));
    let (heard, his_heard) = (server.hears("slow").await, others_server.hears("slow").await);
    server.hears("slow").await;
    let (stream, endpoint, sse_server) = open_sse(&mut harness, &old).await;
    let waiting = with_token(&harness.new_client(), &old).request("GET").path("/sse").send().await;
    let waiting_endpoint = {
        let mut waiting = waiting;
        let endpoint = waiting.event().await.data;
        file.holds(&[&new, &bob]);
        waiting.ends().await;
        endpoint
    };
    listening.ends().await;
    calling.ends().await;
    stream.ends().await;
    let reply = json.reply().await;
    assert_eq!((reply.status, reply.header("www-authenticate")), (401, Some(r#"Bearer error="invalid_token""#)));
    sse_server.sees_the_end().await;
    // The token finds nothing any more, and opens nothing.
    for request in [
        hers.post(call(3, "x", "{}")),
        hers.request("GET"),
        hers.resumes_request(&id),
        hers.request("DELETE"),
        hers.post(call(3, "x", "{}")).path(endpoint),
        hers.post(INITIALIZE).path(waiting_endpoint),
        HttpClient { session: None, ..hers.clone() }.post(INITIALIZE),
    ] {
        let reply = request.send().await;
        assert_eq!((reply.status, reply.header("www-authenticate")), (401, Some(r#"Bearer error="invalid_token""#)));
    }
    // Her session is still hers, and what she missed waits for her.
    assert_eq!(principals(&harness.proxy), ["token \"alice\"", "token \"bob\""]);
    server.answers(&heard, r#"{"was":"kept"}"#).await;
    let mut resumed = with_token(&hers, &new).resumes(&id).await;
    assert_eq!(resumed.data().await, result(1, r#"{"was":"kept"}"#));
    // Nobody else has noticed anything.
    others_server.answers(&his_heard, "{}").await;
    assert_eq!(his_call.data().await, result(1, "{}"));
    others_server.says(&notification("notifications/x", "{}")).await;
    assert!(his_listening.data().await.contains("notifications/x"));
    harness.close().await;
}

#[tokio::test(start_paused = true)]
async fn the_sessions_of_a_name_end_with_its_last_token() {
    let (one, two, bob) = (token("alice"), token("alice"), token("bob"));
    let file = TokensFile::new(&[&one, &two, &bob]);
    let mut harness = Harness::in_process(SessionSettings::default(), file.settings());
    let (hers, server) = open(&mut harness, &one).await;
    let (_, his_server) = open(&mut harness, &bob).await;
    let (stream, _, sse_server) = open_sse(&mut harness, &one).await;
    file.holds(&[&two, &bob]);
    stream.ends().await;
    sse_server.sees_the_end().await;
    tokio::time::sleep(AFTER_A_CHANGE).await;
    assert_eq!(principals(&harness.proxy), ["token \"alice\"", "token \"bob\""]);
    file.holds(&[&bob]);
    server.sees_the_end().await;
    until("her session is gone", || harness.proxy.sessions().len() == 1).await;
    // Her name may come back, but not her session.
    file.holds(&[&one, &bob]);
    tokio::time::sleep(AFTER_A_CHANGE).await;
    assert_eq!(hers.post(call(1, "x", "{}")).send().await.status, 404);
    drop(his_server);
    harness.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_being_opened_ends_with_its_token() {
    let (alice, bob) = (token("alice"), token("bob"));
    for sse in [false, true] {
        let file = TokensFile::new(&[&alice, &bob]);
        let mut harness = Harness::in_process(SessionSettings::default(), file.settings());
        let client = with_token(&harness.new_client(), &alice);
        let mut stream = None;
        let opening = if sse {
            let mut opened = client.request("GET").path("/sse").send().await;
            let endpoint = opened.event().await.data;
            stream = Some(opened);
            client.post(INITIALIZE).path(endpoint).start()
        } else {
            client.post(INITIALIZE).start()
        };
        let mut server = harness.server().await;
        server.hears("initialize").await;
        file.holds(&[&bob]);
        server.sees_the_end().await;
        assert_eq!(opening.reply().await.status, if sse { 202 } else { 401 });
        if let Some(mut stream) = stream {
            while stream.block().await.is_some() {}
        }
        harness.empties().await;
        harness.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_on_its_way_is_given_up() {
    let (alice, bob) = (token("alice"), token("bob"));
    let file = TokensFile::new(&[&alice, &bob]);
    let harness = Harness::in_process(SessionSettings::default(), file.settings());
    let never = futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
    let request = http::Request::post("/mcp")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {}", alice.expose()));
    let request = request.body(axum::body::Body::from_stream(never)).unwrap();
    let mut router = harness.proxy.clone().into_router();
    let answering = tokio::spawn(tower_service::Service::call(&mut router, request));
    tokio::time::sleep(AFTER_A_CHANGE).await;
    assert!(!answering.is_finished());
    file.holds(&[&bob]);
    let answered = soon("it is given up", answering).await.unwrap().unwrap();
    assert_eq!(answered.status(), 401);
    harness.close().await;
}

#[cfg(feature = "cli")]
#[tokio::test(start_paused = true)]
async fn a_version_that_cannot_be_used_changes_nothing() {
    let log = crate::common::CapturedLog::start();
    let (alice, bob) = (token("alice"), token("bob"));
    let file = TokensFile::new(&[&alice]);
    // Without keep-alives, so that the stream is silent.
    let http = sessile::HttpSettings { keep_alive: Duration::from_secs(3600), ..file.settings() };
    let mut harness = Harness::in_process(SessionSettings::default(), http);
    let (hers, server) = open(&mut harness, &alice).await;
    let mut listening = hers.listens().await;
    listening.block().await.unwrap();
    let warnings = || log.text().matches("the tokens that were known before stay known").count();
    let one_more = format!("{}\n", bob.line());
    for (number, bad) in (1..).zip([
        &b""[..],
        b"# nobody\n",
        b"bob\n",
        &[one_more.as_bytes(), b"carol 1234\n"].concat(),
        &[one_more.as_bytes(), one_more.as_bytes()].concat(),
        b"\xff\xfea\0l\0",
    ]) {
        file.says(bad);
        listening.stays_silent_for(AFTER_A_CHANGE * 4).await;
        assert_eq!(warnings(), number, "each is told once");
    }
    std::fs::remove_file(file.path()).unwrap();
    listening.stays_silent_for(AFTER_A_CHANGE * 4).await;
    assert_eq!(warnings(), 7);
    assert_eq!(with_token(&harness.new_client(), &bob).post(INITIALIZE).send().await.status, 401);
    server.says(&notification("notifications/x", "{}")).await;
    assert!(listening.data().await.contains("notifications/x"));
    // What can be used counts again.
    file.holds(&[&bob]);
    listening.ends().await;
    harness.empties().await;
    harness.close().await;
}

/// Over a socket, where what a client has not read stands in buffers.
#[tokio::test]
async fn who_reads_nothing_gets_nothing_more() {
    let (one, two) = (token("alice"), token("alice"));
    let file = TokensFile::new(&[&one, &two]);
    let mut harness = Harness::on_tcp(SessionSettings::default(), file.settings()).await;
    let (hers, server) = open(&mut harness, &one).await;
    let mut socket = harness.endpoint().connect().await;
    hers.request("GET").write_to(&mut socket).await;
    // More than the socket takes, and than may wait for her.
    let large = notification("notifications/x", &format!(r#"{{"a":"{}"}}"#, "b".repeat(1_000_000)));
    let mut said = 0;
    while tokio::time::timeout(Duration::from_secs(1), server.says(&large)).await.is_ok() {
        said += large.len();
    }
    let waits = || harness.proxy.bytes_under_way().to_clients;
    let before = waits();
    assert!(before > 3_000_000, "{before}");
    file.holds(&[&two]);
    until("nothing waits for the connection any more", || waits() < before - 3_000_000).await;
    let mut heard = Vec::new();
    let ends =
        async { while socket.read_buf(&mut heard).await.unwrap_or(0) > 0 && !heard.ends_with(b"\r\n0\r\n\r\n") {} };
    soon("the stream ends", ends).await;
    assert!(heard.len() < said - 1_000_000, "{} of {said}", heard.len());
    harness.close().await;
}
