//! JSON-RPC frames: one message as its own bytes, and where the few fields stand in them that routing needs.
//!
//! A message is checked as a whole when it comes in (RFC 8259, then the envelope rules of JSON-RPC 2.0), and is then
//! relayed as the bytes it came as. What must change is spliced in; nothing is ever rebuilt from types, so nothing that
//! sessile does not understand gets lost. A field that is read here may stand once only, or a peer that reads the other
//! one could be fooled; any other member passes untouched, duplicates and all.
//!
//! This module is pure: it does no I/O, and knows no runtime, no sessions and no MCP beyond the names of the routed
//! fields (`_meta.progressToken`, `progressToken` and `requestId`).

mod batch;
mod envelope;
mod error;
mod forwarded;
mod id;
mod items;
mod lookup;
mod make;
mod oversized;
mod permit;
mod scan;
mod splice;
mod text;
mod wire;

#[cfg(test)]
mod tests;

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

pub(crate) use batch::MAX_BATCH;
pub use batch::{Incoming, split};
pub use error::FrameErrorKind;
pub(crate) use error::{FrameError, Named};
pub(crate) use forwarded::Forwarded;
pub use id::{Id, LONGEST_ID};
pub(crate) use items::{Item, elements, members, only, quoted, string};
pub(crate) use make::{error_response, notification, request, response};
pub(crate) use oversized::OversizedScanner;
pub(crate) use permit::{ChargedBytes, Permit};
pub(crate) use scan::MAX_DEPTH;
pub(crate) use splice::Splice;
pub(crate) use wire::Wire;

use envelope::{Envelope, Span};

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It has a method and an id, and wants an answer.
    Request,
    /// It has a method and no id.
    Notification,
    /// It answers a request, with a result or an error.
    Response,
}

/// Why a message was not kept while it was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// It is over the limit.
    Oversized,
    /// Its sender stalled in the middle of it, and others needed the memory.
    Stalled,
}

/// One valid JSON-RPC message, as its own bytes, on one line.
pub struct Frame {
    bytes: Bytes,
    envelope: Envelope,
    permit: Option<Permit>,
    forwarded: Option<Forwarded>,
}

impl Frame {
    fn new(bytes: Bytes, envelope: Envelope) -> Self {
        Self { bytes, envelope, permit: None, forwarded: None }
    }

    /// Reads exactly one JSON-RPC object. A byte order mark in front of it and white space around it are taken off, and
    /// line breaks within become spaces: in place if these bytes have no other owner, else in a copy. Nothing else is
    /// changed or copied.
    pub fn parse(bytes: impl Into<Bytes>) -> Result<Self, FrameError> {
        let mut bytes = bytes.into();
        let start = trim(&mut bytes)?;
        Self::parse_trimmed(bytes, start)
    }

    /// As [`parse`](Self::parse), for a text without anything around it. `start` is how many bytes stood in front.
    fn parse_trimmed(mut bytes: Bytes, start: usize) -> Result<Self, FrameError> {
        let shift = |error: FrameError| FrameError { offset: error.offset + start, ..error };
        let (envelope, newlines) = envelope::scan(&bytes, 0).map_err(shift)?;
        if newlines {
            bytes = replace_newlines(bytes);
        }
        Ok(Self::new(bytes, envelope))
    }

    /// What the message is for.
    pub fn kind(&self) -> Kind {
        self.envelope.kind
    }

    /// The id, as it is spelled. `None` for a notification, and for an error that does not know what it answers.
    pub fn id(&self) -> Option<Id> {
        self.id_at(self.envelope.id)
    }

    /// The method of a request or notification, unescaped. A lone surrogate in it becomes a replacement character, so
    /// that it is no method anyone knows.
    pub fn method(&self) -> Option<&str> {
        match &self.envelope.unescaped {
            Some(method) => Some(method),
            None => std::str::from_utf8(self.envelope.method.of(&self.bytes)?).ok(),
        }
    }

    /// Whether this is a response that holds an error.
    pub fn is_error(&self) -> bool {
        self.envelope.error.range().is_some()
    }

