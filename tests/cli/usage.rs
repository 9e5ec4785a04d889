//! Command lines that cannot be.

use crate::program::{File, run};

#[test]
fn what_cannot_be_is_said_and_exits_with_2() {
    let cases: &[(&[&str], &str)] = &[
        (
            &["serve", "npx"],
            "`npx` is no URL: write one with https:// or http://, or did you mean the program `sessile serve -- npx`?",
        ),
        (&["check", "npx"], "did you mean the program `sessile check -- npx`?"),
        (&["stdio", "http://x", "--", "y"], "give --config FILE, or a URL, or -- COMMAND"),
        (&["serve", "--config", "x", "http://x"], "give --config FILE, or a URL, or -- COMMAND"),
        (&["serve", "--config", "x", "--", "y"], "give --config FILE, or a URL, or -- COMMAND"),
        (&["serve", "ftp://x"], "the server's URL cannot be used"),
        (&["serve", "--config", "/none/mcp.json"], "sessile: /none/mcp.json: there is no such file"),
        (&["serve", "--bearer-env", "T", "--", "y"], "--bearer-env is for a server at a URL, and there is none"),
        (&["serve", "--header", "X-A: 1"], "--header is for a server at a URL, and there is none"),
        (&["serve", "--connect-timeout", "1s", "--", "y"], "--connect-timeout is for a server at a URL"),
        (&["serve", "--forward-header", "Host", "http://x"], "host cannot be forwarded: it names sessile"),
        (&["serve", "--forward-header", "Content-Type", "http://x"], "content-type cannot be forwarded"),
        (&["serve", "--forward-header", "Mcp-Session-Id", "http://x"], "mcp-session-id cannot be forwarded"),
        (&["serve", "--forward-header", "TE", "http://x"], "te cannot be forwarded"),
        (&["serve", "--header", "Host; x", "http://x"], "--header: a header is written as 'Name: value'"),
        (
            &["serve", "--header", "X: ${NO_SUCH_VARIABLE}", "http://x"],
            "the environment variable NO_SUCH_VARIABLE is not set",
        ),
        (&["serve", "--transport", "stdio", "http://x"], "use auto, http or sse"),
        (&["serve", "--oauth", "basic", "http://x"], "use off, login or client-credentials"),
        (&["serve", "--oauth", "client-credentials", "http://x"], "client_id is missing"),
        (
            &["serve", "--oauth", "login", "--bearer-env", "T", "http://x"],
            "a bearer token and OAuth cannot go together",
        ),
        (&["serve", "--oauth-redirect-port", "0", "http://x"], "it is none"),
        (&["serve", "--allow-tool", "a["], "`a[` is no pattern"),
        (&["serve", "--idle-timeout", "soon"], "write a time such as 30s, 10m or 1h30m, or off"),
        (&["serve", "--listen", "192.0.2.1:1"], "add --insecure-no-auth"),
        (&["serve", "--listen", "192.0.2.1:1"], "with --tokens FILE"),
        (&["serve", "--tokens", "/none/tokens"], "the tokens in /none/tokens: it cannot be read"),
        (&["token", "a b"], "sessile: a name has 1 to 128 visible ASCII characters"),
        (&["token", ""], "sessile: a name has 1 to 128 visible ASCII characters"),
        (&["token", "sessile_s3cret"], "sessile: a name does not begin as tokens do"),
        (&["serve", "--max-sessions", "0"], "must be at least 1"),
        (&["serve", "--session-key", "session-id,handle"], "handle comes with the clients of 2026-07-28"),
        (&["serve", "--session-key", "user"], "use one of session-id, connection, principal, header:NAME, cookie"),
        (&["serve", "--session-key", "header:Authorization"], "says who calls: use the key `principal`"),
        (&["serve", "--session-key", "cookie,principal"], "it is never looked at, because `cookie` suits all requests"),
        (
            &["serve", "--listen", "0.0.0.0:0", "--insecure-no-auth", "--session-key", "principal"],
            "session key `principal`: all callers are the same one without authentication",
        ),
        (
            &["serve", "--allow-host", "mcp.example", "--session-key", "header:X-User"],
            "session key `header:x-user`: without authentication any caller could send x-user",
        ),
        (&["serve", "--trusted-proxy", "10.0.0.1/8"], "10.0.0.1/8 is not the first address of its range"),
        (&["check", "--timeout", "now"], "write a time such as"),
    ];
    for (words, expected) in cases {
        let ended = run(words);
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{words:?}: {ended:?}");
        assert!(ended.stderr.contains(expected), "{words:?}: {ended:?}");
    }
}

#[test]
fn a_file_that_is_wrong_is_named_with_its_line_and_key() {
    let file = File::new("{\n  \"mcpServers\": {\n    \"a\": { \"command\": 1 }\n  }\n}");
    for subcommand in ["serve", "stdio", "check"] {
        let ended = run(&[subcommand, "--config", &file.path()]);
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""));
        let expected =
            format!("sessile: {}:3:23: mcpServers.a.command: expected a string, found a number\n", file.path());
        assert_eq!(ended.stderr, expected);
    }
}

#[test]
fn a_credential_is_not_sent_to_several_servers() {
    let two = r#"{"mcpServers":{"a":{"url":"http://a.test/"},"b":{"url":"http://b.test/"}}}"#;
    let ended = run(&["check", "--bearer-env", "T", "--config", &File::new(two).path()]);
    assert!(ended.stderr.contains("--bearer-env would go to all 2 servers at a URL"), "{ended:?}");
    let inside = two.replace("}}}", "}},\"sessile\":{\"header\":[\"X: 1\"]}}");
    let file = File::new(&inside);
    let ended = run(&["check", "--config", &file.path()]);
    let expected = format!("{}: sessile: header would go to all 2 servers at a URL", file.path());
    assert!(ended.code == 2 && ended.stderr.contains(&expected), "{ended:?}");
}

#[test]
fn help_fits_a_terminal_and_says_the_defaults() {
    for subcommand in ["serve", "stdio", "check"] {
        let ended = run(&[subcommand, "--help"]);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
        assert!(ended.stdout.lines().all(|line| line.chars().count() <= 100), "{}", ended.stdout);
        for expected in ["--config <FILE>", "--transport", "[default: auto]", "--oauth-scope", "A server at a URL:"] {
            assert!(ended.stdout.contains(expected), "{subcommand} --help: {expected}\n{}", ended.stdout);
        }
    }
    let words: Vec<_> = run(&["serve", "--help"]).stdout.split_whitespace().map(str::to_owned).collect();
    assert!(words.join(" ").contains("[default: 127.0.0.1:8808]"));
}
