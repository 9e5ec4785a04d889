//! Accepts connections and serves them until the proxy shuts down.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::future::RouteFuture;
use futures_util::future::BoxFuture;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;
use tracing::{debug, warn};

use super::connections::{
    ConnectionActivity, Connections, Descriptors, RequestGuard, TrackedBody, is_out_of_descriptors,
};
use super::repoll::RepollOnSelfWake;
use super::{ConnectionCut, ListenerAddress};

/// How long a client may take to send a request's headers, and so how long an idle connection is kept for the next
/// request. This is longer than clients keep idle connections (reqwest 90 s, others much less): if a connection is
/// closed here just when its client uses it again, that request fails.
const HEADERS_WITHIN: Duration = Duration::from_secs(120);
/// After how long a silence the system checks whether the other end is still there, and how often from then on.
const KEEP_ALIVE_PROBE_AFTER: Duration = Duration::from_secs(60);
const KEEP_ALIVE_PROBE_EVERY: Duration = Duration::from_secs(15);
/// The most bytes that a connection buffers of what it reads, and of what it writes in small pieces. The headers of a
/// request have to fit into it.
const CONNECTION_BUFFER: usize = 64 * 1024;
/// How long connections may go on after the last session has ended, until their last messages are sent. The same for an
/// idle connection that has to close: its client may not have read all of the last response.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// How long to wait after a connection could not be accepted, for example because file descriptors have run out.
const ACCEPT_RETRY_AFTER: Duration = Duration::from_millis(100);

/// Serves `router` on `listener` until `ended` resolves. Connections are accepted up to then, so that a client that
/// comes while the last calls end is told that the proxy is shutting down. After that, connections have
/// [`CLOSE_WITHIN`] to send their last messages.
///
/// Handlers find the client's address as [`ConnectInfo`].
///
/// The future is boxed so that it is compiled with this crate, and not again with each program that calls it.
pub(crate) fn serve(listener: TcpListener, router: Router, ended: BoxFuture<'_, ()>) -> BoxFuture<'_, io::Result<()>> {
    Box::pin(async move {
        serve_within(Descriptors::of_process(), listener, router, ended).await;
        Ok(())
    })
}

async fn serve_within(
    descriptors: Option<Descriptors>,
    listener: TcpListener,
    router: Router,
    ended: impl Future<Output = ()>,
) {
    let connections = Connections::default();
    let address = listener.local_addr().ok();
    let tasks = TaskTracker::new();
    let mut ended = std::pin::pin!(ended);
    loop {
        let (socket, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    if is_out_of_descriptors(&error) {
                        let closed = connections.give_way(descriptors.map_or(1, Descriptors::reserve));
                        warn!(%error, closed, "no connection could be accepted: idle ones are closed");
                    } else {
                        warn!(%error, "no connection could be accepted");
                    }
                    sleep(ACCEPT_RETRY_AFTER).await;
                    continue;
                }
            },
            () = &mut ended => break,
        };
        let missing = descriptors.map_or(0, |descriptors| descriptors.missing_for(descriptor_number(&socket)));
        if missing > 0 {
            let closed = connections.give_way(missing);
            debug!(missing, closed, "file descriptors run short: idle connections are closed");
        }
        set_socket_options(&socket);
        let cut = CancellationToken::new();
        let service = ConnectionService {
            router: router.clone(),
            peer,
            listener: address.map(ListenerAddress),
            activity: connections.register(),
            cut: ConnectionCut(cut.clone()),
        };
        let connection = RepollOnSelfWake::new(serve_connection(socket, service));
        tasks.spawn(async move {
            match cut.run_until_cancelled(connection).await {
                Some(Ok(())) => {}
                Some(Err(error)) => debug!(%peer, %error, "connection ended"),
                None => debug!(%peer, "connection ended: its client does not read, and others need the memory"),
            }
        });
    }
    drop(listener);
    connections.close();
    tasks.close();
    let _ = timeout(CLOSE_WITHIN, tasks.wait()).await;
}

fn set_socket_options(socket: &TcpStream) {
    // Messages are small and somebody waits for each: none may be delayed until the previous one is acknowledged.
    let _ = socket.set_nodelay(true);
    // A client whose machine has vanished never closes its connection: only probes find that out.
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE_PROBE_AFTER).with_interval(KEEP_ALIVE_PROBE_EVERY);
    let _ = SockRef::from(socket).set_tcp_keepalive(&keep_alive);
}

/// The number of a connection's file descriptor.
#[cfg(unix)]
fn descriptor_number(socket: &TcpStream) -> u64 {
    u64::try_from(std::os::fd::AsRawFd::as_raw_fd(socket)).unwrap_or(0)
}

#[cfg(not(unix))]
fn descriptor_number(_: &TcpStream) -> u64 {
    0
}

