//! Opens sessions, and hears of their ends. One actor; nothing else spawns a session.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::sync::OnceCell;
use tokio_util::task::TaskTracker;
use tracing::{error, info};

use super::actor::{Arguments, SessionActor};
use super::key::generate_token;
use super::shared::Shared;
use super::union::{ConfiguredServer, Servers};
use super::{Caller, EndReason, Limits, Registry, SessionHandle, SessionId, SessionSecret};
use crate::backend::Backend;
use crate::budget::{Bounds, Budget, OVERHEAD, Pool, RESERVE};
use crate::config::{Filter, SessionSettings};

/// Why no session was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There are so many already.
    Limit(usize),
    ShuttingDown,
    /// A defect, or an operating system without randomness; the log says which.
    Failed,
}

/// What all sessions of a proxy have in common.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The servers, of which every session gets one each.
    pub backends: Arc<[Backend]>,
    /// The same, as they appear to clients.
    pub servers: Arc<Servers>,
    pub limits: Limits,
    pub max_sessions: Option<usize>,
    /// What one session takes at most of the bytes that all have in common, in each direction.
    pub session_budget: usize,
    /// The bytes that all sessions have in common, in each direction.
    pub process_budget: usize,
    pub scratch: PathBuf,
}

impl Plan {
    pub(crate) fn new(backends: Arc<[Backend]>, settings: SessionSettings, keep_alive: Duration) -> Self {
        let servers = backends.iter().map(|_| ConfiguredServer::new("backend", Filter::default())).collect();
        Self {
            backends,
            servers: Arc::new(Servers::new(servers, true, false)),
            limits: Limits {
                idle_timeout: settings.idle_timeout,
                lost_stream: settings.lost_stream,
                stream_wait: settings.stream_wait,
                // A connection whose client reads comes for more at every keep-alive, give or take.
                stall: settings.lost_stream.max(keep_alive.saturating_mul(3)),
                server_wait: settings.server_wait,
                request_timeout: settings.request_timeout,
                drain: settings.drain,
                replay_bytes: settings.replay_bytes,
                in_flight: settings.max_in_flight,
                message_size: settings.max_message_size,
            },
            max_sessions: settings.max_sessions,
            session_budget: settings.session_budget,
            process_budget: settings.process_budget,
            scratch: settings.scratch,
        }
    }

    /// Of one direction, in which a session keeps at most so much to be sent once more.
    fn bounds(&self, keep: usize) -> Bounds {
        let largest = self.limits.message_size.saturating_add(READ_AHEAD).min(self.process_budget);
        Bounds { pool: self.process_budget, largest, share: self.session_budget, reserve: RESERVE, keep }
    }

    /// Most messages in a queue behind a budget: all that it lets through, and for each request in flight, in either
    /// direction, its error and its cancellation.
    fn queue(&self) -> usize {
        let messages = self.session_budget.saturating_add(RESERVE) / OVERHEAD;
        messages.saturating_add(self.limits.in_flight.saturating_mul(4)).saturating_add(64)
    }

    /// With these names and filters for the servers.
    pub(crate) fn with_servers(self, servers: Servers) -> Self {
        Self { servers: Arc::new(servers), ..self }
    }
}

/// What a session is found by.
#[derive(Debug, Clone, Copy)]
pub(crate) enum FoundBy {
    /// It is not looked for: its client has one connection.
    Nobody,
    /// By this caller, with a token that is made with the session.
    NewToken(Caller),
    /// By a secret that its client was given before.
    Secret(SessionSecret),
}

/// What a session keeps of messages for HTTP servers, for a second sending, in bytes.
const COPIES: usize = 1024 * 1024;
/// What a buffer may be larger than the message that it is for: what was read behind it.
const READ_AHEAD: usize = 64 * 1024;
/// The largest message that is read of a client which has no session, and all such messages together, in bytes.
const STRANGER: usize = 4 * 1024 * 1024;
const STRANGERS: usize = 32 * 1024 * 1024;

/// What is charged to the sessions of a proxy, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Charged {
    pub upward: usize,
    pub downward: usize,
    pub strangers: usize,
}

