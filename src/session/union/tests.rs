//! The union alone: inputs and outputs, without a session around it.

use std::time::{Duration, Instant};

use super::*;
use crate::config::Filter;
use crate::frame::Incoming;
use crate::link::{Exit, LinkExit};
use crate::session::link_phase::{LinkIds, LinkPhases};

const A: LinkId = LinkId(0);
const B: LinkId = LinkId(1);

const EVERYTHING: &str =
    r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true},"logging":{}}}"#;

/// A union of two servers, and what it sees of its session.
struct Harness {
    union: Union,
    now: Instant,
    session: Arc<str>,
    numbers: RequestNumbers,
    links: LinkPhases,
}

/// An output as a line. Requests to servers carry the number of the sub-request.
fn line(output: UnionOutput) -> String {
    let text = |wire: Wire| String::from_utf8(wire.into_bytes().to_vec()).unwrap();
    match output {
        UnionOutput::Forward { number, link, .. } => format!("forward {number} to {}", link.0),
        UnionOutput::Send { link, wire, .. } => format!("send {}: {}", link.0, summary(&text(wire))),
        UnionOutput::Respond { number, result, .. } => format!("respond {number}: {result}"),
        UnionOutput::Relay { number, .. } => format!("relay {number}"),
        UnionOutput::Open { number, version, .. } => format!("open {number} {version}"),
        UnionOutput::Fail { number, error } => format!("fail {number}: {}", error.code()),
        UnionOutput::Notify { link, wire } => format!("notify for {}: {}", link.0, summary(&text(wire))),
        UnionOutput::HandshakeAnswered { link, ready } => format!("server {} ready {ready}", link.0),
        UnionOutput::Warn { link, .. } => format!("warn {}", link.0),
        UnionOutput::End(_) => "end".to_owned(),
    }
}

fn summary(json: &str) -> String {
    let frame = Frame::parse(String::from(json)).unwrap();
    let id = frame.id().map(|id| format!(" {id}")).unwrap_or_default();
    format!("{}{id}", frame.method().unwrap_or("response"))
}

impl Harness {
    fn new(prefix_names: bool) -> Self {
        let each = ["a", "b"].map(|name| ConfiguredServer::new(name, Filter::new()));
        #[expect(clippy::disallowed_methods, reason = "time starts here, and is moved on by hand")]
        let now = Instant::now();
        let servers = Arc::new(Servers::new(each.into(), prefix_names, false));
        let union = Union::new(servers).unwrap();
        Self { union, now, session: "s".into(), numbers: RequestNumbers::default(), links: LinkPhases::new(2) }
    }

    /// A union whose handshake is over: it was request 1, and its parts were 2 and 3.
    fn open(prefix_names: bool) -> Self {
        let mut harness = Self::new(prefix_names);
        harness.request("initialize", "{}");
        harness.response(A, 2, EVERYTHING);
        assert_eq!(harness.response(B, 3, EVERYTHING), ["server 1 ready true", "open 1 2025-11-25"]);
        harness
    }

    fn apply(&mut self, input: UnionInput) -> Vec<String> {
        let mut context = UnionContext {
            now: self.now,
            server_wait: Duration::from_secs(10),
            message_size: 1 << 20,
            session: &self.session,
            generation: 1,
            expose_stderr: false,
            numbers: &mut self.numbers,
            links: &mut self.links,
        };
        self.union.apply(input, &mut context).into_iter().map(line).collect()
    }

