//! The pure core of a session: what it knows, and what it decides.
//!
//! [`State::apply`] takes one [`Event`] and the time, and answers with [`Effect`]s. Nothing in here waits, reads a clock,
//! touches a socket or names an actor: the actor (`session/actor.rs`) is the shell that carries the effects out, and a
//! test can drive the core through any order of events.
//!
//! ```text
//!            `initialize`               its result
//!   New ──────────────────▶ Opening ──────────────────────▶ Live
//!    ▲                         │
//!    └─────────────────────────┘ an error, on a connection that lasts: the client may try again
//!
//!   Opening ─▶ Ended      an error on any other connection; its connection lost; no answer in time
//!   New, Opening, Live ─▶ Finishing      the input ended with calls in flight
//!   Finishing ─▶ Ended    the last call answered or cancelled; the drain over
//!   any ─▶ Ended          `End`, `LinkClosed`, the only connection lost, idle for too long, the input ended with none in flight
//! ```
//!
//! What ends a session is only noted while an event is dealt with, and done at its end: so nothing can follow
//! [`Effect::Ended`], and every message of a batch is dealt with first.

mod answers;
mod client;
mod end;
mod keeper;
mod many;
mod outbox;
mod pending;
mod replay;
mod server;
mod time;
mod waiting;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::error::Fault;
use crate::frame::{Frame, FrameError, Id, Incoming, Lost, Wire};
use crate::link::{CallFailure, LinkExit, Purpose};
use crate::session::union::{LinkId, Mode, Servers};

pub use end::EndReason;
pub(crate) use keeper::Keeper;
use many::Many;
pub(crate) use outbox::{About, Attachment, Outbox, StreamId, StreamKind};
pub(crate) use pending::{Call, CallKind, Pending, Question};
use waiting::Waiting;

/// The bounds that a session keeps to. All of them come from the configuration and stay as they are for its life.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// How long a session may be idle, `None` for ever. What idle means stands at [`State::busy_until`].
    pub idle_timeout: Option<Duration>,
    /// How long a stream that was lost may be taken up again, and a client without any stream counts as present.
    pub lost_stream: Duration,
    /// How long a message from the server waits for a stream that can carry it.
    pub stream_wait: Duration,
    /// How long a call may take, `None` for ever.
    pub request_timeout: Option<Duration>,
    /// How long the handshake and lists wait for the slowest of several servers.
    pub gather: Duration,
    /// How long calls in flight may go on after the client's input has ended.
    pub drain: Duration,
    /// Bytes kept for clients that resume a stream.
    pub replay_bytes: usize,
    /// Most calls in flight, and most questions of the server without an answer.
    pub in_flight: usize,
    /// The largest message, in bytes: to be named in errors, and what the gathered answers to a batch may come to.
    pub message_size: usize,
}

/// To so many calls the last words of a server are told that has ended under them.
const MOST_QUOTES: usize = 16;

/// Longer than any session lives: a deadline as far away as that can still be reckoned with.
const EVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

impl Limits {
    fn reckonable(self) -> Self {
        Self {
            idle_timeout: self.idle_timeout.filter(|timeout| *timeout < EVER),
            lost_stream: self.lost_stream.min(EVER),
            stream_wait: self.stream_wait.min(EVER),
            request_timeout: self.request_timeout.filter(|timeout| *timeout < EVER),
            drain: self.drain.min(EVER),
            gather: self.gather.min(EVER),
            ..self
        }
    }
}

