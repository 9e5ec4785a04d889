//! The life of a client: the diagram at the top of `state/client.rs`, walked; and the ways in which a session ends.

use super::*;

/// What a phase is called in the diagram.
fn phase(core: &CoreHarness) -> &'static str {
    if core.state.intake == Intake::Ended {
        return "Gone";
    }
    match core.state.client().phase {
        ClientPhase::New => "New",
        ClientPhase::Initializing { .. } => "Initializing",
        ClientPhase::Ready => "Ready",
        ClientPhase::Leaving { .. } => "Leaving",
        ClientPhase::Gone { .. } => panic!("a session without a client has not ended"),
    }
}

/// A session in that phase, with a call in flight unless it is new: on stdio it goes over stream 1, else stream 9.
fn in_phase(name: &str, kind: StreamKind) -> CoreHarness {
    let mut core = CoreHarness::new(Limits { request_timeout: Some(secs(60)), ..limits() });
    let stream = if kind == StreamKind::Duplex { 1 } else { 9 };
    core.open(1, kind);
    if name != "New" {
        core.client(1, &ask("0", "initialize"));
    }
    if matches!(name, "Ready" | "Leaving") {
        core.server(&answer("1"));
        if stream == 9 {
            core.open(9, kind);
        }
        core.client(stream, &ask("7", "tools/call"));
    }
    if name == "Leaving" {
        core.event(Event::InputEnded { client: ClientId::FIRST });
    }
    assert_eq!(phase(&core), name);
    core
}

