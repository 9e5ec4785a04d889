//! Lets in what a peer has sent: one body, line or event, whatever is in it.

use super::{Budget, OVERHEAD, Priority};
use crate::frame::{Frame, FrameError, Incoming, Kind, Permit};

/// What an unreadable message is charged for: the event that tells of it, and the error that may be its response. The
/// message itself is gone by then.
const UNREADABLE_CHARGE: usize = 2048;

impl Budget {
    /// Waits until what came in `size` bytes can be charged, and gives it its permit, unless `grown` is the one that it was
    /// received with. The permit of a message that could not be read comes beside the error.
    ///
    /// `answers` is the budget of what sessile itself says to whoever has sent it: who leaves too much of that unread is
    /// not listened to, but for its responses and cancellations.
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
            Incoming::One(frame) => (priority(frame), 1),
            Incoming::Batch(frames) => (Priority::Ordinary, frames.len()),
        };
        if priority == Priority::Ordinary {
            answers.wait_until_solvent().await;
        }
        let permit = match grown {
            None => self.charge(size.saturating_add(OVERHEAD.saturating_mul(messages)), priority).await.into_permit(),
            // It must not wait for more while it holds what others may wait for.
            Some(grown) if messages > 1 => grown.and(self.force(OVERHEAD.saturating_mul(messages - 1))),
            Some(grown) => grown,
        };
        (Ok(incoming.with_permit(permit)), None)
    }

    /// Waits until a message can be charged that could not be read, or not be kept. `answers` is as for
    /// [`let_in`](Self::let_in).
    pub(crate) async fn unreadable(&self, answers: &Self) -> Permit {
        answers.wait_until_solvent().await;
        self.charge(UNREADABLE_CHARGE, Priority::Ordinary).await.into_permit()
    }
}

/// Somebody waits for a response, and a cancellation ends something: both are held up by no other message.
fn priority(frame: &Frame) -> Priority {
    let is_urgent = frame.kind() == Kind::Response || frame.method() == Some("notifications/cancelled");
    if is_urgent { Priority::Urgent } else { Priority::Ordinary }
}
