//! Where a stream of events can be taken up again, and what has come on it. Pure.

use std::time::Duration;

use bytes::Bytes;

/// From where on a stream can be resumed, and how soon.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct StreamPosition {
    /// The id of the last event, for `Last-Event-ID`. `None` if no event had an id, or the last id cannot stand in a
    /// header.
    pub id: Option<Bytes>,
    /// How long the server asks its client to wait before it reconnects (the `retry` field).
    pub retry: Option<Duration>,
}

/// How far a stream has got its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StreamProgress {
    /// No event, or only a repetition of the last event before the stream was resumed.
    Nothing,
    /// Events without data: a newer position to resume from, and no message.
    PositionsOnly,
    /// At least one message.
    Messages,
}
