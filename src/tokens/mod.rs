//! The bearer tokens that clients show to sessile: how they are made, and which ones are known.
//!
//! sessile keeps hashes only. [`NewToken`] makes a token and the line that makes it known; [`file`] reads such lines and
//! sees when they change. Who is let in by them is up to the HTTP front.

mod file;
mod known;

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

pub(crate) use file::KnownTokensFile;
pub use file::TokenFileError;
pub(crate) use known::KnownTokens;

/// What every token begins with that sessile makes, so that people and scanners for leaked secrets know it.
const PREFIX: &str = "sessile_";
/// How many random bytes are in a token.
const RANDOM_BYTES: usize = 32;
/// The longest name of a token, in bytes.
const LONGEST_NAME: usize = 128;

/// A fresh token: what its holder sends as `Authorization: Bearer TOKEN`, and the line that makes it known.
///
/// The token is nowhere but here. Its `Debug` does not show it.
pub struct NewToken {
    name: String,
    token: String,
}

/// Why no token was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NewTokenError {
    /// The name cannot stand in a file of tokens.
    #[error("{0}")]
    Name(&'static str),
    /// The operating system has no randomness to give.
    #[error("the operating system gives no randomness: {0}")]
    Randomness(String),
}

impl NewToken {
    /// Makes a token for whoever is known by this name: 256 bits from the operating system.
    ///
    /// ```
    /// let new = sessile::tokens::NewToken::generate("alice")?;
    /// assert!(new.line().starts_with("alice "));
    /// # Ok::<(), sessile::tokens::NewTokenError>(())
    /// ```
    pub fn generate(name: &str) -> Result<Self, NewTokenError> {
        check_name(name).map_err(NewTokenError::Name)?;
        let mut random = [0_u8; RANDOM_BYTES];
        getrandom::fill(&mut random).map_err(|error| NewTokenError::Randomness(error.to_string()))?;
        let token = format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(random));
        Ok(Self { name: name.to_owned(), token })
    }

    /// The token itself, which is for its holder alone.
    pub fn expose(&self) -> &str {
        &self.token
    }

    /// The line for the file of tokens. It gives nobody access.
    pub fn line(&self) -> String {
        format!("{} {}", self.name, TokenHash::of(self.token.as_bytes()).to_hex())
    }
}

impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewToken").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The SHA-256 of a token.
///
/// Tokens are compared by it, and that in constant time as far as it matters: how long it takes to find a hash tells
/// something about hashes, and nobody can choose a token for its hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TokenHash([u8; 32]);

impl TokenHash {
    pub(crate) fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Reads 64 hex digits.
    fn from_hex(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] = [pair[0], pair[1]].map(|digit| char::from(digit).to_digit(16));
            *byte = u8::try_from(high? << 4 | low?).ok()?;
        }
        Some(Self(hash))
    }

    pub(crate) fn to_hex(self) -> String {
        self.0.iter().fold(String::with_capacity(64), |mut text, byte| {
            use fmt::Write as _;
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

/// Checks the name of a token's holder. What is wrong is said without the name, which may be a token that was written
/// in the wrong place.
fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a name has 1 to 128 visible ASCII characters, and no spaces");
    }
    if name.starts_with('#') {
        return Err("a name does not begin with #, which begins a comment");
    }
    if name.starts_with(PREFIX) {
        return Err("a name does not begin as tokens do: names are shown, and tokens must not be");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_is_known_by_its_line() {
        let [one, two] = ["alice", "bob@example.com"].map(|name| NewToken::generate(name).unwrap());
        let known = KnownTokens::parse(&format!("{}\n{}\n", one.line(), two.line())).unwrap();
        for (new, name) in [(&one, "alice"), (&two, "bob@example.com")] {
            assert_eq!(known.name_of(TokenHash::of(new.expose().as_bytes())).map(|name| &**name), Some(name));
            let random = new.expose().strip_prefix("sessile_").unwrap();
            assert_eq!(BASE64_URL_SAFE_NO_PAD.decode(random).unwrap().len(), 32);
            assert!(!new.line().contains(random) && !format!("{new:?}").contains(random), "{new:?}");
        }
        assert_ne!(one.expose(), two.expose());
        assert_eq!(format!("{:?}", TokenHash::of(b"x")), "TokenHash(..)");
    }

    #[test]
    fn a_hash_is_that_of_other_programs() {
        // `printf abc | sha256sum`
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(TokenHash::of(b"abc").to_hex(), hex);
        for text in [hex.to_owned(), hex.to_uppercase()] {
            assert_eq!(TokenHash::from_hex(&text), Some(TokenHash::of(b"abc")));
        }
        let odd = [String::new(), hex[1..].to_owned(), format!("{hex}0"), hex.replace('b', "g"), "é".repeat(32)];
        for text in odd {
            assert_eq!(TokenHash::from_hex(&text), None, "{text}");
        }
    }

    #[test]
    fn names_can_be_shown() {
        for name in ["a", "anonymous", "alice@example.com", "ci/build-7", "a#b", &"n".repeat(128)] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in ["", "a b", "a\tb", "a\nb", "jürgen", "#a", "sessile_abc", &"n".repeat(129), "a\u{7f}"] {
            assert!(check_name(name).is_err(), "{name}");
            assert!(matches!(NewToken::generate(name), Err(NewTokenError::Name(_))), "{name}");
        }
    }
}
