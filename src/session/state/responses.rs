//! How responses go out: to client requests and to server requests, alone or with the rest of their batch.

use super::{
    ClientMessageKind, ClientPhase, ClientRequest, Destination, Effect, EndReason, MessageRole, Outcome, RequestKind,
    ServerRequest, State,
};
use crate::error::ProxyError;
use crate::frame::{Id, Wire};
use crate::link::Purpose;
use crate::session::link_phase::LinkId;

impl State {
    /// The response to a client request goes to its client, alone or with the rest of its batch.
    pub(super) fn respond_to_client(&mut self, request: ClientRequest, wire: Wire, outcome: Outcome) {
        let to = request.destination();
        let ClientRequest { id, batch, kind, subject, .. } = request;
        self.note_outcome(kind, to.client, subject.as_deref(), outcome);
        let role = match (kind, outcome) {
            (_, Outcome::CredentialsRefused) if batch.is_none() => MessageRole::CredentialsRefused,
            (RequestKind::Initialize, Outcome::Error | Outcome::CredentialsRefused) => MessageRole::InitializeRefused,
            (_, Outcome::Error) if batch.is_none() => MessageRole::ErrorResponse,
            _ => MessageRole::Response,
        };
        if kind == RequestKind::Initialize && outcome != Outcome::Result {
            self.initialize_refused(to);
        }
        match batch {
            None => self.send(to, wire, ClientMessageKind::Response(id.into_iter().collect()), role),
            Some(batch) => {
                let wire = self.fit(batch, wire, id.as_ref());
                // The rest of the batch may take its time: until then the response is kept for the client.
                let wire = match self.clients.get(to.client) {
                    Some(client) => client.keeper.hold(wire),
                    None => wire,
                };
                if let Some((wire, ids)) = self.pending.join_batch(batch, wire, id) {
                    self.send(to, wire, ClientMessageKind::Response(ids), role);
                }
            }
        }
        self.request_ended(to);
    }

    /// The response, if the reply to its batch has room for it: responses are collected, and nothing else bounds them.
    fn fit(&self, batch: u64, wire: Wire, id: Option<&Id>) -> Wire {
        let limit = self.limits.message_size;
        let size = self.pending.batch_bytes(batch) + wire.len();
        if size <= limit { wire } else { ProxyError::MessageTooLarge { limit, size }.to_wire(id) }
    }

    /// The client's `initialize` was answered with an error. On a connection that lasts the client may try again; on
    /// any other it has no session to do so, and could not end it either.
    fn initialize_refused(&mut self, to: Destination) {
        let Some(client) = self.clients.get_mut(to.client) else { return };
        if client.initializes_on(to.stream) {
            client.phase = ClientPhase::New;
        }
        if matches!(client.phase, ClientPhase::New) && !client.outbox.is_lasting(to.stream) {
            self.remove_client(to.client, EndReason::Refused);
        }
    }

    pub(super) fn respond_with_error(&mut self, request: ClientRequest, error: &ProxyError) {
        let wire = error.to_wire(request.id.as_ref());
        let outcome = if error.is_challenge() { Outcome::CredentialsRefused } else { Outcome::Error };
        self.respond_to_client(request, wire, outcome);
    }

    /// The response to a server's request goes back on the link that the request came from, alone or with the rest of
    /// its batch.
    pub(super) fn respond_to_server(&mut self, request: &ServerRequest, wire: Wire) {
        self.respond_on_link(request.link, Some(&request.id), request.batch, wire);
    }

    /// As [`respond_to_server`](Self::respond_to_server), also where the id of the server's request cannot be made out.
    pub(super) fn respond_on_link(&mut self, link: LinkId, id: Option<&Id>, batch: Option<u64>, wire: Wire) {
        let whole = match batch {
            None => Some(wire),
            Some(batch) => {
                let wire = self.fit(batch, wire, id);
                self.pending.join_batch(batch, wire, None).map(|(wire, _)| wire)
            }
        };
        if let Some(wire) = whole {
            self.effects.push(Effect::ToServer { link, wire, purpose: Purpose::Response });
        }
    }

    pub(super) fn send(&mut self, to: Destination, wire: Wire, kind: ClientMessageKind, role: MessageRole) {
        let Some(client) = self.clients.get_mut(to.client) else { return };
        if let Some((event, wire)) = client.outbox.record(to.stream, wire, kind, &client.keeper, self.now) {
            self.effects.push(Effect::ToClient { stream: to.stream, event, wire, role });
        }
    }

    /// A client request ends without a response, because its client does not want it any more.
    pub(super) fn end_without_response(&mut self, request: &ClientRequest) {
        let to = request.destination();
        if let Some((wire, ids)) = request.batch.and_then(|batch| self.pending.leave_batch(batch)) {
            self.send(to, wire, ClientMessageKind::Response(ids), MessageRole::Response);
        }
        self.request_ended(to);
    }

    /// A request on that stream has ended. A stream that ends with its requests is closed with the last one.
    pub(super) fn request_ended(&mut self, on: Destination) {
        let client = self.clients.get_mut(on.client);
        if client.is_some_and(|client| client.outbox.request_ended(on.stream, self.now)) {
            self.effects.push(Effect::Close { stream: on.stream });
        }
    }
}
