//! Bounds how many bytes of messages may be under way at once, in each direction of the process.
//!
//! The mailboxes of actors are unbounded, so the bound is in front of them: a reader waits for a [`Permit`] *before* it
//! hands a message on, and the permit travels with the bytes until they are written or dropped. A [`Pool`] has the
//! bytes that all sessions share, a [`Budget`] charges one session in one direction, a [`BufferCharge`] is the charge
//! for a message that is still being received, and a [`Backlog`] counts the bytes that are queued for one peer.
//!
//! [`ledger`] decides which message gets bytes, and [`stalls`] which peer has to give bytes back while others wait;
//! both are pure. [`unread_turns`] keeps messages that nobody reads from taking all processor time. This file adds the lock, the waiting tasks and the clock. A budget knows of sessions, connections and
//! servers only how many bytes they hold.

mod admission;
mod backlog;
mod buffer_charge;
#[cfg(test)]
mod kit;
mod ledger;
mod stalls;
#[cfg(test)]
mod tests;
mod unread_turns;

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

use crate::frame::{ChargedBytes, Permit, Wire};

pub(crate) use backlog::{Backlog, Held};
pub(crate) use buffer_charge::{BufferCharge, GaveWay, fit_buffer, grown_capacity};
pub(crate) use ledger::{Bounds, Priority};
use ledger::{Charge, Ledger, LedgerKey, Ticket};
use stalls::Stalls;

/// What each message is charged besides its bytes: for its spans, and its entries in a mailbox and a queue.
pub(crate) const OVERHEAD: usize = 256;
/// The bytes that each session has for itself in each direction: one message of 64 KiB.
pub(crate) const RESERVE: usize = 64 * 1024 + OVERHEAD;
/// A buffer of up to this size is not charged while a message is received into it: that is hardly more than a
/// connection holds for the headers of a request anyhow.
pub(crate) const UNCHARGED_BUFFER: usize = 64 * 1024;
/// How many bytes of messages that sessile itself made a peer may leave unread. While it leaves more, sessile reads
/// none of the peer's messages that could cause another one.
pub(crate) const MOST_OWED: usize = RESERVE / 2;
/// How soon holders that were asked to give way are checked again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// The bytes of one direction that all sessions share.
#[derive(Debug, Clone)]
pub(crate) struct Pool(Arc<SharedPool>);

#[derive(Debug)]
struct SharedPool {
    state: Mutex<PoolState>,
    /// The turns of messages that no client reads.
    unread_turns: Arc<Semaphore>,
}

#[derive(Debug)]
struct PoolState {
    ledger: Ledger,
    stalls: Stalls,
    /// The task to wake when the charge for a ticket is made.
    wakers: HashMap<Ticket, Waker>,
    /// Whether a task runs [`watch_stalled`].
    is_watched: bool,
}

impl Pool {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let (ledger, stalls) = (Ledger::new(bounds), Stalls::default());
        let state = PoolState { ledger, stalls, wakers: HashMap::new(), is_watched: false };
        let unread_turns = Arc::new(Semaphore::new(unread_turns::unread_turns()));
        Self(Arc::new(SharedPool { state: Mutex::new(state), unread_turns }))
    }

    /// Opens the budget of a new session.
    pub(crate) fn open(&self) -> Budget {
        let session = self.0.with(|state| state.ledger.open());
        Budget(Arc::new(Account { pool: self.0.clone(), session, is_unread: AtomicBool::new(false) }))
    }

    /// How many bytes are charged now, in the pool and in the reserves of all sessions.
    pub(crate) fn charged(&self) -> usize {
        self.0.with(|state| state.ledger.charged())
    }
}

