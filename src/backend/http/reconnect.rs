//! How often and how fast a stream of events is opened again. Pure.

use std::time::Duration;

use super::position::StreamProgress;

/// The first wait before a stream is opened again, and the longest.
const FIRST_RECONNECT_DELAY: Duration = Duration::from_secs(1);
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(60);
/// What a server may set that wait to.
const MIN_SERVER_RETRY: Duration = Duration::from_millis(50);
const MAX_SERVER_RETRY: Duration = Duration::from_secs(300);
/// Most attempts to resume a call's stream without an event in between, and how long they go on.
pub(super) const MAX_RESUMES: u32 = 8;
pub(super) const RESUME_PERIOD: Duration = Duration::from_secs(300);
/// A stream that was open for so long was no failure, even if nothing came on it.
const LASTING_STREAM: Duration = Duration::from_secs(10);
/// How many streams in a row may end without a message before the next ones have to wait longer than the server says.
const FREE_POLLS: u32 = 4;

/// How fast a stream that ends is opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ReconnectPace {
    /// Attempts in a row that came to nothing.
    pub failures: u32,
    /// Streams in a row that brought positions only: the server lets its client poll.
    pub polls: u32,
}

impl ReconnectPace {
    /// A stream has ended that was open for so long. True if it was no failure.
    pub(super) fn ended(&mut self, progress: StreamProgress, after: Duration) -> bool {
        match progress {
            StreamProgress::Messages => *self = Self::default(),
            _ if after > LASTING_STREAM => *self = Self::default(),
            StreamProgress::PositionsOnly => *self = Self { failures: 0, polls: self.polls.saturating_add(1) },
            StreamProgress::Nothing => return false,
        }
        true
    }

    /// How long to wait before the stream is opened again: as the server says, longer after failures, and no less than a
    /// second for a server that lets its client poll without an end. `random` spreads those who were cut off together.
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
