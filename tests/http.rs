//! The streamable HTTP front over TCP: handshake, statuses, streams, resumption, batches, and the bytes of what is
//! relayed.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test has failed it")]

mod common;

#[path = "http/batches.rs"]
mod batches;
#[path = "http/forwarded.rs"]
mod forwarded;
#[path = "http/handshake.rs"]
mod handshake;
#[path = "http/relay.rs"]
mod relay;
#[path = "http/resume.rs"]
mod resume;
#[path = "http/statuses.rs"]
mod statuses;
#[path = "http/streams.rs"]
mod streams;
