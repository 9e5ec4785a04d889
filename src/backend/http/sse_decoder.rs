//! Takes a stream of server-sent events apart (WHATWG HTML, "Server-sent events", "Parsing an event stream"). Pure:
//! chunks go in, events come out, however the chunks were cut.
//!
//! It is written by hand because the crates for this (`sse-stream`, `eventsource-stream`) buffer an event of any size
//! before they give it out, so that a server could fill the memory, and copy it into a `String`. This decoder has a
//! limit, charges what it buffers, copies data only where an event comes in several chunks, and only scans an event over
//! the limit for the JSON-RPC id in it: with that id the call fails at once, and without it the call would wait for ever.
//! And unlike a browser's `EventSource` it reports events without data, which move the position from which the stream
//! can be resumed.

use std::time::Duration;

use bytes::{Buf as _, Bytes};

use super::partial_event::{EventData, IdField, PartialEvent, scan_line};
use super::position::{StreamPosition, StreamProgress};
use crate::budget::{fit_buffer, grown_capacity};
use crate::frame::{Id, OversizedScanner};

/// The longest line that is not data, in bytes: a comment, an event's type, an id. Longer lines are dropped.
const MAX_FIELD_LINE: usize = 4 * 1024;
/// A size that chunks hardly ever exceed, in bytes.
const USUAL_CHUNK: usize = 16 * 1024;
/// The longest form of what stands in front of data.
const DATA_PREFIX: &[u8] = b"data: ";
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// A complete event.
#[derive(Debug, PartialEq)]
pub(super) enum SseEvent {
    /// The data of a message, which is never empty.
    Message(Bytes),
    /// An event of another type: that type, and its data, which may be empty.
    Other(Bytes, Bytes),
    /// An event whose data was over the limit and was not kept. If the data was a JSON-RPC message, `id` is its id, and
    /// `request` whether it was a request or notification.
    Oversized { id: Option<Id>, request: bool, size: usize },
}

/// What becomes of the line that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineMode {
    /// The line is buffered until its end has come.
    Buffered,
    /// The line is data over the limit, and goes to the scanner.
    Oversized,
    /// The line is too long for what it is, and is skipped.
    Dropped,
}

/// The decoder of one stream.
#[derive(Debug)]
pub(super) struct SseDecoder {
    limit: usize,
    position: StreamPosition,
    /// How far the stream has got.
    progress: StreamProgress,
    chunk: Bytes,
    /// The length of the current chunk when it came.
    chunk_len: usize,
    /// Whether the last byte was a CR: an LF behind it ends the same line.
    after_cr: bool,
    first_line: bool,
    /// The id behind which the stream was resumed, until the first event has come: some servers repeat the event with
    /// that id.
    resumed_behind: Option<Bytes>,
    /// The start of a line whose end has not come yet.
    line: Vec<u8>,
    state: LineMode,
    event: PartialEvent,
    /// The capacity of the last message's buffer, in bytes.
    message_takes: usize,
}

impl SseDecoder {
    /// A decoder for events with up to `limit` bytes of data, on a stream that was resumed at `position`.
    pub(super) fn new(limit: usize, position: StreamPosition) -> Self {
        Self {
            limit,
            resumed_behind: position.id.clone(),
            position,
            progress: StreamProgress::Nothing,
            chunk: Bytes::new(),
            chunk_len: 0,
            after_cr: false,
            first_line: true,
            line: Vec::new(),
            state: LineMode::Buffered,
            event: PartialEvent::default(),
            message_takes: 0,
        }
    }

    /// Takes the next chunk. All events of the last chunk must have been taken with [`Self::next`].
    pub(super) fn feed(&mut self, chunk: Bytes) {
        self.chunk_len = chunk.len();
        self.chunk = chunk;
    }

    /// Returns the next event of the chunk, or `None` if another chunk is needed.
    pub(super) fn next(&mut self) -> Option<SseEvent> {
        loop {
            if self.after_cr && !self.chunk.is_empty() {
                self.after_cr = false;
                if self.chunk.first() == Some(&b'\n') {
                    self.chunk.advance(1);
                }
            }
            if self.chunk.is_empty() {
                return None;
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', &self.chunk) else {
                let piece = std::mem::take(&mut self.chunk);
                self.part_of_line(&piece);
                return None;
            };
            let piece = self.chunk.split_to(end);
            self.after_cr = self.chunk.first() == Some(&b'\r');
            self.chunk.advance(1);
            if let Some(event) = self.end_of_line(piece) {
                return Some(event);
            }
        }
    }

