//! Messages as lines: the stdio transport, on either side (2025-11-25, basic/transports, "stdio").
//!
//! `tokio_util`'s `LinesCodec` and `FramedRead` are not used here, for these reasons. A line over the limit is an error
//! there, and its bytes are lost; here its id is found, so that the request that waits for it can fail. Memory is
//! charged to a budget before it is taken, while a line grows, and a sender that stalls can be made to give it back. A
//! long line takes its buffer along instead of being copied. And messages are written several at a time, in one
//! vectored write, from which a message can still be taken back while none of it is written.

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{BufMut as _, Bytes};
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::budget::{BufferCharge, GaveWay, UNCHARGED_BUFFER, fit_buffer, grown_capacity};
use crate::frame::{Lost, LostMessage, OversizedScanner, Permit, Wire};

/// The buffer of a reader between lines. An idle session keeps no more than this.
const IDLE_BUFFER: usize = 4 * 1024;
/// The most that is read at once.
const LARGEST_READ: usize = 256 * 1024;
/// A message of this length or more keeps the buffer that it was read into. A shorter message is copied out, because it
/// would keep the whole buffer alive.
const TAKES_BUFFER: usize = 16 * 1024;

/// Splits a stream of bytes into lines.
pub(crate) struct LineReader<R> {
    reader: R,
    buffer: Vec<u8>,
    /// Where in the buffer the current line begins.
    begin: usize,
    /// How far the buffer has been searched for a newline.
    searched: usize,
    limit: usize,
    /// The charge for the buffer; `None` if nobody is charged.
    growth: Option<BufferCharge>,
    /// Scans the rest of a line that is not kept.
    scanner: Option<OversizedScanner>,
    /// Set if that line is not kept because its sender stalled; `None` if it is too large.
    stalled: Option<StallReported>,
    /// Whether the last read filled all of its space. Then there is more to read, most likely.
    filled: bool,
    ended: bool,
}

/// Whether [`Line::Lost`] was returned already for a line whose sender stalled. Without this its call would fail twice.
#[derive(Debug)]
enum StallReported {
    Already,
    NotYet,
}

/// What a [`LineReader`] returns for one line.
#[derive(Debug)]
pub(crate) enum Line {
    /// The line, without its newline and never empty. A long line comes with the permit of the buffer it was received
    /// in.
    Message { bytes: Bytes, permit: Option<Permit> },
    /// A line that was not kept. `request` is false for a response, and true for a request, a notification, or a line
    /// that is no message.
    Lost(LostMessage),
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    /// Reads lines of up to `limit` bytes. The memory for a long line is charged to `growth` before it is taken.
    pub(crate) fn new(reader: R, limit: usize, growth: impl Into<Option<BufferCharge>>) -> Self {
        Self {
            reader,
            buffer: Vec::new(),
            begin: 0,
            searched: 0,
            limit,
            growth: growth.into(),
            scanner: None,
            stalled: None,
            filled: false,
            ended: false,
        }
    }

