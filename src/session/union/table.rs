//! Who offers what, as far as a session has seen.
//!
//! It is filled from lists, and from links in results and notifications; it is bounded, and what is oldest goes first.
//! What is not in it can be asked for: it is no cache that anybody is answered from.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use smallvec::SmallVec;

use super::templates::Templates;
use super::{LinkId, LinkIds, List};

/// Most names in it.
const ENTRIES: usize = 100_000;
/// Most bytes in it, with what each entry costs besides its name.
const BYTES: usize = 16 * 1024 * 1024;
const OVERHEAD: usize = 128;

/// How a name was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// It stands in a list of that server, until the server lists anew.
    Listed,
    /// It was seen elsewhere.
    Seen,
}

#[derive(Debug, Clone, Copy)]
struct Offer {
    link: LinkId,
    listed: bool,
    seen: bool,
}

/// Tools, prompts, resources and tasks under the names by which the client knows them; templates by their server's own.
#[derive(Debug, Default)]
pub(crate) struct Table {
    offers: HashMap<(List, Arc<str>), SmallVec<[Offer; 1]>>,
    /// The same names, oldest first. Some of them may be gone.
    order: VecDeque<(List, Arc<str>)>,
    templates: Templates,
    bytes: usize,
    /// What somebody waits for: it stays as long as there is room for anything.
    wanted: HashSet<(List, Arc<str>)>,
    /// The lists of which something had to go.
    cut: HashSet<(List, LinkId)>,
    /// Servers that are gone. What they had is still known as theirs, unless a living one has it too.
    gone: LinkIds,
}

impl Table {
    /// Enters that this server has it.
    pub(crate) fn enter(&mut self, list: List, full: &str, link: LinkId, told: Told) {
        let key = (list, Arc::from(full));
        let offers = self.offers.entry(key.clone()).or_insert_with(|| {
            self.bytes += full.len() + OVERHEAD;
            self.order.push_back(key);
            SmallVec::new()
        });
        let known = offers.iter().position(|offer| offer.link == link);
        let at = known.unwrap_or_else(|| {
            offers.push(Offer { link, listed: false, seen: false });
            offers.len() - 1
        });
        match told {
            Told::Listed => offers[at].listed = true,
            Told::Seen => offers[at].seen = true,
        }
        self.keep_bounds();
    }

    /// Enters a template under its own text. One that is `denied` is no way to anything, but has to be known as such.
    pub(crate) fn enter_template(&mut self, link: LinkId, text: &str, denied: bool) {
        self.templates.enter(link, text, denied);
    }

    /// Says what somebody waits for.
    pub(crate) fn want(&mut self, wanted: impl IntoIterator<Item = (List, Arc<str>)>) {
        self.wanted = wanted.into_iter().collect();
    }

    fn keep_bounds(&mut self) {
        let mut turns = self.order.len();
        while (self.offers.len() > ENTRIES || self.bytes > BYTES)
            && let Some(oldest) = self.order.pop_front()
        {
            if turns > 0 && self.wanted.contains(&oldest) {
                turns -= 1;
                self.order.push_back(oldest);
                continue;
            }
            turns = turns.saturating_sub(1);
            if let Some(offers) = self.offers.remove(&oldest) {
                self.bytes -= oldest.1.len() + OVERHEAD;
                self.cut.extend(offers.iter().filter(|offer| offer.listed).map(|offer| (oldest.0, offer.link)));
            }
        }
        if self.order.len() > 2 * self.offers.len() + 64 {
            let mut once = HashSet::new();
            let offers = &self.offers;
            self.order.retain(|key| offers.contains_key(key) && once.insert(key.clone()));
        }
    }

    /// The servers that have it.
    pub(crate) fn who(&self, list: List, full: &str) -> LinkIds {
        let offers = self.offers.get(&(list, Arc::from(full)));
        self.living(offers.into_iter().flatten().map(|offer| offer.link).collect())
    }

    /// The servers whose lists have it, and those of whom it was only seen.
    pub(crate) fn who_lists_or_shows(&self, list: List, full: &str) -> (LinkIds, LinkIds) {
        let offers = self.offers.get(&(list, Arc::from(full)));
        let links = |listed| {
            let such = offers.into_iter().flatten().filter(|offer| offer.listed == listed);
            self.living(such.map(|offer| offer.link).collect())
        };
        (links(true), links(false))
    }

