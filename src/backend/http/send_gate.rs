//! What the next message of a link waits for: that the one before it has been sent, so that messages reach the server in
//! their order although each has a request of its own.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// How long a call may keep the next message waiting until it has been written.
pub(super) const WRITE_WAIT: Duration = Duration::from_secs(1);
/// How long a notification or answer may keep the next message waiting until it has been accepted.
pub(super) const ACCEPT_WAIT: Duration = Duration::from_secs(3);

/// Fires when it is dropped.
pub(super) type SentSignal = oneshot::Sender<()>;

/// What the next message waits for.
pub(super) struct SendGate {
    pub sent_signal: oneshot::Receiver<()>,
    pub until: Instant,
}

impl SendGate {
    /// A gate that opens when what comes with it is dropped, or at the latest after this time.
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
