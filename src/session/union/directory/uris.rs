//! Whose a resource is, and whether a filter lets it through, by its URI.

use smallvec::smallvec;

use super::super::queue::ListsAsked;
use super::super::route::Route;
use super::super::{List, Servers};
use super::Directory;
use crate::config::{Offered, Spellings};
use crate::session::link_phase::{LinkId, LinkIds};

/// The lists that tell whose a resource is.
const URI_LISTS: &[List] = &[List::Resources, List::Templates];

/// What a request names: a resource, or a template by its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session::union) enum UriForm {
    Uri,
    Template,
}

/// Whether the lists of resources and templates of all servers that may have resources were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session::union) enum ListsKnown {
    No,
    /// At some time. A list may have changed since.
    AskedOnce,
    /// For this very request.
    JustAsked,
}

/// Whether all templates of a server are known that its filter denies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session::union) enum DeniedTemplates {
    Known,
    Uncertain,
}

/// What is known when the server of a resource is looked for.
#[derive(Debug, Clone, Copy)]
pub(in crate::session::union) struct UriQuery<'a> {
    pub uri: &'a str,
    pub form: UriForm,
    /// The servers that may have resources.
    pub able: &'a LinkIds,
    pub known: ListsKnown,
}

impl Servers {
    /// The route of a request about a resource.
    ///
    /// What a server lists is its own, then what its templates can stand for. A mere mention in some other result
    /// counts only for what no server claims, because any server can mention anything.
    pub(in crate::session::union) fn route_uri(&self, directory: &Directory, query: UriQuery<'_>) -> Route {
        let UriQuery { uri, form, able, known } = query;
        if let Some((link, own)) = self.server_named_in(uri) {
            return Route::To(link, own);
        }
        if self.can_name_server(uri) {
            return Route::Unknown;
        }
        let with_template = match form {
            UriForm::Template => Route::among(&directory.servers_with_template(uri), uri),
            UriForm::Uri => None,
        };
        let (listing, mentioning) = directory.listing_and_mentioning(List::Resources, uri);
        if let Some(found) = with_template.or_else(|| Route::among(&listing, uri)) {
            return found;
        }
        let found = Route::among(&directory.servers_matching(uri), uri).or_else(|| Route::among(&mentioning, uri));
        match (found, able.as_slice()) {
            (Some(found), [] | [_]) => found,
            (Some(found), _) if known != ListsKnown::No => found,
            // No other server could have it.
            (None, [only]) => Route::To(*only, uri.to_owned()),
            (None, []) => Route::Unknown,
            (None, _) if known == ListsKnown::JustAsked => Route::Unknown,
            (Some(_) | None, _) => Route::Ask(able.clone(), URI_LISTS),
        }
    }

