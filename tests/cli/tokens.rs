//! `sessile token`, and what `--tokens` does to a command line.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use sha2::{Digest as _, Sha256};

use crate::program::{Ended, File, SESSILE, command, run, says};

/// The token and the line that `sessile token` prints.
fn token(name: &str) -> (String, String) {
    let ended = run(&["token", name]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let token = ended.stderr.lines().last().unwrap().to_owned();
    (token, ended.stdout)
}

#[test]
fn a_token_and_its_line_are_printed_apart() {
    let (token, line) = token("alice@example.com");
    assert!(token.starts_with("sessile_") && token.len() == 51, "{token}");
    let hash: Vec<_> = Sha256::digest(&token).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(line, format!("alice@example.com {}\n", hash.concat()));
    assert_ne!(self::token("alice@example.com").0, token);
}

#[test]
fn a_name_that_may_be_a_token_is_not_shown() {
    let ended = run(&["token", "sessile_s3cret"]);
    assert!(ended.code == 2 && !ended.stderr.contains("s3cret"), "{ended:?}");
}

/// A request for `/mcp`, and the head of its response.
fn ask(port: u16, token: &str) -> String {
    let mut socket = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
    let request =
        format!("GET /mcp HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).unwrap();
    let mut reply = String::new();
    socket.read_to_string(&mut reply).unwrap();
    reply.split("\r\n\r\n").next().unwrap().to_owned()
}

#[test]
fn tokens_let_it_listen_beyond_loopback() {
    let file = File::new("");
    let tokens = file.beside("tokens");
    let (token, line) = token("alice");
    std::fs::write(&tokens, line).unwrap();
    let words = ["serve", "--listen", "0.0.0.0:0", "--tokens", tokens.to_str().unwrap()];
    let mut child = command(&words, &[]).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let listening = lines.next().unwrap();
    let port = listening.strip_prefix("sessile: listening on http://0.0.0.0:").unwrap().strip_suffix("/mcp").unwrap();
    let port = port.parse().unwrap();
    let warning = lines.next().unwrap();
    assert!(warning.contains("WARN") && warning.contains("TLS"), "{warning}");
    assert!(ask(port, "wrong").starts_with("HTTP/1.1 401"));
    // It is let in, and has no session.
    let right = ask(port, &token);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(right.starts_with("HTTP/1.1 400") || right.starts_with("HTTP/1.1 406"), "{right}");
}

/// What is said about a configuration with a server at a URL that has these settings.
fn conflict(words: &[&str], server: &str, settings: &str) -> Ended {
    let file = File::new("");
    let tokens = file.beside("tokens");
    std::fs::write(&tokens, token("alice").1).unwrap();
    let settings = settings.replace("TOKENS", tokens.to_str().unwrap());
    let text = format!(
        r#"{{ "mcpServers": {{ "far": {{ "url": "http://127.0.0.1:1/mcp", "sessile": {server} }} }}, "sessile": {settings} }}"#
    );
    let file = File::new(&text);
    let path = file.path();
    run(&[&["serve", "--listen", "192.0.2.1:1", "--config", &path], words].concat())
}

#[test]
fn a_token_for_sessile_is_not_forwarded() {
    let tokens = r#"{ "tokens": "TOKENS" }"#;
    for (words, server, settings) in [
        (&["--forward-header", "authorization"][..], "{}", tokens),
        (&["--forward-header", "Authorization", "--forward-header", "X-Tenant"], "{}", tokens),
        (&[], r#"{ "forwardHeaders": ["AUTHORIZATION"] }"#, tokens),
        (&[], "{}", r#"{ "tokens": "TOKENS", "forwardHeader": ["Authorization"] }"#),
    ] {
        let ended = conflict(words, server, settings);
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(
            ended.stderr.starts_with("sessile: server `far` is to get the clients' Authorization header"),
            "{ended:?}"
        );
        assert!(ended.stderr.contains("no server may see"), "{ended:?}");
    }
    // Another header is no conflict: then it fails later, at the address.
    let ended = conflict(&["--forward-header", "X-Tenant"], "{}", tokens);
    assert!(ended.code == 1 && ended.stderr.contains("cannot listen"), "{ended:?}");
}

#[test]
fn stdio_asks_for_no_token() {
    let file = File::new(&format!(
        r#"{{ "mcpServers": {{ "a": {{ "command": {SESSILE:?}, "args": ["demo"] }} }}, "sessile": {{ "tokens": "/none/tokens" }} }}"#
    ));
    let initialize = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
    let ended = says(&["stdio", "--log", "off", "--config", &file.path()], &[initialize]);
    assert!(ended.code == 0 && ended.stdout.contains("sessile-demo"), "{ended:?}");
    let ended = run(&["check", "--config", &file.path()]);
    assert_eq!(ended.code, 0, "{ended:?}");
}
