//! Everything else that goes back and forth with several servers.

use super::*;

fn union() -> UnionHarness {
    UnionHarness::open(servers(&["a", "b"], true, false))
}

#[test]
fn requests_of_both_servers_reach_the_client_and_its_answers_reach_them() {
    let mut session = union();
    let server_request = |token: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":"q","method":"sampling/createMessage","params":{{"_meta":{{"progressToken":{token}}}}}}}"#
        )
    };
    for (link, number) in [(A, "1"), (B, "2")] {
        let told = server_request(number).replace("\"q\"", number);
        assert_eq!(session.server(link, &server_request("\"t\"")), [format!("1< {told}")]);
    }
    // The progress of an answer goes to whoever asked, under its own token.
    let progress = |token: &str| {
        notification("notifications/progress", &format!(r#"{{"progressToken":{token},"progress":0.50}}"#))
    };
    assert_eq!(session.client(&progress("2")), [format!("b> {}", progress("\"t\""))]);
    assert!(session.client(&progress("\"t\"")).is_empty(), "nobody asked under it");
    assert_eq!(session.client(&result_of("2", "{}")), [format!("b> {}", result_of("\"q\"", "{}"))]);
    assert!(session.client(&progress("2")).is_empty(), "it was answered");
    assert_eq!(session.client(&result_of("1", "{}")), [format!("a> {}", result_of("\"q\"", "{}"))]);
}

#[test]
fn pings_are_answered_here() {
    let mut session = union();
    assert_eq!(session.asks("7", "ping", "{}"), [format!("1< {}", result_of("7", "{}"))]);
    assert_eq!(session.server(B, &ask("\"p\"", "ping")), [format!("b> {}", result_of("\"p\"", "{}"))]);
    session.is_quiet();
}

#[test]
fn a_level_is_everybodys_and_has_one_answer() {
    let mut session = union();
    let lines = session.asks("7", "logging/setLevel", r#"{"level":"debug"}"#);
    assert_eq!(lines.len(), 2);
    session.server(A, r#"{"jsonrpc":"2.0","id":6,"error":{"code":-1,"message":"no"}}"#);
    assert_eq!(session.answers(B, "7", r#"{"z":1.0}"#), [format!("1< {}", result_of("7", r#"{"z":1.0}"#))]);
    session.asks("8", "logging/setLevel", r#"{"level":"info"}"#);
    session.answers(A, "9", "{}");
    assert_eq!(session.wait(secs(10)), [format!("1< {}", result_of("8", "{}"))], "a late one is not waited for");
    assert!(session.answers(B, "10", "{}").is_empty());
    assert_eq!(session.core.state.union().sub_request_count(), 0);
}

#[test]
fn a_level_is_told_to_who_comes_late() {
    let mut session = union_of(servers(&["a", "b"], true, false), limits());
    session.client(&ask("0", "initialize"));
    session.answers(A, "2", &everything());
    session.wait(secs(10));
    session.asks("7", "logging/setLevel", r#"{"level":"debug"}"#);
    let lines = session.answers(B, "3", r#"{"capabilities":{"logging":{}}}"#);
    assert_eq!(
        lines,
        ["server 1 ready".to_owned(), format!("b> {}", request("6", "logging/setLevel", r#"{"level":"debug"}"#))]
    );
    assert!(session.answers(B, "6", "{}").is_empty());
}

#[test]
fn notifications_go_to_all_servers_and_come_from_each() {
    let mut session = union();
    for method in ["notifications/roots/list_changed", "notifications/vendor"] {
        let text = tell(method);
        assert_eq!(session.client(&text), [format!("a> {text}"), format!("b> {text}")]);
    }
    for method in ["notifications/tools/list_changed", "notifications/message", "notifications/vendor"] {
        let text = tell(method);
        assert_eq!(session.server(B, &text), [format!("1< {text}")]);
    }
}

#[test]
fn the_room_of_a_frame_is_given_back_once_and_its_headers_go_to_each() {
    use crate::frame::{MessageHeaders, Permit};
    let mut session = union();
    let held = Arc::new(());
    let forwarded = MessageHeaders::new([("x-user".into(), b"u".as_slice().into())]);
    let Ok(Incoming::One(frame)) = frame::split(request("7", "tools/list", "{}")) else { panic!() };
    let frame = frame.with_permit(Permit::new(held.clone())).with_headers(Some(forwarded.clone()));
    let effects = session.core.state.apply(
        Event::FromClient {
            client: ClientId::FIRST,
            respond_on: RespondOn::Stream(StreamId(1)),
            frames: Ok(Incoming::One(frame)),
        },
        session.core.now,
    );
    assert_eq!(Arc::strong_count(&held), 2, "it is held by what goes out, and nowhere else");
    for effect in &effects {
        let Effect::ToServer { wire, .. } = effect else { panic!("{effect:?}") };
        assert_eq!(wire.headers(), Some(&forwarded));
    }
    drop(effects);
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn the_only_call_of_that_server_takes_its_messages() {
    let names = servers(&["a", "b"], true, false);
    let mut session = UnionHarness { core: CoreHarness::new(limits()) };
    session.core.state = State::new("s".into(), Arc::new(names), limits(), true, session.core.now);
    let post = |session: &mut UnionHarness, stream: u64, json: &str| {
        session.core.open(stream, StreamKind::Post);
        session.event(Event::FromClient {
            client: ClientId::FIRST,
            respond_on: RespondOn::Stream(StreamId(stream)),
            frames: frame::split(String::from(json)),
        })
    };
    post(&mut session, 1, &ask("0", "initialize"));
    session.answers(A, "2", &everything());
    session.answers(B, "3", &everything());
    post(&mut session, 2, &request("7", "tools/call", r#"{"name":"a_x"}"#));
    post(&mut session, 3, &request("8", "tools/call", r#"{"name":"b_x"}"#));
    let text = tell("notifications/message");
    assert_eq!(session.server(A, &text), [format!("2< {text}")]);
    assert_eq!(session.server(B, &text), [format!("3< {text}")]);
    session.answers(A, "4", "{}");
    // A part of a list is a call as well, also where the transport says on whose stream it came.
    post(&mut session, 4, &request("9", "tools/list", "{}"));
    assert_eq!(session.server(A, &text), [format!("4< {text}")]);
    let frames = frame::split(text.clone());
    assert_eq!(session.event(Event::FromServer { link: B, on: Some(8), frames }), [format!("4< {text}")]);
    let frames = frame::split(text.clone());
    assert_eq!(session.event(Event::FromServer { link: B, on: Some(5), frames }), [format!("3< {text}")]);
}

#[test]
fn progress_under_a_token_that_is_none_of_ours_is_dropped() {
    let mut session = UnionHarness::open(servers(&["a", "b"], true, false));
    session.asks("7", "tools/call", r#"{"name":"a_x","_meta":{"progressToken":"mine"}}"#);
    let progress =
        |token: &str| notification("notifications/progress", &format!(r#"{{"progressToken":{token},"progress":0.5}}"#));
    for token in [r#""mine""#, "0", "5", "999999", "null"] {
        assert!(session.server(B, &progress(token)).is_empty(), "{token}");
    }
    assert_eq!(session.server(A, &progress("5")), [format!("1< {}", progress(r#""mine""#))]);
}
