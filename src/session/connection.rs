//! The two ends of a connection that carries a stream: the session's, and the front's.

use std::borrow::Borrow;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Attachment, MessageRole, SessionHandle, StreamId};
use crate::budget::{Backlog, Budget, Held};
use crate::frame::{Permit, Wire};

/// A message on its way to a connection.
#[derive(Debug)]
pub(crate) struct MessageToClient {
    pub event: Option<u64>,
    pub wire: Wire,
    pub role: MessageRole,
    /// What it holds of the bytes that all sessions have in common, until it is dropped, which is to be when it was
    /// written.
    pub held: Option<Held>,
}

impl Borrow<Wire> for MessageToClient {
    fn borrow(&self) -> &Wire {
        &self.wire
    }
}

/// The session's end of a connection, held by the actor.
#[derive(Debug)]
pub(super) struct ConnectionSender {
    queue: mpsc::Sender<MessageToClient>,
    /// What waits for the client to read it.
    backlog: Backlog,
    read: Arc<ReadState>,
}

/// What one of several clients may leave unread: as much as a session of its own. The messages for it are charged to
/// this in place of the session's budget, so that the session's link never waits for one of its clients.
#[derive(Debug)]
pub(super) struct ClientRoom {
    budget: Budget,
    /// How many messages wait for the client to read them.
    unread: Arc<AtomicUsize>,
}

/// Counts a message on its way to one of several clients, until it is written.
struct UnreadByClient(Arc<AtomicUsize>);

impl Drop for UnreadByClient {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ClientRoom {
    pub(super) fn new(budget: Budget) -> Self {
        Self { budget, unread: Arc::default() }
    }

