//! One entry of `mcpServers`: a server, by the command that starts it or by its URL.
//!
//! Keys of other programs are ignored, except those that hide a server or its tools (`restrictions`). sessile's own
//! settings for a server stand in the entry's `sessile` object.

use std::path::Path;

use url::Url;

use super::Secret;
use super::env_file;
use super::environment::Environment;
use super::filter_lists::FilterLists;
use super::json::{Document, FileError, Node, ObjectReader};
use super::oauth_options::{ClientSecret, OAuthMode, OAuthOptions};
use super::remote::{Bearer, Remote, Transport, read_headers};
use super::restrictions;
use super::text::{ConfigText, names_a_secret};

/// The longest name of a server: it stands before the names of its tools, which may have 128 characters in all
/// (2025-11-25, server/tools, "Tool Names").
const MAX_NAME_CHARS: usize = 64;

/// A server of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSpec {
    /// The server's name, of up to 64 characters. In front of the names of tools, characters other than ASCII letters,
    /// digits, `_`, `.` and `-` become `_`.
    pub name: String,
    /// How the server is reached.
    pub kind: ServerKind,
    /// Which of its tools, resources and prompts are offered.
    pub filters: FilterLists,
    /// Texts that are masked where the server prints them: the values of variables that its entry refers to, and of its
    /// own environment and headers where the name says that the value is a secret.
    pub secrets: Vec<Secret>,
}

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerKind {
    /// A program.
    Command(CommandSpec),
    /// A server that listens at a URL.
    Url(Box<UrlSpec>),
}

/// A program that speaks MCP on its stdin and stdout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandSpec {
    /// The program, by path or by name in `PATH`.
    pub program: ConfigText,
    /// The program's arguments.
    pub args: Vec<ConfigText>,
    /// Environment variables, besides those that the program inherits.
    pub env: Vec<(String, ConfigText)>,
    /// The working directory; `None` for sessile's own.
    pub cwd: Option<ConfigText>,
    /// Whether the program inherits the whole environment, or only the safe variables; `None` where the entry does not
    /// say.
    pub inherit_env: Option<bool>,
}

/// A server that listens at a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlSpec {
    /// An `http` or `https` URL. It is a secret if a variable, a password or a query is part of it.
    pub url: ConfigText,
    /// The transport, headers and credentials.
    pub remote: Remote,
}

impl ServerSpec {
    /// A server at a URL, with nothing else said about it.
    pub fn at_url(url: &str) -> Result<Self, String> {
        let (url, socket) = parse_url(url)?;
        let name = url.host_str().unwrap_or_default().replace(|letter| !fits_name(letter), "-");
        let remote = Remote { unix_socket: socket.map(Into::into), ..Remote::default() };
        let kind = ServerKind::Url(Box::new(UrlSpec { url: url_text(url, false), remote }));
        let name = name.chars().take(MAX_NAME_CHARS).collect();
        Ok(Self { name, kind, filters: FilterLists::default(), secrets: Vec::new() })
    }

    /// The name as it stands in front of the names of the server's tools.
    pub(super) fn prefix(&self) -> String {
        self.name.replace(|letter| !fits_name(letter), "_")
    }

    /// Reads an entry; `None` if it is disabled.
    pub(super) fn read(
        name: &str,
        node: &Node<'_>,
        document: &Document<'_>,
        environment: &dyn Environment,
    ) -> Result<Option<Self>, FileError> {
        let entry = node.object_or("an object with a command or a url")?;
        if restrictions::is_server_disabled(&entry)? {
            return Ok(None);
        }
        check_name(name).map_err(|error| node.error(error))?;
        document.take_secrets();
        let own = EntrySettings::read(&entry)?;
        let url = find_url(&entry)?;
        let kind = match (entry.get("command"), url) {
            (Some(_), Some(url)) => {
                return Err(url.error("expected a command or a url, and this server has both: keep one of them"));
            }
            (None, None) => {
                return Err(entry.error("expected a server with a command or a url, and this one has neither"));
            }
            (Some(command), None) => ServerKind::Command(CommandSpec::read(&command, &entry, &own, environment)?),
            (None, Some(url)) => ServerKind::Url(Box::new(UrlSpec::read(&url, &entry, own.remote)?)),
        };
        let filters = FilterLists { tool_names: restrictions::offered_tools(&entry)?, ..own.filters };
        let mut secrets = document.take_secrets();
        secrets.extend(kind.secrets().cloned());
        Ok(Some(Self { name: name.to_owned(), kind, filters, secrets }))
    }
}

/// The keys that programs have for the URL of a server: `httpUrl` is Gemini CLI's, for streamable HTTP only;
/// `serverUrl` is Windsurf's.
const URL_KEYS: [&str; 3] = ["url", "serverUrl", "httpUrl"];

