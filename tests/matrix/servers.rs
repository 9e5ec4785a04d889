//! The reference server behind each kind of backend.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use axum::Router;
use reference_server::sse::Endpoint;
use reference_server::{Options, Reference, SessionCounter};
use serde_json::Value;
use sessile::{Backend, ChildBackend, HttpBackend, InProcessBackend};
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::common::{HttpClient, HttpEndpoint, NamedClient, soon, transports, until};

/// What makes this program a server on its stdin and stdout.
pub(crate) const SERVER: &str = "__server";

/// How the proxy reaches its servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BackendKind {
    Stdio,
    Http,
    Sse,
    InProcess,
}

/// Lists come in pages. What is late comes when its client, which is told to wait for half a second, is there again.
pub(crate) fn options() -> Options {
    Options { late: Duration::from_millis(900), page: NonZeroUsize::new(12) }
}

pub(crate) struct ReferenceBackend {
    pub backend: Backend,
    kind: BackendKind,
    counter: Option<SessionCounter>,
    site: Option<SocketAddr>,
}

impl ReferenceBackend {
    pub(crate) async fn start(kind: BackendKind) -> Self {
        let (options, counter) = (options(), SessionCounter::default());
        match kind {
            BackendKind::Stdio => {
                let program = std::env::current_exe().unwrap();
                Self { backend: ChildBackend::new(program).args([SERVER]).into(), kind, counter: None, site: None }
            }
            BackendKind::InProcess => {
                let shared = counter.clone();
                let backend = InProcessBackend::rmcp(move || Reference::new(options, &shared));
                Self { backend: backend.into(), kind, counter: Some(counter), site: None }
            }
            BackendKind::Http => {
                let site = serve(reference_server::http::router(options, &counter)).await;
                Self {
                    backend: http_backend(&format!("http://{site}/mcp")),
                    kind,
                    counter: Some(counter),
                    site: Some(site),
                }
            }
            BackendKind::Sse => {
                let site = serve(reference_server::sse::router(options, &counter, Endpoint::Relative)).await;
                Self {
                    backend: http_backend(&format!("http://{site}/sse")),
                    kind,
                    counter: Some(counter),
                    site: Some(site),
                }
            }
        }
    }

    /// A client that has not said anything yet, and that reaches the server itself.
    pub(crate) async fn client(&self, name: &str) -> NamedClient {
        let client = HttpClient::new(HttpEndpoint::Tcp(self.site.expect("it has a port")));
        let connection =
            if self.kind == BackendKind::Sse { transports::sse(client).await } else { transports::http(client) };
        NamedClient::new(name, connection)
    }

    /// Waits until so many sessions are left on the server's side, and these processes are gone.
    pub(crate) async fn has_only(&self, sessions: usize, processes: &[u64]) {
        if let Some(counter) = &self.counter {
            until("the server has forgotten its sessions", || counter.count() == sessions).await;
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
    let counted = HttpClient::new(HttpEndpoint::Tcp(site)).request("GET").path("/sessions").send().await.text().await;
    let counted: Value = serde_json::from_str(&counted).unwrap();
    usize::try_from(counted["open"].as_u64().unwrap()).unwrap()
}

/// What a URL is, streamable HTTP or HTTP+SSE, has to be found out.
fn http_backend(url: &str) -> Backend {
    HttpBackend::new(url).unwrap().into()
}
