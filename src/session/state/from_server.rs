//! What comes from the servers' side: responses, requests, notifications, and the choice of the stream that they take.

use super::client::{ClientPhase, Destination};
use super::pending::ProgressToken;
use super::{
    ClientId, ClientMessageKind, ClientRequest, Effect, EndReason, MessageRole, Outcome, Received, RequestKind,
    ServerRequest, State,
};
use crate::error::ProxyError;
use crate::frame::{Frame, FrameError, Id, Incoming, Kind, LostMessage, Named, Wire};
use crate::link::{LinkExit, Purpose, RequestFailure};
use crate::mcp;
use crate::session::link_phase::{InitializeAnswer, LinkId, LinkPhase, protocol_version};
use crate::session::union::{Cancellation, UnionInput, error_text};

impl State {
    pub(super) fn on_server_body(&mut self, link: LinkId, on: Option<u64>, frames: Received) {
        // A server that was given up may still send messages. Its client was told that it is gone.
        if self.links.get(link).is_gone() {
            return;
        }
        match frames {
            Ok(Incoming::One(frame)) => self.on_server_message(link, on, frame, None),
            Err(error) => self.on_unreadable(link, on, &error, None),
            Ok(Incoming::Batch(frames)) => {
                let is_request = |frame: &Result<Frame, FrameError>| match frame {
                    Ok(frame) => frame.kind() == Kind::Request,
                    Err(error) => error.is_request(),
                };
                let responses = frames.iter().filter(|frame| is_request(frame)).count();
                let batch = (responses > 0).then(|| self.pending.open_batch(responses, None));
                for frame in frames {
                    match frame {
                        Ok(frame) => self.on_server_message(link, on, frame, batch),
                        Err(error) => self.on_unreadable(link, on, &error, batch),
                    }
                }
            }
        }
    }

    fn on_server_message(&mut self, link: LinkId, on: Option<u64>, frame: Frame, batch: Option<u64>) {
        let near = self.stream_of_request(link, on);
        match frame.kind() {
            Kind::Request => self.on_server_request(link, near, frame, batch),
            Kind::Notification => self.on_server_notification(link, near, frame),
            Kind::Response => self.on_server_response(link, frame),
        }
    }

    /// A message that cannot be read. A client request whose response it was would hang for ever, and so would the
    /// server's request: both end with an error. Where the response does not say which request it answers, it must be
    /// that on whose own stream it came (`on`), or else the only one that the server has in hand.
    fn on_unreadable(&mut self, link: LinkId, on: Option<u64>, error: &FrameError, batch: Option<u64>) {
        if error.is_request() {
            let wire = ProxyError::Frame(error.clone()).to_wire(error.id.as_ref());
            self.respond_on_link(link, error.id.as_ref(), batch, wire);
            return;
        }
        let told = || ProxyError::BadServerMessage(FrameError { named: Named::Nothing, ..error.clone() });
        match &error.named {
            Named::Numbers(numbers) => numbers.iter().for_each(|number| self.fail_request(link, *number, told())),
            Named::Unknown => {
                if let Some(number) = on.or_else(|| self.only_request_of(link)) {
                    self.fail_request(link, number, told());
                }
            }
            Named::Nothing => {}
        }
    }

    /// The number of the only request that this server has not answered yet, if there is just one.
    fn only_request_of(&self, link: LinkId) -> Option<u64> {
        let of_union = self.union.iter().flat_map(|union| union.numbers_of(link));
        let mut numbers = self.pending.numbers_of(link).chain(of_union);
        let only = numbers.next()?;
        numbers.next().is_none().then_some(only)
    }

    /// The client request that this server's response belongs to; none if it was cancelled, has timed out, or never was
    /// forwarded to that server.
    fn take_client_request_of(&mut self, link: LinkId, number: u64) -> Option<ClientRequest> {
        self.pending.client_request(number).filter(|request| request.link == Some(link))?;
        self.take_client_request(number)
    }

    fn is_of_union(&self, link: LinkId, number: u64) -> bool {
        self.union.as_ref().is_some_and(|union| union.has_sub_request(link, number))
    }

