//! Reads the bodies of responses, within limits of size, memory and time.

use std::error::Error;
use std::ops::Deref;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::Response;
use tokio::time::{sleep, timeout};

use super::position::{StreamPosition, StreamProgress};
use super::rules::{self, ReplyKind};
use super::secrets::RequestSecrets;
use super::sse_decoder::{SseDecoder, SseEvent};
use crate::budget::{Budget, BufferCharge, GaveWay, UNCHARGED_BUFFER, fit_buffer, grown_capacity};
use crate::frame::{Lost, LostMessage, Permit};

/// How many bytes past the message limit an event may have before it is given up as endless.
const MAX_OVERSIZED_REST: usize = 16 * 1024 * 1024;
/// How large the buffer of a body is at first, at most, in bytes.
const INITIAL_BODY_BUFFER: usize = 1024 * 1024;
/// How much of the body of a refusal is read, in bytes, and for how long.
const MAX_REFUSAL: usize = 64 * 1024;
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a server may be silent in the middle of a body or of a large event, whose bytes take memory in the
/// meantime.
const MID_MESSAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// How much of a refusal's body an error quotes, in characters.
const MAX_EXCERPT: usize = 300;

/// A response that is a stream of events.
pub(super) struct EventReader {
    response: Response,
    decoder: SseDecoder,
    limit: usize,
    /// The charge for the event that is being read.
    growth: BufferCharge,
    /// Whether an event was given up as endless. The stream ends with it.
    endless: bool,
    /// Set while the rest of an event is skipped whose memory was given to others: whether its loss was reported
    /// already.
    stalled: Option<bool>,
}

/// An event of a server's stream, as far as it could be kept.
#[derive(Debug)]
pub(super) enum StreamItem {
    /// A message, and the permit under which it was received, if it was large.
    Message(Bytes, Option<Permit>),
    /// An event of another type than `message`: that type, and its data, which may be empty.
    Other(Bytes, Bytes),
    /// A message that was too large or stalled, and was not kept.
    Lost(LostMessage),
}

impl EventReader {
    /// Reads a stream that was resumed at `position`. Events may have up to `limit` bytes of data, and large ones are
    /// charged to `budget` as they come.
    pub(super) fn new(response: Response, limit: usize, position: StreamPosition, budget: &Budget) -> Self {
        let (decoder, growth) = (SseDecoder::new(limit, position), budget.buffer_charge());
        Self { response, decoder, limit, growth, endless: false, stalled: None }
    }

    /// Returns the next event, `None` at the end of the stream, and an error where the stream broke off. An event over
    /// the limit that does not end is given up, and the stream with it.
    ///
    /// No event is lost if the future is dropped.
    pub(super) async fn next(&mut self) -> Result<Option<StreamItem>, String> {
        loop {
            if let Some(event) = self.decoder.next() {
                match self.take(event) {
                    Some(item) => return Ok(Some(item)),
                    None => continue,
                }
            }
            if self.endless {
                return Err("an event on its stream had no end".to_owned());
            }
            if self.decoder.scanned() > self.limit.saturating_add(MAX_OVERSIZED_REST) {
                self.endless = true;
                return Ok(self.decoder.give_up().and_then(|event| self.take(event)));
            }
            if self.decoder.buffered() == 0 {
                // The last event may have been dropped as a repetition, and its charge with it.
                self.growth.clear();
            }
            self.growth.reach(self.decoder.will_take()).await;
            let is_long = self.decoder.buffered() > UNCHARGED_BUFFER;
            let next = tokio::select! {
                biased;
                chunk = self.response.chunk() => Ok(chunk),
                gave_way = self.growth.gave_way() => Err(gave_way),
                () = sleep(MID_MESSAGE_TIMEOUT), if is_long => return Err(silent()),
            };
            let Ok(chunk) = next else {
                let size = self.decoder.buffered();
                let id = self.decoder.drop_event();
                self.growth.clear();
                self.stalled = Some(id.is_some());
                if id.is_some() {
                    return Ok(Some(StreamItem::Lost(LostMessage { id, request: false, size, why: Lost::Stalled })));
                }
                continue;
            };
            match chunk {
                Ok(Some(chunk)) => {
                    self.growth.received(chunk.len());
                    self.decoder.feed(chunk);
                }
                Ok(None) => return Ok(None),
                Err(error) => return Err(error_chain(error)),
            }
        }
    }

