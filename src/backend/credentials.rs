//! The contract between an HTTP backend and what gives it the token for its `Authorization`.
//!
//! Two modules implement [`TokenSource`]: `configured_token.rs` (a file or an environment variable) and `oauth/` (a
//! login).

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::HeaderValue;

/// Gives out the tokens for an HTTP backend. There is one for each configured backend, shared by all sessions.
pub(crate) trait TokenSource: Send + Sync + fmt::Debug {
    /// Returns the bearer token for the next request, if there is one. Waits for a refresh or a login that is under
    /// way.
    fn token(&self) -> BoxFuture<'_, Result<Option<BearerToken>, CredentialError>>;

    /// Takes note that the backend refused a request that carried `used` (401, or 403 with `insufficient_scope`), and
    /// gets a better token if it can. Returns whether there is one: then the request may be sent once more, because a
    /// refused request had no effect.
    fn refused(
        &self,
        used: Option<&BearerToken>,
        refusal: &AuthRefusal,
    ) -> BoxFuture<'_, Result<bool, CredentialError>>;
}

/// How a backend refused a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuthRefusal {
    /// The HTTP status: 401 or 403.
    pub status: u16,
    /// The values of `WWW-Authenticate`, in their order.
    pub challenges: Vec<String>,
}

/// A bearer token. Its `Debug` is `***`, and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct BearerToken(Arc<str>);

impl BearerToken {
    /// `None` if it could not stand in a header (RFC 6750, section 2.1: visible ASCII).
    pub(crate) fn new(token: &str) -> Option<Self> {
        let fits = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(token.into()))
    }

    /// The `Authorization` that carries it, marked so that HTTP code does not log it.
    pub(crate) fn header(&self) -> HeaderValue {
        // `Self::new` has checked that the token can stand in a header.
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.0)).unwrap_or(HeaderValue::from_static(""));
        value.set_sensitive(true);
        value
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why there is no token that the backend takes, in words for the operator. Nothing secret is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CredentialError {
    /// A configured token cannot be read.
    #[error("{place} cannot be read ({reason}): put the backend's token there")]
    Unreadable { place: String, reason: String },
    /// The configured place holds no token.
    #[error("{place} holds no bearer token ({reason}): put the token there, and nothing else")]
    NoToken { place: String, reason: &'static str },
    /// The backend refused a configured token.
    #[error("the token in {place} was refused by the backend: put a valid one there{then}")]
    TokenRefused { place: String, then: &'static str },
    /// The backend wants a login, but does not say where.
    #[error(
        "{backend} asks for credentials, but says nowhere how to log in ({reason}): \
         if it takes a token, configure a bearer token or a header"
    )]
    NoLogin { backend: String, reason: String },
    /// What the backend or its authorization server says about itself cannot be fetched or is not acceptable.
    #[error("where to log in to {backend} cannot be found out: {reason}")]
    Discovery { backend: String, reason: String },
    /// Metadata named a URL that a login may not talk to.
    #[error("the login to {backend} would go to {url}, which is refused: {reason}")]
    UrlRefused { backend: String, url: String, reason: &'static str },
    /// The backend names another authorization server than the one that the client belongs to.
    #[error(
        "{backend} names the authorization server {found} and not {expected}, to which the client belongs: \
         if that is right, change the configured issuer"
    )]
    OtherIssuer { backend: String, found: String, expected: String },
    /// The authorization server registers no clients, or refused to register this one.
    #[error(
        "the authorization server of {backend} did not register sessile as a client ({reason}): \
         get a client id from whoever runs it, and configure it"
    )]
    Registration { backend: String, reason: String },
    /// The address to which the browser returns cannot be listened on.
    #[error(
        "the login to {backend} cannot begin, because {address} cannot be listened on ({reason}): free that port, or configure another"
    )]
    Redirect { backend: String, address: String, reason: String },
    /// The person, or the authorization server, refused the login.
    #[error(
        "the login to {backend} was refused ({reason}): a later request begins a new one, to be completed by somebody with access"
    )]
    Denied { backend: String, reason: String },
    /// Nobody logged in.
    #[error(
        "nobody logged in to {backend} in time: a later request begins a new login, whose URL the proxy logs or announces; \
         open it in a browser on the machine of the proxy{hint}"
    )]
    TimedOut { backend: String, hint: String },
    /// The authorization server gave no token for the code, or for the client's own credentials.
    #[error("the authorization server of {backend} gave no token: {reason}")]
    NotGranted { backend: String, reason: String },
    /// The authorization server does not accept the client id and secret.
    #[error(
        "the authorization server of {backend} does not know the client ({reason}): check the client id and secret"
    )]
    ClientRefused { backend: String, reason: String },
    /// The token has expired, and the attempt to renew it failed for now.
    #[error("the token for {backend} could not be renewed ({reason}): try again in a moment")]
    NotRenewed { backend: String, reason: String },
    /// The token has expired, and cannot be renewed any more.
    #[error("the login to {backend} has ended ({reason}): log in again, which a later request asks for")]
    Ended { backend: String, reason: String },
    /// The backend refuses a token that was granted a moment ago.
    #[error(
        "{backend} refuses the token that its own authorization server has just given: \
         whoever runs the backend has to find out why"
    )]
    StillRefused { backend: String },
    /// The login did not grant the scopes that a request needs.
    #[error("{backend} wants the scopes `{scopes}`, which the login did not give: log in as somebody who has them")]
    ScopeRefused { backend: String, scopes: String },
    /// Another process holds the lock on the same tokens.
    #[error("another process has held the lock {} for too long: end that process, or wait for its login", .path.display())]
    Locked { path: PathBuf },
    /// The login failed for a reason that neither the operator nor the person can do anything about.
    #[error("the login to {backend} failed: {reason}")]
    Internal { backend: String, reason: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_shows_in_its_header_only() {
        let token = BearerToken::new("t0ken").unwrap();
        assert_eq!(format!("{token:?} {:?}", token.header()), "*** Sensitive");
        assert_eq!(token.header().as_bytes(), b"Bearer t0ken");
    }

    /// The program looks for these words, and adds its command to them.
    #[test]
    fn an_error_that_another_login_mends_says_that_a_later_request_begins_it() {
        let (backend, reason, hint) = ("b".to_owned(), "r".to_owned(), String::new());
        for error in [
            CredentialError::Denied { backend: backend.clone(), reason: reason.clone() },
            CredentialError::TimedOut { backend: backend.clone(), hint },
            CredentialError::Ended { backend, reason },
        ] {
            assert!(error.to_string().contains("a later request"), "{error}");
        }
    }

    #[test]
    fn what_would_break_a_header_is_no_token() {
        for text in ["", "a b", "a\r\nb: c", "t\u{f6}ken"] {
            assert_eq!(BearerToken::new(text), None, "{text:?}");
        }
    }
}
