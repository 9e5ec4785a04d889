//! Client requests that several servers answer together: lists, and the logging level.
//!
//! A fan-out ends when all servers have answered, or when it was waited long enough. A server that is late then is left
//! out, and where no server has answered the client is told which were asked.

use std::ops::Range;

use super::listing::ListMerge;
use super::merge_pages::PageOrder;
use super::{
    Cancellation, List, ListCursor, SubRequest, SubRequestKind, Union, UnionContext, UnionOutput, for_one_server,
};
use crate::error::ProxyError;
use crate::frame::{Frame, Id, Permit, Wire, quoted, request};
use crate::mcp;
use crate::session::link_phase::{LinkId, LinkIds};

/// How many times as long as a list waits for a server, a server that was late is not asked for the list again.
const REST_AFTER_LATE: u32 = 6;

/// The largest frame of a client that a session keeps, in bytes. Of a larger one only the parts that matter are kept.
pub(super) const LARGEST_KEPT_FRAME: usize = 64 * 1024;
/// The longest logging level, as JSON. Those that there are have eleven bytes.
const LONGEST_LEVEL: usize = 64;

/// What the parts make together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FanOutKind {
    FirstPage(List),
    /// A page that a cursor names.
    NextPage(List),
    LoggingLevel,
}

impl FanOutKind {
    fn method(self) -> &'static str {
        match self {
            Self::FirstPage(list) | Self::NextPage(list) => list.method(),
            Self::LoggingLevel => mcp::LOGGING_SET_LEVEL,
        }
    }
}

/// What a server has answered to its part.
pub(super) type PartAnswer = Result<Frame, ProxyError>;

/// A client request whose response is made of those of several servers. The parts without a response are in the table
/// of sub-requests.
#[derive(Debug)]
pub(super) struct FanOut {
    kind: FanOutKind,
    /// The numbers of all parts.
    pub numbers: Range<u64>,
    answers: Vec<(LinkId, PartAnswer)>,
    /// The servers that have not answered in time.
    late: LinkIds,
    /// Cursors of servers that may be late this once: the client comes back for their pages.
    resume_at: Vec<(LinkId, String)>,
    /// The size of all answers, in bytes.
    bytes: usize,
}

pub(super) fn is_result(answer: &PartAnswer) -> bool {
    answer.as_ref().is_ok_and(|frame| !frame.is_error())
}

impl Union {
    /// Asks all servers that have this list for a page of it.
    pub(super) fn fan_out_list(
        &mut self,
        request: u64,
        list: List,
        cursor: Option<&str>,
        frame: Frame,
        context: &mut UnionContext<'_>,
    ) {
        match cursor {
            None => self.fan_out_first_page(request, list, frame, context),
            Some(cursor) => self.fan_out_next_page(request, list, cursor, frame, context),
        }
    }

    fn fan_out_first_page(&mut self, request: u64, list: List, frame: Frame, context: &mut UnionContext<'_>) {
        let has_list =
            context.links.iter().filter(|(_, phase)| phase.is_ready() && list.is_offered(phase.capabilities()));
        let asked: LinkIds = has_list.map(|(link, _)| link).collect();
        if asked.is_empty() && context.links.iter().all(|(_, phase)| phase.is_ready()) {
            let error = ProxyError::MethodNotFound(format!("{}: no server of this session has any", list.method()));
            self.fail(request, error);
            return;
        }
        // A server that has not answered the last time will not do so faster now; when it does, the client is told.
        let in_time: Vec<_> = asked.iter().copied().filter(|link| !self.is_still_late(*link, list, context)).collect();
        if in_time.is_empty() && !asked.is_empty() {
            self.fail(request, self.no_answer(list.method(), &asked));
            return;
        }
        let pages = in_time.into_iter().map(|link| (link, None)).collect();
        self.fan_out_pages(request, FanOutKind::FirstPage(list), pages, Vec::new(), frame, context);
    }

    fn fan_out_next_page(
        &mut self,
        request: u64,
        list: List,
        cursor: &str,
        frame: Frame,
        context: &mut UnionContext<'_>,
    ) {
        let Some(cursor) = ListCursor::decode(list, self.servers.len(), cursor) else {
            let why = "`params.cursor` is not one that was given for this list: begin without it";
            self.fail(request, ProxyError::InvalidParams(why.into()));
            return;
        };
        let ready = context.links.ready();
        let (mut pages, mut resume_at) = (Vec::new(), Vec::new());
        for (link, cursor) in cursor.rest.into_iter().filter(|(link, _)| ready.contains(link)) {
            // The pages of a server are not given up because it is late once, but clients are not to go in circles
            // either.
            if !self.is_still_late(link, list, context) {
                resume_at.push((link, cursor.clone()));
            }
            pages.push((link, Some(cursor)));
        }
        self.fan_out_pages(request, FanOutKind::NextPage(list), pages, resume_at, frame, context);
    }

