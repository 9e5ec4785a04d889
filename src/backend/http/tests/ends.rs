//! How calls fail, and how links end.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::backend::http::HttpBackend;

fn http(server: &Server) -> HttpBackend {
    HttpBackend::new(&server.url()).unwrap()
}

/// A session with a server that answers calls like this.
async fn with_calls(answer: impl Fn(&Seen) -> Answer + Clone + Send + Sync + 'static) -> (Server, Session) {
    let server = Server::start(move |request| {
        let answer = answer.clone();
        async move { if request.what() == "POST tools/call" { answer(&request) } else { plainly(&request) } }
    })
    .await;
    let mut session = Session::start(http(&server));
    session.open().await;
    (server, session)
}

#[tokio::test]
async fn a_session_that_the_server_forgot_is_lost_once() {
    let (server, mut session) = with_calls(|_| {
        text(
            404,
            "application/json",
            r#"{"jsonrpc":"2.0","error":{"code":-32001,"message":"Session not found"},"id":null}"#,
        )
    })
    .await;
    session.call(2);
    session.call(3);
    let heard = session.rest().await;
    assert!(matches!(&heard[..], [Heard::Closed(LinkExit::Lost { reason })] if reason.contains("404")), "{heard:?}");
    timeout(LONG, &mut session.link).await.unwrap().unwrap();
    assert!(!server.whats().contains(&"DELETE".to_owned()), "there is nothing to be deleted");
}

#[tokio::test]
async fn a_notification_finds_out_as_well() {
    let server = Server::start(async |request| match request.what().as_str() {
        "POST notifications/n0" => status(404),
        _ => plainly(&request),
    })
    .await;
    let mut session = Session::start(http(&server));
    session.open().await;
    session.notice(0);
    assert!(matches!(&session.rest().await[..], [Heard::Closed(LinkExit::Lost { .. })]));
}

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
        (2, CallFailure::Refused { status: 503, reason: "<h1> overloaded [1m </h1>".to_owned() })
    );
    assert_eq!(session.stop().await, []);
}

#[tokio::test]
async fn what_is_no_answer_is_said_to_be_none() {
    let bad = |failure: (u64, CallFailure), word: &str| match failure {
        (2, CallFailure::BadAnswer { reason }) => assert!(reason.contains(word), "{reason}"),
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
    assert_eq!(session.hear().await, Heard::Bad { on: Some(2) });
    bad(session.failure().await, "at byte 1");
    let (_server, mut session) = with_calls(|_| json("")).await;
    session.call(2);
    assert!(matches!(session.failure().await, (2, CallFailure::Broken { .. })), "it may have been cut off");
    let (_server, mut session) = with_calls(|_| json(r#"{"jsonrpc":"2.0","id":3,"result":{}}"#)).await;
    session.call(2);
    assert_eq!(session.hear().await, message(r#"{"jsonrpc":"2.0","id":3,"result":{}}"#, Some(2)));
    bad(session.failure().await, "no answer");
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://user:pa55word@{}/mcp?key=s3cret", listener.local_addr().unwrap());
    drop(listener);
    let mut session = Session::start(HttpBackend::new(&url).unwrap());
    session.initialize();
    match session.failure().await {
        (1, CallFailure::Unreachable { reason }) => {
            assert!(reason.contains("/mcp: ") && reason.contains("refused"), "{reason}");
            assert!(!reason.contains("pa55word") && !reason.contains("s3cret"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(session.stop().await, []);
}

#[tokio::test]
async fn a_client_may_try_again_when_the_server_has_come() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut session = Session::start(HttpBackend::new(&format!("http://{address}/mcp")).unwrap());
    session.initialize();
    session.failure().await;
    let listener = TcpListener::bind(address).await.unwrap();
    let router = router(Arc::default(), async |request| plainly(&request));
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    session.open().await;
    session.stop().await;
    serving.abort();
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
    let mut session = Session::start(backend.connect_timeout(Duration::from_millis(300)));
    session.initialize();
    assert!(matches!(session.failure().await, (1, CallFailure::Unreachable { .. })));
}

/// A server that says `bytes` to each POST of a call and then closes the connection, and is a plain one to anything else.
async fn raw(bytes: Vec<u8>) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let bytes = bytes.clone();
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"}}") && !request.starts_with(b"DELETE") && !request.starts_with(b"GET") {
                    if socket.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let request = String::from_utf8_lossy(&request).into_owned();
                let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n";
                let said = if request.contains("tools/call") {
                    bytes
                } else if request.contains("\"initialize\"") {
                    let length = WELCOME.len();
                    format!("{head}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{WELCOME}").into()
                } else {
                    format!("{head}content-length: 0\r\n\r\n").into()
                };
                let _ = socket.write_all(&said).await;
                let _ = socket.shutdown().await;
                // Until the peer has read it: a reset would take bytes with it.
                let _ = timeout(Duration::from_secs(5), socket.read_buf(&mut Vec::new())).await;
            });
        }
    });
    (address, serving)
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
            let (address, serving) = raw(whole.as_bytes()[..cut].to_vec()).await;
            let mut session = Session::start(HttpBackend::new(&format!("http://{address}/mcp")).unwrap());
            session.initialize();
            session.answer(1).await;
            session.call(2);
            match session.hear().await {
                Heard::Message { text, .. } => assert!(text == body && cut >= enough, "{cut} of {whole:?}"),
                Heard::Failed(2, CallFailure::Broken { .. }) => assert!(cut < enough, "{cut} of {whole:?}"),
                other => panic!("{cut} of {whole:?}: {other:?}"),
            }
            assert_eq!(session.stop().await, [], "{cut} of {whole:?}");
            serving.abort();
        }
    }
}

