//! Reads a request's body up to the limit, and hands large messages to a connection piece by piece. Bytes of a response
//! keep the permit that they are charged to until they are written.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, EXPECT};
use http_body::SizeHint;
use http_body_util::BodyExt as _;
use smallvec::SmallVec;
use tokio::time::timeout;

use crate::budget::{BufferCharge, GaveWay, Held, fit_buffer, grown_capacity};
use crate::error::ProxyError;
use crate::frame::{Permit, Wire};

/// How long the rest of a refused body is read and thrown away: a client that is still sending would not see the
/// response.
const DISCARD_WITHIN: Duration = Duration::from_secs(5);

/// How long a client may send nothing in the middle of a body, whose first part is kept in memory.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// How many bytes of a large message are handed to a connection at once. A client counts as reading each time such a
/// step has gone to the socket. Larger steps would save system calls, but a client that reads slowly would look
/// stalled.
const WRITE_STEP: usize = 64 * 1024;
/// The first size of a body's buffer: the length in `Content-Length` up to the second of these, or else the first.
const FIRST_BUFFER: usize = 64 * 1024;
const LARGEST_ANNOUNCED_BUFFER: usize = 1024 * 1024;

/// Reads the whole body. A large body comes with the permit that it was received with. A body in a single piece is not
/// copied.
pub(super) async fn read(
    headers: &HeaderMap,
    body: &mut Body,
    limit: usize,
    mut growth: BufferCharge,
) -> Result<(Bytes, Option<Permit>), ProxyError> {
    let announced =
        headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    if let Some(size) = announced.filter(|size: &usize| *size > limit) {
        return Err(ProxyError::MessageTooLarge { limit, size });
    }
    let mut whole = Vec::new();
    let mut only = Bytes::new();
    loop {
        let next = tokio::select! {
            biased;
            next = timeout(LONGEST_SILENCE, body.frame()) => next,
            GaveWay = growth.gave_way() => return Err(ProxyError::MessageStalled),
        };
        let next = next.map_err(|_| ProxyError::InvalidRequest("the body did not come: it was given up".to_owned()))?;
        let Some(piece) = next else { break };
        let piece = piece.map_err(|error| ProxyError::InvalidRequest(format!("the body ended early: {error}")))?;
        let Ok(bytes) = piece.into_data() else { continue };
        growth.received(bytes.len());
        if whole.is_empty() && only.is_empty() {
            only = bytes;
            continue;
        }
        let size = whole.len().max(only.len()) + bytes.len();
        if size > limit {
            return Err(ProxyError::MessageTooLarge { limit, size });
        }
        if size > whole.capacity() {
            let capacity = capacity(size, whole.capacity(), announced, limit);
            growth.reach(capacity).await;
            whole.reserve_exact(capacity - whole.len());
        }
        whole.extend_from_slice(&std::mem::take(&mut only));
        whole.extend_from_slice(&bytes);
    }
    if whole.is_empty() {
        let permit = growth.finish(only.len());
        return if only.len() > limit {
            Err(ProxyError::MessageTooLarge { limit, size: only.len() })
        } else {
            Ok((only, permit))
        };
    }
    let (whole, capacity) = fit_buffer(whole);
    let permit = growth.finish(capacity);
    Ok((whole, permit))
}

/// The capacity of the buffer for a body of which `size` bytes have come. It grows with the bytes and not at once to
/// the announced length, or a client could take memory with a header alone.
fn capacity(size: usize, before: usize, announced: Option<usize>, limit: usize) -> usize {
    let most = announced.unwrap_or(limit).clamp(size, limit.max(size));
    grown_capacity(before, size)
        .max(announced.map_or(FIRST_BUFFER, |length| length.min(LARGEST_ANNOUNCED_BUFFER)))
        .clamp(size, most)
}