    /// Makes a complete event into an item. Returns `None` if the loss of the event was reported already: its call
    /// would fail twice otherwise.
    fn take(&mut self, event: SseEvent) -> Option<StreamItem> {
        let item = match event {
            SseEvent::Message(data) => {
                let permit = self.growth.finish(self.decoder.message_takes());
                return Some(StreamItem::Message(data, permit));
            }
            SseEvent::Other(kind, data) => Some(StreamItem::Other(kind, data)),
            SseEvent::Oversized { id, request, size } => match self.stalled.take() {
                None => Some(StreamItem::Lost(LostMessage { id, request, size, why: Lost::Oversized })),
                Some(false) => Some(StreamItem::Lost(LostMessage { id, request, size, why: Lost::Stalled })),
                Some(true) => None,
            },
        };
        self.growth.clear();
        item
    }

    /// How far the stream has got.
    pub(super) fn progress(&self) -> StreamProgress {
        self.decoder.progress()
    }

    /// The position from which the stream can be resumed.
    pub(super) fn position(&self) -> StreamPosition {
        self.decoder.position().clone()
    }
}

/// Returns what kind of reply a response is.
pub(super) fn reply_kind(response: &Response) -> ReplyKind {
    let content_type = response.headers().get(http::header::CONTENT_TYPE);
    rules::reply_kind(response.status(), content_type.map(http::HeaderValue::as_bytes))
}

/// Why a body could not be read.
#[derive(Debug)]
pub(super) enum BodyError {
    /// The body is over the limit: it has so many bytes at least.
    TooLarge(usize),
    /// The body broke off, and how.
    Cut(String),
    /// The rest of the body did not come for a while, and other sessions needed the memory.
    Stalled,
}

/// Reads the whole body, and returns it with the permit under which it was received, if it was large. A body over the
/// limit is not read on.
pub(super) async fn read_body(
    mut response: Response,
    limit: usize,
    budget: &Budget,
) -> Result<(Bytes, Option<Permit>), BodyError> {
    let announced = response.content_length().and_then(|length| usize::try_from(length).ok());
    if let Some(length) = announced.filter(|length| *length > limit) {
        return Err(BodyError::TooLarge(length));
    }
    let mut growth = budget.buffer_charge();
    // No time limit here: how long a call may take until its response begins is not the transport's business.
    let Some(first) = response.chunk().await.map_err(|error| BodyError::Cut(error_chain(error)))? else {
        return Ok((Bytes::new(), None));
    };
    if first.len() > limit {
        return Err(BodyError::TooLarge(first.len()));
    }
    growth.reach(first.len()).await;
    let Some(mut chunk) = next_chunk(&mut response, &growth).await? else {
        let permit = growth.finish(first.len());
        return Ok((first, permit));
    };
    let mut body = Vec::new();
    let mut first = Some(first);
    loop {
        let before = first.as_ref().map_or(body.len(), Bytes::len);
        let size = before + chunk.len();
        if size > limit {
            return Err(BodyError::TooLarge(size));
        }
        if size > body.capacity() {
            // A server may announce more than it sends. So the buffer begins with a part of the announced length: a
            // false length would take the memory of other sessions otherwise.
            let most = announced.unwrap_or(limit).clamp(size, limit);
            let begin = announced.map_or(0, |length| length.min(INITIAL_BODY_BUFFER));
            let capacity = grown_capacity(body.capacity(), size).max(begin).clamp(size, most);
            growth.reach(capacity).await;
            body.reserve_exact(capacity - body.len());
        }
        if let Some(first) = first.take() {
            body.extend_from_slice(&first);
        }
        body.extend_from_slice(&chunk);
        match next_chunk(&mut response, &growth).await? {
            Some(next) => chunk = next,
            None => break,
        }
    }
    let (body, capacity) = fit_buffer(body);
    let permit = growth.finish(capacity);
    Ok((body, permit))
}

