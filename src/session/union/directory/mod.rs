//! Which server offers what, as far as a session has seen.
//!
//! Names of tools and prompts carry their server's name, so they need no directory unless two prefixes fit. Resource
//! URIs keep their spelling by default, because clients and models know them from elsewhere and servers refer to them
//! in their results: so which server has a URI has to be found out from lists, from templates (`templates.rs`,
//! `template.rs`), and from links in results and notifications (`uris.rs` weighs them). Tasks keep their ids, likewise.
//!
//! The directory is bounded, and the oldest entry goes first. What it does not have can be asked for: no client is
//! answered out of it. Only the templates that a filter denies are never forgotten.

mod template;
mod templates;
mod uris;

pub(super) use uris::{DeniedTemplates, ListsKnown, UriForm, UriQuery};

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use smallvec::SmallVec;

use super::List;
use crate::session::link_phase::{LinkId, LinkIds};
use templates::Templates;

/// Most names in it.
const MOST_NAMES: usize = 100_000;
/// Most bytes in it, with what each entry costs besides its name.
const MOST_BYTES: usize = 16 * 1024 * 1024;
const OVERHEAD: usize = 128;

/// Where a name was learnt from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session::union) enum Source {
    /// It stands in a list of that server, until the server is listed anew.
    Listed,
    /// A result or a notification of that server has mentioned it.
    Mentioned,
}

#[derive(Debug, Clone, Copy)]
struct Offer {
    link: LinkId,
    listed: bool,
    mentioned: bool,
}

/// Tools, prompts, resources and tasks under the names by which the client knows them; templates by their server's own.
#[derive(Debug, Default)]
pub(in crate::session::union) struct Directory {
    offers: HashMap<(List, Arc<str>), SmallVec<[Offer; 1]>>,
    /// The same names, oldest first. Some of them may be gone.
    order: VecDeque<(List, Arc<str>)>,
    templates: Templates,
    bytes: usize,
    /// The names that queued requests are about: they stay as long as there is room for anything.
    awaited: HashSet<(List, Arc<str>)>,
    /// The lists of which something had to go.
    truncated: HashSet<(List, LinkId)>,
    /// Servers that are gone. What they had is still known as theirs, unless a living one has it too.
    closed: LinkIds,
}

impl Directory {
    /// Enters that this server has it.
    pub(in crate::session::union) fn add(&mut self, list: List, full: &str, link: LinkId, source: Source) {
        let key = (list, Arc::from(full));
        let offers = self.offers.entry(key.clone()).or_insert_with(|| {
            self.bytes += full.len() + OVERHEAD;
            self.order.push_back(key);
            SmallVec::new()
        });
        let known = offers.iter().position(|offer| offer.link == link);
        let at = known.unwrap_or_else(|| {
            offers.push(Offer { link, listed: false, mentioned: false });
            offers.len() - 1
        });
        match source {
            Source::Listed => offers[at].listed = true,
            Source::Mentioned => offers[at].mentioned = true,
        }
        self.keep_bounds();
    }

    /// Enters a template under its own text. One that is `denied` is no way to anything, but has to be known as such.
    pub(in crate::session::union) fn add_template(&mut self, link: LinkId, text: &str, denied: bool) {
        self.templates.add(link, text, denied);
    }

    /// Sets the names that queued requests are about: they are not dropped for others.
    pub(in crate::session::union) fn set_awaited(&mut self, awaited: impl IntoIterator<Item = (List, Arc<str>)>) {
        self.awaited = awaited.into_iter().collect();
    }

    fn keep_bounds(&mut self) {
        let mut turns = self.order.len();
        while (self.offers.len() > MOST_NAMES || self.bytes > MOST_BYTES)
            && let Some(oldest) = self.order.pop_front()
        {
            if turns > 0 && self.awaited.contains(&oldest) {
                turns -= 1;
                self.order.push_back(oldest);
                continue;
            }
            turns = turns.saturating_sub(1);
            if let Some(offers) = self.offers.remove(&oldest) {
                self.bytes -= oldest.1.len() + OVERHEAD;
                self.truncated.extend(offers.iter().filter(|offer| offer.listed).map(|offer| (oldest.0, offer.link)));
            }
        }
        if self.order.len() > 2 * self.offers.len() + 64 {
            let mut once = HashSet::new();
            let offers = &self.offers;
            self.order.retain(|key| offers.contains_key(key) && once.insert(key.clone()));
        }
    }

    /// The servers that have it.
    pub(in crate::session::union) fn servers_with(&self, list: List, full: &str) -> LinkIds {
        let offers = self.offers.get(&(list, Arc::from(full)));
        self.living(offers.into_iter().flatten().map(|offer| offer.link).collect())
    }

