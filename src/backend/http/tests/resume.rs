//! Streams that break, and are taken up again.

use tokio::time::Instant;

use super::*;
use crate::backend::http::{HttpBackend, Transport};

const NOTIFICATION: &str = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;

/// A server that answers calls and GETs in turn with what is there for them.
async fn scripted(calls: Vec<PeerResponse>, gets: Vec<PeerResponse>) -> (ScriptedHttpServer, TestLink) {
    let scripts = Arc::new(Mutex::new((calls.into_iter(), gets.into_iter())));
    let server = ScriptedHttpServer::start(move |request| {
        let scripts = scripts.clone();
        async move {
            let (calls, gets) = &mut *scripts.lock().unwrap();
            match request.kind().as_str() {
                "tools/call" => calls.next().unwrap_or_else(|| status(500)),
                "GET" => gets.next().unwrap_or_else(silence),
                _ => plain_response(&request),
            }
        }
    })
    .await;
    let session = TestLink::start(HttpBackend::new(&server.url()).unwrap().transport(Transport::Http));
    (server, session)
}

fn answered(number: u64) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{number},"result":{{}}}}"#)
}

#[tokio::test]
async fn the_stream_of_a_call_is_resumed_where_it_broke() {
    let calls = vec![cut(&format!("id: a\nretry: 60\ndata:\n\nid: b\ndata: {NOTIFICATION}\n\nid: c\ndata: half"))];
    let gets = vec![
        events(format!("id: d\ndata: {NOTIFICATION}\n\n")),
        status(503),
        events(format!("data: {}\n\n", answered(2))),
    ];
    let (server, mut session) = scripted(calls, gets).await;
    session.initialize();
    session.answer(1).await;
    let begun = Instant::now();
    session.call(2);
    assert_eq!(session.receive().await, message(NOTIFICATION, Some(2)));
    assert_eq!(session.receive().await, message(NOTIFICATION, Some(2)));
    assert_eq!(session.receive().await, message(&answered(2), Some(2)));
    assert!(begun.elapsed() >= Duration::from_millis(120), "the server's `retry` counts");
    let gets = server.wait_for("GET", 3).await;
    assert_eq!(gets.iter().map(|get| get.header("last-event-id").unwrap()).collect::<Vec<_>>(), ["b", "d", "d"]);
    assert!(gets.iter().all(|get| get.header("mcp-session-id") == Some("s-1")));
    assert_eq!(session.stop().await, []);
    assert_eq!(server.wait_for("tools/call", 1).await.len(), 1, "a call is sent once");
}

#[tokio::test]
async fn a_priming_event_is_enough() {
    let calls = vec![events("retry: 50\nid: p\ndata: \n\n")];
    let (server, mut session) = scripted(calls, vec![events(format!("data: {}\n\n", answered(2)))]).await;
    session.initialize();
    session.answer(1).await;
    session.call(2);
    assert_eq!(session.receive().await, message(&answered(2), Some(2)));
    assert_eq!(server.wait_for("GET", 1).await[0].header("last-event-id"), Some("p"));
}

#[tokio::test]
async fn a_stream_without_a_place_to_go_on_is_broken() {
    let (server, mut session) = scripted(vec![events(format!("data: {NOTIFICATION}\n\n")), cut("")], vec![]).await;
    session.initialize();
    session.answer(1).await;
    session.call(2);
    assert_eq!(session.receive().await, message(NOTIFICATION, Some(2)));
    assert!(matches!(session.failure().await, (2, RequestFailure::Broken { .. })));
    session.call(3);
    assert!(matches!(session.failure().await, (3, RequestFailure::Broken { .. })));
    assert_eq!(session.stop().await, []);
    assert!(!server.kinds().contains(&"GET".to_owned()));
}

#[tokio::test]
async fn a_server_that_does_not_resume_says_so() {
    for code in [405, 400, 404] {
        let (_server, mut session) =
            scripted(vec![events("retry: 50\nid: p\n\n")], vec![text(code, "text/plain", "no")]).await;
        session.initialize();
        session.answer(1).await;
        session.call(2);
        match session.receive().await {
            Delivery::Failed(2, RequestFailure::Broken { reason }) => {
                assert!(reason.contains(&code.to_string()), "{reason}");
            }
            other => panic!("{code}: {other:?}"),
        }
        assert_eq!(session.stop().await, [], "the session goes on: the server knows it");
    }
}

/// A server that answers each GET with what is left there for it, else 404, and a ping with this status.
async fn forgetful(gets: Vec<PeerResponse>, ping: u16) -> (ScriptedHttpServer, TestLink) {
    let gets = Arc::new(Mutex::new(gets.into_iter()));
    let server = ScriptedHttpServer::start(move |request| {
        let gets = gets.clone();
        async move {
            match request.kind().as_str() {
                "tools/call" => events("retry: 50\nid: p\n\n"),
                "ping" => status(ping),
                "GET" => gets.lock().unwrap().next().unwrap_or_else(|| text(404, "text/html", "<p>Cannot GET /mcp")),
                _ => plain_response(&request),
            }
        }
    })
    .await;
    let session = TestLink::start(HttpBackend::new(&server.url()).unwrap().transport(Transport::Http));
    (server, session)
}

