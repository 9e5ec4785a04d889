//! What the next message of a link waits for: that the one before it has been sent, so that messages reach the server
//! in their order although each has a request of its own.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// How long a call may keep the next message waiting until it has been written.
pub(super) const WRITE_WAIT: Duration = Duration::from_secs(1);
/// How long a notification or response may keep the next message waiting until the server has accepted it.
pub(super) const ACCEPT_WAIT: Duration = Duration::from_secs(3);

/// Dropped when a message has been sent, which opens the [`SendGate`] behind it. It is never sent a value.
pub(super) type SentSignal = oneshot::Sender<()>;

/// Holds up the next message until the one before it has been sent, or until a time limit.
pub(super) struct SendGate {
    pub sent_signal: oneshot::Receiver<()>,
    pub until: Instant,
}

impl SendGate {
    /// Returns a gate, and the signal that opens it. The gate opens after `longest` at the latest.
    pub(super) fn new(longest: Duration) -> (SentSignal, Option<Self>) {
        let (sent_signal, waiting) = oneshot::channel();
        (sent_signal, Some(Self { sent_signal: waiting, until: Instant::now() + longest }))
    }

    pub(super) async fn wait(gate: &mut Option<Self>) {
        if let Some(Self { sent_signal, until }) = gate {
            let _ = timeout_at(*until, sent_signal).await;
        }
    }
}
