//! Which known word somebody may have meant.

/// The known word that is nearest to what was written, if one is near enough.
pub(super) fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // The comparison takes time in proportion to the length: a key of a megabyte is no mistyped name.
    let written: String = written.chars().take(64).map(|letter| letter.to_ascii_lowercase()).collect();
    let near = |word: &str| {
        let distance = strsim::levenshtein(&written, &word.to_ascii_lowercase());
        (distance <= word.len().max(6) / 3).then_some(distance)
    };
    known.into_iter().filter_map(|word| Some((near(word)?, word))).min().map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found() {
        let known = ["idleTimeout", "listen", "log", "maxSessions"];
        for (written, expected) in [
            ("idleTimeouts", Some("idleTimeout")),
            ("idle_timeout", Some("idleTimeout")),
            ("idle-timeout", Some("idleTimeout")),
            ("Listen", Some("listen")),
            ("maxSession", Some("maxSessions")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, known), expected, "{written}");
        }
    }
}