#[tokio::test]
async fn a_session_is_lost_with_a_stream_if_a_message_is_not_known_either() {
    let (_server, mut session) = forgetful(vec![], 404).await;
    session.initialize();
    session.answer(1).await;
    session.call(2);
    assert!(matches!(&session.rest().await[..], [Delivery::Closed(LinkExit::Lost { .. })]));

    let (server, mut session) = forgetful(vec![events("retry: 50\nid: 1\n\n")], 404).await;
    session.open().await;
    assert!(matches!(&session.rest().await[..], [Delivery::Closed(LinkExit::Lost { .. })]));
    let gets = server.wait_for("GET", 3).await;
    assert_eq!(gets.iter().map(|get| get.header("last-event-id")).collect::<Vec<_>>(), [None, Some("1"), None]);
}

#[tokio::test]
async fn a_session_outlives_its_stream() {
    for gets in [vec![], vec![events("retry: 50\nid: 1\n\n")]] {
        let had = gets.len();
        let (server, mut session) = forgetful(gets, 200).await;
        session.open().await;
        // What had a stream is asked for another, and then whether it knows the session.
        server.wait_for("GET", 1 + 2 * had).await;
        server.wait_for("ping", had).await;
        sleep(Duration::from_millis(300)).await;
        session.send(Purpose::Request(3), r#"{"jsonrpc":"2.0","id":3,"method":"prompts/list"}"#.to_owned());
        session.answer(3).await;
        assert_eq!(server.wait_for("ping", had).await.len(), had);
        assert_eq!(session.stop().await, []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_repeats_itself_is_not_asked_for_ever() {
    let gets = (0..1000).map(|_| events("id: p\nretry: 50\ndata: {}\n\n")).collect();
    let (server, mut session) = scripted(vec![events("id: p\nretry: 50\n\n")], gets).await;
    session.initialize();
    session.answer(1).await;
    session.call(2);
    let failure = loop {
        if let Ok(heard) = session.heard.try_recv() {
            break heard;
        }
        assert!(server.kinds().len() < 50, "there is no end to it");
        sleep(Duration::from_millis(500)).await;
    };
    assert!(matches!(failure, Delivery::Failed(2, RequestFailure::Broken { .. })), "{failure:?}");
}

#[tokio::test]
async fn a_server_that_lets_its_client_poll_is_not_asked_fast_for_ever() {
    let next = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let server = ScriptedHttpServer::start(move |request| {
        let id = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        async move {
            match request.kind().as_str() {
                "tools/call" | "GET" => events(format!("retry: 0\nid: {id}\n\n")),
                _ => plain_response(&request),
            }
        }
    })
    .await;
    let mut session = TestLink::start(HttpBackend::new(&server.url()).unwrap().transport(Transport::Http));
    session.initialize();
    session.answer(1).await;
    session.call(2);
    server.wait_for("GET", 4).await;
    sleep(Duration::from_millis(2500)).await;
    let gets = server.wait_for("GET", 6).await.len();
    assert!(gets < 14, "{gets}");
    assert_eq!(session.stop().await, [], "and the call goes on");
}

#[tokio::test(start_paused = true)]
async fn resuming_comes_to_an_end() {
    // With time paused every wait is over as soon as nothing else happens.
    let gets = (0..20).map(|_| status(503)).collect();
    let (server, mut session) = scripted(vec![events("id: p\n\n")], gets).await;
    session.initialize();
    session.answer(1).await;
    session.call(2);
    let failure = loop {
        if let Ok(heard) = session.heard.try_recv() {
            break heard;
        }
        sleep(Duration::from_millis(500)).await;
    };
    match failure {
        Delivery::Failed(2, RequestFailure::Broken { reason }) => {
            assert!(reason.contains("could not be resumed"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(server.wait_for("GET", 8).await.len(), 8);
}

#[tokio::test]
async fn the_servers_own_stream_is_opened_again() {
    let gets = vec![
        events(format!("retry: 50\n\nid: 1\ndata: {NOTIFICATION}\n\n")),
        cut("id: 2\ndata: half"),
        status(502),
        events(format!("id: 3\ndata: {NOTIFICATION}\n\n")),
    ];
    let (server, mut session) = scripted(vec![], gets).await;
    session.open().await;
    assert_eq!(session.receive().await, message(NOTIFICATION, Some(0)));
    assert_eq!(session.receive().await, message(NOTIFICATION, Some(0)));
    let gets = server.wait_for("GET", 5).await;
    let places: Vec<_> = gets.iter().map(|get| get.header("last-event-id")).collect();
    assert_eq!(places, [None, Some("1"), Some("1"), Some("1"), Some("3")]);
    assert_eq!(session.stop().await, [], "nothing is heard twice");
}

#[tokio::test]
async fn a_place_that_the_server_does_not_know_is_given_up_and_the_stream_is_not() {
    let gets = vec![events("retry: 50\nid: 1\n\n"), status(400)];
    let (server, mut session) = scripted(vec![], gets).await;
    session.open().await;
    let gets = server.wait_for("GET", 3).await;
    assert_eq!(gets.iter().map(|get| get.header("last-event-id")).collect::<Vec<_>>(), [None, Some("1"), None]);
}

#[tokio::test]
async fn a_server_without_a_stream_is_asked_once() {
    let (server, mut session) = scripted(vec![], vec![status(405)]).await;
    session.open().await;
    server.wait_for("GET", 1).await;
    sleep(Duration::from_millis(1500)).await;
    session.initialized();
    server.wait_for("notifications/initialized", 2).await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(server.wait_for("GET", 2).await.len(), 2, "once each time that the client is ready");
}
