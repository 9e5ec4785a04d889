//! Streams that are lost and taken up again.

use super::*;

/// A session with a small store. One small answer takes up about 300 bytes of it.
fn small() -> CoreHarness {
    CoreHarness::live(Limits { replay_bytes: 1000, ..limits() })
}

/// The numbers of the events in these effects.
fn events(core: &mut CoreHarness, event: Event) -> Vec<u64> {
    let effects = core.state.apply(event, core.now);
    let number = |effect: &Effect| if let Effect::ToClient { event, .. } = effect { *event } else { None };
    effects.iter().filter_map(number).collect()
}

fn resumption(core: &mut CoreHarness, stream: u64, after: u64) -> Event {
    core.attachments += 1;
    let attachment = Attachment(core.attachments);
    Event::Attached {
        client: ClientId::FIRST,
        stream: StreamId(stream),
        attachment,
        kind: StreamKind::Get,
        after: Some(after),
    }
}

#[test]
fn an_answer_that_came_meanwhile_is_sent_and_the_stream_is_over() {
    let mut core = CoreHarness::live(limits());
    core.post(2, &ask_with_token("1", "5"));
    assert!(core.lose(2).is_empty());
    assert!(core.server(&progress("2")).is_empty(), "it belongs to a stream that may be taken up again");
    assert!(core.server(&answer("2")).is_empty());
    let all = ["resumed 2", "client 2: tell notifications/progress 5", "client 2: answer 1", "close 2"];
    assert_eq!(core.resume(2, 0), all);
    // It got lost on the way: the client asks once more, and then has all.
    assert_eq!(core.resume(2, 0), all);
    let newest = core.state.client().outbox.newest_event();
    assert_eq!(core.resume(2, newest), ["close 2"]);
}

#[test]
fn a_call_that_goes_on_answers_on_the_stream_that_was_taken_up() {
    let mut core = CoreHarness::live(limits());
    core.post(2, &ask("1", "tools/call"));
    core.lose(2);
    assert_eq!(core.resume(2, 0), ["resumed 2"]);
    assert_eq!(core.server(&tell("log")), ["client 2: tell log"]);
    assert_eq!(core.server(&answer("2")), ["client 2: answer 1", "close 2"]);
}

#[test]
fn the_end_of_an_older_connection_is_no_loss() {
    let mut core = CoreHarness::live(limits());
    core.open(2, StreamKind::Get);
    let old = core.attachments;
    assert_eq!(core.resume(2, 0), ["resumed 2"], "the client came back before its loss was noticed");
    assert!(core.lose_old(2, old).is_empty());
    assert_eq!(core.server(&tell("log")), ["client 2: tell log"]);
    assert!(core.wait(secs(4000)).is_empty(), "it is still open");
    core.lose(2);
    assert!(core.server(&tell("log")).is_empty());
    assert!(core.lose(2).is_empty(), "told twice");
}

#[test]
fn what_the_client_knows_is_not_sent_again() {
    let mut core = CoreHarness::live(limits());
    core.open(2, StreamKind::Get);
    let mut numbers = Vec::new();
    for _ in 0..3 {
        let frames = frame::split(tell("log"));
        numbers.extend(events(&mut core, Event::FromServer { link: LINK, on: None, frames }));
    }
    assert!(numbers.is_sorted_by(|one, next| one < next) && numbers.len() == 3, "{numbers:?}");
    core.lose(2);
    for known in 0..=3 {
        let after = if known == 0 { 0 } else { numbers[known - 1] };
        let event = resumption(&mut core, 2, after);
        assert_eq!(events(&mut core, event), numbers[known..]);
    }
}

#[test]
fn numbers_go_on_growing_whatever_the_client_claims_to_know() {
    let mut core = CoreHarness::live(limits());
    core.open(2, StreamKind::Get);
    core.server(&tell("log"));
    for claimed in [u64::MAX, u64::MAX - 1, 0, u64::MAX] {
        let before = core.state.client().outbox.newest_event();
        core.resume(2, claimed);
        let frames = frame::split(tell("log"));
        assert_eq!(events(&mut core, Event::FromServer { link: LINK, on: None, frames }), [before + 1]);
    }
}

#[test]
fn a_stream_that_is_forgotten_goes_on_as_a_get_stream() {
    let mut core = CoreHarness::live(limits());
    core.open(2, StreamKind::Get);
    core.server(&tell("log"));
    let newest = core.state.client().outbox.newest_event();
    core.lose(2);
    core.wait(secs(1000));
    assert_eq!(core.state.client().outbox.stream_count(), 0);
    assert_eq!(core.resume(2, newest), ["resumed 2"]);
    let frames = frame::split(tell("log"));
    let numbers = events(&mut core, Event::FromServer { link: LINK, on: None, frames });
    assert!(numbers[0] > newest);
    assert_eq!(core.resume(77, 3), ["resumed 77"], "one that never was is no worse");
}

