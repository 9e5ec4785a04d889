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

/// Gives up a connection whose client does not read.
type GiveUp = Arc<dyn Fn() + Send + Sync>;

/// The session's end of a connection, held by the actor.
pub(super) struct ConnectionSender {
    queue: mpsc::Sender<MessageToClient>,
    /// What waits for the client to read it.
    backlog: Backlog,
    read: Arc<ReadState>,
    give_up: GiveUp,
    /// Whether a task sees to it that the client reads on.
    is_watched: Arc<AtomicBool>,
}

/// How often a client that has used up its room is looked at, and how many bytes it has to have read in the meantime.
const LOOK_AFTER: Duration = Duration::from_secs(1);
const READ_AT_LEAST: usize = 1024 * 1024;

/// What one of several clients may leave unread: as much as a session of its own. The messages for it are charged to
/// this in place of the session's budget, so that the session's link does not wait for one of its clients.
///
/// What a client has no room for is charged to the session. Notifications and requests are as long as half of the
/// session's budget is free; then the client's connection is closed, because the link would have to wait for it. A
/// response is in any case: somebody waits for it, and it may be larger than all room. A client that then reads less
/// than [`READ_AT_LEAST`] in [`LOOK_AFTER`] loses its connection.
#[derive(Debug)]
pub(super) struct ClientRoom {
    budget: Budget,
    /// The budget of the session.
    session: Budget,
    /// How many messages for the client hold permits of the session.
    beyond: Arc<AtomicUsize>,
}

/// Counts a message for which a client had no room, until it is written.
struct BeyondRoom(Arc<AtomicUsize>);

impl Drop for BeyondRoom {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ClientRoom {
    /// The room of a client of the session that has this budget.
    pub(super) fn new(session: &Budget) -> Self {
        Self { budget: session.another(), session: session.clone(), beyond: Arc::default() }
    }

