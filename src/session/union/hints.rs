//! What a client is told about a name that no server has, or that several have.

use super::{List, ListKnowledge, Union, UnionContext};
use crate::error::ProxyError;
use crate::session::link_phase::LinkIds;

/// No server has one of this name.
pub(super) fn unknown(list: List, name: &str, hint: Option<String>) -> ProxyError {
    ProxyError::Unknown { noun: list.noun(), name: name.to_owned(), hint }
}

impl Union {
    /// Several servers have one of this name.
    pub(super) fn clash(&self, list: List, name: &str, links: &LinkIds) -> ProxyError {
        // In the order of the configuration, not in that of their answers.
        let mut links = links.clone();
        links.sort_unstable();
        let remedy = match list {
            List::Tools | List::Prompts if self.servers.has_prefixed_names() => {
                "rename one of the servers, or filter one of the two"
            }
            List::Tools | List::Prompts => {
                "let names have their server's name in front (without the setting `no_prefix`), or filter one"
            }
            List::Resources | List::Templates if self.servers.has_prefixed_uris() => {
                "URIs of this kind have no place for their server's name: filter one of the two"
            }
            List::Resources | List::Templates => {
                "let URIs have their server's name in them (the setting `prefix_uris`), or filter one"
            }
            List::Tasks => "it cannot be told which of them is meant",
        };
        ProxyError::Clash { noun: list.noun(), name: name.to_owned(), servers: self.servers.names(&links), remedy }
    }

    /// What to do about a name that no server has.
    pub(super) fn hint(&self, list: List, name: &str, context: &UnionContext<'_>) -> Option<String> {
        let quoted = |link| format!("`{}`", self.servers.name(link));
        let is_unasked =
            |link| self.knowledge(link, list) == ListKnowledge::Failed || !context.links.get(link).is_ready();
        let unasked: Vec<_> = self.servers.links().filter(|link| is_unasked(*link)).map(quoted).collect();
        let names_its_server = self.servers.has_prefixed_names() && matches!(list, List::Tools | List::Prompts);
        if !unasked.is_empty() && !names_its_server {
            return Some(format!("{} could not be asked for it", unasked.join(" and ")));
        }
        let is_truncated = |link| {
            self.directory.is_truncated(list, link)
                || list == List::Resources && self.directory.is_truncated(List::Templates, link)
        };
        let truncated: Vec<_> = self.servers.links().filter(|link| is_truncated(*link)).map(quoted).collect();
        match list {
            List::Resources if self.servers.can_name_server(name) => {
                Some("name its server in it, as resources/list does: scheme://server/rest".into())
            }
            _ if !truncated.is_empty() && !names_its_server => Some(format!(
                "{} have more than can be known here: filter what is not needed",
                truncated.join(" and ")
            )),
            List::Resources if self.servers.has_prefixed_uris() => Some("no server of this session lists it".into()),
            List::Resources => Some(
                "no server of this session lists it, or has a template for it; with the setting `prefix_uris` a URI names its server"
                    .into(),
            ),
            List::Tools | List::Prompts if names_its_server => {
                Some("names begin with their server's name, as in server_name".into())
            }
            List::Tools | List::Prompts | List::Templates | List::Tasks => None,
        }
    }
}
