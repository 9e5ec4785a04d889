//! What the README tells people to do.

use serde_json::Value;

use crate::program::{Ended, File, SESSILE, Serving, says};

const INITIALIZE: &str = concat!(
    r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","#,
    r#""capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#
);
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const LIST: &str = r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#;

fn answer(ended: &Ended, id: u64) -> Value {
    let answers = ended.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    answers.into_iter().find(|answer| answer["id"] == id).unwrap_or_else(|| panic!("no answer {id}: {ended:?}"))
}

fn tools(ended: &Ended) -> Vec<String> {
    let answer = answer(ended, 2);
    let tools = answer["result"]["tools"].as_array().unwrap_or_else(|| panic!("{answer}"));
    tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
}

fn call(id: u64, tool: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{{}}}}}}"#)
}

#[test]
fn a_remote_server_for_a_client_that_knows_stdio_only() {
    let upstream = Serving::demo();
    let ended =
        says(&["stdio", "--log", "warn", &upstream.url], &[INITIALIZE, INITIALIZED, LIST, &call(3, "increment")]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    assert!(tools(&ended).contains(&"increment".to_owned()), "{ended:?}");
    assert_eq!(answer(&ended, 3)["result"]["content"][0]["text"], "1", "{ended:?}");
}

#[test]
fn the_servers_of_a_file_are_one() {
    let upstream = Serving::demo();
    let file = File::new(&format!(
        r#"{{ "mcpServers": {{
            "near": {{ "command": {SESSILE:?}, "args": ["demo"], "sessile": {{ "allowTools": ["increment", "counter"] }} }},
            "far": {{ "url": {:?}, "sessile": {{ "denyTools": ["note_*"] }} }} }} }}"#,
        upstream.url
    ));
    let path = file.path();
    let ended = says(
        &["stdio", "--config", &path],
        &[
            INITIALIZE,
            INITIALIZED,
            LIST,
            &call(3, "near_increment"),
            &call(4, "far_increment"),
            &call(5, "far_note_add"),
        ],
    );
    let names = tools(&ended);
    assert!(names.contains(&"near_increment".to_owned()) && names.contains(&"far_increment".to_owned()), "{names:?}");
    assert!(!names.iter().any(|name| name.contains("note") || name == "near_ask"), "{names:?}");
    for id in [3, 4] {
        assert_eq!(answer(&ended, id)["result"]["content"][0]["text"], "1", "{ended:?}");
    }
    assert!(answer(&ended, 5).get("error").is_some(), "what is filtered is not callable: {ended:?}");
    let ended = says(&["stdio", "--no-prefix", "--config", &path], &[INITIALIZE, INITIALIZED, LIST]);
    let names = tools(&ended);
    assert!(names.contains(&"countdown".to_owned()) && !names.iter().any(|name| name.starts_with("far_")), "{names:?}");
}
