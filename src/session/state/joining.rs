//! Clients that join a session which lives already, and clients that leave one which lives on.
//!
//! The servers are sent one `initialize`, that of the first client. A client that joins has its answer from the session:
//! what the servers have answered, with the older of both protocol versions. While the handshake is under way, it waits
//! for its end, and so do the requests that it sends meanwhile; if the servers refuse, its own `initialize` is next.

use std::time::Duration;

use super::client::{Client, ClientPhase, MOST_CLIENTS};
use super::from_client::NO_STREAM;
use super::{ClientId, ClientRequest, Destination, Effect, EndReason, Keeper, ONLY_LINK, Outcome, RequestKind, State};
use crate::error::ProxyError;
use crate::frame::{self, Frame, Id, Wire, notification, quoted, response};
use crate::link::Purpose;
use crate::mcp;
use crate::session::link_phase::{HandshakeStage, LinkPhase, protocol_version};
use crate::session::union::{Cancellation, UnionInput};

/// How long a response is waited for that nobody hears.
const UNHEARD_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a client that has joined may take to open its first stream, before it may have to make way.
const JUST_JOINED: Duration = Duration::from_secs(10);

impl State {
    /// A client joins. Where there are as many as there may be, one makes way that has no open stream: one that waits for
    /// no response, before others, and of those the one that was not heard of for longest. If there is none, the client
    /// is not added.
    pub(super) fn joined(&mut self, id: ClientId, keeper: Keeper) {
        if self.clients.len() >= MOST_CLIENTS {
            let away = self.clients.iter().filter(|client| !client.outbox.has_open_stream());
            // One that has just joined is still to open its first stream.
            let is_new = |client: &&Client| {
                matches!(client.phase, ClientPhase::New) && self.now < client.last_seen + JUST_JOINED
            };
            let away = away.filter(|client| !is_new(client));
            let idlest = away.min_by_key(|client| (client.requests_in_flight() > 0, client.last_seen));
            let Some(idlest) = idlest.map(|client| client.id) else { return };
            self.client_left(idlest, "too many clients");
        }
        let mut client = Client::new(id, &self.limits, self.now);
        client.keeper = keeper;
        self.clients.add(client);
    }

    /// Whether this client is a part of the session.
    pub(crate) fn has_client(&self, id: ClientId) -> bool {
        self.clients.get(id).is_some()
    }

    pub(crate) fn client_count(&self) -> usize {
        self.clients.len()
    }

    fn handshake_stage(&self) -> HandshakeStage {
        // One server is sent `initialize` as it is, also where its offers are filtered.
        if let Some(union) = self.union.as_ref().filter(|union| union.is_several()) {
            return union.handshake_stage();
        }
        match self.links.get(ONLY_LINK) {
            LinkPhase::New | LinkPhase::Refused(_) => HandshakeStage::NotBegun,
            LinkPhase::Initializing => HandshakeStage::UnderWay,
            LinkPhase::Ready(_) | LinkPhase::Gone { .. } => HandshakeStage::Done,
        }
    }

    /// The `initialize` of a client: gives it back if the servers are to be sent it.
    pub(super) fn open_or_join(&mut self, client: ClientId, number: u64, frame: Frame) -> Option<Frame> {
        let stage = self.handshake_stage();
        let capabilities = self.clients.get(client)?.capabilities;
        let shared = self.shared.as_mut()?;
        // Those that wait already come first.
        if stage == HandshakeStage::NotBegun && shared.joining.is_empty() {
            shared.opened_by(client, capabilities);
            return Some(frame);
        }
        shared.joining.push((number, frame));
        None
    }

    /// Whether the requests of this client wait until it has its answer to `initialize`.
    pub(super) fn must_wait(&self, client: ClientId) -> bool {
        let is_joining = |number| {
            self.shared.as_ref().is_some_and(|shared| shared.joining.iter().any(|(joining, _)| *joining == number))
        };
        let phase = self.clients.get(client).map(|client| &client.phase);
        matches!(phase, Some(ClientPhase::Initializing { request, .. }) if is_joining(*request))
    }

