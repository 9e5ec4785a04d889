//! Which stream a message of the server takes, and what becomes of one that finds none.

use super::*;

#[test]
fn a_progress_token_names_the_stream() {
    let mut core = CoreHarness::live(limits());
    core.open(2, StreamKind::Get);
    assert_eq!(core.post(3, &ask_with_token("1", "\"p\"")), ["server: ask 2 tools/call"]);
    core.post(4, &ask_with_token("2", "7"));
    assert_eq!(core.server(&progress("2")), ["client 3: tell notifications/progress \"p\""]);
    assert_eq!(core.server(&progress("3")), ["client 4: tell notifications/progress 7"]);
}

#[test]
fn two_calls_may_use_one_token() {
    let mut core = CoreHarness::live(limits());
    core.post(3, &ask_with_token("1", "5"));
    core.post(4, &ask_with_token("2", "5"));
    assert_eq!(core.server(&progress("3")), ["client 4: tell notifications/progress 5"]);
    assert_eq!(core.server(&progress("2")), ["client 3: tell notifications/progress 5"]);
}

#[test]
fn the_server_sees_numbers_of_the_sessions_own() {
    let mut core = CoreHarness::live(limits());
    core.open(2, StreamKind::Post);
    let frames = frame::split(ask_with_token("\"a\"", "\"p\""));
    let effects = core.state.apply(
        Event::FromClient { client: ClientId::FIRST, respond_on: RespondOn::Stream(StreamId(2)), frames },
        core.now,
    );
    let Some(Effect::ToServer { wire, .. }) = effects.into_iter().next() else { panic!("not relayed") };
    assert_eq!(wire.into_bytes(), ask_with_token("2", "2"));
}

#[test]
fn the_only_call_comes_before_the_get_stream() {
    let mut core = CoreHarness::live(limits());
    core.open(2, StreamKind::Get);
    assert_eq!(core.server(&tell("log")), ["client 2: tell log"]);
    core.post(3, &ask("1", "tools/call"));
    assert_eq!(core.server(&tell("log")), ["client 3: tell log"]);
    core.post(4, &ask("2", "tools/call"));
    assert_eq!(core.server(&tell("log")), ["client 2: tell log"], "two calls: it could be either");
    core.server(&answer("2"));
    assert_eq!(core.server(&ask("9", "roots/list")), ["client 4: ask 1 roots/list"]);
}

#[test]
fn a_call_that_takes_its_answer_as_json_carries_nothing_else() {
    let mut core = CoreHarness::live(limits());
    core.post_single(3, &ask_with_token("1", "5"));
    assert!(core.server(&tell("log")).is_empty());
    assert!(core.server(&progress("2")).is_empty());
    assert_eq!(
        core.open(4, StreamKind::Get),
        ["client 4: tell log", "client 4: tell notifications/progress 5"],
        "they waited, in order"
    );
    assert_eq!(core.server(&tell("log")), ["client 4: tell log"]);
    assert_eq!(core.server(&answer("2")), ["client 3: answer 1", "close 3"]);
}

#[test]
fn without_a_get_stream_it_is_the_newest_post() {
    let mut core = CoreHarness::live(limits());
    for stream in [3, 4, 5] {
        core.post(stream, &ask(&stream.to_string(), "tools/call"));
    }
    core.lose(5);
    assert_eq!(core.server(&ask("9", "sampling/createMessage")), ["client 4: ask 1 sampling/createMessage"]);
    // Taken up again, it is the newest once more.
    assert_eq!(core.resume(5, 0), ["resumed 5"]);
    assert_eq!(core.server(&tell("log")), ["client 5: tell log"]);
}

#[test]
fn of_two_get_streams_the_newest_takes_it_once() {
    let mut core = CoreHarness::live(limits());
    core.open(2, StreamKind::Get);
    core.open(3, StreamKind::Get);
    assert_eq!(core.server(&tell("log")), ["client 3: tell log"]);
    core.lose(3);
    assert_eq!(core.server(&tell("log")), ["client 2: tell log"]);
}

#[test]
fn on_stdio_there_is_one_stream_for_all() {
    let mut core = CoreHarness::stdio(limits());
    assert_eq!(core.server(&ask("9", "roots/list")), ["client 1: ask 1 roots/list"]);
    core.client(1, &ask_with_token("1", "5"));
    core.client(1, &ask("2", "tools/call"));
    assert_eq!(core.server(&progress("2")), ["client 1: tell notifications/progress 5"]);
    assert_eq!(core.server(&tell("log")), ["client 1: tell log"]);
}