/// Serves one connection to its end. When the connection is asked to close, the request in flight is still answered.
async fn serve_connection(socket: TcpStream, service: ConnectionService) -> hyper::Result<()> {
    let activity = service.activity.clone();
    // An embedding program's router may have more than sessile's routes in it, also web sockets, which need upgrades.
    //
    // A client that closes its sending side counts as gone (no `half_close`): most of them have closed the whole
    // connection, which looks the same, and with `half_close` hyper would notice that only when it writes. Calls of
    // clients that left, and sessions of HTTP+SSE, would go on until then.
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(CONNECTION_BUFFER)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        ended = connection.as_mut() => return ended,
        () = activity.asked_to_close() => {}
    }
    connection.as_mut().graceful_shutdown();
    loop {
        match timeout(CLOSE_WITHIN, connection.as_mut()).await {
            Ok(ended) => return ended,
            // The client has sent only a part of a request's headers, or does not read the last response.
            Err(_) if activity.is_idle() => return Ok(()),
            Err(_) => {}
        }
    }
}

/// Passes the requests of one connection to the router, with the client's address, the listener's, and the token that
/// ends the connection.
struct ConnectionService {
    router: Router,
    peer: SocketAddr,
    listener: Option<ListenerAddress>,
    activity: Arc<ConnectionActivity>,
    cut: ConnectionCut,
}

impl hyper::service::Service<http::Request<hyper::body::Incoming>> for ConnectionService {
    type Response = http::Response<TrackedBody>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn call(&self, mut request: http::Request<hyper::body::Incoming>) -> ResponseFuture {
        request.extensions_mut().insert(ConnectInfo(self.peer));
        request.extensions_mut().insert(self.cut.clone());
        if let Some(listener) = self.listener {
            request.extensions_mut().insert(listener);
        }
        // A router is always ready, so `poll_ready` need not be called.
        ResponseFuture { response: self.router.clone().call(request), request: self.activity.begin() }
    }
}

/// A request on its way through the router.
struct ResponseFuture {
    response: RouteFuture<Infallible>,
    request: RequestGuard,
}

impl Future for ResponseFuture {
    type Output = Result<http::Response<TrackedBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Ok(response) = ready!(Pin::new(&mut self.response).poll(context));
        Poll::Ready(Ok(response.map(|body| TrackedBody::new(body, self.request.clone()))))
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::{Notify, oneshot};

    use super::*;

    async fn soon<T>(future: impl Future<Output = T>) -> T {
        timeout(Duration::from_secs(20), future).await.unwrap()
    }

    /// Sends a request on a connection of its own.
    async fn ask(address: SocketAddr, path: &str) -> TcpStream {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await.unwrap();
        socket
    }

    /// Waits for a response that ends with this text.
    async fn hear(socket: &mut TcpStream, text: &str) {
        let mut heard = Vec::new();
        while !heard.ends_with(text.as_bytes()) {
            let read = soon(socket.read_buf(&mut heard)).await.unwrap();
            assert!(read > 0, "{:?}", String::from_utf8_lossy(&heard));
        }
    }

    async fn sees_the_end(mut socket: TcpStream) {
        assert_eq!(soon(socket.read(&mut [0; 8])).await.unwrap_or(0), 0);
    }

    #[tokio::test]
    async fn small_messages_do_not_wait_for_each_other() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        assert!(!socket.nodelay().unwrap());
        set_socket_options(&socket);
        assert!(socket.nodelay().unwrap() && SockRef::from(&socket).keepalive().unwrap());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn idle_connections_give_way_when_descriptors_run_short() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let line = u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&listener)).unwrap() + 40;
        let release = Arc::new(Notify::new());
        let released = release.clone();
        let slow = async move || {
            released.notified().await;
            "slow"
        };
        let router = Router::new().route("/slow", get(slow)).route("/quick", get(|| async { "quick" }));
        let (stop, stopped) = oneshot::channel::<()>();
        let descriptors = Some(Descriptors { line, limit: line + 10 });
        let serving = tokio::spawn(serve_within(descriptors, listener, router, async { drop(stopped.await) }));
        let mut busy = ask(address, "/slow").await;
        let silent = TcpStream::connect(address).await.unwrap();
        let half = ask(address, "/quick HTTP/1.1\r\nhost: local").await;
        let mut first = ask(address, "/quick").await;
        hear(&mut first, "quick").await;
        // Each end of a connection takes a descriptor: these are more than there may be.
        let mut others = Vec::new();
        for _ in 0..40 {
            let mut other = ask(address, "/quick").await;
            hear(&mut other, "quick").await;
            others.push(other);
        }
        for idle in [silent, first] {
            sees_the_end(idle).await;
        }
        drop(half);
        // A connection whose client waits for a response is not idle, however long that takes.
        release.notify_one();
        hear(&mut busy, "slow").await;
        stop.send(()).unwrap();
        soon(serving).await.unwrap();
    }
}
