//! Names of several servers side by side: a server's name in front of its tools and prompts, and within its URIs.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::{List, Servers};
use crate::session::link_phase::LinkId;

/// A server's name as a part of other names. Clients and models take letters, digits, `_`, `-` and `.` in the names of
/// tools; what else there is becomes `_`.
pub(super) fn prefix_of(name: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-' | '.');
    name.chars().map(|character| if plain(character) { character } else { '_' }).collect()
}

/// `scheme://rest`, taken apart behind the slashes. Others have no place for a server's name, and are left as they are.
fn split(uri: &str) -> Option<(&str, &str)> {
    let colon = uri.find(':').filter(|colon| *colon > 0)?;
    let rest = uri[colon..].strip_prefix("://")?;
    Some((&uri[..colon + 3], rest))
}

impl Servers {
    /// What the client calls the entry that its server calls `own`.
    pub(super) fn full_name<'a>(&self, list: List, link: LinkId, own: &'a str) -> Cow<'a, str> {
        let Some(server) = self.get(link) else { return own.into() };
        match list {
            List::Tools | List::Prompts if self.has_prefixed_names() => format!("{}_{own}", server.prefix).into(),
            List::Resources | List::Templates if self.has_prefixed_uris() => match split(own) {
                Some((scheme, rest)) => format!("{scheme}{}/{rest}", server.prefix).into(),
                None => own.into(),
            },
            _ => own.into(),
        }
    }

    /// The servers whose tool or prompt this may be, with what they call it, the longest server's name first.
    pub(super) fn candidates<'a>(&self, full: &'a str) -> SmallVec<[(LinkId, &'a str); 4]> {
        if !self.has_prefixed_names() {
            return self.links().map(|link| (link, full)).collect();
        }
        let own = |link| {
            let server = self.get(link)?;
            full.strip_prefix(&*server.prefix)?.strip_prefix('_').map(|own| (link, own))
        };
        let mut candidates: SmallVec<[(LinkId, &str); 4]> = self.links().filter_map(own).collect();
        candidates.sort_by_key(|(_, own)| own.len());
        candidates
    }

    /// The server that is named in this URI or template, with what it calls it; `None` if none is. Clients may have put
    /// the name in lower case, as they do with hosts.
    pub(super) fn server_named_in(&self, uri: &str) -> Option<(LinkId, String)> {
        let (scheme, rest) = split(uri).filter(|_| self.has_prefixed_uris())?;
        let (name, rest) = rest.split_once('/')?;
        let link =
            self.links().find(|link| self.get(*link).is_some_and(|server| server.prefix.eq_ignore_ascii_case(name)))?;
        Some((link, format!("{scheme}{rest}")))
    }

    /// Whether a server's name has a place in this URI.
    pub(super) fn can_name_server(&self, uri: &str) -> bool {
        self.has_prefixed_uris() && split(uri).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Filter;
    use crate::session::union::ConfiguredServer;

    fn servers(names: &[&str], prefix: bool, prefix_uris: bool) -> Servers {
        let each = names.iter().map(|name| ConfiguredServer::new(name, Filter::new())).collect();
        Servers::new(each, prefix, prefix_uris)
    }

    #[test]
    fn the_servers_name_stands_in_front_and_is_taken_off_again() {
        let servers = servers(&["a", "a_b", "my server"], true, false);
        assert_eq!(servers.full_name(List::Tools, LinkId(2), "x"), "my_server_x");
        assert_eq!(servers.full_name(List::Resources, LinkId(0), "x://y"), "x://y");
        let cases: [(&str, &[(u16, &str)]); 7] = [
            ("a_x", &[(0, "x")]),
            ("a_b_c", &[(1, "c"), (0, "b_c")]),
            ("my_server_x", &[(2, "x")]),
            ("a_", &[(0, "")]),
            ("a", &[]),
            ("ab_c", &[]),
            ("", &[]),
        ];
        for (full, expected) in cases {
            let found: Vec<_> = servers.candidates(full).into_iter().map(|(link, own)| (link.0, own)).collect();
            assert_eq!(found, expected, "{full}");
        }
    }

    #[test]
    fn without_prefix_a_name_may_be_anybodys() {
        let servers = servers(&["a", "b"], false, false);
        assert_eq!(servers.full_name(List::Prompts, LinkId(1), "x"), "x");
        assert_eq!(servers.candidates("a_x").as_slice(), [(LinkId(0), "a_x"), (LinkId(1), "a_x")]);
    }

    #[test]
    fn one_server_has_no_prefix() {
        let servers = servers(&["a"], true, true);
        assert_eq!(servers.full_name(List::Tools, LinkId(0), "x"), "x");
        assert_eq!(servers.full_name(List::Resources, LinkId(0), "x://y"), "x://y");
        assert_eq!(servers.server_named_in("x://a/y"), None);
    }

    #[test]
    fn uris_hold_the_name_and_lose_it_again() {
        let servers = servers(&["a", "b c"], true, true);
        let cases = [
            (0, "file:///etc/hosts", "file://a//etc/hosts"),
            (0, "demo://x", "demo://a/x"),
            (0, "demo://", "demo://a/"),
            (1, "db://{table}/{id}", "db://b_c/{table}/{id}"),
            (1, "{+any}://x", "{+any}://b_c/x"),
            (0, "demo://a/x", "demo://a/a/x"),
            (1, "http://h:80/p?q=x://y#f", "http://b_c/h:80/p?q=x://y#f"),
        ];
        for (link, own, full) in cases {
            let link = LinkId(link);
            assert_eq!(servers.full_name(List::Templates, link, own), full);
            assert_eq!(servers.server_named_in(full), Some((link, own.to_owned())), "{full}");
        }
        for other in ["urn:isbn:1", "mailto:a", "", "://x", "x", "a:b://c", "x://c/y", "x://a"] {
            assert_eq!(servers.server_named_in(other), None, "{other}");
        }
        assert_eq!(servers.server_named_in("http://A/H/x"), Some((LinkId(0), "http://H/x".to_owned())));
        let servers = self::servers(&["My", "b"], true, true);
        let full = servers.full_name(List::Resources, LinkId(0), "http://h/x");
        assert_eq!(servers.server_named_in(&full.to_lowercase()), Some((LinkId(0), "http://h/x".to_owned())));
        for unchanged in ["urn:isbn:1", "mailto:a", "", "://x", "a:b://c"] {
            assert_eq!(servers.full_name(List::Resources, LinkId(0), unchanged), unchanged);
        }
    }
}
