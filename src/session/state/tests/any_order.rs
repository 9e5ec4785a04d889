//! Anything in any order: a client and a server that follow the rules most of the time, and what must hold all the
//! same.

mod steps;

use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::acts::{Act, Said, act, any_limits};
use super::*;

/// How often something happened to the requests of one id.
#[derive(Debug, Default, Clone)]
struct RequestCount {
    asked: usize,
    answered: usize,
    cancelled: usize,
    /// The stream of one of them was lost at some time: its answer may never have been seen.
    lost: bool,
    stream: u64,
}

#[derive(Debug, Default)]
struct Seen {
    attachment: Option<u64>,
    kind: Option<StreamKind>,
    newest: u64,
    /// Place in the server's order of the last message that was sent at once.
    at: u64,
}

/// The session, and what both sides know of it.
struct OrderHarness {
    core: CoreHarness,
    streams: HashMap<u64, Seen>,
    /// Of every attachment ever made, its stream.
    attachments: Vec<(u64, u64)>,
    calls: HashMap<String, RequestCount>,
    server_requests: HashMap<String, RequestCount>,
    /// Numbers under which the server knows calls, and those under which the client knows server requests.
    call_numbers: Vec<String>,
    server_request_numbers: Vec<String>,
    asked: u64,
    told: u64,
    ended: bool,
    /// The client claimed to be where it was not, and may have been told things twice.
    client_lied: bool,
    resuming: Option<u64>,
}

