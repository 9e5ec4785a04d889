//! The program as people run it: its command line, its files, and `sessile check`.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "what goes wrong in a test has failed it")]

#[path = "cli/check.rs"]
mod check;
#[path = "cli/descriptors.rs"]
mod descriptors;
#[path = "cli/environment.rs"]
mod environment;
#[path = "cli/precedence.rs"]
mod precedence;
#[path = "cli/program.rs"]
mod program;
#[path = "cli/recipes.rs"]
mod recipes;
#[path = "cli/secrets.rs"]
mod secrets;
#[path = "cli/tokens.rs"]
mod tokens;
#[path = "cli/usage.rs"]
mod usage;
