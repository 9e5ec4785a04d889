//! Messages as lines: the stdio transport, on either side (2025-11-25, basic/transports, "stdio").

use std::borrow::Borrow;
use std::io::{self, IoSlice};

use bytes::{Buf as _, Bytes, BytesMut};
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::frame::{Id, Skimmer, Wire};

/// What is read at once when little is expected. An idle session holds on to no more than this.
const SMALL: usize = 4 * 1024;
/// What is read at once in a message that turned out long.
const LARGE: usize = 256 * 1024;

/// Takes a stream of bytes apart at its newlines.
pub(crate) struct LineReader<R> {
    reader: R,
    buffer: BytesMut,
    searched: usize,
    limit: usize,
    skimmer: Option<Skimmer>,
    ended: bool,
}

#[derive(Debug)]
pub(crate) enum Line {
    /// A line, without its newline. Never empty.
    Message(Bytes),
    /// A line over the limit. Its bytes are gone. `request` is whether it was a request or notification, or no message at
    /// all: no answer in any case.
    Oversized { id: Option<Id>, request: bool, size: usize },
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    pub(crate) fn new(reader: R, limit: usize) -> Self {
        Self { reader, buffer: BytesMut::new(), searched: 0, limit, skimmer: None, ended: false }
    }

    /// The next line; `None` at the end. What stands after the last newline counts as a line.
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
            let room = if self.buffer.is_empty() { SMALL } else { self.buffer.len().clamp(SMALL, LARGE) };
            self.buffer.reserve(room);
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                self.ended = true;
                if !self.buffer.is_empty() || self.skimmer.is_some() {
                    self.buffer.extend_from_slice(b"\n");
                }
            }
        }
    }

    fn take_line(&mut self) -> Option<Line> {
        loop {
            let found = memchr::memchr(b'\n', &self.buffer[self.searched..]).map(|at| self.searched + at);
            let Some(end) = found else {
                self.searched = self.buffer.len();
                if self.skimmer.is_some() || self.buffer.len() > self.limit {
                    self.skim(self.buffer.len());
                }
                return None;
            };
            if self.skimmer.is_some() || end > self.limit {
                self.skim(end);
                self.buffer.advance(1);
                let skimmer = self.skimmer.take()?;
                let size = skimmer.size();
                let (id, request) = skimmer.finish_line();
                return Some(Line::Oversized { id, request, size });
            }
            let mut line = self.buffer.split_to(end + 1).freeze();
            self.searched = 0;
            if self.buffer.is_empty() {
                // A long message's buffer goes with the message.
                self.buffer = BytesMut::new();
            }
            line.truncate(end);
            if !line.iter().all(u8::is_ascii_whitespace) {
                return Some(Line::Message(line));
            }
        }
    }

    fn skim(&mut self, end: usize) {
        self.skimmer.get_or_insert_with(Skimmer::new).feed(&self.buffer[..end]);
        self.buffer.advance(end);
        self.searched = 0;
    }
}

/// Most messages that are written at once.
const MOST: usize = 64;

/// Writes messages as lines until the queue ends or the peer is gone.
///
/// The room that a message takes is given back when it is written.
pub(crate) async fn write_lines<W: AsyncWrite + Unpin, M: Borrow<Wire>>(
    mut writer: W,
    mut queue: mpsc::Receiver<M>,
) -> io::Result<()> {
    let mut wires = Vec::new();
    while queue.recv_many(&mut wires, MOST).await > 0 {
        write_all(&mut writer, &wires).await?;
        writer.flush().await?;
        wires.clear();
        wires.shrink_to(4);
    }
    Ok(())
}

async fn write_all<W: AsyncWrite + Unpin, M: Borrow<Wire>>(writer: &mut W, wires: &[M]) -> io::Result<()> {
    let mut slices: SmallVec<[IoSlice<'_>; 8]> = SmallVec::new();
    for wire in wires {
        slices.extend(wire.borrow().parts().iter().map(|part| IoSlice::new(part)));
        slices.push(IoSlice::new(b"\n"));
    }
    let mut rest = slices.as_mut_slice();
    while !rest.is_empty() {
        match writer.write_vectored(rest).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => IoSlice::advance_slices(&mut rest, written),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(input: &[u8], limit: usize) -> Vec<String> {
        let mut reader = LineReader::new(input, limit);
        let mut lines = Vec::new();
        while let Some(line) = reader.next().await.unwrap() {
            lines.push(match line {
                Line::Message(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
                Line::Oversized { id, request, size } => {
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
        let writing = tokio::spawn(write_lines(client, receiver));
        let mut reader = LineReader::new(server, 1000);
        for number in 0..500 {
            let Some(Line::Message(line)) = reader.next().await.unwrap() else { panic!("a line is missing") };
            assert_eq!(line, format!("{{\"id\":{number}}}"));
        }
        assert!(reader.next().await.unwrap().is_none());
        writing.await.unwrap().unwrap();
    }
}
