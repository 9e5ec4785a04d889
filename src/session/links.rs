//! The links of one session: what opens them, what goes to their servers, and what ends them.

use std::path::PathBuf;
use std::sync::Arc;

use ractor::ActorRef;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::facts::SessionFacts;
use super::link_events::SessionLinkEvents;
use super::link_phase::LinkId;
use super::log_throttle::LogThrottle;
use super::mailbox::SessionMessage;
use super::server::ServerState;
use super::union::Servers;
use crate::backend::Backend;
use crate::budget::{Backlog, Budget};
use crate::frame::Wire;
use crate::link::{LinkContext, MessageToServer, Purpose};

/// A server that has left more responses of sessile itself unread, behind what its pipe holds, asks without end and
/// reads nothing: it is given up.
const MOST_UNREAD_RESPONSES: usize = 100;

/// What the links of a session are opened with. It stays as it is for the session's life.
pub(super) struct LinkPlan {
    /// The backends that open the links, in the order of the links' numbers.
    pub backends: Arc<[Backend]>,
    pub servers: Arc<Servers>,
    /// Most messages queued for a link.
    pub queue: usize,
    /// Most requests in flight.
    pub in_flight: usize,
    pub message_size: usize,
    pub scratch: PathBuf,
    pub upward: Budget,
    pub downward: Budget,
    /// Counts all links of the proxy.
    pub tasks: TaskTracker,
    /// Ends all links of the session.
    pub stop: CancellationToken,
}

/// The links of a session. Each is opened with the first message for its server.
pub(super) struct Links {
    plan: LinkPlan,
    /// The open links, by number.
    open: Vec<Option<OpenLink>>,
}

/// The sending end of a link.
pub(super) struct OpenLink {
    queue: mpsc::Sender<MessageToServer>,
    /// What the server has not read yet.
    backlog: Backlog,
    upward: Budget,
    /// There is a clone of this in each response of sessile itself that waits for the server to read it.
    responses: Arc<()>,
    /// Most such responses that may wait.
    most_responses: usize,
    stop: CancellationToken,
}

impl OpenLink {
    /// Queues a message. False if the server reads so little that its queue is full. That a link is gone is told by the
    /// link.
    pub(super) fn send(&self, wire: Wire, purpose: Purpose) -> bool {
        // The client's responses have a permit, although it may be for fewer bytes: the server's own id can be longer
        // than the one that the client was given.
        let is_own = purpose == Purpose::Response && wire.uncharged() == wire.len();
        let wire = self.upward.owe(wire);
        let held = self.backlog.hold(wire.pooled());
        let response = is_own.then(|| self.responses.clone());
        let message = MessageToServer { wire, purpose, held, response };
        if Arc::strong_count(&self.responses) > self.most_responses.saturating_add(2) {
            return false;
        }
        !matches!(self.queue.try_send(message), Err(mpsc::error::TrySendError::Full(_)))
    }
}

impl Links {
    pub(super) fn new(plan: LinkPlan) -> Self {
        Self { open: plan.backends.iter().map(|_| None).collect(), plan }
    }

    pub(super) fn plan(&self) -> &LinkPlan {
        &self.plan
    }

    /// The sending end of this link. The link is opened if it is not open yet.
    pub(super) fn open(
        &mut self,
        link: LinkId,
        actor: &ActorRef<SessionMessage>,
        facts: &Arc<SessionFacts>,
    ) -> Option<&OpenLink> {
        let index = usize::from(link.0);
        let backend = self.plan.backends.get(index)?;
        let open = self.open.get_mut(index)?;
        if open.is_none() {
            let (outgoing, waiting) = mpsc::channel(self.plan.queue);
            let budget = self.plan.downward.clone();
            let name = self.plan.servers.name(link);
            let log_throttle = LogThrottle::default();
            let server = name.clone();
            let (answers, actor) = (self.plan.upward.clone(), actor.clone());
            let link_events =
                SessionLinkEvents { actor, facts: facts.clone(), budget, answers, link, name, log_throttle };
            let stop = self.plan.stop.child_token();
            let stalled = Arc::new(Notify::new());
            let notified = stalled.clone();
            let backlog = self.plan.upward.backlog(move || notified.notify_one());
            // Each server of a session has a scratch folder of its own.
            let mut scratch = self.plan.scratch.clone().into_os_string();
            if index > 0 {
                scratch.push(format!(".{index}"));
            }
            let running = backend.run(LinkContext {
                name: facts.name.clone(),
                server,
                scratch: scratch.into(),
                message_size: self.plan.message_size,
                link_events: Arc::new(link_events),
                outgoing: waiting,
                outgoing_budget: self.plan.upward.clone(),
                backlog: backlog.clone(),
                stalled,
                stop: stop.clone(),
            });
            // The session's count is taken down after the proxy's: a caller that waits for the session finds both down.
            facts.links.spawn(self.plan.tasks.track_future(running));
            if let Some(server) = facts.server(link) {
                server.set_state(ServerState::Opening);
            }
            let most_responses = self.plan.in_flight.min(MOST_UNREAD_RESPONSES);
            *open = Some(OpenLink {
                queue: outgoing,
                backlog,
                upward: self.plan.upward.clone(),
                responses: Arc::new(()),
                most_responses,
                stop,
            });
        }
        open.as_ref()
    }

    /// Ends a link, whatever its server does.
    pub(super) fn end(&self, link: LinkId) {
        if let Some(Some(open)) = self.open.get(usize::from(link.0)) {
            open.stop.cancel();
        }
    }
}
