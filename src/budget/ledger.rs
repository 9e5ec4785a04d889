//! Who holds how many bytes of one direction, and who gets the next ones. Pure: it neither waits nor reads a clock.
//!
//! Bytes are charged to a session, and stand in one of these places:
//!
//! - the session's *reserve*, which no other session can take: half of it is for requests and notifications
//!   ([`Priority::Ordinary`]), and all of it for responses and cancellations ([`Priority::Urgent`]);
//! - its *share* of the pool, which all sessions have in common;
//! - its *large* message, one at a time, which may be larger than the share;
//! - what it *keeps* in the pool to be sent once more, if need be: all sessions together keep no more than half of the pool;
//! - what is *owed*: messages that sessile itself has made and the peer has not read. They take nothing of the reserve or
//!   the pool. While more than [`MOST_OWED`] bytes are owed, sessile reads no message that could cause another one.
//!
//! A message that cannot be charged waits. The pool is given out in turns, one message of a session at a time, so that a
//! session with many waiting messages does not delay a session with one. An eighth of the pool is for [`SizeClass::Small`]
//! messages alone, so that many large ones, each of which has a part of what it needs, are not in their way.
//!
//! Messages that are still being received grow step by step. If several of them filled the pool, each would wait for the
//! others, for ever. So as many bytes of the pool as the largest message takes are its *lane*, which one growing message has
//! for itself: it can always grow to the largest size. When its last byte in the lane is given back, the next one that waits
//! has the lane.

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
    /// What all sessions have in common.
    pub pool: usize,
    /// The largest charge for one message.
    pub largest: usize,
    /// The most that one session takes of the pool, besides one large message and what it keeps.
    pub share: usize,
    /// What each session has for itself.
    pub reserve: usize,
    /// The most that one session keeps in the pool.
    pub keep: usize,
}

/// The number of a session in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SessionKey(usize);

/// The number of a message that is being received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GrowthKey(usize);

/// The number of a charge that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ticket(usize);

#[derive(Debug, Default)]
struct SessionEntry {
    ordinary: usize,
    urgent: usize,
    share: usize,
    large: usize,
    /// Whether a large message is there; its charge may be nothing for a moment.
    has_large: bool,
    kept: usize,
    /// What sessile itself has said, and the peer has not read.
    owed: usize,
    /// In the order in which they came.
    waiting: VecDeque<Ticket>,
    /// Whether it stands in [`Ledger::turns`], by size.
    has_turn: [bool; 2],
}

#[derive(Debug)]
struct GrowingMessage {
    session: SessionKey,
    held: usize,
    /// How many of these bytes are in the pool's lane.
    lane: usize,
    is_large: bool,
    ticket: Option<Ticket>,
}

/// Who has the pool's lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Free,
    Growing(GrowthKey),
    /// A message that is complete, and not read yet.
    Complete,
}

impl GrowingMessage {
    fn place(&self) -> ChargePlace {
        if self.is_large { ChargePlace::Large } else { ChargePlace::Share }
    }
}

#[derive(Debug, Clone, Copy)]
enum WaitFor {
    Message {
        bytes: usize,
        priority: Priority,
    },
    /// That no more than [`MOST_OWED`] is owed.
    Solvency,
    Growth {
        growth: GrowthKey,
        to: usize,
    },
}

#[derive(Debug)]
struct Waiter {
    session: SessionKey,
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
    /// What of it is kept.
    kept: usize,
    sessions: Slab<SessionEntry>,
    growths: Slab<GrowingMessage>,
    waiters: Slab<Waiter>,
    /// The sessions of which something of that size waits for the pool and for nothing else; the first one is served next.
    turns: [VecDeque<SessionKey>; 2],
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

    pub(super) fn open(&mut self) -> SessionKey {
        SessionKey(self.sessions.insert(SessionEntry::default()))
    }

    /// Removes a session to which nothing is charged any more.
    pub(super) fn close(&mut self, session: SessionKey) {
        debug_assert!(self.sessions[session.0].waiting.is_empty(), "whoever waits holds the session open");
        for turns in &mut self.turns {
            turns.retain(|turn| *turn != session);
        }
        self.sessions.remove(session.0);
    }

