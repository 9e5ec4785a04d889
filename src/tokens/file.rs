//! A file of tokens, which an operator changes while sessile runs.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::KnownTokens;

/// The largest file, in bytes: more than ten thousand lines.
const LARGEST_FILE: u64 = 1024 * 1024;

/// A file of tokens that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the tokens in {}: {reason}", .path.display())]
pub struct TokenFileError {
    path: PathBuf,
    reason: String,
}

/// A file of tokens, and what was last seen of it.
#[derive(Debug)]
pub(crate) struct KnownTokensFile {
    path: PathBuf,
    seen: Sighting,
    /// What the last look found, if that was something new.
    changing: Option<Sighting>,
}

/// What a look at the file found. Its content is compared and not its time, which may be the same for two versions that
/// were written one right after the other; and two versions are often of one length.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Sighting {
    /// The digest of the content.
    Content([u8; 32]),
    /// Why there is none.
    Unreadable(String),
}

impl KnownTokensFile {
    /// Reads the file now, so that a wrong one is noticed at once.
    pub(crate) fn open(path: &Path) -> Result<(Self, KnownTokens), TokenFileError> {
        let (seen, read) = sight(path);
        let file = Self { path: path.to_owned(), seen, changing: None };
        let known = file.parse(read)?;
        Ok((file, known))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Looks whether there is another version, which is given out once only, whether it can be used or not. A version
    /// counts when two looks have found it: one that is just being written may have lost half of its lines, and with
    /// them sessions.
    ///
    /// The file is small and local, so this blocks.
    pub(crate) fn look(&mut self) -> Option<Result<KnownTokens, TokenFileError>> {
        let (seen, read) = sight(&self.path);
        if seen == self.seen {
            self.changing = None;
            return None;
        }
        if self.changing.as_ref() != Some(&seen) {
            self.changing = Some(seen);
            return None;
        }
        self.changing = None;
        self.seen = seen;
        Some(self.parse(read))
    }

    fn parse(&self, read: Result<String, String>) -> Result<KnownTokens, TokenFileError> {
        let known = read.and_then(|text| KnownTokens::parse(&text).map_err(|error| error.to_string()));
        known.map_err(|reason| TokenFileError { path: self.path.clone(), reason })
    }
}

/// Reads the file, and says what was seen.
fn sight(path: &Path) -> (Sighting, Result<String, String>) {
    match read(path) {
        Ok(bytes) => {
            let seen = Sighting::Content(Sha256::digest(&bytes).into());
            (seen, String::from_utf8(bytes).map_err(|_| "it is no text in UTF-8".to_owned()))
        }
        Err(reason) => (Sighting::Unreadable(reason.clone()), Err(reason)),
    }
}

/// Opens the file without waiting: that of a named pipe would last until somebody writes to it.
fn open(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    options.open(path)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let unreadable = |error: std::io::Error| format!("it cannot be read: {error}");
    let file = open(path).map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err("it is no regular file".to_owned());
    }
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(|error| format!("it cannot be read: {error}"))?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(format!("it has more than {LARGEST_FILE} bytes"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::NewToken;
    use super::*;

    fn line(name: &str) -> String {
        format!("{}\n", NewToken::generate(name).unwrap().line())
    }

    /// What two looks in a row give: the names, or the error.
    fn looks(file: &mut KnownTokensFile) -> Option<Result<Vec<String>, String>> {
        assert!(file.look().is_none(), "a version counts at the second look");
        let names = |known: KnownTokens| {
            let mut names: Vec<_> = known.names().iter().map(ToString::to_string).collect();
            names.sort_unstable();
            names
        };
        let found = file.look().map(|read| read.map(names).map_err(|error| error.to_string()));
        assert!(file.look().is_none() && file.look().is_none(), "a version is told once");
        found
    }

    #[test]
    fn a_change_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let (alice, bob) = (line("alice"), line("bob"));
        std::fs::write(&path, &alice).unwrap();
        let (mut file, known) = KnownTokensFile::open(&path).unwrap();
        assert_eq!((known.names().len(), looks(&mut file)), (1, None));
        std::fs::write(&path, format!("{alice}{bob}")).unwrap();
        assert_eq!(looks(&mut file), Some(Ok(vec!["alice".to_owned(), "bob".to_owned()])));
        // The same length, and perhaps the same time.
        std::fs::write(&path, &alice).unwrap();
        looks(&mut file);
        std::fs::write(&path, line("carol")).unwrap();
        assert_eq!(looks(&mut file), Some(Ok(vec!["carol".to_owned()])));
        #[cfg(unix)]
        {
            std::fs::remove_file(&path).unwrap();
            rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
            let error = looks(&mut file).unwrap().unwrap_err();
            assert!(error.contains("no regular file"), "{error}");
            std::fs::remove_file(&path).unwrap();
        }
        for (text, expected) in [("", "no token in it"), ("bob\n", "line 1: a line is a name")] {
            std::fs::write(&path, text).unwrap();
            let error = looks(&mut file).unwrap().unwrap_err();
            assert!(error.contains(expected) && error.contains(&path.display().to_string()), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        let error = looks(&mut file).unwrap().unwrap_err();
        assert!(error.contains("cannot be read"), "{error}");
    }

    #[test]
    fn a_version_that_is_being_written_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let (alice, bob) = (line("alice"), line("bob"));
        let whole = format!("{alice}{bob}");
        std::fs::write(&path, &whole).unwrap();
        let (mut file, _) = KnownTokensFile::open(&path).unwrap();
        for half in ["", &alice, &whole[..100]] {
            std::fs::write(&path, half).unwrap();
            assert!(file.look().is_none());
        }
        std::fs::write(&path, &whole).unwrap();
        assert!(file.look().is_none() && file.look().is_none(), "nothing has changed");
    }

    #[test]
    fn what_cannot_be_used_is_an_error_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let opened = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            KnownTokensFile::open(&path).unwrap_err().to_string()
        };
        assert!(opened(b"\xff\xfe").contains("it is no text in UTF-8"));
        assert!(opened(b"# nobody\n").contains("there is no token in it"));
        assert!(opened(&b" ".repeat(1024 * 1024 + 1)).contains("it has more than 1048576 bytes"));
        let error = KnownTokensFile::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("no regular file") && error.contains(&folder.path().display().to_string()), "{error}");
    }
}