    /// Charges a message to this. `None` if there is no room for it, because the client has not read what came before. A
    /// client that has read all gets its message in any case: then the message keeps the permit that it has.
    fn charge(&self, mut wire: Wire) -> Option<Wire> {
        let permit = self.budget.charge_now(wire.len());
        if permit.is_none() && self.unread.load(Ordering::Relaxed) > 0 {
            return None;
        }
        if permit.is_some() {
            drop(wire.take_permit());
        }
        self.unread.fetch_add(1, Ordering::Relaxed);
        let counted = Permit::new(UnreadByClient(self.unread.clone()));
        Some(wire.with_permit(permit).with_permit(counted))
    }
}

/// What both ends of a connection know: whether it was given up, and when it last came for more, whether there was any
/// or not. A connection that is alive comes at every keep-alive; one whose client does not read does not come at all.
#[derive(Debug)]
struct ReadState {
    /// When the connection was opened.
    since: Instant,
    /// When it last came for more, in milliseconds after that.
    millis: AtomicU64,
    /// Whether the connection was given up because its client does not read.
    given_up: AtomicBool,
}

impl ReadState {
    /// The connection comes for more.
    fn came(&self) {
        self.millis.store(u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// What became of a message for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SendOutcome {
    Queued,
    /// The message was queued, and its session's reserve is used up: the client has not read all that came before.
    QueuedBehind,
    /// The connection is gone, or was given up because its client does not read.
    Failed,
}

impl ConnectionSender {
    /// Queues a message, for one of several clients only as far as it has `room`.
    pub(super) fn send(
        &self,
        event: Option<u64>,
        wire: Wire,
        role: MessageRole,
        room: Option<&ClientRoom>,
    ) -> SendOutcome {
        let wire = match room {
            None => Some(wire),
            Some(room) => room.charge(wire),
        };
        let Some(wire) = wire else {
            self.read.given_up.store(true, Ordering::Release);
            return SendOutcome::Failed;
        };
        let held = self.backlog.hold(wire.pooled());
        let is_behind = held.is_some();
        match self.queue.try_send(MessageToClient { event, wire, role, held }) {
            Ok(()) if is_behind => SendOutcome::QueuedBehind,
            Ok(()) => SendOutcome::Queued,
            Err(error) => {
                if matches!(error, mpsc::error::TrySendError::Full(_)) {
                    self.read.given_up.store(true, Ordering::Release);
                }
                SendOutcome::Failed
            }
        }
    }

    /// When the connection last came for more.
    pub(super) fn read_at(&self) -> Instant {
        self.read.since + Duration::from_millis(self.read.millis.load(Ordering::Relaxed))
    }
}

/// A connection's end of a stream. Dropping it tells the session that the connection is gone.
#[derive(Debug)]
pub(crate) struct StreamConnection {
    pub(crate) id: StreamId,
    attachment: Attachment,
    queue: Arc<Mutex<mpsc::Receiver<MessageToClient>>>,
    read: Arc<ReadState>,
    session: SessionHandle,
}

impl StreamConnection {
    /// The next message; `None` when the session has closed the stream.
    pub(crate) async fn next(&mut self) -> Option<MessageToClient> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    pub(crate) fn poll_next(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<MessageToClient>> {
        self.read.came();
        lock(&self.queue).poll_recv(context)
    }

    /// If the stream has ended because its client does not read: how many bytes may wait for it. What it would have
    /// carried next is lost to this connection.
    pub(crate) fn given_up(&self) -> Option<usize> {
        self.read.given_up.load(Ordering::Acquire).then_some(self.session.share())
    }

    pub(crate) fn session(&self) -> &SessionHandle {
        &self.session
    }
}

fn lock(queue: &Mutex<mpsc::Receiver<MessageToClient>>) -> MutexGuard<'_, mpsc::Receiver<MessageToClient>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take_all(queue: &mut mpsc::Receiver<MessageToClient>) -> Vec<MessageToClient> {
    queue.close();
    std::iter::from_fn(|| queue.try_recv().ok()).collect()
}

impl Drop for StreamConnection {
    fn drop(&mut self) {
        self.session.detached(self.id, self.attachment);
    }
}

/// Both ends of a new connection of that stream. `stall` is called when the client does not read what is queued while
/// others need the memory: then nothing more is sent to it, and what is queued is dropped.
pub(super) fn connection(
    (id, attachment): (StreamId, Attachment),
    capacity: usize,
    session: SessionHandle,
    stall: impl Fn() + Send + Sync + 'static,
) -> (ConnectionSender, StreamConnection) {
    let (sender, queue) = mpsc::channel(capacity);
    let given_up = AtomicBool::new(false);
    let read = Arc::new(ReadState { since: Instant::now(), millis: AtomicU64::new(0), given_up });
    let queue = Arc::new(Mutex::new(queue));
    let (unread, stalled) = (Arc::downgrade(&queue), read.clone());
    let backlog = session.downward().backlog(move || {
        stalled.given_up.store(true, Ordering::Release);
        // Whoever has the connection is to end it. Where that is somebody else's code, what is queued is dropped at
        // least.
        let dropped = unread.upgrade().map(|unread| take_all(&mut lock(&unread)));
        drop(dropped);
        stall();
    });
    (
        ConnectionSender { queue: sender, backlog, read: read.clone() },
        StreamConnection { id, attachment, queue, read, session },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{Bounds, Pool, RESERVE};

    const KIBIBYTE: usize = 1024;

    fn room() -> ClientRoom {
        let (pool, largest, share) = (1 << 20, 400 * KIBIBYTE, 128 * KIBIBYTE);
        ClientRoom::new(Pool::new(Bounds { pool, largest, share, reserve: RESERVE, keep: 0 }).open())
    }

    fn sender() -> (ConnectionSender, mpsc::Receiver<MessageToClient>) {
        let (queue, unread) = mpsc::channel(10_000);
        let read = ReadState { since: Instant::now(), millis: AtomicU64::new(0), given_up: AtomicBool::new(false) };
        let backlog = crate::budget::Budget::ample().backlog(|| {});
        (ConnectionSender { queue, backlog, read: Arc::new(read) }, unread)
    }

    fn send(sender: &ConnectionSender, bytes: usize, room: &ClientRoom) -> SendOutcome {
        sender.send(None, Wire::from(vec![b'x'; bytes]), MessageRole::FromServer, Some(room))
    }

    #[test]
    fn a_client_that_reads_gets_a_large_message_right_behind_a_small_one() {
        let (room, (sender, mut unread)) = (room(), sender());
        assert_eq!(send(&sender, 120, &room), SendOutcome::Queued);
        assert_eq!(send(&sender, 300 * KIBIBYTE, &room), SendOutcome::QueuedBehind);
        while unread.try_recv().is_ok() {}
        assert_eq!(
            send(&sender, 2 * KIBIBYTE * KIBIBYTE, &room),
            SendOutcome::QueuedBehind,
            "one may be larger than all"
        );
    }

    #[test]
    fn one_that_does_not_read_fills_its_own_room_and_no_more() {
        let (room, (one, mut unread), (other, _others)) = (room(), sender(), sender());
        let mut taken = 0;
        while send(&one, 61, &room) != SendOutcome::Failed {
            taken += 1;
            assert!(taken < 5000, "it has no bound");
        }
        assert!(one.read.given_up.load(Ordering::Acquire));
        assert_eq!(send(&other, 61, &room), SendOutcome::Failed, "the room is the client's, on all of its connections");
        while unread.try_recv().is_ok() {}
        assert_ne!(send(&other, 61, &room), SendOutcome::Failed);
    }

    #[test]
    fn the_permit_of_the_link_is_given_back_at_once() {
        let (room, (sender, _unread)) = (room(), sender());
        let link = Arc::new(());
        let wire = Wire::from(vec![b'x'; 100]).with_permit(Permit::new(link.clone()));
        sender.send(None, wire, MessageRole::FromServer, Some(&room));
        assert_eq!(Arc::strong_count(&link), 1);
    }
}
