//! The property of the ledger: after any operations in any order, no bound is exceeded and nothing waits for ever.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{BOUNDS, KIBIBYTE};
use crate::budget::ledger::{Charge, ChargePlace, GrowthKey, Ledger, LedgerKey, Ticket};
use crate::budget::{Priority, RESERVE};

/// An operation on the ledger. Numbers choose among the sessions, growths, charges and tickets that there are.
#[derive(Debug, Clone, Copy)]
enum LedgerAct {
    Open,
    Admit { session: usize, bytes: usize, urgent: bool },
    Keep { session: usize, bytes: usize },
    Begin { session: usize },
    Grow { growth: usize, more: usize },
    Finish { growth: usize, less: usize },
    Abandon { growth: usize },
    Release { charge: usize },
    Withdraw { ticket: usize },
}

fn act() -> impl Strategy<Value = LedgerAct> {
    let small = 1..70 * KIBIBYTE;
    prop_oneof![
        1 => Just(LedgerAct::Open),
        8 => (0..100_usize, small.clone(), any::<bool>())
            .prop_map(|(session, bytes, urgent)| LedgerAct::Admit { session, bytes, urgent }),
        2 => (0..100_usize, small).prop_map(|(session, bytes)| LedgerAct::Keep { session, bytes }),
        3 => (0..100_usize).prop_map(|session| LedgerAct::Begin { session }),
        8 => (0..100_usize, 1..200 * KIBIBYTE).prop_map(|(growth, more)| LedgerAct::Grow { growth, more }),
        2 => (0..100_usize, 0..50 * KIBIBYTE).prop_map(|(growth, less)| LedgerAct::Finish { growth, less }),
        1 => (0..100_usize).prop_map(|growth| LedgerAct::Abandon { growth }),
        8 => (0..100_usize).prop_map(|charge| LedgerAct::Release { charge }),
        1 => (0..100_usize).prop_map(|ticket| LedgerAct::Withdraw { ticket }),
    ]
}

/// A ledger, and all that was charged to it according to its callers.
struct LedgerHarness {
    ledger: Ledger,
    sessions: Vec<LedgerKey>,
    charges: Vec<(LedgerKey, Charge)>,
    growths: Vec<(GrowthKey, Option<Ticket>)>,
    tickets: Vec<(LedgerKey, Ticket, usize)>,
}

impl LedgerHarness {
    fn new() -> Self {
        let mut ledger = Ledger::new(BOUNDS);
        let sessions = vec![ledger.open()];
        Self { ledger, sessions, charges: Vec::new(), growths: Vec::new(), tickets: Vec::new() }
    }

    fn act(&mut self, act: LedgerAct) {
        match act {
            LedgerAct::Open => self.sessions.push(self.ledger.open()),
            LedgerAct::Admit { session, bytes, urgent } => {
                let session = self.sessions[session % self.sessions.len()];
                let priority = if urgent { Priority::Urgent } else { Priority::Ordinary };
                match self.ledger.admit(session, bytes, priority) {
                    Ok(charge) => self.charges.push((session, charge)),
                    Err(ticket) => self.tickets.push((session, ticket, bytes)),
                }
            }
            LedgerAct::Keep { session, bytes } => {
                let session = self.sessions[session % self.sessions.len()];
                self.charges.extend(self.ledger.keep(session, bytes).map(|charge| (session, charge)));
            }
            LedgerAct::Begin { session } => {
                let session = self.sessions[session % self.sessions.len()];
                self.growths.push((self.ledger.begin(session), None));
            }
            LedgerAct::Grow { growth, more } => {
                let Some((key, waits)) = pick(&mut self.growths, growth) else { return };
                if waits.is_none() {
                    let to = self.ledger.held(*key) + more;
                    *waits = self.ledger.grow(*key, to).err();
                }
            }
            LedgerAct::Finish { growth, less } => {
                if let Some((place, key)) = self.idle_growth(growth)
                    && self.ledger.held(key) > 0
                {
                    self.growths.remove(place);
                    let bytes = self.ledger.held(key).saturating_sub(less).max(1);
                    let session = self.ledger.session_of(key);
                    let charge = self.ledger.finish(key, bytes);
                    self.charges.push((session, charge));
                }
            }
            LedgerAct::Abandon { growth } => {
                if let Some((place, key)) = self.idle_growth(growth) {
                    self.growths.remove(place);
                    self.ledger.abandon(key);
                }
            }
            LedgerAct::Release { charge } => {
                if !self.charges.is_empty() {
                    let (session, charge) = self.charges.swap_remove(charge % self.charges.len());
                    self.ledger.release(session, charge);
                }
            }
            LedgerAct::Withdraw { ticket } => {
                if !self.tickets.is_empty() {
                    let (_, ticket, _) = self.tickets.swap_remove(ticket % self.tickets.len());
                    self.ledger.withdraw(ticket);
                }
            }
        }
        self.redeem();
        self.check();
    }

