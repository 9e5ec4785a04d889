//! Sessions: who they are, how they are found, what they decide and who carries it out.
//!
//! [`state`] is the pure core. [`actor`] is its shell, one ractor actor a session; [`supervisor`] spawns the actors and
//! is the only one to do so; [`registry`] finds a session by its keys. [`links`] opens
//! the links to the session's servers. Nothing in here speaks HTTP.

mod actor;
mod connection;
mod facts;
mod handle;
mod key;
mod limits;
mod link_events;
mod link_phase;
mod links;
mod log_throttle;
mod lost_keys;
mod mailbox;
mod opening;
mod plan;
mod registry;
mod server;
mod state;
mod supervisor;
mod supervisor_handle;
mod union;

pub(crate) use connection::{MessageToClient, StreamConnection};
pub(crate) use handle::SessionHandle;
pub use key::SessionId;
pub(crate) use key::{Caller, ClientTransport, Credentials, SessionKey, SessionSecret};
pub(crate) use limits::Limits;
pub(crate) use opening::{FoundBy, JoinBy, SessionRequest, UnclaimedSession, new_token};
pub(crate) use plan::SessionPlan;
pub(crate) use registry::{ListedSession, Registry};
pub use server::{ServerInfo, ServerState};
pub use state::EndReason;
pub(crate) use state::{Attachment, MessageRole, Received, RespondOn, StreamId, StreamKind};
pub(crate) use supervisor::Refused;
pub(crate) use supervisor_handle::{ChargedToSessions, SupervisorHandle};
pub(crate) use union::{ConfiguredServer, Servers};
