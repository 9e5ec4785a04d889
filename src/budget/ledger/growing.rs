//! The charges for messages that are still being received: how they begin, grow and end.

use super::{
    Charge, ChargePlace, GrowingMessage, GrowthKey, Lane, Ledger, LedgerKey, SizeClass, Ticket, WaitFor, bytes_in,
};

impl Ledger {
    /// Registers a growing message, with nothing charged.
    pub(in crate::budget) fn begin(&mut self, session: LedgerKey) -> GrowthKey {
        GrowthKey(self.growths.insert(GrowingMessage { session, held: 0, lane: 0, is_large: false, ticket: None }))
    }

    /// Charges a growing message for `to` bytes in all, or returns a ticket if it has to wait.
    pub(in crate::budget) fn grow(&mut self, key: GrowthKey, to: usize) -> Result<(), Ticket> {
        let to = to.min(self.bounds.largest);
        let growth = &self.growths[key.0];
        let session = growth.session;
        if to <= growth.held {
            return Ok(());
        }
        if let Some((place, more)) = self.growth_place(key, to) {
            let has_lane = self.lane == Lane::Growing(key);
            let size = SizeClass::of(to);
            if has_lane || self.turns[size as usize].is_empty() && self.fits(more, size) {
                self.extend(key, place, more, has_lane);
                return Ok(());
            }
        }
        let ticket = self.wait(session, WaitFor::Growth { growth: key, to });
        if self.waiters[ticket.0].granted.is_none() {
            self.growths[key.0].ticket = Some(ticket);
        }
        Err(ticket)
    }

    /// Ends the growth of a message that is complete, and charges it for `bytes` from now on, which are no more than
    /// before.
    pub(in crate::budget) fn finish(&mut self, key: GrowthKey, bytes: usize) -> Charge {
        let growth = self.growths.remove(key.0);
        let (session, place) = (growth.session, growth.place());
        let excess = growth.held.saturating_sub(bytes);
        let lane_excess = excess.min(growth.lane);
        self.discharge(session, Charge { place, bytes: excess, lane: lane_excess });
        let mut charge = Charge { place, bytes: growth.held - excess, lane: growth.lane - lane_excess };
        if self.lane == Lane::Growing(key) {
            self.lane = if charge.lane > 0 { Lane::Complete } else { Lane::Free };
        }
        // A message that fits into the share after all leaves the place of the large message to the next one.
        let state = &mut self.sessions[session.0];
        if charge.place == ChargePlace::Large {
            state.has_large = state.share + charge.bytes > self.bounds.share;
            if !state.has_large {
                state.large -= charge.bytes;
                state.share += charge.bytes;
                charge.place = ChargePlace::Share;
            }
        }
        self.settle(session);
        charge
    }

    /// Gives back the charge of a message that will not be received to its end.
    pub(in crate::budget) fn abandon(&mut self, key: GrowthKey) {
        let growth = self.growths.remove(key.0);
        let session = growth.session;
        self.discharge(session, Charge { place: growth.place(), bytes: growth.held, lane: growth.lane });
        if growth.is_large {
            self.sessions[session.0].has_large = false;
        }
        if self.lane == Lane::Growing(key) {
            self.lane = Lane::Free;
        }
        self.settle(session);
    }

    pub(in crate::budget) fn held(&self, key: GrowthKey) -> usize {
        self.growths[key.0].held
    }

    #[cfg(test)]
    pub(in crate::budget) fn session_of(&self, key: GrowthKey) -> LedgerKey {
        self.growths[key.0].session
    }

    /// The place where a growing message could be charged for `to` bytes in all, as far as the bounds of its session
    /// allow, and how many more bytes of the pool that takes.
    pub(super) fn growth_place(&self, key: GrowthKey, to: usize) -> Option<(ChargePlace, usize)> {
        let growth = &self.growths[key.0];
        let state = &self.sessions[growth.session.0];
        let more = to.saturating_sub(growth.held);
        if growth.is_large {
            return Some((ChargePlace::Large, more));
        }
        if state.share + more <= self.bounds.share {
            return Some((ChargePlace::Share, more));
        }
        (!state.has_large).then_some((ChargePlace::Large, more))
    }

    pub(super) fn extend(&mut self, key: GrowthKey, place: ChargePlace, more: usize, in_lane: bool) {
        let growth = &mut self.growths[key.0];
        let state = &mut self.sessions[growth.session.0];
        if place == ChargePlace::Large && !growth.is_large {
            growth.is_large = true;
            state.share -= growth.held;
            state.large += growth.held;
            state.has_large = true;
        }
        *bytes_in(state, place) += more;
        growth.held += more;
        if in_lane {
            growth.lane += more;
            self.lane_used += more;
        } else {
            self.used += more;
        }
    }
}
