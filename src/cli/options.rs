//! The options, as clap parses them. No option has a default here: an option that is left out may be set in a file, and
//! otherwise gets the library's default.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use sessile::config::{AddressRange, KeyKind, Settings, Timeout, units};

use super::remote::{OAuthArgs, RemoteArgs};

/// The servers, in one of three ways; the demo server if none is used.
#[derive(Debug, Args)]
pub(super) struct TargetArgs {
    /// Use the servers of an MCPConfig file: the `mcpServers` of Claude Desktop, Cursor and FastMCP, or VS Code's
    /// `servers`. Every option can stand there too, in camelCase in a `sessile` object; the command line comes first.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Use the server at this URL.
    #[arg(value_name = "URL", value_parser = super::remote::secret)]
    pub url: Option<sessile::config::Secret>,

    /// Use this program, which speaks MCP on its stdin and stdout, and is started once for each session.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Listening")]
pub(super) struct ListenArgs {
    /// The address to listen on; port 0 takes a free one [default: 127.0.0.1:8808]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,

    /// Ask every client for one of the tokens of this file, whose lines `sessile token NAME` prints. It is read again
    /// when it changes: a token that is taken out lets nobody in, and its streams end.
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,

    /// Listen beyond loopback although clients are not authenticated.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    insecure_no_auth: Option<bool>,

    /// Tell clients from elsewhere than loopback, too, what a server wrote on stderr before it exited.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    expose_stderr: Option<bool>,

    /// A host that clients may use besides loopback ones, with or without a port; `*` for any. May be repeated.
    #[arg(long, value_name = "HOST")]
    allow_host: Vec<String>,

    /// An origin that web pages may have besides loopback ones, such as `https://app.example.com`; `*` for any. May be
    /// repeated.
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,

    /// By what an `initialize` finds a living session: a list of session-id, connection, principal, header:NAME and
    /// cookie, of which the first counts that the request brings. With the default each opens a session [default:
    /// session-id,connection]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    session_key: Vec<KeyKind>,

    /// The addresses of a reverse proxy, such as 10.0.0.0/8 or 127.0.0.1/32, whose header:NAME is believed, and no
    /// other peer's. May be repeated.
    #[arg(long, value_name = "CIDR")]
    trusted_proxy: Vec<AddressRange>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Sessions")]
pub(super) struct SessionArgs {
    /// End a session that has been idle for this long; `off` for never. Idle means: no call in flight for a client that
    /// is there, and no open stream that is read [default: 30m]
    #[arg(long, value_name = "TIME", value_parser = Timeout::parse)]
    idle_timeout: Option<Timeout>,

    /// For how long after losing its last stream a client counts as present and its missed messages are kept [default:
    /// 10m]
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    lost_stream: Option<Duration>,

    /// How long a server's request waits for a stream that can carry it, before the server gets an error [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    stream_wait: Option<Duration>,

    /// With several servers, how long the handshake and lists wait for the slowest of them, before the client gets the
    /// answers of the others [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    server_wait: Option<Duration>,

    /// Most sessions at once, and so most backends. The next client is told to try again later [default: 1000]
    #[arg(long, value_name = "N", value_parser = units::count)]
    max_sessions: Option<usize>,

    /// The largest message in either direction [default: 64MiB]
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    max_message_size: Option<usize>,

    /// Cancel a call that takes longer; `off` for never, because browsers take long [default: off]
    #[arg(long, value_name = "TIME", value_parser = Timeout::parse)]
    request_timeout: Option<Timeout>,

    /// How long calls in flight may take to end after SIGTERM or SIGINT [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    drain: Option<Duration>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Many servers")]
pub(super) struct UnionArgs {
    /// Put each server's name into the URIs of its resources, as in `file://NAME/path`.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    prefix_uris: Option<bool>,

    /// Leave the names of tools and prompts as they are, without `NAME_` before them; those that clash are errors.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    no_prefix: Option<bool>,
}

/// The options for servers, whether they are served or checked.
#[derive(Debug, Args)]
#[command(next_help_heading = "What a server gets and offers")]
pub(super) struct ServerArgs {
    /// Let the programs of a file inherit the whole environment, and not only PATH, HOME, LANG and the like. A COMMAND
    /// of the command line inherits it anyway.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    inherit_env: Option<bool>,

    /// Offer only tools whose names match; `*` stands for any characters. May be repeated, as may the next five.
    #[arg(long, value_name = "GLOB")]
    allow_tool: Vec<String>,

    /// Do not offer tools whose names match, even if they are allowed too.
    #[arg(long, value_name = "GLOB")]
    deny_tool: Vec<String>,

    /// Offer only resources whose URIs match.
    #[arg(long, value_name = "GLOB")]
    allow_resource: Vec<String>,

    /// Do not offer resources whose URIs match.
    #[arg(long, value_name = "GLOB")]
    deny_resource: Vec<String>,

    /// Offer only prompts whose names match.
    #[arg(long, value_name = "GLOB")]
    allow_prompt: Vec<String>,

    /// Do not offer prompts whose names match.
    #[arg(long, value_name = "GLOB")]
    deny_prompt: Vec<String>,

    #[command(flatten)]
    remote: RemoteArgs,

    #[command(flatten)]
    oauth: OAuthArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Logs")]
pub(super) struct LogArgs {
    /// What to log on stderr: error, warn, info, debug, trace, or directives such as `warn,sessile::backend=info`
    /// [default: info]
    #[arg(long, value_name = "LEVEL", env = "SESSILE_LOG", value_parser = units::log)]
    log: Option<String>,
}

impl ListenArgs {
    pub(super) fn add_to(self, settings: &mut Settings) {
        settings.listen = self.listen;
        settings.tokens = self.tokens;
        settings.insecure_no_auth = self.insecure_no_auth;
        settings.expose_stderr = self.expose_stderr;
        settings.allow_hosts = self.allow_host;
        settings.allow_origins = self.allow_origin;
        settings.session_keys = self.session_key;
        settings.trusted_proxies = self.trusted_proxy;
    }
}

impl SessionArgs {
    pub(super) fn add_to(self, settings: &mut Settings) {
        settings.idle_timeout = self.idle_timeout;
        settings.lost_stream = self.lost_stream;
        settings.stream_wait = self.stream_wait;
        settings.server_wait = self.server_wait;
        settings.max_sessions = self.max_sessions;
        settings.max_message_size = self.max_message_size;
        settings.request_timeout = self.request_timeout;
        settings.drain = self.drain;
    }
}

impl UnionArgs {
    pub(super) fn add_to(self, settings: &mut Settings) {
        settings.prefix_uris = self.prefix_uris;
        settings.no_prefix = self.no_prefix;
    }
}

impl LogArgs {
    pub(super) fn add_to(self, settings: &mut Settings) {
        settings.log = self.log;
    }
}

impl ServerArgs {
    /// Adds the options to `settings`; fails if one of them is not valid.
    pub(super) fn add_to(self, settings: &mut Settings) -> Result<(), String> {
        settings.inherit_env = self.inherit_env;
        let allow = |globs: Vec<String>| (!globs.is_empty()).then_some(globs);
        let filters = &mut settings.filters;
        (filters.tools.allow, filters.tools.deny) = (allow(self.allow_tool), self.deny_tool);
        (filters.resources.allow, filters.resources.deny) = (allow(self.allow_resource), self.deny_resource);
        (filters.prompts.allow, filters.prompts.deny) = (allow(self.allow_prompt), self.deny_prompt);
        filters.filter().map_err(|error| error.to_string())?;
        settings.remote = self.remote.remote(self.oauth)?;
        Ok(())
    }
}
