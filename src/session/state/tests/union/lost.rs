//! The end of one of several servers.

use super::*;

fn union() -> UnionHarness {
    UnionHarness::open(servers(&["a", "b"], true, false))
}

#[test]
fn its_calls_fail_with_its_name_and_the_session_goes_on() {
    let mut session = union();
    session.asks("7", "tools/call", r#"{"name":"a_x"}"#);
    session.asks("8", "tools/call", r#"{"name":"b_x"}"#);
    session.asks("9", "tools/list", "{}");
    session.answers(B, "9", r#"{"tools":[{"name":"x"}]}"#);
    let lines = session.exits(A);
    assert!(lines[0].starts_with("a! server `a`: it exited with status 3"), "{lines:?}");
    let error: Value = serde_json::from_str(lines[1].strip_prefix("1< ").unwrap()).unwrap();
    assert_eq!((&error["id"], &error["error"]["code"]), (&json!(7), &json!(-31010)));
    let message = error["error"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("server `a`: it exited with status 3 and its state is lost: the other servers go on"),
        "{message}"
    );
    assert_eq!((&error["error"]["data"]["server"], &error["error"]["data"]["stateLost"]), (&json!("a"), &json!(true)));
    // The list is there without it.
    assert!(lines.contains(&format!("1< {}", result_of("9", r#"{"tools":[{"name":"b_x"}]}"#))), "{lines:?}");
    for list in ["tools", "prompts", "resources"] {
        assert!(lines.contains(&format!("1< {}", tell(&format!("notifications/{list}/list_changed")))), "{lines:?}");
    }
    // Its tools give the same error from now on, and the others go on.
    assert_eq!(error_of(&session.asks("10", "tools/call", r#"{"name":"a_y"}"#)), (-31010, message.to_owned()));
    assert_eq!(session.answers(B, "6", "{}"), [format!("1< {}", result_of("8", "{}"))]);
    assert_eq!(session.asks("11", "tools/list", "{}").len(), 1, "it is not asked");
    // What it says now is nobody's, and it ends once.
    assert!(session.server(A, &ask("1", "roots/list")).is_empty());
    assert!(session.exits(A).is_empty());
}

#[test]
fn its_requests_are_cancelled() {
    let mut session = union();
    session.server(A, &ask("\"q\"", "roots/list"));
    session.server(B, &ask("\"q\"", "roots/list"));
    let lines = session.exits(A);
    let withdrawn = json_of(&lines[1..2], "1< ");
    assert_eq!(
        (&withdrawn["method"], &withdrawn["params"]["requestId"]),
        (&json!("notifications/cancelled"), &json!(1))
    );
    assert!(session.client(&answer("1")).is_empty());
    assert_eq!(session.client(&answer("2")).len(), 1);
}

#[test]
fn the_last_one_ends_the_session() {
    let mut session = union();
    session.exits(A);
    session.asks("7", "tools/call", r#"{"name":"b_x"}"#);
    let lines = session.exits(B);
    assert!(error_of(&lines[1..2]).1.starts_with("server `b`:"), "{lines:?}");
    assert_eq!(lines[lines.len() - 2..], ["close 1", "ended backend gone"]);
}

#[test]
fn a_list_discovery_goes_on_without_it() {
    let mut session = UnionHarness::open(servers(&["a", "b"], false, false));
    session.asks("7", "tools/call", r#"{"name":"x"}"#);
    session.answers(B, "7", r#"{"tools":[{"name":"x"}]}"#);
    let lines = session.exits(A);
    assert!(lines.contains(&format!("b> {}", request("5", "tools/call", r#"{"name":"x"}"#))), "{lines:?}");
    let (_, message) = error_of(&session.asks("8", "tools/call", r#"{"name":"y"}"#));
    assert_eq!(message, "unknown tool: y (`a` could not be asked for it)");
}

#[test]
fn what_only_it_had_is_still_known_as_its_own() {
    let mut session = UnionHarness::open(servers(&["a", "b"], false, false));
    session.asks("7", "tools/list", "{}");
    session.answers(A, "6", r#"{"tools":[{"name":"x"}]}"#);
    session.answers(B, "7", r#"{"tools":[{"name":"y"}]}"#);
    session.exits(A);
    assert!(error_of(&session.asks("8", "tools/call", r#"{"name":"x"}"#)).1.starts_with("server `a`: it exited"));
}

#[test]
fn it_was_never_ready() {
    let mut session = union_of(servers(&["a", "b"], true, false), limits());
    session.client(&ask("0", "initialize"));
    session.exits(A);
    let lines = session.answers(B, "3", &everything());
    assert_eq!(json_of(&lines, "1< ")["id"], 0);
    let (code, message) = error_of(&session.asks("1", "tools/call", r#"{"name":"a_x"}"#));
    assert_eq!(code, -31011);
    assert!(message.starts_with("server `a`: the backend could not be started: it exited with status 3"), "{message}");
}

#[test]
fn the_end_answers_fan_outs_and_queued_requests() {
    for reason in [EndReason::Deleted, EndReason::Shutdown] {
        let mut session = UnionHarness::open(servers(&["a", "b"], false, false));
        session.asks("7", "tools/list", "{}");
        session.asks("8", "tools/call", r#"{"name":"x"}"#);
        let lines = session.event(Event::End(reason));
        let answered: Vec<_> = lines.iter().filter(|line| line.starts_with("1< ")).collect();
        assert_eq!(answered.len(), 2, "{lines:?}");
        assert!(session.wait(secs(100)).is_empty());
    }
}
