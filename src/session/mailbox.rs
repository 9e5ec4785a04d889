//! What a session's actor is sent: by fronts, links and timers.

use std::sync::Arc;

use ractor::RpcReplyPort;

use super::connection::ConnectionSender;
use super::facts::ClientFacts;
use super::state::{ClientId, Event};
use super::{Attachment, StreamId, StreamKind};
use crate::frame::Permit;

pub(super) enum SessionMessage {
    /// A connection carries that stream from now on.
    Attach {
        client: ClientId,
        stream: StreamId,
        attachment: Attachment,
        kind: StreamKind,
        after: Option<u64>,
        sender: ConnectionSender,
    },
    /// A client wants to join the session. The reply says whether it has.
    Join { client: Arc<ClientFacts>, reply: RpcReplyPort<bool> },
    /// `permit` is for what the event takes in the mailbox, where its frames have no permits of their own.
    Event { event: Event, permit: Option<Permit> },
    /// The connection of that stream is given up, because its client does not read.
    GivenUp { stream: StreamId, attachment: Attachment },
    /// A deadline of the core may have come.
    Tick,
}

#[cfg(test)]
#[test]
fn a_message_stays_small() {
    // A message is moved into a box and out again for the mailbox.
    assert!(size_of::<SessionMessage>() <= 256, "{}", size_of::<SessionMessage>());
}
