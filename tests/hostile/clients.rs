//! Clients that send half a request, too much of it, or what is not theirs to send.

use std::time::Duration;

use serde_json::json;
use sessile::{HttpSettings, SessionSettings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::common::{Harness, HttpClient, Reply, ScriptedServer, call, notification, result, soon};

async fn is_well(client: &HttpClient, server: &mut ScriptedServer) {
    let asking = client.asks(&call("\"well?\"", "how-are-you", "{}"));
    let heard = server.hears("how-are-you").await;
    server.answers(&heard, r#""well""#).await;
    assert_eq!(asking.data().await, result("\"well?\"", r#""well""#));
}

/// The head of a POST to a session, without what says how long it is.
fn head(client: &HttpClient, more: &str) -> String {
    let session = client.session.as_deref().unwrap_or_default();
    format!(
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\naccept: application/json, text/event-stream\r\n\
         content-type: application/json\r\nmcp-session-id: {session}\r\n{more}\r\n"
    )
}

async fn says(harness: &Harness, text: impl AsRef<[u8]>) -> TcpStream {
    let mut socket = harness.endpoint().connect().await;
    let _ = socket.write_all(text.as_ref()).await;
    socket
}

async fn status(socket: TcpStream) -> Option<u16> {
    soon("a response or the end", Reply::read(socket)).await.map(|reply| reply.status)
}

#[tokio::test]
async fn half_a_request_is_none() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let body = call(1, "x", "{}");
    let mut open = Vec::new();
    for half in [
        "POST".to_owned(),
        "POST /mcp HTTP/1.1\r\nhost: local".to_owned(),
        head(&client, "content-length: 1000\r\n"),
        format!("{}{body}", head(&client, "content-length: 1000\r\n")),
        format!("{}40\r\n{body}", head(&client, "transfer-encoding: chunked\r\n")),
        format!("{}{:x}\r\n{body}\r\n", head(&client, "transfer-encoding: chunked\r\n"), body.len()),
    ] {
        drop(says(&harness, &half).await);
        open.push(says(&harness, &half).await);
    }
    // Slow ones, byte by byte.
    let mut slow = harness.endpoint().connect().await;
    for byte in &head(&client, "content-length: 1000\r\n").as_bytes()[..60] {
        slow.write_all(&[*byte]).await.unwrap();
        sleep(Duration::from_millis(1)).await;
    }
    server.hears_nothing().await;
    is_well(&client, &mut server).await;
    drop((open, slow));
    harness.close().await;
}

#[tokio::test]
async fn a_slow_request_is_a_request() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let body = notification("notifications/slow", "{}");
    let whole = format!("{}{body}", head(&client, &format!("content-length: {}\r\n", body.len())));
    let mut slow = harness.endpoint().connect().await;
    for bytes in whole.as_bytes().chunks(7) {
        slow.write_all(bytes).await.unwrap();
        slow.flush().await.unwrap();
        sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(status(slow).await, Some(202));
    server.hears("notifications/slow").await;
    harness.close().await;
}

#[tokio::test]
async fn huge_headers_are_refused() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let huge = head(&client, &format!("x-huge: {}\r\ncontent-length: 0\r\n", "h".repeat(2 * 1024 * 1024)));
    let many = head(&client, &format!("{}content-length: 0\r\n", "x-many: 1\r\n".repeat(10_000)));
    for text in [huge, many] {
        let status = status(says(&harness, text).await).await;
        assert!(status.is_none_or(|status| status == 431 || status == 400), "{status:?}");
    }
    server.hears_nothing().await;
    is_well(&client, &mut server).await;
    harness.close().await;
}

#[tokio::test]
async fn a_length_that_lies_harms_nobody_else() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let told = notification("notifications/n", "{}");
    // Too short: what is left over is no request.
    let short = format!("{}{told}", head(&client, "content-length: 10\r\n"));
    assert_eq!(status(says(&harness, short).await).await, Some(400));
    for lengths in ["content-length: x\r\n", "content-length: -1\r\n", "content-length: 5\r\ncontent-length: 6\r\n"] {
        let status = status(says(&harness, format!("{}{told}", head(&client, lengths))).await).await;
        assert!(status.is_none_or(|status| status == 400), "{lengths}: {status:?}");
    }
    server.hears_nothing().await;
    is_well(&client, &mut server).await;
    harness.close().await;
}

#[tokio::test]
async fn a_body_without_a_length_is_bounded_too() {
    let settings = SessionSettings { max_message_size: 10_000, ..SessionSettings::default() };
    let mut harness = Harness::on_tcp(settings, HttpSettings::default()).await;
    let (client, mut server) = harness.session().await;
    let mut socket = says(&harness, head(&client, "transfer-encoding: chunked\r\n")).await;
    let chunk = format!("400\r\n{}\r\n", "[".repeat(0x400));
    for _ in 0..100 {
        socket.write_all(chunk.as_bytes()).await.unwrap();
    }
    socket.write_all(b"0\r\n\r\n").await.unwrap();
    assert_eq!(status(socket).await, Some(413));
    // A length that is over the limit is refused whatever follows, and one that never ends is not waited for.
    let mut endless = says(&harness, head(&client, "content-length: 999999999999\r\n")).await;
    let _ = endless.write_all(&[b' '; 1000]).await;
    drop(endless);
    server.hears_nothing().await;
    is_well(&client, &mut server).await;
    harness.close().await;
}

#[tokio::test]
async fn ten_thousand_notifications_arrive_in_order() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let socket = harness.endpoint().connect().await;
    let (mut reader, mut writer) = socket.into_split();
    let mut all = Vec::new();
    for number in 0..10_000 {
        let body = notification("n", &format!("[{number}]"));
        all.extend_from_slice(
            format!("{}{body}", head(&client, &format!("content-length: {}\r\n", body.len()))).as_bytes(),
        );
    }
    let writing = tokio::spawn(async move {
        writer.write_all(&all).await.unwrap();
        writer
    });
    let reading = tokio::spawn(async move {
        let (mut accepted, mut text) = (0, Vec::new());
        while accepted < 10_000 && reader.read_buf(&mut text).await.unwrap() > 0 {
            let complete = text.windows(4).rposition(|window| window == b"\r\n\r\n").map_or(0, |at| at + 4);
            accepted += text[..complete].windows(12).filter(|window| window == b"HTTP/1.1 202").count();
            text.drain(..complete);
        }
        accepted
    });
    for number in 0..10_000 {
        assert_eq!(server.hears("n").await.params, format!("[{number}]"));
    }
    assert_eq!(soon("all are accepted", reading).await.unwrap(), 10_000);
    drop(writing.await.unwrap());
    is_well(&client, &mut server).await;
    harness.close().await;
}

