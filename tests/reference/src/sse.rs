//! The HTTP+SSE transport of 2024-11-05: a GET gives a stream that first names the endpoint for this client's messages,
//! and everything that the server says follows on it. The stream's end is the session's end.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
    routing::{get, post},
};
use bytes::Bytes;
use futures_util::{Stream, stream};
use rmcp::ServiceExt as _;
use serde_json::json;
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf, duplex, split,
    },
    sync::Mutex as AsyncMutex,
};
use uuid::Uuid;

use crate::server::{Options, Reference, SessionCounter};

/// Bytes between the connections and a session's server before either has to wait.
const PIPE: usize = 64 * 1024;
/// What the query of an endpoint starts with; the session's id follows.
const QUERY: &str = "session_id=";

/// The text of the `endpoint` event.
#[derive(Debug, Clone, Default)]
pub enum Endpoint {
    /// The path and the query.
    #[default]
    Relative,
    /// The whole URL, with the host that the client named.
    Absolute,
    /// This text, whatever it is: for clients that have to look twice.
    Other(String),
}

/// Sessions at `/sse`, their messages at `/messages`. `GET /sessions` tells how many streams are open, and how many
/// sessions live: one whose stream has ended lives until its last call has.
pub fn router(options: Options, counter: &SessionCounter, endpoint: Endpoint) -> Router {
    let service = SseService { options, counter: counter.clone(), endpoint, sessions: Arc::default() };
    Router::new()
        .route("/sse", get(open))
        .route("/messages", post(take))
        .route("/sessions", get(count))
        .layer(DefaultBodyLimit::disable())
        .with_state(service)
}

#[derive(Clone)]
struct SseService {
    options: Options,
    counter: SessionCounter,
    endpoint: Endpoint,
    sessions: Arc<Mutex<HashMap<String, Input>>>,
}

/// A session's input. POSTs take turns, so that no two messages mix.
type Input = Arc<AsyncMutex<WriteHalf<DuplexStream>>>;

impl SseService {
    fn sessions<T>(&self, look: impl FnOnce(&mut HashMap<String, Input>) -> T) -> T {
        look(&mut self.sessions.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An open stream. Its drop closes the session's input, and so ends the session.
struct Session {
    service: SseService,
    id: String,
    lines: Lines<BufReader<ReadHalf<DuplexStream>>>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.service.sessions(|sessions| sessions.remove(&self.id));
    }
}

async fn open(
    State(service): State<SseService>,
    headers: HeaderMap,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let (ours, theirs) = duplex(PIPE);
    let server = Reference::new(service.options, &service.counter);
    tokio::spawn(async move {
        match server.serve(theirs).await {
            Ok(running) => drop(running.waiting().await),
            Err(error) => eprintln!("reference-server: a session was not opened: {error}"),
        }
    });
    let (reader, writer) = split(ours);
    let id = Uuid::new_v4().to_string();
    service.sessions(|sessions| sessions.insert(id.clone(), Arc::new(AsyncMutex::new(writer))));
    let path = format!("/messages?{QUERY}{id}");
    let endpoint = match &service.endpoint {
        Endpoint::Relative => path,
        Endpoint::Absolute => {
            let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
            format!("http://{host}{path}")
        }
        Endpoint::Other(text) => text.clone(),
    };
    let session = Session { service, id, lines: BufReader::new(reader).lines() };
    let first = Event::default().event("endpoint").data(endpoint);
    let events = stream::unfold((session, Some(first)), async |(mut session, first)| {
        let event = match first {
            Some(event) => event,
            None => Event::default().event("message").data(session.lines.next_line().await.ok()??),
        };
        Some((Ok(event), (session, None)))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

/// Takes a message; the answer, if there is one, comes on the stream.
async fn take(State(service): State<SseService>, RawQuery(query): RawQuery, body: Bytes) -> Response {
    let input = query
        .as_deref()
        .and_then(|query| query.strip_prefix(QUERY))
        .and_then(|id| service.sessions(|sessions| sessions.get(id).cloned()));
    let Some(input) = input else {
        return (StatusCode::NOT_FOUND, "there is no such session").into_response();
    };
    // Newlines in JSON are white space: inside of strings they are escaped.
    let mut line: Vec<u8> = body.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect();
    line.push(b'\n');
    match input.lock().await.write_all(&line).await {
        Ok(()) => (StatusCode::ACCEPTED, "Accepted").into_response(),
        Err(_) => (StatusCode::NOT_FOUND, "the session has ended").into_response(),
    }
}

async fn count(State(service): State<SseService>) -> String {
    let open = service.sessions(|sessions| sessions.len());
    json!({"open": open, "living": service.counter.count()}).to_string()
}
