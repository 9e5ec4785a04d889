//! Backends: the servers that are proxied. A backend carries frames to a server and back, and knows nothing of
//! sessions.
//!
//! A [`Backend`] says how to reach a server. Its `run` is one link's whole life: `run` connects, carries frames both
//! ways until it is told to stop or the server goes away, and returns when nothing of the server is left.

mod auto_grow_pipe;
mod child;
mod configured_token;
mod credentials;
mod delivery;
mod factory;
mod http;
mod in_process;

mod oauth;
mod panics;
mod queue_writer;
#[doc(hidden)]
pub mod spawn;
mod tls;

#[cfg(test)]
mod captured_log;
#[cfg(test)]
#[expect(dead_code, reason = "the integration tests use more of it")]
mod scripted_http;
#[cfg(test)]
mod tests;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;

use crate::link::{LinkContext, LinkOpener};

pub use child::ChildBackend;
pub use http::{HttpBackend, HttpBackendError, Transport};
pub use in_process::{Channel, InProcessBackend};
pub use spawn::Inherit;

/// A server to be proxied. Every session gets a link of its own to it.
#[derive(Clone)]
pub struct Backend(Arc<dyn LinkOpener>);

impl Backend {
    /// A program that speaks MCP on its stdin and stdout.
    pub fn command(child: ChildBackend) -> Self {
        Self(Arc::new(child))
    }

    /// A server that runs in this process.
    pub fn in_process(server: InProcessBackend) -> Self {
        Self(Arc::new(server))
    }

    /// A server behind a URL.
    pub fn http(server: HttpBackend) -> Self {
        Self(Arc::new(server))
    }

    /// A backend whose links are a test's own.
    #[cfg(test)]
    pub(crate) fn of(opener: impl LinkOpener + 'static) -> Self {
        Self(Arc::new(opener))
    }

    /// The names of the headers of a client's request that are passed on with its messages.
    pub(crate) fn forwards(&self) -> Vec<String> {
        self.0.forwards()
    }

    /// Whether its links make the scratch folders that they are given.
    pub(crate) fn makes_scratch(&self) -> bool {
        self.0.makes_scratch()
    }

    /// Runs one link to its end. None of the backend's code runs before the future is polled, and a panic of that code
    /// ends this link and nothing else.
    pub(crate) fn run(&self, context: LinkContext) -> impl Future<Output = ()> + Send + use<> {
        let connect = self.0.clone();
        async move {
            let (session, link_events) = (context.name.clone(), context.link_events.clone());
            let life = async move { connect.run(context).await };
            if let Err(panic) = AssertUnwindSafe(life).catch_unwind().await {
                link_events.closed(panics::exit_of(&session, &*panic));
            }
        }
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
