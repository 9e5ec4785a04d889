//! What a session is called, and what it is found by: two different things.
//!
//! The [`SessionId`] is a public name for logs and listings. The [`SessionSecret`] is made of what one client holds
//! (its `Mcp-Session-Id`, or what stands in the URI of its message endpoint) and of who it is; the [`SessionKey`] of what
//! several clients may bring, and of who they are. Both are kept as hashes only, so that neither a log, nor a listing, nor
//! a memory dump of the registry gives a session away.

use std::fmt;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::config::KeyKind;
use crate::principal::Principal;

/// A session's public name: a UUID that opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(Uuid);

impl SessionId {
    pub(crate) fn generate() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for SessionId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// The transport that a session was opened by. No other one finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientTransport {
    /// Streamable HTTP: the client holds an `Mcp-Session-Id`.
    Streamable,
    /// HTTP+SSE of 2024-11-05: the client holds the URI of its message endpoint.
    Sse,
}

/// The digest of the credentials that a client sends for the servers behind.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Credentials([u8; 32]);

impl Credentials {
    /// The digest of these names and values, in this order; `None` if there are none.
    pub(crate) fn of<'a>(all: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Option<Self> {
        let mut digest = Sha256::new();
        let mut any = false;
        for (name, value) in all {
            any = true;
            // With their lengths, or `a: bc` would be the same as `ab: c`.
            for part in [name.as_bytes(), value] {
                digest.update((part.len() as u64).to_be_bytes());
                digest.update(part);
            }
        }
        any.then(|| Self(digest.finalize().into()))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// Who asks for a session. The caller is a part of every key, so that no code can look a session up and forget to check
/// whose it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Caller {
    pub principal: Principal,
    /// The digest of the credentials that the client sends for the servers, if it sends any: a session that was opened
    /// with one user's credentials is found by no other user, and by nobody without them.
    pub credentials: Option<Credentials>,
}

/// The hash of what a client holds, of the transport that it holds it for, and of who the client is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SessionSecret([u8; 32]);

impl SessionSecret {
    pub(crate) fn of(token: &str, transport: ClientTransport, caller: &Caller) -> Self {
        let transport = match transport {
            ClientTransport::Streamable => b'h',
            ClientTransport::Sse => b's',
        };
        let mut digest = Sha256::new();
        digest.update(caller.principal.digest());
        match caller.credentials {
            None => digest.update([transport, 0]),
            Some(Credentials(credentials)) => {
                digest.update([transport, 1]);
                digest.update(credentials);
            }
        }
        digest.update(token.as_bytes());
        Self(digest.finalize().into())
    }
}

impl fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionSecret(..)")
    }
}

/// The hash of what finds a session for all clients that bring it: the kind of the key, its value, and who they are.
/// Whoever looks a key up has to say who asks, so that nobody can forget to check whose session it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SessionKey([u8; 32]);

impl SessionKey {
    pub(crate) fn of(kind: &KeyKind, value: &[u8], caller: &Caller) -> Self {
        let principal = caller.principal.digest();
        let credentials: &[u8] = caller.credentials.as_ref().map_or(&[], |Credentials(credentials)| credentials);
        let mut digest = Sha256::new();
        // With their lengths, or parts that are split in another way would be the same key. Credentials that are absent
        // have no length, and no others have none.
        for part in [kind.to_string().as_bytes(), value, principal.as_ref(), credentials] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        Self(digest.finalize().into())
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(..)")
    }
}

/// Makes a new `Mcp-Session-Id`, the secret part of a message endpoint, or the value of a cookie: 256 bits from the operating system, in
/// letters and digits, which stand for themselves in a header and in a URI.
///
/// Fails only where the operating system has no randomness to give.
pub(crate) fn generate_token() -> Result<String, getrandom::Error> {
    use std::fmt::Write as _;
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anybodys(token: &str) -> SessionSecret {
        SessionSecret::of(token, ClientTransport::Streamable, &Caller::default())
    }

    #[test]
    fn tokens_differ_and_do_not_show() {
        let (one, two) = (generate_token().unwrap(), generate_token().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len(), 64);
        assert!(one.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_eq!(format!("{:?}", anybodys(&one)), "SessionSecret(..)");
        assert_ne!(anybodys(&one), anybodys(&two));
    }

    #[test]
    fn a_token_is_worth_nothing_to_another_caller() {
        let of = |name: &str, value: &str| Credentials::of([(name, value.as_bytes())]);
        let credentials = [None, of("a", "b"), of("a", "c"), of("b", "b"), of("ab", ""), of("", "ab")];
        let token = |name: &str| Principal::Token { name: name.into() };
        let principals = [Principal::Anonymous, token("anonymous"), token("a"), Principal::embedder("a")];
        let mut all = Vec::new();
        for transport in [ClientTransport::Streamable, ClientTransport::Sse] {
            for principal in &principals {
                for credentials in credentials {
                    all.push((transport, Caller { principal: principal.clone(), credentials }));
                }
            }
        }
        let secret = |(transport, caller): &(ClientTransport, Caller)| SessionSecret::of("token", *transport, caller);
        for (place, one) in all.iter().enumerate() {
            assert_eq!(secret(one), secret(one));
            for other in &all[..place] {
                assert_ne!(secret(one), secret(other), "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn no_two_keys_have_one_digest() {
        let header = |name: &'static str| KeyKind::Header(http::HeaderName::from_static(name));
        let kinds = [KeyKind::Principal, KeyKind::Cookie, header("a"), header("ab"), header("principal")];
        let credentials = [None, Credentials::of([("a", &b"b"[..])]), Credentials::of([("a", &b"c"[..])])];
        let token = |name: &str| Principal::Token { name: name.into() };
        let principals = [Principal::Anonymous, token("anonymous"), token("a"), Principal::embedder("a")];
        let mut keys = std::collections::HashSet::new();
        let mut count = 0;
        for kind in &kinds {
            for value in ["", "a", "b", "ab", "a\0"] {
                for principal in &principals {
                    for credentials in credentials {
                        let caller = Caller { principal: principal.clone(), credentials };
                        let key = SessionKey::of(kind, value.as_bytes(), &caller);
                        assert_eq!(key, SessionKey::of(kind, value.as_bytes(), &caller));
                        keys.insert(key);
                        count += 1;
                    }
                }
            }
        }
        assert_eq!(keys.len(), count);
        assert_eq!(format!("{:?}", SessionKey::of(&kinds[0], b"a", &Caller::default())), "SessionKey(..)");
    }

    #[test]
    fn credentials_are_told_apart_and_do_not_show() {
        let pairs: [(&str, &[u8]); 2] = [("authorization", b"Bearer x"), ("cookie", b"y")];
        let both = Credentials::of(pairs);
        assert!(both.is_some() && Credentials::of([]).is_none());
        assert_eq!(both, Credentials::of(pairs));
        assert_ne!(both, Credentials::of(pairs[..1].iter().copied()));
        // Two values of one header are not one value.
        assert_ne!(Credentials::of([("a", &b"b"[..]), ("a", b"c")]), Credentials::of([("a", &b"bac"[..])]));
        assert_eq!(format!("{:?}", both.unwrap()), "Credentials(..)");
    }
}
