//! Which server a request is for.

use smallvec::smallvec;

use super::{LinkId, LinkIds, List, Servers, Table};
use crate::config::{Offered, Spellings};

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// To this server, which knows the subject under this name.
    To(LinkId, String),
    /// These lists of these servers would tell.
    Ask(LinkIds, &'static [List]),
    /// Several servers have it.
    Clash(LinkIds),
    Unknown,
}

/// What tells whose a resource is.
const LISTS: &[List] = &[List::Resources, List::Templates];

impl Route {
    /// To whoever has it under the very name that the client uses; `None` if nobody does.
    fn among(links: &LinkIds, name: &str) -> Option<Self> {
        match links.as_slice() {
            [] => None,
            [one] => Some(Self::To(*one, name.to_owned())),
            _ => Some(Self::Clash(links.clone())),
        }
    }

    /// For a task. `able` are the servers that may have tasks.
    pub(crate) fn of_task(table: &Table, id: &str, able: &LinkIds, asked: bool) -> Self {
        match Self::among(&table.who(List::Tasks, id), id) {
            Some(found) => found,
            None if asked || able.is_empty() => Self::Unknown,
            None => Self::Ask(able.clone(), &[List::Tasks]),
        }
    }
}

impl Servers {
    /// For a tool or a prompt. `asked` is whether what there was to be asked was asked.
    pub(crate) fn route_name(&self, table: &Table, list: List, full: &str, asked: bool) -> Route {
        let candidates = self.candidates(full);
        let lists: &'static [List] = if list == List::Tools { &[List::Tools] } else { &[List::Prompts] };
        let links = || candidates.iter().map(|(link, _)| *link).collect::<LinkIds>();
        if !self.prefix {
            let found = Route::among(&table.who(list, full), full);
            return found.unwrap_or_else(|| if asked { Route::Unknown } else { Route::Ask(links(), lists) });
        }
        let to = |(link, own): (LinkId, &str)| Route::To(link, own.to_owned());
        match candidates.as_slice() {
            [] => Route::Unknown,
            [one] => to(*one),
            _ if !asked => Route::Ask(links(), lists),
            [longest, ..] => {
                let listed: Vec<_> =
                    candidates.iter().copied().filter(|(link, _)| table.is_listed(list, full, *link)).collect();
                match listed.as_slice() {
                    [] => to(*longest),
                    [one] => to(*one),
                    several => Route::Clash(several.iter().map(|(link, _)| *link).collect()),
                }
            }
        }
    }

    /// For a resource, or with `template` for the text of one. `able` are the servers that may have resources; `known` is
    /// whether all that can be asked of them was asked at some time, and `asked` whether it was asked for this.
    ///
    /// What a server lists is its own, then what its templates can stand for. A mere mention in some other result counts
    /// only for what nobody else claims: any server can mention anything.
    pub(crate) fn route_uri(
        &self,
        table: &Table,
        uri: &str,
        template: bool,
        able: &LinkIds,
        known: bool,
        asked: bool,
    ) -> Route {
        if let Some((link, own)) = self.named_in(uri) {
            return Route::To(link, own);
        }
        if self.can_name(uri) {
            return Route::Unknown;
        }
        let with_template = if template { Route::among(&table.who_has_template(uri), uri) } else { None };
        let (listing, showing) = table.who_lists_or_shows(List::Resources, uri);
        if let Some(found) = with_template.or_else(|| Route::among(&listing, uri)) {
            return found;
        }
        let found = Route::among(&table.who_matches(uri), uri).or_else(|| Route::among(&showing, uri));
        match (found, able.as_slice()) {
            (Some(found), [] | [_]) => found,
            (Some(found), _) if known || asked => found,
            // There is nobody else who could have it.
            (None, [only]) => Route::To(*only, uri.to_owned()),
            (None, []) => Route::Unknown,
            (None, _) if asked => Route::Unknown,
            (Some(_) | None, _) => Route::Ask(able.clone(), LISTS),
        }
    }

