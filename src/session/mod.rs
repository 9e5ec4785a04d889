//! Sessions: who they are, how they are found, what they decide and who carries it out.
//!
//! [`state`] is the pure core. [`actor`] is its shell, one ractor actor a session; [`supervisor`] spawns the actors and
//! is the only one to do so; [`registry`] finds a session by its key. Nothing in here speaks HTTP.

mod actor;
mod handle;
mod inlet;
mod key;
mod noise;
mod registry;
mod server;
mod state;
mod supervisor;
mod union;

use std::sync::Arc;
use std::time::Duration;

use crate::backend::LinkExit;
use crate::error::Fault;

pub(crate) use handle::{Outgoing, SessionHandle, Stream};
pub use key::SessionId;
pub(crate) use key::{Caller, Credentials, SessionSecret, Transport};
pub(crate) use registry::Registry;
pub use server::{ServerInfo, ServerState};
pub(crate) use state::{Attachment, Limits, Received, Role, StreamId, StreamKind};
pub(crate) use supervisor::{Charged, FoundBy, Fresh, Opener, Plan, Refused, new_token};
pub(crate) use union::{Server, Servers};

/// Why a session ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum EndReason {
    /// Its client sent DELETE.
    Deleted,
    /// Its client's only connection closed, or the client left before the session was open.
    ClientLeft,
    /// It was ended through [`Sessions::end`](crate::Sessions::end) or [`Sessions::clear`](crate::Sessions::clear).
    Cleared,
    /// It was idle for that long.
    Idle {
        /// The idle timeout.
        after: Duration,
    },
    /// Its client's only connection was not read for a while, and the memory of what waited for it was needed for others.
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
            Self::Idle { .. } => "idle",
            Self::ClientStalled => "client stalled",
            Self::Shutdown => "shutdown",
            Self::Refused => "refused",
            Self::BackendGone(_) => "backend gone",
            Self::Failed => "failed",
        }
    }

    /// What the calls in flight are told.
    fn fault(&self, session: &Arc<str>, opened: bool, expose_stderr: bool) -> Fault {
        match self {
            Self::BackendGone(exit) => exit.fault(session, opened, expose_stderr),
            Self::Shutdown => Fault::ShuttingDown,
            Self::Deleted
            | Self::ClientLeft
            | Self::ClientStalled
            | Self::Cleared
            | Self::Idle { .. }
            | Self::Refused
            | Self::Failed => Fault::SessionEnded { reason: self.name(), session: session.clone() },
        }
    }
}
