//! Orders of events that went wrong once: handshakes that fail or come late, clients that leave in the middle, and what one
//! client sets for all.

use super::*;

impl SharedHarness {
    fn filtered() -> Self {
        let mut shared = Self::new();
        let filter = Filter::new().deny(crate::config::Offered::Tools, ["bad"]).unwrap();
        let limits = shared.core.state.limits.clone();
        shared.core.state = State::new("s".into(), one_server(filter), limits, true, shared.core.now).shared(None);
        shared
    }

    fn shared_state(&self) -> &super::super::super::Shared {
        self.core.state.shared.as_ref().unwrap()
    }
}

#[test]
fn filtered_joiner_must_not_reinitialize() {
    let mut shared = SharedHarness::filtered();
    shared.post(0, &initialize("2025-11-25", "{}"));
    shared.server(&answer("1"));
    shared.say(0, &tell("notifications/initialized"));
    shared.join(1);
    let lines = shared.post(1, &initialize("2025-11-25", "{}"));
    assert!(!lines.iter().any(|line| line.starts_with("server")), "{lines:?}");
}

#[test]
fn held_requests_of_a_promoted_client_go_out() {
    let mut shared = SharedHarness::new();
    shared.post(0, &initialize("2025-11-25", "{}"));
    shared.join(1);
    shared.post(1, &initialize("2025-11-25", "{}"));
    shared.post(1, &ask("1", "tools/list"));
    let lines = shared.server(&error("1"));
    assert_eq!(lines[2..], ["server: ask 2 initialize", "server: ask 3 tools/list", "left 0"], "{lines:?}");
}

#[test]
fn a_session_whose_servers_do_not_answer_initialize_ends_for_all_who_wait() {
    let mut shared = SharedHarness::with(Limits { request_timeout: Some(secs(60)), ..limits() }, None);
    shared.post(0, &initialize("2025-11-25", "{}"));
    shared.core.pass(secs(30));
    shared.join(1);
    shared.post(1, &initialize("2025-11-25", "{}"));
    assert_eq!(
        shared.core.wait(secs(31)),
        ["refusal 1: error 0 -31015", "close 1", "left 0", "refusal 102: error 0 -31012", "close 102", "ended refused"]
    );
}

