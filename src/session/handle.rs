//! What a front may do with a session.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ractor::ActorRef;
use tokio_util::sync::CancellationToken;

use super::connection::{StreamConnection, connection};
use super::facts::{ClientFacts, SessionFacts};
use super::mailbox::SessionMessage;
use super::state::{Event, MOST_CLIENTS, Received};
use super::{Attachment, EndReason, Refused, RespondOn, StreamId, StreamKind};
use crate::budget::Budget;
use crate::frame::{LostMessage, Permit};

/// How often a drain looks whether it is done.
const DRAIN_CHECK: Duration = Duration::from_millis(20);

/// One client of a living session, or of one that has just ended: then every message to it is lost, and `ended` says
/// so.
#[derive(Debug, Clone)]
pub(crate) struct SessionHandle {
    actor: ActorRef<SessionMessage>,
    facts: Arc<SessionFacts>,
    client: Arc<ClientFacts>,
    /// What the client may have under way to the servers.
    upward: Budget,
    /// What the servers may have under way to the client.
    downward: Budget,
    /// Most messages queued for one connection.
    queue_capacity: usize,
    /// How much one session may have under way, to be named in errors.
    share: usize,
}

impl SessionHandle {
    pub(super) fn new(
        actor: ActorRef<SessionMessage>,
        facts: Arc<SessionFacts>,
        upward: Budget,
        downward: Budget,
        queue_capacity: usize,
        share: usize,
    ) -> Self {
        let client = facts.opener.clone();
        Self { actor, facts, client, upward, downward, queue_capacity, share }
    }

    /// Adds a client to the session, and gives its handle. Refused if the session is over, or has as many clients as it
    /// may have and none of them can be forgotten.
    pub(crate) async fn join(&self) -> Result<Self, Refused> {
        let number = self.facts.new_client().ok_or(Refused::ClientLimit(MOST_CLIENTS))?;
        let client = Arc::new(ClientFacts::new(number));
        let join = async { ractor::call!(self.actor, |reply| SessionMessage::Join { client: client.clone(), reply }) };
        let joined = tokio::select! {
            biased;
            joined = join => joined,
            // A message that is sent while the actor stops may stay in its mailbox, with the reply, for as long as this
            // handle is there.
            () = self.ended() => return Err(Refused::Ended),
        };
        match joined {
            Ok(true) => Ok(Self { client, ..self.clone() }),
            Ok(false) => Err(Refused::ClientLimit(MOST_CLIENTS)),
            Err(_) => Err(Refused::Ended),
        }
    }

    /// The client leaves. A session that only this client could find ends with it, for this reason.
    pub(crate) fn leave(&self, reason: EndReason) {
        self.event(Event::Left { client: self.client.id, reason });
    }

    /// Resolves when this client is no part of the session any more, or the session has ended.
    pub(crate) async fn left(&self) {
        tokio::select! {
            () = self.client.left.cancelled() => {}
            () = self.ended() => {}
        }
    }

    /// What everybody may know of this client.
    pub(crate) fn client(&self) -> &ClientFacts {
        &self.client
    }

    pub(crate) fn facts(&self) -> &SessionFacts {
        &self.facts
    }

    /// What the client may have under way to the servers.
    pub(crate) fn upward(&self) -> &Budget {
        &self.upward
    }

    /// What the servers may have under way to the client.
    pub(super) fn downward(&self) -> &Budget {
        &self.downward
    }

    /// How much the session may have under way in each direction, in bytes.
    pub(super) fn share(&self) -> usize {
        self.share
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
    /// `cut` is cancelled when the client does not read what is sent to it while others need the memory: whoever has
    /// the connection ends it then.
    pub(crate) fn open_stream(&self, kind: StreamKind, cut: CancellationToken) -> StreamConnection {
        let stream = self.facts.new_stream(self.client.id);
        self.attach(stream, kind, None, cut)
    }

    /// Whether a connection was ever opened. A session that was just made has none yet.
    pub(crate) fn has_had_connection(&self) -> bool {
        self.facts.has_had_stream()
    }

    /// Resumes a stream that the client knows up to event `after`. `None` if this client never had such a stream.
    /// `cut` is as for [`open_stream`](Self::open_stream).
    pub(crate) fn resume_stream(
        &self,
        stream: StreamId,
        after: u64,
        cut: CancellationToken,
    ) -> Option<StreamConnection> {
        let is_own = self.facts.had_stream(self.client.id, stream);
        is_own.then(|| self.attach(stream, StreamKind::Get, Some(after), cut))
    }

    fn attach(
        &self,
        stream: StreamId,
        kind: StreamKind,
        after: Option<u64>,
        cut: CancellationToken,
    ) -> StreamConnection {
        let attachment = self.facts.new_attachment();
        let actor = self.actor.clone();
        let (sender, receiver) = connection((stream, attachment), self.queue_capacity, self.clone(), move || {
            cut.cancel();
            let _ = actor.send_message(SessionMessage::GivenUp { stream, attachment });
        });
        self.cast(SessionMessage::Attach { client: self.client.id, stream, attachment, kind, after, sender });
        receiver
    }

    /// The connection of that stream is gone.
    pub(super) fn detached(&self, stream: StreamId, attachment: Attachment) {
        self.event(Event::Detached { stream, attachment });
    }

    /// Hands on what the client has sent. `permit` is that of a message which could not be read.
    pub(crate) fn receive(&self, respond_on: RespondOn, (frames, permit): (Received, Option<Permit>)) {
        let active = u64::try_from(self.facts.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.facts.active.store(active, Ordering::Relaxed);
        let event = Event::FromClient { client: self.client.id, respond_on, frames };
        self.cast(SessionMessage::Event { event, permit });
    }

    /// Tells of a message of the client that was not kept.
    pub(crate) async fn client_lost(&self, stream: StreamId, message: LostMessage) {
        let permit = Some(self.upward.unreadable(&self.downward).await);
        let event = Event::ClientLost { client: self.client.id, stream, message };
        self.cast(SessionMessage::Event { event, permit });
    }

    /// The client will send nothing more, but may still read.
    pub(crate) fn input_ended(&self) {
        self.event(Event::InputEnded { client: self.client.id });
    }

    /// Takes no new requests, gives those in flight up to `limit` to end, and ends.
    pub(crate) async fn drain_then_end(&self, limit: Duration) {
        self.event(Event::Drain);
        let drained = async {
            while self.facts.calls.load(Ordering::Relaxed) > 0 && !self.is_over() {
                tokio::time::sleep(DRAIN_CHECK).await;
            }
        };
        let _ = tokio::time::timeout(limit, drained).await;
        self.end(EndReason::Shutdown);
        self.ended().await;
    }

    pub(crate) fn is_over(&self) -> bool {
        self.facts.ended.borrow().is_some()
    }

    pub(crate) fn end(&self, reason: EndReason) {
        self.event(Event::End(reason));
    }

    /// Resolves when the session has ended.
    pub(crate) async fn ended(&self) {
        let mut ended = self.facts.ended.subscribe();
        let _ = ended.wait_for(Option::is_some).await;
    }

    fn event(&self, event: Event) {
        self.cast(SessionMessage::Event { event, permit: None });
    }

    fn cast(&self, message: SessionMessage) {
        // A session that has ended hears nothing more; whoever waits for an answer sees its stream end.
        let _ = self.actor.send_message(message);
    }
}
