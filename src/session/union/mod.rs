//! Several servers as one: names, tables, lists and what else has to be reckoned out when a session has more than one
//! server, or one whose offers are filtered. Pure, and without any state of its own but the [`Table`]; the machine that
//! uses it is `session/state`.

mod cursor;
mod links;
mod listing;
mod names;
mod request;
mod route;
mod table;
mod template;
mod templates;
mod welcome;

use std::sync::Arc;

use smallvec::SmallVec;

use crate::config::{Filter, Offered};

pub(crate) use cursor::Cursor;
pub(crate) use links::{Shape, named_in_result, task_told};
pub(crate) use listing::{Merge, Page, filtered};
pub(crate) use request::{Request, read, uri_told};
pub(crate) use route::Route;
pub(crate) use table::{Table, Told};
pub(crate) use welcome::{Abilities, Welcome, version_of};

/// Which of a session's servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LinkId(pub u16);

/// A few servers.
pub(crate) type LinkIds = SmallVec<[LinkId; 4]>;

/// What a server can be asked to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum List {
    Tools,
    Prompts,
    Resources,
    Templates,
    Tasks,
}

impl List {
    pub(crate) const ALL: [Self; 5] = [Self::Tools, Self::Prompts, Self::Resources, Self::Templates, Self::Tasks];

    pub(crate) fn of_method(method: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|list| list.method() == method)
    }

    pub(crate) fn method(self) -> &'static str {
        match self {
            Self::Tools => "tools/list",
            Self::Prompts => "prompts/list",
            Self::Resources => "resources/list",
            Self::Templates => "resources/templates/list",
            Self::Tasks => "tasks/list",
        }
    }

    /// The member of the result that holds the entries.
    pub(crate) fn member(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
            Self::Tasks => "tasks",
        }
    }

    /// The member of an entry that it is known by.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Tools | Self::Prompts => "name",
            Self::Resources => "uri",
            Self::Templates => "uriTemplate",
            Self::Tasks => "taskId",
        }
    }

    /// What one of its entries is called.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Tools => "tool",
            Self::Prompts => "prompt",
            Self::Resources => "resource",
            Self::Templates => "resource template",
            Self::Tasks => "task",
        }
    }

    /// What a filter calls it; tasks are not filtered.
    pub(crate) fn offered(self) -> Option<Offered> {
        match self {
            Self::Tools => Some(Offered::Tools),
            Self::Prompts => Some(Offered::Prompts),
            Self::Resources => Some(Offered::Resources),
            Self::Templates => Some(Offered::Templates),
            Self::Tasks => None,
        }
    }
}

/// How the servers of a session appear to its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// One server, as it is.
    Plain,
    /// One server, with filters.
    Filtered,
    /// Several servers as one.
    Many,
}

/// The servers of which every session has a link to each, in the order of their [`LinkId`]s.
#[derive(Debug)]
pub(crate) struct Servers {
    each: Vec<Server>,
    mode: Mode,
    prefix: bool,
    prefix_uris: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// Its name as it was configured, for errors and logs.
    pub name: Arc<str>,
    /// Its name as a part of others.
    pub prefix: Box<str>,
    pub filter: Filter,
}

impl Server {
    pub(crate) fn new(name: &str, filter: Filter) -> Self {
        Self { name: name.into(), prefix: names::prefix_of(name).into(), filter }
    }
}

impl Servers {
    /// With `prefix`, tools and prompts of several servers have the server's name in front; with `prefix_uris`, URIs have
    /// it in them.
    pub(crate) fn new(each: Vec<Server>, prefix: bool, prefix_uris: bool) -> Self {
        let mode = match each.as_slice() {
            [one] if one.filter.is_empty() => Mode::Plain,
            [_] => Mode::Filtered,
            _ => Mode::Many,
        };
        let many = mode == Mode::Many;
        Self { each, mode, prefix: prefix && many, prefix_uris: prefix_uris && many }
    }

    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    pub(crate) fn len(&self) -> usize {
        self.each.len()
    }

    pub(crate) fn has_prefixed_names(&self) -> bool {
        self.prefix
    }

    pub(crate) fn has_prefixed_uris(&self) -> bool {
        self.prefix_uris
    }

    pub(crate) fn links(&self) -> impl DoubleEndedIterator<Item = LinkId> + use<> {
        (0..u16::try_from(self.each.len()).unwrap_or(u16::MAX)).map(LinkId)
    }

    pub(crate) fn get(&self, link: LinkId) -> Option<&Server> {
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
