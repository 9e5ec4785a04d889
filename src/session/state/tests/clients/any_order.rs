//! Several clients, a server and time, in any order. Every message says whose it is, so that nobody can hear what is
//! another's.

use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum SharedStep {
    Join,
    Leave(u8),
    Listen(u8),
    Post(u8, bool),
    Lose(u8),
    Cancel(u8),
    Respond(u8, u8),
    ServerAnswers(u8, bool),
    ServerAsks(u8, bool),
    ServerNotifies,
    Pass(u16),
    Crash,
}

fn step() -> impl Strategy<Value = SharedStep> {
    prop_oneof![
        3 => Just(SharedStep::Join),
        2 => any::<u8>().prop_map(SharedStep::Leave),
        4 => any::<u8>().prop_map(SharedStep::Listen),
        10 => (any::<u8>(), any::<bool>()).prop_map(|(client, single)| SharedStep::Post(client, single)),
        3 => any::<u8>().prop_map(SharedStep::Lose),
        2 => any::<u8>().prop_map(SharedStep::Cancel),
        4 => (any::<u8>(), any::<u8>()).prop_map(|(client, number)| SharedStep::Respond(client, number)),
        10 => (any::<u8>(), any::<bool>()).prop_map(|(call, fails)| SharedStep::ServerAnswers(call, fails)),
        4 => (any::<u8>(), any::<bool>()).prop_map(|(call, named)| SharedStep::ServerAsks(call, named)),
        3 => Just(SharedStep::ServerNotifies),
        3 => any::<u16>().prop_map(SharedStep::Pass),
        1 => Just(SharedStep::Crash),
    ]
}

/// What one client did, and what came of it.
#[derive(Debug, Default)]
struct Member {
    is_there: bool,
    can_be_asked: bool,
    /// The streams, each with its connection.
    streams: HashMap<u64, Option<u64>>,
    /// By id: how many outcomes the request has had, and the stream on which it was sent.
    requests: HashMap<u64, (usize, u64)>,
    /// Requests whose outcome nobody may have heard: cancelled, or their stream was lost.
    excused: Vec<u64>,
    /// The last notification, counted.
    notified: u64,
}

struct Room {
    shared: SharedHarness,
    members: Vec<Member>,
    /// What the server was sent and has not answered: the number, the client and its id. A client of no number is the
    /// session itself.
    server_has: Vec<(String, Option<(usize, u64)>)>,
    /// All that it ever had of clients.
    server_had: Vec<(u64, usize)>,
    /// Whose request the server names that asks at this moment.
    asks_because_of: Option<usize>,
    /// Server requests: the number that a client was told, and the client.
    asked: HashMap<u64, usize>,
    /// Ids of server requests without a response.
    unanswered: Vec<String>,
    next: u64,
    notified: u64,
    ended: bool,
}

impl Room {
    fn new(limits: Limits) -> Self {
        let shared = SharedHarness::with(limits, None);
        let mut room = Self {
            shared,
            members: Vec::new(),
            server_has: Vec::new(),
            server_had: Vec::new(),
            asks_because_of: None,
            asked: HashMap::new(),
            unanswered: Vec::new(),
            next: 0,
            notified: 0,
            ended: false,
        };
        room.members.push(Member { is_there: true, can_be_asked: true, ..Member::default() });
        room.initialize(0);
        room
    }

    fn initialize(&mut self, client: usize) {
        let capabilities = if self.members[client].can_be_asked { ELICITATION } else { "{}" };
        let json = initialize("2025-11-25", capabilities);
        let stream = self.open(client, StreamKind::Post);
        self.members[client].requests.insert(0, (0, stream));
        self.send(client, RespondOn::Stream(StreamId(stream)), json);
    }

    fn open(&mut self, client: usize, kind: StreamKind) -> u64 {
        self.next += 1;
        let stream = client as u64 * 1_000_000 + self.next;
        self.shared.core.attachments += 1;
        let attachment = self.shared.core.attachments;
        if self.members[client].is_there && !self.ended {
            self.members[client].streams.insert(stream, Some(attachment));
        }
        let client = ClientId(u32::try_from(client).unwrap());
        let attachment = Attachment(attachment);
        self.apply(Event::Attached { client, stream: StreamId(stream), attachment, kind, after: None });
        stream
    }

    fn send(&mut self, client: usize, respond_on: RespondOn, json: String) {
        let client = ClientId(u32::try_from(client).unwrap());
        self.apply(Event::FromClient { client, respond_on, frames: frame::split(json) });
    }

