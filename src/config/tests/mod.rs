//! Configuration files as people have them, and as they get them wrong.

mod errors;
mod forms;
mod properties;
mod restrictions;
mod settings;

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::Path;

use super::{CommandSpec, ConfigFile, ConfigText, Environment, FileError, ServerKind, ServerSpec, UrlSpec};

/// Variables and files that a test has made up.
#[derive(Default)]
struct TestEnvironment {
    variables: HashMap<&'static str, &'static str>,
    files: HashMap<&'static str, &'static str>,
}

impl Environment for TestEnvironment {
    fn variable(&self, name: &str) -> Option<OsString> {
        self.variables.get(name).map(Into::into)
    }

    fn file(&self, path: &Path) -> io::Result<String> {
        let file = path.to_str().and_then(|path| self.files.get(path));
        file.map(|text| (*text).to_owned()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn environment() -> TestEnvironment {
    TestEnvironment {
        variables: [
            ("TOKEN", "t0ps3cret"),
            ("HOME", "/home/me"),
            ("HOST", "mcp.example.com"),
            ("NOT_A_URL", "s3cret-not-a-url"),
        ]
        .into(),
        files: [(".env", "PORT=80\nAPI_KEY='from the file'\nREGION=eu\n"), ("bad.env", "A=1\nB=\"s3cret")].into(),
    }
}

fn parse(text: &str) -> Result<ConfigFile, FileError> {
    ConfigFile::parse(text, "mcp.json", &environment())
}

fn good(text: &str) -> ConfigFile {
    parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The message about a file that is wrong.
fn bad(text: &str) -> String {
    match parse(text) {
        Ok(config) => panic!("this was taken: {text}\n{config:#?}"),
        Err(error) => error.to_string(),
    }
}

/// The only server, whose entry this is.
fn server(entry: &str) -> ServerSpec {
    let mut config = good(&format!(r#"{{"mcpServers":{{"a":{entry}}}}}"#));
    assert_eq!(config.servers.len(), 1);
    config.servers.remove(0)
}

fn command(entry: &str) -> CommandSpec {
    match server(entry).kind {
        ServerKind::Command(command) => command,
        ServerKind::Url(url) => panic!("this has a url: {url:?}"),
    }
}

fn url(entry: &str) -> UrlSpec {
    match server(entry).kind {
        ServerKind::Url(url) => *url,
        ServerKind::Command(command) => panic!("this has a command: {command:?}"),
    }
}

fn shown(texts: &[ConfigText]) -> Vec<&str> {
    texts.iter().map(ConfigText::expose).collect()
}
