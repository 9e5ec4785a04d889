//! Texts of a configuration, some of which must not be shown in logs, in errors, or by `Debug`.
//!
//! Only what sessile itself shows is masked here. What a server prints is masked where it is read, with the texts in
//! [`ServerSpec::secrets`](super::ServerSpec::secrets).

use std::fmt;

/// The text that is shown in place of a secret.
const MASK: &str = "***";

/// A variable or header holds a secret if its name contains one of these.
const SECRET_PARTS: [&str; 8] =
    ["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "AUTHORIZATION", "COOKIE"];

/// A variable or header holds a secret if one of these is a whole word of its name: `MYSQL_PWD`, but not `PWDX`.
const SECRET_WORDS: [&str; 5] = ["PASS", "PAT", "PWD", "AUTH", "DSN"];

/// A text of a configuration file, which is a secret if a variable went into it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ConfigText {
    text: String,
    secret: bool,
}

impl ConfigText {
    /// A text that may be shown.
    pub fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), secret: false }
    }

    /// A text that may not be shown.
    pub fn secret(text: impl Into<String>) -> Self {
        Self { text: text.into(), secret: true }
    }

    /// The text itself, whether or not it may be shown.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// The text, or a mask in place of a secret.
    pub fn shown(&self) -> &str {
        if self.secret { MASK } else { &self.text }
    }

    /// Whether the text may not be shown.
    pub fn is_secret(&self) -> bool {
        self.secret
    }
}

impl fmt::Debug for ConfigText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.secret { f.write_str(MASK) } else { fmt::Debug::fmt(&self.text, f) }
    }
}

/// Whether the value of a variable or header of this name is taken for a secret.
pub(crate) fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    // Every environment has these, and they hold folders and the path of a socket. Masking them would mask all paths.
    if matches!(name.as_str(), "PWD" | "OLDPWD" | "SSH_AUTH_SOCK") {
        return false;
    }
    let mut words = name.split(|letter: char| !letter.is_ascii_alphanumeric());
    SECRET_PARTS.iter().any(|word| name.contains(word)) || words.any(|word| SECRET_WORDS.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let text = ConfigText::secret("hunter2");
        assert_eq!((format!("{text:?}"), text.shown(), text.expose()), ("***".to_owned(), "***", "hunter2"));
        let text = ConfigText::plain("visible");
        assert_eq!((format!("{text:?}"), text.shown()), ("\"visible\"".to_owned(), "visible"));
    }

    #[test]
    fn secrets_are_known_by_name() {
        for name in ["API_KEY", "github_token", "PGPASSWORD", "Authorization", "Set-Cookie", "X-Api-Key"] {
            assert!(names_a_secret(name), "{name}");
        }
        for name in ["MYSQL_PASS", "GITHUB_PAT", "DSN", "SENTRY_DSN", "MYSQL_PWD", "BASIC_AUTH", "X-Auth"] {
            assert!(names_a_secret(name), "{name}");
        }
        for name in ["PATH", "GIT_AUTHOR_NAME", "X-Request-Id", "SSH_AUTH_SOCK", "PWD", "OLDPWD", "BYPASS", "PATTERN"] {
            assert!(!names_a_secret(name), "{name}");
        }
    }
}
