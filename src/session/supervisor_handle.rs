//! The handle by which fronts have the supervisor open sessions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ractor::{Actor, ActorRef};
use tokio::sync::OnceCell;
use tokio_util::task::TaskTracker;
use tracing::error;

use super::opening::FoundSession;
use super::plan::READ_AHEAD;
use super::supervisor::{Supervisor, SupervisorRequest, SupervisorState, check_vacancy};
use super::{Caller, FoundBy, Refused, Registry, SessionPlan, SessionRequest, UnclaimedSession};
use crate::budget::{Bounds, Budget, Pool, RESERVE};

/// What a session keeps of messages for HTTP servers, for a second sending, in bytes.
const RESEND_BYTES: usize = 1024 * 1024;
/// The largest message that is read of a client without a session, and all such messages together, in bytes.
const LARGEST_WITHOUT_SESSION: usize = 4 * 1024 * 1024;
const MOST_BYTES_WITHOUT_SESSION: usize = 32 * 1024 * 1024;

/// What is charged to the sessions of a proxy, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChargedToSessions {
    pub upward: usize,
    pub downward: usize,
    pub without_session: usize,
}

/// What opens sessions for fronts. The supervisor is started with the first session, so that a proxy can be built
/// outside a runtime.
#[derive(Debug)]
pub(crate) struct SupervisorHandle {
    plan: Arc<SessionPlan>,
    registry: Arc<Registry>,
    tasks: TaskTracker,
    supervisor: OnceCell<ActorRef<SupervisorRequest>>,
    closed: Arc<AtomicBool>,
    /// From clients to servers.
    upward: Pool,
    /// From servers to clients.
    downward: Pool,
    /// From clients without a session: they must not be in the way of those that have one.
    without_session: Pool,
}

impl SupervisorHandle {
    pub(crate) fn new(plan: SessionPlan) -> Self {
        let largest = plan.limits.message_size.min(LARGEST_WITHOUT_SESSION).saturating_add(READ_AHEAD);
        let without_session =
            Bounds { pool: MOST_BYTES_WITHOUT_SESSION, largest, share: largest, reserve: RESERVE, keep: 0 };
        Self {
            upward: Pool::new(plan.bounds(RESEND_BYTES)),
            // What was sent, what waits for a stream, and what is being sent again.
            downward: Pool::new(plan.bounds(plan.limits.replay_bytes.saturating_mul(3))),
            without_session: Pool::new(without_session),
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

    pub(crate) fn plan(&self) -> &SessionPlan {
        &self.plan
    }

    /// The budget of a client without a session, for one message.
    pub(crate) fn budget_without_session(&self) -> Budget {
        self.without_session.open()
    }

    /// The largest message of a client without a session, in bytes.
    pub(crate) fn message_limit_without_session(&self) -> usize {
        self.plan.limits.message_size.min(LARGEST_WITHOUT_SESSION)
    }

    /// The budget of a client whose session is opened with this connection.
    pub(crate) fn upward(&self) -> Budget {
        self.upward.open()
    }

    pub(crate) fn charged(&self) -> ChargedToSessions {
        ChargedToSessions {
            upward: self.upward.charged(),
            downward: self.downward.charged(),
            without_session: self.without_session.charged(),
        }
    }

    /// Links that still run, those of ended sessions too.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Opens no session from now on. Sessions that were being opened are in the registry when this returns.
    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        // A supervisor that is being started has no request yet, and sees that the proxy is closed.
        if let Some(supervisor) = self.supervisor.get() {
            let _ = ractor::call!(supervisor, SupervisorRequest::Settle);
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Why no session could be opened at this moment.
    pub(crate) fn check_vacancy(&self) -> Result<(), Refused> {
        check_vacancy(&self.plan, &self.registry, &self.tasks, &self.closed)
    }

    /// Opens a session for `caller`. `upward` is what its client may have under way, if that was counted before.
    pub(crate) async fn open(
        &self,
        caller: Caller,
        found_by: FoundBy,
        expose_stderr: bool,
        upward: Option<Budget>,
    ) -> Result<UnclaimedSession, Refused> {
        let request = SessionRequest { caller, found_by, join_by: None, expose_stderr, upward };
        self.open_or_join(request).await
    }

    /// Finds the living session of the key that is asked for and joins it, or opens one.
    pub(crate) async fn open_or_join(&self, request: SessionRequest) -> Result<UnclaimedSession, Refused> {
        loop {
            let living = match self.ask(request.clone()).await? {
                FoundSession::Opened(opened) => return Ok(opened),
                FoundSession::Living(living) => living,
            };
            let client = match living.join().await {
                Ok(client) => client,
                // It has ended meanwhile. When that is known, the registry finds it no more.
                Err(Refused::Ended) => {
                    living.ended().await;
                    continue;
                }
                Err(refused) => return Err(refused),
            };
            // From here on the client leaves if nobody takes it.
            let mut joined = UnclaimedSession::new(client.clone());
            let (token, secret) = request.found_by.token_and_secret(&request.caller)?;
            if secret.is_none_or(|secret| self.registry.add_client(&client, secret)) {
                joined.token = token;
                return Ok(joined);
            }
        }
    }

    async fn ask(&self, request: SessionRequest) -> Result<FoundSession, Refused> {
        if self.is_closed() {
            return Err(Refused::ShuttingDown);
        }
        let supervisor = self.supervisor.get_or_try_init(|| self.start()).await?;
        let request = Box::new(request);
        let found = ractor::call!(supervisor, |reply| SupervisorRequest::Open { request, reply });
        found.unwrap_or_else(|reason| {
            if self.is_closed() {
                return Err(Refused::ShuttingDown);
            }
            error!(%reason, "the supervisor does not answer");
            Err(Refused::Failed)
        })
    }

    async fn start(&self) -> Result<ActorRef<SupervisorRequest>, Refused> {
        let arguments = SupervisorState {
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

impl Drop for SupervisorHandle {
    fn drop(&mut self) {
        // The sessions end with their supervisor: whoever drops the proxy leaves nothing behind.
        if let Some(supervisor) = self.supervisor.get() {
            supervisor.stop(None);
        }
    }
}
