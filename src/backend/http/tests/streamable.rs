//! The happy paths of streamable HTTP.

use super::*;
use crate::backend::http::{HttpBackend, Transport};

fn http(server: &ScriptedHttpServer) -> HttpBackend {
    HttpBackend::new(&server.url()).unwrap().transport(Transport::Http)
}

#[tokio::test]
async fn a_session_from_its_handshake_to_its_end() {
    let server = ScriptedHttpServer::start(async |request| plain_response(&request)).await;
    let mut session = TestLink::start(http(&server));
    session.initialize();
    assert_eq!(session.receive().await, message(INITIALIZE_RESPONSE, Some(1)));
    session.initialized();
    session.call(2);
    session.answer(2).await;
    assert_eq!(session.stop().await, []);
    assert_eq!(server.kinds(), ["initialize", "notifications/initialized", "GET", "tools/call", "DELETE"]);
    for (number, request) in server.requests().iter().enumerate() {
        assert_eq!(request.path, "/mcp");
        assert_eq!(request.header("mcp-session-id"), (number > 0).then_some("s-1"), "{request:?}");
        assert_eq!(request.header("mcp-protocol-version"), (number > 0).then_some("2025-06-18"), "{request:?}");
        let post = request.method == "POST";
        assert_eq!(request.header("content-type"), post.then_some("application/json"));
        let accept = if post { "application/json, text/event-stream" } else { "text/event-stream" };
        assert_eq!(request.header("accept"), Some(accept));
    }
    assert_eq!(server.requests()[3].body, call(2), "a message goes out as its own bytes");
}

#[tokio::test]
async fn a_session_that_its_client_leaves_is_deleted() {
    let server = ScriptedHttpServer::start(async |request| plain_response(&request)).await;
    let mut session = TestLink::start(http(&server));
    session.open().await;
    session.outgoing = None;
    assert_eq!(session.rest().await, []);
    server.wait_for("DELETE", 1).await;
}

#[tokio::test]
async fn a_server_without_sessions_has_none_deleted() {
    let server = ScriptedHttpServer::start(async |request| match request.kind().as_str() {
        "initialize" => json(INITIALIZE_RESPONSE),
        _ => plain_response(&request),
    })
    .await;
    let mut session = TestLink::start(http(&server));
    session.open().await;
    session.call(2);
    session.answer(2).await;
    session.stop().await;
    assert!(server.requests().iter().all(|request| request.header("mcp-session-id").is_none()));
    assert!(!server.kinds().contains(&"DELETE".to_owned()));
}

#[tokio::test]
async fn a_stream_belongs_to_its_call() {
    let server = ScriptedHttpServer::start(async |request| match request.kind().as_str() {
        "tools/call" => {
            let asked = r#"{"jsonrpc":"2.0","id":"q","method":"ping"}"#;
            let told = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
            let answer = request.result(r#"{"ok":true}"#);
            events(format!(": hello\n\ndata: {asked}\n\nevent: message\nid: 4\ndata: {told}\n\nevent: other\ndata: 1\n\ndata: {answer}\n\n"))
        }
        _ => plain_response(&request),
    })
    .await;
    let mut session = TestLink::start(http(&server));
    session.open().await;
    session.call(2);
    assert_eq!(session.receive().await, message(r#"{"jsonrpc":"2.0","id":"q","method":"ping"}"#, Some(2)));
    assert_eq!(session.receive().await, message(r#"{"jsonrpc":"2.0","method":"notifications/x"}"#, Some(2)));
    session.answer(2).await;
    assert_eq!(session.stop().await, []);
}

#[tokio::test]
async fn a_batch_is_an_answer() {
    let server = ScriptedHttpServer::start(async |request| match request.kind().as_str() {
        "tools/call" => {
            json(format!(r#"[{{"jsonrpc":"2.0","method":"notifications/x"}},{}]"#, request.result(r#"{"ok":true}"#)))
        }
        _ => plain_response(&request),
    })
    .await;
    let mut session = TestLink::start(http(&server));
    session.open().await;
    session.call(2);
    assert_eq!(session.receive().await, message(r#"{"jsonrpc":"2.0","method":"notifications/x"}"#, Some(2)));
    session.answer(2).await;
    assert_eq!(session.stop().await, []);
}

#[tokio::test]
async fn the_servers_own_stream_is_heard() {
    let (said, answer) = live();
    let answer = Arc::new(Mutex::new(Some(answer)));
    let server = ScriptedHttpServer::start(move |request| {
        let answer = answer.clone();
        async move {
            match request.method.as_str() {
                "GET" => answer.lock().unwrap().take().unwrap_or_else(|| status(405)),
                _ => plain_response(&request),
            }
        }
    })
    .await;
    let mut session = TestLink::start(http(&server));
    session.open().await;
    server.wait_for("GET", 1).await;
    said.send("data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}\n\n".to_owned()).await.unwrap();
    assert_eq!(session.receive().await, message(r#"{"jsonrpc":"2.0","method":"notifications/x"}"#, Some(0)));
    session.stop().await;
    timeout(WAIT_LIMIT, said.closed()).await.expect("the stream ends with the session");
}

#[tokio::test]
async fn two_sessions_of_one_backend_are_two_on_the_server() {
    let count = Arc::new(Mutex::new(0));
    let server = ScriptedHttpServer::start(move |request| {
        let count = count.clone();
        async move {
            let mut answer = plain_response(&request);
            if request.kind() == "initialize" {
                *count.lock().unwrap() += 1;
                let session = format!("s-{}", *count.lock().unwrap());
                answer.headers_mut().insert("mcp-session-id", session.parse().unwrap());
            }
            answer
        }
    })
    .await;
    let backend = http(&server);
    let mut sessions = [TestLink::start(backend.clone()), TestLink::start(backend)];
    for session in &mut sessions {
        session.open().await;
    }
    for (number, session) in (2..).zip(&mut sessions) {
        session.call(number);
        session.answer(number).await;
    }
    let calls = server.wait_for("tools/call", 2).await;
    assert_eq!(calls.iter().map(|call| call.header("mcp-session-id").unwrap()).collect::<Vec<_>>(), ["s-1", "s-2"]);
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let server =
        ScriptedHttpServer::on(listener, "http://tools.internal".to_owned(), async |request| plain_response(&request));
    let backend = HttpBackend::new(&server.url()).unwrap().unix_socket(&path);
    let mut session = TestLink::start(backend);
    session.open().await;
    session.call(2);
    session.answer(2).await;
    session.stop().await;
    assert_eq!(server.requests()[0].header("host"), Some("tools.internal"));
}
