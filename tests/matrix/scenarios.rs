//! What a client does with the reference server, whatever lies between them.

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::common::{NamedClient, QUIET_TIME, soon};

const WATCHED: &str = "test://watched-resource";

/// Everything that one client can do alone.
pub(crate) async fn all(client: &mut NamedClient) {
    initialize_result(client).await;
    tools(client).await;
    resources_and_prompts(client).await;
    server_requests(client).await;
    a_server_request_of_no_call(client).await;
    progress(client).await;
    cancellation(client).await;
    lists_that_change(client).await;
    subscriptions(client).await;
    logging(client).await;
    big_messages(client).await;
}

async fn initialize_result(client: &mut NamedClient) {
    assert_eq!(client.initialize_result["serverInfo"]["name"], "reference-server");
    assert_eq!(client.initialize_result["protocolVersion"], "2025-11-25");
    assert_eq!(client.initialize_result["capabilities"]["resources"], json!({"subscribe": true, "listChanged": true}));
    assert_eq!(client.call("ping", Value::Null).await, json!({}));
    // The server knows its client, not the proxy.
    let known = client.uses("client", json!({})).await["structuredContent"].take();
    assert_eq!(known["clientInfo"]["name"], client.name.as_str());
    assert_eq!(known["protocolVersion"], "2025-11-25");
    assert_eq!(known["capabilities"]["roots"], json!({"listChanged": true}));
    knows(client, "initialized", 1).await;
}

/// Waits until the server has counted so many notifications of a kind: it deals with them beside the calls.
async fn knows(client: &mut NamedClient, what: &str, count: u64) {
    soon(what, async {
        while client.uses("client", json!({})).await["structuredContent"][what] != count {
            sleep(QUIET_TIME / 10).await;
        }
    })
    .await;
}

/// The names of all that is in a list, page by page.
async fn list(client: &mut NamedClient, what: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut params = json!({});
    loop {
        let page = client.call(&format!("{what}/list"), params).await;
        let items = page[what].as_array().unwrap();
        names.extend(items.iter().map(|item| item["name"].as_str().unwrap().to_owned()));
        let Some(next) = page.get("nextCursor") else { return names };
        params = json!({"cursor": next});
    }
}

async fn tools(client: &mut NamedClient) {
    let names = list(client, "tools").await;
    assert!(names.contains(&"counter".to_owned()) && names.contains(&"test_simple_text".to_owned()), "{names:?}");
    assert!(names.len() > 24, "it was to come in three pages");
    let odd = json!({
        "text": "a \" \\ / \u{7} \r\n \u{2028} ü 🜚", "": null, "list": [1, -2.5, 1e30, true, {}], "id": 1, "method": "x",
    });
    assert_eq!(client.uses("echo", odd.clone()).await["structuredContent"], odd);
    let image = client.uses("test_image_content", json!({})).await;
    assert_eq!(
        (&image["content"][0]["type"], &image["content"][0]["mimeType"]),
        (&json!("image"), &json!("image/png"))
    );
    let linked = client.uses("link", json!({"uri": "file:///tmp/a%20b"})).await;
    assert_eq!(
        (&linked["content"][0]["type"], &linked["content"][0]["uri"]),
        (&json!("resource_link"), &json!("file:///tmp/a%20b"),)
    );
    // What the server refuses, it refuses by itself.
    let failed = client.call("tools/call", json!({"name": "test_error_handling", "arguments": {}})).await;
    assert_eq!(failed["isError"], true);
    assert_eq!(client.fails("tools/call", json!({"name": "none", "arguments": {}})).await["code"], -32602);
    assert_eq!(client.fails("no/such/method", json!({})).await["code"], -32601);
    // Answers come when they are ready, not in the order of the calls.
    let slow = client.starts_tool("sleep_ms", json!({"ms": 150})).await;
    let quick = client.starts_tool("counter", json!({})).await;
    client.answer(quick).await;
    assert!(!client.is_answered(slow));
    assert_eq!(client.answer(slow).await["result"]["content"][0]["text"], "Slept 150 ms");
}

