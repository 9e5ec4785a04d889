//! Keys of other programs that hide servers, or tools of a server.
//!
//! A user who hides a tool from an editor does not expect a proxy that reads the same file to offer it. A key that
//! restricts and is understood is obeyed; a key that seems to restrict and is not understood is an error; a key that
//! only grants, such as `autoApprove`, is ignored. Where several keys restrict, all of them hold, in whatever spelling.

mod keys;

use self::keys::{EntryKey, FileKey, RestrictionKind};
use super::ExactNames;
use super::json::{FileError, Node, ObjectReader};

/// The advice at the end of errors about restrictions that are not understood.
const USE_SESSILE_FILTERS: &str =
    "name what is offered in the `sessile` object of the server (allowTools, denyTools and the like)";

/// Whether an entry disables its server.
pub(super) fn is_server_disabled(entry: &ObjectReader<'_>) -> Result<bool, FileError> {
    let mut away = false;
    for (key, node) in entry.set_entries() {
        away |= match keys::of_server(key) {
            EntryKey::Disabled => node.boolean()?,
            EntryKey::Enabled => !node.boolean()?,
            _ => false,
        };
    }
    Ok(away)
}

/// The tools of its server that an entry offers, by exact names.
pub(super) fn offered_tools(entry: &ObjectReader<'_>) -> Result<ExactNames, FileError> {
    let mut names = ExactNames::default();
    for (key, node) in entry.set_entries() {
        match keys::of_server(key) {
            EntryKey::AllowTools => names.allow_only(tool_names_in(&node)?),
            EntryKey::DenyTools => names.deny(tool_names_in(&node)?),
            EntryKey::Tools => read_tools(&node, &mut names)?,
            EntryKey::Tags if node.is_empty() && keys::normalized(key) == "excludetags" => {}
            EntryKey::Tags => {
                return Err(node.error(format!("filtering by tags is not supported yet: {USE_SESSILE_FILTERS}")));
            }
            EntryKey::MisplacedSetting => {
                return Err(node.error("this is a setting of sessile: put it into the `sessile` object of this server"));
            }
            EntryKey::UnknownRestriction(kind) => refuse_restriction(&node, kind)?,
            EntryKey::Disabled | EntryKey::Enabled => {}
            // The `sessile` object refuses unknown keys by itself.
            EntryKey::Harmless if key == "sessile" => {}
            EntryKey::Harmless => refuse_nested_restrictions(Some(key), &node, false)?,
        }
    }
    Ok(names)
}

/// Fails on a restriction anywhere in the value of an unknown key. `about` is whether a key around it names something
/// that servers offer.
fn refuse_nested_restrictions(key: Option<&str>, node: &Node<'_>, about: bool) -> Result<(), FileError> {
    let plain = key.map(keys::normalized).unwrap_or_default();
    // The keys in here are names of environment variables and headers, not settings.
    if ["env", "headers"].contains(&plain.as_str()) {
        return Ok(());
    }
    let about = about || keys::names_what_is_offered(&plain);
    if let Some(kind) = keys::restriction_kind(&plain, about) {
        return refuse_restriction(node, kind);
    }
    if keys::only_grants(&plain) {
        return Ok(());
    }
    node.inner().iter().try_for_each(|(key, node)| refuse_nested_restrictions(*key, node, about))
}

/// Fails if the value of a restricting key restricts anything.
fn refuse_restriction(node: &Node<'_>, kind: RestrictionKind) -> Result<(), FileError> {
    if restricts_nothing(node, kind) { Ok(()) } else { Err(unknown_restriction(node)) }
}

fn unknown_restriction(node: &Node<'_>) -> FileError {
    node.error(format!(
        "this key seems to restrict what is offered, in a way that sessile does not know: {USE_SESSILE_FILTERS}"
    ))
}

fn restricts_nothing(node: &Node<'_>, kind: RestrictionKind) -> bool {
    match kind {
        RestrictionKind::Denies => node.is_empty() || node.is(false),
        RestrictionKind::Allows => node.is_null() || node.is(true),
    }
}

/// Reads `tools`: a list of the tools to offer, with `*` for all (GitHub Copilot), or an object with settings for each
/// tool (FastMCP).
fn read_tools(node: &Node<'_>, names: &mut ExactNames) -> Result<(), FileError> {
    if node.is_array() {
        let (all, some): (Vec<_>, Vec<_>) = node.list()?.into_iter().partition(|node| node.literal() == Some("*"));
        let some = some.iter().map(tool_name).collect::<Result<Vec<_>, _>>()?;
        if all.is_empty() {
            names.allow_only(some);
        }
        return Ok(());
    }
    for (name, node) in node.object_or("a list of the tools to offer, or an object of tools")?.entries() {
        check_name(name).map_err(|error| node.error(format!("expected the name of a tool: {error}")))?;
        if is_hidden(&node)? {
            names.deny([name.to_owned()]);
        }
    }
    Ok(())
}

