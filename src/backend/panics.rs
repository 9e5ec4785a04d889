//! What becomes of a link whose own code panics: that is a defect in sessile, and ends this link and nothing else.
//!
//! The session has to be told. One whose link vanished without a word would wait for its answers for ever.

use std::any::Any;

use tokio::task::JoinError;
use tracing::error;

use crate::link::LinkExit;

/// The exit of a link, a task of which has panicked: the server may live, and nobody listens to it any more.
pub(super) fn exit(session: &str, error: JoinError) -> LinkExit {
    match error.try_into_panic() {
        Ok(panic) => exit_of(session, &*panic),
        // Nobody cancels it but a runtime that shuts down.
        Err(error) => LinkExit::Lost { reason: error.to_string() },
    }
}

/// The same, where the panic itself was caught.
pub(super) fn exit_of(session: &str, panic: &(dyn Any + Send)) -> LinkExit {
    error!(session, panic = message(panic), "the link to the backend panicked");
    LinkExit::Lost { reason: "the link to it failed within sessile".to_owned() }
}

/// What a panic says, as far as it is text. It is for the log: it was not written for clients, and may quote what they must
/// not see.
pub(super) fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no text)")
}