#[test]
fn request_of_client_that_left_names_nobody_else() {
    let mut shared = SharedHarness::opened(ELICITATION);
    shared.joined(1, ELICITATION);
    shared.open(0, StreamKind::Get);
    shared.post(1, &ask("1", "tools/call"));
    shared.leave(1);
    let elicit = with_params("\"e\"", "elicitation/create", "{}");
    let lines = shared.core.server_on(Some(3), &elicit);
    let log = notification("notifications/message", r#"{"level":"info"}"#);
    let logs = shared.core.server_on(Some(3), &log);
    assert_eq!((lines, logs), (vec!["server: error \"e\" -31017".to_owned()], vec![]));
}

#[test]
fn unsubscribe_races_with_subscribe() {
    let mut shared = SharedHarness::opened("{}");
    shared.joined(1, "{}");
    let subscribe = with_params("8", "resources/subscribe", r#"{"uri":"a:1"}"#);
    let unsubscribe = with_params("9", "resources/unsubscribe", r#"{"uri":"a:1"}"#);
    shared.post(0, &subscribe);
    shared.server(&answer("3"));
    let one = shared.post(0, &unsubscribe);
    let two = shared.post(1, &subscribe);
    let three = shared.server(&answer("4"));
    assert!(two.iter().chain(&three).any(|line| line.starts_with("server")), "{one:?} {two:?} {three:?}");
}

#[test]
fn unsubscribes_of_leavers_do_not_grow() {
    let mut shared = SharedHarness::opened("{}");
    let mut number = 1;
    for client in 1..200 {
        shared.joined(client, "{}");
        number += 2;
        let lines =
            shared.post(client, &with_params("8", "resources/subscribe", &format!(r#"{{"uri":"a:{client}"}}"#)));
        assert_eq!(lines.len(), 1, "{lines:?}");
        shared.server(&answer(&number.to_string()));
        shared.leave(client);
        number += 1;
    }
    shared.core.wait(secs(1000));
    assert!(shared.core.state.requests_in_flight() < 10, "{}", shared.core.state.requests_in_flight());
}

#[test]
fn requests_beside_a_refused_initialize_have_an_outcome() {
    let mut shared = SharedHarness::new();
    shared.post(0, &initialize("2025-11-25", "{}"));
    shared.post(0, &ask("1", "tools/list"));
    let lines = shared.server(&error("1"));
    let mut alone = CoreHarness::new(limits());
    alone.post(1, &initialize("2025-11-25", "{}"));
    alone.post(2, &ask("1", "tools/list"));
    let before = alone.server(&error("1"));
    assert!(lines.iter().any(|line| line.contains("error 1")), "shared {lines:?} alone {before:?}");
}

#[test]
fn batch_with_refused_initialize() {
    let both = batch(&[initialize("2025-03-26", "{}"), ask("1", "tools/list")]);
    let mut shared = SharedHarness::new();
    shared.post(0, &both);
    let lines = shared.server(&error("1"));
    let mut alone = CoreHarness::new(limits());
    alone.post(1, &both);
    let before = alone.server(&error("1"));
    assert!(
        lines.iter().any(|line| line.starts_with("client") || line.starts_with("refusal")),
        "shared {lines:?} alone {before:?}"
    );
}

#[test]
fn cancelled_held_request_is_dropped() {
    let mut shared = SharedHarness::new();
    shared.post(0, &initialize("2025-11-25", "{}"));
    shared.join(1);
    shared.post(1, &initialize("2025-11-25", "{}"));
    for _ in 0..100 {
        shared.post(1, &ask("1", "tools/list"));
        shared.say(1, &cancel("1"));
    }
    assert_eq!(shared.shared_state().held.len(), 0);
}

#[test]
fn a_client_with_a_stream_is_asked_before_one_without() {
    let mut shared = SharedHarness::opened(ELICITATION);
    let stream = shared.open(0, StreamKind::Get);
    shared.joined(1, ELICITATION);
    let elicit = with_params("\"e\"", "elicitation/create", "{}");
    let lines = shared.server(&elicit);
    let later = shared.core.wait(secs(11));
    assert_eq!(lines, [format!("client {stream}: ask 1 elicitation/create")], "{later:?}");
}

#[test]
fn initialized_of_refused_opener_is_not_that_of_the_next() {
    let mut shared = SharedHarness::new();
    shared.post(0, &initialize("2025-11-25", "{}"));
    shared.say(0, &tell("notifications/initialized"));
    shared.join(1);
    shared.post(1, &initialize("2025-11-25", "{}"));
    shared.server(&error("1"));
    shared.server(&answer("2"));
    assert_eq!(shared.say(1, &tell("notifications/initialized")), ["server: tell notifications/initialized"]);
}

#[test]
fn initialized_of_a_joiner_does_not_overtake_the_handshake() {
    let mut shared = SharedHarness::new();
    shared.post(0, &initialize("2025-11-25", "{}"));
    shared.join(1);
    shared.post(1, &initialize("2025-11-25", "{}"));
    assert!(shared.say(1, &tell("notifications/initialized")).is_empty());
}

#[test]
fn log_level_of_a_client_counts_on_its_own_stream_too() {
    let mut shared = SharedHarness::opened("{}");
    shared.joined(1, "{}");
    let set = |level: &str| with_params("5", "logging/setLevel", &format!(r#"{{"level":"{level}"}}"#));
    shared.post(0, &set("error"));
    shared.server(&answer("3"));
    shared.post(1, &set("debug"));
    shared.server(&answer("4"));
    shared.post(0, &ask("6", "tools/call"));
    let log = notification("notifications/message", r#"{"level":"debug","data":1}"#);
    assert!(shared.core.server_on(Some(5), &log).is_empty());
}

#[test]
fn a_cancelled_level_is_not_known() {
    let mut shared = SharedHarness::opened("{}");
    shared.joined(1, "{}");
    let set = |level: &str| with_params("5", "logging/setLevel", &format!(r#"{{"level":"{level}"}}"#));
    shared.post(0, &set("debug"));
    shared.leave(0);
    let lines = shared.post(1, &set("debug"));
    assert!(lines[0].starts_with("server"), "{lines:?}");
}

#[test]
fn a_refused_level_does_not_count() {
    let mut shared = SharedHarness::opened("{}");
    shared.joined(1, "{}");
    let set = |level: &str| with_params("5", "logging/setLevel", &format!(r#"{{"level":"{level}"}}"#));
    shared.post(0, &set("debug"));
    shared.server(&error("3"));
    let stream = shared.open(1, StreamKind::Post);
    let event = Event::FromClient {
        client: ClientId(1),
        respond_on: RespondOn::Stream(StreamId(stream)),
        frames: frame::split(set("error")),
    };
    let told = texts(shared.core.state.apply(event, shared.core.now)).remove(0);
    assert!(told.contains(r#""level":"error""#), "{told}");
}

#[test]
fn progress_of_another_client() {
    let mut shared = SharedHarness::opened(ELICITATION);
    shared.joined(1, ELICITATION);
    shared.open(1, StreamKind::Get);
    shared.server(&with_params("\"e\"", "elicitation/create", r#"{"_meta":{"progressToken":"t"}}"#));
    assert!(shared.say(0, &progress("\"t\"")).is_empty());
}

#[test]
fn one_client_that_never_answers_does_not_use_up_the_server_requests_of_all() {
    let mut shared = SharedHarness::with(Limits { in_flight: 4, ..limits() }, None);
    shared.post(0, &initialize("2025-11-25", ELICITATION));
    shared.server(&answer("1"));
    shared.joined(1, ELICITATION);
    shared.open(1, StreamKind::Get);
    shared.post(1, &ask("1", "tools/call"));
    shared.post(0, &ask("1", "tools/call"));
    for _ in 0..4 {
        shared.core.server_on(Some(3), &with_params("\"e\"", "elicitation/create", "{}"));
    }
    let lines = shared.core.server_on(Some(4), &with_params("\"f\"", "elicitation/create", "{}"));
    assert!(lines[0].contains("ask"), "{lines:?}");
}

#[test]
fn updates_for_one_that_has_just_left_are_for_nobody_else() {
    let mut shared = SharedHarness::opened("{}");
    shared.joined(1, "{}");
    shared.open(0, StreamKind::Get);
    shared.post(1, &with_params("8", "resources/subscribe", r#"{"uri":"secret:1"}"#));
    shared.server(&answer("3"));
    shared.leave(1);
    let update = notification("notifications/resources/updated", r#"{"uri":"secret:1"}"#);
    assert!(shared.server(&update).is_empty());
}

#[test]
fn joiner_of_a_server_with_an_odd_result() {
    let mut shared = SharedHarness::new();
    shared.post(0, &initialize("2025-11-25", "{}"));
    shared.server(r#"{"jsonrpc":"2.0","id":1,"result":{"capabilities":{}}}"#);
    shared.join(1);
    let stream = shared.open(1, StreamKind::Post);
    let event = Event::FromClient {
        client: ClientId(1),
        respond_on: RespondOn::Stream(StreamId(stream)),
        frames: frame::split(initialize("2025-11-25", "{}")),
    };
    let told = texts(shared.core.state.apply(event, shared.core.now)).remove(0);
    assert!(!told.contains("too large"), "{told}");
}

#[test]
fn task_elicitation_goes_to_task_owner() {
    let mut shared = SharedHarness::opened(ELICITATION);
    shared.joined(1, ELICITATION);
    let streams = [0, 1].map(|client| shared.open(client, StreamKind::Get));
    shared.post(0, &with_params("7", "tools/call", r#"{"task":{}}"#));
    shared.server(r#"{"jsonrpc":"2.0","id":3,"result":{"task":{"taskId":"k"}}}"#);
    let ask = with_params(
        "\"e\"",
        "elicitation/create",
        r#"{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"k"}}}"#,
    );
    assert_eq!(shared.server(&ask), [format!("client {}: ask 1 elicitation/create", streams[0])]);
}

#[test]
fn subscribe_in_flight_and_the_other_leaves() {
    let mut shared = SharedHarness::opened("{}");
    shared.joined(1, "{}");
    let subscribe = with_params("8", "resources/subscribe", r#"{"uri":"a:1"}"#);
    shared.post(0, &subscribe);
    let second = shared.post(1, &subscribe);
    shared.server(&answer("3"));
    let left = shared.leave(0);
    let third = shared.server(&answer("4"));
    assert!(!left.iter().any(|line| line.contains("unsubscribe")), "{second:?} {left:?} {third:?}");
}

#[test]
fn a_client_on_a_lasting_stream_tries_again_after_a_refusal() {
    let mut shared = SharedHarness::new();
    shared.post(0, &initialize("2025-11-25", "{}"));
    shared.join(1);
    let stream = shared.open(1, StreamKind::Sse);
    shared.send(1, RespondOn::Stream(StreamId(stream)), &initialize("2025-11-25", "{}"));
    shared.send(1, RespondOn::Stream(StreamId(stream)), &ask("1", "tools/list"));
    let lines = shared.server(&error("1"));
    assert!(lines.contains(&"server: ask 3 tools/list".to_owned()), "{lines:?}");
    assert_eq!(shared.server(&error("2")), ["refusal 102: error 0 -1"]);
    assert_eq!(shared.server(&error("3")), ["client 102: error 1 -1"]);
    let again = shared.send(1, RespondOn::Stream(StreamId(stream)), &initialize("2025-11-25", "{}"));
    assert_eq!(again, ["named \"\"", "server: ask 4 initialize"]);
    assert_eq!(shared.server(&answer("4")), ["ready 1 2025-11-25", "opened 2025-11-25", "client 102: answer 0"]);
}

#[test]
fn leaver_with_many_subscriptions_sends_them_at_once() {
    let mut shared = SharedHarness::opened("{}");
    let mut number = 1;
    for client in 1..=21 {
        shared.joined(client, "{}");
        number += 1;
        for uri in 0..1024 {
            number += 1;
            shared.post(client, &with_params("8", "resources/subscribe", &format!(r#"{{"uri":"a:{client}:{uri}"}}"#)));
            shared.server(&answer(&number.to_string()));
        }
    }
    shared.core.pass(secs(1801));
    let lines = shared.core.event(Event::Tick);
    let sent = lines.iter().filter(|line| line.contains("unsubscribe")).count();
    assert!(sent < 20_000, "{sent} in one event");
}

#[test]
fn a_request_that_its_client_has_cancelled_names_nobody_else() {
    let mut shared = SharedHarness::opened(ELICITATION);
    shared.joined(1, ELICITATION);
    shared.open(0, StreamKind::Get);
    shared.open(1, StreamKind::Get);
    shared.post(0, &ask("1", "tools/call"));
    shared.say(0, &cancel("1"));
    let elicit = with_params("\"e\"", "elicitation/create", "{}");
    assert_eq!(shared.core.server_on(Some(3), &elicit), ["server: error \"e\" -31017"]);
}
