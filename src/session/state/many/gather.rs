//! Calls that several servers answer together: lists, and the logging level.
//!
//! They end when all have answered, or when it was waited long enough. Who is late then is left out, and where nobody
//! has answered the client is told who was asked.

use std::time::Instant;

use smallvec::SmallVec;

use super::super::time::cancelled;
use super::super::{Effect, State, Verdict};
use super::{Many, Member, Part, Role};
use crate::error::{Fault, code};
use crate::frame::{Frame, Id, Permit, request};
use crate::link::Purpose;
use crate::session::union::{Cursor, LinkId, LinkIds, List, Merge, Page, Told};

/// How many times as long as a list waits for a server one that was late is left in peace.
const LATE: u32 = 6;

/// The largest frame of a client that a session keeps, in bytes. Of a larger one what matters is kept.
pub(super) const LARGEST_KEPT: usize = 64 * 1024;
/// The longest logging level, as JSON. Those that there are have eleven bytes.
const LONGEST_LEVEL: usize = 64;

/// What the parts make together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// A page of a list: the first, or one that a cursor names.
    List {
        list: List,
        first: bool,
    },
    Level,
}

/// A call of the client whose answer is made of those of several servers.
#[derive(Debug)]
pub(super) struct Gather {
    what: What,
    /// The parts that have no answer yet.
    pub open: SmallVec<[(LinkId, u64); 4]>,
    answers: Vec<(LinkId, Result<Frame, Fault>)>,
    /// Where those go on that may be late this once: the client comes back for their pages.
    later: Vec<(LinkId, String)>,
    /// How large the answers are, in bytes.
    bytes: usize,
    pub until: Instant,
    /// No part is waited for any more.
    due: bool,
}

impl Gather {
    fn is_complete(&self) -> bool {
        self.open.is_empty() || self.due
    }
}

fn is_good(answer: &Result<Frame, Fault>) -> bool {
    answer.as_ref().is_ok_and(|frame| !frame.is_error())
}

impl State {
    /// Asks all servers that have such a list for a page of it.
    pub(super) fn gather_list(&mut self, call: u64, list: List, cursor: Option<&str>, frame: Frame, now: Instant) {
        let mut pages: Vec<(LinkId, Option<String>)> = Vec::new();
        let mut later = Vec::new();
        match cursor {
            None => {
                let has = |member: &Member| member.is_ready() && member.abilities.lists(list);
                pages.extend(self.many.each().filter(|(_, member)| has(member)).map(|(link, _)| (link, None)));
                if pages.is_empty() && self.many.members.iter().all(Member::is_ready) {
                    let fault = Fault::MethodNotFound(format!("{}: no server of this session has any", list.method()));
                    self.fail_call(call, &fault, now);
                    return;
                }
            }
            Some(text) => {
                let Some(cursor) = Cursor::decode(list, self.many.members.len(), text) else {
                    let why = "`params.cursor` is not one that was given for this list: begin without it";
                    self.fail_call(call, &Fault::InvalidParams(why.into()), now);
                    return;
                };
                let ready = self.many.ready();
                for (link, cursor) in cursor.rest.into_iter().filter(|(link, _)| ready.contains(link)) {
                    // Its pages are not given up because it is late once, but clients are not to go in circles either.
                    if !self.is_still_late(link, list, now) {
                        later.push((link, cursor.clone()));
                    }
                    pages.push((link, Some(cursor)));
                }
            }
        }
        let first = cursor.is_none();
        if first {
            // One that has still not answered the last time will not do so faster now; when it does, the client is told.
            let asked: LinkIds = pages.iter().map(|(link, _)| *link).collect();
            pages.retain(|(link, _)| !self.is_still_late(*link, list, now));
            if pages.is_empty() && !asked.is_empty() {
                let fault = self.no_answer(list.method(), &asked);
                self.fail_call(call, &fault, now);
                return;
            }
        }
        if pages.is_empty() {
            self.answer_with(call, &Merge::new(list).finish(None), None, now);
            return;
        }
        self.gather(call, What::List { list, first }, pages, later, frame, now);
    }

