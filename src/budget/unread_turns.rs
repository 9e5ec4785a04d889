//! Lets in a few at a time what servers say to clients that do not read.
//!
//! A client that does not read has its connection closed when others need the memory. From then on nothing slows its
//! server: what it says is kept for a client that may come back, or is dropped, as fast as the server says it. Before
//! that, the server fills what its session may have under way. Three hundred such servers at once would keep each
//! message of every other session waiting in the runtime's queue behind a burst of each of them (1500 notifications and
//! 16 calls took 2.2 s in place of 0.1). So only a few messages are dealt with at a time that no client waits for.

use std::sync::atomic::Ordering;

use super::Budget;
use crate::frame::Permit;

/// How many messages that nobody waits for may be dealt with at once, in the whole process: enough for all processors,
/// since a message passes from a reader to an actor.
pub(super) fn unread_turns() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (2 * processors).max(4)
}

impl Budget {
    /// Sets whether nobody waits for what is let in by this budget: the last message of a server went to no connection,
    /// or to one whose client has not read what was sent before.
    pub(crate) fn set_unread(&self, is_unread: bool) {
        self.0.is_unread.store(is_unread, Ordering::Relaxed);
    }

    /// Waits for a turn if nobody waits for what is let in. The turn is over when the permit is dropped, which has to be as
    /// soon as the session has dealt with the message.
    pub(super) async fn unread_turn(&self) -> Option<Permit> {
        if !self.0.is_unread.load(Ordering::Relaxed) {
            return None;
        }
        let turns = self.0.pool.unread_turns.clone();
        // The semaphore is never closed.
        turns.acquire_owned().await.ok().map(Permit::new)
    }
}
