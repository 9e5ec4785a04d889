//! A bearer token that the operator provides: in a file, which may be replaced at any time, or in the environment.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use futures_util::future::{self, BoxFuture};
use tokio::time::Instant;

use super::credentials::{AuthRefusal, BearerToken, CredentialError, TokenSource};

/// The largest token file, in bytes.
const MAX_TOKEN_FILE: u64 = 64 * 1024;
/// How long the file is not looked at again: a look is cheap, but not for each of a thousand requests a second.
const RECHECK_AFTER: Duration = Duration::from_secs(1);

/// A token as it was configured.
#[derive(Debug)]
pub(crate) enum ConfiguredToken {
    /// A token in a file, which is read again when it changes, and when the backend has refused the token.
    File(TokenFile),
    /// A token that was read once, and the name of the place where it stood.
    Given(String, BearerToken),
}

impl ConfiguredToken {
    /// The token that stands in the file at `path`. The file is read now, so that a wrong path is noticed at once.
    pub(crate) fn file(path: PathBuf) -> Result<Self, CredentialError> {
        let file = TokenFile { path, snapshot: Mutex::new(None) };
        file.read_token(true)?;
        Ok(Self::File(file))
    }

    /// The token that the environment variable `name` holds now.
    pub(crate) fn variable(name: &str) -> Result<Self, CredentialError> {
        let place = format!("the environment variable {name}");
        match std::env::var(name) {
            Ok(text) => Self::given(place, &text),
            Err(std::env::VarError::NotPresent) => {
                Err(CredentialError::Unreadable { place, reason: "it is not set".to_owned() })
            }
            Err(std::env::VarError::NotUnicode(_)) => Err(CredentialError::NoToken { place, reason: "it is not text" }),
        }
    }

    /// A token that was read from `place` already.
    pub(crate) fn given(place: String, text: &str) -> Result<Self, CredentialError> {
        let token = parse(&place, text)?;
        Ok(Self::Given(place, token))
    }
}

impl TokenSource for ConfiguredToken {
    fn token(&self) -> BoxFuture<'_, Result<Option<BearerToken>, CredentialError>> {
        let token = match self {
            Self::File(file) => file.read_token(false),
            Self::Given(_, token) => Ok(token.clone()),
        };
        future::ready(token.map(Some)).boxed()
    }

    fn refused(
        &self,
        used: Option<&BearerToken>,
        refusal: &AuthRefusal,
    ) -> BoxFuture<'_, Result<bool, CredentialError>> {
        let unauthorized = refusal.status == 401;
        let refused = |place: String, then| Err(CredentialError::TokenRefused { place, then });
        let outcome = match self {
            Self::File(file) => match file.read_token(true) {
                Ok(token) if used != Some(&token) => Ok(true),
                Ok(_) if unauthorized => refused(file.place(), ""),
                Ok(_) => Ok(false),
                Err(error) => Err(error),
            },
            Self::Given(place, _) if unauthorized => refused(place.clone(), ", and start the proxy again"),
            Self::Given(..) => Ok(false),
        };
        future::ready(outcome).boxed()
    }
}

/// A file that holds nothing but a token.
#[derive(Debug)]
pub(crate) struct TokenFile {
    path: PathBuf,
    snapshot: Mutex<Option<FileSnapshot>>,
}

/// The file as it was when it was last looked at.
#[derive(Debug)]
struct FileSnapshot {
    at: Instant,
    version: (Option<SystemTime>, u64),
    token: BearerToken,
}

