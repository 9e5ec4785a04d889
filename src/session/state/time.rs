//! What time does to a session: deadlines, lost streams, idleness.

use std::time::Instant;

use super::{CallKind, Effect, EndReason, Phase, State};
use crate::error::Fault;
use crate::frame::Wire;
use crate::link::Purpose;

impl State {
    /// When [`Event::Tick`](super::Event::Tick) is due next, if ever. A tick that comes early does no harm.
    pub(crate) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let finishing = match self.phase {
            Phase::Finishing { deadline, .. } => Some(deadline),
            Phase::Ended => return None,
            Phase::New | Phase::Opening { .. } | Phase::Live => None,
        };
        let waiting = self.waiting.next_deadline();
        let others = [self.idle_deadline(now), self.pending.next_deadline(), self.outbox.next_deadline()];
        others.into_iter().chain([finishing, waiting, self.many.next_deadline()]).flatten().min()
    }

    pub(super) fn tick(&mut self, now: Instant) {
        for number in self.pending.overdue(now) {
            self.time_out(number, now);
        }
        self.gather_no_longer(now);
        for number in self.waiting.overdue(now) {
            self.fail_question(number, &Fault::Undeliverable);
        }
        let expired = self.outbox.expired(now);
        let mut lost = self.pending.questions_on(&expired);
        if self.client_is_gone(now) && self.outbox.note_gone() {
            lost = self.pending.all_questions();
        }
        for number in lost {
            self.fail_question(number, &Fault::Undeliverable);
        }
        if matches!(self.phase, Phase::Finishing { deadline, .. } if deadline <= now) {
            self.end(EndReason::ClientLeft);
        }
        if let Some(after) = self.limits.idle_timeout
            && self.idle_deadline(now).is_some_and(|deadline| deadline <= now)
        {
            self.end(EndReason::Idle { after });
        }
    }

    fn time_out(&mut self, number: u64, now: Instant) {
        let Some(call) = self.pending.take_call(number) else { return };
        let link = call.link;
        let after = self.limits.request_timeout.unwrap_or_default();
        let initialize = call.kind == CallKind::Initialize;
        let mut fault = Fault::RequestTimeout { after };
        if let Some(link) = link {
            fault = self.named(link, fault);
        }
        self.answer_fault(call, &fault, now);
        if initialize {
            // It cannot be cancelled, and without it there is no session.
            self.end(EndReason::Refused);
            return;
        }
        let reason = "the request timed out";
        match link {
            Some(link) => {
                let (wire, purpose) = (cancelled(number, reason), Purpose::Cancel(number));
                self.effects.push(Effect::ToServer { link, wire, purpose });
            }
            None => self.cancel_parts(number, |part| cancelled(part, reason)),
        }
    }

    /// A session that was busy up to this event has been active up to now, or for as long as it was busy.
    pub(super) fn note_activity(&mut self, now: Instant) {
        if let Some(until) = self.busy_until(now) {
            self.active = self.active.max(until);
        }
    }

    /// Idle is a session with no call in flight for a client that is there, and no open stream that lasts. One that is
    /// not idle is busy until now; one whose client has gone away from its calls was busy until then.
    fn busy_until(&self, now: Instant) -> Option<Instant> {
        if self.outbox.is_listening() {
            return Some(now);
        }
        let gone = self.outbox.gone_at().unwrap_or(now);
        (self.pending.calls_in_flight() > 0).then(|| gone.min(now))
    }

    /// When the session will have been idle for too long, if it is idle.
    fn idle_deadline(&self, now: Instant) -> Option<Instant> {
        let busy = self.outbox.is_listening() || self.pending.calls_in_flight() > 0 && !self.client_is_gone(now);
        self.limits.idle_timeout.filter(|_| !busy).map(|timeout| self.active + timeout)
    }

    /// The client has had no open stream for so long that nobody waits for its calls any more.
    fn client_is_gone(&self, now: Instant) -> bool {
        self.outbox.gone_at().is_some_and(|gone| gone <= now)
    }
}

pub(super) fn cancelled(number: u64, reason: &str) -> Wire {
    let params = serde_json::json!({ "requestId": number, "reason": reason }).to_string();
    crate::frame::notification("notifications/cancelled", Some(&params))
}
