//! One client of a session, and all that belongs to it alone.
//!
//! ```text
//!         `initialize`                    its result
//!   New ────────────────▶ Initializing ───────────────▶ Ready
//!    ▲                         │
//!    └─────────────────────────┘ an error, on a connection that lasts: the client may try again
//!
//!   Initializing ─▶ Gone     an error on any other connection; the connection lost; no response in time
//!   New, Initializing, Ready ─▶ Leaving     the input ended
//!   Leaving ─▶ Gone          no request left in flight; the drain over
//!   any ─▶ Gone              the connection lost that is all that the client has
//! ```

use std::collections::HashMap;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::capabilities::ClientCapabilities;
use super::outbox::ROOMY;
use super::shared::{LogLevel, Subscriptions};
use super::{Keeper, Outbox, StreamId, Waiting};
use crate::frame::Id;
use crate::session::Limits;

/// Most clients of a session at once.
pub(crate) const MOST_CLIENTS: usize = 256;

/// Which client of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ClientId(pub u32);

impl ClientId {
    /// The client that has opened the session.
    pub(crate) const FIRST: Self = Self(0);
}

/// A stream of a client, where a message can go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Destination {
    pub client: ClientId,
    pub stream: StreamId,
}

/// Where a client is in its life; see the diagram at the top of this file.
#[derive(Debug)]
pub(super) enum ClientPhase {
    New,
    /// The client's `initialize`, which has this number and came on that stream, has no response yet.
    Initializing {
        request: u64,
        stream: StreamId,
    },
    Ready,
    /// The client will send nothing more. Its requests in flight may go on until `deadline`.
    Leaving {
        deadline: Instant,
    },
    /// Gone, for this reason.
    Gone {
        why: &'static str,
    },
}

/// A client, with what it is owed and what is kept for it.
#[derive(Debug)]
pub(super) struct Client {
    pub id: ClientId,
    pub phase: ClientPhase,
    /// The protocol version that the client has asked for, until it has its answer; then the one that it was told.
    pub version: Option<Box<str>>,
    /// What the client has declared in `initialize`.
    pub capabilities: ClientCapabilities,
    /// The least severe log messages that the client wants, if it has said so.
    pub log_level: Option<LogLevel>,
    /// The resources to which the client has subscribed, where several clients may have.
    pub subscriptions: Subscriptions,
    /// When the client was last heard of: it sent something, or a connection of it came or went.
    pub last_seen: Instant,
    /// The requests of this client that have no response, by the client's own ids. Two clients may use one id.
    in_flight: HashMap<Id, u64>,
    /// The client's streams, and since when it has none open.
    pub outbox: Outbox,
    /// Messages for this client that no stream of it can carry now.
    pub waiting: Waiting,
    /// Gives permits for what is kept for this client.
    pub keeper: Keeper,
}

