//! Settings: plain values with defaults, checked once when the proxy is built.
//!
//! A [`ConfigFile`] holds the [`ServerSpec`]s and [`Settings`] of a file, which the program merges with those of its
//! command line. Nothing in this module connects to anything.

mod address_range;
mod apply;
mod env_file;
mod environment;
mod file;
mod filter;
mod filter_lists;
#[doc(hidden)]
pub mod headers;
mod json;
mod nearest;
mod oauth;
#[doc(hidden)]
pub mod oauth_options;
#[doc(hidden)]
pub mod remote;
mod restrictions;
mod safe_environment;
mod secret;
mod server;
mod session_key;
mod settings;
#[cfg(test)]
mod tests;
mod text;
#[doc(hidden)]
pub mod units;
mod vars;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::tokens::TokenFileError;

pub use address_range::AddressRange;
pub use apply::ApplyError;
pub use environment::{Environment, ProcessEnvironment};
pub use file::ConfigFile;
pub(crate) use filter::Spellings;
pub use filter::{ExactNames, Filter, FilterError, Offered};
pub use filter_lists::{FilterLists, GlobLists};
pub use json::FileError;
pub(crate) use oauth::loopback_redirect;
pub use oauth::{Announce, OAuthFlow, OAuthSettings};
pub use oauth_options::{ClientSecret, OAuthMode, OAuthOptions};
pub use remote::{Bearer, Remote, Transport};
pub use safe_environment::safe_environment;
pub use secret::Secret;
pub use server::{CommandSpec, ServerKind, ServerSpec, UrlSpec};
pub use session_key::KeyKind;
pub(crate) use session_key::{KeyCircumstances, Reach};
pub use settings::{Settings, Timeout};
pub use text::ConfigText;
pub(crate) use text::names_a_secret;

/// A kibibyte.
const KIB: usize = 1024;
/// A mebibyte.
const MIB: usize = 1024 * KIB;

/// How sessions live, and the bounds that they keep to.
#[derive(Debug, Clone)]
pub struct SessionSettings {
    /// How long a session may be idle before it ends; `None` for no limit. A session is idle while no call is in flight
    /// for a client that is there, and no open stream is read. 30 minutes.
    pub idle_timeout: Option<Duration>,
    /// How long a lost stream can be resumed, and a client without any stream counts as present. 10 minutes.
    pub lost_stream: Duration,
    /// How long a server request waits for a stream that can carry it, before it is answered with an error. 10 seconds.
    pub stream_wait: Duration,
    /// How long the handshake and lists wait for the slowest of several servers, before the client gets the answers of
    /// the others. 10 seconds.
    pub server_wait: Duration,
    /// How long a call may take before it is cancelled; `None` for no limit. `None`, because browsers take long.
    pub request_timeout: Option<Duration>,
    /// How long calls in flight may go on when the proxy or the client's input ends. 10 seconds.
    pub drain: Duration,
    /// Most sessions at once; `None` for no limit. 1000.
    pub max_sessions: Option<usize>,
    /// The largest message in either direction, in bytes. 64 MiB.
    pub max_message_size: usize,
    /// Bytes of messages kept for each session, so that a client can resume a lost stream. 1 MiB.
    pub replay_bytes: usize,
    /// Most bytes that one session takes, in each direction, of [`process_budget`](Self::process_budget), not counting
    /// one larger message and what it keeps for clients that resume a stream. 4 MiB.
    pub session_budget: usize,
    /// Most bytes of messages that all sessions together have received, queued, not read, or kept, in each direction.
    /// At least twice [`max_message_size`](Self::max_message_size). Each session has another 64 KiB of its own in each
    /// direction. 256 MiB.
    pub process_budget: usize,
    /// Most calls in flight in a session, and most server requests without a response. 1024.
    pub max_in_flight: usize,
    /// Where sessions get their scratch folders. The system's temporary folder.
    pub scratch: PathBuf,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            idle_timeout: Some(Duration::from_secs(30 * 60)),
            lost_stream: Duration::from_secs(10 * 60),
            stream_wait: Duration::from_secs(10),
            server_wait: Duration::from_secs(10),
            request_timeout: None,
            drain: Duration::from_secs(10),
            max_sessions: Some(1000),
            max_message_size: 64 * MIB,
            replay_bytes: MIB,
            session_budget: 4 * MIB,
            process_budget: 256 * MIB,
            max_in_flight: 1024,
            scratch: std::env::temp_dir(),
        }
    }
}

/// How the HTTP front treats its clients.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// A file of the tokens that let clients in. Every request has to show one as `Authorization: Bearer TOKEN`, or is
    /// refused; `None` to ask nobody. Each line is a name and the SHA-256 of a token in hex, as
    /// [`tokens::NewToken`](crate::tokens::NewToken) makes them; `#` begins a comment. A session belongs to the name of
    /// the token that opened it, and one name may have several tokens.
    ///
    /// The file is followed: a token that is taken out lets nobody in after a second, its open streams end, and with
    /// the last token of a name its sessions. A version that cannot be read, or has no token in it, changes nothing.
    pub tokens: Option<PathBuf>,
    /// Hosts, with or without a port, that clients may use besides loopback ones; `*` for any.
    pub allow_hosts: Vec<String>,
    /// Origins that web pages may have besides loopback ones, such as `https://app.example.com`; `*` for any.
    pub allow_origins: Vec<String>,
    /// How long a stream may be silent before it is sent a comment. 15 seconds.
    pub keep_alive: Duration,
    /// Whether clients from elsewhere than loopback may be told what a server wrote on stderr before it exited. No.
    pub expose_stderr: bool,
    /// By what an `initialize` finds a living session: by the first of these keys that its request brings. Equal keys
    /// of two principals are two keys. `session-id` and `connection`, which no `initialize` brings, so that each opens
    /// a session.
    ///
    /// With another key in the list, an `initialize` joins the session of that key, or opens one for it. Each client
    /// has an `Mcp-Session-Id` of its own all the same, and the session outlives its clients.
    ///
    /// Where nobody says who calls, `principal` needs a loopback listener, and a header that, or
    /// [`trusted_proxies`](Self::trusted_proxies). In a program that serves the router by itself the listener is not
    /// known, and counts as one that all the world reaches.
    pub session_keys: Vec<KeyKind>,
    /// The reverse proxies, by the addresses that they connect from, whose headers are believed: those that are session
    /// keys, and `X-Forwarded-Proto`. If there are any, such headers of all other peers are refused. None.
    pub trusted_proxies: Vec<AddressRange>,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            tokens: None,
            allow_hosts: Vec::new(),
            allow_origins: Vec::new(),
            keep_alive: Duration::from_secs(15),
            expose_stderr: false,
            session_keys: vec![KeyKind::SessionId, KeyKind::Connection],
            trusted_proxies: Vec::new(),
        }
    }
}

