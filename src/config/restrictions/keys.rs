//! What another program's key means for what is offered, judged by its name alone.
//!
//! Programs spell one key in several ways (`excludeTools`, `exclude_tools`), so only its letters and digits count, without
//! regard to case. A key that sessile does not know is taken for one that restricts if its name says so: an error about a
//! harmless key costs a minute, a restriction that is ignored offers what its author took away.

/// What a key in the entry of a server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryKey {
    /// `true` takes the server away.
    Disabled,
    /// `false` takes the server away.
    Enabled,
    /// GitHub Copilot's list of the tools to offer, or FastMCP's object of what becomes of each tool.
    Tools,
    /// A list of the tools to offer.
    AllowTools,
    /// A list of the tools not to offer.
    DenyTools,
    /// FastMCP's tags, by which tools are chosen.
    Tags,
    /// A filter of sessile's own, which is in the wrong place here.
    MisplacedSetting,
    /// It restricts, in a way that is not known.
    UnknownRestriction(RestrictionKind),
    /// It takes nothing away.
    Harmless,
}

/// Which values of a key that restricts take nothing away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RestrictionKind {
    /// It names what is taken away: nothing is by `null`, `false` and what is empty.
    Denies,
    /// It names what is left: nothing is taken away by `null` and `true`.
    Allows,
}

/// What a key beside the servers says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKey {
    /// A list of the servers to offer.
    AllowServers,
    /// A list of the servers not to offer.
    DenyServers,
    /// Gemini CLI's object for its own tools, or an agent's list of those that it may use.
    Tools,
    /// Claude Code's and Cursor's object of rules for tools.
    Permissions,
    /// It restricts tools, prompts or resources, and not of one server.
    UnknownRestriction(RestrictionKind),
    /// It takes nothing away.
    Harmless,
}

/// The letters and digits of a key, in lower case.
pub(super) fn plain(key: &str) -> String {
    key.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Gemini CLI and Qwen Code (`includeTools`), Codex and Crush (`enabled_tools`), the APIs of models (`allowed_tools`), goose
/// (`available_tools`).
const ALLOW_LIST_KEYS: [&str; 5] = ["includetools", "includedtools", "enabledtools", "allowedtools", "availabletools"];

/// Gemini CLI and Qwen Code (`excludeTools`), Roo Code, Windsurf, Kiro and Amazon Q (`disabledTools`), Codex, Crush and MCP Hub
/// (`disabled_tools`), `LiteLLM` (`disallowed_tools`).
const DENY_LIST_KEYS: [&str; 4] = ["excludetools", "excludedtools", "disabledtools", "disallowedtools"];

/// sessile's own filters.
const SESSILE_FILTER_KEYS: [&str; 12] = [
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
const OFFERED_WORDS: [&str; 6] = ["tool", "prompt", "resource", "template", "tags", "capabilit"];

/// What a key does if one of these is in it.
const DENYING_WORDS: [&str; 14] = [
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
const ALLOWING_WORDS: [&str; 9] = ["inclu", "enab", "allow", "avail", "only", "whitelist", "permit", "expos", "select"];

/// A key with one of these in it is about questions to the user, and whatever it says, nothing is taken away.
const APPROVAL_WORDS: [&str; 4] = ["approv", "confirm", "consent", "trust"];
/// And so is one with one of these, unless it is [`DENYING_WORDS`].
const UNATTENDED_WORDS: [&str; 2] = ["auto", "always"];

/// Keys that restrict although they do not say what.
const DENYING_KEYS: [&str; 13] = [
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
const ALLOWING_KEYS: [&str; 12] = [
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
pub(super) fn of_server(key: &str) -> EntryKey {
    let plain = plain(key);
    match plain.as_str() {
        "disabled" | "disable" | "isdisabled" => EntryKey::Disabled,
        "enabled" | "enable" | "isenabled" | "active" | "isactive" => EntryKey::Enabled,
        "tools" => EntryKey::Tools,
        "includetags" | "excludetags" => EntryKey::Tags,
        name if ALLOW_LIST_KEYS.contains(&name) => EntryKey::AllowTools,
        name if DENY_LIST_KEYS.contains(&name) => EntryKey::DenyTools,
        name if SESSILE_FILTER_KEYS.contains(&name) => EntryKey::MisplacedSetting,
        name if DENYING_KEYS.contains(&name) => EntryKey::UnknownRestriction(RestrictionKind::Denies),
        name if ALLOWING_KEYS.contains(&name) => EntryKey::UnknownRestriction(RestrictionKind::Allows),
        name => {
            restriction_kind(name, names_what_is_offered(name)).map_or(EntryKey::Harmless, EntryKey::UnknownRestriction)
        }
    }
}

/// What a key beside the servers says.
pub(super) fn of_file(key: &str) -> FileKey {
    // Settings of an editor: its own tools, and none of a server.
    if key.contains('.') {
        return FileKey::Harmless;
    }
    let plain = plain(key);
    match plain.as_str() {
        // Gemini CLI has the first of each, from before they stood in `mcp`, and Claude Code has the others.
        "allowmcpservers" | "allowedmcpservers" => FileKey::AllowServers,
        "excludemcpservers" | "disabledmcpservers" | "disabledmcpjsonservers" | "deniedmcpservers" => {
            FileKey::DenyServers
        }
        "tools" => FileKey::Tools,
        "permissions" => FileKey::Permissions,
        // Of Claude Code, Kiro and Amazon Q: what is used without a question.
        "allowedtools" => FileKey::Harmless,
        name => {
            restriction_kind(name, names_what_is_offered(name)).map_or(FileKey::Harmless, FileKey::UnknownRestriction)
        }
    }
}

/// Whether a plain key names something that servers offer.
pub(super) fn names_what_is_offered(plain: &str) -> bool {
    has(plain, &OFFERED_WORDS)
}

/// Whether a plain key only says what is done without a question.
pub(super) fn only_grants(plain: &str) -> bool {
    has(plain, &APPROVAL_WORDS) || has(plain, &UNATTENDED_WORDS) && !has(plain, &DENYING_WORDS)
}

/// How a plain key restricts, if it is `about` something that servers offer.
pub(super) fn restriction_kind(plain: &str, about: bool) -> Option<RestrictionKind> {
    match () {
        () if !about || only_grants(plain) => None,
        () if has(plain, &DENYING_WORDS) => Some(RestrictionKind::Denies),
        () if has(plain, &ALLOWING_WORDS) => Some(RestrictionKind::Allows),
        () => None,
    }
}

fn has(plain: &str, words: &[&str]) -> bool {
    words.iter().any(|word| plain.contains(word))
}
