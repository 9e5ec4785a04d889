//! Two demo servers with all that they can do.

use serde_json::json;
use sessile::{Filter, Offered, Proxy, ServerState};

use crate::{SessionClient, demo};

fn two_demos() -> sessile::ProxyBuilder {
    Proxy::builder().server("one", demo()).server("two", demo())
}

#[tokio::test]
async fn they_appear_as_one() {
    let proxy = two_demos().build().unwrap();
    let (mut client, initialize_result) = SessionClient::open(&proxy).await;
    assert_eq!(initialize_result["serverInfo"]["name"], "sessile");
    assert_eq!(initialize_result["capabilities"]["tools"]["listChanged"], true);
    let tools = client.names("tools/list", "tools", "name").await;
    let (ones, twos): (Vec<_>, Vec<_>) = tools.iter().partition(|name| name.starts_with("one_"));
    assert!(
        ones.len() > 3 && ones.len() == twos.len() && twos.iter().all(|name| name.starts_with("two_")),
        "{tools:?}"
    );
    // Each counts for itself.
    for _ in 0..3 {
        client.tool("one_increment", json!({})).await;
    }
    assert_eq!(client.tool("two_increment", json!({ "by": 10 })).await, "10");
    assert_eq!(client.tool("one_counter", json!({})).await, "3");
    // Both ask, and each gets its answer.
    for name in ["one", "two"] {
        assert_eq!(client.tool(&format!("{name}_ask"), json!({})).await, "Hello, Anna!");
        assert_eq!(client.tool(&format!("{name}_haiku"), json!({})).await, "a poem");
    }
    let prompts = client.names("prompts/list", "prompts", "name").await;
    assert_eq!(prompts, ["one_review_notes", "two_review_notes"]);
    client.result("prompts/get", json!({ "name": "two_review_notes" })).await;
    let call = json!({ "name": "two_countdown", "arguments": { "steps": 2, "delay_ms": 1 }, "_meta": { "progressToken": "t" } });
    client.result("tools/call", call).await;
    for _ in 0..2 {
        assert_eq!(client.hears_of("notifications/progress").await["params"]["progressToken"], "t");
    }
    let (code, message) = client.error("resources/read", json!({ "uri": "demo://notebook" })).await;
    assert!(code == -32602 && message.contains("`one` and `two`") && message.contains("`prefix_uris`"), "{message}");
    let listed = &proxy.sessions().list()[0].servers;
    let states: Vec<_> = listed.iter().map(|server| (server.name.as_str(), server.pid, server.state)).collect();
    assert_eq!(states, [("one", None, ServerState::Ready), ("two", None, ServerState::Ready)]);
    client.leaves(&proxy).await;
}

#[tokio::test]
async fn two_users_have_two_of_each() {
    let proxy = two_demos().build().unwrap();
    let ((mut anna, _), (mut berta, _)) = tokio::join!(SessionClient::open(&proxy), SessionClient::open(&proxy));
    assert_eq!((proxy.sessions().len(), proxy.sessions().links()), (2, 4));
    for _ in 0..20 {
        tokio::join!(anna.tool("one_increment", json!({})), berta.tool("two_increment", json!({})));
    }
    let (a, b) = tokio::join!(anna.tool("two_counter", json!({})), berta.tool("one_counter", json!({})));
    assert_eq!((a.as_str(), b.as_str()), ("0", "0"));
    let (a, b) = tokio::join!(anna.tool("one_counter", json!({})), berta.tool("two_counter", json!({})));
    assert_eq!((a.as_str(), b.as_str()), ("20", "20"));
    drop(anna);
    berta.leaves(&proxy).await;
}

#[tokio::test]
async fn uris_name_their_servers() {
    let proxy = two_demos().prefix_uris(true).build().unwrap();
    let (mut client, _) = SessionClient::open(&proxy).await;
    let uris = client.names("resources/list", "resources", "uri").await;
    assert_eq!(uris, ["demo://one/notebook", "demo://two/notebook"]);
    client.tool("two_note_add", json!({ "text": "milk" })).await;
    let read = client.result("resources/read", json!({ "uri": "demo://two/notebook" })).await;
    assert_eq!(read["contents"][0]["uri"], "demo://two/notebook");
    assert!(read["contents"][0]["text"].as_str().unwrap().contains("milk"), "{read}");
    let other = client.result("resources/read", json!({ "uri": "demo://one/notebook" })).await;
    assert!(!other["contents"][0]["text"].as_str().unwrap().contains("milk"), "{other}");
    client.result("resources/subscribe", json!({ "uri": "demo://two/notebook" })).await;
    client.tool("two_note_add", json!({ "text": "bread" })).await;
    let updated = client.hears_of("notifications/resources/updated").await;
    assert_eq!(updated["params"]["uri"], "demo://two/notebook");
    client.leaves(&proxy).await;
}

#[tokio::test]
async fn without_prefix_names_stay_where_they_do_not_clash() {
    let only = |tools: [&str; 2]| Filter::new().allow(Offered::Tools, tools).unwrap();
    let proxy = two_demos()
        .prefix(false)
        .filter("one", only(["increment", "counter"]))
        .filter("two", only(["ask", "counter"]))
        .build()
        .unwrap();
    let (mut client, _) = SessionClient::open(&proxy).await;
    // Before anything was listed.
    assert_eq!(client.tool("increment", json!({})).await, "1");
    let (code, message) = client.error("tools/call", json!({ "name": "counter" })).await;
    assert!(code == -32602 && message.contains("`one` and `two`"), "{message}");
    let mut tools = client.names("tools/list", "tools", "name").await;
    tools.sort();
    assert_eq!(tools, ["ask", "counter", "increment"]);
    assert_eq!(client.tool("ask", json!({})).await, "Hello, Anna!");
    assert_eq!(client.error("tools/call", json!({ "name": "haiku" })).await.0, -32602);
    client.leaves(&proxy).await;
}

#[tokio::test]
async fn one_server_with_a_filter_has_no_prefix() {
    let filter =
        Filter::new().allow(Offered::Tools, ["inc*", "c*"]).unwrap().deny(Offered::Tools, ["countdown"]).unwrap();
    let filter = filter.deny(Offered::Resources, ["demo://*"]).unwrap();
    let proxy = Proxy::builder().backend(demo()).filter("backend", filter).build().unwrap();
    let (mut client, initialize_result) = SessionClient::open(&proxy).await;
    assert_eq!(initialize_result["serverInfo"]["name"], "sessile-demo");
    let mut tools = client.names("tools/list", "tools", "name").await;
    tools.sort();
    assert_eq!(tools, ["counter", "increment"]);
    assert_eq!(client.tool("increment", json!({})).await, "1");
    assert_eq!(
        client.error("tools/call", json!({ "name": "countdown" })).await,
        (-32602, "unknown tool: countdown".into())
    );
    assert_eq!(client.names("resources/list", "resources", "uri").await, [""; 0]);
    assert_eq!(client.error("resources/read", json!({ "uri": "demo://notebook" })).await.0, -32002);
    assert_eq!(proxy.sessions().list()[0].servers[0].state, ServerState::Ready);
    client.leaves(&proxy).await;
}
