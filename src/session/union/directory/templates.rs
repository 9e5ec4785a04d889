//! The templates of all servers: those that lead to a server, and those that its filter denies.
//!
//! A template that leads to a server can be asked for again, and the oldest goes first. A denied template is never
//! forgotten: where a server has more of them than are kept, every URI that needs a template counts as denied.

use std::collections::{BTreeMap, VecDeque};

use super::template::{MOST_WORK, UriPattern};
use crate::session::link_phase::{LinkId, LinkIds};

/// Most templates of one server, of either kind.
const MOST_TEMPLATES: usize = 1000;
/// The longest template, in bytes.
const LONGEST_TEMPLATE: usize = 4096;
/// Most bytes of the templates of one server, of either kind, and of all that lead somewhere.
const MOST_BYTES_OF_ONE: usize = 1024 * 1024;
const MOST_BYTES_OF_ALL: usize = 4 * 1024 * 1024;
const OVERHEAD: usize = 128;

#[derive(Debug)]
struct Template {
    text: Box<str>,
    pattern: UriPattern,
}

impl Template {
    /// What keeping the template costs, in bytes: it is kept as text and as steps.
    fn cost(&self) -> usize {
        self.text.len() * 4 + OVERHEAD
    }
}

#[derive(Debug, Default)]
struct TemplateSet {
    each: VecDeque<Template>,
    bytes: usize,
}

impl TemplateSet {
    fn add(&mut self, text: &str) {
        if !self.has(text) {
            let template = Template { text: text.into(), pattern: UriPattern::new(text) };
            self.bytes += template.cost();
            self.each.push_back(template);
        }
    }

    fn has(&self, text: &str) -> bool {
        self.each.iter().any(|known| &*known.text == text)
    }

    fn is_full(&self) -> bool {
        self.each.len() > MOST_TEMPLATES || self.bytes > MOST_BYTES_OF_ONE
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.each.pop_front() {
            self.bytes -= oldest.cost();
        }
    }

    /// Whether one can stand for this URI; `None` if that cannot be told.
    fn matches(&self, uri: &str, work: &mut usize) -> Option<bool> {
        let mut clear = true;
        for template in &self.each {
            match template.pattern.matches(uri, work) {
                Some(true) => return Some(true),
                Some(false) => {}
                None => clear = false,
            }
        }
        clear.then_some(false)
    }
}

#[derive(Debug, Default)]
struct TemplatesOfServer {
    open: TemplateSet,
    denied: TemplateSet,
    /// Whether there were more denied templates than are kept, or one that is too long.
    incomplete: bool,
    /// Whether there were more templates that lead to the server than are kept.
    truncated: bool,
}

#[derive(Debug, Default)]
pub(super) struct Templates {
    each: BTreeMap<LinkId, TemplatesOfServer>,
}

impl Templates {
    pub(super) fn add(&mut self, link: LinkId, text: &str, denied: bool) {
        let of_link = self.each.entry(link).or_default();
        match (text.len() > LONGEST_TEMPLATE, denied) {
            (true, true) => of_link.incomplete = true,
            (true, false) => of_link.truncated = true,
            (false, true) if of_link.incomplete => {}
            (false, true) => {
                of_link.denied.add(text);
                of_link.incomplete = of_link.denied.is_full();
            }
            (false, false) => {
                of_link.open.add(text);
                while of_link.open.is_full() {
                    of_link.open.drop_oldest();
                    of_link.truncated = true;
                }
                self.keep_bounds();
            }
        }
    }

    /// The server with the most bytes loses its oldest template.
    fn keep_bounds(&mut self) {
        while self.each.values().map(|of_link| of_link.open.bytes).sum::<usize>() > MOST_BYTES_OF_ALL
            && let Some(most) = self.each.values_mut().max_by_key(|of_link| of_link.open.bytes)
        {
            most.open.drop_oldest();
            most.truncated = true;
        }
    }

    /// The servers that have a template with this text.
    pub(super) fn servers_with(&self, text: &str) -> LinkIds {
        self.each.iter().filter(|(_, of_link)| of_link.open.has(text)).map(|(link, _)| *link).collect()
    }

    /// The servers one of whose templates can stand for this URI. Each has its share of the work.
    pub(super) fn servers_matching(&self, uri: &str) -> LinkIds {
        let share = MOST_WORK / self.each.len().max(1);
        let matches = |of_link: &TemplatesOfServer| of_link.open.matches(uri, &mut { share }) == Some(true);
        self.each.iter().filter(|(_, of_link)| matches(of_link)).map(|(link, _)| *link).collect()
    }

