//! The shell around a session's pure core: one ractor actor a session.
//!
//! The shell turns messages into events, has the core apply them, and carries the effects out; it never waits for a
//! peer. Connections, links and the timer are tasks of their own that send the actor messages. What must happen at its
//! end stands in drop guards, because `post_stop` does not run when an actor is killed or panics.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::connection::{ClientRoom, ConnectionSender, SendOutcome};
use super::facts::{ClientFacts, SessionFacts};
use super::link_phase::LinkId;
use super::links::{LinkPlan, Links};
use super::log_throttle::LogThrottle;
use super::mailbox::SessionMessage;
use super::server::ServerState;
use super::state::{ClientId, Effect, Effects, Event, Keeper, LostState, State};
use super::union::Servers;
use super::{Attachment, EndReason, Limits, Registry, StreamId};
use crate::backend::Backend;
use crate::budget::Budget;
use crate::frame::Permit;
use crate::link::{Exit, LinkExit};

/// What a session's actor is started with.
pub(super) struct Arguments {
    pub facts: Arc<SessionFacts>,
    pub limits: Limits,
    pub expose_stderr: bool,
    /// Whether other clients may join the session, which then outlives its clients.
    pub is_shared: bool,
    /// What was lost with the session before it, if it is shared.
    pub lost: Option<LostState>,
    /// The backends, one for each link, in the order of the links' numbers.
    pub backends: Arc<[Backend]>,
    pub servers: Arc<Servers>,
    pub scratch: PathBuf,
    pub upward: Budget,
    pub downward: Budget,
    /// Most messages queued for a link.
    pub queue: usize,
    pub registry: Arc<Registry>,
    pub tasks: TaskTracker,
}

pub(super) struct SessionActor;

pub(super) struct Shell {
    core: State,
    /// The clients, each with what it may leave unread if there are several.
    clients: HashMap<ClientId, (Arc<ClientFacts>, Option<ClientRoom>)>,
    connections: HashMap<StreamId, Connection>,
    links: Links,
    log_throttle: LogThrottle,
    timer: Option<(Instant, AbortHandle)>,
    /// Whether the event that is dealt with has sent anything to a client that has read what it was sent before.
    is_awaited: bool,
    end: EndGuard,
    // This field is dropped last, so that the links end after everything else.
    _stop: DropGuard,
}

/// Permits for what is kept for a client that may come back. The core drops what is kept when others need the memory.
fn keeper(budget: &Budget, client: ClientId, actor: &ActorRef<SessionMessage>) -> Keeper {
    let actor = actor.clone();
    let backlog = budget.backlog(move || {
        let _ = actor.send_message(SessionMessage::Event { event: Event::GiveWay { client }, permit: None });
    });
    let (budget, holding) = (budget.clone(), backlog.clone());
    let keep = move |bytes| {
        let permit = budget.keep(bytes)?;
        let held = backlog.hold(permit.pooled());
        Some(permit.and(Permit::new(held)))
    };
    Keeper::new(keep, move |bytes| Some(Permit::new(holding.hold(bytes)?)))
}

/// The connection that carries a stream now.
struct Connection {
    client: ClientId,
    attachment: Attachment,
    sender: ConnectionSender,
}

/// Makes a session's end known, however it came.
struct EndGuard {
    facts: Arc<SessionFacts>,
    registry: Arc<Registry>,
    reason: Option<EndReason>,
}

impl EndGuard {
    fn ended(&mut self, reason: EndReason) {
        // The registry comes first: a caller that has seen the end must not find the session any more, and one that
        // waits for the links of ended sessions must find these.
        self.facts.links.close();
        self.registry.leave(self.facts.id, &reason, &self.facts.links);
        info!(session = %self.facts.id, reason = reason.name(), "session ended");
        self.facts.ended.send_replace(Some(reason.clone()));
        self.reason = Some(reason);
    }
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        if self.reason.is_none() {
            self.ended(EndReason::Failed);
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        if let Some((_, timer)) = self.timer.take() {
            timer.abort();
        }
    }
}

impl Actor for SessionActor {
    type Msg = SessionMessage;
    type State = Shell;
    type Arguments = Arguments;