    /// Charges a message to the client. False if there is no room for it: the message keeps the permit that it has.
    fn charge(&self, wire: &mut Wire) -> bool {
        let permit = self.budget.charge_now(wire.len());
        let has_room = permit.is_some();
        let permit = permit.unwrap_or_else(|| {
            self.beyond.fetch_add(1, Ordering::Relaxed);
            let counted = Permit::new(BeyondRoom(self.beyond.clone()));
            match wire.take_permit() {
                Some(permit) => permit.and(counted),
                None => counted,
            }
        });
        drop(wire.replace_permit(permit));
        has_room
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
    /// Queues a message, for one of several clients in its `room`.
    pub(super) fn send(
        &self,
        event: Option<u64>,
        mut wire: Wire,
        role: MessageRole,
        room: Option<&ClientRoom>,
    ) -> SendOutcome {
        if let Some(room) = room
            && !room.charge(&mut wire)
        {
            if role == MessageRole::FromServer && room.session.is_half_used() {
                self.read.given_up.store(true, Ordering::Release);
                return SendOutcome::Failed;
            }
            self.watch_reading(room);
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

    /// Sees to it that a client which has used up its room reads on, or loses the connection.
    fn watch_reading(&self, room: &ClientRoom) {
        if self.is_watched.swap(true, Ordering::AcqRel) {
            return;
        }
        let (backlog, beyond) = (self.backlog.clone(), room.beyond.clone());
        let (give_up, is_watched) = (self.give_up.clone(), self.is_watched.clone());
        tokio::spawn(async move {
            let mut before = backlog.taken();
            loop {
                tokio::time::sleep(LOOK_AFTER).await;
                is_watched.store(false, Ordering::Release);
                if beyond.load(Ordering::Relaxed) == 0 {
                    return;
                }
                let taken = backlog.taken();
                if taken.wrapping_sub(before) < READ_AT_LEAST {
                    return give_up();
                }
                before = taken;
                if is_watched.swap(true, Ordering::AcqRel) {
                    // Another task watches since a moment ago.
                    return;
                }
            }
        });
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
    let read = ReadState { since: Instant::now(), millis: AtomicU64::new(0), given_up: AtomicBool::new(false) };
    let read = Arc::new(read);
    let queue = Arc::new(Mutex::new(queue));
    let (unread, stalled) = (Arc::downgrade(&queue), read.clone());
    let give_up: GiveUp = Arc::new(move || {
        stalled.given_up.store(true, Ordering::Release);
        // Whoever has the connection is to end it. Where that is somebody else's code, what is queued is dropped at
        // least.
        let dropped = unread.upgrade().map(|unread| take_all(&mut lock(&unread)));
        drop(dropped);
        stall();
    });
    let giving_way = give_up.clone();
    let backlog = session.downward().backlog(move || giving_way());
    (
        ConnectionSender { queue: sender, backlog, read: read.clone(), give_up, is_watched: Arc::default() },
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
        ClientRoom::new(&Pool::new(Bounds { pool, largest, share, reserve: RESERVE, keep: 0 }).open())
    }

    fn sender() -> (ConnectionSender, mpsc::Receiver<MessageToClient>) {
        let (queue, unread) = mpsc::channel(10_000);
        let read = ReadState { since: Instant::now(), millis: AtomicU64::new(0), given_up: AtomicBool::new(false) };
        let read = Arc::new(read);
        let backlog = Budget::ample().backlog(|| {});
        let state = read.clone();
        let give_up: GiveUp = Arc::new(move || state.given_up.store(true, Ordering::Release));
        (ConnectionSender { queue, backlog, read, give_up, is_watched: Arc::default() }, unread)
    }

    fn send_as(role: MessageRole, sender: &ConnectionSender, bytes: usize, room: &ClientRoom) -> SendOutcome {
        let permit = Budget::ample().charge_now(bytes).unwrap();
        let wire = Wire::from(vec![b'x'; bytes]).with_permit(permit);
        sender.send(None, wire, role, Some(room))
    }

    fn respond(sender: &ConnectionSender, bytes: usize, room: &ClientRoom) {
        assert_ne!(send_as(MessageRole::Response, sender, bytes, room), SendOutcome::Failed);
    }

    fn is_given_up(sender: &ConnectionSender) -> bool {
        sender.read.given_up.load(Ordering::Acquire)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_may_have_more_under_way_than_its_room() {
        let (room, (sender, mut unread)) = (room(), sender());
        for _ in 0..20 {
            for _ in 0..3 {
                respond(&sender, 2 * KIBIBYTE * KIBIBYTE, &room);
            }
            while let Ok(message) = unread.try_recv() {
                message.held.inspect(|held| held.moved(1000));
            }
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
        assert!(!is_given_up(&sender));
        assert_eq!(room.beyond.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_read_loses_its_connection_when_its_room_is_used_up() {
        let (room, (sender, _unread)) = (room(), sender());
        for _ in 0..100 {
            respond(&sender, KIBIBYTE, &room);
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!is_given_up(&sender), "that has room");
        for _ in 0..200 {
            respond(&sender, KIBIBYTE, &room);
        }
        assert!(!is_given_up(&sender), "it may read any moment");
        tokio::time::sleep(LOOK_AFTER * 2).await;
        assert!(is_given_up(&sender));
    }

    #[tokio::test(start_paused = true)]
    async fn a_notification_closes_the_connection_before_the_link_would_have_to_wait() {
        let (room, (sender, _unread)) = (room(), sender());
        let notify = || send_as(MessageRole::FromServer, &sender, KIBIBYTE, &room);
        for _ in 0..200 {
            assert_ne!(notify(), SendOutcome::Failed, "others leave enough of the session's budget");
        }
        let others = [(); 2].map(|()| room.session.charge_now(64 * KIBIBYTE).unwrap());
        assert_eq!(notify(), SendOutcome::Failed);
        assert!(is_given_up(&sender));
        respond(&sender, KIBIBYTE, &room);
        drop(others);
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