/// What can happen to a session.
#[derive(Debug)]
pub(crate) enum Event {
    /// A connection carries `stream` from now on. With `after`, it takes up a stream that it knows up to that event.
    Attached { stream: StreamId, attachment: Attachment, kind: StreamKind, after: Option<u64> },
    /// The connection of that attachment is gone.
    Detached { stream: StreamId, attachment: Attachment },
    /// The client will send nothing more on its only connection, but may still read.
    InputEnded,
    /// Messages of one body or line of the client; more than one, or `batch`, is a JSON-RPC batch.
    FromClient { stream: StreamId, frames: Received },
    /// A message of the client that was not kept: it was too large, or its rest did not come.
    ClientLost { stream: StreamId, id: Option<Id>, request: bool, size: usize, why: Lost },
    /// Messages of the server. `on` is the call whose response stream they came on, where the transport knows.
    FromServer { link: LinkId, on: Option<u64>, frames: Received },
    /// A message of the server that was not kept: it was too large, or its rest did not come.
    ServerLost { link: LinkId, id: Option<Id>, request: bool, size: usize, why: Lost },
    /// One call of that link has no answer and will have none; the link goes on.
    CallFailed { link: LinkId, call: u64, failure: CallFailure },
    /// The server is gone, or could not be started.
    LinkClosed { link: LinkId, exit: LinkExit },
    /// A deadline has come.
    Tick,
    /// Others need the memory of what is kept for a client that has not come back for it.
    GiveWay,
    /// No new calls are taken from now on; those in flight may go on.
    Drain,
    /// The session has to end.
    End(EndReason),
}

/// One body or line, taken apart, or why it could not be.
pub(crate) type Received = Result<Incoming, FrameError>;

/// What the shell has to do.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Hand a message to the connection that carries `stream`. `event` is its number there, if it can be resumed.
    ToClient { stream: StreamId, event: Option<u64>, wire: Wire, role: Role },
    /// End the connection that carries `stream`: nothing more will come on it.
    Close { stream: StreamId },
    /// Hand a message to the server.
    ToServer { link: LinkId, wire: Wire, purpose: Purpose },
    /// The client has named itself in `initialize`.
    Client { name: String },
    /// The handshake was answered.
    Opened { version: Option<String> },
    /// One of several servers has answered its handshake: it is there, or it refused.
    Server { link: LinkId, ready: bool },
    /// Something that whoever runs sessile should know of a server.
    Warn { link: LinkId, text: String },
    /// The session is over. Nothing follows.
    Ended(EndReason),
}

/// What a message is to the connection that carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A request or notification of the server.
    Message,
    /// The answer to the client's request.
    Answer,
    /// An error as the answer to the client's request.
    Failure,
    /// An error as the answer to the client's `initialize`: the session was not opened.
    Refusal,
    /// An error as the answer to the client's request, whatever it was: the server wants other credentials than those
    /// that came with it.
    Challenge,
    /// No message at all: the stream that the client wants to resume is there. One that is over, and has nothing to be
    /// sent again, is closed without this.
    Resumed,
}

/// How a call came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Result,
    Error,
    /// An error because of the client's own credentials.
    Challenge,
}

impl Verdict {
    fn of(frame: &Frame) -> Self {
        if frame.is_error() { Self::Error } else { Self::Result }
    }
}

pub(crate) type Effects = SmallVec<[Effect; 2]>;

/// Where a session is in its life; see the diagram at the top of this file.
#[derive(Debug)]
enum Phase {
    New,
    Opening {
        call: u64,
        stream: StreamId,
    },
    Live,
    /// `opened` is whether the handshake had been answered when the client's input ended.
    Finishing {
        deadline: Instant,
        opened: bool,
    },
    Ended,
}

/// A session's state machine.
#[derive(Debug)]
pub(crate) struct State {
    limits: Limits,
    /// The session id, for the `data` of errors.
    name: Arc<str>,
    /// Whether errors may quote the server's stderr to this client.
    expose_stderr: bool,
    phase: Phase,
    draining: bool,
    pending: Pending,
    outbox: Outbox,
    waiting: Waiting,
    keeper: Keeper,
    /// What there is to know about several servers, or filters.
    many: Box<Many>,
    /// When the session was last seen to be busy.
    active: Instant,
    /// Why the session is to end when the event at hand is dealt with.
    ending: Option<EndReason>,
    effects: Effects,
}

impl State {
    pub(crate) fn new(
        name: Arc<str>,
        servers: Arc<Servers>,
        limits: Limits,
        expose_stderr: bool,
        now: Instant,
    ) -> Self {
        let limits = limits.reckonable();
        Self {
            outbox: Outbox::new(limits.replay_bytes, limits.lost_stream),
            waiting: Waiting::new(limits.replay_bytes),
            keeper: Keeper::default(),
            many: Box::new(Many::new(servers)),
            limits,
            name,
            expose_stderr,
            phase: Phase::New,
            draining: false,
            pending: Pending::default(),
            active: now,
            ending: None,
            effects: Effects::new(),
        }
    }