impl HttpSettings {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        session_key::check_list(&self.session_keys)
    }

    /// Checks whether the session keys may be used at a listener with this address, where nothing but these settings says
    /// who calls.
    pub fn check_listener(&self, listener: SocketAddr) -> Result<(), ConfigError> {
        let circumstances = self.circumstances(Some(listener), self.tokens.is_some());
        let wrong = |kind: &KeyKind| {
            let reason = circumstances.check(kind).err()?;
            Some(ConfigError::SessionKey { kind: kind.clone(), reason })
        };
        self.session_keys.iter().find_map(wrong).map_or(Ok(()), Err)
    }

    /// What decides which session keys may be used. A listener that is not known counts as one for all the world.
    pub(crate) fn circumstances(&self, listener: Option<SocketAddr>, is_authenticated: bool) -> KeyCircumstances {
        let is_loopback = listener.is_some_and(|address| address.ip().to_canonical().is_loopback());
        let reach = match is_loopback {
            true if self.allow_hosts.is_empty() => Reach::Near,
            true => Reach::NearWithOtherHosts,
            false => Reach::Everywhere,
        };
        KeyCircumstances { is_authenticated, reach, has_trusted_proxies: !self.trusted_proxies.is_empty() }
    }
}

/// A setting that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No server was added.
    #[error("there is no server: add one with `ProxyBuilder::backend` or `ProxyBuilder::server`")]
    NoBackend,
    /// A server has no name, or has the name of another one after the characters are replaced that names of tools
    /// cannot have.
    #[error(
        "server `{name}`: a server needs a name of its own; in comparing names, characters other than ASCII letters, digits, `-` and `.` count as `_`, and with prefixed URIs upper and lower case count as the same"
    )]
    ServerName {
        /// The name as it was given.
        name: String,
    },
    /// A filter names a server that was not added.
    #[error("a filter names the server `{name}`, which does not exist: name one that was added")]
    UnknownServer {
        /// The name as it was given.
        name: String,
    },
    /// There are more servers than one session can have.
    #[error("there are more than {limit} servers: use several proxies")]
    TooManyServers {
        /// How many there may be.
        limit: usize,
    },
    /// A server of a configuration cannot be used as it is configured.
    #[error("server `{server}`: {reason}")]
    Server {
        /// Its name.
        server: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Settings for all servers do not fit the servers.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The file of tokens cannot be used.
    #[error(transparent)]
    Tokens(#[from] TokenFileError),
    /// A server would get the tokens that are meant for sessile.
    #[error(
        "server `{server}` is to get the clients' Authorization header (`--forward-header`, `forwardHeaders`), but with \
         `tokens` that header has the token that is meant for sessile, which no server may see: forward another header, \
         or leave out one of the two"
    )]
    ForwardedToken {
        /// Its name.
        server: String,
    },
    /// A pattern of a filter is not valid.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// A session key cannot be used, or not in this place.
    #[error("session key `{kind}`: {reason}")]
    SessionKey {
        /// Which one.
        kind: KeyKind,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting is out of its range.
    #[error("{setting} is {value}: it must be {expected}")]
    OutOfRange {
        /// Which one.
        setting: &'static str,
        /// What it was set to.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
}

impl SessionSettings {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let out = |setting, value: String, expected| Err(ConfigError::OutOfRange { setting, value, expected });
        if !(KIB..=u32::MAX as usize).contains(&self.max_message_size) {
            return out("max_message_size", self.max_message_size.to_string(), "between 1 KiB and 4 GiB");
        }
        for (setting, value) in [
            ("max_sessions", self.max_sessions.unwrap_or(1)),
            ("max_in_flight", self.max_in_flight),
            ("session_budget", self.session_budget),
        ] {
            if value == 0 {
                return out(setting, value.to_string(), "at least 1");
            }
        }
        // A message may grow to the limit while another one of that size is not read: both need memory, or nothing
        // moves.
        if self.process_budget / 2 < self.max_message_size {
            let expected = "at least twice max_message_size: raise it, or lower max_message_size";
            return out("process_budget", self.process_budget.to_string(), expected);
        }
        for (setting, value) in [
            ("idle_timeout", self.idle_timeout.unwrap_or(Duration::MAX)),
            ("request_timeout", self.request_timeout.unwrap_or(Duration::MAX)),
            ("lost_stream", self.lost_stream),
        ] {
            if value.is_zero() {
                return out(setting, "0".to_owned(), "longer than nothing");
            }
        }
        Ok(())
    }
}
