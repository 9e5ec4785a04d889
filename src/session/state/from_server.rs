//! What comes from the servers' side: responses, requests, notifications, and the choice of the stream that they take.

use super::client::{ClientPhase, Destination};
use super::destination::Origin;
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
use crate::session::union::{Cancellation, Filtered, UnionInput, error_text};

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
        let origin = self.origin(link, on);
        match frame.kind() {
            Kind::Request => self.on_server_request(link, origin, frame, batch),
            Kind::Notification => self.on_server_notification(link, origin, frame),
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
        if request.kind == RequestKind::Task && !frame.is_error() {
            self.note_owner(link, request.client, &frame);
            if let Some(token) = &request.token {
                self.pending.remember_token(number, link, request.client, token.clone());
            }
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
        let is_several = self.has_several_servers();
        match self.clients.get_mut(client) {
            Some(client) if matches!(client.phase, ClientPhase::Initializing { request, .. } if request == number) => {
                client.phase = ClientPhase::Ready;
                client.version = version.as_deref().map(Into::into);
            }
            // The client may have left a session in which others wait for this.
            Some(_) if !is_several => return,
            Some(_) | None => {}
        }
        if self.shared.is_some() {
            self.effects.push(Effect::ClientReady { client, version: version.clone() });
        }
        self.effects.push(Effect::SessionOpened { version });
    }

    fn on_server_request(&mut self, link: LinkId, origin: Origin, mut frame: Frame, batch: Option<u64>) {
        let Some(id) = frame.id() else { return };
        // Servers use pings to find out whether to give up on a session: the response must not hang on a client's
        // streams.
        if frame.method() == Some(mcp::PING) {
            let wire = crate::frame::response(&id, "{}");
            self.respond_on_link(link, Some(&id), batch, wire);
            return;
        }
        let client = self.client_to_ask(link, origin, &frame);
        let asked = client.as_ref().ok().copied().or_else(|| self.clients.only()).unwrap_or(ClientId::FIRST);
        let mut request = ServerRequest::new(link, asked, id, batch);
        if self.has_several_servers() || self.shared.is_some() {
            // Two servers may have chosen the same progress token, and only the client that is asked may report progress.
            request.token = frame.progress_token();
        }
        let open = if self.shared.is_some() {
            self.pending.server_requests_for(asked).len()
        } else {
            self.pending.server_requests_open()
        };
        let refusal = if open >= self.limits.in_flight {
            Some(ProxyError::TooManyCalls { limit: self.limits.in_flight })
        } else {
            client.err()
        };
        if let Some(error) = refusal {
            let wire = error.to_wire(Some(&request.id));
            self.respond_to_server(&request, wire);
            return;
        }
        self.note_owner(link, asked, &frame);
        let to = self.stream_of(origin).or_else(|| self.destination_of(asked, link));
        let has_token = request.token.is_some();
        let number = self.pending.add_server_request(request);
        let id = Id::number(number);
        let mut splice = frame.splice().id(&id);
        if has_token {
            splice = splice.progress_token(&id);
        }
        let wire = splice.finish();
        let wire = frame.hand_over(wire);
        self.route(link, to, asked, wire, ClientMessageKind::ServerRequest(number));
    }

    fn on_server_notification(&mut self, link: LinkId, origin: Origin, mut frame: Frame) {
        match frame.method() {
            Some(mcp::PROGRESS) => self.on_server_progress(link, origin, frame),
            Some(mcp::CANCELLED) => self.on_server_cancelled(link, origin, &mut frame),
            _ => {
                let edit = match &mut self.union {
                    None => None,
                    Some(union) => match union.rewrite_notification(link, &frame) {
                        Ok(edit) => edit,
                        Err(Filtered) => return,
                    },
                };
                let renamed = edit.as_ref().and_then(|(_, uri)| serde_json::from_slice(uri).ok());
                let audience = self.audience(link, &frame, renamed);
                let wire = if self.union.is_some() {
                    let wire = frame.splice().spans(edit).finish();
                    frame.hand_over(wire)
                } else {
                    frame.into_wire()
                };
                match origin {
                    Origin::Request(to) if self.is_for(to.client, &audience) => {
                        self.route_to_client(link, origin, to.client, wire);
                    }
                    Origin::Request(_) | Origin::RequestThatIsOver => {}
                    Origin::Unknown => self.notify(link, wire, &audience),
                }
            }
        }
    }

    /// The stream of the request that a message belongs to, if it can carry the message.
    fn stream_of(&self, origin: Origin) -> Option<Destination> {
        origin.request().filter(|to| self.clients.carries(*to))
    }

    fn on_server_progress(&mut self, link: LinkId, origin: Origin, mut frame: Frame) {
        let number = frame.progress_token().and_then(|token| token.as_u64());
        let token = number.map_or(ProgressToken::Foreign, |number| self.pending.token(number, link));
        let (to, client, wire) = match token {
            ProgressToken::Request(to, token) => {
                (Some(to), Some(to.client), frame.splice().progress_token(token).finish())
            }
            ProgressToken::Task(client, token) => (None, Some(client), frame.splice().progress_token(token).finish()),
            ProgressToken::Late => return,
            // Servers were given tokens of sessile's own only. Where there are several of them, or several clients, this
            // one may be that of somebody else.
            ProgressToken::Foreign if self.has_several_servers() || self.shared.is_some() => return,
            ProgressToken::Foreign => (None, self.clients.only(), frame.splice().finish()),
        };
        let wire = frame.hand_over(wire);
        match (to.filter(|to| self.clients.will_carry(*to)), client) {
            (Some(to), _) => self.send(to, wire, ClientMessageKind::Notification, MessageRole::FromServer),
            (None, Some(client)) => self.route_to_client(link, origin, client, wire),
            (None, None) => {}
        }
    }

    /// Sends a notification that is for this client alone: on the stream of the request that it came with, if that is
    /// the client's, else on another one.
    fn route_to_client(&mut self, link: LinkId, origin: Origin, client: ClientId, wire: Wire) {
        let own = self.stream_of(origin).filter(|to| to.client == client);
        let to = own.or_else(|| self.destination_of(client, link));
        self.route(link, to, client, wire, ClientMessageKind::Notification);
    }

    /// The server withdraws a request of its own: the client hears of it where it was asked, if it was asked at all.
    fn on_server_cancelled(&mut self, link: LinkId, origin: Origin, frame: &mut Frame) {
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
            self.route_to_client(link, origin, to.client, wire);
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
            let told = self.name_server(link, exit.request_error(self.label(), was_ready, true));
            self.effects.push(Effect::Warn { link, text: told.to_string() });
        }
        let error = exit.request_error(self.label(), was_ready, self.expose_stderr);
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
            self.route_to_client(link, Origin::Request(to), to.client, wire);
        }
    }
}
