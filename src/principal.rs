//! Who calls: the [`Principal`] of a request, and the digest of it that is a part of every key to a session.
//!
//! A principal says who somebody is, not what they may do. How it is found out is up to the HTTP front.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// Who calls. A session is found only by the principal that opened it.
///
/// Where sessile authenticates its clients, it says who they are. Where it does not, a layer of an embedding program
/// may: it puts a principal into the extensions of each request that it passes on to sessile's router. Without one, the
/// caller is anonymous.
///
/// ```
/// # use axum::extract::Request;
/// # use axum::middleware::Next;
/// # use axum::response::Response;
/// use sessile::Principal;
///
/// async fn authenticate(mut request: Request, next: Next) -> Response {
///     // After it was found out who calls:
///     request.extensions_mut().insert(Principal::embedder("user-17"));
///     next.run(request).await
/// }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Principal {
    /// Nobody has asked the caller who it is.
    #[default]
    Anonymous,
    /// Somebody with a bearer token.
    Token {
        /// The name that the operator has given to the holder of the token.
        name: Arc<str>,
    },
    /// Somebody for whom an issuer of JSON Web Tokens vouches.
    Jwt {
        /// The issuer (`iss`).
        issuer: Arc<str>,
        /// Whom the issuer means (`sub`), which is unique for this issuer only.
        subject: Arc<str>,
    },
    /// Somebody whom the program knows that sessile is embedded in.
    Embedder {
        /// By what the program knows them.
        subject: Arc<str>,
    },
}

/// The digest of a principal. No two principals have the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PrincipalDigest([u8; 32]);

impl Principal {
    /// Somebody whom the program knows that sessile is embedded in.
    pub fn embedder(subject: impl Into<Arc<str>>) -> Self {
        Self::Embedder { subject: subject.into() }
    }

    /// Whether nobody has found out who the caller is.
    pub fn is_anonymous(&self) -> bool {
        matches!(self, Self::Anonymous)
    }

    /// The kind in one word, and what tells principals of this kind apart.
    fn kind_and_parts(&self) -> (&'static str, [&str; 2]) {
        match self {
            Self::Anonymous => ("anonymous", ["", ""]),
            Self::Token { name } => ("token", [name, ""]),
            Self::Jwt { issuer, subject } => ("jwt", [issuer, subject]),
            Self::Embedder { subject } => ("embedder", [subject, ""]),
        }
    }

    pub(crate) fn digest(&self) -> PrincipalDigest {
        let (kind, [first, second]) = self.kind_and_parts();
        let mut digest = Sha256::new();
        for part in [kind, first, second] {
            // With their lengths, or parts that are split in another way would be the same principal.
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        PrincipalDigest(digest.finalize().into())
    }
}

impl AsRef<[u8]> for PrincipalDigest {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PrincipalDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrincipalDigest(..)")
    }
}

/// The kind and the parts, for people and logs. The parts are quoted: an issuer may write what it likes into them.
impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::Token { name } => write!(f, "token {name:?}"),
            Self::Jwt { issuer, subject } => write!(f, "jwt {subject:?} of {issuer:?}"),
            Self::Embedder { subject } => write!(f, "embedder {subject:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_principals_have_one_digest() {
        let token = |name: &str| Principal::Token { name: name.into() };
        let jwt = |issuer: &str, subject: &str| Principal::Jwt { issuer: issuer.into(), subject: subject.into() };
        let all = [
            Principal::Anonymous,
            token("anonymous"),
            token(""),
            token("a"),
            token("ab"),
            Principal::embedder("anonymous"),
            Principal::embedder(""),
            Principal::embedder("a"),
            jwt("", ""),
            jwt("a", ""),
            jwt("", "a"),
            jwt("ab", "c"),
            jwt("a", "bc"),
            jwt("abc", ""),
            jwt("", "abc"),
            jwt("anonymous", "token"),
            token("a\0\0\0\0\0\0\0\0"),
        ];
        for (place, one) in all.iter().enumerate() {
            assert_eq!(one.digest(), one.clone().digest(), "{one}");
            for other in &all[..place] {
                assert_ne!(one.digest(), other.digest(), "{one} and {other}");
                assert_ne!(one.to_string(), other.to_string());
            }
        }
    }

    #[test]
    fn what_a_principal_is_called() {
        assert_eq!(Principal::default().to_string(), "anonymous");
        let forged = Principal::Jwt { issuer: "https://i\n".into(), subject: "s\" of \"x".into() };
        assert_eq!(forged.to_string(), r#"jwt "s\" of \"x" of "https://i\n""#);
    }
}
