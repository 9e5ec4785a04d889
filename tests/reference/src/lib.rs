//! A handshake-era MCP server that can do everything: the tools, resources and prompts that the conformance suite calls
//! by name, and more that sessile's tests find useful (state, floods, crashes, server requests, stray processes).
//!
//! It is deliberately a typed `rmcp` server and no scripted peer: what a message looks like byte by byte is tested
//! elsewhere. A test can have it in its own process: [`Reference`] is an `rmcp` server, [`http::router`] and
//! [`sse::router`] are its sites, and a [`SessionCounter`] knows how many sessions are left.
#![expect(deprecated, reason = "logging is deprecated in the modern era, and this server is of the other one")]

mod catalog;
mod extras;
pub mod http;
mod prompts;
mod resources;
mod server;
mod server_requests;
pub mod sse;
mod tools;

use axum::{Router, serve::ListenerExt as _};
use tokio::net::TcpListener;

pub use server::{Options, Reference, SessionCounter};

/// What can end the server early.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Serves one client on stdin and stdout until it leaves.
pub async fn serve_stdio(options: Options) -> Result<(), Failure> {
    use rmcp::{ServiceExt as _, transport::io::stdio_pipes};
    Reference::new(options, &SessionCounter::default()).serve(stdio_pipes()).await?.waiting().await?;
    Ok(())
}

/// Serves a service until the process ends. Small messages leave at once: held back by Nagle's algorithm, each would
/// take 40 ms.
pub async fn serve(listener: TcpListener, router: Router) -> Result<(), Failure> {
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            eprintln!("reference-server: a connection will be slow: {error}");
        }
    });
    Ok(axum::serve(listener, router).await?)
}
