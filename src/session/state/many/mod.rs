//! Several servers as one, or one whose offers are filtered: what a session knows of them.
//!
//! A call for several servers at once is a [`Gather`]: the client's call stays in the pending table, with no link of its
//! own, and each server is asked for a *part*, under a number of the same series. A call that cannot be routed yet is
//! *held*: until the handshake is done, or until a *survey* has asked the servers for their lists. With one server and no
//! filters nothing of this is ever made.
//!
//! ```text
//!            `initialize`            its answer
//!   New ───────────────────▶ Asked ─────────────▶ Ready
//!    ▲                         │                    │
//!    │ the client tries again  ▼ an error           │
//!    └───────────────────── Refused                 │
//!   any ─▶ Gone   its link has closed  ◀────────────┘
//! ```

mod gather;
mod handshake;
mod look;
mod lost;
mod route;
mod survey;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use super::{Effect, State};
use crate::error::Fault;
use crate::frame::{Forwarded, Frame, Wire};
use crate::link::{LinkExit, Purpose};
use crate::session::union::{Abilities, LinkId, LinkIds, List, Mode, Servers, Table};

use gather::Gather;
use handshake::Opening;
use route::Held;

/// What one server is asked on behalf of several.
#[derive(Debug)]
pub(in crate::session::state) enum Role {
    Handshake,
    /// A part of that call of the client.
    Gather(u64),
    /// A page of a list that sessile itself asks for; so many were asked for before it, with these headers.
    Survey {
        list: List,
        pages: usize,
        forwarded: Option<Forwarded>,
    },
    /// A part of a list whose answer went out without it.
    Late(List),
    /// Its answer is of no interest.
    Nobody,
}

#[derive(Debug)]
struct Part {
    link: LinkId,
    role: Role,
}

/// Where a server is in its life; see the diagram at the top of this file.
#[derive(Debug)]
enum Standing {
    New,
    Asked,
    Ready,
    Refused(Fault),
    /// `ready` is whether it ever was.
    Gone {
        exit: LinkExit,
        ready: bool,
    },
}

/// What is known of one list of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Survey {
    #[default]
    Unknown,
    /// It is being asked for it, by this part, and waited for until then.
    Asking { part: u64, until: Instant },
    /// All of it is in the table.
    Known,
    /// It did not answer, or not with a list.
    Failed,
}

#[derive(Debug)]
struct Member {
    standing: Standing,
    abilities: Abilities,
    surveys: [Survey; List::ALL.len()],
    /// Whether all of its templates were known at some time: those that are denied are since.
    templates_known: bool,
    /// The part whose answer a list went out without, and until when it is not asked again.
    late: [Option<(u64, Instant)>; List::ALL.len()],
    /// Whether it has had the client's `initialized`.
    greeted: bool,
}

impl Member {
    fn is_ready(&self) -> bool {
        matches!(self.standing, Standing::Ready)
    }

    fn is_gone(&self) -> bool {
        matches!(self.standing, Standing::Gone { .. })
    }
}

#[derive(Debug)]
pub(in crate::session::state) struct Many {
    servers: Arc<Servers>,
    members: Vec<Member>,
    table: Table,
    parts: HashMap<u64, Part>,
    /// By the number of the client's call.
    gathers: HashMap<u64, Gather>,
    /// Calls that cannot be routed yet, by number.
    held: BTreeMap<u64, Held>,
    /// When to wait no longer: for a gather or the handshake, by its call, or for a survey, by its part.
    dues: BTreeSet<(Instant, u64)>,
    opening: Option<Opening>,
    /// Whether the client's handshake was answered.
    opened: bool,
    /// The client's `notifications/initialized`, for servers that are ready later.
    initialized: Option<Frame>,
    /// The client's `logging/setLevel`, likewise.
    level: Option<Frame>,
    /// Whether a name that two servers have was told of.
    clash_told: bool,
}

impl Many {
    pub(in crate::session::state) fn new(servers: Arc<Servers>) -> Self {
        let member = || Member {
            standing: Standing::New,
            abilities: Abilities::default(),
            surveys: [Survey::default(); List::ALL.len()],
            templates_known: false,
            late: [None; List::ALL.len()],
            greeted: false,
        };
        // Where there is but one server and nothing to be filtered, nobody ever asks.
        let members = if servers.mode() == Mode::Plain { 0 } else { servers.len() };
        Self {
            members: (0..members).map(|_| member()).collect(),
            servers,
            table: Table::default(),
            parts: HashMap::new(),
            gathers: HashMap::new(),
            held: BTreeMap::new(),
            dues: BTreeSet::new(),
            opening: None,
            opened: false,
            initialized: None,
            level: None,
            clash_told: false,
        }
    }

    pub(in crate::session::state) fn mode(&self) -> Mode {
        self.servers.mode()
    }

    pub(in crate::session::state) fn next_deadline(&self) -> Option<Instant> {
        self.dues.first().map(|(due, _)| *due)
    }

    fn member(&self, link: LinkId) -> Option<&Member> {
        self.members.get(usize::from(link.0))
    }

    fn member_mut(&mut self, link: LinkId) -> Option<&mut Member> {
        self.members.get_mut(usize::from(link.0))
    }

    fn each(&self) -> impl Iterator<Item = (LinkId, &Member)> {
        self.members
            .iter()
            .enumerate()
            .map(|(index, member)| (LinkId(u16::try_from(index).unwrap_or(u16::MAX)), member))
    }