impl OrderHarness {
    fn new(limits: Limits, stdio: bool) -> Self {
        let mut harness = Self {
            core: CoreHarness::new(limits),
            streams: HashMap::new(),
            attachments: Vec::new(),
            calls: HashMap::new(),
            server_requests: HashMap::new(),
            call_numbers: Vec::new(),
            server_request_numbers: Vec::new(),
            asked: 0,
            told: 0,
            ended: false,
            client_lied: false,
            resuming: None,
        };
        let stream = harness.open(if stdio { StreamKind::Duplex } else { StreamKind::Post });
        harness.client(
            stream,
            vec![(r#"{"jsonrpc":"2.0","id":"first","method":"initialize"}"#.into(), Some("\"first\"".into()))],
        );
        harness
    }

    fn apply(&mut self, event: Event) {
        let tick = matches!(event, Event::Tick);
        let from_client = matches!(event, Event::FromClient { .. });
        let read = if let Event::ReadAt { stream, .. } = &event { Some(*stream) } else { None };
        let effects = self.core.state.apply(event, self.core.now);
        assert!(!self.ended || effects.is_empty(), "after the end: {effects:?}");
        let mut checks = Vec::new();
        for effect in effects {
            assert!(!self.ended, "after the end: {effect:?}");
            match effect {
                Effect::ToClient { stream, event, wire, role } => self.heard_by_client(stream.0, event, wire, role),
                Effect::Close { stream } => {
                    let seen = self.streams.get_mut(&stream.0).expect("a stream that was opened");
                    assert!(seen.attachment.take().is_some(), "closed twice: {stream:?}");
                    if read == Some(stream) {
                        self.calls
                            .values_mut()
                            .filter(|call| call.stream == stream.0)
                            .for_each(|call| call.lost = true);
                    }
                }
                Effect::ToServer { link, wire, .. } => self.heard_by_server(link, wire, from_client),
                Effect::CheckRead { stream, attachment } => checks.push((stream, attachment)),
                Effect::ClientNamed { .. }
                | Effect::SessionOpened { .. }
                | Effect::ClientReady { .. }
                | Effect::ClientLeft { .. }
                | Effect::HandshakeAnswered { .. }
                | Effect::Warn { .. } => {}
                Effect::Ended(_) => {
                    self.ended = true;
                    assert!(self.streams.values().all(|seen| seen.attachment.is_none()), "a stream is still open");
                }
            }
        }
        let now = self.core.now;
        let next = self.core.state.next_deadline(now);
        assert!(!self.ended || next.is_none());
        assert!(!tick || next.is_none_or(|next| next > now), "a tick that changes nothing is due at once");
        let (limits, Client { outbox, waiting, .. }) = (&self.core.state.limits, self.core.state.client());
        assert!(outbox.kept_bytes() <= 2 * limits.replay_bytes);
        assert!(waiting.bytes() <= limits.replay_bytes && waiting.len() <= 1024);
        assert!(self.ended || waiting.is_empty() || outbox.general_stream().is_none(), "it waits for what is there");
        for (stream, attachment) in checks {
            self.check_read(stream, attachment);
        }
    }

    /// The shell says when a connection was read last: some time ago, or of one that another has replaced meanwhile.
    fn check_read(&mut self, stream: StreamId, attachment: Attachment) {
        let ago = (self.asked * 31 + self.told * 17 + attachment.0 * 7) % 40;
        let attachment = if ago % 9 == 8 { Attachment(attachment.0 - 1) } else { attachment };
        self.apply(Event::ReadAt { stream, attachment, at: self.core.now.checked_sub(secs(ago)).unwrap() });
    }

    fn heard_by_client(&mut self, stream: u64, event: Option<u64>, wire: Wire, role: MessageRole) {
        let seen = self.streams.get_mut(&stream).expect("a stream that was opened");
        assert!(seen.attachment.is_some(), "nobody is there to hear it");
        if role == MessageRole::StreamResumed {
            return;
        }
        // What is sent again comes in order, but after newer things.
        let again = self.resuming == Some(stream) && event.is_some_and(|event| event <= seen.newest);
        if let Some(event) = event {
            assert!(again || event > seen.newest, "event {event} after {}", seen.newest);
            seen.newest = seen.newest.max(event);
        }
        let incoming = frame::split(wire.into_bytes()).expect("well formed");
        let frames = match incoming {
            Incoming::One(frame) => {
                let at = frame.lookup(&["at"]).unwrap().map(|at| std::str::from_utf8(at).unwrap().parse().unwrap());
                if let Some(at) = at.filter(|_| self.resuming != Some(stream)) {
                    assert!(at > seen.at, "message {at} of the server came after message {}", seen.at);
                    seen.at = at;
                }
                vec![frame]
            }
            Incoming::Batch(frames) => frames.into_iter().map(|frame| frame.expect("well formed")).collect(),
        };
        for frame in frames {
            let Some(id) = frame.id() else { continue };
            if frame.kind() == Kind::Request {
                assert_ne!(
                    seen.kind,
                    Some(StreamKind::Single),
                    "a server request on a stream that carries the answer only"
                );
                self.server_request_numbers.push(id.to_string());
            } else if frame.kind() == Kind::Response && !again {
                let count = self.calls.get_mut(id.as_str()).expect("an answer to what was asked");
                count.answered += 1;
                assert!(
                    count.answered + count.cancelled <= count.asked || self.client_lied,
                    "answered too often: {id} {count:?}"
                );
            }
        }
    }

    fn heard_by_server(&mut self, link: LinkId, wire: Wire, from_client: bool) {
        assert_eq!(link, LINK);
        let frames = match frame::split(wire.into_bytes()).expect("well formed") {
            Incoming::One(frame) => vec![frame],
            Incoming::Batch(frames) => frames.into_iter().map(|frame| frame.expect("well formed")).collect(),
        };
        for frame in frames {
            match frame.kind() {
                Kind::Request => {
                    let number = frame.id().unwrap().to_string();
                    assert!(!self.call_numbers.contains(&number), "a number was used twice");
                    // Which call it is stands in its method.
                    let id = frame.method().unwrap().trim_start_matches("call ").to_owned();
                    self.call_numbers.push(number);
                    assert!(id == "initialize" || self.calls.contains_key(&id));
                }
                Kind::Notification => {
                    if let Some(number) = frame.cancelled_id().filter(|_| from_client) {
                        assert!(self.call_numbers.contains(&number.to_string()), "the server knows of no such call");
                    }
                }
                Kind::Response => {
                    let id = frame.id().expect("errors to the server name its request").to_string();
                    let count = self.server_requests.get_mut(&id).expect("an answer to what was asked");
                    count.answered += 1;
                    assert!(count.answered <= count.asked, "answered too often: {id} {count:?}");
                }
            }
        }
    }

    fn open(&mut self, kind: StreamKind) -> u64 {
        let stream = self.streams.len() as u64 + 1;
        let seen = self.streams.entry(stream).or_default();
        seen.kind = Some(kind);
        self.attach(stream, kind, None);
        stream
    }

    fn attach(&mut self, stream: u64, kind: StreamKind, after: Option<u64>) {
        self.core.attachments += 1;
        let attachment = self.core.attachments;
        self.attachments.push((stream, attachment));
        if !self.ended {
            self.streams.entry(stream).or_default().attachment = Some(attachment);
        }
        self.resuming = after.map(|_| stream);
        self.apply(Event::Attached {
            client: ClientId::FIRST,
            stream: StreamId(stream),
            attachment: Attachment(attachment),
            kind,
            after,
        });
        self.resuming = None;
    }

    fn lose(&mut self, stream: u64, attachment: u64) {
        let seen = self.streams.get_mut(&stream).expect("it was attached");
        if seen.attachment == Some(attachment) {
            seen.attachment = None;
            self.calls.values_mut().filter(|call| call.stream == stream).for_each(|call| call.lost = true);
        }
        self.apply(Event::Detached { stream: StreamId(stream), attachment: Attachment(attachment) });
    }

    /// Lets the client say something; with each message comes the id that is to be answered.
    fn client(&mut self, stream: u64, messages: Vec<(String, Option<String>)>) {
        let is_open = self.core.state.client().outbox.knows(StreamId(stream));
        let attached = self.streams.get(&stream).is_some_and(|seen| seen.attachment.is_some());
        for id in messages.iter().filter_map(|(_, id)| id.as_ref()) {
            let count = self.calls.entry(id.clone()).or_default();
            count.asked += usize::from(is_open);
            // Two of one id on two streams are more than this test keeps apart.
            count.lost |= !attached || count.asked > 1 && count.stream != stream;
            count.stream = stream;
        }
        let mut texts: Vec<_> = messages.into_iter().map(|(text, _)| text).collect();
        let json = if texts.len() == 1 { texts.remove(0) } else { batch(&texts) };
        self.apply(Event::FromClient {
            client: ClientId::FIRST,
            respond_on: RespondOn::Stream(StreamId(stream)),
            frames: frame::split(json),
        });
    }

    fn server(&mut self, messages: &[String]) {
        let frames = frame::split(if let [one] = messages { one.clone() } else { batch(messages) });
        self.apply(Event::FromServer { link: LINK, on: None, frames });
    }

    /// An id for a new request: now and then one that was used before, or is one of the other side's numbers.
    fn fresh_id(&mut self, pick: u8) -> String {
        self.asked += 1;
        match pick {
            0..20 => format!("\"i{}\"", u64::from(pick) % self.asked),
            20..40 => u64::from(pick - 20).to_string(),
            40..60 => format!("\"\\u0069{}\"", self.asked),
            _ => format!("\"i{}\"", self.asked),
        }
    }

    /// Lets the shell do its work until nothing is due for a long time.
    fn settle(&mut self) {
        let until = self.core.now + secs(100_000);
        for _ in 0..10_000 {
            match self.core.state.next_deadline(self.core.now).filter(|due| *due <= until) {
                Some(due) => {
                    self.core.now = self.core.now.max(due);
                    self.apply(Event::Tick);
                }
                None => return,
            }
        }
        panic!("a storm of ticks");
    }

    /// The client goes away for good: every server request has its answer then, and there is nothing left to be kept.
    fn everybody_leaves(&mut self) {
        for (stream, attachment) in self.attachments.clone() {
            self.lose(stream, attachment);
        }
        self.settle();
        if self.ended {
            return;
        }
        for (id, count) in &self.server_requests {
            assert!(count.answered + count.cancelled >= count.asked, "never answered: {id} {count:?}");
        }
        assert_eq!(self.core.state.pending.server_requests_open(), 0);
        for number in self.call_numbers.clone() {
            self.server(&[answer(&number)]);
        }
        self.settle();
        assert_eq!(self.core.state.requests_in_flight(), 0, "every call was answered");
        assert_eq!(self.core.state.pending.batches_open(), 0);
        assert_eq!(self.core.state.client().outbox.kept_bytes(), 0);
        assert_eq!(self.core.state.client().outbox.stream_count(), 0);
    }

    /// The session ends with its client listening: every call has had its answer.
    fn end(&mut self) {
        self.apply(Event::End(EndReason::Cleared));
        assert!(self.ended);
        for (id, count) in &self.calls {
            let answered = count.answered == count.asked;
            assert!(count.lost || self.client_lied || answered, "not answered just once: {id} {count:?}");
        }
        self.act(&Act::Server(vec![Said::Notification, Said::Answer(0)]));
        self.act(&Act::Post(StreamKind::Post, 100));
    }
}

/// One of these, or one that is made up.
fn pick_from(known: &[String], pick: u8) -> String {
    let pick = usize::from(pick);
    // The newest are of the most interest.
    if pick % 11 == 10 || known.is_empty() {
        return (pick * 3).to_string();
    }
    known[known.len() - 1 - pick % known.len().min(7)].clone()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_is_forgotten_and_nobody_hears_what_is_not_his(
        limits in any_limits(),
        stdio in any::<bool>(),
        initialized in any::<bool>(),
        acts in vec(act(), 0..120),
        leave in any::<bool>(),
    ) {
        let mut harness = OrderHarness::new(limits, stdio);
        if initialized {
            harness.server(&[answer("1")]);
        }
        for act in &acts {
            harness.act(act);
        }
        if leave {
            harness.everybody_leaves();
        } else if !harness.ended {
            harness.end();
        }
    }
}
