//! Decides which waiting message gets the bytes that have become free.

use super::{Charge, ChargePlace, GrowthKey, Lane, Ledger, LedgerKey, MOST_OWED, SizeClass, Ticket, WaitFor, Waiter};

/// Small messages come first. Large ones wait longer anyhow, and have the lane.
const SIZES: [SizeClass; 2] = [SizeClass::Small, SizeClass::Large];

impl Ledger {
    /// Makes all charges that have become possible after a change in this session.
    pub(super) fn settle(&mut self, session: LedgerKey) {
        if self.waiters.is_empty() {
            // The last waiting message may have been withdrawn, and its session still have a turn.
            self.forget_idle_turns();
            return;
        }
        for ticket in self.sessions[session.0].waiting.clone() {
            let charge = match self.waiters[ticket.0].wait_for {
                WaitFor::Message { bytes, priority } => self.charge_reserve(session, bytes, priority),
                WaitFor::Solvency => {
                    let is_solvent = self.sessions[session.0].owed <= MOST_OWED;
                    is_solvent.then_some(Charge { place: ChargePlace::Owed, bytes: 0, lane: 0 })
                }
                WaitFor::Growth { .. } => None,
            };
            if let Some(charge) = charge {
                self.grant(ticket, charge);
            }
        }
        for size in SIZES {
            if !self.sessions[session.0].has_turn[size as usize] && self.next_for_pool(session, size).is_some() {
                self.sessions[session.0].has_turn[size as usize] = true;
                self.turns[size as usize].push_back(session);
            }
        }
        self.distribute();
    }

    /// Gives out the pool in turns, as far as it goes, and then the lane to the first growing message that waits.
    fn distribute(&mut self) {
        loop {
            self.forget_idle_turns();
            let next = SIZES.into_iter().find_map(|size| {
                let session = *self.turns[size as usize].front()?;
                let (ticket, more) = self.next_for_pool(session, size)?;
                self.fits(more, size).then_some((ticket, size))
            });
            if let Some((ticket, size)) = next {
                self.grant_pool(ticket, false);
                self.turns[size as usize].rotate_left(1);
                continue;
            }
            if self.lane != Lane::Free {
                return;
            }
            let growing = |session: &LedgerKey| self.next_for_lane(*session);
            let Some((ticket, key)) = self.turns.iter().flatten().find_map(growing) else { return };
            self.lane = Lane::Growing(key);
            self.grant_pool(ticket, true);
        }
    }

    /// Removes sessions from the head of the turns that wait for the pool no more.
    fn forget_idle_turns(&mut self) {
        for size in SIZES {
            while let Some(session) = self.turns[size as usize].front().copied()
                && self.next_for_pool(session, size).is_none()
            {
                self.turns[size as usize].pop_front();
                self.sessions[session.0].has_turn[size as usize] = false;
            }
        }
    }

    /// The session's next message of that size that waits for the pool and for nothing else, and how many bytes of the
    /// pool it needs.
    pub(super) fn next_for_pool(&self, session: LedgerKey, size: SizeClass) -> Option<(Ticket, usize)> {
        self.sessions[session.0].waiting.iter().find_map(|ticket| match self.waiters[ticket.0].wait_for {
            WaitFor::Message { bytes, .. } if SizeClass::of(bytes) == size => {
                self.message_place(session, bytes).map(|_| (*ticket, bytes))
            }
            WaitFor::Growth { growth, to } if SizeClass::of(to) == size => {
                self.growth_place(growth, to).map(|(_, more)| (*ticket, more))
            }
            WaitFor::Message { .. } | WaitFor::Growth { .. } | WaitFor::Solvency => None,
        })
    }

    /// The session's waiting message that can have the lane. A message in the lane must be able to grow to the largest
    /// size, so it has to be the large message of its session, or to become it.
    fn next_for_lane(&self, session: LedgerKey) -> Option<(Ticket, GrowthKey)> {
        let state = &self.sessions[session.0];
        state.waiting.iter().find_map(|ticket| match self.waiters[ticket.0].wait_for {
            WaitFor::Growth { growth, .. } => {
                let can_be_large = self.growths[growth.0].is_large || !state.has_large;
                can_be_large.then_some((*ticket, growth))
            }
            WaitFor::Message { .. } | WaitFor::Solvency => None,
        })
    }

    fn grant_pool(&mut self, ticket: Ticket, in_lane: bool) {
        let Waiter { session, wait_for, .. } = self.waiters[ticket.0];
        match wait_for {
            WaitFor::Message { bytes, .. } => {
                if let Some(place) = self.message_place(session, bytes) {
                    let charge = self.charge_message(session, place, bytes);
                    self.grant(ticket, charge);
                }
            }
            // Solvency does not wait for the pool.
            WaitFor::Solvency => {}
            WaitFor::Growth { growth, to } => {
                let large = (ChargePlace::Large, to.saturating_sub(self.growths[growth.0].held));
                let placed = if in_lane { Some(large) } else { self.growth_place(growth, to) };
                if let Some((place, bytes)) = placed {
                    self.extend(growth, place, bytes, in_lane);
                    self.growths[growth.0].ticket = None;
                    self.grant(ticket, Charge { place, bytes, lane: 0 });
                }
            }
        }
    }

    fn grant(&mut self, ticket: Ticket, charge: Charge) {
        let wait = &mut self.waiters[ticket.0];
        wait.granted = Some(charge);
        let session = wait.session;
        self.sessions[session.0].waiting.retain(|waiting| *waiting != ticket);
        self.granted.push(ticket);
    }
}