#[test]
fn what_finds_no_stream_waits_for_one() {
    let mut core = CoreHarness::live(limits());
    assert!(core.server(&tell("first")).is_empty());
    assert!(core.server(&ask("8", "roots/list")).is_empty());
    assert!(core.server(&tell("last")).is_empty());
    core.pass(secs(9));
    assert_eq!(
        core.post(3, &ask("1", "tools/call")),
        ["client 3: tell first", "client 3: ask 1 roots/list", "client 3: tell last", "server: ask 2 tools/call"]
    );
}

#[test]
fn a_server_request_waits_no_longer_than_it_may_and_a_notification_does() {
    let mut core = CoreHarness::live(limits());
    core.server(&tell("log"));
    core.server(&ask("8", "roots/list"));
    assert!(core.wait(secs(9)).is_empty());
    assert_eq!(core.wait(secs(1)), ["server: error 8 -31017"]);
    assert!(core.wait(secs(1000)).is_empty());
    assert_eq!(core.open(3, StreamKind::Get), ["client 3: tell log"]);
}

#[test]
fn a_server_request_that_is_cancelled_while_it_waits_is_never_asked() {
    let mut core = CoreHarness::live(limits());
    core.server(&ask("8", "roots/list"));
    assert!(core.server(&cancel("8")).is_empty());
    assert!(core.open(3, StreamKind::Get).is_empty());
    core.lose(3);
    core.server(&ask("9", "roots/list"));
    core.server(&cancel("9"));
    assert!(core.wait(secs(60)).is_empty(), "nor does it fail");
}

#[test]
fn what_waits_is_bounded_in_number() {
    let mut core = CoreHarness::live(limits());
    core.server(&ask("8", "roots/list"));
    for _ in 0..1023 {
        assert!(core.server(&tell("log")).is_empty());
    }
    assert_eq!(core.server(&tell("log")), ["server: error 8 -31017"], "the oldest goes, and the server is told");
    assert_eq!(core.state.client().waiting.len(), 1024);
    assert_eq!(core.open(3, StreamKind::Get).len(), 1024);
    assert_eq!(core.state.client().waiting.bytes(), 0);
}

#[test]
fn what_waits_is_bounded_in_bytes() {
    let mut core = CoreHarness::live(Limits { replay_bytes: 4096, ..limits() });
    let large = |id: u32| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"x","params":["{}"]}}"#, "x".repeat(1500));
    assert!(core.server(&large(1)).is_empty());
    assert!(core.server(&large(2)).is_empty());
    assert_eq!(core.server(&large(3)), ["server: error 1 -31017"]);
    // One that is larger than all the room costs itself only.
    let huge = format!(r#"{{"jsonrpc":"2.0","id":4,"method":"x","params":["{}"]}}"#, "x".repeat(5000));
    assert_eq!(core.server(&huge), ["server: error 4 -31017"]);
    assert_eq!(core.open(3, StreamKind::Get), ["client 3: ask 2 x", "client 3: ask 3 x"]);
}

#[test]
fn waiting_gives_the_permit_back() {
    use std::sync::Arc;
    let mut core = CoreHarness::live(limits());
    let held = Arc::new(());
    let frames = frame::split(tell("log")).map(|frames| frames.with_permit(frame::Permit::new(held.clone())));
    assert_eq!(Arc::strong_count(&held), 2);
    core.event(Event::FromServer { link: LINK, on: None, frames });
    assert_eq!(Arc::strong_count(&held), 1, "the queue has a bound of its own");
}

