//! The body of a POST: the bytes of one message, kept for a second sending where that is allowed.
//!
//! When the last byte is in the socket, the message's permit is given back and its [`SentSignal`] is dropped.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use smallvec::SmallVec;
use tokio_util::sync::CancellationToken;

use super::send_gate::SentSignal;
use crate::budget::{Backlog, Budget, Held};
use crate::frame::{Permit, Wire};

/// The longest message of which a copy is kept until the server has accepted it, in bytes: the copy is sent after a
/// redirect or with renewed credentials. A longer message is freed as it is written, as on any other transport.
const MAX_REPLAYABLE: usize = 1024 * 1024;
/// The longest message of which a copy is kept without a permit, in bytes. There are no more such copies than calls in
/// flight, so they need no bound of their own.
pub(super) const FREE_COPY: usize = 16 * 1024;
/// How much of a charged message is handed to its connection at once, in bytes. The backlog counts a server as reading
/// when such a step has been written; with the whole message as one step, a slow server would look like one that reads
/// nothing.
const UPLOAD_STEP: usize = 64 * 1024;

/// A message, until its first byte is handed to a connection.
type Unsent = Arc<Mutex<Option<FirstSend>>>;

/// The message, what waits until it has been written, and its share of the bytes that all sessions have in common.
type FirstSend = (Wire, Option<SentSignal>, Option<Held>);

/// A message to be sent: again from its copy if the first sending was redirected or refused.
pub(super) struct ReplayableBody {
    first: Unsent,
    /// The copy, with its permit if it is not small.
    again: Option<(Bytes, Option<Permit>)>,
    /// Set only if the message is charged to the pool of all sessions.
    backlog: Option<(Backlog, CancellationToken)>,
}

impl ReplayableBody {
    /// `sent_signal` is dropped when the message has been written. A copy is kept if the message is small, or if
    /// `budget` has memory for the copy.
    pub(super) fn new(wire: Wire, sent_signal: Option<SentSignal>, budget: &Budget) -> Self {
        let permit = match wire.len() {
            0..=FREE_COPY => Some(None),
            size if size <= MAX_REPLAYABLE => budget.keep(size).map(Some),
            _ => None,
        };
        // The bytes are copied, because the original may be a small slice of a large batch, which a clone would keep
        // alive.
        let again = permit.map(|permit| (wire.parts().concat().into(), permit));
        let backlog = (wire.pooled() > 0).then(|| {
            let gave_way = CancellationToken::new();
            let asked = gave_way.clone();
            (budget.backlog(move || asked.cancel()), gave_way)
        });
        let held = backlog.as_ref().and_then(|(backlog, _)| backlog.hold(wire.pooled()));
        Self { first: Arc::new(Mutex::new(Some((wire, sent_signal, held)))), again, backlog }
    }

    /// Cancelled when the server does not take the message and others need the memory that it takes.
    pub(super) fn gave_way(&self) -> Option<CancellationToken> {
        self.backlog.as_ref().map(|(_, gave_way)| gave_way.clone())
    }

    /// Whether the message was sent and no copy of it was kept.
    pub(super) fn is_spent(&self) -> bool {
        self.again.is_none() && lock(&self.first).is_none()
    }

    /// Returns the message as a body, with a flag that is set when its first byte is handed to a connection. Returns
    /// `None` if the message [is spent](Self::is_spent).
    pub(super) fn begin(&mut self) -> Option<(reqwest::Body, Arc<AtomicBool>)> {
        let waiting = lock(&self.first).as_ref().map(|(wire, ..)| wire.len());
        let (source, len) = match (waiting, &self.again) {
            (Some(len), _) => (self.first.clone(), len),
            (None, Some((again, _))) => {
                let wire = Wire::from(again.clone());
                (Arc::new(Mutex::new(Some((wire, None, None)))), again.len())
            }
            (None, None) => return None,
        };
        let begun = Arc::new(AtomicBool::new(false));
        let backlog = self.backlog.as_ref().map(|(backlog, _)| backlog.clone());
        let body = SendingBody {
            source,
            parts: SmallVec::new(),
            left: len as u64,
            until_sent: None,
            backlog,
            begun: begun.clone(),
        };
        Some((reqwest::Body::wrap(body), begun))
    }
}

fn lock(unsent: &Unsent) -> MutexGuard<'_, Option<FirstSend>> {
    unsent.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Held by each part of a body, and dropped with the last one: that gives the memory back and signals that the message
/// has been written.
struct UntilSent {
    _held: Option<Held>,
    _permit: Option<Permit>,
    _sent_signal: Option<SentSignal>,
}

struct SendingBody {
    /// The message, until the first poll: if the connection cannot be made, the message stays unsent and can be sent
    /// again.
    source: Unsent,
    /// The parts that are still to be sent, in reverse order.
    parts: SmallVec<[Bytes; 3]>,
    left: u64,
    until_sent: Option<Arc<UntilSent>>,
    backlog: Option<Backlog>,
    begun: Arc<AtomicBool>,
}