    fn idle_growth(&self, number: usize) -> Option<(usize, GrowthKey)> {
        let place = number.checked_rem(self.growths.len())?;
        let (key, waits) = self.growths[place];
        waits.is_none().then_some((place, key))
    }

    fn redeem(&mut self) {
        let Self { ledger, charges, tickets, growths, .. } = self;
        ledger.take_granted();
        tickets.retain(|(session, ticket, bytes)| match ledger.redeem(*ticket) {
            Some(charge) => {
                assert_eq!(charge.bytes, (*bytes).min(BOUNDS.largest));
                charges.push((*session, charge));
                false
            }
            None => true,
        });
        for (_, waits) in growths {
            if waits.is_some_and(|ticket| ledger.redeem(ticket).is_some()) {
                *waits = None;
            }
        }
    }

    fn check(&self) {
        let pooled: usize = self.charges.iter().map(|(_, charge)| charge.pooled()).sum();
        let growing: usize = self.growths.iter().map(|(key, _)| self.ledger.held(*key)).sum();
        let reserved: usize = self.charges.iter().map(|(_, charge)| charge.bytes - charge.pooled()).sum();
        assert!(pooled + growing <= BOUNDS.pool, "the pool is passed");
        assert_eq!(self.ledger.charged(), pooled + growing + reserved, "bytes were lost or made");
        let mut shares = BTreeMap::<LedgerKey, usize>::new();
        for (session, charge) in &self.charges {
            if !charge.place.is_pool() {
                *shares.entry(*session).or_default() += charge.bytes;
            }
        }
        let kept = |of: Option<LedgerKey>| -> usize {
            let kept = self
                .charges
                .iter()
                .filter(|(session, charge)| charge.place == ChargePlace::Kept && of.is_none_or(|of| of == *session));
            kept.map(|(_, charge)| charge.bytes).sum()
        };
        assert!(kept(None) <= BOUNDS.pool / 2, "more is kept than may be");
        for session in &self.sessions {
            assert!(kept(Some(*session)) <= BOUNDS.keep, "a session keeps more than it may");
        }
        assert!(shares.values().all(|bytes| *bytes <= RESERVE), "a reserve is passed");
        // A message that fits into its session's reserve does not wait, whatever other sessions do.
        for (session, ticket, bytes) in &self.tickets {
            let used = shares.get(session).copied().unwrap_or_default();
            assert!(used > 0 || *bytes > RESERVE / 2, "{ticket:?} of {bytes} bytes waits beside an empty reserve");
        }
    }
}

fn pick<T>(all: &mut [T], number: usize) -> Option<&mut T> {
    let place = number.checked_rem(all.len())?;
    all.get_mut(place)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// After any operations in any order: no bound is exceeded, the bytes charged are the bytes held, and once all that
    /// do not wait are released, all that wait get their charge, growing messages up to the largest size.
    #[test]
    fn no_bound_is_passed_and_nobody_waits_for_ever(acts in prop::collection::vec(act(), 1..250)) {
        let mut harness = LedgerHarness::new();
        for act in acts {
            harness.act(act);
        }
        // Each message in turn grows to the largest size, is complete, and is read.
        for _ in 0..10_000 {
            while !harness.charges.is_empty() {
                harness.act(LedgerAct::Release { charge: 0 });
            }
            let Some(place) = harness.growths.iter().position(|(_, waits)| waits.is_none()) else { break };
            if harness.ledger.held(harness.growths[place].0) < BOUNDS.largest {
                harness.act(LedgerAct::Grow { growth: place, more: BOUNDS.largest / 3 });
            } else {
                harness.act(LedgerAct::Finish { growth: place, less: 0 });
            }
        }
        prop_assert!(harness.charges.is_empty() && harness.growths.is_empty(), "these wait for ever: {:#?}", harness.ledger);
        prop_assert!(harness.tickets.is_empty(), "{:?} wait for ever", harness.tickets);
        prop_assert_eq!(harness.ledger.charged(), 0);
    }
}