    /// The servers whose lists have it, and those of whom it was only seen.
    pub(in crate::session::union) fn listing_and_mentioning(&self, list: List, full: &str) -> (LinkIds, LinkIds) {
        let offers = self.offers.get(&(list, Arc::from(full)));
        let links = |listed| {
            let such = offers.into_iter().flatten().filter(|offer| offer.listed == listed);
            self.living(such.map(|offer| offer.link).collect())
        };
        (links(true), links(false))
    }

    /// Whether there was more in that list than is kept here.
    pub(in crate::session::union) fn is_truncated(&self, list: List, link: LinkId) -> bool {
        if list == List::Templates { self.templates.is_truncated(link) } else { self.truncated.contains(&(list, link)) }
    }

    /// Those that live; if none of them does, those that did.
    fn living(&self, links: LinkIds) -> LinkIds {
        let living: LinkIds = links.iter().copied().filter(|link| !self.closed.contains(link)).collect();
        if living.is_empty() { links } else { living }
    }

    /// Whether this server's list has it.
    pub(in crate::session::union) fn is_listed(&self, list: List, full: &str, link: LinkId) -> bool {
        let offers = self.offers.get(&(list, Arc::from(full)));
        offers.into_iter().flatten().any(|offer| offer.link == link && offer.listed)
    }

    /// Whether this server was the first to have it, of those that have it: so it is shown as that one's.
    pub(in crate::session::union) fn is_first(&self, list: List, full: &str, link: LinkId) -> bool {
        let offers = self.offers.get(&(list, Arc::from(full)));
        let first = offers.and_then(|offers| offers.iter().find(|offer| self.is_shown(**offer)));
        first.is_none_or(|first| first.link == link)
    }

    fn is_shown(&self, offer: Offer) -> bool {
        offer.listed && !self.closed.contains(&offer.link)
    }

    /// The servers that have a template with this text.
    pub(in crate::session::union) fn servers_with_template(&self, text: &str) -> LinkIds {
        self.living(self.templates.servers_with(text))
    }

    /// The servers one of whose templates can stand for this URI.
    pub(in crate::session::union) fn servers_matching(&self, uri: &str) -> LinkIds {
        self.living(self.templates.servers_matching(uri))
    }

