//! Why a session ends, and what its calls in flight are told.

use std::sync::Arc;
use std::time::Duration;

use crate::error::ProxyError;
use crate::link::LinkExit;

/// Why a session ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum EndReason {
    /// Its client sent DELETE.
    Deleted,
    /// Its client's only connection closed, or the client left before the session was open.
    ClientLeft,
    /// The session was ended through [`Sessions::end`](crate::Sessions::end) or
    /// [`Sessions::clear`](crate::Sessions::clear).
    Cleared,
    /// Its principal may call no more: the last token of that name was taken out of the file.
    Revoked,
    /// The session was idle for that long.
    Idle {
        /// The idle timeout.
        after: Duration,
    },
    /// Its client's only connection was not read for a while, and the memory of what waited for it was needed for
    /// others.
    ClientStalled,
    /// The proxy shut down.
    Shutdown,
    /// The server refused or never answered the handshake.
    Refused,
    /// Its server exited, or never started.
    BackendGone(LinkExit),
    /// A defect in sessile itself; only this session is affected.
    Failed,
}

impl EndReason {
    pub(crate) fn from_exit(exit: LinkExit) -> Self {
        Self::BackendGone(exit)
    }

    /// One word for logs and for the `data` of errors.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::ClientLeft => "client left",
            Self::Cleared => "cleared",
            Self::Revoked => "revoked",
            Self::Idle { .. } => "idle",
            Self::ClientStalled => "client stalled",
            Self::Shutdown => "shutdown",
            Self::Refused => "refused",
            Self::BackendGone(_) => "backend gone",
            Self::Failed => "failed",
        }
    }

    /// What the calls in flight are told.
    pub(super) fn request_error(&self, session: (&Arc<str>, u64), opened: bool, expose_stderr: bool) -> ProxyError {
        match self {
            Self::BackendGone(exit) => exit.request_error(session, opened, expose_stderr),
            Self::Shutdown => ProxyError::ShuttingDown,
            Self::Deleted
            | Self::ClientLeft
            | Self::ClientStalled
            | Self::Cleared
            | Self::Revoked
            | Self::Idle { .. }
            | Self::Refused
            | Self::Failed => ProxyError::SessionEnded { reason: self.name(), session: session.0.clone() },
        }
    }
}
