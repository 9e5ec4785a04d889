//! Counts the bytes that wait for one peer: in the queue of a connection or a server, or kept for a client that may
//! come back.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::time::Instant;

use super::stalls::{GiveWay, HolderKey};
use super::{Budget, SharedPool};

/// The bytes of the pool that are held because one peer has not taken them yet. If the peer stalls while others need
/// the bytes, it has to give way.
#[derive(Clone)]
pub(crate) struct Backlog(Arc<PeerBacklog>);

struct PeerBacklog {
    pool: Arc<SharedPool>,
    give_way: GiveWay,
    /// The peer's entry among the holders. It is made with the first bytes of the pool, which most peers never need.
    holder: OnceLock<HolderKey>,
    /// How many bytes of the pool the peer has taken so far; it wraps around.
    taken: AtomicUsize,
}

/// Bytes that are held for a peer. When this is dropped, they count as taken by the peer.
#[derive(Debug)]
pub(crate) struct Held {
    backlog: Backlog,
    bytes: usize,
}

impl Budget {
    /// A new backlog. `give_way` is called when the peer has taken next to nothing for a while and others need the
    /// bytes: from another task, and it must not wait.
    pub(crate) fn backlog(&self, give_way: impl Fn() + Send + Sync + 'static) -> Backlog {
        let pool = self.0.pool.clone();
        Backlog(Arc::new(PeerBacklog {
            pool,
            give_way: Arc::new(give_way),
            holder: OnceLock::new(),
            taken: AtomicUsize::new(0),
        }))
    }
}

impl Backlog {
    /// Notes that `bytes` of the pool are held for the peer from now on; `None` if that is zero.
    pub(crate) fn hold(&self, bytes: usize) -> Option<Held> {
        if bytes == 0 {
            return None;
        }
        let inner = &self.0;
        let now = Instant::now().into_std();
        let add = || inner.pool.with(|state| state.stalls.add(inner.give_way.clone(), now));
        let holder = *inner.holder.get_or_init(add);
        inner.pool.with(|state| {
            let held = state.stalls.held(holder);
            state.stalls.set_held(holder, held + bytes, now);
        });
        Some(Held { backlog: self.clone(), bytes })
    }

    /// Notes that the peer has taken `bytes` of a message that it has not taken as a whole yet.
    pub(crate) fn moved(&self, bytes: usize) {
        self.0.taken.fetch_add(bytes, Ordering::Relaxed);
        if let Some(holder) = self.0.holder.get() {
            let now = Instant::now().into_std();
            self.0.pool.with(|state| state.stalls.moved(*holder, bytes, now));
        }
    }

    /// How many bytes of the pool the peer has taken so far; it wraps around.
    pub(crate) fn taken(&self) -> usize {
        self.0.taken.load(Ordering::Relaxed)
    }
}

impl Held {
    /// Notes that the peer has taken `bytes` of these.
    pub(crate) fn moved(&self, bytes: usize) {
        self.backlog.moved(bytes);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.backlog.0.taken.fetch_add(self.bytes, Ordering::Relaxed);
        let Some(holder) = self.backlog.0.holder.get() else { return };
        let now = Instant::now().into_std();
        self.backlog.0.pool.with(|state| {
            let held = state.stalls.held(*holder);
            state.stalls.moved(*holder, self.bytes, now);
            state.stalls.set_held(*holder, held - self.bytes, now);
        });
    }
}

impl Drop for PeerBacklog {
    fn drop(&mut self) {
        if let Some(holder) = self.holder.get() {
            let give_way = self.pool.with(|state| state.stalls.remove(*holder));
            drop(give_way);
        }
    }
}

impl fmt::Debug for Backlog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Backlog")
    }
}
