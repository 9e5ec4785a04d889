//! What there is to know where several clients may be attached to one session: what each has set of what the servers
//! keep once for the whole session (log level, subscriptions), and whose something is that a server names.
//!
//! A session has this only if it is found by a key that several clients may bring. The messages of any other session
//! pass as they are.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::capabilities::ClientCapabilities;
use super::{ClientId, ClientMessageKind, Outcome, RequestKind, State};
use crate::error::ProxyError;
use crate::frame::{Frame, Wire, quoted, request, string};
use crate::mcp;
use crate::session::link_phase::LinkId;

/// How many tasks and elicitations are remembered with their clients.
const MOST_OWNERS: usize = 1024;
/// Most subscriptions of one client that are counted. The servers hear of further ones, and every client of their
/// updates.
const MOST_SUBSCRIPTIONS: usize = 1024;
/// The longest URI, task id or elicitation id that is remembered, in bytes.
const LONGEST_NAME: usize = 2048;

/// The state of the key under which this session is found was lost, with the session before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LostState {
    /// How many times a session of that key has been started, this one included.
    pub generation: u64,
}

/// What the clients of a session share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// The client whose `initialize` the servers were sent, and what it declared.
    pub opener: Option<(ClientId, ClientCapabilities)>,
    /// Whether the servers have heard that the handshake is over.
    pub is_initialized: bool,
    /// The `initialize` of clients that wait for the handshake of another one.
    pub joining: Vec<(u64, Frame)>,
    /// Requests of those clients.
    pub held: Vec<(u64, Frame)>,
    /// The result of `initialize` that was made of those of several servers.
    pub merged_result: Option<Arc<[u8]>>,
    /// The log level that the servers were told.
    log_level: Option<LogLevel>,
    /// Whose tasks and elicitations these are, newest last.
    owners: VecDeque<(LinkId, Box<str>, ClientId)>,
    /// What the next request has to be told that needs the state.
    pub lost: Option<LostState>,
}

impl Shared {
    pub(super) fn new(lost: Option<LostState>) -> Self {
        Self { lost, ..Self::default() }
    }

    fn remember_owner(&mut self, link: LinkId, name: &str, client: ClientId) {
        if name.len() > LONGEST_NAME {
            return;
        }
        if self.owners.len() == MOST_OWNERS {
            self.owners.pop_front();
        }
        self.owners.push_back((link, name.into(), client));
    }

    fn owner(&self, link: LinkId, name: &str) -> Option<ClientId> {
        self.owners.iter().rev().find(|(of, known, _)| *of == link && **known == *name).map(|(.., client)| *client)
    }
}

/// A severity of log messages, the least severe first (RFC 5424).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LogLevel(u8);

impl LogLevel {
    const NAMES: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

    fn read(frame: &Frame) -> Option<Self> {
        let name = text(frame, "level")?;
        let place = Self::NAMES.iter().position(|known| *known == name)?;
        u8::try_from(place).ok().map(Self)
    }

    fn name(self) -> &'static str {
        Self::NAMES.get(usize::from(self.0)).copied().unwrap_or("debug")
    }
}

/// The resources to which a client has subscribed, by the URIs that it has used.
#[derive(Debug, Default)]
pub(super) struct Subscriptions(Option<Box<BTreeSet<Box<str>>>>);

impl Subscriptions {
    fn contains(&self, uri: &str) -> bool {
        self.0.as_ref().is_some_and(|uris| uris.contains(uri))
    }

    fn add(&mut self, uri: &str) {
        let uris = self.0.get_or_insert_default();
        if uris.len() < MOST_SUBSCRIPTIONS && uri.len() <= LONGEST_NAME {
            uris.insert(uri.into());
        }
    }

    fn remove(&mut self, uri: &str) {
        if let Some(uris) = &mut self.0 {
            uris.remove(uri);
        }
    }

    pub(super) fn into_uris(self) -> impl Iterator<Item = Box<str>> {
        self.0.map(|uris| *uris).into_iter().flatten()
    }
}

/// Which clients a notification is for that belongs to no request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Audience {
    All,
    Only(ClientId),
    /// Those that want log messages of this severity.
    Log(LogLevel),
    /// Those that have subscribed to this resource.
    Subscribers(Box<str>),
}