    fn fan_out_pages(
        &mut self,
        request: u64,
        kind: FanOutKind,
        pages: Vec<(LinkId, Option<String>)>,
        resume_at: Vec<(LinkId, String)>,
        frame: Frame,
        context: &mut UnionContext<'_>,
    ) {
        match kind {
            FanOutKind::FirstPage(list) | FanOutKind::NextPage(list) if pages.is_empty() => {
                let result = ListMerge::new(list).finish(None);
                self.output(UnionOutput::Respond { number: request, result, permit: None });
            }
            kind => self.fan_out(request, kind, pages, resume_at, frame, context),
        }
    }

    /// Sets the logging level of all servers that have one.
    pub(super) fn fan_out_level(&mut self, request: u64, frame: Frame, context: &mut UnionContext<'_>) {
        let has_logging = context.links.iter().filter(|(_, phase)| phase.is_ready() && phase.capabilities().logging);
        let pages: Vec<_> = has_logging.map(|(link, _)| (link, None)).collect();
        if pages.is_empty() {
            let error = ProxyError::MethodNotFound("logging/setLevel: no server of this session has logging".into());
            self.fail(request, error);
            return;
        }
        self.logging_level = level_to_keep(&frame);
        self.fan_out(request, FanOutKind::LoggingLevel, pages, Vec::new(), frame, context);
    }

    fn fan_out(
        &mut self,
        request: u64,
        kind: FanOutKind,
        pages: Vec<(LinkId, Option<String>)>,
        resume_at: Vec<(LinkId, String)>,
        mut frame: Frame,
        context: &mut UnionContext<'_>,
    ) {
        let permit = frame.take_permit().map(Permit::shared);
        let due = Some(context.now + context.server_wait);
        let mut numbers: Option<Range<u64>> = None;
        for (link, cursor) in pages {
            let permit = permit.as_ref().map(|permit| permit());
            let part = SubRequest { link, kind: SubRequestKind::Part { request }, due };
            let number = self.send_sub_request(link, part, context, |number| {
                part_of(&frame, number, cursor.as_deref()).with_permit(permit)
            });
            numbers = Some(numbers.map_or(number, |known| known.start)..number + 1);
        }
        let numbers = numbers.unwrap_or_default();
        let fan_out = FanOut { kind, numbers, answers: Vec::new(), late: LinkIds::new(), resume_at, bytes: 0 };
        self.fan_outs.insert(request, fan_out);
    }

    /// A part has its answer, or will have none.
    pub(super) fn part_came(&mut self, request: u64, link: LinkId, mut answer: PartAnswer, context: &UnionContext<'_>) {
        let limit = context.message_size;
        let Some(fan_out) = self.fan_outs.get_mut(&request) else { return };
        if let Ok(frame) = &answer {
            fan_out.bytes += frame.len();
            if fan_out.bytes > limit {
                answer = Err(ProxyError::MessageTooLarge { limit, size: fan_out.bytes });
            }
        }
        fan_out.answers.push((link, answer));
        self.note_if_complete(request);
    }

    /// The response goes out without this part.
    pub(super) fn part_is_late(&mut self, number: u64, link: LinkId, request: u64, context: &UnionContext<'_>) {
        let Some(fan_out) = self.fan_outs.get_mut(&request) else { return };
        fan_out.late.push(link);
        let kind = match fan_out.kind {
            FanOutKind::FirstPage(list) | FanOutKind::NextPage(list) => {
                let method = list.method();
                self.warn(link, format!("it is late with {method}, and left out: the client is told when it is there"));
                SubRequestKind::Late { list, until: context.now + context.server_wait * REST_AFTER_LATE }
            }
            FanOutKind::LoggingLevel => {
                self.cancel_unheeded(link);
                SubRequestKind::Unheeded
            }
        };
        self.sub_requests.wait_no_longer(number, kind);
        self.note_if_complete(request);
    }

    /// Withdraws the requests to that server whose responses nobody waits for, when there will be another one: a server
    /// that never answers must not fill the table.
    pub(super) fn cancel_unheeded(&mut self, link: LinkId) {
        for number in self.sub_requests.unheeded(link) {
            self.cancel_sub_request(number, &Cancellation::Because("it took too long"));
        }
    }

    /// Whether that server has still not answered a part that a list went out without. After a while the part is given
    /// up.
    fn is_still_late(&mut self, link: LinkId, list: List, context: &UnionContext<'_>) -> bool {
        let Some((number, until)) = self.sub_requests.late(link, list) else { return false };
        if context.now < until {
            return true;
        }
        self.cancel_sub_request(number, &Cancellation::Because("it took too long"));
        false
    }