    /// Whether the filter lets a server's resource through, with what is known of its templates: a URI that only denied
    /// templates stand for is denied with them. A URI that is denied in one spelling is denied in all. `Err` if lists
    /// of the server have to be asked for first.
    pub(in crate::session::union) fn allows_uri(
        &self,
        directory: &Directory,
        link: LinkId,
        own: &str,
        lists_asked: ListsAsked,
        denied: DeniedTemplates,
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
        let full = self.full_name(List::Resources, link, own);
        if directory.is_listed(List::Resources, &full, link) {
            return Ok(true);
        }
        if lists_asked == ListsAsked::NotYet {
            return Err(Route::Ask(smallvec![link], URI_LISTS));
        }
        // A URI that is not absolute may be read as anything, unless the server itself lists it so.
        let is_certain = spellings.absolute && denied == DeniedTemplates::Known;
        Ok(is_certain && !directory.is_denied(link, spellings.all()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Source;
    use super::DeniedTemplates::{Known, Uncertain};
    use super::ListsAsked::{Already, NotYet};
    use super::ListsKnown::{AskedOnce, JustAsked, No};
    use super::*;
    use crate::config::Filter;
    use crate::session::union::ConfiguredServer;

    const A: LinkId = LinkId(0);
    const B: LinkId = LinkId(1);

    fn servers(prefix_uris: bool) -> Servers {
        Servers::new(["a", "a_b"].map(|name| ConfiguredServer::new(name, Filter::new())).into(), true, prefix_uris)
    }

    fn to(link: LinkId, own: &str) -> Route {
        Route::To(link, own.to_owned())
    }

    fn ask(lists: &'static [List]) -> Route {
        Route::Ask(smallvec![A, B], lists)
    }

    fn query<'a>(uri: &'a str, able: &'a LinkIds, known: ListsKnown) -> UriQuery<'a> {
        UriQuery { uri, form: UriForm::Uri, able, known }
    }

    #[test]
    fn a_uri_is_found_in_lists_then_by_templates() {
        let servers = servers(false);
        let both: LinkIds = smallvec![A, B];
        let mut directory = Directory::default();
        let route = |directory: &Directory, uri, asked| {
            servers.route_uri(directory, query(uri, &both, if asked { JustAsked } else { No }))
        };
        assert_eq!(route(&directory, "x://1", false), ask(&[List::Resources, List::Templates]));
        assert_eq!(route(&directory, "x://1", true), Route::Unknown);
        assert_eq!(servers.route_uri(&directory, query("x://1", &smallvec![B], No)), to(B, "x://1"));
        assert_eq!(servers.route_uri(&directory, query("x://1", &smallvec![], No)), Route::Unknown);
        directory.add_template(A, "x://{id}", false);
        assert_eq!(route(&directory, "x://1", false), ask(URI_LISTS), "somebody else may list it");
        assert_eq!(route(&directory, "x://1", true), to(A, "x://1"));
        assert_eq!(servers.route_uri(&directory, query("x://1", &both, AskedOnce)), to(A, "x://1"));
        directory.add(List::Resources, "x://1", B, Source::Listed);
        assert_eq!(route(&directory, "x://1", false), to(B, "x://1"));
        directory.add_template(B, "{+any}", false);
        assert_eq!(route(&directory, "x://2", true), Route::Clash(smallvec![A, B]));
        assert_eq!(
            servers.route_uri(&directory, UriQuery { form: UriForm::Template, ..query("x://{id}", &both, No) }),
            to(A, "x://{id}")
        );
    }

    #[test]
    fn a_mention_takes_nothing_from_anybody() {
        let servers = servers(false);
        let both: LinkIds = smallvec![A, B];
        let mut directory = Directory::default();
        let route = |directory: &Directory, uri, asked| {
            servers.route_uri(directory, query(uri, &both, if asked { JustAsked } else { No }))
        };
        for uri in ["x://listed", "x://of-template/1", "x://free"] {
            directory.add(List::Resources, uri, B, Source::Mentioned);
        }
        assert_eq!(route(&directory, "x://free", false), ask(URI_LISTS));
        directory.add(List::Resources, "x://listed", A, Source::Listed);
        directory.add_template(A, "x://of-template/{id}", false);
        assert_eq!(route(&directory, "x://listed", false), to(A, "x://listed"));
        assert_eq!(route(&directory, "x://of-template/1", true), to(A, "x://of-template/1"));
        assert_eq!(route(&directory, "x://free", true), to(B, "x://free"));
    }

    #[test]
    fn a_prefixed_uri_names_its_server() {
        let servers = servers(true);
        let both: LinkIds = smallvec![A, B];
        let mut directory = Directory::default();
        let route = |directory: &Directory, uri| servers.route_uri(directory, query(uri, &both, JustAsked));
        assert_eq!(route(&directory, "x://a_b/1"), to(B, "x://1"));
        assert_eq!(servers.route_uri(&directory, query("x://other/1", &both, No)), Route::Unknown);
        directory.add(List::Resources, "urn:1", B, Source::Listed);
        assert_eq!(route(&directory, "urn:1"), to(B, "urn:1"), "there is no place for a name in it");
    }

    #[test]
    fn what_only_a_denied_template_stands_for_is_denied() {
        let filter = Filter::new().deny(Offered::Templates, ["x://secret/{id}"]).unwrap();
        let filter = filter.deny(Offered::Resources, ["*.key"]).unwrap();
        let servers = Servers::new(vec![ConfiguredServer::new("a", filter)], true, false);
        let mut directory = Directory::default();
        assert_eq!(servers.allows_uri(&directory, A, "x://a.key", NotYet, Known), Ok(false));
        let lists = Route::Ask(smallvec![A], &[List::Resources, List::Templates]);
        assert_eq!(servers.allows_uri(&directory, A, "x://secret/1", NotYet, Known), Err(lists));
        directory.add_template(A, "x://secret/{id}", true);
        directory.add_template(A, "x://open/{id}", false);
        assert_eq!(servers.allows_uri(&directory, A, "x://secret/1", Already, Known), Ok(false));
        assert_eq!(servers.allows_uri(&directory, A, "x://open/1", Already, Known), Ok(true));
        assert_eq!(servers.allows_uri(&directory, A, "y://1", Already, Known), Ok(true));
        assert_eq!(servers.allows_uri(&directory, A, "y://1", Already, Uncertain), Ok(false), "it cannot be known");
        for uri in ["X://secret/1", "x://secret/a/../1", "x://secret/%31", " x://secret/1", "x://secret/1#a", "x"] {
            assert_eq!(servers.allows_uri(&directory, A, uri, Already, Known), Ok(false), "{uri}");
        }
        directory.add(List::Resources, "x", A, Source::Listed);
        assert_eq!(servers.allows_uri(&directory, A, "x", NotYet, Known), Ok(true), "so it is listed");
        directory.add(List::Resources, "x://secret/1", A, Source::Listed);
        assert_eq!(
            servers.allows_uri(&directory, A, "x://secret/1", Already, Known),
            Ok(true),
            "it is offered by itself"
        );
    }
}
