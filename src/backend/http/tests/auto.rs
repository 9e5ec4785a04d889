//! Which transport a server speaks is found out.

use super::*;
use crate::backend::http::HttpBackend;

/// A server of the older transport at `/mcp`, which answers a POST there with `refusal`.
async fn old(refusal: impl Fn() -> PeerResponse + Clone + Send + Sync + 'static) -> ScriptedHttpServer {
    let stream: Arc<Mutex<Option<mpsc::Sender<String>>>> = Arc::default();
    ScriptedHttpServer::start(move |request: PeerRequest| {
        let (stream, refusal) = (stream.clone(), refusal.clone());
        async move {
            match (request.method.as_str(), request.path.as_str()) {
                ("GET", "/mcp") => {
                    let (said, answer) = live();
                    said.send("event: endpoint\ndata: messages\n\n".to_owned()).await.unwrap();
                    *stream.lock().unwrap() = Some(said);
                    answer
                }
                ("POST", "/messages") => {
                    let said = stream.lock().unwrap().clone().unwrap();
                    if request.kind() == "initialize" {
                        said.send(format!("data: {INITIALIZE_RESPONSE}\n\n")).await.unwrap();
                    } else if request.kind() == "tools/call" {
                        said.send(format!("data: {}\n\n", request.result(r#"{"ok":true}"#))).await.unwrap();
                    }
                    status(202)
                }
                _ => refusal(),
            }
        }
    })
    .await
}

#[tokio::test]
async fn an_older_server_is_recognised_and_remembered() {
    for code in [400, 404, 405] {
        let server = old(move || text(code, "text/html", "no")).await;
        let backend = HttpBackend::new(&server.url()).unwrap();
        let mut session = TestLink::start(backend.clone());
        session.open().await;
        session.call(2);
        session.answer(2).await;
        let paths: Vec<_> = server.requests().iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect();
        assert_eq!(paths[..3], ["POST /mcp", "GET /mcp", "POST /messages"], "{code}");
        assert_eq!(server.requests()[2].body, server.requests()[0].body);
        session.stop().await;

        let before = server.requests().len();
        let mut session = TestLink::start(backend);
        session.open().await;
        let paths: Vec<_> = server.requests().iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect();
        assert_eq!(paths[before..before + 2], ["GET /mcp", "POST /messages"], "{code}");
    }
}

#[tokio::test]
async fn what_was_remembered_is_forgotten_when_it_is_wrong() {
    let modern = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let now = modern.clone();
    let server = ScriptedHttpServer::start(move |request: PeerRequest| {
        let modern = now.load(std::sync::atomic::Ordering::SeqCst);
        async move {
            match request.method.as_str() {
                _ if modern => plain_response(&request),
                "GET" => events(format!("event: endpoint\ndata: m\n\ndata: {INITIALIZE_RESPONSE}\n\n")),
                _ if request.path == "/m" => status(202),
                _ => status(405),
            }
        }
    })
    .await;
    let backend = HttpBackend::new(&server.url()).unwrap();
    let mut session = TestLink::start(backend.clone());
    session.initialize();
    session.answer(1).await;
    drop(session);
    modern.store(true, std::sync::atomic::Ordering::SeqCst);
    for _ in 0..2 {
        let mut session = TestLink::start(backend.clone());
        session.open().await;
        session.call(2);
        session.answer(2).await;
        session.stop().await;
    }
    assert_eq!(server.wait_for("DELETE", 2).await.len(), 2, "both were sessions of streamable HTTP");
}

#[tokio::test]
async fn if_neither_works_both_are_named() {
    let server = ScriptedHttpServer::start(async |_| text(404, "text/plain", "nothing here")).await;
    let mut session = TestLink::start(HttpBackend::new(&server.url()).unwrap());
    session.initialize();
    match session.failure().await {
        (1, RequestFailure::Refused { status: 404, reason }) => {
            assert!(reason.contains("nothing here"), "{reason}");
            assert!(reason.contains("streamable HTTP") && reason.contains("HTTP+SSE"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(server.kinds(), ["initialize", "GET"]);
    session.initialize();
    session.failure().await;
    assert_eq!(session.stop().await, []);
}

#[tokio::test]
async fn a_refusal_that_explains_itself_is_the_answer() {
    let json_rpc_error = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32602,"message":"unsupported version"}}"#;
    for (code, gets) in [(400, 0), (405, 1)] {
        let server =
            ScriptedHttpServer::start(move |_| async move { text(code, "application/json", json_rpc_error) }).await;
        let mut session = TestLink::start(HttpBackend::new(&server.url()).unwrap());
        session.initialize();
        let answer = session.answer(1).await;
        assert!(answer.contains("unsupported version"), "{answer}");
        assert_eq!(server.kinds().iter().filter(|what| *what == "GET").count(), gets, "{code}");
        assert_eq!(session.stop().await, []);
    }
}

#[tokio::test]
async fn other_refusals_are_no_sign_of_an_older_server() {
    let server = old(|| text(500, "text/plain", "oops")).await;
    let mut session = TestLink::start(HttpBackend::new(&server.url()).unwrap());
    session.initialize();
    assert_eq!(session.failure().await, (1, RequestFailure::Refused { status: 500, reason: "oops".to_owned() }));
    assert_eq!(server.requests().len(), 1);
}
