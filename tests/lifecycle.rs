//! What time does to sessions. The clock is paused: an hour takes no time, and a second too many is seen.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test has failed it")]

mod common;

#[path = "lifecycle/ends.rs"]
mod ends;
#[path = "lifecycle/idle.rs"]
mod idle;
#[path = "lifecycle/timeouts.rs"]
mod timeouts;

use std::time::Duration;

use sessile::{HttpSettings, SessionSettings};

use crate::common::Harness;

fn harness(session: SessionSettings) -> Harness {
    Harness::in_process(session, HttpSettings::default())
}

async fn after(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