fn find_url<'n>(entry: &ObjectReader<'n>) -> Result<Option<Node<'n>>, FileError> {
    let found: Vec<_> = URL_KEYS.iter().filter_map(|name| Some((*name, entry.get(name)?))).collect();
    match found.as_slice() {
        [] => Ok(None),
        [(_, node)] => Ok(Some(node.clone())),
        [(first, _), (_, second), ..] => {
            Err(second.error(format!("this server has a URL already, in {first}: keep one of them")))
        }
    }
}

fn fits_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "_-.".contains(letter)
}

/// Checks that a name can stand in front of the names of tools.
fn check_name(name: &str) -> Result<(), String> {
    let why = match name {
        "" => "it is empty",
        name if name.chars().count() > MAX_NAME_CHARS => "it is too long",
        name if !name.chars().any(|letter| letter.is_ascii_alphanumeric()) => "no letter or digit of it is left there",
        name if name.chars().any(char::is_control) => "it has control characters",
        _ => return Ok(()),
    };
    Err(format!(
        "this name cannot stand before those of the server's tools, because {why}: use up to {MAX_NAME_CHARS} letters, digits, _, - and . (others become _)"
    ))
}

/// The settings in the `sessile` object of an entry.
struct EntrySettings {
    filters: FilterLists,
    remote: Remote,
    inherit_env: Option<bool>,
}

impl EntrySettings {
    fn read(entry: &ObjectReader<'_>) -> Result<Self, FileError> {
        let Some(node) = entry.get("sessile") else {
            return Ok(Self { filters: FilterLists::default(), remote: Remote::default(), inherit_env: None });
        };
        let reader = node.object()?;
        let own = Self {
            filters: FilterLists::read(&reader)?,
            remote: Remote::read(&reader)?,
            inherit_env: reader.get("inheritEnv").map(|node| node.boolean()).transpose()?,
        };
        reader.finish()?;
        if entry.get("command").is_some() && own.remote != Remote::default() {
            return Err(node.error("expected no settings for a URL here: this server has a command"));
        }
        if URL_KEYS.iter().any(|name| entry.get(name).is_some())
            && let Some(inherit) = reader.get("inheritEnv")
        {
            return Err(inherit.error("this is for a server with a command, and this one has a url"));
        }
        Ok(own)
    }
}

impl ServerKind {
    /// The values of headers, which may be credentials.
    fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let headers = match self {
            Self::Command(_) => [].iter(),
            Self::Url(url) => url.remote.headers.iter(),
        };
        headers.map(|(_, value)| value)
    }
}

impl CommandSpec {
    fn read(
        command: &Node<'_>,
        entry: &ObjectReader<'_>,
        own: &EntrySettings,
        environment: &dyn Environment,
    ) -> Result<Self, FileError> {
        if command.is_array() {
            return Err(command.error("expected a string with the program, found a list: arguments stand in args"));
        }
        let program = command.some_text()?;
        if let Some(node) = entry.get_either("transport", "type")? {
            node.parsed("stdio", |transport| match transport {
                "stdio" => Ok(()),
                _ => Err("a server with a command speaks on its stdin and stdout".to_owned()),
            })?;
        }
        let mut env = Vec::new();
        if let Some(node) = entry.get("envFile") {
            let path = node.some_text()?;
            // The error quotes nothing of the file, and the path only where no variable went into it: both may hold
            // secrets.
            let said = environment.file(Path::new(path.expose())).map_err(|error| {
                node.error(format!("expected a file of variables, and {} cannot be read: {error}", path.shown()))
            })?;
            let variables = env_file::parse(&said).map_err(|error| node.error(format!("{}: {error}", path.shown())))?;
            env.extend(variables.into_iter().map(|(name, value)| {
                let value = text_of_variable(&name, ConfigText::plain(value));
                (name, value)
            }));
        }
        if let Some(node) = entry.get("env") {
            for (name, node) in node.object_or("an object of variables")?.set_entries() {
                if name.is_empty() || name.contains(['=', '\0']) {
                    return Err(node.error("no variable can have such a name"));
                }
                env.retain(|(other, _)| other != name);
                env.push((name.to_owned(), text_of_variable(name, node.text_or_scalar()?)));
            }
        }
        Ok(Self {
            program,
            args: entry.get("args").map(|node| node.texts()).transpose()?.unwrap_or_default(),
            env,
            cwd: entry.get("cwd").map(|node| node.some_text()).transpose()?,
            inherit_env: own.inherit_env,
        })
    }
}

