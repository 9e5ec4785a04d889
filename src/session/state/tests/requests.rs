//! Ids, batches, cancellation, progress, and messages that are not as they should be.

use super::*;

#[test]
fn ids_come_back_as_they_were_spelled() {
    let mut core = CoreHarness::live(limits());
    let ids =
        ["1", "-1", "1.0", "1e3", "18446744073709551616", "\"\"", "\"1\"", r#""\u0061\n""#, r#""\ud800""#, "\"é\""];
    for (stream, id) in (2..).zip(ids) {
        assert_eq!(core.post(stream, &ask(id, "x")), [format!("server: ask {stream} x")]);
    }
    for (stream, id) in (2..).zip(ids) {
        assert_eq!(core.server(&answer(&stream.to_string()))[0], format!("client {stream}: answer {id}"));
    }
    core.open(50, StreamKind::Get);
    for (number, id) in (1..).zip(ids) {
        assert_eq!(core.server(&ask(id, "roots/list")), [format!("client 50: ask {number} roots/list")]);
        assert_eq!(core.client(0, &answer(&number.to_string())), [format!("server: answer {id}")]);
    }
}

#[test]
fn an_id_may_not_be_used_twice_at_once_however_it_is_spelled() {
    let mut core = CoreHarness::live(limits());
    core.post(2, &ask("\"a\"", "x"));
    assert_eq!(core.post(3, &ask(r#""\u0061""#, "x")), [r#"client 3: error "\u0061" -32600"#, "close 3"]);
    assert_eq!(core.server(&answer("2")), ["client 2: answer \"a\"", "close 2"]);
    assert_eq!(core.post(4, &ask("\"a\"", "x")), ["server: ask 3 x"], "afterwards it may");
}

#[test]
fn an_id_without_end_is_refused_on_either_side() {
    let mut core = CoreHarness::live(limits());
    let long = format!("\"{}\"", "x".repeat(2000));
    assert_eq!(core.post(2, &ask(&long, "x")), ["client 2: error null -32600", "close 2"]);
    assert_eq!(core.post(3, &ask_with_token("1", &long)), ["client 3: error 1 -32600", "close 3"]);
    let messages = [ask(&long, "x"), ask("1", "x"), ask_with_token("2", &long)];
    assert_eq!(core.post(4, &batch(&messages)), ["server: ask 2 x"]);
    assert_eq!(core.server(&answer("2")), ["client 4: [error null -32600, error 2 -32600, answer 1]", "close 4"]);
    assert_eq!(core.server(&ask(&long, "roots/list")), ["server: error null -32600"]);
    assert_eq!(core.server(&ask_with_token("1", &long)), ["server: error 1 -32600"]);
    let messages = [ask(&long, "roots/list"), ask("1", "ping"), ask_with_token("2", &long)];
    assert_eq!(core.server(&batch(&messages)), ["server: [error null -32600, answer 1, error 2 -32600]"]);
}

#[test]
fn there_is_a_limit_to_requests_of_both_directions() {
    let mut core = CoreHarness::live(Limits { in_flight: 2, ..limits() });
    core.open(9, StreamKind::Get);
    core.post(2, &ask("1", "x"));
    core.post(3, &ask("2", "x"));
    assert_eq!(core.post(4, &ask("3", "x")), ["client 4: error 3 -31019", "close 4"]);
    core.server(&answer("2"));
    assert_eq!(core.post(5, &ask("4", "x")), ["server: ask 4 x"]);
    core.server(&ask("1", "q"));
    core.server(&ask("2", "q"));
    assert_eq!(core.server(&ask("3", "q")), ["server: error 3 -31019"]);
    assert_eq!(core.server(&ask("4", "ping")), ["server: answer 4"]);
}

#[test]
fn pings_of_the_server_are_answered_at_once_and_those_of_the_client_relayed() {
    let mut core = CoreHarness::new(limits());
    assert_eq!(core.server(&ask("\"p\"", "ping")), ["server: answer \"p\""], "in any phase, without any stream");
    let mut core = CoreHarness::live(limits());
    assert_eq!(core.post(2, &ask("1", "ping")), ["server: ask 2 ping"]);
}

#[test]
fn a_batch_of_the_client_has_one_reply() {
    let mut core = CoreHarness::live(limits());
    let messages =
        [ask("1", "x"), tell("notifications/roots/list_changed"), "17".to_owned(), ask("1", "y"), ask("2", "z")];
    assert_eq!(
        core.post(2, &batch(&messages)),
        ["server: ask 2 x", "server: tell notifications/roots/list_changed", "server: ask 3 z"]
    );
    assert!(core.server(&answer("3")).is_empty());
    assert_eq!(
        core.server(&answer("2")),
        ["client 2: [error null -32600, error 1 -32600, answer 2, answer 1]", "close 2"]
    );
}

#[test]
fn a_batch_that_wants_no_answer_has_none() {
    let mut core = CoreHarness::live(limits());
    assert_eq!(core.client(0, &batch(&[tell("a"), tell("b")])), ["server: tell a", "server: tell b"]);
}

#[test]
fn a_batch_that_is_all_refused_is_answered_at_once() {
    let mut core = CoreHarness::live(limits());
    core.event(Event::Drain);
    let lines = core.post_single(2, &batch(&[ask("1", "x"), ask("2", "x")]));
    assert_eq!(lines, ["client 2: [error 1 -31016, error 2 -31016]", "close 2"]);
}

#[test]
fn a_batch_whose_members_are_cancelled_waits_for_the_others_only() {
    let mut core = CoreHarness::live(limits());
    core.post(2, &batch(&[ask("1", "x"), ask("2", "y")]));
    assert_eq!(core.client(0, &cancel("1")), ["server: tell notifications/cancelled 2"]);
    assert_eq!(core.server(&answer("3")), ["client 2: [answer 2]", "close 2"]);
    core.post(3, &batch(&[ask("3", "x"), ask("4", "y")]));
    core.server(&answer("4"));
    assert_eq!(
        core.client(0, &cancel("4")),
        ["server: tell notifications/cancelled 5", "client 3: [answer 3]", "close 3"]
    );
    core.post(4, &batch(&[ask("5", "x"), ask("6", "y")]));
    core.client(0, &cancel("5"));
    assert_eq!(core.client(0, &cancel("6")), ["server: tell notifications/cancelled 7", "close 4"]);
}

#[test]
fn a_batch_may_cancel_what_it_asks() {
    let mut core = CoreHarness::live(limits());
    let lines = core.post(2, &batch(&[ask("1", "x"), cancel("1")]));
    assert_eq!(lines, ["server: ask 2 x", "server: tell notifications/cancelled 2", "close 2"]);
}

#[test]
fn the_reply_to_a_batch_is_no_larger_than_a_message_may_be() {
    let mut core = CoreHarness::live(Limits { message_size: 1000, ..limits() });
    core.post(2, &batch(&[ask("1", "x"), ask("2", "x"), ask("3", "x")]));
    let large = |id: u32| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"{}"}}"#, "x".repeat(600));
    core.server(&large(2));
    core.server(&large(3));
    assert_eq!(core.server(&answer("4"))[0], "client 2: [answer 1, error 2 -31014, answer 3]");
}

#[test]
fn a_batch_of_the_server_has_one_reply() {
    let mut core = CoreHarness::live(limits());
    core.open(2, StreamKind::Get);
    core.post(3, &ask("1", "x"));
    let messages = [ask("7", "q"), tell("log"), ask("8", "ping"), answer("2"), ask("9", "r"), "{}".to_owned()];
    assert_eq!(
        core.server(&batch(&messages)),
        ["client 3: ask 1 q", "client 3: tell log", "client 3: answer 1", "close 3", "client 2: ask 2 r"]
    );
    assert!(core.client(0, &answer("2")).is_empty());
    assert_eq!(core.client(0, &error("1")), ["server: [answer 8, answer 9, error 7 -1]"]);
}

#[test]
fn a_batch_of_the_server_with_a_request_that_is_cancelled() {
    let mut core = CoreHarness::live(limits());
    core.open(2, StreamKind::Get);
    core.server(&batch(&[ask("7", "q"), ask("8", "q")]));
    core.client(0, &answer("1"));
    assert_eq!(core.server(&cancel("8")), ["server: [answer 7]", "client 2: tell notifications/cancelled 2"]);
}

#[test]
fn a_client_cancels_its_calls_and_no_others() {
    let mut core = CoreHarness::live(limits());
    core.post(2, &ask("\"a\"", "x"));
    assert_eq!(core.client(0, &cancel(r#""\u0061""#)), ["server: tell notifications/cancelled 2", "close 2"]);
    assert!(core.client(0, &cancel("\"a\"")).is_empty(), "once");
    assert!(core.client(0, &cancel("2")).is_empty(), "our number is not its id");
    assert!(core.server(&answer("2")).is_empty(), "too late");
    let mut core = CoreHarness::new(limits());
    core.post(1, &ask("0", "initialize"));
    assert!(core.client(0, &cancel("0")).is_empty(), "the handshake cannot be cancelled");
}

#[test]
fn a_server_cancels_its_requests_and_no_others() {
    let mut core = CoreHarness::live(limits());
    core.open(2, StreamKind::Get);
    core.server(&ask("\"q\"", "roots/list"));
    assert!(core.server(&cancel("1")).is_empty(), "our number is not its id");
    assert!(core.server(&cancel("\"p\"")).is_empty());
    assert_eq!(core.server(&cancel("\"q\"")), ["client 2: tell notifications/cancelled 1"]);
    assert!(core.server(&cancel("\"q\"")).is_empty(), "once");
    assert!(core.client(0, &answer("1")).is_empty(), "too late");
}

#[test]
fn a_task_reports_progress_after_its_answer() {
    let task = |id: &str, token: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"task":{{}},"_meta":{{"progressToken":{token}}}}}}}"#
        )
    };
    let mut core = CoreHarness::live(limits());
    core.open(2, StreamKind::Get);
    core.post(3, &task("1", "\"t\""));
    assert_eq!(core.server(&progress("2")), ["client 3: tell notifications/progress \"t\""]);
    core.server(&answer("2"));
    assert_eq!(core.server(&progress("2")), ["client 2: tell notifications/progress \"t\""]);
    // A call that is no task, or whose task was refused, has nothing to report any more.
    core.post(4, &ask_with_token("2", "5"));
    core.server(&answer("3"));
    assert!(core.server(&progress("3")).is_empty());
    core.post(5, &task("3", "6"));
    core.server(&error("4"));
    assert!(core.server(&progress("4")).is_empty());
    // The newest tasks are remembered.
    for number in 5..70 {
        core.post(number + 100, &task("9", "7"));
        core.server(&answer(&number.to_string()));
    }
    assert!(core.server(&progress("2")).is_empty());
    assert_eq!(core.server(&progress("69")), ["client 2: tell notifications/progress 7"]);
}

