//! Peers that do not tell the truth: only they themselves may suffer from it.

use super::*;

#[test]
fn a_server_answers_what_it_was_never_asked() {
    let mut core = CoreHarness::live(limits());
    core.open(2, StreamKind::Get);
    core.post(3, &ask("1", "x"));
    for id in ["0", "99", "\"2\"", "2.5", "-2", "18446744073709551616", "\"1\""] {
        assert!(core.server(&answer(id)).is_empty(), "{id}");
    }
    let nobodys = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"no"}}"#;
    assert!(core.server(nobodys).is_empty());
    assert_eq!(core.server(&answer("2")), ["client 3: answer 1", "close 3"]);
}

#[test]
fn a_server_answers_twice() {
    let mut core = CoreHarness::live(limits());
    core.post(2, &ask("1", "x"));
    assert_eq!(core.server(&batch(&[answer("2"), answer("2"), error("2")])), ["client 2: answer 1", "close 2"]);
    assert!(core.server(&answer("2")).is_empty());
    // The client uses its id again: the late answer is not taken for an answer to that.
    core.post(3, &ask("1", "x"));
    assert!(core.server(&answer("2")).is_empty());
}

#[test]
fn another_link_cannot_answer() {
    let mut core = CoreHarness::live(limits());
    core.post(2, &ask("1", "x"));
    for json in [answer("2"), r#"{"jsonrpc":"2.0","id":2}"#.to_owned()] {
        let frames = frame::split(json);
        assert!(core.event(Event::FromServer { link: LinkId(7), on: None, frames }).is_empty());
    }
    let id = Some(Id::number(2));
    assert!(
        core.event(Event::ServerLost {
            link: LinkId(7),
            message: LostMessage { id, request: false, size: 1, why: crate::frame::Lost::Oversized }
        })
        .is_empty()
    );
    assert_eq!(core.server(&answer("2")), ["client 2: answer 1", "close 2"]);
}

#[test]
fn an_answer_goes_back_on_the_link_of_its_request() {
    let mut core = CoreHarness::live(limits());
    core.open(2, StreamKind::Get);
    for link in [LinkId(0), LinkId(7)] {
        let frames = frame::split(ask("\"q\"", "roots/list"));
        core.event(Event::FromServer { link, on: None, frames });
    }
    for (number, link) in [("2", LinkId(7)), ("1", LinkId(0))] {
        let frames = frame::split(answer(number));
        let effects = core.state.apply(
            Event::FromClient { client: ClientId::FIRST, respond_on: RespondOn::Stream(StreamId(0)), frames },
            core.now,
        );
        assert!(matches!(effects.as_slice(), [Effect::ToServer { link: taken, .. }] if *taken == link));
    }
}

#[test]
fn a_server_asks_twice_with_one_id() {
    let mut core = CoreHarness::live(limits());
    core.open(2, StreamKind::Get);
    assert_eq!(core.server(&ask("\"q\"", "a")), ["client 2: ask 1 a"]);
    assert_eq!(core.server(&ask("\"q\"", "b")), ["client 2: ask 2 b"]);
    assert_eq!(core.client(0, &answer("1")), ["server: answer \"q\""]);
    assert_eq!(core.server(&cancel("\"q\"")), ["client 2: tell notifications/cancelled 2"]);
    assert!(core.client(0, &answer("2")).is_empty());
}

#[test]
fn a_server_reports_progress_that_nobody_waits_for() {
    let mut core = CoreHarness::live(limits());
    core.open(2, StreamKind::Get);
    core.post(3, &ask("1", "x"));
    assert!(core.server(&progress("1")).is_empty(), "its call was answered");
    assert!(core.server(&progress("2")).is_empty(), "its call wants none");
    core.server(&answer("2"));
    // Not one of ours: whatever it means, it is its client's to judge.
    assert_eq!(core.server(&progress("\"own\"")), ["client 2: tell notifications/progress \"own\""]);
    assert_eq!(core.server(&progress("[1]")), ["client 2: tell notifications/progress"]);
}

#[test]
fn a_client_answers_what_it_was_never_asked_or_twice() {
    let mut core = CoreHarness::live(limits());
    core.open(2, StreamKind::Get);
    core.server(&ask("\"q\"", "roots/list"));
    for id in ["0", "2", "\"q\"", "\"1\"", "1.5", "18446744073709551616"] {
        assert!(core.client(0, &answer(id)).is_empty(), "{id}");
    }
    assert_eq!(core.client(0, &answer("1")), ["server: answer \"q\""]);
    assert!(core.client(0, &answer("1")).is_empty());
    assert!(core.client(0, &error("1")).is_empty());
}

#[test]
fn a_client_speaks_before_the_handshake() {
    let mut core = CoreHarness::new(limits());
    core.open(1, StreamKind::Duplex);
    assert_eq!(core.client(1, &ask("1", "tools/list")), ["server: ask 1 tools/list"], "the server may judge it");
    assert_eq!(core.server(&error("1")), ["client 1: error 1 -1"]);
    assert_eq!(core.client(1, &tell("notifications/initialized")).len(), 1);
}

#[test]
fn a_request_on_a_stream_that_is_gone_is_not_made() {
    let mut core = CoreHarness::live(limits());
    core.open(2, StreamKind::Post);
    core.lose(2);
    assert!(core.client(2, &ask("1", "x")).is_empty());
    assert_eq!(core.client(2, &batch(&[ask("1", "x"), tell("a"), "1".to_owned()])), ["server: tell a"]);
    assert!(core.client(2, "{").is_empty());
    assert_eq!(core.state.requests_in_flight(), 0);
    assert!(core.wait(secs(1799)).is_empty());
    assert_eq!(core.wait(secs(1)), ["ended idle"]);
}

#[test]
fn a_client_resumes_what_is_not_resumable() {
    let mut core = CoreHarness::live(limits());
    core.post_single(2, &ask("1", "x"));
    let old = core.attachments;
    assert_eq!(core.resume(2, 0), ["resumed 2"]);
    assert!(core.lose_old(2, old).is_empty());
    assert_eq!(core.server(&answer("2")), ["client 2: answer 1", "close 2"]);
}

#[test]
fn a_call_on_a_stream_that_lasts_leaves_nothing_behind() {
    let mut core = CoreHarness::live(limits());
    core.wait(secs(700));
    core.open(2, StreamKind::Get);
    core.client(2, &ask("1", "x"));
    core.lose(2);
    core.wait(secs(700));
    assert_eq!(core.client(0, &cancel("1")), ["server: tell notifications/cancelled 2"]);
    assert_eq!(core.state.client().outbox.stream_count(), 0);
}

#[test]
fn a_state_is_lost_with_a_server_whose_answer_to_initialize_only_the_client_can_read() {
    let mut core = CoreHarness::new(limits());
    core.open(1, StreamKind::Duplex);
    core.client(1, &ask("0", "initialize"));
    core.server(r#"{"jsonrpc":"2.0","id":1,"result":{"x":1e999}}"#);
    core.client(1, &ask("7", "tools/call"));
    let lines = core.event(Event::LinkClosed { link: LINK, exit: exited() });
    assert_eq!(lines, ["client 1: error 7 -31010", "close 1", "ended backend gone"]);
}