/// Reads the rest of a body, and throws it away.
pub(super) async fn discard(headers: &HeaderMap, body: &mut Body) {
    // A client that asks before it sends (`Expect: 100-continue`) reads the response instead of sending the body.
    if headers.contains_key(EXPECT) {
        return;
    }
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    let _ = timeout(DISCARD_WITHIN, rest).await;
}

/// The permit and the backlog entry of a message on its way to a client, until the last of its bytes has gone to the
/// socket.
pub(super) type BodyCharge = Arc<(Option<Permit>, Option<Held>)>;

/// Bytes that keep their charge until they have gone to the socket.
pub(super) fn with_charge(bytes: Bytes, charged: BodyCharge) -> Bytes {
    Bytes::from_owner(BytesWithCharge { bytes, charged })
}

/// The owner of such bytes: hyper drops it when they are written.
struct BytesWithCharge {
    bytes: Bytes,
    charged: BodyCharge,
}

impl AsRef<[u8]> for BytesWithCharge {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for BytesWithCharge {
    fn drop(&mut self) {
        if let Some(held) = &self.charged.1 {
            held.moved(self.bytes.len());
        }
    }
}

/// A message as a whole body, or as the data of an event. It is handed to the connection in steps, so that a client
/// that reads slowly does not count as stalled while others wait for the memory.
pub(super) struct MessageBody {
    /// The parts of the message that are left, in reverse order. None is empty.
    rest: SmallVec<[Bytes; 3]>,
    charged: BodyCharge,
}

impl MessageBody {
    pub(super) fn new(message: Wire, charged: BodyCharge) -> Self {
        let mut rest = message.into_parts();
        rest.retain(|part| !part.is_empty());
        rest.reverse();
        Self { rest, charged }
    }

    /// The next bytes of the message, which keep its charge.
    pub(super) fn next_step(&mut self) -> Option<Bytes> {
        let part = self.rest.last_mut()?;
        let mut length = part.len();
        // Without a backlog entry nobody waits for these bytes: they are in the session's own reserve.
        if self.charged.1.is_some() {
            length = length.min(WRITE_STEP);
        }
        let step = with_charge(part.split_to(length), self.charged.clone());
        if part.is_empty() {
            self.rest.pop();
        }
        Some(step)
    }
}

impl http_body::Body for MessageBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.next_step().map(|step| Ok(http_body::Frame::data(step))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.iter().map(|part| part.len() as u64).sum())
    }
}

#[cfg(test)]
mod tests {
    use std::iter;

    use super::*;
    use crate::budget::Budget;

    #[test]
    fn a_message_that_others_may_wait_for_goes_step_by_step() {
        let steps = |held: bool| {
            let backlog = Budget::ample().backlog(|| {});
            let held = if held { backlog.hold(1) } else { None };
            let mut message = MessageBody::new(Wire::from(vec![b' '; WRITE_STEP * 2 + 8]), Arc::new((None, held)));
            iter::from_fn(|| message.next_step()).map(|step| step.len()).collect::<Vec<_>>()
        };
        assert_eq!(steps(true), [WRITE_STEP, WRITE_STEP, 8]);
        assert_eq!(steps(false), [WRITE_STEP * 2 + 8], "nobody waits for what is not held");
    }

    #[test]
    fn a_message_in_parts_is_a_body_of_its_bytes() {
        let text = "x".repeat(40_000);
        let message = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"text":"{text}"}}}}"#);
        let frame = crate::frame::Frame::parse(Bytes::from(message)).unwrap();
        let wire = frame.splice().set(&["id"], b"23456".as_slice()).unwrap().finish();
        assert!(wire.parts().len() > 1, "it is not a message in parts");
        let expected = wire.clone_parts().into_bytes();
        let mut body = MessageBody::new(wire, Arc::new((None, None)));
        assert_eq!(http_body::Body::size_hint(&body).exact(), Some(expected.len() as u64));
        let written: Vec<_> = iter::from_fn(|| body.next_step()).flatten().collect();
        assert_eq!(written, expected);
        assert!(http_body::Body::is_end_stream(&body));
    }
}
