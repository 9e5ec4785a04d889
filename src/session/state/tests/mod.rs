//! Tests of the core: no clock, no tasks, no bytes on any wire. Time is a number that [`CoreHarness`] moves on.

mod acts;
mod any_order;
mod clients;
mod costs;
mod filters;
mod life;
mod peers;
mod requests;
mod resume;
mod streams;
mod time;
mod union;
mod unreadable;

use std::time::{Duration, Instant};

use super::client::Client;
use super::*;
use crate::config::Filter;
use crate::frame::{self, Frame, Id, Kind};
use crate::link::Exit;
use crate::session::union::ConfiguredServer;

const LINK: LinkId = LinkId(0);

#[expect(
    clippy::disallowed_methods,
    reason = "the core may not know tokio, and this is where time starts, or real time is measured"
)]
fn clock() -> Instant {
    Instant::now()
}

fn one_server(filter: Filter) -> Arc<Servers> {
    Arc::new(Servers::new(vec![ConfiguredServer::new("one", filter)], true, false))
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn limits() -> Limits {
    Limits {
        idle_timeout: Some(secs(1800)),
        lost_stream: secs(600),
        stall: Duration::MAX,
        stream_wait: secs(10),
        request_timeout: None,
        server_wait: secs(10),
        drain: secs(10),
        replay_bytes: 1024 * 1024,
        in_flight: 1024,
        message_size: 1024 * 1024,
    }
}

impl State {
    /// The client that has opened the session.
    fn client(&self) -> &Client {
        self.clients.get(ClientId::FIRST).unwrap()
    }

    fn union(&self) -> &Union {
        self.union.as_ref().unwrap()
    }
}

/// A core, the time, and words for what happens to it. Each act gives what follows, one line an effect.
struct CoreHarness {
    state: State,
    start: Instant,
    now: Instant,
    attachments: u64,
}

impl CoreHarness {
    fn new(limits: Limits) -> Self {
        let now = clock();
        Self {
            state: State::new("s".into(), one_server(Filter::new()), limits, true, now),
            start: now,
            now,
            attachments: 0,
        }
    }

    /// A session on HTTP whose handshake is done: it went over stream 1, and was call 1.
    fn live(limits: Limits) -> Self {
        let mut core = Self::new(limits);
        core.post(1, &ask("0", "initialize"));
        core.server(&answer("1"));
        assert!(matches!(core.state.client().phase, ClientPhase::Ready));
        core
    }

    /// A session on stdio whose handshake is done: all goes over stream 1, and the handshake was call 1.
    fn stdio(limits: Limits) -> Self {
        let mut core = Self::new(limits);
        core.open(1, StreamKind::Duplex);
        core.client(1, &ask("0", "initialize"));
        core.server(&answer("1"));
        core
    }

    fn event(&mut self, event: Event) -> Vec<String> {
        self.state.apply(event, self.now).into_iter().map(show).collect()
    }

    /// Opens a stream; its attachment gets the next number.
    fn open(&mut self, stream: u64, kind: StreamKind) -> Vec<String> {
        self.attach(stream, kind, None)
    }

    fn resume(&mut self, stream: u64, after: u64) -> Vec<String> {
        self.attach(stream, StreamKind::Get, Some(after))
    }

    fn attach(&mut self, stream: u64, kind: StreamKind, after: Option<u64>) -> Vec<String> {
        self.attachments += 1;
        let attachment = Attachment(self.attachments);
        self.event(Event::Attached { client: ClientId::FIRST, stream: StreamId(stream), attachment, kind, after })
    }

    /// The newest attachment, if it is this stream's, is lost.
    fn lose(&mut self, stream: u64) -> Vec<String> {
        self.lose_old(stream, self.attachments)
    }

    fn lose_old(&mut self, stream: u64, attachment: u64) -> Vec<String> {
        self.event(Event::Detached { stream: StreamId(stream), attachment: Attachment(attachment) })
    }

    /// The client posts, and takes its answer as a stream.
    fn post(&mut self, stream: u64, json: &str) -> Vec<String> {
        let mut lines = self.open(stream, StreamKind::Post);
        lines.extend(self.client(stream, json));
        lines
    }

    /// The client posts, and takes its answer as JSON.
    fn post_single(&mut self, stream: u64, json: &str) -> Vec<String> {
        let mut lines = self.open(stream, StreamKind::Single);
        lines.extend(self.client(stream, json));
        lines
    }

    fn client(&mut self, stream: u64, json: &str) -> Vec<String> {
        let frames = frame::split(String::from(json));
        self.event(Event::FromClient {
            client: ClientId::FIRST,
            respond_on: RespondOn::Stream(StreamId(stream)),
            frames,
        })
    }

    fn server(&mut self, json: &str) -> Vec<String> {
        self.server_on(None, json)
    }

    /// The server says something on the stream of this call.
    fn server_on(&mut self, on: Option<u64>, json: &str) -> Vec<String> {
        let frames = frame::split(String::from(json));
        self.event(Event::FromServer { link: LINK, on, frames })
    }

    fn end(&mut self, reason: EndReason) -> Vec<String> {
        self.event(Event::End(reason))
    }

    /// Lets time pass without anything happening, not even what is due.
    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Lets time pass as the shell does: a tick comes whenever one is due.
    fn wait(&mut self, time: Duration) -> Vec<String> {
        let until = self.now + time;
        let mut lines = Vec::new();
        for _ in 0..100_000 {
            match self.state.next_deadline(self.now) {
                Some(due) if due <= until => {
                    self.now = self.now.max(due);
                    lines.extend(self.event(Event::Tick));
                    let next = self.state.next_deadline(self.now);
                    assert!(next.is_none_or(|next| next > self.now), "a tick that changes nothing is due at once");
                }
                _ => {
                    self.now = until;
                    return lines;
                }
            }
        }
        panic!("a storm of ticks");
    }

    fn seconds(&self) -> u64 {
        (self.now - self.start).as_secs()
    }
}

/// An effect as a line.
fn show(effect: Effect) -> String {
    match effect {
        Effect::ToClient { stream, wire, role: MessageRole::InitializeRefused, .. } => {
            format!("refusal {}: {}", stream.0, message(wire))
        }
        Effect::ToClient { stream, wire, role: MessageRole::CredentialsRefused, .. } => {
            format!("challenge {}: {}", stream.0, message(wire))
        }
        Effect::ToClient { stream, role: MessageRole::StreamResumed, .. } => format!("resumed {}", stream.0),
        Effect::ToClient { stream, wire, .. } => format!("client {}: {}", stream.0, message(wire)),
        Effect::Close { stream } => format!("close {}", stream.0),
        Effect::CheckRead { stream, attachment } => format!("check {} {}", stream.0, attachment.0),
        Effect::ToServer { wire, .. } => format!("server: {}", message(wire)),
        Effect::ClientNamed { name } => format!("named {name:?}"),
        Effect::ClientReady { client, version } => format!("ready {} {}", client.0, version.unwrap_or_default()),
        Effect::ClientLeft { client } => format!("left {}", client.0),
        Effect::SessionOpened { version } => format!("opened {}", version.unwrap_or_default()),
        Effect::HandshakeAnswered { link, ready } => {
            format!("server {} {}", link.0, if ready { "ready" } else { "refused" })
        }
        Effect::Warn { link, text } => format!("warn {}: {text}", link.0),
        Effect::Ended(reason) => format!("ended {}", reason.name()),
    }
}

fn message(wire: Wire) -> String {
    match frame::split(wire.into_bytes()).unwrap() {
        Incoming::One(frame) => words(&frame),
        Incoming::Batch(frames) => {
            let each: Vec<_> = frames.iter().map(|frame| words(frame.as_ref().unwrap())).collect();
            format!("[{}]", each.join(", "))
        }
    }
}

fn words(frame: &Frame) -> String {
    let id = frame.id().map_or_else(|| "null".to_owned(), |id| id.to_string());
    match frame.kind() {
        Kind::Request => format!("ask {id} {}", frame.method().unwrap()),
        Kind::Response if frame.is_error() => {
            let code = frame.lookup(&["error", "code"]).unwrap().unwrap();
            format!("error {id} {}", std::str::from_utf8(code).unwrap())
        }
        Kind::Response => format!("answer {id}"),
        Kind::Notification => {
            let about = frame.progress_token().or_else(|| frame.cancelled_id());
            format!("tell {}{}", frame.method().unwrap(), about.map(|id| format!(" {id}")).unwrap_or_default())
        }
    }
}

/// A request, its id as raw JSON.
fn ask(id: &str, method: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{}}}}"#)
}

/// A request that wants progress under this token.
fn ask_with_token(id: &str, token: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"_meta":{{"progressToken":{token}}}}}}}"#)
}

fn answer(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"protocolVersion":"2025-11-25"}}}}"#)
}

fn error(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-1,"message":"no"}}}}"#)
}

fn tell(method: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#)
}

fn cancel(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#)
}

fn progress(token: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":1}}}}"#
    )
}

fn batch(messages: &[String]) -> String {
    format!("[{}]", messages.join(","))
}

fn exited() -> LinkExit {
    LinkExit::Exited { exit: Exit::Code(3), stderr: vec!["last words".to_owned()] }
}