    /// The position from which the stream can be resumed: behind the last complete event.
    pub(super) fn position(&self) -> &StreamPosition {
        &self.position
    }

    /// How far complete events have got the stream. A repeated event does not count.
    pub(super) fn progress(&self) -> StreamProgress {
        self.progress
    }

    /// The memory that the last message takes which was returned, in bytes.
    pub(super) fn message_takes(&self) -> usize {
        self.message_takes
    }

    /// How many bytes are kept of the event whose end has not come yet.
    pub(super) fn buffered(&self) -> usize {
        self.line.len() + self.event.len()
    }

    /// How much memory that event will take when the next chunk has come, in bytes.
    pub(super) fn will_take(&self) -> usize {
        self.event.capacity() + self.capacity_for(USUAL_CHUNK)
    }

    /// How many bytes have come of an event over the limit whose end has not come yet.
    pub(super) fn scanned(&self) -> usize {
        self.event.scanner.as_ref().map_or(0, OversizedScanner::size)
    }

    /// Stops keeping the data of the event that is being read, although it is within the limit. Returns its id, if it
    /// is known by now to be a response.
    pub(super) fn drop_event(&mut self) -> Option<Id> {
        if self.line.starts_with(b"data:") {
            let line = self.take_line();
            let (_, value) = field(&line);
            scan_line(self.event.scan(), value);
            self.event.begun = true;
            self.state = LineMode::Oversized;
        }
        self.event.scan().answered_id()
    }

    /// Gives up an event over the limit whose end has not come yet, and returns what is known of it.
    pub(super) fn give_up(&mut self) -> Option<SseEvent> {
        let scanner = std::mem::take(&mut self.event).scanner?;
        let size = scanner.size();
        let (id, request) = scanner.finish();
        Some(SseEvent::Oversized { id, request, size })
    }