async fn resources_and_prompts(client: &mut NamedClient) {
    assert_eq!(list(client, "resources").await, ["static-text", "static-binary", "watched-resource"]);
    let read = client.call("resources/read", json!({"uri": "test://static-text"})).await;
    assert_eq!(read["contents"][0]["text"], "This is the content of the static text resource.");
    let templates = client.call("resources/templates/list", json!({})).await;
    assert_eq!(templates["resourceTemplates"][0]["uriTemplate"], "test://template/{id}/data");
    let read = client.call("resources/read", json!({"uri": "test://template/7/data"})).await;
    assert_eq!(read["contents"][0]["uri"], "test://template/7/data");
    let missing = client.fails("resources/read", json!({"uri": "test://none"})).await;
    assert_eq!(missing["data"]["uri"], "test://none");

    assert_eq!(list(client, "prompts").await.len(), 4);
    let arguments = json!({"arg1": "one", "arg2": "two"});
    let prompt =
        client.call("prompts/get", json!({"name": "test_prompt_with_arguments", "arguments": arguments})).await;
    assert_eq!(prompt["messages"][0]["content"]["text"], "Prompt with arguments: arg1='one', arg2='two'");
    let reference = json!({"type": "ref/prompt", "name": "test_prompt_with_arguments"});
    let completed = client
        .call("completion/complete", json!({"ref": reference, "argument": {"name": "arg1", "value": "par"}}))
        .await;
    assert_eq!(completed["completion"]["values"], json!(["paris", "park", "party"]));
}

/// The server asks the user, the model and the client, each within a call.
pub(crate) async fn server_requests(client: &mut NamedClient) {
    let name = client.name.clone();
    let before = client.asked.len();
    let answer = client.uses("ask", json!({"message": "how are you?"})).await;
    assert_eq!(answer["structuredContent"]["content"]["answer"], format!("{name} to how are you?"));
    let said = client.text("test_sampling", json!({"prompt": "a poem"})).await;
    assert_eq!(said, format!("LLM response: {name} to a poem"));
    let roots = client.uses("roots", json!({})).await["structuredContent"].take();
    assert_eq!(roots["roots"], json!([{"uri": format!("file:///home/{name}"), "name": name}]));
    let asked: Vec<_> = client.asked[before..].iter().map(|asked| asked["method"].as_str().unwrap()).collect();
    assert_eq!(asked, ["elicitation/create", "sampling/createMessage", "roots/list"]);
}

/// The server closes the stream on which its answer was to come: whoever called has to come back for it.
pub(crate) async fn reconnection(client: &mut NamedClient) {
    assert_eq!(client.text("test_reconnection", json!({})).await, "The answer comes late, and it has come");
}

/// The server asks when no call is in flight.
async fn a_server_request_of_no_call(client: &mut NamedClient) {
    let before = client.asked.len();
    client.uses("remind", json!({"ms": 60, "message": "still there?"})).await;
    client.is_asked(before + 1).await;
    let expected = format!("{} to still there?", client.name);
    soon("the server has the answer", async {
        while !client.text("reminded", json!({})).await.contains(&expected) {
            sleep(QUIET_TIME / 10).await;
        }
    })
    .await;
}

async fn progress(client: &mut NamedClient) {
    client.told.clear();
    // Two calls at once: each has its own token, of either kind.
    let call =
        |token: Value| json!({"name": "test_tool_with_progress", "arguments": {}, "_meta": {"progressToken": token}});
    let first = client.starts("tools/call", call(json!("abc"))).await;
    let second = client.starts("tools/call", call(json!(1))).await;
    for id in [first, second] {
        assert_eq!(client.answer(id).await["result"]["content"][0]["text"], "Progress was reported");
    }
    for token in [json!("abc"), json!(1)] {
        let own = client.told.iter().filter(|told| told["params"]["progressToken"] == token);
        let done: Vec<_> = own.map(|told| told["params"]["progress"].as_f64().unwrap()).collect();
        assert_eq!(done, [0.0, 50.0, 100.0], "{token}");
    }
}

async fn cancellation(client: &mut NamedClient) {
    client.told.clear();
    let meta = json!({"progressToken": "begun"});
    let call = json!({"name": "sleep_ms", "arguments": {"ms": 600_000}, "_meta": meta});
    let id = client.starts("tools/call", call).await;
    client.is_told("notifications/progress").await;
    client.cancels(id).await;
    soon("the server stops", async {
        while client.text("cancelled", json!({})).await != "1" {
            sleep(QUIET_TIME / 10).await;
        }
    })
    .await;
    client.settles().await;
    assert!(!client.is_answered(id), "a cancelled call was answered");
}

