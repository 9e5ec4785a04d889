//! Makes backends of the servers in a configuration.
//!
//! `config` names no backend, and backends know nothing of files. This module knows both, and reads client secrets,
//! which a file only points to.

use std::time::Duration;

use crate::backend::{Backend, ChildBackend, HttpBackend, Inherit};
use crate::config::{
    Announce, Bearer, ClientSecret, CommandSpec, ConfigError, ConfigFile, Environment as _, OAuthSettings,
    ProcessEnvironment, Remote, Secret, ServerKind, ServerSpec, Settings, UrlSpec, safe_environment,
};
use crate::proxy::ProxyBuilder;

impl ProxyBuilder {
    /// Takes over a configuration file: its servers with their filters, and the settings beside them, with defaults for
    /// those that the file leaves out. Settings of the program, such as `listen` and `log`, are left to the caller.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use sessile::{ConfigFile, Proxy};
    ///
    /// let file = ConfigFile::read("mcp.json")?;
    /// let proxy = Proxy::builder().config(&file)?.build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn config(self, file: &ConfigFile) -> Result<Self, ConfigError> {
        let servers = ServerSpec::apply(file.servers.clone(), &Settings::default(), &file.settings)?;
        self.settings(&file.settings).servers(&servers)
    }

    /// Takes over settings, with defaults for those that are not set.
    #[must_use]
    pub fn settings(self, settings: &Settings) -> Self {
        self.session(settings.session())
            .http(settings.http())
            .prefix(!settings.no_prefix.unwrap_or(false))
            .prefix_uris(settings.prefix_uris.unwrap_or(false))
    }

    /// Adds servers with their filters.
    pub fn servers(self, servers: &[ServerSpec]) -> Result<Self, ConfigError> {
        servers.iter().try_fold(self, |builder, server| {
            let backend = server.backend(None)?;
            let filter = server.filters.filter()?;
            Ok(builder.server(&server.name, backend).filter(&server.name, filter))
        })
    }
}

impl ServerSpec {
    /// The backend that this describes. `announce` is called with the URL of a login that begins; without it, the URL
    /// is in the log.
    pub fn backend(&self, announce: Option<Announce>) -> Result<Backend, ConfigError> {
        match &self.kind {
            ServerKind::Command(command) => Ok(child_backend(command, &self.secrets).into()),
            ServerKind::Url(url) => {
                Ok(http_backend(url, announce).map_err(|reason| server_error(self, reason))?.into())
            }
        }
    }
}

fn server_error(server: &ServerSpec, reason: String) -> ConfigError {
    ConfigError::Server { server: server.name.clone(), reason }
}

fn child_backend(command: &CommandSpec, secrets: &[Secret]) -> ChildBackend {
    let inherit = match command.inherit_env {
        Some(true) => Inherit::All,
        _ => Inherit::Named(safe_environment().map(Into::into).collect()),
    };
    let mut child = ChildBackend::new(command.program.expose())
        .args(command.args.iter().map(crate::config::ConfigText::expose))
        .inherit(inherit);
    for (name, value) in &command.env {
        child = child.env(name, value.expose());
        if value.is_secret() {
            child = child.secret(value.expose());
        }
    }
    if let Some(cwd) = &command.cwd {
        child = child.cwd(cwd.expose());
    }
    secrets.iter().fold(child, |child, secret| child.secret(secret.expose()))
}

fn http_backend(url: &UrlSpec, announce: Option<Announce>) -> Result<HttpBackend, String> {
    let UrlSpec { url, remote } = url;
    let Remote { transport, headers, forward_headers, bearer, oauth, unix_socket, connect_timeout } = remote;
    let mut http = HttpBackend::new(url.expose()).map_err(error_text)?.transport(transport.unwrap_or_default());
    for (name, value) in headers {
        http = http.header(name, value.expose()).map_err(error_text)?;
    }
    for name in forward_headers {
        http = http.forward_header(name).map_err(error_text)?;
    }
    http = match bearer {
        Some(Bearer::File(path)) => http.bearer_file(path).map_err(error_text)?,
        Some(Bearer::Env(name)) => http.bearer_env(name).map_err(error_text)?,
        Some(Bearer::Token(token)) => http.bearer(token.expose()).map_err(error_text)?,
        None => http,
    };
    if let Some(path) = unix_socket {
        http = http.unix_socket(path);
    }
    if let Some(timeout) = connect_timeout {
        http = http.connect_timeout(Duration::max(*timeout, Duration::from_millis(1)));
    }
    let secret = oauth.client_secret.as_ref().map(read_secret).transpose()?;
    match oauth.settings(secret) {
        Some(settings) => http.oauth(OAuthSettings { announce, ..settings }).map_err(error_text),
        None => Ok(http),
    }
}

