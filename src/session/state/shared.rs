//! What there is to know where several clients may be attached to one session: what each has set of what the servers
//! keep once for the whole session (log level, subscriptions), and whose something is that a server names.
//!
//! A session has this only if it is found by a key that several clients may bring. The messages of any other session
//! pass as they are.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::capabilities::ClientCapabilities;
use super::{ClientId, ClientMessageKind, Outcome, RequestKind, State};
use crate::error::ProxyError;
use crate::frame::{Frame, Wire, quoted, string};
use crate::mcp;
use crate::session::link_phase::LinkId;

/// How many tasks and elicitations are remembered with their clients.
const MOST_OWNERS: usize = 1024;
/// Most subscriptions of one client. Further ones are forwarded, but nobody is told of their updates.
const MOST_SUBSCRIPTIONS: usize = 1024;
/// How many subscriptions of a client that has left are ended. The servers keep those above, and tell nobody.
const MOST_UNSUBSCRIBED: usize = 64;
/// What names the task that a message belongs to, in its `_meta` (2025-11-25, basic/utilities/tasks).
const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";
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
    /// The log level that the servers were told, and have confirmed.
    log_level: Option<LogLevel>,
    /// Whose tasks and elicitations these are, newest last.
    owners: VecDeque<(LinkId, Box<str>, ClientId)>,
    /// What the next request has to be told that needs the state.
    pub lost: Option<LostState>,
    /// How many times a session of this key was started.
    pub generation: u64,
}

impl Shared {
    pub(super) fn new(lost: Option<LostState>) -> Self {
        Self { lost, generation: lost.map_or(1, |lost| lost.generation), ..Self::default() }
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

    /// The servers are sent the `initialize` of this client.
    pub(super) fn opened_by(&mut self, client: ClientId, capabilities: ClientCapabilities) {
        self.opener = Some((client, capabilities));
        self.is_initialized = false;
    }

    /// Whether this request waits for the handshake of another client.
    pub(super) fn is_waiting(&self, number: u64) -> bool {
        let waits = |of: &[(u64, Frame)]| of.iter().any(|(waiting, _)| *waiting == number);
        waits(&self.joining) || waits(&self.held)
    }

    /// A request that may have waited for a handshake is over.
    pub(super) fn forget_waiting(&mut self, number: u64) {
        self.joining.retain(|(waiting, _)| *waiting != number);
        self.held.retain(|(waiting, _)| *waiting != number);
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
        text(frame, "level").and_then(|name| Self::named(&name))
    }

    fn named(name: &str) -> Option<Self> {
        let place = Self::NAMES.iter().position(|known| *known == name)?;
        u8::try_from(place).ok().map(Self)
    }

    fn name(self) -> &'static str {
        Self::NAMES.get(usize::from(self.0)).copied().unwrap_or("debug")
    }
}

/// The resources to which a client has subscribed, by the URIs that it has used: whether the servers have confirmed it.
#[derive(Debug, Default)]
#[expect(clippy::box_collection, reason = "most clients have none, and every session has a client")]
pub(super) struct Subscriptions(Option<Box<BTreeMap<Box<str>, bool>>>);

impl Subscriptions {
    fn contains(&self, uri: &str) -> bool {
        self.0.as_ref().is_some_and(|uris| uris.contains_key(uri))
    }

    fn is_confirmed(&self, uri: &str) -> bool {
        self.0.as_ref().is_some_and(|uris| uris.get(uri) == Some(&true))
    }

    /// Whether the client has subscribed to this resource, or to one that it is a part of.
    fn cover(&self, uri: &str) -> bool {
        self.0.as_ref().is_some_and(|uris| uris.keys().any(|known| uri.starts_with(&**known)))
    }

    fn set(&mut self, uri: &str, is_confirmed: bool) {
        let uris = self.0.get_or_insert_default();
        if uris.len() < MOST_SUBSCRIPTIONS && uri.len() <= LONGEST_NAME || uris.contains_key(uri) {
            uris.insert(uri.into(), is_confirmed);
        }
    }

    fn remove(&mut self, uri: &str) {
        if let Some(uris) = &mut self.0 {
            uris.remove(uri);
        }
    }

    pub(super) fn into_uris(self) -> impl Iterator<Item = Box<str>> {
        self.0.map(|uris| *uris).into_iter().flatten().map(|(uri, _)| uri)
    }
}

/// Which clients a notification is for that belongs to no request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Audience {
    All,
    Nobody,
    Only(ClientId),
    /// Those that want log messages of this severity.
    Log(LogLevel),
    /// Those that have subscribed to this resource.
    Subscribers(Box<str>),
}