/// A part of the message on its way into a socket. Its drop tells the backlog how many bytes have moved.
struct BodyPart {
    bytes: Bytes,
    backlog: Option<Backlog>,
    _until_sent: Option<Arc<UntilSent>>,
}

impl Drop for BodyPart {
    fn drop(&mut self) {
        if let Some(backlog) = &self.backlog {
            backlog.moved(self.bytes.len());
        }
    }
}

impl AsRef<[u8]> for BodyPart {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl http_body::Body for SendingBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let begun = lock(&self.source).take();
        if let Some((mut wire, sent_signal, held)) = begun {
            self.until_sent =
                Some(Arc::new(UntilSent { _held: held, _permit: wire.take_permit(), _sent_signal: sent_signal }));
            self.parts = wire.parts().iter().rev().cloned().collect();
        }
        let Some(mut bytes) = self.parts.pop() else { return Poll::Ready(None) };
        if self.backlog.is_some() && bytes.len() > UPLOAD_STEP {
            let rest = bytes.split_off(UPLOAD_STEP);
            self.parts.push(rest);
        }
        self.begun.store(true, Ordering::Release);
        self.left = self.left.saturating_sub(bytes.len() as u64);
        let until_sent = if self.parts.is_empty() { self.until_sent.take() } else { self.until_sent.clone() };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(BodyPart {
            bytes,
            backlog: self.backlog.clone(),
            _until_sent: until_sent,
        })))))
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
    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn says_when_the_bytes_are_gone() {
        let (sent_signal, mut gone) = oneshot::channel();
        let (permit, mut freed) = oneshot::channel::<()>();
        let wire = Wire::from("hello".to_owned()).with_permit(Permit::new(permit));
        let mut replayable = ReplayableBody::new(wire, Some(sent_signal), &nothing());
        let (mut body, begun) = replayable.begin().unwrap();
        assert!(!begun.load(Ordering::Acquire));
        let frame = body.frame().await.unwrap().unwrap();
        assert!(begun.load(Ordering::Acquire) && http_body::Body::is_end_stream(&body));
        drop(body);
        assert!(gone.try_recv() == Err(oneshot::error::TryRecvError::Empty), "the bytes are still there");
        assert_eq!(frame.into_data().unwrap(), "hello");
        assert!(gone.try_recv() == Err(oneshot::error::TryRecvError::Closed));
        assert!(freed.try_recv() == Err(oneshot::error::TryRecvError::Closed));
        let (again, _) = replayable.begin().unwrap();
        assert_eq!(again.collect().await.unwrap().to_bytes(), "hello");
    }

    /// A budget in which nothing can be kept.
    fn nothing() -> Budget {
        Budget::of(1, 1)
    }

    /// Sends a message of so many bytes, and says whether it can be sent again.
    async fn is_kept(size: usize, budget: &Budget) -> (ReplayableBody, bool) {
        let mut replayable = ReplayableBody::new(Wire::from(vec![b'x'; size]), None, budget);
        let (body, _) = replayable.begin().unwrap();
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), size);
        let kept = replayable.begin().is_some();
        assert_eq!(replayable.is_spent(), !kept);
        (replayable, kept)
    }

    #[tokio::test]
    async fn what_is_long_is_kept_while_there_is_memory() {
        assert!(!is_kept(MAX_REPLAYABLE + 1, &Budget::ample()).await.1);
        // Half of it is for what is kept.
        let budget = Budget::of(200_000, 1);
        let (first, kept) = is_kept(60_000, &budget).await;
        assert!(kept);
        assert!(!is_kept(60_000, &budget).await.1, "the memory is taken");
        assert!(is_kept(FREE_COPY, &budget).await.1, "a small one needs no permit");
        drop(first);
        assert!(is_kept(60_000, &budget).await.1);
    }

    #[tokio::test]
    async fn what_was_not_begun_is_not_lost() {
        let mut replayable = ReplayableBody::new(Wire::from(vec![b'x'; MAX_REPLAYABLE + 1]), None, &nothing());
        drop(replayable.begin().unwrap());
        assert!(!replayable.is_spent());
        let (body, begun) = replayable.begin().unwrap();
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), MAX_REPLAYABLE + 1);
        assert!(begun.load(Ordering::Acquire) && replayable.begin().is_none());
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
        let mut replayable = ReplayableBody::new(Wire::from(batch.slice(..10)), None, &nothing());
        drop(batch);
        let (body, _) = replayable.begin().unwrap();
        drop(body.collect().await.unwrap());
        assert!(timeout(Duration::from_secs(5), gone).await.expect("it is kept").is_err());
        assert!(replayable.begin().is_some());
    }
}
