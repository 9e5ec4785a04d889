//! Times, sizes, paths and other simple values as people write them, on the command line and in files.

use std::time::Duration;

/// A time such as `30s`, `10m` or `1h30m`.
pub fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}: write a time such as 30s, 10m or 1h30m"))
}

/// A time, or `off` for none.
pub fn optional_time(text: &str) -> Result<Option<Duration>, String> {
    match text {
        "off" | "never" | "none" | "0" => Ok(None),
        _ => time(text).map(Some).map_err(|error| format!("{error}, or off")),
    }
}

/// A whole number from 1.
pub fn count(text: &str) -> Result<usize, String> {
    let count = text.parse().map_err(|_| "not a whole number".to_owned())?;
    if count == 0 { Err("must be at least 1".to_owned()) } else { Ok(count) }
}

/// A number of bytes, such as `64MiB`.
pub fn size(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let unit: usize = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "kb" => 1000,
        "m" | "mib" => 1 << 20,
        "mb" => 1_000_000,
        "g" | "gib" => 1 << 30,
        "gb" => 1_000_000_000,
        other => return Err(format!("unknown unit {other:?}: use KiB, MiB or GiB")),
    };
    let number: usize = digits.trim().parse().map_err(|_| "not a size: write one such as 64MiB".to_owned())?;
    number.checked_mul(unit).ok_or_else(|| "too large".to_owned())
}

/// A log level, or directives for modules.
pub fn log(text: &str) -> Result<String, String> {
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let known = |directive: &str| {
        let level = directive.rsplit('=').next().unwrap_or_default();
        levels.iter().any(|known| known.eq_ignore_ascii_case(level.trim()))
    };
    if text.split(',').all(known) {
        return Ok(text.to_owned());
    }
    Err(format!("use one of {}, or directives such as warn,sessile::backend=info", levels.join(", ")))
}

/// The path of a file, which cannot be empty.
pub fn path(text: &str) -> Result<std::path::PathBuf, String> {
    if text.is_empty() { Err("a path cannot be empty".to_owned()) } else { Ok(text.into()) }
}

/// Checks the name of an environment variable.
pub fn variable_name(name: &str) -> Result<String, String> {
    if name.is_empty() || name.contains(['=', '\0']) || name.contains(char::is_whitespace) {
        // The error does not quote the name: some people write the token itself where its variable's name belongs.
        return Err("no variable can have such a name".to_owned());
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_spellings_are_parsed() {
        assert_eq!(time("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(optional_time("off"), Ok(None));
        assert_eq!(optional_time("1s"), Ok(Some(Duration::from_secs(1))));
        assert_eq!((size("64MiB"), size("2kb"), size("7")), (Ok(64 << 20), Ok(2000), Ok(7)));
        assert_eq!(log("warn,sessile::backend=info").as_deref(), Ok("warn,sessile::backend=info"));
        assert_eq!(count("3"), Ok(3));
    }

    #[test]
    fn errors_say_what_was_expected() {
        assert!(time("soon").unwrap_err().contains("such as 30s"));
        assert!(optional_time("soon").unwrap_err().contains("or off"));
        assert!(size("1XB").unwrap_err().contains("use KiB"));
        assert!(size("99999999999GiB").unwrap_err().contains("too large"));
        assert!(size("é").unwrap_err().contains("not a size"));
        assert!(log("loud").unwrap_err().contains("use one of"));
        assert!(count("0").unwrap_err().contains("at least 1"));
        assert!(path("").unwrap_err().contains("empty"));
    }
}
