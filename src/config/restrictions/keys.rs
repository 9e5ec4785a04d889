//! Whether a key of another program restricts what is offered, judged by the key's name.
//!
//! Programs spell one key in several ways (`excludeTools`, `exclude_tools`), so only its letters and digits count,
//! without regard to case. A key that sessile does not know counts as a restriction if its name sounds like one: an
//! error about a harmless key costs its user a minute, while a restriction that is ignored offers tools that its author
//! has hidden.

/// The meaning of a key in the entry of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryKey {
    /// `true` disables the server.
    Disabled,
    /// `false` disables the server.
    Enabled,
    /// GitHub Copilot's list of the tools to offer, or FastMCP's object with settings for each tool.
    Tools,
    /// A list of the tools to offer.
    AllowTools,
    /// A list of the tools not to offer.
    DenyTools,
    /// FastMCP's tags, by which tools are chosen.
    Tags,
    /// A filter of sessile's own, which belongs into the `sessile` object.
    MisplacedSetting,
    /// A key that seems to restrict what is offered, in a way that sessile does not know.
    UnknownRestriction(RestrictionKind),
    /// A key that restricts nothing.
    Harmless,
}

/// Which values of a restricting key restrict nothing after all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RestrictionKind {
    /// The key names what is hidden: `null`, `false` and empty values hide nothing.
    Denies,
    /// The key names what is left: `null` and `true` leave everything.
    Allows,
}

/// The meaning of a key beside the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKey {
    /// A list of the servers to offer.
    AllowServers,
    /// A list of the servers not to offer.
    DenyServers,
    /// Gemini CLI's object for its own tools, or an agent's list of the tools that it may use.
    Tools,
    /// Claude Code's and Cursor's object of rules for tools.
    Permissions,
    /// A key that seems to restrict tools, prompts or resources of all servers.
    UnknownRestriction(RestrictionKind),
    /// A key that restricts nothing.
    Harmless,
}

/// The letters and digits of a key, in lower case.
pub(super) fn normalized(key: &str) -> String {
    key.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Keys with a list of the tools to offer: of Gemini CLI and Qwen Code (`includeTools`), Codex and Crush
/// (`enabled_tools`), the APIs of models (`allowed_tools`), goose (`available_tools`).
const ALLOW_LIST_KEYS: [&str; 5] = ["includetools", "includedtools", "enabledtools", "allowedtools", "availabletools"];

/// Keys with a list of the tools to hide: of Gemini CLI and Qwen Code (`excludeTools`), Roo Code, Windsurf, Kiro and
/// Amazon Q (`disabledTools`), Codex, Crush and MCP Hub (`disabled_tools`), `LiteLLM` (`disallowed_tools`).
const DENY_LIST_KEYS: [&str; 4] = ["excludetools", "excludedtools", "disabledtools", "disallowedtools"];

/// The keys of sessile's own filters.
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

/// A key is about something that servers offer if its name contains one of these.
const OFFERED_WORDS: [&str; 6] = ["tool", "prompt", "resource", "template", "tags", "capabilit"];

/// A key that is about something offered hides it if its name contains one of these.
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

/// A key that is about something offered names all that is left if its name contains one of these.
const ALLOWING_WORDS: [&str; 9] = ["inclu", "enab", "allow", "avail", "only", "whitelist", "permit", "expos", "select"];

/// A key whose name contains one of these says when the user is asked for approval. It restricts nothing.
const APPROVAL_WORDS: [&str; 4] = ["approv", "confirm", "consent", "trust"];
/// A key whose name contains one of these says what is done without asking. It restricts nothing, unless its name
/// contains one of [`DENYING_WORDS`] too.
const UNATTENDED_WORDS: [&str; 2] = ["auto", "always"];

/// Whole names of keys that hide something, although they do not say what.
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

/// Whole names of keys that list all that is left, although they do not say what.
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

/// The meaning of a key in the entry of a server.
pub(super) fn of_server(key: &str) -> EntryKey {
    let plain = normalized(key);
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

/// The meaning of a key beside the servers.
pub(super) fn of_file(key: &str) -> FileKey {
    // Keys with a dot are settings of an editor (`chat.tools.autoApprove`): they are about its own tools.
    if key.contains('.') {
        return FileKey::Harmless;
    }
    let plain = normalized(key);
    match plain.as_str() {
        // The first key of each pair is Gemini CLI's, from before these stood in `mcp`; the others are Claude Code's.
        "allowmcpservers" | "allowedmcpservers" => FileKey::AllowServers,
        "excludemcpservers" | "disabledmcpservers" | "disabledmcpjsonservers" | "deniedmcpservers" => {
            FileKey::DenyServers
        }
        "tools" => FileKey::Tools,
        "permissions" => FileKey::Permissions,
        // Claude Code, Kiro and Amazon Q list the tools here that are used without asking.
        "allowedtools" => FileKey::Harmless,
        name => {
            restriction_kind(name, names_what_is_offered(name)).map_or(FileKey::Harmless, FileKey::UnknownRestriction)
        }
    }
}

/// Whether a plain key names something that servers offer.
pub(super) fn names_what_is_offered(plain: &str) -> bool {
    contains_any(plain, &OFFERED_WORDS)
}

/// Whether a plain key only says what is done without asking the user.
pub(super) fn only_grants(plain: &str) -> bool {
    contains_any(plain, &APPROVAL_WORDS)
        || contains_any(plain, &UNATTENDED_WORDS) && !contains_any(plain, &DENYING_WORDS)
}

/// How a plain key restricts, if it is `about` something that servers offer.
pub(super) fn restriction_kind(plain: &str, about: bool) -> Option<RestrictionKind> {
    match () {
        () if !about || only_grants(plain) => None,
        () if contains_any(plain, &DENYING_WORDS) => Some(RestrictionKind::Denies),
        () if contains_any(plain, &ALLOWING_WORDS) => Some(RestrictionKind::Allows),
        () => None,
    }
}

fn contains_any(plain: &str, words: &[&str]) -> bool {
    words.iter().any(|word| plain.contains(word))
}
