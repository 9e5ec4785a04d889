//! An HTTP response as it comes: from a socket, byte by byte, or from the router.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{QUIET_TIME, soon};

pub(crate) struct Reply {
    pub status: u16,
    headers: Vec<(String, String)>,
    source: Source,
    /// Decoded, and not asked for yet.
    text: Vec<u8>,
    /// How many bytes of `text` are known to hold no end of an event.
    searched: usize,
}

/// An event of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Event {
    /// Its type, where that is said.
    pub name: Option<String>,
    pub id: Option<String>,
    pub retry: Option<String>,
    pub data: String,
}

enum Source {
    Socket { socket: TcpStream, raw: Vec<u8>, framing: Framing },
    Router(Body),
}

#[derive(Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
    ToTheEnd,
}

impl Reply {
    /// Reads the head of a response. `None` if the connection ends before it.
    pub(crate) async fn read(mut socket: TcpStream) -> Option<Self> {
        let mut raw = Vec::new();
        let end = loop {
            if let Some(end) = find(&raw, b"\r\n\r\n") {
                break end;
            }
            if socket.read_buf(&mut raw).await.ok()? == 0 {
                return None;
            }
        };
        let head = String::from_utf8(raw[..end].to_vec()).unwrap();
        raw.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let split =
            |line: &str| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
        let headers: Vec<_> = lines.filter_map(split).collect();
        let get = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let framing = match (get("content-length"), get("transfer-encoding")) {
            (Some(length), _) => Framing::Length(length.parse().unwrap()),
            (None, Some("chunked")) => Framing::Chunked,
            (None, _) if status == 204 => Framing::Length(0),
            (None, _) => Framing::ToTheEnd,
        };
        Some(Self { status, headers, source: Source::Socket { socket, raw, framing }, text: Vec::new(), searched: 0 })
    }

    pub(crate) fn of_router(response: axum::response::Response) -> Self {
        let (parts, body) = response.into_parts();
        let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
        let headers = parts.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
        Self { status: parts.status.as_u16(), headers, source: Source::Router(body), text: Vec::new(), searched: 0 }
    }

    pub(crate) fn header(&self, wanted: &str) -> Option<&str> {
        self.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    }

    pub(crate) fn is_sse(&self) -> bool {
        self.header("content-type") == Some("text/event-stream")
    }

    /// The whole body.
    pub(crate) async fn text(mut self) -> String {
        soon("the body ends", async { while self.fill().await {} }).await;
        String::from_utf8(self.text).unwrap()
    }

    pub(crate) async fn json(self) -> serde_json::Value {
        let text = self.text().await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
    }

    /// The next block of a stream of events, comments too; `None` at its end.
    pub(crate) async fn block(&mut self) -> Option<String> {
        soon("an event comes", self.next_block()).await
    }

    /// Can be dropped without loss.
    async fn next_block(&mut self) -> Option<String> {
        loop {
            if let Some(end) = find(&self.text[self.searched..], b"\n\n") {
                let end = self.searched + end + 2;
                self.searched = 0;
                return Some(String::from_utf8(self.text.drain(..end).collect()).unwrap());
            }
            self.searched = self.text.len().saturating_sub(1);
            if !self.fill().await {
                assert!(self.text.is_empty(), "half an event: {:?}", String::from_utf8_lossy(&self.text));
                return None;
            }
        }
    }

    /// The next event that has data.
    pub(crate) async fn event(&mut self) -> Event {
        soon("an event with data comes", self.event_at_last()).await
    }

    /// The next event that has data, however long it takes.
    pub(crate) async fn event_at_last(&mut self) -> Event {
        self.next_event().await.expect("the stream ended before the event")
    }

    /// The next event that has data, however long it takes; `None` at the end of the stream. Can be dropped without
    /// loss.
    pub(crate) async fn next_event(&mut self) -> Option<Event> {
        loop {
            let event = Event::read(&self.next_block().await?);
            if !event.data.is_empty() {
                return Some(event);
            }
        }
    }

    /// The data of the next event.
    pub(crate) async fn data(&mut self) -> String {
        self.event().await.data
    }

    pub(crate) async fn data_json(&mut self) -> serde_json::Value {
        serde_json::from_str(&self.data().await).unwrap()
    }

    /// The stream ends, without anything more to hear.
    pub(crate) async fn ends(mut self) {
        if let Some(block) = self.block().await {
            panic!("the stream was to end, and said {block:?}");
        }
    }

    pub(crate) async fn stays_silent(&mut self) {
        self.stays_silent_for(QUIET_TIME).await;
    }

    pub(crate) async fn stays_silent_for(&mut self, time: Duration) {
        if let Ok(block) = timeout(time, self.next_block()).await {
            panic!("the stream was to stay open and silent: {block:?}");
        }
    }

    /// Whether there is more. Can be dropped without loss.
    async fn fill(&mut self) -> bool {
        match &mut self.source {
            Source::Router(body) => match body.frame().await {
                Some(frame) => {
                    self.text.extend_from_slice(&frame.unwrap().into_data().unwrap_or_else(|_| Bytes::new()));
                    true
                }
                None => false,
            },
            Source::Socket { socket, raw, framing } => loop {
                match decode(raw, framing) {
                    Decoded::Some(bytes) => {
                        self.text.extend_from_slice(&bytes);
                        return true;
                    }
                    Decoded::End => return false,
                    Decoded::More => {
                        if socket.read_buf(raw).await.unwrap_or(0) == 0 {
                            assert!(matches!(framing, Framing::ToTheEnd), "the connection broke within the body");
                            return false;
                        }
                    }
                }
            },
        }
    }
}

enum Decoded {
    Some(Vec<u8>),
    More,
    End,
}

fn decode(raw: &mut Vec<u8>, framing: &mut Framing) -> Decoded {
    match framing {
        Framing::Length(0) => Decoded::End,
        Framing::ToTheEnd | Framing::Length(_) if raw.is_empty() => Decoded::More,
        Framing::ToTheEnd => Decoded::Some(std::mem::take(raw)),
        Framing::Length(left) => {
            let bytes: Vec<u8> = raw.drain(..raw.len().min(*left)).collect();
            *left -= bytes.len();
            Decoded::Some(bytes)
        }
        Framing::Chunked => {
            let Some(line) = find(raw, b"\r\n") else { return Decoded::More };
            let size = usize::from_str_radix(std::str::from_utf8(&raw[..line]).unwrap(), 16).unwrap();
            let whole = line + 2 + size + 2;
            if raw.len() < whole {
                return Decoded::More;
            }
            let bytes = raw[line + 2..line + 2 + size].to_vec();
            raw.drain(..whole);
            if size == 0 {
                *framing = Framing::Length(0);
                return Decoded::End;
            }
            Decoded::Some(bytes)
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

impl Event {
    pub(crate) fn read(block: &str) -> Self {
        let mut event = Self::default();
        for line in block.lines() {
            match line.split_once(": ").unwrap_or((line, "")) {
                ("event", value) => event.name = Some(value.to_owned()),
                ("id", value) => event.id = Some(value.to_owned()),
                ("retry", value) => event.retry = Some(value.to_owned()),
                ("data", value) => event.data.push_str(value),
                _ => {}
            }
        }
        event
    }
}
