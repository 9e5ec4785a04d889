//! Accepts connections and serves them, until it is told to stop.

use std::io;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::Peer;
use super::eager::Eager;

/// How long a client may take to send its request's headers, and so how long a connection may be kept for the next one.
/// Longer than clients keep theirs (reqwest 90 s, others much less): one that is closed here just when its client takes
/// it up again costs that client a request.
const HEADERS: Duration = Duration::from_secs(120);
/// After how long a silence the system asks whether the other end is there, and how often then.
const ASK_AFTER: Duration = Duration::from_secs(60);
const ASK_EVERY: Duration = Duration::from_secs(15);
/// How long connections may go on after the last session has ended: what they still have to say is on its way.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long to wait when no connection can be accepted, as when file descriptors have run out.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` on `listener` until `ended` resolves. Connections are taken up to then, so that who comes while calls in
/// flight end is told that the proxy is shutting down; those that are left have a moment to say their last words.
pub(crate) async fn serve(listener: TcpListener, router: Router, ended: impl Future<Output = ()>) -> io::Result<()> {
    let graceful = GracefulShutdown::new();
    let mut ended = std::pin::pin!(ended);
    loop {
        let (socket, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "no connection could be accepted");
                    sleep(PAUSE).await;
                    continue;
                }
            },
            () = &mut ended => break,
        };
        // Messages are small and somebody waits for each of them.
        let _ = socket.set_nodelay(true);
        // A client whose machine has vanished says nothing: it is asked whether it is still there.
        let keep_alive = TcpKeepalive::new().with_time(ASK_AFTER).with_interval(ASK_EVERY);
        let _ = SockRef::from(&socket).set_tcp_keepalive(&keep_alive);
        let service = TowerToHyperService::new(WithPeer { router: router.clone(), peer: Peer(peer) });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS)
            .serve_connection(TokioIo::new(socket), service);
        let connection = Eager::new(graceful.watch(connection));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%peer, %error, "connection ended");
            }
        });
    }
    drop(listener);
    let _ = timeout(LAST_WORDS, graceful.shutdown()).await;
    Ok(())
}

/// Tells the handlers who is on the other end.
#[derive(Clone)]
struct WithPeer {
    router: Router,
    peer: Peer,
}

impl tower_service::Service<http::Request<hyper::body::Incoming>> for WithPeer {
    type Response = axum::response::Response;
    type Error = std::convert::Infallible;
    type Future = <Router as tower_service::Service<http::Request<hyper::body::Incoming>>>::Future;

    fn poll_ready(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        tower_service::Service::<http::Request<hyper::body::Incoming>>::poll_ready(&mut self.router, context)
    }

    fn call(&mut self, mut request: http::Request<hyper::body::Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer);
        self.router.call(request)
    }
}
