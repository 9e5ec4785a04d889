//! Streams that are lost and taken up again.

use std::time::Duration;

use sessile::{HttpSettings, SessionSettings};
use tokio::time::sleep;

use crate::common::{Event, Harness, Reply, call, notification, result};

/// How long the front may take to see that a connection is gone.
const DISCONNECT_DELAY: Duration = Duration::from_millis(100);

/// The stream of a call, with the id of its priming event.
async fn primed(reply: &mut Reply) -> String {
    let prime = Event::read(&reply.block().await.unwrap());
    assert_eq!((prime.retry.as_deref(), prime.data.as_str()), (Some("1000"), ""));
    prime.id.unwrap()
}

#[tokio::test]
async fn a_lost_call_goes_on_and_its_answer_is_fetched() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let mut calling = client.calls(&call(1, "slow", "{}")).await;
    let heard = server.hears("slow").await;
    let prime = primed(&mut calling).await;
    drop(calling);
    // A lost connection cancels nothing.
    server.hears_nothing().await;
    server.answers(&heard, r#"{"done":true}"#).await;
    let mut again = client.resumes(&prime).await;
    assert_eq!((again.status, again.is_sse()), (200, true));
    let answer = again.event().await;
    assert_eq!(answer.data, result(1, r#"{"done":true}"#));
    again.ends().await;
    // The same event can be asked for again, if it was lost again.
    let mut again = client.resumes(&prime).await;
    assert_eq!(again.event().await, answer);
    again.ends().await;
    // The client has received all events: there is nothing to resume.
    let over = client.resumes(&answer.id.unwrap()).await;
    assert_eq!(over.status, 405);
    harness.close().await;
}

#[tokio::test]
async fn an_answer_that_comes_later_finds_the_resumed_stream() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let mut calling = client.calls(&call(1, "slow", "{}")).await;
    let heard = server.hears("slow").await;
    let prime = primed(&mut calling).await;
    drop(calling);
    sleep(DISCONNECT_DELAY).await;
    let mut again = client.resumes(&prime).await;
    server.says(&notification("notifications/x", "{}")).await;
    assert_eq!(again.data().await, notification("notifications/x", "{}"));
    server.answers(&heard, "{}").await;
    assert_eq!(again.data().await, result(1, "{}"));
    again.ends().await;
    harness.close().await;
}

#[tokio::test]
async fn what_was_missed_comes_again_in_order_and_nothing_else() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let with_token = r#"{"_meta":{"progressToken":1}}"#;
    let first = client.asks(&call(1, "slow", with_token));
    let heard_first = server.hears("slow").await;
    let progress = |at: u32| format!(r#"{{"progressToken":{},"progress":{at}}}"#, heard_first.id);
    server.says(&notification("notifications/progress", &progress(0))).await;
    let mut first = first.reply().await;
    let seen = first.event().await;
    drop(first);
    sleep(DISCONNECT_DELAY).await;
    let mut listening = client.listens().await;
    for at in 1..=5 {
        server.says(&notification("notifications/progress", &progress(at))).await;
        server.says(&notification("notifications/elsewhere", "{}")).await;
    }
    server.answers(&heard_first, "{}").await;
    for _ in 1..=5 {
        assert_eq!(listening.data().await, notification("notifications/elsewhere", "{}"));
    }
    listening.stays_silent().await;
    let mut again = client.resumes(seen.id.as_deref().unwrap()).await;
    let mut last = seen.id.clone();
    for at in 1..=5 {
        let event = again.event().await;
        assert_eq!(
            event.data,
            notification("notifications/progress", &format!(r#"{{"progressToken":1,"progress":{at}}}"#))
        );
        assert_ne!(event.id, last);
        last = event.id;
    }
    assert_eq!(again.data().await, result(1, "{}"));
    again.ends().await;
    harness.close().await;
}

#[tokio::test]
async fn a_get_stream_is_resumed_and_goes_on() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let mut listening = client.listens().await;
    server.says(&notification("notifications/a", "{}")).await;
    let seen = listening.event().await.id.unwrap();
    // The event was written to the connection, but the client has not read it.
    server.says(&notification("notifications/b", "{}")).await;
    server.says(&call(3, "roots/list", "{}")).await;
    server.hears_nothing().await;
    drop(listening);
    sleep(DISCONNECT_DELAY).await;
    server.says(&notification("notifications/c", "{}")).await;
    let mut again = client.resumes(&seen).await;
    assert_eq!(again.data().await, notification("notifications/b", "{}"));
    let server_request = again.data_json().await;
    assert_eq!(server_request["method"], "roots/list");
    assert_eq!(again.data().await, notification("notifications/c", "{}"));
    server.says(&notification("notifications/d", "{}")).await;
    assert_eq!(again.data().await, notification("notifications/d", "{}"));
    client.tells(&result(&server_request["id"], "{}")).await;
    assert_eq!(server.hears_answer().await.text, result(3, "{}"));
    harness.close().await;
}

#[tokio::test]
async fn an_older_connection_of_a_stream_gives_way() {
    let mut harness = Harness::new().await;
    let (client, server) = harness.session().await;
    let mut older = client.listens().await;
    server.says(&notification("notifications/a", "{}")).await;
    let seen = older.event().await.id.unwrap();
    let mut newer = client.resumes(&seen).await;
    server.says(&notification("notifications/b", "{}")).await;
    assert_eq!(newer.data().await, notification("notifications/b", "{}"));
    older.ends().await;
    harness.close().await;
}

#[tokio::test]
async fn what_was_dropped_is_answered_with_an_error() {
    let settings = SessionSettings { replay_bytes: 4096, ..SessionSettings::default() };
    let mut harness = Harness::on_tcp(settings, HttpSettings::default()).await;
    let (client, mut server) = harness.session().await;
    let mut calling = client.calls(&call("\"big\"", "slow", "{}")).await;
    let heard = server.hears("slow").await;
    let prime = primed(&mut calling).await;
    drop(calling);
    sleep(DISCONNECT_DELAY).await;
    server.answers(&heard, &format!(r#""{}""#, "x".repeat(10_000))).await;
    let mut again = client.resumes(&prime).await;
    let error = again.data_json().await;
    assert_eq!((&error["id"], &error["error"]["code"]), (&"big".into(), &(-31018).into()), "{error}");
    assert_eq!(error["error"]["data"]["type"], "response_dropped");
    again.ends().await;
    // The same if many small messages have taken the response's place.
    let mut calling = client.calls(&call("\"small\"", "slow", "{}")).await;
    let heard = server.hears("slow").await;
    let prime = primed(&mut calling).await;
    drop(calling);
    sleep(DISCONNECT_DELAY).await;
    server.answers(&heard, "{}").await;
    let mut listening = client.listens().await;
    for _ in 0..100 {
        server.says(&notification("notifications/x", "{}")).await;
        listening.data().await;
    }
    let mut again = client.resumes(&prime).await;
    let error = again.data_json().await;
    assert_eq!((&error["id"], &error["error"]["code"]), (&"small".into(), &(-31018).into()), "{error}");
    again.ends().await;
    harness.close().await;
}

#[tokio::test]
async fn a_dropped_server_request_fails_for_the_server() {
    let settings = SessionSettings { replay_bytes: 4096, ..SessionSettings::default() };
    let mut harness = Harness::on_tcp(settings, HttpSettings::default()).await;
    let (client, mut server) = harness.session().await;
    let mut listening = client.listens().await;
    let prime = primed(&mut listening).await;
    server.says(&call(8, "roots/list", &format!(r#"{{"x":"{}"}}"#, "x".repeat(10_000)))).await;
    server.hears_nothing().await;
    drop(listening);
    sleep(DISCONNECT_DELAY).await;
    let mut again = client.resumes(&prime).await;
    let answer = server.hears_answer().await;
    assert!(answer.id == "8" && answer.text.contains("-31017"), "{}", answer.text);
    again.stays_silent().await;
    harness.close().await;
}

#[tokio::test]
async fn ids_that_are_none_are_refused() {
    let mut harness = Harness::new().await;
    let (client, _server) = harness.session().await;
    let (other, _other_server) = harness.session().await;
    // The other session has had more streams than this one.
    let mut foreign = String::new();
    for _ in 0..5 {
        let mut stream = other.listens().await;
        foreign = primed(&mut stream).await;
    }
    for last in ["nonsense", "1", "-", "1-", "-1", "0-0", "1-2-3", "1-x", "999-1", "18446744073709551616-1", &foreign] {
        let reply = client.resumes(last).await;
        assert_eq!(reply.status, 400, "{last}");
        assert_eq!(reply.json().await["error"]["code"], -32600, "{last}");
    }
    harness.close().await;
}

#[tokio::test]
async fn an_id_of_another_session_shows_nothing_of_it() {
    let mut harness = Harness::new().await;
    let (mine, _server) = harness.session().await;
    let (other, other_server) = harness.session().await;
    let mut listening = other.listens().await;
    other_server.says(&notification("notifications/secret", "{}")).await;
    let first = primed(&mut listening).await;
    listening.event().await;
    // The same number may be a stream of this session: then it is that one, and says nothing.
    let mut reply = mine.resumes(&first).await;
    if reply.status == 200 {
        reply.stays_silent().await;
    }
    harness.close().await;
}
