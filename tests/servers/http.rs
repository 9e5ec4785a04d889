//! Several servers behind the streamable HTTP front.

use serde_json::json;

use crate::common::{HttpClient, HttpEndpoint, INITIALIZE, INITIALIZED, call, notification, result, until};
use crate::{initialized_server, two};

#[tokio::test]
async fn each_servers_messages_take_the_stream_of_its_own_call() {
    let (proxy, mut servers_of_a, mut servers_of_b) = two(|builder| builder);
    let mut client = HttpClient::new(HttpEndpoint::Router(proxy.clone().into_router()));
    let opening = client.post(INITIALIZE).start();
    let tools = json!({ "tools": {} });
    let (mut a, mut b) =
        (initialized_server(&mut servers_of_a, &tools).await, initialized_server(&mut servers_of_b, &tools).await);
    client.session = opening.reply().await.header("mcp-session-id").map(str::to_owned);
    client.tells(INITIALIZED).await;
    a.hears("notifications/initialized").await;
    b.hears("notifications/initialized").await;
    // No GET stream is open, and neither server says on which call's behalf it speaks.
    let calling_a = client.asks(&call(1, "tools/call", r#"{"name":"a_x"}"#));
    let heard_by_a = a.hears("tools/call").await;
    let calling_b = client.asks(&call(2, "tools/call", r#"{"name":"b_x"}"#));
    let heard_by_b = b.hears("tools/call").await;
    a.says(&notification("notifications/message", r#"{"level":"info","data":"a"}"#)).await;
    b.says(&call("\"q\"", "roots/list", "{}")).await;
    let (mut at_a, mut at_b) = (calling_a.reply().await, calling_b.reply().await);
    assert_eq!(at_a.data_json().await["params"]["data"], "a");
    let server_request = at_b.data_json().await;
    assert_eq!(server_request["method"], "roots/list");
    client.tells(&result(&server_request["id"], r#"{"roots":[]}"#)).await;
    assert_eq!(b.hears_answer().await.text, result("\"q\"", r#"{"roots":[]}"#));
    b.answers(&heard_by_b, r#"{"content":[]}"#).await;
    assert_eq!(at_b.data().await, result(2, r#"{"content":[]}"#));
    a.answers(&heard_by_a, r#"{"content":[]}"#).await;
    assert_eq!(at_a.data().await, result(1, r#"{"content":[]}"#));
    client.deletes().await;
    a.sees_the_end().await;
    b.sees_the_end().await;
    until("all is gone", || proxy.sessions().is_empty() && proxy.sessions().links() == 0).await;
}
