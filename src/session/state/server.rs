//! What comes from the server's side: answers, questions, notifications, and the choice of the stream that they take.

use std::time::Instant;

use super::pending::Token;
use super::{About, Call, CallKind, Effect, Phase, Question, Received, Role, State, StreamId, Verdict};
use crate::error::Fault;
use crate::frame::{Frame, FrameError, Id, Incoming, Kind, Named, Wire};
use crate::link::{CallFailure, Purpose};
use crate::session::union::{LinkId, Mode, version_of};

impl State {
    pub(super) fn hear_server(&mut self, link: LinkId, on: Option<u64>, frames: Received, now: Instant) {
        // What one says that was given up has nobody to go to.
        if self.many.is_gone(link) {
            return;
        }
        match frames {
            Ok(Incoming::One(frame)) => self.server_frame(link, on, frame, None, now),
            Err(error) => self.server_bad(link, on, &error, None, now),
            Ok(Incoming::Batch(frames)) => {
                let asks = |frame: &Result<Frame, FrameError>| match frame {
                    Ok(frame) => frame.kind() == Kind::Request,
                    Err(error) => error.is_request(),
                };
                let answers = frames.iter().filter(|frame| asks(frame)).count();
                let group = (answers > 0).then(|| self.pending.open_group(answers));
                for frame in frames {
                    match frame {
                        Ok(frame) => self.server_frame(link, on, frame, group, now),
                        Err(error) => self.server_bad(link, on, &error, group, now),
                    }
                }
            }
        }
    }

    fn server_frame(&mut self, link: LinkId, on: Option<u64>, frame: Frame, group: Option<u64>, now: Instant) {
        let near = self.stream_of_call(link, on);
        match frame.kind() {
            Kind::Request => self.server_question(link, near, frame, group, now),
            Kind::Notification => self.server_notification(link, near, frame, now),
            Kind::Response => self.server_answer(link, frame, now),
        }
    }

    /// A message that cannot be read. A call whose response it was would hang for ever, and so would the server's request:
    /// both end with an error. Where the response does not say which call it answers, it must be that on whose own stream
    /// it came (`on`), or else the only one that the server has in hand.
    fn server_bad(&mut self, link: LinkId, on: Option<u64>, error: &FrameError, group: Option<u64>, now: Instant) {
        if error.is_request() {
            let wire = Fault::Frame(error.clone()).to_wire(error.id.as_ref());
            self.reply_to(link, error.id.as_ref(), group, wire);
            return;
        }
        let fault = || Fault::BadServerMessage(FrameError { named: Named::Nothing, ..error.clone() });
        match &error.named {
            Named::Numbers(numbers) => {
                let fault = fault();
                numbers.iter().for_each(|number| self.fail_asked(link, *number, fault.clone(), now));
            }
            Named::Unknown => {
                if let Some(number) = on.or_else(|| self.only_asked(link)) {
                    self.fail_asked(link, number, fault(), now);
                }
            }
            Named::Nothing => {}
        }
    }

    /// The number of the only request that this server has not answered yet, if there is just one.
    fn only_asked(&self, link: LinkId) -> Option<u64> {
        let mut asked = self.pending.numbers_of(link).chain(self.many.parts_of(link));
        let only = asked.next()?;
        asked.next().is_none().then_some(only)
    }

    /// The call that this answer of a server belongs to; none if it was cancelled, has timed out, or never was one of
    /// that server.
    fn take_call_of(&mut self, link: LinkId, number: u64) -> Option<Call> {
        self.pending.call(number).filter(|call| call.link == Some(link))?;
        self.pending.take_call(number)
    }

    /// What was asked of that server under this number has no answer.
    fn fail_asked(&mut self, link: LinkId, number: u64, fault: Fault, now: Instant) {
        if let Some((part, role)) = self.many.take_part(link, number) {
            self.part_failed(link, part, &role, fault, now);
        } else if let Some(call) = self.take_call_of(link, number) {
            let fault = self.named(link, fault);
            self.answer_fault(call, &fault, now);
        }
    }