    /// The raw value of `result`: any JSON.
    pub fn result(&self) -> Option<&[u8]> {
        self.envelope.result.of(&self.bytes)
    }

    /// The progress token: of a request, that of `params._meta`; of `notifications/progress`, that of `params`. One
    /// that is neither a string nor a number counts as absent; so does one of a notification that no request can have,
    /// because it is longer than [`LONGEST_ID`].
    pub fn progress_token(&self) -> Option<Id> {
        self.id_at(self.envelope.progress_token)
    }

    /// The `requestId` of `notifications/cancelled`. One that is neither a string nor a number, or that is longer than
    /// [`LONGEST_ID`], counts as absent.
    pub fn cancelled_id(&self) -> Option<Id> {
        self.id_at(self.envelope.cancelled_id)
    }

    /// The whole message.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many bytes the message has.
    #[expect(clippy::len_without_is_empty, reason = "no message is empty")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The frame, holding this permit too.
    #[must_use]
    pub fn with_permit(mut self, permit: impl Into<Option<Permit>>) -> Self {
        Permit::add(&mut self.permit, permit.into());
        self
    }

    /// The frame, with the headers that are to go with it.
    #[must_use]
    pub fn with_forwarded(mut self, forwarded: Option<Forwarded>) -> Self {
        self.forwarded = forwarded;
        self
    }

    /// The headers that are to go with the message.
    pub fn forwarded(&self) -> Option<&Forwarded> {
        self.forwarded.as_ref()
    }

    /// Takes the permit out, to put it on what is made of the frame.
    pub fn take_permit(&mut self) -> Option<Permit> {
        self.permit.take()
    }

    /// What was made of the frame, with all that came with it: its permit, and the headers that go with it.
    #[must_use]
    pub fn hand_over(&mut self, wire: Wire) -> Wire {
        wire.with_permit(self.permit.take()).with_forwarded(self.forwarded.take())
    }

    /// The same message once more, sharing its bytes. The permit and the headers stay here.
    #[must_use]
    pub fn share(&self) -> Self {
        Self::new(self.bytes.clone(), self.envelope.clone())
    }

    /// Starts a copy of the message with a few fields changed.
    pub fn splice(&self) -> Splice<'_> {
        Splice::new(self)
    }

    /// The message as it is, to be written.
    pub fn into_wire(self) -> Wire {
        Wire::of(self.bytes).with_permit(self.permit).with_forwarded(self.forwarded)
    }

    fn id_at(&self, span: Span) -> Option<Id> {
        span.of(&self.bytes).map(Id::from_valid)
    }
}

impl fmt::Debug for Frame {
    /// Shows what routing sees. What the message says is its owners' business, and a log is no place for a megabyte.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("kind", &self.kind())
            .field("id", &self.id())
            .field("method", &self.method())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// Takes off a byte order mark and the white space around the text, and says how many bytes were in front. What is left can
/// be addressed.
///
/// JSON is sent without such a mark, and whoever reads it may ignore one all the same (RFC 8259, section 8.1). Some programs
/// write one at the start of their output, which is a response's body or the first line of a server.
fn trim(bytes: &mut Bytes) -> Result<usize, FrameError> {
    let whole = bytes.len();
    let text = text::trim(bytes.strip_prefix(text::BYTE_ORDER_MARK).unwrap_or(&**bytes));
    let refuse = |kind, offset| Err(error::ScanError { kind, offset }.unattributed());
    if text.is_empty() {
        return refuse(FrameErrorKind::Empty, whole);
    }
    if u32::try_from(text.len()).is_err() {
        return refuse(FrameErrorKind::TooLong, 0);
    }
    let start = text.as_ptr().addr() - bytes.as_ptr().addr();
    let end = start + text.len();
    // Cut in place, so that the bytes still have one owner if they had one before.
    bytes.truncate(end);
    bytes.advance(start);
    Ok(start)
}

/// The same text on one line.
fn replace_newlines(bytes: Bytes) -> Bytes {
    let mut bytes = bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&*shared));
    text::replace_newlines(&mut bytes);
    bytes.freeze()
}
