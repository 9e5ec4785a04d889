//! Which client a server's message is for, and which of its streams takes it.
//!
//! A message goes where the request that it belongs to came from, if the transport says which that is. Else, in a
//! session that only one client can find, there is no choice. Where several clients may be attached, a request goes to
//! exactly one that has declared what it needs, and a notification once to each that it is for (`shared.rs`).

use super::capabilities::Need;
use super::client::{Client, Destination};
use super::{ClientId, ClientMessageKind, ClientRequest, MessageRole, State};
use crate::error::ProxyError;
use crate::frame::{Frame, Wire};
use crate::session::link_phase::LinkId;

/// What made a server send a message, as far as its transport says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Unknown,
    /// A request of the client to which the response goes there.
    Request(Destination),
    /// A request that was cancelled, or whose client has left: the message is for nobody else.
    RequestThatIsOver,
}

impl Origin {
    pub(super) fn request(self) -> Option<Destination> {
        if let Self::Request(to) = self { Some(to) } else { None }
    }
}

impl State {
    /// What the transport says of the request that a message belongs to: `on` is its number, 0 that of no request.
    pub(super) fn origin(&self, link: LinkId, on: Option<u64>) -> Origin {
        let Some(on) = on.filter(|on| *on > 0) else { return Origin::Unknown };
        let request = match self.union.as_ref().and_then(|union| union.request_of(link, on)) {
            Some(request) => self.pending.client_request(request),
            None => self.pending.client_request(on).filter(|request| request.link == Some(link)),
        };
        let is_of_union = || self.union.as_ref().is_some_and(|union| union.has_sub_request(link, on));
        match request {
            Some(request) => Origin::Request(request.destination()),
            None if self.shared.is_none() || is_of_union() => Origin::Unknown,
            None => Origin::RequestThatIsOver,
        }
    }

    /// Where a server's message goes to this client: the stream of the only request of the client that the server has
    /// in hand, else a general stream.
    pub(super) fn destination_of(&self, client: ClientId, link: LinkId) -> Option<Destination> {
        let client = self.clients.get(client)?;
        let mut asked = self.in_hand(client, link);
        let only = asked.next().filter(|_| asked.next().is_none()).map(|(_, request)| request.destination());
        only.filter(|to| self.clients.carries(*to)).or_else(|| {
            let stream = client.outbox.general_stream()?;
            Some(Destination { client: client.id, stream })
        })
    }

    /// The requests of a client that the server works on.
    fn in_hand<'a>(&'a self, client: &'a Client, link: LinkId) -> impl Iterator<Item = (u64, &'a ClientRequest)> {
        let requests = client.numbers().filter_map(|number| Some((number, self.pending.client_request(number)?)));
        requests.filter(move |(number, request)| {
            request.link == Some(link) || self.union.as_ref().is_some_and(|union| union.is_asked_for(link, *number))
        })
    }

    /// The client that a server request is for.
    pub(super) fn client_to_ask(&self, link: LinkId, origin: Origin, frame: &Frame) -> Result<ClientId, ProxyError> {
        if self.shared.is_none() {
            let only = self.clients.only().and_then(|only| self.clients.get(only));
            return only.filter(|client| !client.is_leaving()).map(|client| client.id).ok_or(ProxyError::Undeliverable);
        }
        let need = Need::of(frame);
        let able = |client: &Client| client.is_ready() && client.capabilities.have(need) && !client.is_absent(self.now);
        let named = match origin {
            Origin::Request(to) => Some(to.client),
            Origin::RequestThatIsOver => return Err(ProxyError::Undeliverable),
            Origin::Unknown => self.owner_of_related_task(link, frame),
        };
        if let Some(named) = named {
            // No other client is asked in its place: the server asks about what this one does.
            let asked = self.clients.get(named).filter(|client| able(client));
            return asked.map(|client| client.id).ok_or(ProxyError::Undeliverable);
        }
        let able = self.clients.iter().filter(|client| able(client));
        // One that can be reached now, then one with a request in flight, and the newest before older ones.
        let chosen = able.max_by_key(|client| {
            let newest = self.in_hand(client, link).map(|(number, _)| number).max();
            (self.destination_of(client.id, link).is_some(), newest, client.id)
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
        let can_flush = |client: &Client| !client.waiting.is_empty() && client.outbox.general_stream().is_some();
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
