//! What a session is called, and what it is found by: two different things.
//!
//! The [`SessionId`] is a public name for logs and listings. The [`SessionSecret`] is what the client holds as its
//! `Mcp-Session-Id`; it is kept as a hash only, so that neither a log, nor a listing, nor a memory dump of the registry
//! gives a session away.

use std::fmt;

use sha2::{Digest, Sha256};
use uuid::Uuid;

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

/// The hash of a client's `Mcp-Session-Id`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SessionSecret([u8; 32]);

impl SessionSecret {
    pub(crate) fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }
}

impl fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionSecret(..)")
    }
}

/// Makes a new `Mcp-Session-Id`: 256 bits from the operating system, in visible ASCII as the specification asks.
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

    #[test]
    fn tokens_differ_and_do_not_show() {
        let (one, two) = (generate_token().unwrap(), generate_token().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len(), 64);
        assert!(one.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_eq!(format!("{:?}", SessionSecret::of(&one)), "SessionSecret(..)");
        assert_ne!(SessionSecret::of(&one), SessionSecret::of(&two));
    }
}