#[test]
fn an_answer_that_had_to_be_dropped_is_an_error() {
    let mut core = small();
    for stream in 2..8 {
        core.post(stream, &ask(&format!("\"c{stream}\""), "tools/call"));
        core.lose(stream);
        core.server(&answer(&stream.to_string()));
    }
    assert_eq!(core.resume(7, 0), ["resumed 7", "client 7: answer \"c7\"", "close 7"]);
    assert_eq!(core.resume(2, 0), ["resumed 2", "client 2: error \"c2\" -31018", "close 2"]);
    // The error is kept like any other event, so it is not lost if the connection is.
    assert_eq!(core.resume(2, 0), ["resumed 2", "client 2: error \"c2\" -31018", "close 2"]);
}

#[test]
fn an_answer_larger_than_the_store_costs_itself_only() {
    let mut core = small();
    core.open(2, StreamKind::Get);
    core.server(&tell("log"));
    core.lose(2);
    core.post(3, &ask("1", "tools/call"));
    core.lose(3);
    core.server(&format!(r#"{{"jsonrpc":"2.0","id":2,"result":"{}"}}"#, "x".repeat(2000)));
    assert_eq!(core.resume(2, 0), ["resumed 2", "client 2: tell log"]);
    assert_eq!(core.resume(3, 0), ["resumed 3", "client 3: error 1 -31018", "close 3"]);
}

#[test]
fn the_answers_to_a_batch_that_had_to_be_dropped_are_an_error_each() {
    let mut core = small();
    core.post(2, &batch(&[ask("1", "x"), ask("2", "y")]));
    core.lose(2);
    let result = format!("\"{}\"", "x".repeat(600));
    for number in [2, 3] {
        assert!(core.server(&format!(r#"{{"jsonrpc":"2.0","id":{number},"result":{result}}}"#)).is_empty());
    }
    let lines = core.resume(2, 0);
    assert_eq!(lines, ["resumed 2", "client 2: error 1 -31018", "client 2: error 2 -31018", "close 2"]);
}

#[test]
fn a_server_request_that_had_to_be_dropped_fails_when_the_client_comes_back() {
    let mut core = small();
    core.open(2, StreamKind::Get);
    core.server(&ask("\"q\"", "roots/list"));
    core.lose(2);
    core.open(3, StreamKind::Get);
    for _ in 0..5 {
        core.server(&tell("log"));
    }
    assert_eq!(core.resume(2, 0), ["resumed 2", "server: error \"q\" -31017"]);
}

#[test]
fn a_server_request_that_the_client_has_seen_is_open_whatever_was_dropped() {
    let mut core = small();
    core.open(2, StreamKind::Get);
    core.server(&ask("\"q\"", "roots/list"));
    let seen = core.state.client().outbox.newest_event();
    for _ in 0..5 {
        core.server(&tell("log"));
    }
    let lines = core.resume(2, seen);
    assert!(lines.iter().all(|line| !line.starts_with("server")), "{lines:?}");
    assert_eq!(core.client(0, &answer("1")), ["server: answer \"q\""]);
}

#[test]
fn what_was_dropped_is_remembered_within_bounds() {
    let mut core = CoreHarness::live(Limits { replay_bytes: 4000, in_flight: 5000, ..limits() });
    for stream in 2..3000 {
        core.post(stream, &ask(&stream.to_string(), "x"));
        core.server(&answer(&stream.to_string()));
    }
    assert!(core.state.client().outbox.kept_bytes() <= 8000);
    assert!(core.state.client().outbox.stream_count() < 100, "{}", core.state.client().outbox.stream_count());
    core.wait(secs(700));
    assert_eq!(core.state.client().outbox.kept_bytes(), 0);
    assert_eq!(core.state.client().outbox.stream_count(), 0);
}

#[test]
fn json_answers_and_stdio_are_not_kept() {
    let mut core = CoreHarness::live(limits());
    let before = core.state.client().outbox.kept_bytes();
    core.post_single(2, &ask("1", "x"));
    assert_eq!(core.server(&answer("2")), ["client 2: answer 1", "close 2"]);
    core.post_single(3, &ask("2", "x"));
    core.lose(3);
    assert!(core.server(&answer("3")).is_empty());
    assert_eq!(core.state.client().outbox.kept_bytes(), before);
    let mut core = CoreHarness::stdio(limits());
    core.server(&tell("log"));
    assert_eq!(core.state.client().outbox.kept_bytes(), 0);
}
