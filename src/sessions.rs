//! The sessions of a proxy, for programs that embed it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::config::KeyKind;
use crate::principal::Principal;
use crate::session::{EndReason, ListedSession, Registry, ServerInfo, SessionHandle, SessionId};

/// How long [`Sessions::end`] and the like wait for the links of ended sessions. Reapers go on ending their processes
/// after that.
pub(crate) const TEARDOWN_TIMEOUT: Duration = Duration::from_secs(15);

/// The living sessions of a [`Proxy`](crate::Proxy): to be listed and ended.
///
/// This handle does not keep the proxy alive. After the proxy was dropped there are no sessions; links that still run
/// are counted until they end.
#[derive(Debug, Clone)]
pub struct Sessions {
    registry: Arc<Registry>,
    tasks: TaskTracker,
}

/// Facts about a session. None of them gives access to it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SessionInfo {
    /// The session's public name.
    pub id: SessionId,
    /// Who opened it.
    pub principal: Principal,
    /// The kinds of keys that find it.
    pub found_by: Vec<KeyKind>,
    /// How many clients are attached to it.
    pub clients: usize,
    /// How many times a session of its keys was started, this one included. More than 1 says that state was lost.
    pub generation: u64,
    /// When it was opened.
    pub opened_at: SystemTime,
    /// How long ago the client last sent something.
    pub idle_for: Duration,
    /// Name and version of the client, after its `initialize`.
    pub client: Option<String>,
    /// The negotiated protocol version, after the handshake.
    pub version: Option<String>,
    /// The session's servers, in the order in which they were configured.
    pub servers: Vec<ServerInfo>,
    /// Calls without an answer.
    pub calls_in_flight: usize,
}

impl Sessions {
    pub(crate) fn new(registry: Arc<Registry>, tasks: TaskTracker) -> Self {
        Self { registry, tasks }
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.registry.len()
    }

    /// Whether there are no sessions.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All sessions, the oldest first.
    pub fn list(&self) -> Vec<SessionInfo> {
        let mut list: Vec<_> = self.registry.listed().into_iter().map(session_info).collect();
        list.sort_by_key(|session| session.opened_at);
        list
    }

    /// Ends a session, with an error for its calls in flight. False if there is no session of that name.
    ///
    /// Returns when nothing of the session is left, neither processes of its servers nor its sessions on HTTP servers,
    /// or after 15 seconds. After 15 seconds the log says so, and [`links`](Self::links) counts what still runs; on
    /// Linux the reapers go on ending the processes.
    pub async fn end(&self, id: SessionId) -> bool {
        let Some(session) = self.registry.get(id) else { return false };
        session.end(EndReason::Cleared);
        let gone = async {
            session.ended().await;
            session.facts().links.wait().await;
        };
        wait_for_teardown(gone, &self.tasks).await;
        true
    }

    /// Ends all sessions, and returns how many there were.
    ///
    /// Returns when nothing is left of these sessions and of those that had ended before, as [`end`](Self::end) does,
    /// or after 15 seconds.
    pub async fn clear(&self) -> usize {
        let sessions = self.registry.all();
        for session in &sessions {
            session.end(EndReason::Cleared);
        }
        let gone = async {
            join_all(sessions.iter().map(SessionHandle::ended)).await;
            join_all(self.registry.leaving().iter().map(TaskTracker::wait)).await;
        };
        wait_for_teardown(gone, &self.tasks).await;
        sessions.len()
    }

    /// How many links to backends still run, those of ended sessions included. Zero when nothing is left behind.
    pub fn links(&self) -> usize {
        self.tasks.len()
    }
}

fn session_info(listed: ListedSession) -> SessionInfo {
    let ListedSession { session, found_by, generation } = listed;
    let shared = session.facts();
    SessionInfo {
        id: shared.id,
        principal: shared.principal.clone(),
        found_by,
        clients: shared.clients.load(Ordering::Relaxed),
        generation,
        opened_at: shared.opened_at,
        idle_for: shared.idle_for(),
        client: shared.client.get().cloned(),
        version: shared.version.get().cloned(),
        servers: shared.servers(),
        calls_in_flight: shared.calls.load(Ordering::Relaxed),
    }
}

/// Waits until links have ended, for at most [`TEARDOWN_TIMEOUT`].
pub(crate) async fn wait_for_teardown(ended: impl Future<Output = ()>, tasks: &TaskTracker) {
    if timeout(TEARDOWN_TIMEOUT, ended).await.is_err() {
        warn!(links = tasks.len(), "some backends have not ended yet; they are left to their reapers");
    }
}
