//! Lists that the union itself asks for, to find out which server has what a client names.

use std::time::Instant;

use super::directory::{DeniedTemplates, Source};
use super::listing::ListPage;
use super::{
    Cancellation, List, ListKnowledge, ServerLists, SubRequest, SubRequestKind, TemplateKnowledge, Union, UnionContext,
};
use crate::error::{ProxyError, code};
use crate::frame::{Frame, Id, MessageHeaders, quoted, request};
use crate::session::link_phase::{LinkId, LinkIds};

/// Most pages of one list that are asked for.
const MOST_PAGES: usize = 1000;

/// A page of a list that is to be asked for.
struct WantedPage {
    link: LinkId,
    list: List,
    /// How many pages were asked for before.
    page: usize,
    cursor: Option<String>,
    /// The headers of the client request that the page is asked for.
    forwarded: Option<MessageHeaders>,
    /// Until when the whole list is waited for.
    due: Option<Instant>,
}

impl Union {
    /// Asks these servers for these lists, so far as they are not known. `frame` is the client request that needs them.
    pub(super) fn discover(&mut self, links: &LinkIds, lists: &[List], frame: &Frame, context: &mut UnionContext<'_>) {
        let due = Some(context.now + context.server_wait);
        for link in links.iter().copied() {
            for list in lists.iter().copied() {
                if self.has_to_be_asked(link, list, context) {
                    let forwarded = frame.headers().cloned();
                    self.ask_for_page(WantedPage { link, list, page: 0, cursor: None, forwarded, due }, context);
                }
            }
        }
    }

