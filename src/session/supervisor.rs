//! Spawns the actors of sessions, and hears of their ends. One actor; nothing else spawns a session.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio_util::task::TaskTracker;
use tracing::{error, info};

use super::actor::{Arguments, SessionActor};
use super::facts::SessionFacts;
use super::opening::FoundSession;
use super::registry::FoundByKeys;
use super::state::LostState;
use super::{JoinBy, Registry, SessionHandle, SessionId, SessionKey, SessionPlan, SessionRequest, UnclaimedSession};
use crate::budget::Pool;
use crate::config::KeyKind;

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

/// A request to the supervisor.
pub(crate) enum SupervisorRequest {
    /// Finds the session of a key, or opens one.
    Open { request: Box<SessionRequest>, reply: RpcReplyPort<Result<FoundSession, Refused>> },
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
            SupervisorRequest::Open { request, reply } => {
                let _ = reply.send(state.find_or_open(&myself, *request).await);
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
    /// Finds the living session of the key that is asked for, or opens one for it. Requests are dealt with one after the
    /// other, so that two that come at once with one key get one session.
    async fn find_or_open(
        &self,
        myself: &ActorRef<SupervisorRequest>,
        request: SessionRequest,
    ) -> Result<FoundSession, Refused> {
        let key = match request.join_by.as_ref().map(|join_by| self.look_up(join_by)) {
            None => None,
            Some(KeyLookup::Living(session)) => return Ok(FoundSession::Living(session)),
            Some(KeyLookup::Missing(key)) => Some(key),
        };
        Ok(FoundSession::Opened(self.open(myself, request, key).await?))
    }

    fn look_up(&self, join_by: &JoinBy) -> KeyLookup {
        let registry = &self.registry;
        let missing = |kind: &KeyKind, key, lost, is_fresh| {
            KeyLookup::Missing(KeyToOpen { kind: kind.clone(), key, lost, is_fresh })
        };
        match join_by {
            JoinBy::Brought { kind, key } => match registry.find_by_key(*key) {
                Some(session) => KeyLookup::Living(session),
                None => missing(kind, *key, registry.lost_state(*key), false),
            },
            JoinBy::Minted { kind, brought, fresh } => {
                if let Some(session) = brought.and_then(|key| registry.find_by_key(key)) {
                    return KeyLookup::Living(session);
                }
                match brought.and_then(|key| Some((key, registry.lost_state(key)?))) {
                    Some((key, lost)) => missing(kind, key, Some(lost), false),
                    // A value that was not made here, or that was forgotten, is not taken over.
                    None => missing(kind, *fresh, None, true),
                }
            }
        }
    }

    async fn open(
        &self,
        myself: &ActorRef<SupervisorRequest>,
        request: SessionRequest,
        key: Option<KeyToOpen>,
    ) -> Result<UnclaimedSession, Refused> {
        let SessionRequest { caller, found_by, expose_stderr, upward, .. } = request;
        let plan = &self.plan;
        check_vacancy(plan, &self.registry, &self.tasks, &self.closed)?;
        let (token, secret) = found_by.token_and_secret(&caller)?;
        let lost = key.as_ref().and_then(|key| key.lost);
        let id = SessionId::generate();
        let facts = Arc::new(SessionFacts::new(id, caller.principal, plan.servers.clone()));
        let upward = upward.unwrap_or_else(|| self.upward.open());
        let downward = self.downward.open();
        let queue = plan.queue();
        let arguments = Arguments {
            facts: facts.clone(),
            limits: plan.limits.clone(),
            expose_stderr,
            is_shared: key.is_some(),
            lost,
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
        let has_fresh_key = key.as_ref().is_some_and(|key| key.is_fresh);
        let generation = lost.map_or(1, |lost| lost.generation);
        let kinds = [found_by.kind()].into_iter().chain(key.as_ref().map(|key| key.kind.clone())).collect();
        let keys = key.iter().map(|key| key.key).collect();
        self.registry.insert(session.clone(), secret, FoundByKeys { kinds, keys, generation });
        // A session that ended before it was entered could not remove its entry.
        if session.facts().ended.borrow().is_some() {
            self.registry.remove(id);
        }
        info!(session = %id, principal = %session.facts().principal, generation, "session opened");
        let mut opened = UnclaimedSession::new(session);
        (opened.token, opened.has_fresh_key) = (token, has_fresh_key);
        Ok(opened)
    }
}

/// Whether a session of some key lives.
enum KeyLookup {
    Living(SessionHandle),
    Missing(KeyToOpen),
}

/// The key that a session is opened for.
struct KeyToOpen {
    kind: KeyKind,
    key: SessionKey,
    /// What was lost with the last session of this key.
    lost: Option<LostState>,
    /// Whether the key was made for this session.
    is_fresh: bool,
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
