//! The budget alone: no bound is passed, nobody who reads is starved, and whoever does not read gives way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use proptest::prelude::*;
use tokio::time::{sleep, timeout};

use super::ledger::{Charge, ChargePlace, GrowthKey};
use super::*;
use crate::frame;

const KIB: usize = 1024;
const BOUNDS: Bounds =
    Bounds { pool: 1024 * KIB, largest: 400 * KIB, share: 128 * KIB, reserve: RESERVE, keep: 300 * KIB };
/// Longer than everything takes that is not stuck.
const LONG: Duration = Duration::from_secs(3600);

/// What somebody does to the ledger. Numbers choose among what is there.
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
    let small = 1..70 * KIB;
    prop_oneof![
        1 => Just(LedgerAct::Open),
        8 => (0..100_usize, small.clone(), any::<bool>())
            .prop_map(|(session, bytes, urgent)| LedgerAct::Admit { session, bytes, urgent }),
        2 => (0..100_usize, small).prop_map(|(session, bytes)| LedgerAct::Keep { session, bytes }),
        3 => (0..100_usize).prop_map(|session| LedgerAct::Begin { session }),
        8 => (0..100_usize, 1..200 * KIB).prop_map(|(growth, more)| LedgerAct::Grow { growth, more }),
        2 => (0..100_usize, 0..50 * KIB).prop_map(|(growth, less)| LedgerAct::Finish { growth, less }),
        1 => (0..100_usize).prop_map(|growth| LedgerAct::Abandon { growth }),
        8 => (0..100_usize).prop_map(|charge| LedgerAct::Release { charge }),
        1 => (0..100_usize).prop_map(|ticket| LedgerAct::Withdraw { ticket }),
    ]
}

