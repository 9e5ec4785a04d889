//! The servers of a session as they were configured: their names, prefixes and filters.

use std::sync::Arc;

use super::{List, names};
use crate::config::Filter;
use crate::session::link_phase::LinkId;

/// How the servers of a session appear to its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnionMode {
    /// One server, as it is.
    Plain,
    /// One server, with filters.
    Filtered,
    /// Several servers as one.
    Several,
}

/// The servers of which every session has a link to each, in the order of their [`LinkId`]s.
#[derive(Debug)]
pub(crate) struct Servers {
    each: Vec<ConfiguredServer>,
    mode: UnionMode,
    prefix_names: bool,
    prefix_uris: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct ConfiguredServer {
    /// The name as it was configured, for errors and logs.
    pub name: Arc<str>,
    /// The name as a part of the names of tools, prompts and URIs.
    pub prefix: Box<str>,
    pub filter: Filter,
}

impl ConfiguredServer {
    pub(crate) fn new(name: &str, filter: Filter) -> Self {
        Self { name: name.into(), prefix: names::prefix_of(name).into(), filter }
    }
}

impl Servers {
    /// With `prefix_names`, tools and prompts of several servers have the server's name in front; with `prefix_uris`,
    /// URIs have it in them.
    pub(crate) fn new(each: Vec<ConfiguredServer>, prefix_names: bool, prefix_uris: bool) -> Self {
        let mode = match each.as_slice() {
            [one] if one.filter.is_empty() => UnionMode::Plain,
            [_] => UnionMode::Filtered,
            _ => UnionMode::Several,
        };
        let several = mode == UnionMode::Several;
        Self { each, mode, prefix_names: prefix_names && several, prefix_uris: prefix_uris && several }
    }

    pub(crate) fn mode(&self) -> UnionMode {
        self.mode
    }

    pub(crate) fn len(&self) -> usize {
        self.each.len()
    }

    pub(crate) fn has_prefixed_names(&self) -> bool {
        self.prefix_names
    }

    pub(crate) fn has_prefixed_uris(&self) -> bool {
        self.prefix_uris
    }

    pub(crate) fn links(&self) -> impl DoubleEndedIterator<Item = LinkId> + use<> {
        (0..u16::try_from(self.each.len()).unwrap_or(u16::MAX)).map(LinkId)
    }

    pub(crate) fn get(&self, link: LinkId) -> Option<&ConfiguredServer> {
        self.each.get(usize::from(link.0))
    }

    pub(crate) fn name(&self, link: LinkId) -> Arc<str> {
        self.get(link).map_or_else(|| "?".into(), |server| server.name.clone())
    }

    /// The names of these servers, for errors.
    pub(crate) fn names(&self, links: &[LinkId]) -> Vec<Arc<str>> {
        links.iter().map(|link| self.name(*link)).collect()
    }

    /// Whether the filter of that server lets all of that list through.
    pub(crate) fn allows_all(&self, link: LinkId, list: List) -> bool {
        let (Some(server), Some(offered)) = (self.get(link), list.offered()) else { return true };
        server.filter.allows_all(offered)
    }

    /// Whether the filter of that server lets the one of this name through; the name is the server's own.
    pub(crate) fn allows(&self, link: LinkId, list: List, own: &str) -> bool {
        let (Some(server), Some(offered)) = (self.get(link), list.offered()) else { return true };
        server.filter.allows(offered, own)
    }
}
