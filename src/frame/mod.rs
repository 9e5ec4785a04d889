//! JSON-RPC frames: one message as its own bytes, and the positions in them of the few fields that routing needs.
//!
//! A message is checked as a whole when it comes in (RFC 8259, then the envelope rules of JSON-RPC 2.0), and is then
//! relayed as the bytes it came as. Fields that must change are spliced in; a message is never rebuilt from types,
//! which would lose all that sessile does not understand. A field that is read here may stand once only: of two,
//! sessile might read one and the peer the other, and a filter could be fooled. Any other member passes untouched,
//! duplicates too.
//!
//! This module is pure: it does no I/O, and knows no runtime, no sessions and no MCP beyond the names of the routed
//! fields (`_meta.progressToken`, `progressToken` and `requestId`).

mod batch;
mod envelope;
mod error;
mod id;
mod items;
mod lookup;
mod make;
mod message_headers;
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
pub use id::{Id, LONGEST_ID};
pub(crate) use items::{Item, elements, members, only, quoted, string};
pub(crate) use make::{error_response, notification, request, response};
pub(crate) use message_headers::MessageHeaders;
pub(crate) use oversized::OversizedScanner;
pub(crate) use permit::{ChargedBytes, Permit};
pub(crate) use scan::MAX_DEPTH;
pub(crate) use splice::Splice;
pub(crate) use wire::Wire;

use envelope::{Envelope, Span};

/// The three kinds of JSON-RPC messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A message with a method and an id: its sender waits for a response.
    Request,
    /// A message with a method and without an id.
    Notification,
    /// A message with a result or an error.
    Response,
}

/// Why a message was not kept while it was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The message is larger than the limit.
    Oversized,
    /// The sender stalled in the middle of the message while other sessions needed the memory.
    Stalled,
}

/// What is known of a message that was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LostMessage {
    pub id: Option<Id>,
    /// Whether it was a request or notification.
    pub request: bool,
    /// How many bytes of it came, at least.
    pub size: usize,
    pub why: Lost,
}

/// One valid JSON-RPC message, as its own bytes, on one line.
pub struct Frame {
    bytes: Bytes,
    envelope: Envelope,
    permit: Option<Permit>,
    forwarded: Option<MessageHeaders>,
}

impl Frame {
    fn new(bytes: Bytes, envelope: Envelope) -> Self {
        Self { bytes, envelope, permit: None, forwarded: None }
    }

    /// Reads exactly one JSON-RPC object. A byte order mark in front of the object and white space around it are
    /// removed, and line breaks inside become spaces: in place if these bytes have no other owner, otherwise in a copy.
    /// No other byte is changed or copied.
    pub fn parse(bytes: impl Into<Bytes>) -> Result<Self, FrameError> {
        let mut bytes = bytes.into();
        let start = trim(&mut bytes)?;
        Self::parse_trimmed(bytes, start)
    }

    /// Like [`parse`](Self::parse), for a text that was trimmed already. `start` is the number of bytes that were
    /// removed in front: offsets in errors count from there.
    fn parse_trimmed(mut bytes: Bytes, start: usize) -> Result<Self, FrameError> {
        let shift = |error: FrameError| FrameError { offset: error.offset + start, ..error };
        let (envelope, newlines) = envelope::scan(&bytes, 0).map_err(shift)?;
        if newlines {
            bytes = replace_newlines(bytes);
        }
        Ok(Self::new(bytes, envelope))
    }

    /// Whether the message is a request, a notification or a response.
    pub fn kind(&self) -> Kind {
        self.envelope.kind
    }

    /// The id, spelled as it came. `None` for a notification, and for an error response whose sender could not make out
    /// the id of the request.
    pub fn id(&self) -> Option<Id> {
        self.id_at(self.envelope.id)
    }

    /// The method of a request or notification, unescaped. A lone surrogate becomes a replacement character; no method
    /// has one in its name.
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

    /// The progress token: of a request the one in `params._meta`, of `notifications/progress` the one in `params`. A
    /// token that is neither a string nor a number counts as absent. So does a notification's token that is longer than
    /// [`LONGEST_ID`], because no request can have that one.
    pub fn progress_token(&self) -> Option<Id> {
        self.id_at(self.envelope.progress_token)
    }

    /// The `requestId` of `notifications/cancelled`. An id that is neither a string nor a number, or that is longer
    /// than [`LONGEST_ID`], counts as absent.
    pub fn cancelled_id(&self) -> Option<Id> {
        self.id_at(self.envelope.cancelled_id)
    }

    /// The bytes of the whole message.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The number of bytes in the message.
    #[expect(clippy::len_without_is_empty, reason = "no message is empty")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The frame, which from now on holds this permit as well.
    #[must_use]
    pub fn with_permit(mut self, permit: impl Into<Option<Permit>>) -> Self {
        Permit::add(&mut self.permit, permit.into());
        self
    }

    /// The frame, with the headers that are forwarded along with it.
    #[must_use]
    pub fn with_headers(mut self, forwarded: Option<MessageHeaders>) -> Self {
        self.forwarded = forwarded;
        self
    }

    /// The headers that are forwarded along with the message.
    pub fn headers(&self) -> Option<&MessageHeaders> {
        self.forwarded.as_ref()
    }

    /// Takes the permit out, so that it can be put on a message that is made from this frame.
    pub fn take_permit(&mut self) -> Option<Permit> {
        self.permit.take()
    }

    /// Moves the permit and the forwarded headers of this frame to `wire`, which was made from it.
    #[must_use]
    pub fn hand_over(&mut self, wire: Wire) -> Wire {
        wire.with_permit(self.permit.take()).with_headers(self.forwarded.take())
    }

    /// A second frame of the same message, which shares the bytes. The permit and the headers stay with this one.
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
        Wire::of(self.bytes).with_permit(self.permit).with_headers(self.forwarded)
    }

    fn id_at(&self, span: Span) -> Option<Id> {
        span.of(&self.bytes).map(Id::from_valid)
    }
}

impl fmt::Debug for Frame {
    /// Shows the fields that routing reads, and never the content: it is private, and may be megabytes long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("kind", &self.kind())
            .field("id", &self.id())
            .field("method", &self.method())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// Removes a byte order mark and the white space around the text, and returns how many bytes stood in front. A text
/// that is too long for the 32-bit positions of a frame is refused.
///
/// JSON must not be sent with such a mark, but a reader may ignore one (RFC 8259, section 8.1). Some programs write a
/// mark at the start of their output: of the body of a response, or of a server's first line.
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
    // Cut in place: bytes that had one owner keep one, and line breaks can then be replaced without a copy.
    bytes.truncate(end);
    bytes.advance(start);
    Ok(start)
}

/// The same text with spaces in place of line breaks.
fn replace_newlines(bytes: Bytes) -> Bytes {
    let mut bytes = bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&*shared));
    text::replace_newlines(&mut bytes);
    bytes.freeze()
}