#[tokio::test]
async fn a_link_that_is_dropped_leaves_no_task_behind() {
    let (said, answer) = live();
    let answer = Arc::new(Mutex::new(Some(answer)));
    let server = Server::start(move |request| {
        let answer = answer.clone();
        async move {
            match request.what().as_str() {
                "GET" => silence(),
                "POST tools/call" => answer.lock().unwrap().take().unwrap(),
                _ => plainly(&request),
            }
        }
    })
    .await;
    let mut session = Session::start(http(&server));
    session.open().await;
    session.call(2);
    server.saw("POST tools/call", 1).await;
    session.link.abort();
    timeout(LONG, said.closed()).await.expect("the call's stream is closed");
    assert!(session.rest().await.is_empty());
}

#[tokio::test]
async fn a_session_that_is_given_up_during_its_handshake_is_deleted() {
    let server = Server::start(async |request| {
        if request.what() == "POST initialize" {
            sleep(Duration::from_millis(300)).await;
        }
        plainly(&request)
    })
    .await;
    let session = Session::start(http(&server));
    session.initialize();
    server.saw("POST initialize", 1).await;
    session.stop().await;
    let deleted = server.saw("DELETE", 1).await;
    assert_eq!(deleted[0].header("mcp-session-id"), Some("s-1"));
}

#[tokio::test]
async fn an_end_is_not_held_up_by_a_server_that_hangs() {
    let server = Server::start(async |request| {
        if request.what() == "DELETE" {
            std::future::pending::<()>().await;
        }
        plainly(&request)
    })
    .await;
    let mut session = Session::start(http(&server));
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
        assert!(matches!(&heard[..], [Heard::Closed(LinkExit::Lost { .. })]), "{body}: {heard:?}");
    }
}

#[tokio::test]
async fn a_session_that_opens_after_its_link_has_ended_is_deleted() {
    let server = Server::start(async |request| {
        if request.what() == "POST initialize" {
            sleep(Duration::from_secs(4)).await;
        }
        plainly(&request)
    })
    .await;
    let mut session = Session::start(http(&server));
    session.initialize();
    server.saw("POST initialize", 1).await;
    let begun = tokio::time::Instant::now();
    session.stop.cancel();
    timeout(LONG, &mut session.link).await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_millis(3500), "the end is not held up by it");
    assert!(!server.whats().contains(&"DELETE".to_owned()));
    let deleted = server.saw("DELETE", 1).await;
    assert_eq!(deleted[0].header("mcp-session-id"), Some("s-1"));
    sleep(Duration::from_millis(100)).await;
    assert_eq!(server.saw("DELETE", 1).await.len(), 1, "once");
}