    async fn pre_start(&self, myself: ActorRef<SessionMessage>, args: Arguments) -> Result<Shell, ActorProcessingErr> {
        let Arguments { facts, limits, expose_stderr, backends, servers, scratch, .. } = args;
        let Arguments { upward, downward, queue, registry, tasks, is_shared, lost, .. } = args;
        let keeper = keeper(&downward, ClientId::FIRST, &myself);
        let room = is_shared.then(|| ClientRoom::new(&downward));
        let stop = CancellationToken::new();
        let plan = LinkPlan {
            backends,
            servers: servers.clone(),
            queue,
            in_flight: limits.in_flight,
            message_size: limits.message_size,
            scratch,
            upward,
            downward,
            tasks,
            stop: stop.clone(),
        };
        let core = State::new(facts.name.clone(), servers, limits, expose_stderr, Instant::now().into_std())
            .with_keeper(ClientId::FIRST, keeper);
        Ok(Shell {
            core: if is_shared { core.shared(lost) } else { core },
            clients: HashMap::from([(facts.opener.id, (facts.opener.clone(), room))]),
            connections: HashMap::new(),
            links: Links::new(plan),
            log_throttle: LogThrottle::default(),
            timer: None,
            is_awaited: false,
            end: EndGuard { facts, registry, reason: None },
            _stop: stop.drop_guard(),
        })
    }

    async fn post_start(&self, myself: ActorRef<SessionMessage>, shell: &mut Shell) -> Result<(), ActorProcessingErr> {
        shell.arm(&myself, Instant::now());
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<SessionMessage>,
        message: SessionMessage,
        shell: &mut Shell,
    ) -> Result<(), ActorProcessingErr> {
        // The permit of an event is dropped when the event was dealt with.
        let mut _permit = None;
        let mut joining = None;
        let event = match message {
            SessionMessage::Join { client, reply } => {
                let keeper = keeper(&shell.links.plan().downward, client.id, &myself);
                let id = client.id;
                let room = ClientRoom::new(&shell.links.plan().downward);
                shell.clients.insert(id, (client, Some(room)));
                joining = Some((id, reply));
                Event::Joined { client: id, keeper }
            }
            SessionMessage::Attach { client, stream, attachment, kind, after, sender } => {
                let connection = Connection { client, attachment, sender };
                shell.connections.insert(stream, connection);
                Event::Attached { client, stream, attachment, kind, after }
            }
            SessionMessage::Event { event, permit: held } => {
                _permit = held;
                event
            }
            SessionMessage::GivenUp { stream, attachment } => Event::Detached { stream, attachment },
            SessionMessage::Tick => {
                shell.timer = None;
                Event::Tick
            }
        };
        let now = Instant::now();
        let mut over = shell.carry_out(event, &myself, now);
        if let Some((client, reply)) = joining {
            let has_joined = shell.core.has_client(client);
            if !has_joined {
                shell.clients.remove(&client);
            }
            // Without a reply, whoever asked learns that the session has ended.
            if !shell.core.is_over() && reply.send(has_joined).is_err() && has_joined {
                // Whoever asked is gone, and nobody else would ever act for this client.
                let left = Event::Left { client, reason: EndReason::ClientLeft };
                over |= shell.carry_out(left, &myself, now);
            }
        }
        if over {
            myself.stop(None);
        } else {
            shell.arm(&myself, now);
        }
        Ok(())
    }
}

impl Shell {
    /// Applies an event and all that follows from it. True when the session is over.
    fn carry_out(&mut self, event: Event, myself: &ActorRef<SessionMessage>, now: Instant) -> bool {
        if let Event::Detached { stream, attachment } = &event
            && self.connections.get(stream).is_some_and(|connection| connection.attachment == *attachment)
        {
            self.connections.remove(stream);
        }
        if let Event::LinkClosed { link, .. } = &event {
            self.set_server_state(*link, ServerState::Gone);
        }
        let is_from_server = matches!(event, Event::FromServer { .. } | Event::ServerLost { .. });
        let mut over = false;
        let mut follow_up = Vec::new();
        let mut effects = self.core.apply(event, now.into_std());
        self.is_awaited = false;
        loop {
            over |= self.perform(effects, myself, &mut follow_up);
            let Some(event) = follow_up.pop() else { break };
            effects = self.core.apply(event, now.into_std());
        }
        if is_from_server {
            self.links.plan().downward.set_unread(!self.is_awaited);
        }
        self.end.facts.calls.store(self.core.requests_in_flight(), Ordering::Relaxed);
        self.end.facts.clients.store(self.core.client_count(), Ordering::Relaxed);
        over
    }

