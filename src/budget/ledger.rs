//! The ledger of one direction: how many bytes each session holds, and which waiting message gets the next free bytes.
//! The ledger is pure: it neither waits nor reads a clock.
//!
//! Bytes are charged to a session, in one of these places ([`ChargePlace`]):
//!
//! - the session's *reserve*, which no other session can take: half of it is for requests and notifications
//!   ([`Priority::Ordinary`]), all of it for responses and cancellations ([`Priority::Urgent`]);
//! - the session's *share* of the pool that all sessions have in common;
//! - the session's *large* message, one at a time, which may be larger than the share;
//! - *kept* bytes in the pool, for messages that may have to be sent again: all sessions together keep no more than
//!   half of the pool;
//! - *owed* bytes, of messages that sessile itself has made and the peer has not read. They take nothing of the reserve
//!   or the pool. While more than [`MOST_OWED`] bytes are owed, sessile reads no message that could cause another one.
//!
//! A message that cannot be charged waits. The pool is given out in turns, one message of a session at a time, so that
//! a session with many waiting messages does not delay a session with one. An eighth of the pool is reserved for
//! [`SizeClass::Small`] messages: otherwise they would wait behind large messages that each hold a part of what they
//! need.
//!
//! A message that is still being received grows step by step. If several growing messages filled the pool, each would
//! wait for the others for ever. So a part of the pool, as large as the largest message, is the *lane*, which one
//! growing message has for itself: that message can always grow to the largest size, and so ends. When its last byte in
//! the lane is given back, the next growing message gets the lane.

mod charge;
mod growing;
mod turns;

use std::collections::VecDeque;

use slab::Slab;

use super::MOST_OWED;
pub(crate) use charge::Priority;
use charge::SizeClass;
pub(super) use charge::{Charge, ChargePlace};

/// The bounds of one direction, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// The size of the pool that all sessions share.
    pub pool: usize,
    /// The largest charge for one message.
    pub largest: usize,
    /// The most that one session takes of the pool, besides its large message and its kept bytes.
    pub share: usize,
    /// The reserve of each session.
    pub reserve: usize,
    /// The most that one session keeps in the pool.
    pub keep: usize,
}

/// A session's number in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LedgerKey(usize);

/// The number of a message that is still being received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GrowthKey(usize);

/// The number of a charge that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ticket(usize);

/// What one session holds, in bytes by [`ChargePlace`], and what it waits for.
#[derive(Debug, Default)]
struct SessionEntry {
    ordinary: usize,
    urgent: usize,
    share: usize,
    large: usize,
    /// Whether the session has a large message; `large` may be 0 for a moment all the same.
    has_large: bool,
    kept: usize,
    /// Messages that sessile itself has made, and the peer has not read.
    owed: usize,
    /// The session's waiting messages, in the order in which they came.
    waiting: VecDeque<Ticket>,
    /// Whether the session is in [`Ledger::turns`], for each size.
    has_turn: [bool; 2],
}

/// The charge for a message that is still being received.
#[derive(Debug)]
struct GrowingMessage {
    session: LedgerKey,
    held: usize,
    /// How many of these bytes are in the pool's lane.
    lane: usize,
    is_large: bool,
    /// The ticket of a step that waits.
    ticket: Option<Ticket>,
}

/// Which message has the pool's lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Free,
    Growing(GrowthKey),
    /// A message that is complete, and is not read by its peer yet.
    Complete,
}

impl GrowingMessage {
    fn place(&self) -> ChargePlace {
        if self.is_large { ChargePlace::Large } else { ChargePlace::Share }
    }
}

/// What a waiter waits for.
#[derive(Debug, Clone, Copy)]
enum WaitFor {
    /// The charge for a complete message.
    Message { bytes: usize, priority: Priority },
    /// That no more than [`MOST_OWED`] bytes are owed.
    Solvency,
    /// That a growing message is charged for `to` bytes in all.
    Growth { growth: GrowthKey, to: usize },
}

#[derive(Debug)]
struct Waiter {
    session: LedgerKey,
    wait_for: WaitFor,
    granted: Option<Charge>,
}

/// What is charged in one direction of the process.
#[derive(Debug)]
pub(super) struct Ledger {
    bounds: Bounds,
    /// What is charged to the pool, without its lane.
    used: usize,
    lane: Lane,
    /// What is charged to the lane.
    lane_used: usize,
    /// The part of `used` that is kept.
    kept: usize,
    sessions: Slab<SessionEntry>,
    growths: Slab<GrowingMessage>,
    waiters: Slab<Waiter>,
    /// For each size, the sessions with a message of that size that waits for the pool and for nothing else. The first
    /// session is served next.
    turns: [VecDeque<LedgerKey>; 2],
    granted: Vec<Ticket>,
}