    /// The next line; `None` at the end. Bytes after the last newline count as a line.
    ///
    /// Nothing is lost if the future is dropped.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            if let Some(line) = self.take_line() {
                return Ok(Some(line));
            }
            if self.ended {
                return Ok(None);
            }
            self.make_space().await;
            let free = self.buffer.capacity() - self.buffer.len();
            let mut space = (&mut self.buffer).limit(LARGEST_READ);
            let read = match &self.growth {
                Some(growth) => tokio::select! {
                    biased;
                    read = self.reader.read_buf(&mut space) => Ok(read?),
                    gave_way = growth.gave_way() => Err(gave_way),
                },
                None => Ok(self.reader.read_buf(&mut space).await?),
            };
            match read {
                Ok(0) => {
                    self.ended = true;
                    if !self.buffer.is_empty() || self.scanner.is_some() {
                        self.buffer.push(b'\n');
                    }
                }
                Ok(read) => {
                    self.filled = read >= free.min(LARGEST_READ);
                    if let Some(growth) = &self.growth {
                        growth.received(read);
                    }
                }
                Err(GaveWay) => {
                    self.scan(self.buffer.len());
                    // The request that waits for this response fails now: the end of the line may never come.
                    let (id, size) = self.scanner.as_ref().map_or((None, 0), |line| (line.answered_id(), line.size()));
                    self.stalled = Some(if id.is_some() { StallReported::Already } else { StallReported::NotYet });
                    if id.is_some() {
                        return Ok(Some(Line::Lost(LostMessage { id, request: false, size, why: Lost::Stalled })));
                    }
                }
            }
        }
    }

    /// Makes space in the buffer to read into, and waits for the charge.
    async fn make_space(&mut self) {
        if self.begin > 0 {
            self.buffer.drain(..self.begin);
            self.searched -= self.begin;
            self.begin = 0;
        }
        let (length, mut capacity) = (self.buffer.len(), self.buffer.capacity());
        // A reader that waits for the next message holds little memory; one that reads large ones, or many, does so in
        // few system calls.
        let least = if self.filled { UNCHARGED_BUFFER } else { IDLE_BUFFER };
        if length == capacity || length == 0 && capacity < least {
            // One byte more than the limit, to see that it is exceeded.
            let most = self.limit.saturating_add(1).max(IDLE_BUFFER);
            capacity = grown_capacity(capacity, least.max(length + IDLE_BUFFER)).min(most).max(length + 1);
        }
        // The rest of the last read may already be larger than what is free of charge.
        if let Some(growth) = &mut self.growth {
            growth.reach(capacity).await;
        }
        self.buffer.reserve_exact(capacity - length);
    }

    fn take_line(&mut self) -> Option<Line> {
        loop {
            let found = memchr::memchr(b'\n', &self.buffer[self.searched..]).map(|at| self.searched + at);
            let Some(end) = found else {
                self.searched = self.buffer.len();
                if self.scanner.is_some() || self.buffer.len() - self.begin > self.limit {
                    self.scan(self.buffer.len());
                } else if self.begin == self.buffer.len() {
                    self.empty();
                }
                return None;
            };
            if self.scanner.is_some() || end - self.begin > self.limit {
                self.scan(end);
                (self.begin, self.searched) = (self.begin + 1, self.begin + 1);
                let scanner = self.scanner.take()?;
                let size = scanner.size();
                let (id, request) = scanner.finish_line();
                let why = match self.stalled.take() {
                    None => Lost::Oversized,
                    Some(StallReported::NotYet) => Lost::Stalled,
                    Some(StallReported::Already) => continue,
                };
                return Some(Line::Lost(LostMessage { id, request, size, why }));
            }
            let line = self.begin..end;
            (self.begin, self.searched) = (end + 1, end + 1);
            if self.buffer[line.clone()].iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let (bytes, capacity) = if line.start == 0 && line.end >= TAKES_BUFFER {
                self.take_buffer(line.end)
            } else {
                (Bytes::copy_from_slice(&self.buffer[line.clone()]), line.len())
            };
            let permit = self.growth.as_mut().and_then(|growth| growth.finish(capacity));
            return Some(Line::Message { bytes, permit });
        }
    }

    /// Takes the buffer for the line that ends at `end`; the bytes behind the line move to a new buffer. Also returns
    /// how many bytes the line takes in memory.
    fn take_buffer(&mut self, end: usize) -> (Bytes, usize) {
        let rest = self.buffer[end + 1..].to_vec();
        let mut line = std::mem::replace(&mut self.buffer, rest);
        (self.begin, self.searched) = (0, 0);
        line.truncate(end);
        fit_buffer(line)
    }

    /// Scans the current line up to `end` for its id, and drops these bytes.
    fn scan(&mut self, end: usize) {
        self.scanner.get_or_insert_with(OversizedScanner::new).feed(&self.buffer[self.begin..end]);
        (self.begin, self.searched) = (end, end);
        if end == self.buffer.len() {
            self.empty();
        }
    }

    fn empty(&mut self) {
        (self.begin, self.searched) = (0, 0);
        self.buffer.clear();
        // More bytes will come while a line is scanned or reads are filled, and then the buffer is kept.
        let more_to_come = self.scanner.is_some() || self.filled;
        if self.buffer.capacity() > if more_to_come { UNCHARGED_BUFFER } else { IDLE_BUFFER } {
            self.buffer = Vec::new();
        }
        if let Some(growth) = &mut self.growth {
            growth.clear();
        }
    }
}

/// The most messages that are received from a queue, and written, at once.
const MOST_WRITTEN_AT_ONCE: usize = 64;

/// Writes messages as lines until the queue ends or the peer is gone.
///
/// The permit of a message is given back when the message is written. After each write `moved` is called with the first
/// message that bytes were written of, and the number of bytes.
pub(crate) async fn write_lines<W: AsyncWrite + Unpin, M: Borrow<Wire>>(
    mut writer: W,
    mut queue: mpsc::Receiver<M>,
    moved: impl Fn(&M, usize),
) -> io::Result<()> {
    let mut unwritten = Unwritten::default();
    while unwritten.receive(&mut queue).await {
        while !unwritten.is_empty() {
            unwritten.write(&mut writer, &moved).await?;
        }
        writer.flush().await?;
    }
    Ok(())
}

/// Messages that have to be written as lines. A part of the first one may be written already.
#[derive(Debug)]
pub(crate) struct Unwritten<M> {
    messages: VecDeque<M>,
    /// How many bytes of the first message have been written.
    written: usize,
    received: Vec<M>,
}

impl<M> Default for Unwritten<M> {
    fn default() -> Self {
        Self { messages: VecDeque::new(), written: 0, received: Vec::new() }
    }
}

