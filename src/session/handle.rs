//! The door to a session: what a front may do with one.

use std::borrow::Borrow;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use ractor::ActorRef;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::actor::Message;
use super::link_phase::LinkId;
use super::server::{ServerCell, ServerInfo};
use super::state::{ClientId, Event, Received};
use super::union::Servers;
use super::{Attachment, EndReason, RespondOn, Role, SessionId, StreamId, StreamKind};
use crate::budget::{Backlog, Budget, Held};
use crate::frame::{Id, Lost, Permit, Wire};
use crate::link::LostMessage;

/// How often a drain looks whether it is done.
const DRAIN_CHECK: Duration = Duration::from_millis(20);

/// A message on its way to a connection.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub event: Option<u64>,
    pub wire: Wire,
    pub role: Role,
    /// What it holds of the bytes that all sessions have in common, until it is dropped, which is to be when it was
    /// written.
    pub held: Option<Held>,
}

impl Borrow<Wire> for Outgoing {
    fn borrow(&self) -> &Wire {
        &self.wire
    }
}

/// The sending end of a connection, held by the actor.
#[derive(Debug)]
pub(crate) struct Sink {
    queue: mpsc::Sender<Outgoing>,
    /// What waits for the client to read it.
    backlog: Backlog,
    taken: Arc<Taken>,
}

/// What both ends of a connection know: when it last came for more, whether there was any or not. One that is alive comes
/// at every keep-alive; one whose client does not read does not come at all.
#[derive(Debug)]
struct Taken {
    since: Instant,
    millis: AtomicU64,
    /// Set when it was given up because its client does not read.
    given_up: AtomicBool,
}

impl Taken {
    fn now(&self) {
        self.millis.store(u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Sink {
    /// False if the connection is gone, or was given up because its client does not read.
    pub(crate) fn send(&self, event: Option<u64>, wire: Wire, role: Role) -> bool {
        let held = self.backlog.hold(wire.pooled());
        let sent = self.queue.try_send(Outgoing { event, wire, role, held });
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
    /// What the client may have under way to the servers.
    upward: Budget,
    /// What the servers may have under way to the client.
    downward: Budget,
    /// Most messages queued for one connection.
    queue: usize,
    /// How much one session may have under way, to be named in errors.
    share: usize,
}

impl SessionHandle {
    pub(super) fn new(
        actor: ActorRef<Message>,
        shared: Arc<Shared>,
        upward: Budget,
        downward: Budget,
        queue: usize,
        share: usize,
    ) -> Self {
        Self { actor, shared, upward, downward, queue, share }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// What the client may have under way to the servers.
    pub(crate) fn upward(&self) -> &Budget {
        &self.upward
    }

    /// Waits until what came in `size` bytes has its permit, unless `grown` is the one that it was received with.
    pub(crate) async fn let_in(
        &self,
        received: Received,
        size: usize,
        grown: Option<Permit>,
    ) -> (Received, Option<Permit>) {
        self.upward.let_in(received, size, grown, &self.downward).await
    }

    /// Opens a stream to the client.
    ///
    /// `cut` is cancelled when the client does not read what is sent to it while others need the memory: whoever has the
    /// connection ends it then.
    pub(crate) fn open_stream(&self, kind: StreamKind, cut: CancellationToken) -> Stream {
        let stream = StreamId(self.shared.next_stream.fetch_add(1, Ordering::Relaxed));
        self.attach(stream, kind, None, cut)
    }

    /// Takes up a stream that the client knows up to event `after`. `None` if this session never had such a stream. `cut`
    /// is as for [`open_stream`](Self::open_stream).
    pub(crate) fn resume_stream(&self, stream: StreamId, after: u64, cut: CancellationToken) -> Option<Stream> {
        let known = stream.0 > 0 && stream.0 < self.shared.next_stream.load(Ordering::Relaxed);
        known.then(|| self.attach(stream, StreamKind::Get, Some(after), cut))
    }

    fn attach(&self, stream: StreamId, kind: StreamKind, after: Option<u64>, cut: CancellationToken) -> Stream {
        let attachment = Attachment(self.shared.next_attachment.fetch_add(1, Ordering::Relaxed));
        let (sender, queue) = mpsc::channel(self.queue);
        let given_up = AtomicBool::new(false);
        let taken = Arc::new(Taken { since: Instant::now(), millis: AtomicU64::new(0), given_up });
        let queue = Arc::new(Mutex::new(queue));
        let unread = Arc::downgrade(&queue);
        let (stalled, actor) = (taken.clone(), self.actor.clone());
        let backlog = self.downward.backlog(move || {
            stalled.given_up.store(true, Ordering::Release);
            cut.cancel();
            // Where the connection is somebody else's, at least nothing more is sent to it, and what is queued is dropped.
            let dropped = unread.upgrade().map(|unread| take_all(&mut lock(&unread)));
            drop(dropped);
            let _ = actor.send_message(Message::GivenUp { stream, attachment });
        });
        let sink = Sink { queue: sender, backlog, taken: taken.clone() };
        self.cast(Message::Attach { client: ClientId::FIRST, stream, attachment, kind, after, sink });
        Stream { id: stream, attachment, queue, taken, session: self.clone() }
    }

    /// Hands on what the client has sent. `permit` is that of a message which could not be read.
    pub(crate) fn hear(&self, respond_on: RespondOn, (frames, permit): (Received, Option<Permit>)) {
        let active = u64::try_from(self.shared.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.shared.active.store(active, Ordering::Relaxed);
        let event = Event::FromClient { client: ClientId::FIRST, respond_on, frames };
        self.cast(Message::Event { event, permit });
    }

    /// Tells of a message of the client that was not kept.
    pub(crate) async fn client_lost(&self, stream: StreamId, id: Option<Id>, request: bool, size: usize, why: Lost) {
        let permit = Some(self.upward.unreadable(&self.downward).await);
        let message = LostMessage { id, request, size, why };
        let event = Event::ClientLost { client: ClientId::FIRST, stream, message };
        self.cast(Message::Event { event, permit });
    }

    pub(crate) fn input_ended(&self) {
        self.event(Event::InputEnded { client: ClientId::FIRST });
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
        self.cast(Message::Event { event, permit: None });
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
    queue: Arc<Mutex<mpsc::Receiver<Outgoing>>>,
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
        lock(&self.queue).poll_recv(context)
    }

    /// If the stream has ended because its client does not read: how many bytes may wait for it. What it would have carried
    /// next is lost to this connection.
    pub(crate) fn given_up(&self) -> Option<usize> {
        self.taken.given_up.load(Ordering::Acquire).then_some(self.session.share)
    }

    pub(crate) fn session(&self) -> &SessionHandle {
        &self.session
    }
}

fn lock(queue: &Mutex<mpsc::Receiver<Outgoing>>) -> MutexGuard<'_, mpsc::Receiver<Outgoing>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take_all(queue: &mut mpsc::Receiver<Outgoing>) -> Vec<Outgoing> {
    queue.close();
    std::iter::from_fn(|| queue.try_recv().ok()).collect()
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.session.event(Event::Detached { stream: self.id, attachment: self.attachment });
    }
}
