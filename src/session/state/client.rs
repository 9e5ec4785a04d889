//! What comes from the client's side: streams that open and close, requests, answers, notifications.

use std::ops::Range;
use std::time::Instant;

use super::{
    About, Attachment, Call, CallKind, Effect, EndReason, Phase, Question, Received, Role, State, StreamId, StreamKind,
};
use crate::error::Fault;
use crate::frame::{Frame, FrameError, Id, Incoming, Kind, Named, Wire};
use crate::link::Purpose;
use crate::session::union::{LinkId, Mode, Shape};

/// The one server of a session that has one.
pub(super) const LINK: LinkId = LinkId(0);

impl State {
    pub(super) fn attached(
        &mut self,
        stream: StreamId,
        attachment: Attachment,
        kind: StreamKind,
        after: Option<u64>,
        now: Instant,
    ) {
        match after {
            None => self.outbox.attach(stream, attachment, kind),
            Some(after) => self.resumed(stream, attachment, after, now),
        }
        if kind != StreamKind::Single {
            self.flush_waiting(now);
        }
    }

    fn resumed(&mut self, stream: StreamId, attachment: Attachment, after: u64, now: Instant) {
        let resumed = self.outbox.resume(stream, attachment, after, &self.keeper);
        let begin = self.effects.len();
        for (event, wire) in resumed.replay {
            self.effects.push(Effect::ToClient { stream, event: Some(event), wire, role: Role::Message });
        }
        for about in resumed.dropped {
            self.tell_dropped(stream, about, now);
        }
        let said = self.effects[begin..].iter().any(|effect| matches!(effect, Effect::ToClient { .. }));
        let done = self.outbox.close_if_done(stream, now);
        if said || !done {
            let wire = Wire::from(Vec::new());
            self.effects.insert(begin, Effect::ToClient { stream, event: None, wire, role: Role::Resumed });
        }
        if done {
            self.effects.push(Effect::Close { stream });
        }
    }

    /// A message was dropped before the client came back for it: whoever waits for it is told.
    fn tell_dropped(&mut self, stream: StreamId, about: About, now: Instant) {
        match about {
            About::Answer(ids) => {
                for id in ids {
                    let wire = Fault::ResponseDropped { limit: self.limits.replay_bytes }.to_wire(Some(&id));
                    self.send(stream, wire, About::Answer([id].into_iter().collect()), Role::Answer, now);
                }
            }
            About::Question(number) => self.fail_question(number, &Fault::Undeliverable),
            About::Notice => {}
        }
    }

    pub(super) fn detached(&mut self, stream: StreamId, attachment: Attachment, now: Instant) {
        let Some(kind) = self.outbox.detach(stream, attachment, now) else { return };
        // A client that leaves before its `initialize` was answered never learnt how to find the session again, and one
        // whose connection is its session has ended it.
        let unknown = matches!(self.phase, Phase::Opening { stream: opening, .. } if opening == stream);
        if unknown || kind.is_session() {
            self.end(EndReason::ClientLeft);
        }
    }

