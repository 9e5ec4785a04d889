//! Logs: to stderr, because stdout belongs to the protocol.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Starts logging at `level`, which may also be a list of directives such as `warn,sessile::backend=info`.
pub(crate) fn init(level: &str) {
    // The actor library wraps every message in a span of its own, which says nothing that the session's name does not.
    let quiet = if level.contains("ractor") { String::new() } else { ",ractor=warn".to_owned() };
    let filter = EnvFilter::builder().parse_lossy(format!("{level}{quiet}"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