    /// How many bytes are held for the rest of an event.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.line.capacity() + self.chunk.len() + self.event.len()
    }

    fn part_of_line(&mut self, piece: &[u8]) {
        match self.state {
            LineMode::Buffered => {}
            LineMode::Oversized => {
                self.event.scan().feed(piece);
                return;
            }
            LineMode::Dropped => return,
        }
        self.line.reserve_exact(self.capacity_for(piece.len()) - self.line.len());
        self.line.extend_from_slice(piece);
        let line = if self.first_line { self.line.strip_prefix(BOM).unwrap_or(&self.line) } else { &self.line };
        if line.starts_with(b"data:") {
            let room = self.limit.saturating_sub(self.event.len()).saturating_add(DATA_PREFIX.len());
            // More than the prefix has to be there, or the space behind the colon could be taken for data.
            if line.len() > room || self.event.scanner.is_some() && line.len() >= DATA_PREFIX.len() {
                let line = self.take_line();
                let (_, value) = field(&line);
                scan_line(self.event.scan(), value);
                self.event.begun = true;
                self.state = LineMode::Oversized;
            }
        } else if line.len() > MAX_FIELD_LINE {
            if line.starts_with(b"id:") {
                self.event.id = IdField::Unusable;
            }
            self.line = Vec::new();
            self.first_line = false;
            self.state = LineMode::Dropped;
        }
    }

    fn end_of_line(&mut self, piece: Bytes) -> Option<SseEvent> {
        match std::mem::replace(&mut self.state, LineMode::Buffered) {
            LineMode::Buffered => {
                let mut capacity = 0;
                let line = if self.line.is_empty() && !(self.first_line && piece.starts_with(BOM)) {
                    self.first_line = false;
                    piece
                } else {
                    self.line.reserve_exact(piece.len());
                    self.line.extend_from_slice(&piece);
                    let (line, taken) = fit_buffer(std::mem::take(&mut self.line));
                    capacity = taken;
                    self.without_mark(line)
                };
                return self.whole_line(&line, capacity.max(line.len()));
            }
            LineMode::Oversized => self.event.scan().feed(&piece),
            LineMode::Dropped => {}
        }
        None
    }

    /// Returns how large the buffer of the line has to be for so many more bytes.
    fn capacity_for(&self, more: usize) -> usize {
        let needed = self.line.len() + more;
        grown_capacity(self.line.capacity(), needed)
            .min(self.limit.saturating_add(DATA_PREFIX.len() + USUAL_CHUNK))
            .max(needed)
            .max(self.line.capacity())
    }

    /// Takes what was buffered of a line that is not kept.
    fn take_line(&mut self) -> Bytes {
        let line = std::mem::take(&mut self.line).into();
        self.without_mark(line)
    }

    /// Returns the line without the byte order mark with which the first line of a stream may begin.
    fn without_mark(&mut self, mut line: Bytes) -> Bytes {
        if std::mem::take(&mut self.first_line) && line.starts_with(BOM) {
            line.advance(BOM.len());
        }
        line
    }

    /// Handles a complete line, whose buffer takes `capacity` bytes.
    fn whole_line(&mut self, line: &Bytes, capacity: usize) -> Option<SseEvent> {
        if line.is_empty() {
            return self.end_of_event();
        }
        let (name, value) = field(line);
        match name {
            b"data" => {
                self.event.begun = true;
                let value = line.slice_ref(value);
                self.event.push(value, capacity, self.limit);
            }
            b"event" => {
                self.event.begun = true;
                let kind = if value.len() > MAX_FIELD_LINE { b"" } else { value };
                self.event.kind = Some(Bytes::copy_from_slice(kind));
            }
            b"id" if !value.contains(&0) => {
                self.event.begun = true;
                let usable = (1..=MAX_FIELD_LINE).contains(&value.len()) && !value.iter().any(u8::is_ascii_control);
                self.event.id = if usable { IdField::Given(Bytes::copy_from_slice(value)) } else { IdField::Unusable };
            }
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                let millis = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
                self.position.retry = Some(Duration::from_millis(millis.unwrap_or(u64::MAX)));
            }
            _ => {}
        }
        None
    }

    fn end_of_event(&mut self) -> Option<SseEvent> {
        let PartialEvent { begun, kind, data, id, scanner } = std::mem::take(&mut self.event);
        let resumed_behind = if begun { self.resumed_behind.take() } else { None };
        let repeated =
            matches!((&id, &resumed_behind), (IdField::Given(id), Some(resumed_behind)) if id == resumed_behind);
        match id {
            IdField::Absent => {}
            IdField::Unusable => self.position.id = None,
            IdField::Given(id) => self.position.id = Some(id),
        }
        if repeated {
            return None;
        }
        if begun {
            let empty = scanner.is_none() && data.as_ref().is_none_or(EventData::is_empty);
            self.progress =
                self.progress.max(if empty { StreamProgress::PositionsOnly } else { StreamProgress::Messages });
        }
        if let Some(scanner) = scanner {
            let size = scanner.size();
            let (id, request) = scanner.finish();
            return Some(SseEvent::Oversized { id, request, size });
        }
        let (data, takes) = match data {
            None => return None,
            Some(EventData::Line(line, _)) if line.len() < self.chunk_len / 2 => {
                // Copied, because a small slice would keep all of a large chunk alive.
                (Bytes::copy_from_slice(&line), line.len())
            }
            Some(EventData::Line(line, capacity)) => (line, capacity),
            Some(EventData::Lines(lines)) => {
                let capacity = lines.capacity();
                (lines.freeze(), capacity)
            }
        };
        self.message_takes = takes;
        match kind {
            Some(kind) if !kind.is_empty() && *kind != *b"message" => Some(SseEvent::Other(kind, data)),
            _ if data.is_empty() => None,
            _ => Some(SseEvent::Message(data)),
        }
    }
}

/// Splits a line into its field and value. A comment is a field without a name.
fn field(line: &[u8]) -> (&[u8], &[u8]) {
    let Some(colon) = memchr::memchr(b':', line) else { return (line, b"") };
    let value = &line[colon + 1..];
    (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
}
