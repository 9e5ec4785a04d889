//! Lists the sessions of a proxy and ends one of them, as an operator's page or command would do.
//!
//!     cargo run --example watch_sessions
//!
//! The example needs no other program: two rmcp clients connect in this process, each gets a server of its own, and one
//! session is ended.

#![expect(clippy::print_stdout, reason = "an example prints what it does")]

use std::error::Error;

use rmcp::ServiceExt as _;
use rmcp::model::CallToolRequestParams;
use sessile::demo::Demo;
use sessile::{InProcessBackend, Proxy, Sessions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let proxy = Proxy::builder().backend(InProcessBackend::rmcp(Demo::new)).build()?;
    let sessions = proxy.sessions();

    // A proxy serves any rmcp transport; a pipe in this process is the shortest of them.
    let connect = || {
        let (client_end, proxy_end) = tokio::io::duplex(64 * 1024);
        let proxy = proxy.clone();
        tokio::spawn(async move { proxy.serve(tokio::io::split(proxy_end)).await });
        client_end
    };
    let first = ().serve(connect()).await?;
    let second = ().serve(connect()).await?;

    // Each client counts for itself.
    for (client, times) in [(&first, 3), (&second, 1)] {
        for _ in 0..times {
            client.call_tool(CallToolRequestParams::new("increment")).await?;
        }
        let value = client.call_tool(CallToolRequestParams::new("counter")).await?;
        let text = value.content.first().and_then(|content| content.as_text());
        println!("counter: {}", text.map_or("?", |text| &text.text));
    }

    show(&sessions);
    if let Some(oldest) = sessions.list().first() {
        println!("ending {}", oldest.id);
        sessions.end(oldest.id).await;
    }
    show(&sessions);

    assert!(
        first.call_tool(CallToolRequestParams::new("counter")).await.is_err(),
        "the session of this client was ended"
    );
    second.call_tool(CallToolRequestParams::new("counter")).await?;

    proxy.shutdown().await;
    show(&sessions);
    Ok(())
}

fn show(sessions: &Sessions) {
    println!("{} sessions, {} links to backends", sessions.len(), sessions.links());
    for session in sessions.list() {
        println!(
            "  {}  client {:?}  protocol {:?}  servers {:?}  idle {:?}  in flight {}",
            session.id, session.client, session.version, session.servers, session.idle_for, session.calls_in_flight
        );
    }
}
