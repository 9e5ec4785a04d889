//! What a configuration file refers to: environment variables, and files beside it.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::Path;

/// The largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Where a configuration file gets the values of variables, and the contents of the files that it names. Tests have one
/// of their own, so that they depend neither on the variables of the machine nor on its files.
pub trait Environment {
    /// The value of an environment variable.
    fn variable(&self, name: &str) -> Option<OsString>;
    /// The text of a file.
    fn file(&self, path: &Path) -> io::Result<String>;
}

/// The environment and the files of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn variable(&self, name: &str) -> Option<OsString> {
        // `std::env::var_os` may panic for a name that no variable can have.
        let possible = !name.is_empty() && !name.contains(['=', '\0']);
        possible.then(|| std::env::var_os(name)).flatten()
    }

    fn file(&self, path: &Path) -> io::Result<String> {
        let mut text = String::new();
        let read = std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
        if read as u64 > MAX_FILE_BYTES {
            return Err(io::Error::other(format!("it has more than {} MiB", MAX_FILE_BYTES >> 20)));
        }
        Ok(text)
    }
}