/// A string in the `params` of a message.
fn text(frame: &Frame, member: &str) -> Option<String> {
    let range = frame.lookup_range(&["params", member]).ok().flatten()?;
    string(frame.bytes(), range).map(|text| text.to_string())
}

impl State {
    /// Deals with a request of one of several clients whose servers must not see it as it is; gives it back if it is to
    /// be forwarded.
    pub(super) fn share_request(&mut self, number: u64, frame: Frame) -> Option<Frame> {
        let (client, kind) = self.pending.client_request(number).map(|request| (request.client, request.kind))?;
        match kind {
            RequestKind::Initialize => self.open_or_join(client, number, frame),
            _ if self.must_wait(client) => {
                self.shared.as_mut()?.held.push((number, frame));
                None
            }
            RequestKind::LogLevel => self.share_log_level(number, client, frame),
            RequestKind::Subscribe | RequestKind::Unsubscribe => self.share_subscription(number, client, kind, frame),
            RequestKind::Task | RequestKind::Other => Some(frame),
        }
    }

    /// The servers get the least severe level that any client wants, and hear of it when that changes.
    fn share_log_level(&mut self, number: u64, client: ClientId, mut frame: Frame) -> Option<Frame> {
        let Some(level) = LogLevel::read(&frame) else { return Some(frame) };
        self.clients.get_mut(client)?.log_level = Some(level);
        let least = self.clients.iter().filter_map(|client| client.log_level).min();
        let shared = self.shared.as_mut()?;
        if shared.log_level == least {
            self.respond_with_empty_result(number);
            return None;
        }
        shared.log_level = least;
        let Some(least) = least.filter(|least| *least != level) else { return Some(frame) };
        let Ok(splice) = frame.splice().set(&["params", "level"], quoted(least.name())) else { return Some(frame) };
        let edited = Frame::parse(splice.finish().into_bytes()).ok()?;
        Some(edited.with_permit(frame.take_permit()).with_headers(frame.headers().cloned()))
    }

    /// The servers hear of the first client that subscribes to a resource, and of the last one that does no more.
    fn share_subscription(&mut self, number: u64, client: ClientId, kind: RequestKind, frame: Frame) -> Option<Frame> {
        let Some(uri) = text(&frame, "uri") else { return Some(frame) };
        let is_other = |other: &super::Client| other.id != client && other.subscriptions.contains(&uri);
        if self.clients.iter().any(is_other) {
            let own = &mut self.clients.get_mut(client)?.subscriptions;
            if kind == RequestKind::Subscribe {
                own.add(&uri)
            } else {
                own.remove(&uri)
            }
            self.respond_with_empty_result(number);
            return None;
        }
        self.pending.client_request_mut(number)?.uri = Some(uri.into());
        Some(frame)
    }

    fn respond_with_empty_result(&mut self, number: u64) {
        let Some(request) = self.take_client_request(number) else { return };
        let Some(id) = &request.id else { return };
        let wire = crate::frame::response(id, "{}");
        self.respond_to_client(request, wire, Outcome::Result);
    }

    /// Notes what the response to a request has changed for its client.
    pub(super) fn note_outcome(&mut self, kind: RequestKind, client: ClientId, uri: Option<&str>, outcome: Outcome) {
        let is_result = outcome == Outcome::Result;
        let Some(shared) = &mut self.shared else { return };
        if kind == RequestKind::LogLevel && !is_result {
            // The servers have kept the level that they had, which nobody knows any more.
            shared.log_level = None;
        }
        let (Some(uri), true, Some(client)) = (uri, is_result, self.clients.get_mut(client)) else { return };
        match kind {
            RequestKind::Subscribe => client.subscriptions.add(uri),
            RequestKind::Unsubscribe => client.subscriptions.remove(uri),
            _ => {}
        }
    }