/// A string in the `params` of a message.
fn text(frame: &Frame, member: &str) -> Option<String> {
    let range = frame.lookup_range(&["params", member]).ok().flatten()?;
    string(frame.bytes(), range)
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
        let least = self.least_log_level().unwrap_or(level);
        if self.shared.as_ref()?.log_level == Some(least) {
            self.respond_with_empty_result(number);
            return None;
        }
        self.pending.client_request_mut(number)?.subject = Some(least.name().into());
        if least == level {
            return Some(frame);
        }
        let Ok(splice) = frame.splice().set(&["params", "level"], quoted(least.name())) else { return Some(frame) };
        let edited = Frame::parse(splice.finish().into_bytes()).ok()?;
        Some(edited.with_permit(frame.take_permit()).with_headers(frame.headers().cloned()))
    }

    fn least_log_level(&self) -> Option<LogLevel> {
        self.clients.iter().filter_map(|client| client.log_level).min()
    }

    /// The servers hear of the first client that subscribes to a resource, and of the last one that does no more. What
    /// a client has asked for counts from the moment in which the servers are sent it, because they deal with it in that
    /// order; but only what they have confirmed is an answer to another client.
    fn share_subscription(&mut self, number: u64, client: ClientId, kind: RequestKind, frame: Frame) -> Option<Frame> {
        let Some(uri) = text(&frame, "uri") else { return Some(frame) };
        let is_subscription = kind == RequestKind::Subscribe;
        let is_other = |other: &super::Client| {
            let has = if is_subscription {
                other.subscriptions.is_confirmed(&uri)
            } else {
                other.subscriptions.contains(&uri)
            };
            other.id != client && has
        };
        let others_have = self.clients.iter().any(is_other);
        let own = &mut self.clients.get_mut(client)?.subscriptions;
        if is_subscription {
            own.set(&uri, others_have);
        } else {
            own.remove(&uri);
        }
        if others_have {
            self.respond_with_empty_result(number);
            return None;
        }
        self.pending.client_request_mut(number)?.subject = Some(uri.into());
        Some(frame)
    }

    fn respond_with_empty_result(&mut self, number: u64) {
        let Some(request) = self.take_client_request(number) else { return };
        let Some(id) = &request.id else { return };
        let wire = crate::frame::response(id, "{}");
        self.respond_to_client(request, wire, Outcome::Result);
    }

    /// Notes what the response to a request has changed for its client. `subject` is the resource, or the level that the
    /// servers were sent.
    pub(super) fn note_outcome(
        &mut self,
        kind: RequestKind,
        client: ClientId,
        subject: Option<&str>,
        outcome: Outcome,
    ) {
        let (Some(shared), Some(subject)) = (&mut self.shared, subject) else { return };
        let (is_result, client) = (outcome == Outcome::Result, self.clients.get_mut(client));
        match (kind, client) {
            (RequestKind::LogLevel, _) if is_result => shared.log_level = LogLevel::named(subject),
            (RequestKind::LogLevel, Some(client)) => client.log_level = None,
            (RequestKind::Subscribe, Some(client)) if is_result => client.subscriptions.set(subject, true),
            (RequestKind::Subscribe, Some(client)) => client.subscriptions.remove(subject),
            _ => {}
        }
    }

    /// Tells the servers what is no longer wanted after a client has left: subscriptions that no other client has, and
    /// log messages that are less severe than any other client wants. Nobody hears the servers' responses.
    pub(super) fn withdraw_settings(&mut self, left: ClientId, uris: impl Iterator<Item = Box<str>>) {
        for uri in uris.take(MOST_UNSUBSCRIBED) {
            if !self.clients.iter().any(|client| client.subscriptions.contains(&uri)) {
                let params = serde_json::json!({ "uri": &*uri }).to_string();
                self.request_for_nobody(left, RequestKind::Other, mcp::RESOURCES_UNSUBSCRIBE, &params);
            }
        }
        let told = self.shared.as_ref().and_then(|shared| shared.log_level);
        if let (Some(told), Some(least)) = (told, self.least_log_level())
            && told < least
        {
            let params = serde_json::json!({ "level": least.name() }).to_string();
            let number = self.request_for_nobody(left, RequestKind::LogLevel, mcp::LOGGING_SET_LEVEL, &params);
            if let Some(request) = number.and_then(|number| self.pending.client_request_mut(number)) {
                request.subject = Some(least.name().into());
            }
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
        // What nobody is known to have is for nobody: it was somebody's who has left.
        let owner = |member| {
            let name = text(frame, member)?;
            Some(shared.owner(link, &name).map_or(Audience::Nobody, Audience::Only))
        };
        let found = match frame.method() {
            Some(mcp::LOG_MESSAGE) => LogLevel::read(frame).map(Audience::Log),
            Some(mcp::RESOURCES_UPDATED) => {
                let uri = uri.or_else(|| text(frame, "uri"));
                uri.map(|uri| Audience::Subscribers(uri.into()))
            }
            Some(mcp::TASKS_STATUS) => owner("taskId"),
            Some(mcp::ELICITATION_COMPLETE) => owner("elicitationId"),
            _ => self.owner_of_related_task(link, frame).map(Audience::Only),
        };
        found.unwrap_or(Audience::All)
    }

    pub(super) fn is_for(&self, client: ClientId, audience: &Audience) -> bool {
        let Some(client) = self.clients.get(client) else { return false };
        match audience {
            _ if self.shared.is_none() => true,
            Audience::All => true,
            Audience::Nobody => false,
            Audience::Only(id) => client.id == *id,
            Audience::Log(severity) => client.log_level.is_none_or(|least| *severity >= least),
            Audience::Subscribers(uri) => client.subscriptions.cover(uri),
        }
    }

    /// The client whose task a message says it belongs to.
    pub(super) fn owner_of_related_task(&self, link: LinkId, frame: &Frame) -> Option<ClientId> {
        let shared = self.shared.as_ref()?;
        let range = frame.lookup_range(&["params", "_meta", RELATED_TASK, "taskId"]).ok().flatten()?;
        string(frame.bytes(), range).and_then(|task| shared.owner(link, &task))
    }

    /// Sends a notification once to each client that it is for and that is there.
    pub(super) fn notify(&mut self, link: LinkId, mut wire: Wire, audience: &Audience) {
        if self.shared.is_none() {
            if let Some(only) = self.clients.only() {
                self.route(link, self.destination_of(only, link), only, wire, ClientMessageKind::Notification);
            }
            return;
        }
        let there = self.clients.iter().filter(|client| client.is_ready() && !client.is_absent(self.now));
        let clients: Vec<_> = there.map(|client| client.id).filter(|client| self.is_for(*client, audience)).collect();
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
