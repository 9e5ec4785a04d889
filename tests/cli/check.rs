//! `sessile check`: who is reached, and what is there.

use serde_json::json;

use crate::program::{File, SESSILE, Serving, run};

#[test]
fn a_server_that_is_there_is_reached() {
    for words in [&["check"][..], &["check", "--", SESSILE, "demo"]] {
        let ended = run(words);
        assert_eq!(ended.code, 0, "{ended:?}");
        let [head, row] = ended.stdout.lines().collect::<Vec<_>>()[..] else { panic!("{ended:?}") };
        assert!(head.starts_with("NAME") && head.ends_with("ERROR"), "{head}");
        assert!(row.contains("yes") && row.contains("legacy 2025-11-25") && row.contains("sessile-demo"), "{row}");
    }
}

#[test]
fn a_server_at_a_url_is_reached() {
    let upstream = Serving::demo();
    for transport in ["auto", "http"] {
        let ended = run(&["check", "--json", &upstream.url, "--transport", transport]);
        assert_eq!(ended.code, 0, "{ended:?}");
        let server = &ended.json()["servers"][0];
        assert_eq!(server["serverInfo"]["name"], "sessile-demo", "{ended:?}");
        assert_eq!((&server["name"], &server["resources"]), (&json!("127.0.0.1"), &json!(1)));
    }
}

#[test]
fn what_is_filtered_is_not_counted() {
    let all = run(&["check", "--json"]).json()["servers"][0].clone();
    let some = run(&["check", "--json", "--allow-tool", "note_*", "--deny-resource", "*"]).json()["servers"][0].clone();
    assert!(all["tools"].as_u64() > some["tools"].as_u64(), "{all} {some}");
    assert!(some["tools"].as_u64() > Some(0), "{some}");
    assert_eq!((&all["resources"], &some["resources"]), (&json!(1), &json!(0)));
    assert_eq!(all["prompts"], some["prompts"]);
}

#[test]
fn one_that_is_dead_or_slow_does_not_hold_up_the_others() {
    let file = File::new(&format!(
        r#"{{ "mcpServers": {{
            "slow": {{ "command": "sleep", "args": ["600"] }},
            "missing": {{ "command": "/none/server" }},
            "exits": {{ "command": "sh", "args": ["-c", "echo out of order >&2; exit 3"] }},
            "refuses": {{ "url": "http://127.0.0.1:1/mcp" }},
            "good": {{ "command": {SESSILE:?}, "args": ["demo"] }},
            "off": {{ "command": "sleep", "disabled": true }}
        }} }}"#
    ));
    let ended = run(&["check", "--json", "--timeout", "2s", "--config", &file.path()]);
    assert_eq!(ended.code, 1, "{ended:?}");
    let json = ended.json();
    assert_eq!(json["reached"], false);
    let servers: Vec<_> = json["servers"].as_array().unwrap().iter().collect();
    let named: Vec<_> =
        servers.iter().map(|server| (server["name"].as_str().unwrap(), server["reached"].as_bool().unwrap())).collect();
    assert_eq!(named, [("slow", false), ("missing", false), ("exits", false), ("refuses", false), ("good", true)]);
    let error = |at: usize| servers[at]["error"].as_str().unwrap();
    assert_eq!(error(0), "no answer within 2.0 s");
    assert!(error(1).contains("program /none/server was not found"), "{}", error(1));
    assert!(error(2).contains("status 3") && error(2).contains("out of order"), "{}", error(2));
    assert!(error(3).contains("127.0.0.1:1"), "{}", error(3));
    assert!((2000..10_000).contains(&servers[0]["timeMs"].as_u64().unwrap()), "{}", servers[0]);
    assert!(servers[4]["timeMs"].as_u64() < Some(2000), "{}", servers[4]);
}

#[test]
fn pages_of_a_list_are_all_counted() {
    let server = r#"
        while read -r line; do
            id=${line#*\"id\":}; id=${id%%[,\}]*}
            case $line in
                *'"initialize"'*) result='{"protocolVersion":"2025-03-26","capabilities":{"tools":{}},"serverInfo":{"name":"pages","version":"7"}}' ;;
                *'"cursor":"2"'*) result='{"tools":[{"name":"c","inputSchema":{}}]}' ;;
                *tools/list*) result='{"tools":[{"name":"a","inputSchema":{}},{"name":"b","inputSchema":{}}],"nextCursor":"2"}' ;;
                *) continue ;;
            esac
            printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$result"
        done"#;
    let ended = run(&["check", "--json", "--", "sh", "-c", server]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let server = &ended.json()["servers"][0];
    assert_eq!((&server["tools"], &server["prompts"]), (&json!(3), &json!(null)));
    assert_eq!((&server["era"], &server["protocolVersion"]), (&json!("legacy"), &json!("2025-03-26")));
}

/// A server in shell: what it answers to `initialize`, and to `tools/list`.
fn scripted(initialize_result: &str, tools: &str) -> String {
    format!(
        r#"
        while read -r line; do
            id=${{line#*\"id\":}}; id=${{id%%[,\}}]*}}
            case $line in
                *'"initialize"'*) result='{initialize_result}' ;;
                *tools/list*) result='{tools}' ;;
                *) continue ;;
            esac
            printf '{{"jsonrpc":"2.0","id":%s,"result":%s}}\n' "$id" "$result"
        done"#
    )
}

#[test]
fn an_empty_cursor_is_the_end_of_a_list() {
    let initialize_result =
        r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"x","version":"1"}}"#;
    let server = scripted(initialize_result, r#"{"tools":[{"name":"a"}],"nextCursor":""}"#);
    let ended = run(&["check", "--json", "--", "sh", "-c", &server]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.json()["servers"][0]["tools"], 1);
}

#[test]
fn what_is_no_handshake_is_not_reached() {
    for initialize_result in
        ["null", "[1]", "{}", r#"{"protocolVersion":7}"#, r#"{"protocolVersion":"2025\u001b[31m"}"#]
    {
        let ended = run(&["check", "--json", "--", "sh", "-c", &scripted(initialize_result, "{}")]);
        assert_eq!(ended.code, 1, "{initialize_result}: {ended:?}");
        let error = ended.json()["servers"][0]["error"].as_str().unwrap_or_default().to_owned();
        assert!(error.contains("not an initialize result"), "{initialize_result}: {error}");
    }
}

#[test]
fn the_log_says_which_server_a_line_is_of() {
    let file = File::new(
        r#"{ "mcpServers": {
            "My Server": { "command": "sh", "args": ["-c", "echo first words >&2; exit 1"] },
            "b": { "command": "sh", "args": ["-c", "echo second words >&2; exit 1"] }
        } }"#,
    );
    let ended = run(&["check", "--log", "info", "--config", &file.path()]);
    for (words, server) in [("first words", "server=My Server"), ("second words", "server=b")] {
        let is_told = |line: &str| line.contains("sessile::backend") && line.contains(words) && line.contains(server);
        assert!(ended.stderr.lines().any(is_told), "{ended:?}");
    }
}
