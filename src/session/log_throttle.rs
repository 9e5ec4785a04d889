//! Bounds how often a peer can make sessile log something: a peer may send bad messages without end.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The window in which at most [`MOST_PER_WINDOW`] events of one source are logged.
const WINDOW: Duration = Duration::from_secs(10);
const MOST_PER_WINDOW: u64 = 10;

/// Counts the events of one source.
#[derive(Debug, Default)]
pub(super) struct LogThrottle(Mutex<WindowCounts>);

#[derive(Debug, Default)]
struct WindowCounts {
    began: Option<Instant>,
    logged: u64,
    suppressed: u64,
}

impl LogThrottle {
    /// Whether the next event is to be logged; if so, how many were suppressed since the last one that was.
    pub(super) fn admit(&self) -> Option<u64> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.began.is_none_or(|began| began.elapsed() >= WINDOW) {
            counts.began = Some(Instant::now());
            counts.logged = 0;
        }
        if counts.logged >= MOST_PER_WINDOW {
            counts.suppressed += 1;
            return None;
        }
        counts.logged += 1;
        Some(std::mem::take(&mut counts.suppressed))
    }
}

#[cfg(test)]
#[tokio::test(start_paused = true)]
async fn a_flood_is_logged_now_and_then() {
    let throttle = LogThrottle::default();
    let logged = |times: u32| (0..times).filter_map(|_| throttle.admit()).collect::<Vec<_>>();
    assert_eq!(logged(100), [0; 10]);
    tokio::time::sleep(WINDOW).await;
    assert_eq!(logged(5), [90, 0, 0, 0, 0]);
}
