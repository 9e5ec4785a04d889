//! Messages leave in the order in which they were said, and calls run side by side.

use tokio::time::Instant;

use super::*;

#[tokio::test]
async fn nothing_overtakes_the_handshake() {
    let server = ScriptedHttpServer::start(async |request| {
        if request.kind() == "initialize" {
            sleep(Duration::from_millis(200)).await;
        }
        plain_response(&request)
    })
    .await;
    let mut session = TestLink::start(http(&server));
    session.initialize();
    session.initialized();
    session.call(2);
    session.answer(1).await;
    session.answer(2).await;
    let calls = server.wait_for("tools/call", 1).await;
    assert_eq!(calls[0].header("mcp-session-id"), Some("s-1"));
    assert_eq!(server.kinds()[..2], ["initialize", "notifications/initialized"]);
}

#[tokio::test]
async fn the_next_message_waits_until_a_notification_was_accepted() {
    let accepted = Arc::new(Mutex::new(0));
    let server = ScriptedHttpServer::start(move |request| {
        let accepted = accepted.clone();
        async move {
            if let Some(number) = request.kind().strip_prefix("notifications/n") {
                assert_eq!(*accepted.lock().unwrap(), number.parse::<usize>().unwrap());
                sleep(Duration::from_millis(20)).await;
                *accepted.lock().unwrap() += 1;
            }
            plain_response(&request)
        }
    })
    .await;
    let mut session = TestLink::start(http(&server));
    session.open().await;
    for number in 0..5 {
        session.notification(number);
    }
    session.call(2);
    session.answer(2).await;
    let expected = ["0", "1", "2", "3", "4"].map(|number| format!("notifications/n{number}"));
    let whats = server.kinds();
    assert_eq!(whats[whats.len() - 6..whats.len() - 1], expected);
    assert_eq!(session.stop().await, []);
}

#[tokio::test]
async fn a_server_that_accepts_nothing_does_not_stop_the_rest() {
    let server = ScriptedHttpServer::start(async |request| {
        if request.kind() == "notifications/n0" {
            std::future::pending::<()>().await;
        }
        plain_response(&request)
    })
    .await;
    let mut session = TestLink::start(http(&server));
    session.open().await;
    let begun = Instant::now();
    session.notification(0);
    session.call(2);
    session.answer(2).await;
    let waited = begun.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(5)).contains(&waited), "{waited:?}");
}

#[tokio::test]
async fn calls_run_side_by_side() {
    let together = Arc::new(tokio::sync::Barrier::new(5));
    let server = ScriptedHttpServer::start(move |request| {
        let together = together.clone();
        async move {
            if request.kind() == "tools/call" {
                together.wait().await;
            }
            plain_response(&request)
        }
    })
    .await;
    let mut session = TestLink::start(http(&server));
    session.open().await;
    for number in 2..7 {
        session.call(number);
    }
    let mut answered = Vec::new();
    for _ in 2..7 {
        match session.receive().await {
            Delivery::Message { on, .. } => answered.push(on.unwrap()),
            other => panic!("{other:?}"),
        }
    }
    answered.sort_unstable();
    assert_eq!(answered, [2, 3, 4, 5, 6]);
    let begun: Vec<_> = server.wait_for("tools/call", 5).await.into_iter().map(|seen| seen.body).collect();
    assert_eq!(begun, (2..7).map(call).collect::<Vec<_>>(), "they left in order");
}

#[tokio::test]
async fn a_cancelled_call_is_given_up_after_the_server_was_told() {
    let (said, answer) = live();
    let answer = Arc::new(Mutex::new(Some(answer)));
    let server = ScriptedHttpServer::start(move |request| {
        let answer = answer.clone();
        async move {
            match request.kind().as_str() {
                "tools/call" => answer.lock().unwrap().take().unwrap(),
                _ => plain_response(&request),
            }
        }
    })
    .await;
    let mut session = TestLink::start(http(&server));
    session.open().await;
    session.call(2);
    server.wait_for("tools/call", 1).await;
    session.cancel(2);
    server.wait_for("notifications/cancelled", 1).await;
    assert!(!said.is_closed(), "what the server still has to say about it is heard");
    said.send("data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/last\"}\n\n".to_owned()).await.unwrap();
    assert_eq!(session.receive().await, message(r#"{"jsonrpc":"2.0","method":"notifications/last"}"#, Some(2)));
    timeout(Duration::from_secs(3), said.closed()).await.expect("then the stream is dropped");
    assert_eq!(session.stop().await, []);
}

#[tokio::test]
async fn the_stream_of_a_cancelled_call_is_not_taken_up_again() {
    let (said, answer) = live();
    let answer = Arc::new(Mutex::new(Some(answer)));
    let server = ScriptedHttpServer::start(move |request| {
        let answer = answer.clone();
        async move {
            match request.kind().as_str() {
                "tools/call" => answer.lock().unwrap().take().unwrap(),
                _ => plain_response(&request),
            }
        }
    })
    .await;
    let mut session = TestLink::start(http(&server));
    session.open().await;
    server.wait_for("GET", 1).await;
    session.call(2);
    said.send("id: 1\nretry: 50\ndata:\n\n".to_owned()).await.unwrap();
    server.wait_for("tools/call", 1).await;
    session.cancel(2);
    server.wait_for("notifications/cancelled", 1).await;
    drop(said);
    sleep(Duration::from_millis(300)).await;
    assert_eq!(session.stop().await, []);
    assert_eq!(server.wait_for("GET", 1).await.len(), 1);
}
