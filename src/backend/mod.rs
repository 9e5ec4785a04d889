//! Backends: the servers being proxied. Bytes on one side, frames on the other; no knowledge of sessions.
//!
//! A [`Backend`] says how to reach a server. Its `run` is one link's whole life: it connects, carries frames both
//! ways until it is told to stop or the server goes away, and returns when nothing of the server is left.

mod child;
mod growing;
mod in_process;
mod link;
#[doc(hidden)]
pub mod spawn;

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::frame::{FrameError, Id, Incoming, Permit, Wire};

pub use child::ChildBackend;
pub use in_process::{Channel, InProcessBackend};

/// How a server process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this exit status.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
    /// It closed its input or output or does not read, or it is not a process.
    Closed,
}

/// How a link ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkExit {
    /// The server was there, and is gone.
    Exited {
        /// How it ended.
        exit: Exit,
        /// The last lines of its stderr, oldest first, with configured secrets masked.
        stderr: Vec<String>,
    },
    /// The server could not be started or reached.
    Failed {
        /// Why, in words for the person who configured it.
        reason: String,
    },
}

/// A server to be proxied: every session gets one of its own.
#[derive(Clone)]
pub struct Backend(Arc<dyn Connect>);

impl Backend {
    /// A program that speaks MCP on its stdin and stdout.
    pub fn command(child: ChildBackend) -> Self {
        Self(Arc::new(child))
    }

    /// A server that runs in this process.
    pub fn in_process(server: InProcessBackend) -> Self {
        Self(Arc::new(server))
    }

    pub(crate) fn run(&self, launch: Launch) -> BoxFuture<'static, ()> {
        self.0.run(launch)
    }
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.describe())
    }
}

impl From<ChildBackend> for Backend {
    fn from(child: ChildBackend) -> Self {
        Self::command(child)
    }
}

impl From<InProcessBackend> for Backend {
    fn from(server: InProcessBackend) -> Self {
        Self::in_process(server)
    }
}

/// What one link needs to run.
pub(crate) struct Launch {
    /// A name for logs.
    pub name: Arc<str>,
    /// A folder that this link may make for its server, and removes at its end.
    pub scratch: PathBuf,
    /// The largest message, in bytes.
    pub message_size: usize,
    /// Where the server's messages go.
    pub inlet: Arc<dyn Inlet>,
    /// What goes to the server. When it ends, so does the link.
    pub outgoing: mpsc::Receiver<Wire>,
    /// Ends the link: gently first, then for certain.
    pub stop: CancellationToken,
}

/// Where a link delivers what its server says.
pub(crate) trait Inlet: Send + Sync {
    /// Waits for room for a message of so many bytes that asks or tells something.
    fn admit(&self, bytes: usize) -> BoxFuture<'_, Option<Permit>>;
    /// Takes what room there is for an answer, which must not wait.
    fn admit_now(&self, bytes: usize) -> Option<Permit>;
    /// Messages of the server, in the order in which they came.
    fn deliver(&self, frames: Result<Incoming, FrameError>);
    /// A message that was too large and is gone.
    fn oversized(&self, id: Option<Id>, request: bool, size: usize);
    /// The server runs under this process id.
    fn started(&self, pid: u32);
    /// The server is gone. Nothing follows.
    fn closed(&self, exit: LinkExit);
}

pub(crate) trait Connect: Send + Sync {
    fn run(&self, launch: Launch) -> BoxFuture<'static, ()>;
    fn describe(&self) -> String;
}