    /// Ends the subscriptions of a client that has left, but for those that others have as well. Nobody hears the
    /// servers' responses.
    pub(super) fn unsubscribe(&mut self, left: ClientId, uris: impl Iterator<Item = Box<str>>) {
        for uri in uris {
            if self.clients.iter().any(|client| client.subscriptions.contains(&uri)) {
                continue;
            }
            let params = serde_json::json!({ "uri": &*uri }).to_string();
            let wire = request(&crate::frame::Id::number(0), mcp::RESOURCES_UNSUBSCRIBE, Some(&params));
            let Ok(frame) = Frame::parse(wire.into_bytes()) else { continue };
            self.request_for_nobody(left, frame);
        }
    }

    /// Notes whose task was made by the response to this request, or that a client was asked to visit a URL: what the
    /// server says of either later is for that client.
    pub(super) fn note_owner(&mut self, link: LinkId, client: ClientId, frame: &Frame) {
        let Some(shared) = &mut self.shared else { return };
        let place: &[&str] =
            if frame.result().is_some() { &["result", "task", "taskId"] } else { &["params", "elicitationId"] };
        let range = frame.lookup_range(place).ok().flatten();
        if let Some(name) = range.and_then(|range| string(frame.bytes(), range)) {
            shared.remember_owner(link, &name, client);
        }
    }

    /// Which clients a server's notification is for that belongs to no request. `uri` is what clients call the resource
    /// of an update.
    pub(super) fn audience(&self, link: LinkId, frame: &Frame, uri: Option<String>) -> Audience {
        let Some(shared) = &self.shared else { return Audience::All };
        let owner = |member| text(frame, member).and_then(|name| shared.owner(link, &name)).map(Audience::Only);
        let found = match frame.method() {
            Some(mcp::LOG_MESSAGE) => LogLevel::read(frame).map(Audience::Log),
            Some(mcp::RESOURCES_UPDATED) => {
                let uri = uri.or_else(|| text(frame, "uri"));
                // An update may name a part of what was subscribed to: then it is for all.
                let is_known = |uri: &String| self.clients.iter().any(|client| client.subscriptions.contains(uri));
                uri.filter(is_known).map(|uri| Audience::Subscribers(uri.into()))
            }
            Some(mcp::TASKS_STATUS) => owner("taskId"),
            Some(mcp::ELICITATION_COMPLETE) => owner("elicitationId"),
            _ => None,
        };
        found.unwrap_or(Audience::All)
    }

    /// Sends a notification once to each client that it is for and that is there.
    pub(super) fn notify(&mut self, link: LinkId, mut wire: Wire, audience: &Audience) {
        if self.shared.is_none() {
            if let Some(only) = self.clients.only() {
                self.route(link, self.destination_of(only, link), only, wire, ClientMessageKind::Notification);
            }
            return;
        }
        let is_for = |client: &super::Client| match audience {
            Audience::All => true,
            Audience::Only(id) => client.id == *id,
            Audience::Log(severity) => client.log_level.is_none_or(|least| *severity >= least),
            Audience::Subscribers(uri) => client.subscriptions.contains(uri),
        };
        let there = self.clients.iter().filter(|client| client.is_ready() && !client.is_absent(self.now));
        let clients: Vec<_> = there.filter(|client| is_for(client)).map(|client| client.id).collect();
        let permit = wire.take_permit().map(crate::frame::Permit::shared);
        for client in clients {
            let copy = wire.clone_parts().with_permit(permit.as_ref().map(|permit| permit()));
            self.route(link, self.destination_of(client, link), client, copy, ClientMessageKind::Notification);
        }
    }

    /// What a request is told because the state of its session's key was lost: the first one that needs the state.
    pub(super) fn take_lost_state(&mut self, frame: &Frame) -> Option<ProxyError> {
        let needs_no_state = matches!(
            frame.method(),
            Some(
                mcp::INITIALIZE
                    | mcp::PING
                    | mcp::LOGGING_SET_LEVEL
                    | mcp::TOOLS_LIST
                    | mcp::PROMPTS_LIST
                    | mcp::RESOURCES_LIST
                    | mcp::RESOURCE_TEMPLATES_LIST
            )
        );
        if needs_no_state {
            return None;
        }
        let LostState { generation } = self.shared.as_mut()?.lost.take()?;
        Some(ProxyError::StateLost { generation, session: self.name.clone() })
    }
}
