//! Servers and clients that break the rules, do not read, or do not stop: they harm nobody but themselves.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test has failed it")]

mod common;

#[path = "hostile/answers.rs"]
mod answers;
#[path = "hostile/clients.rs"]
mod clients;
#[path = "hostile/floods.rs"]
mod floods;
#[path = "hostile/servers.rs"]
mod servers;
#[path = "hostile/sizes.rs"]
mod sizes;
#[path = "hostile/stalled.rs"]
mod stalled;
