//! How calls fail, and what they say then.

use super::*;
use crate::backend::http::HttpBackend;

#[tokio::test]
async fn a_refusal_in_json_rpc_is_the_answer() {
    let error = r#""error":{"code":-32000,"message":"no","data":{"a":1.0}}"#;
    for id in ["", r#","id":null"#, r#","id":2"#, r#","id":"server-error""#] {
        let (_server, mut session) =
            with_calls(move |_| text(400, "application/json", format!(r#"{{"jsonrpc":"2.0",{error}{id}}}"#))).await;
        session.call(2);
        let answer = session.answer(2).await;
        assert!(answer.contains(error), "{answer}");
        assert_eq!(session.stop().await, []);
    }
}

#[tokio::test]
async fn other_refusals_say_what_the_server_said() {
    let (_server, mut session) = with_calls(|_| text(503, "text/html", "<h1>\n overloaded\u{1b}[1m </h1>")).await;
    session.call(2);
    assert_eq!(
        session.failure().await,
        (2, RequestFailure::Refused { status: 503, reason: "<h1> overloaded [1m </h1>".to_owned() })
    );
    assert_eq!(session.stop().await, []);
}

#[tokio::test]
async fn what_is_no_answer_is_said_to_be_none() {
    let bad = |failure: (u64, RequestFailure), word: &str| match failure {
        (2, RequestFailure::BadAnswer { reason }) => assert!(reason.contains(word), "{reason}"),
        other => panic!("{other:?}"),
    };
    let (_server, mut session) = with_calls(|_| status(202)).await;
    session.call(2);
    bad(session.failure().await, "202");
    let (_server, mut session) = with_calls(|_| text(200, "text/html", "<p>Log in")).await;
    session.call(2);
    bad(session.failure().await, "<p>Log in");
    let (_server, mut session) = with_calls(|_| json("nonsense")).await;
    session.call(2);
    assert_eq!(session.receive().await, Delivery::Bad { on: Some(2) });
    bad(session.failure().await, "at byte 1");
    let (_server, mut session) = with_calls(|_| json("")).await;
    session.call(2);
    assert!(matches!(session.failure().await, (2, RequestFailure::Broken { .. })), "it may have been cut off");
    let (_server, mut session) = with_calls(|_| json(r#"{"jsonrpc":"2.0","id":3,"result":{}}"#)).await;
    session.call(2);
    assert_eq!(session.receive().await, message(r#"{"jsonrpc":"2.0","id":3,"result":{}}"#, Some(2)));
    bad(session.failure().await, "no answer");
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://user:pa55word@{}/mcp?key=s3cret", listener.local_addr().unwrap());
    drop(listener);
    let mut session = TestLink::start(HttpBackend::new(&url).unwrap());
    session.initialize();
    match session.failure().await {
        (1, RequestFailure::Unreachable { reason }) => {
            assert!(reason.contains("/mcp: ") && reason.contains("refused"), "{reason}");
            assert!(!reason.contains("pa55word") && !reason.contains("s3cret"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(session.stop().await, []);
}

#[tokio::test]
async fn a_client_may_try_again_when_the_server_has_come() {
    let (listener, origin) = ScriptedHttpServer::listen().await;
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut session = TestLink::start(HttpBackend::new(&format!("{origin}/mcp")).unwrap());
    session.initialize();
    session.failure().await;
    let listener = TcpListener::bind(address).await.unwrap();
    let _server = ScriptedHttpServer::on(listener, origin, async |request| plain_response(&request));
    session.open().await;
    session.stop().await;
}

#[tokio::test]
async fn a_server_that_accepts_no_connection_is_given_up() {
    // A full backlog: connections wait for ever.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = socket2::SockRef::from(&listener);
    socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let _full: Vec<_> = (0..8)
        .map(|_| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address.into());
            socket
        })
        .collect();
    let backend = HttpBackend::new(&format!("http://{address}/mcp")).unwrap();
    let mut session = TestLink::start(backend.connect_timeout(Duration::from_millis(300)));
    session.initialize();
    assert!(matches!(session.failure().await, (1, RequestFailure::Unreachable { .. })));
}

#[tokio::test]
async fn an_answer_cut_at_any_byte_is_broken_and_never_asked_for_again() {
    let body = r#"{"jsonrpc":"2.0","id":2,"result":{}}"#;
    let length = body.len();
    let forms = [
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"),
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{body}"),
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {body}\n\n"),
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\ndata: {body}\n\n\r\n0\r\n\r\n",
            length + 8
        ),
    ];
    for whole in forms {
        // Behind these bytes the answer is there, even if the end is not.
        let enough = if whole.contains("event-stream") { whole.find("}}").unwrap() + 4 } else { whole.len() };
        for cut in 0..=whole.len() {
            let mut server = ScriptedHttpServer::open().await;
            let mut session = TestLink::start(HttpBackend::new(&server.url()).unwrap());
            session.initialize();
            server.hears("initialize").await.answers(INITIALIZE_RESPONSE).await;
            session.answer(1).await;
            session.call(2);
            let mut call = server.hears("tools/call").await;
            call.says(&whole[..cut]).await;
            drop(call);
            match session.receive().await {
                Delivery::Message { text, .. } => assert!(text == body && cut >= enough, "{cut} of {whole:?}"),
                Delivery::Failed(2, RequestFailure::Broken { .. }) => assert!(cut < enough, "{cut} of {whole:?}"),
                other => panic!("{cut} of {whole:?}: {other:?}"),
            }
            assert_eq!(session.stop().await, [], "{cut} of {whole:?}");
        }
    }
}

/// A server that asks on the stream of each call, and takes answers in turn with these statuses.
async fn asking(statuses: Vec<u16>) -> (ScriptedHttpServer, TestLink, mpsc::Sender<String>) {
    let (said, stream) = live();
    let stream = Arc::new(Mutex::new(Some(stream)));
    let statuses = Arc::new(Mutex::new(statuses.into_iter()));
    let server = ScriptedHttpServer::start(move |request| {
        let (stream, statuses) = (stream.clone(), statuses.clone());
        async move {
            match request.kind().as_str() {
                "tools/call" => stream.lock().unwrap().take().unwrap_or_else(silence),
                "answer" => status(statuses.lock().unwrap().next().unwrap_or(202)),
                _ => plain_response(&request),
            }
        }
    })
    .await;
    let mut session = TestLink::start(http(&server));
    session.open().await;
    session.call(2);
    let server_request = r#"{"jsonrpc":"2.0","id":"q-1","method":"roots/list"}"#;
    said.send(format!("data: {server_request}\n\n")).await.unwrap();
    assert_eq!(session.receive().await, message(server_request, Some(2)));
    session.call(3);
    session.send(Purpose::Response, r#"{"jsonrpc":"2.0","id":"q-1","result":{"roots":[]}}"#.to_owned());
    (server, session, said)
}

#[tokio::test]
async fn an_answer_is_sent_again_to_a_server_that_is_busy() {
    let (server, mut session, said) = asking(vec![503, 429]).await;
    let answers = server.wait_for("answer", 3).await;
    assert!(answers.iter().all(|answer| answer.body == answers[0].body));
    let result = r#"{"jsonrpc":"2.0","id":2,"result":{}}"#;
    said.send(format!("data: {result}\n\n")).await.unwrap();
    assert_eq!(session.answer(2).await, result);
    assert_eq!(session.stop().await, []);
    assert_eq!(server.wait_for("answer", 3).await.len(), 3);
}

#[tokio::test]
async fn a_call_fails_whose_server_request_cannot_be_answered() {
    for (statuses, tries) in [(&[500][..], 1), (&[503; 9], 5)] {
        let (server, mut session, said) = asking(statuses.to_vec()).await;
        match session.failure().await {
            (2, RequestFailure::Broken { reason }) => {
                assert!(
                    reason.contains("a request that it made") && reason.contains(&statuses[0].to_string()),
                    "{reason}"
                );
            }
            other => panic!("{other:?}"),
        }
        timeout(WAIT_LIMIT, said.closed()).await.expect("its stream is closed");
        assert_eq!(server.wait_for("answer", tries).await.len(), tries);
        assert_eq!(session.stop().await, [], "the other call goes on");
    }
}
