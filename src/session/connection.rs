//! The two ends of a connection that carries a stream: the session's, and the front's.

use std::borrow::Borrow;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Attachment, MessageRole, SessionHandle, StreamId};
use crate::budget::{Backlog, Held};
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
    /// The bytes that wait for one of several clients to read them.
    unread: Arc<AtomicUsize>,
}

/// Bytes on their way to one of several clients, until they are written.
struct UnreadBytes {
    unread: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for UnreadBytes {
    fn drop(&mut self) {
        self.unread.fetch_sub(self.bytes, Ordering::Relaxed);
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
    /// Queues a message. With several clients, `room` is how many bytes may wait for each: what all of them may have
    /// under way is the session's, so a client that does not read would stop the others if it could take all of it. A
    /// single message may be larger.
    pub(super) fn send(
        &self,
        event: Option<u64>,
        mut wire: Wire,
        role: MessageRole,
        room: Option<usize>,
    ) -> SendOutcome {
        if let Some(room) = room {
            let bytes = wire.len();
            let before = self.unread.fetch_add(bytes, Ordering::Relaxed);
            wire = wire.with_permit(Permit::new(UnreadBytes { unread: self.unread.clone(), bytes }));
            if before > 0 && before + bytes > room {
                self.read.given_up.store(true, Ordering::Release);
                return SendOutcome::Failed;
            }
        }
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
        ConnectionSender { queue: sender, backlog, read: read.clone(), unread: Arc::default() },
        StreamConnection { id, attachment, queue, read, session },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: usize) -> Wire {
        Wire::from(vec![b'x'; bytes])
    }

    #[test]
    fn one_of_several_clients_leaves_no_more_unread_than_its_room() {
        let (queue, mut unread) = mpsc::channel(100);
        let read = ReadState { since: Instant::now(), millis: AtomicU64::new(0), given_up: AtomicBool::new(false) };
        let backlog = crate::budget::Budget::ample().backlog(|| {});
        let sender = ConnectionSender { queue, backlog, read: Arc::new(read), unread: Arc::default() };
        let send = |bytes, room| sender.send(None, message(bytes), MessageRole::FromServer, room);
        assert_eq!(send(5000, Some(1000)), SendOutcome::Queued, "one message may be larger");
        assert_eq!(send(1, Some(1000)), SendOutcome::Failed);
        assert!(sender.read.given_up.load(Ordering::Acquire));
        drop(unread.try_recv());
        for _ in 0..10 {
            assert_eq!(send(100, Some(1000)), SendOutcome::Queued);
        }
        assert_eq!(send(1, Some(1000)), SendOutcome::Failed);
        assert_eq!(send(5000, None), SendOutcome::Queued, "an only client waits for itself alone");
    }
}
