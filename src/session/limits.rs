//! The bounds that a session keeps to.

use std::time::Duration;

/// Longer than any session lives. A deadline that is further away could overflow when it is added to the time.
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The bounds that a session keeps to. All of them come from the configuration and stay as they are for its life.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// How long a session may be idle, `None` for ever. What idle means stands at `State::busy_until`.
    pub idle_timeout: Option<Duration>,
    /// How long a lost stream may be resumed, and a client without any stream counts as present.
    pub lost_stream: Duration,
    /// How long a server request waits for a stream that can carry it.
    pub stream_wait: Duration,
    /// How long a client may leave a connection unread that is sent keep-alives.
    pub stall: Duration,
    /// How long a client request may take, `None` for ever.
    pub request_timeout: Option<Duration>,
    /// How long the handshake and lists wait for the slowest of several servers.
    pub server_wait: Duration,
    /// How long client requests in flight may go on after the client's input has ended.
    pub drain: Duration,
    /// Bytes kept for clients that resume a stream.
    pub replay_bytes: usize,
    /// Most client requests in flight, and most server requests without a response.
    pub in_flight: usize,
    /// The largest message, in bytes: to be named in errors, and the bound of the response to a batch or a merged list.
    pub message_size: usize,
}

impl Limits {
    /// The same limits, with all durations so short that they can be added to the time.
    pub(crate) fn without_overflow(self) -> Self {
        Self {
            idle_timeout: self.idle_timeout.filter(|timeout| *timeout < CENTURY),
            lost_stream: self.lost_stream.min(CENTURY),
            stream_wait: self.stream_wait.min(CENTURY),
            stall: self.stall.min(CENTURY),
            request_timeout: self.request_timeout.filter(|timeout| *timeout < CENTURY),
            drain: self.drain.min(CENTURY),
            server_wait: self.server_wait.min(CENTURY),
            ..self
        }
    }
}