impl TokenFile {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    /// Returns the token as it is now. The file is small and local, so this blocks. With `afresh` the file is read even
    /// if its size and time have not changed.
    fn read_token(&self, afresh: bool) -> Result<BearerToken, CredentialError> {
        let now = Instant::now();
        if !afresh
            && let Some(snapshot) = &*self.snapshot()
            && now < snapshot.at + RECHECK_AFTER
        {
            return Ok(snapshot.token.clone());
        }
        let unreadable = |reason: String| Err(CredentialError::Unreadable { place: self.place(), reason });
        let metadata = match std::fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) => return unreadable(error.to_string()),
        };
        let version = (metadata.modified().ok(), metadata.len());
        if !afresh
            && let Some(snapshot) = &mut *self.snapshot()
            && snapshot.version == version
        {
            snapshot.at = now;
            return Ok(snapshot.token.clone());
        }
        if metadata.len() > MAX_TOKEN_FILE {
            return unreadable(format!("it has more than {MAX_TOKEN_FILE} bytes"));
        }
        let text = match read(&self.path) {
            Ok(text) => text,
            Err(error) => return unreadable(error.to_string()),
        };
        let token = parse(&self.place(), &text)?;
        *self.snapshot() = Some(FileSnapshot { at: now, version, token: token.clone() });
        Ok(token)
    }

    fn snapshot(&self) -> MutexGuard<'_, Option<FileSnapshot>> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the file up to the limit, even if the file has grown since its size was checked.
fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;

    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_TOKEN_FILE).read_to_string(&mut text)?;
    Ok(text)
}

/// Takes the token out of a text that may have white space around it, and the word `Bearer` in front of it.
fn parse(place: &str, text: &str) -> Result<BearerToken, CredentialError> {
    let text = text.trim();
    let bare = match text.split_once(char::is_whitespace) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => text,
    };
    let no_token = |reason| CredentialError::NoToken { place: place.to_owned(), reason };
    if bare.is_empty() {
        return Err(no_token("it is empty"));
    }
    BearerToken::new(bare).ok_or_else(|| no_token("a token has no spaces, line breaks or special characters"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16) -> AuthRefusal {
        AuthRefusal { status, challenges: Vec::new() }
    }

    fn token(text: &str) -> BearerToken {
        BearerToken::new(text).unwrap()
    }

    #[test]
    fn tokens_are_taken_as_people_write_them() {
        for text in ["abc", " abc\n", "Bearer abc", "bearer   abc\r\n"] {
            assert_eq!(parse("x", text), Ok(token("abc")), "{text:?}");
        }
        for (text, reason) in [("", "empty"), (" \n", "empty"), ("a b", "no spaces"), ("a\nb", "no spaces")] {
            let error = parse("the file x", text).unwrap_err().to_string();
            assert!(error.contains("the file x") && error.contains(reason), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_is_read_again_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "first").unwrap();
        let configured = ConfiguredToken::file(path.clone()).unwrap();
        assert_eq!(configured.token().await, Ok(Some(token("first"))));
        std::fs::write(&path, "second-token").unwrap();
        assert_eq!(configured.token().await, Ok(Some(token("first"))), "it was looked at a moment ago");
        tokio::time::advance(RECHECK_AFTER).await;
        assert_eq!(configured.token().await, Ok(Some(token("second-token"))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_file_is_read_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "first").unwrap();
        let configured = ConfiguredToken::file(path.clone()).unwrap();
        let error = configured.refused(Some(&token("first")), &refusal(401)).await.unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()) && error.contains("refused"), "{error}");
        assert_eq!(configured.refused(Some(&token("first")), &refusal(403)).await, Ok(false));
        std::fs::write(&path, "other").unwrap();
        assert_eq!(configured.refused(Some(&token("first")), &refusal(401)).await, Ok(true));
        assert_eq!(configured.token().await, Ok(Some(token("other"))));
        std::fs::remove_file(&path).unwrap();
        let error = configured.refused(Some(&token("other")), &refusal(401)).await.unwrap_err().to_string();
        assert!(error.contains("cannot be read"), "{error}");
    }

    #[tokio::test]
    async fn a_given_token_stands() {
        let configured = ConfiguredToken::given("the environment variable T".to_owned(), "abc").unwrap();
        assert_eq!(configured.token().await, Ok(Some(token("abc"))));
        let error = configured.refused(Some(&token("abc")), &refusal(401)).await.unwrap_err().to_string();
        assert!(error.contains("variable T") && !error.contains("abc"), "{error}");
        let missing = ConfiguredToken::variable("SESSILE_TEST_NO_SUCH_VARIABLE").unwrap_err().to_string();
        assert!(missing.contains("not set"), "{missing}");
        assert!(!format!("{configured:?}").contains("abc"));
    }
}
