//! The settings of OAuth as they are configured, in a file or on a command line. The backend runs the flows themselves.

use std::path::PathBuf;

use super::json::{FileError, Node, ObjectReader};
use super::{OAuthFlow, OAuthSettings, Secret, units};

/// Settings of OAuth. A field that is `None` has not been set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OAuthOptions {
    /// Which flow, or none.
    pub mode: Option<OAuthMode>,
    /// The id of a client that is registered already.
    pub client_id: Option<String>,
    /// The secret of that client.
    pub client_secret: Option<ClientSecret>,
    /// The scopes to ask for.
    pub scopes: Vec<String>,
    /// The https URL of a document that describes the client, which is then its id.
    pub client_metadata_url: Option<String>,
    /// The authorization server's issuer, beside which no other is trusted.
    pub issuer: Option<String>,
    /// The port of the loopback redirect.
    pub redirect_port: Option<u16>,
    /// The whole loopback redirect URI.
    pub redirect_uri: Option<String>,
    /// Where tokens are kept.
    pub token_dir: Option<PathBuf>,
    /// Print the URL, and open no browser.
    pub no_browser: Option<bool>,
}

/// Which flow fetches a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OAuthMode {
    /// No token is fetched.
    Off,
    /// A person logs in with a browser (authorization code, PKCE).
    Login,
    /// This program logs in with a client id and secret (client credentials).
    ClientCredentials,
}

/// Where the secret of a client comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientSecret {
    /// A file that holds nothing else.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// The secret itself.
    Value(Secret),
}

impl OAuthMode {
    /// Parses the name of a mode, as it is written in files and on the command line.
    pub fn parse(name: &str) -> Result<Self, String> {
        match name {
            "off" => Ok(Self::Off),
            "login" => Ok(Self::Login),
            "client-credentials" => Ok(Self::ClientCredentials),
            _ => Err("it is none that is known here".to_owned()),
        }
    }
}

/// The names of the keys of OAuth: an `oauth` object has them in short, and a `sessile` object in full.
struct OAuthKeys {
    client_id: &'static str,
    secret_file: &'static str,
    secret_env: &'static str,
    secret: &'static str,
    scope: &'static str,
    metadata_url: &'static str,
    issuer: &'static str,
    redirect_port: &'static str,
    redirect_uri: &'static str,
    token_dir: &'static str,
}

const IN_OAUTH_OBJECT: OAuthKeys = OAuthKeys {
    client_id: "clientId",
    secret_file: "clientSecretFile",
    secret_env: "clientSecretEnv",
    secret: "clientSecret",
    scope: "scope",
    metadata_url: "clientMetadataUrl",
    issuer: "issuer",
    redirect_port: "redirectPort",
    redirect_uri: "redirectUri",
    token_dir: "tokenDir",
};

const BESIDE_OAUTH_KEY: OAuthKeys = OAuthKeys {
    client_id: "oauthClientId",
    secret_file: "oauthClientSecretFile",
    secret_env: "oauthClientSecretEnv",
    secret: "oauthClientSecret",
    scope: "oauthScope",
    metadata_url: "oauthClientMetadataUrl",
    issuer: "oauthIssuer",
    redirect_port: "oauthRedirectPort",
    redirect_uri: "oauthRedirectUri",
    token_dir: "oauthTokenDir",
};

const MODES: &str = "one of off, login and client-credentials";

impl OAuthOptions {
    /// Whether a token is to be fetched.
    pub fn is_on(&self) -> bool {
        matches!(self.mode, Some(OAuthMode::Login | OAuthMode::ClientCredentials))
    }

    /// Puts these settings over `lower` ones.
    #[must_use]
    pub fn over(self, lower: Self) -> Self {
        Self {
            mode: self.mode.or(lower.mode),
            client_id: self.client_id.or(lower.client_id),
            client_secret: self.client_secret.or(lower.client_secret),
            scopes: if self.scopes.is_empty() { lower.scopes } else { self.scopes },
            client_metadata_url: self.client_metadata_url.or(lower.client_metadata_url),
            issuer: self.issuer.or(lower.issuer),
            redirect_port: self.redirect_port.or(lower.redirect_port),
            redirect_uri: self.redirect_uri.or(lower.redirect_uri),
            token_dir: self.token_dir.or(lower.token_dir),
            no_browser: self.no_browser.or(lower.no_browser),
        }
    }

    /// Checks that the settings go together.
    pub fn check(&self) -> Result<(), String> {
        if self.mode.is_none() && (self.client_id.is_some() || self.client_secret.is_some()) {
            return Err("there is an OAuth client, and no flow that uses it: set oauth to login or client-credentials"
                .to_owned());
        }
        let secret = self.client_secret.as_ref().map(|_| Secret::new("to be read"));
        self.settings(secret).map_or(Ok(()), |settings| settings.check().map_err(|error| error.to_string()))
    }

    /// The settings of the flow, with the secret that was read from its place; `None` if no token is to be fetched.
    pub fn settings(&self, client_secret: Option<Secret>) -> Option<OAuthSettings> {
        let flow = match self.mode? {
            OAuthMode::Off => return None,
            OAuthMode::Login => OAuthFlow::Login,
            OAuthMode::ClientCredentials => OAuthFlow::ClientCredentials,
        };
        Some(OAuthSettings {
            flow,
            client_id: self.client_id.clone(),
            client_secret,
            scopes: self.scopes.clone(),
            client_metadata_url: self.client_metadata_url.clone(),
            issuer: self.issuer.clone(),
            redirect_port: self.redirect_port,
            redirect_uri: self.redirect_uri.clone(),
            token_dir: self.token_dir.clone(),
            open_browser: !self.no_browser.unwrap_or_default(),
            ..OAuthSettings::default()
        })
    }

