//! The composition root: serves a proxy, drains it, stops it. [`builder`] puts it together.

mod builder;

use std::io;
use std::sync::Arc;

use axum::Router;
use futures_util::future::{BoxFuture, join_all};
use http::HeaderName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tracing::warn;

use crate::backend::Backend;
use crate::config::{HttpSettings, KeyKind};
use crate::front;
use crate::session::{ChargedToSessions, EndReason, SupervisorHandle};
use crate::sessions::{Sessions, wait_for_teardown};

pub use builder::ProxyBuilder;

/// A proxy that gives every client session its own live backend.
///
/// Clones are the same proxy, and so are routers made of it. When the last one is dropped, its sessions end; a
/// [`Sessions`] handle does not keep them alive.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use sessile::{ChildBackend, Proxy};
///
/// let proxy = Proxy::builder().backend(ChildBackend::new("my-mcp-server")).build()?;
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:8808").await?;
/// proxy.serve_http(listener, async { let _ = tokio::signal::ctrl_c().await; }).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Proxy {
    supervisor: Arc<SupervisorHandle>,
    /// HTTP+SSE streams that have no session yet.
    waiting: Arc<front::http::WaitingStreams>,
    /// Who says who calls over HTTP. All routers share it, so that a token is taken out of all of them.
    authentication: front::http::Authentication,
    http: HttpSettings,
}

impl Proxy {
    /// Begins a new proxy.
    pub fn builder() -> ProxyBuilder {
        ProxyBuilder::default()
    }

    /// Serves streamable HTTP at `/mcp` and HTTP+SSE at `/sse` until `shutdown` resolves; then drains, ends all
    /// sessions, and returns.
    ///
    /// Without [`HttpSettings::tokens`] there is no authentication: whoever can reach the listener can open sessions.
    /// Requests must name a loopback host, or one of [`HttpSettings::allow_hosts`].
    ///
    /// Fails if one of [`HttpSettings::session_keys`] cannot be used at this listener.
    pub async fn serve_http(&self, listener: TcpListener, shutdown: impl Future<Output = ()> + Send) -> io::Result<()> {
        let checked = self.http.check_listener(listener.local_addr()?);
        checked.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        if self.http.tokens.is_none() && self.http.session_keys.contains(&KeyKind::Principal) {
            warn!("the session key `principal` without authentication: all clients share one session");
        }
        self.serve_router(listener, self.router(), shutdown).await
    }