/// What the supervisor is asked.
pub(crate) enum Ask {
    Open {
        found_by: FoundBy,
        expose_stderr: bool,
        /// What its client may have under way, if that was counted before there was a session.
        upward: Option<Budget>,
        reply: RpcReplyPort<Result<Fresh, Refused>>,
    },
    /// Whether everything that was asked before is done.
    Settle(RpcReplyPort<()>),
}

impl std::fmt::Debug for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Open { .. } => "Open",
            Self::Settle(_) => "Settle",
        })
    }
}

/// A session that was just opened. It ends when it is dropped before somebody has taken it: a client may leave while its
/// session is being made, and then nobody will ever ask for it.
#[derive(Debug)]
pub(crate) struct Fresh {
    session: Option<SessionHandle>,
    token: Option<String>,
}

impl Fresh {
    /// The session, as long as nobody has taken it.
    pub(crate) fn session(&self) -> Option<&SessionHandle> {
        self.session.as_ref()
    }

    /// The session, and its token if it was to have one.
    pub(crate) fn take(mut self) -> Option<(SessionHandle, Option<String>)> {
        let token = self.token.take();
        Some((self.session.take()?, token))
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            session.end(EndReason::ClientLeft);
        }
    }
}

/// The way to the supervisor. It is started with the first session, so that a proxy can be built outside a runtime.
#[derive(Debug)]
pub(crate) struct Opener {
    plan: Arc<Plan>,
    registry: Arc<Registry>,
    tasks: TaskTracker,
    supervisor: OnceCell<ActorRef<Ask>>,
    closed: Arc<AtomicBool>,
    /// From clients to servers.
    upward: Pool,
    /// From servers to clients.
    downward: Pool,
    /// From clients that have no session: they must not be in the way of those who have.
    strangers: Pool,
}

