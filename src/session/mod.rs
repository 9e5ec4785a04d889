//! Sessions: who they are, how they are found, what they decide and who carries it out.
//!
//! [`state`] is the pure core. [`actor`] is its shell, one ractor actor a session; [`supervisor`] spawns the actors and
//! is the only one to do so; [`registry`] finds a session by its key. Nothing in here speaks HTTP.

mod actor;
mod connection;
mod handle;
mod inlet;
mod key;
mod limits;
mod link_phase;
mod links;
mod mailbox;
mod noise;
mod plan;
mod registry;
mod server;
mod shared;
mod state;
mod supervisor;
mod supervisor_handle;
mod union;

pub(crate) use connection::{Outgoing, Stream};
pub(crate) use handle::SessionHandle;
pub use key::SessionId;
pub(crate) use key::{Caller, Credentials, SessionSecret, Transport};
pub(crate) use limits::Limits;
pub(crate) use plan::SessionPlan;
pub(crate) use registry::Registry;
pub use server::{ServerInfo, ServerState};
pub use state::EndReason;
pub(crate) use state::{Attachment, Received, RespondOn, Role, StreamId, StreamKind};
pub(crate) use supervisor::{FoundBy, Refused, UnclaimedSession, new_token};
pub(crate) use supervisor_handle::{ChargedToSessions, SupervisorHandle};
pub(crate) use union::{ConfiguredServer, Servers};