    /// Whether only denied templates of this server can stand for one of these spellings of a URI of its own. What
    /// cannot be told is denied.
    pub(super) fn are_denied<'a>(&self, link: LinkId, spellings: impl IntoIterator<Item = &'a str>) -> bool {
        let Some(of_link) = self.each.get(&link) else { return false };
        if of_link.incomplete {
            return true;
        }
        let mut work = MOST_WORK;
        spellings.into_iter().any(|uri| match of_link.denied.matches(uri, &mut work) {
            Some(false) => false,
            Some(true) => of_link.open.matches(uri, &mut work) != Some(true),
            None => true,
        })
    }

    /// The server is listed anew. Denied templates stay denied.
    pub(super) fn forget(&mut self, link: LinkId) {
        if let Some(of_link) = self.each.get_mut(&link) {
            (of_link.open, of_link.truncated) = (TemplateSet::default(), false);
        }
    }

    /// Whether some templates of that server are not kept.
    pub(super) fn is_truncated(&self, link: LinkId) -> bool {
        self.each.get(&link).is_some_and(|of_link| of_link.truncated)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.each.values().map(|of_link| of_link.open.each.len() + of_link.denied.each.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: LinkId = LinkId(0);
    const B: LinkId = LinkId(1);

    #[test]
    fn what_is_denied_is_never_forgotten() {
        let mut templates = Templates::default();
        templates.add(A, "x://secret/{id}", true);
        for number in 0..=MOST_TEMPLATES {
            templates.add(A, &format!("x://{number}/{{id}}"), false);
        }
        assert!(templates.servers_matching("x://0/1").is_empty() && templates.is_truncated(A));
        assert_eq!(templates.servers_matching("x://1000/1").as_slice(), [A]);
        assert!(templates.are_denied(A, ["x://secret/1"]) && !templates.are_denied(A, ["x://0/1"]));
        templates.forget(A);
        assert!(
            templates.are_denied(A, ["y://1", "x://secret/1"])
                && !templates.are_denied(A, ["y://1"])
                && !templates.is_truncated(A)
        );
    }

    #[test]
    fn what_cannot_be_told_is_denied() {
        let mut templates = Templates::default();
        templates.add(A, "x://secret/{id}", true);
        templates.add(B, "x://open/{id}", false);
        let long = format!("x://secret/{}", "1".repeat(5000));
        assert!(templates.are_denied(A, [&*long]) && !templates.are_denied(B, [&*long]));
        templates.add(A, &"{+a}".repeat(600), true);
        assert!(templates.are_denied(A, ["y://1"]), "too complex");
        templates.add(B, &"x".repeat(LONGEST_TEMPLATE + 1), true);
        assert!(templates.are_denied(B, ["y://1"]), "too long");
        let c = LinkId(2);
        for number in 0..=MOST_TEMPLATES {
            assert!(!templates.are_denied(c, ["y://1"]));
            templates.add(c, &format!("x://{number}/{{id}}"), true);
        }
        assert!(templates.are_denied(c, ["y://1"]), "too many");
    }

    #[test]
    fn they_are_bounded_by_bytes_and_none_drives_out_that_of_another() {
        let mut templates = Templates::default();
        templates.add(A, "x://{id}", false);
        for link in 1..20 {
            templates.add(LinkId(link), &"x".repeat(1_000_000), false);
            for number in 0..500 {
                templates.add(LinkId(link), &format!("y://{number}{}", "y".repeat(4000)), false);
            }
        }
        let bytes: usize = templates.each.values().map(|of_link| of_link.open.bytes).sum();
        assert!(bytes <= MOST_BYTES_OF_ALL && templates.is_truncated(B), "{bytes}");
        assert_eq!(templates.servers_matching("x://1").as_slice(), [A]);
    }

    #[test]
    fn a_look_costs_no_more_than_so_much() {
        let mut templates = Templates::default();
        for number in 0..MOST_TEMPLATES {
            templates.add(A, &format!("{}{number}", "{+a}".repeat(500)), false);
        }
        templates.add(B, "x{+any}", false);
        let uri = "x".repeat(4096);
        assert_eq!(templates.servers_matching(&uri).as_slice(), [B], "it has a share of its own");
        let mut work = MOST_WORK;
        assert_eq!(templates.each[&A].open.matches(&uri, &mut work), None);
        assert!(work < 3_000_000, "it was used up: {work}");
    }
}
