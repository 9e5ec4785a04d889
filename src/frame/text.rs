//! JSON strings: compared after unescaping, and unescaped. `serde_json` refuses a string with half of a surrogate pair
//! in it, which JSON allows and some peers send, so that a message would be refused or two different keys taken for the
//! same.

use std::borrow::Cow;

/// A byte order mark in UTF-8.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// A piece of an unescaped string: text without escapes, or one escape.
enum StringPiece<'a> {
    Plain(&'a [u8]),
    Char(char),
    /// Half of a surrogate pair without the other half. It is not a character, and equal to none.
    Lone(u16),
}

/// Iterates over the pieces of the content of a valid JSON string.
struct StringPieces<'a>(&'a [u8]);

impl<'a> Iterator for StringPieces<'a> {
    type Item = StringPiece<'a>;

    fn next(&mut self) -> Option<StringPiece<'a>> {
        let at = memchr::memchr(b'\\', self.0).unwrap_or(self.0.len());
        if at > 0 {
            let (plain, rest) = self.0.split_at(at);
            self.0 = rest;
            return Some(StringPiece::Plain(plain));
        }
        let letter = *self.0.get(1)?;
        if letter != b'u' {
            self.0 = &self.0[2..];
            return Some(StringPiece::Char(match letter {
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                b'n' => '\n',
                b'r' => '\r',
                b't' => '\t',
                other => char::from(other),
            }));
        }
        let first = unit(self.0)?;
        self.0 = &self.0[6..];
        if let Some(char) = char::from_u32(u32::from(first)) {
            return Some(StringPiece::Char(char));
        }
        if let Some(second) = unit(self.0)
            && let Some(Ok(char)) = char::decode_utf16([first, second]).next()
        {
            self.0 = &self.0[6..];
            return Some(StringPiece::Char(char));
        }
        Some(StringPiece::Lone(first))
    }
}

/// The UTF-16 code unit of the `\uXXXX` at the start of the text.
fn unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.first_chunk::<4>()?;
    digits.iter().try_fold(0, |unit, &digit| {
        let digit = char::from(digit).to_digit(16)?;
        Some(unit << 4 | u16::try_from(digit).ok()?)
    })
}

/// Whether `raw`, the content of a JSON string, is `name` once it is unescaped.
pub(super) fn equals(raw: &[u8], escaped: bool, name: &str) -> bool {
    if !escaped {
        return raw == name.as_bytes();
    }
    let mut rest = name.as_bytes();
    for piece in StringPieces(raw) {
        let mut buffer = [0; 4];
        let said = match piece {
            StringPiece::Plain(plain) => plain,
            StringPiece::Char(char) => char.encode_utf8(&mut buffer).as_bytes(),
            StringPiece::Lone(_) => return false,
        };
        match rest.strip_prefix(said) {
            Some(left) => rest = left,
            None => return false,
        }
    }
    rest.is_empty()
}

/// The content of a JSON string, unescaped; a lone surrogate becomes a replacement character.
pub(super) fn unescape(raw: &[u8]) -> String {
    let mut said = String::with_capacity(raw.len());
    for piece in StringPieces(raw) {
        match piece {
            StringPiece::Plain(plain) => said.push_str(&String::from_utf8_lossy(plain)),
            StringPiece::Char(char) => said.push(char),
            StringPiece::Lone(_) => said.push(char::REPLACEMENT_CHARACTER),
        }
    }
    said
}

/// The content of a JSON string, unescaped to bytes that are equal for equal strings only: UTF-8 in which a lone
/// surrogate is encoded as if it were a character.
pub(super) fn canonical(raw: &[u8]) -> Vec<u8> {
    let mut said = Vec::with_capacity(raw.len());
    for piece in StringPieces(raw) {
        match piece {
            StringPiece::Plain(plain) => said.extend_from_slice(plain),
            StringPiece::Char(char) => said.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
            StringPiece::Lone(unit) => {
                let [top, low] = unit.to_be_bytes();
                said.extend([0xE0 | top >> 4, 0x80 | (top & 0xF) << 2 | low >> 6, 0x80 | low & 0x3F]);
            }
        }
    }
    said
}

/// Writes `text` as a JSON string, quotes and all.
pub(super) fn quote(text: &str, out: &mut Vec<u8>) {
    // Only a writer that fails could fail here, and a vector takes everything.
    let _ = serde_json::to_writer(out, text);
}

/// JSON text without line breaks: in valid JSON they are white space, and can be spaces as well.
pub(super) fn one_line<'a>(json: impl Into<Cow<'a, [u8]>>) -> Cow<'a, [u8]> {
    let mut json = json.into();
    if memchr::memchr2(b'\n', b'\r', &json).is_some() {
        replace_newlines(json.to_mut());
    }
    json
}

/// Overwrites line breaks with spaces.
pub(super) fn replace_newlines(json: &mut [u8]) {
    for byte in json {
        *byte = if matches!(*byte, b'\n' | b'\r') { b' ' } else { *byte };
    }
}

/// JSON text without the white space around it. (`trim_ascii` would also remove form feeds, which are no white space in
/// JSON.)
pub(super) fn trim(json: &[u8]) -> &[u8] {
    let text = |byte: &u8| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let start = json.iter().position(text).unwrap_or(json.len());
    let end = json.iter().rposition(text).map_or(start, |last| last + 1);
    &json[start..end]
}