impl Client {
    pub(super) fn new(id: ClientId, limits: &Limits, now: Instant) -> Self {
        Self {
            id,
            phase: ClientPhase::New,
            version: None,
            capabilities: ClientCapabilities::default(),
            log_level: None,
            subscriptions: Subscriptions::default(),
            last_seen: now,
            in_flight: HashMap::new(),
            outbox: Outbox::new(limits),
            waiting: Waiting::new(limits.replay_bytes),
            keeper: Keeper::default(),
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(self.phase, ClientPhase::Ready)
    }

    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.phase, ClientPhase::Leaving { .. })
    }

    /// Whether the client has an `initialize` in flight that came on this stream.
    pub(super) fn initializes_on(&self, stream: StreamId) -> bool {
        matches!(self.phase, ClientPhase::Initializing { stream: of, .. } if of == stream)
    }

    /// The number of the request in flight to which the client has given this id.
    pub(super) fn request_of(&self, id: &Id) -> Option<u64> {
        self.in_flight.get(id).copied()
    }

    /// The numbers of the requests in flight.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.in_flight.values().copied()
    }

    pub(super) fn request_began(&mut self, id: Id, number: u64) {
        self.in_flight.insert(id, number);
    }

    pub(super) fn request_ended(&mut self, id: &Id) {
        self.in_flight.remove(id);
        if self.in_flight.is_empty() && self.in_flight.capacity() > ROOMY {
            self.in_flight.shrink_to_fit();
        }
    }

    pub(super) fn requests_in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether the client has had no open stream for so long that nobody waits for its requests any more.
    pub(super) fn is_absent(&self, now: Instant) -> bool {
        self.outbox.gone_at().is_some_and(|gone| gone <= now)
    }

    /// Whether the client has an open stream that lasts, or a request in flight and is there for its response.
    pub(super) fn is_busy(&self, now: Instant) -> bool {
        self.outbox.is_listening() || self.requests_in_flight() > 0 && !self.is_absent(now)
    }

    /// The last time at which the client was busy, `now` if it still is, `None` if it is idle. A client that has gone
    /// away from its requests was busy until then.
    pub(super) fn busy_until(&self, now: Instant) -> Option<Instant> {
        if self.outbox.is_listening() {
            return Some(now);
        }
        let gone = self.outbox.gone_at().unwrap_or(now);
        (self.requests_in_flight() > 0).then(|| gone.min(now))
    }

    /// When a client of a session that outlives its clients is forgotten, if it has no open stream and nobody waits for
    /// a response to it.
    pub(super) fn forgotten_at(&self, after: Duration) -> Option<Instant> {
        let waits = self.requests_in_flight() > 0 && self.outbox.gone_at().is_none();
        if self.outbox.has_open_stream() || waits {
            return None;
        }
        Some(self.last_seen + after)
    }

    /// The next deadline of this client.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let leaving = match self.phase {
            ClientPhase::Leaving { deadline } => Some(deadline),
            _ => None,
        };
        [leaving, self.waiting.next_deadline(), self.outbox.next_deadline()].into_iter().flatten().min()
    }

    /// How many entries there is room for in the table of ids.
    #[cfg(test)]
    pub(super) fn capacity_for_ids(&self) -> usize {
        self.in_flight.capacity()
    }
}

/// All clients of a session.
#[derive(Debug)]
pub(super) struct Clients(SmallVec<[Client; 1]>);

impl Clients {
    /// The client that opens the session, and no other yet.
    pub(super) fn new(limits: &Limits, now: Instant) -> Self {
        Self(std::iter::once(Client::new(ClientId::FIRST, limits, now)).collect())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, client: Client) {
        self.0.push(client);
    }

    pub(super) fn remove(&mut self, id: ClientId) -> Option<Client> {
        let place = self.0.iter().position(|client| client.id == id)?;
        Some(self.0.remove(place))
    }

    /// The client of a session that has just one.
    pub(super) fn only(&self) -> Option<ClientId> {
        self.0.first().map(|client| client.id)
    }

    pub(super) fn get(&self, id: ClientId) -> Option<&Client> {
        self.0.iter().find(|client| client.id == id)
    }

    pub(super) fn get_mut(&mut self, id: ClientId) -> Option<&mut Client> {
        self.0.iter_mut().find(|client| client.id == id)
    }

    /// The client that has this stream. The numbers of streams are unique in a session.
    pub(super) fn of_stream(&mut self, stream: StreamId) -> Option<&mut Client> {
        self.0.iter_mut().find(|client| client.outbox.knows(stream))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Client> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Client> {
        self.0.iter_mut()
    }

    /// Whether the session has no client any more.
    pub(super) fn are_gone(&self) -> bool {
        self.0.iter().all(|client| matches!(client.phase, ClientPhase::Gone { .. }))
    }

    /// Whether a server's message can go there now.
    pub(super) fn carries(&self, to: Destination) -> bool {
        self.get(to.client).is_some_and(|client| client.outbox.carries(to.stream))
    }

    /// Whether a message that goes there reaches its client now, or when the client resumes the stream.
    pub(super) fn will_carry(&self, to: Destination) -> bool {
        self.get(to.client).is_some_and(|client| client.outbox.will_carry(to.stream))
    }
}
