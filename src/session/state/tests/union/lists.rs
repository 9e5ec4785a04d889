//! Lists of several servers as one.

use super::*;

fn union() -> UnionHarness {
    UnionHarness::open(servers(&["a", "b", "c"], true, false))
}

#[test]
fn pages_are_merged_in_order() {
    let mut session = union();
    let lines = session.asks("7", "tools/list", r#"{"_meta":{"progressToken":"t","x":1}}"#);
    assert_eq!(
        lines,
        [
            r#"a> {"jsonrpc":"2.0","id":6,"method":"tools/list","params":{"_meta":{"x":1}}}"#,
            r#"b> {"jsonrpc":"2.0","id":7,"method":"tools/list","params":{"_meta":{"x":1}}}"#,
            r#"c> {"jsonrpc":"2.0","id":8,"method":"tools/list","params":{"_meta":{"x":1}}}"#,
        ]
    );
    assert!(session.answers(C, "8", r#"{"tools":[{"name":"z", "n":1.0}],"nextCursor":"c2"}"#).is_empty());
    assert!(session.answers(A, "7", "{}").is_empty(), "it was not asked that");
    assert!(
        session.answers(A, "6", r#"{"tools":[{"title":"t","name":"x"},{"name":"y"}],"nextCursor":"a2"}"#).is_empty()
    );
    let lines = session.answers(B, "7", r#"{"tools":[]}"#);
    let cursor = "sessile.tools.0-6132.2-6332";
    let merged = format!(
        r#"{{"tools":[{{"title":"t","name":"a_x"}},{{"name":"a_y"}},{{"name":"c_z", "n":1.0}}],"nextCursor":"{cursor}"}}"#
    );
    assert_eq!(lines, [format!("1< {}", result_of("7", &merged))]);
    session.is_quiet();
    let lines = session.asks("8", "tools/list", &json!({ "cursor": cursor }).to_string());
    assert_eq!(
        lines,
        [
            r#"a> {"jsonrpc":"2.0","id":10,"method":"tools/list","params":{"cursor":"a2"}}"#,
            r#"c> {"jsonrpc":"2.0","id":11,"method":"tools/list","params":{"cursor":"c2"}}"#,
        ]
    );
    session.answers(C, "11", r#"{"tools":[{"name":"w"}]}"#);
    let lines = session.answers(A, "10", r#"{"tools":[{"name":"v"}]}"#);
    assert_eq!(lines, [format!("1< {}", result_of("8", r#"{"tools":[{"name":"a_v"},{"name":"c_w"}]}"#))]);
}

#[test]
fn a_made_up_cursor_is_refused() {
    let mut session = union();
    for cursor in [r#""x""#, r#""sessile.prompts.0-61""#, r#""sessile.tools.9-61""#, r#""""#, "7", "[]"] {
        let (code, _) = error_of(&session.asks("7", "tools/list", &format!(r#"{{"cursor":{cursor}}}"#)));
        assert_eq!(code, -32602, "{cursor}");
    }
    session.is_quiet();
}

#[test]
fn a_server_that_fails_is_left_out() {
    let mut session = union();
    session.asks("7", "resources/list", "{}");
    session.answers(A, "6", r#"{"resources":[{"uri":"x://1"}]}"#);
    session.server(B, r#"{"jsonrpc":"2.0","id":7,"error":{"code":-1,"message":"broken"}}"#);
    let lines = session.answers(C, "8", r#"{"resources":{}}"#);
    assert_eq!(
        lines,
        [
            "b! it is left out of resources/list: it gives an error: broken".to_owned(),
            "c! it is left out of resources/list: its answer has no such list".to_owned(),
            format!("1< {}", result_of("7", r#"{"resources":[{"uri":"x://1"}]}"#)),
        ]
    );
    session.is_quiet();
}

#[test]
fn a_part_without_an_id_is_that_of_the_only_request_to_its_server() {
    let mut session = union();
    assert_eq!(session.asks("7", "tools/call", r#"{"name":"a_x"}"#).len(), 1);
    assert_eq!(session.asks("8", "tools/list", "{}").len(), 3);
    let unreadable = r#"{"jsonrpc":"2.0","result":{}}"#;
    assert!(session.server(A, unreadable).is_empty(), "it may be the answer to the call");
    assert!(session.server(B, unreadable).is_empty());
    assert!(session.answers(C, "9.0", r#"{"tools":[{"name":"z"}]}"#).is_empty());
    let lines = session.server(A, r#"{"jsonrpc":"2.0","id":5.0,"id":7.0,"result":{}}"#);
    let (code, message) = error_of(&lines[..1]);
    assert!(code == -31009 && message.contains("stands more than once"), "{message}");
    let left_out = |line: &String| line.contains("left out of tools/list");
    assert_eq!(lines.iter().filter(|line| left_out(line)).count(), 2, "{lines:?}");
    assert_eq!(lines.last().unwrap(), &format!("1< {}", result_of("8", r#"{"tools":[{"name":"c_z"}]}"#)));
    session.is_quiet();
}

#[test]
fn where_all_fail_the_client_is_told_why() {
    let mut session = union();
    session.asks("7", "prompts/list", "{}");
    for (link, id) in [(A, "6"), (B, "7")] {
        let error = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-5,"message":"broken","data":1.0}}}}"#);
        assert!(session.server(link, &error).is_empty());
    }
    let lines = session.event(Event::RequestFailed {
        link: C,
        number: 8,
        failure: RequestFailure::Unreachable { reason: "refused".into() },
    });
    let (code, message) = error_of(&lines);
    assert!(code == -31011 && message.starts_with("server `c`: the backend could not be reached"), "{message}");
}

#[test]
fn a_late_server_is_left_out_until_it_answers() {
    let mut session = union();
    session.asks("7", "tools/list", "{}");
    session.answers(A, "6", r#"{"tools":[{"name":"x"}]}"#);
    session.answers(C, "8", r#"{"tools":[]}"#);
    assert!(session.wait(secs(9)).is_empty());
    let lines = session.wait(secs(1));
    assert!(lines[0].starts_with("b! it is late with tools/list"), "{lines:?}");
    assert_eq!(lines[1], format!("1< {}", result_of("7", r#"{"tools":[{"name":"a_x"}]}"#)));
    session.is_quiet();
    // It is not waited for again.
    let lines = session.asks("8", "tools/list", "{}");
    assert_eq!(lines.len(), 2, "{lines:?}");
    session.answers(A, "10", r#"{"tools":[]}"#);
    assert_eq!(session.answers(C, "11", r#"{"tools":[]}"#).len(), 1);
    // What it answers in the end is not lost on the client.
    let lines = session.answers(B, "7", r#"{"tools":[{"name":"y"}]}"#);
    assert_eq!(lines, [r#"1< {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#]);
    assert_eq!(session.asks("9", "tools/list", "{}").len(), 3);
    assert_eq!(session.core.state.union().sub_request_count(), 3);
}

#[test]
fn a_server_that_stays_late_is_asked_again_after_a_while() {
    let mut session = union();
    session.asks("7", "tools/list", "{}");
    session.answers(A, "6", r#"{"tools":[]}"#);
    session.answers(C, "8", r#"{"tools":[]}"#);
    session.wait(secs(69));
    assert_eq!(session.asks("8", "tools/list", "{}").len(), 2);
    session.wait(secs(1));
    let lines = session.asks("9", "tools/list", "{}");
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[0].contains("notifications/cancelled") && lines[0].starts_with("b> "), "{lines:?}");
    assert!(session.answers(B, "7", r#"{"tools":[]}"#).is_empty(), "it was given up");
}

#[test]
fn where_nobody_answers_in_time_the_client_is_told_who_does_not() {
    let mut session = union();
    session.asks("7", "tools/list", "{}");
    assert!(session.wait(secs(9)).is_empty());
    let (code, message) = error_of(&session.wait(secs(1)));
    assert_eq!((code, &*message), (-31011, "tools/list: `a` and `b` and `c` did not answer in time: try again later"));
    session.is_quiet();
    // To try again does not take as long again.
    assert_eq!(error_of(&session.asks("8", "tools/list", "{}")).1, message);
    let lines = session.answers(B, "7", r#"{"tools":[{"name":"y"}]}"#);
    assert_eq!(lines, [r#"1< {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#]);
    assert_eq!(session.asks("9", "tools/list", "{}").len(), 1);
}

#[test]
fn an_error_is_the_answer_where_the_others_are_late() {
    let mut session = union();
    session.asks("7", "tools/list", "{}");
    session.server(A, r#"{"jsonrpc":"2.0","id":6,"error":{"code":-5,"message":"broken"}}"#);
    assert_eq!(error_of(&session.wait(secs(10))), (-5, "broken".to_owned()));
    session.is_quiet();
}

#[test]
fn the_pages_of_a_late_server_are_not_lost() {
    let mut session = union();
    session.asks("7", "tools/list", "{}");
    session.answers(A, "6", r#"{"tools":[],"nextCursor":"a2"}"#);
    session.answers(B, "7", r#"{"tools":[],"nextCursor":"b2"}"#);
    let lines = session.answers(C, "8", r#"{"tools":[]}"#);
    let cursor = json_of(&lines, "1< ")["result"]["nextCursor"].clone();
    session.asks("8", "tools/list", &json!({ "cursor": cursor }).to_string());
    session.answers(B, "11", r#"{"tools":[{"name":"y"}]}"#);
    let result = json_of(&session.wait(secs(10)), "1< ")["result"].clone();
    assert_eq!(result, json!({ "tools": [{ "name": "b_y" }], "nextCursor": "sessile.tools.0-6132" }));
    // It is asked once more, and then left out: a client that follows cursors comes to an end.
    let lines = session.asks("9", "tools/list", &json!({ "cursor": result["nextCursor"] }).to_string());
    assert!(lines.iter().any(|line| line.starts_with("a> ") && line.contains(r#""cursor":"a2""#)), "{lines:?}");
    assert!(error_of(&session.wait(secs(10))).1.contains("`a` did not answer in time"));
    session.is_quiet();
}

#[test]
fn levels_that_nobody_answers_leave_nothing_behind() {
    let mut session = union();
    for id in 0..20 {
        session.asks(&(100 + id).to_string(), "logging/setLevel", r#"{"level":"info"}"#);
        assert!(error_of(&session.wait(secs(10))).1.contains("did not answer in time"));
    }
    session.is_quiet();
    assert_eq!(session.core.state.union().sub_request_count(), 3);
}

#[test]
fn a_list_that_nobody_has_is_no_method() {
    let mut session = union_of(servers(&["a", "b"], true, false), limits());
    session.client(&ask("0", "initialize"));
    session.answers(A, "2", r#"{"capabilities":{"tools":{}}}"#);
    session.answers(B, "3", r#"{"capabilities":{}}"#);
    assert_eq!(error_of(&session.asks("1", "prompts/list", "{}")).0, -32601);
    assert_eq!(session.asks("2", "tools/list", "{}").len(), 1, "who has none is not asked");
}

#[test]
fn a_list_can_be_cancelled_with_all_its_parts() {
    let mut session = union();
    session.asks("7", "tools/list", "{}");
    session.answers(A, "6", r#"{"tools":[]}"#);
    let cancel = notification("notifications/cancelled", r#"{"requestId":7,"reason":"bored"}"#);
    let lines = session.client(&cancel);
    let part = |id: &str| cancel.replace("\"requestId\":7", &format!("\"requestId\":{id}"));
    assert_eq!(lines, [format!("b> {}", part("7")), format!("c> {}", part("8"))]);
    assert!(session.answers(B, "7", r#"{"tools":[]}"#).is_empty());
    session.is_quiet();
    assert_eq!(session.core.state.union().sub_request_count(), 0);
}

#[test]
fn a_list_that_takes_too_long_is_cancelled() {
    let servers = servers(&["a", "b"], true, false);
    let mut session = UnionHarness::opened(servers, Limits { request_timeout: Some(secs(5)), ..limits() });
    session.asks("7", "tools/list", "{}");
    let lines = session.wait(secs(5));
    assert_eq!(error_of(&lines).0, -31015);
    assert_eq!(lines.len(), 3, "{lines:?}");
    session.is_quiet();
}

#[test]
fn what_is_too_large_together_leaves_out_the_last() {
    let limit = 2000;
    let mut session =
        UnionHarness::opened(servers(&["a", "b"], true, false), Limits { message_size: limit, ..limits() });
    session.asks("7", "tools/list", "{}");
    let long = format!(r#"{{"tools":[{{"name":"x","description":"{}"}}]}}"#, "d".repeat(1200));
    session.answers(B, "7", &long);
    let lines = session.answers(A, "6", &long);
    assert!(lines[0].starts_with("a! it is left out of tools/list: the message has"), "{lines:?}");
    assert_eq!(json_of(&lines, "1< ")["result"]["tools"][0]["name"], "b_x");
}

#[test]
fn a_name_that_two_have_is_shown_once() {
    let mut session = UnionHarness::open(servers(&["a", "b"], false, false));
    for (call, first) in [("7", 6), ("8", 9)] {
        session.asks(call, "tools/list", "{}");
        session.answers(B, &(first + 1).to_string(), r#"{"tools":[{"name":"x","of":"b"},{"name":"y"}]}"#);
        let lines = session.answers(A, &first.to_string(), r#"{"tools":[{"name":"x","of":"a"}]}"#);
        let tools = r#"{"tools":[{"name":"x","of":"a"},{"name":"y"}]}"#;
        assert_eq!(lines.last().unwrap(), &format!("1< {}", result_of(call, tools)));
        // It is told of in the log, once.
        assert_eq!(
            lines.iter().filter(|line| line.starts_with("b! another server has a tool x too")).count(),
            usize::from(first == 6)
        );
    }
    assert!(error_of(&session.asks("9", "tools/call", r#"{"name":"x"}"#)).1.contains("offered by `a` and `b`"));
    // When it is gone from one, the other has it.
    session.exits(A);
    assert_eq!(session.asks("10", "tools/call", r#"{"name":"x"}"#)[0].split(' ').next(), Some("b>"));
}

#[test]
fn lists_of_resources_have_prefixed_uris() {
    let mut session = UnionHarness::open(servers(&["a", "b"], true, true));
    session.asks("7", "resources/list", "{}");
    session.answers(A, "6", r#"{"resources":[{"uri":"x:\/\/1","name":"n"},{"uri":"urn:1"}]}"#);
    let lines = session.answers(B, "7", r#"{"resources":[{"uri":"x://1"}]}"#);
    let merged = r#"{"resources":[{"uri":"x://a/1","name":"n"},{"uri":"urn:1"},{"uri":"x://b/1"}]}"#;
    assert_eq!(lines, [format!("1< {}", result_of("7", merged))]);
    session.asks("8", "resources/templates/list", "{}");
    session.answers(A, "9", r#"{"resourceTemplates":[{"uriTemplate":"x://{id}"}]}"#);
    let lines = session.server(B, r#"{"jsonrpc":"2.0","id":10,"error":{"code":-32601,"message":"none"}}"#);
    assert_eq!(lines, [format!("1< {}", result_of("8", r#"{"resourceTemplates":[{"uriTemplate":"x://a/{id}"}]}"#))]);
}
