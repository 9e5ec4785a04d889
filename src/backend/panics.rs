//! Turns a panic in a link's own code into the link's exit. The panic is a defect in sessile, and ends this link and
//! nothing else.
//!
//! The session has to be told: a session whose link vanished without a word would wait for its responses for ever.

use std::any::Any;

use tokio::task::JoinError;
use tracing::error;

use crate::link::LinkExit;

/// Returns the exit of a link one of whose tasks has panicked. The server may still run, but nobody reads what it says.
pub(super) fn exit(session: &str, error: JoinError) -> LinkExit {
    match error.try_into_panic() {
        Ok(panic) => exit_of(session, &*panic),
        // Without a panic the task was cancelled, which only a runtime does that shuts down.
        Err(error) => LinkExit::Lost { reason: error.to_string() },
    }
}

/// Returns the exit of a link whose panic was caught.
pub(super) fn exit_of(session: &str, panic: &(dyn Any + Send)) -> LinkExit {
    error!(session, panic = message(panic), "the link to the backend panicked");
    LinkExit::Lost { reason: "the link to it failed within sessile".to_owned() }
}

/// Returns the message of a panic. It is for the log only: it was not written for clients, and may quote what they must
/// not see.
pub(super) fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no text)")
}
