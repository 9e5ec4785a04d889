//! How answers go out: to the client's calls, and to the servers' questions, alone or with the rest of their batch.

use std::time::Instant;

use super::{About, Call, CallKind, Effect, EndReason, Phase, Question, Role, State, StreamId, Verdict};
use crate::error::Fault;
use crate::frame::{Id, Wire};
use crate::link::Purpose;
use crate::session::union::LinkId;

impl State {
    /// The answer of a call goes to its client, alone or with the rest of its batch.
    pub(super) fn answer(&mut self, call: Call, wire: Wire, verdict: Verdict, now: Instant) {
        let Call { client_id, stream, group, kind, .. } = call;
        let role = match (kind, verdict) {
            (_, Verdict::Challenge) if group.is_none() => Role::Challenge,
            (CallKind::Initialize, Verdict::Error | Verdict::Challenge) => Role::Refusal,
            (_, Verdict::Error) if group.is_none() => Role::Failure,
            _ => Role::Answer,
        };
        if kind == CallKind::Initialize && verdict != Verdict::Result {
            self.refused(stream);
        }
        match group {
            None => self.send(stream, wire, About::Answer(client_id.into_iter().collect()), role, now),
            Some(group) => {
                let wire = self.fit(group, wire, client_id.as_ref());
                // The rest of its batch may take its time.
                let wire = self.keeper.hold(wire);
                if let Some((wire, ids)) = self.pending.join_group(group, wire, client_id) {
                    self.send(stream, wire, About::Answer(ids), role, now);
                }
            }
        }
        if self.outbox.call_ended(stream, now) {
            self.effects.push(Effect::Close { stream });
        }
    }

    /// The answer, if the reply to its batch has room for it: answers are gathered, and nothing else bounds them.
    fn fit(&self, group: u64, wire: Wire, id: Option<&Id>) -> Wire {
        let limit = self.limits.message_size;
        let size = self.pending.group_bytes(group) + wire.len();
        if size <= limit { wire } else { Fault::MessageTooLarge { limit, size }.to_wire(id) }
    }

    /// The client's `initialize` was answered with an error. On a connection that lasts it may try again; on any other it
    /// has no session to do so, and could not end it either.
    fn refused(&mut self, stream: StreamId) {
        if matches!(self.phase, Phase::Opening { stream: opening, .. } if opening == stream) {
            self.phase = Phase::New;
        }
        if matches!(self.phase, Phase::New) && !self.outbox.is_lasting(stream) {
            self.end(EndReason::Refused);
        }
    }

    pub(super) fn answer_fault(&mut self, call: Call, fault: &Fault, now: Instant) {
        let wire = fault.to_wire(call.client_id.as_ref());
        let verdict = if fault.is_challenge() { Verdict::Challenge } else { Verdict::Error };
        self.answer(call, wire, verdict, now);
    }

    /// The answer to a server's question goes back on the link that it came from, alone or with the rest of its batch.
    pub(super) fn reply(&mut self, question: Question, wire: Wire) {
        let Question { link, group, server_id, .. } = question;
        self.reply_to(link, Some(&server_id), group, wire);
    }

    /// As [`reply`](Self::reply), also where the id of the server's request cannot be made out.
    pub(super) fn reply_to(&mut self, link: LinkId, id: Option<&Id>, group: Option<u64>, wire: Wire) {
        let whole = match group {
            None => Some(wire),
            Some(group) => {
                let wire = self.fit(group, wire, id);
                self.pending.join_group(group, wire, None).map(|(wire, _)| wire)
            }
        };
        if let Some(wire) = whole {
            self.effects.push(Effect::ToServer { link, wire, purpose: Purpose::Answer });
        }
    }

    pub(super) fn reply_fault(&mut self, question: Question, fault: &Fault) {
        let wire = fault.to_wire(Some(&question.server_id));
        self.reply(question, wire);
    }

    pub(super) fn send(&mut self, stream: StreamId, wire: Wire, about: About, role: Role, now: Instant) {
        if let Some((event, wire)) = self.outbox.record(stream, wire, about, &self.keeper, now) {
            self.effects.push(Effect::ToClient { stream, event, wire, role });
        }
    }

    /// A call that ends without an answer, because its client does not want it any more.
    pub(super) fn unanswered(&mut self, call: &Call, now: Instant) {
        let Call { stream, group, .. } = *call;
        if let Some((wire, ids)) = group.and_then(|group| self.pending.leave_group(group)) {
            self.send(stream, wire, About::Answer(ids), Role::Answer, now);
        }
        if self.outbox.call_ended(stream, now) {
            self.effects.push(Effect::Close { stream });
        }
    }
}
