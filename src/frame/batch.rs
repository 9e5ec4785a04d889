//! The content of one body, line or event: a message, or a batch of messages.

use bytes::Bytes;

use super::error::{FrameErrorKind, ScanError};
use super::scan::JsonCursor;
use super::{Frame, FrameError, MessageHeaders, Named, Permit, envelope, replace_newlines, trim};

/// The largest number of messages in a batch.
pub(crate) const MAX_BATCH: usize = 1000;

/// The content of one body, line or event.
#[derive(Debug)]
pub enum Incoming {
    /// One message.
    One(Frame),
    /// The elements of an array, in order. All of them are JSON. Each is a frame, which shares the array's bytes, or
    /// has an error of its own.
    Batch(Vec<Result<Frame, FrameError>>),
}

impl Incoming {
    /// Adds this permit to all frames. Those of a batch share it: it is given back with the last of them.
    #[must_use]
    pub fn with_permit(self, permit: impl Into<Option<Permit>>) -> Self {
        match (self, permit.into()) {
            (incoming, None) => incoming,
            (Self::One(frame), permit) => Self::One(frame.with_permit(permit)),
            (Self::Batch(elements), Some(permit)) => {
                let permit = permit.shared();
                let hold = |frame: Frame| frame.with_permit(permit());
                Self::Batch(elements.into_iter().map(|element| element.map(hold)).collect())
            }
        }
    }

    /// Adds the headers that are forwarded along with each of the messages.
    #[must_use]
    pub fn with_headers(self, forwarded: Option<MessageHeaders>) -> Self {
        match self {
            Self::One(frame) => Self::One(frame.with_headers(forwarded)),
            Self::Batch(elements) => {
                let give = |frame: Frame| frame.with_headers(forwarded.clone());
                Self::Batch(elements.into_iter().map(|element| element.map(give)).collect())
            }
        }
    }
}

/// Reads one message, or an array of messages, as [`Frame::parse`] does. An array that is not JSON is refused as a
/// whole.
pub fn split(bytes: impl Into<Bytes>) -> Result<Incoming, FrameError> {
    let mut bytes = bytes.into();
    let shift = trim(&mut bytes)?;
    if bytes.first() != Some(&b'[') {
        return Frame::parse_trimmed(bytes, shift).map(Incoming::One);
    }
    let mut cursor = JsonCursor::new(&bytes, 0);
    let ranges = element_ranges(&mut cursor).map_err(|error| {
        let named = if envelope::may_be_messages(&bytes) { Named::Unknown } else { Named::Nothing };
        FrameError { offset: error.offset + shift, named, ..error.unattributed() }
    })?;
    if cursor.newlines {
        bytes = replace_newlines(bytes);
    }
    let frame = |(start, end)| {
        let bytes = bytes.slice(start..end);
        match envelope::scan(&bytes, 0) {
            Ok((envelope, _)) => Ok(Frame::new(bytes, envelope)),
            Err(error) => Err(FrameError { offset: error.offset + start + shift, ..error }),
        }
    };
    Ok(Incoming::Batch(ranges.into_iter().map(frame).collect()))
}

/// The positions of the array's elements. The array itself does not count towards their nesting.
fn element_ranges(cursor: &mut JsonCursor<'_>) -> Result<Vec<(usize, usize)>, ScanError> {
    let mut found = Vec::new();
    cursor.pos += 1;
    cursor.skip_space();
    if cursor.peek()? == b']' {
        cursor.pos += 1;
        cursor.expect_end()?;
        return Err(ScanError { kind: FrameErrorKind::EmptyBatch, offset: 0 });
    }
    loop {
        let start = cursor.pos;
        if found.len() == MAX_BATCH {
            return cursor.fail(FrameErrorKind::BatchTooLong);
        }
        cursor.value(0)?;
        found.push((start, cursor.pos));
        cursor.skip_space();
        match cursor.peek()? {
            b',' => cursor.pos += 1,
            b']' => {
                cursor.pos += 1;
                cursor.expect_end()?;
                return Ok(found);
            }
            _ => return cursor.fail(FrameErrorKind::Unexpected),
        }
        cursor.skip_space();
    }
}
