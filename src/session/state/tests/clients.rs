//! Several clients in one session: who is answered by whom, who is asked, who hears what, and what is left of a client.

mod any_order;
mod orders;

use super::*;

const ELICITATION: &str = r#"{"elicitation":{}}"#;
const ROOTS: &str = r#"{"roots":{"listChanged":true}}"#;

/// A session that several clients may find. Each has streams of its own: client 1 those from 100, client 2 from 200.
struct SharedHarness {
    core: CoreHarness,
    streams: u64,
}

impl SharedHarness {
    fn new() -> Self {
        Self::with(limits(), None)
    }

    fn with(limits: Limits, lost: Option<LostState>) -> Self {
        let mut core = CoreHarness::new(limits);
        let now = core.now;
        let limits = core.state.limits.clone();
        core.state = State::new("s".into(), one_server(Filter::new()), limits, true, now).shared(lost);
        Self { core, streams: 0 }
    }

    /// A session that the first client has opened, which declared these capabilities.
    fn opened(capabilities: &str) -> Self {
        let mut shared = Self::new();
        shared.post(0, &initialize("2025-11-25", capabilities));
        shared.core.server(&answer("1"));
        shared.say(0, &tell("notifications/initialized"));
        shared
    }

    fn join(&mut self, client: u32) -> Vec<String> {
        self.core.event(Event::Joined { client: ClientId(client), keeper: Keeper::default() })
    }

    /// The client joins and has its answer.
    fn joined(&mut self, client: u32, capabilities: &str) {
        self.join(client);
        let lines = self.post(client, &initialize("2025-11-25", capabilities));
        assert!(lines[0].starts_with("named"), "{lines:?}");
        assert!(lines.iter().any(|line| line.ends_with("answer 0")), "{lines:?}");
        self.say(client, &tell("notifications/initialized"));
    }

    fn open(&mut self, client: u32, kind: StreamKind) -> u64 {
        self.streams += 1;
        let stream = u64::from(client) * 100 + self.streams;
        self.core.attachments += 1;
        let attachment = Attachment(self.core.attachments);
        let event =
            Event::Attached { client: ClientId(client), stream: StreamId(stream), attachment, kind, after: None };
        assert!(self.core.event(event).is_empty());
        stream
    }

    fn send(&mut self, client: u32, respond_on: RespondOn, json: &str) -> Vec<String> {
        let frames = frame::split(String::from(json));
        self.core.event(Event::FromClient { client: ClientId(client), respond_on, frames })
    }

    /// The client posts a request on a new stream, and takes the response as a stream.
    fn post(&mut self, client: u32, json: &str) -> Vec<String> {
        let stream = self.open(client, StreamKind::Post);
        self.send(client, RespondOn::Stream(StreamId(stream)), json)
    }

    /// The client sends what needs no response.
    fn say(&mut self, client: u32, json: &str) -> Vec<String> {
        self.send(client, RespondOn::NoStream, json)
    }

    fn leave(&mut self, client: u32) -> Vec<String> {
        self.core.event(Event::Left { client: ClientId(client), reason: EndReason::Deleted })
    }

    fn server(&mut self, json: &str) -> Vec<String> {
        self.core.server(json)
    }

    fn client(&self, client: u32) -> &Client {
        self.core.state.clients.get(ClientId(client)).unwrap()
    }
}

fn initialize(version: &str, capabilities: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{version}","capabilities":{capabilities}}}}}"#
    )
}

fn with_params(id: &str, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
}

fn notification(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#)
}

fn texts(effects: Effects) -> Vec<String> {
    let of = |wire: Wire| String::from_utf8(wire.into_bytes().to_vec()).unwrap();
    let line = |effect| match effect {
        Effect::ToServer { wire, .. } | Effect::ToClient { wire, .. } => Some(of(wire)),
        _ => None,
    };
    effects.into_iter().filter_map(line).collect()
}

