//! The handshake with several servers.

use super::*;

const HELLO: &str = r#"{"jsonrpc":"2.0", "id":"i","method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{"x":1.0}}}"#;

fn initialize_result(capabilities: &str) -> String {
    format!(
        r#"{{"protocolVersion":"2025-03-26","capabilities":{capabilities},"serverInfo":{{"name":"x","version":"1"}}}}"#
    )
}

#[test]
fn all_are_asked_and_the_client_has_one_answer() {
    let mut session = UnionHarness::new();
    let hello = |id: &str| HELLO.replace("\"i\"", id);
    assert_eq!(
        session.client(HELLO),
        [r#"named """#.to_owned(), format!("a> {}", hello("2")), format!("b> {}", hello("3"))]
    );
    assert_eq!(session.answers(B, "3", &initialize_result(r#"{"prompts":{}}"#)), ["server 1 ready"]);
    let lines = session.answers(A, "2", &initialize_result(r#"{"tools":{}}"#));
    assert_eq!(lines[..2], ["server 0 ready", "opened 2025-06-18"]);
    let answer = json_of(&lines, "1< ");
    assert_eq!((&answer["id"], &answer["result"]["protocolVersion"]), (&json!("i"), &json!("2025-06-18")));
    let changing = json!({ "listChanged": true });
    assert_eq!(answer["result"]["capabilities"], json!({ "tools": changing, "prompts": changing }));
    assert_eq!(answer["result"]["serverInfo"]["name"], "sessile");
    let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized","params":{"x":1.0}}"#;
    assert_eq!(session.client(initialized), [format!("a> {initialized}"), format!("b> {initialized}")]);
    assert!(session.client(initialized).is_empty(), "once is enough");
    session.is_quiet();
}

#[test]
fn what_comes_during_the_handshake_waits_for_its_end() {
    let mut session = UnionHarness::new();
    assert_eq!(error_of(&session.asks("0", "tools/list", "{}")).0, -32600);
    assert_eq!(session.asks("1", "ping", "{}"), [r#"1< {"jsonrpc":"2.0","id":1,"result":{}}"#]);
    session.client(HELLO);
    session.client(&tell("notifications/initialized"));
    assert!(session.asks("7", "tools/call", r#"{"name":"a_x"}"#).is_empty());
    assert!(session.asks("8", "tools/call", r#"{"name":"b_x"}"#).is_empty());
    assert!(session.client(&cancel("8")).is_empty());
    let lines = session.answers(A, "4", &initialize_result("{}"));
    assert_eq!(lines, ["server 0 ready"], "{lines:?}");
    let lines = session.answers(B, "5", &initialize_result(r#"{"tools":{}}"#));
    let begin = ["server 1 ready", "opened 2025-06-18", "1< ", "a> ", "b> ", "a> "];
    assert!(lines.iter().zip(begin).all(|(line, begin)| line.starts_with(begin)), "{lines:?}");
    assert_eq!(lines[5], r#"a> {"jsonrpc":"2.0","id":6,"method":"tools/call","params":{"name":"x"}}"#);
    assert_eq!(lines.len(), 6);
}

#[test]
fn a_slow_server_is_not_waited_for_and_comes_later() {
    let mut session = UnionHarness::new();
    session.client(HELLO);
    session.answers(A, "2", &initialize_result("{}"));
    assert!(session.wait(secs(9)).is_empty());
    let lines = session.wait(secs(1));
    assert!(lines[0].starts_with("b! the session begins without it"), "{lines:?}");
    let capabilities = &json_of(&lines, "1< ")["result"]["capabilities"];
    assert_eq!(capabilities["prompts"], json!({ "listChanged": true }), "it may have anything");
    assert_eq!(session.client(&tell("notifications/initialized")).len(), 1);
    let (code, message) = error_of(&session.asks("1", "tools/call", r#"{"name":"b_x"}"#));
    assert!(code == -31011 && message.contains("server `b`: it has not answered the handshake yet"), "{message}");
    assert_eq!(session.asks("2", "tools/list", "{}"), [r#"1< {"jsonrpc":"2.0","id":2,"result":{"tools":[]}}"#]);
    let level = session.asks("3", "logging/setLevel", r#"{"level":"debug"}"#);
    assert_eq!(error_of(&level).0, -32601);
    let lines = session.answers(B, "3", &initialize_result(r#"{"tools":{},"resources":{}}"#));
    assert_eq!(
        lines,
        [
            "server 1 ready",
            r#"b> {"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            r#"1< {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#,
            r#"1< {"jsonrpc":"2.0","method":"notifications/resources/list_changed"}"#,
        ]
    );
    assert_eq!(session.asks("4", "tools/call", r#"{"name":"b_x"}"#).len(), 1);
}

#[test]
fn the_first_is_waited_for_longer_but_not_for_ever() {
    let mut session = UnionHarness::new();
    session.client(HELLO);
    assert!(session.wait(secs(59)).is_empty());
    let lines = session.answers(B, "3", &initialize_result("{}"));
    assert_eq!(json_of(&lines, "1< ")["id"], "i");
    session.exits(A);
    assert!(matches!(session.core.state.client().phase, ClientPhase::Ready));
}

#[test]
fn where_nobody_answers_the_client_is_told_who_does_not() {
    for one_is_gone in [false, true] {
        let mut session = UnionHarness::new();
        session.client(HELLO);
        if one_is_gone {
            assert!(session.exits(A).iter().all(|line| !line.starts_with("1< ")));
        }
        assert!(session.wait(secs(59)).is_empty());
        let (code, message) = error_of(&session.wait(secs(1)));
        assert!(
            code == -31011 && message.contains("`a`: ") && message.contains("`b`: it has not answered"),
            "{message}"
        );
        // They are not asked twice, nor waited for as long again.
        assert_eq!(session.client(HELLO), [r#"named """#]);
        assert!(session.wait(secs(9)).is_empty());
        assert_eq!(error_of(&session.wait(secs(1))).0, -31011);
        // Who comes while the client tries once more is there.
        session.client(HELLO);
        let lines = session.answers(B, "3", &initialize_result(r#"{"tools":{}}"#));
        assert_eq!(json_of(&lines, "1< ")["result"]["capabilities"]["tools"], json!({ "listChanged": true }));
    }
}

#[test]
fn what_a_server_says_is_one_line() {
    let mut session = UnionHarness::new();
    session.client(HELLO);
    let refusal = r#"{"jsonrpc":"2.0","id":2,"error":{"code":1,"message":"no\n2026 WARN forged\u001b[31m"}}"#;
    assert_eq!(
        session.server(A, refusal)[0],
        "a! the handshake failed: it refused the handshake: no2026 WARN forged[31m"
    );
    let (_, message) = error_of(&session.server(B, &refusal.replace("\"id\":2", "\"id\":3")));
    assert!(!message.contains(char::is_control), "{message}");
}

#[test]
fn only_what_is_small_is_kept_of_the_client() {
    let mut session = UnionHarness::new();
    session.client(HELLO);
    session.answers(A, "2", &initialize_result(r#"{"logging":{}}"#));
    session.wait(secs(10));
    let large = "x".repeat(100_000);
    session.client(&notification("notifications/initialized", &format!(r#"{{"x":"{large}"}}"#)));
    session.asks("7", "logging/setLevel", &format!(r#"{{"level":"debug","x":"{large}"}}"#));
    let lines = session.answers(B, "3", &initialize_result(r#"{"logging":{}}"#));
    assert_eq!(lines[1], format!("b> {}", tell("notifications/initialized")));
    assert_eq!(json_of(&lines[2..], "b> ")["params"], json!({ "level": "debug" }));
}

#[test]
fn who_refuses_is_left_out() {
    let mut session = UnionHarness::new();
    session.client(HELLO);
    let refusal = r#"{"jsonrpc":"2.0","id":2,"error":{"code":-32602,"message":"too old"}}"#;
    let lines = session.server(A, refusal);
    assert_eq!(lines, ["a! the handshake failed: it refused the handshake: too old", "server 0 refused"]);
    let lines = session.answers(B, "3", &initialize_result("{}"));
    assert_eq!(json_of(&lines, "1< ")["id"], "i");
    let (code, message) = error_of(&session.asks("1", "tools/call", r#"{"name":"a_x"}"#));
    assert_eq!((code, message.as_str()), (-31011, "server `a`: it refused the handshake: too old"));
}

#[test]
fn where_none_can_be_opened_each_is_named() {
    let mut session = UnionHarness::new();
    session.client(HELLO);
    session.answers(A, "2", "[]");
    let lines =
        session.event(Event::LinkClosed { link: B, exit: LinkExit::Failed { reason: "no such program".into() } });
    let answer = json_of(&lines, "1< ");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("`a`: the backend's answer cannot be understood"), "{message}");
    assert!(message.contains("`b`: the backend could not be started: no such program"), "{message}");
    assert_eq!(answer["error"]["data"]["servers"][1]["server"], "b");
    // On stdio the client may try again: with the server that is still there.
    session.is_quiet();
    let lines = session.client(HELLO);
    assert_eq!(lines.len(), 2, "{lines:?}");
    let lines = session.answers(A, "5", &initialize_result("{}"));
    assert_eq!(json_of(&lines, "1< ")["id"], "i");
}

#[test]
fn where_all_are_gone_the_session_ends() {
    let mut session = UnionHarness::new();
    session.client(HELLO);
    session.exits(A);
    let lines = session.exits(B);
    assert_eq!(lines.last().unwrap(), "ended backend gone");
    assert_eq!(error_of(&lines).0, -31011);
    assert!(session.server(B, &answer("3")).is_empty());
}

#[test]
fn the_clients_credentials_are_asked_for() {
    let mut session = UnionHarness::new();
    session.client(HELLO);
    let failure = RequestFailure::Unauthorized {
        status: 401,
        challenge: Some("Bearer".into()),
        whose: crate::link::CredentialsOwner::Client,
        reason: "expired".into(),
    };
    session.event(Event::RequestFailed { link: A, number: 2, failure });
    let effects = session.core.state.apply(Event::LinkClosed { link: B, exit: exited() }, session.core.now);
    let challenge =
        effects.iter().any(|effect| matches!(effect, Effect::ToClient { role: MessageRole::CredentialsRefused, .. }));
    assert!(challenge, "{effects:?}");
}

#[test]
fn a_handshake_that_takes_too_long_ends_the_session() {
    let servers = servers(&["a", "b"], true, false);
    let mut session = union_of(servers, Limits { request_timeout: Some(secs(30)), ..limits() });
    session.client(HELLO);
    session.asks("1", "tools/list", "{}");
    let lines = session.wait(secs(30));
    assert_eq!(lines.last().unwrap(), "ended refused");
    let answered = lines.iter().filter(|line| line.starts_with("1< ")).count();
    assert_eq!(answered, 2, "{lines:?}");
}

#[test]
fn a_handshake_that_times_out_as_its_servers_do_forwards_nothing() {
    let limits = Limits { request_timeout: Some(secs(10)), ..limits() };
    let mut session = union_of(servers(&["a", "b"], true, false), limits);
    session.asks("0", "initialize", r#"{"protocolVersion":"2025-11-25"}"#);
    session.answers(A, "2", &everything());
    session.wait(secs(1));
    session.asks("1", "tools/call", r#"{"name":"a_x"}"#);
    let lines = session.wait(secs(20));
    assert!(!lines.iter().any(|line| line.starts_with("a> ")), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("-31012")), "{lines:?}");
    assert_eq!(lines.last().map(String::as_str), Some("ended refused"));
}