    /// Whether the filter lets a server's resource through, with what is known of its templates: a URI that only denied
    /// templates stand for is denied with them. `Err` if lists of the server have to be known first.
    /// With `blind` its templates could not be had. What is denied in one spelling is denied in all.
    pub(crate) fn allows_uri(
        &self,
        table: &Table,
        link: LinkId,
        own: &str,
        asked: bool,
        blind: bool,
    ) -> Result<bool, Route> {
        let Some(server) = self.get(link) else { return Ok(true) };
        let any_template = server.filter.allows_all(Offered::Templates);
        if any_template && server.filter.allows_all(Offered::Resources) {
            return Ok(true);
        }
        let Some(spellings) = Spellings::of(own).filter(|_| self.allows(link, List::Resources, own)) else {
            return Ok(false);
        };
        if any_template && spellings.absolute {
            return Ok(true);
        }
        let full = self.full(List::Resources, link, own);
        if table.is_listed(List::Resources, &full, link) {
            return Ok(true);
        }
        if !asked {
            return Err(Route::Ask(smallvec![link], LISTS));
        }
        // What is no absolute URI may be read as anything, unless the server itself lists it so.
        Ok(spellings.absolute && !blind && !table.is_denied(link, spellings.all()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Filter, Offered};
    use crate::session::union::{Server, Told};

    const A: LinkId = LinkId(0);
    const B: LinkId = LinkId(1);

    fn servers(prefix: bool, prefix_uris: bool) -> Servers {
        Servers::new(["a", "a_b"].map(|name| Server::new(name, Filter::new())).into(), prefix, prefix_uris)
    }

    fn to(link: LinkId, own: &str) -> Route {
        Route::To(link, own.to_owned())
    }

    fn ask(lists: &'static [List]) -> Route {
        Route::Ask(smallvec![A, B], lists)
    }

    #[test]
    fn a_prefixed_name_needs_no_list_unless_it_fits_two() {
        let servers = servers(true, false);
        let mut table = Table::default();
        let route = |table: &Table, name, asked| servers.route_name(table, List::Tools, name, asked);
        assert_eq!(route(&table, "a_x", false), to(A, "x"));
        assert_eq!(route(&table, "c_x", false), Route::Unknown);
        assert_eq!(route(&table, "a_b_c", false), Route::Ask(smallvec![B, A], &[List::Tools]));
        assert_eq!(route(&table, "a_b_c", true), to(B, "c"), "the longest name, where no list tells");
        table.enter(List::Tools, "a_b_c", A, Told::Listed);
        assert_eq!(route(&table, "a_b_c", true), to(A, "b_c"));
        table.enter(List::Tools, "a_b_c", B, Told::Listed);
        assert_eq!(route(&table, "a_b_c", true), Route::Clash(smallvec![B, A]));
    }

    #[test]
    fn a_plain_name_is_found_in_lists() {
        let servers = servers(false, false);
        let mut table = Table::default();
        let route = |table: &Table, asked| servers.route_name(table, List::Prompts, "x", asked);
        assert_eq!(route(&table, false), ask(&[List::Prompts]));
        assert_eq!(route(&table, true), Route::Unknown);
        table.enter(List::Prompts, "x", B, Told::Listed);
        assert_eq!(route(&table, false), to(B, "x"));
        table.enter(List::Prompts, "x", A, Told::Listed);
        assert_eq!(route(&table, false), Route::Clash(smallvec![B, A]));
    }

    #[test]
    fn a_uri_is_found_in_lists_then_by_templates() {
        let servers = servers(true, false);
        let both: LinkIds = smallvec![A, B];
        let mut table = Table::default();
        let route = |table: &Table, uri, asked| servers.route_uri(table, uri, false, &both, false, asked);
        assert_eq!(route(&table, "x://1", false), ask(&[List::Resources, List::Templates]));
        assert_eq!(route(&table, "x://1", true), Route::Unknown);
        assert_eq!(servers.route_uri(&table, "x://1", false, &smallvec![B], false, false), to(B, "x://1"));
        assert_eq!(servers.route_uri(&table, "x://1", false, &smallvec![], false, false), Route::Unknown);
        table.enter_template(A, "x://{id}", false);
        assert_eq!(route(&table, "x://1", false), ask(LISTS), "somebody else may list it");
        assert_eq!(route(&table, "x://1", true), to(A, "x://1"));
        assert_eq!(servers.route_uri(&table, "x://1", false, &both, true, false), to(A, "x://1"));
        table.enter(List::Resources, "x://1", B, Told::Listed);
        assert_eq!(route(&table, "x://1", false), to(B, "x://1"));
        table.enter_template(B, "{+any}", false);
        assert_eq!(route(&table, "x://2", true), Route::Clash(smallvec![A, B]));
        assert_eq!(servers.route_uri(&table, "x://{id}", true, &both, false, false), to(A, "x://{id}"));
    }

    #[test]
    fn a_mention_takes_nothing_from_anybody() {
        let servers = servers(true, false);
        let both: LinkIds = smallvec![A, B];
        let mut table = Table::default();
        let route = |table: &Table, uri, asked| servers.route_uri(table, uri, false, &both, false, asked);
        for uri in ["x://listed", "x://of-template/1", "x://free"] {
            table.enter(List::Resources, uri, B, Told::Seen);
        }
        assert_eq!(route(&table, "x://free", false), ask(LISTS));
        table.enter(List::Resources, "x://listed", A, Told::Listed);
        table.enter_template(A, "x://of-template/{id}", false);
        assert_eq!(route(&table, "x://listed", false), to(A, "x://listed"));
        assert_eq!(route(&table, "x://of-template/1", true), to(A, "x://of-template/1"));
        assert_eq!(route(&table, "x://free", true), to(B, "x://free"));
    }

    #[test]
    fn a_prefixed_uri_names_its_server() {
        let servers = servers(true, true);
        let both: LinkIds = smallvec![A, B];
        let mut table = Table::default();
        let route = |table: &Table, uri| servers.route_uri(table, uri, false, &both, true, true);
        assert_eq!(route(&table, "x://a_b/1"), to(B, "x://1"));
        assert_eq!(servers.route_uri(&table, "x://other/1", false, &both, false, false), Route::Unknown);
        table.enter(List::Resources, "urn:1", B, Told::Listed);
        assert_eq!(route(&table, "urn:1"), to(B, "urn:1"), "there is no place for a name in it");
    }

    #[test]
    fn what_only_a_denied_template_stands_for_is_denied() {
        let filter = Filter::new().deny(Offered::Templates, ["x://secret/{id}"]).unwrap();
        let filter = filter.deny(Offered::Resources, ["*.key"]).unwrap();
        let servers = Servers::new(vec![Server::new("a", filter)], true, false);
        let mut table = Table::default();
        assert_eq!(servers.allows_uri(&table, A, "x://a.key", false, false), Ok(false));
        let lists = Route::Ask(smallvec![A], &[List::Resources, List::Templates]);
        assert_eq!(servers.allows_uri(&table, A, "x://secret/1", false, false), Err(lists));
        table.enter_template(A, "x://secret/{id}", true);
        table.enter_template(A, "x://open/{id}", false);
        assert_eq!(servers.allows_uri(&table, A, "x://secret/1", true, false), Ok(false));
        assert_eq!(servers.allows_uri(&table, A, "x://open/1", true, false), Ok(true));
        assert_eq!(servers.allows_uri(&table, A, "y://1", true, false), Ok(true));
        assert_eq!(servers.allows_uri(&table, A, "y://1", true, true), Ok(false), "it cannot be known");
        for uri in ["X://secret/1", "x://secret/a/../1", "x://secret/%31", " x://secret/1", "x://secret/1#a", "x"] {
            assert_eq!(servers.allows_uri(&table, A, uri, true, false), Ok(false), "{uri}");
        }
        table.enter(List::Resources, "x", A, Told::Listed);
        assert_eq!(servers.allows_uri(&table, A, "x", false, false), Ok(true), "so it is listed");
        table.enter(List::Resources, "x://secret/1", A, Told::Listed);
        assert_eq!(servers.allows_uri(&table, A, "x://secret/1", true, false), Ok(true), "it is offered by itself");
    }

    #[test]
    fn a_task_is_its_servers() {
        let both: LinkIds = smallvec![A, B];
        let mut table = Table::default();
        assert_eq!(Route::of_task(&table, "t", &both, false), ask(&[List::Tasks]));
        assert_eq!(Route::of_task(&table, "t", &both, true), Route::Unknown);
        table.enter(List::Tasks, "t", A, Told::Seen);
        assert_eq!(Route::of_task(&table, "t", &both, false), to(A, "t"));
        table.enter(List::Tasks, "t", B, Told::Seen);
        assert_eq!(Route::of_task(&table, "t", &both, false), Route::Clash(smallvec![A, B]));
    }
}
