//! One session's side of a server: what its requests carry, and how what comes back is handed on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::Response;
use url::Url;

use super::body::{Parcel, Passed};
use super::events::{Event, Position};
use super::reader::Reader;
use super::rules;
use super::site::{Ask, Personal, Site};
use crate::backend::{CallFailure, Inlet, LinkExit, link};
use crate::frame::{Frame, FrameError, Id, Incoming, Kind, Wire, split};
use crate::headers::is_credential;

/// How long a server may take to accept a notification or an answer.
const ACCEPTING: Duration = Duration::from_secs(30);
/// How long a server may take to let a stream be resumed.
const RESUMING: Duration = Duration::from_secs(60);
/// How long the end of a session may take.
const DELETING: Duration = Duration::from_secs(3);

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
const EITHER: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");

/// What a session's tasks share.
pub(super) struct Link {
    pub site: Arc<Site>,
    pub inlet: Arc<dyn Inlet>,
    /// The largest message, in bytes.
    pub limit: usize,
    /// A name for logs.
    pub name: Arc<str>,
    known: Mutex<Known>,
}

/// What is known of the session on the server.
#[derive(Default)]
struct Known {
    session: Option<HeaderValue>,
    version: Option<HeaderValue>,
    /// The client's credentials, as they came last: for requests that are made on its behalf and not for one message.
    client: Personal,
}

impl Link {
    pub(super) fn new(site: Arc<Site>, inlet: Arc<dyn Inlet>, limit: usize, name: Arc<str>) -> Self {
        Self { site, inlet, limit, name, known: Mutex::default() }
    }

