//! Sessions with any number of messages: every session whose peer reads gets all of them through.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::{sleep, timeout};

use super::{BOUNDS, KIBIBYTE, LONG_ENOUGH};
use crate::budget::{Budget, Held, OVERHEAD, Pool, Priority, RESERVE};
use crate::frame::Permit;

/// One session of the property below: the sizes of its messages, and whether its peer reads them.
#[derive(Debug, Clone)]
struct Load {
    sizes: Vec<usize>,
    reads: bool,
}

fn load() -> impl Strategy<Value = Load> {
    let size =
        prop_oneof![4 => 1..30 * KIBIBYTE, 2 => 30 * KIBIBYTE..100 * KIBIBYTE, 1 => 100 * KIBIBYTE..390 * KIBIBYTE];
    (prop::collection::vec(size, 1..12), any::<bool>()).prop_map(|(sizes, reads)| Load { sizes, reads })
}

/// A message that a peer has not read.
type UnreadMessage = (Permit, Option<Held>);

/// Receives the messages of one session one after another, and hands each to the other peer, which reads them or does
/// not. A peer that does not read loses its queue when it is asked to give way.
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
            received = size.min(received + 40 * KIBIBYTE);
            growth.reach(received).await;
            growth.received(40 * KIBIBYTE);
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
    // A peer that does not read stays connected for as long as it is allowed to.
    if !load.reads {
        sleep(LONG_ENOUGH * 24).await;
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
            timeout(LONG_ENOUGH, all).await.expect("a session is starved");
            tasks.iter().for_each(tokio::task::JoinHandle::abort);
            for task in tasks {
                let _ = task.await;
            }
            assert_eq!(pool.charged(), 0, "something is charged to nobody");
        });
    }
}
