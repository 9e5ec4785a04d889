//! Compressed bodies, and bodies over the limit.

use super::*;
use crate::frame::{Lost, LostMessage};

const LARGE_BODY: &[u8] = include_bytes!("large.json.gz");
const LARGE_EVENT: &[u8] = include_bytes!("large.sse.gz");
/// What they come to.
const UNPACKED: usize = 1_000_036;

fn zipped(mut answer: PeerResponse) -> PeerResponse {
    answer.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    answer
}

#[tokio::test]
async fn a_body_that_unpacks_past_the_limit_is_cut_off() {
    assert!(LARGE_BODY.len() < 4096 && LARGE_BODY.len() < MESSAGE_LIMIT);
    let (server, mut session) = with_calls(|_| zipped(json(LARGE_BODY))).await;
    session.call(2);
    match session.failure().await {
        (2, RequestFailure::TooLarge { size }) => {
            assert!((MESSAGE_LIMIT..MESSAGE_LIMIT * 4).contains(&size), "{size} bytes were unpacked");
        }
        other => panic!("{other:?}"),
    }
    assert!(server.requests()[0].header("accept-encoding").unwrap().contains("gzip"));
    session.call(3);
    assert!(matches!(session.failure().await, (3, RequestFailure::TooLarge { .. })), "the link goes on");
}

#[tokio::test]
async fn an_event_that_unpacks_past_the_limit_is_skipped() {
    let (_server, mut session) = with_calls(|_| zipped(events(LARGE_EVENT))).await;
    session.call(2);
    assert_eq!(session.failure().await, (2, RequestFailure::TooLarge { size: UNPACKED }));
    assert_eq!(
        session.receive().await,
        message(r#"{"jsonrpc":"2.0","method":"after"}"#, Some(2)),
        "and what follows is heard"
    );
    assert_eq!(session.stop().await, []);
}

#[tokio::test]
async fn a_large_body_is_refused_by_its_length() {
    let (_server, mut session) = with_calls(|_| json(vec![b' '; MESSAGE_LIMIT + 1])).await;
    session.call(2);
    assert_eq!(session.failure().await, (2, RequestFailure::TooLarge { size: MESSAGE_LIMIT + 1 }));
}

#[tokio::test]
async fn a_body_at_the_limit_passes() {
    let frame = r#"{"jsonrpc":"2.0","id":2,"result":""}"#;
    let body = frame.replace("\"\"", &format!("\"{}\"", "x".repeat(MESSAGE_LIMIT - frame.len())));
    assert_eq!(body.len(), MESSAGE_LIMIT);
    let said = body.clone();
    let (_server, mut session) = with_calls(move |_| json(said.clone())).await;
    session.call(2);
    assert_eq!(session.receive().await, message(&body, Some(2)));
    let said = body.clone();
    let (_server, mut session) = with_calls(move |_| events(format!("data: {said}\n\n"))).await;
    session.call(2);
    assert_eq!(session.receive().await, message(&body, Some(2)));
}

#[tokio::test]
async fn what_is_too_large_and_no_answer_is_told_apart() {
    let server_request =
        format!(r#"{{"jsonrpc":"2.0","id":"q","method":"m","params":"{}"}}"#, "x".repeat(MESSAGE_LIMIT));
    let size = server_request.len();
    let (_server, mut session) = with_calls(move |_| {
        let answer = r#"{"jsonrpc":"2.0","id":2,"result":{}}"#;
        events(format!("data: {server_request}\n\ndata: {answer}\n\n"))
    })
    .await;
    session.call(2);
    let lost = LostMessage { id: Some(Id::from("q")), request: true, size, why: Lost::Oversized };
    assert_eq!(session.receive().await, Delivery::Lost(lost));
    session.answer(2).await;
}

#[tokio::test]
async fn an_endless_event_is_not_kept() {
    let (said, answer) = live();
    let answer = Arc::new(Mutex::new(Some(answer)));
    let (_server, mut session) = with_calls(move |_| answer.lock().unwrap().take().unwrap()).await;
    session.call(2);
    said.send("data: {\"jsonrpc\":\"2.0\",\"id\":2,\"result\":\"".to_owned()).await.unwrap();
    for _ in 0..100 {
        timeout(WAIT_LIMIT, said.send("x".repeat(MESSAGE_LIMIT))).await.expect("it is read on").unwrap();
    }
    said.send("\"}\n\n".to_owned()).await.unwrap();
    assert!(matches!(session.failure().await, (2, RequestFailure::TooLarge { size }) if size > 100 * MESSAGE_LIMIT));
}

#[tokio::test]
async fn a_long_message_goes_out_in_its_parts() {
    let (server, mut session) = with_calls(|_| json(r#"{"jsonrpc":"2.0","id":2,"result":{}}"#)).await;
    let text =
        format!(r#"{{"jsonrpc":"2.0","id":"long","method":"tools/call","params":{{"a":"{}"}}}}"#, "y".repeat(50_000));
    let frame = crate::frame::Frame::parse(text.clone()).unwrap();
    let wire = frame.splice().id(&Id::number(2)).finish();
    assert!(wire.parts().len() > 1);
    session.send(Purpose::Request(2), wire);
    session.answer(2).await;
    let call = &server.wait_for("tools/call", 1).await[0];
    assert!(call.has(&text.replace("\"long\"", "2")), "byte by byte");
    assert_eq!(call.header("content-length"), Some((text.len() - 5).to_string().as_str()));
}
