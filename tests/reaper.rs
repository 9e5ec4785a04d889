//! All processes that a server starts are gone when its session is, however the session, the proxy or the reaper ends.
//!
//! This program is the proxy of its own tests: `reaper::init` has to come first in `main`, so it has one, and some
//! tests start it again with a command of theirs (`__proxy ...`) to have a proxy that they can kill.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a test")]

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    linux::main()
}

#[cfg(target_os = "linux")]
#[path = "reaper/linux.rs"]
mod linux;
