//! The event of a stream whose end has not come yet. Pure.

use bytes::{Bytes, BytesMut};

use crate::frame::OversizedScanner;

/// The event that is being read.
#[derive(Debug, Default)]
pub(super) struct PartialEvent {
    /// Whether any field has come.
    pub begun: bool,
    pub kind: Option<Bytes>,
    pub data: Option<EventData>,
    pub id: IdField,
    /// Set when the data is not kept, because it is over the limit.
    pub scanner: Option<OversizedScanner>,
}

/// The `id` field of an event: where the stream can be resumed behind this event.
#[derive(Debug, Default)]
pub(super) enum IdField {
    #[default]
    Absent,
    /// The id is empty, or cannot be sent back: the stream cannot be resumed behind this event.
    Unusable,
    Given(Bytes),
}

/// The data of an event as far as it has come.
#[derive(Debug)]
pub(super) enum EventData {
    /// A single line, which may be a slice of the chunk that it came in, and how many bytes its buffer takes.
    Line(Bytes, usize),
    /// Several lines, joined.
    Lines(BytesMut),
}

impl EventData {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Line(line, _) => line.is_empty(),
            Self::Lines(lines) => lines.is_empty(),
        }
    }
}

impl PartialEvent {
    pub(super) fn capacity(&self) -> usize {
        match &self.data {
            None => 0,
            Some(EventData::Line(_, capacity)) => *capacity,
            Some(EventData::Lines(lines)) => lines.capacity(),
        }
    }

    pub(super) fn len(&self) -> usize {
        match &self.data {
            None => 0,
            Some(EventData::Line(line, _)) => line.len(),
            Some(EventData::Lines(lines)) => lines.len(),
        }
    }

    /// Stops keeping the data, and returns the scanner that it goes to.
    pub(super) fn scan(&mut self) -> &mut OversizedScanner {
        let data = self.data.take();
        self.scanner.get_or_insert_with(|| {
            let mut scanner = OversizedScanner::new();
            match data {
                None => {}
                Some(EventData::Line(line, _)) => scan_line(&mut scanner, &line),
                Some(EventData::Lines(lines)) => scan_line(&mut scanner, &lines),
            }
            scanner
        })
    }

    /// Adds a line of data, whose buffer takes `capacity` bytes. Beyond `limit` the data is only scanned.
    pub(super) fn push(&mut self, value: Bytes, capacity: usize, limit: usize) {
        if self.scanner.is_some() || self.len() + value.len() > limit {
            scan_line(self.scan(), &value);
            return;
        }
        self.data = Some(match self.data.take() {
            None => EventData::Line(value, capacity),
            Some(EventData::Line(line, _)) => {
                let mut lines = BytesMut::with_capacity(line.len() + value.len() + 1);
                lines.extend_from_slice(&line);
                EventData::Lines(join(lines, &value))
            }
            Some(EventData::Lines(lines)) => EventData::Lines(join(lines, &value)),
        });
    }
}

fn join(mut lines: BytesMut, line: &[u8]) -> BytesMut {
    lines.extend_from_slice(b"\n");
    lines.extend_from_slice(line);
    lines
}

/// Gives a line of data to the scanner, behind a line break, which is white space between the tokens of JSON.
pub(super) fn scan_line(scanner: &mut OversizedScanner, line: &[u8]) {
    if scanner.size() > 0 {
        scanner.feed(b"\n");
    }
    scanner.feed(line);
}
