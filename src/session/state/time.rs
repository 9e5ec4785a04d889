//! What time does to a session: deadlines, lost streams, idleness.

use std::time::Instant;

use super::{ClientPhase, Effect, EndReason, Intake, RequestKind, State};
use crate::error::ProxyError;
use crate::link::Purpose;
use crate::session::union::{Cancellation, UnionInput};

impl State {
    /// When [`Event::Tick`](super::Event::Tick) is due next, if ever. A tick that comes early does no harm.
    pub(crate) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        if self.intake == Intake::Ended {
            return None;
        }
        let forget = self.limits.idle_timeout.filter(|_| self.shared.is_some());
        let clients = self.clients.iter().flat_map(|client| {
            [client.next_deadline(), forget.and_then(|after| client.forgotten_at(after))].into_iter().flatten()
        });
        let clients = clients.min();
        let union = self.union.as_ref().and_then(|union| union.next_deadline());
        [self.idle_deadline(now), self.pending.next_deadline(), clients, union].into_iter().flatten().min()
    }

    pub(super) fn tick(&mut self) {
        for number in self.pending.overdue(self.now) {
            self.time_out(number);
        }
        if self.union.is_some() && self.ending.is_none() {
            self.apply_to_union(UnionInput::Tick);
        }
        for number in self.undeliverable() {
            self.fail_server_request(number, &ProxyError::Undeliverable);
        }
        let now = self.now;
        self.remove_clients(
            EndReason::ClientLeft,
            |client| matches!(client.phase, ClientPhase::Leaving { deadline } if deadline <= now),
        );
        self.forget_idle_clients();
        for client in self.clients.iter_mut() {
            let checks = client.outbox.due_checks(self.now);
            self.effects
                .extend(checks.into_iter().map(|(stream, attachment)| Effect::CheckRead { stream, attachment }));
        }
        if let Some(after) = self.limits.idle_timeout
            && self.idle_deadline(self.now).is_some_and(|deadline| deadline <= self.now)
        {
            self.end(EndReason::Idle { after });
        }
    }

    /// The server requests that no client will answer any more: those that have waited for a stream for too long, those
    /// whose stream was lost for too long, and all of a client that has been without any stream for too long.
    fn undeliverable(&mut self) -> Vec<u64> {
        let mut numbers = Vec::new();
        for client in self.clients.iter_mut() {
            numbers.extend(client.waiting.overdue(self.now));
            let expired = client.outbox.expired(self.now);
            if client.is_absent(self.now) && client.outbox.note_gone() {
                numbers.extend(self.pending.server_requests_for(client.id));
            } else {
                numbers.extend(self.pending.server_requests_on(&expired));
            }
        }
        numbers
    }

    fn time_out(&mut self, number: u64) {
        let is_joining = self.shared.as_ref().is_some_and(|shared| shared.is_waiting(number));
        let Some(request) = self.take_client_request(number) else { return };
        let (client, link, kind) = (request.client, request.link, request.kind);
        let mut error = ProxyError::RequestTimeout { after: self.limits.request_timeout.unwrap_or_default() };
        if let Some(link) = link {
            error = self.name_server(link, error);
        }
        self.respond_with_error(request, &error);
        if kind == RequestKind::Initialize && self.shared.is_some() && !is_joining {
            // Nobody would hear a late answer, and all who join would wait for it: the next client begins anew.
            self.end(EndReason::Refused);
            return;
        }
        if kind == RequestKind::Initialize {
            // `initialize` cannot be cancelled. The union is not told: it would answer the requests queued behind it with
            // the advice to send `initialize` first, and their client is gone.
            self.remove_client(client, EndReason::Refused);
            return;
        }
        let cancellation = Cancellation::Because("the request timed out");
        match link {
            Some(link) => {
                let (wire, purpose) = (cancellation.notification(number), Purpose::Cancel(number));
                self.effects.push(Effect::ToServer { link, wire, purpose });
            }
            None => self.apply_to_union(UnionInput::Withdrawn { number, cancellation }),
        }
    }

    /// A session that was busy up to this event has been active up to now, or for as long as it was busy.
    pub(super) fn note_activity(&mut self) {
        if let Some(until) = self.busy_until(self.now) {
            self.active = self.active.max(until);
        }
    }

    /// Idle is a session none of whose clients is busy: has an open stream that lasts, or a request in flight and is
    /// there for its response.
    fn busy_until(&self, now: Instant) -> Option<Instant> {
        self.clients.iter().filter_map(|client| client.busy_until(now)).max()
    }

    /// When the session will have been idle for too long, if it is idle.
    fn idle_deadline(&self, now: Instant) -> Option<Instant> {
        let is_busy = self.clients.iter().any(|client| client.is_busy(now));
        self.limits.idle_timeout.filter(|_| !is_busy).map(|timeout| self.active + timeout)
    }
}