/// A ledger, and what everybody believes to hold of it.
struct LedgerHarness {
    ledger: Ledger,
    sessions: Vec<SessionKey>,
    charges: Vec<(SessionKey, Charge)>,
    growths: Vec<(GrowthKey, Option<Ticket>)>,
    tickets: Vec<(SessionKey, Ticket, usize)>,
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
        let mut shares = BTreeMap::<SessionKey, usize>::new();
        for (session, charge) in &self.charges {
            if !charge.place.is_pool() {
                *shares.entry(*session).or_default() += charge.bytes;
            }
        }
        let kept = |of: Option<SessionKey>| -> usize {
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
        // Whoever fits into the session's own reserve does not wait, whatever the others do.
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

    /// Whatever is done in whatever order: no bound is passed, what is charged is what is held, and when whoever is not
    /// waiting lets go, everybody who waits gets what it waits for, growing messages up to the largest size.
    #[test]
    fn no_bound_is_passed_and_nobody_waits_for_ever(acts in prop::collection::vec(act(), 1..250)) {
        let mut harness = LedgerHarness::new();
        for act in acts {
            harness.act(act);
        }
        // A message grows to the largest size, is complete, and is read: one after another, in any order of theirs.
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

/// One session of the property below: how large its messages are, and how its peer reads them.
#[derive(Debug, Clone)]
struct Load {
    sizes: Vec<usize>,
    reads: bool,
}

fn load() -> impl Strategy<Value = Load> {
    let size = prop_oneof![4 => 1..30 * KIB, 2 => 30 * KIB..100 * KIB, 1 => 100 * KIB..390 * KIB];
    (prop::collection::vec(size, 1..12), any::<bool>()).prop_map(|(sizes, reads)| Load { sizes, reads })
}

/// A message that a peer has not read.
type UnreadMessage = (Permit, Option<Held>);

/// Takes the messages of one session one after another from its peer, and hands each to the other peer, which reads it or
/// does not. One that does not read loses what is queued for it when it is asked to give way.
async fn carry(budget: Budget, load: Load, delivered: Arc<AtomicUsize>) {
    let cut = Arc::new(AtomicBool::new(false));
    let queued: Arc<Mutex<Vec<UnreadMessage>>> = Arc::default();
    let (asked, unread) = (cut.clone(), Arc::downgrade(&queued));
    let backlog = budget.backlog(move || {
        asked.store(true, Ordering::Relaxed);
        let unread = unread.upgrade().map(|unread| std::mem::take(&mut *unread.lock().unwrap()));
        drop(unread);
    });
    for size in load.sizes {
        let mut growth = budget.buffer_charge();
        let mut received = 0;
        while received < size {
            received = size.min(received + 40 * KIB);
            growth.reach(received).await;
            growth.received(40 * KIB);
            sleep(Duration::from_millis(1)).await;
        }
        let permit = match growth.finish(size) {
            Some(permit) => permit,
            None => budget.charge(size + OVERHEAD, Priority::Ordinary).await.into_permit(),
        };
        if load.reads {
            sleep(Duration::from_millis(5)).await;
            drop(permit);
            delivered.fetch_add(1, Ordering::Relaxed);
        } else if !cut.load(Ordering::Relaxed) {
            let held = backlog.hold(permit.pooled());
            queued.lock().unwrap().push((permit, held));
        }
    }
    // It stays for as long as it may.
    if !load.reads {
        sleep(LONG * 24).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// With any number of sessions, sizes and stalls: every session whose peer reads gets all of its messages through.
    #[test]
    fn nobody_who_reads_is_starved(loads in prop::collection::vec(load(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let pool = Pool::new(BOUNDS);
            let delivered = Arc::new(AtomicUsize::new(0));
            let wanted: usize = loads.iter().filter(|load| load.reads).map(|load| load.sizes.len()).sum();
            let tasks: Vec<_> = loads.iter().cloned().map(|load| {
                tokio::spawn(carry(pool.open(), load, delivered.clone()))
            }).collect();
            let all = async {
                while delivered.load(Ordering::Relaxed) < wanted {
                    sleep(Duration::from_millis(100)).await;
                    assert!(pool.charged() <= BOUNDS.pool + loads.len() * RESERVE, "a bound is passed");
                }
            };
            timeout(LONG, all).await.expect("a session is starved");
            tasks.iter().for_each(tokio::task::JoinHandle::abort);
            for task in tasks {
                let _ = task.await;
            }
            assert_eq!(pool.charged(), 0, "something is charged to nobody");
        });
    }
}

async fn waits<T>(future: impl Future<Output = T>) -> bool {
    timeout(Duration::from_secs(1), future).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn a_response_waits_for_its_own_session_only() {
    let pool = Pool::new(BOUNDS);
    let others: Vec<_> = (0..9).map(|_| pool.open()).collect();
    let mut held = Vec::new();
    for other in &others {
        while let Ok(permit) = timeout(Duration::from_millis(1), other.charge(30 * KIB, Priority::Ordinary)).await {
            held.push(permit);
        }
    }
    let own = pool.open();
    let first = own.charge(RESERVE / 2, Priority::Ordinary).await;
    assert!(waits(own.charge(31 * KIB, Priority::Ordinary)).await, "the pool is full, and so is the half for requests");
    let second = own.charge(RESERVE / 2, Priority::Urgent).await;
    let third = own.charge(64 * KIB, Priority::Urgent);
    let mut third = std::pin::pin!(third);
    assert!(waits(&mut third).await, "its own session has not read what came before");
    drop((first, second));
    assert!(!waits(third).await);
}

#[tokio::test(start_paused = true)]
async fn one_that_waits_takes_its_reserve_as_soon_as_it_is_free() {
    let pool = Pool::new(Bounds { pool: 150 * KIB, largest: 50 * KIB, share: 100 * KIB, reserve: RESERVE, keep: 0 });
    let (greedy, modest) = (pool.open(), pool.open());
    let _all = (greedy.charge(32 * KIB, Priority::Ordinary).await, greedy.charge(50 * KIB, Priority::Ordinary).await);
    let _rest = greedy.charge(50 * KIB, Priority::Ordinary).await;
    let first = modest.charge(20 * KIB, Priority::Ordinary).await;
    let mut second = std::pin::pin!(modest.charge(20 * KIB, Priority::Ordinary));
    assert!(waits(&mut second).await);
    drop(first);
    assert!(!waits(second).await, "others hold the pool, and it needs it no more");
}

#[tokio::test(start_paused = true)]
async fn the_pool_is_given_out_in_turns() {
    let pool = Pool::new(Bounds { pool: 160 * KIB, largest: 60 * KIB, share: 200 * KIB, reserve: RESERVE, keep: 0 });
    let (many, one) = (pool.open(), pool.open());
    let mut full =
        Some((many.charge(50 * KIB, Priority::Ordinary).await, many.charge(50 * KIB, Priority::Ordinary).await));
    let order: Arc<Mutex<Vec<&str>>> = Arc::default();
    let mut tasks = Vec::new();
    for (budget, name) in [(&many, "many"), (&many, "many"), (&many, "many"), (&one, "one")] {
        let (budget, order) = (budget.clone(), order.clone());
        tasks.push(tokio::spawn(async move {
            let permit = budget.charge(60 * KIB, Priority::Ordinary).await;
            order.lock().unwrap().push(name);
            sleep(Duration::from_millis(10)).await;
            drop(permit);
        }));
        tokio::task::yield_now().await;
    }
    full.take();
    for task in tasks {
        timeout(LONG, task).await.unwrap().unwrap();
    }
    assert_eq!(*order.lock().unwrap(), ["many", "one", "many", "many"]);
}

#[tokio::test(start_paused = true)]
async fn messages_that_grow_do_not_wait_for_each_other() {
    let pool = Pool::new(BOUNDS);
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let mut growth = pool.open().buffer_charge();
            tokio::spawn(async move {
                for size in (0..390 * KIB).step_by(30 * KIB) {
                    growth.reach(size).await;
                    sleep(Duration::from_millis(1)).await;
                }
                let permit = growth.finish(390 * KIB);
                sleep(Duration::from_millis(1)).await;
                permit.map(|permit| permit.pooled())
            })
        })
        .collect();
    for task in tasks {
        let permit = timeout(LONG, task).await.expect("they wait for each other").unwrap();
        assert!(permit.is_some_and(|pooled| pooled > 300 * KIB));
    }
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_stalls_gives_way_only_while_others_wait() {
    let pool = Pool::new(Bounds { pool: 800 * KIB, largest: 400 * KIB, share: 400 * KIB, reserve: RESERVE, keep: 0 });
    let mut stalled = pool.open().buffer_charge();
    stalled.reach(400 * KIB).await;
    stalled.received(400 * KIB);
    let mut slow = pool.open().buffer_charge();
    slow.reach(300 * KIB).await;
    assert!(timeout(LONG, stalled.gave_way()).await.is_err(), "nobody waits");
    let mut other = pool.open().buffer_charge();
    let (asked, ()) = tokio::join!(timeout(Duration::from_secs(11), stalled.gave_way()), async {
        let reaching = timeout(Duration::from_secs(9), other.reach(350 * KIB));
        let steps = async {
            // It sends little, but it does.
            for _ in 0..12 {
                slow.received(stalls::STALLED_BELOW);
                sleep(Duration::from_secs(1)).await;
            }
        };
        let (_, ()) = tokio::join!(reaching, steps);
    });
    assert_eq!(asked, Ok(GaveWay), "whoever stalls gives way");
    stalled.clear();
    assert!(!waits(other.reach(350 * KIB)).await);
    assert!(waits(slow.gave_way()).await, "whoever sends does not");
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_takes_no_more_than_half_and_yields_to_none_that_wait() {
    let pool = Pool::new(BOUNDS);
    let budgets: Vec<_> = (0..20).map(|_| pool.open()).collect();
    let kept: Vec<_> = budgets.iter().filter_map(|budget| budget.keep(60 * KIB)).collect();
    assert_eq!(kept.len(), BOUNDS.pool / 2 / (60 * KIB));
    let mut growth = pool.open().buffer_charge();
    growth.reach(400 * KIB).await;
    drop(kept);
    let _second = budgets[0].charge(100 * KIB, Priority::Ordinary).await;
    let mut others: Vec<_> = (1..4).map(|budget| budgets[budget].buffer_charge()).collect();
    let mut reaching =
        Box::pin(futures_util::future::join_all(others.iter_mut().map(|growth| growth.reach(390 * KIB))));
    assert!(waits(&mut reaching).await);
    assert!(budgets[9].keep(KIB).is_none(), "others wait for it");
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_given_up_takes_nothing() {
    let pool = Pool::new(Bounds { pool: 150 * KIB, largest: 50 * KIB, share: 100 * KIB, reserve: RESERVE, keep: 0 });
    let budget = pool.open();
    let all = (budget.charge(50 * KIB, Priority::Ordinary).await, budget.charge(50 * KIB, Priority::Ordinary).await);
    assert!(waits(pool.open().charge(50 * KIB, Priority::Ordinary)).await);
    drop(all);
    assert_eq!(pool.charged(), 0);
    assert!(!waits(budget.charge(50 * KIB, Priority::Ordinary)).await);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_given_up_leaves_nobody_short() {
    let pool =
        Pool::new(Bounds { pool: 150 * KIB, largest: 50 * KIB, share: 100 * KIB, reserve: RESERVE, keep: 10 * KIB });
    let (budget, other) = (pool.open(), pool.open());
    let all = (budget.charge(50 * KIB, Priority::Ordinary).await, budget.charge(50 * KIB, Priority::Ordinary).await);
    assert!(waits(other.charge(50 * KIB, Priority::Ordinary)).await);
    drop(all);
    assert!(budget.keep(KIB).is_some(), "nobody waits any more");
}

#[tokio::test(start_paused = true)]
async fn who_reads_no_errors_is_not_listened_to() {
    let pool = Pool::new(BOUNDS);
    let (asks, answers) = (pool.open(), Pool::new(BOUNDS).open());
    let error = || frame::split("{").unwrap_err();
    let mut unread = Vec::new();
    loop {
        let letting_in = asks.let_in(Err(error()), 1, None, &answers);
        let Ok((_, permit)) = timeout(Duration::from_secs(1), letting_in).await else { break };
        drop(permit);
        let wire = answers.owe(Wire::from("x".repeat(1000)));
        assert_eq!((wire.uncharged(), wire.pooled()), (0, 0), "it takes nothing that others could have");
        unread.push(wire);
        assert!(unread.len() < 100, "all of it is kept");
    }
    // Its responses are heard all the same: somebody waits for them.
    let response = frame::split(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    assert!(!waits(asks.let_in(response, 40, None, &answers)).await);
    unread.truncate(3);
    assert!(!waits(asks.let_in(Err(error()), 1, None, &answers)).await);
}
