//! The response to a list: what several servers have answered, as one page.

use super::directory::Source;
use super::discovery::{error_code, error_text};
use super::fan_out::{PartAnswer, is_result};
use super::listing::{ListMerge, ListPage};
use super::{List, ListCursor, Union, UnionOutput};
use crate::error::code;
use crate::frame::Permit;
use crate::session::link_phase::LinkId;

/// Whether the client is given the first page of a list: it forgets what it had of the list then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PageOrder {
    First,
    Later,
}

impl Union {
    /// Responds with one page of what the servers have answered; `rest` are the cursors of those that are late.
    pub(super) fn merge_pages(
        &mut self,
        request: u64,
        list: List,
        order: PageOrder,
        answers: Vec<(LinkId, PartAnswer)>,
        mut rest: Vec<(LinkId, String)>,
    ) {
        // With something still to come there is no need of an error: the client is to come back.
        if rest.is_empty() && !answers.iter().any(|(_, answer)| is_result(answer)) {
            self.relay_worst(request, answers);
            return;
        }
        let (mut pages, left_out) = read_pages(list, &answers);
        if order == PageOrder::First {
            for (link, page) in &pages {
                self.client_lists_anew(*link, list, page.next.is_none());
            }
        }
        let mut merge = ListMerge::new(list);
        let mut clash = None;
        for (link, page) in &mut pages {
            self.learn_page(list, *link, page, Source::Listed);
            let hidden = self.merge_page(&mut merge, list, *link, page);
            clash = clash.or(hidden.map(|name| (*link, name)));
            rest.extend(page.next.take().map(|next| (*link, next)));
        }
        rest.sort_by_key(|(link, _)| *link);
        let next = (!rest.is_empty()).then_some(ListCursor { list, rest });
        let result = merge.finish(next.as_ref());
        drop(pages);
        // The permits of the answers cover the merged list, so they live as long as it does.
        let frames = answers.into_iter().filter_map(|(_, answer)| answer.ok());
        let permit = frames.filter_map(|mut frame| frame.take_permit()).reduce(Permit::and);
        for (link, why) in left_out {
            self.warn(link, format!("it is left out of {}: {why}", list.method()));
        }
        if let Some((link, name)) = clash.filter(|_| !std::mem::replace(&mut self.clash_reported, true)) {
            let noun = list.noun();
            self.warn(
                link,
                format!("another server has a {noun} {name} too: it is shown once, and to use it is an error"),
            );
        }
        self.output(UnionOutput::Respond { number: request, result, permit });
    }

    /// Adds the entries of a server's page that its filter lets through. Of two entries with one name the first is
    /// shown, because clients and models take each name for one thing. Returns the first name that is not shown for
    /// that.
    fn merge_page(&self, merge: &mut ListMerge, list: List, link: LinkId, page: &ListPage<'_>) -> Option<String> {
        let (servers, directory) = (&self.servers, &self.directory);
        merge.add(page, |entry| {
            let full = servers.full_name(list, link, &entry.own_name);
            let shown = servers.allows(link, list, &entry.own_name) && directory.is_first(list, &full, link);
            shown.then(|| full.into_owned())
        });
        let mut hidden = page.entries.iter().filter(|entry| servers.allows(link, list, &entry.own_name));
        hidden.find_map(|entry| {
            let full = servers.full_name(list, link, &entry.own_name);
            (!directory.is_first(list, &full, link)).then(|| full.into_owned())
        })
    }

    /// Enters a server's page into the directory: a filtered entry leads nowhere.
    pub(super) fn learn_page(&mut self, list: List, link: LinkId, page: &ListPage<'_>, source: Source) {
        for entry in &page.entries {
            let allowed = self.servers.allows(link, list, &entry.own_name);
            if list == List::Templates {
                self.directory.add_template(link, &entry.own_name, !allowed);
            } else if allowed {
                let full = self.servers.full_name(list, link, &entry.own_name);
                self.directory.add(list, &full, link, source);
            }
        }
    }
}

/// The pages among these answers, and why the others are left out.
#[expect(clippy::type_complexity, reason = "two lists by link, used once")]
fn read_pages(list: List, answers: &[(LinkId, PartAnswer)]) -> (Vec<(LinkId, ListPage<'_>)>, Vec<(LinkId, String)>) {
    let (mut pages, mut left_out) = (Vec::new(), Vec::new());
    for (link, answer) in answers {
        match answer {
            Ok(frame) if !frame.is_error() => match ListPage::read(list, frame) {
                Some(page) => pages.push((*link, page)),
                None => left_out.push((*link, "its answer has no such list".to_owned())),
            },
            // Templates have no capability of their own: a server without templates says so with this error.
            Ok(frame) if error_code(frame) == Some(i64::from(code::METHOD_NOT_FOUND)) => {}
            Ok(frame) => left_out.push((*link, format!("it gives an error: {}", error_text(frame)))),
            Err(error) => left_out.push((*link, error.to_string())),
        }
    }
    (pages, left_out)
}
