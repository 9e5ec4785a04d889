//! One URI in all its spellings. A server parses and unescapes a URI before it looks for the resource, so a filter that
//! compared the text alone could be passed by with `%61` for `a`.

use percent_encoding::percent_decode_str;
use url::Url;

/// The longest URI whose spellings are looked at, in bytes. A longer one is not offered where there are rules.
const MAX_URI_BYTES: usize = 64 * 1024;
/// How many times a URI may be escaped within itself (`%2561` is `%61` is `a`).
const MAX_UNESCAPE_ROUNDS: usize = 4;

/// All spellings of one URI: what a server may read out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spellings {
    /// The URI as it was written, then its normal form (WHATWG), then what escapes in these stand for.
    pub same: Vec<String>,
    /// What lenient servers may read as well: the URI without the fragment, and for files without a query and doubled
    /// slashes. A rule that denies one of these denies the URI; they need not be allowed, because not every server does
    /// so.
    pub near: Vec<String>,
    /// Whether the text is an absolute URI at all.
    pub absolute: bool,
}

impl Spellings {
    /// `None` where nobody can be sure what a server reads: with control characters in the URI or white space around
    /// it, escaped more often than [`MAX_UNESCAPE_ROUNDS`], or longer than [`MAX_URI_BYTES`].
    pub(crate) fn of(uri: &str) -> Option<Self> {
        if uri.len() > MAX_URI_BYTES || uri.contains(char::is_control) || uri.trim() != uri {
            return None;
        }
        let mut same = vec![uri.to_owned()];
        let mut from = 0;
        for _ in 0..MAX_UNESCAPE_ROUNDS {
            let until = same.len();
            for position in from..until {
                for other in normal_and_unescaped(&same[position]) {
                    if !same.contains(&other) {
                        same.push(other);
                    }
                }
            }
            from = until;
        }
        if from < same.len() {
            return None;
        }
        let mut near = Vec::new();
        for url in same.iter().filter_map(|one| Url::parse(one).ok()) {
            for one in lenient_readings(url) {
                if !same.contains(&one) && !near.contains(&one) {
                    near.push(one);
                }
            }
        }
        Some(Self { absolute: Url::parse(uri).is_ok(), same, near })
    }

    /// All spellings, those that are the same and those that are near.
    pub(crate) fn all(&self) -> impl Iterator<Item = &str> {
        self.same.iter().chain(&self.near).map(String::as_str)
    }
}

/// The normal form of a URI, and the URI unescaped once.
pub(super) fn normal_and_unescaped(uri: &str) -> impl Iterator<Item = String> + use<> {
    Url::parse(uri).ok().map(String::from).into_iter().chain([unescaped(uri)])
}

fn lenient_readings(mut url: Url) -> Vec<String> {
    let mut found = Vec::new();
    url.set_fragment(None);
    found.push(url.to_string());
    if url.scheme() == "file" {
        url.set_query(None);
        let mut path = String::new();
        for part in url.path().split('/').filter(|part| !part.is_empty()) {
            path.push('/');
            path.push_str(part);
        }
        url.set_path(&path);
        found.push(unescaped(url.as_str()));
        found.push(url.into());
    }
    found
}

/// Replaces `%41` by `A`. Bytes that are not UTF-8 afterwards become U+FFFD.
fn unescaped(uri: &str) -> String {
    percent_decode_str(uri).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_one_uri_meet() {
        for (written, read) in [
            ("DEMO://h/a", "demo://h/a"),
            ("demo://h/x/../a", "demo://h/a"),
            ("demo://h/./a", "demo://h/a"),
            ("demo://h/%61", "demo://h/a"),
            ("demo://h/x/%2e%2E/a", "demo://h/a"),
            ("demo://h/x%2f..%2fa", "demo://h/a"),
            ("demo://h/%2561", "demo://h/a"),
            ("demo://h/%0aa", "demo://h/a"),
            ("demo://h/é", "demo://h/%C3%A9"),
            ("demo://h/a#b", "demo://h/a"),
            ("HTTP://H:80", "http://h/"),
            ("http:\\\\h\\a", "http://h/a"),
            ("file://localhost/etc//passwd?x", "file:///etc/passwd"),
            ("file:/etc/passwd", "file:///etc/passwd"),
            ("urn:%61", "urn:a"),
        ] {
            let spellings = Spellings::of(written).unwrap();
            assert_eq!(spellings.same[0], written);
            assert!(spellings.all().any(|one| one == read) && spellings.absolute, "{written} {spellings:?}");
        }
        assert!(!Spellings::of("a/b").unwrap().absolute && !Spellings::of("").unwrap().absolute);
    }

    #[test]
    fn what_is_unclear_has_none() {
        let long = format!("x://{}", "a".repeat(MAX_URI_BYTES));
        for uri in [" x://a", "x://a\n", "x://\ta", "x://a\u{a0}", "x://\0", "x://h/%25252525252561", &long] {
            assert_eq!(Spellings::of(uri), None, "{uri:?}");
        }
    }

    proptest! {
        #[test]
        fn there_are_few_of_anything(uri in "([a-zA-Z]{1,4}:/{0,3})?([a-zé%./?# ]|%2[0-9a-f]){0,20}") {
            if let Some(spellings) = Spellings::of(&uri) {
                prop_assert!(spellings.all().count() < 64);
            }
        }
    }
}
