//! [`ProxyBuilder`]: what a proxy is made of, checked before anything is started.

use std::sync::Arc;

use http::header::AUTHORIZATION;

use crate::backend::Backend;
use crate::config::{ConfigError, Filter, HttpSettings, SessionSettings};
use crate::front::http::{Authentication, TokenAuthority};
use crate::reaper;
use crate::session::{ConfiguredServer, Servers, SessionPlan, SupervisorHandle};

use super::Proxy;

/// Most servers in one session. Their lists are requested and searched one by one, so a call gets slower with each.
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
    /// Sets the server, of which every session gets an instance of its own.
    #[must_use]
    pub fn backend(mut self, backend: impl Into<Backend>) -> Self {
        self.backend = Some(backend.into());
        self
    }

    /// Adds one of several servers. Every session gets an instance of each, and its client sees them as one server.
    ///
    /// With two or more servers, tools and prompts have the server's name in front, as in `{name}_{tool}`; characters
    /// of the name other than ASCII letters, digits, `_`, `-` and `.` become `_`. With one server, no name is changed.
    #[must_use]
    pub fn server(mut self, name: impl Into<String>, backend: impl Into<Backend>) -> Self {
        self.servers.push((name.into(), backend.into()));
        self
    }

    /// Offers clients only those tools, prompts and resources of the server `name` that the filter lets through. The
    /// server of [`backend`](Self::backend) has the name `backend`. The last filter for a server counts.
    #[must_use]
    pub fn filter(mut self, name: impl Into<String>, filter: Filter) -> Self {
        self.filters.push((name.into(), filter));
        self
    }

    /// Sets whether tools and prompts of several servers have their server's name in front. Yes by default. If not, a
    /// name that two servers have is listed once, and calling it is an error that names both.
    #[must_use]
    pub fn prefix(mut self, prefix: bool) -> Self {
        self.prefixes.prefix = prefix;
        self
    }

    /// Sets whether resources of several servers have their server's name in their URIs, as in `scheme://{name}/rest`.
    /// No by default: URIs are as their servers have them, and reading one that two servers have is an error.
    #[must_use]
    pub fn prefix_uris(mut self, prefix_uris: bool) -> Self {
        self.prefixes.prefix_uris = prefix_uris;
        self
    }

    /// Sets the timeouts and limits of sessions.
    #[must_use]
    pub fn session(mut self, settings: SessionSettings) -> Self {
        self.session = settings;
        self
    }

    /// Sets how the HTTP front treats its clients.
    #[must_use]
    pub fn http(mut self, settings: HttpSettings) -> Self {
        self.http = settings;
        self
    }

    /// Checks the settings and makes the proxy. No server is started before the first client comes.
    ///
    /// Scratch folders that a proxy left behind, because it was killed together with its reapers, are removed in the
    /// background.
    pub fn build(self) -> Result<Proxy, ConfigError> {
        self.session.check()?;
        self.http.check()?;
        let unnamed = self.backend.map(|backend| (UNNAMED_SERVER.to_owned(), backend));
        let all: Vec<_> = unnamed.into_iter().chain(self.servers).collect();
        let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        let servers = named_servers(&names, &self.filters, &self.prefixes)?;
        if self.http.tokens.is_some()
            && let Some((server, _)) = all.iter().find(|(_, backend)| forwards_tokens(backend))
        {
            return Err(ConfigError::ForwardedToken { server: server.clone() });
        }
        if all.iter().any(|(_, backend)| backend.makes_scratch()) {
            reaper::remove_abandoned(&self.session.scratch);
        }
        let backends = all.into_iter().map(|(_, backend)| backend).collect();
        let plan = SessionPlan::new(backends, self.session, self.http.keep_alive).with_servers(servers);
        let supervisor = Arc::new(SupervisorHandle::new(plan));
        let authentication = match &self.http.tokens {
            Some(path) => Authentication::Tokens(Arc::new(TokenAuthority::open(path, supervisor.registry().clone())?)),
            None => Authentication::Elsewhere,
        };
        Ok(Proxy { supervisor, waiting: Arc::default(), authentication, http: self.http })
    }
}

/// Whether a backend wants the header that has clients' tokens for sessile.
fn forwards_tokens(backend: &Backend) -> bool {
    backend.forwards().iter().any(|name| name.eq_ignore_ascii_case(AUTHORIZATION.as_str()))
}

/// The name of the server that was given without a name.
const UNNAMED_SERVER: &str = "backend";

/// Which names of several servers have the server's name in front.
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

/// The servers with their names and filters; fails if two names clash.
fn named_servers(
    names: &[&str],
    filters: &[(String, Filter)],
    prefixes: &PrefixSettings,
) -> Result<Servers, ConfigError> {
    if names.is_empty() {
        return Err(ConfigError::NoBackend);
    }
    if names.len() > MAX_SERVERS {
        return Err(ConfigError::TooManyServers { limit: MAX_SERVERS });
    }
    if let Some((name, _)) = filters.iter().find(|(name, _)| !names.contains(&name.as_str())) {
        return Err(ConfigError::UnknownServer { name: name.clone() });
    }
    let mut servers: Vec<ConfiguredServer> = Vec::new();
    for name in names {
        let filter = filters.iter().rev().find(|(of, _)| of == name).map(|(_, filter)| filter.clone());
        let server = ConfiguredServer::new(name, filter.unwrap_or_default());
        // In a URI the prefix stands in place of the host, which clients may put in lower case.
        let same = |other: &ConfiguredServer| {
            other.prefix == server.prefix || prefixes.prefix_uris && other.prefix.eq_ignore_ascii_case(&server.prefix)
        };
        if name.is_empty() || servers.iter().any(same) {
            return Err(ConfigError::ServerName { name: (*name).to_owned() });
        }
        servers.push(server);
    }
    Ok(Servers::new(servers, prefixes.prefix, prefixes.prefix_uris))
}