    /// Sets the logging level of all servers that have one.
    pub(super) fn gather_level(&mut self, call: u64, frame: Frame, now: Instant) {
        let has = |member: &Member| member.is_ready() && member.abilities.logging;
        let pages: Vec<_> = self.many.each().filter(|(_, member)| has(member)).map(|(link, _)| (link, None)).collect();
        if pages.is_empty() {
            let fault = Fault::MethodNotFound("logging/setLevel: no server of this session has logging".into());
            self.fail_call(call, &fault, now);
            return;
        }
        self.many.level = kept_level(&frame);
        self.gather(call, What::Level, pages, Vec::new(), frame, now);
    }

    fn gather(
        &mut self,
        call: u64,
        what: What,
        pages: Vec<(LinkId, Option<String>)>,
        later: Vec<(LinkId, String)>,
        mut frame: Frame,
        now: Instant,
    ) {
        let mut open = SmallVec::new();
        let permit = frame.take_permit().map(Permit::shared);
        for (link, cursor) in pages {
            let permit = permit.as_ref().map(|permit| permit());
            let part = self.ask_part(link, Role::Gather(call), |part| {
                (Self::part_of(&frame, part, cursor.as_deref()).with_permit(permit), Purpose::Call(part))
            });
            open.push((link, part));
        }
        let until = now + self.limits.gather;
        self.many.dues.insert((until, call));
        let gather = Gather { what, open, answers: Vec::new(), later, bytes: 0, until, due: false };
        self.many.gathers.insert(call, gather);
    }

    /// A part has its answer, or will have none.
    pub(super) fn gathered(
        &mut self,
        call: u64,
        link: LinkId,
        part: u64,
        mut answer: Result<Frame, Fault>,
        now: Instant,
    ) {
        let limit = self.limits.message_size;
        let Some(gather) = self.many.gathers.get_mut(&call) else { return };
        gather.open.retain(|(_, open)| *open != part);
        if let Ok(frame) = &answer {
            gather.bytes += frame.len();
            if gather.bytes > limit {
                answer = Err(Fault::MessageTooLarge { limit, size: gather.bytes });
            }
        }
        gather.answers.push((link, answer));
        self.end_gather_if_complete(call, now);
    }

    pub(super) fn gather_due(&mut self, call: u64, now: Instant) {
        if let Some(gather) = self.many.gathers.get_mut(&call) {
            gather.due = true;
        }
        self.end_gather_if_complete(call, now);
    }

    fn end_gather_if_complete(&mut self, call: u64, now: Instant) {
        if !self.many.gathers.get(&call).is_some_and(Gather::is_complete) {
            return;
        }
        let Some(mut gather) = self.many.gathers.remove(&call) else { return };
        self.many.dues.remove(&(gather.until, call));
        let late: LinkIds = gather.open.iter().map(|(link, _)| *link).collect();
        for (link, part) in std::mem::take(&mut gather.open) {
            self.leave_late(link, part, gather.what, now);
        }
        let mut answers = gather.answers;
        answers.sort_by_key(|(link, _)| *link);
        let mut later = gather.later;
        later.retain(|(link, _)| late.contains(link));
        let no_answer = answers.is_empty() && later.is_empty();
        match gather.what {
            What::Level if no_answer => {
                let fault = self.no_answer("logging/setLevel", &late);
                self.fail_call(call, &fault, now);
            }
            What::List { list, .. } if no_answer => {
                let fault = self.no_answer(list.method(), &late);
                self.fail_call(call, &fault, now);
            }
            What::Level => self.answer_level(call, answers, now),
            What::List { list, first } => self.answer_list(call, list, first, answers, later, now),
        }
    }

    /// None of those that were asked has answered in time.
    fn no_answer(&self, method: &'static str, links: &[LinkId]) -> Fault {
        Fault::NoAnswer { method, servers: self.many.servers.names(links) }
    }

