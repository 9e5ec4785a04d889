//! What is wrong is said with file, line, column, key, and what was expected.

use super::{ConfigFile, bad};

/// An entry in a file in which it begins at line 3, column 10.
fn entry(entry: &str) -> String {
    bad(&format!("{{\n  \"mcpServers\": {{\n    \"a\": {entry}\n  }}\n}}"))
}

#[test]
fn a_file_is_an_object_with_servers() {
    let cases = [
        ("", "mcp.json:1:1: the file is empty: expected an object with mcpServers"),
        ("// nothing\n", "mcp.json:1:1: the file is empty: expected an object with mcpServers"),
        ("[]", "mcp.json:1:1: expected an object with mcpServers, found a list"),
        (
            "\n {}",
            "mcp.json:2:2: expected mcpServers (or VS Code's servers) in it, an object with a server for each name",
        ),
        (
            r#"{"mcpServers":[]}"#,
            "mcp.json:1:15: mcpServers: expected an object with a server for each name, found a list",
        ),
        (r#"{"mcpServers":{}}"#, "mcp.json:1:15: mcpServers: expected a server at least, and there is none"),
        (
            r#"{"servers":{"a":{"disabled":true}}}"#,
            "mcp.json:1:12: servers: expected a server at least, and all of them are disabled",
        ),
        (
            "{\"mcpServers\":{\"a\":{\"command\":\"x\"}},\n\"servers\":{\"b\":{}}}",
            "mcp.json:2:11: servers: there are other servers in this file already: keep them in one object",
        ),
        (
            "{\"mcpServers\":\n  {a: 1}}",
            "mcp.json:2:4: this is not JSON (comments are fine): expected string for object property",
        ),
        (
            r#"{"mcpServers":{"a":{"command":"x"}}"#,
            "mcp.json:1:1: this is not JSON (comments are fine): unterminated object",
        ),
        (r#"{"a":1 "b":2}"#, "mcp.json:1:7: this is not JSON (comments are fine): expected comma"),
    ];
    for (text, expected) in cases {
        assert_eq!(bad(text), expected, "{text}");
    }
}

#[test]
fn a_server_has_a_command_or_a_url() {
    let cases = [
        ("1", "mcp.json:3:10: mcpServers.a: expected an object with a command or a url, found a number"),
        ("{}", "mcp.json:3:10: mcpServers.a: expected a server with a command or a url, and this one has neither"),
        (
            r#"{"command": "x", "url": "http://x"}"#,
            "mcp.json:3:34: mcpServers.a.url: expected a command or a url, and this server has both: keep one of them",
        ),
        (
            r#"{"command": ["npx", "-y"]}"#,
            "mcp.json:3:22: mcpServers.a.command: expected a string with the program, found a list: arguments stand in args",
        ),
        (r#"{"command": " "}"#, "mcp.json:3:22: mcpServers.a.command: expected a text, found an empty one"),
        (r#"{"command": "x", "args": "-y"}"#, "mcp.json:3:35: mcpServers.a.args: expected a list, found a string"),
        (
            r#"{"command": "x", "args": ["-y", 1]}"#,
            "mcp.json:3:42: mcpServers.a.args[1]: expected a string, found a number",
        ),
        (
            r#"{"command": "x", "env": ["A=1"]}"#,
            "mcp.json:3:34: mcpServers.a.env: expected an object of variables, found a list",
        ),
        (
            r#"{"command": "x", "env": {"A": {}}}"#,
            "mcp.json:3:40: mcpServers.a.env.A: expected a string, found an object",
        ),
        (
            r#"{"command": "x", "env": {"A=B": "1"}}"#,
            "mcp.json:3:42: mcpServers.a.env[\"A=B\"]: no variable can have such a name",
        ),
        (r#"{"command": "x", "cwd": 1}"#, "mcp.json:3:34: mcpServers.a.cwd: expected a string, found a number"),
        (
            r#"{"command": "x", "disabled": "yes"}"#,
            "mcp.json:3:39: mcpServers.a.disabled: expected true or false, found a string",
        ),
        (
            r#"{"command": "x", "type": "http"}"#,
            "mcp.json:3:35: mcpServers.a.type: expected stdio: a server with a command speaks on its stdin and stdout",
        ),
        (
            r#"{"command": "x", "envFile": "none.env"}"#,
            "mcp.json:3:38: mcpServers.a.envFile: expected a file of variables, and none.env cannot be read: entity not found",
        ),
        (
            r#"{"command": "x", "envFile": "bad.env"}"#,
            "mcp.json:3:38: mcpServers.a.envFile: bad.env: line 2: a quote is not closed",
        ),
        (
            r#"{"url": "example.com/mcp"}"#,
            "mcp.json:3:18: mcpServers.a.url: expected a URL that begins with http:// or https://: relative URL without a base",
        ),
        (
            r#"{"url": "wss://x"}"#,
            "mcp.json:3:18: mcpServers.a.url: expected a URL that begins with http:// or https://: WebSocket is no transport of MCP",
        ),
        (
            r#"{"url": "${NOT_A_URL}"}"#,
            "mcp.json:3:18: mcpServers.a.url: expected a URL that begins with http:// or https://, and what its variable holds is none",
        ),
        (
            r#"{"url": "http://x", "transport": "stdio"}"#,
            "mcp.json:3:43: mcpServers.a.transport: expected one of http, streamable-http and sse: stdio is for a server with a command, and this one has a url",
        ),
        (
            r#"{"url": "http://x", "transport": "http", "type": "sse"}"#,
            "mcp.json:3:59: mcpServers.a.type: this is not what transport says: keep one of them",
        ),
        (
            r#"{"url": "http://x", "headers": {"X-A": 1, "TE": "x"}}"#,
            "mcp.json:3:58: mcpServers.a.headers.TE: te belongs to a connection, and sessile sets it: leave it out",
        ),
        (
            r#"{"url": "http://x", "headers": {"Authorization": "x"}, "auth": "oauth"}"#,
            "mcp.json:3:18: mcpServers.a.url: OAuth and an Authorization header cannot go together: keep one of them",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(entry(text), expected, "{text}");
    }
}

#[test]
fn names_can_stand_before_others() {
    let named = |name: &str| bad(&format!(r#"{{"mcpServers":{{"{name}":{{"command":"x"}}}}}}"#));
    let long = "x".repeat(65);
    for (name, key, why) in [
        ("", r#"[""]"#, "it is empty"),
        ("日本", r#"["日本"]"#, "no letter or digit of it is left there"),
        (long.as_str(), &*format!(".{long}"), "it is too long"),
    ] {
        let error = named(name);
        let end = "use up to 64 letters, digits, _, - and . (others become _)";
        assert!(error.contains(&format!(": mcpServers{key}: this name")), "{error}");
        assert!(error.contains(why) && error.ends_with(end), "{error}");
    }
}

#[test]
fn keys_stand_once() {
    let cases = [
        (
            "{\"mcpServers\":{},\n\"mcpServers\":{}}",
            "mcp.json:2:1: mcpServers: this key stands here twice: keep one of them",
        ),
        (
            "{\"mcpServers\":{\"a\":{},\n \"\\u0061\":{}}}",
            "mcp.json:2:2: mcpServers.a: this key stands here twice: keep one of them",
        ),
        (
            r#"{"mcpServers":{"a":{"command":"x","env":{"A":"1","A":"2"}}}}"#,
            "mcp.json:1:50: mcpServers.a.env.A: this key stands here twice: keep one of them",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(bad(text), expected, "{text}");
    }
    assert!(
        entry(r#"{"url": "http://x", "headers": {"X-A": "1", "x-a": "2"}}"#).contains("this header stands here twice")
    );
}

#[test]
fn variables_are_named_where_they_are_missing() {
    let cases = [
        (
            r#"{"command": "x", "args": ["a", "--key=${NONE}"]}"#,
            "mcp.json:3:41: mcpServers.a.args[1]: the environment variable NONE is not set: set it, or give a default with ${NONE:-default}",
        ),
        (
            r#"{"url": "http://x", "headers": {"X": "${input:key}"}}"#,
            "mcp.json:3:47: mcpServers.a.headers.X: ${input:key} asks the user of an editor, and sessile has nobody to ask: write ${NAME} and set that variable",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(entry(text), expected, "{text}");
    }
}

#[test]
fn settings_of_ours_are_known_and_of_the_right_type() {
    let own = |settings: &str| entry(&format!(r#"{{"url": "https://x", "sessile": {settings}}}"#));
    let cases = [
        ("1", "mcp.json:3:42: mcpServers.a.sessile: expected an object, found a number"),
        (
            r#"{"allowsTools": []}"#,
            "mcp.json:3:43: mcpServers.a.sessile.allowsTools: there is no such setting: did you mean allowTools?",
        ),
        (r#"{"allowTools": "x"}"#, "mcp.json:3:57: mcpServers.a.sessile.allowTools: expected a list, found a string"),
        (
            r#"{"allowTools": ["a["]}"#,
            "mcp.json:3:58: mcpServers.a.sessile.allowTools[0]: expected a glob such as browser_*: unclosed character class; missing ']'",
        ),
        (
            r#"{"allowTools": [], "allowTool": []}"#,
            "mcp.json:3:74: mcpServers.a.sessile.allowTool: this is allowTools by another name: keep one of them",
        ),
        (
            r#"{"forwardHeaders": ["Host"]}"#,
            "mcp.json:3:62: mcpServers.a.sessile.forwardHeaders[0]: expected the name of a header: host cannot be forwarded: it names sessile, not the server",
        ),
        (
            r#"{"bearerFile": "a", "bearerEnv": "B"}"#,
            "mcp.json:3:75: mcpServers.a.sessile.bearerEnv: there is a bearerFile too: keep one of them",
        ),
        (
            r#"{"bearerEnv": "Bearer s3cret"}"#,
            "mcp.json:3:56: mcpServers.a.sessile.bearerEnv: expected the name of an environment variable: no variable can have such a name",
        ),
        (
            r#"{"oauth": "basic"}"#,
            "mcp.json:3:52: mcpServers.a.sessile.oauth: expected one of off, login and client-credentials: it is none that is known here",
        ),
        (
            r#"{"oauth": {"clientld": "x"}}"#,
            "mcp.json:3:53: mcpServers.a.sessile.oauth.clientld: there is no such setting: did you mean clientId?",
        ),
        (
            r#"{"oauth": {}, "oauthScope": "x"}"#,
            "mcp.json:3:52: mcpServers.a.sessile.oauth: some of it stands in keys beside this object: put all of it into one place",
        ),
        (
            r#"{"connectTimeout": 5}"#,
            "mcp.json:3:61: mcpServers.a.sessile.connectTimeout: expected a time, found a number",
        ),
        (
            r#"{"inheritEnv": true}"#,
            "mcp.json:3:57: mcpServers.a.sessile.inheritEnv: this is for a server with a command, and this one has a url",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(own(text), expected, "{text}");
    }
    assert_eq!(
        entry(r#"{"command": "x", "sessile": {"bearerEnv": "B"}}"#),
        "mcp.json:3:38: mcpServers.a.sessile: expected no settings for a URL here: this server has a command"
    );
}

#[test]
fn no_error_shows_a_secret() {
    for text in [
        r#"{"url": "${TOKEN}"}"#,
        r#"{"url": "http://x", "type": "${TOKEN}"}"#,
        r#"{"url": "http://x", "headers": {"X": "${TOKEN}\n."}}"#,
        r#"{"url": "http://x", "headers": {"X": "t0ps3cret\n."}}"#,
        r#"{"url": "http://x", "headers": ["t0ps3cret"]}"#,
        r#"{"url": "http://x", "headers": ["T E: t0ps3cret"]}"#,
        r#"{"url": "http://x", "sessile": {"oauth": "${TOKEN}"}}"#,
        r#"{"url": "http://x", "sessile": {"bearerEnv": "${TOKEN} x"}}"#,
        r#"{"url": "http://x", "sessile": {"connectTimeout": "${TOKEN}"}}"#,
        r#"{"url": "http://x", "sessile": {"allowTools": ["${TOKEN}["]}}"#,
        r#"{"url": "http://x", "sessile": {"forwardHeaders": ["${TOKEN} ${TOKEN}"]}}"#,
        r#"{"url": "http://x", "auth": ["t0ps3cret"]}"#,
        r#"{"command": "x", "envFile": "${TOKEN}"}"#,
        r#"{"command": "x", "type": "${TOKEN}"}"#,
    ] {
        let error = entry(text);
        assert!(error.starts_with("mcp.json:3:") && !error.contains("t0ps3cret"), "{text}: {error}");
    }
}

#[test]
fn columns_count_characters() {
    let error = bad("{\"größe\": 1, \"mcpServers\": 1}");
    assert_eq!(error, "mcp.json:1:28: mcpServers: expected an object with a server for each name, found a number");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.json");
    let error = ConfigFile::read(&missing).unwrap_err().to_string();
    assert_eq!(error, format!("{}: there is no such file", missing.display()));
    let latin = folder.path().join("latin.json");
    std::fs::write(&latin, b"{\"\xe4\": 1}").unwrap();
    assert!(ConfigFile::read(&latin).unwrap_err().to_string().ends_with("it is not UTF-8: save it as UTF-8"));
    let good = folder.path().join("good.json");
    std::fs::write(&good, r#"{"mcpServers":{"a":{"command":"x"}}}"#).unwrap();
    assert_eq!(ConfigFile::read(&good).unwrap().servers[0].name, "a");
}

#[test]
fn two_servers_with_one_prefix_are_named() {
    let text = r#"{"mcpServers":{"a b":{"command":"x"},"c":{"command":"x"},"a_b":{"command":"x"}}}"#;
    let error = bad(text);
    assert!(error.ends_with("the tools of `a b` and `a_b` would both begin with a_b_: rename one of them"), "{error}");
    let error = bad(r#"{"mcpServers":{"a":{"serverUrl":"http://x","httpUrl":"http://y"}}}"#);
    assert!(error.ends_with("this server has a URL already, in serverUrl: keep one of them"), "{error}");
    let error = bad(r#"{"mcpServers":{"a":{"type":"sse","httpUrl":"http://y"}}}"#);
    assert!(error.ends_with("and the transport is sse: keep one of them"), "{error}");
}
