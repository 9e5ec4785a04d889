//! A session's stream as the body of an HTTP response: SSE events, and comments that keep the connection alive.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::{Instant, Sleep, sleep};

use super::body::{MessageBody, with_charge};
use crate::session::{MessageToClient, StreamConnection, StreamId};

/// How many milliseconds a client should wait before it resumes a lost stream.
const RETRY_MILLIS: u32 = 1000;
/// A message of up to this size is copied into one piece with its event; a larger one is sent in its parts, without a
/// copy.
const ONE_PIECE_UP_TO: usize = 16 * 1024;

/// The id of an event: the stream, and the event's number in it.
pub(super) fn event_id(stream: StreamId, event: u64) -> String {
    format!("{}-{event}", stream.0)
}

pub(super) fn parse_event_id(text: &str) -> Option<(StreamId, u64)> {
    let (stream, event) = text.split_once('-')?;
    Some((StreamId(stream.parse().ok()?), event.parse().ok()?))
}

/// The body of a response that carries a session's stream.
pub(super) struct EventBody {
    stream: StreamConnection,
    /// Messages that came before the response began.
    first: VecDeque<MessageToClient>,
    ready: VecDeque<Bytes>,
    /// A large message whose event has begun. It comes after the bytes in `ready`.
    large: Option<MessageBody>,
    keep_alive: Duration,
    keep_alive_timer: Pin<Box<Sleep>>,
}

impl EventBody {
    /// With `prime`, the stream begins with an event that has an id and no data: a client can then resume the stream
    /// even if it loses it before the first message (2025-11-25, basic/transports, "Sending Messages to the Server").
    pub(super) fn new(
        stream: StreamConnection,
        prime: bool,
        first: Vec<MessageToClient>,
        keep_alive: Duration,
    ) -> Self {
        let mut body = Self {
            first: first.into(),
            ready: VecDeque::new(),
            large: None,
            keep_alive,
            keep_alive_timer: Box::pin(sleep(keep_alive)),
            stream,
        };
        if prime {
            let text = format!("id: {}\nretry: {RETRY_MILLIS}\ndata: \n\n", event_id(body.stream.id, 0));
            body.ready.push_back(text.into());
        }
        body
    }

    fn push(&mut self, message: MessageToClient) {
        let MessageToClient { event, mut wire, held, .. } = message;
        let id = event.map(|event| format!("id: {}\n", event_id(self.stream.id, event))).unwrap_or_default();
        let head = format!("event: message\n{id}data: ");
        let charged = Arc::new((wire.take_permit(), held));
        if wire.len() <= ONE_PIECE_UP_TO {
            let mut whole = Vec::with_capacity(head.len() + wire.len() + 2);
            whole.extend_from_slice(head.as_bytes());
            wire.parts().iter().for_each(|part| whole.extend_from_slice(part));
            whole.extend_from_slice(b"\n\n");
            self.ready.push_back(with_charge(whole.into(), charged));
        } else {
            self.ready.push_back(head.into());
            self.large = Some(MessageBody::new(wire, charged));
        }
    }
}

impl Body for EventBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        loop {
            if let Some(bytes) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if let Some(large) = &mut this.large {
                let step = large.next_step().unwrap_or_else(|| {
                    this.large = None;
                    Bytes::from_static(b"\n\n")
                });
                return Poll::Ready(Some(Ok(Frame::data(step))));
            }
            if let Some(first) = this.first.pop_front() {
                this.push(first);
                continue;
            }
            match this.stream.poll_next(context) {
                Poll::Ready(Some(message)) => this.push(message),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    if this.keep_alive_timer.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    this.ready.push_back(Bytes::from_static(b": keep-alive\n\n"));
                }
            }
            let next = Instant::now() + this.keep_alive;
            this.keep_alive_timer.as_mut().reset(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_ids() {
        assert_eq!(event_id(StreamId(3), 14), "3-14");
        assert_eq!(parse_event_id("3-14"), Some((StreamId(3), 14)));
        for bad in ["", "3", "-", "3-", "-3", "a-b", "3-14-15", "99999999999999999999-1"] {
            assert_eq!(parse_event_id(bad), None, "{bad}");
        }
    }
}