    fn known<T>(&self, read: impl FnOnce(&mut Known) -> T) -> T {
        read(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Forgets what the last handshake said: another one begins.
    pub(super) fn begin(&self) {
        self.known(|known| (known.session, known.version) = (None, None));
    }

    /// Takes the session id that came with the answer to `initialize`.
    pub(super) fn open(&self, headers: &HeaderMap) -> Result<(), String> {
        let session = headers.get(&SESSION).map(rules::session_id).transpose()?;
        self.known(|known| known.session = session);
        Ok(())
    }

    /// Takes the protocol version from the answer to `initialize`.
    fn agree(&self, answer: &Frame) {
        let version = answer.lookup(&["result", "protocolVersion"]).ok().flatten();
        let version = version.and_then(|raw| serde_json::from_slice::<String>(raw).ok());
        self.known(|known| known.version = version.as_deref().and_then(rules::version));
    }

    /// Whether the server keeps a session for this link.
    pub(super) fn has_session(&self) -> bool {
        self.known(|known| known.session.is_some())
    }

    /// The headers of the client's that are to go with this message.
    pub(super) fn personal(&self, wire: &Wire) -> Personal {
        let personal = self.site.personal(wire.forwarded());
        if wire.forwarded().is_some() {
            let credentials = personal.iter().filter(|(name, _)| is_credential(name));
            self.known(|known| known.client = credentials.cloned().collect());
        }
        personal
    }

    fn transport_headers(&self, accept: HeaderValue) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(header::ACCEPT, accept);
        self.known(|known| {
            headers.extend(known.session.iter().map(|session| (SESSION, session.clone())));
            headers.extend(known.version.iter().map(|version| (VERSION, version.clone())));
        });
        headers
    }

    /// A message as a POST. `passed` is dropped when it has been written.
    pub(super) fn post(&self, url: &Url, wire: Wire, personal: Personal, passed: Option<Passed>) -> Ask {
        let mut headers = self.transport_headers(EITHER);
        headers.insert(header::CONTENT_TYPE, JSON);
        Ask { headers, personal, parcel: Some(Parcel::new(wire, passed)), ..Ask::new(Method::POST, url) }
    }

    /// A message as a POST that has no answer: it may be sent again until somebody is there to take it.
    pub(super) fn post_notice(&self, url: &Url, wire: Wire) -> Ask {
        let personal = self.personal(&wire);
        Ask { patience: Some(ACCEPTING), insist: true, ..self.post(url, wire, personal, None) }
    }

    /// A stream of the server's messages, on behalf of the client and not for one message.
    pub(super) fn listen(&self, position: &Position) -> Ask {
        let personal = self.known(|known| known.client.clone());
        let mut headers = self.transport_headers(EVENTS);
        headers.extend(rules::last_event_id(position).map(|id| (LAST_EVENT_ID, id)));
        Ask { headers, personal, ..Ask::new(Method::GET, &self.site.url) }
    }

    /// The rest of the stream of a call that came with `personal`.
    pub(super) async fn resume(&self, position: &Position, personal: &Personal) -> Result<Response, CallFailure> {
        let ask = Ask { personal: personal.clone(), patience: Some(RESUMING), ..self.listen(position) };
        self.site.send(ask).await
    }

    /// Ends the session on the server, if there is one. That it may not be ended in this way is fine.
    pub(super) async fn delete(&self) {
        if !self.has_session() {
            return;
        }
        let ask = Ask { method: Method::DELETE, ..self.listen(&Position::default()) };
        let done = tokio::time::timeout(DELETING, self.site.send(ask)).await;
        match done {
            Ok(Ok(response)) => {
                tracing::debug!(link = %self.name, status = response.status().as_u16(), "session deleted");
            }
            Ok(Err(failure)) => tracing::debug!(link = %self.name, ?failure, "the session could not be deleted"),
            Err(_) => tracing::debug!(link = %self.name, "the deletion of the session was not answered"),
        }
    }

    /// That the server does not know the session any more.
    pub(super) fn lost() -> LinkExit {
        LinkExit::Lost {
            reason: "it does not know this session any more, and answered with HTTP status 404".to_owned(),
        }
    }

    /// Hands on what belongs to no call. True if anything came.
    pub(super) async fn carry(&self, reader: &mut Reader, mut see: impl FnMut(&Frame)) -> Result<bool, String> {
        while let Some(event) = reader.next().await? {
            match event {
                Event::Message(data) => {
                    let size = data.len();
                    let received = split(data);
                    match &received {
                        Ok(Incoming::One(frame)) => see(frame),
                        Ok(Incoming::Batch(frames)) => frames.iter().flatten().for_each(&mut see),
                        Err(_) => {}
                    }
                    link::hand_on(received, size, None, &*self.inlet).await;
                }
                Event::Other(..) => {}
                Event::Oversized { id, request, size } => self.inlet.oversized(id, request, size),
            }
        }
        Ok(reader.progressed())
    }

    /// Hands on what came for a call, and says what it was.
    pub(super) async fn hand_on(&self, data: Bytes, call: u64, opening: bool) -> Handed {
        let size = data.len();
        let mut received = split(data);
        let id = Id::number(call);
        if let Ok(Incoming::One(frame)) = &received
            && let Some(mended) = addressed(frame, &id)
        {
            received = split(mended);
        }
        let answers = |frame: &Frame| frame.kind() == Kind::Response && frame.id().as_ref() == Some(&id);
        let answer = match &received {
            Ok(Incoming::One(frame)) => answers(frame).then_some(frame),
            Ok(Incoming::Batch(frames)) => frames.iter().flatten().find(|frame| answers(frame)),
            Err(error) => return Handed::Bad(error.clone()),
        };
        let handed = if answer.is_some() { Handed::Answer } else { Handed::Other };
        if let (Some(answer), true) = (answer, opening) {
            self.agree(answer);
        }
        link::hand_on(received, size, Some(call), &*self.inlet).await;
        handed
    }

    /// Hands on that what came for a call is no message. True if that is the call's outcome.
    pub(super) fn hand_on_bad(&self, error: FrameError, call: u64) -> bool {
        let answered = error.about != Some(Kind::Request) && error.id == Some(Id::number(call));
        self.inlet.deliver(Err(error), Some(call));
        answered
    }
}

/// What came for a call.
pub(super) enum Handed {
    /// Its answer, alone or among others.
    Answer,
    /// Something else.
    Other,
    /// No message, and it was not handed on.
    Bad(FrameError),
}

/// An error that does not say what it answers, with the id of the call that it came for.
fn addressed(frame: &Frame, id: &Id) -> Option<Bytes> {
    if !frame.is_error() || frame.id().is_some() {
        return None;
    }
    Some(frame.splice().set(&["id"], id.raw()).ok()?.finish().into_bytes())
}

/// The JSON-RPC error in the body of a refusal, as the answer to this call; `None` if it is none.
pub(super) fn explained(body: &Bytes, call: u64) -> Option<Bytes> {
    let Ok(Incoming::One(frame)) = split(body.clone()) else { return None };
    if !frame.is_error() {
        return None;
    }
    let id = Id::number(call);
    match frame.id() {
        Some(found) if found == id => Some(frame.bytes().clone()),
        // Some servers put in what they like; it came with this call and answers no other.
        _ => Some(frame.splice().set(&["id"], id.raw()).ok()?.finish().into_bytes()),
    }
}
