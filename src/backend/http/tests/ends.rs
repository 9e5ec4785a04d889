//! How links end, and what is left on the server then.

use super::*;

#[tokio::test]
async fn a_session_that_the_server_forgot_is_lost_once() {
    let (server, mut session) = with_calls(|_| {
        text(
            404,
            "application/json",
            r#"{"jsonrpc":"2.0","error":{"code":-32001,"message":"TestLink not found"},"id":null}"#,
        )
    })
    .await;
    session.call(2);
    session.call(3);
    let heard = session.rest().await;
    assert!(matches!(&heard[..], [Delivery::Closed(LinkExit::Lost { reason })] if reason.contains("404")), "{heard:?}");
    timeout(WAIT_LIMIT, &mut session.link).await.unwrap().unwrap();
    assert!(!server.kinds().contains(&"DELETE".to_owned()), "there is nothing to be deleted");
}

#[tokio::test]
async fn a_notification_finds_out_as_well() {
    let server = ScriptedHttpServer::start(async |request| match request.kind().as_str() {
        "notifications/n0" => status(404),
        _ => plain_response(&request),
    })
    .await;
    let mut session = TestLink::start(http(&server));
    session.open().await;
    session.notification(0);
    assert!(matches!(&session.rest().await[..], [Delivery::Closed(LinkExit::Lost { .. })]));
}

#[tokio::test]
async fn a_link_that_is_dropped_leaves_no_task_behind() {
    let (said, answer) = live();
    let answer = Arc::new(Mutex::new(Some(answer)));
    let server = ScriptedHttpServer::start(move |request| {
        let answer = answer.clone();
        async move {
            match request.kind().as_str() {
                "GET" => silence(),
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
    session.link.abort();
    timeout(WAIT_LIMIT, said.closed()).await.expect("the call's stream is closed");
    assert!(session.rest().await.is_empty());
}

#[tokio::test]
async fn a_session_that_is_given_up_during_its_handshake_is_deleted() {
    let server = ScriptedHttpServer::start(async |request| {
        if request.kind() == "initialize" {
            sleep(Duration::from_millis(300)).await;
        }
        plain_response(&request)
    })
    .await;
    let session = TestLink::start(http(&server));
    session.initialize();
    server.wait_for("initialize", 1).await;
    session.stop().await;
    let deleted = server.wait_for("DELETE", 1).await;
    assert_eq!(deleted[0].header("mcp-session-id"), Some("s-1"));
}

#[tokio::test]
async fn an_end_is_not_held_up_by_a_server_that_hangs() {
    let server = ScriptedHttpServer::start(async |request| {
        if request.kind() == "DELETE" {
            std::future::pending::<()>().await;
        }
        plain_response(&request)
    })
    .await;
    let mut session = TestLink::start(http(&server));
    session.open().await;
    let begun = tokio::time::Instant::now();
    session.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_404_that_answers_the_call_is_no_lost_session() {
    let error = |code: i32, id: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"Method not found"}}}}"#)
    };
    let (_server, mut session) = with_calls(move |_| text(404, "application/json", error(-32601, "2"))).await;
    session.call(2);
    assert_eq!(session.answer(2).await, error(-32601, "2"));
    assert_eq!(session.stop().await, []);
    for body in [
        String::new(),
        "<p>Not found".to_owned(),
        error(-32601, "null"),
        error(-32601, "3"),
        error(-32001, "2"),
        error(-32000, "2"),
        r#"{"jsonrpc":"2.0","id":2,"result":{}}"#.to_owned(),
    ] {
        let said = body.clone();
        let (_server, mut session) = with_calls(move |_| text(404, "application/json", said.clone())).await;
        session.call(2);
        let heard = session.rest().await;
        assert!(matches!(&heard[..], [Delivery::Closed(LinkExit::Lost { .. })]), "{body}: {heard:?}");
    }
}

#[tokio::test]
async fn a_session_that_opens_after_its_link_has_ended_is_deleted() {
    let server = ScriptedHttpServer::start(async |request| {
        if request.kind() == "initialize" {
            sleep(Duration::from_secs(4)).await;
        }
        plain_response(&request)
    })
    .await;
    let mut session = TestLink::start(http(&server));
    session.initialize();
    server.wait_for("initialize", 1).await;
    let begun = tokio::time::Instant::now();
    session.stop.cancel();
    timeout(WAIT_LIMIT, &mut session.link).await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_millis(3500), "the end is not held up by it");
    assert!(!server.kinds().contains(&"DELETE".to_owned()));
    let deleted = server.wait_for("DELETE", 1).await;
    assert_eq!(deleted[0].header("mcp-session-id"), Some("s-1"));
    sleep(Duration::from_millis(100)).await;
    assert_eq!(server.wait_for("DELETE", 1).await.len(), 1, "once");
}

#[tokio::test]
async fn a_session_that_a_failed_handshake_opened_is_deleted() {
    let tries = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let server = ScriptedHttpServer::start(move |request| {
        let tries = tries.clone();
        async move {
            if request.kind() == "initialize" && tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 {
                let mut answer = json(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no"}}"#);
                answer.headers_mut().insert("mcp-session-id", "s-0".parse().unwrap());
                return answer;
            }
            plain_response(&request)
        }
    })
    .await;
    let mut session = TestLink::start(http(&server));
    session.initialize();
    session.answer(1).await;
    session.open().await;
    session.stop().await;
    let deleted = server.wait_for("DELETE", 2).await;
    let sessions: Vec<_> = deleted.iter().map(|delete| delete.header("mcp-session-id")).collect();
    assert_eq!(sessions, [Some("s-0"), Some("s-1")]);
    let second = server.wait_for("initialize", 2).await;
    assert_eq!(second[1].header("mcp-session-id"), None);
}

/// There is never memory for what asks or tells something.
struct FullInlet(RecordedEvents, Budget);

impl LinkEvents for FullInlet {
    fn budget(&self) -> &Budget {
        &self.1
    }

    fn answers(&self) -> &Budget {
        self.0.answers()
    }

    fn deliver(&self, frames: Result<Incoming, FrameError>, permit: Option<Permit>, on: Option<u64>) {
        self.0.deliver(frames, permit, on);
    }

    fn failed(&self, call: u64, failure: RequestFailure) {
        self.0.failed(call, failure);
    }

    fn lost(&self, message: LostMessage, permit: Permit) {
        self.0.lost(message, permit);
    }

    fn started(&self, pid: u32) {
        self.0.started(pid);
    }

    fn closed(&self, exit: LinkExit) {
        self.0.closed(exit);
    }
}

#[tokio::test]
async fn what_stands_behind_an_answer_does_not_keep_its_stream() {
    let (said, stream) = live();
    let stream = Arc::new(Mutex::new(Some(stream)));
    let server = ScriptedHttpServer::start(move |request| {
        let stream = stream.clone();
        async move {
            match request.kind().as_str() {
                "tools/call" => stream.lock().unwrap().take().unwrap(),
                _ => plain_response(&request),
            }
        }
    })
    .await;
    let (budget, _permit) = Budget::full().await;
    let mut session = TestLink::start_with(http(&server), |ear| Arc::new(FullInlet(ear, budget)));
    session.open().await;
    session.call(2);
    let told = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
    said.send(format!("data: {{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{{}}}}\n\ndata: {told}\n\n")).await.unwrap();
    session.answer(2).await;
    timeout(Duration::from_secs(5), said.closed()).await.expect("the stream is given up");
    assert_eq!(session.stop().await, []);
}