    fn ask_for_page(&mut self, wanted: WantedPage, context: &mut UnionContext<'_>) {
        let WantedPage { link, list, page, cursor, forwarded, due } = wanted;
        let cursor = cursor.and_then(|cursor| String::from_utf8(quoted(&cursor)).ok());
        let params = cursor.map(|cursor| format!(r#"{{"cursor":{cursor}}}"#));
        let kind = SubRequestKind::Discovery { list, page, forwarded: forwarded.clone() };
        self.send_sub_request(link, SubRequest { link, kind, due }, context, |number| {
            request(&Id::number(number), list.method(), params.as_deref()).with_headers(forwarded)
        });
        self.set_knowledge(link, list, ListKnowledge::Unknown);
    }

    /// Whether one of these lists is being asked for.
    pub(super) fn is_asking(&self, links: &LinkIds, lists: &[List]) -> bool {
        let asking = |link: LinkId| lists.iter().any(|list| self.sub_requests.is_discovering(link, *list));
        links.iter().copied().any(asking)
    }

    /// A page has come.
    pub(super) fn discovered(
        &mut self,
        link: LinkId,
        (list, page): (List, usize),
        forwarded: Option<MessageHeaders>,
        due: Option<Instant>,
        frame: &Frame,
        context: &mut UnionContext<'_>,
    ) {
        let known = if frame.is_error() {
            // A server without such a list says so with this error.
            let none = error_code(frame) == Some(i64::from(code::METHOD_NOT_FOUND));
            if !none {
                self.warn(link, format!("{} gives an error: {}", list.method(), error_text(frame)));
            }
            if none { ListKnowledge::Complete } else { ListKnowledge::Failed }
        } else if let Some(found) = ListPage::read(list, frame) {
            if page == 0 {
                self.directory.forget_list(list, link);
            }
            // There may be more in the list than the directory keeps: what a request waits for is kept.
            self.keep_what_is_waited_for();
            self.learn_page(list, link, &found, Source::Listed);
            match found.next {
                Some(next) if page + 1 < MOST_PAGES => {
                    let wanted = WantedPage { link, list, page: page + 1, cursor: Some(next), forwarded, due };
                    self.ask_for_page(wanted, context);
                    return;
                }
                Some(_) => {
                    self.warn(link, format!("{} has more than {MOST_PAGES} pages", list.method()));
                    ListKnowledge::Failed
                }
                None => ListKnowledge::Complete,
            }
        } else {
            self.warn(link, format!("the answer to {} has no such list", list.method()));
            ListKnowledge::Failed
        };
        self.end_discovery(link, list, known);
    }

    pub(super) fn discovery_failed(&mut self, link: LinkId, list: List, error: &ProxyError) {
        self.warn(link, format!("{} has no answer: {error}", list.method()));
        self.end_discovery(link, list, ListKnowledge::Failed);
    }

    /// The server was waited for long enough. Its response would be of no use to the request that needed it.
    pub(super) fn discovery_is_late(&mut self, number: u64, link: LinkId, list: List, context: &UnionContext<'_>) {
        self.cancel_sub_request(number, &Cancellation::Because("it takes too long"));
        self.discovery_failed(link, list, &ProxyError::RequestTimeout { after: context.server_wait });
    }

    /// Requests that waited for nothing but this list can be routed.
    fn end_discovery(&mut self, link: LinkId, list: List, known: ListKnowledge) {
        self.set_knowledge(link, list, known);
        let mut queue = std::mem::take(&mut self.queue);
        queue.release(|links, lists| self.is_asking(links, lists));
        self.queue = queue;
        self.keep_what_is_waited_for();
    }

    /// The names that queued requests are about stay in the directory.
    pub(super) fn keep_what_is_waited_for(&mut self) {
        self.directory.set_awaited(self.queue.subjects());
    }

    fn has_to_be_asked(&mut self, link: LinkId, list: List, context: &UnionContext<'_>) -> bool {
        if self.sub_requests.is_discovering(link, list) {
            return false;
        }
        let phase = context.links.get(link);
        let known = match self.knowledge(link, list) {
            // Of a server that does not announce changes of its list it can be known only by asking again.
            ListKnowledge::Complete
                if list.changes_are_announced(phase.capabilities()) && !self.is_truncated(link, list) =>
            {
                return false;
            }
            // A single server may be asked for anything before its handshake.
            _ if self.is_several() && !phase.is_ready() => ListKnowledge::Failed,
            _ if phase.known_capabilities().is_some_and(|capabilities| !list.is_offered(capabilities)) => {
                ListKnowledge::Complete
            }
            ListKnowledge::Unknown | ListKnowledge::Complete | ListKnowledge::Failed => return true,
        };
        self.set_knowledge(link, list, known);
        false
    }

    pub(super) fn knowledge(&self, link: LinkId, list: List) -> ListKnowledge {
        self.lists_of(link).map(|slot| slot.lists[list as usize]).unwrap_or_default()
    }

    fn set_knowledge(&mut self, link: LinkId, list: List, known: ListKnowledge) {
        if let Some(slot) = self.lists_of_mut(link) {
            slot.lists[list as usize] = known;
            if list == List::Templates && known == ListKnowledge::Complete {
                slot.templates = TemplateKnowledge::OnceComplete;
            }
        }
    }

    /// Whether a list was known, but for names that the directory had to drop. With templates, the same would be
    /// dropped again.
    fn is_truncated(&self, link: LinkId, list: List) -> bool {
        list != List::Templates && self.directory.is_truncated(list, link)
    }

    /// Whether these lists of these servers were asked for at some time, as far as they can be.
    pub(super) fn were_asked_once(&self, links: &LinkIds, lists: &[List], context: &UnionContext<'_>) -> bool {
        let asked = |link: LinkId, list: List| {
            let phase = context.links.get(link);
            !self.sub_requests.is_discovering(link, list)
                && matches!(self.knowledge(link, list), ListKnowledge::Complete | ListKnowledge::Failed)
                || phase.known_capabilities().is_some_and(|capabilities| !list.is_offered(capabilities))
        };
        links.iter().all(|link| lists.iter().all(|list| asked(*link, *list)))
    }

    /// Whether all templates of that server are known that its filter denies.
    pub(super) fn denied_templates(&self, link: LinkId) -> DeniedTemplates {
        match self.lists_of(link) {
            Some(ServerLists { lists, templates: TemplateKnowledge::OnceComplete })
                if lists[List::Templates as usize] != ListKnowledge::Failed =>
            {
                DeniedTemplates::Known
            }
            _ => DeniedTemplates::Uncertain,
        }
    }

    /// The client is given the first page of that list of a server; `is_whole` if there is no other.
    pub(super) fn client_lists_anew(&mut self, link: LinkId, list: List, is_whole: bool) {
        // A list that is being asked for is in the directory in part: it was forgotten when that began.
        if is_whole || !self.sub_requests.is_discovering(link, list) {
            self.directory.forget_list(list, link);
        }
        if !is_whole {
            // The client may never ask for the other pages.
            self.forget_lists(link, &[list]);
        }
    }

    /// The lists of that server have to be asked for anew.
    pub(super) fn forget_lists(&mut self, link: LinkId, lists: &[List]) {
        for list in lists {
            // A discovery under way may have begun before the change: its result is believed, since there is nothing
            // better.
            if self.knowledge(link, *list) == ListKnowledge::Complete {
                self.set_knowledge(link, *list, ListKnowledge::Unknown);
            }
        }
    }
}

pub(super) fn error_code(frame: &Frame) -> Option<i64> {
    serde_json::from_slice(frame.lookup(&["error", "code"]).ok().flatten()?).ok()
}

/// The message of an error, for logs.
pub(crate) fn error_text(frame: &Frame) -> String {
    let raw = frame.lookup(&["error", "message"]).ok().flatten();
    let text: String = raw.and_then(|raw| serde_json::from_slice(raw).ok()).unwrap_or_default();
    text.chars().filter(|character| !character.is_control()).take(200).collect()
}
