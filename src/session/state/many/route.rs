//! Requests of the client: which server gets them, and what to do where that is not known yet.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::super::client::LINK;
use super::super::{Effect, State, Verdict};
use super::handshake::fan;
use super::{Many, Member, Standing, Survey};
use crate::error::Fault;
use crate::frame::{Frame, Id, Permit, Wire, quoted};
use crate::link::Purpose;
use crate::session::union::{LinkId, LinkIds, List, Mode, Request, Route, Shape, read};

/// A call that waits until it can be routed.
#[derive(Debug)]
pub(super) struct Held {
    frame: Frame,
    /// The lists that are being asked for; none where it waits for the handshake.
    lists: &'static [List],
    links: LinkIds,
    /// What it is about, as its client calls it.
    subject: Option<(List, Arc<str>)>,
}

impl Held {
    fn new(frame: Frame, lists: &'static [List], links: LinkIds) -> Self {
        let subject = match read(&frame) {
            Ok(Request::Named { list, name, .. }) => Some((list, name.into())),
            Ok(Request::Uri { uri, .. }) => Some((List::Resources, uri.into())),
            Ok(Request::Task { id }) => Some((List::Tasks, id.into())),
            _ => None,
        };
        Self { frame, lists, links, subject }
    }
}

/// What becomes of a request.
enum Way {
    /// It goes to that server; what stands there is replaced on the way.
    Pass(LinkId, Option<(Range<usize>, Vec<u8>)>),
    /// It waits until the handshake is over.
    Wait,
    /// It waits for these lists.
    Ask(LinkIds, &'static [List]),
    Open,
    Pong,
    List(List, Option<String>),
    Level,
    Fail(Fault),
}

impl State {
    /// Routes the call of that number. `asked` is whether what there was to be asked for it was asked.
    pub(in crate::session::state) fn direct(&mut self, number: u64, frame: Frame, asked: bool, now: Instant) {
        let way = match read(&frame) {
            Err(fault) => Way::Fail(fault),
            Ok(request) if self.many.mode() == Mode::Filtered => self.way_of_filtered(&request, asked),
            Ok(request) => self.way(&request, frame.method().unwrap_or_default(), asked),
        };
        match way {
            Way::Pass(link, edit) => {
                if let Some(call) = self.pending.call_mut(number) {
                    call.shape = Shape::of(frame.method().unwrap_or_default());
                }
                self.pass(number, link, frame, edit);
            }
            Way::Wait => {
                self.many.held.insert(number, Held::new(frame, &[], LinkIds::new()));
            }
            Way::Ask(links, lists) => {
                self.survey(&links, lists, &frame, now);
                if self.is_surveying(&links, lists) {
                    self.many.held.insert(number, Held::new(frame, lists, links));
                } else {
                    self.direct(number, frame, true, now);
                }
            }
            Way::Open => self.open_all(number, frame, now),
            Way::Pong => self.answer_with(number, "{}", None, now),
            Way::List(list, cursor) => self.gather_list(number, list, cursor.as_deref(), frame, now),
            Way::Level => self.gather_level(number, frame, now),
            Way::Fail(fault) => self.fail_call(number, &fault, now),
        }
    }

    pub(super) fn fail_call(&mut self, number: u64, fault: &Fault, now: Instant) {
        if let Some(call) = self.pending.take_call(number) {
            self.answer_fault(call, fault, now);
        }
    }

    /// Answers a call with a result that sessile itself has made.
    pub(super) fn answer_with(&mut self, number: u64, result: &str, permit: Option<Permit>, now: Instant) {
        let Some(call) = self.pending.take_call(number) else { return };
        let Some(id) = &call.client_id else { return };
        let wire = crate::frame::response(id, result).with_permit(permit);
        let limit = self.limits.message_size;
        if wire.len() > limit {
            let fault = Fault::MessageTooLarge { limit, size: wire.len() };
            self.answer_fault(call, &fault, now);
        } else {
            self.answer(call, wire, Verdict::Result, now);
        }
    }

    fn way_of_filtered(&self, request: &Request, asked: bool) -> Way {
        let allowed = match request {
            Request::Named { list, name, .. } if !self.many.servers.allows(LINK, *list, name) => {
                Err(Way::Fail(unknown(*list, name, None)))
            }
            Request::Uri { uri, template, .. } => self.allowed(LINK, uri, uri, *template, asked),
            _ => Ok(()),
        };
        allowed.err().unwrap_or(Way::Pass(LINK, None))
    }

