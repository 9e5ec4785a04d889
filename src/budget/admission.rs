//! Charges what a peer has sent, one body, line or event, before it is handed on.

use super::{Budget, OVERHEAD, Priority};
use crate::frame::{Frame, FrameError, Incoming, Kind, Permit};
use crate::mcp;

/// The charge for a message that could not be read: it covers the event that reports the message, and the error that
/// may be sent back. The message itself was dropped by then.
const UNREADABLE_CHARGE: usize = 2048;

impl Budget {
    /// Waits until the messages that came in `size` bytes can be charged, and gives them their permit. A large message
    /// has one already, `grown`, since it was received. The permit that is returned beside the messages, or the error,
    /// is to be dropped as soon as the session has dealt with them: it is the permit of a message that could not be
    /// read, or the [turn](Self::unread_turn) of one that no client reads.
    ///
    /// `answers` is the budget for messages that sessile itself sends to the same peer. While the peer leaves too much
    /// of those unread, only its responses and cancellations are let in.
    pub(crate) async fn let_in(
        &self,
        received: Result<Incoming, FrameError>,
        size: usize,
        grown: Option<Permit>,
        answers: &Self,
    ) -> (Result<Incoming, FrameError>, Option<Permit>) {
        let incoming = match received {
            Ok(incoming) => incoming,
            Err(error) => {
                drop(grown);
                return (Err(error), Some(self.unreadable(answers).await));
            }
        };
        let (priority, messages) = match &incoming {
            Incoming::One(frame) => (priority_of(frame), 1),
            Incoming::Batch(frames) => (Priority::Ordinary, frames.len()),
        };
        if priority == Priority::Ordinary {
            answers.wait_until_solvent().await;
        }
        let permit = match grown {
            None => self.charge(size.saturating_add(OVERHEAD.saturating_mul(messages)), priority).await.into_permit(),
            // A large message holds bytes that others may wait for, so it must not wait for more itself: two such
            // messages could wait for each other.
            Some(grown) if messages > 1 => grown.and(self.force(OVERHEAD.saturating_mul(messages - 1))),
            Some(grown) => grown,
        };
        (Ok(incoming.with_permit(permit)), self.unread_turn().await)
    }

    /// Waits until a message can be charged that could not be read or kept. `answers` is as for
    /// [`let_in`](Self::let_in).
    pub(crate) async fn unreadable(&self, answers: &Self) -> Permit {
        answers.wait_until_solvent().await;
        let permit = self.charge(UNREADABLE_CHARGE, Priority::Ordinary).await.into_permit();
        match self.unread_turn().await {
            Some(turn) => permit.and(turn),
            None => permit,
        }
    }
}

/// Responses and cancellations are urgent: a peer waits for a response, and a cancellation ends work. No other message
/// may hold them up.
fn priority_of(frame: &Frame) -> Priority {
    let is_urgent = frame.kind() == Kind::Response || frame.method() == Some(mcp::CANCELLED);
    if is_urgent { Priority::Urgent } else { Priority::Ordinary }
}
