//! What comes from the side of the clients: streams that open and close, requests, responses, notifications.

use std::time::Instant;

use super::capabilities::ClientCapabilities;
use super::client::{ClientPhase, Destination};
use super::{
    Attachment, ClientId, ClientMessageKind, ClientRequest, Effect, EndReason, Intake, MessageRole, ONLY_LINK,
    Received, RequestKind, RespondOn, ServerRequest, State, StreamId, StreamKind,
};
use crate::error::ProxyError;
use crate::frame::{Frame, FrameError, Id, Incoming, Kind, LostMessage, Named, Wire};
use crate::link::Purpose;
use crate::mcp;
use crate::session::link_phase::{LinkId, LinkPhase, protocol_version};
use crate::session::union::{Cancellation, Edit, UnionInput};

/// The number of no stream: a response that would go there is dropped, because nobody waits for it.
pub(super) const NO_STREAM: StreamId = StreamId(0);

impl State {
    pub(super) fn attached(
        &mut self,
        client: ClientId,
        stream: StreamId,
        attachment: Attachment,
        kind: StreamKind,
        after: Option<u64>,
    ) {
        let Some(known) = self.clients.get_mut(client) else {
            self.effects.push(Effect::Close { stream });
            return;
        };
        known.last_seen = self.now;
        match after {
            None => known.outbox.attach(stream, attachment, kind, self.now),
            Some(after) => self.resumed(Destination { client, stream }, attachment, after),
        }
    }

    fn resumed(&mut self, to: Destination, attachment: Attachment, after: u64) {
        let Some(client) = self.clients.get_mut(to.client) else { return };
        let stream = to.stream;
        let resumed = client.outbox.resume(stream, attachment, after, &client.keeper, self.now);
        let begin = self.effects.len();
        for (event, wire) in resumed.replay {
            self.effects.push(Effect::ToClient { stream, event: Some(event), wire, role: MessageRole::FromServer });
        }
        for kind in resumed.dropped {
            self.report_dropped(to, kind);
        }
        let sent = self.effects[begin..].iter().any(|effect| matches!(effect, Effect::ToClient { .. }));
        let done = self.clients.get_mut(to.client).is_some_and(|client| client.outbox.close_if_done(stream, self.now));
        if sent || !done {
            let wire = Wire::from(Vec::new());
            self.effects
                .insert(begin, Effect::ToClient { stream, event: None, wire, role: MessageRole::StreamResumed });
        }
        if done {
            self.effects.push(Effect::Close { stream });
        }
    }

    /// A message was dropped before the client came back for it: whoever waits for the message is told.
    fn report_dropped(&mut self, to: Destination, kind: ClientMessageKind) {
        match kind {
            ClientMessageKind::Response(ids) => {
                for id in ids {
                    let wire = ProxyError::ResponseDropped { limit: self.limits.replay_bytes }.to_wire(Some(&id));
                    self.send(to, wire, ClientMessageKind::Response([id].into_iter().collect()), MessageRole::Response);
                }
            }
            ClientMessageKind::ServerRequest(number) => self.fail_server_request(number, &ProxyError::Undeliverable),
            ClientMessageKind::Notification => {}
        }
    }

    pub(super) fn detached(&mut self, stream: StreamId, attachment: Attachment) {
        let Some(client) = self.clients.of_stream(stream) else { return };
        let Some(kind) = client.outbox.detach(stream, attachment, self.now) else { return };
        client.last_seen = self.now;
        // A client that leaves before its `initialize` was answered never learnt how to find the session again, and one
        // whose only connection is lost has nothing else.
        if client.initializes_on(stream) || kind.is_session() {
            let client = client.id;
            self.remove_client(client, EndReason::ClientLeft);
        }
    }

    /// A client that does not read a connection on which keep-alives are sent is as good as gone from it. What is
    /// queued there is kept in the outbox as well.
    pub(super) fn read_at(&mut self, stream: StreamId, attachment: Attachment, at: Instant) {
        let Some(client) = self.clients.of_stream(stream) else { return };
        if !client.outbox.was_read(stream, attachment, at, self.now) {
            self.effects.push(Effect::Close { stream });
            self.detached(stream, attachment);
        }
    }