impl SharedPool {
    /// Calls `act` under the lock, and then does what follows from it: wakes the tasks whose charge was made, and
    /// starts [`watch_stalled`] if a message now waits for bytes that other sessions hold.
    fn with<T>(self: &Arc<Self>, act: impl FnOnce(&mut PoolState) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = act(&mut state);
        let granted = state.ledger.take_granted();
        let woken: Vec<_> = granted.iter().filter_map(|ticket| state.wakers.remove(ticket)).collect();
        let must_watch = state.ledger.is_short() && !state.is_watched;
        // A destructor may run outside of a runtime, where no task can be started: the next call starts it.
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

/// Asks stalled holders to give way, for as long as a message waits for the pool.
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

/// Lets another task watch if this one does not end regularly, because it panics or its runtime ends: without this,
/// `is_watched` would stay true and stalled peers would hold their bytes for ever.
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

/// Charges the messages of one session in one direction.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Account>);

#[derive(Debug)]
struct Account {
    pool: Arc<SharedPool>,
    session: LedgerKey,
    /// Whether nobody waits for what is let in by this budget.
    is_unread: AtomicBool,
}

impl Drop for Account {
    fn drop(&mut self) {
        self.pool.with(|state| state.ledger.close(self.session));
    }
}

impl Budget {
    /// Waits until a message can be charged. A message that fits into the session's reserve waits for this session's
    /// own peers at most, never for other sessions.
    async fn charge(&self, bytes: usize, priority: Priority) -> SessionCharge {
        let charge = match self.0.pool.with(|state| state.ledger.admit(self.0.session, bytes, priority)) {
            Ok(charge) => charge,
            Err(ticket) => TicketWait { account: &self.0, ticket: Some(ticket) }.await,
        };
        self.charged(charge)
    }

    /// The permit for bytes that are kept in case they have to be sent again. `None` if the pool has not so many bytes
    /// that nobody waits for.
    pub(crate) fn keep(&self, bytes: usize) -> Option<Permit> {
        let charge = self.0.pool.with(|state| state.ledger.keep(self.0.session, bytes))?;
        Some(self.charged(charge).into_permit())
    }

    /// A budget for the same direction that has nothing charged to it: one of several clients of a session has its own.
    pub(crate) fn another(&self) -> Self {
        Pool(self.0.pool.clone()).open()
    }

    /// Whether the session has half of what it may take of the pool.
    pub(crate) fn is_half_used(&self) -> bool {
        self.0.pool.with(|state| state.ledger.is_half_used(self.0.session))
    }

    /// The permit for a message of so many bytes, if it need not wait for one.
    pub(crate) fn charge_now(&self, bytes: usize) -> Option<Permit> {
        let bytes = bytes.saturating_add(OVERHEAD);
        let charge = self.0.pool.with(|state| state.ledger.admit_now(self.0.session, bytes, Priority::Urgent))?;
        Some(self.charged(charge).into_permit())
    }

    /// Charges bytes without waiting, even if none are left.
    fn force(&self, bytes: usize) -> Permit {
        let charge = self.0.pool.with(|state| state.ledger.force(self.0.session, bytes));
        self.charged(charge).into_permit()
    }

    /// Adds the permit to a message that sessile itself has made, or has made a part of. Such bytes are *owed*: while
    /// more than [`MOST_OWED`] are, whatever could cause another such message has to [wait](Self::wait_until_solvent).
    pub(crate) fn owe(&self, wire: Wire) -> Wire {
        let bytes = wire.uncharged();
        if bytes == 0 {
            return wire;
        }
        let charge = self.0.pool.with(|state| state.ledger.owe(self.0.session, bytes.saturating_add(OVERHEAD)));
        wire.with_permit(self.charged(charge).into_permit())
    }

    /// Waits until no more than [`MOST_OWED`] bytes are owed.
    async fn wait_until_solvent(&self) {
        if let Err(ticket) = self.0.pool.with(|state| state.ledger.check_solvent(self.0.session)) {
            TicketWait { account: &self.0, ticket: Some(ticket) }.await;
        }
    }

    fn charged(&self, charge: Charge) -> SessionCharge {
        SessionCharge { account: self.0.clone(), charge }
    }
}

/// Bytes that are charged to a session. The charge is given back when this is dropped.
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

/// A future that waits until the charge for a ticket was made. Dropping it withdraws the ticket.
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
        // Dropped outside of the lock: the waker may be the last reference to a task that holds a permit, and to drop a
        // permit takes the lock.
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
            // Dropped outside of the lock, as above.
            drop(waker);
        }
    }
}

impl fmt::Debug for SessionCharge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.charge, f)
    }
}
