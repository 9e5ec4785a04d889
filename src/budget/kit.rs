//! Budgets for tests of those who use them.

use super::{Bounds, Budget, Pool, Priority, RESERVE};
use crate::frame::Permit;

impl Budget {
    /// One that is never used up.
    pub(crate) fn ample() -> Self {
        let (pool, largest) = (1 << 30, 1 << 28);
        Pool::new(Bounds { pool, largest, share: pool, reserve: RESERVE, keep: 1 << 20 }).open()
    }

    /// One session's in a pool of so many bytes, with so many for the largest message.
    pub(crate) fn of(pool: usize, largest: usize) -> Self {
        Pool::new(Bounds { pool, largest, share: pool, reserve: RESERVE, keep: pool }).open()
    }

    /// One in which no request or notification has a place for as long as the permit is held.
    pub(crate) async fn full() -> (Self, Permit) {
        let budget = Self::of(0, 1 << 20);
        let half = budget.charge(RESERVE / 2, Priority::Ordinary).await.into_permit();
        (budget, half)
    }
}
