//! One of several servers ends.

use serde_json::json;
use sessile::{ChildBackend, EndReason, Proxy, ServerState};

use crate::common::{result, soon, until};
use crate::{SessionClient, demo, initialized_server, two};

#[cfg(feature = "cli")]
#[tokio::test]
async fn a_process_that_dies_leaves_the_others_at_work() {
    let child = ChildBackend::new(env!("CARGO_BIN_EXE_sessile")).args(["demo"]);
    let proxy = Proxy::builder().server("child", child).server("here", demo()).build().unwrap();
    let (mut client, _) = SessionClient::open(&proxy).await;
    assert_eq!(client.tool("child_increment", json!({})).await, "1");
    assert_eq!(client.tool("here_increment", json!({})).await, "1");
    let slow = client
        .asks("tools/call", &json!({ "name": "child_countdown", "arguments": { "steps": 1000, "delay_ms": 1000 } }))
        .await;
    let servers = proxy.sessions().list()[0].servers.clone();
    let pid = servers[0].pid.unwrap();
    assert_eq!(servers[1].pid, None);
    let killed = tokio::process::Command::new("kill").arg("-KILL").arg(pid.to_string()).status().await.unwrap();
    assert!(killed.success());
    let answer = client.answer_to(&slow).await;
    assert_eq!(
        (&answer["error"]["code"], &answer["error"]["data"]["server"]),
        (&json!(-31010), &json!("child")),
        "{answer}"
    );
    client.hears_of("notifications/tools/list_changed").await;
    let (code, message) = client.error("tools/call", json!({ "name": "child_increment" })).await;
    assert!(code == -31010 && message.starts_with("server `child`: it exited"), "{message}");
    // The other has lost nothing.
    assert_eq!(client.tool("here_increment", json!({})).await, "2");
    let tools = client.names("tools/list", "tools", "name").await;
    assert!(!tools.is_empty() && tools.iter().all(|name| name.starts_with("here_")), "{tools:?}");
    let servers = proxy.sessions().list()[0].servers.clone();
    assert_eq!((servers[0].state, servers[1].state), (ServerState::Gone, ServerState::Ready));
    until("its link is gone", || proxy.sessions().links() == 1).await;
    client.leaves(&proxy).await;
}

#[tokio::test]
async fn a_program_that_is_not_there_leaves_the_others_at_work() {
    let missing = ChildBackend::new("/nowhere/no-such-server");
    let proxy = Proxy::builder().server("missing", missing).server("here", demo()).build().unwrap();
    let (mut client, _) = SessionClient::open(&proxy).await;
    let (code, message) = client.error("tools/call", json!({ "name": "missing_x" })).await;
    assert!(code == -31011 && message.starts_with("server `missing`: the backend could not be started"), "{message}");
    assert_eq!(client.tool("here_increment", json!({})).await, "1");
    client.leaves(&proxy).await;
}

#[tokio::test]
async fn the_last_server_takes_the_session_with_it() {
    let (proxy, mut servers_of_a, mut servers_of_b) = two(|builder| builder);
    let none = json!({});
    let opening = async {
        tokio::join!(initialized_server(&mut servers_of_a, &none), initialized_server(&mut servers_of_b, &none))
    };
    let ((mut client, _), (mut a, mut b)) = tokio::join!(SessionClient::open(&proxy), opening);
    a.hears("notifications/initialized").await;
    b.hears("notifications/initialized").await;
    a.exits(Ok(())).await;
    let pending = client.asks("tools/call", &json!({ "name": "b_x" })).await;
    let heard = b.hears("tools/call").await;
    b.says(&result(&heard.id, "{}")).await;
    client.answer_to(&pending).await;
    b.exits(Err("gone")).await;
    assert!(matches!(soon("the session ends", client.line.sees_the_end()).await, EndReason::BackendGone(_)));
}

#[tokio::test]
async fn a_server_that_reads_no_more_is_given_up_alone() {
    use sessile::SessionSettings;
    let settings = SessionSettings { session_budget: 16 * 1024, max_in_flight: 4, ..SessionSettings::default() };
    let (proxy, mut servers_of_a, mut servers_of_b) = two(|builder| builder.session(settings));
    let none = json!({});
    let opening = async {
        tokio::join!(initialized_server(&mut servers_of_a, &none), initialized_server(&mut servers_of_b, &none))
    };
    let ((mut client, _), (a, mut b)) = tokio::join!(SessionClient::open(&proxy), opening);
    b.hears("notifications/initialized").await;
    a.stops_listening();
    // Its own requests, whose answers it does not take, are what fills its queue.
    a.floods(&crate::common::call("\"p\"", "ping", "{}"), 30_000).await;
    until("it is given up", || {
        proxy.sessions().list().first().is_some_and(|session| session.servers[0].state == ServerState::Gone)
    })
    .await;
    let pending = client.asks("tools/call", &json!({ "name": "b_x" })).await;
    let heard = b.hears("tools/call").await;
    b.says(&result(&heard.id, "{}")).await;
    client.answer_to(&pending).await;
    a.is_gone().await;
    client.leaves(&proxy).await;
}
