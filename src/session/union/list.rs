//! What a server can be asked to list.

use crate::config::Offered;
use crate::mcp;
use crate::session::link_phase::ServerCapabilities;

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
            Self::Tools => mcp::TOOLS_LIST,
            Self::Prompts => mcp::PROMPTS_LIST,
            Self::Resources => mcp::RESOURCES_LIST,
            Self::Templates => mcp::RESOURCE_TEMPLATES_LIST,
            Self::Tasks => mcp::TASKS_LIST,
        }
    }

    /// The notification that this list has changed, if there is one.
    pub(crate) fn changed_method(self) -> Option<&'static str> {
        match self {
            Self::Tools => Some(mcp::TOOLS_LIST_CHANGED),
            Self::Prompts => Some(mcp::PROMPTS_LIST_CHANGED),
            Self::Resources | Self::Templates => Some(mcp::RESOURCES_LIST_CHANGED),
            Self::Tasks => None,
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

    /// The member of an entry that the entry is known by.
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

    /// Whether a server with these capabilities has such a list.
    pub(crate) fn is_offered(self, by: ServerCapabilities) -> bool {
        match self {
            Self::Tools => by.tools,
            Self::Prompts => by.prompts,
            Self::Resources | Self::Templates => by.resources,
            Self::Tasks => by.tasks,
        }
    }

    /// Whether a server with these capabilities notifies its clients when the list has changed.
    pub(crate) fn changes_are_announced(self, by: ServerCapabilities) -> bool {
        match self {
            Self::Tools => by.tools_list_changed,
            Self::Prompts => by.prompts_list_changed,
            Self::Resources | Self::Templates => by.resources_list_changed,
            Self::Tasks => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_the_lists_of_its_capabilities() {
        let capabilities = ServerCapabilities {
            tools: true,
            tools_list_changed: true,
            resources: true,
            tasks: true,
            ..Default::default()
        };
        let lists: Vec<_> = List::ALL.into_iter().filter(|list| list.is_offered(capabilities)).collect();
        assert_eq!(lists, [List::Tools, List::Resources, List::Templates, List::Tasks]);
        assert!(
            List::Tools.changes_are_announced(capabilities) && !List::Resources.changes_are_announced(capabilities)
        );
    }
}
