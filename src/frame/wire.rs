//! Bytes that are ready to be written.

use std::fmt;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::{Forwarded, Permit};

/// From this length on the parts of a wire stay what they are: slices of the frame they came from. Below it, joining
/// them costs less than writing several.
pub(super) const JOIN_BELOW: usize = 16 * 1024;

/// One message on one line, ready to be written, in one part or a few.
///
/// The line's end is not in it. A wire that is made of bytes from elsewhere is written as they are: see to it that
/// there is no line break in them.
pub struct Wire {
    parts: SmallVec<[Bytes; 3]>,
    permit: Option<Permit>,
    forwarded: Option<Forwarded>,
}

impl Wire {
    /// Joins the parts if they are short, and leaves out empty ones.
    pub(super) fn new(parts: SmallVec<[Bytes; 3]>) -> Self {
        let mut wire = Self { parts, permit: None, forwarded: None };
        wire.parts.retain(|part| !part.is_empty());
        if wire.len() < JOIN_BELOW {
            wire.join();
        }
        wire
    }

    /// The bytes of a frame, as they are. A short one is copied: it may be a small part of a large buffer, which would live
    /// for as long as the wire waits to be written, and nobody would be charged for it.
    pub(super) fn of(bytes: Bytes) -> Self {
        if bytes.len() < JOIN_BELOW { Bytes::copy_from_slice(&bytes).into() } else { bytes.into() }
    }

    /// What is to be written, in this order.
    pub fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    /// How many bytes there are in all parts.
    pub fn len(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }

    /// What is to be written, in this order. The permit is given back.
    pub fn into_parts(self) -> SmallVec<[Bytes; 3]> {
        self.parts
    }

    /// All of it as one piece; this copies if there is more than one part. The permit is given back.
    pub fn into_bytes(mut self) -> Bytes {
        self.join();
        self.parts.pop().unwrap_or_default()
    }

    /// The wire, holding this permit too.
    #[must_use]
    pub fn with_permit(mut self, permit: impl Into<Option<Permit>>) -> Self {
        Permit::add(&mut self.permit, permit.into());
        self
    }

    /// The wire, with the headers that are to go with it.
    #[must_use]
    pub fn with_forwarded(mut self, forwarded: Option<Forwarded>) -> Self {
        self.forwarded = forwarded;
        self
    }

    /// The headers that are to go with it, for a server that is reached over HTTP.
    pub fn forwarded(&self) -> Option<&Forwarded> {
        self.forwarded.as_ref()
    }

    /// How many bytes its permit holds that other sessions could have.
    pub fn pooled(&self) -> usize {
        self.permit.as_ref().map_or(0, Permit::pooled)
    }

    /// How many of its bytes no permit is held for.
    pub fn uncharged(&self) -> usize {
        self.len().saturating_sub(self.permit.as_ref().map_or(0, Permit::charged))
    }

    /// Takes the permit out.
    pub fn take_permit(&mut self) -> Option<Permit> {
        self.permit.take()
    }

    /// The same bytes once more, shared. The permit stays here.
    #[must_use]
    pub fn clone_parts(&self) -> Self {
        Self { parts: self.parts.clone(), permit: None, forwarded: None }
    }

    fn join(&mut self) {
        if self.parts.len() > 1 {
            let mut whole = BytesMut::with_capacity(self.len());
            for part in self.parts.drain(..) {
                whole.extend_from_slice(&part);
            }
            self.parts.push(whole.freeze());
        }
    }
}

impl From<Bytes> for Wire {
    fn from(bytes: Bytes) -> Self {
        let mut parts = SmallVec::new();
        parts.push(bytes);
        Self { parts, permit: None, forwarded: None }
    }
}

impl From<Vec<u8>> for Wire {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<String> for Wire {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("len", &self.len()).field("parts", &self.parts.len()).finish_non_exhaustive()
    }
}