    fn server_answer(&mut self, link: LinkId, mut frame: Frame, now: Instant) {
        let Some(number) = frame.id().and_then(|id| id.as_u64()) else { return };
        if let Some((part, role)) = self.many.take_part(link, number) {
            self.part_answered(link, part, role, frame, now);
            return;
        }
        let Some(call) = self.take_call_of(link, number) else { return };
        if call.kind == CallKind::Initialize {
            self.opened(&frame, number);
            self.many.look_into_welcome(link, &frame);
        }
        if let (CallKind::Task, Some(token), false) = (call.kind, &call.token, frame.is_error()) {
            self.pending.remember_token(number, link, token.clone());
        }
        let edits = match self.many.look_into(link, call.shape, &frame) {
            Ok(edits) => edits,
            Err(fault) => {
                self.answer_fault(call, &fault, now);
                return;
            }
        };
        let wire = match &call.client_id {
            Some(id) => frame.splice().id(id).spans(edits).finish(),
            None => frame.splice().spans(edits).finish(),
        };
        let wire = frame.hand_over(wire);
        self.answer(call, wire, Verdict::of(&frame), now);
    }

    fn opened(&mut self, frame: &Frame, number: u64) {
        if frame.is_error() || !matches!(self.phase, Phase::Opening { call, .. } if call == number) {
            return;
        }
        self.phase = Phase::Live;
        self.effects.push(Effect::Opened { version: version_of(frame, "result") });
    }

    fn server_question(
        &mut self,
        link: LinkId,
        near: Option<StreamId>,
        mut frame: Frame,
        group: Option<u64>,
        now: Instant,
    ) {
        let Some(server_id) = frame.id() else { return };
        let mut question = Question::new(link, server_id, group);
        if self.many.mode() == Mode::Many {
            // Two servers may have chosen the same one.
            question.token = frame.progress_token();
        }
        // Servers use pings to find out whether to give up on a session: the answer must not hang on a client's streams.
        if frame.method() == Some("ping") {
            let wire = crate::frame::response(&question.server_id, "{}");
            self.reply(question, wire);
            return;
        }
        if self.pending.questions_open() >= self.limits.in_flight {
            self.reply_fault(question, &Fault::TooManyCalls { limit: self.limits.in_flight });
            return;
        }
        if matches!(self.phase, Phase::Finishing { .. }) {
            self.reply_fault(question, &Fault::Undeliverable);
            return;
        }
        let has_token = question.token.is_some();
        let number = self.pending.add_question(question);
        let id = Id::number(number);
        let mut splice = frame.splice().id(&id);
        if has_token {
            splice = splice.progress_token(&id);
        }
        let wire = splice.finish();
        let wire = frame.hand_over(wire);
        self.route(link, near, wire, About::Question(number), now);
    }

    fn server_notification(&mut self, link: LinkId, near: Option<StreamId>, mut frame: Frame, now: Instant) {
        match frame.method() {
            Some("notifications/progress") => self.server_progress(link, near, frame, now),
            Some("notifications/cancelled") => self.server_cancelled(link, near, &mut frame, now),
            _ if self.many.mode() == Mode::Plain => self.route(link, near, frame.into_wire(), About::Notice, now),
            _ => {
                let Ok(edit) = self.many.look_into_notice(link, &frame) else { return };
                let wire = frame.splice().spans(edit).finish();
                let wire = frame.hand_over(wire);
                self.route(link, near, wire, About::Notice, now);
            }
        }
    }

    fn server_progress(&mut self, link: LinkId, near: Option<StreamId>, mut frame: Frame, now: Instant) {
        let number = frame.progress_token().and_then(|token| token.as_u64());
        let (stream, wire) = match number.map_or(Token::Foreign, |number| self.pending.token(number, link)) {
            Token::Call(stream, token) => (Some(stream), frame.splice().progress_token(token).finish()),
            Token::Task(token) => (None, frame.splice().progress_token(token).finish()),
            Token::Late => return,
            // Every token that they were given is one of ours: another may be the client's own, for a call of another server.
            Token::Foreign if self.many.mode() == Mode::Many => return,
            Token::Foreign => (None, frame.splice().finish()),
        };
        let wire = frame.hand_over(wire);
        match stream.filter(|stream| self.outbox.will_carry(*stream)) {
            Some(stream) => self.send(stream, wire, About::Notice, Role::Message, now),
            None => self.route(link, near, wire, About::Notice, now),
        }
    }