async fn lists_that_change(client: &mut NamedClient) {
    for what in ["tools", "prompts", "resources"] {
        client.uses("announce", json!({"what": what})).await;
        client.is_told(&format!("notifications/{what}/list_changed")).await;
    }
    let grown = client.text("grow", json!({})).await;
    client.is_told("notifications/tools/list_changed").await;
    assert_eq!(list(client, "tools").await.last(), Some(&grown));
    assert_eq!(client.text(&grown, json!({})).await, grown);
    client.tells("notifications/roots/list_changed", Value::Null).await;
    knows(client, "rootsChanged", 1).await;
}

async fn subscriptions(client: &mut NamedClient) {
    assert_eq!(client.uses("touch", json!({})).await["structuredContent"]["told"], false);
    client.call("resources/subscribe", json!({"uri": WATCHED})).await;
    let touched = client.uses("touch", json!({})).await["structuredContent"].take();
    assert_eq!(touched["told"], true);
    assert_eq!(client.is_told("notifications/resources/updated").await["params"]["uri"], WATCHED);
    let read = client.call("resources/read", json!({"uri": WATCHED})).await;
    assert_eq!(read["contents"][0]["text"], format!("Version {}", touched["version"]));
    client.call("resources/unsubscribe", json!({"uri": WATCHED})).await;
    assert_eq!(client.uses("touch", json!({})).await["structuredContent"]["told"], false);
    client.settles().await;
    assert!(client.told.iter().all(|told| told["method"] != "notifications/resources/updated"), "{:?}", client.told);
}

async fn logging(client: &mut NamedClient) {
    client.uses("flood", json!({"count": 100, "bytes": 10})).await;
    let mut numbers = Vec::new();
    for _ in 0..100 {
        let message = client.is_told("notifications/message").await;
        numbers.push(message["params"]["data"]["number"].as_u64().unwrap());
    }
    if !client.has_one_stream() {
        // They may have come on two: as long as the call was in flight on its own, then on the GET stream.
        numbers.sort_unstable();
    }
    assert!(numbers.iter().copied().eq(0..100), "{numbers:?}");
    client.call("logging/setLevel", json!({"level": "warning"})).await;
    client.uses("log", json!({"level": "info", "message": "too quiet"})).await;
    client.uses("log", json!({"level": "error", "message": "loud"})).await;
    assert_eq!(client.is_told("notifications/message").await["params"]["data"], "loud");
}

async fn big_messages(client: &mut NamedClient) {
    const BIG: usize = 3_000_000;
    let text = client.text("big", json!({"bytes": BIG})).await;
    assert!(text.len() == BIG && text.bytes().all(|byte| byte == b'x'));
    let long = "y\n".repeat(100_000);
    let mut echoed = client.uses("echo", json!({"long": long})).await;
    assert!(echoed["structuredContent"]["long"].take() == long.as_str(), "it came back another");
}

/// The next count of this client's server.
pub(crate) async fn count(client: &mut NamedClient) -> u64 {
    client.uses("counter", json!({})).await["structuredContent"]["session"].as_u64().unwrap()
}

/// The process that this client's server is in.
pub(crate) async fn process(client: &mut NamedClient) -> u64 {
    client.uses("pid", json!({})).await["structuredContent"]["pid"].as_u64().unwrap()
}

/// Two clients at once: each counts for itself and is asked its own requests.
pub(crate) async fn apart(one: &mut NamedClient, other: &mut NamedClient) {
    tokio::join!(alone(one, 10), alone(other, 7));
    let (first, second) = tokio::join!(count(one), count(other));
    assert_eq!((first, second), (13, 9), "the first had called it once before");
}

/// Does what shows in the state of the server, and is asked what shows whose it is.
pub(crate) async fn alone(client: &mut NamedClient, rounds: u64) {
    let name = client.name.clone();
    let start = count(client).await;
    let before = client.asked.len();
    for round in 1..=rounds {
        assert_eq!(count(client).await, start + round);
        let answer = client.uses("ask", json!({"message": format!("{name} {round}")})).await;
        assert_eq!(answer["structuredContent"]["content"]["answer"], format!("{name} to {name} {round}"));
        let said = client.text("test_sampling", json!({"prompt": name})).await;
        assert_eq!(said, format!("LLM response: {name} to {name}"));
    }
    let asked = &client.asked[before..];
    assert_eq!(asked.len() as u64, 2 * rounds);
    assert!(asked.iter().all(|asked| asked["params"].to_string().contains(&name)), "{asked:?}");
}
