//! MCPConfig files: the servers that Claude Desktop, Cursor, VS Code and FastMCP keep, with sessile's own settings
//! beside them.
//!
//! ```json
//! {
//!   "mcpServers": {
//!     "git": { "command": "uvx", "args": ["mcp-server-git"] },
//!     "docs": { "url": "https://example.com/mcp", "headers": { "Authorization": "Bearer ${DOCS_TOKEN}" } }
//!   },
//!   "sessile": { "idleTimeout": "10m" }
//! }
//! ```

use std::io;
use std::path::Path;

use super::environment::{Environment, ProcessEnvironment};
use super::json::{Document, FileError, Node, ObjectReader};
use super::restrictions;
use super::server::ServerSpec;
use super::settings::Settings;

/// The contents of an MCPConfig file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// The servers in the order of the file, without those that it disables. There is at least one.
    pub servers: Vec<ServerSpec>,
    /// The settings in the file's `sessile` object.
    pub settings: Settings,
}

impl ConfigFile {
    /// Reads a file, with this process's environment for its variables.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let text = ProcessEnvironment.file(path).map_err(|error| FileError {
            file: name.clone(),
            position: None,
            key: String::new(),
            reason: match error.kind() {
                io::ErrorKind::NotFound => "there is no such file".to_owned(),
                io::ErrorKind::InvalidData => "it is not UTF-8: save it as UTF-8".to_owned(),
                _ => format!("it cannot be read: {error}"),
            },
        })?;
        Self::parse(&text, &name, &ProcessEnvironment)
    }

    /// Parses the text of a file; errors call the file `name`.
    pub fn parse(text: &str, name: &str, environment: &dyn Environment) -> Result<Self, FileError> {
        let lookup = |variable: &str| environment.variable(variable);
        let document = Document::new(name, text.strip_prefix('\u{feff}').unwrap_or(text), &lookup);
        let value = document.parse()?;
        let empty = || document.error(0, "", "the file is empty: expected an object with mcpServers");
        let root = Node::root(&document, value.as_ref().ok_or_else(empty)?);
        let root = root.object_or("an object with mcpServers")?;
        let settings = root.get("sessile").map(|node| Settings::read(&node)).transpose()?.unwrap_or_default();
        let offered = restrictions::offered_servers(&root)?;
        let node = find_servers(&root)?;
        let entries = node.object_or("an object with a server for each name")?;
        let mut servers: Vec<ServerSpec> = Vec::new();
        let mut disabled = 0;
        for (name, node) in entries.entries() {
            if !offered.allows(&restrictions::server_name(name)) {
                disabled += 1;
                continue;
            }
            match ServerSpec::read(name, &node, &document, environment)? {
                Some(server) => {
                    if let Some(other) = servers.iter().find(|other| other.prefix() == server.prefix()) {
                        let (other, prefix) = (&other.name, server.prefix());
                        return Err(node.error(format!(
                            "the tools of `{other}` and `{name}` would both begin with {prefix}_: rename one of them"
                        )));
                    }
                    servers.push(server);
                }
                None => disabled += 1,
            }
        }
        match (servers.len(), disabled) {
            (0, 0) => Err(node.error("expected a server at least, and there is none")),
            (0, _) => Err(node.error("expected a server at least, and all of them are disabled")),
            _ => Ok(Self { servers, settings }),
        }
    }
}

/// The object of servers: `mcpServers`, or VS Code's `servers`, which its `settings.json` has in `mcp`.
fn find_servers<'n>(root: &ObjectReader<'n>) -> Result<Node<'n>, FileError> {
    let nested = match root.get("mcp") {
        Some(node) => node.object()?.get("servers"),
        None => None,
    };
    let mut found: Vec<_> = [root.get("mcpServers"), root.get("servers"), nested].into_iter().flatten().collect();
    // Editors leave empty objects behind, which must not count as a second object of servers.
    let is_empty = |node: &Node<'_>| node.object().is_ok_and(|object| object.entries().next().is_none());
    if let Some(full) = found.iter().position(|node| !is_empty(node)) {
        let full = found.remove(full);
        found.retain(|node| !is_empty(node));
        found.insert(0, full);
    } else {
        found.truncate(1);
    }
    match found.as_slice() {
        [node] => Ok(node.clone()),
        [] => {
            Err(root.error("expected mcpServers (or VS Code's servers) in it, an object with a server for each name"))
        }
        [.., second] => Err(second.error("there are other servers in this file already: keep them in one object")),
    }
}
