//! The proof that bytes were charged to a budget.

use std::fmt;
use std::sync::Arc;

/// The bytes that a [`Permit`] holds. They are given back when this is dropped.
pub trait ChargedBytes: Send + Sync {
    /// How many of the bytes are taken from the pool that all sessions share.
    fn pooled(&self) -> usize {
        0
    }

    /// The number of bytes in all.
    fn charged(&self) -> usize {
        0
    }
}

/// Proof that the bytes of a frame were charged to a budget. The permit travels with the frame and then with the wire
/// made from it; it is dropped with the last of the bytes, and the charge is given back.
///
/// A permit holds a plain trait object, so that frames and the pure core name no budget, no runtime and no clock.
pub struct Permit(Box<dyn ChargedBytes>);

impl Permit {
    /// A permit that holds `held` and is charged for no bytes.
    pub fn new(held: impl Send + Sync + 'static) -> Self {
        Self(Box::new(HeldValue(held)))
    }

    /// A permit for `charge`.
    pub fn from_charge(charge: Box<dyn ChargedBytes>) -> Self {
        Self(charge)
    }

    /// A permit that holds what both hold.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(Box::new(PermitPair(self, other)))
    }

    /// Makes permits that share what this one holds: it is given back with the last of them.
    pub fn shared(self) -> impl Fn() -> Self {
        let shared = Arc::new(self);
        move || Self(Box::new(SharedPermit(shared.clone())))
    }

    /// How many bytes the permit holds of the pool that all sessions share.
    pub fn pooled(&self) -> usize {
        self.0.pooled()
    }

    /// How many bytes the permit holds in all.
    pub fn charged(&self) -> usize {
        self.0.charged()
    }

    /// Adds `more` to the permit in `slot`. Replacing the permit there would give it back before its frame is gone.
    pub(super) fn add(slot: &mut Option<Self>, more: Option<Self>) {
        *slot = match (slot.take(), more) {
            (Some(held), Some(more)) => Some(held.and(more)),
            (held, more) => held.or(more),
        };
    }
}

struct HeldValue<T>(T);

impl<T: Send + Sync> ChargedBytes for HeldValue<T> {}

struct PermitPair(Permit, Permit);

impl ChargedBytes for PermitPair {
    fn pooled(&self) -> usize {
        self.0.pooled().saturating_add(self.1.pooled())
    }

    fn charged(&self) -> usize {
        self.0.charged().saturating_add(self.1.charged())
    }
}

struct SharedPermit(Arc<Permit>);

impl ChargedBytes for SharedPermit {
    fn pooled(&self) -> usize {
        self.0.pooled()
    }

    fn charged(&self) -> usize {
        self.0.charged()
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}
