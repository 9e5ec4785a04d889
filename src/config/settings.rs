//! The proxy's own settings as they stand in a file or on a command line, each of them optional.
//!
//! A command line beats a file, and a file beats the defaults, which stand in [`SessionSettings`] and [`HttpSettings`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::filter_lists::FilterLists;
use super::json::{FileError, Node, ObjectReader};
use super::remote::Remote;
use super::{AddressRange, HttpSettings, KeyKind, SessionSettings, units};

/// All options of the program. A field that is `None` or empty has not been set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// The address to listen on.
    pub listen: Option<SocketAddr>,
    /// [`HttpSettings::tokens`].
    pub tokens: Option<PathBuf>,
    /// Listen beyond loopback although clients are not authenticated.
    pub insecure_no_auth: Option<bool>,
    /// [`HttpSettings::expose_stderr`].
    pub expose_stderr: Option<bool>,
    /// [`HttpSettings::allow_hosts`].
    pub allow_hosts: Vec<String>,
    /// [`HttpSettings::allow_origins`].
    pub allow_origins: Vec<String>,
    /// [`HttpSettings::session_keys`].
    pub session_keys: Vec<KeyKind>,
    /// [`HttpSettings::trusted_proxies`].
    pub trusted_proxies: Vec<AddressRange>,
    /// [`SessionSettings::idle_timeout`].
    pub idle_timeout: Option<Timeout>,
    /// [`SessionSettings::lost_stream`].
    pub lost_stream: Option<Duration>,
    /// [`SessionSettings::stream_wait`].
    pub stream_wait: Option<Duration>,
    /// [`SessionSettings::server_wait`].
    pub server_wait: Option<Duration>,
    /// [`SessionSettings::request_timeout`].
    pub request_timeout: Option<Timeout>,
    /// [`SessionSettings::drain`].
    pub drain: Option<Duration>,
    /// [`SessionSettings::max_sessions`].
    pub max_sessions: Option<usize>,
    /// [`SessionSettings::max_message_size`].
    pub max_message_size: Option<usize>,
    /// The log level, or directives.
    pub log: Option<String>,
    /// Put the server's name into the URIs of its resources.
    pub prefix_uris: Option<bool>,
    /// Do not put the server's name in front of its tools and prompts.
    pub no_prefix: Option<bool>,
    /// Let servers inherit the whole environment, and not only the safe variables.
    pub inherit_env: Option<bool>,
    /// Filters for all servers, which add to their own.
    pub filters: FilterLists,
    /// Settings for servers at a URL.
    pub remote: Remote,
}

/// A time limit that can be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// There is no limit.
    Off,
    /// The limit is this time.
    After(Duration),
}

impl Timeout {
    /// Parses a time, or `off`.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(units::optional_time(text)?.map_or(Self::Off, Self::After))
    }

    /// The time; `None` if there is no limit.
    pub fn duration(self) -> Option<Duration> {
        match self {
            Self::Off => None,
            Self::After(time) => Some(time),
        }
    }
}

impl Settings {
    /// Puts these settings over `lower` ones.
    #[must_use]
    pub fn over(self, lower: Self) -> Self {
        fn list<T>(upper: Vec<T>, lower: Vec<T>) -> Vec<T> {
            if upper.is_empty() { lower } else { upper }
        }
        Self {
            listen: self.listen.or(lower.listen),
            tokens: self.tokens.or(lower.tokens),
            insecure_no_auth: self.insecure_no_auth.or(lower.insecure_no_auth),
            expose_stderr: self.expose_stderr.or(lower.expose_stderr),
            allow_hosts: list(self.allow_hosts, lower.allow_hosts),
            allow_origins: list(self.allow_origins, lower.allow_origins),
            session_keys: list(self.session_keys, lower.session_keys),
            trusted_proxies: list(self.trusted_proxies, lower.trusted_proxies),
            idle_timeout: self.idle_timeout.or(lower.idle_timeout),
            lost_stream: self.lost_stream.or(lower.lost_stream),
            stream_wait: self.stream_wait.or(lower.stream_wait),
            server_wait: self.server_wait.or(lower.server_wait),
            request_timeout: self.request_timeout.or(lower.request_timeout),
            drain: self.drain.or(lower.drain),
            max_sessions: self.max_sessions.or(lower.max_sessions),
            max_message_size: self.max_message_size.or(lower.max_message_size),
            log: self.log.or(lower.log),
            prefix_uris: self.prefix_uris.or(lower.prefix_uris),
            no_prefix: self.no_prefix.or(lower.no_prefix),
            inherit_env: self.inherit_env.or(lower.inherit_env),
            filters: self.filters.over(lower.filters),
            remote: self.remote.over(lower.remote),
        }
    }

    /// The settings of sessions, with defaults for what is not set.
    pub fn session(&self) -> SessionSettings {
        let default = SessionSettings::default();
        SessionSettings {
            idle_timeout: self.idle_timeout.map_or(default.idle_timeout, Timeout::duration),
            lost_stream: self.lost_stream.unwrap_or(default.lost_stream),
            stream_wait: self.stream_wait.unwrap_or(default.stream_wait),
            server_wait: self.server_wait.unwrap_or(default.server_wait),
            request_timeout: self.request_timeout.map_or(default.request_timeout, Timeout::duration),
            drain: self.drain.unwrap_or(default.drain),
            max_sessions: self.max_sessions.or(default.max_sessions),
            max_message_size: self.max_message_size.unwrap_or(default.max_message_size),
            ..default
        }
    }

