//! Ids of requests, and progress tokens: a JSON string or number, which keeps its spelling.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};

use smallvec::SmallVec;

use super::scan::JsonCursor;
use super::text;

/// The longest id or progress token, in bytes as it is spelled. Both are kept while their request is in flight, and an
/// error repeats the id, after the bytes of the message itself were given back: without this limit nothing would bound
/// them.
pub const LONGEST_ID: usize = 1024;

/// The id of a request, or a progress token: the raw JSON text of a string or a number.
///
/// Two ids are equal if a peer may take one for the other. Strings are compared after unescaping, because a response
/// may escape its id in another way than the request did. Numbers are compared as they are spelled, because peers do
/// not agree on what `1.0` or `1e400` is. The number `1` and the string `"1"` are two ids.
#[derive(Clone)]
pub struct Id(SmallVec<[u8; 22]>);

impl Id {
    /// The number as an id.
    pub fn number(number: u64) -> Self {
        Self(SmallVec::from_slice(itoa::Buffer::new().format(number).as_bytes()))
    }

    /// The id whose raw JSON text this is, white space around it aside; `None` if that is not one string or number.
    pub fn from_raw(json: &[u8]) -> Option<Self> {
        let json = text::trim(json);
        if !matches!(json.first()?, b'"' | b'-' | b'0'..=b'9') {
            return None;
        }
        let mut cursor = JsonCursor::new(json, 0);
        cursor.value(0).and_then(|()| cursor.expect_end()).ok()?;
        Some(Self::from_valid(json))
    }

    /// The id whose raw JSON text this is; it must be one valid string or number.
    pub(super) fn from_valid(json: &[u8]) -> Self {
        Self(SmallVec::from_slice(json))
    }

    /// The raw JSON text: a number as it is spelled, or a string with its quotes.
    pub fn raw(&self) -> &[u8] {
        &self.0
    }

    /// [`raw`](Self::raw), as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The string, unescaped and with lone surrogates replaced; `None` for a number.
    pub fn to_text(&self) -> Option<String> {
        Some(text::unescape(self.content()?))
    }

    /// The number, if it is an unsigned integer that fits, in any spelling: a peer that keeps all numbers as floats
    /// answers `5` with `5.0` or `5e0`.
    pub fn as_u64(&self) -> Option<u64> {
        let plain = !self.0.is_empty() && self.0.iter().all(u8::is_ascii_digit);
        if plain { self.as_str().parse().ok() } else { exact_integer(&self.0) }
    }

    /// A string's content between the quotes; `None` for a number.
    fn content(&self) -> Option<&[u8]> {
        self.0.strip_prefix(b"\"")?.strip_suffix(b"\"")
    }

    /// Bytes that are the same for equal ids, and differ for all others. A string keeps its quotes, which tell it from
    /// a number.
    fn canonical(&self) -> Cow<'_, [u8]> {
        match self.content() {
            Some(content) if content.contains(&b'\\') => {
                let mut said = text::canonical(content);
                said.insert(0, b'"');
                said.push(b'"');
                Cow::Owned(said)
            }
            _ => Cow::Borrowed(&self.0),
        }
    }
}

/// The unsigned integer that this JSON number is equal to, if there is one and it fits. The calculation is done in
/// decimal digits, so nothing is rounded.
#[cold]
fn exact_integer(number: &[u8]) -> Option<u64> {
    let (mantissa, exponent) = match number.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (&number[..at], exponent_value(&number[at + 1..])?),
        None => (number, 0),
    };
    let (is_negative, mantissa) = match mantissa.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, mantissa),
    };
    let (whole, fraction) = match mantissa.iter().position(|byte| *byte == b'.') {
        Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
        None => (mantissa, &[][..]),
    };
    let digits = || whole.iter().chain(fraction);
    if !digits().all(u8::is_ascii_digit) {
        return None;
    }
    // The digits from the first to the last that is not zero, and by how many decimal places they are shifted.
    let leading = digits().take_while(|digit| **digit == b'0').count();
    if leading == whole.len() + fraction.len() {
        return Some(0).filter(|_| !whole.is_empty());
    }
    let trailing = digits().rev().take_while(|digit| **digit == b'0').count();
    let places =
        exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?.checked_add(i64::try_from(trailing).ok()?)?;
    let places = u32::try_from(places).ok()?;
    if is_negative {
        return None;
    }
    let count = whole.len() + fraction.len() - leading - trailing;
    let append = |sum: u64, digit: &u8| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
    let significant = digits().skip(leading).take(count).try_fold(0, append)?;
    significant.checked_mul(10_u64.checked_pow(places)?)
}

/// The exponent behind the `e` of a number; `None` if it does not fit, and then the number does not either.
fn exponent_value(exponent: &[u8]) -> Option<i64> {
    std::str::from_utf8(exponent).ok()?.parse().ok()
}

impl PartialEq for Id {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 || self.canonical() == other.canonical()
    }
}

impl Eq for Id {}

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.canonical().hash(state);
    }
}

impl From<u64> for Id {
    fn from(number: u64) -> Self {
        Self::number(number)
    }
}

impl From<&str> for Id {
    /// The string as an id.
    fn from(text: &str) -> Self {
        let mut json = Vec::with_capacity(text.len() + 2);
        text::quote(text, &mut json);
        Self(SmallVec::from_slice(&json))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({})", self.as_str())
    }
}
