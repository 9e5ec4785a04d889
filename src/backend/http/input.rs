//! What a session hands to its HTTP link, whichever transport the link turns out to speak.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::backend::queue_writer::{fail_unsent, may_be_dropped};
use crate::link::{Inlet, Outward};

/// The session's end of a link.
pub(super) struct LinkInput {
    outgoing: mpsc::Receiver<Outward>,
    /// Messages that were taken out of `outgoing` and not sent yet.
    kept: VecDeque<Outward>,
    /// Notified when the server is stalled and others need the memory of what waits for it.
    pub stalled: Arc<Notify>,
    pub stop: CancellationToken,
}

impl LinkInput {
    pub(super) fn new(outgoing: mpsc::Receiver<Outward>, stalled: Arc<Notify>, stop: CancellationToken) -> Self {
        Self { outgoing, kept: VecDeque::new(), stalled, stop }
    }

    /// The next message; `None` if there will be none. Nothing is lost if the future is dropped.
    pub(super) async fn next(&mut self) -> Option<Outward> {
        match self.kept.pop_front() {
            Some(message) => Some(message),
            None => self.outgoing.recv().await,
        }
    }

    /// Drops the messages that others need the memory of, and fails their calls: nothing of them was sent.
    pub(super) fn give_way(&mut self, inlet: &dyn Inlet) {
        while let Ok(message) = self.outgoing.try_recv() {
            self.kept.push_back(message);
        }
        for message in std::mem::take(&mut self.kept) {
            if may_be_dropped(&message) {
                fail_unsent(&message, inlet);
            } else {
                self.kept.push_back(message);
            }
        }
    }
}