#[test]
fn the_diagram() {
    use StreamKind::{Duplex, Post, Single};
    type Step = fn(&mut CoreHarness) -> Vec<String>;
    let initialize: Step = |core| core.client(1, &ask("0", "initialize"));
    let other_call: Step = |core| core.client(1, &ask("5", "tools/list"));
    let result: Step = |core| core.server(&answer("1"));
    let refusal: Step = |core| core.server(&error("1"));
    let unreadable: Step = |core| core.server(r#"{"jsonrpc":"2.0","id":1}"#);
    let oversized: Step = |core| {
        let id = Some(Id::number(1));
        core.event(Event::ServerLost {
            link: LINK,
            message: LostMessage { id, request: false, size: 9, why: crate::frame::Lost::Oversized },
        })
    };
    let second: Step = |core| core.server(&answer("2"));
    let cancelled: Step = |core| core.client(1, &cancel("7"));
    let lost: Step = |core| core.lose(1);
    let input_ended: Step = |core| core.event(Event::InputEnded { client: ClientId::FIRST });
    let minutes: Step = |core| core.wait(secs(60));
    let drained: Step = |core| core.wait(secs(10));
    let closed: Step = |core| core.event(Event::LinkClosed { link: LINK, exit: exited() });
    let end: Step = |core| core.end(EndReason::Cleared);
    let drain: Step = |core| core.event(Event::Drain);

    let table: [(&str, StreamKind, Step, &str); 38] = [
        ("New", Duplex, initialize, "Initializing"),
        ("New", Post, initialize, "Initializing"),
        ("New", Duplex, other_call, "New"),
        ("New", Duplex, result, "New"),
        ("New", Duplex, lost, "Gone"),
        ("New", Post, lost, "New"),
        ("New", Duplex, input_ended, "Gone"),
        ("New", Duplex, closed, "Gone"),
        ("New", Duplex, end, "Gone"),
        ("New", Duplex, drain, "New"),
        ("Initializing", Duplex, result, "Ready"),
        ("Initializing", Post, result, "Ready"),
        ("Initializing", Duplex, refusal, "New"),
        ("Initializing", Post, refusal, "Gone"),
        ("Initializing", Single, refusal, "Gone"),
        ("Initializing", Duplex, unreadable, "New"),
        ("Initializing", Post, unreadable, "Gone"),
        ("Initializing", Duplex, oversized, "New"),
        ("Initializing", Post, oversized, "Gone"),
        ("Initializing", Duplex, initialize, "Initializing"),
        ("Initializing", Duplex, lost, "Gone"),
        ("Initializing", Post, lost, "Gone"),
        ("Initializing", Single, lost, "Gone"),
        ("Initializing", Duplex, minutes, "Gone"),
        ("Initializing", Post, minutes, "Gone"),
        ("Initializing", Duplex, input_ended, "Leaving"),
        ("Initializing", Duplex, closed, "Gone"),
        ("Ready", Duplex, initialize, "Ready"),
        ("Ready", Duplex, second, "Ready"),
        ("Ready", Duplex, lost, "Gone"),
        ("Ready", Duplex, minutes, "Ready"),
        ("Ready", Duplex, input_ended, "Leaving"),
        ("Ready", Post, closed, "Gone"),
        ("Leaving", Duplex, second, "Gone"),
        ("Leaving", Duplex, cancelled, "Gone"),
        ("Leaving", Duplex, input_ended, "Leaving"),
        ("Leaving", Duplex, drained, "Gone"),
        ("Leaving", Duplex, lost, "Gone"),
    ];
    for (row, (from, kind, act, to)) in table.into_iter().enumerate() {
        let mut core = in_phase(from, kind);
        let lines = act(&mut core);
        assert_eq!(phase(&core), to, "row {row}: {from} on {kind:?} gave {lines:?}");
        let ends: Vec<_> = lines.iter().filter(|line| line.starts_with("ended")).collect();
        assert_eq!(ends.len(), usize::from(to == "Gone"), "row {row}: {lines:?}");
        assert!(to != "Gone" || lines.last() == Some(ends[0]), "row {row}: something follows the end: {lines:?}");
    }
}

#[test]
fn every_end_answers_every_call_once_and_closes_every_stream() {
    let reasons: [(EndReason, &str); 8] = [
        (EndReason::Deleted, "-31012"),
        (EndReason::ClientLeft, "-31012"),
        (EndReason::Cleared, "-31012"),
        (EndReason::Idle { after: secs(1) }, "-31012"),
        (EndReason::Shutdown, "-31016"),
        (EndReason::Refused, "-31012"),
        (EndReason::BackendGone(exited()), "-31010"),
        (EndReason::Failed, "-31012"),
    ];
    for (reason, code) in reasons {
        let mut core = CoreHarness::live(limits());
        core.open(2, StreamKind::Get);
        core.post(3, &ask("\"a\"", "tools/call"));
        core.post_single(4, &ask("2.5", "tools/call"));
        core.post(5, &batch(&[ask("30", "x"), ask("31", "y")]));
        core.server(&answer("4"));
        core.post(6, &ask("40", "tools/call"));
        core.lose(6);
        core.server(&ask("1", "roots/list"));
        let name = reason.name();
        let lines = core.end(reason);
        let expected = [
            format!("client 3: error \"a\" {code}"),
            "close 3".to_owned(),
            format!("client 4: error 2.5 {code}"),
            "close 4".to_owned(),
            format!("client 5: [answer 30, error 31 {code}]"),
            "close 5".to_owned(),
            "close 2".to_owned(),
            format!("ended {name}"),
        ];
        assert_eq!(lines, expected);
        assert!(core.end(EndReason::Deleted).is_empty());
        assert!(core.server(&tell("late")).is_empty());
        assert!(core.post(7, &ask("50", "tools/list")).is_empty());
        assert!(core.event(Event::LinkClosed { link: LINK, exit: exited() }).is_empty());
        assert_eq!(core.state.next_deadline(core.now), None);
    }
}

#[test]
fn a_backend_that_dies_is_told_with_its_status_and_last_words() {
    let said = |opened: bool, expose: bool| {
        let mut core = CoreHarness::new(limits());
        core.state.expose_stderr = expose;
        core.open(1, StreamKind::Duplex);
        core.client(1, &ask("0", "initialize"));
        if opened {
            core.server(&answer("1"));
            core.client(1, &ask("1", "tools/call"));
        }
        let effects = core.state.apply(Event::LinkClosed { link: LINK, exit: exited() }, core.now);
        let Some(Effect::ToClient { wire, .. }) = effects.into_iter().next() else { panic!("no answer") };
        String::from_utf8(wire.into_bytes().to_vec()).unwrap()
    };
    let open = said(true, true);
    for word in ["exited with status 3", "lost", "last words", "backend_exited", "\"generation\":1", "\"code\":3"] {
        assert!(open.contains(word), "{word} in {open}");
    }
    assert!(!said(true, false).contains("last words"));
    assert!(said(false, true).contains("exited with status 3 before the session was open"));
}

#[test]
fn a_refused_handshake_is_marked_and_on_stdio_may_be_tried_again() {
    let mut core = CoreHarness::new(limits());
    core.open(1, StreamKind::Duplex);
    core.client(1, &ask("0", "initialize"));
    assert_eq!(core.server(&error("1")), ["refusal 1: error 0 -1"]);
    assert_eq!(core.client(1, &ask("1", "initialize")), ["named \"\"", "server: ask 2 initialize"]);
    assert_eq!(core.server(&answer("2")), ["opened 2025-11-25", "client 1: answer 1"]);

    let mut core = CoreHarness::new(limits());
    core.post(1, &ask("0", "initialize"));
    assert_eq!(core.server(&error("1")), ["refusal 1: error 0 -1", "close 1", "ended refused"]);
}

#[test]
fn a_handshake_that_sessile_itself_refuses_opens_no_session() {
    let mut core = CoreHarness::new(limits());
    core.event(Event::Drain);
    let lines = core.post(1, &ask("0", "initialize"));
    assert_eq!(lines, ["refusal 1: error 0 -31016", "close 1", "ended refused"]);
}

#[test]
fn a_second_handshake_is_an_error_and_no_refusal() {
    let mut core = CoreHarness::live(limits());
    assert_eq!(core.post(2, &ask("9", "initialize")), ["client 2: error 9 -32600", "close 2"]);
}

#[test]
fn the_client_is_named_without_control_characters() {
    let mut core = CoreHarness::new(limits());
    let initialize =
        r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"clientInfo":{"name":"a\u001bb","version":"1"}}}"#;
    assert_eq!(core.post(1, initialize)[0], "named \"ab 1\"");
}

