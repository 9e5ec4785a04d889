//! The words of MCP that sessile has to know: methods, and protocol versions. All other methods are relayed unread.

/// The protocol versions with a handshake and sessions, oldest first.
pub(crate) const HANDSHAKE_VERSIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", NEWEST_HANDSHAKE_VERSION];
/// The newest of them.
pub(crate) const NEWEST_HANDSHAKE_VERSION: &str = "2025-11-25";

// Requests of clients.
pub(crate) const INITIALIZE: &str = "initialize";
pub(crate) const PING: &str = "ping";
pub(crate) const TOOLS_LIST: &str = "tools/list";
pub(crate) const TOOLS_CALL: &str = "tools/call";
pub(crate) const PROMPTS_LIST: &str = "prompts/list";
pub(crate) const PROMPTS_GET: &str = "prompts/get";
pub(crate) const RESOURCES_LIST: &str = "resources/list";
pub(crate) const RESOURCE_TEMPLATES_LIST: &str = "resources/templates/list";
pub(crate) const RESOURCES_READ: &str = "resources/read";
pub(crate) const RESOURCES_SUBSCRIBE: &str = "resources/subscribe";
pub(crate) const RESOURCES_UNSUBSCRIBE: &str = "resources/unsubscribe";
pub(crate) const COMPLETION_COMPLETE: &str = "completion/complete";
pub(crate) const LOGGING_SET_LEVEL: &str = "logging/setLevel";
pub(crate) const TASKS_LIST: &str = "tasks/list";
pub(crate) const TASKS_GET: &str = "tasks/get";
pub(crate) const TASKS_RESULT: &str = "tasks/result";
pub(crate) const TASKS_CANCEL: &str = "tasks/cancel";
pub(crate) const TASKS_UPDATE: &str = "tasks/update";
pub(crate) const SERVER_DISCOVER: &str = "server/discover";

// Requests of servers.
pub(crate) const ROOTS_LIST: &str = "roots/list";
pub(crate) const SAMPLING_CREATE_MESSAGE: &str = "sampling/createMessage";
pub(crate) const ELICITATION_CREATE: &str = "elicitation/create";

// Notifications.
pub(crate) const INITIALIZED: &str = "notifications/initialized";
pub(crate) const CANCELLED: &str = "notifications/cancelled";
pub(crate) const PROGRESS: &str = "notifications/progress";
pub(crate) const TOOLS_LIST_CHANGED: &str = "notifications/tools/list_changed";
pub(crate) const PROMPTS_LIST_CHANGED: &str = "notifications/prompts/list_changed";
pub(crate) const RESOURCES_LIST_CHANGED: &str = "notifications/resources/list_changed";
pub(crate) const RESOURCES_UPDATED: &str = "notifications/resources/updated";
pub(crate) const ROOTS_LIST_CHANGED: &str = "notifications/roots/list_changed";
pub(crate) const LOG_MESSAGE: &str = "notifications/message";
pub(crate) const ELICITATION_COMPLETE: &str = "notifications/elicitation/complete";
pub(crate) const TASKS_STATUS: &str = "notifications/tasks/status";

/// The older of two protocol versions with a handshake; the first if either is none that sessile knows.
pub(crate) fn older_version<'a>(one: &'a str, other: &'a str) -> &'a str {
    let age = |version: &str| HANDSHAKE_VERSIONS.iter().position(|known| *known == version);
    match (age(one), age(other)) {
        (Some(first), Some(second)) if second < first => other,
        _ => one,
    }
}