    /// A request of the client, under the next number of the session.
    fn request(&mut self, method: &str, params: &str) -> Vec<String> {
        let number = self.numbers.next();
        let frame =
            Frame::parse(format!(r#"{{"jsonrpc":"2.0","id":"x","method":"{method}","params":{params}}}"#)).unwrap();
        self.apply(UnionInput::Request { number, frame })
    }

    fn response(&mut self, link: LinkId, number: u64, result: &str) -> Vec<String> {
        let json = format!(r#"{{"jsonrpc":"2.0","id":{number},"result":{result}}}"#);
        let Ok(Incoming::One(frame)) = crate::frame::split(json) else { panic!("not a message") };
        self.apply(UnionInput::Response { link, number, frame })
    }

    fn close(&mut self, link: LinkId) -> Vec<String> {
        self.links.close(link, LinkExit::Exited { exit: Exit::Closed, stderr: Vec::new() });
        self.apply(UnionInput::LinkClosed { link, error: ProxyError::NotReady })
    }

    fn tick(&mut self, seconds: u64) -> Vec<String> {
        self.now += Duration::from_secs(seconds);
        self.apply(UnionInput::Tick)
    }
}

#[test]
fn one_server_without_filters_has_no_union() {
    let one = |filter| Union::new(Arc::new(Servers::new(vec![ConfiguredServer::new("a", filter)], true, false)));
    assert!(one(Filter::new()).is_none());
    assert!(one(Filter::new().deny(crate::config::Offered::Tools, ["x"]).unwrap()).is_some());
}

#[test]
fn requests_wait_for_the_handshake_in_order() {
    let mut harness = Harness::new(true);
    assert_eq!(harness.request("tools/list", "{}"), ["fail 1: -32600"], "nobody has sent `initialize`");
    assert_eq!(harness.request("initialize", "{}"), ["send 0: initialize 3", "send 1: initialize 4"]);
    assert_eq!(harness.request("ping", "{}"), ["respond 5: {}"]);
    assert!(harness.request("tools/call", r#"{"name":"b_x"}"#).is_empty());
    assert!(harness.request("tools/call", r#"{"name":"a_x"}"#).is_empty());
    assert_eq!(harness.response(A, 3, EVERYTHING), ["server 0 ready true"]);
    assert_eq!(
        harness.response(B, 4, EVERYTHING),
        ["server 1 ready true", "open 2 2025-11-25", "forward 6 to 1", "forward 7 to 0"]
    );
    assert_eq!((harness.union.under_way(), harness.union.next_deadline()), (0, None));
}

#[test]
fn a_list_is_merged_from_its_parts_and_a_late_server_is_left_out() {
    let mut harness = Harness::open(true);
    assert_eq!(harness.request("tools/list", "{}"), ["send 0: tools/list 5", "send 1: tools/list 6"]);
    assert!(harness.response(B, 6, r#"{"tools":[{"name":"y"}]}"#).is_empty());
    assert!(harness.response(B, 5, r#"{"tools":[]}"#).is_empty(), "server 1 was never asked this");
    assert_eq!(harness.tick(10), ["warn 0", r#"respond 4: {"tools":[{"name":"b_y"}]}"#]);
    // It is left in peace until it has answered, and then the client is told.
    assert_eq!(harness.request("tools/list", "{}"), ["send 1: tools/list 8"]);
    assert_eq!(harness.response(A, 5, r#"{"tools":[]}"#), ["notify for 0: notifications/tools/list_changed"]);
    assert_eq!(harness.response(B, 8, r#"{"tools":[]}"#), [r#"respond 7: {"tools":[]}"#]);
    assert_eq!((harness.union.under_way(), harness.union.sub_request_count()), (0, 0));
}

#[test]
fn a_plain_name_is_looked_for_once_however_many_requests_need_it() {
    let mut harness = Harness::open(false);
    let params = r#"{"name":"x"}"#;
    assert_eq!(harness.request("tools/call", params), ["send 0: tools/list 5", "send 1: tools/list 6"]);
    assert!(harness.request("tools/call", params).is_empty());
    assert!(harness.response(A, 5, r#"{"tools":[]}"#).is_empty());
    assert_eq!(harness.response(B, 6, r#"{"tools":[{"name":"x"}]}"#), ["forward 4 to 1", "forward 7 to 1"]);
    assert_eq!(harness.request("tools/call", params), ["forward 8 to 1"]);
    assert_eq!(harness.union.under_way(), 0);
}

#[test]
fn a_withdrawn_request_withdraws_its_parts() {
    let mut harness = Harness::open(true);
    harness.request("tools/list", "{}");
    let cancellation = Cancellation::Because("no more");
    let outputs = harness.apply(UnionInput::Withdrawn { number: 4, cancellation });
    assert_eq!(outputs, ["send 0: notifications/cancelled", "send 1: notifications/cancelled"]);
    assert!(harness.response(A, 5, r#"{"tools":[]}"#).is_empty());
    assert_eq!((harness.union.under_way(), harness.union.sub_request_count()), (0, 0));
}

#[test]
fn a_closed_link_ends_its_parts_and_the_last_one_the_session() {
    let mut harness = Harness::open(true);
    harness.request("tools/list", "{}");
    let closed = harness.close(A);
    assert_eq!(closed, ["notify for 0: notifications/tools/list_changed"]);
    let merged = harness.response(B, 6, r#"{"tools":[{"name":"y"}]}"#);
    assert_eq!(merged, ["warn 0", r#"respond 4: {"tools":[{"name":"b_y"}]}"#]);
    assert_eq!(harness.request("tools/call", r#"{"name":"a_x"}"#), [format!("fail 7: {}", code_of_gone())]);
    assert!(harness.close(B).contains(&"end".to_owned()));
}

/// What a request is told whose server is gone after it was ready.
fn code_of_gone() -> i32 {
    let exit = LinkExit::Exited { exit: Exit::Closed, stderr: Vec::new() };
    exit.request_error((&"s".into(), 1), true, false).code()
}

#[test]
fn a_server_that_is_ready_late_catches_up() {
    let mut harness = Harness::new(true);
    harness.request("initialize", "{}");
    harness.response(A, 2, EVERYTHING);
    assert_eq!(harness.tick(10), ["warn 1", "open 1 2025-11-25"]);
    let told = Frame::parse(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).unwrap();
    assert_eq!(harness.apply(UnionInput::Notification(told)), ["send 0: notifications/initialized"]);
    assert_eq!(harness.request("logging/setLevel", r#"{"level":"info"}"#), ["send 0: logging/setLevel 5"]);
    assert_eq!(harness.response(A, 5, "{}"), ["relay 4"]);
    assert_eq!(
        harness.response(B, 3, EVERYTHING),
        [
            "server 1 ready true",
            "send 1: notifications/initialized",
            "send 1: logging/setLevel 6",
            "notify for 1: notifications/tools/list_changed"
        ]
    );
    let ready: LinkIds = harness.links.ready();
    assert_eq!(ready.as_slice(), [A, B]);
}

/// Two servers without prefixes, of which the first has a resource on the second page of its list.
fn with_a_resource_on_a_later_page() -> Harness {
    let everything = r#"{"protocolVersion":"2025-11-25","capabilities":{"resources":{"listChanged":true}}}"#;
    let mut harness = Harness::new(false);
    harness.request("initialize", "{}");
    harness.response(A, 2, everything);
    harness.response(B, 3, everything);
    let read = harness.request("resources/read", r#"{"uri":"x://2"}"#);
    assert_eq!(read.len(), 4, "resources and templates of both: {read:?}");
    assert_eq!(harness.request("resources/list", "{}"), ["send 0: resources/list 10", "send 1: resources/list 11"]);
    let page = r#"{"resources":[{"uri":"x://1"}],"nextCursor":"n"}"#;
    let next = harness.response(A, 5, page);
    assert_eq!(next, ["send 0: resources/list 12"]);
    assert!(harness.response(A, 12, r#"{"resources":[{"uri":"x://2"}]}"#).is_empty());
    assert!(harness.response(A, 6, r#"{"resourceTemplates":[]}"#).is_empty());
    assert!(harness.response(A, 10, page).is_empty());
    harness
}

#[test]
fn a_request_is_routed_before_a_list_makes_the_directory_forget_what_it_needs() {
    let mut harness = with_a_resource_on_a_later_page();
    assert!(harness.close(B).contains(&"forward 4 to 0".to_owned()));
    let mut harness = with_a_resource_on_a_later_page();
    assert!(harness.tick(10).contains(&"forward 4 to 0".to_owned()));
}

#[test]
fn a_withdrawn_handshake_opens_nothing() {
    let mut harness = Harness::new(true);
    harness.request("initialize", "{}");
    harness.response(A, 2, EVERYTHING);
    assert!(harness.request("tools/call", r#"{"name":"a_x"}"#).is_empty());
    let cancellation = Cancellation::Because("the request timed out");
    assert_eq!(harness.apply(UnionInput::Withdrawn { number: 1, cancellation }), ["fail 4: -32600"]);
    assert!(harness.tick(10).is_empty());
}

#[test]
fn a_list_has_its_response_before_the_notification_that_it_has_changed() {
    let mut harness = Harness::open(true);
    harness.request("tools/list", "{}");
    assert!(harness.response(B, 6, r#"{"tools":[{"name":"y"}]}"#).is_empty());
    assert_eq!(
        harness.close(A),
        ["warn 0", r#"respond 4: {"tools":[{"name":"b_y"}]}"#, "notify for 0: notifications/tools/list_changed"]
    );
}

#[test]
fn a_queue_gives_back_the_room_of_its_busiest_time() {
    let mut harness = Harness::new(true);
    harness.request("initialize", "{}");
    for _ in 0..1000 {
        harness.request("tools/call", r#"{"name":"a_x"}"#);
    }
    harness.response(A, 2, EVERYTHING);
    assert_eq!(harness.response(B, 3, EVERYTHING).len(), 1002);
    assert!(harness.union.queue.capacity() <= 32, "{}", harness.union.queue.capacity());
}