#[test]
fn calls_in_flight_may_end_after_the_input_has() {
    let mut core = CoreHarness::stdio(limits());
    core.client(1, &ask("1", "tools/call"));
    core.client(1, &ask("2", "tools/call"));
    core.server(&ask("50", "roots/list"));
    assert_eq!(core.event(Event::InputEnded { client: ClientId::FIRST }), ["server: error 50 -31017"]);
    // Nobody can be asked any more, and nothing new is taken.
    assert_eq!(core.server(&ask("51", "roots/list")), ["server: error 51 -31017"]);
    assert_eq!(core.server(&ask("52", "ping")), ["server: answer 52"]);
    assert_eq!(core.client(1, &ask("3", "tools/call")), ["client 1: error 3 -31016"]);
    assert_eq!(core.server(&tell("log")), ["client 1: tell log"]);
    assert_eq!(core.server(&answer("2")), ["client 1: answer 1"]);
    // What follows the last answer in one batch comes before the end.
    let last = batch(&[answer("3"), tell("log")]);
    assert_eq!(core.server(&last), ["client 1: answer 2", "client 1: tell log", "close 1", "ended client left"]);
}

#[test]
fn a_drain_takes_no_new_calls_and_lets_the_others_end() {
    let mut core = CoreHarness::live(limits());
    core.post(2, &ask("1", "tools/call"));
    assert!(core.event(Event::Drain).is_empty());
    assert_eq!(core.post(3, &ask("2", "tools/call")), ["client 3: error 2 -31016", "close 3"]);
    assert_eq!(core.client(0, &tell("notifications/roots/list_changed")).len(), 1);
    assert_eq!(core.server(&ask("9", "roots/list")), ["client 2: ask 1 roots/list"]);
    assert_eq!(core.client(0, &answer("1")), ["server: answer 9"]);
    assert_eq!(core.server(&answer("2")), ["client 2: answer 1", "close 2"]);
    assert_eq!(core.end(EndReason::Shutdown), ["ended shutdown"]);
}
