//! Budgets for the tests of other modules.

use super::{Bounds, Budget, Pool, Priority, RESERVE};
use crate::frame::Permit;

impl Budget {
    /// A budget that no test uses up.
    pub(crate) fn ample() -> Self {
        let (pool, largest) = (1 << 30, 1 << 28);
        Pool::new(Bounds { pool, largest, share: pool, reserve: RESERVE, keep: 1 << 20 }).open()
    }

    /// The budget of one session, in a pool of `pool` bytes with messages of up to `largest` bytes.
    pub(crate) fn of(pool: usize, largest: usize) -> Self {
        Pool::new(Bounds { pool, largest, share: pool, reserve: RESERVE, keep: pool }).open()
    }

    /// A budget in which no request or notification can be charged for as long as the permit is held.
    pub(crate) async fn full() -> (Self, Permit) {
        let budget = Self::of(0, 1 << 20);
        let half = budget.charge(RESERVE / 2, Priority::Ordinary).await.into_permit();
        (budget, half)
    }
}