    /// Whether there was more in that list than is kept here.
    pub(crate) fn is_cut(&self, list: List, link: LinkId) -> bool {
        if list == List::Templates { self.templates.is_cut(link) } else { self.cut.contains(&(list, link)) }
    }

    /// Those that live; if none of them does, those that did.
    fn living(&self, links: LinkIds) -> LinkIds {
        let living: LinkIds = links.iter().copied().filter(|link| !self.gone.contains(link)).collect();
        if living.is_empty() { links } else { living }
    }

    /// Whether this server's list has it.
    pub(crate) fn is_listed(&self, list: List, full: &str, link: LinkId) -> bool {
        let offers = self.offers.get(&(list, Arc::from(full)));
        offers.into_iter().flatten().any(|offer| offer.link == link && offer.listed)
    }

    /// Whether this server was the first to have it, of those that have it: so it is shown as that one's.
    pub(crate) fn is_first(&self, list: List, full: &str, link: LinkId) -> bool {
        let offers = self.offers.get(&(list, Arc::from(full)));
        let first = offers.and_then(|offers| offers.iter().find(|offer| self.shows(**offer)));
        first.is_none_or(|first| first.link == link)
    }

    fn shows(&self, offer: Offer) -> bool {
        offer.listed && !self.gone.contains(&offer.link)
    }

    /// The servers that have a template with this text.
    pub(crate) fn who_has_template(&self, text: &str) -> LinkIds {
        self.living(self.templates.who_has(text))
    }

    /// The servers one of whose templates can stand for this URI.
    pub(crate) fn who_matches(&self, uri: &str) -> LinkIds {
        self.living(self.templates.who_matches(uri))
    }

