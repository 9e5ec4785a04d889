//! Where a stream of events can be taken up again, and what has come on it. Pure.

use std::time::Duration;

use bytes::Bytes;

/// Where a stream can be taken up again, and when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct StreamPosition {
    /// The id of the last event, to be sent as `Last-Event-ID`. `None` if there was none, or none that can be sent.
    pub id: Option<Bytes>,
    /// How long the server wants a client to wait before it comes again.
    pub retry: Option<Duration>,
}

/// What came on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StreamProgress {
    /// Nothing, or only what had come before.
    Nothing,
    /// Events without data: a place from which to go on.
    PositionsOnly,
    /// Messages, or parts of some.
    Messages,
}
