//! What a server of a configuration file gets of this process's environment.
//!
//! The names that the official TypeScript and Python SDKs pass on, and those for language, time zone and temporary
//! files. Whatever else a server needs stands in its `env`: a proxy's environment is full of what is none of its business.

use super::text::speaks_of_secrets;

const UNIX: [&str; 9] = ["HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "LANG", "LANGUAGE", "TZ"];

const WINDOWS: [&str; 14] = [
    "APPDATA",
    "HOMEDRIVE",
    "HOMEPATH",
    "LOCALAPPDATA",
    "PATH",
    "PATHEXT",
    "PROCESSOR_ARCHITECTURE",
    "PROGRAMFILES",
    "SYSTEMDRIVE",
    "SYSTEMROOT",
    "TEMP",
    "TMP",
    "USERNAME",
    "USERPROFILE",
];

/// The categories of a locale, as POSIX and glibc have them.
const LOCALE: [&str; 13] = [
    "LC_ALL",
    "LC_ADDRESS",
    "LC_COLLATE",
    "LC_CTYPE",
    "LC_IDENTIFICATION",
    "LC_MEASUREMENT",
    "LC_MESSAGES",
    "LC_MONETARY",
    "LC_NAME",
    "LC_NUMERIC",
    "LC_PAPER",
    "LC_TELEPHONE",
    "LC_TIME",
];

/// The names of the variables that a server of a configuration file gets, besides those of its `env`.
pub fn safe_environment() -> impl Iterator<Item = &'static str> {
    let own: &[&str] = if cfg!(windows) { &WINDOWS } else { &UNIX };
    own.iter().chain(&LOCALE).copied().chain(["TMPDIR"])
}

/// Whether the value of a variable may be shown, because every server gets it anyway.
pub(super) fn is_harmless(name: &str) -> bool {
    safe_environment().any(|safe| safe == name) && !speaks_of_secrets(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_speaks_of_secrets_is_passed_on() {
        for name in safe_environment() {
            assert!(is_harmless(name), "{name}");
        }
        assert!(!is_harmless("DATABASE_URL") && !is_harmless("SESSILE_TOKEN"));
        assert!(is_harmless("PATH"));
    }
}
