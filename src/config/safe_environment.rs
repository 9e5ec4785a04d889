//! The environment variables that a server of a configuration file inherits.
//!
//! They are those that the official TypeScript and Python SDKs pass on, and those for language, time zone and temporary
//! files. Whatever else a server needs stands in its `env`: a proxy's environment holds secrets of other programs.

use super::text::names_a_secret;

const UNIX_VARIABLES: [&str; 9] = ["HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "LANG", "LANGUAGE", "TZ"];

const WINDOWS_VARIABLES: [&str; 14] = [
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
const LOCALE_VARIABLES: [&str; 13] = [
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
    let own: &[&str] = if cfg!(windows) { &WINDOWS_VARIABLES } else { &UNIX_VARIABLES };
    own.iter().chain(&LOCALE_VARIABLES).copied().chain(["TMPDIR"])
}

/// Whether the value of a variable may be shown, because every server gets it anyway.
pub(super) fn may_be_shown(name: &str) -> bool {
    safe_environment().any(|safe| safe == name) && !names_a_secret(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_speaks_of_secrets_is_passed_on() {
        for name in safe_environment() {
            assert!(may_be_shown(name), "{name}");
        }
        assert!(!may_be_shown("DATABASE_URL") && !may_be_shown("SESSILE_TOKEN"));
        assert!(may_be_shown("PATH"));
    }
}
