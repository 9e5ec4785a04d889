//! A larger application of which sessile is a part, served by sessile and by axum.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use sessile::{ChildBackend, HttpSettings, Proxy};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::common::{HttpClient, HttpEndpoint, INITIALIZE, INITIALIZED, call, soon};
use crate::{close, demo};

/// An application that is served by a proxy until it is stopped.
struct Served {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Served {
    async fn start(proxy: &Proxy, app: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let proxy = proxy.clone();
        let serving =
            tokio::spawn(async move { proxy.serve_router(listener, app, async { drop(stopped.await) }).await });
        Self { address, stop, serving }
    }

    fn client(&self) -> HttpClient {
        HttpClient::new(HttpEndpoint::Tcp(self.address))
    }

    async fn stops(self) {
        let _ = self.stop.send(());
        soon("the application ends", self.serving).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_larger_application_is_served() {
    let proxy = demo();
    let app = Router::new()
        .route("/who", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() }))
        .nest("/deep", proxy.clone().into_router())
        .merge(proxy.clone().into_router());
    let served = Served::start(&proxy, app).await;
    let mut client = served.client();
    assert_eq!(client.request("GET").path("/who").send().await.text().await, "127.0.0.1");
    let reply = client.post(INITIALIZE).path("/deep/mcp").send().await;
    client.session = reply.header("mcp-session-id").map(str::to_owned);
    client.tells(INITIALIZED).await;
    let listed = client.post(call(1, "tools/list", "{}")).send().await.text().await;
    assert!(listed.contains("increment"), "{listed}");
    // The end of the application is that of the proxy: open streams do not hold it up.
    let mut listening = client.listens().await;
    listening.block().await.unwrap();
    served.stops().await;
    listening.ends().await;
    close(proxy).await;
}

/// Shakes hands with the client, and says a word to it.
async fn upgrade(mut request: Request) -> Response {
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut connection = hyper_util::rt::TokioIo::new(upgraded.await.unwrap());
        tokio::io::AsyncWriteExt::write_all(&mut connection, b"a word").await.unwrap();
    });
    let headers = [("connection", "upgrade"), ("upgrade", "words")];
    (http::StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

#[tokio::test]
async fn connections_may_be_upgraded() {
    let proxy = demo();
    let served = Served::start(&proxy, Router::new().route("/words", get(upgrade))).await;
    let mut socket = HttpEndpoint::Tcp(served.address).connect().await;
    let request = b"GET /words HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: words\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut socket, request).await.unwrap();
    let mut heard = String::new();
    soon("a word", socket.read_to_string(&mut heard)).await.unwrap();
    assert!(heard.starts_with("HTTP/1.1 101") && heard.ends_with("\r\n\r\na word"), "{heard}");
    served.stops().await;
    close(proxy).await;
}

/// The stderr that a client is shown if its server dies at once.
async fn told(client: &HttpClient, path: &'static str) -> String {
    let reply = client.post(INITIALIZE).path(path).send().await;
    let error = reply.json().await;
    assert_eq!(error["error"]["code"], sessile::code::BACKEND_UNAVAILABLE, "{error}");
    error["error"]["data"]["stderr"].to_string()
}

#[cfg(unix)]
#[tokio::test]
async fn who_is_near_is_told_a_dead_servers_last_words() {
    let dying = ChildBackend::new("sh").args(["-c", "echo doom >&2; exit 3"]);
    let proxy = Proxy::builder().backend(dying).http(HttpSettings::default()).build().unwrap();
    let app = Router::new().nest("/deep", Router::new().nest("/er", proxy.clone().into_router()));
    let served = Served::start(&proxy, app.clone()).await;
    assert!(told(&served.client(), "/deep/er/mcp").await.contains("doom"));

    // The same with axum as the server, if it passes on the client's address.
    let serve = async |app: Router, says: bool| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = HttpClient::new(HttpEndpoint::Tcp(listener.local_addr().unwrap()));
        let serving = tokio::spawn(async move {
            if says {
                axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await
            } else {
                axum::serve(listener, app).await
            }
        });
        let told = told(&client, "/deep/er/mcp").await;
        serving.abort();
        told
    };
    assert!(serve(app.clone(), true).await.contains("doom"));
    let told = serve(app, false).await;
    assert!(!told.contains("doom"), "{told}");
    served.stops().await;
    close(proxy).await;
}
