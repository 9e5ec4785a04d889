//! Anything in any order, with several servers: every request has one outcome, answers go back where the request came
//! from, servers hear of nothing that was not asked of them, and nothing is left in any table.

use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::acts::any_limits;
use super::*;
use crate::config::Offered;

/// What happens next. The numbers pick from what there is, or make up what there is not.
#[derive(Debug, Clone)]
enum UnionAct {
    Ask(Vec<(u8, u8)>),
    Cancel(u8),
    Tell(u8),
    AnswerServerRequest(u8),
    Answer { link: u8, pick: u8, how: u8 },
    ServerRequest(u8, u8),
    Withdraw(u8, u8),
    Progress(u8, u8),
    Notice(u8, u8),
    Fail(u8, u8),
    Close(u8),
    Pass(u16),
    Tick,
    InputEnded,
    Drain,
}

fn act() -> impl Strategy<Value = UnionAct> {
    let two = || (any::<u8>(), any::<u8>());
    prop_oneof![
        12 => vec(two(), 1..4).prop_map(UnionAct::Ask),
        2 => any::<u8>().prop_map(UnionAct::Cancel),
        2 => any::<u8>().prop_map(UnionAct::Tell),
        4 => any::<u8>().prop_map(UnionAct::AnswerServerRequest),
        20 => (any::<u8>(), any::<u8>(), any::<u8>()).prop_map(|(link, pick, how)| UnionAct::Answer { link, pick, how }),
        4 => two().prop_map(|(link, pick)| UnionAct::ServerRequest(link, pick)),
        1 => two().prop_map(|(link, pick)| UnionAct::Withdraw(link, pick)),
        3 => two().prop_map(|(link, pick)| UnionAct::Progress(link, pick)),
        3 => two().prop_map(|(link, pick)| UnionAct::Notice(link, pick)),
        1 => two().prop_map(|(link, pick)| UnionAct::Fail(link, pick)),
        1 => any::<u8>().prop_map(UnionAct::Close),
        5 => any::<u16>().prop_map(UnionAct::Pass),
        3 => Just(UnionAct::Tick),
        1 => prop_oneof![Just(UnionAct::InputEnded), Just(UnionAct::Drain)],
    ]
}

