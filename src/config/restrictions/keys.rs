//! What another program's key means for what is offered, judged by its name alone.
//!
//! Programs spell one key in several ways (`excludeTools`, `exclude_tools`), so only its letters and digits count, without
//! regard to case. A key that sessile does not know is taken for one that restricts if its name says so: an error about a
//! harmless key costs a minute, a restriction that is ignored offers what its author took away.

/// What a key in the entry of a server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OfServer {
    /// `true` takes the server away.
    Disabled,
    /// `false` takes the server away.
    Enabled,
    /// GitHub Copilot's list of the tools to offer, or FastMCP's object of what becomes of each tool.
    Tools,
    /// A list of the tools to offer.
    Keep,
    /// A list of the tools not to offer.
    TakeAway,
    /// FastMCP's tags, by which tools are chosen.
    Tags,
    /// A filter of sessile's own, which is in the wrong place here.
    Misplaced,
    /// It restricts, in a way that is not known.
    Unknown(Sense),
    /// It takes nothing away.
    Harmless,
}

/// Which values of a key that restricts take nothing away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sense {
    /// It names what is taken away: nothing is by `null`, `false` and what is empty.
    Takes,
    /// It names what is left: nothing is taken away by `null` and `true`.
    Leaves,
}

/// What a key beside the servers says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OfFile {
    /// A list of the servers to offer.
    KeepServers,
    /// A list of the servers not to offer.
    TakeServersAway,
    /// Gemini CLI's object for its own tools, or an agent's list of those that it may use.
    Tools,
    /// Claude Code's and Cursor's object of rules for tools.
    Permissions,
    /// It restricts tools, prompts or resources, and not of one server.
    Unknown(Sense),
    /// It takes nothing away.
    Harmless,
}

/// The letters and digits of a key, in lower case.
pub(super) fn plain(key: &str) -> String {
    key.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Gemini CLI and Qwen Code (`includeTools`), Codex and Crush (`enabled_tools`), the APIs of models (`allowed_tools`), goose
/// (`available_tools`).
const KEEP: [&str; 5] = ["includetools", "includedtools", "enabledtools", "allowedtools", "availabletools"];

/// Gemini CLI and Qwen Code (`excludeTools`), Roo Code, Windsurf, Kiro and Amazon Q (`disabledTools`), Codex, Crush and MCP Hub
/// (`disabled_tools`), `LiteLLM` (`disallowed_tools`).
const TAKE_AWAY: [&str; 4] = ["excludetools", "excludedtools", "disabledtools", "disallowedtools"];

/// sessile's own filters.
const OWN: [&str; 12] = [
    "allowtools",
    "allowtool",
    "denytools",
    "denytool",
    "allowresources",
    "allowresource",
    "denyresources",
    "denyresource",
    "allowprompts",
    "allowprompt",
    "denyprompts",
    "denyprompt",
];

/// What a key is about if one of these is in it.
const KINDS: [&str; 6] = ["tool", "prompt", "resource", "template", "tags", "capabilit"];

/// What a key does if one of these is in it.
const TAKING: [&str; 14] = [
    "exclu",
    "disab",
    "disallow",
    "deny",
    "denied",
    "block",
    "filter",
    "hid",
    "suppress",
    "forbid",
    "restrict",
    "blacklist",
    "permission",
    "omit",
];
const LEAVING: [&str; 9] = ["inclu", "enab", "allow", "avail", "only", "whitelist", "permit", "expos", "select"];

/// A key with one of these in it is about questions to the user, and whatever it says, nothing is taken away.
const ASKING: [&str; 4] = ["approv", "confirm", "consent", "trust"];
/// And so is one with one of these, unless it is [`TAKING`].
const GRANTING: [&str; 2] = ["auto", "always"];

/// Keys that restrict although they do not say what.
const BARE_TAKING: [&str; 13] = [
    "deny",
    "denied",
    "denylist",
    "blacklist",
    "block",
    "blocked",
    "blocklist",
    "exclude",
    "excluded",
    "filter",
    "filters",
    "permissions",
    "readonly",
];
const BARE_LEAVING: [&str; 12] = [
    "allow",
    "allowed",
    "allowlist",
    "whitelist",
    "include",
    "included",
    "only",
    "toolset",
    "toolsets",
    "prompts",
    "resources",
    "resourcetemplates",
];

/// What a key in the entry of a server says.
pub(super) fn of_server(key: &str) -> OfServer {
    let plain = plain(key);
    match plain.as_str() {
        "disabled" | "disable" | "isdisabled" => OfServer::Disabled,
        "enabled" | "enable" | "isenabled" | "active" | "isactive" => OfServer::Enabled,
        "tools" => OfServer::Tools,
        "includetags" | "excludetags" => OfServer::Tags,
        name if KEEP.contains(&name) => OfServer::Keep,
        name if TAKE_AWAY.contains(&name) => OfServer::TakeAway,
        name if OWN.contains(&name) => OfServer::Misplaced,
        name if BARE_TAKING.contains(&name) => OfServer::Unknown(Sense::Takes),
        name if BARE_LEAVING.contains(&name) => OfServer::Unknown(Sense::Leaves),
        name => unknown(name, is_about(name)).map_or(OfServer::Harmless, OfServer::Unknown),
    }
}

/// What a key beside the servers says.
pub(super) fn of_file(key: &str) -> OfFile {
    // Settings of an editor: its own tools, and none of a server.
    if key.contains('.') {
        return OfFile::Harmless;
    }
    let plain = plain(key);
    match plain.as_str() {
        // Gemini CLI has the first of each, from before they stood in `mcp`, and Claude Code has the others.
        "allowmcpservers" | "allowedmcpservers" => OfFile::KeepServers,
        "excludemcpservers" | "disabledmcpservers" | "disabledmcpjsonservers" | "deniedmcpservers" => {
            OfFile::TakeServersAway
        }
        "tools" => OfFile::Tools,
        "permissions" => OfFile::Permissions,
        // Of Claude Code, Kiro and Amazon Q: what is used without a question.
        "allowedtools" => OfFile::Harmless,
        name => unknown(name, is_about(name)).map_or(OfFile::Harmless, OfFile::Unknown),
    }
}

/// Whether a plain key names something that servers offer.
pub(super) fn is_about(plain: &str) -> bool {
    has(plain, &KINDS)
}

/// Whether a plain key only says what is done without a question.
pub(super) fn is_granting(plain: &str) -> bool {
    has(plain, &ASKING) || has(plain, &GRANTING) && !has(plain, &TAKING)
}

/// How a plain key restricts, if it is `about` something that servers offer.
pub(super) fn unknown(plain: &str, about: bool) -> Option<Sense> {
    match () {
        () if !about || is_granting(plain) => None,
        () if has(plain, &TAKING) => Some(Sense::Takes),
        () if has(plain, &LEAVING) => Some(Sense::Leaves),
        () => None,
    }
}

fn has(plain: &str, words: &[&str]) -> bool {
    words.iter().any(|word| plain.contains(word))
}
