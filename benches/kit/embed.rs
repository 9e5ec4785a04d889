//! Sessile embedded in a program, served in each way that there is: alone, as a part of a larger application on
//! sessile's own accept loop, and by axum. The server is in the same process, and sends two progress notifications
//! before each answer.

use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;
use axum::serve::ListenerExt as _;
use sessile::{Channel, InProcessBackend, Proxy};
use tokio::net::TcpListener;

use crate::Outcome;
use crate::echo::{Answers, value_of};

/// The argument that makes the bench such a program; one of [`WAYS`] follows.
pub(crate) const EMBEDDED: &str = "--embedded";
/// The ways to serve. The others are compared with the first.
pub(crate) const WAYS: [&str; 3] = ["serve_http", "serve_router", "axum::serve"];

/// Serves until the process is killed.
pub(crate) fn serve(way: &str) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let proxy = Proxy::builder().backend(InProcessBackend::channel(answer)).build()?;
        let app = Router::new().route("/else", get(|| async { "else" })).merge(proxy.clone().into_router());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        eprintln!("listening on http://{}/mcp", listener.local_addr()?);
        match way {
            "serve_http" => proxy.serve_http(listener, std::future::pending()).await?,
            "serve_router" => proxy.serve_router(listener, app, std::future::pending()).await?,
            _ => {
                // `Proxy::into_router` says that these two are needed.
                let listener = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
                axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
            }
        }
        Ok(())
    })
}

async fn answer(Channel { mut incoming, outgoing }: Channel) {
    let mut answers = Answers::default();
    while let Some(message) = incoming.recv().await {
        let Some((id, rest)) = answers.to(&message) else { continue };
        if let Some(token) = value_of(&message, b"\"progressToken\":") {
            for step in [b"1", b"2"] {
                let begin = br#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"#;
                let progress = [&begin[..], token, br#","progress":"#, step, b"}}"].concat();
                let _ = outgoing.send(progress.into()).await;
            }
        }
        let answer = [b"{\"jsonrpc\":\"2.0\",\"id\":", id, rest].concat();
        if outgoing.send(answer.into()).await.is_err() {
            break;
        }
    }
}
