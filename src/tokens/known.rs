//! Which tokens are known, and whose they are: what stands in a file of tokens.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{TokenHash, check_name};

/// The names of those who hold tokens, by the hashes of these.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct KnownTokens(HashMap<TokenHash, Arc<str>>);

/// What is wrong with the text of a file of tokens. It quotes nothing: a token may stand where none belongs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenTextError {
    /// Names the line.
    #[error(
        "line {0}: a line is a name, a space and the SHA-256 of a token in 64 hex digits: `sessile token NAME` makes one"
    )]
    Form(usize),
    #[error("line {0}: {1}")]
    Name(usize, &'static str),
    /// Names the line, and the first one with that token.
    #[error("line {0}: the token of line {1} stands here once more: keep one of the lines")]
    Twice(usize, usize),
    #[error("there is no token in it: put the line into it that `sessile token NAME` makes")]
    Empty,
}

impl KnownTokens {
    /// Reads lines of a name and the hash of a token. What follows `#` at the beginning of a word is a comment.
    pub(crate) fn parse(text: &str) -> Result<Self, TokenTextError> {
        let mut known = HashMap::new();
        let mut lines = HashMap::new();
        for (line, text) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
            let mut words = text.split_ascii_whitespace().take_while(|word| !word.starts_with('#'));
            let (name, hash) = match (words.next(), words.next(), words.next()) {
                (None, ..) => continue,
                (Some(name), Some(hash), None) => (name, hash),
                _ => return Err(TokenTextError::Form(line)),
            };
            let hash = TokenHash::from_hex(hash).ok_or(TokenTextError::Form(line))?;
            check_name(name).map_err(|reason| TokenTextError::Name(line, reason))?;
            if let Some(first) = lines.insert(hash, line) {
                return Err(TokenTextError::Twice(line, first));
            }
            known.insert(hash, Arc::from(name));
        }
        if known.is_empty() { Err(TokenTextError::Empty) } else { Ok(Self(known)) }
    }

    /// The name of the token's holder, if the token is known.
    pub(crate) fn name_of(&self, token: TokenHash) -> Option<&Arc<str>> {
        self.0.get(&token)
    }

    /// All names. One name may have several tokens.
    pub(crate) fn names(&self) -> HashSet<Arc<str>> {
        self.0.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(token: &str) -> String {
        TokenHash::of(token.as_bytes()).to_hex()
    }

    #[test]
    fn lines_are_read() {
        let (one, two, three) = (hash("1"), hash("2").to_uppercase(), hash("3"));
        let text = format!(
            "\u{feff}# who may call\r\n\n  \t\nalice {one}\r\n\tbob\t{two}  # until the old laptop is gone\nalice   {three}"
        );
        let known = KnownTokens::parse(&text).unwrap();
        let name = |token: &str| known.name_of(TokenHash::of(token.as_bytes())).map(|name| &**name);
        assert_eq!([name("1"), name("2"), name("3"), name("4")], [Some("alice"), Some("bob"), Some("alice"), None]);
        assert_eq!(known.names(), HashSet::from(["alice".into(), "bob".into()]));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let fine = format!("alice {}\n", hash("1"));
        let other = hash("2");
        for (line, expected) in [
            ("bob".to_owned(), TokenTextError::Form(2)),
            (other.clone(), TokenTextError::Form(2)),
            (format!("bob {}", &other[1..]), TokenTextError::Form(2)),
            (format!("bob {}g", &other[1..]), TokenTextError::Form(2)),
            (format!("bob {other} more"), TokenTextError::Form(2)),
            (format!("bob # {other}"), TokenTextError::Form(2)),
            (format!("bob:{other}"), TokenTextError::Form(2)),
            (format!("jürgen {other}"), TokenTextError::Name(2, check_name("ü").unwrap_err())),
            (format!("\nbob {}", hash("1")), TokenTextError::Twice(3, 1)),
            (format!("\nalice {}", hash("1").to_uppercase()), TokenTextError::Twice(3, 1)),
        ] {
            assert_eq!(KnownTokens::parse(&format!("{fine}{line}\n")), Err(expected), "{line}");
        }
        for nothing in ["", "\n\n", "# alice\n", "\u{feff}"] {
            assert_eq!(KnownTokens::parse(nothing), Err(TokenTextError::Empty), "{nothing:?}");
        }
    }

    #[test]
    fn errors_quote_nothing() {
        for text in ["s3cret", "s3cret s3cret", "sessile_s3cret 0", &format!("sessile_s3cret {}", hash("1"))] {
            let error = KnownTokens::parse(text).unwrap_err().to_string();
            assert!(error.starts_with("line 1: ") && !error.contains("s3cret"), "{error}");
        }
    }
}
