//! The reference server behind each kind of backend.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use axum::Router;
use reference_server::sse::Endpoint;
use reference_server::{Census, Options, Reference};
use serde_json::Value;
use sessile::{Backend, ChildBackend, HttpBackend, InProcessBackend};
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::common::{Caller, Client, Door, soon, until, ways};

/// What makes this program a server on its stdin and stdout.
pub(crate) const SERVER: &str = "__server";

/// How the proxy reaches its servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Stdio,
    Http,
    Sse,
    InProcess,
}

/// Lists come in pages. What is late comes when its client, which is told to wait for half a second, is there again.
pub(crate) fn options() -> Options {
    Options { late: Duration::from_millis(900), page: NonZeroUsize::new(12) }
}

pub(crate) struct Server {
    pub backend: Backend,
    kind: Kind,
    census: Option<Census>,
    site: Option<SocketAddr>,
}

impl Server {
    pub(crate) async fn start(kind: Kind) -> Self {
        let (options, census) = (options(), Census::default());
        match kind {
            Kind::Stdio => {
                let program = std::env::current_exe().unwrap();
                Self { backend: ChildBackend::new(program).args([SERVER]).into(), kind, census: None, site: None }
            }
            Kind::InProcess => {
                let counted = census.clone();
                let backend = InProcessBackend::rmcp(move || Reference::new(options, &counted));
                Self { backend: backend.into(), kind, census: Some(census), site: None }
            }
            Kind::Http => {
                let site = serve(reference_server::http::router(options, &census)).await;
                Self { backend: web(&format!("http://{site}/mcp")), kind, census: Some(census), site: Some(site) }
            }
            Kind::Sse => {
                let site = serve(reference_server::sse::router(options, &census, Endpoint::Relative)).await;
                Self { backend: web(&format!("http://{site}/sse")), kind, census: Some(census), site: Some(site) }
            }
        }
    }

    /// A client that has not said anything yet, and that reaches the server itself.
    pub(crate) async fn caller(&self, name: &str) -> Caller {
        let client = Client::new(Door::Tcp(self.site.expect("it is on the web")));
        let connection = if self.kind == Kind::Sse { ways::sse(client).await } else { ways::http(client) };
        Caller::new(name, connection)
    }

    /// Waits until so many sessions are left on the server's side, and these processes are gone.
    pub(crate) async fn has_only(&self, sessions: usize, processes: &[u64]) {
        if let Some(census) = &self.census {
            until("the server has forgotten its sessions", || census.count() == sessions).await;
        } else {
            until("the processes are gone", || processes.iter().all(|process| !lives(*process))).await;
        }
        let Some(site) = self.site else { return };
        soon("the upstream sessions are deleted", async {
            while open(site).await != sessions {
                sleep(Duration::from_millis(3)).await;
            }
        })
        .await;
    }
}

/// A process of another number may be there already; one with our own path is one of ours.
fn lives(process: u64) -> bool {
    let Ok(program) = std::fs::read_link(format!("/proc/{process}/exe")) else { return false };
    program == std::env::current_exe().unwrap() && process != u64::from(std::process::id())
}

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { reference_server::serve(listener, router).await });
    address
}

/// What the site itself says of its sessions.
async fn open(site: SocketAddr) -> usize {
    let counted = Client::new(Door::Tcp(site)).request("GET").path("/sessions").send().await.text().await;
    let counted: Value = serde_json::from_str(&counted).unwrap();
    usize::try_from(counted["open"].as_u64().unwrap()).unwrap()
}

/// What a URL is, streamable HTTP or HTTP+SSE, has to be found out.
fn web(url: &str) -> Backend {
    HttpBackend::new(url).unwrap().into()
}