    /// The tickets whose charge was made since this was asked last: whoever waits for them has to be woken.
    pub(super) fn take_granted(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.granted)
    }

    /// Charges a message, or gives a ticket for the time when it can be charged. A message that is larger than the largest
    /// is charged as the largest.
    pub(super) fn admit(&mut self, session: SessionKey, bytes: usize, priority: Priority) -> Result<Charge, Ticket> {
        let bytes = bytes.min(self.bounds.largest);
        let charge = self.charge_reserve(session, bytes, priority).or_else(|| self.charge_share(session, bytes));
        charge.ok_or_else(|| self.wait(session, WaitFor::Message { bytes, priority }))
    }

    /// Charges bytes that are kept to be sent once more, if there are enough now that nobody else waits for.
    pub(super) fn keep(&mut self, session: SessionKey, bytes: usize) -> Option<Charge> {
        let own = self.sessions[session.0].kept + bytes <= self.bounds.keep;
        let fits =
            own && !self.is_short() && self.kept + bytes <= self.bounds.pool / 2 && self.fits(bytes, SizeClass::Large);
        fits.then(|| self.charge(session, ChargePlace::Kept, bytes))
    }

    /// Charges bytes to the share of a session, whether there are any left or not.
    pub(super) fn force(&mut self, session: SessionKey, bytes: usize) -> Charge {
        self.charge(session, ChargePlace::Share, bytes)
    }

    /// Charges what sessile itself says. It takes nothing that others could have, so it is bounded by what causes it:
    /// whoever does has to wait while too much is [owed](Self::check_solvent).
    pub(super) fn owe(&mut self, session: SessionKey, bytes: usize) -> Charge {
        self.charge(session, ChargePlace::Owed, bytes)
    }

    /// Whether no more than [`MOST_OWED`] is owed, or a ticket for the time when that is so.
    pub(super) fn check_solvent(&mut self, session: SessionKey) -> Result<(), Ticket> {
        if self.sessions[session.0].owed <= MOST_OWED { Ok(()) } else { Err(self.wait(session, WaitFor::Solvency)) }
    }

    pub(super) fn release(&mut self, session: SessionKey, charge: Charge) {
        self.discharge(session, charge);
        self.settle(session);
    }

    /// The charge for a ticket, once it was made; the ticket is then worth nothing more.
    pub(super) fn redeem(&mut self, ticket: Ticket) -> Option<Charge> {
        self.waiters[ticket.0].granted?;
        self.waiters.remove(ticket.0).granted
    }

    /// Whoever holds the ticket waits no more. A charge that was made for it in the meantime is given back.
    pub(super) fn withdraw(&mut self, ticket: Ticket) {
        let Waiter { session, wait_for, granted } = self.waiters.remove(ticket.0);
        match (granted, wait_for) {
            (Some(charge), WaitFor::Message { .. }) => self.release(session, charge),
            // A growing message holds what it was given, and gives it back as a whole; of solvency there is nothing to give.
            (Some(_), WaitFor::Growth { .. } | WaitFor::Solvency) => {}
            (None, wait_for) => {
                self.sessions[session.0].waiting.retain(|waiting| *waiting != ticket);
                if let WaitFor::Growth { growth, .. } = wait_for {
                    self.growths[growth.0].ticket = None;
                }
                // It may have been what the turn was for.
                self.settle(session);
            }
        }
    }

    /// Whether somebody waits for bytes that other sessions hold.
    pub(super) fn is_short(&self) -> bool {
        self.turns.iter().any(|turns| !turns.is_empty())
    }

    /// How many bytes of the pool have to become free before the next one who waits can have its own.
    pub(super) fn shortage(&self) -> usize {
        let short = |size: SizeClass| {
            let (_, more) = self.turns[size as usize].front().and_then(|session| self.next_for_pool(*session, size))?;
            Some(more.saturating_sub(self.free(size)))
        };
        [SizeClass::Small, SizeClass::Large].into_iter().filter_map(short).max().unwrap_or_default()
    }

    /// What is charged in all, the reserves of the sessions included, in bytes.
    pub(super) fn charged(&self) -> usize {
        self.used
            + self.lane_used
            + self.sessions.iter().map(|(_, session)| session.ordinary + session.urgent + session.owed).sum::<usize>()
    }

    fn wait(&mut self, session: SessionKey, wait_for: WaitFor) -> Ticket {
        let ticket = Ticket(self.waiters.insert(Waiter { session, wait_for, granted: None }));
        self.sessions[session.0].waiting.push_back(ticket);
        self.settle(session);
        ticket
    }

    fn charge(&mut self, session: SessionKey, place: ChargePlace, bytes: usize) -> Charge {
        *bytes_in(&mut self.sessions[session.0], place) += bytes;
        if place.is_pool() {
            self.used += bytes;
        }
        if place == ChargePlace::Kept {
            self.kept += bytes;
        }
        Charge { place, bytes, lane: 0 }
    }

    fn discharge(&mut self, session: SessionKey, charge: Charge) {
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

    fn charge_reserve(&mut self, session: SessionKey, bytes: usize, priority: Priority) -> Option<Charge> {
        let state = &self.sessions[session.0];
        let fits_all = state.ordinary + state.urgent + bytes <= self.bounds.reserve;
        let fits = match priority {
            Priority::Ordinary => fits_all && state.ordinary + bytes <= self.bounds.reserve / 2,
            Priority::Urgent => fits_all,
        };
        fits.then(|| self.charge(session, ChargePlace::Reserve(priority), bytes))
    }

    /// Charges the session's share of the pool, unless others wait for the pool already.
    fn charge_share(&mut self, session: SessionKey, bytes: usize) -> Option<Charge> {
        let place = self.message_place(session, bytes)?;
        let size = SizeClass::of(bytes);
        let is_next = self.turns[size as usize].is_empty() && self.fits(bytes, size);
        is_next.then(|| self.charge_message(session, place, bytes))
    }

    fn charge_message(&mut self, session: SessionKey, place: ChargePlace, bytes: usize) -> Charge {
        if place == ChargePlace::Large {
            self.sessions[session.0].has_large = true;
        }
        self.charge(session, place, bytes)
    }

    /// Where in the pool a message of the session could be charged, as far as its own bounds go.
    fn message_place(&self, session: SessionKey, bytes: usize) -> Option<ChargePlace> {
        let state = &self.sessions[session.0];
        if state.share + bytes <= self.bounds.share {
            return Some(ChargePlace::Share);
        }
        // What fits into the share waits for the share: the other place is for what does not.
        (bytes > self.bounds.share && !state.has_large).then_some(ChargePlace::Large)
    }

    /// What of the pool is left, without its lane.
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

/// What a session has in a place.
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