impl Opener {
    pub(crate) fn new(plan: Plan) -> Self {
        let largest = plan.limits.message_size.min(STRANGER).saturating_add(READ_AHEAD);
        let strangers = Bounds { pool: STRANGERS, largest, share: largest, reserve: RESERVE, keep: 0 };
        Self {
            upward: Pool::new(plan.bounds(COPIES)),
            // What was sent, what waits for a stream, and what is being sent again.
            downward: Pool::new(plan.bounds(plan.limits.replay_bytes.saturating_mul(3))),
            strangers: Pool::new(strangers),
            plan: Arc::new(plan),
            registry: Arc::default(),
            tasks: TaskTracker::new(),
            supervisor: OnceCell::new(),
            closed: Arc::default(),
        }
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What a client that has no session may have under way for one message.
    pub(crate) fn stranger(&self) -> Budget {
        self.strangers.open()
    }

    /// The largest message of a client that has no session, in bytes.
    pub(crate) fn stranger_limit(&self) -> usize {
        self.plan.limits.message_size.min(STRANGER)
    }

    /// What the client of a connection may have under way that is to have a session.
    pub(crate) fn upward(&self) -> Budget {
        self.upward.open()
    }

    pub(crate) fn charged(&self) -> Charged {
        Charged {
            upward: self.upward.charged(),
            downward: self.downward.charged(),
            strangers: self.strangers.charged(),
        }
    }

    /// Links that still run, those of ended sessions too.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// No session is opened from now on; those that were being opened are in the registry when this returns.
    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        // One whose start is under way has not been asked anything yet, and sees the door closed.
        if let Some(supervisor) = self.supervisor.get() {
            let _ = ractor::call!(supervisor, Ask::Settle);
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Why no session could be opened at this moment.
    pub(crate) fn check_vacancy(&self) -> Result<(), Refused> {
        check_vacancy(&self.plan, &self.registry, &self.tasks, &self.closed)
    }

    /// Opens a session. `upward` is what its client may have under way, if that was counted before.
    pub(crate) async fn open(
        &self,
        found_by: FoundBy,
        expose_stderr: bool,
        upward: Option<Budget>,
    ) -> Result<Fresh, Refused> {
        if self.is_closed() {
            return Err(Refused::ShuttingDown);
        }
        let supervisor = self.supervisor.get_or_try_init(|| self.start()).await?;
        let opened = ractor::call!(supervisor, |reply| Ask::Open { found_by, expose_stderr, upward, reply });
        opened.unwrap_or_else(|reason| {
            if self.is_closed() {
                return Err(Refused::ShuttingDown);
            }
            error!(%reason, "the supervisor does not answer");
            Err(Refused::Failed)
        })
    }

    async fn start(&self) -> Result<ActorRef<Ask>, Refused> {
        let arguments = Supervision {
            plan: self.plan.clone(),
            registry: self.registry.clone(),
            tasks: self.tasks.clone(),
            closed: self.closed.clone(),
            upward: self.upward.clone(),
            downward: self.downward.clone(),
        };
        match Actor::spawn(None, Supervisor, arguments).await {
            Ok((supervisor, _)) => Ok(supervisor),
            Err(reason) => {
                error!(%reason, "the supervisor did not start");
                Err(Refused::Failed)
            }
        }
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        // Its sessions end with it: whoever drops the proxy leaves nothing behind.
        if let Some(supervisor) = self.supervisor.get() {
            supervisor.stop(None);
        }
    }
}

pub(crate) struct Supervisor;

pub(crate) struct Supervision {
    plan: Arc<Plan>,
    registry: Arc<Registry>,
    tasks: TaskTracker,
    closed: Arc<AtomicBool>,
    upward: Pool,
    downward: Pool,
}

impl Actor for Supervisor {
    type Msg = Ask;
    type State = Supervision;
    type Arguments = Supervision;

    async fn pre_start(
        &self,
        _myself: ActorRef<Ask>,
        supervision: Supervision,
    ) -> Result<Supervision, ActorProcessingErr> {
        Ok(supervision)
    }

    async fn handle(&self, myself: ActorRef<Ask>, ask: Ask, state: &mut Supervision) -> Result<(), ActorProcessingErr> {
        // Whoever asked may have left: a session that nobody takes ends by itself.
        match ask {
            Ask::Open { found_by, expose_stderr, upward, reply } => {
                let _ = reply.send(state.open(&myself, found_by, expose_stderr, upward).await);
            }
            Ask::Settle(reply) => {
                let _ = reply.send(());
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Ask>,
        event: SupervisionEvent,
        _state: &mut Supervision,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            // Its guards have tidied up after it, whatever happened: here it is only told.
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

/// Makes what a client will hold.
pub(crate) fn new_token() -> Result<String, Refused> {
    generate_token().map_err(|reason| {
        error!(%reason, "the operating system gives no randomness");
        Refused::Failed
    })
}

/// Whether there is room for one more session.
fn check_vacancy(plan: &Plan, registry: &Registry, tasks: &TaskTracker, closed: &AtomicBool) -> Result<(), Refused> {
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

impl Supervision {
    async fn open(
        &self,
        myself: &ActorRef<Ask>,
        found_by: FoundBy,
        expose_stderr: bool,
        upward: Option<Budget>,
    ) -> Result<Fresh, Refused> {
        let plan = &self.plan;
        check_vacancy(plan, &self.registry, &self.tasks, &self.closed)?;
        let (token, secret) = match found_by {
            FoundBy::Nobody => (None, None),
            FoundBy::NewToken(caller) => {
                let token = new_token()?;
                let secret = SessionSecret::of(&token, caller);
                (Some(token), Some(secret))
            }
            FoundBy::Secret(secret) => (None, Some(secret)),
        };
        let id = SessionId::generate();
        let shared = Arc::new(Shared::new(id, plan.servers.clone()));
        let upward = upward.unwrap_or_else(|| self.upward.open());
        let downward = self.downward.open();
        let queue = plan.queue();
        let arguments = Arguments {
            shared: shared.clone(),
            limits: plan.limits.clone(),
            expose_stderr,
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
        let session = SessionHandle::new(actor, shared, upward, downward, queue, plan.session_budget);
        self.registry.insert(session.clone(), secret);
        // An end that came before the entry could not remove it.
        if session.shared().ended.borrow().is_some() {
            self.registry.remove(id);
        }
        info!(session = %id, "session opened");
        Ok(Fresh { session: Some(session), token })
    }
}
