//! Streams that break, and are taken up again.

use tokio::time::Instant;

use super::*;
use crate::backend::http::{HttpBackend, Transport};

const TOLD: &str = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;

/// A server that answers calls and GETs in turn with what is there for them.
async fn scripted(calls: Vec<Answer>, gets: Vec<Answer>) -> (Server, Session) {
    let scripts = Arc::new(Mutex::new((calls.into_iter(), gets.into_iter())));
    let server = Server::start(move |request| {
        let scripts = scripts.clone();
        async move {
            let (calls, gets) = &mut *scripts.lock().unwrap();
            match request.what().as_str() {
                "POST tools/call" => calls.next().unwrap_or_else(|| status(500)),
                "GET" => gets.next().unwrap_or_else(silence),
                _ => plainly(&request),
            }
        }
    })
    .await;
    let session = Session::start(HttpBackend::new(&server.url()).unwrap().transport(Transport::Http));
    (server, session)
}

fn answered(number: u64) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{number},"result":{{}}}}"#)
}

#[tokio::test]
async fn the_stream_of_a_call_is_resumed_where_it_broke() {
    let calls = vec![cut(&format!("id: a\nretry: 60\ndata:\n\nid: b\ndata: {TOLD}\n\nid: c\ndata: half"))];
    let gets =
        vec![events(format!("id: d\ndata: {TOLD}\n\n")), status(503), events(format!("data: {}\n\n", answered(2)))];
    let (server, mut session) = scripted(calls, gets).await;
    session.initialize();
    session.answer(1).await;
    let begun = Instant::now();
    session.call(2);
    assert_eq!(session.hear().await, message(TOLD, Some(2)));
    assert_eq!(session.hear().await, message(TOLD, Some(2)));
    assert_eq!(session.hear().await, message(&answered(2), Some(2)));
    assert!(begun.elapsed() >= Duration::from_millis(120), "the server's `retry` counts");
    let gets = server.saw("GET", 3).await;
    assert_eq!(gets.iter().map(|get| get.header("last-event-id").unwrap()).collect::<Vec<_>>(), ["b", "d", "d"]);
    assert!(gets.iter().all(|get| get.header("mcp-session-id") == Some("s-1")));
    assert_eq!(session.stop().await, []);
    assert_eq!(server.saw("POST tools/call", 1).await.len(), 1, "a call is sent once");
}

#[tokio::test]
async fn a_priming_event_is_enough() {
    let calls = vec![events("retry: 50\nid: p\ndata: \n\n")];
    let (server, mut session) = scripted(calls, vec![events(format!("data: {}\n\n", answered(2)))]).await;
    session.initialize();
    session.answer(1).await;
    session.call(2);
    assert_eq!(session.hear().await, message(&answered(2), Some(2)));
    assert_eq!(server.saw("GET", 1).await[0].header("last-event-id"), Some("p"));
}

#[tokio::test]
async fn a_stream_without_a_place_to_go_on_is_broken() {
    let (server, mut session) = scripted(vec![events(format!("data: {TOLD}\n\n")), cut("")], vec![]).await;
    session.initialize();
    session.answer(1).await;
    session.call(2);
    assert_eq!(session.hear().await, message(TOLD, Some(2)));
    assert!(matches!(session.failure().await, (2, CallFailure::Broken { .. })));
    session.call(3);
    assert!(matches!(session.failure().await, (3, CallFailure::Broken { .. })));
    assert_eq!(session.stop().await, []);
    assert!(!server.whats().contains(&"GET".to_owned()));
}

#[tokio::test]
async fn a_server_that_does_not_resume_says_so() {
    for (code, lost) in [(405, false), (400, false), (404, true)] {
        let (_server, mut session) =
            scripted(vec![events("retry: 50\nid: p\n\n")], vec![text(code, "text/plain", "no")]).await;
        session.initialize();
        session.answer(1).await;
        session.call(2);
        match session.hear().await {
            Heard::Failed(2, CallFailure::Broken { reason }) => {
                assert!(!lost && reason.contains(&code.to_string()), "{reason}");
            }
            Heard::Closed(LinkExit::Lost { .. }) => assert!(lost, "{code}"),
            other => panic!("{code}: {other:?}"),
        }
    }
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
        Heard::Failed(2, CallFailure::Broken { reason }) => {
            assert!(reason.contains("could not be resumed"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(server.saw("GET", 8).await.len(), 8);
}

#[tokio::test]
async fn the_servers_own_stream_is_opened_again() {
    let gets = vec![
        events(format!("retry: 50\n\nid: 1\ndata: {TOLD}\n\n")),
        cut("id: 2\ndata: half"),
        status(502),
        events(format!("id: 3\ndata: {TOLD}\n\n")),
    ];
    let (server, mut session) = scripted(vec![], gets).await;
    session.open().await;
    assert_eq!(session.hear().await, message(TOLD, None));
    assert_eq!(session.hear().await, message(TOLD, None));
    let gets = server.saw("GET", 5).await;
    let places: Vec<_> = gets.iter().map(|get| get.header("last-event-id")).collect();
    assert_eq!(places, [None, Some("1"), Some("1"), Some("1"), Some("3")]);
    assert_eq!(session.stop().await, [], "nothing is heard twice");
}

#[tokio::test]
async fn a_place_that_the_server_does_not_know_is_given_up_and_the_stream_is_not() {
    let gets = vec![events("retry: 50\nid: 1\n\n"), status(400)];
    let (server, mut session) = scripted(vec![], gets).await;
    session.open().await;
    let gets = server.saw("GET", 3).await;
    assert_eq!(gets.iter().map(|get| get.header("last-event-id")).collect::<Vec<_>>(), [None, Some("1"), None]);
}

#[tokio::test]
async fn a_server_without_a_stream_is_asked_once() {
    let (server, mut session) = scripted(vec![], vec![status(405)]).await;
    session.open().await;
    server.saw("GET", 1).await;
    sleep(Duration::from_millis(1500)).await;
    session.initialized();
    server.saw("POST notifications/initialized", 2).await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(server.saw("GET", 2).await.len(), 2, "once each time that the client is ready");
}