impl<M: Borrow<Wire>> Unwritten<M> {
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Waits for more messages; false at the end of the queue. Nothing is lost if the future is dropped.
    pub(crate) async fn receive(&mut self, queue: &mut mpsc::Receiver<M>) -> bool {
        // Without this an idle session would keep the capacity of its busiest moment.
        self.received.shrink_to(4);
        self.messages.shrink_to(4);
        let received = queue.recv_many(&mut self.received, MOST_WRITTEN_AT_ONCE).await;
        self.messages.extend(self.received.drain(..));
        received > 0
    }

    /// Writes what can be written at once. A message that was written as a whole is dropped. Nothing is lost if the
    /// future is dropped. `moved` is as for [`write_lines`].
    pub(crate) async fn write<W: AsyncWrite + Unpin>(
        &mut self,
        writer: &mut W,
        moved: impl Fn(&M, usize),
    ) -> io::Result<()> {
        let mut slices: SmallVec<[IoSlice<'_>; 8]> = SmallVec::new();
        for message in &self.messages {
            slices.extend(message.borrow().parts().iter().map(|part| IoSlice::new(part)));
            slices.push(IoSlice::new(b"\n"));
        }
        let mut rest = slices.as_mut_slice();
        IoSlice::advance_slices(&mut rest, self.written);
        let written = writer.write_vectored(rest).await?;
        drop(slices);
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        if let Some(first) = self.messages.front() {
            moved(first, written);
        }
        self.written += written;
        while let Some(first) = self.messages.front()
            && self.written > first.borrow().len()
        {
            self.written -= first.borrow().len() + 1;
            self.messages.pop_front();
        }
        Ok(())
    }

    /// Takes out the messages that `is_wanted` chooses, except for a message that was written in part.
    pub(crate) fn take(&mut self, mut is_wanted: impl FnMut(&M) -> bool) -> Vec<M> {
        let begun = usize::from(self.written > 0);
        let mut taken = Vec::new();
        for (place, message) in std::mem::take(&mut self.messages).into_iter().enumerate() {
            if place >= begun && is_wanted(&message) {
                taken.push(message);
            } else {
                self.messages.push_back(message);
            }
        }
        taken
    }

    /// The messages that are not written as a whole yet.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &M> {
        self.messages.iter()
    }

    /// Adds a message behind the others.
    pub(crate) fn push(&mut self, message: M) {
        self.messages.push_back(message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(input: &[u8], limit: usize) -> Vec<String> {
        let mut reader = LineReader::new(input, limit, None);
        let mut lines = Vec::new();
        while let Some(line) = reader.next().await.unwrap() {
            lines.push(match line {
                Line::Message { bytes, .. } => String::from_utf8(bytes.to_vec()).unwrap(),
                Line::Lost(LostMessage { id, request, size, why }) => {
                    assert_eq!(why, Lost::Oversized);
                    format!("over {:?} {request} {size}", id.map(|id| id.to_string()))
                }
            });
        }
        lines
    }

    #[tokio::test]
    async fn takes_lines_apart() {
        assert_eq!(lines(b"{}\n\n  \r\n[1]\nhalf", 100).await, ["{}", "[1]", "half"]);
        assert!(lines(b"", 100).await.is_empty());
        assert!(lines(b"\n\n", 100).await.is_empty());
    }

    #[tokio::test]
    async fn a_line_over_the_limit_is_named_and_the_next_one_is_whole() {
        let long = format!("{{\"id\":7,\"result\":\"{}\"}}", "x".repeat(20_000));
        let input = format!("{{}}\n{long}\n{{\"a\":1}}\n");
        let over = format!("over Some(\"7\") false {}", long.len());
        assert_eq!(lines(input.as_bytes(), 100).await, ["{}", &over, "{\"a\":1}"]);
        assert_eq!(lines(long.as_bytes(), 100).await, std::slice::from_ref(&over));
        assert_eq!(lines(format!("{}\n", "x".repeat(100)).as_bytes(), 100).await.len(), 1);
    }

    #[tokio::test]
    async fn writes_all_that_is_queued() {
        let (sender, receiver) = mpsc::channel(1000);
        for number in 0..500 {
            sender.try_send(Wire::from(format!("{{\"id\":{number}}}"))).unwrap();
        }
        drop(sender);
        let (client, server) = tokio::io::duplex(64);
        let writing = tokio::spawn(write_lines(client, receiver, |_: &Wire, _| {}));
        let mut reader = LineReader::new(server, 1000, None);
        for number in 0..500 {
            let Some(Line::Message { bytes: line, .. }) = reader.next().await.unwrap() else {
                panic!("a line is missing")
            };
            assert_eq!(line, format!("{{\"id\":{number}}}"));
        }
        assert!(reader.next().await.unwrap().is_none());
        writing.await.unwrap().unwrap();
    }
}
