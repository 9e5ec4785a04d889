//! A command line beats a file, and a file beats the defaults.

use serde_json::Value;

use crate::program::{File, SESSILE, run, says};

const INITIALIZE: &str = concat!(
    r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","#,
    r#""capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#
);

fn file(settings: &str) -> File {
    File::new(&format!(
        r#"{{ "mcpServers": {{ "a": {{ "command": {SESSILE:?}, "args": ["demo"] }} }}, "sessile": {settings} }}"#
    ))
}

#[test]
fn the_address() {
    let file = file(r#"{ "listen": "192.0.2.1:1" }"#);
    let ended = run(&["serve", "--config", &file.path()]);
    assert!(ended.stderr.starts_with("sessile: 192.0.2.1:1 can be reached"), "{ended:?}");
    let ended = run(&["serve", "--listen", "192.0.2.2:2", "--config", &file.path()]);
    assert!(ended.stderr.starts_with("sessile: 192.0.2.2:2 can be reached"), "{ended:?}");
}

/// What a client is told that sends so many bytes at once: the limit, or nothing.
fn limit(words: &[&str], bytes: usize) -> Option<u64> {
    let padding = "x".repeat(bytes);
    let ping = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"ping","params":{{"_meta":{{"padding":"{padding}"}}}}}}"#);
    let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let ended = says(words, &[INITIALIZE, initialized, &ping]);
    let answers: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let answer = answers.iter().find(|answer| answer["id"] == 7).unwrap_or_else(|| panic!("{ended:?}"));
    answer["error"]["data"]["limit"].as_u64()
}

#[test]
fn the_largest_message() {
    let (small, silent) = (file(r#"{ "maxMessageSize": "2KiB" }"#), file("{}"));
    assert_eq!(limit(&["stdio", "--config", &silent.path()], 3000), None);
    assert_eq!(limit(&["stdio", "--config", &small.path()], 3000), Some(2048));
    assert_eq!(limit(&["stdio", "--config", &small.path(), "--max-message-size", "3KiB"], 2500), None);
    assert_eq!(limit(&["stdio", "--config", &small.path(), "--max-message-size", "3KiB"], 5000), Some(3072));
}

#[test]
fn the_logs() {
    let (quiet, silent) = (file(r#"{ "log": "warn" }"#), file("{}"));
    let logs = |words: &[&str]| says(words, &[INITIALIZE]).stderr.contains("session opened");
    assert!(logs(&["stdio", "--config", &silent.path()]));
    assert!(!logs(&["stdio", "--config", &quiet.path()]));
    assert!(logs(&["stdio", "--config", &quiet.path(), "--log", "info"]));
}

#[test]
fn what_is_offered() {
    let tools = |words: &[&str]| {
        let words: Vec<_> = ["check", "--json"].iter().chain(words).copied().collect();
        run(&words).json()["servers"][0]["tools"].as_u64().unwrap()
    };
    let file = file(r#"{ "allowTools": ["note_*"], "denyTools": ["note_add"] }"#);
    let path = file.path();
    let all = tools(&[]);
    let notes = tools(&["--config", &path]);
    assert!(notes > 0 && notes < all, "{notes} of {all}");
    // What is allowed is replaced, what is denied adds up.
    assert_eq!(tools(&["--config", &path, "--allow-tool", "*"]), all - 1);
    assert_eq!(tools(&["--config", &path, "--deny-tool", "*"]), 0);
    // What another program's keys take away stays away.
    let file = File::new(&format!(
        r#"{{ "mcpServers": {{ "a": {{ "command": {SESSILE:?}, "args": ["demo"], "includeTools": ["note_add", "counter"] }} }} }}"#
    ));
    let path = file.path();
    assert_eq!(tools(&["--config", &path]), 2);
    assert_eq!(tools(&["--config", &path, "--allow-tool", "*"]), 2);
    assert_eq!(tools(&["--config", &path, "--allow-tool", "note_*"]), 1);
    assert_eq!(tools(&["--config", &path, "--deny-tool", "note_*"]), 1);
}
