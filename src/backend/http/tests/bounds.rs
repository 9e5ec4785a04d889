//! What is kept while a server takes its time, and what is shown of what it says.

use super::*;
use crate::backend::http::HttpBackend;
use crate::backend::http::position::StreamPosition;
use crate::backend::http::reader::{BodyError, EventReader, StreamItem, read_body};
use crate::budget::UNCHARGED_BUFFER;
use crate::frame::Lost;
use crate::link::CredentialsOwner;

const MEGABYTE: usize = 1024 * 1024;

/// A response whose body comes in these chunks, and has no end if it `hangs`. What is read of it is counted.
fn response(chunks: usize, chunk: Bytes, hangs: bool, read: &Arc<Mutex<usize>>) -> reqwest::Response {
    let read = read.clone();
    let body = stream::unfold(0, move |number| {
        let (chunk, read) = (chunk.clone(), read.clone());
        async move {
            if number == chunks {
                return if hangs { std::future::pending().await } else { None };
            }
            *read.lock().unwrap() += chunk.len();
            Some((Ok::<_, Infallible>(chunk), number + 1))
        }
    });
    http::Response::new(reqwest::Body::wrap_stream(body)).into()
}

#[tokio::test(start_paused = true)]
async fn bodies_that_do_not_end_take_no_more_than_their_budget() {
    const POOL: usize = 16 * MEGABYTE;
    let (budget, read) = (Budget::of(POOL, 8 * MEGABYTE), Arc::default());
    let chunk = Bytes::from(vec![b' '; UNCHARGED_BUFFER / 2]);
    let bodies: Vec<_> = (0..24)
        .map(|_| {
            let (response, budget) = (response(200, chunk.clone(), true, &read), budget.clone());
            tokio::spawn(async move { read_body(response, 7 * MEGABYTE, &budget).await })
        })
        .collect();
    sleep(Duration::from_secs(4)).await;
    let kept = *read.lock().unwrap();
    // Each may have what is free, and the chunk for which it waits.
    assert!(kept <= POOL + 24 * 2 * UNCHARGED_BUFFER, "{kept} bytes are kept");
    for body in bodies {
        // A server that is silent gives way to the others, or is given up after a minute.
        match timeout(Duration::from_secs(3600), body).await.expect("it is kept for ever").unwrap() {
            Err(BodyError::Cut(reason)) => assert!(reason.contains("60 seconds"), "{reason}"),
            Err(BodyError::Stalled) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_that_end_all_come_through() {
    let (budget, read) = (Budget::of(5 * MEGABYTE, 2 * MEGABYTE + UNCHARGED_BUFFER), Arc::default());
    let chunk = Bytes::from(vec![b' '; UNCHARGED_BUFFER]);
    let bodies: Vec<_> = (0..10)
        .map(|_| {
            let (response, budget) = (response(32, chunk.clone(), false, &read), budget.clone());
            tokio::spawn(async move {
                let (body, permit) = read_body(response, 2 * MEGABYTE, &budget).await.unwrap();
                // The permit is dropped here, as soon as the body is read: the other bodies would wait for it
                // otherwise.
                (body.len(), permit.map(|permit| permit.pooled()))
            })
        })
        .collect();
    for body in bodies {
        let (read, charged) = timeout(WAIT_LIMIT, body).await.expect("they wait for each other").unwrap();
        assert_eq!(read, 32 * UNCHARGED_BUFFER);
        assert!(charged.is_some_and(|charged| charged >= read), "it is charged for what it takes");
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_without_an_end_gives_way_or_is_given_up() {
    const POOL: usize = 10 * MEGABYTE;
    let (budget, read) = (Budget::of(POOL, 5 * MEGABYTE), Arc::default());
    let begin = r#"data: {"jsonrpc":"2.0","id":7,"result":""#;
    let chunk = Bytes::from(format!("{begin}{}", "x".repeat(UNCHARGED_BUFFER)));
    let mut readers: Vec<_> = (0..10)
        .map(|_| {
            let response = response(64, chunk.clone(), true, &read);
            EventReader::new(response, 100 * MEGABYTE, StreamPosition::default(), &budget)
        })
        .collect();
    let ends = futures_util::future::join_all(readers.iter_mut().map(EventReader::next));
    let mut ends = Box::pin(ends);
    assert!(timeout(Duration::from_secs(4), &mut ends).await.is_err());
    let kept = *read.lock().unwrap();
    assert!(kept <= POOL + 10 * 3 * chunk.len(), "{kept} bytes are kept");
    // While others wait, one that is silent gives way, and whoever waits for its message is told so. Those that are
    // left at last, when nobody waits any more, are given up after a minute.
    let ends = timeout(Duration::from_secs(3600), ends).await.expect("they wait for ever");
    let stalled = ends.iter().filter(|end| match end {
        Ok(Some(StreamItem::Lost(message))) => {
            assert_eq!((message.id.clone(), message.request, message.why), (Some(Id::number(7)), false, Lost::Stalled));
            true
        }
        Err(reason) => {
            assert!(reason.contains("60 seconds"), "{reason}");
            false
        }
        other => panic!("{other:?}"),
    });
    assert!((1..10).contains(&stalled.count()));
}

#[tokio::test(start_paused = true)]
async fn a_stream_may_be_silent_between_its_events() {
    let read = Arc::default();
    let response = response(1, Bytes::from_static(b"data: {}\n\ndata: {"), true, &read);
    let mut reader = EventReader::new(response, MEGABYTE, StreamPosition::default(), &Budget::ample());
    assert!(reader.next().await.unwrap().is_some());
    assert!(timeout(Duration::from_secs(3600), reader.next()).await.is_err(), "it is still open");
}

/// A call with an argument of so many bytes.
fn long_call(number: u64, size: usize) -> String {
    call(number).replace(r#""name":"t""#, &format!(r#""name":"t","arguments":{{"a":"{}"}}"#, "x".repeat(size)))
}

#[tokio::test]
async fn messages_that_wait_for_their_answer_are_not_all_kept() {
    const CALLS: u64 = 8;
    // Calls wait until all of them are there, and then are sent elsewhere.
    let (sender, _) = tokio::sync::watch::channel(0_u64);
    let server = ScriptedHttpServer::start(move |request: PeerRequest| {
        let arrived = sender.clone();
        async move {
            if request.kind() != "tools/call" || request.path == "/there" {
                return plain_response(&request);
            }
            arrived.send_modify(|arrived| *arrived += 1);
            arrived.subscribe().wait_for(|arrived| *arrived >= CALLS).await.unwrap();
            Response::builder().status(307).header("location", "/there").body(Body::empty()).unwrap()
        }
    })
    .await;
    let mut session = TestLink::start(HttpBackend::new(&server.url()).unwrap());
    session.open().await;
    for number in 2..2 + CALLS {
        session.send(Purpose::Request(number), long_call(number, 400_000));
    }
    let (mut sent, mut refused) = (0, 0);
    for _ in 0..CALLS {
        match session.receive().await {
            Delivery::Message { .. } => sent += 1,
            Delivery::Failed(_, RequestFailure::Refused { status: 307, reason }) => {
                assert!(reason.contains("too long") && reason.contains("/there"), "{reason}");
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((sent, refused), (2, CALLS - 2), "there is room for two of them");
    // Their room is given back.
    session.send(Purpose::Request(100), long_call(100, 400_000));
    session.answer(100).await;
}

/// A server that repeats what it is sent, with this status.
async fn echo(code: u16) -> ScriptedHttpServer {
    ScriptedHttpServer::start(move |request: PeerRequest| async move {
        if matches!(request.kind().as_str(), "tools/call" | "notifications/n1") {
            let headers: Vec<_> =
                request.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
            let said = format!("{} {}", request.path, headers.join("\n"));
            let mut answer = text(code, "text/plain", said.clone());
            let challenge = format!("Bearer realm=\"{}\"", said.replace(['\n', '"'], " "));
            answer.headers_mut().insert("www-authenticate", challenge.parse().unwrap());
            return answer;
        }
        if request.kind() == "initialize" {
            let mut answer = initialize_response();
            answer.headers_mut().insert("mcp-session-id", "session0secret".parse().unwrap());
            return answer;
        }
        plain_response(&request)
    })
    .await
}

const SECRETS: [&str; 7] = [
    "clientsecret42",
    "cookiesecret999",
    "secret1dark",
    "tokensecret7",
    "session0secret",
    "querysecret777",
    "dXNlcjpi",
];

fn secretive(server: &ScriptedHttpServer) -> HttpBackend {
    HttpBackend::new(&format!("{}?k=querysecret777", server.url()))
        .and_then(|backend| backend.header("Cookie", "sid=cookiesecret999; theme=secret1dark"))
        .and_then(|backend| backend.forward_header("x-tenant"))
        .unwrap()
}

#[tokio::test]
async fn what_a_server_repeats_is_not_shown() {
    for code in [200, 400, 500] {
        let server = echo(code).await;
        for backend in [
            secretive(&server).bearer("tokensecret7").unwrap(),
            secretive(&server).header("authorization", "Basic dXNlcjpiYXNpY3Bhc3N3b3Jk").unwrap(),
        ] {
            let mut session = TestLink::start(backend);
            session.open().await;
            session.call_with(2, &[("x-tenant", "Bearer clientsecret42")]);
            let (_, failure) = session.failure().await;
            let said = format!("{failure:?}");
            assert!(said.contains("x-tenant") || said.contains("mcp-session-id") || said.contains("***"), "{said}");
            for secret in SECRETS {
                assert!(!said.contains(secret), "{secret}: {said}");
            }
            let seen = server.wait_for("tools/call", 1).await;
            let sent = format!("{:?} {}", seen.last().unwrap().headers, seen.last().unwrap().path);
            assert!(sent.contains("cookiesecret999") && sent.contains("session0secret"), "it was sent: {sent}");
        }
    }
}

#[tokio::test]
async fn challenges_hold_no_secrets_and_are_short() {
    let server = echo(401).await;
    let mut session = TestLink::start(secretive(&server));
    session.open().await;
    session.call_with(2, &[("x-tenant", "Bearer clientsecret42")]);
    match session.failure().await {
        (2, RequestFailure::Unauthorized { challenge: Some(challenge), whose: CredentialsOwner::Operator, .. }) => {
            assert!(challenge.starts_with("Bearer realm=") && challenge.contains("***"), "{challenge}");
            for secret in SECRETS {
                assert!(!challenge.contains(secret), "{secret}: {challenge}");
            }
        }
        other => panic!("{other:?}"),
    }

    let server = ScriptedHttpServer::start(async |_| {
        let mut answer = status(401);
        for size in [10_000, 900, 900, 900, 10] {
            let value = format!("Bearer realm=\"{}\"", "r".repeat(size));
            answer.headers_mut().append("www-authenticate", value.parse().unwrap());
        }
        answer
    })
    .await;
    let mut session = TestLink::start(HttpBackend::new(&server.url()).unwrap());
    session.initialize();
    match session.failure().await {
        (1, RequestFailure::Unauthorized { challenge: Some(challenge), .. }) => {
            let realm = |size| format!("Bearer realm=\"{}\"", "r".repeat(size));
            assert_eq!(challenge, [realm(900), realm(900), realm(10)].join(", "), "those that fit, as they are");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_long_redirect_is_not_shown_whole() {
    let server = ScriptedHttpServer::start(async |_| {
        let to = format!("http://elsewhere.test/{}", "long/".repeat(14_000));
        Response::builder().status(307).header("location", to).body(Body::empty()).unwrap()
    })
    .await;
    let mut session = TestLink::start(HttpBackend::new(&server.url()).unwrap());
    session.initialize();
    match session.failure().await {
        (1, RequestFailure::Refused { status: 307, reason }) => {
            assert!(reason.contains("http://elsewhere.test/long/") && reason.len() < 600, "{} bytes", reason.len());
        }
        other => panic!("{other:?}"),
    }
}