    /// The server withdraws a question of its own: the client hears of it where it was asked, if it was asked at all.
    fn server_cancelled(&mut self, link: LinkId, near: Option<StreamId>, frame: &mut Frame, now: Instant) {
        let Some(number) = frame.cancelled_id().and_then(|id| self.pending.question_of(link, &id)) else { return };
        let Some(question) = self.take_question(number) else { return };
        if let Some((wire, _)) = question.group.and_then(|group| self.pending.leave_group(group)) {
            self.effects.push(Effect::ToServer { link, wire, purpose: Purpose::Answer });
        }
        let Some(stream) = question.stream else { return };
        let wire = frame.splice().cancelled_id(&Id::number(number)).finish();
        if self.outbox.will_carry(stream) {
            self.send(stream, wire, About::Notice, Role::Message, now);
        } else {
            self.route(link, near, wire, About::Notice, now);
        }
    }

    pub(super) fn call_failed(&mut self, link: LinkId, call: u64, failure: CallFailure, now: Instant) {
        let fault = Fault::from_failure(failure, self.limits.message_size);
        self.fail_asked(link, call, fault, now);
    }

    pub(super) fn server_lost(&mut self, link: LinkId, id: Option<Id>, request: bool, fault: &Fault, now: Instant) {
        let asked = match id {
            Some(server_id) if request => {
                self.reply_fault(Question::new(link, server_id, None), fault);
                return;
            }
            Some(id) => id.as_u64(),
            None if request => None,
            // An answer that does not say to what: see `server_bad`.
            None => self.only_asked(link),
        };
        if let Some(number) = asked {
            self.fail_asked(link, number, fault.clone(), now);
        }
    }

    /// Sends a message of the server on the stream that the one rule gives it (DESIGN.md, "Which stream does a server's
    /// message take?"), or lets it wait for one. `near` is the stream of the call that it came with.
    pub(super) fn route(&mut self, link: LinkId, near: Option<StreamId>, wire: Wire, about: About, now: Instant) {
        match near.or_else(|| self.stream_for_message(link)) {
            Some(stream) => self.send_routed(stream, wire, about, now),
            None => {
                for dropped in self.waiting.push(link, &wire, about, now + self.limits.stream_wait, &self.keeper) {
                    if let About::Question(number) = dropped {
                        self.fail_question(number, &Fault::Undeliverable);
                    }
                }
            }
        }
    }

    fn send_routed(&mut self, stream: StreamId, wire: Wire, about: About, now: Instant) {
        if let About::Question(number) = about
            && let Some(question) = self.pending.question_mut(number)
        {
            question.stream = Some(stream);
        }
        self.send(stream, wire, about, Role::Message, now);
    }

    /// The stream of the call that the transport says the message belongs to.
    fn stream_of_call(&self, link: LinkId, on: Option<u64>) -> Option<StreamId> {
        let on = on?;
        let call = match self.many.head_of(link, on) {
            Some(head) => self.pending.call(head)?,
            None => self.pending.call(on).filter(|call| call.link == Some(link))?,
        };
        Some(call.stream).filter(|stream| self.outbox.carries(*stream))
    }

    fn stream_for_message(&self, link: LinkId) -> Option<StreamId> {
        let is_asked = |number, call: &Call| call.link == Some(link) || self.many.asks(link, number);
        let only =
            self.pending.only_call(is_asked).map(|call| call.stream).filter(|stream| self.outbox.carries(*stream));
        only.or_else(|| self.outbox.general_stream())
    }

    /// A stream has come: what waited for one goes out, in order.
    pub(super) fn flush_waiting(&mut self, now: Instant) {
        for waiting in self.waiting.take() {
            // The call that it came with, if any, had no stream that could carry it then either.
            self.route(waiting.link, None, waiting.wire, waiting.about, now);
        }
    }
}
