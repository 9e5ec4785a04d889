//! Which servers to use, with which settings: those of the command line, put over those of the file that it names.

use std::ffi::OsString;
use std::path::Path;

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
    Specs(Vec<ServerSpec>),
}

/// A server, ready to be put behind a proxy.
pub(super) struct SelectedServer {
    pub name: String,
    pub backend: Backend,
    pub filter: Filter,
    /// Whether somebody may have to log in first.
    pub login: bool,
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
            Self::Specs(specs)
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
                    login: false,
                }])
            }
            Self::Command { words, inherit, filters } => {
                let mut words = words.into_iter();
                let program = words.next().unwrap_or_default();
                let name = Path::new(&program).file_stem().unwrap_or(&program).to_string_lossy().into_owned();
                let backend = ChildBackend::new(program).args(words).inherit(inherit);
                Ok(vec![SelectedServer { name, backend: backend.into(), filter: filters.filter()?, login: false }])
            }
            Self::Specs(specs) => {
                let served = |spec: ServerSpec| {
                    let backend = spec.backend(Some(announce(&spec.name)))?;
                    Ok(SelectedServer {
                        backend,
                        filter: spec.filters.filter()?,
                        login: has_login(&spec),
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

fn has_login(spec: &ServerSpec) -> bool {
    matches!(&spec.kind, ServerKind::Url(url) if url.remote.oauth.mode == Some(OAuthMode::Login))
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
    Ok((ServerSelection::Specs(specs), own.over(file.settings)))
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
