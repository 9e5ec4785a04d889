//! The two ends of a connection that carries a stream: the session's, and the front's.

use std::borrow::Borrow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Attachment, MessageRole, SessionHandle, StreamId};
use crate::budget::{Backlog, Held};
use crate::frame::Wire;

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
    pub(super) fn send(&self, event: Option<u64>, wire: Wire, role: MessageRole) -> SendOutcome {
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