fn error_text(error: impl std::error::Error) -> String {
    error.to_string()
}

fn read_secret(secret: &ClientSecret) -> Result<Secret, String> {
    let (read, place) = match secret {
        ClientSecret::Value(secret) => return Ok(secret.clone()),
        ClientSecret::File(path) => {
            let read = ProcessEnvironment
                .file(path)
                .map_err(|error| format!("the client secret's file {}: {error}", path.display()))?;
            (read, path.display().to_string())
        }
        ClientSecret::Env(name) => {
            let value = ProcessEnvironment.variable(name).and_then(|value| value.into_string().ok());
            let place = format!("the environment variable {name}");
            (value.ok_or_else(|| format!("{place} is not set, and was to hold the client secret"))?, place)
        }
    };
    match read.trim() {
        "" => Err(format!("{place} is empty, and was to hold the client secret")),
        secret => Ok(secret.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(entry: &str) -> ConfigFile {
        ConfigFile::parse(&format!(r#"{{"mcpServers":{{"a":{entry}}}}}"#), "mcp.json", &ProcessEnvironment).unwrap()
    }

    #[test]
    fn a_command_inherits_what_it_was_told_to() {
        let child = |entry: &str| match &file(entry).servers[0].kind {
            ServerKind::Command(command) => format!("{:?}", super::child_backend(command, &[])),
            ServerKind::Url(url) => panic!("{url:?}"),
        };
        let safe = child(r#"{"command":"x","args":["y"],"env":{"A":"b"}}"#);
        assert!(safe.contains("Named([\"") && safe.contains("\"PATH\"") && safe.contains("env: [\"A\"]"), "{safe}");
        assert!(child(r#"{"command":"x","sessile":{"inheritEnv":true}}"#).contains("inherit: All"));
    }

    #[tokio::test]
    async fn every_kind_of_server_is_put_together() {
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        std::fs::write(&token, "t0ken\n").unwrap();
        let token = token.to_str().unwrap();
        for entry in [
            r#"{"command":"x"}"#.to_owned(),
            r#"{"url":"https://a.test/mcp","headers":{"X-A":"b","Authorization":"Bearer c"}}"#.to_owned(),
            r#"{"url":"https://a.test/sse","type":"sse","auth":"t0ken"}"#.to_owned(),
            r#"{"url":"https://a.test/mcp","auth":"oauth"}"#.to_owned(),
            r#"{"url":"unix:///run/x.sock#/mcp","sessile":{"forwardHeaders":["X-User"],"denyTools":["x*"]}}"#
                .to_owned(),
            format!(r#"{{"url":"https://a.test/mcp","sessile":{{"bearerFile":{token:?}}}}}"#),
            format!(
                r#"{{"url":"https://a.test/mcp","sessile":{{"oauth":
                    {{"mode":"client-credentials","clientId":"x","clientSecretFile":{token:?}}}}}}}"#
            ),
        ] {
            let proxy = crate::Proxy::builder().config(&file(&entry)).and_then(ProxyBuilder::build);
            assert!(proxy.is_ok(), "{entry}: {proxy:?}");
        }
    }

    #[test]
    fn what_is_missing_is_said_with_the_name_of_the_server() {
        for (sessile, expected) in [
            (r#"{"bearerFile":"/none/token"}"#, "/none/token"),
            (r#"{"bearerEnv":"NO_SUCH_VARIABLE"}"#, "NO_SUCH_VARIABLE"),
            (
                r#"{"oauth":{"mode":"client-credentials","clientId":"x","clientSecretFile":"/none/secret"}}"#,
                "the client secret's file /none/secret",
            ),
            (
                r#"{"oauth":{"mode":"client-credentials","clientId":"x","clientSecretEnv":"NO_SUCH_VARIABLE"}}"#,
                "NO_SUCH_VARIABLE is not set",
            ),
        ] {
            let file = file(&format!(r#"{{"url":"https://a.test/mcp","sessile":{sessile}}}"#));
            let error = crate::Proxy::builder().config(&file).unwrap_err().to_string();
            assert!(error.starts_with("server `a`: ") && error.contains(expected), "{error}");
        }
    }
}