    /// Answers the clients that wait for the servers' handshake when it is done. If the servers have refused, they are
    /// sent the `initialize` of the next one.
    pub(super) fn settle_joining(&mut self) {
        while self.ending.is_none() {
            let stage = self.handshake_stage();
            let Some(shared) = self.shared.as_mut().filter(|shared| !shared.joining.is_empty()) else { break };
            match stage {
                HandshakeStage::UnderWay => break,
                HandshakeStage::NotBegun => {
                    let (number, frame) = shared.joining.remove(0);
                    let client = self.pending.client_request(number).map(|request| request.client);
                    let Some(client) = client.and_then(|client| self.clients.get(client)) else { continue };
                    shared.opened_by(client.id, client.capabilities);
                    self.dispatch(number, frame);
                }
                HandshakeStage::Done => {
                    let joining = std::mem::take(&mut shared.joining);
                    for (number, _) in joining {
                        self.answer_joining(number);
                    }
                }
            }
        }
        self.release_held();
    }

    /// Requests go out that have waited for their client's turn: its `initialize` was answered, or is its own now.
    fn release_held(&mut self) {
        let Some(shared) = self.shared.as_mut().filter(|shared| !shared.held.is_empty()) else { return };
        let mut waiting = Vec::new();
        for (number, frame) in std::mem::take(&mut shared.held) {
            let client = self.pending.client_request(number).map(|request| request.client);
            if client.is_some_and(|client| self.must_wait(client)) {
                waiting.push((number, frame));
            } else if let Some(frame) = self.share_request(number, frame) {
                self.dispatch(number, frame);
            }
        }
        if let Some(shared) = &mut self.shared {
            shared.held.splice(0..0, waiting);
        }
    }

    fn answer_joining(&mut self, number: u64) {
        let Some(request) = self.take_client_request(number) else { return };
        let asked = self.clients.get(request.client).and_then(|client| client.version.clone());
        let Some((wire, version)) = self.initialize_response(&request, asked.as_deref()) else {
            let text = "the answer of this session's servers to `initialize` is too large to be kept for a second client: \
                        have the operator take this session key out of `session_key`";
            self.respond_with_error(request, &ProxyError::InvalidRequest(text.to_owned()));
            return;
        };
        if let Some(client) = self.clients.get_mut(request.client) {
            client.phase = ClientPhase::Ready;
            client.version = version.as_deref().map(Into::into);
        }
        self.effects.push(Effect::ClientReady { client: request.client, version });
        self.respond_to_client(request, wire, Outcome::Result);
    }

    /// The session's answer to `initialize` for a client that asks for this version, and the version that it names.
    fn initialize_response(&self, request: &ClientRequest, asked: Option<&str>) -> Option<(Wire, Option<String>)> {
        let merged = self.shared.as_ref().and_then(|shared| shared.merged_result.as_deref());
        let result = merged.or_else(|| self.links.get(ONLY_LINK).answer()?.result.as_deref())?;
        let wire = response(request.id.as_ref()?, std::str::from_utf8(result).ok()?);
        let frame = Frame::parse(wire.into_bytes()).ok()?;
        let Some(negotiated) = protocol_version(&frame, "result") else { return Some((frame.into_wire(), None)) };
        let version = mcp::older_version(&negotiated, asked.unwrap_or(&negotiated)).to_owned();
        let wire = frame.splice().set(&["result", "protocolVersion"], quoted(&version)).ok()?.finish();
        Some((wire, Some(version)))
    }

    /// The end of a client's handshake. The servers hear it of the first client only; if the roots that the opener has
    /// told them of may change, they hear of a change with each that joins.
    pub(super) fn on_shared_initialized(&mut self, client: ClientId, frame: Frame) {
        let is_waiting = self.must_wait(client);
        let is_new = self.clients.get(client).is_none_or(|client| matches!(client.phase, ClientPhase::New));
        let Some(shared) = &mut self.shared else { return };
        if is_waiting || is_new {
            // What a client says too early is not what the servers wait for: another one's handshake is under way.
            return;
        }
        if !std::mem::replace(&mut shared.is_initialized, true) {
            self.forward_notification(frame, Purpose::Initialized);
            return;
        }
        let is_joiner = shared.opener.is_some_and(|(opener, _)| opener != client);
        if is_joiner && self.opener_tells_of_roots() {
            let wire = notification(mcp::ROOTS_LIST_CHANGED, None);
            if let Ok(changed) = Frame::parse(wire.into_bytes()) {
                self.forward_notification(changed, Purpose::Notification);
            }
        }
    }

