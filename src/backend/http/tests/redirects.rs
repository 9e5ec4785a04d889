//! Redirects: within the origin they are followed, with all that the request had; elsewhere nothing is sent.

use super::*;
use crate::backend::http::HttpBackend;

fn moved(status: u16, to: &str) -> PeerResponse {
    Response::builder().status(status).header("location", to).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn a_redirect_within_the_origin_is_followed() {
    for code in [307, 308] {
        let server = ScriptedHttpServer::start(move |request: PeerRequest| async move {
            if request.path == "/mcp" { moved(code, "/mcp/") } else { plain_response(&request) }
        })
        .await;
        let backend = HttpBackend::new(&server.url()).unwrap().header("x-key", "secret").unwrap();
        let mut session = TestLink::start(backend);
        session.open().await;
        session.call(2);
        session.answer(2).await;
        session.stop().await;
        let arrived: Vec<_> = server.requests().into_iter().filter(|seen| seen.path == "/mcp/").collect();
        let whats: Vec<_> = arrived.iter().map(PeerRequest::kind).collect();
        let expected = ["initialize", "notifications/initialized", "GET", "tools/call", "DELETE"];
        assert_eq!(whats, expected);
        assert!(arrived.iter().all(|seen| seen.header("x-key") == Some("secret")));
        assert_eq!(arrived[3].body, call(2));
    }
}

#[tokio::test]
async fn a_redirect_elsewhere_is_not_followed() {
    let elsewhere = ScriptedHttpServer::start(async |request| plain_response(&request)).await;
    let to = format!("{}?token=x", elsewhere.url());
    for code in [301, 302, 303, 307, 308] {
        let to = to.clone();
        let server = ScriptedHttpServer::start(move |_| {
            let to = to.clone();
            async move { moved(code, &to) }
        })
        .await;
        let mut session = TestLink::start(HttpBackend::new(&server.url()).unwrap());
        session.initialize();
        match session.failure().await {
            (1, RequestFailure::Refused { status, reason }) => {
                assert_eq!(status, code);
                assert!(reason.contains("another origin") && !reason.contains("token"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(server.kinds(), ["initialize"]);
    }
    assert!(elsewhere.requests().is_empty(), "nothing was sent there");
}

#[tokio::test]
async fn a_post_does_not_become_a_get_and_circles_end() {
    let server = ScriptedHttpServer::start(async |_| moved(303, "/done")).await;
    let mut session = TestLink::start(HttpBackend::new(&server.url()).unwrap());
    session.initialize();
    assert!(matches!(session.failure().await, (1, RequestFailure::Refused { status: 303, .. })));
    assert_eq!(server.kinds(), ["initialize"]);

    let server = ScriptedHttpServer::start(async |_| moved(307, "/mcp")).await;
    let mut session = TestLink::start(HttpBackend::new(&server.url()).unwrap());
    session.initialize();
    assert!(matches!(session.failure().await, (1, RequestFailure::Refused { status: 307, .. })));
    assert_eq!(server.kinds().len(), 6);
}
