//! The position of a field in a message, and a field that may stand there only once.

use std::ops::Range;

use crate::frame::error::{FrameErrorKind, ScanError};
use crate::frame::scan::JsonCursor;
use crate::frame::{LONGEST_ID, text};

/// The position of a field in a frame's bytes. No field starts at 0, where the opening brace is, so 0 to 0 means that
/// the field is absent. 32 bits keep frames small.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::frame) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    pub(super) const NONE: Self = Self { start: 0, end: 0 };

    pub(super) fn new(start: usize, end: usize) -> Self {
        // `Frame::parse` refuses texts in which a position would not fit.
        let place = |at| u32::try_from(at).unwrap_or(u32::MAX);
        Self { start: place(start), end: place(end) }
    }

    pub(in crate::frame) fn range(self) -> Option<Range<usize>> {
        if self == Self::NONE { None } else { Some(self.start as usize..self.end as usize) }
    }

    pub(in crate::frame) fn of(self, bytes: &[u8]) -> Option<&[u8]> {
        bytes.get(self.range()?)
    }
}

/// A field that may stand once only: its last value, and where it stood a second time.
#[derive(Default)]
pub(super) struct UniqueField {
    pub(super) value: Option<FieldValue>,
    pub(super) again: Option<usize>,
}

/// The position of a value, and what can be told of it without reading it again.
#[derive(Clone, Copy)]
pub(super) struct FieldValue {
    pub(super) start: usize,
    pub(super) end: usize,
    /// The value's first byte, which tells its type.
    pub(super) first: u8,
    /// Whether the value is a string with a backslash in it.
    pub(super) escaped: bool,
}

impl FieldValue {
    pub(super) fn span(self) -> Span {
        Span::new(self.start, self.end)
    }

    pub(super) fn is_string(self) -> bool {
        self.first == b'"'
    }

    pub(super) fn is_id(self) -> bool {
        matches!(self.first, b'"' | b'-' | b'0'..=b'9')
    }

    pub(super) fn is_long(self) -> bool {
        self.end - self.start > LONGEST_ID
    }

    /// The position of a string's content between the quotes.
    pub(super) fn content(self) -> Option<Range<usize>> {
        if self.is_string() { Some(self.start + 1..self.end - 1) } else { None }
    }

    pub(super) fn is_text(self, bytes: &[u8], name: &str) -> bool {
        self.content().is_some_and(|content| text::equals(&bytes[content], self.escaped, name))
    }
}

impl UniqueField {
    /// Reads the value at the cursor with `read`.
    pub(super) fn read_value<'a>(
        &mut self,
        cursor: &mut JsonCursor<'a>,
        read: impl FnOnce(&mut JsonCursor<'a>) -> Result<(), ScanError>,
    ) -> Result<(), ScanError> {
        let start = cursor.pos;
        let first = cursor.peek()?;
        let escaped = if first == b'"' {
            cursor.string()?.escaped
        } else {
            read(cursor)?;
            false
        };
        if self.value.replace(FieldValue { start, end: cursor.pos, first, escaped }).is_some() {
            self.again.get_or_insert(start);
        }
        Ok(())
    }

    pub(super) fn check_unique(&self, name: &str) -> Result<(), ScanError> {
        match self.again {
            Some(offset) => Err(ScanError { kind: FrameErrorKind::Duplicate(name.into()), offset }),
            None => Ok(()),
        }
    }

    /// The position of the value if it can be an id or a token: a string or a number that is not too long. Any other
    /// value is relayed as it is.
    pub(super) fn id_span(&self) -> Span {
        self.value.filter(|value| value.is_id() && !value.is_long()).map_or(Span::NONE, FieldValue::span)
    }

    /// Fails for an id or token that is too long: it is kept for as long as its request is in flight, and nothing else
    /// bounds what that takes.
    pub(super) fn check_length(&self) -> Result<(), ScanError> {
        match self.value {
            Some(value) if value.is_id() && value.is_long() => {
                Err(ScanError { kind: FrameErrorKind::LongId, offset: value.start })
            }
            _ => Ok(()),
        }
    }
}
