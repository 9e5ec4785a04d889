//! The options for a server at a URL.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use sessile::config::oauth_options::{port, scopes};
use sessile::config::remote::parse_header;
use sessile::config::{
    Bearer, ClientSecret, Environment as _, OAuthMode, OAuthOptions, ProcessEnvironment, Remote, Secret, Transport,
    headers, units,
};

/// Parses any text as a secret, so that clap never refuses it: clap's errors would quote it.
#[expect(clippy::unnecessary_wraps, reason = "clap wants a result of a parser")]
pub(super) fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(text.into())
}

#[derive(Debug, Args)]
#[command(next_help_heading = "A server at a URL")]
pub(super) struct RemoteArgs {
    /// The server's transport: `http` is streamable HTTP, `sse` the older HTTP+SSE, and `auto` finds out [default:
    /// auto]
    #[arg(long, value_name = "auto|http|sse", value_parser = transport)]
    transport: Option<Transport>,

    /// Send a header with every request, as in 'X-Api-Key: ${KEY}', where ${KEY} is an environment variable. May be
    /// repeated; never shown.
    #[arg(long, value_name = "NAME: VALUE", value_parser = secret)]
    header: Vec<Secret>,

    /// Pass on this header of a client's own requests. May be repeated.
    #[arg(long, value_name = "NAME", value_parser = headers::check_forwarded)]
    forward_header: Vec<String>,

    /// Send the bearer token that is in a file; it is read again when it changes.
    #[arg(long, value_name = "PATH", conflicts_with = "bearer_env")]
    bearer_file: Option<PathBuf>,

    /// Send the bearer token that is in an environment variable.
    #[arg(long, value_name = "NAME", value_parser = secret)]
    bearer_env: Option<Secret>,

    /// Connect to a unix socket in place of the URL's host and port.
    #[arg(long, value_name = "PATH")]
    unix_socket: Option<PathBuf>,

    /// How long connecting may take [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    connect_timeout: Option<Duration>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Logging in to a server at a URL")]
pub(super) struct OAuthArgs {
    /// How to get a token: `login` by a person in a browser, `client-credentials` by a client id and secret [default:
    /// off]
    #[arg(long, value_name = "off|login|client-credentials", value_parser = mode)]
    oauth: Option<OAuthMode>,

    /// The id of a client that is registered already.
    #[arg(long, value_name = "ID")]
    oauth_client_id: Option<String>,

    /// The file with that client's secret.
    #[arg(long, value_name = "PATH", conflicts_with = "oauth_client_secret_env")]
    oauth_client_secret_file: Option<PathBuf>,

    /// The environment variable with that client's secret.
    #[arg(long, value_name = "NAME", value_parser = secret)]
    oauth_client_secret_env: Option<Secret>,

    /// The scopes to ask for, with spaces between them [default: those that the server says it needs]
    #[arg(long, value_name = "SCOPES")]
    oauth_scope: Option<String>,

    /// The https URL of a client id metadata document, which is then the client id.
    #[arg(long, value_name = "URL")]
    oauth_client_metadata_url: Option<String>,

    /// The authorization server's issuer; no other is trusted [default: what the server names]
    #[arg(long, value_name = "URL")]
    oauth_issuer: Option<String>,

    /// The port of the redirect on this machine [default: any that is free]
    #[arg(long, value_name = "PORT", value_parser = port)]
    oauth_redirect_port: Option<u16>,

    /// The whole redirect URI, for a client that was registered with another one than http://127.0.0.1:PORT/callback.
    #[arg(long, value_name = "URI")]
    oauth_redirect_uri: Option<String>,

    /// Where tokens are kept, in files that only their owner may read [default: ~/.local/state/sessile/tokens]
    #[arg(long, value_name = "FOLDER")]
    oauth_token_dir: Option<PathBuf>,

    /// Print the URL of a login, and open no browser.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    no_browser: Option<bool>,
}

fn transport(name: &str) -> Result<Transport, String> {
    Transport::parse(name).map_err(|error| format!("{error}: use auto, http or sse"))
}

fn mode(name: &str) -> Result<OAuthMode, String> {
    OAuthMode::parse(name).map_err(|error| format!("{error}: use off, login or client-credentials"))
}

/// Checks the name of a variable. Errors do not quote it: some people write the token itself there.
fn variable(option: &str, name: &Secret) -> Result<String, String> {
    units::variable_name(name.expose())
        .map_err(|error| format!("{option}: {error}: give the name of an environment variable"))
}

impl RemoteArgs {
    pub(super) fn remote(self, oauth: OAuthArgs) -> Result<Remote, String> {
        let mut headers: Vec<(String, Secret)> = Vec::new();
        for header in &self.header {
            let parsed = parse_header(header, &|name| ProcessEnvironment.variable(name))
                .map_err(|error| format!("--header: {error}"))?;
            let Some((name, value)) = parsed else { continue };
            if headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(&name)) {
                return Err(format!("--header: {name} is given twice"));
            }
            headers.push((name, value));
        }
        let bearer = match (self.bearer_file, &self.bearer_env) {
            (Some(path), _) => Some(Bearer::File(path)),
            (None, Some(name)) => Some(Bearer::Env(variable("--bearer-env", name)?)),
            (None, None) => None,
        };
        Ok(Remote {
            transport: self.transport,
            headers,
            forward_headers: self.forward_header,
            bearer,
            oauth: oauth.options()?,
            unix_socket: self.unix_socket,
            connect_timeout: self.connect_timeout,
        })
    }
}

impl OAuthArgs {
    fn options(self) -> Result<OAuthOptions, String> {
        let client_secret = match (self.oauth_client_secret_file, &self.oauth_client_secret_env) {
            (Some(path), _) => Some(ClientSecret::File(path)),
            (None, Some(name)) => Some(ClientSecret::Env(variable("--oauth-client-secret-env", name)?)),
            (None, None) => None,
        };
        Ok(OAuthOptions {
            mode: self.oauth,
            client_id: self.oauth_client_id,
            client_secret,
            scopes: self.oauth_scope.as_deref().map(scopes).unwrap_or_default(),
            client_metadata_url: self.oauth_client_metadata_url,
            issuer: self.oauth_issuer,
            redirect_port: self.oauth_redirect_port,
            redirect_uri: self.oauth_redirect_uri,
            token_dir: self.oauth_token_dir,
            no_browser: self.no_browser,
        })
    }
}
