//! Lets in one after another what servers say to clients that do not read.
//!
//! A client that does not read has its connection closed when others need the memory. From then on nothing slows its
//! server: what it says is kept for a client that may come back, or is dropped, as fast as the server says it. Three
//! hundred such servers at once would keep each message of every other session waiting in the runtime's queue behind a
//! burst of each of them. So only a few messages that nobody reads are dealt with at a time.

use std::sync::atomic::Ordering;

use super::Budget;
use crate::frame::Permit;

/// How many messages that nobody reads may be dealt with at once, in the whole process.
pub(super) const UNREAD_TURNS: usize = 4;

impl Budget {
    /// Sets whether nobody reads what is let in by this budget: the last message of a server went to no connection.
    pub(crate) fn set_unread(&self, is_unread: bool) {
        self.0.is_unread.store(is_unread, Ordering::Relaxed);
    }

    /// Waits for a turn if nobody reads what is let in. The turn is over when the permit is dropped, which has to be as
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
