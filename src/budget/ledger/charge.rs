//! What is charged, and where.

/// What a message is for, which decides how much of the reserve it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    /// Requests and notifications.
    Ordinary,
    /// Responses and cancellations: a peer waits for them, and is held up by their delay.
    Urgent,
}

/// Whether a message is so small, as far as it has come, that an eighth of the pool is for such as it alone.
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

/// Where charged bytes stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::budget) enum ChargePlace {
    Reserve(Priority),
    Share,
    Large,
    Kept,
    Owed,
}

impl ChargePlace {
    /// Whether other sessions could have these bytes.
    pub(in crate::budget) fn is_pool(self) -> bool {
        !matches!(self, Self::Reserve(_) | Self::Owed)
    }
}

/// Bytes that were charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::budget) struct Charge {
    pub place: ChargePlace,
    pub bytes: usize,
    /// How many of these bytes are in the pool's lane.
    pub lane: usize,
}

impl Charge {
    /// How many of these bytes other sessions could have.
    pub(in crate::budget) fn pooled(self) -> usize {
        if self.place.is_pool() { self.bytes } else { 0 }
    }
}
