//! The proof that bytes were charged.

use std::fmt;
use std::sync::Arc;

/// What a [`Permit`] holds. Its drop gives it back.
pub trait ChargedBytes: Send + Sync {
    /// How many bytes of it other sessions could have.
    fn pooled(&self) -> usize {
        0
    }

    /// How many bytes it holds in all.
    fn charged(&self) -> usize {
        0
    }
}

/// Proof that bytes for a frame were charged to a budget. It travels with the frame and then with its wire, and what it
/// holds is dropped, and so given back, when the last of the bytes are.
///
/// A plain trait object, so that the core knows no runtime and no clock.
pub struct Permit(Box<dyn ChargedBytes>);

impl Permit {
    /// A permit that holds on to `held`.
    pub fn new(held: impl Send + Sync + 'static) -> Self {
        Self(Box::new(HeldValue(held)))
    }

    /// A permit for `charge`.
    pub fn from_charge(charge: Box<dyn ChargedBytes>) -> Self {
        Self(charge)
    }

    /// A permit that holds on to what both do.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(Box::new(PermitPair(self, other)))
    }

    /// A permit that holds on to what this one does until the last of its clones is dropped.
    pub fn shared(self) -> impl Fn() -> Self {
        let shared = Arc::new(self);
        move || Self(Box::new(SharedPermit(shared.clone())))
    }

    /// How many bytes it holds that other sessions could have.
    pub fn pooled(&self) -> usize {
        self.0.pooled()
    }

    /// How many bytes it holds in all.
    pub fn charged(&self) -> usize {
        self.0.charged()
    }

    /// Adds `more` to what `slot` holds: a permit is never given back before its frame is gone.
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