    fn apply(&mut self, event: Event) {
        let effects = self.shared.core.state.apply(event, self.shared.core.now);
        for effect in effects {
            assert!(!self.ended, "after the end: {effect:?}");
            match effect {
                Effect::ToClient { stream, wire, .. } => self.heard_by_client(stream.0, wire),
                Effect::ToServer { wire, .. } => self.heard_by_server(wire),
                Effect::Close { stream } => {
                    if let Some(connection) = self.members[owner(stream.0)].streams.get_mut(&stream.0) {
                        *connection = None;
                    }
                }
                Effect::ClientLeft { client } => self.members[client.0 as usize].is_there = false,
                Effect::Ended(_) => self.ended = true,
                _ => {}
            }
        }
        let there = self.members.iter().filter(|member| member.is_there).count();
        assert!(self.ended || there == self.shared.core.state.client_count());
    }

    fn heard_by_client(&mut self, stream: u64, wire: Wire) {
        let client = owner(stream);
        let Incoming::One(frame) = frame::split(wire.into_bytes()).unwrap() else { panic!("a batch") };
        let member = &mut self.members[client];
        assert!(member.is_there, "client {client} has left");
        assert!(member.streams.get(&stream).is_some_and(Option::is_some), "nobody is there to hear it");
        match frame.kind() {
            Kind::Response => {
                let id = frame.id().unwrap().as_u64().unwrap();
                let (outcomes, on) = member.requests.get_mut(&id).expect("a request of this client");
                *outcomes += 1;
                assert_eq!((*outcomes, *on), (1, stream), "one outcome, on its own stream");
                if let Some(whose) = frame.lookup(&["result", "for"]).unwrap() {
                    assert_eq!(whose, format!("[{client},{id}]").as_bytes(), "another one's result");
                }
            }
            Kind::Request => {
                assert!(
                    self.asks_because_of.is_none_or(|of| of == client),
                    "client {client} is asked in another's place"
                );
                assert!(member.can_be_asked, "client {client} did not declare it");
                let before = self.asked.insert(frame.id().unwrap().as_u64().unwrap(), client);
                assert!(before.is_none(), "two clients are asked");
            }
            Kind::Notification => {
                let at = frame.lookup(&["params", "at"]).unwrap();
                let Some(at) = at.map(|at| std::str::from_utf8(at).unwrap().parse().unwrap()) else { return };
                assert!(member.notified < at, "client {client} was told {at} twice");
                member.notified = at;
            }
        }
    }

    fn heard_by_server(&mut self, wire: Wire) {
        let Incoming::One(frame) = frame::split(wire.into_bytes()).unwrap() else { panic!("a batch") };
        match frame.kind() {
            Kind::Request => {
                let from = frame.lookup(&["params", "from"]).unwrap();
                let from: Option<(usize, u64)> = from.map(|from| serde_json::from_slice(from).unwrap());
                self.server_had.extend(from.map(|(client, _)| (frame.id().unwrap().as_u64().unwrap(), client)));
                self.server_has.push((frame.id().unwrap().to_string(), from));
            }
            Kind::Response => {
                let id = frame.id().unwrap().to_string();
                let place = self.unanswered.iter().position(|open| *open == id).expect("one outcome of each request");
                self.unanswered.remove(place);
            }
            Kind::Notification => {
                if let Some(number) = frame.cancelled_id() {
                    self.server_has.retain(|(open, _)| *open != number.to_string());
                }
            }
        }
    }

    fn pick(&self, pick: u8) -> usize {
        usize::from(pick) % self.members.len()
    }