    /// The request that this server was sent under this number has no response.
    fn fail_request(&mut self, link: LinkId, number: u64, error: ProxyError) {
        if self.is_of_union(link, number) {
            self.apply_to_union(UnionInput::Failure { link, number, error });
        } else if let Some(request) = self.take_client_request_of(link, number) {
            if request.kind == RequestKind::Initialize {
                self.links.set(link, LinkPhase::Refused(error.clone()));
            }
            let error = self.name_server(link, error);
            self.respond_with_error(request, &error);
        }
    }

    fn on_server_response(&mut self, link: LinkId, mut frame: Frame) {
        let Some(number) = frame.id().and_then(|id| id.as_u64()) else { return };
        if self.is_of_union(link, number) {
            self.apply_to_union(UnionInput::Response { link, number, frame });
            return;
        }
        let Some(request) = self.take_client_request_of(link, number) else { return };
        if request.kind == RequestKind::Initialize {
            self.on_initialize_answered(link, request.client, number, &frame);
        }
        if let (RequestKind::Task, Some(token), false) = (request.kind, &request.token, frame.is_error()) {
            self.pending.remember_token(number, link, token.clone());
        }
        let edits = match &mut self.union {
            Some(union) => union.rewrite_result(link, request.shape, &frame),
            None => Ok(Vec::new()),
        };
        let edits = match edits {
            Ok(edits) => edits,
            Err(error) => {
                self.respond_with_error(request, &error);
                return;
            }
        };
        let wire = match &request.id {
            Some(id) => frame.splice().id(id).spans(edits).finish(),
            None => frame.splice().spans(edits).finish(),
        };
        let wire = frame.hand_over(wire);
        self.respond_to_client(request, wire, Outcome::of(&frame));
    }

    /// The only server has answered the client's `initialize`, which had this number.
    fn on_initialize_answered(&mut self, link: LinkId, client: ClientId, number: u64, frame: &Frame) {
        if frame.is_error() {
            self.links.set(link, LinkPhase::Refused(ProxyError::HandshakeRefused(error_text(frame))));
            return;
        }
        self.links.set(link, LinkPhase::Ready(InitializeAnswer::read_alone(frame)));
        self.client_is_ready(client, number, protocol_version(frame, "result"));
    }

    /// The client's `initialize`, which had this number, has a result.
    pub(super) fn client_is_ready(&mut self, client: ClientId, number: u64, version: Option<String>) {
        let Some(client) = self.clients.get_mut(client) else { return };
        if matches!(client.phase, ClientPhase::Initializing { request, .. } if request == number) {
            client.phase = ClientPhase::Ready;
        } else if !self.has_several_servers() {
            return;
        }
        self.effects.push(Effect::SessionOpened { version });
    }

    fn on_server_request(&mut self, link: LinkId, near: Option<Destination>, mut frame: Frame, batch: Option<u64>) {
        let Some(id) = frame.id() else { return };
        // Servers use pings to find out whether to give up on a session: the response must not hang on a client's
        // streams.
        if frame.method() == Some(mcp::PING) {
            let wire = crate::frame::response(&id, "{}");
            self.respond_on_link(link, Some(&id), batch, wire);
            return;
        }
        let to = near.or_else(|| self.destination_for(link));
        let client = to.map_or(ClientId::FIRST, |to| to.client);
        let mut request = ServerRequest::new(link, client, id, batch);
        if self.has_several_servers() {
            // Two servers may have chosen the same progress token.
            request.token = frame.progress_token();
        }
        let refusal = if self.pending.server_requests_open() >= self.limits.in_flight {
            Some(ProxyError::TooManyCalls { limit: self.limits.in_flight })
        } else if self.clients.get(client).is_none_or(super::client::Client::is_leaving) {
            Some(ProxyError::Undeliverable)
        } else {
            None
        };
        if let Some(error) = refusal {
            let wire = error.to_wire(Some(&request.id));
            self.respond_to_server(&request, wire);
            return;
        }
        let has_token = request.token.is_some();
        let number = self.pending.add_server_request(request);
        let id = Id::number(number);
        let mut splice = frame.splice().id(&id);
        if has_token {
            splice = splice.progress_token(&id);
        }
        let wire = splice.finish();
        let wire = frame.hand_over(wire);
        self.route(link, to, wire, ClientMessageKind::ServerRequest(number));
    }

