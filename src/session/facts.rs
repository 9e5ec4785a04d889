//! What everybody may know of a session, without asking its actor.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::link_phase::LinkId;
use super::server::{ServerCell, ServerInfo};
use super::union::Servers;
use super::{Attachment, EndReason, SessionId, StreamId};
use crate::principal::Principal;

/// What everybody may know of a session.
#[derive(Debug)]
pub(crate) struct SessionFacts {
    pub id: SessionId,
    pub name: Arc<str>,
    /// Who opened it, and the only one who finds it.
    pub principal: Principal,
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

impl SessionFacts {
    pub(crate) fn new(id: SessionId, principal: Principal, servers: Arc<Servers>) -> Self {
        Self {
            id,
            name: id.to_string().into(),
            principal,
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

    /// The number of a new stream.
    pub(super) fn new_stream(&self) -> StreamId {
        StreamId(self.next_stream.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether the session ever had such a stream.
    pub(super) fn had_stream(&self, stream: StreamId) -> bool {
        stream.0 > 0 && stream.0 < self.next_stream.load(Ordering::Relaxed)
    }

    /// The number of a new connection of a stream.
    pub(super) fn new_attachment(&self) -> Attachment {
        Attachment(self.next_attachment.fetch_add(1, Ordering::Relaxed))
    }
}