    fn step(&mut self, step: &SharedStep) {
        match *step {
            SharedStep::Join if self.members.len() < 12 => {
                let client = self.members.len();
                self.members.push(Member { can_be_asked: client % 3 != 1, ..Member::default() });
                self.members[client].is_there = !self.ended;
                let id = ClientId(u32::try_from(client).unwrap());
                self.apply(Event::Joined { client: id, keeper: Keeper::default() });
                self.initialize(client);
            }
            SharedStep::Join => {}
            SharedStep::Leave(pick) => {
                let client = ClientId(u32::try_from(self.pick(pick)).unwrap());
                self.apply(Event::Left { client, reason: EndReason::Deleted });
                assert!(self.ended || !self.members[client.0 as usize].is_there);
            }
            SharedStep::Listen(pick) => _ = self.open(self.pick(pick), StreamKind::Get),
            SharedStep::Post(pick, single) => self.post(self.pick(pick), single),
            SharedStep::Lose(pick) => self.lose(pick),
            SharedStep::Cancel(pick) => {
                let client = self.pick(pick);
                let Some(id) = self.members[client].requests.keys().max().copied() else { return };
                self.members[client].excused.push(id);
                self.send(client, RespondOn::NoStream, cancel(&id.to_string()));
            }
            SharedStep::Respond(pick, number) => {
                let client = self.pick(pick);
                self.send(client, RespondOn::NoStream, answer(&(u64::from(number) % 20).to_string()));
            }
            SharedStep::ServerAnswers(pick, fails) => self.server_answers(pick, fails),
            SharedStep::ServerAsks(pick, named) => {
                self.next += 1;
                let id = format!("\"s{}\"", self.next);
                self.unanswered.push(id.clone());
                let on = self.server_had.get(usize::from(pick) % self.server_had.len().max(1)).filter(|_| named);
                self.asks_because_of = on.map(|(_, client)| *client);
                let on = on.map(|(number, _)| *number);
                let frames = frame::split(with_params(&id, "elicitation/create", "{}"));
                self.apply(Event::FromServer { link: LINK, on, frames });
                self.asks_because_of = None;
            }
            SharedStep::ServerNotifies => {
                self.notified += 1;
                let json = notification("notifications/x", &format!(r#"{{"at":{}}}"#, self.notified));
                self.apply(Event::FromServer { link: LINK, on: None, frames: frame::split(json) });
            }
            SharedStep::Pass(seconds) => {
                self.shared.core.pass(secs(u64::from(seconds % 900)));
                self.apply(Event::Tick);
            }
            SharedStep::Crash => {
                if self.next.is_multiple_of(5) {
                    self.apply(Event::LinkClosed { link: LINK, exit: exited() });
                }
            }
        }
    }

    fn post(&mut self, client: usize, single: bool) {
        let kind = if single { StreamKind::Single } else { StreamKind::Post };
        let is_there = self.members[client].is_there && !self.ended;
        let stream = self.open(client, kind);
        // All clients count from 1, so their ids are the same.
        let id = self.members[client].requests.len() as u64 + 1;
        if is_there {
            self.members[client].requests.insert(id, (0, stream));
        }
        let params = format!(r#"{{"from":[{client},{id}]}}"#);
        self.send(client, RespondOn::Stream(StreamId(stream)), with_params(&id.to_string(), "tools/call", &params));
    }

    fn lose(&mut self, pick: u8) {
        let client = self.pick(pick);
        let open = self.members[client].streams.iter().filter_map(|(stream, at)| at.map(|at| (*stream, at)));
        let Some((stream, attachment)) = open.max() else { return };
        self.members[client].streams.insert(stream, None);
        let member = &mut self.members[client];
        member.excused.extend(member.requests.iter().filter(|(_, (_, on))| *on == stream).map(|(id, _)| *id));
        self.apply(Event::Detached { stream: StreamId(stream), attachment: Attachment(attachment) });
    }

    fn server_answers(&mut self, pick: u8, fails: bool) {
        if self.server_has.is_empty() {
            return;
        }
        let (number, from) = self.server_has.remove(usize::from(pick) % self.server_has.len());
        let json = match from {
            _ if fails => error(&number),
            Some((client, id)) => format!(r#"{{"jsonrpc":"2.0","id":{number},"result":{{"for":[{client},{id}]}}}}"#),
            None => answer(&number),
        };
        self.apply(Event::FromServer { link: LINK, on: None, frames: frame::split(json) });
    }

    /// The session ends: every request of a client that is there has its outcome, and so has every one of the server.
    fn end(&mut self) {
        if !self.ended {
            self.apply(Event::End(EndReason::Cleared));
        }
        for (client, member) in self.members.iter().enumerate().filter(|(_, member)| member.is_there) {
            for (id, (outcomes, _)) in &member.requests {
                assert!(*outcomes == 1 || member.excused.contains(id), "client {client}: {outcomes} outcomes of {id}");
            }
        }
    }
}

fn owner(stream: u64) -> usize {
    usize::try_from(stream / 1_000_000).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_client_hears_what_is_not_its_own(steps in vec(step(), 0..150), idle in 100_u64..3000) {
        let mut room = Room::new(Limits { idle_timeout: Some(secs(idle)), lost_stream: secs(60), ..limits() });
        for step in &steps {
            room.step(step);
        }
        room.end();
    }
}
