//! The body of a request: a message's own bytes, and word of when they are gone.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use smallvec::SmallVec;
use tokio::sync::oneshot;

use crate::frame::{Permit, Wire};

/// The longest message that is kept until it was accepted, in bytes, so that it can be sent again after a redirect or with
/// other credentials. What is longer is freed as it is written, as on any other transport.
const KEPT: usize = 1024 * 1024;

/// Fires when it is dropped.
pub(super) type Passed = oneshot::Sender<()>;

/// A message to be sent, more than once if it has to be.
pub(super) struct Parcel {
    first: Option<(Wire, Option<Passed>)>,
    again: Option<Wire>,
}

impl Parcel {
    /// `passed` is dropped when the message has been written.
    pub(super) fn new(wire: Wire, passed: Option<Passed>) -> Self {
        let again = (wire.len() <= KEPT).then(|| wire.clone_parts());
        Self { first: Some((wire, passed)), again }
    }

    /// The message as a body, and whether anything of it was taken to be sent; `None` if it was sent already and was not kept.
    pub(super) fn pack(&mut self) -> Option<(reqwest::Body, Arc<AtomicBool>)> {
        let (mut wire, passed) = match self.first.take() {
            Some(first) => first,
            None => (self.again.as_ref()?.clone_parts(), None),
        };
        let taken = Arc::new(AtomicBool::new(false));
        let left = wire.len() as u64;
        let hold = Arc::new(Hold { _permit: wire.take_permit(), _passed: passed });
        let parts = wire.parts().iter().rev().cloned().collect();
        let body = Sending { parts, left, hold: Some(hold), taken: taken.clone() };
        Some((reqwest::Body::wrap(body), taken))
    }
}

/// Never read: its drop gives the room back, and tells that the message has left.
struct Hold {
    _permit: Option<Permit>,
    _passed: Option<Passed>,
}

struct Sending {
    /// The last one comes first.
    parts: SmallVec<[Bytes; 3]>,
    left: u64,
    hold: Option<Arc<Hold>>,
    taken: Arc<AtomicBool>,
}

/// A part on its way into a socket.
struct Part {
    bytes: Bytes,
    _hold: Option<Arc<Hold>>,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl http_body::Body for Sending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(bytes) = self.parts.pop() else { return Poll::Ready(None) };
        self.taken.store(true, Ordering::Release);
        self.left = self.left.saturating_sub(bytes.len() as u64);
        let hold = if self.parts.is_empty() { self.hold.take() } else { self.hold.clone() };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(Part { bytes, _hold: hold })))))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn says_when_the_bytes_are_gone() {
        let (passed, mut gone) = oneshot::channel();
        let (permit, mut freed) = oneshot::channel::<()>();
        let wire = Wire::from("hello".to_owned()).with_permit(Permit::new(permit));
        let mut parcel = Parcel::new(wire, Some(passed));
        let (mut body, taken) = parcel.pack().unwrap();
        assert!(!taken.load(Ordering::Acquire));
        let frame = body.frame().await.unwrap().unwrap();
        assert!(taken.load(Ordering::Acquire) && http_body::Body::is_end_stream(&body));
        drop(body);
        assert!(gone.try_recv() == Err(oneshot::error::TryRecvError::Empty), "the bytes are still there");
        assert_eq!(frame.into_data().unwrap(), "hello");
        assert!(gone.try_recv() == Err(oneshot::error::TryRecvError::Closed));
        assert!(freed.try_recv() == Err(oneshot::error::TryRecvError::Closed));
        let (again, _) = parcel.pack().unwrap();
        assert_eq!(again.collect().await.unwrap().to_bytes(), "hello");
    }

    #[test]
    fn a_long_message_is_sent_once() {
        let mut parcel = Parcel::new(Wire::from(vec![b'x'; KEPT + 1]), None);
        assert!(parcel.pack().is_some());
        assert!(parcel.pack().is_none());
    }
}
