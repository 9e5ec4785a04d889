//! The door to a session: what a front may do with one.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use ractor::ActorRef;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::actor::Message;
use super::server::{ServerCell, ServerInfo};
use super::state::{Event, Received};
use super::union::{LinkId, Servers};
use super::{Attachment, Budget, EndReason, Limits, Role, SessionId, StreamId, StreamKind};
use crate::frame::{Frame, Id, Incoming, Kind, Wire};

/// How often a drain looks whether it is done.
const DRAIN_CHECK: Duration = Duration::from_millis(20);

/// A message on its way to a connection.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub event: Option<u64>,
    pub wire: Wire,
    pub role: Role,
    /// Counts it as unread until it is dropped, which is to be when it was written.
    pub unread: Unread,
}

/// So many bytes that were handed to a connection and not read by its client.
#[derive(Debug)]
pub(crate) struct Unread {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Unread {
    fn of(all: &Arc<AtomicUsize>, bytes: usize) -> Self {
        all.fetch_add(bytes, Ordering::Relaxed);
        Self { all: all.clone(), bytes }
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The sending end of a connection, held by the actor.
#[derive(Debug)]
pub(crate) struct Sink {
    queue: mpsc::Sender<Outgoing>,
    unread: Arc<AtomicUsize>,
    bound: usize,
    taken: Arc<Taken>,
}

/// What both ends of a connection know: when it last came for more, whether there was any or not. One that is alive comes
/// at every keep-alive; one whose client does not read does not come at all.
#[derive(Debug)]
struct Taken {
    since: Instant,
    millis: AtomicU64,
    /// Set when it was given up because its client was too far behind.
    given_up: AtomicBool,
}

impl Taken {
    fn now(&self) {
        self.millis.store(u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Sink {
    /// False if the connection is gone, or so far behind that it is given up.
    pub(crate) fn send(&self, event: Option<u64>, wire: Wire, role: Role) -> bool {
        let bytes = wire.len();
        // One message is always let through, however large.
        if self.unread.load(Ordering::Relaxed) > self.bound {
            self.taken.given_up.store(true, Ordering::Release);
            return false;
        }
        let unread = Unread::of(&self.unread, bytes);
        let sent = self.queue.try_send(Outgoing { event, wire, role, unread });
        if matches!(sent, Err(mpsc::error::TrySendError::Full(_))) {
            self.taken.given_up.store(true, Ordering::Release);
        }
        sent.is_ok()
    }

    /// When the connection last came for more.
    pub(crate) fn taken_at(&self) -> Instant {
        self.taken.since + Duration::from_millis(self.taken.millis.load(Ordering::Relaxed))
    }
}

/// What everybody may know of a session.
#[derive(Debug)]
pub(crate) struct Shared {
    pub id: SessionId,
    pub name: Arc<str>,
    pub opened: Instant,
    pub opened_at: SystemTime,
    pub client: OnceLock<String>,
    /// The protocol version that was negotiated, once it was.
    pub version: OnceLock<String>,
    servers: Arc<Servers>,
    cells: Box<[ServerCell]>,
    pub calls: AtomicUsize,
    /// Milliseconds from `opened` to the last message of the client.
    pub active: AtomicU64,
    pub ended: watch::Sender<Option<EndReason>>,
    /// The links that still run. It is closed when the session ends, because none is opened after that.
    pub links: TaskTracker,
    /// The stream that is the session, where its client has one connection for all that it is sent.
    own_stream: OnceLock<StreamId>,
    /// Bytes handed to connections and not read by them.
    unread: Arc<AtomicUsize>,
    next_stream: AtomicU64,
    next_attachment: AtomicU64,
}

impl Shared {
    pub(crate) fn new(id: SessionId, servers: Arc<Servers>) -> Self {
        Self {
            id,
            name: id.to_string().into(),
            opened: Instant::now(),
            opened_at: SystemTime::now(),
            client: OnceLock::new(),
            version: OnceLock::new(),
            cells: servers.links().map(|_| ServerCell::default()).collect(),
            servers,
            calls: AtomicUsize::new(0),
            active: AtomicU64::new(0),
            ended: watch::Sender::new(None),
            links: TaskTracker::new(),
            own_stream: OnceLock::new(),
            unread: Arc::default(),
            next_stream: AtomicU64::new(1),
            next_attachment: AtomicU64::new(1),
        }
    }

    pub(super) fn server(&self, link: LinkId) -> Option<&ServerCell> {
        self.cells.get(usize::from(link.0))
    }

    /// What may be known of its servers.
    pub(crate) fn servers(&self) -> Vec<ServerInfo> {
        let links = self.servers.links().zip(&self.cells);
        links.map(|(link, cell)| cell.info(&self.servers.name(link))).collect()
    }

    pub(crate) fn idle_for(&self) -> Duration {
        self.opened.elapsed().saturating_sub(Duration::from_millis(self.active.load(Ordering::Relaxed)))
    }
}

/// A living session, or one that has just ended: then every message to it is lost, and `ended` says so.
#[derive(Debug, Clone)]
pub(crate) struct SessionHandle {
    actor: ActorRef<Message>,
    shared: Arc<Shared>,
    intake: Budget,
    budget: Budget,
    /// Most messages queued for one connection.
    queue: usize,
    unread_bound: usize,
}

impl SessionHandle {
    pub(super) fn new(
        actor: ActorRef<Message>,
        shared: Arc<Shared>,
        intake: Budget,
        budget: Budget,
        limits: &Limits,
        unread_bound: usize,
    ) -> Self {
        let queue = budget.queue(limits.in_flight);
        Self { actor, shared, intake, budget, queue, unread_bound }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The room for what the client says while it is read, and until [`admit`](Self::admit) lets it in: without it, bodies
    /// that wait for a server that does not read would be bounded by nothing but their number.
    pub(crate) fn intake(&self) -> &Budget {
        &self.intake
    }

    /// Waits until there is room for what the client says. Answers and cancellations do not wait: something may wait for
    /// them. `None` if the session has no more room to give, because it is over.
    pub(crate) async fn admit(&self, incoming: Incoming, bytes: usize) -> Option<Incoming> {
        let at_once =
            |frame: &Frame| frame.kind() == Kind::Response || frame.method() == Some("notifications/cancelled");
        match incoming {
            Incoming::One(frame) if at_once(&frame) => Some(Incoming::One(frame)),
            incoming => Some(incoming.with_permit(self.budget.admit(bytes).await?)),
        }
    }

    /// Opens a stream to the client.
    pub(crate) fn open_stream(&self, kind: StreamKind) -> Stream {
        let stream = StreamId(self.shared.next_stream.fetch_add(1, Ordering::Relaxed));
        self.attach(stream, kind, None)
    }

    /// The stream that is the session, where its client has one connection for all that it is sent.
    pub(crate) fn own_stream(&self) -> Option<StreamId> {
        self.shared.own_stream.get().copied()
    }

    /// Takes up a stream that the client knows up to event `after`. `None` if this session never had such a stream.
    pub(crate) fn resume_stream(&self, stream: StreamId, after: u64) -> Option<Stream> {
        let known = stream.0 > 0 && stream.0 < self.shared.next_stream.load(Ordering::Relaxed);
        known.then(|| self.attach(stream, StreamKind::Get, Some(after)))
    }

    fn attach(&self, stream: StreamId, kind: StreamKind, after: Option<u64>) -> Stream {
        let attachment = Attachment(self.shared.next_attachment.fetch_add(1, Ordering::Relaxed));
        let (sender, queue) = mpsc::channel(self.queue);
        if kind.is_session() {
            let _ = self.shared.own_stream.set(stream);
        }
        let given_up = AtomicBool::new(false);
        let taken = Arc::new(Taken { since: Instant::now(), millis: AtomicU64::new(0), given_up });
        let unread = self.shared.unread.clone();
        let sink = Sink { queue: sender, unread, bound: self.unread_bound, taken: taken.clone() };
        self.cast(Message::Attach { stream, attachment, kind, after, sink });
        Stream { id: stream, attachment, queue, taken, session: self.clone() }
    }

    pub(crate) fn hear(&self, stream: Option<StreamId>, frames: Received) {
        let active = u64::try_from(self.shared.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.shared.active.store(active, Ordering::Relaxed);
        self.event(Event::FromClient { stream: stream.unwrap_or(StreamId(0)), frames });
    }

    pub(crate) fn client_oversized(&self, stream: StreamId, id: Option<Id>, request: bool, size: usize) {
        self.event(Event::ClientOversized { stream, id, request, size });
    }

    pub(crate) fn input_ended(&self) {
        self.event(Event::InputEnded);
    }

    /// Takes no new calls, gives those in flight so long to end, and ends.
    pub(crate) async fn drain_then_end(&self, limit: Duration) {
        self.event(Event::Drain);
        let drained = async {
            while self.shared.calls.load(Ordering::Relaxed) > 0 && !self.is_over() {
                tokio::time::sleep(DRAIN_CHECK).await;
            }
        };
        let _ = tokio::time::timeout(limit, drained).await;
        self.end(EndReason::Shutdown);
        self.ended().await;
    }

    pub(crate) fn is_over(&self) -> bool {
        self.shared.ended.borrow().is_some()
    }

    pub(crate) fn end(&self, reason: EndReason) {
        self.event(Event::End(reason));
    }

    /// Resolves when the session has ended.
    pub(crate) async fn ended(&self) {
        let mut ended = self.shared.ended.subscribe();
        let _ = ended.wait_for(Option::is_some).await;
    }

    fn event(&self, event: Event) {
        self.cast(Message::Event(event));
    }

    fn cast(&self, message: Message) {
        // A session that has ended hears nothing more; whoever waits for an answer sees its stream end.
        let _ = self.actor.send_message(message);
    }
}

/// A connection's end of a stream. Dropping it tells the session that the connection is gone.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    attachment: Attachment,
    queue: mpsc::Receiver<Outgoing>,
    taken: Arc<Taken>,
    session: SessionHandle,
}

impl Stream {
    /// The next message; `None` when the session has closed the stream.
    pub(crate) async fn next(&mut self) -> Option<Outgoing> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    pub(crate) fn poll_next(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<Option<Outgoing>> {
        self.taken.now();
        self.queue.poll_recv(context)
    }

    /// If the stream has ended because its client has too much unread: more than so many bytes. What it would have
    /// carried next is lost to this connection.
    pub(crate) fn given_up(&self) -> Option<usize> {
        self.taken.given_up.load(Ordering::Acquire).then_some(self.session.unread_bound)
    }

    pub(crate) fn session(&self) -> &SessionHandle {
        &self.session
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.session.event(Event::Detached { stream: self.id, attachment: self.attachment });
    }
}
