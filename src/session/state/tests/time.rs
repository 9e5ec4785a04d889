//! Deadlines: idleness, lost streams, timeouts.

use super::*;

fn idle_after(seconds: u64) -> Limits {
    Limits { idle_timeout: Some(secs(seconds)), ..limits() }
}

#[test]
fn an_idle_session_ends_on_time() {
    let mut core = CoreHarness::live(idle_after(2));
    core.pass(secs(1));
    core.client(0, &tell("notifications/roots/list_changed"));
    assert!(core.wait(Duration::from_millis(1999)).is_empty());
    assert_eq!(core.wait(secs(1)), ["ended idle"]);
}

#[test]
fn one_that_was_never_used_ends_as_well() {
    let mut core = CoreHarness::new(idle_after(2));
    assert_eq!(core.wait(secs(2)), ["ended idle"]);
}

#[test]
fn what_the_server_says_keeps_no_session() {
    let mut core = CoreHarness::live(idle_after(2));
    core.pass(secs(1));
    core.server(&tell("log"));
    core.server(&ask("1", "ping"));
    assert_eq!(core.wait(secs(1)), ["ended idle"]);
}

#[test]
fn a_long_call_is_not_touched_and_idleness_begins_with_its_answer() {
    for kind in [StreamKind::Post, StreamKind::Single] {
        let mut core = CoreHarness::live(idle_after(2));
        core.open(2, kind);
        core.client(2, &ask("1", "tools/call"));
        assert!(core.wait(secs(6)).is_empty());
        core.server(&answer("2"));
        assert!(core.wait(Duration::from_millis(1999)).is_empty());
        assert_eq!(core.wait(secs(1)), ["ended idle"]);
        assert_eq!(core.seconds(), 8);
    }
}

#[test]
fn a_stream_that_is_read_keeps_the_session() {
    let mut core = CoreHarness::live(idle_after(2));
    core.open(2, StreamKind::Get);
    assert!(core.wait(secs(100_000)).is_empty());
    assert!(core.lose(2).is_empty());
    assert!(core.wait(Duration::from_millis(1999)).is_empty());
    assert_eq!(core.wait(secs(1)), ["ended idle"]);
}

#[test]
fn a_call_whose_client_is_away_counts_until_nobody_can_come_back() {
    let mut core = CoreHarness::live(Limits { lost_stream: secs(100), ..idle_after(20) });
    core.post(2, &ask("1", "tools/call"));
    core.lose(2);
    assert!(core.wait(secs(119)).is_empty());
    assert_eq!(core.wait(secs(1)), ["ended idle"]);
}

#[test]
fn a_client_that_comes_back_in_time_has_lost_nothing() {
    let mut core = CoreHarness::live(Limits { lost_stream: secs(100), ..idle_after(20) });
    core.post(2, &ask("1", "tools/call"));
    for _ in 0..10 {
        core.lose(2);
        assert!(core.wait(secs(99)).is_empty());
        core.resume(2, 0);
        assert!(core.wait(secs(500)).is_empty());
    }
    assert_eq!(core.server(&answer("2")), ["client 2: answer 1", "close 2"]);
}

#[test]
fn the_server_requests_of_a_client_that_is_gone_fail_and_its_calls_go_on() {
    let mut core = CoreHarness::live(Limits { idle_timeout: None, ..limits() });
    core.post(2, &ask("1", "tools/call"));
    core.server(&ask("7", "roots/list"));
    core.lose(2);
    assert!(core.wait(secs(599)).is_empty());
    assert_eq!(core.wait(secs(1)), ["server: error 7 -31017"]);
    assert!(core.client(0, &answer("1")).is_empty(), "too late");
    assert!(core.wait(secs(100_000)).is_empty());
    core.server(&answer("2"));
    assert_eq!(core.resume(2, 0).last().map(String::as_str), Some("close 2"), "it came back after all");
}

#[test]
fn a_lost_stream_fails_its_server_requests_though_another_is_open() {
    let mut core = CoreHarness::live(limits());
    core.post(2, &ask("1", "tools/call"));
    core.server(&ask("7", "roots/list"));
    core.lose(2);
    core.open(3, StreamKind::Get);
    assert_eq!(core.wait(secs(600)), ["server: error 7 -31017"]);
}

#[test]
fn what_belongs_to_a_stream_that_is_lost_for_good_takes_another() {
    let mut core = CoreHarness::live(limits());
    core.post(2, &ask_with_token("1", "5"));
    core.lose(2);
    core.open(3, StreamKind::Get);
    core.wait(secs(599));
    assert!(core.server(&progress("2")).is_empty());
    core.wait(secs(1));
    assert_eq!(core.server(&progress("2")), ["client 3: tell notifications/progress 5"]);
}