    /// Serves a larger application, of which [`into_router`](Self::into_router) is a part, in the way that
    /// [`serve_http`](Self::serve_http) serves sessile alone; until `shutdown` resolves.
    ///
    /// The server speaks HTTP/1.1, and connections may be upgraded (`Upgrade`). Handlers find the client's address as
    /// axum's `ConnectInfo<SocketAddr>`. At the end this proxy is shut down first, which ends its streams; then
    /// requests in flight on other routes have two seconds to end. Idle connections are closed when file descriptors
    /// run short.
    ///
    /// ```no_run
    /// # async fn example(proxy: sessile::Proxy) -> Result<(), Box<dyn std::error::Error>> {
    /// let app = axum::Router::new()
    ///     .route("/hello", axum::routing::get(|| async { "hello" }))
    ///     .nest("/tools", proxy.clone().into_router());
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:8808").await?;
    /// proxy.serve_router(listener, app, async { let _ = tokio::signal::ctrl_c().await; }).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn serve_router(
        &self,
        listener: TcpListener,
        app: Router,
        shutdown: impl Future<Output = ()> + Send,
    ) -> io::Result<()> {
        let ended = async {
            shutdown.await;
            self.shutdown().await;
        };
        front::http::serve(listener, app, Box::pin(ended)).await
    }

    /// The HTTP front as an axum router, to be merged into a larger application or nested in it.
    ///
    /// Without [`HttpSettings::tokens`], a layer around it may say who calls: see [`Principal`](crate::Principal).
    ///
    /// Serve that application with [`serve_router`](Self::serve_router). A router knows nothing of its connections, so
    /// a program that serves it in another way has to see to four things:
    ///
    /// - `TCP_NODELAY` is set on each connection. Without it, every message but the first on a stream waits until the
    ///   client's system has acknowledged the one before, which takes 40 ms.
    /// - Requests carry the client's address as axum's `ConnectInfo<SocketAddr>`. Without it, all clients count as
    ///   remote, and none is told what a server wrote on stderr before it died, unless [`HttpSettings::expose_stderr`]
    ///   is set.
    /// - [`Proxy::shutdown`] is called on a clone before the HTTP server waits for its connections to end: open streams
    ///   last as long as their clients like.
    /// - Connections are closed whose clients do not read. A router cannot close them: it drops the messages that still
    ///   wait, but not those that the connection has taken, which stay in memory until the client reads or leaves.
    ///   `axum::serve` offers no way to do this.
    ///
    /// With `axum::serve`, all but the last is:
    ///
    /// ```no_run
    /// # async fn example(proxy: sessile::Proxy) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::net::SocketAddr;
    ///
    /// use axum::serve::ListenerExt as _;
    ///
    /// let app = axum::Router::new().nest("/tools", proxy.clone().into_router());
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:8808").await?;
    /// let listener = listener.tap_io(|connection| { let _ = connection.set_nodelay(true); });
    /// axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>())
    ///     .with_graceful_shutdown(async move {
    ///         let _ = tokio::signal::ctrl_c().await;
    ///         proxy.shutdown().await;
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_router(self) -> Router {
        self.router()
    }

    fn router(&self) -> Router {
        let keys = front::http::KeyRules::new(self.http.clone());
        let HttpSettings { allow_hosts, allow_origins, keep_alive, expose_stderr, .. } = self.http.clone();
        front::http::router(front::http::Front {
            supervisor: self.supervisor.clone(),
            waiting: self.waiting.clone(),
            allow_list: front::http::AllowList { hosts: allow_hosts, origins: allow_origins },
            authentication: self.authentication.clone(),
            keys,
            keep_alive,
            message_size: self.supervisor.plan().limits.message_size,
            expose_stderr,
            forwards: self.supervisor.plan().backends.iter().flat_map(forwarded_headers).collect(),
        })
    }

    /// Serves one client on this process's stdin and stdout until it leaves or its session ends; then ends the proxy.
    pub async fn serve_stdio(&self) -> EndReason {
        self.serve_stdio_until(std::future::pending()).await
    }

    /// As [`Proxy::serve_stdio`], and until `shutdown` resolves: then calls in flight have
    /// [`drain`](crate::SessionSettings::drain) to end.
    pub async fn serve_stdio_until(&self, shutdown: impl Future<Output = ()> + Send) -> EndReason {
        let front::stdio::StandardStreams { reader, writer, hangup } = front::stdio::standard_streams();
        let reason = front::stdio::serve(self.supervisor.clone(), reader, writer, hangup, Box::pin(shutdown)).await;
        // There is one stdin, so this was the only session, and the proxy ends with it.
        self.shutdown().await;
        reason
    }

    /// Serves one client on a pair of byte streams with a message on each line.
    pub async fn serve_io(
        &self,
        reader: impl AsyncRead + Unpin + Send + 'static,
        writer: impl AsyncWrite + Unpin + Send + 'static,
        shutdown: impl Future<Output = ()> + Send,
    ) -> EndReason {
        let (reader, writer) = (Box::new(reader), Box::new(writer));
        let never = Box::pin(std::future::pending());
        front::stdio::serve(self.supervisor.clone(), reader, writer, never, Box::pin(shutdown)).await
    }

    /// Serves one client on any rmcp transport, in this process for example.
    ///
    /// rmcp's transports carry typed messages: what its model does not know is lost on them, and on them alone.
    pub async fn serve<T, E, A>(&self, transport: T) -> EndReason
    where
        T: rmcp::transport::IntoTransport<rmcp::RoleServer, E, A>,
        E: std::error::Error + Send + Sync + 'static,
    {
        front::in_process::serve(self.supervisor.clone(), transport.into_transport()).await
    }

    /// The sessions that live now. The handle is no clone of the proxy: it does not keep it alive.
    pub fn sessions(&self) -> Sessions {
        Sessions::new(self.supervisor.registry().clone(), self.supervisor.tasks().clone())
    }

    /// The bytes of all messages that are received, queued, or kept for clients that resume a stream. In each direction
    /// they never exceed [`process_budget`](crate::SessionSettings::process_budget) plus 64 KiB for each session.
    pub fn bytes_under_way(&self) -> BytesUnderWay {
        let ChargedToSessions { upward, downward, without_session } = self.supervisor.charged();
        BytesUnderWay { to_servers: upward, to_clients: downward, without_session }
    }

    /// Ends the proxy. New sessions and calls are refused, calls in flight have
    /// [`drain`](crate::SessionSettings::drain) to end, and then all sessions end. Returns when nothing of them is
    /// left, or 15 seconds after the last one has ended; then the log says how many links still run.
    pub async fn shutdown(&self) {
        self.shut_down().await;
    }

    /// Boxed for the reason that `front::http::serve` gives.
    fn shut_down(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.supervisor.close().await;
            self.waiting.close();
            let drain = self.supervisor.plan().limits.drain;
            let sessions = self.supervisor.registry().all();
            let drained = sessions.iter().map(|session| session.drain_then_end(drain));
            join_all(drained).await;
            let tasks = self.supervisor.tasks();
            tasks.close();
            wait_for_teardown(tasks.wait(), tasks).await;
        })
    }
}

