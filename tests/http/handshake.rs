//! How a session over streamable HTTP opens, and which requests do not open one.

use crate::common::{Harness, INITIALIZE, INITIALIZE_RESULT, INITIALIZED, call, notification};

#[tokio::test]
async fn a_session_opens_with_what_the_server_says() {
    let mut harness = Harness::new().await;
    let client = harness.new_client();
    let opening = client.post(INITIALIZE).start();
    let mut server = harness.server().await;
    let hello = server.hears("initialize").await;
    // The server gets `initialize` as the client sent it, but for the id.
    assert_eq!(hello.rest(), INITIALIZE.replace(r#""id":"hello""#, r#""id":#"#));
    assert!(!opening.is_answered(), "nothing is promised before the server has spoken");
    server.answers(&hello, INITIALIZE_RESULT).await;
    let mut reply = opening.reply().await;
    assert_eq!((reply.status, reply.is_sse()), (200, true));
    assert_eq!(reply.header("cache-control"), Some("no-cache, no-transform"));
    let token = reply.header("mcp-session-id").unwrap().to_owned();
    assert!(token.len() >= 32 && token.bytes().all(|byte| (0x21..=0x7e).contains(&byte)), "{token}");
    let listed = harness.proxy.sessions().list();
    assert!(listed.len() == 1 && listed[0].id.to_string() != token);
    let prime = reply.block().await.unwrap();
    assert_eq!(prime, "id: 1-0\nretry: 1000\ndata: \n\n");
    assert_eq!(reply.data().await, format!(r#"{{"jsonrpc":"2.0","id":"hello","result":{INITIALIZE_RESULT}}}"#));
    reply.ends().await;
    harness.close().await;
}

#[tokio::test]
async fn a_client_that_takes_json_only_gets_json() {
    let mut harness = Harness::new().await;
    let mut client = harness.new_client().json_only();
    let opening = client.post(INITIALIZE).start();
    let mut server = harness.server().await;
    let hello = server.hears("initialize").await;
    server.answers(&hello, INITIALIZE_RESULT).await;
    let reply = opening.reply().await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
    client.session = reply.header("mcp-session-id").map(str::to_owned);
    assert_eq!(reply.text().await, format!(r#"{{"jsonrpc":"2.0","id":"hello","result":{INITIALIZE_RESULT}}}"#));

    client.tells(INITIALIZED).await;
    server.hears("notifications/initialized").await;
    let asking = client.post(call(7, "tools/list", "{}")).start();
    let heard = server.hears("tools/list").await;
    server.answers(&heard, r#"{"tools":[]}"#).await;
    let reply = asking.reply().await;
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.text().await, r#"{"jsonrpc":"2.0","id":7,"result":{"tools":[]}}"#);
    harness.close().await;
}

#[tokio::test]
async fn a_client_of_an_older_version_is_not_primed() {
    let mut harness = Harness::new().await;
    for version in ["2025-03-26", "2025-06-18", "2024-11-05"] {
        let initialize = INITIALIZE.replace("2025-11-25", version);
        let initialize_result = INITIALIZE_RESULT.replace("2025-11-25", version);
        let client = harness.new_client();
        let opening = client.post(initialize.clone()).start();
        let mut server = harness.server().await;
        let hello = server.hears("initialize").await;
        server.answers(&hello, &initialize_result).await;
        let mut reply = opening.reply().await;
        let first = reply.block().await.unwrap();
        assert!(first.contains("\"result\""), "{version}: {first}");

        let (client, mut server) = harness.session_of(&initialize, &initialize_result).await;
        let mut listening = client.listens().await;
        let calling = client.asks(&call(1, "x", "{}"));
        listening.stays_silent().await;
        let heard = server.hears("x").await;
        server.answers(&heard, "{}").await;
        let mut calling = calling.reply().await;
        assert!(calling.block().await.unwrap().starts_with("event: message\nid: "));
    }
    harness.close().await;
}

#[tokio::test]
async fn the_version_is_the_servers_word() {
    // The client asked for the newest; the server knows an old one only, and that is what holds: no priming.
    let mut harness = Harness::new().await;
    let (client, mut server) =
        harness.session_of(INITIALIZE, &INITIALIZE_RESULT.replace("2025-11-25", "2025-03-26")).await;
    let calling = client.asks(&call(1, "x", "{}"));
    let heard = server.hears("x").await;
    server.answers(&heard, "{}").await;
    let mut calling = calling.reply().await;
    assert!(calling.block().await.unwrap().contains("\"result\""));
    assert_eq!(harness.proxy.sessions().list()[0].version.as_deref(), Some("2025-03-26"));
    harness.close().await;
}

#[tokio::test]
async fn a_server_that_refuses_opens_no_session() {
    let mut harness = Harness::new().await;
    for client in [harness.new_client(), harness.new_client().json_only()] {
        let opening = client.post(INITIALIZE).start();
        let mut server = harness.server().await;
        let hello = server.hears("initialize").await;
        let error = r#"{"code":-32602,"message":"not this version","data":{"supported":["1"]}}"#;
        server.says(&format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, hello.id)).await;
        let reply = opening.reply().await;
        assert_eq!((reply.status, reply.header("mcp-session-id")), (200, None));
        assert_eq!(reply.text().await, format!(r#"{{"jsonrpc":"2.0","id":"hello","error":{error}}}"#));
        server.sees_the_end().await;
        harness.empties().await;
    }
    harness.close().await;
}

#[tokio::test]
async fn a_server_that_ends_instead_of_answering_opens_no_session() {
    let mut harness = Harness::new().await;
    let opening = harness.new_client().post(INITIALIZE).start();
    let mut server = harness.server().await;
    server.hears("initialize").await;
    server.exits(Err("no display")).await;
    let reply = opening.reply().await;
    assert_eq!((reply.status, reply.header("mcp-session-id")), (200, None));
    let error = &reply.json().await["error"];
    assert_eq!((&error["code"], &error["data"]["type"]), (&(-31011).into(), &"backend_unavailable".into()), "{error}");
    assert!(error["message"].as_str().unwrap().contains("exited"), "{error}");
    harness.empties().await;
    harness.close().await;
}

#[tokio::test]
async fn who_leaves_before_the_answer_leaves_nothing_behind() {
    let mut harness = Harness::new().await;
    for client in [harness.new_client(), harness.new_client().json_only()] {
        let opening = client.post(INITIALIZE).start();
        let mut server = harness.server().await;
        server.hears("initialize").await;
        drop(opening);
        server.sees_the_end().await;
        harness.empties().await;
    }
    harness.close().await;
}

#[tokio::test]
async fn initialize_is_sent_once() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let reply = client.json_only().post(INITIALIZE).send().await;
    assert_eq!(reply.status, 200);
    let error = reply.json().await;
    assert_eq!((&error["id"], &error["error"]["code"]), (&"hello".into(), &(-32600).into()));
    server.hears_nothing().await;
    harness.no_more_servers();
    // The session goes on.
    client.tells(&notification("notifications/x", "{}")).await;
    server.hears("notifications/x").await;
    harness.close().await;
}

#[tokio::test]
async fn without_a_session_there_is_only_initialize() {
    let mut harness = Harness::new().await;
    let client = harness.new_client();
    let batch = format!("[{INITIALIZE}]");
    let bodies = [call(4, "tools/list", "{}"), INITIALIZED.into(), crate::common::result(1, "{}"), batch];
    for body in bodies {
        let reply = client.post(body.clone()).send().await;
        assert_eq!(reply.status, 400, "{body}");
        let error = reply.json().await;
        assert_eq!(error["error"]["code"], -32600, "{body}");
        assert!(error["error"]["message"].as_str().unwrap().contains("initialize"), "{error}");
    }
    for method in ["GET", "DELETE"] {
        assert_eq!(client.request(method).send().await.status, 400);
    }
    harness.no_more_servers();
    harness.close().await;
}

#[tokio::test]
async fn sessions_do_not_see_each_other() {
    let mut harness = Harness::new().await;
    let (one, mut server_one) = harness.session().await;
    let (two, mut server_two) = harness.session().await;
    assert_ne!(one.session, two.session);
    // The same id, at the same time, on both.
    let call_one = one.asks(&call(1, "who", "{}"));
    let call_two = two.asks(&call(1, "who", "{}"));
    let (heard_one, heard_two) = (server_one.hears("who").await, server_two.hears("who").await);
    server_two.answers(&heard_two, r#"{"i":"two"}"#).await;
    server_one.answers(&heard_one, r#"{"i":"one"}"#).await;
    assert_eq!(call_one.data().await, r#"{"jsonrpc":"2.0","id":1,"result":{"i":"one"}}"#);
    assert_eq!(call_two.data().await, r#"{"jsonrpc":"2.0","id":1,"result":{"i":"two"}}"#);
    one.deletes().await;
    server_one.sees_the_end().await;
    two.tells(&notification("notifications/x", "{}")).await;
    server_two.hears("notifications/x").await;
    harness.close().await;
}

#[tokio::test]
async fn delete_ends_the_session_and_its_calls() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let mut calling = client.calls(&call(1, "slow", "{}")).await;
    let listening = client.listens().await;
    server.hears("slow").await;
    client.deletes().await;
    let error = calling.data_json().await;
    assert_eq!((&error["id"], &error["error"]["code"]), (&1.into(), &(-31012).into()), "{error}");
    assert_eq!(error["error"]["data"]["reason"], "deleted");
    calling.ends().await;
    drop(listening);
    server.sees_the_end().await;
    let requests =
        [client.post(call(2, "x", "{}")), client.post(INITIALIZED), client.request("GET"), client.request("DELETE")];
    for request in requests {
        let reply = request.send().await;
        assert_eq!(reply.status, 404);
        assert_eq!(reply.json().await["error"]["code"], -32001);
    }
    harness.close().await;
}

#[tokio::test]
async fn what_a_server_says_first_comes_before_its_answer() {
    let mut harness = Harness::new().await;
    let opening = harness.new_client().post(INITIALIZE).start();
    let mut server = harness.server().await;
    let hello = server.hears("initialize").await;
    server.says(&notification("notifications/message", "{}")).await;
    server.answers(&hello, INITIALIZE_RESULT).await;
    let mut reply = opening.reply().await;
    assert!(reply.header("mcp-session-id").is_some());
    assert_eq!(reply.data().await, notification("notifications/message", "{}"));
    assert_eq!(reply.data().await, format!(r#"{{"jsonrpc":"2.0","id":"hello","result":{INITIALIZE_RESULT}}}"#));
    harness.close().await;
}

#[tokio::test]
async fn a_server_that_talks_and_then_refuses_opens_no_session() {
    let mut harness = Harness::new().await;
    let opening = harness.new_client().post(INITIALIZE).start();
    let mut server = harness.server().await;
    let hello = server.hears("initialize").await;
    server.says(&notification("notifications/message", r#"{"data":"starting"}"#)).await;
    server.hears_nothing().await;
    server.says(&format!(r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":1,"message":"no"}}}}"#, hello.id)).await;
    let reply = opening.reply().await;
    let named = reply.header("mcp-session-id").is_some();
    assert!(reply.text().await.contains(r#""code":1"#));
    server.sees_the_end().await;
    harness.empties().await;
    assert!(!named, "a session is named only when the server has agreed to it");
    harness.close().await;
}
