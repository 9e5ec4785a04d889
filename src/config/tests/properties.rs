//! Whatever stands in a file, the parser comes to an end and says something with a place in it.

use proptest::prelude::*;

use super::{ConfigFile, environment};

/// A text of pieces that files are made of.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "mcpServers",
        "\"mcpServers\":",
        "\"sessile\":",
        "\"a\":",
        "\"command\":",
        "\"url\":",
        "\"x\"",
        "\"http://x\"",
        "\"env\":",
        "\"headers\":",
        "${TOKEN}",
        "${",
        "\"oauth\":",
        "null",
        "true",
        "1",
        "-",
        "//",
        "/*",
        "*/",
        "\n",
        "\\",
        "\\u0000",
        "é",
        "\u{feff}",
        "'",
        "\"type\":\"sse\"",
        "\"allowTools\":[\"[\"]",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// A value of any kind, as JSON.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "null",
        "true",
        "1",
        "-1.5e9",
        "\"\"",
        "\"x\"",
        "\"${NONE}\"",
        "\"https://x/\"",
        "\"a[\"",
        "[]",
        "{}",
        "\"\\u0000\"",
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec((key(), inner), 0..4).prop_map(|entries| {
                let entries: Vec<_> = entries.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
                format!("{{{}}}", entries.join(","))
            }),
        ]
    })
}

/// A key that is looked for somewhere.
fn key() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "mcpServers",
        "servers",
        "mcp",
        "sessile",
        "a",
        "command",
        "args",
        "env",
        "cwd",
        "envFile",
        "url",
        "type",
        "transport",
        "headers",
        "auth",
        "disabled",
        "enabled",
        "tools",
        "excludeTools",
        "include_tools",
        "toolFilter",
        "permissions",
        "name",
        "oauth",
        "mode",
        "allowTools",
        "bearerEnv",
        "bearerFile",
        "listen",
        "idleTimeout",
        "maxSessions",
        "forwardHeaders",
        "scope",
        "CLIENT_ID",
        "inheritEnv",
        "header",
    ])
}

fn holds(text: &str) -> Result<(), TestCaseError> {
    if let Err(error) = ConfigFile::parse(text, "mcp.json", &environment()) {
        let (line, column) = error.position.unwrap();
        prop_assert!(line >= 1 && line <= text.matches('\n').count() + 1 && column >= 1, "{error}");
        prop_assert!(!error.reason.is_empty());
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(text) = std::str::from_utf8(&bytes) {
            holds(text)?;
        }
        holds(&String::from_utf8_lossy(&bytes))?;
    }

    #[test]
    fn any_pieces(text in pieces()) {
        holds(&text)?;
    }

    #[test]
    fn any_entry(entry in value(), settings in value()) {
        holds(&format!("{{\"mcpServers\":{{\"a\":{entry}}},\"sessile\":{settings}}}"))?;
    }

    #[test]
    fn any_entry_of_a_command(key in key(), value in value()) {
        holds(&format!("{{\"servers\":{{\"a\":{{\"command\":\"x\",\"{key}\":{value}}}}}}}"))?;
        holds(&format!("{{\"servers\":{{\"a\":{{\"url\":\"http://x\",\"sessile\":{{\"{key}\":{value}}}}}}}}}"))?;
    }
}

#[test]
fn deep_nesting_is_refused() {
    let error = ConfigFile::parse(&"[".repeat(100_000), "mcp.json", &environment()).unwrap_err();
    assert!(error.reason.contains("nesting depth"), "{error}");
    // As deep as is read, in a key that is not known.
    let deep = (0..400).rev().find(|depth| {
        let value = format!("{}0{}", "[{\"a\":".repeat(*depth), "}]".repeat(*depth));
        let text = format!("{{\"mcpServers\":{{\"a\":{{\"command\":\"x\",\"unknown\":{value}}}}}}}");
        ConfigFile::parse(&text, "mcp.json", &environment()).is_ok()
    });
    assert!(deep.is_some_and(|depth| depth > 10), "{deep:?}");
    let error = ConfigFile::parse(&"{\"a\":".repeat(100_000), "mcp.json", &environment()).unwrap_err();
    assert!(error.reason.contains("nesting depth"), "{error}");
}
