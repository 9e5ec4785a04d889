//! Finds the authorization server of a backend where rmcp does not, and checks the URLs that metadata names.

use rmcp::transport::auth::{AuthError, AuthorizationMetadata};
use serde_json::Value;
use url::Url;

use super::LoginContext;
use super::http_client::{ExchangeError, LoginClient, quote, without_secrets};
use crate::backend::credentials::CredentialError;

/// Parses a URL that metadata names, and checks that a login may talk to it.
pub(super) fn check(context: &LoginContext, client: &LoginClient, url: &str) -> Result<Url, CredentialError> {
    let parsed = Url::parse(url).map_err(|_| CredentialError::Discovery {
        backend: context.name.clone(),
        reason: format!("`{}` is no URL", quote(url)),
    })?;
    match client.policy().check(&parsed) {
        Ok(()) => Ok(parsed),
        Err(refusal) => Err(CredentialError::UrlRefused {
            backend: context.name.clone(),
            url: quote(&without_secrets(&parsed)),
            reason: refusal.reason(),
        }),
    }
}

/// Returns the error for an authorization server that rmcp did not find.
pub(super) fn not_found(context: &LoginContext, client: &LoginClient, error: &AuthError) -> CredentialError {
    let backend = context.name.clone();
    match client.take_error() {
        Some(ExchangeError::Refused { url, refusal }) => {
            CredentialError::UrlRefused { backend, url, reason: refusal.reason() }
        }
        Some(error) => CredentialError::Discovery { backend, reason: error.to_string() },
        None => {
            let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
            CredentialError::Discovery { backend, reason: quote(&format!("{error}{cause}")) }
        }
    }
}

/// Asks authorization servers for metadata that rmcp could not get. rmcp talks to no server on a private address, even
/// if the backend is on one, and accepts no server without an authorization endpoint.
pub(super) async fn discover_among(
    context: &LoginContext,
    client: &LoginClient,
    servers: &[String],
) -> Result<AuthorizationMetadata, CredentialError> {
    let mut why = None;
    for server in servers {
        let url = match check(context, client, server) {
            Ok(url) => url,
            Err(error) => {
                why.get_or_insert(error);
                continue;
            }
        };
        for place in well_known(&url) {
            if let Ok(body) = client.get(&place).await
                && let Some(metadata) = read_metadata(&body)
                && metadata.issuer.as_deref().map(|issuer| issuer.trim_end_matches('/'))
                    == Some(url.as_str().trim_end_matches('/'))
            {
                return Ok(metadata);
            }
        }
    }
    Err(why.unwrap_or_else(|| CredentialError::Discovery {
        backend: context.name.clone(),
        reason: format!("{} publishes no usable metadata", quote(&servers.join(", "))),
    }))
}

/// Returns where an issuer's metadata may be (RFC 8414, section 3.1; `OpenID` Connect Discovery 1.0, section 4).
fn well_known(issuer: &Url) -> Vec<Url> {
    let path = issuer.path().trim_matches('/');
    let (before, after) =
        if path.is_empty() { (String::new(), String::new()) } else { (format!("/{path}"), format!("/{path}")) };
    [
        format!("/.well-known/oauth-authorization-server{after}"),
        format!("/.well-known/openid-configuration{after}"),
        format!("{before}/.well-known/openid-configuration"),
    ]
    .into_iter()
    .map(|path| {
        let mut url = issuer.clone();
        url.set_path(&path);
        url.set_query(None);
        url.set_fragment(None);
        url
    })
    .collect()
}

/// Reads metadata, also that of a server for programs only, which has no authorization endpoint (RFC 8414, section 2).
fn read_metadata(body: &[u8]) -> Option<AuthorizationMetadata> {
    let mut metadata: Value = serde_json::from_slice(body).ok()?;
    let token_endpoint = metadata.get("token_endpoint")?.clone();
    metadata.as_object_mut()?.entry("authorization_endpoint").or_insert(token_endpoint);
    serde_json::from_value(metadata).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_looked_for_where_it_belongs() {
        let places =
            |issuer: &str| well_known(&Url::parse(issuer).unwrap()).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(places("https://a.test")[0], "https://a.test/.well-known/oauth-authorization-server");
        assert_eq!(
            places("https://a.test/team/"),
            [
                "https://a.test/.well-known/oauth-authorization-server/team",
                "https://a.test/.well-known/openid-configuration/team",
                "https://a.test/team/.well-known/openid-configuration",
            ]
        );
    }

    #[test]
    fn a_server_for_programs_needs_no_page() {
        let metadata = read_metadata(br#"{"issuer":"https://a.test","token_endpoint":"https://a.test/t"}"#).unwrap();
        assert_eq!(metadata.authorization_endpoint, "https://a.test/t");
        assert!(read_metadata(br#"{"issuer":"https://a.test"}"#).is_none());
        assert!(read_metadata(b"[]").is_none());
    }
}
