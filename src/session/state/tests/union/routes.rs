//! Which server gets a request.

use super::*;

fn union(prefix: bool, prefix_uris: bool) -> UnionHarness {
    UnionHarness::open(servers(&["a", "b"], prefix, prefix_uris))
}

/// The answer to `tools/list` and its like.
fn list(member: &str, key: &str, names: &[&str]) -> String {
    let entries: Vec<_> = names.iter().map(|name| json!({ key: name })).collect();
    json!({ member: entries }).to_string()
}

#[test]
fn a_name_says_whose_it_is() {
    let mut session = union(true, false);
    let call = session.asks(
        "7",
        "tools/call",
        r#"{"arguments":{"name":"a_x"}, "n\u0061me" : "b_x","_meta":{"progressToken":"t"}}"#,
    );
    assert_eq!(
        call,
        [
            r#"b> {"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"arguments":{"name":"a_x"}, "n\u0061me" : "x","_meta":{"progressToken":5}}}"#
        ]
    );
    let progress = notification("notifications/progress", r#"{"progressToken":5,"progress":1}"#);
    assert!(session.server(A, &progress).is_empty(), "it is not asked");
    assert!(session.server(A, &result_of("5", "{}")).is_empty());
    assert_eq!(session.server(B, &progress), [format!("1< {}", progress.replace('5', "\"t\""))]);
    let result = r#"{"content":[ {"type":"text","text":"x"}],"z":1.0}"#;
    assert_eq!(session.answers(B, "5", result), [format!("1< {}", result_of("7", result))]);
    assert_eq!(
        session.asks("8", "prompts/get", r#"{"name":"a_p"}"#)[0],
        format!("a> {}", request("6", "prompts/get", r#"{"name":"p"}"#))
    );
    let complete = r#"{"ref":{"type":"ref/prompt","name":"b_p"},"argument":{"name":"q","value":""}}"#;
    let sent = request("7", "completion/complete", &complete.replace("b_p", "p"));
    assert_eq!(session.asks("9", "completion/complete", complete), [format!("b> {sent}")]);
    let (code, message) = error_of(&session.asks("10", "tools/call", r#"{"name":"c_x"}"#));
    assert!(code == -32602 && message.contains("unknown tool: c_x (names begin with their server's name"), "{message}");
    assert_eq!(error_of(&session.asks("11", "tools/call", r#"{"name":7}"#)).0, -32602);
    let (code, message) = error_of(&session.asks("12", "vendor/x", "{}"));
    assert!(code == -32601 && message.contains("several servers"), "{message}");
}

#[test]
fn a_name_that_fits_two_is_asked_for() {
    let mut session = UnionHarness::open(servers(&["a", "a_b"], true, false));
    let lines = session.asks("7", "tools/call", r#"{"name":"a_b_c"}"#);
    assert_eq!(
        lines,
        [
            r#"b> {"jsonrpc":"2.0","id":6,"method":"tools/list"}"#,
            r#"a> {"jsonrpc":"2.0","id":7,"method":"tools/list"}"#
        ]
    );
    assert!(session.answers(B, "6", &list("tools", "name", &["other"])).is_empty());
    let lines = session.answers(A, "7", &list("tools", "name", &["b_c"]));
    assert_eq!(lines, [format!("a> {}", request("5", "tools/call", r#"{"name":"b_c"}"#))]);
    // It is known now.
    assert_eq!(session.asks("8", "tools/call", r#"{"name":"a_b_c"}"#).len(), 1);
    // Until the list changes.
    session.server(B, &tell("notifications/tools/list_changed"));
    let lines = session.asks("9", "tools/call", r#"{"name":"a_b_c"}"#);
    assert_eq!(lines, [r#"b> {"jsonrpc":"2.0","id":10,"method":"tools/list"}"#]);
    let (code, message) = error_of(&session.answers(B, "10", &list("tools", "name", &["c"])));
    assert_eq!(code, -32602);
    assert_eq!(message, "tool a_b_c is offered by `a` and `a_b`: rename one of the servers, or filter one of the two");
    session.answers(A, "5", "{}");
    session.answers(A, "8", "{}");
    session.is_quiet();
}

#[test]
fn plain_names_are_found_in_lists_of_all_pages() {
    let mut session = union(false, false);
    let lines = session.asks("7", "tools/call", r#"{"name":"x"}"#);
    assert_eq!(lines.len(), 2);
    assert_eq!(
        session.answers(A, "6", r#"{"tools":[{"name":"y"}],"nextCursor":"q\""}"#),
        [r#"a> {"jsonrpc":"2.0","id":8,"method":"tools/list","params":{"cursor":"q\""}}"#]
    );
    assert!(session.answers(B, "7", &list("tools", "name", &["z", "both"])).is_empty());
    let lines = session.answers(A, "8", &list("tools", "name", &["x", "both"]));
    assert_eq!(lines, [format!("a> {}", request("5", "tools/call", r#"{"name":"x"}"#))]);
    assert_eq!(session.asks("8", "tools/call", r#"{"name":"z"}"#)[0].split(' ').next(), Some("b>"));
    assert_eq!(session.asks("9", "tools/call", r#"{"name":"y"}"#)[0].split(' ').next(), Some("a>"));
    let (code, message) = error_of(&session.asks("10", "tools/call", r#"{"name":"both"}"#));
    assert_eq!(code, -32602);
    assert!(message.contains("offered by `a` and `b`") && message.contains("`no_prefix`"), "{message}");
    assert_eq!(
        error_of(&session.asks("11", "tools/call", r#"{"name":"none"}"#)),
        (-32602, "unknown tool: none".into())
    );
}

#[test]
fn a_list_discovery_that_fails_is_named() {
    let mut session = union(false, false);
    session.asks("7", "prompts/get", r#"{"name":"x"}"#);
    let lines = session.server(A, r#"{"jsonrpc":"2.0","id":6,"error":{"code":-1,"message":"no"}}"#);
    assert_eq!(lines, ["a! prompts/list gives an error: no"]);
    assert!(session.wait(secs(9)).is_empty());
    let lines = session.wait(secs(1));
    assert!(lines[0].starts_with(r#"b> {"jsonrpc":"2.0","method":"notifications/cancelled""#), "{lines:?}");
    let (code, message) = error_of(&lines);
    assert_eq!((code, message.as_str()), (-32602, "unknown prompt: x (`a` and `b` could not be asked for it)"));
    assert!(session.answers(B, "7", &list("prompts", "name", &["x"])).is_empty(), "it is too late");
    session.is_quiet();
}

#[test]
fn a_call_that_waits_for_lists_can_be_cancelled() {
    let mut session = union(false, false);
    session.asks("7", "tools/call", r#"{"name":"x"}"#);
    assert!(session.client(&cancel("7")).is_empty());
    session.answers(A, "6", &list("tools", "name", &["x"]));
    assert!(session.answers(B, "7", &list("tools", "name", &[])).is_empty());
    session.is_quiet();
}

#[test]
fn a_uri_is_found_in_lists_and_templates_and_links() {
    let mut session = union(true, false);
    let lines = session.asks("7", "resources/read", r#"{"uri":"x://1"}"#);
    let asked: Vec<_> = lines.iter().map(|line| line.replace("\"jsonrpc\":\"2.0\",", "")).collect();
    assert_eq!(
        asked,
        [
            r#"a> {"id":6,"method":"resources/list"}"#,
            r#"a> {"id":7,"method":"resources/templates/list"}"#,
            r#"b> {"id":8,"method":"resources/list"}"#,
            r#"b> {"id":9,"method":"resources/templates/list"}"#,
        ]
    );
    session.answers(A, "6", &list("resources", "uri", &["y://1", "z://both"]));
    session.server(A, r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"no templates"}}"#);
    session.answers(B, "8", &list("resources", "uri", &["z://both"]));
    let lines = session.answers(B, "9", &list("resourceTemplates", "uriTemplate", &["x://{id}"]));
    assert_eq!(lines, [format!("b> {}", request("5", "resources/read", r#"{"uri":"x://1"}"#))]);
    for (uri, expected) in [("y://1", "a>"), ("x://2", "b>")] {
        for method in ["resources/subscribe", "resources/unsubscribe"] {
            let lines = session.asks(&format!("\"{method}{uri}\""), method, &json!({ "uri": uri }).to_string());
            assert_eq!(lines[0].split(' ').next(), Some(expected), "{uri}");
        }
    }
    let complete = r#"{"ref":{"type":"ref/resource","uri":"x://{id}"},"argument":{"name":"id","value":"1"}}"#;
    assert_eq!(session.asks("8", "completion/complete", complete)[0].split(' ').next(), Some("b>"));
    let (code, message) = error_of(&session.asks("9", "resources/read", r#"{"uri":"z://both"}"#));
    assert_eq!(code, -32602);
    assert!(message.contains("offered by `a` and `b`") && message.contains("`prefix_uris`"), "{message}");
    let (code, message) = error_of(&session.asks("10", "resources/read", r#"{"uri":"w://1"}"#));
    assert!(code == -32002 && message.contains("no server of this session lists it"), "{message}");
    // A link in a result is enough.
    let lines = session.asks("11", "tools/call", r#"{"name":"a_link"}"#);
    let id = json_of(&lines, "a> ")["id"].to_string();
    let result = r#"{"content":[{"type":"resource_link","uri":"w://1"}]}"#;
    assert_eq!(session.answers(A, &id, result), [format!("1< {}", result_of("11", result))]);
    assert_eq!(session.asks("12", "resources/read", r#"{"uri":"w://1"}"#)[0].split(' ').next(), Some("a>"));
}

#[test]
fn the_only_server_with_resources_gets_them_all() {
    let mut session = union_of(servers(&["a", "b"], true, false), limits());
    session.client(&ask("0", "initialize"));
    session.answers(A, "2", r#"{"capabilities":{"tools":{}}}"#);
    session.answers(B, "3", r#"{"capabilities":{"resources":{}}}"#);
    assert_eq!(session.asks("7", "resources/read", r#"{"uri":"x://1"}"#)[0].split(' ').next(), Some("b>"));
}

#[test]
fn uris_with_their_servers_name_in_them() {
    let mut session = union(true, true);
    let read = session.asks("7", "resources/read", r#"{ "uri":"x:\/\/b\/1"}"#);
    assert_eq!(read, [format!("b> {}", request("5", "resources/read", r#"{ "uri":"x://1"}"#))]);
    let contents = r#"{"contents":[{"uri":"x:\/\/1", "text":""},{"uri":"urn:1"}]}"#;
    let told = r#"{"contents":[{"uri":"x://b/1", "text":""},{"uri":"urn:1"}]}"#;
    assert_eq!(session.answers(B, "5", contents), [format!("1< {}", result_of("7", told))]);
    let lines = session.asks("8", "resources/read", r#"{"uri":"urn:1"}"#);
    let mut end = Vec::new();
    for line in &lines {
        let (letter, json) = line.split_once("> ").unwrap();
        let (ask, link) = (frame::split(String::from(json)), if letter == "a" { A } else { B });
        let Ok(Incoming::One(ask)) = ask else { panic!("{line}") };
        let none = if ask.method() == Some("resources/list") { "resources" } else { "resourceTemplates" };
        end = session.answers(link, &ask.id().unwrap().as_u64().unwrap().to_string(), &format!(r#"{{"{none}":[]}}"#));
    }
    assert_eq!((lines.len(), end[0].split(' ').next()), (4, Some("b>")), "nobody lists it, and it was seen there");
    let lines = session.asks("9", "tools/call", r#"{"name":"a_x"}"#);
    let id = json_of(&lines, "a> ")["id"].to_string();
    let content =
        r#"{"content":[{"type":"resource","resource":{"uri":"x://1"}},{"type":"resource_link","uri":"y://z"}]}"#;
    let told = content.replace("x://", "x://a/").replace("y://", "y://a/");
    assert_eq!(session.answers(A, &id, content), [format!("1< {}", result_of("9", &told))]);
    let updated = notification("notifications/resources/updated", r#"{"uri":"x://1"}"#);
    assert_eq!(session.server(A, &updated), [format!("1< {}", updated.replace("x://", "x://a/"))]);
    let (code, message) = error_of(&session.asks("10", "resources/read", r#"{"uri":"x://1"}"#));
    assert!(code == -32002 && message.contains("name its server in it"), "{message}");
    let complete = r#"{"ref":{"type":"ref/resource","uri":"x://a/{id}"},"argument":{"name":"id","value":"1"}}"#;
    let lines = session.asks("11", "completion/complete", complete);
    assert_eq!(json_of(&lines, "a> ")["params"]["ref"]["uri"], "x://{id}");
}

#[test]
fn tasks_are_their_servers() {
    let mut session = union(true, false);
    session.asks("7", "tools/call", r#"{"name":"b_x","task":{}}"#);
    session.answers(B, "5", r#"{"task":{"taskId":"t1","status":"working"}}"#);
    session.server(A, &notification("notifications/tasks/status", r#"{"taskId":"t2","status":"working"}"#));
    for (task, expected) in [("t1", "b>"), ("t2", "a>")] {
        for method in ["tasks/get", "tasks/result", "tasks/cancel", "tasks/update"] {
            let lines = session.asks(&format!("\"{method}{task}\""), method, &json!({ "taskId": task }).to_string());
            assert_eq!(lines[0].split(' ').next(), Some(expected), "{task}");
        }
    }
    session.server(A, &notification("notifications/tasks/status", r#"{"taskId":"t1","status":"working"}"#));
    let (code, message) = error_of(&session.asks("8", "tasks/get", r#"{"taskId":"t1"}"#));
    assert!(code == -32602 && message.contains("offered by `a` and `b`"), "{message}");
    // Of others the servers are asked.
    let lines = session.asks("9", "tasks/get", r#"{"taskId":"t3"}"#);
    let (a, b) = (json_of(&lines, "a> "), json_of(&lines, "b> "));
    assert_eq!((&a["method"], &b["method"]), (&json!("tasks/list"), &json!("tasks/list")));
    session.answers(A, &a["id"].to_string(), &list("tasks", "taskId", &["t3"]));
    let lines = session.answers(B, &b["id"].to_string(), &list("tasks", "taskId", &[]));
    assert_eq!(json_of(&lines, "a> ")["params"]["taskId"], "t3");
}

#[test]
fn names_on_later_pages_are_known_after_the_clients_first() {
    let mut session = union(false, false);
    session.asks("7", "tools/call", r#"{"name":"y"}"#);
    session.answers(A, "6", r#"{"tools":[{"name":"x"}],"nextCursor":"n"}"#);
    session.answers(B, "7", &list("tools", "name", &[]));
    assert_eq!(json_of(&session.answers(A, "8", &list("tools", "name", &["y"])), "a> ")["params"]["name"], "y");
    let lines = session.asks("8", "tools/list", "{}");
    let (a, b) = (json_of(&lines, "a> ")["id"].to_string(), json_of(&lines, "b> ")["id"].to_string());
    session.answers(A, &a, r#"{"tools":[{"name":"x"}],"nextCursor":"n"}"#);
    assert_eq!(session.answers(B, &b, &list("tools", "name", &[])).len(), 1);
    let lines = session.asks("9", "tools/call", r#"{"name":"y"}"#);
    let id = json_of(&lines, "a> ")["id"].to_string();
    let lines = session.answers(A, &id, &list("tools", "name", &["x", "y"]));
    assert_eq!(json_of(&lines, "a> ")["params"]["name"], "y");
}

#[test]
fn more_resources_than_can_be_known_can_be_read() {
    let mut session = union(true, false);
    session.asks("7", "resources/read", r#"{"uri":"x://0"}"#);
    session.answers(A, "7", r#"{"resourceTemplates":[]}"#);
    session.answers(B, "8", r#"{"resources":[]}"#);
    session.answers(B, "9", r#"{"resourceTemplates":[]}"#);
    let uris: Vec<_> = (0..150_000).map(|number| format!("x://{number}")).collect();
    let uris: Vec<_> = uris.iter().map(String::as_str).collect();
    let all = list("resources", "uri", &uris);
    assert_eq!(json_of(&session.answers(A, "6", &all), "a> ")["params"]["uri"], "x://0");
    // Another that had to go is asked for again.
    let lines = session.asks("8", "resources/read", r#"{"uri":"x://1"}"#);
    assert_eq!(json_of(&lines, "a> ")["method"], "resources/list");
    let id = json_of(&lines, "a> ")["id"].to_string();
    assert_eq!(json_of(&session.answers(A, &id, &all), "a> ")["params"]["uri"], "x://1");
    session.asks("9", "resources/read", r#"{"uri":"none://"}"#);
}

#[test]
fn a_uri_without_a_place_for_a_name_may_clash() {
    let mut session = union(true, true);
    let lines = session.asks("7", "resources/read", r#"{"uri":"urn:1"}"#);
    assert_eq!(lines.len(), 4);
    session.answers(A, "6", &list("resources", "uri", &["urn:1"]));
    session.answers(A, "7", &list("resourceTemplates", "uriTemplate", &[]));
    session.answers(B, "8", &list("resources", "uri", &["urn:1"]));
    let (code, message) = error_of(&session.answers(B, "9", &list("resourceTemplates", "uriTemplate", &[])));
    assert!(code == -32602 && message.contains("have no place for") && !message.contains("`prefix_uris`"), "{message}");
}