    pub(super) fn input_ended(&mut self, client: ClientId) {
        let deadline = self.now + self.limits.drain;
        let Some(client) = self.clients.get_mut(client) else { return };
        if matches!(client.phase, ClientPhase::Leaving { .. } | ClientPhase::Gone { .. }) {
            return;
        }
        client.phase = ClientPhase::Leaving { deadline };
        let client = client.id;
        // The client will not answer them, and a request that waits for such an answer would take up the whole drain.
        for number in self.pending.server_requests_for(client) {
            self.fail_server_request(number, &ProxyError::Undeliverable);
        }
    }

    pub(super) fn on_client_body(&mut self, client: ClientId, respond_on: RespondOn, frames: Received) {
        let Some(known) = self.clients.get_mut(client) else { return };
        known.last_seen = self.now;
        let stream = match respond_on {
            RespondOn::Stream(stream) => Some(stream),
            RespondOn::OwnStream => known.outbox.own_stream(),
            RespondOn::NoStream => None,
        };
        let stream = stream.unwrap_or(NO_STREAM);
        let from = Destination { client, stream };
        match frames {
            Ok(Incoming::One(frame)) => self.on_client_message(from, Ok(frame), None),
            Err(error) => self.on_client_message(from, Err(error), None),
            Ok(Incoming::Batch(frames)) => {
                // Where the stream is gone already, nobody waits for responses.
                let is_known = known.outbox.knows(stream);
                let responses = frames.iter().filter(|frame| is_known && wants_response(frame)).count();
                // The stream is held open until the last response is in: the first may be there at once.
                known.outbox.request_began(stream);
                let batch = (responses > 0).then(|| self.pending.open_batch(responses, Some(client)));
                for frame in frames {
                    self.on_client_message(from, frame, batch);
                }
                self.request_ended(from);
            }
        }
    }

    fn on_client_message(&mut self, from: Destination, message: Result<Frame, FrameError>, batch: Option<u64>) {
        if let Err(error) = &message {
            self.fail_unreadable_response(from.client, error);
        }
        // The client has given up the stream that its response would take, before anybody heard of the request.
        if wants_response(&message) && !self.knows(from) {
            return;
        }
        match message {
            Ok(frame) => match frame.kind() {
                Kind::Request => self.on_client_request(from, frame, batch),
                Kind::Notification => self.on_client_notification(from.client, frame),
                Kind::Response => self.on_client_response(from.client, frame),
            },
            Err(error) => {
                // The id of a response is one of the server's: the client is told without it.
                let id = error.id.clone().filter(|_| error.about != Some(Kind::Response));
                self.refuse(ClientRequest::new(from, id, batch), &ProxyError::Frame(error));
            }
        }
    }

    fn knows(&self, to: Destination) -> bool {
        self.clients.get(to.client).is_some_and(|client| client.outbox.knows(to.stream))
    }

    /// A request that is not even entered is answered with an error.
    fn refuse(&mut self, request: ClientRequest, error: &ProxyError) {
        if let Some(client) = self.clients.get_mut(request.client) {
            client.outbox.request_began(request.stream);
        }
        self.respond_with_error(request, error);
    }

    /// The server would wait for ever for a response that cannot be read: each of its requests that the response names
    /// fails.
    fn fail_unreadable_response(&mut self, client: ClientId, error: &FrameError) {
        let (Some(Kind::Response), Named::Numbers(numbers)) = (error.about, &error.named) else { return };
        let error = ProxyError::Frame(FrameError { named: Named::Nothing, ..error.clone() });
        for number in
            numbers.iter().filter(|number| self.pending.was_asked(client, **number)).copied().collect::<Vec<_>>()
        {
            self.fail_server_request(number, &error);
        }
    }

    fn on_client_request(&mut self, from: Destination, frame: Frame, batch: Option<u64>) {
        let mut request = ClientRequest::new(from, frame.id(), batch);
        request.kind = self.kind_of(from.client, &frame);
        if let Some(error) = self.refusal(from.client, &frame).or_else(|| self.take_lost_state(&frame)) {
            self.refuse(request, &error);
            return;
        }
        request.token = frame.progress_token();
        request.deadline = self.limits.request_timeout.map(|timeout| self.now + timeout);
        let kind = request.kind;
        let number = self.pending.add_client_request(request);
        if let Some(client) = self.clients.get_mut(from.client) {
            client.outbox.request_began(from.stream);
            if let Some(id) = frame.id() {
                client.request_began(id, number);
            }
            if kind == RequestKind::Initialize {
                client.version = protocol_version(&frame, "params").map(String::into_boxed_str);
                client.capabilities = ClientCapabilities::read(&frame);
                client.phase = ClientPhase::Initializing { request: number, stream: from.stream };
                self.effects.push(Effect::ClientNamed { name: client_name(&frame) });
            }
        }
        let frame = if self.shared.is_some() { self.share_request(number, frame) } else { Some(frame) };
        if let Some(frame) = frame {
            self.dispatch(number, frame);
        }
    }

