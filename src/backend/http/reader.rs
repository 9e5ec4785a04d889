//! Reads responses, within bounds.

use std::error::Error;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::Response;
use tokio::time::timeout;

use super::events::{Decoder, Event, Position};
use super::rules::{self, Reply};

/// How much longer than the limit an event may become before its end is waited for no more, in bytes.
const ENDLESS: usize = 16 * 1024 * 1024;
/// What is read of the body of a refusal, in bytes, and how long that may take.
const REFUSAL: usize = 64 * 1024;
const REFUSAL_TIME: Duration = Duration::from_secs(5);
/// How much of it an error quotes, in characters.
const QUOTED: usize = 300;

/// A response that is a stream of events.
pub(super) struct Reader {
    response: Response,
    decoder: Decoder,
    limit: usize,
    /// Whether an event was given up because it had no end.
    endless: bool,
}

impl Reader {
    /// Events may have up to `limit` bytes of data. The stream is taken up at `position`.
    pub(super) fn new(response: Response, limit: usize, position: Position) -> Self {
        Self { response, decoder: Decoder::new(limit, position), limit, endless: false }
    }

    /// The next event; `None` at the end of the stream, and an error where it broke off. An event over the limit that does not
    /// end is given up, and the stream with it.
    ///
    /// Nothing is lost if the future is dropped.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, String> {
        loop {
            if let Some(event) = self.decoder.next() {
                return Ok(Some(event));
            }
            if self.endless {
                return Err("an event on its stream had no end".to_owned());
            }
            if self.decoder.skimmed() > self.limit.saturating_add(ENDLESS) {
                self.endless = true;
                return Ok(self.decoder.give_up());
            }
            match self.response.chunk().await {
                Ok(Some(chunk)) => self.decoder.feed(chunk),
                Ok(None) => return Ok(None),
                Err(error) => return Err(chain(error)),
            }
        }
    }

    /// Whether any event was complete.
    pub(super) fn progressed(&self) -> bool {
        self.decoder.progressed()
    }

    /// Where the stream can be taken up again.
    pub(super) fn position(&self) -> Position {
        self.decoder.position().clone()
    }
}

/// What kind of reply a response is.
pub(super) fn reply(response: &Response) -> Reply {
    let content_type = response.headers().get(http::header::CONTENT_TYPE);
    rules::reply(response.status(), content_type.map(http::HeaderValue::as_bytes))
}

/// Why a body is not there.
#[derive(Debug)]
pub(super) enum NoBody {
    /// It has so many bytes at least, which is over the limit.
    TooLarge(usize),
    /// It broke off.
    Cut(String),
}

/// The whole body, if it is within the limit. What is over it is not read.
pub(super) async fn whole(mut response: Response, limit: usize) -> Result<Bytes, NoBody> {
    let announced = response.content_length().and_then(|length| usize::try_from(length).ok());
    if let Some(length) = announced.filter(|length| *length > limit) {
        return Err(NoBody::TooLarge(length));
    }
    let mut next = async || response.chunk().await.map_err(|error| NoBody::Cut(chain(error)));
    let Some(first) = next().await? else { return Ok(Bytes::new()) };
    if first.len() > limit {
        return Err(NoBody::TooLarge(first.len()));
    }
    let Some(second) = next().await? else { return Ok(first) };
    // What is announced is not there yet: room is made for a part of it only.
    let room =
        announced.unwrap_or_default().clamp(first.len() + second.len(), 1024 * 1024 + first.len() + second.len());
    let mut body = BytesMut::with_capacity(room);
    body.extend_from_slice(&first);
    let mut chunk = second;
    loop {
        let size = body.len() + chunk.len();
        if size > limit {
            return Err(NoBody::TooLarge(size));
        }
        body.extend_from_slice(&chunk);
        match next().await? {
            Some(next) => chunk = next,
            None => return Ok(body.freeze()),
        }
    }
}

/// The start of the body of a refusal, or what came of it.
pub(super) async fn refusal(mut response: Response) -> Bytes {
    let mut body = BytesMut::new();
    let reading = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            let room = REFUSAL.saturating_sub(body.len());
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() >= room {
                break;
            }
        }
    };
    let _ = timeout(REFUSAL_TIME, reading).await;
    body.freeze()
}

/// What a server said, on one line, without these secrets, and cut short.
pub(super) fn excerpt(body: &[u8], secrets: &[&str]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(8 * QUOTED)]);
    let clean = |character: char| if character.is_control() { ' ' } else { character };
    let words = text.chars().map(clean).collect::<String>();
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let words = secrets.iter().fold(words, |words, secret| words.replace(secret, "***"));
    match words.char_indices().nth(QUOTED) {
        _ if words.is_empty() => "it said nothing more".to_owned(),
        None => words,
        Some((cut, _)) => format!("{}...", &words[..cut]),
    }
}

/// What went wrong, without the URL, in which there may be secrets.
pub(super) fn chain(error: reqwest::Error) -> String {
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

    #[test]
    fn quotes_a_little_on_one_line() {
        assert_eq!(excerpt(b" <h1>\r\n  Not\tFound</h1>\x00\x1b[31m", &[]), "<h1> Not Found</h1> [31m");
        assert_eq!(excerpt(b"no hunter2, no tea", &["hunter2"]), "no ***, no tea");
        assert_eq!(excerpt(b" \n", &[]), "it said nothing more");
        assert_eq!(excerpt("é".repeat(400).as_bytes(), &[]), format!("{}...", "é".repeat(300)));
        assert!(excerpt(&vec![0xFF; 100_000], &[]).chars().count() <= 303);
    }
}
