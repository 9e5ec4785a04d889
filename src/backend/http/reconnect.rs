//! How often and how fast a stream of events is opened again. Pure.

use std::time::Duration;

use super::position::StreamProgress;

/// How long to wait before a stream is opened again the first time, and at most after many failures.
const FIRST_RECONNECT_DELAY: Duration = Duration::from_secs(1);
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(60);
/// The bounds of the wait that a server may set with `retry`.
const MIN_SERVER_RETRY: Duration = Duration::from_millis(50);
const MAX_SERVER_RETRY: Duration = Duration::from_secs(300);
/// How many attempts in a row to resume a call's stream may bring no event, and for how long attempts go on.
pub(super) const MAX_RESUMES: u32 = 8;
pub(super) const RESUME_PERIOD: Duration = Duration::from_secs(300);
/// How long a stream has to be open to count as a success even if no event came on it.
const LASTING_STREAM: Duration = Duration::from_secs(10);
/// How many streams in a row may end without a message before the wait grows past the server's `retry`: a server that
/// lets its client poll with a `retry` of 0 would keep both busy for ever.
const FREE_POLLS: u32 = 4;

/// How fast a stream that ends is opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ReconnectPace {
    /// Attempts in a row that failed.
    pub failures: u32,
    /// Streams in a row that ended without a message, as those of a server do that lets its client poll.
    pub polls: u32,
}

impl ReconnectPace {
    /// Counts the end of a stream that was open for `after`. Returns whether that stream was a success.
    pub(super) fn ended(&mut self, progress: StreamProgress, after: Duration) -> bool {
        match progress {
            StreamProgress::Messages => *self = Self::default(),
            _ if after > LASTING_STREAM => *self = Self::default(),
            StreamProgress::PositionsOnly => *self = Self { failures: 0, polls: self.polls.saturating_add(1) },
            StreamProgress::Nothing => return false,
        }
        true
    }

    /// Returns how long to wait before the stream is opened again: as long as the server says, longer after failures,
    /// and up to a second for a server that lets its client poll without end. `random` adds up to a quarter, so that
    /// clients whose streams broke at the same moment do not all come back at the same moment.
    pub(super) fn wait(self, retry: Option<Duration>, random: u32) -> Duration {
        let shortest = MIN_SERVER_RETRY
            .saturating_mul(1 << self.polls.saturating_sub(FREE_POLLS).min(10))
            .min(FIRST_RECONNECT_DELAY);
        let asked = retry.map(|retry| retry.clamp(shortest, MAX_SERVER_RETRY));
        let backoff = match self.failures {
            0 => asked.unwrap_or(FIRST_RECONNECT_DELAY),
            failures => FIRST_RECONNECT_DELAY.saturating_mul(1 << (failures - 1).min(10)).min(MAX_RECONNECT_DELAY),
        };
        let wait = backoff.max(asked.unwrap_or_default());
        wait + wait.mul_f64(f64::from(random) / f64::from(u32::MAX) / 4.0)
    }
}
