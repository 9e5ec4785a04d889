//! Clients that join a session which lives already, and clients that leave one which lives on.
//!
//! The servers are sent one `initialize`, that of the first client. A client that joins has its answer from the session:
//! what the servers have answered, with the older of both protocol versions. While the handshake is under way, it waits
//! for its end, and so do the requests that it sends meanwhile; if the servers refuse, its own `initialize` is next.

use super::client::{Client, ClientPhase, MOST_CLIENTS};
use super::{ClientId, ClientRequest, Destination, Effect, EndReason, Keeper, ONLY_LINK, Outcome, RequestKind, State};
use crate::error::ProxyError;
use crate::frame::{Frame, Wire, notification, quoted, response};
use crate::link::Purpose;
use crate::mcp;
use crate::session::link_phase::{HandshakeStage, LinkPhase, protocol_version};
use crate::session::union::{Cancellation, UnionInput};

impl State {
    /// A client joins. Where there are as many as there may be, the one that was not heard of for longest makes way, of
    /// those that have no open stream; if there is none, the client is not added.
    pub(super) fn joined(&mut self, id: ClientId, keeper: Keeper) {
        if self.clients.len() >= MOST_CLIENTS {
            let absent = self.clients.iter().filter(|client| client.forgotten_at(self.limits.lost_stream).is_some());
            let Some(idlest) = absent.min_by_key(|client| client.last_seen).map(|client| client.id) else { return };
            self.client_left(idlest);
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
        if let Some(union) = &self.union {
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
            shared.opener = Some((client, capabilities));
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
        while let Some(shared) = &mut self.shared
            && !shared.joining.is_empty()
            && self.ending.is_none()
        {
            let stage = self.handshake_stage();
            let Some(shared) = &mut self.shared else { return };
            match stage {
                HandshakeStage::UnderWay => return,
                HandshakeStage::NotBegun => {
                    let (number, frame) = shared.joining.remove(0);
                    let client = self.pending.client_request(number).map(|request| request.client);
                    let Some(client) = client.and_then(|client| self.clients.get(client)) else { continue };
                    shared.opener = Some((client.id, client.capabilities));
                    self.dispatch(number, frame);
                }
                HandshakeStage::Done => {
                    let joining = std::mem::take(&mut shared.joining);
                    let held = std::mem::take(&mut shared.held);
                    joining.into_iter().for_each(|(number, _)| self.answer_joining(number));
                    for (number, frame) in held {
                        if let Some(frame) = self.share_request(number, frame) {
                            self.dispatch(number, frame);
                        }
                    }
                }
            }
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
            client.version = Some(version.as_str().into());
        }
        self.effects.push(Effect::ClientReady { client: request.client, version: Some(version) });
        self.respond_to_client(request, wire, Outcome::Result);
    }

    /// The session's answer to `initialize` for a client that asks for this version, and the version that it names.
    fn initialize_response(&self, request: &ClientRequest, asked: Option<&str>) -> Option<(Wire, String)> {
        let merged = self.shared.as_ref().and_then(|shared| shared.merged_result.as_deref());
        let result = merged.or_else(|| self.links.get(ONLY_LINK).answer()?.result.as_deref())?;
        let wire = response(request.id.as_ref()?, std::str::from_utf8(result).ok()?);
        let frame = Frame::parse(wire.into_bytes()).ok()?;
        let negotiated = protocol_version(&frame, "result")?;
        let version = mcp::older_version(&negotiated, asked.unwrap_or(&negotiated)).to_owned();
        let wire = frame.splice().set(&["result", "protocolVersion"], quoted(&version)).ok()?.finish();
        Some((wire, version))
    }

    /// The end of a client's handshake. The servers hear it of the first client only; if the roots that the opener has
    /// told them of may change, they hear of a change with each that joins.
    pub(super) fn on_shared_initialized(&mut self, client: ClientId, frame: Frame) {
        let Some(shared) = &mut self.shared else { return };
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

    /// Sends the servers a request whose response nobody waits for.
    pub(super) fn request_for_nobody(&mut self, client: ClientId, frame: Frame) {
        let to = Destination { client, stream: super::from_client::NO_STREAM };
        let request = ClientRequest::new(to, None, None);
        let number = self.pending.add_client_request(request);
        self.dispatch(number, frame);
    }

    /// Takes out a client, with its requests and all that waits for it. Its session lives on.
    pub(super) fn client_left(&mut self, id: ClientId) {
        for number in self.pending.client_requests_of(id) {
            self.abandon_request(number);
        }
        for number in self.pending.server_requests_for(id) {
            self.fail_server_request(number, &ProxyError::Undeliverable);
        }
        if let Some(shared) = &mut self.shared {
            let pending = &self.pending;
            shared.held.retain(|(number, _)| pending.client_request(*number).is_some());
            shared.joining.retain(|(number, _)| pending.client_request(*number).is_some());
        }
        let Some(mut client) = self.clients.remove(id) else { return };
        self.effects.extend(client.outbox.detach_all().into_iter().map(|stream| Effect::Close { stream }));
        self.effects.push(Effect::ClientLeft { client: id });
        self.unsubscribe(id, client.subscriptions.into_uris());
    }

    /// The client of a request has left. The servers are told, but of `initialize`: it cannot be cancelled, and others
    /// may wait for the response.
    fn abandon_request(&mut self, number: u64) {
        let Some(request) = self.pending.client_request(number) else { return };
        let (link, kind, batch) = (request.link, request.kind, request.batch);
        let waits_here = |of: &[(u64, Frame)]| of.iter().any(|(waiting, _)| *waiting == number);
        let is_held =
            self.shared.as_ref().is_some_and(|shared| waits_here(&shared.held) || waits_here(&shared.joining));
        if kind == RequestKind::Initialize && !is_held {
            return;
        }
        self.take_client_request(number);
        if let Some(batch) = batch {
            let _ = self.pending.leave_batch(batch);
        }
        let cancellation = Cancellation::Because("the client has left");
        match link {
            _ if is_held => {}
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
        idle.into_iter().for_each(|client| self.client_left(client));
    }

    /// Clients that are gone are taken out of a session that outlives them. If nobody has opened it, and no client is
    /// left who could, it ends: there is nothing to keep.
    pub(super) fn take_out_gone_clients(&mut self) {
        if self.shared.is_none() {
            return;
        }
        let gone = self.clients.iter().filter(|client| matches!(client.phase, ClientPhase::Gone));
        let gone: Vec<_> = gone.map(|client| client.id).collect();
        gone.into_iter().for_each(|client| self.client_left(client));
        let has_state = self.links.any_ready() || self.links.any_initializing();
        if self.clients.is_empty() && !has_state {
            self.end(EndReason::Refused);
        }
    }
}