    /// Hands a client request to the union, or to the only server.
    pub(super) fn dispatch(&mut self, number: u64, frame: Frame) {
        if self.union.is_some() {
            self.apply_to_union(UnionInput::Request { number, frame });
        } else {
            self.forward(number, ONLY_LINK, frame, None);
        }
    }

    /// Forwards a client request to a server, with `edit` in it.
    pub(super) fn forward(&mut self, number: u64, link: LinkId, mut frame: Frame, edit: Option<Edit>) {
        let Some(request) = self.pending.client_request_mut(number) else { return };
        request.link = Some(link);
        let id = Id::number(number);
        let mut splice = frame.splice().id(&id);
        if request.token.is_some() {
            splice = splice.progress_token(&id);
        }
        let wire = splice.spans(edit).finish();
        let purpose = if request.kind == RequestKind::Initialize {
            self.links.set(link, LinkPhase::Initializing);
            Purpose::Initialize(number)
        } else {
            Purpose::Request(number)
        };
        // The permit of the frame travels with its bytes.
        let wire = frame.hand_over(wire);
        self.effects.push(Effect::ToServer { link, wire, purpose });
    }

    fn kind_of(&self, client: ClientId, frame: &Frame) -> RequestKind {
        let is_new = self.clients.get(client).is_some_and(|client| matches!(client.phase, ClientPhase::New));
        match frame.method() {
            Some(mcp::INITIALIZE) if is_new => RequestKind::Initialize,
            Some(mcp::LOGGING_SET_LEVEL) if self.shared.is_some() => RequestKind::LogLevel,
            Some(mcp::RESOURCES_SUBSCRIBE) if self.shared.is_some() => RequestKind::Subscribe,
            Some(mcp::RESOURCES_UNSUBSCRIBE) if self.shared.is_some() => RequestKind::Unsubscribe,
            _ if frame.lookup(&["params", "task"]).is_ok_and(|task| task.is_some()) => RequestKind::Task,
            _ => RequestKind::Other,
        }
    }

    /// Why a request is not even entered.
    fn refusal(&self, client: ClientId, frame: &Frame) -> Option<ProxyError> {
        let client = self.clients.get(client)?;
        if self.intake == Intake::Draining || client.is_leaving() {
            return Some(ProxyError::ShuttingDown);
        }
        if frame.id().is_some_and(|id| client.request_of(&id).is_some()) {
            return Some(ProxyError::DuplicateId);
        }
        let in_flight =
            if self.shared.is_some() { client.requests_in_flight() } else { self.pending.client_requests_open() };
        if in_flight >= self.limits.in_flight {
            return Some(ProxyError::TooManyCalls { limit: self.limits.in_flight });
        }
        let has_begun = matches!(client.phase, ClientPhase::Initializing { .. } | ClientPhase::Ready);
        (frame.method() == Some(mcp::INITIALIZE) && has_begun).then_some(ProxyError::AlreadyInitialized)
    }

    fn on_client_notification(&mut self, client: ClientId, mut frame: Frame) {
        match frame.method() {
            Some(mcp::CANCELLED) => self.on_client_cancelled(client, frame),
            Some(mcp::PROGRESS) if self.has_several_servers() || self.shared.is_some() => {
                // The token is the number of the server request: the server that made it gets its own token back.
                let number = frame.progress_token().and_then(|token| token.as_u64());
                let Some(number) = number.filter(|number| self.pending.was_asked(client, *number)) else { return };
                let Some(ServerRequest { link, token: Some(token), .. }) = self.pending.server_request_mut(number)
                else {
                    return;
                };
                let (link, wire) = (*link, frame.splice().progress_token(token).finish());
                let wire = frame.hand_over(wire);
                self.effects.push(Effect::ToServer { link, wire, purpose: Purpose::Notification });
            }
            Some(mcp::INITIALIZED) if self.shared.is_some() => self.on_shared_initialized(client, frame),
            Some(mcp::ROOTS_LIST_CHANGED) if self.shared.is_some() && !self.opener_tells_of_roots() => {}
            Some(mcp::INITIALIZED) => self.forward_notification(frame, Purpose::Initialized),
            _ => self.forward_notification(frame, Purpose::Notification),
        }
    }