    fn perform(&mut self, effects: Effects, myself: &ActorRef<SessionMessage>, follow_up: &mut Vec<Event>) -> bool {
        let mut over = false;
        let has_several_clients = self.core.client_count() > 1;
        for effect in effects {
            match effect {
                Effect::ToClient { stream, event, wire, role } => {
                    let Some(connection) = self.connections.get(&stream) else { continue };
                    // A message that sessile makes itself has no permit yet.
                    let wire = self.links.plan().downward.owe(wire);
                    let client = self.clients.get(&connection.client).filter(|_| has_several_clients);
                    let outcome = connection.sender.send(event, wire, role, client.and_then(|(_, room)| room.as_ref()));
                    self.is_awaited |= outcome == SendOutcome::Queued;
                    if outcome == SendOutcome::Failed {
                        // The connection is gone, or its client does not read. What the client missed is kept in the
                        // outbox.
                        debug!(session = %self.end.facts.id, stream = stream.0, "connection given up");
                        follow_up.push(Event::Detached { stream, attachment: connection.attachment });
                        self.connections.remove(&stream);
                    }
                }
                Effect::CheckRead { stream, attachment } => {
                    if let Some(connection) = self.connections.get(&stream) {
                        let at = connection.sender.read_at().into_std();
                        follow_up.push(Event::ReadAt { stream, attachment, at });
                    }
                }
                Effect::Close { stream } => drop(self.connections.remove(&stream)),
                Effect::ToServer { link, wire, purpose } => {
                    let Some(open) = self.links.open(link, myself, &self.end.facts) else { continue };
                    // Messages of clients are bounded, so only responses to the server's own requests can fill the
                    // queue: a server that asks and does not read the responses.
                    if !open.send(wire, purpose) {
                        let server = self.links.plan().servers.name(link);
                        warn!(session = %self.end.facts.id, %server, "the backend does not read: it is given up");
                        // With several servers the session goes on without it.
                        self.links.end(link);
                        self.set_server_state(link, ServerState::Gone);
                        let exit = LinkExit::Exited { exit: Exit::Closed, stderr: Vec::new() };
                        follow_up.push(Event::LinkClosed { link, exit });
                    }
                }
                Effect::ClientNamed { name } => {
                    info!(session = %self.end.facts.id, client = %name, "client introduced itself");
                    let _ = self.end.facts.client.set(name);
                }
                Effect::ClientReady { client, version } => {
                    if let (Some((client, _)), Some(version)) = (self.clients.get(&client), version) {
                        let _ = client.version.set(version);
                    }
                }
                Effect::ClientLeft { client } => self.client_left(client),
                Effect::SessionOpened { version } => {
                    let version = version.unwrap_or_default();
                    // A shared session says by `ClientReady` whose version that is.
                    if !self.core.is_shared() {
                        let _ = self.end.facts.opener.version.set(version.clone());
                    }
                    let _ = self.end.facts.version.set(version);
                    if self.links.plan().backends.len() == 1 {
                        self.set_server_state(LinkId(0), ServerState::Ready);
                    }
                }
                Effect::HandshakeAnswered { link, ready } => {
                    self.set_server_state(link, if ready { ServerState::Ready } else { ServerState::Refused });
                }
                Effect::Warn { link, text } => {
                    if let Some(suppressed) = self.log_throttle.admit() {
                        warn!(session = %self.end.facts.id, server = %self.links.plan().servers.name(link), suppressed, "{text}");
                    }
                }
                Effect::Ended(reason) => {
                    self.end.ended(reason);
                    over = true;
                }
            }
        }
        over
    }

    /// A client is no part of the session any more: nobody finds the session by what it holds.
    fn client_left(&mut self, client: ClientId) {
        // First of all, or what the client holds could be entered after it was forgotten, and stay.
        if let Some((facts, _)) = self.clients.remove(&client) {
            facts.left.cancel();
        }
        self.end.registry.forget_client(self.end.facts.id, client);
        debug!(session = %self.end.facts.id, client = client.0, "client left");
    }

    fn set_server_state(&self, link: LinkId, state: ServerState) {
        if let Some(server) = self.end.facts.server(link) {
            server.set_state(state);
        }
    }

    /// Arms the timer for the core's next deadline. A tick that comes early does no harm, so a timer is never put off.
    fn arm(&mut self, myself: &ActorRef<SessionMessage>, now: Instant) {
        let Some(next) = self.core.next_deadline(now.into_std()).map(Instant::from_std) else { return };
        if self.timer.as_ref().is_some_and(|(armed, _)| *armed <= next) {
            return;
        }
        if let Some((_, timer)) = self.timer.take() {
            timer.abort();
        }
        let actor = myself.clone();
        let task = tokio::spawn(async move {
            tokio::time::sleep_until(next).await;
            let _ = actor.send_message(SessionMessage::Tick);
        });
        self.timer = Some((next, task.abort_handle()));
    }
}
