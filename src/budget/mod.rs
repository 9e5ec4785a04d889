//! How many bytes may be under way at once, in each direction of the process.
//!
//! The mailboxes of actors are unbounded, so the bound stands in front of them: a reader waits for a [`Permit`] *before* it
//! hands a message on, and the permit travels with the bytes until they are written or dropped. [`Pool`] is what all
//! sessions have in common, [`Budget`] what one session may take in one direction, [`BufferCharge`] the charge for a message
//! that is still being received, and [`Backlog`] what is queued for one peer.
//!
//! [`ledger`] decides who gets which bytes, and [`stalls`] who gives way while others wait. This file has the lock, the
//! tasks that wait, and the clock. It knows nothing of sessions, connections or servers but what they hold.

mod admission;
mod backlog;
mod buffer_charge;
#[cfg(test)]
mod kit;
mod ledger;
mod stalls;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::frame::{ChargedBytes, Permit, Wire};

pub(crate) use backlog::{Backlog, Held};
pub(crate) use buffer_charge::{BufferCharge, GaveWay, fit_buffer, grown_capacity};
pub(crate) use ledger::{Bounds, Priority};
use ledger::{Charge, Ledger, SessionKey, Ticket};
use stalls::Stalls;

/// What a message is charged for besides its bytes: its spans, and its place in a mailbox and a queue.
pub(crate) const OVERHEAD: usize = 256;
/// What each session has for itself in each direction: a message of 64 KiB.
pub(crate) const RESERVE: usize = 64 * 1024 + OVERHEAD;
/// What a connection may hold without a charge while it receives a message: hardly more than the headers of a request.
pub(crate) const UNCHARGED_BUFFER: usize = 64 * 1024;
/// How many bytes of what sessile itself says a peer may leave unread before it is listened to no more: half of a reserve.
pub(crate) const MOST_OWED: usize = RESERVE / 2;
/// How soon those who were asked to give way are looked at again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// The bytes of one direction that all sessions have in common.
#[derive(Debug, Clone)]
pub(crate) struct Pool(Arc<SharedPool>);

#[derive(Debug)]
struct SharedPool {
    state: Mutex<PoolState>,
}

#[derive(Debug)]
struct PoolState {
    ledger: Ledger,
    stalls: Stalls,
    /// Whom to wake when the charge for a ticket was made.
    wakers: HashMap<Ticket, Waker>,
    /// Whether a task watches over those who hold bytes while others wait.
    is_watched: bool,
}

impl Pool {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let (ledger, stalls) = (Ledger::new(bounds), Stalls::default());
        let state = PoolState { ledger, stalls, wakers: HashMap::new(), is_watched: false };
        Self(Arc::new(SharedPool { state: Mutex::new(state) }))
    }

    /// The budget of one more session.
    pub(crate) fn open(&self) -> Budget {
        let session = self.0.with(|state| state.ledger.open());
        Budget(Arc::new(Account { pool: self.0.clone(), session }))
    }

    /// What is charged now, with the reserves of all sessions, in bytes.
    pub(crate) fn charged(&self) -> usize {
        self.0.with(|state| state.ledger.charged())
    }
}

impl SharedPool {
    /// Does something under the lock, and afterwards what follows from it: those whose charge was made are woken, and if
    /// somebody has to wait for others, a task begins to watch those.
    fn with<T>(self: &Arc<Self>, act: impl FnOnce(&mut PoolState) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = act(&mut state);
        let granted = state.ledger.take_granted();
        let woken: Vec<_> = granted.iter().filter_map(|ticket| state.wakers.remove(ticket)).collect();
        let must_watch = state.ledger.is_short() && !state.is_watched;
        // Outside of a runtime nobody waits, and there is nobody to watch: whoever comes next sees to it.
        let runtime = must_watch.then(tokio::runtime::Handle::try_current).and_then(Result::ok);
        state.is_watched |= runtime.is_some();
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        if let Some(runtime) = runtime {
            runtime.spawn(watch_stalled(Arc::downgrade(self)));
        }
        result
    }
}

/// Asks those who are stalled to give way, for as long as somebody waits.
async fn watch_stalled(pool: Weak<SharedPool>) {
    let mut watching = WatchGuard { pool: pool.clone(), is_over: false };
    loop {
        let Some(pool) = pool.upgrade() else { return };
        let now = Instant::now();
        let (chosen, next) = pool.with(|state| {
            if !state.ledger.is_short() {
                state.is_watched = false;
                return (Vec::new(), None);
            }
            let shortage = state.ledger.shortage();
            let chosen = state.stalls.choose(shortage, now.into_std());
            let stalled = state.stalls.next_stall().map_or(now + stalls::STALLED_WITHIN, Instant::from_std);
            let next = if chosen.is_empty() { stalled.max(now + ASK_AGAIN_AFTER) } else { now + ASK_AGAIN_AFTER };
            (chosen, Some(next))
        });
        drop(pool);
        for give_way in chosen {
            give_way();
        }
        let Some(next) = next else {
            watching.is_over = true;
            return;
        };
        sleep_until(next).await;
    }
}

