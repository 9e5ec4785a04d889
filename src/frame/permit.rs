//! The proof that a frame has been paid for.

use std::fmt;

/// Proof that room for a frame was reserved in a byte budget. It travels with the frame and then with its wire, and
/// what it holds is dropped, and so given back, when the last of the bytes are.
///
/// A plain trait object, so that the core knows no runtime's semaphores.
pub struct Permit(Box<dyn Send + Sync>);

impl Permit {
    /// A permit that holds on to `held`.
    pub fn new(held: impl Send + Sync + 'static) -> Self {
        Self(Box::new(held))
    }

    /// A permit that holds on to what both do.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::new((self.0, other.0))
    }

    /// Adds `more` to what `slot` holds: a permit is never given back before its frame is gone.
    pub(super) fn add(slot: &mut Option<Self>, more: Option<Self>) {
        *slot = match (slot.take(), more) {
            (Some(held), Some(more)) => Some(held.and(more)),
            (held, more) => held.or(more),
        };
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}