    pub(super) fn input_ended(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Finishing { .. }) {
            return;
        }
        let opened = matches!(self.phase, Phase::Live);
        self.phase = Phase::Finishing { deadline: now + self.limits.drain, opened };
        // Nobody is left to answer them, and a call that waits for one would take up the whole drain.
        for number in self.pending.all_questions() {
            self.fail_question(number, &Fault::Undeliverable);
        }
    }

    pub(super) fn hear_client(&mut self, stream: StreamId, frames: Received, now: Instant) {
        match frames {
            Ok(Incoming::One(frame)) => self.client_message(stream, Ok(frame), None, now),
            Err(error) => self.client_message(stream, Err(error), None, now),
            Ok(Incoming::Batch(frames)) => {
                // Where the stream is gone already, nobody waits for answers.
                let known = self.outbox.knows(stream);
                let answers = frames.iter().filter(|frame| known && wants_answer(frame)).count();
                let group = (answers > 0).then(|| self.pending.open_group(answers));
                // Held open until the last of them is in: the first may be answered at once.
                self.outbox.call_began(stream);
                for frame in frames {
                    self.client_message(stream, frame, group, now);
                }
                if self.outbox.call_ended(stream, now) {
                    self.effects.push(Effect::Close { stream });
                }
            }
        }
    }

    fn client_message(
        &mut self,
        stream: StreamId,
        message: Result<Frame, FrameError>,
        group: Option<u64>,
        now: Instant,
    ) {
        if let Err(error) = &message {
            self.fail_unreadable_answer(error);
        }
        // The client has given up the stream that its answer would take, before anybody heard of the request.
        if wants_answer(&message) && !self.outbox.knows(stream) {
            return;
        }
        match message {
            Ok(frame) => match frame.kind() {
                Kind::Request => self.client_request(stream, frame, group, now),
                Kind::Notification => self.client_notification(frame, now),
                Kind::Response => self.client_answer(frame),
            },
            Err(error) => self.client_bad(stream, error, group, now),
        }
    }

    fn client_bad(&mut self, stream: StreamId, error: FrameError, group: Option<u64>, now: Instant) {
        // The id of an answer is one of the server's: the client is told without it.
        let id = error.id.clone().filter(|_| error.about != Some(Kind::Response));
        let call = call(id, stream, group);
        self.outbox.call_began(stream);
        self.answer_fault(call, &Fault::Frame(error), now);
    }

    /// The server would wait for ever for a response that cannot be read: each of its requests that the response names
    /// fails.
    fn fail_unreadable_answer(&mut self, error: &FrameError) {
        let (Some(Kind::Response), Named::Numbers(numbers)) = (error.about, &error.named) else { return };
        let fault = Fault::Frame(FrameError { named: Named::Nothing, ..error.clone() });
        for number in numbers {
            self.fail_question(*number, &fault);
        }
    }

    fn client_request(&mut self, stream: StreamId, frame: Frame, group: Option<u64>, now: Instant) {
        let mut call = call(frame.id(), stream, group);
        self.outbox.call_began(stream);
        call.kind = self.kind_of(&frame);
        if let Some(fault) = self.refusal(&frame) {
            self.answer_fault(call, &fault, now);
            return;
        }
        call.token = frame.progress_token();
        call.deadline = self.limits.request_timeout.map(|timeout| now + timeout);
        let kind = call.kind;
        let number = self.pending.add_call(call);
        if kind == CallKind::Initialize {
            self.phase = Phase::Opening { call: number, stream };
            self.effects.push(Effect::Client { name: client_name(&frame) });
        }
        match self.many.mode() {
            Mode::Plain => self.pass(number, LINK, frame, None),
            Mode::Filtered | Mode::Many => self.direct(number, frame, false, now),
        }
    }

    /// Passes a call on to a server. With `edit`, what stands there is replaced.
    pub(super) fn pass(&mut self, number: u64, link: LinkId, mut frame: Frame, edit: Option<(Range<usize>, Vec<u8>)>) {
        let Some(call) = self.pending.call_mut(number) else { return };
        call.link = Some(link);
        let id = Id::number(number);
        let mut splice = frame.splice().id(&id);
        if call.token.is_some() {
            splice = splice.progress_token(&id);
        }
        let wire = splice.spans(edit).finish();
        let purpose = if call.kind == CallKind::Initialize { Purpose::Initialize } else { Purpose::Call };
        // The room that the frame was given travels with its bytes.
        let wire = frame.hand_over(wire);
        self.effects.push(Effect::ToServer { link, wire, purpose: purpose(number) });
    }

    fn kind_of(&self, frame: &Frame) -> CallKind {
        match frame.method() {
            Some("initialize") if matches!(self.phase, Phase::New) => CallKind::Initialize,
            _ if frame.lookup(&["params", "task"]).is_ok_and(|task| task.is_some()) => CallKind::Task,
            _ => CallKind::Other,
        }
    }

    /// Why a request is not even passed on.
    fn refusal(&self, frame: &Frame) -> Option<Fault> {
        if self.draining || matches!(self.phase, Phase::Finishing { .. }) {
            return Some(Fault::ShuttingDown);
        }
        if frame.id().is_some_and(|id| self.pending.has_client_id(&id)) {
            return Some(Fault::DuplicateId);
        }
        if self.pending.calls_in_flight() >= self.limits.in_flight {
            return Some(Fault::TooManyCalls { limit: self.limits.in_flight });
        }
        if frame.method() == Some("initialize") && matches!(self.phase, Phase::Opening { .. } | Phase::Live) {
            return Some(Fault::AlreadyInitialized);
        }
        None
    }

    fn client_notification(&mut self, mut frame: Frame, now: Instant) {
        if frame.method() != Some("notifications/cancelled") {
            if self.many.mode() == Mode::Many {
                self.tell_servers(frame);
                return;
            }
            let is_initialized = frame.method() == Some("notifications/initialized");
            let purpose = if is_initialized { Purpose::Initialized } else { Purpose::Notice };
            self.effects.push(Effect::ToServer { link: LINK, wire: frame.into_wire(), purpose });
            return;
        }
        // Of a call that is over or was never made there is nothing to cancel: it had its answer.
        let Some(number) = frame.cancelled_id().and_then(|id| self.pending.number_of(&id)) else { return };
        // The specification does not let a client cancel its `initialize`.
        if self.pending.call(number).is_none_or(|call| call.kind == CallKind::Initialize) {
            return;
        }
        let Some(call) = self.pending.take_call(number) else { return };
        match call.link {
            Some(link) => {
                let wire = frame.splice().cancelled_id(&Id::number(number)).finish();
                let wire = frame.hand_over(wire);
                self.effects.push(Effect::ToServer { link, wire, purpose: Purpose::Cancel(number) });
            }
            None => self.cancel_parts(number, |part| frame.splice().cancelled_id(&Id::number(part)).finish()),
        }
        self.unanswered(&call, now);
    }

    fn client_answer(&mut self, mut frame: Frame) {
        // An answer to nothing: asked twice, asked too late, or made up. The server never hears of it.
        let Some(question) = frame.id().and_then(|id| id.as_u64()).and_then(|id| self.take_question(id)) else {
            return;
        };
        let wire = frame.splice().id(&question.server_id).finish();
        let wire = frame.hand_over(wire);
        self.reply(question, wire);
    }

    pub(super) fn client_lost(&mut self, stream: StreamId, id: Option<Id>, request: bool, fault: &Fault, now: Instant) {
        if request || id.is_none() {
            if self.outbox.knows(stream) {
                self.outbox.call_began(stream);
                self.answer_fault(call(id, stream, None), fault, now);
            }
        } else if let Some(number) = id.and_then(|id| id.as_u64()) {
            self.fail_question(number, fault);
        }
    }

    /// The server's question cannot be answered: it is told why.
    pub(super) fn fail_question(&mut self, number: u64, fault: &Fault) {
        if let Some(question) = self.take_question(number) {
            self.reply_fault(question, fault);
        }
    }

    /// Takes a question out, be it asked already or still waiting for a stream.
    pub(super) fn take_question(&mut self, number: u64) -> Option<Question> {
        let question = self.pending.take_question(number)?;
        if question.stream.is_none() {
            self.waiting.remove(number);
        }
        Some(question)
    }
}

fn call(client_id: Option<Id>, stream: StreamId, group: Option<u64>) -> Call {
    let (kind, shape) = (CallKind::Other, Shape::Plain);
    Call { client_id, stream, link: None, kind, shape, token: None, group, deadline: None }
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

fn wants_answer(frame: &Result<Frame, FrameError>) -> bool {
    frame.as_ref().map_or(true, |frame| frame.kind() == Kind::Request)
}

impl Question {
    pub(super) fn new(link: LinkId, server_id: Id, group: Option<u64>) -> Self {
        Self { link, server_id, group, stream: None, token: None }
    }
}