#[tokio::test]
async fn an_answer_reaches_the_sessions_own_server_only() {
    let mut harness = Harness::new().await;
    let (victim, mut victims_server) = harness.session().await;
    let (thief, mut thiefs_server) = harness.session().await;
    let mut listening = victim.listens().await;
    victims_server.says(&call("\"secret\"", "elicitation/create", "{}")).await;
    let server_request = listening.data_json().await;
    let mut guesses: Vec<_> = (0..50).map(|number| number.to_string()).collect();
    guesses.extend([
        server_request["id"].to_string(),
        "\"secret\"".to_owned(),
        "\"1\"".to_owned(),
        "1.0".to_owned(),
        "-1".to_owned(),
    ]);
    for guess in guesses {
        thief.tells(&result(&guess, r#""stolen""#)).await;
        thief.tells(&format!(r#"{{"jsonrpc":"2.0","id":{guess},"error":{{"code":1,"message":"stolen"}}}}"#)).await;
    }
    thief.tells(&notification("notifications/cancelled", r#"{"requestId":"secret"}"#)).await;
    victims_server.hears_nothing().await;
    thiefs_server.hears_nothing().await;
    victim.tells(&result(&server_request["id"], r#""mine""#)).await;
    assert_eq!(victims_server.hears_answer().await.text, result("\"secret\"", r#""mine""#));
    harness.close().await;
}

#[tokio::test]
async fn nobody_cancels_the_call_of_another() {
    let mut harness = Harness::new().await;
    let (one, mut server_one) = harness.session().await;
    let (two, mut server_two) = harness.session().await;
    let calling = one.asks(&call(1, "slow", "{}"));
    let heard = server_one.hears("slow").await;
    two.tells(&notification("notifications/cancelled", r#"{"requestId":1}"#)).await;
    two.tells(&notification("notifications/cancelled", &format!(r#"{{"requestId":{}}}"#, heard.id))).await;
    two.tells(&notification("notifications/cancelled", r#"{"requestId":"hello"}"#)).await;
    server_one.hears_nothing().await;
    server_two.hears_nothing().await;
    server_one.answers(&heard, "{}").await;
    assert_eq!(calling.data().await, result(1, "{}"));
    harness.close().await;
}

#[tokio::test]
async fn texts_that_are_no_texts() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    for bad in [
        &b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}"[..],
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"params\":[\"\xc3\"]}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"params\":[\"\xed\xa0\x80\"]}",
        b"\xef\xbb\xbf\xef\xbb\xbf{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\"}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\ny\"}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\0\"}",
    ] {
        let reply = client.post(bad).send().await;
        assert_eq!(reply.status, 400, "{bad:?}");
        assert_eq!(reply.json().await["error"]["code"], -32700, "{bad:?}");
    }
    server.hears_nothing().await;
    is_well(&client, &mut server).await;
    harness.close().await;
}

#[tokio::test]
async fn deep_nesting_is_refused() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let nested = |depth: usize| call(1, "x", &format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
    for depth in [10_000, 1_000_000] {
        let reply = client.post(nested(depth)).send().await;
        assert_eq!(reply.status, 400, "{depth}");
        assert_eq!(reply.json().await["error"]["code"], -32600, "{depth}");
    }
    let calling = client.asks(&nested(50));
    let heard = server.hears("x").await;
    server.answers(&heard, "{}").await;
    assert_eq!(calling.data().await, result(1, "{}"));
    harness.close().await;
}

#[tokio::test]
async fn a_batch_has_a_bound() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let batch = |size: usize| format!("[{}]", vec![notification("n", "[]"); size].join(","));
    let reply = client.post(batch(1001)).send().await;
    assert_eq!(reply.status, 400);
    assert_eq!(reply.json().await["error"]["code"], -32600);
    server.hears_nothing().await;
    client.tells(&batch(1000)).await;
    for _ in 0..1000 {
        server.hears("n").await;
    }
    harness.close().await;
}

#[tokio::test]
async fn calls_have_a_bound() {
    let settings = SessionSettings { max_in_flight: 3, ..SessionSettings::default() };
    let mut harness = Harness::on_tcp(settings, HttpSettings::default()).await;
    let (client, mut server) = harness.session().await;
    let mut waiting = Vec::new();
    for number in 0..3 {
        waiting.push(client.asks(&call(number, "slow", "{}")));
        server.hears("slow").await;
    }
    let error = client.asks(&call(3, "slow", "{}")).json().await;
    assert_eq!((&error["id"], &error["error"]["code"]), (&json!(3), &json!(-31019)));
    let long_id = format!(r#""{}""#, "i".repeat(100_000));
    let error = client.asks(&call(long_id, "slow", "{}")).json().await;
    assert_eq!(error["error"]["code"], -32600);
    server.hears_nothing().await;
    harness.close().await;
}
