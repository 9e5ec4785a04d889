//! Lists that sessile itself asks for, to find out which server has what a client names.

use std::time::Instant;

use super::super::State;
use super::gather::{error_code, error_text};
use super::{Many, Role, Survey};
use crate::error::{Fault, code};
use crate::frame::{Forwarded, Frame, Id, quoted, request};
use crate::link::Purpose;
use crate::session::union::{LinkId, LinkIds, List, Mode, Page, Told};

/// Most pages of one list.
const PAGES: usize = 1000;

impl State {
    /// Asks these servers for these lists, so far as they are not known. `why` is the request that it is for.
    pub(super) fn survey(&mut self, links: &LinkIds, lists: &[List], why: &Frame, now: Instant) {
        for link in links {
            for list in lists {
                if self.many.is_to_be_asked(*link, *list) {
                    let until = now + self.limits.gather;
                    self.ask_page(*link, *list, 0, None, why.forwarded().cloned(), until);
                }
            }
        }
    }

    fn ask_page(
        &mut self,
        link: LinkId,
        list: List,
        pages: usize,
        cursor: Option<&str>,
        forwarded: Option<Forwarded>,
        until: Instant,
    ) {
        let cursor = cursor.and_then(|cursor| String::from_utf8(quoted(cursor)).ok());
        let params = cursor.map(|cursor| format!(r#"{{"cursor":{cursor}}}"#));
        let role = Role::Survey { list, pages, forwarded: forwarded.clone() };
        let part = self.ask_part(link, role, |part| {
            let wire = request(&Id::number(part), list.method(), params.as_deref());
            (wire.with_forwarded(forwarded), Purpose::Call(part))
        });
        self.many.dues.insert((until, part));
        self.many.set_survey(link, list, Survey::Asking { part, until });
    }

    /// Whether one of these lists is being asked for.
    pub(super) fn is_surveying(&self, links: &LinkIds, lists: &[List]) -> bool {
        let asking = |link: &LinkId| {
            let surveys = self.many.member(*link).map(|member| member.surveys);
            let asking = |list: &List| surveys.is_some_and(|all| matches!(all[*list as usize], Survey::Asking { .. }));
            lists.iter().any(asking)
        };
        links.iter().any(asking)
    }

    /// A page has come.
    pub(super) fn surveyed(
        &mut self,
        link: LinkId,
        list: List,
        pages: usize,
        forwarded: Option<Forwarded>,
        frame: &Frame,
        now: Instant,
    ) {
        let Some(until) = self.many.end_survey(link, list) else { return };
        if frame.is_error() {
            // It has none, and says so.
            let none = error_code(frame) == Some(i64::from(code::METHOD_NOT_FOUND));
            self.many.set_survey(link, list, if none { Survey::Known } else { Survey::Failed });
            if !none {
                self.warn(link, format!("{} gives an error: {}", list.method(), error_text(frame)));
            }
        } else if let Some(page) = Page::read(list, frame) {
            if pages == 0 {
                self.many.table.forget_list(list, link);
            }
            // There may be more than is kept: what somebody waits for is.
            self.many.want_held();
            self.many.enter(list, link, &page, Told::Listed);
            match &page.next {
                Some(next) if pages + 1 < PAGES => {
                    self.ask_page(link, list, pages + 1, Some(next), forwarded, until);
                }
                // What is on later pages is not known.
                Some(_) => {
                    self.many.set_survey(link, list, Survey::Failed);
                    self.warn(link, format!("{} has more than {PAGES} pages", list.method()));
                }
                None => self.many.set_survey(link, list, Survey::Known),
            }
        } else {
            self.many.set_survey(link, list, Survey::Failed);
            self.warn(link, format!("the answer to {} has no such list", list.method()));
        }
        self.release(now);
    }

    pub(super) fn survey_failed(&mut self, link: LinkId, list: List, fault: &Fault, now: Instant) {
        if self.many.end_survey(link, list).is_some() {
            self.many.set_survey(link, list, Survey::Failed);
            self.warn(link, format!("{} has no answer: {fault}", list.method()));
            self.release(now);
        }
    }

    /// It was waited for this part long enough.
    pub(super) fn survey_due(&mut self, part: u64, now: Instant) {
        let Some(role) = self.many.parts.get(&part) else { return };
        let (link, Role::Survey { list, .. }) = (role.link, &role.role) else { return };
        let list = *list;
        // Its answer is of no use to this call any more, and would cost a place in the tables.
        self.many.parts.remove(&part);
        self.effects.push(super::super::Effect::ToServer {
            link,
            wire: super::super::time::cancelled(part, "it takes too long"),
            purpose: Purpose::Cancel(part),
        });
        let fault = Fault::RequestTimeout { after: self.limits.gather };
        self.survey_failed(link, list, &fault, now);
    }
}

impl Many {
    fn is_to_be_asked(&mut self, link: LinkId, list: List) -> bool {
        // With one server the handshake is not kept watch over: before it, it may have anything.
        let waits = self.mode() == Mode::Many;
        let Some(member) = self.member(link) else { return false };
        let found = match member.surveys[list as usize] {
            Survey::Asking { .. } => return false,
            // Of a server that does not say when its list changes it can be known only by asking again.
            Survey::Known if member.abilities.tells(list) && !self.is_cut_short(link, list) => return false,
            _ if waits && !member.is_ready() => Survey::Failed,
            _ if member.is_ready() && !member.abilities.lists(list) => Survey::Known,
            Survey::Unknown | Survey::Known | Survey::Failed => return true,
        };
        self.set_survey(link, list, found);
        false
    }

    pub(super) fn set_survey(&mut self, link: LinkId, list: List, survey: Survey) {
        if let Some(member) = self.member_mut(link) {
            member.surveys[list as usize] = survey;
            member.templates_known |= list == List::Templates && survey == Survey::Known;
        }
    }

    /// Whether a list was known, but for names that had to go. More templates would have to go again.
    fn is_cut_short(&self, link: LinkId, list: List) -> bool {
        list != List::Templates && self.table.is_cut(list, link)
    }

    /// Whether these lists of these servers were asked for at some time, as far as they can be.
    pub(super) fn are_known(&self, links: &LinkIds, lists: &[List]) -> bool {
        let is_known = |link: &LinkId, list: List| {
            self.member(*link).is_none_or(|member| {
                matches!(member.surveys[list as usize], Survey::Known | Survey::Failed)
                    || member.is_ready() && !member.abilities.lists(list)
            })
        };
        links.iter().all(|link| lists.iter().all(|list| is_known(link, *list)))
    }

    /// Whether templates of that server may be denied that nobody knows of.
    pub(super) fn is_blind(&self, link: LinkId) -> bool {
        self.member(link)
            .is_none_or(|member| member.surveys[List::Templates as usize] == Survey::Failed || !member.templates_known)
    }

    /// The client is given the first page of that list of a server; `whole` if there is no other.
    pub(super) fn lists_anew(&mut self, link: LinkId, list: List, whole: bool) {
        let survey = self.member(link).map(|member| member.surveys[list as usize]);
        // What is being asked for is in the table by now, in part: it was forgotten when that began.
        if whole || !matches!(survey, Some(Survey::Asking { .. })) {
            self.table.forget_list(list, link);
        }
        if !whole {
            // The client may never ask for what is on the other pages.
            self.forget_surveys(link, &[list]);
        }
    }

    /// Until when it was to be waited for; `None` if this list is not being asked for.
    fn end_survey(&mut self, link: LinkId, list: List) -> Option<Instant> {
        let Survey::Asking { part, until } = self.member(link)?.surveys[list as usize] else { return None };
        self.dues.remove(&(until, part));
        Some(until)
    }

    /// The lists of that server that have to be asked for anew.
    pub(super) fn forget_surveys(&mut self, link: LinkId, lists: &[List]) {
        for list in lists {
            // One that is under way may have begun before the change: it is believed, since there is nothing better.
            let known = self.member(link).is_some_and(|member| member.surveys[*list as usize] == Survey::Known);
            if known {
                self.set_survey(link, *list, Survey::Unknown);
            }
        }
    }
}
