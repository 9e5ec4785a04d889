//! Servers that take their time, with the clock stopped in between.

use serde_json::json;
use tokio::time::Instant;

use crate::common::soon;
use crate::{SessionClient, initialized_server, seconds, two};

#[tokio::test(start_paused = true)]
async fn a_session_begins_without_a_slow_server_and_hears_when_it_comes() {
    let (proxy, mut servers_of_a, mut servers_of_b) = two(|builder| builder);
    let begin = Instant::now();
    let tools = json!({ "tools": {} });
    let ((mut client, initialize_result), mut a) =
        tokio::join!(SessionClient::open(&proxy), initialized_server(&mut servers_of_a, &tools));
    assert_eq!(begin.elapsed().as_secs(), 10);
    assert_eq!(initialize_result["capabilities"]["tools"]["listChanged"], true);
    a.hears("notifications/initialized").await;
    let (code, message) = client.error("tools/call", json!({ "name": "b_x" })).await;
    assert!(code == -31011 && message.contains("`b`"), "{message}");
    seconds(30).await;
    let mut b = initialized_server(&mut servers_of_b, &tools).await;
    b.hears("notifications/initialized").await;
    client.hears_of("notifications/tools/list_changed").await;
    let pending = client.asks("tools/call", &json!({ "name": "b_x" })).await;
    let heard = b.hears("tools/call").await;
    assert_eq!(heard.params, r#"{"name":"x"}"#);
    b.answers(&heard, "{}").await;
    client.answer_to(&pending).await;
    client.leaves(&proxy).await;
}

#[tokio::test(start_paused = true)]
async fn a_list_does_not_wait_for_a_slow_server() {
    let (proxy, mut servers_of_a, mut servers_of_b) = two(|builder| builder);
    let tools = json!({ "tools": {} });
    let opening = async {
        tokio::join!(initialized_server(&mut servers_of_a, &tools), initialized_server(&mut servers_of_b, &tools))
    };
    let ((mut client, _), (mut a, mut b)) = tokio::join!(SessionClient::open(&proxy), opening);
    a.hears("notifications/initialized").await;
    b.hears("notifications/initialized").await;
    let begin = Instant::now();
    let pending = client.asks("tools/list", &json!({})).await;
    let (heard_by_a, heard_by_b) = (a.hears("tools/list").await, b.hears("tools/list").await);
    a.answers(&heard_by_a, r#"{"tools":[{"name":"x"}]}"#).await;
    let listed = soon("a list", client.answer_to(&pending)).await;
    assert_eq!(listed["result"]["tools"], json!([{ "name": "a_x" }]));
    assert_eq!(begin.elapsed().as_secs(), 10);
    b.answers(&heard_by_b, r#"{"tools":[{"name":"y"}]}"#).await;
    client.hears_of("notifications/tools/list_changed").await;
    let pending = client.asks("tools/list", &json!({})).await;
    let (heard_by_a, heard_by_b) = (a.hears("tools/list").await, b.hears("tools/list").await);
    b.answers(&heard_by_b, r#"{"tools":[{"name":"y"}]}"#).await;
    a.answers(&heard_by_a, r#"{"tools":[{"name":"x"}]}"#).await;
    assert_eq!(client.answer_to(&pending).await["result"]["tools"], json!([{ "name": "a_x" }, { "name": "b_y" }]));
    client.leaves(&proxy).await;
}
