//! Masks the secrets of a request in what its server says, because servers repeat headers and URLs in their errors.
//! Pure.

use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderValue;

/// The shortest text that is masked, in bytes: shorter ones are no secrets, and masking them would make errors
/// unreadable.
const MIN_MASKED: usize = 6;
const MASK: &str = "***";
/// Reads base64 as leniently as any server may.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);
/// The schemes that may stand in front of credentials. They are not secret.
const SCHEMES: [&str; 5] = ["basic", "bearer", "digest", "negotiate", "signature"];

/// The texts to be masked, longest first.
#[derive(Debug, Clone, Default)]
pub(super) struct RequestSecrets(Arc<[SecretText]>);

/// A text whose `Debug` is `***`.
#[derive(Clone, PartialEq, Eq)]
struct SecretText(String);

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(MASK)
    }
}

impl RequestSecrets {
    /// Takes the values of headers and `others`, such as the parts of a URL, as secrets, whole and in their pieces.
    pub(super) fn new<'a>(
        values: impl IntoIterator<Item = &'a HeaderValue>,
        others: impl IntoIterator<Item = String>,
    ) -> Self {
        let mut found = Vec::new();
        for value in values {
            let value = String::from_utf8_lossy(value.as_bytes());
            if let Some(pair) = basic(&value) {
                found.extend(pair.split_once(':').map(|(_, password)| password.to_owned()));
                found.push(pair);
            }
            pieces(without_scheme(&value), &mut found);
        }
        others.into_iter().for_each(|other| pieces(&other, &mut found));
        found.retain(|secret| secret.len() >= MIN_MASKED);
        // The longest first: a long secret may contain a shorter one.
        found.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        found.dedup();
        Self(found.into_iter().map(SecretText).collect())
    }

    /// Returns the text with `***` in place of secrets. If the text was `cut` off, the start of a secret at its end is
    /// masked too.
    pub(super) fn mask(&self, text: String, cut: bool) -> String {
        let mut text = text;
        if cut && let Some(start) = self.0.iter().filter_map(|SecretText(secret)| begun(&text, secret)).min() {
            text.replace_range(start.., MASK);
        }
        self.0.iter().fold(text, |text, SecretText(secret)| {
            if text.contains(secret.as_str()) { text.replace(secret.as_str(), MASK) } else { text }
        })
    }
}

/// Returns credentials without the scheme in front of them.
fn without_scheme(value: &str) -> &str {
    match value.trim().split_once(' ') {
        Some((scheme, rest)) if SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known)) => rest,
        _ => value,
    }
}

/// Adds a value with single spaces, as refusals are shown, and the pieces between its spaces and signs.
fn pieces(value: &str, found: &mut Vec<String>) {
    found.push(value.split_whitespace().collect::<Vec<_>>().join(" "));
    let signs = |sign: char| sign.is_whitespace() || matches!(sign, ';' | ',' | '=' | '"');
    found.extend(value.split(signs).map(str::to_owned));
    // Parameters as a whole, and values with `=` in them or at their end.
    found.extend(value.split([' ', ';', ',']).map(|piece| piece.trim().to_owned()));
    found.extend(value.split([' ', ';', ',']).filter_map(|piece| Some(piece.split_once('=')?.1.to_owned())));
}

/// Returns where the start of this secret begins, if the text ends with one that is long enough to be masked.
fn begun(text: &str, secret: &str) -> Option<usize> {
    let starts = secret.char_indices().map(|(end, _)| end).rev().take_while(|end| *end >= MIN_MASKED);
    starts.filter(|end| text.ends_with(&secret[..*end])).map(|end| text.len() - end).next()
}

/// The user's name and password in basic credentials (RFC 7617, section 2). Either alphabet is read, with padding or
/// without, and a last digit that says nothing is left out: what some server can read out of the header has to be
/// masked.
fn basic(value: &str) -> Option<String> {
    let (scheme, encoded) = value.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let digits = encoded.trim().trim_end_matches('=').replace('-', "+").replace('_', "/");
    let digits = if digits.len() % 4 == 1 { digits.get(..digits.len() - 1)? } else { &digits };
    let pair = BASE64.decode(digits).ok()?;
    Some(String::from_utf8_lossy(&pair).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(values: &[&'static str], text: &str) -> String {
        let values: Vec<_> = values.iter().map(|value| HeaderValue::from_static(value)).collect();
        RequestSecrets::new(&values, []).mask(text.to_owned(), false)
    }

    #[test]
    fn masks_whole_values_and_their_pieces() {
        let cookie = ["sid=cookiesecret999; theme=dark"];
        assert_eq!(masked(&cookie, "Cookie: sid=cookiesecret999; theme=dark."), "Cookie: ***.");
        assert_eq!(masked(&cookie, "no sid cookiesecret999, a dark theme"), "no sid ***, a dark theme");
        assert_eq!(masked(&["Bearer abcdef12"], "Bearer wanted, abcdef12 came"), "Bearer wanted, *** came");
        assert_eq!(masked(&["Bearer abc+/def="], "abc+/def= and abc+/def"), "*** and ***");
        assert_eq!(masked(&["k=v1w2x3=y"], "v1w2x3=y"), "***");
        assert_eq!(masked(&["first,  second"], "first, second; first,  second"), "***; first,  ***");
        assert_eq!(masked(&["short"], "short"), "short");
        assert_eq!(masked(&["abcdef", "abcdefgh"], "abcdefgh abcdef"), "*** ***");
    }

    #[test]
    fn masks_what_basic_credentials_say() {
        let basic = ["Basic Ym9iOmJhc2ljcGFzc3dvcmQx"];
        let text = "Basic Ym9iOmJhc2ljcGFzc3dvcmQx is bob:basicpassword1, bob with basicpassword1";
        assert_eq!(masked(&basic, text), "Basic *** is ***, bob with ***");
        assert_eq!(super::basic("basic dXNlcjpwQHNz").as_deref(), Some("user:p@ss"));
        assert_eq!(super::basic("Basic YQ==").as_deref(), Some("a"));
        assert_eq!(super::basic("Basic YR").as_deref(), Some("a"), "bits behind the last byte");
        assert_eq!(super::basic("Basic _-A=").as_deref(), super::basic("Basic /+A").as_deref(), "either alphabet");
        assert_eq!(super::basic("Basic dXNlcjpwQHNzd").as_deref(), Some("user:p@ss"), "a digit too many");
        assert_eq!(super::basic("Basic d\u{e9}"), None);
        assert_eq!(super::basic("Basic a b"), None);
    }

    #[test]
    fn masks_what_was_cut_off() {
        let values = [HeaderValue::from_static("0123456789")];
        let secrets = RequestSecrets::new(&values, []);
        assert_eq!(secrets.mask("it ends in 0123456".to_owned(), true), "it ends in ***");
        assert_eq!(secrets.mask("it ends in 0123456".to_owned(), false), "it ends in 0123456");
        assert_eq!(secrets.mask("it ends in 01234".to_owned(), true), "it ends in 01234");
        assert!(!format!("{secrets:?}").contains("0123"));
    }
}
