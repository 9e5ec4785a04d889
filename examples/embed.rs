//! sessile inside a larger axum application that has routes of its own: each session has a server in this process, and
//! the end waits for the calls in flight.
//!
//!     cargo run --example embed
//!     cargo run --example embed -- 127.0.0.1:0
//!
//! Point a client at the URL that the example prints; `/sessions` tells how many sessions there are.

use std::error::Error;

use axum::Router;
use axum::routing::get;
use sessile::demo::Demo;
use sessile::{InProcessBackend, Proxy, SessionSettings};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8808".to_owned());

    // `Demo::new` is called once for each session: what it makes is that session's own. Any rmcp server can stand here.
    let proxy = Proxy::builder()
        .backend(InProcessBackend::rmcp(Demo::new))
        .session(SessionSettings { max_sessions: Some(100), ..SessionSettings::default() })
        .build()?;

    // Clones are the same proxy: one becomes a part of the application, the other serves the application.
    let sessions = proxy.sessions();
    let app = Router::new()
        .route("/sessions", get(move || async move { format!("{}\n", sessions.len()) }))
        .merge(proxy.clone().into_router());

    let listener = TcpListener::bind(address).await?;
    eprintln!("embed: listening on http://{}/mcp", listener.local_addr()?);

    // Sessile's own accept loop: small messages are sent at once, handlers know the client's address, and at the end
    // the proxy is shut down first, because open streams last as long as their clients like.
    proxy
        .serve_router(listener, app, async {
            let _ = tokio::signal::ctrl_c().await;
        })
        .await?;
    Ok(())
}
