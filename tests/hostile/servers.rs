//! Servers that die, babble, or answer what they were not asked.

use serde_json::{Value, json};
use sessile::{HttpSettings, SessionSettings};

use crate::common::{Harness, HttpClient, INITIALIZED, ScriptedServer, call, notification, result};

/// The session still does its work.
async fn is_well(client: &HttpClient, server: &mut ScriptedServer) {
    let asking = client.asks(&call("\"well?\"", "how-are-you", "{}"));
    let heard = server.hears("how-are-you").await;
    server.answers(&heard, r#""well""#).await;
    assert_eq!(asking.data().await, result("\"well?\"", r#""well""#));
}

fn exited(error: &Value) {
    assert_eq!(error["error"]["code"], -31010, "{error}");
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains("exited") && message.contains("lost"), "{message}");
    let data = &error["error"]["data"];
    assert_eq!(
        (&data["type"], &data["stateLost"], &data["generation"]),
        (&json!("backend_exited"), &json!(true), &json!(1))
    );
}

#[tokio::test]
async fn who_dies_in_a_call_is_said_to_have_died() {
    let mut harness = Harness::new().await;
    let (bystander, mut untouched) = harness.session().await;
    for last_words in ["", r#"{"jsonrpc":"2.0","id":1,"resu"#, "Segmentation fault"] {
        let (client, mut server) = harness.session().await;
        let calls = [client.asks(&call(1, "slow", "{}")), client.json_only().asks(&call("\"two\"", "slow", "{}"))];
        let batch = client.asks(&format!("[{},{}]", call(3, "slow", "{}"), call(4, "slow", "{}")));
        for _ in 0..4 {
            server.hears("slow").await;
        }
        let listening = client.listens().await;
        server.says_bytes(last_words.as_bytes()).await;
        server.exits(Err("out of memory")).await;
        let mut ids = Vec::new();
        for calling in calls {
            let error = calling.json().await;
            exited(&error);
            // This client is on loopback, so it may hear the reason.
            assert!(error["error"]["message"].as_str().unwrap().contains("out of memory"), "{error}");
            ids.push(error["id"].clone());
        }
        assert_eq!(ids, [json!(1), json!("two")]);
        let errors = batch.json().await;
        assert_eq!(errors.as_array().unwrap().len(), 2);
        errors.as_array().unwrap().iter().for_each(exited);
        let mut listening = listening;
        while listening.block().await.is_some() {}
        assert_eq!(client.post(INITIALIZED).send().await.status, 404);
        assert_eq!(client.request("GET").send().await.status, 404);
        is_well(&bystander, &mut untouched).await;
    }
    harness.close().await;
}

#[tokio::test]
async fn its_last_answer_still_counts() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let (one, two) = (client.asks(&call(1, "slow", "{}")), client.json_only().asks(&call(2, "slow", "{}")));
    let mut heard = [server.hears("slow").await, server.hears("slow").await];
    heard.sort_by_key(|heard| heard.id.clone());
    // No newline after it, and no time between it and the end.
    server.says_bytes(result(&heard[0].id, "{}").as_bytes()).await;
    server.exits(Ok(())).await;
    let answers = [one.json().await, two.json().await];
    assert_eq!(answers.iter().filter(|answer| answer["result"] == json!({})).count(), 1, "{answers:?}");
    answers.iter().filter(|answer| answer["result"].is_null()).for_each(exited);
    harness.close().await;
}

#[tokio::test]
async fn a_line_client_sees_the_end_of_its_session() {
    let mut harness = Harness::in_process(SessionSettings::default(), HttpSettings::default());
    let (mut client, mut server) = harness.line_session(1024).await;
    client.says(&call(1, "slow", "{}")).await;
    server.hears("slow").await;
    server.exits(Err("oops")).await;
    exited(&client.hears_json().await);
    assert!(matches!(client.sees_the_end().await, sessile::EndReason::BackendGone(_)));
    harness.close().await;
}

#[tokio::test]
async fn who_closes_its_output_is_gone() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let calling = client.asks(&call(1, "slow", "{}"));
    server.hears("slow").await;
    server.closes_its_output().await;
    exited(&calling.json().await);
    assert_eq!(client.post(INITIALIZED).send().await.status, 404);
    harness.close().await;
}

#[tokio::test]
async fn a_server_that_panics_ends_its_session_only() {
    let (started, mut servers) = tokio::sync::mpsc::channel(8);
    let backend = sessile::InProcessBackend::over_bytes("panics", move |io| {
        let _ = started.try_send(());
        async move {
            let mut line = String::new();
            let _ = tokio::io::AsyncBufReadExt::read_line(&mut tokio::io::BufReader::new(io), &mut line).await;
            panic!("a defect in the server");
        }
    });
    let proxy = sessile::Proxy::builder().backend(backend).build().unwrap();
    let mut client = crate::common::LineClient::new(&proxy, 1024);
    client.says(crate::common::INITIALIZE).await;
    servers.recv().await.unwrap();
    assert_eq!(client.hears_json().await["error"]["code"], -31011);
    client.sees_the_end().await;
    crate::common::until("nothing is left", || proxy.sessions().links() == 0 && proxy.sessions().is_empty()).await;
}

