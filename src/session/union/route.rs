//! Which server a request is for, by the name that it is about.

use super::directory::Directory;
use super::queue::ListsAsked;
use super::{List, Servers};
use crate::session::link_phase::{LinkId, LinkIds};

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// To this server, which knows the subject under this name.
    To(LinkId, String),
    /// To a server that only these lists of these servers can tell.
    Ask(LinkIds, &'static [List]),
    /// Several servers have it.
    Clash(LinkIds),
    Unknown,
}

impl Route {
    /// To the server that has it under the very name that the client uses; `None` if there is none.
    pub(super) fn among(links: &LinkIds, name: &str) -> Option<Self> {
        match links.as_slice() {
            [] => None,
            [one] => Some(Self::To(*one, name.to_owned())),
            _ => Some(Self::Clash(links.clone())),
        }
    }

    /// The route of a request about a task. `able` are the servers that may have tasks.
    pub(super) fn of_task(directory: &Directory, id: &str, able: &LinkIds, lists_asked: ListsAsked) -> Self {
        match Self::among(&directory.servers_with(List::Tasks, id), id) {
            Some(found) => found,
            None if lists_asked == ListsAsked::Already || able.is_empty() => Self::Unknown,
            None => Self::Ask(able.clone(), &[List::Tasks]),
        }
    }
}

impl Servers {
    /// The route of a request about a tool or a prompt.
    pub(super) fn route_name(&self, directory: &Directory, list: List, full: &str, lists_asked: ListsAsked) -> Route {
        let candidates = self.candidates(full);
        let lists: &'static [List] = if list == List::Tools { &[List::Tools] } else { &[List::Prompts] };
        let links = || candidates.iter().map(|(link, _)| *link).collect::<LinkIds>();
        if !self.has_prefixed_names() {
            let found = Route::among(&directory.servers_with(list, full), full);
            return found.unwrap_or_else(|| match lists_asked {
                ListsAsked::NotYet => Route::Ask(links(), lists),
                ListsAsked::Already => Route::Unknown,
            });
        }
        let to = |(link, own): (LinkId, &str)| Route::To(link, own.to_owned());
        match candidates.as_slice() {
            [] => Route::Unknown,
            [one] => to(*one),
            _ if lists_asked == ListsAsked::NotYet => Route::Ask(links(), lists),
            [longest, ..] => {
                let listed: Vec<_> =
                    candidates.iter().copied().filter(|(link, _)| directory.is_listed(list, full, *link)).collect();
                match listed.as_slice() {
                    [] => to(*longest),
                    [one] => to(*one),
                    several => Route::Clash(several.iter().map(|(link, _)| *link).collect()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::ListsAsked::{Already, NotYet};
    use super::*;
    use crate::config::Filter;
    use crate::session::union::ConfiguredServer;
    use crate::session::union::directory::Source;

    const A: LinkId = LinkId(0);
    const B: LinkId = LinkId(1);

    fn servers(prefix_names: bool) -> Servers {
        Servers::new(["a", "a_b"].map(|name| ConfiguredServer::new(name, Filter::new())).into(), prefix_names, false)
    }

    fn to(link: LinkId, own: &str) -> Route {
        Route::To(link, own.to_owned())
    }

    fn ask(lists: &'static [List]) -> Route {
        Route::Ask(smallvec![A, B], lists)
    }

    #[test]
    fn a_prefixed_name_needs_no_list_unless_it_fits_two() {
        let servers = servers(true);
        let mut directory = Directory::default();
        let route = |directory: &Directory, name, asked| servers.route_name(directory, List::Tools, name, asked);
        assert_eq!(route(&directory, "a_x", NotYet), to(A, "x"));
        assert_eq!(route(&directory, "c_x", NotYet), Route::Unknown);
        assert_eq!(route(&directory, "a_b_c", NotYet), Route::Ask(smallvec![B, A], &[List::Tools]));
        assert_eq!(route(&directory, "a_b_c", Already), to(B, "c"), "the longest name, where no list tells");
        directory.add(List::Tools, "a_b_c", A, Source::Listed);
        assert_eq!(route(&directory, "a_b_c", Already), to(A, "b_c"));
        directory.add(List::Tools, "a_b_c", B, Source::Listed);
        assert_eq!(route(&directory, "a_b_c", Already), Route::Clash(smallvec![B, A]));
    }

    #[test]
    fn a_plain_name_is_found_in_lists() {
        let servers = servers(false);
        let mut directory = Directory::default();
        let route = |directory: &Directory, asked| servers.route_name(directory, List::Prompts, "x", asked);
        assert_eq!(route(&directory, NotYet), ask(&[List::Prompts]));
        assert_eq!(route(&directory, Already), Route::Unknown);
        directory.add(List::Prompts, "x", B, Source::Listed);
        assert_eq!(route(&directory, NotYet), to(B, "x"));
        directory.add(List::Prompts, "x", A, Source::Listed);
        assert_eq!(route(&directory, NotYet), Route::Clash(smallvec![B, A]));
    }

    #[test]
    fn a_task_is_its_servers() {
        let both: LinkIds = smallvec![A, B];
        let mut directory = Directory::default();
        assert_eq!(Route::of_task(&directory, "t", &both, NotYet), ask(&[List::Tasks]));
        assert_eq!(Route::of_task(&directory, "t", &both, Already), Route::Unknown);
        directory.add(List::Tasks, "t", A, Source::Mentioned);
        assert_eq!(Route::of_task(&directory, "t", &both, NotYet), to(A, "t"));
        directory.add(List::Tasks, "t", B, Source::Mentioned);
        assert_eq!(Route::of_task(&directory, "t", &both, NotYet), Route::Clash(smallvec![A, B]));
    }
}
