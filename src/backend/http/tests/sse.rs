//! HTTP+SSE, of protocol version 2024-11-05.

use super::*;
use crate::backend::http::{HttpBackend, Transport};

/// A server of the older transport with one connection at a time.
struct Old {
    server: ScriptedHttpServer,
    /// What the server says.
    stream: Arc<Mutex<Option<mpsc::Sender<String>>>>,
}

impl Old {
    /// `endpoint` is what its first event says; messages to it are answered with `posted`, and if that is a success, on
    /// the stream.
    async fn start(endpoint: impl Fn(&str) -> String + Clone + Send + Sync + 'static, posted: u16) -> Self {
        let stream: Arc<Mutex<Option<mpsc::Sender<String>>>> = Arc::default();
        let current = stream.clone();
        let server = ScriptedHttpServer::start(move |request: PeerRequest| {
            let (current, endpoint) = (current.clone(), endpoint.clone());
            async move {
                if request.method == "GET" && request.path == "/mcp" {
                    let (said, answer) = live();
                    said.send(endpoint(request.header("host").unwrap())).await.unwrap();
                    *current.lock().unwrap() = Some(said);
                    return answer;
                }
                if request.path != "/messages?s=1" {
                    return status(404);
                }
                let message: serde_json::Value = serde_json::from_str(&request.body).unwrap();
                if !message["id"].is_null() && !message["method"].is_null() && posted < 300 {
                    let answer = if message["method"] == "initialize" {
                        INITIALIZE_RESPONSE.to_owned()
                    } else {
                        request.result(r#"{"ok":true}"#)
                    };
                    let said = current.lock().unwrap().clone().unwrap();
                    said.send(format!("event: message\ndata: {answer}\n\n")).await.unwrap();
                }
                text(posted, "text/plain", "Accepted")
            }
        })
        .await;
        Self { server, stream }
    }

    fn session(&self, transport: Transport) -> TestLink {
        TestLink::start(HttpBackend::new(&self.server.url()).unwrap().transport(transport))
    }

    async fn send(&self, text: &str) {
        let said = self.stream.lock().unwrap().clone().unwrap();
        said.send(text.to_owned()).await.unwrap();
    }

    fn hang_up(&self) {
        *self.stream.lock().unwrap() = None;
    }
}

fn relative(_: &str) -> String {
    "event: endpoint\ndata: /messages?s=1\n\n".to_owned()
}

#[tokio::test]
async fn a_session_over_the_older_transport() {
    let whole = |host: &str| format!("event: endpoint\r\ndata: http://{host}/messages?s=1\r\n\r\n");
    for (number, old) in [Old::start(relative, 202).await, Old::start(whole, 200).await].into_iter().enumerate() {
        let mut session = old.session(Transport::Sse);
        session.initialize();
        assert_eq!(session.receive().await, message(INITIALIZE_RESPONSE, None), "{number}");
        session.initialized();
        session.call(2);
        session.answer(2).await;
        old.send("data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}\n\n").await;
        assert_eq!(session.receive().await, message(r#"{"jsonrpc":"2.0","method":"notifications/x"}"#, None));
        assert_eq!(old.server.kinds(), ["GET", "initialize", "notifications/initialized", "tools/call"]);
        assert_eq!(old.server.requests()[3].body, call(2));
        assert_eq!(old.server.requests()[0].header("accept"), Some("text/event-stream"));
        let said = old.stream.lock().unwrap().take().unwrap();
        assert_eq!(session.stop().await, []);
        timeout(WAIT_LIMIT, said.closed()).await.expect("the stream ends with the session");
        assert!(!old.server.kinds().contains(&"DELETE".to_owned()));
    }
}

#[tokio::test]
async fn an_endpoint_elsewhere_is_refused() {
    let elsewhere = ScriptedHttpServer::start(async |request| plain_response(&request)).await;
    let url = elsewhere.url();
    let old = Old::start(move |_| format!("event: endpoint\ndata: {url}\n\n"), 202).await;
    let mut session = old.session(Transport::Sse);
    session.initialize();
    match session.failure().await {
        (1, RequestFailure::BadAnswer { reason }) => assert!(reason.contains("another origin"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert!(elsewhere.requests().is_empty());
    assert_eq!(session.stop().await, []);
}

#[tokio::test]
async fn a_stream_that_begins_otherwise_is_refused() {
    for said in ["data: {}\n\n", "event: endpoint\ndata:\n\n", "event: message\ndata: /messages\n\n"] {
        let old = Old::start(move |_| said.to_owned(), 202).await;
        let mut session = old.session(Transport::Sse);
        session.initialize();
        match session.failure().await {
            (1, RequestFailure::BadAnswer { reason }) => assert!(reason.contains("endpoint"), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    let server = ScriptedHttpServer::start(async |_| events("")).await;
    let mut session = TestLink::start(HttpBackend::new(&server.url()).unwrap().transport(Transport::Sse));
    session.initialize();
    assert!(matches!(session.failure().await, (1, RequestFailure::BadAnswer { .. })));
}

#[tokio::test]
async fn the_streams_end_is_the_sessions() {
    let old = Old::start(relative, 202).await;
    let mut session = old.session(Transport::Sse);
    session.open().await;
    old.hang_up();
    assert!(matches!(&session.rest().await[..], [Delivery::Closed(LinkExit::Lost { .. })]));

    let (said, answer) = live();
    let answer = Arc::new(Mutex::new(Some(answer)));
    let server = ScriptedHttpServer::start(move |request: PeerRequest| {
        let answer = answer.clone();
        async move { if request.method == "GET" { answer.lock().unwrap().take().unwrap() } else { status(202) } }
    })
    .await;
    let mut session = TestLink::start(HttpBackend::new(&server.url()).unwrap().transport(Transport::Sse));
    session.initialize();
    said.send(relative("")).await.unwrap();
    server.wait_for("initialize", 1).await;
    drop(said);
    let rest = session.rest().await;
    assert!(matches!(&rest[..], [Delivery::Closed(LinkExit::Failed { .. })]), "nothing was lost yet: {rest:?}");
}

#[tokio::test]
async fn a_call_that_is_not_accepted_has_failed() {
    let old = Old::start(relative, 500).await;
    let mut session = old.session(Transport::Sse);
    session.initialize();
    assert_eq!(session.failure().await, (1, RequestFailure::Refused { status: 500, reason: "Accepted".to_owned() }));
}

#[tokio::test]
async fn a_client_may_try_again() {
    let refusals = Arc::new(Mutex::new(1));
    let server = ScriptedHttpServer::start(move |request: PeerRequest| {
        let refusals = refusals.clone();
        async move {
            let mut refusals = refusals.lock().unwrap();
            match request.method.as_str() {
                "GET" if *refusals > 0 => {
                    *refusals -= 1;
                    status(503)
                }
                "GET" => events(format!("event: endpoint\ndata: /m\n\ndata: {INITIALIZE_RESPONSE}\n\n")),
                _ => status(202),
            }
        }
    })
    .await;
    let mut session = TestLink::start(HttpBackend::new(&server.url()).unwrap().transport(Transport::Sse));
    session.initialize();
    assert!(matches!(session.failure().await, (1, RequestFailure::Refused { status: 503, .. })));
    session.initialize();
    assert_eq!(session.receive().await, message(INITIALIZE_RESPONSE, None));
}

#[tokio::test]
async fn a_handshake_that_is_accepted_and_never_answered_comes_to_an_end() {
    let server = ScriptedHttpServer::start(async |request: PeerRequest| match request.method.as_str() {
        "GET" => {
            let (said, answer) = live();
            said.send(relative("")).await.unwrap();
            tokio::spawn(async move { said.closed().await });
            answer
        }
        _ => status(202),
    })
    .await;
    let mut session = TestLink::start(HttpBackend::new(&server.url()).unwrap().transport(Transport::Sse));
    session.initialize();
    server.wait_for("initialize", 1).await;
    sleep(Duration::from_millis(100)).await;
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    let heard = loop {
        if let Ok(heard) = session.heard.try_recv() {
            break heard;
        }
        assert!(begun.elapsed() < Duration::from_secs(600), "it has no outcome");
        sleep(Duration::from_secs(1)).await;
    };
    assert!(begun.elapsed() > Duration::from_secs(100));
    match heard {
        Delivery::Failed(1, RequestFailure::Broken { reason }) => assert!(reason.contains("120 seconds"), "{reason}"),
        other => panic!("{other:?}"),
    }
    sleep(Duration::from_secs(300)).await;
    assert!(session.heard.try_recv().is_err(), "once");
}
