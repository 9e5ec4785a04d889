//! Responses that are spelled in another way, name more than one call, or do not say which one.

use super::*;

/// A response that does not say to what.
const NO_ID: &str = r#"{"jsonrpc":"2.0","result":{}}"#;

fn with_ids(ids: &[&str]) -> String {
    let ids: Vec<_> = ids.iter().map(|id| format!(r#""id":{id}"#)).collect();
    format!(r#"{{"jsonrpc":"2.0",{},"result":{{}}}}"#, ids.join(","))
}

#[test]
fn a_number_means_the_same_in_every_spelling() {
    let mut core = CoreHarness::live(limits());
    core.open(50, StreamKind::Get);
    for (number, spelling) in [(2, "2.0"), (3, "3e0"), (4, "40e-1"), (5, "0.5E+1")] {
        let stream = 50 + number;
        core.post(stream, &ask_with_token("7.0", "\"t\""));
        assert_eq!(core.server(&progress(spelling)), [format!("client {stream}: tell notifications/progress \"t\"")]);
        let expected = [format!("client {stream}: answer 7.0"), format!("close {stream}")];
        assert_eq!(core.server(&answer(spelling)), expected, "{spelling}");
    }
    assert_eq!(core.server(&ask("1.0", "roots/list")), ["client 50: ask 1 roots/list"]);
    assert_eq!(core.client(0, &answer("10e-1")), ["server: answer 1.0"]);
    // The client's own ids are what it says they are.
    core.post(60, &ask("8", "x"));
    assert_eq!(core.post(61, &ask("8.0", "x")), ["server: ask 7 x"]);
    assert_eq!(core.client(0, &cancel("8.0")), ["server: tell notifications/cancelled 7", "close 61"]);
    core.post(62, &ask("9", "x"));
    for stray in ["8.5", "-8", "8e400", "\"8.0\"", "80"] {
        assert!(core.server(&answer(stray)).is_empty(), "{stray}");
    }
}

#[test]
fn each_call_fails_that_an_answer_names() {
    let mut core = CoreHarness::stdio(limits());
    for id in ["10", "11", "12", "13"] {
        core.client(1, &ask(id, "x"));
    }
    assert_eq!(
        core.server(&with_ids(&["2", "99", "3.0", "null", "2"])),
        ["client 1: error 10 -31009", "client 1: error 11 -31009"]
    );
    assert!(core.server(&with_ids(&["\"a\"", "99"])).is_empty());
    assert_eq!(core.server(&answer("4")), ["client 1: answer 12"]);
    assert_eq!(core.server(&batch(&[with_ids(&["5", "6"]), answer("4")])), ["client 1: error 13 -31009"]);
}

#[test]
fn each_server_request_fails_that_an_answer_names() {
    let mut core = CoreHarness::stdio(limits());
    for id in ["\"p\"", "\"q\"", "\"r\""] {
        core.server(&ask(id, "roots/list"));
    }
    assert_eq!(
        core.client(1, &with_ids(&["1", "2.0", "99"])),
        ["server: error \"p\" -32600", "server: error \"q\" -32600", "client 1: error null -32600"]
    );
    assert_eq!(core.client(1, &answer("3")), ["server: answer \"r\""]);
}

#[test]
fn a_request_whose_id_cannot_be_made_out_is_refused() {
    let mut core = CoreHarness::stdio(limits());
    let twice = r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"roots/list"}"#;
    assert_eq!(core.client(1, twice), ["client 1: error null -32600"]);
    assert_eq!(core.server(twice), ["server: error null -32600"]);
    assert_eq!(core.server(&batch(&[twice.to_owned(), ask("1", "ping")])), ["server: [error null -32600, answer 1]"]);
    // Nobody waits for the answer to this one: a server that writes it means a notification.
    assert!(core.server(r#"{"jsonrpc":"2.0","id":null,"method":"log"}"#).is_empty());
}

#[test]
fn an_answer_without_an_id_is_that_to_the_only_call() {
    for unreadable in [
        NO_ID,
        r#"{"jsonrpc":"2.0","id":true,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":,"result":{}}"#,
        r#"{"jsonrpc":"2.0","res"#,
        r#"[{"jsonrpc":"2.0","id":2,"result":{}"#,
    ] {
        let mut core = CoreHarness::stdio(limits());
        assert!(core.server(unreadable).is_empty(), "nobody waits");
        core.client(1, &ask("10", "x"));
        assert_eq!(core.server(unreadable), ["client 1: error 10 -31009"], "{unreadable}");
        core.client(1, &ask("11", "x"));
        core.client(1, &ask("12", "x"));
        assert!(core.server(unreadable).is_empty(), "it may be either: {unreadable}");
        core.client(1, &cancel("11"));
        assert_eq!(core.server(&answer("4")), ["client 1: answer 12"]);
    }
}

#[test]
fn what_is_no_answer_fails_no_call() {
    let mut core = CoreHarness::stdio(limits());
    core.client(1, &ask("10", "x"));
    for babble in [
        "listening",
        "{ready}",
        "[info] jsonrpc is ready",
        r#"{"level":"info","msg":"jsonrpc is ready","error":null}"#,
        r#"{"jsonrpc":"2.0","method":"log","params":7}"#,
        r#"{"jsonrpc":"2.0","id":null,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32601,"message":"no such notification"}}"#,
    ] {
        assert!(core.server(babble).is_empty(), "{babble}");
        assert!(core.server_on(Some(2), babble).is_empty(), "{babble}");
    }
    assert_eq!(core.server(&answer("2")), ["client 1: answer 10"]);
}

#[test]
fn an_answer_without_an_id_is_that_to_the_call_on_whose_stream_it_came() {
    let mut core = CoreHarness::live(limits());
    core.post(2, &ask("10", "x"));
    core.post(3, &ask("11", "x"));
    assert_eq!(core.server_on(Some(3), NO_ID), ["client 3: error 11 -31009", "close 3"]);
    // On a stream of no call, or of one that is over, it is no answer to another.
    assert!(core.server_on(Some(0), NO_ID).is_empty());
    assert!(core.server_on(Some(3), NO_ID).is_empty());
    assert_eq!(core.server_on(Some(2), &answer("2"))[0], "client 2: answer 10");
}

#[test]
fn an_answer_that_is_too_large_and_has_no_id() {
    let mut core = CoreHarness::stdio(limits());
    let too_large = |core: &mut CoreHarness, request| {
        core.event(Event::ServerLost {
            link: LINK,
            message: LostMessage { id: None, request, size: 9, why: crate::frame::Lost::Oversized },
        })
    };
    core.client(1, &ask("10", "x"));
    core.client(1, &ask("11", "x"));
    assert!(too_large(&mut core, false).is_empty());
    core.server(&answer("2"));
    assert!(too_large(&mut core, true).is_empty());
    assert_eq!(too_large(&mut core, false), ["client 1: error 11 -31014"]);
}
