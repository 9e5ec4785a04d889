//! Spawns the actors of sessions, and hears of their ends. One actor; nothing else spawns a session.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio_util::task::TaskTracker;
use tracing::{error, info};

use super::actor::{Arguments, SessionActor};
use super::facts::SessionFacts;
use super::key::generate_token;
use super::{Caller, ClientTransport, EndReason, Registry, SessionHandle, SessionId, SessionPlan, SessionSecret};
use crate::budget::{Budget, Pool};

/// Why no session was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There are so many already.
    Limit(usize),
    /// The session that was to be joined has so many clients already.
    ClientLimit(usize),
    /// The session that was to be joined is over.
    Ended,
    ShuttingDown,
    /// A defect, or an operating system without randomness; the log says which.
    Failed,
}

/// What a session is found by, by its caller and by nobody else.
#[derive(Debug, Clone, Copy)]
pub(crate) enum FoundBy {
    /// By nothing: its client has one connection, which is the session's for life.
    Nobody,
    /// By a token for streamable HTTP that is made with the session.
    NewToken,
    /// By a secret that its client was given before.
    Secret(SessionSecret),
}

/// A request to the supervisor.
pub(crate) enum SupervisorRequest {
    Open {
        /// Who opens it.
        caller: Caller,
        found_by: FoundBy,
        expose_stderr: bool,
        /// The client's budget, if bytes were charged to it before there was a session.
        upward: Option<Budget>,
        reply: RpcReplyPort<Result<UnclaimedSession, Refused>>,
    },
    /// Replies when every request before it is done.
    Settle(RpcReplyPort<()>),
}

impl std::fmt::Debug for SupervisorRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Open { .. } => "Open",
            Self::Settle(_) => "Settle",
        })
    }
}

/// A session that was just opened. It ends when this is dropped before the session was taken: a client may leave while
/// its session is being made, and then nobody would ever ask for it.
#[derive(Debug)]
pub(crate) struct UnclaimedSession {
    session: Option<SessionHandle>,
    token: Option<String>,
}

impl UnclaimedSession {
    /// The session, until it is taken.
    pub(crate) fn session(&self) -> Option<&SessionHandle> {
        self.session.as_ref()
    }

    /// Takes the session, and its token if it was to have one.
    pub(crate) fn take(mut self) -> Option<(SessionHandle, Option<String>)> {
        let token = self.token.take();
        Some((self.session.take()?, token))
    }
}

impl Drop for UnclaimedSession {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            session.end(EndReason::ClientLeft);
        }
    }
}

pub(crate) struct Supervisor;

/// What the supervisor opens sessions with.
pub(crate) struct SupervisorState {
    pub(super) plan: Arc<SessionPlan>,
    pub(super) registry: Arc<Registry>,
    pub(super) tasks: TaskTracker,
    pub(super) closed: Arc<AtomicBool>,
    pub(super) upward: Pool,
    pub(super) downward: Pool,
}

impl Actor for Supervisor {
    type Msg = SupervisorRequest;
    type State = SupervisorState;
    type Arguments = SupervisorState;

    async fn pre_start(
        &self,
        _myself: ActorRef<SupervisorRequest>,
        supervision: SupervisorState,
    ) -> Result<SupervisorState, ActorProcessingErr> {
        Ok(supervision)
    }

    async fn handle(
        &self,
        myself: ActorRef<SupervisorRequest>,
        ask: SupervisorRequest,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        // The client may have left. A session that is not taken ends by itself.
        match ask {
            SupervisorRequest::Open { caller, found_by, expose_stderr, upward, reply } => {
                let _ = reply.send(state.open(&myself, caller, found_by, expose_stderr, upward).await);
            }
            SupervisorRequest::Settle(reply) => {
                let _ = reply.send(());
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<SupervisorRequest>,
        event: SupervisionEvent,
        _state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            // The guards of the session have tidied up, whatever happened: here the failure is only logged.
            SupervisionEvent::ActorFailed(actor, reason) => {
                error!(actor = %actor.get_id(), %reason, "a session failed; no other one is affected");
            }
            SupervisionEvent::ActorTerminated(..)
            | SupervisionEvent::ActorStarted(_)
            | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}

impl SupervisorState {
    async fn open(
        &self,
        myself: &ActorRef<SupervisorRequest>,
        caller: Caller,
        found_by: FoundBy,
        expose_stderr: bool,
        upward: Option<Budget>,
    ) -> Result<UnclaimedSession, Refused> {
        let plan = &self.plan;
        check_vacancy(plan, &self.registry, &self.tasks, &self.closed)?;
        let (token, secret) = match found_by {
            FoundBy::Nobody => (None, None),
            FoundBy::NewToken => {
                let token = new_token()?;
                let secret = SessionSecret::of(&token, ClientTransport::Streamable, &caller);
                (Some(token), Some(secret))
            }
            FoundBy::Secret(secret) => (None, Some(secret)),
        };
        let id = SessionId::generate();
        let facts = Arc::new(SessionFacts::new(id, caller.principal, plan.servers.clone()));
        let upward = upward.unwrap_or_else(|| self.upward.open());
        let downward = self.downward.open();
        let queue = plan.queue();
        let arguments = Arguments {
            facts: facts.clone(),
            limits: plan.limits.clone(),
            expose_stderr,
            is_shared: false,
            lost: None,
            backends: plan.backends.clone(),
            servers: plan.servers.clone(),
            scratch: plan.scratch.join(format!("sessile-{id}")),
            upward: upward.clone(),
            downward: downward.clone(),
            queue,
            registry: self.registry.clone(),
            tasks: self.tasks.clone(),
        };
        let spawned = Actor::spawn_linked(None, SessionActor, arguments, myself.get_cell()).await;
        let (actor, _) = spawned.map_err(|reason| {
            error!(%reason, "a session did not start");
            Refused::Failed
        })?;
        let session = SessionHandle::new(actor, facts, upward, downward, queue, plan.session_budget);
        self.registry.insert(session.clone(), secret);
        // A session that ended before it was entered could not remove its entry.
        if session.facts().ended.borrow().is_some() {
            self.registry.remove(id);
        }
        info!(session = %id, principal = %session.facts().principal, "session opened");
        Ok(UnclaimedSession { session: Some(session), token })
    }
}

/// Makes the token that a client is given.
pub(crate) fn new_token() -> Result<String, Refused> {
    generate_token().map_err(|reason| {
        error!(%reason, "the operating system gives no randomness");
        Refused::Failed
    })
}

/// Whether there is room for one more session.
pub(super) fn check_vacancy(
    plan: &SessionPlan,
    registry: &Registry,
    tasks: &TaskTracker,
    closed: &AtomicBool,
) -> Result<(), Refused> {
    if closed.load(Ordering::Acquire) {
        return Err(Refused::ShuttingDown);
    }
    match plan.max_sessions {
        // Backends that take long to end count as well, or clients that come and go could start any number of them.
        Some(limit) if registry.len() >= limit || tasks.len() >= limit.saturating_mul(2).saturating_add(2) => {
            Err(Refused::Limit(limit))
        }
        _ => Ok(()),
    }
}