/// Sees to it that somebody else watches if this task does not come to its end, because it panics or its runtime ends.
struct WatchGuard {
    pool: Weak<SharedPool>,
    is_over: bool,
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade().filter(|_| !self.is_over) {
            pool.with(|state| state.is_watched = false);
        }
    }
}

/// What one session may have under way in one direction.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Account>);

#[derive(Debug)]
struct Account {
    pool: Arc<SharedPool>,
    session: SessionKey,
}

impl Drop for Account {
    fn drop(&mut self) {
        self.pool.with(|state| state.ledger.close(self.session));
    }
}

impl Budget {
    /// Waits until a message can be charged. One that fits into the session's own reserve waits for nobody but the session's
    /// own peers.
    async fn charge(&self, bytes: usize, priority: Priority) -> SessionCharge {
        let charge = match self.0.pool.with(|state| state.ledger.admit(self.0.session, bytes, priority)) {
            Ok(charge) => charge,
            Err(ticket) => TicketWait { account: &self.0, ticket: Some(ticket) }.await,
        };
        self.charged(charge)
    }

    /// The permit for so many bytes that are kept to be sent once more, if there are so many that nobody waits for.
    pub(crate) fn keep(&self, bytes: usize) -> Option<Permit> {
        let charge = self.0.pool.with(|state| state.ledger.keep(self.0.session, bytes))?;
        Some(self.charged(charge).into_permit())
    }

    /// Charges bytes without waiting, whether there are any left or not.
    fn force(&self, bytes: usize) -> Permit {
        let charge = self.0.pool.with(|state| state.ledger.force(self.0.session, bytes));
        self.charged(charge).into_permit()
    }

    /// A message that sessile itself has made, or a part of it, with the permit for what it takes. That is owed: for as long as
    /// more than [`MOST_OWED`] is, whoever causes such messages has to [wait](Self::wait_until_solvent).
    pub(crate) fn owe(&self, wire: Wire) -> Wire {
        let bytes = wire.uncharged();
        if bytes == 0 {
            return wire;
        }
        let charge = self.0.pool.with(|state| state.ledger.owe(self.0.session, bytes.saturating_add(OVERHEAD)));
        wire.with_permit(self.charged(charge).into_permit())
    }

    /// Waits until no more than [`MOST_OWED`] is owed.
    async fn wait_until_solvent(&self) {
        if let Err(ticket) = self.0.pool.with(|state| state.ledger.check_solvent(self.0.session)) {
            TicketWait { account: &self.0, ticket: Some(ticket) }.await;
        }
    }

    fn charged(&self, charge: Charge) -> SessionCharge {
        SessionCharge { account: self.0.clone(), charge }
    }
}

/// Bytes that are charged to a session until this is dropped.
struct SessionCharge {
    account: Arc<Account>,
    charge: Charge,
}

impl SessionCharge {
    fn into_permit(self) -> Permit {
        Permit::from_charge(Box::new(self))
    }
}

impl ChargedBytes for SessionCharge {
    fn pooled(&self) -> usize {
        self.charge.pooled()
    }

    fn charged(&self) -> usize {
        self.charge.bytes
    }
}

impl Drop for SessionCharge {
    fn drop(&mut self) {
        if self.charge.bytes > 0 {
            self.account.pool.with(|state| state.ledger.release(self.account.session, self.charge));
        }
    }
}

/// Waits until the charge for a ticket was made. Whoever drops it waits no more.
struct TicketWait<'a> {
    account: &'a Arc<Account>,
    ticket: Option<Ticket>,
}

impl Future for TicketWait<'_> {
    type Output = Charge;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Charge> {
        let Some(ticket) = self.ticket else { return Poll::Pending };
        let (redeemed, replaced) = self.account.pool.with(|state| match state.ledger.redeem(ticket) {
            Some(charge) => (Some(charge), None),
            None => (None, state.wakers.insert(ticket, context.waker().clone())),
        });
        // Not under the lock: it may be the last that is left of a task which holds a permit.
        drop(replaced);
        let Some(charge) = redeemed else { return Poll::Pending };
        self.ticket = None;
        Poll::Ready(charge)
    }
}

impl Drop for TicketWait<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let waker = self.account.pool.with(|state| {
                state.ledger.withdraw(ticket);
                state.wakers.remove(&ticket)
            });
            // Not under the lock, as above.
            drop(waker);
        }
    }
}

impl fmt::Debug for SessionCharge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.charge, f)
    }
}