#[tokio::test]
async fn a_session_that_a_failed_handshake_opened_is_deleted() {
    let tries = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let server = Server::start(move |request| {
        let tries = tries.clone();
        async move {
            if request.what() == "POST initialize" && tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 {
                let mut answer = json(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no"}}"#);
                answer.headers_mut().insert("mcp-session-id", "s-0".parse().unwrap());
                return answer;
            }
            plainly(&request)
        }
    })
    .await;
    let mut session = Session::start(http(&server));
    session.initialize();
    session.answer(1).await;
    session.open().await;
    session.stop().await;
    let deleted = server.saw("DELETE", 2).await;
    let sessions: Vec<_> = deleted.iter().map(|delete| delete.header("mcp-session-id")).collect();
    assert_eq!(sessions, [Some("s-0"), Some("s-1")]);
    let second = server.saw("POST initialize", 2).await;
    assert_eq!(second[1].header("mcp-session-id"), None);
}

/// A server that asks on the stream of each call, and takes answers in turn with these statuses.
async fn asking(statuses: Vec<u16>) -> (Server, Session, mpsc::Sender<String>) {
    let (said, stream) = live();
    let stream = Arc::new(Mutex::new(Some(stream)));
    let statuses = Arc::new(Mutex::new(statuses.into_iter()));
    let server = Server::start(move |request| {
        let (stream, statuses) = (stream.clone(), statuses.clone());
        async move {
            match request.what().as_str() {
                "POST tools/call" => stream.lock().unwrap().take().unwrap_or_else(silence),
                "POST answer" => status(statuses.lock().unwrap().next().unwrap_or(202)),
                _ => plainly(&request),
            }
        }
    })
    .await;
    let mut session = Session::start(http(&server));
    session.open().await;
    session.call(2);
    let question = r#"{"jsonrpc":"2.0","id":"q-1","method":"roots/list"}"#;
    said.send(format!("data: {question}\n\n")).await.unwrap();
    assert_eq!(session.hear().await, message(question, Some(2)));
    session.call(3);
    session.say(Purpose::Answer, r#"{"jsonrpc":"2.0","id":"q-1","result":{"roots":[]}}"#.to_owned());
    (server, session, said)
}

#[tokio::test]
async fn an_answer_is_sent_again_to_a_server_that_is_busy() {
    let (server, mut session, said) = asking(vec![503, 429]).await;
    let answers = server.saw("POST answer", 3).await;
    assert!(answers.iter().all(|answer| answer.body == answers[0].body));
    let result = r#"{"jsonrpc":"2.0","id":2,"result":{}}"#;
    said.send(format!("data: {result}\n\n")).await.unwrap();
    assert_eq!(session.answer(2).await, result);
    assert_eq!(session.stop().await, []);
    assert_eq!(server.saw("POST answer", 3).await.len(), 3);
}

#[tokio::test]
async fn a_call_fails_whose_question_cannot_be_answered() {
    for (statuses, tries) in [(&[500][..], 1), (&[503; 9], 5)] {
        let (server, mut session, said) = asking(statuses.to_vec()).await;
        match session.failure().await {
            (2, CallFailure::Broken { reason }) => {
                assert!(reason.contains("question") && reason.contains(&statuses[0].to_string()), "{reason}");
            }
            other => panic!("{other:?}"),
        }
        timeout(LONG, said.closed()).await.expect("its stream is closed");
        assert_eq!(server.saw("POST answer", tries).await.len(), tries);
        assert_eq!(session.stop().await, [], "the other call goes on");
    }
}

/// There is never memory for what asks or tells something.
struct Full(Ear, Budget);

impl Inlet for Full {
    fn budget(&self) -> &Budget {
        &self.1
    }

    fn answers(&self) -> &Budget {
        self.0.answers()
    }

    fn deliver(&self, frames: Result<Incoming, FrameError>, permit: Option<Permit>, on: Option<u64>) {
        self.0.deliver(frames, permit, on);
    }

    fn failed(&self, call: u64, failure: CallFailure) {
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
    let server = Server::start(move |request| {
        let stream = stream.clone();
        async move {
            match request.what().as_str() {
                "POST tools/call" => stream.lock().unwrap().take().unwrap(),
                _ => plainly(&request),
            }
        }
    })
    .await;
    let (budget, _permit) = Budget::full().await;
    let mut session = Session::start_with(http(&server), |ear| Arc::new(Full(ear, budget)));
    session.open().await;
    session.call(2);
    let told = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
    said.send(format!("data: {{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{{}}}}\n\ndata: {told}\n\n")).await.unwrap();
    session.answer(2).await;
    timeout(Duration::from_secs(5), said.closed()).await.expect("the stream is given up");
    assert_eq!(session.stop().await, []);
}