    fn way(&self, request: &Request, method: &str, asked: bool) -> Way {
        if !self.many.opened {
            return match request {
                Request::Initialize => Way::Open,
                Request::Ping => Way::Pong,
                _ if self.many.opening.is_some() => Way::Wait,
                _ => Way::Fail(Fault::InvalidRequest("the session is not open yet: send `initialize` first".into())),
            };
        }
        match request {
            Request::Initialize => Way::Fail(Fault::AlreadyInitialized),
            Request::Ping => Way::Pong,
            Request::List(list, cursor) => Way::List(*list, cursor.clone()),
            Request::Level => Way::Level,
            Request::Named { list, name, at } => {
                let route = self.many.servers.route_name(&self.many.table, *list, name, asked);
                self.follow(route, *list, name, |link, own| {
                    if !self.many.servers.allows(link, *list, own) {
                        return Err(Way::Fail(unknown(*list, name, None)));
                    }
                    Ok((own != name).then(|| (at.clone(), quoted(own))))
                })
            }
            Request::Uri { uri, at, template } => {
                let able = self.may_have(List::Resources);
                let Many { servers, table, .. } = &*self.many;
                let known = self.many.are_known(&able, &[List::Resources, List::Templates]);
                let route = servers.route_uri(table, uri, *template, &able, known, asked);
                self.follow(route, List::Resources, uri, |link, own| {
                    self.allowed(link, own, uri, *template, asked)?;
                    Ok((own != uri).then(|| (at.clone(), quoted(own))))
                })
            }
            Request::Task { id } => {
                let able = self.may_have(List::Tasks);
                let route = Route::of_task(&self.many.table, id, &able, asked);
                self.follow(route, List::Tasks, id, |_, _| Ok(None))
            }
            Request::Other => {
                let why =
                    format!("{method}: with several servers in one session it cannot be told which of them is meant");
                Way::Fail(Fault::MethodNotFound(why))
            }
        }
    }

    /// The way that a route stands for. `edit` says what changes in the request for that server, or that it may not be.
    fn follow(
        &self,
        route: Route,
        list: List,
        name: &str,
        edit: impl FnOnce(LinkId, &str) -> Result<Option<(Range<usize>, Vec<u8>)>, Way>,
    ) -> Way {
        match route {
            Route::To(link, own) => match edit(link, &own) {
                // What is filtered is not there, whether or not its server is.
                Err(way @ Way::Fail(_)) => way,
                other => match (self.absence(link), other) {
                    (Some(fault), _) => Way::Fail(fault),
                    (None, Ok(edit)) => Way::Pass(link, edit),
                    (None, Err(way)) => way,
                },
            },
            Route::Ask(links, lists) => Way::Ask(links, lists),
            Route::Clash(links) => Way::Fail(self.clash(list, name, &links)),
            Route::Unknown => Way::Fail(unknown(list, name, self.hint(list, name))),
        }
    }

    /// Whether the filter of that server lets its resource or template `own` through, which the client calls `uri`.
    fn allowed(&self, link: LinkId, own: &str, uri: &str, template: bool, asked: bool) -> Result<(), Way> {
        let Many { servers, table, .. } = &*self.many;
        let refuse = || Err(Way::Fail(unknown(List::Resources, uri, None)));
        if template && own.contains('{') {
            return if servers.allows(link, List::Templates, own) { Ok(()) } else { refuse() };
        }
        // What cannot be checked is not let through.
        match servers.allows_uri(table, link, own, asked, self.many.is_blind(link)) {
            Ok(true) => Ok(()),
            Err(Route::Ask(links, lists)) => Err(Way::Ask(links, lists)),
            Ok(false) | Err(_) => refuse(),
        }
    }

    /// The servers that have such a list, or had it, or may turn out to have it.
    fn may_have(&self, list: List) -> LinkIds {
        let may = |member: &Member| match member.standing {
            Standing::New | Standing::Asked => true,
            Standing::Ready | Standing::Gone { .. } => member.abilities.lists(list),
            Standing::Refused(_) => false,
        };
        self.many.each().filter(|(_, member)| may(member)).map(|(link, _)| link).collect()
    }

    fn clash(&self, list: List, name: &str, links: &LinkIds) -> Fault {
        // In the order of the configuration, not in that of their answers.
        let mut links = links.clone();
        links.sort_unstable();
        let remedy = match list {
            List::Tools | List::Prompts if self.many.servers.has_prefixed_names() => {
                "rename one of the servers, or filter one of the two"
            }
            List::Tools | List::Prompts => {
                "let names have their server's name in front (without --no-prefix), or filter one"
            }
            List::Resources | List::Templates if self.many.servers.has_prefixed_uris() => {
                "URIs of this kind have no place for their server's name: filter one of the two"
            }
            List::Resources | List::Templates => {
                "let URIs have their server's name in them (--prefix-uris), or filter one"
            }
            List::Tasks => "it cannot be told which of them is meant",
        };
        Fault::Clash { noun: list.noun(), name: name.to_owned(), servers: self.many.servers.names(&links), remedy }
    }

