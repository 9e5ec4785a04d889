//! Settings of OAuth: how sessile logs in to an HTTP backend.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use url::{Host, Url};

use super::{ConfigError, Secret};

/// How sessile logs in to an HTTP backend by OAuth 2.1 (MCP 2025-11-25 and 2026-07-28, "Authorization").
///
/// The identity is one for all sessions: it is the operator's, not the clients'. Nothing is done until the backend asks
/// for it with HTTP 401, except that [`OAuthFlow::ClientCredentials`] gets its token first.
#[derive(Debug, Clone)]
pub struct OAuthSettings {
    /// Whether a person logs in with a browser, or this program with its own credentials. A person.
    pub flow: OAuthFlow,
    /// The client id, where the authorization server has given one out already. Without it a login uses
    /// [`client_metadata_url`](Self::client_metadata_url), or registers itself. `None`.
    pub client_id: Option<String>,
    /// The client secret that goes with [`client_id`](Self::client_id). `None`.
    pub client_secret: Option<Secret>,
    /// The scopes to ask for; empty for those that the backend says it needs. Empty.
    pub scopes: Vec<String>,
    /// The https URL of a client id metadata document, which is the client id where the authorization server supports
    /// that. Its `redirect_uris` must name the one that is used here. `None`.
    pub client_metadata_url: Option<String>,
    /// The name that a person is shown by an authorization server with which this client registers itself. `sessile`.
    pub client_name: String,
    /// The authorization server's issuer; any other that the backend names is refused, so that a compromised backend
    /// cannot have the client secret sent elsewhere. `None`: whatever the backend names.
    pub issuer: Option<String>,
    /// The port of the redirect listener; `None` for that of the last login where it is free, else any. `None`.
    pub redirect_port: Option<u16>,
    /// The whole redirect URI, for a client id that was registered with another one than
    /// `http://127.0.0.1:PORT/callback`: plain http, a loopback host and a port. `None`.
    pub redirect_uri: Option<String>,
    /// Where tokens are kept, in files that only their owner may read. One folder for each person, if the same backend
    /// is to be used as several. `None`: `$XDG_STATE_HOME/sessile/tokens` or `~/.local/state/sessile/tokens`.
    pub token_dir: Option<PathBuf>,
    /// Whether a login opens a browser. Yes.
    pub open_browser: bool,
    /// How long a person may take to log in. 5 minutes.
    pub login_timeout: Duration,
    /// Is called with the URL of a login that begins; without it, the URL is a warning in the log. `None`.
    pub announce: Option<Announce>,
}

/// The OAuth flow: whether a person or this program logs in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OAuthFlow {
    /// A person, in a browser on this machine: the authorization code flow with PKCE and a loopback redirect.
    #[default]
    Login,
    /// This program, with its client id and secret. Such tokens are not kept in files.
    ClientCredentials,
}

/// A function that is called with the URL that a person has to open.
#[derive(Clone)]
pub struct Announce(Arc<dyn Fn(&str) + Send + Sync>);

impl Announce {
    /// Wraps `call`, which must not block.
    pub fn new(call: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(call))
    }

    pub(crate) fn call(&self, url: &str) {
        (self.0)(url);
    }
}

impl fmt::Debug for Announce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Announce")
    }
}

impl Default for OAuthSettings {
    fn default() -> Self {
        Self {
            flow: OAuthFlow::Login,
            client_id: None,
            client_secret: None,
            scopes: Vec::new(),
            client_metadata_url: None,
            client_name: "sessile".to_owned(),
            issuer: None,
            redirect_port: None,
            redirect_uri: None,
            token_dir: None,
            open_browser: true,
            login_timeout: Duration::from_secs(5 * 60),
            announce: None,
        }
    }
}

impl OAuthSettings {
    /// Fails on settings that contradict each other or that no login could use.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let out = |setting, value: &str, expected| {
            Err(ConfigError::OutOfRange { setting, value: value.to_owned(), expected })
        };
        if self.flow == OAuthFlow::ClientCredentials {
            if self.client_id.is_none() {
                return out("client_id", "missing", "set for the client credentials flow");
            }
            if self.client_secret.is_none() {
                return out("client_secret", "missing", "set for the client credentials flow");
            }
        }
        if self.client_id.is_none() && self.client_secret.is_some() {
            return out(
                "client_secret",
                "set without a client_id",
                "set together with the client_id that it belongs to",
            );
        }
        if let Some(document) = &self.client_metadata_url
            && !is_client_document(document)
        {
            return out(
                "client_metadata_url",
                document,
                "an https URL with a path, and without a fragment or a password",
            );
        }
        if let Some(redirect) = &self.redirect_uri
            && loopback_redirect(redirect).is_none()
        {
            return out("redirect_uri", redirect, "like http://localhost:3334/callback: a loopback host, and a port");
        }
        if self.redirect_uri.is_some() && self.redirect_port.is_some() {
            return out("redirect_port", "set beside redirect_uri", "left out: the port stands in redirect_uri");
        }
        if self.redirect_port == Some(0) {
            return out("redirect_port", "0", "a port, or left out for any");
        }
        if self.login_timeout.is_zero() {
            return out("login_timeout", "0", "longer than nothing");
        }
        Ok(())
    }
}

/// Whether `url` may be a client id (draft-ietf-oauth-client-id-metadata-document, section 3).
fn is_client_document(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| {
        url.scheme() == "https"
            && url.path() != "/"
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    })
}

/// A redirect URI on this machine's loopback interface, with a port (RFC 8252, section 7.3).
pub(crate) fn loopback_redirect(uri: &str) -> Option<Url> {
    let url = Url::parse(uri).ok()?;
    let local = match url.host()? {
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
        Host::Domain(name) => name == "localhost",
    };
    let port = url.port().is_some_and(|port| port != 0);
    let plain = url.scheme() == "http" && url.query().is_none() && url.fragment().is_none();
    (local && port && plain && url.username().is_empty()).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_checked() {
        assert_eq!(OAuthSettings::default().check(), Ok(()));
        let program = OAuthSettings {
            flow: OAuthFlow::ClientCredentials,
            client_id: Some("id".to_owned()),
            client_secret: Some("s3cret".into()),
            ..OAuthSettings::default()
        };
        assert_eq!(program.check(), Ok(()));
        let bad = [
            OAuthSettings { client_id: None, ..program.clone() },
            OAuthSettings { client_secret: None, ..program },
            OAuthSettings { client_secret: Some("s3cret".into()), ..OAuthSettings::default() },
            OAuthSettings { client_metadata_url: Some("http://a.test/c".to_owned()), ..OAuthSettings::default() },
            OAuthSettings { client_metadata_url: Some("https://a.test/".to_owned()), ..OAuthSettings::default() },
            OAuthSettings { redirect_uri: Some("http://a.test:1/c".to_owned()), ..OAuthSettings::default() },
            OAuthSettings { redirect_uri: Some("http://127.0.0.1/c".to_owned()), ..OAuthSettings::default() },
            OAuthSettings { redirect_port: Some(0), ..OAuthSettings::default() },
            OAuthSettings {
                redirect_port: Some(1),
                redirect_uri: Some("http://localhost:1/c".to_owned()),
                ..OAuthSettings::default()
            },
            OAuthSettings { login_timeout: Duration::ZERO, ..OAuthSettings::default() },
        ];
        for settings in bad {
            let error = settings.check().unwrap_err().to_string();
            assert!(error.contains("must be"), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
        assert!(
            !format!("{:?}", OAuthSettings { client_secret: Some("s3cret".into()), ..Default::default() })
                .contains("s3cret")
        );
    }
}
