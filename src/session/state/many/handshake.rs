//! The handshake with several servers: all are asked at once, and the client has one answer.

use std::time::Instant;

use serde_json::Value;

use super::super::{Effect, EndReason, Phase, State, Verdict};
use super::gather::{LARGEST_KEPT, error_text};
use super::{Many, Member, Role, Standing};
use crate::error::Fault;
use crate::frame::{Frame, Id, Permit, Wire, notification};
use crate::link::Purpose;
use crate::session::union::{LinkId, List, Welcome, version_of};

/// The client's `initialize` while servers are still to answer it.
#[derive(Debug)]
pub(super) struct Opening {
    pub call: u64,
    asked: Option<String>,
    /// What the servers have said, by link.
    answers: Vec<Option<Value>>,
    until: Instant,
    wait: Wait,
}

/// For whom the client's `initialize` waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// For all servers.
    All,
    /// For the first: servers that are started for the first time may have much to fetch.
    First,
    Nobody,
}

/// How many times as long as for the others it is waited for the first server.
const PATIENCE: u32 = 6;

impl State {
    /// Sends the client's `initialize` to every server that is not gone: as it is, but for its id.
    pub(super) fn open_all(&mut self, call: u64, mut frame: Frame, now: Instant) {
        let until = now + self.limits.gather;
        let asked = version_of(&frame, "params");
        let answers = self.many.members.iter().map(|_| None).collect();
        // Those that have not answered the last time are asked already, and were waited for.
        let again = self.many.members.iter().any(|member| matches!(member.standing, Standing::Asked));
        let wait = if again { Wait::First } else { Wait::All };
        self.many.opening = Some(Opening { call, asked, answers, until, wait });
        self.many.dues.insert((until, call));
        let permit = frame.take_permit().map(Permit::shared);
        for link in self.many.servers.links() {
            let to_be_asked = |member: &&mut Member| !member.is_gone() && !matches!(member.standing, Standing::Asked);
            let Some(member) = self.many.member_mut(link).filter(to_be_asked) else { continue };
            member.standing = Standing::Asked;
            let permit = permit.as_ref().map(|permit| permit());
            self.ask_part(link, Role::Handshake, |part| {
                (
                    fan(&frame, frame.splice().id(&Id::number(part)).finish()).with_permit(permit),
                    Purpose::Initialize(part),
                )
            });
        }
        self.end_handshake_if_complete(now);
    }

    pub(super) fn handshake_answered(&mut self, link: LinkId, frame: &Frame, now: Instant) {
        if frame.is_error() {
            self.handshake_failed(link, Fault::HandshakeRefused(error_text(frame)), now);
            return;
        }
        let Some((abilities, result)) = Welcome::read(frame) else {
            let reason = "the result of `initialize` is not an object".to_owned();
            self.handshake_failed(link, Fault::BadAnswer { reason }, now);
            return;
        };
        let Some(member) = self.many.member_mut(link) else { return };
        member.standing = Standing::Ready;
        member.abilities = abilities;
        self.effects.push(Effect::Server { link, ready: true });
        match &mut self.many.opening {
            Some(opening) => {
                if let Some(slot) = opening.answers.get_mut(usize::from(link.0)) {
                    *slot = Some(result);
                }
                self.end_handshake_if_complete(now);
            }
            None => self.welcome_late(link, now),
        }
    }

    pub(super) fn handshake_failed(&mut self, link: LinkId, fault: Fault, now: Instant) {
        self.warn(link, format!("the handshake failed: {fault}"));
        if let Some(member) = self.many.member_mut(link) {
            member.standing = Standing::Refused(fault);
            self.effects.push(Effect::Server { link, ready: false });
        }
        self.end_handshake_if_complete(now);
    }

    pub(super) fn handshake_due(&mut self, now: Instant) {
        let any = self.many.members.iter().any(Member::is_ready);
        if let Some(opening) = &mut self.many.opening {
            opening.wait = if opening.wait == Wait::All && !any { Wait::First } else { Wait::Nobody };
            if opening.wait == Wait::First {
                opening.until += self.limits.gather * (PATIENCE - 1);
                self.many.dues.insert((opening.until, opening.call));
            }
        }
        self.end_handshake_if_complete(now);
    }

    /// The client is answered when all servers have, or when it was waited long enough: then with those that have.
    pub(super) fn end_handshake_if_complete(&mut self, now: Instant) {
        let Some(opening) = &self.many.opening else { return };
        let any = self.many.members.iter().any(Member::is_ready);
        let more = self.many.members.iter().any(|member| matches!(member.standing, Standing::Asked));
        let waits = match opening.wait {
            Wait::All => more,
            Wait::First => more && !any,
            Wait::Nobody => false,
        };
        if waits {
            return;
        }
        let Some(opening) = self.many.opening.take() else { return };
        self.many.dues.remove(&(opening.until, opening.call));
        match self.pending.take_call(opening.call) {
            Some(call) if any => {
                for (link, missing) in self.missing() {
                    self.warn(link, format!("the session begins without it: {missing}"));
                }
                let mut welcome = Welcome::default();
                for (link, answer) in self.many.servers.links().zip(opening.answers) {
                    if let Some(answer) = answer {
                        welcome.add(&self.many.servers.name(link), answer);
                    }
                }
                let (result, version) = welcome.finish(opening.asked.as_deref(), more);
                self.many.opened = true;
                if matches!(self.phase, Phase::Opening { call, .. } if call == opening.call) {
                    self.phase = Phase::Live;
                }
                self.effects.push(Effect::Opened { version: Some(version) });
                let wire = match &call.client_id {
                    Some(id) => crate::frame::response(id, &result),
                    None => Wire::from(Vec::new()),
                };
                self.answer(call, wire, Verdict::Result, now);
            }
            Some(call) => {
                let fault = self.no_server();
                self.answer_fault(call, &fault, now);
            }
            // It had its answer when its time was over, and the session ends.
            None => {}
        }
        for link in self.many.servers.links() {
            self.greet(link);
        }
        self.release_all(now);
    }

