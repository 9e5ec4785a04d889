//! GET streams and response streams that end, and are taken up again.

use serde_json::json;

use crate::common::{call, notification};
use crate::harness::{BackendHarness, error};

#[tokio::test]
async fn what_the_server_says_unasked_comes_on_the_get_stream() {
    let mut harness = BackendHarness::http().await;
    let (mut anna, mut get) = harness.listening_session("Anna").await;
    assert_eq!(get.header("accept"), Some("text/event-stream"));
    assert_eq!(get.header("mcp-session-id"), Some("Anna"));
    assert_eq!(get.header("mcp-protocol-version"), Some("2025-11-25"));
    get.streams().await;
    get.event("", &notification("notifications/tools/list_changed", "{}")).await;
    anna.is_told("notifications/tools/list_changed").await;
    get.event("event: message", &call(7, "elicitation/create", r#"{"message":"well?"}"#)).await;
    anna.is_asked(1).await;
    let answer = harness.server.hears("answer").await;
    assert_eq!(answer.message()["id"], 7);
    assert_eq!(answer.message()["result"]["content"]["answer"], "Anna to well?");
    answer.accept().await;
    harness.works(&mut anna).await;
    harness.leaves(anna).await;
    get.sees_the_client_leave().await;
    harness.close().await;
}

#[tokio::test]
async fn a_get_stream_that_is_dropped_is_taken_up_where_it_ended() {
    let mut harness = BackendHarness::http().await;
    let (mut anna, mut get) = harness.listening_session("Anna").await;
    let mut berta = harness.session("Berta").await;
    get.streams().await;
    get.event("id: a-1\nretry: 5", &notification("notifications/x", r#"{"n":1}"#)).await;
    assert_eq!(anna.is_told("notifications/x").await["params"]["n"], 1);
    let mut last = "a-1".to_owned();
    for n in 2..6 {
        // In the middle of an event, which is as if it had not come.
        get.says(format!("id: lost\ndata: {}", notification("notifications/x", r#"{"n":99}"#))).await;
        drop(get);
        get = harness.server.hears("RESUME").await;
        assert_eq!(get.header("last-event-id"), Some(&*last));
        assert_eq!(get.header("mcp-session-id"), Some("Anna"));
        get.streams().await;
        last = format!("a-{n}");
        get.event(&format!("id: {last}"), &notification("notifications/x", &json!({"n": n}).to_string())).await;
        assert_eq!(anna.is_told("notifications/x").await["params"]["n"], n);
        harness.works(&mut anna).await;
    }
    // What the server repeats of what was had already, as some do, is told once.
    drop(get);
    get = harness.server.hears("RESUME").await;
    get.streams().await;
    get.event(&format!("id: {last}"), &notification("notifications/x", r#"{"n":5}"#)).await;
    get.event("id: a-6", &notification("notifications/x", r#"{"n":6}"#)).await;
    assert_eq!(anna.is_told("notifications/x").await["params"]["n"], 6);
    harness.works(&mut berta).await;
    harness.leaves(anna).await;
    harness.leaves(berta).await;
    get.sees_the_client_leave().await;
    harness.close().await;
}

#[tokio::test]
async fn a_get_stream_that_cannot_be_had_for_a_while_is_tried_again() {
    let mut harness = BackendHarness::http().await;
    let (mut anna, mut get) = harness.listening_session("Anna").await;
    get.streams().await;
    get.event("retry: 1", "").await;
    drop(get);
    let get = harness.server.hears("GET").await;
    harness.works(&mut anna).await;
    get.replies("503 Service Unavailable", &[], "").await;
    let mut get = harness.server.hears("GET").await;
    get.streams().await;
    get.event("", &notification("notifications/x", "{}")).await;
    anna.is_told("notifications/x").await;
    harness.leaves(anna).await;
    harness.close().await;
}

#[tokio::test]
async fn a_server_without_a_get_stream_is_asked_once() {
    let mut harness = BackendHarness::http().await;
    let mut anna = harness.session("Anna").await;
    for _ in 0..3 {
        harness.works(&mut anna).await;
    }
    harness.server.hears_no("GET").await;
    harness.leaves(anna).await;
    harness.close().await;
}

#[tokio::test]
async fn a_call_that_makes_its_client_come_back_is_answered() {
    let mut harness = BackendHarness::http().await;
    let mut anna = harness.session("Anna").await;
    let (id, mut asked) = harness.calling(&mut anna).await;
    let answer = asked.result(r#"{"content":[]}"#);
    asked.streams().await;
    asked.event("id: s1/0\nretry: 1", "").await;
    drop(asked);
    // It is not there yet, again and again; that is how polling goes.
    for n in 0..5 {
        let mut resumed = harness.server.hears("RESUME").await;
        assert_eq!(resumed.header("last-event-id"), Some(&*format!("s1/{n}")));
        resumed.streams().await;
        resumed.event(&format!("id: s1/{}", n + 1), "").await;
    }
    let mut resumed = harness.server.hears("RESUME").await;
    resumed.streams().await;
    resumed.event("id: s1/99", &answer).await;
    assert_eq!(anna.answer(id).await["result"], json!({"content": []}));
    resumed.sees_the_client_leave().await;
    harness.server.hears_no("RESUME").await;
    harness.leaves(anna).await;
    harness.close().await;
}

#[tokio::test]
async fn a_stream_that_cannot_be_resumed_after_all_fails_its_call() {
    let mut harness = BackendHarness::http().await;
    let mut anna = harness.session("Anna").await;
    for (status, headers) in
        [("400 Bad Request", &[][..]), ("405 Method Not Allowed", &[]), ("200 OK", &[("content-type", "text/html")])]
    {
        let (id, mut asked) = harness.calling(&mut anna).await;
        asked.streams().await;
        asked.event("id: 1\nretry: 1", "").await;
        drop(asked);
        harness.server.hears("RESUME").await.replies(status, headers, "").await;
        error(&mut anna, id, "backend_connection_broken").await;
        harness.works(&mut anna).await;
    }
    harness.server.hears_no("tools/call").await;
    harness.leaves(anna).await;
    harness.close().await;
}

#[tokio::test]
async fn a_server_request_on_a_calls_stream_is_answered_beside_it() {
    let mut harness = BackendHarness::http().await;
    let (mut anna, mut berta) = (harness.session("Anna").await, harness.session("Berta").await);
    let (id, mut asked) = harness.calling(&mut anna).await;
    let (other, mut asked_other) = harness.calling(&mut berta).await;
    for (stream, name) in [(&mut asked, "Anna"), (&mut asked_other, "Berta")] {
        stream.streams().await;
        // Both servers use the same id for what they ask.
        stream.event("", &call(1, "elicitation/create", &json!({"message": name}).to_string())).await;
    }
    anna.is_asked(1).await;
    berta.is_asked(1).await;
    for _ in 0..2 {
        let answer = harness.server.hears("answer").await;
        let name = answer.header("mcp-session-id").unwrap().to_owned();
        assert_eq!(answer.message()["result"]["content"]["answer"], format!("{name} to {name}"));
        assert_eq!(answer.message()["id"], 1);
        answer.accept().await;
    }
    for (stream, client, id) in [(&mut asked, &mut anna, id), (&mut asked_other, &mut berta, other)] {
        let answer = stream.result("{}");
        stream.event("", &answer).await;
        assert_eq!(client.answer(id).await["result"], json!({}));
    }
    harness.leaves(anna).await;
    harness.leaves(berta).await;
    harness.close().await;
}

#[tokio::test]
async fn a_cancelled_call_is_cancelled_upstream_and_its_stream_given_up() {
    let mut harness = BackendHarness::http().await;
    let mut anna = harness.session("Anna").await;
    let (id, mut asked) = harness.calling(&mut anna).await;
    asked.streams().await;
    asked.event("id: 1\nretry: 1", "").await;
    anna.cancels(id).await;
    let cancelled = harness.server.hears("notifications/cancelled").await;
    assert_eq!(cancelled.message()["params"]["requestId"], asked.id());
    assert_eq!(cancelled.header("mcp-session-id"), Some("Anna"));
    cancelled.accept().await;
    asked.sees_the_client_leave().await;
    harness.server.hears_no("RESUME").await;
    assert!(!anna.is_answered(id));
    harness.works(&mut anna).await;
    harness.leaves(anna).await;
    harness.close().await;
}
