//! Tests of the budget alone: no bound is exceeded, no session whose peer reads is starved, and peers that do not read
//! give way.

mod ledger;
mod sessions;

use tokio::time::{sleep, timeout};

use super::*;
use crate::frame;

const KIBIBYTE: usize = 1024;
const BOUNDS: Bounds = Bounds {
    pool: 1024 * KIBIBYTE,
    largest: 400 * KIBIBYTE,
    share: 128 * KIBIBYTE,
    reserve: RESERVE,
    keep: 300 * KIBIBYTE,
};
/// Anything that takes longer is stuck.
const LONG_ENOUGH: Duration = Duration::from_secs(3600);

async fn waits<T>(future: impl Future<Output = T>) -> bool {
    timeout(Duration::from_secs(1), future).await.is_err()
}

/// A pool that three messages fill, of which one session takes two.
fn small_pool() -> Pool {
    Pool::new(Bounds { pool: 150 * KIBIBYTE, largest: 50 * KIBIBYTE, share: 100 * KIBIBYTE, reserve: RESERVE, keep: 0 })
}

#[tokio::test(start_paused = true)]
async fn a_response_waits_for_its_own_session_only() {
    let pool = Pool::new(BOUNDS);
    let others: Vec<_> = (0..9).map(|_| pool.open()).collect();
    let mut held = Vec::new();
    for other in &others {
        while let Ok(permit) = timeout(Duration::from_millis(1), other.charge(30 * KIBIBYTE, Priority::Ordinary)).await
        {
            held.push(permit);
        }
    }
    let own = pool.open();
    let first = own.charge(RESERVE / 2, Priority::Ordinary).await;
    assert!(
        waits(own.charge(31 * KIBIBYTE, Priority::Ordinary)).await,
        "the pool is full, and so is the half for requests"
    );
    let second = own.charge(RESERVE / 2, Priority::Urgent).await;
    let third = own.charge(64 * KIBIBYTE, Priority::Urgent);
    let mut third = std::pin::pin!(third);
    assert!(waits(&mut third).await, "its own session has not read what came before");
    drop((first, second));
    assert!(!waits(third).await);
}

#[tokio::test(start_paused = true)]
async fn one_that_waits_takes_its_reserve_as_soon_as_it_is_free() {
    let pool = small_pool();
    let (greedy, modest) = (pool.open(), pool.open());
    let _all = (
        greedy.charge(32 * KIBIBYTE, Priority::Ordinary).await,
        greedy.charge(50 * KIBIBYTE, Priority::Ordinary).await,
    );
    let _rest = greedy.charge(50 * KIBIBYTE, Priority::Ordinary).await;
    let first = modest.charge(20 * KIBIBYTE, Priority::Ordinary).await;
    let mut second = std::pin::pin!(modest.charge(20 * KIBIBYTE, Priority::Ordinary));
    assert!(waits(&mut second).await);
    drop(first);
    assert!(!waits(second).await, "others hold the pool, and it needs it no more");
}