#[tokio::test]
async fn a_factory_that_panics_fails_one_handshake() {
    let panics = std::sync::atomic::AtomicBool::new(true);
    let backend = sessile::InProcessBackend::rmcp(move || {
        assert!(!panics.swap(false, std::sync::atomic::Ordering::Relaxed), "password=hunter2");
        sessile::demo::Demo::new()
    });
    let proxy = sessile::Proxy::builder().backend(backend).build().unwrap();
    let client = HttpClient::new(crate::common::HttpEndpoint::Router(proxy.clone().into_router()));
    let reply = client.post(crate::common::INITIALIZE).send().await;
    assert_eq!(reply.header("mcp-session-id"), None);
    let error = reply.json().await;
    assert_eq!((&error["id"], &error["error"]["code"]), (&json!("hello"), &json!(-31011)), "{error}");
    let reason = "its factory panicked, and the log of the proxy says why";
    assert_eq!(error["error"]["data"], json!({ "type": "backend_unavailable", "reason": reason }));
    crate::common::until("nothing is left", || proxy.sessions().links() == 0 && proxy.sessions().is_empty()).await;

    let mut client = crate::common::LineClient::new(&proxy, 1024);
    client.says(crate::common::INITIALIZE).await;
    assert_eq!(client.hears_json().await["result"]["serverInfo"]["name"], "sessile-demo");
    client.leaves().await;
    crate::common::until("nothing is left", || proxy.sessions().links() == 0 && proxy.sessions().is_empty()).await;
}

#[tokio::test]
async fn factories_that_block_hold_up_their_own_sessions_only() {
    // More of them than this runtime has workers: it has one.
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let blocking = std::sync::atomic::AtomicUsize::new(3);
    let (begun, mut begins) = tokio::sync::mpsc::channel(3);
    let backend = sessile::InProcessBackend::rmcp(move || {
        let take = |left: usize| left.checked_sub(1);
        let ordering = std::sync::atomic::Ordering::Relaxed;
        if blocking.fetch_update(ordering, ordering, take).is_ok() {
            begun.try_send(()).unwrap();
            let _ = released.lock().unwrap().recv_timeout(crate::common::WAIT_LIMIT);
        }
        sessile::demo::Demo::new()
    });
    let settings = SessionSettings { drain: std::time::Duration::from_millis(1), ..SessionSettings::default() };
    let proxy = sessile::Proxy::builder().backend(backend).session(settings).build().unwrap();
    let mut clients: Vec<_> = (0..4).map(|_| crate::common::LineClient::new(&proxy, 1024)).collect();
    for client in &mut clients[..3] {
        client.says(crate::common::INITIALIZE).await;
        crate::common::soon("its factory is asked", begins.recv()).await.unwrap();
    }
    clients[3].says(crate::common::INITIALIZE).await;
    assert_eq!(clients[3].hears_json().await["id"], "hello");
    // A client that leaves is let go, whatever its factory does.
    clients.remove(0).leaves().await;
    assert_eq!(proxy.sessions().len(), 3);
    drop(release);
    for mut client in clients.drain(..2) {
        assert_eq!(client.hears_json().await["id"], "hello");
        client.leaves().await;
    }
    clients.remove(0).leaves().await;
    crate::common::until("nothing is left", || proxy.sessions().links() == 0 && proxy.sessions().is_empty()).await;
}

#[tokio::test]
async fn a_server_that_gives_its_end_away_is_ended_all_the_same() {
    // Its own future is over at once; what it started holds the pipe, and takes no notice of anything.
    let backend = sessile::InProcessBackend::over_bytes("gives away", move |io| {
        tokio::spawn(async move {
            let _held = io;
            std::future::pending::<()>().await;
        });
        async { Ok(()) }
    });
    let proxy = sessile::Proxy::builder().backend(backend).build().unwrap();
    let mut client = crate::common::LineClient::new(&proxy, 1024);
    client.says(crate::common::INITIALIZE).await;
    crate::common::until("a session is open", || !proxy.sessions().is_empty()).await;
    client.leaves().await;
    crate::common::until("nothing is left", || proxy.sessions().links() == 0 && proxy.sessions().is_empty()).await;
}