#[test]
fn what_the_client_says_badly() {
    let mut core = CoreHarness::stdio(limits());
    core.server(&ask("\"q\"", "roots/list"));
    let table = [
        ("17", "client 1: error null -32600"),
        ("{", "client 1: error null -32700"),
        ("[]", "client 1: error null -32600"),
        (r#"{"jsonrpc":"2.0","id":"a"}"#, "client 1: error \"a\" -32600"),
        (r#"{"jsonrpc":"2.0","id":"a","method":3}"#, "client 1: error \"a\" -32600"),
        (r#"{"id":"a","method":"x"}"#, "client 1: error \"a\" -32600"),
        (r#"{"jsonrpc":"2.0","method":"x","params":3}"#, "client 1: error null -32600"),
        (r#"{"jsonrpc":"2.0","id":null,"method":"x"}"#, "client 1: error null -32600"),
    ];
    for (json, expected) in table {
        assert_eq!(core.client(1, json), [expected], "{json}");
    }
    // An answer that cannot be read ends its request, and is never answered with the id of the request.
    let broken = r#"{"jsonrpc":"2.0","id":1,"result":1,"error":{}}"#;
    assert_eq!(core.client(1, broken), ["server: error \"q\" -32600", "client 1: error null -32600"]);
    assert_eq!(core.client(1, broken), ["client 1: error null -32600"]);
}

#[test]
fn what_the_server_says_badly() {
    let mut core = CoreHarness::stdio(limits());
    for id in ["1", "2", "3"] {
        core.client(1, &ask(id, "x"));
    }
    let table: [(&str, &[&str]); 8] = [
        ("some log line", &[]),
        ("{}", &[]),
        (r#"{"jsonrpc":"2.0","method":"x","params":3}"#, &[]),
        (r#"{"jsonrpc":"2.0","id":"q","method":"x","params":3}"#, &["server: error \"q\" -32600"]),
        (r#"{"jsonrpc":"2.0","id":2,"result":1,"error":{}}"#, &["client 1: error 1 -31009"]),
        (r#"{"jsonrpc":"1.0","id":3,"result":1}"#, &["client 1: error 2 -31009"]),
        (r#"{"jsonrpc":"2.0","id":4}"#, &["client 1: error 3 -31009"]),
        (r#"{"jsonrpc":"2.0","id":5}"#, &[]),
    ];
    for (json, expected) in table {
        assert_eq!(core.server(json), expected, "{json}");
    }
}

#[test]
fn what_is_too_large() {
    let mut core = CoreHarness::live(limits());
    let client = |core: &mut CoreHarness, stream: u64, id: Option<&str>, request: bool| {
        let id = id.and_then(|id| Id::from_raw(id.as_bytes()));
        core.event(Event::ClientLost {
            client: ClientId::FIRST,
            stream: StreamId(stream),
            message: LostMessage { id, request, size: 9, why: crate::frame::Lost::Oversized },
        })
    };
    let server = |core: &mut CoreHarness, id: Option<&str>, request: bool| {
        let id = id.and_then(|id| Id::from_raw(id.as_bytes()));
        core.event(Event::ServerLost {
            link: LINK,
            message: LostMessage { id, request, size: 9, why: crate::frame::Lost::Oversized },
        })
    };
    core.open(2, StreamKind::Get);
    assert_eq!(client(&mut core, 2, Some("\"a\""), true), ["client 2: error \"a\" -31014"]);
    assert_eq!(client(&mut core, 2, None, false), ["client 2: error null -31014"]);
    core.server(&ask("\"q\"", "roots/list"));
    assert_eq!(client(&mut core, 2, Some("1"), false), ["server: error \"q\" -31014"]);
    assert!(client(&mut core, 2, Some("1"), false).is_empty());
    assert_eq!(server(&mut core, Some("\"q\""), true), ["server: error \"q\" -31014"]);
    core.post(3, &ask("5", "x"));
    assert_eq!(server(&mut core, Some("2"), false), ["client 3: error 5 -31014", "close 3"]);
    assert!(server(&mut core, Some("2"), false).is_empty());
    assert!(server(&mut core, None, false).is_empty());
}

#[test]
fn an_error_is_marked_as_such_where_it_is_the_whole_reply() {
    let mut core = CoreHarness::live(limits());
    let role = |core: &mut CoreHarness, json: &str| {
        let frames = frame::split(String::from(json));
        let effects = core.state.apply(Event::FromServer { link: LINK, on: None, frames }, core.now);
        effects.iter().find_map(|effect| if let Effect::ToClient { role, .. } = effect { Some(*role) } else { None })
    };
    core.post(2, &ask("1", "x"));
    assert_eq!(role(&mut core, &answer("2")), Some(MessageRole::Response));
    core.post(3, &ask("1", "x"));
    assert_eq!(role(&mut core, &error("3")), Some(MessageRole::ErrorResponse));
    core.post(4, &batch(&[ask("1", "x")]));
    assert_eq!(role(&mut core, &error("4")), Some(MessageRole::Response));
    core.open(5, StreamKind::Get);
    assert_eq!(role(&mut core, &ask("1", "roots/list")), Some(MessageRole::FromServer));
}

#[test]
fn an_unreadable_answer_ends_its_request_though_nobody_waits_for_an_error() {
    for batch in [false, true] {
        let mut core = CoreHarness::live(limits());
        core.open(9, StreamKind::Get);
        assert_eq!(core.server(&ask("\"q\"", "roots/list")), ["client 9: ask 1 roots/list"]);
        // It comes as a POST of its own, which has no stream: its id is readable, and what it says is not JSON-RPC.
        let bad = r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":"both"}}"#;
        let told = core.client(0, &if batch { format!("[{bad}]") } else { bad.to_owned() });
        assert_eq!(told, ["server: error \"q\" -32600"]);
    }
}