    /// An answer that is of no interest is waited for only until the next: whoever never answers must not fill the tables.
    pub(super) fn drop_unheeded(&mut self, link: LinkId) {
        let unheeded = |part: &&Part| part.link == link && matches!(part.role, Role::Nobody);
        let parts: Vec<u64> =
            self.many.parts.iter().filter(|(_, part)| unheeded(part)).map(|(number, _)| *number).collect();
        for part in parts {
            self.many.parts.remove(&part);
            let (wire, purpose) = (cancelled(part, "it took too long"), Purpose::Cancel(part));
            self.effects.push(Effect::ToServer { link, wire, purpose });
        }
    }

    /// The answer goes out without this part.
    fn leave_late(&mut self, link: LinkId, part: u64, what: What, now: Instant) {
        let role = match what {
            What::List { list, .. } => Role::Late(list),
            What::Level => {
                self.drop_unheeded(link);
                Role::Nobody
            }
        };
        let until = now + self.limits.gather * LATE;
        if let (Role::Late(list), Some(member)) = (&role, self.many.member_mut(link)) {
            let before = member.late[*list as usize].replace((part, until));
            if let Some((before, _)) = before {
                self.many.parts.remove(&before);
            }
            let text = format!("it is late with {}, and left out: the client is told when it is there", list.method());
            self.warn(link, text);
        }
        if let Some(part) = self.many.parts.get_mut(&part) {
            part.role = role;
        }
    }

    /// Whether that server has still not answered a part that a list went out without. After a while it is given up.
    fn is_still_late(&mut self, link: LinkId, list: List, now: Instant) -> bool {
        let Some(member) = self.many.member_mut(link) else { return true };
        let Some((part, until)) = member.late[list as usize] else { return false };
        if now < until {
            return true;
        }
        member.late[list as usize] = None;
        self.many.parts.remove(&part);
        let (wire, purpose) = (cancelled(part, "it took too long"), Purpose::Cancel(part));
        self.effects.push(Effect::ToServer { link, wire, purpose });
        false
    }

    fn answer_level(&mut self, call: u64, mut answers: Vec<(LinkId, Result<Frame, Fault>)>, now: Instant) {
        match answers.iter().position(|(_, answer)| is_good(answer)) {
            Some(good) => self.answer_as(call, answers.swap_remove(good), now),
            None => self.answer_worst(call, answers, now),
        }
    }

    /// One server's answer is the answer.
    fn answer_as(&mut self, number: u64, (link, answer): (LinkId, Result<Frame, Fault>), now: Instant) {
        let Some(call) = self.pending.take_call(number) else { return };
        match answer {
            Ok(mut frame) => {
                let wire = match &call.client_id {
                    Some(id) => frame.splice().id(id).finish(),
                    None => frame.splice().finish(),
                };
                let wire = frame.hand_over(wire);
                self.answer(call, wire, Verdict::of(&frame), now);
            }
            Err(fault) => {
                let fault = self.named(link, fault);
                self.answer_fault(call, &fault, now);
            }
        }
    }

    /// None of the answers is good: the client gets the one that says the most about it.
    fn answer_worst(&mut self, call: u64, mut answers: Vec<(LinkId, Result<Frame, Fault>)>, now: Instant) {
        let challenge = |answer: &Result<Frame, Fault>| answer.as_ref().is_err_and(Fault::is_challenge);
        let worst = (answers.iter().position(|(_, answer)| challenge(answer)))
            .or_else(|| answers.iter().position(|(_, answer)| answer.is_err()))
            .unwrap_or_default();
        if !answers.is_empty() {
            self.answer_as(call, answers.swap_remove(worst), now);
        }
    }