    /// Reads it from a `sessile` object: `oauth` is a mode, with the rest in keys beside it, or an object with all of
    /// it.
    pub(super) fn read(reader: &ObjectReader<'_>) -> Result<Self, FileError> {
        let beside = Self::read_keys(reader, &BESIDE_OAUTH_KEY)?;
        let Some(node) = reader.get("oauth") else { return Ok(beside) };
        if node.is_text() {
            let mode = node.parsed(MODES, OAuthMode::parse)?;
            return Ok(Self { mode: Some(mode), ..beside });
        }
        if beside != (Self { no_browser: beside.no_browser, ..Self::default() }) {
            return Err(node.error("some of it stands in keys beside this object: put all of it into one place"));
        }
        let inside = node.object_or("a mode (off, login, client-credentials) or an object")?;
        let mode = inside.get("mode").map(|node| node.parsed(MODES, OAuthMode::parse)).transpose()?;
        let oauth =
            Self { mode: Some(mode.unwrap_or(OAuthMode::Login)), ..Self::read_keys(&inside, &IN_OAUTH_OBJECT)? };
        inside.finish()?;
        oauth.check().map_err(|error| node.error(error))?;
        Ok(oauth.over(beside))
    }

    fn read_keys(reader: &ObjectReader<'_>, keys: &OAuthKeys) -> Result<Self, FileError> {
        let text = |name| reader.get(name).map(|node| Ok(node.some_text()?.expose().to_owned())).transpose();
        let scopes = match reader.get(keys.scope) {
            Some(node) if node.is_array() => node.texts()?.iter().flat_map(|text| scopes(text.expose())).collect(),
            Some(node) => scopes(node.text()?.expose()),
            None => Vec::new(),
        };
        let port = reader.get(keys.redirect_port).map(|node| node.number("a port from 1 to 65535", port));
        let folder = reader.get(keys.token_dir).map(|node| node.parsed("a path", units::path));
        Ok(Self {
            mode: None,
            client_id: text(keys.client_id)?,
            client_secret: read_secret(reader, keys)?,
            scopes,
            client_metadata_url: text(keys.metadata_url)?,
            issuer: text(keys.issuer)?,
            redirect_port: port.transpose()?,
            redirect_uri: text(keys.redirect_uri)?,
            token_dir: folder.transpose()?,
            no_browser: reader.get("noBrowser").map(|node| node.boolean()).transpose()?,
        })
    }
}

fn read_secret(reader: &ObjectReader<'_>, keys: &OAuthKeys) -> Result<Option<ClientSecret>, FileError> {
    let given = [reader.get(keys.secret_file), reader.get(keys.secret_env), reader.get(keys.secret)];
    if let Some(second) = given.iter().flatten().nth(1) {
        return Err(second.error("the client's secret comes from somewhere else already: keep one of them"));
    }
    let [file, env, value] = given;
    let file = file.map(|node| node.parsed("a path", units::path).map(ClientSecret::File));
    let env =
        env.map(|node| node.parsed("the name of an environment variable", units::variable_name).map(ClientSecret::Env));
    let value = value.map(|node: Node<'_>| Ok(ClientSecret::Value(node.some_text()?.expose().into())));
    file.or(env).or(value).transpose()
}

/// Scopes, as they are written with spaces or commas between them.
pub fn scopes(text: &str) -> Vec<String> {
    text.split([' ', ',']).filter(|scope| !scope.is_empty()).map(str::to_owned).collect()
}

/// A port.
pub fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err("it is none".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_to_go_together() {
        let client = OAuthOptions { client_id: Some("x".into()), ..OAuthOptions::default() };
        assert!(client.check().unwrap_err().contains("set oauth to login"));
        let credentials = OAuthOptions { mode: Some(OAuthMode::ClientCredentials), ..client.clone() };
        assert!(credentials.check().unwrap_err().contains("client_secret is missing"));
        let whole = OAuthOptions { client_secret: Some(ClientSecret::Env("S".into())), ..credentials };
        assert_eq!(whole.check(), Ok(()));
        assert_eq!(OAuthOptions { mode: Some(OAuthMode::Login), ..client }.check(), Ok(()));
    }

    #[test]
    fn settings_are_those_of_the_flow() {
        assert!(OAuthOptions::default().settings(None).is_none());
        let off = OAuthOptions { mode: Some(OAuthMode::Off), ..OAuthOptions::default() };
        assert!(off.settings(None).is_none());
        let login = OAuthOptions {
            mode: Some(OAuthMode::Login),
            scopes: scopes("a, b  c"),
            no_browser: Some(true),
            ..OAuthOptions::default()
        };
        let settings = login.settings(None).unwrap();
        assert_eq!((settings.flow, settings.open_browser), (OAuthFlow::Login, false));
        assert_eq!(settings.scopes, ["a", "b", "c"]);
        let http = OAuthOptions { client_metadata_url: Some("http://x/client.json".into()), ..login };
        assert!(http.check().unwrap_err().contains("an https URL"));
    }
}
