//! Streams to a client: what kinds there are, and which have a connection.

use std::collections::BTreeSet;

/// A stream of messages to a client; its number is unique within the session and part of its event ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct StreamId(pub u64);

/// One connection that carries a stream. A stream that was resumed has had several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attachment(pub u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamKind {
    /// Carries everything in both directions: stdio, in-process.
    Duplex,
    /// The stream of the HTTP+SSE transport of 2024-11-05: carries everything to the client, and lasts as long as the
    /// session.
    Sse,
    /// The SSE response to a POST: ends with the last answer to what was posted.
    Post,
    /// The JSON response to a POST: carries the answer and nothing else, and cannot be resumed.
    Single,
    /// The SSE response to a GET: lasts as long as the client likes.
    Get,
}

impl StreamKind {
    pub(super) fn is_resumable(self) -> bool {
        matches!(self, Self::Post | Self::Get)
    }

    /// Whether its connection is sent something even when there is nothing to say.
    pub(crate) fn is_kept_alive(self) -> bool {
        self != Self::Duplex && self != Self::Single
    }

    /// Whether its connection is the session: one ends with the other.
    pub(crate) fn is_session(self) -> bool {
        matches!(self, Self::Duplex | Self::Sse)
    }

    pub(super) fn ends_with_its_requests(self) -> bool {
        matches!(self, Self::Post | Self::Single)
    }
}

/// The streams that have a connection, in the order in which they got it.
#[derive(Debug, Default)]
pub(super) struct OpenStreams {
    pub lasting: BTreeSet<(u64, StreamId)>,
    pub posts: BTreeSet<(u64, StreamId)>,
    /// Of these it is enough to know how many there are: they carry nothing but their answer.
    singles: usize,
}

impl OpenStreams {
    pub(super) fn insert(&mut self, kind: StreamKind, order: u64, stream: StreamId) {
        match kind {
            StreamKind::Duplex | StreamKind::Sse | StreamKind::Get => _ = self.lasting.insert((order, stream)),
            StreamKind::Post => _ = self.posts.insert((order, stream)),
            StreamKind::Single => self.singles += 1,
        }
    }

    pub(super) fn remove(&mut self, kind: StreamKind, order: u64, stream: StreamId) {
        match kind {
            StreamKind::Duplex | StreamKind::Sse | StreamKind::Get => _ = self.lasting.remove(&(order, stream)),
            StreamKind::Post => _ = self.posts.remove(&(order, stream)),
            StreamKind::Single => self.singles = self.singles.saturating_sub(1),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lasting.is_empty() && self.posts.is_empty() && self.singles == 0
    }
}