#[test]
fn a_client_that_joins_is_answered_by_the_session() {
    for (asked, told) in [
        ("2025-11-25", "2025-11-25"),
        ("2025-06-18", "2025-06-18"),
        ("2024-11-05", "2024-11-05"),
        ("2099-01-01", "2025-11-25"),
        ("x", "2025-11-25"),
    ] {
        let mut shared = SharedHarness::opened("{}");
        shared.join(1);
        let stream = shared.open(1, StreamKind::Post);
        let frames = frame::split(initialize(asked, "{}"));
        let event = Event::FromClient { client: ClientId(1), respond_on: RespondOn::Stream(StreamId(stream)), frames };
        let effects = shared.core.state.apply(event, shared.core.now);
        let expected = format!(r#"{{"jsonrpc":"2.0","id":0,"result":{{"protocolVersion":"{told}"}}}}"#);
        assert_eq!(texts(effects), [expected], "the servers hear nothing of it");
        assert!(shared.client(1).is_ready());
        assert_eq!(shared.client(1).version.as_deref(), Some(told));
        assert!(shared.say(1, &tell("notifications/initialized")).is_empty());
        assert_eq!(shared.post(1, &ask("0", "tools/list")), ["server: ask 3 tools/list"]);
    }
}

#[test]
fn the_servers_hear_of_changed_roots_if_the_opener_said_that_they_would() {
    for (opener, heard) in [(ROOTS, true), (r#"{"roots":{}}"#, false), ("{}", false)] {
        let mut shared = SharedHarness::opened(opener);
        shared.join(1);
        shared.post(1, &initialize("2025-11-25", ROOTS));
        let expected: &[&str] = if heard { &["server: tell notifications/roots/list_changed"] } else { &[] };
        assert_eq!(shared.say(1, &tell("notifications/initialized")), expected, "{opener}");
        assert_eq!(shared.say(1, &tell("notifications/roots/list_changed")), expected, "{opener}");
    }
}

#[test]
fn a_client_that_comes_during_the_handshake_waits_for_its_end() {
    let mut shared = SharedHarness::new();
    shared.post(0, &initialize("2025-11-25", "{}"));
    shared.join(1);
    shared.join(2);
    assert_eq!(shared.post(1, &initialize("2025-06-18", "{}")), ["named \"\""]);
    assert_eq!(shared.post(1, &ask("1", "tools/list")), [""; 0], "its requests wait too");
    assert_eq!(shared.post(2, &initialize("2025-11-25", "{}")), ["named \"\""]);
    // The one that waits may give up, and so may the opener: the others wait on.
    assert_eq!(shared.leave(2), ["refusal 204: error 0 -31012", "close 204", "left 2"]);
    assert_eq!(shared.leave(0), ["close 1", "left 0"]);
    assert_eq!(
        shared.server(&answer("1")),
        [
            "ready 0 2025-11-25",
            "opened 2025-11-25",
            "ready 1 2025-06-18",
            "client 102: answer 0",
            "close 102",
            "server: ask 3 tools/list",
        ]
    );
    assert_eq!(shared.say(1, &tell("notifications/initialized")), ["server: tell notifications/initialized"]);
}

#[test]
fn after_a_refusal_the_next_client_is_the_opener() {
    let mut shared = SharedHarness::new();
    shared.post(0, &initialize("2025-11-25", "{}"));
    shared.join(1);
    shared.post(1, &initialize("2025-11-25", ELICITATION));
    assert_eq!(shared.server(&error("1")), ["refusal 1: error 0 -1", "close 1", "server: ask 2 initialize", "left 0"]);
    let lines = shared.server(&answer("2"));
    assert_eq!(lines, ["ready 1 2025-11-25", "opened 2025-11-25", "client 102: answer 0", "close 102"]);
    // Where nobody is left to try again, nothing is there to be kept.
    let mut shared = SharedHarness::new();
    shared.post(0, &initialize("2025-11-25", "{}"));
    assert_eq!(shared.server(&error("1")), ["refusal 1: error 0 -1", "close 1", "left 0", "ended refused"]);
}

#[test]
fn equal_ids_and_tokens_of_two_clients_are_told_apart() {
    let mut shared = SharedHarness::opened("{}");
    shared.joined(1, "{}");
    assert_eq!(shared.post(0, &ask_with_token("7", "\"t\"")), ["server: ask 3 tools/call 3"].map(short));
    assert_eq!(shared.post(1, &ask_with_token("7", "\"t\"")), ["server: ask 4 tools/call 4"].map(short));
    assert_eq!(shared.server(&progress("4")), ["client 104: tell notifications/progress \"t\""]);
    assert_eq!(shared.say(0, &cancel("7")), ["server: tell notifications/cancelled 3", "close 3"]);
    assert_eq!(shared.server(&answer("4")), ["client 104: answer 7", "close 104"]);
}

fn short(line: &str) -> String {
    line.rsplit_once(' ').unwrap().0.to_owned()
}

#[test]
fn a_server_request_goes_to_one_client_that_can_answer() {
    let elicit = with_params("\"e\"", "elicitation/create", r#"{"message":"?"}"#);
    let mut shared = SharedHarness::opened("{}");
    assert_eq!(shared.server(&elicit), ["server: error \"e\" -31017"], "nobody has declared it");
    shared.joined(1, ELICITATION);
    shared.joined(2, ELICITATION);
    shared.joined(3, r#"{"elicitation":{"url":{}}}"#);
    let streams = [0, 1, 2, 3].map(|client| shared.open(client, StreamKind::Get));
    let asked = |stream: u64, number: u64| [format!("client {stream}: ask {number} elicitation/create")];
    assert_eq!(shared.server(&elicit), asked(streams[2], 1), "the newest of those that can");
    shared.post(1, &ask("1", "tools/call"));
    let call = shared.streams + 100;
    assert_eq!(shared.server(&elicit), asked(call, 2), "one that has called before others");
    let url = with_params("\"u\"", "elicitation/create", r#"{"mode":"url","elicitationId":"x"}"#);
    assert_eq!(shared.server(&url), asked(streams[3], 3));
    // Only the one that was asked can answer.
    for other in [0, 2, 3] {
        assert!(shared.say(other, &answer("2")).is_empty());
    }
    assert_eq!(shared.say(1, &answer("2")), ["server: answer \"e\""]);
    // What the server says of the elicitation later is for the client that was asked.
    let complete = notification("notifications/elicitation/complete", r#"{"elicitationId":"x"}"#);
    assert_eq!(shared.server(&complete), [format!("client {}: tell notifications/elicitation/complete", streams[3])]);
}

#[test]
fn where_the_transport_names_the_request_its_client_is_asked_and_no_other() {
    let mut shared = SharedHarness::opened("{}");
    shared.joined(1, ELICITATION);
    shared.open(1, StreamKind::Get);
    shared.post(0, &ask("1", "tools/call"));
    shared.post(1, &ask("1", "tools/call"));
    let elicit = with_params("\"e\"", "elicitation/create", "{}");
    assert_eq!(shared.core.server_on(Some(3), &elicit), ["server: error \"e\" -31017"], "it has declared nothing");
    let call = shared.streams + 100;
    assert_eq!(shared.core.server_on(Some(4), &elicit), [format!("client {call}: ask 1 elicitation/create")]);
    let log = notification("notifications/message", r#"{"level":"info"}"#);
    assert_eq!(shared.core.server_on(Some(4), &log), [format!("client {call}: tell notifications/message")]);
}

#[test]
fn a_notification_goes_once_to_each_client() {
    let mut shared = SharedHarness::opened("{}");
    shared.joined(1, "{}");
    shared.joined(2, "{}");
    let (zero, one) = (shared.open(0, StreamKind::Get), shared.open(1, StreamKind::Get));
    shared.open(1, StreamKind::Get);
    let newest = shared.streams + 100;
    let changed = tell("notifications/tools/list_changed");
    let told = |streams: &[u64]| -> Vec<String> {
        streams.iter().map(|stream| format!("client {stream}: tell notifications/tools/list_changed")).collect()
    };
    assert_ne!(one, newest);
    assert_eq!(shared.server(&changed), told(&[zero, newest]));
    // The third had no stream: it gets the notification when it has one, unless it is gone for too long.
    let stream = shared.streams + 201;
    let attachment = Attachment(shared.core.attachments + 1);
    shared.streams += 1;
    shared.core.attachments += 1;
    let (client, stream) = (ClientId(2), StreamId(stream));
    let lines = shared.core.event(Event::Attached { client, stream, attachment, kind: StreamKind::Get, after: None });
    assert_eq!(lines, told(&[stream.0]));
    shared.core.event(Event::Detached { stream, attachment });
    shared.core.pass(shared.core.state.limits.lost_stream);
    assert_eq!(shared.server(&changed), told(&[zero, newest]));
    assert!(shared.client(2).waiting.is_empty());
}

#[test]
fn each_client_gets_the_log_messages_that_it_wants() {
    let mut shared = SharedHarness::opened("{}");
    shared.joined(1, "{}");
    let streams = [0, 1].map(|client| shared.open(client, StreamKind::Get));
    let set = |level: &str| with_params("5", "logging/setLevel", &format!(r#"{{"level":"{level}"}}"#));
    let forwarded = |shared: &mut SharedHarness, client, level: &str| {
        let stream = shared.open(client, StreamKind::Post);
        let frames = frame::split(set(level));
        let respond_on = RespondOn::Stream(StreamId(stream));
        let event = Event::FromClient { client: ClientId(client), respond_on, frames };
        texts(shared.core.state.apply(event, shared.core.now)).remove(0)
    };
    assert!(
        forwarded(&mut shared, 0, "warning")
            .contains(r#""id":3,"method":"logging/setLevel","params":{"level":"warning"}"#)
    );
    shared.server(&answer("3"));
    assert!(forwarded(&mut shared, 1, "error").contains(r#""id":5,"result":{}"#), "the servers say enough already");
    assert!(forwarded(&mut shared, 1, "info").contains(r#""level":"info""#));
    shared.server(&answer("5"));
    assert!(forwarded(&mut shared, 0, "emergency").contains(r#""id":5,"result":{}"#));
    let log = |level: &str| notification("notifications/message", &format!(r#"{{"level":"{level}","data":1}}"#));
    let heard = |stream: u64| format!("client {stream}: tell notifications/message");
    assert_eq!(shared.server(&log("warning")), [heard(streams[1])]);
    assert_eq!(shared.server(&log("emergency")), streams.map(heard));
    assert!(shared.server(&log("debug")).is_empty());
    // What the servers refuse changes nothing.
    assert!(forwarded(&mut shared, 1, "debug").contains(r#""level":"debug""#));
    shared.server(&error("7"));
    assert!(forwarded(&mut shared, 1, "info").contains(r#""id":5,"result":{}"#));
}

#[test]
fn the_servers_hear_of_the_first_subscription_and_of_the_last_end() {
    let mut shared = SharedHarness::opened("{}");
    shared.joined(1, "{}");
    let streams = [0, 1].map(|client| shared.open(client, StreamKind::Get));
    let subscribe = |uri: &str| with_params("8", "resources/subscribe", &format!(r#"{{"uri":"{uri}"}}"#));
    let unsubscribe = |uri: &str| with_params("8", "resources/unsubscribe", &format!(r#"{{"uri":"{uri}"}}"#));
    let update = |uri: &str| notification("notifications/resources/updated", &format!(r#"{{"uri":"{uri}"}}"#));
    let heard = |stream: u64| format!("client {stream}: tell notifications/resources/updated");
    assert_eq!(shared.post(0, &subscribe("a:1")), ["server: ask 3 resources/subscribe"]);
    assert_eq!(shared.server(&update("a:1")), [heard(shared.streams)]);
    shared.server(&answer("3"));
    assert_eq!(shared.server(&update("a:1")), [heard(streams[0])]);
    let lines = shared.post(1, &subscribe("a:1"));
    assert!(lines[0].ends_with("answer 8"), "{lines:?}");
    assert_eq!(shared.server(&update("a:1")), streams.map(heard));
    let lines = shared.post(0, &unsubscribe("a:1"));
    assert!(lines[0].ends_with("answer 8"), "{lines:?}");
    assert_eq!(shared.server(&update("a:1")), [heard(streams[1])]);
    // One that leaves ends its own subscriptions, where nobody else has them.
    shared.post(0, &subscribe("a:2"));
    shared.server(&answer("6"));
    shared.post(1, &subscribe("a:2"));
    let lines = shared.leave(1);
    assert_eq!(lines.last().unwrap(), "server: ask 8 resources/unsubscribe");
    assert_eq!(lines.iter().filter(|line| line.starts_with("server")).count(), 1, "{lines:?}");
    assert!(shared.server(&answer("8")).is_empty());
    assert_eq!(shared.core.state.requests_in_flight(), 0);
    // What a server refuses is no subscription.
    shared.post(0, &subscribe("a:3"));
    shared.server(&error("9"));
    assert!(shared.server(&update("a:3")).is_empty());
}

#[test]
fn a_client_that_leaves_ends_its_own_calls_only() {
    let mut shared = SharedHarness::opened(ELICITATION);
    shared.joined(1, ELICITATION);
    shared.open(0, StreamKind::Get);
    shared.post(0, &ask("1", "tools/call"));
    shared.post(1, &ask("1", "tools/call"));
    shared.server(&with_params("\"e\"", "elicitation/create", "{}"));
    shared.server(&with_params("\"f\"", "elicitation/create", "{}"));
    assert_eq!(
        shared.leave(1),
        [
            "client 105: error 1 -31012",
            "close 105",
            "server: tell notifications/cancelled 4",
            "server: error \"e\" -31017",
            "server: error \"f\" -31017",
            "left 1",
        ]
    );
    assert!(shared.server(&answer("4")).is_empty(), "nobody waits for it");
    let lines = shared.server(&answer("3"));
    assert!(lines[0].ends_with("answer 1"), "{lines:?}");
    // What a client that has left says is heard by nobody.
    assert!(shared.say(1, &tell("notifications/x")).is_empty());
    assert_eq!(shared.leave(1), [""; 0]);
}

#[test]
fn a_shared_session_outlives_its_clients_and_ends_by_its_clock() {
    let mut shared = SharedHarness::opened("{}");
    assert_eq!(shared.leave(0), ["left 0"]);
    assert_eq!(shared.core.state.client_count(), 0);
    assert!(shared.server(&tell("notifications/tools/list_changed")).is_empty());
    assert_eq!(shared.server(&ask("\"p\"", "roots/list")), ["server: error \"p\" -31017"]);
    shared.core.wait(secs(1700));
    shared.joined(1, "{}");
    shared.leave(1);
    assert!(shared.core.wait(secs(1799)).is_empty());
    assert_eq!(shared.core.wait(secs(2)), ["ended idle"]);
}

#[test]
fn clients_that_say_nothing_are_forgotten() {
    let mut shared = SharedHarness::opened("{}");
    shared.core.pass(secs(1000));
    shared.joined(1, "{}");
    let stream = shared.open(1, StreamKind::Get);
    assert_eq!(shared.core.wait(secs(801)), ["left 0"]);
    shared.core.event(Event::Detached { stream: StreamId(stream), attachment: Attachment(shared.core.attachments) });
    shared.joined(2, "{}");
    assert_eq!(shared.core.wait(secs(1801)), ["left 1", "left 2", "ended idle"]);
}

#[test]
fn the_idlest_client_makes_way_when_there_are_too_many() {
    let mut shared = SharedHarness::opened("{}");
    for client in 1..u32::try_from(MOST_CLIENTS).unwrap() {
        shared.core.pass(secs(1));
        assert!(shared.join(client).is_empty());
    }
    shared.open(0, StreamKind::Get);
    assert_eq!(shared.join(1000), ["left 1"]);
    for client in 2..=1000 {
        if shared.core.state.has_client(ClientId(client)) && client < 247 {
            shared.open(client, StreamKind::Get);
        }
    }
    assert!(shared.join(999).is_empty());
    assert!(!shared.core.state.has_client(ClientId(999)), "the others have just joined");
    for client in 2..=1000 {
        if shared.core.state.has_client(ClientId(client)) {
            shared.open(client, StreamKind::Get);
        }
    }
    assert!(shared.join(1001).is_empty());
    assert!(!shared.core.state.has_client(ClientId(1001)), "all of them are there");
    assert_eq!(shared.core.state.client_count(), MOST_CLIENTS);
}

#[test]
fn lost_state_is_told_once_and_to_a_request_that_needs_it() {
    let mut shared = SharedHarness::with(limits(), Some(LostState { generation: 3 }));
    shared.post(0, &initialize("2025-11-25", "{}"));
    shared.server(&answer("1"));
    for (number, method) in ["ping", "logging/setLevel", "tools/list", "resources/templates/list"].iter().enumerate() {
        let lines = shared.post(0, &ask("1", method));
        assert_eq!(lines, [format!("server: ask {} {method}", number + 2)]);
        shared.server(&answer(&(number + 2).to_string()));
    }
    let stream = shared.open(0, StreamKind::Post);
    let frames = frame::split(ask("1", "tools/call"));
    let respond_on = RespondOn::Stream(StreamId(stream));
    let event = Event::FromClient { client: ClientId(0), respond_on, frames };
    let told = texts(shared.core.state.apply(event, shared.core.now)).remove(0);
    assert!(told.contains(r#""code":-31021"#) && told.contains(r#""stateLost":true"#), "{told}");
    assert!(told.contains(r#""generation":3"#), "{told}");
    let told = shared.core.state.label();
    assert_eq!(told.1, 3, "what is lost next is of the same generation");
    assert_eq!(shared.post(0, &ask("1", "tools/call")), ["server: ask 6 tools/call"]);
}

#[test]
fn the_progress_of_a_task_goes_to_the_client_that_asked_for_it() {
    let mut shared = SharedHarness::opened("{}");
    shared.joined(1, "{}");
    let streams = [0, 1].map(|client| shared.open(client, StreamKind::Get));
    shared.post(0, &with_params("7", "tools/call", r#"{"task":{},"_meta":{"progressToken":"t"}}"#));
    shared.server(r#"{"jsonrpc":"2.0","id":3,"result":{"task":{"taskId":"k"}}}"#);
    assert_eq!(shared.server(&progress("3")), [format!("client {}: tell notifications/progress \"t\"", streams[0])]);
    let status = |task: &str| notification("notifications/tasks/status", &format!(r#"{{"taskId":"{task}"}}"#));
    let heard = |stream: u64| format!("client {stream}: tell notifications/tasks/status");
    assert_eq!(shared.server(&status("k")), [heard(streams[0])]);
    assert!(shared.server(&status("?")).is_empty(), "nobody knows whose it is");
    assert!(shared.server(&progress("\"t\"")).is_empty(), "that may be the token of either");
}
