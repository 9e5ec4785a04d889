//! Which client a server's message is for, and which of its streams takes it.
//!
//! A message goes where the request that it belongs to came from, if the transport says which that is. Else, in a
//! session that only one client can find, there is no choice. Where several clients may be attached, a request goes to
//! exactly one that has declared what it needs, and a notification once to each that it is for (`shared.rs`).

use super::capabilities::Need;
use super::client::Destination;
use super::{ClientId, ClientMessageKind, ClientRequest, MessageRole, State};
use crate::error::ProxyError;
use crate::frame::{Frame, Wire};
use crate::session::link_phase::LinkId;

impl State {
    /// Where the response goes to the request that the transport says a message belongs to.
    pub(super) fn destination_of_request(&self, link: LinkId, on: Option<u64>) -> Option<Destination> {
        let on = on?;
        let request = match self.union.as_ref().and_then(|union| union.request_of(link, on)) {
            Some(request) => self.pending.client_request(request)?,
            None => self.pending.client_request(on).filter(|request| request.link == Some(link))?,
        };
        Some(request.destination())
    }

    /// Where a server's message goes to this client: the stream of the only request of the client that the server has
    /// in hand, else a general stream.
    pub(super) fn destination_of(&self, client: ClientId, link: LinkId) -> Option<Destination> {
        let is_asked =
            |number, request: &ClientRequest| request.client == client && self.has_in_hand(link, number, request);
        let only = self.pending.only_client_request(is_asked).map(ClientRequest::destination);
        only.filter(|to| self.clients.carries(*to)).or_else(|| {
            let stream = self.clients.get(client)?.outbox.general_stream()?;
            Some(Destination { client, stream })
        })
    }

    /// Whether the server works on that client request.
    fn has_in_hand(&self, link: LinkId, number: u64, request: &ClientRequest) -> bool {
        request.link == Some(link) || self.union.as_ref().is_some_and(|union| union.is_asked_for(link, number))
    }

    /// The client that a server request is for; `on` is where the request came from that made the server ask, if the
    /// transport says so.
    pub(super) fn client_to_ask(
        &self,
        link: LinkId,
        on: Option<Destination>,
        frame: &Frame,
    ) -> Result<ClientId, ProxyError> {
        if self.shared.is_none() {
            let only = self.clients.only().and_then(|only| self.clients.get(only));
            return only.filter(|client| !client.is_leaving()).map(|client| client.id).ok_or(ProxyError::Undeliverable);
        }
        let need = Need::of(frame);
        let able =
            |client: &super::Client| client.is_ready() && client.capabilities.have(need) && !client.is_absent(self.now);
        if let Some(on) = on {
            // No other client is asked in its place: the server asks about what this one does.
            let asked = self.clients.get(on.client).filter(|client| able(client));
            return asked.map(|client| client.id).ok_or(ProxyError::Undeliverable);
        }
        let able = self.clients.iter().filter(|client| able(client));
        // One with a request in flight before others, and the newest before older ones.
        let chosen = able.max_by_key(|client| {
            (self.pending.newest_of(client.id, |number, request| self.has_in_hand(link, number, request)), client.id)
        });
        chosen.map(|client| client.id).ok_or(ProxyError::Undeliverable)
    }

    /// Sends a message of a server to this client: on the stream `to`. Without one, the message waits until the client
    /// has a stream that can carry it.
    pub(super) fn route(
        &mut self,
        link: LinkId,
        to: Option<Destination>,
        client: ClientId,
        wire: Wire,
        kind: ClientMessageKind,
    ) {
        if let Some(to) = to {
            if let ClientMessageKind::ServerRequest(number) = kind
                && let Some(request) = self.pending.server_request_mut(number)
            {
                (request.client, request.stream) = (to.client, Some(to.stream));
            }
            self.send(to, wire, kind, MessageRole::FromServer);
            return;
        }
        let until = self.now + self.limits.stream_wait;
        let Some(client) = self.clients.get_mut(client) else { return };
        for dropped in client.waiting.push(link, &wire, kind, until, &client.keeper) {
            if let ClientMessageKind::ServerRequest(number) = dropped {
                self.fail_server_request(number, &ProxyError::Undeliverable);
            }
        }
    }

    /// Messages that wait for a stream go out when there is one, in order.
    pub(super) fn flush_waiting(&mut self) {
        let can_flush = |client: &super::Client| !client.waiting.is_empty() && client.outbox.general_stream().is_some();
        if !self.clients.iter().any(can_flush) {
            return;
        }
        let mut waiting = Vec::new();
        for client in self.clients.iter_mut().filter(|client| can_flush(client)) {
            waiting.extend(client.waiting.take().into_iter().map(|message| (client.id, message)));
        }
        for (client, message) in waiting {
            // The request that it came with, if any, had no stream that could carry it then either.
            self.route(message.link, self.destination_of(client, message.link), client, message.wire, message.kind);
        }
    }
}
