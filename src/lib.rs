//! **sessile**, the stateful session proxy for MCP: every client session gets its own live backend.
//!
//! An MCP server such as a browser, a database session or a debugger holds state. [`Proxy`] stands between such servers
//! and their clients: it starts a server for each client session, carries everything both ways as it is, keeps the
//! server for as long as the session lives, and leaves nothing behind when it ends.
//!
//! - [`Proxy::serve_http`] serves streamable HTTP and HTTP+SSE, [`Proxy::serve_router`] a larger application of which
//!   [`Proxy::into_router`] is a part, [`Proxy::serve_stdio`] stdin and stdout, and [`Proxy::serve`] any rmcp
//!   transport.
//! - [`ChildBackend`] is a program that speaks on its stdin and stdout, [`HttpBackend`] a server behind a URL,
//!   [`InProcessBackend`] any rmcp server in this process. [`ProxyBuilder::config`] takes all of a [`ConfigFile`].
//! - [`ProxyBuilder::server`] adds one of several servers that appear as one; a [`Filter`] says what of a server is
//!   offered.
//! - [`HttpSettings::tokens`] asks clients for tokens; a [`Principal`] says who calls, and whose a session is.
//! - [`Proxy::sessions`] lists sessions and ends them.
//!
//! A program that uses child processes calls [`reaper::init`] first in its `main`.

mod assemble;
pub mod backend;
mod budget;
pub mod config;
/// The demo server.
pub mod demo {
    #[doc(inline)]
    pub use sessile_demo::{Demo, DemoError};
}
mod error;
mod frame;
mod front;
/// What `fuzz/` drives the scanner with. No part of the API.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::frame::{Frame, FrameErrorKind, Id, Incoming, LONGEST_ID, split};
}
mod headers;
mod lines;
mod link;
mod mcp;
mod principal;
mod proxy;
pub mod reaper;
mod session;
mod sessions;
pub mod tokens;

pub use backend::{Backend, Channel, ChildBackend, HttpBackend, HttpBackendError, InProcessBackend, Transport};
pub use config::{
    AddressRange, Announce, ConfigError, ConfigFile, Filter, FilterError, HttpSettings, KeyKind, OAuthFlow,
    OAuthSettings, Offered, Secret, SessionSettings,
};
pub use error::code;
pub use link::{CredentialsOwner, Exit, LinkExit, RequestFailure};
pub use principal::Principal;
pub use proxy::{BytesUnderWay, Proxy, ProxyBuilder};
pub use session::{EndReason, ServerInfo, ServerState, SessionId};
pub use sessions::{SessionInfo, Sessions};
