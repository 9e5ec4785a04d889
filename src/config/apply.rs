//! Merges the settings for all servers with those in each server's entry.
//!
//! The command line takes precedence over the entries, and they over the settings for all servers in a file. A
//! credential that is meant for one server must not reach another one, so it may be set for all servers only if there
//! is just one at a URL.

use super::server::{ServerKind, ServerSpec};
use super::settings::Settings;

/// Why settings do not fit the servers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// A setting is for servers at a URL, and there is none.
    #[error("{setting} is for a server at a URL, and there is none")]
    NoUrl {
        /// The setting, by its key in a file.
        setting: &'static str,
    },
    /// A setting is for one server at a URL, and there are several.
    #[error(
        "{setting} would go to all {urls} servers at a URL: set it in the `sessile` object of the server that it is for"
    )]
    ManyUrls {
        /// The setting, by its key in a file.
        setting: &'static str,
        /// How many servers there are at a URL.
        urls: usize,
    },
    /// Settings contradict each other.
    #[error("{server}: {reason}")]
    Contradiction {
        /// The server's name.
        server: String,
        /// What contradicts what.
        reason: String,
    },
}

impl ApplyError {
    /// The setting that does not fit, by its key in a file.
    pub fn setting(&self) -> Option<&'static str> {
        match self {
            Self::NoUrl { setting } | Self::ManyUrls { setting, .. } => Some(setting),
            Self::Contradiction { .. } => None,
        }
    }
}

impl ServerSpec {
    /// Puts `upper` over the servers' own settings, and those over `lower`. Afterwards
    /// [`CommandSpec::inherit_env`](super::CommandSpec::inherit_env) is set everywhere.
    pub fn apply(servers: Vec<Self>, upper: &Settings, lower: &Settings) -> Result<Vec<Self>, ApplyError> {
        let urls = servers.iter().filter(|server| matches!(server.kind, ServerKind::Url(_))).count();
        for settings in [upper, lower] {
            match (settings.remote.first_set(), settings.remote.first_set_for_one_server(), urls) {
                (Some(setting), _, 0) => return Err(ApplyError::NoUrl { setting }),
                (_, Some(setting), 2..) => return Err(ApplyError::ManyUrls { setting, urls }),
                _ => {}
            }
        }
        servers.into_iter().map(|server| server.merged(upper, lower)).collect()
    }

    fn merged(mut self, upper: &Settings, lower: &Settings) -> Result<Self, ApplyError> {
        self.filters = upper.filters.clone().over(self.filters).over(lower.filters.clone());
        match &mut self.kind {
            ServerKind::Command(command) => {
                let inherit = upper.inherit_env.or(command.inherit_env).or(lower.inherit_env);
                command.inherit_env = Some(inherit.unwrap_or(false));
            }
            ServerKind::Url(url) => {
                let own = std::mem::take(&mut url.remote);
                url.remote = upper.remote.clone().over(own).over(lower.remote.clone());
                let server = self.name.clone();
                url.remote.check().map_err(|reason| ApplyError::Contradiction { server, reason })?;
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Bearer, ConfigFile, ProcessEnvironment, Remote, Transport};

    fn servers(entries: &str) -> Vec<ServerSpec> {
        ConfigFile::parse(&format!("{{\"mcpServers\":{{{entries}}}}}"), "x", &ProcessEnvironment).unwrap().servers
    }

    const ONE_URL: &str = r#""a":{"url":"http://a/","type":"http"}"#;
    const URL_AND_COMMAND: &str = r#""a":{"url":"http://a/","auth":"t0ken"},"b":{"command":"x"}"#;
    const TWO_URLS: &str = r#""a":{"url":"http://a/"},"b":{"url":"http://b/"}"#;
    const ONE_COMMAND: &str = r#""a":{"command":"x"}"#;

    fn bearer() -> Settings {
        Settings {
            remote: Remote { bearer: Some(Bearer::Env("T".into())), ..Remote::default() },
            ..Settings::default()
        }
    }

    fn sse() -> Settings {
        Settings { remote: Remote { transport: Some(Transport::Sse), ..Remote::default() }, ..Settings::default() }
    }

    fn remote(servers: &[ServerSpec]) -> &Remote {
        match &servers[0].kind {
            ServerKind::Url(url) => &url.remote,
            ServerKind::Command(command) => panic!("{command:?}"),
        }
    }

    #[test]
    fn a_command_line_beats_an_entry_beats_a_file() {
        let none = Settings::default();
        let applied = ServerSpec::apply(servers(ONE_URL), &sse(), &none).unwrap();
        assert_eq!(remote(&applied).transport, Some(Transport::Sse));
        let applied = ServerSpec::apply(servers(ONE_URL), &none, &sse()).unwrap();
        assert_eq!(remote(&applied).transport, Some(Transport::Http));
        let applied = ServerSpec::apply(servers(URL_AND_COMMAND), &bearer(), &none).unwrap();
        assert_eq!(remote(&applied).bearer, Some(Bearer::Env("T".into())));
        let applied = ServerSpec::apply(servers(URL_AND_COMMAND), &none, &bearer()).unwrap();
        assert_eq!(remote(&applied).bearer, Some(Bearer::Token("t0ken".into())));
    }

    #[test]
    fn a_credential_goes_to_no_server_that_it_was_not_meant_for() {
        let none = Settings::default();
        for (upper, lower) in [(bearer(), none.clone()), (none.clone(), bearer())] {
            let error = ServerSpec::apply(servers(TWO_URLS), &upper, &lower).unwrap_err();
            assert_eq!(error, ApplyError::ManyUrls { setting: "bearerEnv", urls: 2 });
            let error = ServerSpec::apply(servers(ONE_COMMAND), &upper, &lower).unwrap_err();
            assert_eq!(error, ApplyError::NoUrl { setting: "bearerEnv" });
        }
        assert!(ServerSpec::apply(servers(TWO_URLS), &sse(), &none).is_ok());
    }

    #[test]
    fn a_command_of_a_file_gets_what_is_safe_unless_told_otherwise() {
        let says = |inherit| Settings { inherit_env: inherit, ..Settings::default() };
        let own = |entry: &str| servers(&format!(r#""a":{{"command":"x"{entry}}}"#));
        for (entry, upper, lower, expected) in [
            ("", None, None, false),
            ("", None, Some(true), true),
            ("", Some(true), None, true),
            (r#","sessile":{"inheritEnv":false}"#, None, Some(true), false),
            (r#","sessile":{"inheritEnv":true}"#, Some(false), None, false),
        ] {
            let applied = ServerSpec::apply(own(entry), &says(upper), &says(lower)).unwrap();
            let ServerKind::Command(command) = &applied[0].kind else { panic!("no command") };
            assert_eq!(command.inherit_env, Some(expected), "{entry} {upper:?} {lower:?}");
        }
    }
}
