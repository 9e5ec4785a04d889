//! A charge: how many bytes, and in which place.

/// The urgency of a message, which decides how much of the reserve it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    /// Requests and notifications.
    Ordinary,
    /// Responses and cancellations: a peer waits for them.
    Urgent,
}

/// Whether a message, as far as it has come, is small. An eighth of the pool is for small messages alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SizeClass {
    Small,
    Large,
}

impl SizeClass {
    pub(super) fn of(bytes: usize) -> Self {
        if bytes <= SMALL_MESSAGE { Self::Small } else { Self::Large }
    }
}

/// The largest message that is small, in bytes.
const SMALL_MESSAGE: usize = 256 * 1024;

/// The place in the ledger where bytes are charged; see the head of `ledger.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::budget) enum ChargePlace {
    Reserve(Priority),
    Share,
    Large,
    Kept,
    Owed,
}

impl ChargePlace {
    /// Whether the bytes are taken from the pool that all sessions share.
    pub(in crate::budget) fn is_pool(self) -> bool {
        !matches!(self, Self::Reserve(_) | Self::Owed)
    }
}

/// Bytes that were charged to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::budget) struct Charge {
    pub place: ChargePlace,
    pub bytes: usize,
    /// How many of these bytes are in the pool's lane.
    pub lane: usize,
}

impl Charge {
    /// How many of these bytes are taken from the pool that all sessions share.
    pub(in crate::budget) fn pooled(self) -> usize {
        if self.place.is_pool() { self.bytes } else { 0 }
    }
}