/// Whether FastMCP's object for a tool hides the tool. Any other setting is an error: a tool that the file renames, or
/// one argument of which it hides, would be offered unchanged.
fn is_hidden(tool: &Node<'_>) -> Result<bool, FileError> {
    let mut hidden = false;
    for (key, node) in tool.object_or("an object with enabled")?.entries() {
        match keys::of_server(key) {
            EntryKey::Disabled => hidden |= node.boolean()?,
            EntryKey::Enabled => hidden |= !node.boolean()?,
            _ if node.is_empty() || keys::only_grants(&keys::normalized(key)) => {}
            _ => {
                return Err(
                    node.error("rewriting tools is not supported yet: leave this key out, or hide the whole tool")
                );
            }
        }
    }
    Ok(hidden)
}

/// A list of tools, by the server's own names.
fn tool_names_in(node: &Node<'_>) -> Result<Vec<String>, FileError> {
    node.list()?.iter().map(tool_name).collect()
}

fn tool_name(node: &Node<'_>) -> Result<String, FileError> {
    node.parsed("the name of a tool", |name| check_name(name).map(|()| name.to_owned()))
}

/// Whether this can be nothing but a name. What is a pattern or an expression to the program that wrote it, such as
/// `git_*` or Gemini CLI's `run(ls)`, would match no tool here, and a list of what to take away would take away
/// nothing.
fn check_name(name: &str) -> Result<(), String> {
    let fits = |letter: char| letter.is_alphanumeric() || " _-./:".contains(letter);
    match name {
        "" => Err("it is empty".to_owned()),
        name if name.trim() != name => Err("there is white space around it".to_owned()),
        // Agents put the server's name in front of a tool in this way.
        name if name.starts_with("mcp__") => {
            Err("it begins with the name of a server: write the server's own name of the tool".to_owned())
        }
        name if name.chars().all(fits) => Ok(()),
        _ => Err(
            "names are compared as they are here: write patterns in the `sessile` object of the server (allowTools, \
                  denyTools)"
                .to_owned(),
        ),
    }
}

/// The servers that a file leaves of those that are in it, by [`server_name`]. Fails on what restricts tools beside the
/// servers: those who read such keys have names for tools of all servers, which are not known here.
pub(super) fn offered_servers(root: &ObjectReader<'_>) -> Result<ExactNames, FileError> {
    let mut names = ExactNames::default();
    for (key, node) in root.set_entries() {
        match keys::of_file(key) {
            FileKey::AllowServers => names.allow_only(server_names_in(&node)?),
            FileKey::DenyServers => names.deny(server_names_in(&node)?),
            FileKey::Tools => check_tools_of_file(&node)?,
            FileKey::Permissions => check_permissions(&node)?,
            FileKey::UnknownRestriction(kind) => refuse_restriction(&node, kind)?,
            // Gemini CLI's.
            FileKey::Harmless if key == "mcp" => {
                for (key, node) in node.object()?.set_entries() {
                    match keys::normalized(key).as_str() {
                        "allowed" => names.allow_only(server_names_in(&node)?),
                        "excluded" => names.deny(server_names_in(&node)?),
                        _ => {}
                    }
                }
            }
            FileKey::Harmless => {}
        }
    }
    Ok(names)
}

/// The name of a server in the form in which Gemini CLI compares names.
pub(super) fn server_name(name: &str) -> String {
    name.trim().to_lowercase()
}

fn server_names_in(node: &Node<'_>) -> Result<Vec<String>, FileError> {
    let name = |name: &str| Ok(server_name(name));
    node.list()?.iter().map(|node| node.parsed("the name of a server", name)).collect()
}

/// Switches of Gemini CLI's own tools, which are `false` without taking away anything of a server.
const GEMINI_SWITCHES: [&str; 9] = [
    "autoaccept",
    "disablellmcorrection",
    "enablehooks",
    "enablemessagebusintegration",
    "enabletooloutputtruncation",
    "sandbox",
    "sandboxnetworkaccess",
    "usepty",
    "useripgrep",
];

fn check_tools_of_file(node: &Node<'_>) -> Result<(), FileError> {
    // An agent's list of what it may use, of all servers and of its own.
    if node.is_array() && !node.list()?.iter().any(|node| node.literal() == Some("*")) {
        return refuse_restriction(node, RestrictionKind::Allows);
    }
    if node.is_array() {
        return Ok(());
    }
    for (key, node) in node.inner() {
        let key = keys::normalized(key.unwrap_or_default());
        let restricts = match key.as_str() {
            "exclude" => !restricts_nothing(&node, RestrictionKind::Denies),
            key if node.is(false) => !GEMINI_SWITCHES.contains(&key),
            _ => {
                let inner = node.inner();
                inner.iter().any(|(key, node)| match key.map(keys::of_server) {
                    Some(EntryKey::Disabled) => !node.is(false),
                    Some(EntryKey::Enabled) => !node.is(true),
                    _ => matches!(*key, Some("name" | "arguments")),
                })
            }
        };
        if restricts {
            return Err(unknown_restriction(&node));
        }
    }
    Ok(())
}

/// Fails on rules that deny what is a tool of a server: `mcp__git__push` (Claude Code) or `Mcp(git:push)` (Cursor).
fn check_permissions(node: &Node<'_>) -> Result<(), FileError> {
    for (key, node) in node.inner() {
        if key.map(keys::normalized).as_deref() != Some("deny") {
            continue;
        }
        for (_, rule) in node.inner() {
            if rule.literal().is_some_and(|rule| rule.trim().to_ascii_lowercase().starts_with("mcp")) {
                return Err(unknown_restriction(&rule));
            }
        }
    }
    Ok(())
}