    /// Whether the servers were told that roots may change: what they were not told of, they do not expect.
    pub(super) fn opener_tells_of_roots(&self) -> bool {
        let opener = self.shared.as_ref().and_then(|shared| shared.opener);
        opener.is_some_and(|(_, capabilities)| capabilities.roots_list_changed)
    }

    /// Sends the servers a request whose response nobody waits for, and returns its number.
    pub(super) fn request_for_nobody(
        &mut self,
        client: ClientId,
        kind: RequestKind,
        method: &str,
        params: &str,
    ) -> Option<u64> {
        let frame = Frame::parse(frame::request(&Id::number(0), method, Some(params)).into_bytes()).ok()?;
        let mut request = ClientRequest::new(Destination { client, stream: NO_STREAM }, None, None);
        request.kind = kind;
        request.deadline = Some(self.now + self.limits.request_timeout.unwrap_or(UNHEARD_TIMEOUT));
        let number = self.pending.add_client_request(request);
        self.dispatch(number, frame);
        Some(number)
    }

    /// Takes out a client, with all that waits for it; its requests are answered with the reason. Its session lives on.
    pub(super) fn client_left(&mut self, id: ClientId, why: &'static str) {
        for number in self.pending.client_requests_of(id) {
            self.abandon_request(number, why);
        }
        for number in self.pending.server_requests_for(id) {
            self.fail_server_request(number, &ProxyError::Undeliverable);
        }
        let Some(mut client) = self.clients.remove(id) else { return };
        self.effects.extend(client.outbox.detach_all().into_iter().map(|stream| Effect::Close { stream }));
        self.effects.push(Effect::ClientLeft { client: id });
        self.withdraw_settings(id, client.subscriptions.into_uris());
    }

    /// The client of a request is gone. The servers are told, but of `initialize`: it cannot be cancelled, and others may
    /// wait for the response.
    fn abandon_request(&mut self, number: u64, why: &'static str) {
        let Some(request) = self.pending.client_request(number) else { return };
        let (link, kind) = (request.link, request.kind);
        let is_waiting = self.shared.as_ref().is_some_and(|shared| shared.is_waiting(number));
        if kind == RequestKind::Initialize && !is_waiting {
            return;
        }
        let Some(request) = self.take_client_request(number) else { return };
        self.respond_with_error(request, &ProxyError::SessionEnded { reason: why, session: self.name.clone() });
        let cancellation = Cancellation::Because("the client has left");
        match link {
            _ if is_waiting => {}
            Some(link) => {
                let (wire, purpose) = (cancellation.notification(number), Purpose::Cancel(number));
                self.effects.push(Effect::ToServer { link, wire, purpose });
            }
            None => self.apply_to_union(UnionInput::Withdrawn { number, cancellation }),
        }
    }

    /// The clients of a session that outlives them, and that were not heard of for too long, are forgotten.
    pub(super) fn forget_idle_clients(&mut self) {
        let (Some(after), true) = (self.limits.idle_timeout, self.shared.is_some()) else { return };
        let idle = |client: &Client| client.forgotten_at(after).is_some_and(|at| at <= self.now);
        let idle: Vec<_> = self.clients.iter().filter(|client| idle(client)).map(|client| client.id).collect();
        for client in idle {
            self.client_left(client, "idle");
        }
    }

    /// Clients that are gone are taken out of a session that outlives them. If nobody has opened it, and no client is
    /// left who could, it ends: there is nothing to keep.
    pub(super) fn take_out_gone_clients(&mut self) {
        if self.shared.is_none() {
            return;
        }
        let gone = self.clients.iter().filter_map(|client| match client.phase {
            ClientPhase::Gone { why } => Some((client.id, why)),
            _ => None,
        });
        let gone: Vec<_> = gone.collect();
        for (client, why) in gone {
            self.client_left(client, why);
        }
        if self.clients.is_empty() && !self.links.any_ready() {
            self.end(EndReason::Refused);
        }
    }
}