    fn on_server_notification(&mut self, link: LinkId, near: Option<Destination>, mut frame: Frame) {
        match frame.method() {
            Some(mcp::PROGRESS) => self.on_server_progress(link, near, frame),
            Some(mcp::CANCELLED) => self.on_server_cancelled(link, near, &mut frame),
            _ => {
                let wire = match &mut self.union {
                    None => frame.into_wire(),
                    Some(union) => {
                        let Ok(edit) = union.rewrite_notification(link, &frame) else { return };
                        let wire = frame.splice().spans(edit).finish();
                        frame.hand_over(wire)
                    }
                };
                self.route(link, near, wire, ClientMessageKind::Notification);
            }
        }
    }

    fn on_server_progress(&mut self, link: LinkId, near: Option<Destination>, mut frame: Frame) {
        let number = frame.progress_token().and_then(|token| token.as_u64());
        let token = number.map_or(ProgressToken::Foreign, |number| self.pending.token(number, link));
        let (to, wire) = match token {
            ProgressToken::Request(to, token) => (Some(to), frame.splice().progress_token(token).finish()),
            ProgressToken::Task(token) => (None, frame.splice().progress_token(token).finish()),
            ProgressToken::Late => return,
            // With several servers each was given tokens of sessile's own only. Another one may be the client's, for a
            // request to another server.
            ProgressToken::Foreign if self.has_several_servers() => return,
            ProgressToken::Foreign => (None, frame.splice().finish()),
        };
        let wire = frame.hand_over(wire);
        match to.filter(|to| self.clients.will_carry(*to)) {
            Some(to) => self.send(to, wire, ClientMessageKind::Notification, MessageRole::FromServer),
            None => self.route(link, near, wire, ClientMessageKind::Notification),
        }
    }

    /// The server withdraws a request of its own: the client hears of it where it was asked, if it was asked at all.
    fn on_server_cancelled(&mut self, link: LinkId, near: Option<Destination>, frame: &mut Frame) {
        let id = frame.cancelled_id();
        let Some(number) = id.and_then(|id| self.pending.server_request_by_id(link, &id)) else { return };
        let Some(request) = self.take_server_request(number) else { return };
        if let Some((wire, _)) = request.batch.and_then(|batch| self.pending.leave_batch(batch)) {
            self.effects.push(Effect::ToServer { link, wire, purpose: Purpose::Response });
        }
        let Some(to) = request.asked_on() else { return };
        let wire = frame.splice().cancelled_id(&Id::number(number)).finish();
        if self.clients.will_carry(to) {
            self.send(to, wire, ClientMessageKind::Notification, MessageRole::FromServer);
        } else {
            self.route(link, near, wire, ClientMessageKind::Notification);
        }
    }

    pub(super) fn on_request_failed(&mut self, link: LinkId, number: u64, failure: RequestFailure) {
        self.fail_request(link, number, ProxyError::from_failure(failure, self.limits.message_size));
    }

    pub(super) fn on_server_lost(&mut self, link: LinkId, message: LostMessage) {
        let LostMessage { id, request, size, why } = message;
        let error = ProxyError::from_lost(why, self.limits.message_size, size);
        let number = match id {
            Some(id) if request => {
                let wire = error.to_wire(Some(&id));
                self.respond_on_link(link, Some(&id), None, wire);
                return;
            }
            Some(id) => id.as_u64(),
            None if request => None,
            // A response that does not say to what: see `on_unreadable`.
            None => self.only_request_of(link),
        };
        if let Some(number) = number {
            self.fail_request(link, number, error);
        }
    }