    fn answer_list(
        &mut self,
        call: u64,
        list: List,
        first: bool,
        answers: Vec<(LinkId, Result<Frame, Fault>)>,
        mut rest: Vec<(LinkId, String)>,
        now: Instant,
    ) {
        // With something still to come there is no need of an error: the client is to come back.
        if rest.is_empty() && !answers.iter().any(|(_, answer)| is_good(answer)) {
            self.answer_worst(call, answers, now);
            return;
        }
        let mut left_out = Vec::new();
        let mut pages = Vec::new();
        for (link, answer) in &answers {
            match answer {
                Ok(frame) if !frame.is_error() => match Page::read(list, frame) {
                    Some(page) => pages.push((*link, page)),
                    None => left_out.push((*link, "its answer has no such list".to_owned())),
                },
                // Templates have no capability of their own: many a server has none, and says so in this way.
                Ok(frame) if error_code(frame) == Some(i64::from(code::METHOD_NOT_FOUND)) => {}
                Ok(frame) => left_out.push((*link, format!("it gives an error: {}", error_text(frame)))),
                Err(fault) => left_out.push((*link, fault.to_string())),
            }
        }
        if first {
            for (link, page) in &pages {
                self.many.lists_anew(*link, list, page.next.is_none());
            }
        }
        let mut merge = Merge::new(list);
        let mut clash = None;
        for (link, page) in &mut pages {
            let link = *link;
            self.many.enter(list, link, page, Told::Listed);
            let Many { servers, table, .. } = &*self.many;
            let mut hidden = None;
            merge.add(page, |entry| {
                let full = servers.full(list, link, &entry.own);
                // Of two with one name the first is shown: clients and models take each name for one thing.
                let shown = servers.allows(link, list, &entry.own) && table.is_first(list, &full, link);
                shown.then(|| full.into_owned())
            });
            for entry in &page.entries {
                let full = servers.full(list, link, &entry.own);
                if servers.allows(link, list, &entry.own) && !table.is_first(list, &full, link) {
                    hidden.get_or_insert_with(|| full.into_owned());
                }
            }
            clash = clash.or(hidden.map(|name| (link, name)));
            if let Some(next) = page.next.take() {
                rest.push((link, next));
            }
        }
        rest.sort_by_key(|(link, _)| *link);
        let next = (!rest.is_empty()).then_some(Cursor { list, rest });
        let result = merge.finish(next.as_ref());
        drop(pages);
        // What the list is made of is let go of with it, and not before.
        let frames = answers.into_iter().filter_map(|(_, answer)| answer.ok());
        let permit = frames.filter_map(|mut frame| frame.take_permit()).reduce(Permit::and);
        for (link, why) in left_out {
            self.warn(link, format!("it is left out of {}: {why}", list.method()));
        }
        if let Some((link, name)) = clash.filter(|_| !std::mem::replace(&mut self.many.clash_told, true)) {
            self.warn(
                link,
                format!("another server has a {} {name} too: it is shown once, and to use it is an error", list.noun()),
            );
        }
        self.answer_with(call, &result, permit, now);
    }
}

impl Many {
    /// Enters a server's page into the table: what is filtered is no way to anything.
    pub(super) fn enter(&mut self, list: List, link: LinkId, page: &Page<'_>, told: Told) {
        for entry in &page.entries {
            let allowed = self.servers.allows(link, list, &entry.own);
            if list == List::Templates {
                self.table.enter_template(link, &entry.own, !allowed);
            } else if allowed {
                let full = self.servers.full(list, link, &entry.own);
                self.table.enter(list, &full, link, told);
            }
        }
    }
}

/// The level as it is told to servers that come later: a copy, so that nothing larger is kept for it.
fn kept_level(frame: &Frame) -> Option<Frame> {
    let kept = if frame.len() < LARGEST_KEPT {
        Frame::parse(frame.bytes().to_vec())
    } else {
        let level = frame.lookup(&["params", "level"]).ok().flatten().filter(|level| level.len() < LONGEST_LEVEL)?;
        let params = format!(r#"{{"level":{}}}"#, std::str::from_utf8(level).ok()?);
        Frame::parse(request(&Id::number(0), "logging/setLevel", Some(&params)).into_bytes())
    };
    Some(kept.ok()?.with_forwarded(frame.forwarded().cloned()))
}

pub(super) fn error_code(frame: &Frame) -> Option<i64> {
    serde_json::from_slice(frame.lookup(&["error", "code"]).ok().flatten()?).ok()
}

/// What an error says, for logs.
pub(super) fn error_text(frame: &Frame) -> String {
    let raw = frame.lookup(&["error", "message"]).ok().flatten();
    let text: String = raw.and_then(|raw| serde_json::from_slice(raw).ok()).unwrap_or_default();
    text.chars().filter(|character| !character.is_control()).take(200).collect()
}
