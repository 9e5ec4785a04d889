//! Gives permits for what a session keeps for a client that may come back.

use std::fmt;
use std::sync::Arc;

use crate::frame::{Permit, Wire};

/// Tells whether bytes may be kept, and gives the permit for them if they may. It never waits.
#[derive(Clone)]
pub(crate) struct Keeper {
    keep: Arc<dyn Fn(usize) -> Option<Permit> + Send + Sync>,
    hold: Arc<dyn Fn(usize) -> Option<Permit> + Send + Sync>,
}

impl Keeper {
    /// `keep` gives the permit for so many bytes; `hold` notes that so many bytes, which have a permit, are held back.
    pub(crate) fn new(
        keep: impl Fn(usize) -> Option<Permit> + Send + Sync + 'static,
        hold: impl Fn(usize) -> Option<Permit> + Send + Sync + 'static,
    ) -> Self {
        Self { keep: Arc::new(keep), hold: Arc::new(hold) }
    }

    /// The message, which is held back until others come that belong to it.
    pub(super) fn hold(&self, wire: Wire) -> Wire {
        let held = (self.hold)(wire.pooled());
        wire.with_permit(held)
    }

    /// The message once more, with a permit of its own for so many bytes.
    pub(super) fn keep(&self, bytes: usize, copy: impl FnOnce() -> Wire) -> Option<Wire> {
        let permit = (self.keep)(bytes)?;
        Some(copy().with_permit(permit))
    }
}

impl Default for Keeper {
    /// A keeper that keeps everything.
    fn default() -> Self {
        Self::new(|_| Some(Permit::new(())), |_| None)
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keeper")
    }
}
