//! What everybody may know of a session, without asking its actor.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::link_phase::LinkId;
use super::server::{ServerCell, ServerInfo};
use super::state::ClientId;
use super::union::Servers;
use super::{Attachment, EndReason, SessionId, StreamId};
use crate::principal::Principal;

/// The number of a stream has that of its client above this bit, so that no client can resume another one's stream.
const STREAM_BITS: u32 = 36;
/// The largest number of a client.
const LAST_CLIENT: u32 = u32::MAX >> (STREAM_BITS + 32 - 64);

/// What everybody may know of one client of a session.
#[derive(Debug)]
pub(crate) struct ClientFacts {
    pub id: ClientId,
    /// The protocol version of this client, once it was negotiated.
    pub version: OnceLock<String>,
    /// Cancelled when the client is no part of the session any more.
    pub left: CancellationToken,
}

impl ClientFacts {
    pub(super) fn new(id: ClientId) -> Self {
        Self { id, version: OnceLock::new(), left: CancellationToken::new() }
    }
}

/// What everybody may know of a session.
#[derive(Debug)]
pub(crate) struct SessionFacts {
    pub id: SessionId,
    pub name: Arc<str>,
    /// Who opened it, and the only one who finds it.
    pub principal: Principal,
    pub opened: Instant,
    pub opened_at: SystemTime,
    /// The client that has opened the session.
    pub opener: Arc<ClientFacts>,
    /// The name of the client that introduced itself first.
    pub client: OnceLock<String>,
    /// The protocol version that was negotiated with the servers, once it was.
    pub version: OnceLock<String>,
    /// How many clients are attached.
    pub clients: AtomicUsize,
    last_client: AtomicU32,
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
            opener: Arc::new(ClientFacts::new(ClientId::FIRST)),
            client: OnceLock::new(),
            version: OnceLock::new(),
            clients: AtomicUsize::new(1),
            last_client: AtomicU32::new(ClientId::FIRST.0),
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

    /// The number of a new client; `None` if the session has had as many as there are numbers.
    pub(super) fn new_client(&self) -> Option<ClientId> {
        let next = |last| if last < LAST_CLIENT { Some(last + 1) } else { None };
        let last = self.last_client.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()?;
        Some(ClientId(last + 1))
    }

    /// The number of a new stream of that client.
    pub(super) fn new_stream(&self, client: ClientId) -> StreamId {
        StreamId(u64::from(client.0) << STREAM_BITS | self.next_stream.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether that client may have had such a stream.
    pub(super) fn had_stream(&self, client: ClientId, stream: StreamId) -> bool {
        let number = stream.0 & ((1 << STREAM_BITS) - 1);
        stream.0 >> STREAM_BITS == u64::from(client.0)
            && number > 0
            && number < self.next_stream.load(Ordering::Relaxed)
    }

    /// Whether the session ever had a stream.
    pub(super) fn has_had_stream(&self) -> bool {
        self.next_stream.load(Ordering::Relaxed) > 1
    }

    /// The number of a new connection of a stream.
    pub(super) fn new_attachment(&self) -> Attachment {
        Attachment(self.next_attachment.fetch_add(1, Ordering::Relaxed))
    }
}

#[cfg(test)]
#[test]
fn the_streams_of_a_client_are_its_own() {
    use crate::config::Filter;
    let servers = Servers::new(vec![super::union::ConfiguredServer::new("one", Filter::new())], true, false);
    let facts = SessionFacts::new(SessionId::generate(), Principal::default(), Arc::new(servers));
    for client in [0, 1, LAST_CLIENT].map(ClientId) {
        let stream = facts.new_stream(client);
        assert!(facts.had_stream(client, stream), "{client:?} {stream:?}");
        assert!(!facts.had_stream(ClientId(client.0 ^ 1), stream), "{client:?} {stream:?}");
    }
    facts.last_client.store(LAST_CLIENT, Ordering::Relaxed);
    assert_eq!(facts.new_client(), None, "its streams would have the numbers of another client's");
}