    pub(super) fn on_link_closed(&mut self, link: LinkId, exit: LinkExit) {
        if self.links.get(link).is_gone() {
            return;
        }
        let before = self.links.close(link, exit.clone());
        if !self.has_several_servers() {
            self.end(EndReason::from_exit(exit));
            return;
        }
        let was_ready = before.is_ready();
        if !matches!(before, LinkPhase::Refused(_)) {
            // A warning is for whoever runs sessile, who may read what the server wrote on stderr.
            let told = self.name_server(link, exit.request_error(&self.name, was_ready, true));
            self.effects.push(Effect::Warn { link, text: told.to_string() });
        }
        let error = exit.request_error(&self.name, was_ready, self.expose_stderr);
        for number in self.pending.client_requests_to(link) {
            self.fail_request(link, number, error.clone());
        }
        self.withdraw_server_requests(link);
        self.apply_to_union(UnionInput::LinkClosed { link, error });
    }

    /// Nobody waits any more for the responses to that server's requests: the client is told where it was asked.
    fn withdraw_server_requests(&mut self, link: LinkId) {
        for number in self.pending.server_requests_of(link) {
            let Some(request) = self.take_server_request(number) else { continue };
            if let Some(batch) = request.batch {
                let _ = self.pending.leave_batch(batch);
            }
            let Some(to) = request.asked_on() else { continue };
            let wire = Cancellation::Because("the server that asked is gone").notification(number);
            let near = Some(to).filter(|to| self.clients.carries(*to));
            self.route(link, near, wire, ClientMessageKind::Notification);
        }
    }

    /// Sends a message of the server on the stream of the request that it belongs to (`near`), else on that of
    /// `destination_for`. Where there is none, the message waits for one.
    pub(super) fn route(&mut self, link: LinkId, near: Option<Destination>, wire: Wire, kind: ClientMessageKind) {
        if let Some(to) = near.or_else(|| self.destination_for(link)) {
            if let ClientMessageKind::ServerRequest(number) = kind
                && let Some(request) = self.pending.server_request_mut(number)
            {
                (request.client, request.stream) = (to.client, Some(to.stream));
            }
            self.send(to, wire, kind, MessageRole::FromServer);
            return;
        }
        let client = match kind {
            ClientMessageKind::ServerRequest(number) => {
                self.pending.server_request_mut(number).map_or(ClientId::FIRST, |request| request.client)
            }
            _ => ClientId::FIRST,
        };
        let until = self.now + self.limits.stream_wait;
        let Some(client) = self.clients.get_mut(client) else { return };
        for dropped in client.waiting.push(link, &wire, kind, until, &client.keeper) {
            if let ClientMessageKind::ServerRequest(number) = dropped {
                self.fail_server_request(number, &ProxyError::Undeliverable);
            }
        }
    }

    /// The stream of the request that the transport says the message belongs to.
    fn stream_of_request(&self, link: LinkId, on: Option<u64>) -> Option<Destination> {
        let on = on?;
        let request = match self.union.as_ref().and_then(|union| union.request_of(link, on)) {
            Some(request) => self.pending.client_request(request)?,
            None => self.pending.client_request(on).filter(|request| request.link == Some(link))?,
        };
        Some(request.destination()).filter(|to| self.clients.carries(*to))
    }

    /// Where a server's message goes that the transport does not say more of: the stream of the only request that the
    /// server has in hand, else a general stream.
    fn destination_for(&self, link: LinkId) -> Option<Destination> {
        let is_asked = |number, request: &ClientRequest| {
            request.link == Some(link) || self.union.as_ref().is_some_and(|union| union.is_asked_for(link, number))
        };
        let only = self.pending.only_client_request(is_asked).map(ClientRequest::destination);
        only.filter(|to| self.clients.carries(*to)).or_else(|| self.clients.general_destination())
    }

    /// Messages that wait for a stream go out when there is one, in order.
    pub(super) fn flush_waiting(&mut self) {
        if self.clients.iter().all(|client| client.waiting.is_empty()) || self.clients.general_destination().is_none() {
            return;
        }
        let waiting: Vec<_> = self.clients.iter_mut().flat_map(|client| client.waiting.take()).collect();
        for message in waiting {
            // The request that it came with, if any, had no stream that could carry it then either.
            self.route(message.link, None, message.wire, message.kind);
        }
    }
}