    /// Whether only denied templates of this server can stand for one of these spellings of a URI of its own, or that
    /// cannot be told.
    pub(in crate::session::union) fn is_denied<'a>(
        &self,
        link: LinkId,
        spellings: impl IntoIterator<Item = &'a str>,
    ) -> bool {
        self.templates.are_denied(link, spellings)
    }

    /// This server lists anew: what stood in its list before is no more, but for templates that are denied.
    pub(in crate::session::union) fn forget_list(&mut self, list: List, link: LinkId) {
        if list == List::Templates {
            self.templates.forget(link);
            return;
        }
        self.truncated.remove(&(list, link));
        self.forget(|of, offer| {
            if of == list && offer.link == link {
                offer.listed = false;
            }
        });
    }

    /// This server is gone.
    pub(in crate::session::union) fn link_closed(&mut self, link: LinkId) {
        self.closed.push(link);
    }

    fn forget(&mut self, mut change: impl FnMut(List, &mut Offer)) {
        let bytes = &mut self.bytes;
        self.offers.retain(|(list, full), offers| {
            offers.retain(|offer| {
                change(*list, offer);
                offer.listed || offer.mentioned
            });
            if offers.is_empty() {
                *bytes -= full.len() + OVERHEAD;
            }
            !offers.is_empty()
        });
        self.keep_bounds();
    }

    #[cfg(test)]
    pub(in crate::session::union) fn len(&self) -> usize {
        self.offers.len() + self.templates.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: LinkId = LinkId(0);
    const B: LinkId = LinkId(1);

    #[test]
    fn who_lists_anew_has_what_it_lists() {
        let mut directory = Directory::default();
        directory.add(List::Tools, "x", A, Source::Listed);
        directory.add(List::Tools, "x", B, Source::Listed);
        directory.add(List::Tools, "y", A, Source::Listed);
        assert_eq!(directory.servers_with(List::Tools, "x").as_slice(), [A, B]);
        assert!(directory.is_first(List::Tools, "x", A) && !directory.is_first(List::Tools, "x", B));
        assert!(directory.servers_with(List::Prompts, "x").is_empty());
        directory.forget_list(List::Tools, A);
        assert_eq!(directory.servers_with(List::Tools, "x").as_slice(), [B]);
        assert!(directory.servers_with(List::Tools, "y").is_empty() && directory.is_first(List::Tools, "x", B));
        directory.forget_list(List::Tools, B);
        assert_eq!((directory.len(), directory.bytes), (0, 0));
    }

    #[test]
    fn who_is_gone_gives_way_to_the_living() {
        let mut directory = Directory::default();
        directory.add(List::Tools, "x", A, Source::Listed);
        directory.add(List::Tools, "x", B, Source::Listed);
        directory.add(List::Tools, "y", A, Source::Listed);
        directory.add_template(A, "x://{id}", false);
        directory.link_closed(A);
        assert_eq!(directory.servers_with(List::Tools, "x").as_slice(), [B]);
        assert!(directory.is_first(List::Tools, "x", B));
        assert_eq!(directory.servers_with(List::Tools, "y").as_slice(), [A], "so that it can be named");
        assert_eq!(directory.servers_matching("x://1").as_slice(), [A]);
        directory.add_template(B, "{+any}", false);
        assert_eq!(directory.servers_matching("x://1").as_slice(), [B]);
    }

    #[test]
    fn what_was_seen_outlives_a_list() {
        let mut directory = Directory::default();
        directory.add(List::Resources, "x://y", A, Source::Mentioned);
        directory.add(List::Resources, "x://y", A, Source::Listed);
        directory.forget_list(List::Resources, A);
        assert_eq!(directory.servers_with(List::Resources, "x://y").as_slice(), [A]);
        assert!(!directory.is_listed(List::Resources, "x://y", A));
    }

    #[test]
    fn templates_lead_to_their_servers() {
        let mut directory = Directory::default();
        directory.add_template(A, "x://{id}", false);
        directory.add_template(A, "x://{id}", false);
        directory.add_template(B, "x://{id}/deep", true);
        directory.add_template(B, "y://{id}", false);
        assert_eq!(directory.len(), 3);
        assert_eq!(directory.servers_matching("x://1").as_slice(), [A]);
        assert_eq!(directory.servers_matching("x://1/deep").as_slice(), [], "what is denied leads nowhere");
        assert!(directory.is_denied(B, ["x://1/deep"]) && !directory.is_denied(A, ["x://1/deep"]));
        assert!(!directory.is_denied(B, ["y://1"]));
        assert_eq!(directory.servers_with_template("y://{id}").as_slice(), [B]);
        directory.forget_list(List::Templates, A);
        assert!(directory.servers_matching("x://1").is_empty());
        directory.forget_list(List::Templates, B);
        assert_eq!((directory.len(), directory.bytes), (1, 0), "what is denied stays so");
    }

    #[test]
    fn what_is_wanted_is_kept_and_what_had_to_go_is_told() {
        let mut directory = Directory::default();
        directory.set_awaited([(List::Resources, "0".into())]);
        for number in 0..MOST_NAMES {
            directory.add(List::Resources, &number.to_string(), A, Source::Listed);
        }
        assert!(!directory.is_truncated(List::Resources, A));
        for number in MOST_NAMES..2 * MOST_NAMES + 9 {
            directory.add(List::Resources, &number.to_string(), A, Source::Listed);
        }
        assert_eq!(directory.servers_with(List::Resources, "0").as_slice(), [A]);
        assert!(directory.servers_with(List::Resources, "1").is_empty());
        assert!(directory.is_truncated(List::Resources, A) && !directory.is_truncated(List::Tools, A));
        directory.forget_list(List::Resources, A);
        assert!(!directory.is_truncated(List::Resources, A));
        let long = "x".repeat(MOST_BYTES + 1);
        directory.set_awaited([(List::Resources, long.as_str().into())]);
        directory.add(List::Resources, &long, A, Source::Listed);
        assert!(directory.bytes <= MOST_BYTES, "what is too large is not kept for anybody");
    }

    #[test]
    fn it_is_bounded() {
        let mut directory = Directory::default();
        for number in 0..MOST_NAMES + 10 {
            directory.add(List::Resources, &number.to_string(), A, Source::Mentioned);
        }
        assert_eq!(directory.offers.len(), MOST_NAMES);
        assert!(
            directory.servers_with(List::Resources, "9").is_empty()
                && !directory.servers_with(List::Resources, "10").is_empty()
        );
        let long = "x".repeat(MOST_BYTES / 2);
        directory.add(List::Resources, &long, A, Source::Mentioned);
        assert!(directory.bytes <= MOST_BYTES);
        directory.add(List::Resources, &format!("{long}{long}"), A, Source::Mentioned);
        assert!(directory.bytes <= MOST_BYTES && directory.len() == 0, "one that is too large is not kept");
        for round in 0..1000 {
            directory.add(List::Tasks, &format!("t{round}"), A, Source::Listed);
            directory.forget_list(List::Tasks, A);
        }
        assert!(directory.order.len() < 200, "{}", directory.order.len());
    }
}
