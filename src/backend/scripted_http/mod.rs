//! The scripted HTTP server of all tests, unit tests and integration tests.
//!
//! A test answers in one of two ways. By function ([`ScriptedHttpServer::start`]): the function makes a whole
//! [response](PeerResponse) of each request. Or byte by byte ([`ScriptedHttpServer::open`]): the test takes each request
//! in its turn ([`ScriptedHttpServer::hears`]), and writes what it likes to the connection while it looks at what the
//! proxy does. It speaks HTTP by itself, because a real HTTP server writes no bytes that are not HTTP.

mod request;
mod responses;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::serve::{Listener, ListenerExt as _};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use request::ByteStream;
pub(crate) use request::{HeardRequest, PeerRequest};
pub(crate) use responses::{
    INITIALIZE_RESPONSE, PeerResponse, cut, event, events, initialize_response, json, live, plain_response, silence,
    status, text,
};

/// How long a test waits for anything: longer than anything takes in a test that passes.
pub(crate) const WAIT_LIMIT: Duration = Duration::from_secs(20);
/// How long a test watches to conclude that nothing happens.
pub(crate) const QUIET_TIME: Duration = Duration::from_millis(60);

/// Waits for a future, for at most [`WAIT_LIMIT`].
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let Ok(value) = timeout(WAIT_LIMIT, future).await else { panic!("waited too long: {what}") };
    value
}

/// An HTTP server that remembers the requests that come. It stops when this is dropped.
pub(crate) struct ScriptedHttpServer {
    origin: String,
    requests: Arc<Mutex<Vec<PeerRequest>>>,
    /// Requests that wait for the test, if it answers byte by byte.
    heard: mpsc::Receiver<HeardRequest>,
    /// Requests of other kinds that came while the test waited for one.
    aside: VecDeque<HeardRequest>,
    accepting: JoinHandle<()>,
}

impl Drop for ScriptedHttpServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl ScriptedHttpServer {
    /// Answers as a function says, on a port of its own.
    pub(crate) async fn start<F>(respond: impl Fn(PeerRequest) -> F + Clone + Send + Sync + 'static) -> Self
    where
        F: Future<Output = PeerResponse> + Send + 'static,
    {
        let (listener, origin) = Self::listen().await;
        Self::on(without_delay(listener), origin, respond)
    }

    /// A listener on a free port, and the origin of URLs that lead to it.
    pub(crate) async fn listen() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        (listener, origin)
    }

