//! A message as bytes that are ready to be written.

use std::fmt;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::{MessageHeaders, Permit};

/// A shorter message is joined into one piece, because that costs less than writing several. From this length on its
/// parts stay slices of the frame that they came from.
pub(super) const JOIN_BELOW: usize = 16 * 1024;

/// One message on one line, ready to be written, in one part or a few, without the line break at its end.
///
/// Bytes that a wire is made from are written as they are: the caller has to see to it that they contain no line break.
pub struct Wire {
    parts: SmallVec<[Bytes; 3]>,
    permit: Option<Permit>,
    forwarded: Option<MessageHeaders>,
}

impl Wire {
    /// Joins the parts if the message is short, and leaves out empty ones.
    pub(super) fn new(parts: SmallVec<[Bytes; 3]>) -> Self {
        let mut wire = Self { parts, permit: None, forwarded: None };
        wire.parts.retain(|part| !part.is_empty());
        if wire.len() < JOIN_BELOW {
            wire.join();
        }
        wire
    }

    /// The bytes of a frame, unchanged. A short frame is copied: it may be a small part of a large buffer, which nobody
    /// is charged for, and which would otherwise stay in memory until the wire was written.
    pub(super) fn of(bytes: Bytes) -> Self {
        if bytes.len() < JOIN_BELOW { Bytes::copy_from_slice(&bytes).into() } else { bytes.into() }
    }

    /// The parts to be written, in this order.
    pub fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    /// The number of bytes in all parts.
    pub fn len(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }

    /// The parts to be written, in this order. The permit is given back.
    pub fn into_parts(self) -> SmallVec<[Bytes; 3]> {
        self.parts
    }

    /// The message as one piece; this copies if there is more than one part. The permit is given back.
    pub fn into_bytes(mut self) -> Bytes {
        self.join();
        self.parts.pop().unwrap_or_default()
    }

    /// The wire, which from now on holds this permit as well.
    #[must_use]
    pub fn with_permit(mut self, permit: impl Into<Option<Permit>>) -> Self {
        Permit::add(&mut self.permit, permit.into());
        self
    }

    /// The wire, with the headers that are forwarded along with it.
    #[must_use]
    pub fn with_headers(mut self, forwarded: Option<MessageHeaders>) -> Self {
        self.forwarded = forwarded;
        self
    }

    /// The headers that are forwarded along with the message to a server that is reached over HTTP.
    pub fn headers(&self) -> Option<&MessageHeaders> {
        self.forwarded.as_ref()
    }

    /// How many bytes its permit holds of the pool that all sessions share.
    pub fn pooled(&self) -> usize {
        self.permit.as_ref().map_or(0, Permit::pooled)
    }

    /// How many of the message's bytes are not covered by a permit.
    pub fn uncharged(&self) -> usize {
        self.len().saturating_sub(self.permit.as_ref().map_or(0, Permit::charged))
    }

    /// Puts this permit in place of the one that there is, which is returned.
    pub fn replace_permit(&mut self, permit: Permit) -> Option<Permit> {
        self.permit.replace(permit)
    }

    /// Takes the permit out.
    pub fn take_permit(&mut self) -> Option<Permit> {
        self.permit.take()
    }

    /// A second wire that shares the bytes. The permit stays with this one.
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