const METHODS: [(&str, &str); 17] = [
    ("tools/list", "{}"),
    ("tools/list", r#"{"cursor":"sessile.tools.0-63.2-63"}"#),
    ("prompts/list", "{}"),
    ("resources/list", "{}"),
    ("resources/templates/list", "{}"),
    ("tasks/list", "{}"),
    ("tools/call", r#"{"name":"a_x"}"#),
    ("tools/call", r#"{"name":"a_b_c","task":{}}"#),
    ("tools/call", r#"{"name":"x"}"#),
    ("prompts/get", r#"{"name":"b_p"}"#),
    ("resources/read", r#"{"uri":"x://1"}"#),
    ("resources/subscribe", r#"{"uri":"x://a/1"}"#),
    ("tasks/get", r#"{"taskId":"t"}"#),
    ("logging/setLevel", r#"{"level":"info"}"#),
    ("ping", "{}"),
    ("vendor/x", "{}"),
    ("initialize", r#"{"protocolVersion":"2025-11-25"}"#),
];

/// Results, of which some fit the method and others do not.
const RESULTS: [&str; 7] = [
    r#"{"tools":[{"name":"x"},{"name":"b_c"},{"name":"c"}],"prompts":[{"name":"p"}],"resources":[{"uri":"x://1"}],"resourceTemplates":[{"uriTemplate":"x://{id}"}],"tasks":[{"taskId":"t"}]}"#,
    r#"{"tools":[{"name":"x"}],"prompts":[],"resources":[],"resourceTemplates":[],"tasks":[],"nextCursor":"c"}"#,
    r#"{"content":[{"type":"resource_link","uri":"x://1"}],"contents":[{"uri":"x://1"}],"messages":[]}"#,
    r#"{"task":{"taskId":"t"}}"#,
    "{}",
    "7",
    r#"{"tools":{},"tools":7}"#,
];

#[derive(Debug, Default, Clone)]
struct UnionRequestCount {
    asked: usize,
    answered: usize,
    withdrawn: bool,
}

struct UnionOrderHarness {
    session: UnionHarness,
    links: u16,
    calls: HashMap<String, UnionRequestCount>,
    /// What each server was asked, by number, with the method.
    asked: Vec<Vec<(String, String)>>,
    /// Requests of the servers, by their ids, which say whose they are.
    server_requests: HashMap<String, UnionRequestCount>,
    server_request_numbers: Vec<String>,
    gone: Vec<bool>,
    said: u64,
    ended: bool,
}

impl UnionOrderHarness {
    fn new(servers: Servers, limits: Limits, open: bool) -> Self {
        let links = u16::try_from(servers.len()).unwrap();
        let mut harness = Self {
            session: union_of(servers, limits),
            links,
            calls: HashMap::new(),
            asked: vec![Vec::new(); usize::from(links)],
            server_requests: HashMap::new(),
            server_request_numbers: Vec::new(),
            gone: vec![false; usize::from(links)],
            said: 0,
            ended: false,
        };
        harness.ask(&[(16, 255)]);
        if open {
            for link in 0..links {
                let number = harness.asked[usize::from(link)][0].0.clone();
                harness.server(LinkId(link), &result_of(&number, &everything()));
            }
            harness.client(&tell("notifications/initialized"));
        }
        harness
    }

    fn apply(&mut self, event: Event) {
        let tick = matches!(event, Event::Tick);
        let now = self.session.core.now;
        for effect in self.session.core.state.apply(event, now) {
            assert!(!self.ended, "after the end: {effect:?}");
            match effect {
                Effect::ToClient { wire, .. } => self.heard_by_client(wire),
                Effect::ToServer { link, wire, .. } => self.heard_by_server(link, wire),
                Effect::Ended(_) => self.ended = true,
                Effect::Close { .. }
                | Effect::CheckRead { .. }
                | Effect::ClientNamed { .. }
                | Effect::SessionOpened { .. }
                | Effect::ClientReady { .. }
                | Effect::ClientLeft { .. }
                | Effect::HandshakeAnswered { .. }
                | Effect::Warn { .. } => {}
            }
        }
        let next = self.session.core.state.next_deadline(now);
        assert!(!tick || next.is_none_or(|next| next > now), "a tick that changes nothing is due at once");
    }

    fn heard_by_client(&mut self, wire: Wire) {
        for frame in frames_of(wire) {
            match frame.kind() {
                Kind::Request => self.server_request_numbers.push(frame.id().unwrap().to_string()),
                Kind::Response => {
                    let id = frame.id().unwrap().to_string();
                    let count = self.calls.get_mut(&id).unwrap_or_else(|| panic!("never asked: {id}"));
                    count.answered += 1;
                    assert!(count.answered <= count.asked, "answered too often: {id} {count:?}");
                }
                Kind::Notification => {}
            }
        }
    }

    fn heard_by_server(&mut self, link: LinkId, wire: Wire) {
        assert!(!self.gone[usize::from(link.0)], "it is gone");
        for frame in frames_of(wire) {
            let asked = &mut self.asked[usize::from(link.0)];
            match frame.kind() {
                Kind::Request => {
                    let (number, method) = (frame.id().unwrap().to_string(), frame.method().unwrap().to_owned());
                    assert!(asked.iter().all(|(known, _)| *known != number), "a number was used twice");
                    asked.push((number, method));
                }
                Kind::Response => {
                    let id = frame.id().unwrap().to_string();
                    assert!(id.starts_with(&format!("\"{}-", link.0)), "the answer to another server's request: {id}");
                    let count = self.server_requests.get_mut(&id).expect("an answer to what was asked");
                    count.answered += 1;
                    assert!(count.answered <= count.asked, "answered too often: {id} {count:?}");
                }
                Kind::Notification => {
                    if let Some(number) = frame.cancelled_id() {
                        let number = number.to_string();
                        assert!(asked.iter().any(|(known, _)| *known == number), "it was never asked {number}");
                    }
                    if let Some(token) = frame.progress_token() {
                        let own = format!("\"{}-", link.0);
                        assert!(token.to_string().starts_with(&own), "another server's token: {token}");
                    }
                }
            }
        }
    }

    fn client(&mut self, json: &str) {
        self.apply(Event::FromClient {
            client: ClientId::FIRST,
            respond_on: RespondOn::Stream(StreamId(1)),
            frames: frame::split(String::from(json)),
        });
    }

    fn server(&mut self, link: LinkId, json: &str) {
        self.apply(Event::FromServer { link, on: None, frames: frame::split(String::from(json)) });
    }

    fn ask(&mut self, requests: &[(u8, u8)]) {
        let mut texts = Vec::new();
        for (method, pick) in requests {
            self.said += 1;
            // Now and then an id that was used before.
            let id = if *pick < 20 {
                format!("\"c{}\"", u64::from(*pick) % self.said)
            } else {
                format!("\"c{}\"", self.said)
            };
            let (method, params) = METHODS[usize::from(*method) % METHODS.len()];
            let token = format!(r#"{{"_meta":{{"progressToken":{id}}},"#);
            let params =
                if pick % 2 == 0 { params.replacen('{', &token, 1).replace(",}", "}") } else { params.to_owned() };
            self.calls.entry(id.clone()).or_default().asked += 1;
            texts.push(request(&id, method, &params));
        }
        let json = if let [one] = texts.as_slice() { one.clone() } else { batch(&texts) };
        self.client(&json);
    }

    fn act(&mut self, act: &UnionAct) {
        if self.ended {
            return;
        }
        let link = |pick: u8| LinkId(u16::from(pick) % self.links);
        match *act {
            UnionAct::Ask(ref requests) => self.ask(requests),
            UnionAct::Cancel(pick) => {
                let mut ids: Vec<_> = self.calls.keys().cloned().collect();
                ids.sort();
                let id = &ids[usize::from(pick) % ids.len()];
                if let Some(count) = self.calls.get_mut(id) {
                    count.withdrawn = true;
                }
                self.client(&cancel(id));
            }
            UnionAct::Tell(pick) => {
                let progress = progress(&pick_of(&self.server_request_numbers, pick));
                let tokens = [tell("notifications/initialized"), tell("notifications/roots/list_changed"), progress];
                self.client(&tokens[usize::from(pick) % 3]);
            }
            UnionAct::AnswerServerRequest(pick) => self.client(&answer(&pick_of(&self.server_request_numbers, pick))),
            UnionAct::Answer { link: pick_link, pick, how } => {
                let link = link(pick_link);
                // Mostly what it was asked, and now and then what another was.
                let of = if how % 9 == 8 { (usize::from(link.0) + 1) % self.asked.len() } else { usize::from(link.0) };
                let Some((number, method)) = newest(&self.asked[of], pick) else { return };
                let json = match how % 10 {
                    0 => error(&number),
                    1 => format!(r#"{{"jsonrpc":"2.0","id":{number}}}"#),
                    _ if method == "initialize" && how > 60 => result_of(&number, &everything()),
                    _ => result_of(&number, RESULTS[usize::from(how / 10) % RESULTS.len()]),
                };
                self.server(link, &json);
            }
            UnionAct::ServerRequest(pick_link, pick) => {
                let link = link(pick_link);
                self.said += 1;
                let id = format!("\"{}-{}\"", link.0, if pick < 30 { u64::from(pick % 4) } else { self.said });
                if !self.gone[usize::from(link.0)] {
                    self.server_requests.entry(id.clone()).or_default().asked += 1;
                }
                let params = format!(r#"{{"_meta":{{"progressToken":{id}}}}}"#);
                self.server(link, &request(&id, if pick > 240 { "ping" } else { "roots/list" }, &params));
            }
            UnionAct::Withdraw(pick_link, pick) => {
                let link = link(pick_link);
                let id = format!("\"{}-{}\"", link.0, pick % 4);
                self.server_requests.entry(id.clone()).or_default().withdrawn = true;
                self.server(link, &cancel(&id));
            }
            UnionAct::Progress(pick_link, pick) => {
                let link = link(pick_link);
                if let Some((number, _)) = newest(&self.asked[usize::from(link.0)], pick) {
                    self.server(link, &progress(&number));
                }
            }
            UnionAct::Notice(pick_link, pick) => {
                let methods = [
                    tell("notifications/tools/list_changed"),
                    tell("notifications/resources/list_changed"),
                    notification("notifications/resources/updated", r#"{"uri":"x://1"}"#),
                    notification("notifications/tasks/status", r#"{"taskId":"t"}"#),
                ];
                self.server(link(pick_link), &methods[usize::from(pick) % 4]);
            }
            UnionAct::Fail(pick_link, pick) => {
                let link = link(pick_link);
                let Some((number, _)) = newest(&self.asked[usize::from(link.0)], pick) else { return };
                let (call, failure) = (number.parse().unwrap(), RequestFailure::Broken { reason: "cut".into() });
                self.apply(Event::RequestFailed { link, number: call, failure });
            }
            UnionAct::Close(pick_link) => self.close(link(pick_link)),
            UnionAct::Pass(millis) => self.session.core.now += Duration::from_millis(u64::from(millis)),
            UnionAct::Tick => self.apply(Event::Tick),
            UnionAct::InputEnded => self.apply(Event::InputEnded { client: ClientId::FIRST }),
            UnionAct::Drain => self.apply(Event::Drain),
        }
    }

    fn close(&mut self, link: LinkId) {
        self.gone[usize::from(link.0)] = true;
        self.apply(Event::LinkClosed { link, exit: exited() });
    }

    /// Everybody answers what there is to be answered, and time passes: then nothing is left.
    fn settle(&mut self) {
        for number in self.server_request_numbers.clone() {
            self.client(&error(&number));
        }
        for _ in 0..50 {
            for link in 0..self.links {
                for (number, method) in self.asked[usize::from(link)].clone() {
                    let initialize = method == "initialize";
                    let json = if initialize { result_of(&number, &everything()) } else { error(&number) };
                    self.server(LinkId(link), &json);
                }
            }
            self.session.core.now += secs(20);
            self.apply(Event::Tick);
            if self.ended {
                return;
            }
        }
        let (session, pending) = (self.session.core.state.union(), &self.session.core.state.pending);
        assert_eq!((session.under_way(), session.sub_request_count()), (0, 0), "something is left: {session:?}");
        assert_eq!((pending.client_requests_open(), pending.batches_open(), pending.server_requests_open()), (0, 0, 0));
    }

    fn everybody_was_answered(&self) {
        for (id, count) in &self.calls {
            assert!(count.withdrawn || count.answered == count.asked, "not answered just once: {id} {count:?}");
        }
    }
}

fn frames_of(wire: Wire) -> Vec<Frame> {
    match frame::split(wire.into_bytes()).expect("well formed") {
        Incoming::One(frame) => vec![frame],
        Incoming::Batch(frames) => frames.into_iter().map(|frame| frame.expect("well formed")).collect(),
    }
}

fn newest(known: &[(String, String)], pick: u8) -> Option<(String, String)> {
    let back = usize::from(pick) % known.len().clamp(1, 8);
    known.len().checked_sub(back + 1).map(|at| known[at].clone())
}

fn pick_of(known: &[String], pick: u8) -> String {
    match known.len() {
        0 => pick.to_string(),
        count => known[usize::from(pick) % count].clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_request_has_one_outcome(
        limits in any_limits(),
        count in 2_usize..4,
        (prefix, prefix_uris, filters, open) in any::<(bool, bool, bool, bool)>(),
        acts in vec(act(), 0..100),
        end in any::<bool>(),
    ) {
        let filter = || {
            let filter = Filter::new().deny(Offered::Tools, ["c"]).unwrap();
            if filters { filter.deny(Offered::Templates, ["x://*"]).unwrap() } else { filter }
        };
        let each = ["a", "a_b", "b"][..count].iter().map(|name| ConfiguredServer::new(name, filter())).collect();
        let limits = Limits { idle_timeout: None, ..limits };
        let mut harness = UnionOrderHarness::new(Servers::new(each, prefix, prefix_uris), limits, open);
        for act in &acts {
            harness.act(act);
        }
        if !harness.ended && !end {
            harness.settle();
        }
        if !harness.ended {
            harness.apply(Event::End(EndReason::Cleared));
        }
        assert!(harness.ended);
        harness.everybody_was_answered();
    }
}
