//! How many bytes may be under way at once.
//!
//! Mailboxes are unbounded, so the bound stands in front of them: a reader takes a permit for a frame *before* it casts
//! the frame, and the permit travels with the bytes until they are written or dropped.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::frame::Permit;

/// What a frame costs besides its bytes: its spans, and its place in a mailbox and a queue.
const OVERHEAD: usize = 256;

/// The room for one direction of one session, below the room for the whole process.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    own: Room,
    process: Room,
}

/// So many bytes.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    free: Arc<Semaphore>,
    size: u32,
}

impl Room {
    pub(crate) fn new(bytes: usize) -> Self {
        let size = u32::try_from(bytes.clamp(1, Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        Self { free: Arc::new(Semaphore::new(size as usize)), size }
    }

    /// What a frame of so many bytes takes: one that is larger than the room takes all of it.
    fn charge(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.saturating_add(OVERHEAD)).unwrap_or(u32::MAX).min(self.size)
    }

    fn is_empty(&self) -> bool {
        self.free.available_permits() == self.size as usize
    }
}

/// Never read: its drop gives the room back.
struct Held {
    _own: OwnedSemaphorePermit,
    _process: Option<OwnedSemaphorePermit>,
}

impl Budget {
    pub(crate) fn new(bytes: usize, process: Room) -> Self {
        Self { own: Room::new(bytes), process }
    }

    /// How many messages a queue behind this budget must hold: all that it lets through, and what bypasses it, of which
    /// there is at most one for each request in flight in either direction, and its cancellation.
    pub(crate) fn queue(&self, in_flight: usize) -> usize {
        (self.own.size as usize / OVERHEAD).saturating_add(in_flight.saturating_mul(4)).saturating_add(64)
    }

    /// Waits until there is room for a frame of so many bytes.
    ///
    /// One frame of a session may always be under way, however full the process is: so sessions whose clients do not
    /// read can slow a busy session, but never stop one.
    pub(crate) async fn admit(&self, bytes: usize) -> Option<Permit> {
        let alone = self.own.is_empty();
        let own = self.own.free.clone().acquire_many_owned(self.own.charge(bytes)).await.ok()?;
        let process = if alone {
            None
        } else {
            Some(self.process.free.clone().acquire_many_owned(self.process.charge(bytes)).await.ok()?)
        };
        Some(Permit::new(Held { _own: own, _process: process }))
    }

    /// Takes what room there is, without waiting: for what must not wait for what is behind it, such as answers.
    pub(crate) fn admit_now(&self, bytes: usize) -> Option<Permit> {
        let free = u32::try_from(self.own.free.available_permits()).unwrap_or(u32::MAX);
        let own = self.own.free.clone().try_acquire_many_owned(self.own.charge(bytes).min(free)).ok()?;
        Some(Permit::new(Held { _own: own, _process: None }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    async fn waits<T>(future: impl Future<Output = T>) -> bool {
        timeout(Duration::from_secs(1), future).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_budget_waits_and_answers_do_not() {
        let budget = Budget::new(2000, Room::new(10_000));
        let first = budget.admit(1500).await;
        assert!(waits(budget.admit(1500)).await);
        assert!(budget.admit_now(1500).is_some());
        drop(first);
        assert!(budget.admit(1500).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_larger_than_the_budget_takes_all_of_it() {
        let budget = Budget::new(2000, Room::new(10_000));
        let large = budget.admit(1_000_000).await;
        assert!(waits(budget.admit(1)).await);
        drop(large);
        assert!(budget.admit(1).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn one_session_cannot_stop_another() {
        let process = Room::new(1000);
        let (greedy, modest) = (Budget::new(100_000, process.clone()), Budget::new(100_000, process));
        let _held = (greedy.admit(10).await, greedy.admit(5000).await);
        assert!(waits(greedy.admit(10)).await, "the process is full");
        let first = modest.admit(5000).await;
        assert!(first.is_some(), "one frame is always let through");
        assert!(waits(modest.admit(10)).await);
        drop(first);
        assert!(modest.admit(5000).await.is_some());
    }
}