/// The headers of clients that a backend wants with each request.
fn forwarded_headers(backend: &Backend) -> Vec<HeaderName> {
    backend.forwards().iter().filter_map(|name| name.parse().ok()).collect()
}

/// The bytes that messages under way take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BytesUnderWay {
    /// From clients to servers.
    pub to_servers: usize,
    /// From servers to clients.
    pub to_clients: usize,
    /// From clients that have no session yet.
    pub without_session: usize,
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::Instant;

    use std::time::Duration;

    use super::*;
    use crate::link::{LinkContext, LinkOpener};
    use crate::sessions::TEARDOWN_TIMEOUT;

    /// A backend whose links do not end when they are stopped.
    struct Stubborn;

    impl LinkOpener for Stubborn {
        fn run(self: Arc<Self>, _: LinkContext) -> BoxFuture<'static, ()> {
            Box::pin(std::future::pending())
        }

        fn describe(&self) -> String {
            "stubborn".to_owned()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ending_sessions_does_not_wait_for_ever() {
        let proxy = Proxy::builder().backend(Backend::of(Stubborn)).build().unwrap();
        let sessions = proxy.sessions();
        for ended in 1..=3 {
            let (mut client, end) = tokio::io::duplex(1024);
            let (reader, writer) = tokio::io::split(end);
            let serving = proxy.clone();
            tokio::spawn(async move { serving.serve_io(reader, writer, std::future::pending()).await });
            client.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\"}\n").await.unwrap();
            while sessions.links() < ended {
                tokio::task::yield_now().await;
            }
            let begin = Instant::now();
            let mut drain = Duration::ZERO;
            match ended {
                1 => assert!(sessions.end(sessions.list()[0].id).await),
                2 => assert_eq!(sessions.clear().await, 1),
                _ => {
                    drain = crate::SessionSettings::default().drain;
                    proxy.shutdown().await;
                }
            }
            assert_eq!((begin.elapsed(), sessions.len(), sessions.links()), (drain + TEARDOWN_TIMEOUT, 0, ended));
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.contains("\"error\""), "{answer}");
        }
    }
}
