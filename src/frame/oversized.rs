//! Finds the id of a message that is too large to be kept.
//!
//! A message over the limit is thrown away while it comes in. If it is a response, the request that waits for it has to
//! fail, or its client would wait for ever. So the bytes are scanned for the `id` as they pass: in constant space, and
//! without checking that the message is valid.

use super::{Id, LONGEST_ID, text};

/// The longest key that is kept for comparison: the keys that are looked for are shorter, and no other matters.
const LONGEST_KEY: usize = 256;

/// The part of a member of the outermost object that comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MemberPart {
    /// The key.
    Key,
    /// The colon after the key.
    Colon,
    /// The value.
    Value,
}

/// Reads one message in pieces, and keeps only what an error about it needs.
#[derive(Debug)]
pub(crate) struct OversizedScanner {
    depth: usize,
    in_string: bool,
    escaped: bool,
    part: MemberPart,
    key: Vec<u8>,
    value: Vec<u8>,
    id: Option<Id>,
    has_method: bool,
    /// The first two bytes that are neither white space nor a byte order mark.
    start: Vec<u8>,
    size: usize,
}

impl OversizedScanner {
    pub(crate) fn new() -> Self {
        Self {
            depth: 0,
            in_string: false,
            escaped: false,
            part: MemberPart::Key,
            key: Vec::new(),
            value: Vec::new(),
            id: None,
            has_method: false,
            start: Vec::new(),
            size: 0,
        }
    }

    /// Takes the next piece.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.size += bytes.len();
        let mut rest = bytes;
        while let Some((&byte, tail)) = rest.split_first() {
            // Most of a large message is the inside of long strings: search them for their end instead of byte by byte.
            if self.in_string && !self.escaped && self.depth > 1 {
                let Some(stop) = memchr::memchr2(b'"', b'\\', rest) else { return };
                self.step(rest[stop]);
                rest = &rest[stop + 1..];
            } else {
                self.step(byte);
                rest = tail;
            }
        }
    }

    fn step(&mut self, byte: u8) {
        if self.start.len() < 2 && !b" \t\r\n".contains(&byte) && !text::BYTE_ORDER_MARK.contains(&byte) {
            self.start.push(byte);
        }
        if self.in_string {
            self.keep_byte(byte);
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => {
                    self.in_string = false;
                    if self.depth == 1 && self.part == MemberPart::Key {
                        self.part = MemberPart::Colon;
                    }
                }
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => {
                self.in_string = true;
                self.keep_byte(byte);
            }
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.end_member();
                self.depth = self.depth.saturating_sub(1);
            }
            b',' => self.end_member(),
            b':' if self.depth == 1 && self.part == MemberPart::Colon => self.part = MemberPart::Value,
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => self.keep_byte(byte),
        }
    }

    fn keep_byte(&mut self, byte: u8) {
        if self.depth != 1 {
            return;
        }
        let (text, most) = match self.part {
            // One byte more than allowed, to see that an id is too long.
            MemberPart::Value => (&mut self.value, LONGEST_ID + 1),
            MemberPart::Key | MemberPart::Colon => (&mut self.key, LONGEST_KEY),
        };
        if text.len() < most {
            text.push(byte);
        }
    }

    fn end_member(&mut self) {
        if self.depth != 1 {
            return;
        }
        match self.key.as_slice() {
            b"\"id\"" => self.id = Id::from_raw(&self.value).filter(|id| id.raw().len() <= LONGEST_ID),
            b"\"method\"" => self.has_method = true,
            _ => {}
        }
        self.key.clear();
        self.value.clear();
        self.part = MemberPart::Key;
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// The id, if the bytes so far show that the message is a response: the scanner is inside its result or error.
    pub(crate) fn answered_id(&self) -> Option<Id> {
        let is_outcome = matches!(self.key.as_slice(), b"\"result\"" | b"\"error\"") && self.part == MemberPart::Value;
        self.id.clone().filter(|_| is_outcome && !self.has_method)
    }

    /// The id, if there was one, and whether the message has a `method`, and so is not a response.
    pub(crate) fn finish(self) -> (Option<Id>, bool) {
        (self.id, self.has_method)
    }

    /// Like [`finish`](Self::finish), for a line. Programs print other things than messages there: a line that does not
    /// begin like a message or a batch has no id, and counts as a notification, so that no request fails because of it.
    pub(crate) fn finish_line(self) -> (Option<Id>, bool) {
        match *self.start {
            [b'{', b'"'] | [b'[', b'{'] => self.finish(),
            _ => (None, true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str, piece: usize) -> (Option<String>, bool) {
        let mut scanner = OversizedScanner::new();
        text.as_bytes().chunks(piece).for_each(|chunk| scanner.feed(chunk));
        assert_eq!(scanner.size(), text.len());
        let (id, method) = scanner.finish();
        (id.map(|id| id.to_string()), method)
    }

    #[test]
    fn finds_the_outer_id_wherever_it_stands() {
        let cases = [
            (r#"{"jsonrpc":"2.0","id":17,"result":{"id":4,"a":["}",{"id":5}]}}"#, Some("17"), false),
            (r#"{"result":{"text":"\"id\":9,{{{","id":4},"jsonrpc":"2.0","id":17}"#, Some("17"), false),
            (r#"{ "id" : "a\"b" , "method" : "tools/call", "params": [1, 2] }"#, Some(r#""a\"b""#), true),
            (r#"{"method":"x","params":{"method":"y"}}"#, None, true),
            (r#"{"id":null,"result":1}"#, None, false),
            (r#"[{"id":1}]"#, None, false),
            ("\u{feff} {\n\"id\":17,\"result\":1}", Some("17"), false),
        ];
        for (text, id, method) in cases {
            for piece in [1, 2, 3, 7, 1000] {
                assert_eq!(scan(text, piece), (id.map(str::to_owned), method), "{text} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn a_line_that_is_no_message_answers_nothing() {
        for (text, id, no_answer) in [
            (r#"{"id":1,"result":2}"#, Some("1"), false),
            ("\u{feff}{ \"result\":2}", None, false),
            (r#" [ {"id":1,"result":2}]"#, None, false),
            (r#"{"id":1,"method":2}"#, Some("1"), true),
            (r#"[info] {"id":1}"#, None, true),
            (r#"sent {"id":1}"#, None, true),
            ("{id: 1}", None, true),
            (r#"["a"]"#, None, true),
            ("", None, true),
        ] {
            let mut scanner = OversizedScanner::new();
            text.as_bytes().chunks(1).for_each(|chunk| scanner.feed(chunk));
            assert_eq!(scanner.finish_line(), (id.map(|id| Id::from_raw(id.as_bytes()).unwrap()), no_answer), "{text}");
        }
    }

    #[test]
    fn an_id_that_is_too_long_is_none() {
        for (digit, quotes) in [("7", ""), ("x", "\"")] {
            for length in [LONGEST_ID - 1, LONGEST_ID, LONGEST_ID + 1, LONGEST_ID + 2, 5000] {
                let id = format!("{quotes}{}{quotes}", digit.repeat(length - 2 * quotes.len()));
                let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"x"}}"#);
                for piece in [1, 1000] {
                    let expected = (length <= LONGEST_ID).then(|| id.clone());
                    assert_eq!(scan(&text, piece), (expected, true), "{length} bytes in pieces of {piece}");
                }
            }
        }
    }
}