#[test]
fn a_client_whose_last_stream_has_ended_may_answer_for_as_long_as_one_that_lost_it() {
    let mut core = CoreHarness::live(limits());
    core.post(2, &ask("1", "tools/call"));
    core.server(&ask("7", "roots/list"));
    assert_eq!(core.server(&answer("2")), ["client 2: answer 1", "close 2"]);
    assert!(core.wait(secs(599)).is_empty());
    assert_eq!(core.wait(secs(1)), ["server: error 7 -31017"]);
}

#[test]
fn a_server_request_outlives_the_stream_that_it_was_asked_on() {
    let mut core = CoreHarness::live(limits());
    core.open(3, StreamKind::Get);
    core.post(2, &ask("1", "tools/call"));
    assert_eq!(core.server(&ask("7", "elicitation/create")), ["client 2: ask 1 elicitation/create"]);
    assert_eq!(core.server(&answer("2")), ["client 2: answer 1", "close 2"]);
    assert!(core.wait(secs(10_000)).is_empty(), "people take their time");
    assert_eq!(core.client(0, &answer("1")), ["server: answer 7"]);
}

#[test]
fn a_call_may_take_no_longer_than_the_timeout() {
    let mut core = CoreHarness::live(Limits { request_timeout: Some(secs(5)), ..limits() });
    core.post(2, &ask("1", "x"));
    core.pass(secs(1));
    core.post(3, &batch(&[ask("2", "x"), ask("3", "y")]));
    assert_eq!(core.server(&answer("3")), Vec::<String>::new());
    assert_eq!(core.wait(secs(4)), ["client 2: error 1 -31015", "close 2", "server: tell notifications/cancelled 2"]);
    assert_eq!(
        core.wait(secs(1)),
        ["client 3: [answer 2, error 3 -31015]", "close 3", "server: tell notifications/cancelled 4"]
    );
    assert!(core.server(&answer("2")).is_empty(), "too late");
}

#[test]
fn a_timeout_in_the_last_moments_comes_before_the_end() {
    let mut core = CoreHarness::stdio(Limits { request_timeout: Some(secs(5)), ..limits() });
    core.client(1, &ask("1", "x"));
    core.event(Event::InputEnded { client: ClientId::FIRST });
    assert_eq!(
        core.wait(secs(9)),
        ["client 1: error 1 -31015", "server: tell notifications/cancelled 2", "close 1", "ended client left"]
    );
}

#[test]
fn a_handshake_that_is_not_answered_in_time_is_refused_and_not_cancelled() {
    let mut core = CoreHarness::new(Limits { request_timeout: Some(secs(5)), ..limits() });
    core.post(1, &ask("0", "initialize"));
    assert_eq!(core.wait(secs(5)), ["refusal 1: error 0 -31015", "close 1", "ended refused"]);
}

#[test]
fn the_drain_after_the_input_has_an_end() {
    let mut core = CoreHarness::stdio(limits());
    core.client(1, &ask("1", "x"));
    core.event(Event::InputEnded { client: ClientId::FIRST });
    core.pass(secs(5));
    core.event(Event::InputEnded { client: ClientId::FIRST });
    assert_eq!(core.wait(secs(5)), ["client 1: error 1 -31012", "close 1", "ended client left"]);
}

#[test]
fn durations_beyond_reckoning_mean_for_ever() {
    let ever = Some(Duration::MAX);
    let mut core = CoreHarness::live(Limits {
        idle_timeout: ever,
        lost_stream: Duration::MAX,
        stream_wait: Duration::MAX,
        request_timeout: ever,
        drain: Duration::MAX,
        ..limits()
    });
    core.server(&ask("1", "x"));
    core.post(2, &ask("1", "x"));
    core.lose(2);
    assert!(core.wait(secs(1_000_000)).is_empty());
    core.event(Event::InputEnded { client: ClientId::FIRST });
    assert!(core.wait(secs(1_000_000)).is_empty());
}

#[test]
fn many_old_messages_are_forgotten_in_few_ticks() {
    let mut core = CoreHarness::live(Limits { idle_timeout: None, ..limits() });
    core.open(2, StreamKind::Get);
    for _ in 0..2000 {
        core.pass(Duration::from_millis(1));
        core.server(&tell("log"));
    }
    let mut ticks = 0;
    while let Some(due) = core.state.next_deadline(core.now) {
        core.now = due;
        core.event(Event::Tick);
        ticks += 1;
    }
    assert!(ticks <= 4, "{ticks}");
    assert_eq!(core.state.client().outbox.kept_bytes(), 0);
}