    /// The settings of the HTTP front, with defaults for what is not set.
    pub fn http(&self) -> HttpSettings {
        let default = HttpSettings::default();
        HttpSettings {
            tokens: self.tokens.clone(),
            allow_hosts: self.allow_hosts.clone(),
            allow_origins: self.allow_origins.clone(),
            expose_stderr: self.expose_stderr.unwrap_or(default.expose_stderr),
            session_keys: if self.session_keys.is_empty() { default.session_keys } else { self.session_keys.clone() },
            trusted_proxies: self.trusted_proxies.clone(),
            ..default
        }
    }

    /// Reads the `sessile` object that stands beside the servers.
    pub(super) fn read(node: &Node<'_>) -> Result<Self, FileError> {
        let reader = node.object()?;
        let time = |name| reader.get(name).map(|node| node.parsed("a time", units::time)).transpose();
        let limit = |name| reader.get(name).map(|node| node.parsed("a time or off", Timeout::parse)).transpose();
        let flag = |name| reader.get(name).map(|node| node.boolean()).transpose();
        let texts = |plural, singular| -> Result<Vec<String>, FileError> {
            let Some(node) = reader.get_either(plural, singular)? else { return Ok(Vec::new()) };
            node.list()?.iter().map(|node| Ok(node.some_text()?.expose().to_owned())).collect()
        };
        let keys = |text: &str| text.split(',').map(str::parse).collect::<Result<Vec<KeyKind>, String>>();
        let address = |text: &str| text.parse().map_err(|_| "it is none".to_owned());
        let settings = Self {
            listen: reader
                .get("listen")
                .map(|node| node.parsed("an address and a port such as 127.0.0.1:8808", address))
                .transpose()?,
            tokens: reader.get("tokens").map(|node| node.parsed("a path", units::path)).transpose()?,
            insecure_no_auth: flag("insecureNoAuth")?,
            expose_stderr: flag("exposeStderr")?,
            allow_hosts: texts("allowHosts", "allowHost")?,
            allow_origins: texts("allowOrigins", "allowOrigin")?,
            session_keys: match reader.get("sessionKey") {
                Some(node) => match node.list() {
                    Ok(all) => {
                        all.iter().map(|node| node.parsed("a session key", str::parse)).collect::<Result<_, _>>()?
                    }
                    Err(_) => node.parsed("a list such as header:X-User,principal", keys)?,
                },
                None => Vec::new(),
            },
            trusted_proxies: match reader.get_either("trustedProxies", "trustedProxy")? {
                Some(node) => {
                    let all = node.list()?;
                    all.iter().map(|node| node.parsed("a range of addresses", str::parse)).collect::<Result<_, _>>()?
                }
                None => Vec::new(),
            },
            idle_timeout: limit("idleTimeout")?,
            lost_stream: time("lostStream")?,
            stream_wait: time("streamWait")?,
            server_wait: time("serverWait")?,
            request_timeout: limit("requestTimeout")?,
            drain: time("drain")?,
            max_sessions: reader
                .get("maxSessions")
                .map(|node| node.number("a whole number from 1", units::count))
                .transpose()?,
            max_message_size: reader
                .get("maxMessageSize")
                .map(|node| node.number("a number of bytes or a size such as 64MiB", units::size))
                .transpose()?,
            log: reader.get("log").map(|node| node.parsed("a level", units::log)).transpose()?,
            prefix_uris: flag("prefixUris")?,
            no_prefix: flag("noPrefix")?,
            inherit_env: flag("inheritEnv")?,
            filters: FilterLists::read(&reader)?,
            remote: Remote::read(&reader)?,
        };
        settings.finish(&reader)
    }

    fn finish(self, reader: &ObjectReader<'_>) -> Result<Self, FileError> {
        reader.finish()?;
        if let Err(error) = self.remote.check() {
            return Err(reader.error(error));
        }
        // Checked here and not only when the proxy is built, so that the error names the file and the line.
        if let Err(error) = self.session().check().and_then(|()| self.http().check()) {
            return Err(reader.error(error.to_string()));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_settings_win_and_defaults_fill_the_rest() {
        let minute = Duration::from_secs(60);
        let upper = Settings { idle_timeout: Some(Timeout::Off), max_sessions: Some(3), ..Settings::default() };
        let lower = Settings {
            idle_timeout: Some(Timeout::After(minute)),
            drain: Some(minute),
            allow_hosts: vec!["a".into()],
            tokens: Some("/k".into()),
            ..Settings::default()
        };
        let merged = upper.over(lower);
        let session = merged.session();
        assert_eq!((session.idle_timeout, session.drain, session.max_sessions), (None, minute, Some(3)));
        assert_eq!(session.lost_stream, SessionSettings::default().lost_stream);
        assert_eq!((merged.http().allow_hosts, merged.http().tokens), (vec!["a".to_owned()], Some("/k".into())));
    }

    #[test]
    fn nothing_set_is_the_default() {
        let (session, default) = (Settings::default().session(), SessionSettings::default());
        assert_eq!(format!("{session:?}"), format!("{default:?}"));
        assert_eq!(format!("{:?}", Settings::default().http()), format!("{:?}", HttpSettings::default()));
    }
}