    /// The servers that are not there, and why.
    fn missing(&self) -> Vec<(LinkId, Fault)> {
        self.many.servers.links().filter_map(|link| Some((link, self.absence(link)?))).collect()
    }

    fn no_server(&self) -> Fault {
        let plain = |fault| match fault {
            Fault::Of { fault, .. } => *fault,
            fault => fault,
        };
        let each: Vec<_> = self.missing();
        // Where other credentials would mend it, the client has to hear of that.
        if let Some((_, fault)) = each.iter().find(|(_, fault)| fault.is_challenge()) {
            return fault.clone();
        }
        Fault::NoServer(each.into_iter().map(|(link, fault)| (self.many.servers.name(link), plain(fault))).collect())
    }

    /// The end of the handshake, as the client has said it.
    pub(super) fn initialized(&mut self, mut frame: Frame) {
        // The room that it was given is given back: it is small, and kept once.
        drop(frame.take_permit());
        let kept = if frame.len() < LARGEST_KEPT {
            // A copy: what it came with may be larger.
            Frame::parse(frame.bytes().to_vec())
        } else {
            Frame::parse(notification("notifications/initialized", None).into_bytes())
        };
        self.many.initialized = kept.ok().map(|kept| kept.with_forwarded(frame.forwarded().cloned()));
        for link in self.many.servers.links() {
            self.greet(link);
        }
    }

    fn greet(&mut self, link: LinkId) {
        let Many { opened, members, initialized, .. } = &mut *self.many;
        let (true, Some(frame)) = (*opened, initialized) else { return };
        let member = members.get_mut(usize::from(link.0));
        let Some(member) = member.filter(|member| member.is_ready() && !member.greeted) else { return };
        member.greeted = true;
        let wire = fan(frame, frame.share().into_wire());
        self.effects.push(Effect::ToServer { link, wire, purpose: Purpose::Initialized });
    }

    /// A server is ready after the client had its answer: it is told what it has missed, and the client that there is more.
    fn welcome_late(&mut self, link: LinkId, now: Instant) {
        self.greet(link);
        let Some(abilities) = self.many.member(link).map(|member| member.abilities) else { return };
        if let Some(frame) = self.many.level.take() {
            if abilities.logging {
                self.drop_unheeded(link);
                self.ask_part(link, Role::Nobody, |part| {
                    (fan(&frame, frame.splice().id(&Id::number(part)).finish()), Purpose::Call(part))
                });
            }
            self.many.level = Some(frame);
        }
        self.tell_changes(link, now);
    }

    /// What a server offers is there now, or is not any more: the client is told of the lists that it is to fetch anew.
    pub(super) fn tell_changes(&mut self, link: LinkId, now: Instant) {
        let Some(abilities) = self.many.member(link).map(|member| member.abilities) else { return };
        for method in abilities.changes() {
            self.tell_change(link, method, now);
        }
    }

    pub(super) fn tell_change(&mut self, link: LinkId, method: &str, now: Instant) {
        if self.many.opened {
            self.route(link, None, notification(method, None), super::super::About::Notice, now);
        }
    }

    /// What was late with its part of a list is here.
    pub(super) fn late_is_here(&mut self, link: LinkId, list: List, now: Instant) {
        if let Some(member) = self.many.member_mut(link) {
            member.late[list as usize] = None;
        }
        let method = match list {
            List::Tools => "notifications/tools/list_changed",
            List::Prompts => "notifications/prompts/list_changed",
            List::Resources | List::Templates => "notifications/resources/list_changed",
            List::Tasks => return,
        };
        self.tell_change(link, method, now);
    }

    /// Whether there is no server left, nor one to come.
    pub(super) fn end_if_alone(&mut self) {
        let last = self.many.members.iter().rev().find_map(|member| match &member.standing {
            Standing::Gone { exit, .. } => Some(exit.clone()),
            _ => None,
        });
        let opened = self.many.opened;
        let lives = |member: &Member| match member.standing {
            Standing::New | Standing::Asked | Standing::Ready => true,
            // The client may try again, as long as it has not begun without it.
            Standing::Refused(_) => !opened,
            Standing::Gone { .. } => false,
        };
        if let (Some(exit), false) = (last, self.many.members.iter().any(lives)) {
            self.end(EndReason::from_exit(exit));
        }
    }
}

/// What is made of the frame for one of several servers, with the headers that go to each.
pub(super) fn fan(frame: &Frame, wire: Wire) -> Wire {
    wire.with_forwarded(frame.forwarded().cloned())
}