#[test]
fn a_permit_travels_with_the_message() {
    use std::sync::Arc;
    let mut core = CoreHarness::live(limits());
    core.open(2, StreamKind::Get);
    for json in [tell("log"), ask("9", "roots/list"), progress("\"foreign\"")] {
        let held = Arc::new(());
        let frames = frame::split(json).map(|frames| frames.with_permit(frame::Permit::new(held.clone())));
        let effects = core.state.apply(Event::FromServer { link: LINK, on: None, frames }, core.now);
        assert_eq!(Arc::strong_count(&held), 2);
        drop(effects);
        assert_eq!(Arc::strong_count(&held), 1, "what is kept for later does not hold it");
    }
    let held = Arc::new(());
    core.open(3, StreamKind::Post);
    let frames = frame::split(ask("1", "x")).map(|frames| frames.with_permit(frame::Permit::new(held.clone())));
    let effects = core.state.apply(
        Event::FromClient { client: ClientId::FIRST, respond_on: RespondOn::Stream(StreamId(3)), frames },
        core.now,
    );
    assert_eq!(Arc::strong_count(&held), 2);
    drop(effects);
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn the_cancellation_of_a_server_request_follows_it() {
    let mut core = CoreHarness::live(limits());
    core.open(2, StreamKind::Get);
    core.post(3, &ask("1", "tools/call"));
    assert_eq!(core.server(&ask("\"q\"", "elicitation/create")), ["client 3: ask 1 elicitation/create"]);
    core.post(4, &ask("2", "tools/call"));
    assert_eq!(core.server(&cancel("\"q\"")), ["client 3: tell notifications/cancelled 1"]);
    // One whose stream has ended by now takes another way: nobody comes back to an ended stream.
    assert_eq!(core.server(&ask("\"r\"", "elicitation/create")), ["client 2: ask 2 elicitation/create"]);
    core.lose_old(2, 2);
    assert_eq!(core.server(&ask("\"s\"", "elicitation/create")), ["client 4: ask 3 elicitation/create"]);
    core.server(&answer("3"));
    assert_eq!(core.server(&cancel("\"s\"")), ["client 3: tell notifications/cancelled 3"]);
}

#[test]
fn a_connection_that_is_not_read_is_closed_and_its_stream_can_be_resumed() {
    let mut core = CoreHarness::live(Limits { stall: secs(45), ..limits() });
    core.open(2, StreamKind::Get);
    let attachment = Attachment(core.attachments);
    let read_at = |core: &CoreHarness, at| Event::ReadAt { stream: StreamId(2), attachment, at: core.start + at };
    assert_eq!(core.wait(secs(44)), [] as [&str; 0]);
    assert_eq!(core.wait(secs(1)), ["check 2 2"]);
    // The client came for more ten seconds ago: there is nothing to do until 45 s after that.
    let event = read_at(&core, secs(35));
    assert_eq!(core.event(event), [] as [&str; 0]);
    assert_eq!(core.wait(secs(34)), [] as [&str; 0]);
    assert_eq!(core.wait(secs(1)), ["check 2 2"]);
    let event = read_at(&core, secs(35));
    assert_eq!(core.event(event), ["close 2"]);
    assert_eq!(core.server(&tell("notifications/x")), [] as [&str; 0]);
    assert_eq!(core.resume(2, 0), ["resumed 2", "client 2: tell notifications/x"]);
    // What is said of a connection that another one has replaced does not count.
    let event = read_at(&core, secs(0));
    assert_eq!(core.event(event), [] as [&str; 0]);
}

#[test]
fn connections_that_are_sent_no_keep_alives_are_not_checked() {
    let mut core = CoreHarness::new(Limits { stall: secs(1), idle_timeout: None, ..limits() });
    core.open(1, StreamKind::Duplex);
    core.client(1, &ask("0", "initialize"));
    core.open(2, StreamKind::Single);
    assert_eq!(core.wait(secs(100)), [] as [&str; 0]);
}

#[test]
fn a_client_whose_connection_is_all_that_it_has_need_not_name_its_stream() {
    let mut core = CoreHarness::new(limits());
    core.open(4, StreamKind::Sse);
    let mut posts = |json: &str| {
        let frames = frame::split(String::from(json));
        core.event(Event::FromClient { client: ClientId::FIRST, respond_on: RespondOn::OwnStream, frames })
    };
    assert_eq!(posts(&ask("0", "initialize")), ["named \"\"", "server: ask 1 initialize"]);
    assert_eq!(core.server(&answer("1")), ["opened 2025-11-25", "client 4: answer 0"]);
}

#[test]
fn a_response_counts_only_from_the_client_that_was_asked() {
    let mut core = CoreHarness::live(limits());
    assert_eq!(core.server(&ask("7", "roots/list")), [] as [&str; 0]);
    // The client cannot know of the request yet: its number was guessed.
    assert_eq!(core.post_single(2, &answer("1")), [] as [&str; 0]);
    assert_eq!(core.state.pending.server_requests_open(), 1);
    let frames = frame::split(answer("1"));
    let other = Event::FromClient { client: ClientId(1), respond_on: RespondOn::OwnStream, frames };
    assert_eq!(core.open(3, StreamKind::Get), ["client 3: ask 1 roots/list"]);
    assert_eq!(core.event(other), [] as [&str; 0]);
    assert_eq!(core.post(4, &answer("1")), ["server: answer 7"]);
}