#[tokio::test(start_paused = true)]
async fn the_pool_is_given_out_in_turns() {
    let pool = Pool::new(Bounds {
        pool: 160 * KIBIBYTE,
        largest: 60 * KIBIBYTE,
        share: 200 * KIBIBYTE,
        reserve: RESERVE,
        keep: 0,
    });
    let (many, one) = (pool.open(), pool.open());
    let mut full = Some((
        many.charge(50 * KIBIBYTE, Priority::Ordinary).await,
        many.charge(50 * KIBIBYTE, Priority::Ordinary).await,
    ));
    let order: Arc<Mutex<Vec<&str>>> = Arc::default();
    let mut tasks = Vec::new();
    for (budget, name) in [(&many, "many"), (&many, "many"), (&many, "many"), (&one, "one")] {
        let (budget, order) = (budget.clone(), order.clone());
        tasks.push(tokio::spawn(async move {
            let permit = budget.charge(60 * KIBIBYTE, Priority::Ordinary).await;
            order.lock().unwrap().push(name);
            sleep(Duration::from_millis(10)).await;
            drop(permit);
        }));
        tokio::task::yield_now().await;
    }
    full.take();
    for task in tasks {
        timeout(LONG_ENOUGH, task).await.unwrap().unwrap();
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
                for size in (0..390 * KIBIBYTE).step_by(30 * KIBIBYTE) {
                    growth.reach(size).await;
                    sleep(Duration::from_millis(1)).await;
                }
                let permit = growth.finish(390 * KIBIBYTE);
                sleep(Duration::from_millis(1)).await;
                permit.map(|permit| permit.pooled())
            })
        })
        .collect();
    for task in tasks {
        let permit = timeout(LONG_ENOUGH, task).await.expect("they wait for each other").unwrap();
        assert!(permit.is_some_and(|pooled| pooled > 300 * KIBIBYTE));
    }
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_stalls_gives_way_only_while_others_wait() {
    let pool = Pool::new(Bounds {
        pool: 800 * KIBIBYTE,
        largest: 400 * KIBIBYTE,
        share: 400 * KIBIBYTE,
        reserve: RESERVE,
        keep: 0,
    });
    let mut stalled = pool.open().buffer_charge();
    stalled.reach(400 * KIBIBYTE).await;
    stalled.received(400 * KIBIBYTE);
    let mut slow = pool.open().buffer_charge();
    slow.reach(300 * KIBIBYTE).await;
    assert!(timeout(LONG_ENOUGH, stalled.gave_way()).await.is_err(), "nobody waits");
    let mut other = pool.open().buffer_charge();
    let (asked, ()) = tokio::join!(timeout(Duration::from_secs(11), stalled.gave_way()), async {
        let reaching = timeout(Duration::from_secs(9), other.reach(350 * KIBIBYTE));
        let steps = async {
            // This sender is slow, but not stalled.
            for _ in 0..12 {
                slow.received(stalls::STALLED_BELOW);
                sleep(Duration::from_secs(1)).await;
            }
        };
        let (_, ()) = tokio::join!(reaching, steps);
    });
    assert_eq!(asked, Ok(GaveWay), "whoever stalls gives way");
    stalled.clear();
    assert!(!waits(other.reach(350 * KIBIBYTE)).await);
    assert!(waits(slow.gave_way()).await, "whoever sends does not");
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_takes_no_more_than_half_and_yields_to_none_that_wait() {
    let pool = Pool::new(BOUNDS);
    let budgets: Vec<_> = (0..20).map(|_| pool.open()).collect();
    let kept: Vec<_> = budgets.iter().filter_map(|budget| budget.keep(60 * KIBIBYTE)).collect();
    assert_eq!(kept.len(), BOUNDS.pool / 2 / (60 * KIBIBYTE));
    let mut growth = pool.open().buffer_charge();
    growth.reach(400 * KIBIBYTE).await;
    drop(kept);
    let _second = budgets[0].charge(100 * KIBIBYTE, Priority::Ordinary).await;
    let mut others: Vec<_> = (1..4).map(|budget| budgets[budget].buffer_charge()).collect();
    let mut reaching =
        Box::pin(futures_util::future::join_all(others.iter_mut().map(|growth| growth.reach(390 * KIBIBYTE))));
    assert!(waits(&mut reaching).await);
    assert!(budgets[9].keep(KIBIBYTE).is_none(), "others wait for it");
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_given_up_takes_nothing() {
    let pool = small_pool();
    let budget = pool.open();
    let all = (
        budget.charge(50 * KIBIBYTE, Priority::Ordinary).await,
        budget.charge(50 * KIBIBYTE, Priority::Ordinary).await,
    );
    assert!(waits(pool.open().charge(50 * KIBIBYTE, Priority::Ordinary)).await);
    drop(all);
    assert_eq!(pool.charged(), 0);
    assert!(!waits(budget.charge(50 * KIBIBYTE, Priority::Ordinary)).await);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_given_up_leaves_nobody_short() {
    let pool = Pool::new(Bounds {
        pool: 150 * KIBIBYTE,
        largest: 50 * KIBIBYTE,
        share: 100 * KIBIBYTE,
        reserve: RESERVE,
        keep: 10 * KIBIBYTE,
    });
    let (budget, other) = (pool.open(), pool.open());
    let all = (
        budget.charge(50 * KIBIBYTE, Priority::Ordinary).await,
        budget.charge(50 * KIBIBYTE, Priority::Ordinary).await,
    );
    assert!(waits(other.charge(50 * KIBIBYTE, Priority::Ordinary)).await);
    drop(all);
    assert!(budget.keep(KIBIBYTE).is_some(), "nobody waits any more");
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
    // The peer's responses are let in all the same: somebody waits for them.
    let response = frame::split(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    assert!(!waits(asks.let_in(response, 40, None, &answers)).await);
    unread.truncate(3);
    assert!(!waits(asks.let_in(Err(error()), 1, None, &answers)).await);
}

#[tokio::test(start_paused = true)]
async fn messages_that_nobody_reads_are_dealt_with_a_few_at_a_time() {
    let (pool, answers) = (Pool::new(BOUNDS), Pool::new(BOUNDS).open());
    let (unread, also_unread, read) = (pool.open(), pool.open(), pool.open());
    unread.set_unread(true);
    also_unread.set_unread(true);
    let message = || frame::split(r#"{"jsonrpc":"2.0","method":"notifications/x"}"#);
    let mut turns = Vec::new();
    for _ in 0..unread_turns::unread_turns() {
        let (received, turn) = unread.let_in(message(), 50, None, &answers).await;
        turns.push(turn.expect("it takes a turn"));
        drop(received);
    }
    let mut next = std::pin::pin!(also_unread.let_in(message(), 50, None, &answers));
    assert!(waits(&mut next).await, "all turns are taken");
    assert!(
        waits(unread.let_in(Err(frame::split("{").unwrap_err()), 1, None, &answers)).await,
        "nor is garbage let in"
    );
    let (_, turn) = read.let_in(message(), 50, None, &answers).await;
    assert!(turn.is_none(), "what is read waits for nobody, and nobody for it");
    turns.pop();
    assert!(!waits(next).await);
    unread.set_unread(false);
    assert!(!waits(unread.let_in(message(), 50, None, &answers)).await, "the client reads again");
}
