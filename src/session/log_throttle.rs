//! How often a log is told of what a peer can make happen without end.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a time is in which only so much is told.
const TIME: Duration = Duration::from_secs(10);
/// How much is told in it.
const MOST: u64 = 10;

/// Counts what there is to be told of one source.
#[derive(Debug, Default)]
pub(super) struct LogThrottle(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    since: Option<Instant>,
    told: u64,
    quiet: u64,
}

impl LogThrottle {
    /// How many times it was kept quiet about since it was last told; `None` if it is to be kept quiet now.
    pub(super) fn tell(&self) -> Option<u64> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.since.is_none_or(|since| since.elapsed() >= TIME) {
            counts.since = Some(Instant::now());
            counts.told = 0;
        }
        if counts.told >= MOST {
            counts.quiet += 1;
            return None;
        }
        counts.told += 1;
        Some(std::mem::take(&mut counts.quiet))
    }
}

#[cfg(test)]
#[tokio::test(start_paused = true)]
async fn a_flood_is_told_of_now_and_then() {
    let log_throttle = LogThrottle::default();
    let told = |times: u32| (0..times).filter_map(|_| log_throttle.tell()).collect::<Vec<_>>();
    assert_eq!(told(100), [0; 10]);
    tokio::time::sleep(TIME).await;
    assert_eq!(told(5), [90, 0, 0, 0, 0]);
}