    /// Whether only denied templates of this server can stand for one of these spellings of a URI of its own, or that
    /// cannot be told.
    pub(crate) fn is_denied<'a>(&self, link: LinkId, spellings: impl IntoIterator<Item = &'a str>) -> bool {
        self.templates.deny(link, spellings)
    }

    /// This server lists anew: what stood in its list before is no more, but for templates that are denied.
    pub(crate) fn forget_list(&mut self, list: List, link: LinkId) {
        if list == List::Templates {
            self.templates.forget(link);
            return;
        }
        self.cut.remove(&(list, link));
        self.forget(|of, offer| {
            if of == list && offer.link == link {
                offer.listed = false;
            }
        });
    }

    /// This server is gone.
    pub(crate) fn link_gone(&mut self, link: LinkId) {
        self.gone.push(link);
    }

    fn forget(&mut self, mut change: impl FnMut(List, &mut Offer)) {
        let bytes = &mut self.bytes;
        self.offers.retain(|(list, full), offers| {
            offers.retain(|offer| {
                change(*list, offer);
                offer.listed || offer.seen
            });
            if offers.is_empty() {
                *bytes -= full.len() + OVERHEAD;
            }
            !offers.is_empty()
        });
        self.keep_bounds();
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
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
        let mut table = Table::default();
        table.enter(List::Tools, "x", A, Told::Listed);
        table.enter(List::Tools, "x", B, Told::Listed);
        table.enter(List::Tools, "y", A, Told::Listed);
        assert_eq!(table.who(List::Tools, "x").as_slice(), [A, B]);
        assert!(table.is_first(List::Tools, "x", A) && !table.is_first(List::Tools, "x", B));
        assert!(table.who(List::Prompts, "x").is_empty());
        table.forget_list(List::Tools, A);
        assert_eq!(table.who(List::Tools, "x").as_slice(), [B]);
        assert!(table.who(List::Tools, "y").is_empty() && table.is_first(List::Tools, "x", B));
        table.forget_list(List::Tools, B);
        assert_eq!((table.len(), table.bytes), (0, 0));
    }

    #[test]
    fn who_is_gone_gives_way_to_the_living() {
        let mut table = Table::default();
        table.enter(List::Tools, "x", A, Told::Listed);
        table.enter(List::Tools, "x", B, Told::Listed);
        table.enter(List::Tools, "y", A, Told::Listed);
        table.enter_template(A, "x://{id}", false);
        table.link_gone(A);
        assert_eq!(table.who(List::Tools, "x").as_slice(), [B]);
        assert!(table.is_first(List::Tools, "x", B));
        assert_eq!(table.who(List::Tools, "y").as_slice(), [A], "so that it can be named");
        assert_eq!(table.who_matches("x://1").as_slice(), [A]);
        table.enter_template(B, "{+any}", false);
        assert_eq!(table.who_matches("x://1").as_slice(), [B]);
    }

    #[test]
    fn what_was_seen_outlives_a_list() {
        let mut table = Table::default();
        table.enter(List::Resources, "x://y", A, Told::Seen);
        table.enter(List::Resources, "x://y", A, Told::Listed);
        table.forget_list(List::Resources, A);
        assert_eq!(table.who(List::Resources, "x://y").as_slice(), [A]);
        assert!(!table.is_listed(List::Resources, "x://y", A));
    }

    #[test]
    fn templates_lead_to_their_servers() {
        let mut table = Table::default();
        table.enter_template(A, "x://{id}", false);
        table.enter_template(A, "x://{id}", false);
        table.enter_template(B, "x://{id}/deep", true);
        table.enter_template(B, "y://{id}", false);
        assert_eq!(table.len(), 3);
        assert_eq!(table.who_matches("x://1").as_slice(), [A]);
        assert_eq!(table.who_matches("x://1/deep").as_slice(), [], "what is denied leads nowhere");
        assert!(table.is_denied(B, ["x://1/deep"]) && !table.is_denied(A, ["x://1/deep"]));
        assert!(!table.is_denied(B, ["y://1"]));
        assert_eq!(table.who_has_template("y://{id}").as_slice(), [B]);
        table.forget_list(List::Templates, A);
        assert!(table.who_matches("x://1").is_empty());
        table.forget_list(List::Templates, B);
        assert_eq!((table.len(), table.bytes), (1, 0), "what is denied stays so");
    }

    #[test]
    fn what_is_wanted_is_kept_and_what_had_to_go_is_told() {
        let mut table = Table::default();
        table.want([(List::Resources, "0".into())]);
        for number in 0..ENTRIES {
            table.enter(List::Resources, &number.to_string(), A, Told::Listed);
        }
        assert!(!table.is_cut(List::Resources, A));
        for number in ENTRIES..2 * ENTRIES + 9 {
            table.enter(List::Resources, &number.to_string(), A, Told::Listed);
        }
        assert_eq!(table.who(List::Resources, "0").as_slice(), [A]);
        assert!(table.who(List::Resources, "1").is_empty());
        assert!(table.is_cut(List::Resources, A) && !table.is_cut(List::Tools, A));
        table.forget_list(List::Resources, A);
        assert!(!table.is_cut(List::Resources, A));
        let long = "x".repeat(BYTES + 1);
        table.want([(List::Resources, long.as_str().into())]);
        table.enter(List::Resources, &long, A, Told::Listed);
        assert!(table.bytes <= BYTES, "what is too large is not kept for anybody");
    }

    #[test]
    fn it_is_bounded() {
        let mut table = Table::default();
        for number in 0..ENTRIES + 10 {
            table.enter(List::Resources, &number.to_string(), A, Told::Seen);
        }
        assert_eq!(table.offers.len(), ENTRIES);
        assert!(table.who(List::Resources, "9").is_empty() && !table.who(List::Resources, "10").is_empty());
        let long = "x".repeat(BYTES / 2);
        table.enter(List::Resources, &long, A, Told::Seen);
        assert!(table.bytes <= BYTES);
        table.enter(List::Resources, &format!("{long}{long}"), A, Told::Seen);
        assert!(table.bytes <= BYTES && table.len() == 0, "one that is too large is not kept");
        for round in 0..1000 {
            table.enter(List::Tasks, &format!("t{round}"), A, Told::Listed);
            table.forget_list(List::Tasks, A);
        }
        assert!(table.order.len() < 200, "{}", table.order.len());
    }
}
