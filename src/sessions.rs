//! The sessions that live now, as a program sees them that embeds the proxy.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::session::{EndReason, Registry, ServerInfo, SessionHandle, SessionId};

/// How long the links of ended sessions may take to leave nothing behind, before whoever waits for that goes on without
/// them. Their reapers go on by themselves.
pub(crate) const TEARDOWN_TIMEOUT: Duration = Duration::from_secs(15);

/// The living sessions of a [`Proxy`](crate::Proxy): to be listed and ended.
///
/// It does not keep the proxy alive. Once that was dropped, there are no sessions; the links that still run are counted to
/// their end.
#[derive(Debug, Clone)]
pub struct Sessions {
    registry: Arc<Registry>,
    tasks: TaskTracker,
}

/// What may be known of a session. Nothing in here opens it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SessionInfo {
    /// Its public name.
    pub id: SessionId,
    /// When it was opened.
    pub opened_at: SystemTime,
    /// How long ago its client last said something.
    pub idle_for: Duration,
    /// Name and version that the client gave of itself, once it has.
    pub client: Option<String>,
    /// The protocol version that was negotiated, once it was.
    pub version: Option<String>,
    /// Its servers, in the order in which they were configured.
    pub servers: Vec<ServerInfo>,
    /// Calls without an answer.
    pub calls_in_flight: usize,
}

impl Sessions {
    pub(crate) fn new(registry: Arc<Registry>, tasks: TaskTracker) -> Self {
        Self { registry, tasks }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.registry.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, the oldest first.
    pub fn list(&self) -> Vec<SessionInfo> {
        let mut list: Vec<_> = self.registry.all().iter().map(info).collect();
        list.sort_by_key(|session| session.opened_at);
        list
    }

    /// Ends one, with an error for its calls in flight. False if there is none of that name.
    ///
    /// Returns when nothing of it is left, neither the processes that its servers have started nor its sessions on servers
    /// over HTTP, or after 15 seconds. Then the log says so, and [`links`](Self::links) counts what still runs; on Linux the
    /// processes go on being ended.
    pub async fn end(&self, id: SessionId) -> bool {
        let Some(session) = self.registry.get(id) else { return false };
        session.end(EndReason::Cleared);
        let gone = async {
            session.ended().await;
            session.shared().links.wait().await;
        };
        wait_for_teardown(gone, &self.tasks).await;
        true
    }

    /// Ends all of them, and says how many there were.
    ///
    /// Returns when nothing of them is left, as [`end`](Self::end) does, nor of sessions that had ended before, or after 15
    /// seconds.
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

    /// Links to backends that still run, those of ended sessions too: zero when nothing is left behind.
    pub fn links(&self) -> usize {
        self.tasks.len()
    }
}

fn info(session: &SessionHandle) -> SessionInfo {
    let shared = session.shared();
    SessionInfo {
        id: shared.id,
        opened_at: shared.opened_at,
        idle_for: shared.idle_for(),
        client: shared.client.get().cloned(),
        version: shared.version.get().cloned(),
        servers: shared.servers(),
        calls_in_flight: shared.calls.load(Ordering::Relaxed),
    }
}

/// Waits until links have ended, but not for ever.
pub(crate) async fn wait_for_teardown(ended: impl Future<Output = ()>, tasks: &TaskTracker) {
    if timeout(TEARDOWN_TIMEOUT, ended).await.is_err() {
        warn!(links = tasks.len(), "some backends have not ended yet; they are left to their reapers");
    }
}