    /// The part of a list that came too late for its response is here.
    pub(super) fn late_part_came(&mut self, link: LinkId, list: List) {
        if let Some(method) = list.changed_method() {
            self.notify_change(link, method);
        }
    }

    /// Notes a fan-out none of whose parts is waited for any more, for [`finish_fan_outs`](Self::finish_fan_outs).
    fn note_if_complete(&mut self, request: u64) {
        let open = self.fan_outs.get(&request).map(|fan_out| fan_out.numbers.clone());
        if open.is_some_and(|numbers| self.sub_requests.parts(numbers, request).next().is_none()) {
            self.complete_fan_outs.push(request);
        }
    }

    /// Responds to the client requests whose parts are all in, or late.
    pub(super) fn finish_fan_outs(&mut self) {
        for request in std::mem::take(&mut self.complete_fan_outs) {
            if let Some(fan_out) = self.fan_outs.remove(&request) {
                self.finish_fan_out(request, fan_out);
            }
        }
    }

    fn finish_fan_out(&mut self, request: u64, fan_out: FanOut) {
        let FanOut { kind, mut answers, late, mut resume_at, .. } = fan_out;
        answers.sort_by_key(|(link, _)| *link);
        resume_at.retain(|(link, _)| late.contains(link));
        if answers.is_empty() && resume_at.is_empty() {
            self.fail(request, self.no_answer(kind.method(), &late));
            return;
        }
        match kind {
            FanOutKind::LoggingLevel => match answers.iter().position(|(_, answer)| is_result(answer)) {
                Some(result) => self.relay(request, answers.swap_remove(result)),
                None => self.relay_worst(request, answers),
            },
            FanOutKind::FirstPage(list) => self.merge_pages(request, list, PageOrder::First, answers, resume_at),
            FanOutKind::NextPage(list) => self.merge_pages(request, list, PageOrder::Later, answers, resume_at),
        }
    }

    /// None of those that were asked has answered in time.
    fn no_answer(&self, method: &'static str, links: &[LinkId]) -> ProxyError {
        ProxyError::NoAnswer { method, servers: self.servers.names(links) }
    }

    /// One server's answer is the response.
    fn relay(&mut self, number: u64, (link, answer): (LinkId, PartAnswer)) {
        match answer {
            Ok(frame) => self.output(UnionOutput::Relay { number, frame }),
            Err(error) => self.fail(number, self.name_server(link, error)),
        }
    }

    /// None of the answers is a result: the client gets the one that says the most about it.
    pub(super) fn relay_worst(&mut self, request: u64, mut answers: Vec<(LinkId, PartAnswer)>) {
        let challenge = |answer: &PartAnswer| answer.as_ref().is_err_and(ProxyError::is_challenge);
        let worst = (answers.iter().position(|(_, answer)| challenge(answer)))
            .or_else(|| answers.iter().position(|(_, answer)| answer.is_err()))
            .unwrap_or_default();
        if !answers.is_empty() {
            self.relay(request, answers.swap_remove(worst));
        }
    }
}

/// Makes a part of a client request: with an id and a cursor of its own, and without a progress token, because the
/// progress of several servers cannot be one progress.
fn part_of(frame: &Frame, number: u64, cursor: Option<&str>) -> Wire {
    let id = Id::number(number);
    let plain = || frame.splice().id(&id);
    let without_token = || match frame.progress_token() {
        Some(_) => plain().remove(&["params", "_meta", "progressToken"]).unwrap_or_else(|_| plain()),
        None => plain(),
    };
    let wire = match cursor {
        Some(cursor) => without_token().set(&["params", "cursor"], quoted(cursor)).unwrap_or_else(|_| without_token()),
        None => without_token(),
    };
    for_one_server(frame, wire.finish())
}

/// The level as it is told to servers that are ready later: a copy, so that a larger buffer is not kept for it.
fn level_to_keep(frame: &Frame) -> Option<Frame> {
    let kept = if frame.len() < LARGEST_KEPT_FRAME {
        Frame::parse(frame.bytes().to_vec())
    } else {
        let level = frame.lookup(&["params", "level"]).ok().flatten().filter(|level| level.len() < LONGEST_LEVEL)?;
        let params = format!(r#"{{"level":{}}}"#, std::str::from_utf8(level).ok()?);
        Frame::parse(request(&Id::number(0), mcp::LOGGING_SET_LEVEL, Some(&params)).into_bytes())
    };
    Some(kept.ok()?.with_headers(frame.headers().cloned()))
}