#[tokio::test]
async fn babble_is_passed_over() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let mut listening = client.listens().await;
    for babble in [
        "Listening on stdin...",
        "{",
        "}",
        "\u{1b}[31mwarning\u{1b}[0m",
        r#"{"level":"info","msg":"started"}"#,
        r#"{"jsonrpc":"2.0"}"#,
        r#"{"jsonrpc":"1.0","method":"x"}"#,
        r#"{"jsonrpc":"2.0","method":7}"#,
        r#"{"jsonrpc":"2.0","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"parse error"}}"#,
        "[]",
        "[[[]]]",
        "null",
        "0",
        "",
        " \t ",
    ] {
        server.says(babble).await;
    }
    server.says_bytes(b"\xff\xfe\x00{\"jsonrpc\":\"2.0\",\"method\":\"\xff\"}\n\r\n\n").await;
    server.says_bytes(format!("{}\r\n", notification("notifications/real", "{}")).as_bytes()).await;
    listening.block().await;
    assert_eq!(listening.data().await, notification("notifications/real", "{}"));
    is_well(&client, &mut server).await;
    harness.close().await;
}

#[tokio::test]
async fn answers_that_nobody_waits_for_are_dropped() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let mut listening = client.listens().await;
    listening.block().await;
    let calling = client.asks(&call(1, "slow", "{}"));
    let heard = server.hears("slow").await;
    let id = &heard.id;
    for stray in ["0", "-1", "999", "1.5", "1e400", "18446744073709551616", "null", &format!("\"{id}\""), "\"hello\""] {
        server.says(&result(stray, r#""stray""#)).await;
    }
    server.says(&result(id, r#""right""#)).await;
    server.says(&result(id, r#""again""#)).await;
    assert_eq!(calling.data().await, result(1, r#""right""#));
    listening.stays_silent().await;
    is_well(&client, &mut server).await;
    harness.close().await;
}

#[tokio::test]
async fn an_answer_that_is_no_json_rpc_is_an_error_for_its_call() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    for body in [
        r#""result":{},"error":{"code":1,"message":"both"}"#,
        r#""error":"text""#,
        r#""error":null"#,
        r#""result":1,"result":2"#,
        r#""result":{},"jsonrpc":"3.0""#,
    ] {
        let calling = client.asks(&call(1, "x", "{}"));
        let heard = server.hears("x").await;
        server.says(&format!(r#"{{"jsonrpc":"2.0","id":{},{body}}}"#, heard.id)).await;
        let error = calling.json().await;
        assert_eq!((&error["id"], &error["error"]["code"]), (&json!(1), &json!(-31009)), "{body}: {error}");
    }
    is_well(&client, &mut server).await;
    harness.close().await;
}

#[tokio::test]
async fn a_server_request_that_is_no_json_rpc_is_answered_with_an_error() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    server.says(r#"{"jsonrpc":"2.0","id":"q","method":"roots/list","params":7}"#).await;
    let answer: Value = serde_json::from_str(&server.hears_answer().await.text).unwrap();
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!("q"), &json!(-32600)));
    is_well(&client, &mut server).await;
    harness.close().await;
}

#[tokio::test]
async fn one_id_for_two_server_requests() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let mut listening = client.listens().await;
    server.says(&call(1, "roots/list", r#"{"n":1}"#)).await;
    server.says(&call(1, "roots/list", r#"{"n":2}"#)).await;
    let (one, two) = (listening.data_json().await, listening.data_json().await);
    assert_ne!(one["id"], two["id"]);
    client.tells(&result(&two["id"], r#""two""#)).await;
    assert_eq!(server.hears_answer().await.text, result(1, r#""two""#));
    client.tells(&result(&one["id"], r#""one""#)).await;
    assert_eq!(server.hears_answer().await.text, result(1, r#""one""#));
    harness.close().await;
}

#[tokio::test]
async fn too_many_server_requests_are_refused() {
    let settings = SessionSettings { max_in_flight: 4, ..SessionSettings::default() };
    let mut harness = Harness::on_tcp(settings, HttpSettings::default()).await;
    let (client, mut server) = harness.session().await;
    let mut listening = client.listens().await;
    for number in 0..5 {
        server.says(&call(number, "roots/list", "{}")).await;
    }
    let refused: Value = serde_json::from_str(&server.hears_answer().await.text).unwrap();
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(4), &json!(-31019)));
    for _ in 0..4 {
        listening.data().await;
    }
    is_well(&client, &mut server).await;
    harness.close().await;
}

#[tokio::test]
async fn responses_of_the_client_do_not_count_as_responses_of_sessile() {
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let mut listening = client.listens().await;
    // More than sessile's own responses may be that are not read. With its own id a response is longer than it came.
    let ids: Vec<_> = (0..150).map(|number| format!("\"{number}{}\"", "x".repeat(900))).collect();
    let mut asked = Vec::new();
    for id in &ids {
        server.says(&call(id, "roots/list", "{}")).await;
        asked.push(listening.data_json().await["id"].clone());
    }
    server.stops_listening();
    for own in &asked {
        client.tells(&result(own, &format!(r#""{}""#, "y".repeat(2000)))).await;
    }
    server.listens_again();
    for id in &ids {
        let heard = server.hears_answer().await.text;
        assert_eq!(heard, result(id, &format!(r#""{}""#, "y".repeat(2000))));
    }
    is_well(&client, &mut server).await;
    harness.close().await;
}
