//! The pure core of a session: what it knows, and what it decides.
//!
//! [`State::apply`] takes one [`Event`] and the time, and answers with [`Effect`]s. Nothing in here waits, reads a
//! clock, touches a socket or names an actor: the actor (`session/actor.rs`) is the shell that carries the effects out,
//! and a test can drive the core through any order of events. The defects of a proxy are in the orders that nobody
//! thought of, and only code that does no I/O can be driven through all of them. The price is that everything the core
//! has to know comes in as an event, also what the shell could look up.
//!
//! `apply` does two things for every event: the handler of the event, and then `settle`, which restores what always
//! holds. A handler changes the parts and notes effects; it never ends the session itself, and it flushes no queue. So
//! nothing can follow [`Effect::Ended`], and every message of a batch is dealt with before the session ends.
//!
//! The parts own their data: [`Clients`](client::Clients) has each client's phase, streams and ids (`client.rs` has the
//! diagram); [`LinkPhases`] whether a server has answered the handshake; [`Pending`] requests in either direction;
//! [`Union`] all that there is to know only with several servers or filters. A session with one server and no filter
//! has no union, and its messages never meet one.
//!
//! A session ends when all of its clients are gone and no other can find it, when its servers are, when it is idle for too long, or when it is
//! told to. It is never restarted.

mod capabilities;
mod client;
mod destination;
mod end;
mod from_client;
mod from_server;
mod joining;
mod keeper;
mod outbox;
mod pending;
mod replay;
mod responses;
mod shared;
mod streams;
mod time;
mod union_outputs;
mod waiting;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;

use crate::error::ProxyError;
use crate::frame::{Frame, FrameError, Incoming, LostMessage, Wire};
use crate::link::{LinkExit, Purpose, RequestFailure};
use crate::session::Limits;
use crate::session::link_phase::{LinkId, LinkPhases};
use crate::session::union::{Servers, Union};

use client::{Client, ClientPhase, Clients, Destination};
pub(crate) use client::{ClientId, MOST_CLIENTS};
pub use end::EndReason;
pub(crate) use keeper::Keeper;
pub(crate) use outbox::{ClientMessageKind, Outbox};
pub(crate) use pending::{ClientRequest, Pending, RequestKind, ServerRequest};
pub(crate) use shared::LostState;
use shared::Shared;
pub(crate) use streams::{Attachment, StreamId, StreamKind};
use waiting::Waiting;

/// The link of a session that has one server.
const ONLY_LINK: LinkId = LinkId(0);

/// How many client requests are told the last words of a server that has ended under them. Thousands of copies would be
/// megabytes.
const MOST_STDERR_QUOTES: usize = 16;

/// Where the responses to what a client sends go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RespondOn {
    Stream(StreamId),
    /// On the stream whose connection is all that the client has.
    OwnStream,
    /// The client is told in some other way, if it is told at all.
    NoStream,
}

/// What can happen to a session.
#[derive(Debug)]
pub(crate) enum Event {
    /// A connection of that client carries `stream` from now on. With `after`, it resumes a stream that the client
    /// knows up to that event.
    Attached { client: ClientId, stream: StreamId, attachment: Attachment, kind: StreamKind, after: Option<u64> },
    /// A client joins the session. What is kept for it has permits of `keeper`.
    Joined { client: ClientId, keeper: Keeper },
    /// The client leaves, for this reason.
    Left { client: ClientId, reason: EndReason },
    /// The connection of that attachment is gone.
    Detached { stream: StreamId, attachment: Attachment },
    /// When the connection last came for more messages: the answer to [`Effect::CheckRead`].
    ReadAt { stream: StreamId, attachment: Attachment, at: Instant },
    /// The client will send nothing more on its only connection, but may still read.
    InputEnded { client: ClientId },
    /// One body or line of the client: a message, or a batch ([`Incoming::Batch`]).
    FromClient { client: ClientId, respond_on: RespondOn, frames: Received },
    /// A message of the client that was not kept: it was too large, or its rest did not come.
    ClientLost { client: ClientId, stream: StreamId, message: LostMessage },
    /// Messages of the server. `on` is the request on whose response stream they came, where the transport knows.
    FromServer { link: LinkId, on: Option<u64>, frames: Received },
    /// A message of the server that was not kept: it was too large, or its rest did not come.
    ServerLost { link: LinkId, message: LostMessage },
    /// One request to that server has no response and will have none; the link goes on.
    RequestFailed { link: LinkId, number: u64, failure: RequestFailure },
    /// The server is gone, or could not be started.
    LinkClosed { link: LinkId, exit: LinkExit },
    /// A deadline has come.
    Tick,
    /// Others need the memory of what is kept for a client that has not come back for it.
    GiveWay { client: ClientId },
    /// No new requests are taken from now on; those in flight may go on.
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
    ToClient { stream: StreamId, event: Option<u64>, wire: Wire, role: MessageRole },
    /// Say when this connection came for more messages last, with [`Event::ReadAt`].
    CheckRead { stream: StreamId, attachment: Attachment },
    /// End the connection that carries `stream`: nothing more will come on it.
    Close { stream: StreamId },
    /// Hand a message to the server.
    ToServer { link: LinkId, wire: Wire, purpose: Purpose },
    /// The client has named itself in `initialize`.
    ClientNamed { name: String },
    /// One of several clients has its answer to `initialize`, with this protocol version.
    ClientReady { client: ClientId, version: Option<String> },
    /// The client is no part of the session any more, which lives on. Its streams are closed.
    ClientLeft { client: ClientId },
    /// The servers have answered the handshake of the client that has opened the session.
    SessionOpened { version: Option<String> },
    /// One of several servers has answered its handshake: it is there, or it refused.
    HandshakeAnswered { link: LinkId, ready: bool },
    /// Something that whoever runs sessile should know of a server.
    Warn { link: LinkId, text: String },
    /// The session is over. Nothing follows.
    Ended(EndReason),
}