    /// What to do about a name that nobody has.
    fn hint(&self, list: List, name: &str) -> Option<String> {
        let unasked = |(link, member): (LinkId, &Member)| {
            let failed = member.surveys[list as usize] == Survey::Failed;
            (failed || !member.is_ready()).then(|| format!("`{}`", self.many.servers.name(link)))
        };
        let unasked: Vec<_> = self.many.each().filter_map(unasked).collect();
        let names_its_server = self.many.servers.has_prefixed_names() && matches!(list, List::Tools | List::Prompts);
        if !unasked.is_empty() && !names_its_server {
            return Some(format!("{} could not be asked for it", unasked.join(" and ")));
        }
        let cut = |(link, _): (LinkId, &Member)| {
            let names = self.many.table.is_cut(list, link);
            let templates = list == List::Resources && self.many.table.is_cut(List::Templates, link);
            (names || templates).then(|| format!("`{}`", self.many.servers.name(link)))
        };
        let cut: Vec<_> = self.many.each().filter_map(cut).collect();
        match list {
            List::Resources if self.many.servers.can_name(name) => {
                Some("name its server in it, as resources/list does: scheme://server/rest".into())
            }
            _ if !cut.is_empty() && !names_its_server => {
                Some(format!("{} have more than can be known here: filter what is not needed", cut.join(" and ")))
            }
            List::Resources if self.many.servers.has_prefixed_uris() => Some("no server of this session lists it".into()),
            List::Resources => {
                Some("no server of this session lists it, or has a template for it; with --prefix-uris a URI names its server".into())
            }
            List::Tools | List::Prompts if names_its_server => {
                Some("names begin with their server's name, as in server_name".into())
            }
            List::Tools | List::Prompts | List::Templates | List::Tasks => None,
        }
    }

    /// Calls that wait for nothing any more are routed.
    pub(super) fn release(&mut self, now: Instant) {
        let ready: Vec<u64> = (self.many.held.iter())
            .filter(|(_, held)| !held.lists.is_empty() && !self.is_surveying(&held.links, held.lists))
            .map(|(number, _)| *number)
            .collect();
        for number in ready {
            if let Some(held) = self.many.held.remove(&number) {
                self.direct(number, held.frame, true, now);
            }
        }
        self.many.want_held();
    }

    /// The handshake is over: calls that waited for it are routed, in order.
    pub(super) fn release_all(&mut self, now: Instant) {
        for (number, held) in std::mem::take(&mut self.many.held) {
            self.direct(number, held.frame, false, now);
        }
    }

    /// The parts of a call that will have no answer are withdrawn, each with what `cancel` makes of its number.
    pub(in crate::session::state) fn cancel_parts(&mut self, number: u64, cancel: impl Fn(u64) -> Wire) {
        self.many.held.remove(&number);
        let Some(gather) = self.many.gathers.remove(&number) else { return };
        self.many.dues.remove(&(gather.until, number));
        for (link, part) in gather.open {
            self.many.parts.remove(&part);
            self.effects.push(Effect::ToServer { link, wire: cancel(part), purpose: Purpose::Cancel(part) });
        }
    }

    /// A notification of the client, other than a cancellation, with several servers.
    pub(in crate::session::state) fn tell_servers(&mut self, mut frame: Frame) {
        match frame.method() {
            Some("notifications/initialized") => self.initialized(frame),
            Some("notifications/progress") => {
                // The token is the question's number: whoever asked it gets its own token back.
                let number = frame.progress_token().and_then(|token| token.as_u64());
                let Some(question) = number.and_then(|number| self.pending.question_mut(number)) else { return };
                let (link, Some(token)) = (question.link, question.token.clone()) else { return };
                let wire = frame.splice().progress_token(&token).finish();
                let wire = frame.hand_over(wire);
                self.effects.push(Effect::ToServer { link, wire, purpose: Purpose::Notice });
            }
            _ => {
                let permit = frame.take_permit().map(Permit::shared);
                for link in self.many.ready() {
                    let permit = permit.as_ref().map(|permit| permit());
                    let wire = fan(&frame, frame.share().into_wire()).with_permit(permit);
                    self.effects.push(Effect::ToServer { link, wire, purpose: Purpose::Notice });
                }
            }
        }
    }

    /// Makes a part of a request out of the client's: with an id of its own, its own cursor, and without a token, since
    /// the progress of several is none.
    pub(super) fn part_of(frame: &Frame, part: u64, cursor: Option<&str>) -> Wire {
        let id = Id::number(part);
        let plain = || frame.splice().id(&id);
        let without_token = || match frame.progress_token() {
            Some(_) => plain().remove(&["params", "_meta", "progressToken"]).unwrap_or_else(|_| plain()),
            None => plain(),
        };
        let wire = match cursor {
            Some(cursor) => {
                without_token().set(&["params", "cursor"], quoted(cursor)).unwrap_or_else(|_| without_token())
            }
            None => without_token(),
        };
        fan(frame, wire.finish())
    }
}

fn unknown(list: List, name: &str, hint: Option<String>) -> Fault {
    Fault::Unknown { noun: list.noun(), name: name.to_owned(), hint }
}

impl Many {
    /// What calls wait for stays in the table.
    pub(super) fn want_held(&mut self) {
        let subjects = self.held.values().filter(|held| !held.lists.is_empty());
        self.table.want(subjects.filter_map(|held| held.subject.clone()));
    }
}