impl Ledger {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            used: 0,
            lane: Lane::Free,
            lane_used: 0,
            kept: 0,
            sessions: Slab::new(),
            growths: Slab::new(),
            waiters: Slab::new(),
            turns: Default::default(),
            granted: Vec::new(),
        }
    }

    pub(super) fn open(&mut self) -> LedgerKey {
        LedgerKey(self.sessions.insert(SessionEntry::default()))
    }

    /// Removes a session to which nothing is charged any more.
    pub(super) fn close(&mut self, session: LedgerKey) {
        debug_assert!(self.sessions[session.0].waiting.is_empty(), "whoever waits holds the session open");
        for turns in &mut self.turns {
            turns.retain(|turn| *turn != session);
        }
        self.sessions.remove(session.0);
    }

    /// Whether the session has half of its share of the pool.
    pub(super) fn is_half_used(&self, session: LedgerKey) -> bool {
        self.sessions[session.0].share >= self.bounds.share / 2
    }

    /// The tickets whose charge was made since the last call. The tasks that wait for them have to be woken.
    pub(super) fn take_granted(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.granted)
    }

    /// Charges a message, or returns a ticket if the message has to wait. A message above the largest size is charged
    /// as the largest.
    pub(super) fn admit(&mut self, session: LedgerKey, bytes: usize, priority: Priority) -> Result<Charge, Ticket> {
        let charge = self.admit_now(session, bytes, priority);
        let bytes = bytes.min(self.bounds.largest);
        charge.ok_or_else(|| self.wait(session, WaitFor::Message { bytes, priority }))
    }

    /// Charges a message, if it need not wait for that.
    pub(super) fn admit_now(&mut self, session: LedgerKey, bytes: usize, priority: Priority) -> Option<Charge> {
        let bytes = bytes.min(self.bounds.largest);
        self.charge_reserve(session, bytes, priority).or_else(|| self.charge_share(session, bytes))
    }

    /// Charges bytes that are kept to be sent again, if the pool has so many and nobody waits for it.
    pub(super) fn keep(&mut self, session: LedgerKey, bytes: usize) -> Option<Charge> {
        let own = self.sessions[session.0].kept + bytes <= self.bounds.keep;
        let fits =
            own && !self.is_short() && self.kept + bytes <= self.bounds.pool / 2 && self.fits(bytes, SizeClass::Large);
        fits.then(|| self.charge(session, ChargePlace::Kept, bytes))
    }

    /// Charges bytes to the share of a session, even if none are left.
    pub(super) fn force(&mut self, session: LedgerKey, bytes: usize) -> Charge {
        self.charge(session, ChargePlace::Share, bytes)
    }

    /// Charges a message that sessile itself has made. It takes nothing from other sessions, and is bounded by its
    /// cause: messages that cause such messages wait while too much is [owed](Self::check_solvent).
    pub(super) fn owe(&mut self, session: LedgerKey, bytes: usize) -> Charge {
        self.charge(session, ChargePlace::Owed, bytes)
    }

    /// Ok if no more than [`MOST_OWED`] bytes are owed; otherwise a ticket to wait for that.
    pub(super) fn check_solvent(&mut self, session: LedgerKey) -> Result<(), Ticket> {
        if self.sessions[session.0].owed <= MOST_OWED { Ok(()) } else { Err(self.wait(session, WaitFor::Solvency)) }
    }

    pub(super) fn release(&mut self, session: LedgerKey, charge: Charge) {
        self.discharge(session, charge);
        self.settle(session);
    }

    /// The charge for a ticket, once it was made. The ticket is then used up.
    pub(super) fn redeem(&mut self, ticket: Ticket) -> Option<Charge> {
        self.waiters[ticket.0].granted?;
        self.waiters.remove(ticket.0).granted
    }

    /// Ends the wait of a ticket. A charge that was made for it in the meantime is given back.
    pub(super) fn withdraw(&mut self, ticket: Ticket) {
        let Waiter { session, wait_for, granted } = self.waiters.remove(ticket.0);
        match (granted, wait_for) {
            (Some(charge), WaitFor::Message { .. }) => self.release(session, charge),
            // A growing message keeps what it was charged, and gives it back as a whole. Solvency charges nothing.
            (Some(_), WaitFor::Growth { .. } | WaitFor::Solvency) => {}
            (None, wait_for) => {
                self.sessions[session.0].waiting.retain(|waiting| *waiting != ticket);
                if let WaitFor::Growth { growth, .. } = wait_for {
                    self.growths[growth.0].ticket = None;
                }
                // The session's turn may have been for this ticket.
                self.settle(session);
            }
        }
    }

    /// Whether a message waits for bytes of the pool, which other sessions hold.
    pub(super) fn is_short(&self) -> bool {
        self.turns.iter().any(|turns| !turns.is_empty())
    }

    /// How many bytes of the pool have to become free before the next waiting message can be charged.
    pub(super) fn shortage(&self) -> usize {
        let short = |size: SizeClass| {
            let (_, more) = self.turns[size as usize].front().and_then(|session| self.next_for_pool(*session, size))?;
            Some(more.saturating_sub(self.free(size)))
        };
        [SizeClass::Small, SizeClass::Large].into_iter().filter_map(short).max().unwrap_or_default()
    }

    /// How many bytes are charged in all, in the pool and in the sessions' reserves.
    pub(super) fn charged(&self) -> usize {
        self.used
            + self.lane_used
            + self.sessions.iter().map(|(_, session)| session.ordinary + session.urgent + session.owed).sum::<usize>()
    }

    fn wait(&mut self, session: LedgerKey, wait_for: WaitFor) -> Ticket {
        let ticket = Ticket(self.waiters.insert(Waiter { session, wait_for, granted: None }));
        self.sessions[session.0].waiting.push_back(ticket);
        self.settle(session);
        ticket
    }

    fn charge(&mut self, session: LedgerKey, place: ChargePlace, bytes: usize) -> Charge {
        *bytes_in(&mut self.sessions[session.0], place) += bytes;
        if place.is_pool() {
            self.used += bytes;
        }
        if place == ChargePlace::Kept {
            self.kept += bytes;
        }
        Charge { place, bytes, lane: 0 }
    }

    fn discharge(&mut self, session: LedgerKey, charge: Charge) {
        let Charge { place, bytes, lane } = charge;
        let state = &mut self.sessions[session.0];
        *bytes_in(state, place) -= bytes;
        if place == ChargePlace::Large && state.large == 0 {
            state.has_large = false;
        }
        if place.is_pool() {
            self.used -= bytes - lane;
        }
        if place == ChargePlace::Kept {
            self.kept -= bytes;
        }
        self.lane_used -= lane;
        if self.lane == Lane::Complete && self.lane_used == 0 {
            self.lane = Lane::Free;
        }
    }

    fn charge_reserve(&mut self, session: LedgerKey, bytes: usize, priority: Priority) -> Option<Charge> {
        let state = &self.sessions[session.0];
        let fits_all = state.ordinary + state.urgent + bytes <= self.bounds.reserve;
        let fits = match priority {
            Priority::Ordinary => fits_all && state.ordinary + bytes <= self.bounds.reserve / 2,
            Priority::Urgent => fits_all,
        };
        fits.then(|| self.charge(session, ChargePlace::Reserve(priority), bytes))
    }

    /// Charges a message to the pool, unless other messages wait for the pool already.
    fn charge_share(&mut self, session: LedgerKey, bytes: usize) -> Option<Charge> {
        let place = self.message_place(session, bytes)?;
        let size = SizeClass::of(bytes);
        let is_next = self.turns[size as usize].is_empty() && self.fits(bytes, size);
        is_next.then(|| self.charge_message(session, place, bytes))
    }

    fn charge_message(&mut self, session: LedgerKey, place: ChargePlace, bytes: usize) -> Charge {
        if place == ChargePlace::Large {
            self.sessions[session.0].has_large = true;
        }
        self.charge(session, place, bytes)
    }

    /// The place in the pool where a message could be charged, as far as the bounds of its session allow.
    fn message_place(&self, session: LedgerKey, bytes: usize) -> Option<ChargePlace> {
        let state = &self.sessions[session.0];
        if state.share + bytes <= self.bounds.share {
            return Some(ChargePlace::Share);
        }
        // A message that fits into the share waits for the share: the large place is for those that do not fit.
        (bytes > self.bounds.share && !state.has_large).then_some(ChargePlace::Large)
    }

    /// How many bytes of the pool are left for messages of this size, without the lane.
    fn free(&self, size: SizeClass) -> usize {
        let pool = self.bounds.pool.saturating_sub(self.bounds.largest);
        let pool = match size {
            SizeClass::Small => pool,
            SizeClass::Large => pool - pool / 8,
        };
        pool.saturating_sub(self.used)
    }

    fn fits(&self, more: usize, size: SizeClass) -> bool {
        more <= self.free(size)
    }
}

/// The bytes that a session has in a place.
fn bytes_in(session: &mut SessionEntry, place: ChargePlace) -> &mut usize {
    match place {
        ChargePlace::Reserve(Priority::Ordinary) => &mut session.ordinary,
        ChargePlace::Reserve(Priority::Urgent) => &mut session.urgent,
        ChargePlace::Share => &mut session.share,
        ChargePlace::Large => &mut session.large,
        ChargePlace::Kept => &mut session.kept,
        ChargePlace::Owed => &mut session.owed,
    }
}
