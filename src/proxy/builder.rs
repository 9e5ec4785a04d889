//! [`ProxyBuilder`]: what a proxy is made of, checked before anything is started.

use std::sync::Arc;

use crate::backend::Backend;
use crate::config::{ConfigError, Filter, HttpSettings, SessionSettings};
use crate::reaper;
use crate::session::{Opener, Plan, Server, Servers};

use super::Proxy;

/// Most servers in one session: their lists are asked for and searched one by one.
const MAX_SERVERS: usize = 256;

/// Puts a [`Proxy`] together.
#[derive(Debug, Default)]
pub struct ProxyBuilder {
    backend: Option<Backend>,
    servers: Vec<(String, Backend)>,
    filters: Vec<(String, Filter)>,
    prefixes: PrefixSettings,
    session: SessionSettings,
    http: HttpSettings,
}

impl ProxyBuilder {
    /// The server of which every session gets one of its own.
    #[must_use]
    pub fn backend(mut self, backend: impl Into<Backend>) -> Self {
        self.backend = Some(backend.into());
        self
    }

    /// Adds one of several servers, of which every session gets one each and which appear to its client as one.
    ///
    /// With two or more, tools and prompts have the server's name in front, as in `{name}_{tool}`; characters other than
    /// ASCII letters, digits, `_`, `-` and `.` become `_` in it. With one, nothing is changed.
    #[must_use]
    pub fn server(mut self, name: impl Into<String>, backend: impl Into<Backend>) -> Self {
        self.servers.push((name.into(), backend.into()));
        self
    }

    /// Offers clients only what the filter lets through of the server of that name; that of
    /// [`backend`](Self::backend) is `backend`. The last filter of a server counts.
    #[must_use]
    pub fn filter(mut self, name: impl Into<String>, filter: Filter) -> Self {
        self.filters.push((name.into(), filter));
        self
    }

    /// Whether tools and prompts of several servers have their server's name in front: yes, by default. Without it, a
    /// name that two servers have is listed once, and calling it is an error that names both.
    #[must_use]
    pub fn prefix(mut self, prefix: bool) -> Self {
        self.prefixes.prefix = prefix;
        self
    }

    /// Whether resources of several servers have their server's name in their URIs, as in `scheme://{name}/rest`: no, by
    /// default. Without it URIs are as their servers have them, and reading one that two servers have is an error.
    #[must_use]
    pub fn prefix_uris(mut self, prefix_uris: bool) -> Self {
        self.prefixes.prefix_uris = prefix_uris;
        self
    }

    /// How sessions live.
    #[must_use]
    pub fn session(mut self, settings: SessionSettings) -> Self {
        self.session = settings;
        self
    }

    /// How the HTTP front treats its clients.
    #[must_use]
    pub fn http(mut self, settings: HttpSettings) -> Self {
        self.http = settings;
        self
    }

    /// Checks the settings. Nothing is started before the first client comes.
    ///
    /// Where sessions will have scratch folders, those that a proxy left behind which was killed together with its
    /// reapers are removed, on a thread of their own.
    pub fn build(self) -> Result<Proxy, ConfigError> {
        self.session.check()?;
        let unnamed = self.backend.map(|backend| (UNNAMED_SERVER.to_owned(), backend));
        let all: Vec<_> = unnamed.into_iter().chain(self.servers).collect();
        let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        let servers = servers(&names, &self.filters, &self.prefixes)?;
        if all.iter().any(|(_, backend)| backend.makes_scratch()) {
            reaper::remove_abandoned(&self.session.scratch);
        }
        let backends = all.into_iter().map(|(_, backend)| backend).collect();
        let plan = Plan::new(backends, self.session, self.http.keep_alive).with_servers(servers);
        Ok(Proxy { opener: Arc::new(Opener::new(plan)), waiting: Arc::default(), http: self.http })
    }
}

/// The name of a server that was given none.
const UNNAMED_SERVER: &str = "backend";

/// How several servers appear as one.
#[derive(Debug)]
struct PrefixSettings {
    prefix: bool,
    prefix_uris: bool,
}

impl Default for PrefixSettings {
    fn default() -> Self {
        Self { prefix: true, prefix_uris: false }
    }
}

/// The servers under their names, with their filters.
fn servers(names: &[&str], filters: &[(String, Filter)], prefixes: &PrefixSettings) -> Result<Servers, ConfigError> {
    if names.is_empty() {
        return Err(ConfigError::NoBackend);
    }
    if names.len() > MAX_SERVERS {
        return Err(ConfigError::TooManyServers { limit: MAX_SERVERS });
    }
    if let Some((name, _)) = filters.iter().find(|(name, _)| !names.contains(&name.as_str())) {
        return Err(ConfigError::UnknownServer { name: name.clone() });
    }
    let mut servers: Vec<Server> = Vec::new();
    for name in names {
        let filter = filters.iter().rev().find(|(of, _)| of == name).map(|(_, filter)| filter.clone());
        let server = Server::new(name, filter.unwrap_or_default());
        // Within URIs they stand where hosts do, which clients put in lower case.
        let same = |other: &Server| {
            other.prefix == server.prefix || prefixes.prefix_uris && other.prefix.eq_ignore_ascii_case(&server.prefix)
        };
        if name.is_empty() || servers.iter().any(same) {
            return Err(ConfigError::ServerName { name: (*name).to_owned() });
        }
        servers.push(server);
    }
    Ok(Servers::new(servers, prefixes.prefix, prefixes.prefix_uris))
}
