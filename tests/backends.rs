//! HTTP servers that break, hang, lie or never stop: the client concerned gets a clear error, no other client notices,
//! and nothing is left behind.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test has failed it")]

mod common;

#[path = "backends/answers.rs"]
mod answers;
#[path = "backends/cuts.rs"]
mod cuts;
#[path = "backends/harness.rs"]
mod harness;
#[path = "backends/limits.rs"]
mod limits;
#[path = "backends/lost.rs"]
mod lost;
#[path = "backends/sse.rs"]
mod sse;
#[path = "backends/streams.rs"]
mod streams;