    /// The same, with permits for what is kept from `keeper`.
    #[must_use]
    pub(crate) fn with_keeper(mut self, keeper: Keeper) -> Self {
        self.keeper = keeper;
        self
    }

    /// Takes one event, and says what follows from it.
    pub(crate) fn apply(&mut self, event: Event, now: Instant) -> Effects {
        if matches!(self.phase, Phase::Ended) {
            return Effects::new();
        }
        self.note_activity(now);
        match event {
            Event::Attached { stream, attachment, kind, after } => self.attached(stream, attachment, kind, after, now),
            Event::Detached { stream, attachment } => self.detached(stream, attachment, now),
            Event::InputEnded => self.input_ended(now),
            Event::FromClient { stream, frames } => {
                self.active = now;
                self.hear_client(stream, frames, now);
            }
            Event::ClientLost { stream, id, request, size, why } => {
                self.active = now;
                self.client_lost(stream, id, request, &Fault::from_lost(why, self.limits.message_size, size), now);
            }
            Event::FromServer { link, on, frames } => self.hear_server(link, on, frames, now),
            Event::ServerLost { link, id, request, size, why } => {
                self.server_lost(link, id, request, &Fault::from_lost(why, self.limits.message_size, size), now);
            }
            Event::CallFailed { link, call, failure } => self.call_failed(link, call, failure, now),
            Event::LinkClosed { link, exit } => self.link_closed(link, exit, now),
            Event::Tick => self.tick(now),
            Event::GiveWay => self.give_way(),
            Event::Drain => self.draining = true,
            Event::End(reason) => self.end(reason),
        }
        self.end_if_due(now);
        std::mem::take(&mut self.effects)
    }

    /// Drops what is kept for a client that may come back: it is told if it does.
    fn give_way(&mut self) {
        self.outbox.drop_kept();
        let limit = self.limits.replay_bytes;
        self.pending.replace_parts(|id| Fault::ResponseDropped { limit }.to_wire(Some(id)));
        for dropped in self.waiting.take() {
            if let About::Question(number) = dropped.about {
                self.fail_question(number, &Fault::Undeliverable);
            }
        }
    }

    fn link_closed(&mut self, link: LinkId, exit: LinkExit, now: Instant) {
        match self.many.mode() {
            Mode::Plain | Mode::Filtered => self.end(EndReason::from_exit(exit)),
            Mode::Many => self.link_lost(link, exit, now),
        }
    }

    /// The session ends when the event at hand is dealt with. The first reason counts.
    fn end(&mut self, reason: EndReason) {
        self.ending.get_or_insert(reason);
    }

    /// A [`Phase::Finishing`] session ends with its last call.
    fn end_if_due(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Finishing { .. }) && self.pending.calls_in_flight() == 0 {
            self.end(EndReason::ClientLeft);
        }
        if let Some(reason) = self.ending.take() {
            self.ended(reason, now);
        }
    }

    /// Every call gets its answer, every stream is closed; then nothing more happens.
    fn ended(&mut self, reason: EndReason, now: Instant) {
        let opened = matches!(self.phase, Phase::Live | Phase::Finishing { opened: true, .. });
        self.phase = Phase::Ended;
        let fault = reason.fault(&self.name, opened, self.expose_stderr);
        let brief = reason.fault(&self.name, opened, false);
        for (place, call) in self.pending.take_calls().into_iter().enumerate() {
            // A few of them are enough to tell the server's last words to: thousands of copies would be megabytes.
            if place < MOST_QUOTES {
                self.answer_fault(call, &fault, now);
            } else {
                self.answer_fault(call, &brief, now);
            }
        }
        for stream in self.outbox.detach_all() {
            self.effects.push(Effect::Close { stream });
        }
        self.effects.push(Effect::Ended(reason));
    }

    pub(crate) fn calls_in_flight(&self) -> usize {
        self.pending.calls_in_flight()
    }
}