/// What a message is to the connection that carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageRole {
    /// A request or notification of the server, or anything that is sent again when a stream is resumed.
    FromServer,
    /// The response to the client's request.
    Response,
    /// An error as the response to the client's request.
    ErrorResponse,
    /// An error as the response to the client's `initialize`: the session was not opened.
    InitializeRefused,
    /// An error as the response to the client's request, whatever it was: the server wants other credentials than those
    /// that came with it.
    CredentialsRefused,
    /// No message at all: the stream that the client wants to resume is there. A stream that is over, and has nothing
    /// to be sent again, is closed without this.
    StreamResumed,
}

/// What the response to a client request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Result,
    Error,
    /// An error because of the client's own credentials.
    CredentialsRefused,
}

impl Outcome {
    fn of(frame: &Frame) -> Self {
        if frame.is_error() { Self::Error } else { Self::Result }
    }
}

pub(crate) type Effects = SmallVec<[Effect; 2]>;

/// What a session takes, besides what its clients' phases say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Intake {
    /// New requests.
    Open,
    /// No new requests: the proxy shuts down.
    Draining,
    /// Nothing: the session has ended.
    Ended,
}

/// A session's state machine.
#[derive(Debug)]
pub(crate) struct State {
    limits: Limits,
    /// The session id, for the `data` of errors.
    name: Arc<str>,
    /// Whether errors may quote a server's stderr.
    expose_stderr: bool,
    /// The time of the event at hand.
    now: Instant,
    intake: Intake,
    clients: Clients,
    links: LinkPhases,
    pending: Pending,
    /// What there is to know of several servers, or of filters; `None` with one server and no filter.
    union: Option<Box<Union>>,
    /// What clients share; `None` where no other client can find this session than the one that has opened it.
    shared: Option<Box<Shared>>,
    /// When the session was last seen to be busy.
    active: Instant,
    /// Why the session ends when the event at hand is dealt with.
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
        let limits = limits.without_overflow();
        Self {
            clients: Clients::new(&limits, now),
            limits,
            name,
            expose_stderr,
            now,
            intake: Intake::Open,
            links: LinkPhases::new(servers.len()),
            pending: Pending::default(),
            union: Union::new(servers).map(Box::new),
            shared: None,
            active: now,
            ending: None,
            effects: Effects::new(),
        }
    }

    /// The same, with permits from `keeper` for what is kept for that client.
    #[must_use]
    pub(crate) fn with_keeper(mut self, client: ClientId, keeper: Keeper) -> Self {
        if let Some(client) = self.clients.get_mut(client) {
            client.keeper = keeper;
        }
        self
    }

    /// The same, as a session that other clients may join, and that outlives its clients. `lost` is what was lost with
    /// the session before it.
    #[must_use]
    pub(crate) fn shared(mut self, lost: Option<LostState>) -> Self {
        self.shared = Some(Box::new(Shared::new(lost)));
        self
    }

    /// Takes one event, and says what follows from it.
    pub(crate) fn apply(&mut self, event: Event, now: Instant) -> Effects {
        if self.intake == Intake::Ended {
            return Effects::new();
        }
        self.now = now;
        self.note_activity();
        self.handle(event);
        self.settle();
        std::mem::take(&mut self.effects)
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Attached { client, stream, attachment, kind, after } => {
                self.attached(client, stream, attachment, kind, after);
            }
            Event::Joined { client, keeper } => self.joined(client, keeper),
            Event::Left { client, reason } => self.remove_client(client, reason),
            Event::Detached { stream, attachment } => self.detached(stream, attachment),
            Event::ReadAt { stream, attachment, at } => self.read_at(stream, attachment, at),
            Event::InputEnded { client } => self.input_ended(client),
            Event::FromClient { client, respond_on, frames } => {
                self.active = self.now;
                self.on_client_body(client, respond_on, frames);
            }
            Event::ClientLost { client, stream, message } => {
                self.active = self.now;
                self.on_client_lost(Destination { client, stream }, message);
            }
            Event::FromServer { link, on, frames } => self.on_server_body(link, on, frames),
            Event::ServerLost { link, message } => self.on_server_lost(link, message),
            Event::RequestFailed { link, number, failure } => self.on_request_failed(link, number, failure),
            Event::LinkClosed { link, exit } => self.on_link_closed(link, exit),
            Event::Tick => self.tick(),
            Event::GiveWay { client } => self.give_way(client),
            Event::Drain => self.intake = Intake::Draining,
            Event::End(reason) => self.end(reason),
        }
    }

    /// Restores what always holds between events: no client waits for a handshake that is over, no message waits for a stream that is there, a leaving client without
    /// a request in flight is gone, and the session has ended if there was a reason. The union settles itself.
    fn settle(&mut self) {
        self.settle_joining();
        self.flush_waiting();
        self.remove_clients(EndReason::ClientLeft, |client| client.is_leaving() && client.requests_in_flight() == 0);
        self.take_out_gone_clients();
        if let Some(reason) = self.ending.take() {
            self.ended(reason);
        }
    }

    /// Drops what is kept for a client that may come back: the client is told if it does.
    fn give_way(&mut self, client: ClientId) {
        let limit = self.limits.replay_bytes;
        self.pending.replace_parts(client, |id| ProxyError::ResponseDropped { limit }.to_wire(Some(id)));
        let Some(client) = self.clients.get_mut(client) else { return };
        client.outbox.drop_kept();
        for dropped in client.waiting.take() {
            if let ClientMessageKind::ServerRequest(number) = dropped.kind {
                self.fail_server_request(number, &ProxyError::Undeliverable);
            }
        }
    }

    /// Removes the clients of which `is_gone` is true. The session ends with the last one, if no other client can find
    /// it.
    fn remove_clients(&mut self, reason: EndReason, is_gone: impl Fn(&Client) -> bool) {
        for client in self.clients.iter_mut().filter(|client| is_gone(client)) {
            client.phase = ClientPhase::Gone { why: reason.name() };
        }
        if self.shared.is_none() && self.clients.are_gone() {
            self.end(reason);
        }
    }

    fn remove_client(&mut self, id: ClientId, reason: EndReason) {
        self.remove_clients(reason, |client| client.id == id);
    }

    /// The session ends when the event at hand is dealt with. The first reason counts.
    fn end(&mut self, reason: EndReason) {
        self.ending.get_or_insert(reason);
    }

    /// Every client request gets its response, every stream is closed; then nothing more happens.
    fn ended(&mut self, reason: EndReason) {
        self.intake = Intake::Ended;
        // A server that had answered the handshake had a state that is lost now.
        let had_state = self.links.iter().any(|(_, phase)| phase.answer().is_some());
        let error = reason.request_error(self.label(), had_state, self.expose_stderr);
        let brief = reason.request_error(self.label(), had_state, false);
        for (place, request) in self.pending.take_client_requests().into_iter().enumerate() {
            self.respond_with_error(request, if place < MOST_STDERR_QUOTES { &error } else { &brief });
        }
        for client in self.clients.iter_mut() {
            let closed = client.outbox.detach_all().into_iter().map(|stream| Effect::Close { stream });
            self.effects.extend(closed);
        }
        self.effects.push(Effect::Ended(reason));
    }

    /// The client requests without a response; those that sessile itself has made for its clients are not counted.
    pub(crate) fn requests_in_flight(&self) -> usize {
        if self.shared.is_none() {
            return self.pending.client_requests_open();
        }
        self.clients.iter().map(Client::requests_in_flight).sum()
    }

    /// The session's name, and how many times a session of its key was started.
    pub(super) fn label(&self) -> (&Arc<str>, u64) {
        (&self.name, self.shared.as_ref().map_or(1, |shared| shared.generation))
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.intake == Intake::Ended
    }
}