    fn ready(&self) -> LinkIds {
        self.each().filter(|(_, member)| member.is_ready()).map(|(link, _)| link).collect()
    }

    /// Whether several servers were there, and this one of them is not any more.
    pub(in crate::session::state) fn is_gone(&self, link: LinkId) -> bool {
        self.member(link).is_some_and(Member::is_gone)
    }

    /// The call of the client of which this is a part that was asked of that server.
    pub(in crate::session::state) fn head_of(&self, link: LinkId, part: u64) -> Option<u64> {
        match self.parts.get(&part).filter(|part| part.link == link)?.role {
            Role::Gather(call) => Some(call),
            Role::Handshake => self.opening.as_ref().map(|opening| opening.call),
            Role::Survey { .. } | Role::Late(_) | Role::Nobody => None,
        }
    }

    /// Whether that server is asked for a part of this call.
    pub(in crate::session::state) fn asks(&self, link: LinkId, call: u64) -> bool {
        match self.gathers.get(&call) {
            Some(gather) => gather.open.iter().any(|(asked, _)| *asked == link),
            None => false,
        }
    }

    /// What was asked of that server under this number; none if it was never asked, or not by sessile itself.
    pub(in crate::session::state) fn take_part(&mut self, link: LinkId, number: u64) -> Option<(u64, Role)> {
        self.parts.get(&number).filter(|part| part.link == link)?;
        self.parts.remove(&number).map(|part| (number, part.role))
    }

    /// The numbers under which that server was asked for parts that it has not answered yet.
    pub(in crate::session::state) fn parts_of(&self, link: LinkId) -> impl Iterator<Item = u64> {
        self.parts.iter().filter(move |(_, part)| part.link == link).map(|(number, _)| *number)
    }

    /// How much there is in all tables, but for what was learnt.
    #[cfg(test)]
    pub(in crate::session::state) fn under_way(&self) -> usize {
        let late = self.parts.values().filter(|part| matches!(part.role, Role::Late(_) | Role::Nobody)).count();
        self.parts.len() - late + self.gathers.len() + self.held.len() + self.dues.len()
    }

    #[cfg(test)]
    pub(in crate::session::state) fn size(&self) -> usize {
        self.members.len()
    }

    #[cfg(test)]
    pub(in crate::session::state) fn parts(&self) -> usize {
        self.parts.len()
    }
}

impl State {
    /// The fault as that server's, if there are several.
    pub(in crate::session::state) fn named(&self, link: LinkId, fault: Fault) -> Fault {
        match self.many.mode() {
            Mode::Plain | Mode::Filtered => fault,
            Mode::Many => fault.of(self.many.servers.name(link)),
        }
    }

    /// Why nothing can be asked of that server, if so.
    fn absence(&self, link: LinkId) -> Option<Fault> {
        if self.many.mode() != Mode::Many {
            return None;
        }
        let fault = match &self.many.member(link)?.standing {
            Standing::Ready => return None,
            Standing::New | Standing::Asked => Fault::NotReady,
            Standing::Refused(fault) => fault.clone(),
            Standing::Gone { exit, ready } => exit.fault(&self.name, *ready, self.expose_stderr),
        };
        Some(self.named(link, fault))
    }

    /// Asks a server for something, and says under which number.
    fn ask_part(&mut self, link: LinkId, role: Role, wire: impl FnOnce(u64) -> (Wire, Purpose)) -> u64 {
        let number = self.pending.fresh_number();
        self.many.parts.insert(number, Part { link, role });
        let (wire, purpose) = wire(number);
        self.effects.push(Effect::ToServer { link, wire, purpose });
        number
    }

    fn warn(&mut self, link: LinkId, text: String) {
        self.effects.push(Effect::Warn { link, text });
    }

    /// A server has answered what sessile itself asked of it.
    pub(in crate::session::state) fn part_answered(
        &mut self,
        link: LinkId,
        part: u64,
        role: Role,
        frame: Frame,
        now: Instant,
    ) {
        match role {
            Role::Handshake => self.handshake_answered(link, &frame, now),
            Role::Gather(call) => self.gathered(call, link, part, Ok(frame), now),
            Role::Survey { list, pages, forwarded } => self.surveyed(link, list, pages, forwarded, &frame, now),
            Role::Late(list) => self.late_is_here(link, list, now),
            Role::Nobody => {}
        }
    }

    /// A server will not answer what sessile itself asked of it.
    pub(in crate::session::state) fn part_failed(
        &mut self,
        link: LinkId,
        part: u64,
        role: &Role,
        fault: Fault,
        now: Instant,
    ) {
        match role {
            Role::Handshake => self.handshake_failed(link, fault, now),
            Role::Gather(call) => self.gathered(*call, link, part, Err(fault), now),
            Role::Survey { list, .. } => self.survey_failed(link, *list, &fault, now),
            Role::Late(list) => {
                if let Some(member) = self.many.member_mut(link) {
                    member.late[*list as usize] = None;
                }
            }
            Role::Nobody => {}
        }
    }

    /// It was waited long enough: for parts of a call, for the handshake, or for a survey.
    pub(in crate::session::state) fn gather_no_longer(&mut self, now: Instant) {
        while let Some((due, number)) = self.many.dues.first().copied()
            && due <= now
        {
            self.many.dues.pop_first();
            if self.many.gathers.contains_key(&number) {
                self.gather_due(number, now);
            } else if self.many.opening.as_ref().is_some_and(|opening| opening.call == number) {
                self.handshake_due(now);
            } else {
                self.survey_due(number, now);
            }
        }
    }
}
