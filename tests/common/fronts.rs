//! All fronts of one proxy, and clients on each.

use std::net::SocketAddr;

use sessile::Proxy;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{HttpClient, HttpEndpoint, NamedClient, soon, transports, until};

/// The front that a client uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Front {
    Http,
    Sse,
    Stdio,
    InProcess,
}

/// A proxy with all its fronts open. To be closed at the end of the test.
pub(crate) struct Fronts {
    pub proxy: Proxy,
    address: SocketAddr,
    serving: Option<(oneshot::Sender<()>, JoinHandle<std::io::Result<()>>)>,
}

impl Fronts {
    pub(crate) async fn open(proxy: Proxy) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn({
            let proxy = proxy.clone();
            async move { proxy.serve_http(listener, async { drop(stopped.await) }).await }
        });
        Self { proxy, address, serving: Some((stop, serving)) }
    }

    pub(crate) fn endpoint(&self) -> HttpEndpoint {
        HttpEndpoint::Tcp(self.address)
    }

    /// A raw client of the HTTP fronts.
    pub(crate) fn new_client(&self) -> HttpClient {
        HttpClient::new(self.endpoint())
    }

    /// A client that has not said anything yet.
    pub(crate) async fn unopened_client_at(&self, front: Front, name: &str) -> NamedClient {
        let connection = match front {
            Front::Http => transports::http(self.new_client()),
            Front::Sse => transports::sse(self.new_client()).await,
            Front::Stdio => transports::lines(&self.proxy),
            Front::InProcess => transports::in_process(&self.proxy),
        };
        NamedClient::new(name, connection)
    }

    /// A client after its handshake, which can answer everything that servers ask.
    pub(crate) async fn client_at(&self, front: Front, name: &str) -> NamedClient {
        let mut client = self.unopened_client_at(front, name).await;
        client.shakes_hands().await;
        client
    }

    /// Waits until nothing is left of any session.
    pub(crate) async fn empty(&self) {
        let sessions = self.proxy.sessions();
        until("all sessions are gone", || sessions.is_empty()).await;
        until("all links are gone", || sessions.links() == 0).await;
    }

    /// Shuts the proxy down, and sees to it that nothing is left.
    pub(crate) async fn close(mut self) {
        let (stop, serving) = self.serving.take().expect("it is closed once");
        let _ = stop.send(());
        soon("the front ends", serving).await.unwrap().unwrap();
        assert_eq!((self.proxy.sessions().len(), self.proxy.sessions().links()), (0, 0));
    }
}
