//! The end of one of several servers: what was asked of it fails with its name, and the session goes on without it.

use std::time::Instant;

use super::super::{About, State};
use super::{Standing, Survey};
use crate::error::Fault;
use crate::link::LinkExit;
use crate::session::union::{LinkId, List};

impl State {
    pub(in crate::session::state) fn link_lost(&mut self, link: LinkId, exit: LinkExit, now: Instant) {
        let Some(member) = self.many.member_mut(link).filter(|member| !member.is_gone()) else { return };
        let was_ready = member.is_ready();
        let fault = exit.fault(&self.name, was_ready, self.expose_stderr);
        if !matches!(member.standing, Standing::Refused(_)) {
            let told = exit.fault(&self.name, was_ready, true).of(self.many.servers.name(link));
            self.warn(link, format!("{told}"));
        }
        let Some(member) = self.many.member_mut(link) else { return };
        member.standing = Standing::Gone { exit, ready: was_ready };
        member.late = [None; List::ALL.len()];
        for list in List::ALL {
            if member.surveys[list as usize] == Survey::Unknown {
                member.surveys[list as usize] = Survey::Failed;
            }
        }
        self.many.table.link_gone(link);
        for number in self.pending.calls_of(link) {
            let fault = self.named(link, fault.clone());
            self.fail_call(number, &fault, now);
        }
        self.withdraw_questions(link, now);
        self.fail_parts(link, &fault, now);
        self.end_handshake_if_complete(now);
        if was_ready {
            self.tell_changes(link, now);
        }
        self.end_if_alone();
    }

    /// Nobody waits any more for the answers to that server's questions: the client is told where it was asked.
    fn withdraw_questions(&mut self, link: LinkId, now: Instant) {
        for number in self.pending.questions_of(link) {
            let Some(question) = self.take_question(number) else { continue };
            if let Some(group) = question.group {
                let _ = self.pending.leave_group(group);
            }
            let Some(stream) = question.stream else { continue };
            let wire = super::super::time::cancelled(number, "the server that asked is gone");
            let near = Some(stream).filter(|stream| self.outbox.carries(*stream));
            self.route(link, near, wire, About::Notice, now);
        }
    }

    fn fail_parts(&mut self, link: LinkId, fault: &Fault, now: Instant) {
        let of_link = self.many.parts.iter().filter(|(_, part)| part.link == link);
        let mut parts: Vec<u64> = of_link.map(|(number, _)| *number).collect();
        parts.sort_unstable();
        for number in parts {
            let Some((part, role)) = self.many.take_part(link, number) else { continue };
            match role {
                super::Role::Handshake => {}
                role => self.part_failed(link, part, &role, fault.clone(), now),
            }
        }
    }
}