/// The value of a variable, which is a secret if the name says so, or if the value is a URL with a password.
fn text_of_variable(name: &str, value: ConfigText) -> ConfigText {
    let password = value.expose().split_once("://").is_some_and(|(_, rest)| rest.contains('@'));
    if names_a_secret(name) || password { ConfigText::secret(value.expose()) } else { value }
}

impl UrlSpec {
    fn read(node: &Node<'_>, entry: &ObjectReader<'_>, own: Remote) -> Result<Self, FileError> {
        let (url, socket) = parse_url_node(node)?;
        let mut transport = read_transport(entry)?;
        if let (Some(http), None) = (entry.get("httpUrl"), entry.get("url")) {
            if transport == Some(Transport::Sse) {
                return Err(http.error("this is a URL of streamable HTTP, and the transport is sse: keep one of them"));
            }
            transport = Some(Transport::Http);
        }
        let headers = entry.get("headers").map(|node| read_headers(&node)).transpose()?.unwrap_or_default();
        let mut remote = Remote { unix_socket: socket.map(Into::into), ..Remote::default() };
        if let Some(node) = entry.get("auth") {
            read_auth(&node, &mut remote)?;
        }
        remote.headers = headers;
        remote.transport = transport;
        remote.check().map_err(|error| node.error(error))?;
        own.check().map_err(|error| node.error(error))?;
        Ok(Self { url, remote: own.over(remote) })
    }
}

/// `transport` and `type` are two names of one thing, and some files have both.
fn read_transport(entry: &ObjectReader<'_>) -> Result<Option<Transport>, FileError> {
    let parse = |node: &Node<'_>| node.parsed("one of http, streamable-http and sse", Transport::parse);
    let first = entry.get("transport").map(|node| parse(&node)).transpose()?;
    let Some(node) = entry.get("type") else { return Ok(first) };
    let second = parse(&node)?;
    match first {
        Some(first) if first != second => Err(node.error("this is not what transport says: keep one of them")),
        _ => Ok(Some(second)),
    }
}

/// FastMCP's `auth`: the word `oauth`, or a token. Cursor's: an object with a client that is registered already.
fn read_auth(node: &Node<'_>, remote: &mut Remote) -> Result<(), FileError> {
    if node.is_text() {
        let auth = node.some_text()?;
        match auth.expose() {
            "oauth" => remote.oauth.mode = Some(OAuthMode::Login),
            token => remote.bearer = Some(Bearer::Token(token.into())),
        }
        return Ok(());
    }
    let auth = node.object_or("\"oauth\", a token, or an object with a CLIENT_ID")?;
    let text = |name| auth.get(name).map(|node| Ok(node.some_text()?.expose().to_owned())).transpose();
    let scopes = auth.get("scopes").map(|node| node.texts()).transpose()?.unwrap_or_default();
    remote.oauth = OAuthOptions {
        mode: Some(OAuthMode::Login),
        client_id: text("CLIENT_ID")?,
        client_secret: text("CLIENT_SECRET")?.map(|secret| ClientSecret::Value(secret.into())),
        scopes: scopes.iter().map(|scope| scope.expose().to_owned()).collect(),
        ..OAuthOptions::default()
    };
    Ok(())
}

/// The URL, and the unix socket that it names in VS Code's way.
fn parse_url_node(node: &Node<'_>) -> Result<(ConfigText, Option<String>), FileError> {
    let text = node.some_text()?;
    let (url, socket) = node.check(&text, "a URL that begins with http:// or https://", parse_url)?;
    Ok((url_text(url, text.is_secret()), socket))
}

/// The URL, which is a secret if something in it may be one.
fn url_text(url: Url, secret: bool) -> ConfigText {
    let secret = secret || url.password().is_some() || !url.username().is_empty() || url.query().is_some();
    let url = String::from(url);
    if secret { ConfigText::secret(url) } else { ConfigText::plain(url) }
}

/// Parses the URL of a server: `http`, `https`, or `unix:///path/to/socket#/path`.
fn parse_url(text: &str) -> Result<(Url, Option<String>), String> {
    let url = Url::parse(text.trim()).map_err(|error| error.to_string())?;
    match url.scheme() {
        "http" | "https" => Ok((url, None)),
        "unix" if url.path().len() > 1 => {
            let path = url.fragment().unwrap_or("/").to_owned();
            let inner = Url::parse(&format!("http://localhost{path}")).map_err(|error| error.to_string())?;
            Ok((inner, Some(url.path().to_owned())))
        }
        "unix" => Err("a unix socket is written as unix:///path/to/socket".to_owned()),
        "ws" | "wss" => Err("WebSocket is no transport of MCP".to_owned()),
        _ => Err("it has another scheme".to_owned()),
    }
}
