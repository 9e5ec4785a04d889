//! The messages that a session hands to its HTTP link, whichever transport the link turns out to speak.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::backend::queue_writer::{fail_unsent, may_be_dropped};
use crate::link::{LinkEvents, MessageToServer};

/// The messages of a session for its link, and what the session tells the link besides.
pub(super) struct LinkInput {
    outgoing: mpsc::Receiver<MessageToServer>,
    /// Messages that [`LinkInput::give_way`] has taken out of `outgoing` and that are still to be sent.
    kept: VecDeque<MessageToServer>,
    /// Notified when the server is stalled and other sessions need the memory of the messages that wait for it.
    pub stalled: Arc<Notify>,
    pub stop: CancellationToken,
}

impl LinkInput {
    pub(super) fn new(
        outgoing: mpsc::Receiver<MessageToServer>,
        stalled: Arc<Notify>,
        stop: CancellationToken,
    ) -> Self {
        Self { outgoing, kept: VecDeque::new(), stalled, stop }
    }

    /// Returns the next message, or `None` when the session has no more. No message is lost if the future is dropped.
    pub(super) async fn next(&mut self) -> Option<MessageToServer> {
        match self.kept.pop_front() {
            Some(message) => Some(message),
            None => self.outgoing.recv().await,
        }
    }

    /// Drops the queued messages whose memory other sessions need, and fails their calls: nothing of them was sent.
    pub(super) fn give_way(&mut self, link_events: &dyn LinkEvents) {
        while let Ok(message) = self.outgoing.try_recv() {
            self.kept.push_back(message);
        }
        for message in std::mem::take(&mut self.kept) {
            if may_be_dropped(&message) {
                fail_unsent(&message, link_events);
            } else {
                self.kept.push_back(message);
            }
        }
    }
}
