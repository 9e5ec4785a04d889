//! Servers that forget their sessions, or are not there for a while.

use serde_json::json;
use sessile::{SessionSettings, Transport};

use crate::common::Front;
use crate::harness::{BackendHarness, error, settings};

#[tokio::test]
async fn a_forgotten_session_is_said_to_be_lost() {
    let mut harness = BackendHarness::http().await;
    let mut berta = harness.session("Berta").await;
    let mut anna = harness.fronts.unopened_client_at(Front::Http, "Anna").await;
    harness.answers_initialize(&mut anna).await.replies("405 Method Not Allowed", &[], "").await;
    // Another call is in flight, and it is lost as well.
    let (other, mut asked_other) = harness.calling(&mut anna).await;
    asked_other.streams().await;
    let (id, asked) = harness.calling(&mut anna).await;
    asked.replies("404 Not Found", &[], "no such session").await;
    for id in [id, other] {
        let error = error(&mut anna, id, "backend_lost").await;
        assert_eq!((&error["code"], &error["data"]["stateLost"]), (&json!(-31010), &json!(true)));
        assert_eq!(error["data"]["generation"], 1);
    }
    asked_other.sees_the_client_leave().await;
    // It is gone, and its client is to begin anew.
    assert_eq!(anna.fails("ping", json!({})).await["code"], -32001);
    harness.server.hears_no("initialize").await;
    harness.works(&mut berta).await;
    harness.leaves(berta).await;
    harness.close().await;
}

#[tokio::test]
async fn a_restart_is_noticed_with_the_next_message() {
    let mut harness = BackendHarness::http().await;
    let (mut anna, get) = harness.listening_session("Anna").await;
    drop(get);
    harness.server = harness.server.restarts().await;
    // Whether it is the GET stream that finds out or a call: the client is told once, and clearly.
    let id = anna.starts_tool("tool", json!({})).await;
    let forgetting = async {
        loop {
            harness.server.hears_any().await.replies("404 Not Found", &[], "").await;
        }
    };
    tokio::select! {
        error = error(&mut anna, id, "backend_lost") => assert_eq!(error["code"], -31010),
        () = forgetting => {}
    }
    drop(anna);
    harness.close().await;
}

#[tokio::test]
async fn a_server_that_is_away_for_a_while_has_lost_nothing() {
    let mut harness = BackendHarness::http().await;
    let (mut anna, mut berta) = (harness.session("Anna").await, harness.session("Berta").await);
    harness.works(&mut anna).await;
    let address = harness.server.stops().await;
    let id = anna.starts_tool("tool", json!({})).await;
    let error = error(&mut anna, id, "backend_unreachable").await;
    assert_eq!((&error["code"], &error["data"]["sent"]), (&json!(-31011), &json!(false)));
    harness.server = crate::common::ScriptedHttpServer::at(address).await;
    harness.works(&mut anna).await;
    harness.works(&mut berta).await;
    harness.leaves(anna).await;
    harness.leaves(berta).await;
    harness.close().await;
}

#[tokio::test]
async fn a_call_is_not_repeated_on_another_connection() {
    let mut harness = BackendHarness::http().await;
    let mut anna = harness.session("Anna").await;
    // A connection that was used before, closed with the request in it: clients of HTTP like to try again.
    for _ in 0..20 {
        harness.works(&mut anna).await;
        let (id, asked) = harness.calling(&mut anna).await;
        drop(asked);
        error(&mut anna, id, "backend_connection_broken").await;
    }
    harness.server.hears_no("tools/call").await;
    harness.leaves(anna).await;
    harness.close().await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_in_time() {
    let settings = SessionSettings { request_timeout: Some(std::time::Duration::from_millis(300)), ..settings() };
    let mut harness = BackendHarness::new("/mcp", Transport::Http, settings).await;
    let (mut anna, mut berta) = (harness.session("Anna").await, harness.session("Berta").await);
    let (id, asked) = harness.calling(&mut anna).await;
    error(&mut anna, id, "request_timeout").await;
    // The server is told, and its connection is given up.
    let cancelled = harness.server.hears("notifications/cancelled").await;
    assert_eq!(cancelled.message()["params"]["requestId"], asked.id());
    cancelled.accept().await;
    asked.sees_the_client_leave().await;
    harness.works(&mut anna).await;
    harness.works(&mut berta).await;
    // Neither does one that hangs at the handshake keep anything.
    let mut clara = harness.new_client("Clara").await;
    let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {}});
    let id = clara.starts("initialize", hello).await;
    let hanging = harness.server.hears("initialize").await;
    assert!(clara.answer(id).await["error"]["code"].is_i64());
    drop(clara);
    hanging.sees_the_client_leave().await;
    harness.leaves(anna).await;
    harness.leaves(berta).await;
    harness.close().await;
}

#[tokio::test]
async fn a_client_that_leaves_a_hanging_server_leaves_nothing() {
    let mut harness = BackendHarness::http().await;
    // At the handshake.
    let mut anna = harness.new_client("Anna").await;
    anna.starts("initialize", json!({"protocolVersion": "2025-11-25", "capabilities": {}})).await;
    let hanging = harness.server.hears("initialize").await;
    drop(anna);
    hanging.sees_the_client_leave().await;
    harness.fronts.empty().await;
    // Within a call, and with the DELETE too.
    let (mut berta, get) = harness.listening_session("Berta").await;
    let (_, hanging) = harness.calling(&mut berta).await;
    drop(berta);
    let _delete = harness.server.hears("DELETE").await;
    hanging.sees_the_client_leave().await;
    get.sees_the_client_leave().await;
    harness.close().await;
}

#[tokio::test]
async fn a_server_without_sessions_has_none_to_delete() {
    let mut harness = BackendHarness::http().await;
    let mut anna = harness.new_client("Anna").await;
    let server = &mut harness.server;
    tokio::join!(anna.shakes_hands(), async {
        let hello = server.hears("initialize").await;
        let initialize_result = hello.result(crate::common::INITIALIZE_RESULT);
        assert_eq!(hello.header("mcp-session-id"), None);
        hello.answers(&initialize_result).await;
        let initialized = server.hears("notifications/initialized").await;
        assert_eq!(initialized.header("mcp-session-id"), None);
        assert_eq!(initialized.header("mcp-protocol-version"), Some("2025-11-25"));
        initialized.accept().await;
    });
    anna.leaves().await;
    harness.fronts.empty().await;
    harness.server.hears_no("DELETE").await;
    harness.close().await;
}