async fn next_chunk(response: &mut Response, growth: &BufferCharge) -> Result<Option<Bytes>, BodyError> {
    let chunk = tokio::select! {
        biased;
        chunk = timeout(MID_MESSAGE_TIMEOUT, response.chunk()) => chunk,
        GaveWay = growth.gave_way() => return Err(BodyError::Stalled),
    };
    let chunk = chunk.map_err(|_| BodyError::Cut(silent()))?.map_err(|error| BodyError::Cut(error_chain(error)))?;
    growth.received(chunk.as_ref().map_or(0, Bytes::len));
    Ok(chunk)
}

fn silent() -> String {
    format!("it said nothing for {} seconds in the middle of its answer", MID_MESSAGE_TIMEOUT.as_secs())
}

/// The start of the body of a refusal, and the secrets that must not be shown of it.
pub(super) struct RefusalBody {
    body: Bytes,
    cut: bool,
    secrets: RequestSecrets,
}

impl Deref for RefusalBody {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.body
    }
}

impl RefusalBody {
    /// Returns what the server said, for people: on one line, cut short, and without the secrets of the request, which
    /// the server may have repeated.
    pub(super) fn excerpt(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let clean = |character: char| if character.is_control() { ' ' } else { character };
        let words = text.chars().map(clean).collect::<String>();
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        let words = self.secrets.mask(words, self.cut);
        match words.char_indices().nth(MAX_EXCERPT) {
            _ if words.is_empty() => "it said nothing more".to_owned(),
            None => words,
            Some((cut, _)) => format!("{}...", &words[..cut]),
        }
    }
}

/// Reads the start of the body of a refusal, as far as it comes in time.
pub(super) async fn read_refusal(mut response: Response) -> RefusalBody {
    let secrets = response.extensions_mut().remove().unwrap_or_default();
    let mut body = BytesMut::new();
    let reading = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            let room = MAX_REFUSAL.saturating_sub(body.len());
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() >= room {
                return true;
            }
        }
        false
    };
    // A body that did not come in time counts as cut off.
    let cut = timeout(REFUSAL_TIMEOUT, reading).await.unwrap_or(true);
    RefusalBody { body: body.freeze(), cut, secrets }
}

/// Returns what went wrong, with its causes and without the URL, in which there may be secrets.
pub(super) fn error_chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut words: Vec<String> = Vec::new();
    let mut next: Option<&dyn Error> = error.source();
    while let Some(error) = next {
        let text = error.to_string();
        // Most errors repeat what is below them.
        if !words.last().is_some_and(|last| last.contains(&text)) {
            words.push(text);
        }
        next = error.source();
    }
    words.retain(|text| !text.starts_with("client error ("));
    if words.is_empty() { error.to_string() } else { words.join(": ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt(body: &[u8], secret: &'static str) -> String {
        let secrets = RequestSecrets::new(&[http::HeaderValue::from_static(secret)], []);
        RefusalBody { body: Bytes::copy_from_slice(body), cut: false, secrets }.excerpt()
    }

    #[test]
    fn quotes_a_little_on_one_line() {
        assert_eq!(excerpt(b" <h1>\r\n  Not\tFound</h1>\x00\x1b[31m", ""), "<h1> Not Found</h1> [31m");
        assert_eq!(excerpt(b"no hunter2, no tea", "hunter2"), "no ***, no tea");
        assert_eq!(excerpt(b" \n", ""), "it said nothing more");
        assert_eq!(excerpt("é".repeat(400).as_bytes(), ""), format!("{}...", "é".repeat(300)));
        assert!(excerpt(&vec![0xFF; 60_000], "").chars().count() <= 303);
        let long = format!("{}hunter2hunter2", " ".repeat(2390));
        assert_eq!(excerpt(long.as_bytes(), "hunter2hunter2"), "***");
    }
}