    /// Answers as a function says whoever connects to `listener`.
    pub(crate) fn on<F>(
        listener: impl Listener<Io: ByteStream>,
        origin: String,
        respond: impl Fn(PeerRequest) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = PeerResponse> + Send + 'static,
    {
        let (_, heard) = mpsc::channel(1);
        Self::serve(listener, origin, heard, move |heard: HeardRequest| {
            let respond = respond.clone();
            async move {
                let response = respond(heard.clone());
                heard.responds(response).await;
            }
        })
    }

    /// Leaves each request to the test, on a port of its own.
    pub(crate) async fn open() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap()).await
    }

    /// Leaves each request to the test, at an address.
    pub(crate) async fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let (sender, heard) = mpsc::channel(1000);
        Self::serve(without_delay(listener), origin, heard, move |heard| {
            let sender = sender.clone();
            async move {
                let _ = sender.send(heard).await;
            }
        })
    }

    fn serve<F>(
        mut listener: impl Listener<Io: ByteStream>,
        origin: String,
        heard: mpsc::Receiver<HeardRequest>,
        handle: impl Fn(HeardRequest) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let requests: Arc<Mutex<Vec<PeerRequest>>> = Arc::default();
        let came = requests.clone();
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await;
                connections.spawn(serve_connection(Box::new(socket), came.clone(), handle.clone()));
            }
        });
        Self { origin, requests, heard, aside: VecDeque::new(), accepting }
    }

    /// Stops, with all connections that wait for a request. Nobody listens at the address any more.
    pub(crate) async fn stops(mut self) -> SocketAddr {
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
        self.address()
    }

    /// Stops and starts again at the same address.
    pub(crate) async fn restarts(self) -> Self {
        Self::at(self.stops().await).await
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.origin.trim_start_matches("http://").parse().unwrap()
    }

    /// The URL of the MCP endpoint.
    pub(crate) fn url(&self) -> String {
        self.url_of("/mcp")
    }

    pub(crate) fn url_of(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// The requests that have come, oldest first.
    pub(crate) fn requests(&self) -> Vec<PeerRequest> {
        self.requests.lock().unwrap().clone()
    }

    /// The [kinds](PeerRequest::kind) of all requests that have come.
    pub(crate) fn kinds(&self) -> Vec<String> {
        self.requests().iter().map(PeerRequest::kind).collect()
    }

    /// Waits until `count` requests of that kind have come, and returns all of that kind.
    pub(crate) async fn wait_for(&self, kind: &str, count: usize) -> Vec<PeerRequest> {
        let find = async {
            loop {
                let found: Vec<_> = self.requests().into_iter().filter(|request| request.is(kind)).collect();
                if found.len() >= count {
                    return found;
                }
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(WAIT_LIMIT, find).await.unwrap_or_else(|_| panic!("{count} of {kind}: {:?}", self.kinds()))
    }

    /// The next request of this kind, or of the kind `RESUME`: a GET that says what it had last. Others wait for their
    /// turn.
    pub(crate) async fn hears(&mut self, kind: &str) -> HeardRequest {
        if let Some(at) = self.aside.iter().position(|heard| heard.is(kind)) {
            return self.aside.remove(at).unwrap();
        }
        soon(kind, async {
            loop {
                let heard = self.heard.recv().await.unwrap();
                if heard.is(kind) {
                    return heard;
                }
                self.aside.push_back(heard);
            }
        })
        .await
    }

    /// The next request of any kind.
    pub(crate) async fn hears_any(&mut self) -> HeardRequest {
        match self.aside.pop_front() {
            Some(heard) => heard,
            None => self.heard.recv().await.unwrap(),
        }
    }

    /// Nothing of this kind comes, now or for a moment.
    pub(crate) async fn hears_no(&mut self, kind: &str) {
        while let Ok(Some(heard)) = timeout(QUIET_TIME, self.heard.recv()).await {
            self.aside.push_back(heard);
        }
        if let Some(heard) = self.aside.iter().find(|heard| heard.is(kind)) {
            panic!("there was to be no {kind}: {heard:?}");
        }
    }

    /// Nothing at all comes.
    pub(crate) async fn hears_nothing(&mut self) {
        if let Ok(Some(heard)) = timeout(QUIET_TIME, self.heard.recv()).await {
            panic!("nothing was to come: {heard:?}");
        }
        assert!(self.aside.is_empty(), "{:?}", self.aside);
    }
}

/// What is written goes out at once, however small it is.
fn without_delay(listener: TcpListener) -> impl Listener<Io: ByteStream> {
    listener.tap_io(|socket| socket.set_nodelay(true).unwrap())
}

/// Reads requests off a connection for as long as each is answered in full.
async fn serve_connection<F>(
    mut socket: Box<dyn ByteStream>,
    requests: Arc<Mutex<Vec<PeerRequest>>>,
    handle: impl Fn(HeardRequest) -> F,
) where
    F: Future<Output = ()>,
{
    let mut buffer = Vec::new();
    while let Some(request) = PeerRequest::read(&mut *socket, &mut buffer).await {
        requests.lock().unwrap().push(request.clone());
        let (back, returned) = oneshot::channel();
        handle(HeardRequest { request, socket, back }).await;
        let Ok(again) = returned.await else { return };
        socket = again;
    }
}
