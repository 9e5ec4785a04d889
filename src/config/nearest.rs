//! Which known word somebody may have meant.

/// The known word that is nearest to what was written, if one is near enough.
pub(super) fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Whoever wrote more than this did not mistype a name.
    let written: Vec<char> = written.chars().take(64).map(|letter| letter.to_ascii_lowercase()).collect();
    let near = |word: &str| {
        let distance = distance(&written, word);
        (distance <= word.len().max(6) / 3).then_some(distance)
    };
    known.into_iter().filter_map(|word| Some((near(word)?, word))).min().map(|(_, word)| word)
}

/// How many letters must be put in, taken out or changed to make one word of the other.
fn distance(written: &[char], word: &str) -> usize {
    let mut row: Vec<usize> = (0..=written.len()).collect();
    for (at, letter) in word.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (column, other) in written.iter().enumerate() {
            let changed = diagonal + usize::from(letter.to_ascii_lowercase() != *other);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[written.len()]
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
        assert_eq!(distance(&['k', 'i', 't'], "sitting"), 5);
    }
}
