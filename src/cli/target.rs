//! Which servers to use, with which settings: those of the command line, put over those of the file that it names.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use sessile::backend::Inherit;
use sessile::config::{
    Announce, ApplyError, ConfigFile, FilterLists, OAuthMode, ServerKind, ServerSpec, Settings, safe_environment,
};
use sessile::{Backend, ChildBackend, ConfigError, Filter, InProcessBackend};

use super::options::TargetArgs;
use crate::telemetry::print_notice;

/// The servers that the command line selects.
#[derive(Debug)]
pub(super) enum ServerSelection {
    /// The built-in demo server.
    Demo(FilterLists),
    /// The program of the command line.
    Command { words: Vec<OsString>, inherit: Inherit, filters: FilterLists },
    /// The servers of a file, or the one at a URL.
    Specs { specs: Vec<ServerSpec>, file: Option<PathBuf> },
}

/// A server, ready to be put behind a proxy.
pub(super) struct SelectedServer {
    pub name: String,
    pub backend: Backend,
    pub filter: Filter,
    /// The command that logs in to the server, if somebody may have to log in first.
    pub login_command: Option<String>,
}

impl ServerSelection {
    /// Finds the servers, and puts the settings of a file under those of the command line. Fails with an error for the
    /// person who wrote the command line or the file.
    pub(super) fn find(target: TargetArgs, own: Settings, subcommand: &str) -> Result<(Self, Settings), String> {
        let TargetArgs { config, url, command } = target;
        let given = [config.is_some(), url.is_some(), !command.is_empty()];
        if given.iter().filter(|given| **given).count() > 1 {
            return Err("there is more than one kind of server: give --config FILE, or a URL, or -- COMMAND".to_owned());
        }
        if let Some(path) = config {
            return from_file(&path, own);
        }
        let specs = match url {
            Some(url) => vec![at_url(url.expose(), subcommand)?],
            None => Vec::new(),
        };
        let specs = ServerSpec::apply(specs, &own, &Settings::default()).map_err(|error| as_option_error(&error))?;
        let filters = own.filters.clone();
        let servers = if !specs.is_empty() {
            Self::Specs { specs, file: None }
        } else if command.is_empty() {
            Self::Demo(filters)
        } else {
            // A program on a command line is expected to have the environment that other programs have there.
            let inherit = if own.inherit_env == Some(false) { safe() } else { Inherit::All };
            Self::Command { words: command, inherit, filters }
        };
        Ok((servers, own))
    }

    /// Makes backends of the servers, and reads the secrets that their settings point to.
    pub(super) fn build(self) -> Result<Vec<SelectedServer>, ConfigError> {
        match self {
            Self::Demo(filters) => {
                let backend = InProcessBackend::demo();
                Ok(vec![SelectedServer {
                    name: "demo".to_owned(),
                    backend: backend.into(),
                    filter: filters.filter()?,
                    login_command: None,
                }])
            }
            Self::Command { words, inherit, filters } => {
                let mut words = words.into_iter();
                let program = words.next().unwrap_or_default();
                let name = Path::new(&program).file_stem().unwrap_or(&program).to_string_lossy().into_owned();
                let backend = ChildBackend::new(program).args(words).inherit(inherit);
                Ok(vec![SelectedServer {
                    name,
                    backend: backend.into(),
                    filter: filters.filter()?,
                    login_command: None,
                }])
            }
            Self::Specs { specs, file } => {
                let served = |spec: ServerSpec| {
                    let backend = spec.backend(Some(announce(&spec.name)))?;
                    Ok(SelectedServer {
                        backend,
                        filter: spec.filters.filter()?,
                        login_command: login_command(&spec, file.as_deref()),
                        name: spec.name,
                    })
                };
                specs.into_iter().map(served).collect()
            }
        }
    }
}

/// Prints the URL of a login on the terminal, whatever the log level is.
fn announce(server: &str) -> Announce {
    let server = server.to_owned();
    Announce::new(move |url| print_notice(&format!("to log in to {server}, open {url}")))
}

/// The command that logs in to the server, if that takes a person.
fn login_command(spec: &ServerSpec, file: Option<&Path>) -> Option<String> {
    match (&spec.kind, file) {
        (ServerKind::Url(server), _) if server.remote.oauth.mode != Some(OAuthMode::Login) => None,
        (ServerKind::Url(_), Some(file)) => Some(format!("sessile check --config {}", file.display())),
        (ServerKind::Url(server), None) => {
            let url = if server.url.is_secret() { "URL" } else { server.url.expose() };
            Some(format!("sessile check --oauth login {url}"))
        }
        (ServerKind::Command(_), _) => None,
    }
}

/// The error of a server, with the command that logs in to the server. The library, which knows no commands, says of a
/// login that failed or has ended that a later request begins a new one.
pub(super) fn with_login_command(error: String, command: Option<&str>) -> String {
    match command {
        Some(command) if error.contains("a later request") => {
            format!("{error}; to send such a request, run `{command}` in a terminal")
        }
        _ => error,
    }
}

fn safe() -> Inherit {
    Inherit::Named(safe_environment().map(Into::into).collect())
}

fn from_file(path: &Path, own: Settings) -> Result<(ServerSelection, Settings), String> {
    let file = ConfigFile::read(path).map_err(|error| error.to_string())?;
    // Once with the options alone, so that an error about an option names the option and not the file.
    ServerSpec::apply(file.servers.clone(), &own, &Settings::default()).map_err(|error| as_option_error(&error))?;
    let specs = ServerSpec::apply(file.servers, &own, &file.settings)
        .map_err(|error| format!("{}: sessile: {error}", path.display()))?;
    Ok((ServerSelection::Specs { specs, file: Some(path.to_owned()) }, own.over(file.settings)))
}

fn at_url(url: &str, subcommand: &str) -> Result<ServerSpec, String> {
    if !url.contains("://") {
        let word: String = url.chars().take(60).collect();
        return Err(format!(
            "`{word}` is no URL: write one with https:// or http://, or did you mean the program `sessile {subcommand} -- \
             {word}`?"
        ));
    }
    ServerSpec::at_url(url).map_err(|error| format!("the server's URL cannot be used: {error}"))
}

/// The error with the name of the option in place of the key in a file.
fn as_option_error(error: &ApplyError) -> String {
    let text = error.to_string();
    let Some(key) = error.setting() else { return text };
    let option: String = key
        .chars()
        .flat_map(|letter| {
            let dash = letter.is_ascii_uppercase().then_some('-');
            dash.into_iter().chain([letter.to_ascii_lowercase()])
        })
        .collect();
    text.replacen(key, &format!("--{option}"), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_has_a_command_without_secrets() {
        let spec = |url: &str, mode| {
            let mut spec = ServerSpec::at_url(url).unwrap();
            let ServerKind::Url(server) = &mut spec.kind else { unreachable!() };
            server.remote.oauth.mode = mode;
            spec
        };
        let (plain, login) = ("http://localhost/mcp", Some(OAuthMode::Login));
        let command = login_command(&spec(plain, login), None).unwrap();
        assert_eq!(command, "sessile check --oauth login http://localhost/mcp");
        let secret = login_command(&spec("http://localhost/mcp?key=s3cret", login), None).unwrap();
        assert_eq!(secret, "sessile check --oauth login URL");
        let of_file = login_command(&spec(plain, login), Some(Path::new("mcp.json"))).unwrap();
        assert_eq!(of_file, "sessile check --config mcp.json");
        assert_eq!(login_command(&spec(plain, None), None), None);
        assert_eq!(login_command(&spec(plain, Some(OAuthMode::ClientCredentials)), None), None);
    }
}
