//! Finds out who calls, in one place: after a request's `Host` and `Origin` were checked, and before its body is read.
//!
//! The principal is put into the extensions of the request, where a layer of an embedding program may have put one.

use std::sync::Arc;

use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::checks::Rejection;
use super::connection_cut;
use super::leases::Lease;
use super::responses::{EarlyResponse, error_response, rejection_response};
use super::token_authority::TokenAuthority;
use crate::error::ProxyError;

/// Who says who calls. Whatever is to authenticate clients in another way becomes a variant here.
#[derive(Debug, Clone, Default)]
pub(crate) enum Authentication {
    /// Not sessile: a layer of an embedding program, or nobody.
    #[default]
    Elsewhere,
    /// The tokens of a file.
    Tokens(Arc<TokenAuthority>),
}

impl Authentication {
    /// Finds out who sends a request, and notes the principal in its extensions. Returns what the client may go on with,
    /// if sessile itself has let it in.
    pub(super) fn identify(&self, parts: &mut Parts) -> Result<Option<Arc<Lease>>, EarlyResponse> {
        let authority = match self {
            Self::Elsewhere => return Ok(None),
            Self::Tokens(authority) => authority,
        };
        let token = bearer(&parts.headers).map_err(|rejection| rejection_response(&rejection, None))?;
        let token = token.ok_or_else(|| challenge(&ProxyError::NoToken))?;
        let lease = authority.admit(token, connection_cut(parts)).ok_or_else(token_is_invalid)?;
        // Whatever stands there was not found out by sessile.
        parts.extensions.insert(lease.principal().clone());
        Ok(Some(Arc::new(lease)))
    }
}

/// The token of a request; `None` if there is none. There is nowhere else to look for it: what stands in a URI gets into
/// logs (RFC 6750, section 5.3).
fn bearer(headers: &HeaderMap) -> Result<Option<&[u8]>, Rejection> {
    let Some(value) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let malformed = |what: &str| {
        let message = format!("the Authorization header {what}: send `Authorization: Bearer TOKEN`");
        Err(Rejection::new(StatusCode::BAD_REQUEST, message))
    };
    let mut words = value.as_bytes().split(|byte| b" \t".contains(byte)).filter(|word| !word.is_empty());
    match (words.next(), words.next(), words.next()) {
        (None, ..) => malformed("is empty"),
        (Some(scheme), ..) if !scheme.eq_ignore_ascii_case(b"bearer") => Ok(None),
        (Some(_), None, _) => malformed("has nothing after `Bearer`"),
        (Some(_), Some(token), None) => Ok(Some(token)),
        (Some(_), Some(_), Some(_)) => malformed("has more than a token after `Bearer`"),
    }
}

/// The response to a token that lets nobody in, or does not any more.
pub(super) fn token_is_invalid() -> EarlyResponse {
    challenge(&ProxyError::InvalidToken)
}

/// The response to a client that has to show a token, or another one (RFC 6750, section 3).
fn challenge(fault: &ProxyError) -> EarlyResponse {
    let scheme = match fault {
        ProxyError::InvalidToken => HeaderValue::from_static(r#"Bearer error="invalid_token""#),
        _ => HeaderValue::from_static("Bearer"),
    };
    let mut response = error_response(StatusCode::UNAUTHORIZED, fault, None);
    response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
    response.into()
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::super::ConnectionCut;
    use super::*;
    use crate::principal::Principal;
    use crate::tokens::NewToken;

    fn of(value: &[u8]) -> Result<Option<Vec<u8>>, Rejection> {
        let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap())]);
        bearer(&headers).map(|token| token.map(<[u8]>::to_vec))
    }

    #[test]
    fn what_stands_in_authorization() {
        for value in
            ["Bearer t0ken", "bearer t0ken", "BEARER t0ken", "BeArEr   t0ken", "Bearer\tt0ken", " Bearer t0ken "]
        {
            assert_eq!(of(value.as_bytes()).unwrap().as_deref(), Some(&b"t0ken"[..]), "{value:?}");
        }
        for other in ["Basic dTpw", "Basic", "t0ken", "Bearert0ken", "Bearer,t0ken", "DPoP t0ken", "Token bearer t0ken"]
        {
            assert_eq!(of(other.as_bytes()), Ok(None), "{other:?}");
        }
        assert_eq!(of(b"Bearer \xff"), Ok(Some(vec![0xff])), "it is no token that anybody knows");
        assert_eq!(bearer(&HeaderMap::new()), Ok(None));
        for bad in ["", " ", "Bearer", "bearer ", "Bearer \t", "Bearer t0ken t0ken", "Bearer t0ken, Bearer t0ken"] {
            let rejection = of(bad.as_bytes()).unwrap_err();
            assert_eq!(rejection.status, 400, "{bad:?}");
            assert!(!rejection.message.contains("t0ken"), "{}", rejection.message);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_lasts_longer_than_its_token_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let [alice, bob] = ["alice", "bob"].map(|name| NewToken::generate(name).unwrap());
        std::fs::write(&path, alice.line()).unwrap();
        let authority = TokenAuthority::open(&path, Arc::default()).unwrap();
        let authentication = Authentication::Tokens(Arc::new(authority));
        let cut = ConnectionCut(CancellationToken::new());
        let request = http::Request::get("/mcp").header(AUTHORIZATION, format!("Bearer {}", alice.expose()));
        let request = request.extension(cut.clone()).extension(Principal::embedder("mallory")).body(()).unwrap();
        let (mut parts, ()) = request.into_parts();
        // Nobody asks for more of what this has let in, as nobody asks for the body of a response that is not read.
        let lease = authentication.identify(&mut parts).ok().flatten().unwrap();
        assert_eq!(parts.extensions.get(), Some(&Principal::Token { name: "alice".into() }));
        std::fs::write(&path, bob.line()).unwrap();
        lease.revoked().await;
        assert!(!cut.0.is_cancelled(), "it may end by itself");
        cut.0.cancelled().await;
    }
}