    pub(super) fn forward_notification(&mut self, frame: Frame, purpose: Purpose) {
        if self.has_several_servers() {
            self.apply_to_union(UnionInput::Notification(frame));
        } else {
            self.effects.push(Effect::ToServer { link: ONLY_LINK, wire: frame.into_wire(), purpose });
        }
    }

    fn on_client_cancelled(&mut self, client: ClientId, mut frame: Frame) {
        // A request that is over or was never made cannot be cancelled: it had its response.
        let id = frame.cancelled_id();
        let number = id.and_then(|id| self.clients.get(client).and_then(|client| client.request_of(&id)));
        // The specification does not let a client cancel its `initialize`.
        let kind = number.and_then(|number| self.pending.client_request(number)).map(|request| request.kind);
        let (Some(number), Some(kind)) = (number, kind) else { return };
        if kind == RequestKind::Initialize {
            return;
        }
        let Some(request) = self.take_client_request(number) else { return };
        if let Some(link) = request.link {
            let wire = frame.splice().cancelled_id(&Id::number(number)).finish();
            let wire = frame.hand_over(wire);
            self.effects.push(Effect::ToServer { link, wire, purpose: Purpose::Cancel(number) });
        } else {
            let cancellation = Cancellation::ByClient(frame);
            self.apply_to_union(UnionInput::Withdrawn { number, cancellation });
        }
        self.end_without_response(&request);
    }

    fn on_client_response(&mut self, client: ClientId, mut frame: Frame) {
        // The server never hears of a response to nothing: one that comes twice or too late, is made up, or comes from
        // another client than the one that was asked.
        let number = frame.id().and_then(|id| id.as_u64()).filter(|number| self.pending.was_asked(client, *number));
        let Some(request) = number.and_then(|number| self.take_server_request(number)) else { return };
        let wire = frame.splice().id(&request.id).finish();
        let wire = frame.hand_over(wire);
        self.respond_to_server(&request, wire);
    }

    pub(super) fn on_client_lost(&mut self, from: Destination, message: LostMessage) {
        let LostMessage { id, request, size, why } = message;
        let error = ProxyError::from_lost(why, self.limits.message_size, size);
        if request || id.is_none() {
            if self.knows(from) {
                self.refuse(ClientRequest::new(from, id, None), &error);
            }
        } else if let Some(number) = id.and_then(|id| id.as_u64())
            && self.pending.was_asked(from.client, number)
        {
            self.fail_server_request(number, &error);
        }
    }

    /// The server's request cannot be answered: the server is told why.
    pub(super) fn fail_server_request(&mut self, number: u64, error: &ProxyError) {
        if let Some(request) = self.take_server_request(number) {
            let wire = error.to_wire(Some(&request.id));
            self.respond_to_server(&request, wire);
        }
    }

    /// Takes a server request out, also if it still waits for a stream.
    pub(super) fn take_server_request(&mut self, number: u64) -> Option<ServerRequest> {
        let request = self.pending.take_server_request(number)?;
        if request.stream.is_none()
            && let Some(client) = self.clients.get_mut(request.client)
        {
            client.waiting.remove(number);
        }
        Some(request)
    }

    /// Takes a client request out, and its id out of its client's.
    pub(super) fn take_client_request(&mut self, number: u64) -> Option<ClientRequest> {
        let request = self.pending.take_client_request(number)?;
        if let (Some(client), Some(id)) = (self.clients.get_mut(request.client), &request.id) {
            client.request_ended(id);
        }
        if let Some(shared) = &mut self.shared {
            shared.forget_waiting(number);
        }
        Some(request)
    }
}

/// Name and version from the `clientInfo` of `initialize`, for logs and listings only.
fn client_name(frame: &Frame) -> String {
    let text = |key| {
        let raw = frame.lookup(&["params", "clientInfo", key]).ok().flatten()?;
        serde_json::from_slice::<String>(raw).ok()
    };
    let whole = [text("name"), text("version")].into_iter().flatten().collect::<Vec<_>>().join(" ");
    whole.chars().filter(|character| !character.is_control()).take(128).collect()
}

fn wants_response(frame: &Result<Frame, FrameError>) -> bool {
    frame.as_ref().map_or(true, |frame| frame.kind() == Kind::Request)
}
