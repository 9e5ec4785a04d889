//! The body of a request: a message's own bytes, and word of when they are gone.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::room::{Held, Room};
use crate::frame::{Permit, Wire};

/// The longest message that is kept until it was accepted, in bytes, so that it can be sent again after a redirect or with
/// other credentials. What is longer is freed as it is written, as on any other transport.
const KEPT: usize = 1024 * 1024;
/// Up to so many bytes are kept without asking for room: there are never more of them than calls in flight.
const SMALL: usize = 16 * 1024;

/// Fires when it is dropped.
pub(super) type Passed = oneshot::Sender<()>;

/// A message, until something of it is taken to be sent.
type Unsent = Arc<Mutex<Option<(Wire, Option<Passed>)>>>;

/// A message to be sent, more than once if it has to be.
pub(super) struct Parcel {
    first: Unsent,
    again: Option<(Bytes, Option<Held>)>,
}

impl Parcel {
    /// `passed` is dropped when the message has been written. A copy is kept if it is small or there is `room` for it.
    pub(super) fn new(wire: Wire, passed: Option<Passed>, room: &Room) -> Self {
        let held = match wire.len() {
            0..=SMALL => Some(None),
            size if size <= KEPT => room.take_now(size).map(Some),
            _ => None,
        };
        // The original may be a small part of something large, which would live as long as it does.
        let again = held.map(|held| (wire.parts().concat().into(), held));
        Self { first: unsent(wire, passed), again }
    }

    /// Whether it was sent and not kept.
    pub(super) fn is_spent(&self) -> bool {
        self.again.is_none() && lock(&self.first).is_none()
    }

    /// The message as a body, and whether anything of it was taken to be sent; `None` if it [is spent](Self::is_spent).
    pub(super) fn pack(&mut self) -> Option<(reqwest::Body, Arc<AtomicBool>)> {
        let waiting = lock(&self.first).as_ref().map(|(wire, _)| wire.len());
        let (source, len) = match (waiting, &self.again) {
            (Some(len), _) => (self.first.clone(), len),
            (None, Some((again, _))) => (unsent(Wire::from(again.clone()), None), again.len()),
            (None, None) => return None,
        };
        let taken = Arc::new(AtomicBool::new(false));
        let body = Sending { source, parts: SmallVec::new(), left: len as u64, hold: None, taken: taken.clone() };
        Some((reqwest::Body::wrap(body), taken))
    }
}

fn unsent(wire: Wire, passed: Option<Passed>) -> Unsent {
    Arc::new(Mutex::new(Some((wire, passed))))
}

fn lock(unsent: &Unsent) -> MutexGuard<'_, Option<(Wire, Option<Passed>)>> {
    unsent.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Never read: its drop gives the room back, and tells that the message has left.
struct Hold {
    _permit: Option<Permit>,
    _passed: Option<Passed>,
}

struct Sending {
    /// What is to be sent, until it is begun: a connection that cannot be made leaves it where it is.
    source: Unsent,
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
        let begun = lock(&self.source).take();
        if let Some((mut wire, passed)) = begun {
            self.hold = Some(Arc::new(Hold { _permit: wire.take_permit(), _passed: passed }));
            self.parts = wire.parts().iter().rev().cloned().collect();
        }
        let Some(bytes) = self.parts.pop() else { return Poll::Ready(None) };
        self.taken.store(true, Ordering::Release);
        self.left = self.left.saturating_sub(bytes.len() as u64);
        let hold = if self.parts.is_empty() { self.hold.take() } else { self.hold.clone() };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(Part { bytes, _hold: hold })))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt as _;
    use tokio::sync::Semaphore;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn says_when_the_bytes_are_gone() {
        let (passed, mut gone) = oneshot::channel();
        let (permit, mut freed) = oneshot::channel::<()>();
        let wire = Wire::from("hello".to_owned()).with_permit(Permit::new(permit));
        let mut parcel = Parcel::new(wire, Some(passed), &room(0));
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

    fn room(bytes: usize) -> Room {
        Room::new(bytes, Arc::new(Semaphore::new(bytes)))
    }

    /// Sends a message of so many bytes, and says whether it can be sent again.
    async fn is_kept(size: usize, room: &Room) -> (Parcel, bool) {
        let mut parcel = Parcel::new(Wire::from(vec![b'x'; size]), None, room);
        let (body, _) = parcel.pack().unwrap();
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), size);
        let kept = parcel.pack().is_some();
        assert_eq!(parcel.is_spent(), !kept);
        (parcel, kept)
    }

    #[tokio::test]
    async fn what_is_long_is_kept_while_there_is_room() {
        assert!(!is_kept(KEPT + 1, &room(10 * KEPT)).await.1);
        let room = room(100_000);
        let (first, kept) = is_kept(60_000, &room).await;
        assert!(kept);
        assert!(!is_kept(60_000, &room).await.1, "the room is taken");
        assert!(is_kept(SMALL, &room).await.1, "a small one needs none");
        drop(first);
        assert!(is_kept(60_000, &room).await.1);
    }

    #[tokio::test]
    async fn what_was_not_begun_is_not_lost() {
        let mut parcel = Parcel::new(Wire::from(vec![b'x'; KEPT + 1]), None, &room(0));
        drop(parcel.pack().unwrap());
        assert!(!parcel.is_spent());
        let (body, taken) = parcel.pack().unwrap();
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), KEPT + 1);
        assert!(taken.load(Ordering::Acquire) && parcel.pack().is_none());
    }

    struct Large(Vec<u8>, #[expect(dead_code, reason = "held, not read")] oneshot::Sender<()>);

    impl AsRef<[u8]> for Large {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    #[tokio::test]
    async fn a_copy_keeps_nothing_but_itself() {
        let (large, gone) = oneshot::channel::<()>();
        let batch = Bytes::from_owner(Large(vec![b'x'; 1_000_000], large));
        let mut parcel = Parcel::new(Wire::from(batch.slice(..10)), None, &room(0));
        drop(batch);
        let (body, _) = parcel.pack().unwrap();
        drop(body.collect().await.unwrap());
        assert!(timeout(Duration::from_secs(5), gone).await.expect("it is kept").is_err());
        assert!(parcel.pack().is_some());
    }
}
