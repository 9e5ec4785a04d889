//! The members of an object and the elements of an array, by their positions in JSON that is known to be valid. Code
//! that has to look at each of them, such as the entries of a list, uses this.

use std::borrow::Cow;
use std::ops::Range;

use super::scan::JsonCursor;
use super::text;

/// A member of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item<'a> {
    /// Its key, unescaped and with lone surrogates replaced.
    pub key: Cow<'a, str>,
    /// The position of its value.
    pub value: Range<usize>,
}

/// The members of the object at this position, duplicates too; empty if the value there is not an object.
pub(crate) fn members(json: &[u8], at: Range<usize>) -> Vec<Item<'_>> {
    let mut found = Vec::new();
    if json.get(at.start) != Some(&b'{') {
        return found;
    }
    // The text is known to be valid, so there is no error.
    let _ = JsonCursor::new(json, at.start).object(|cursor, key| {
        let raw = cursor.raw(key);
        let key = match std::str::from_utf8(raw) {
            Ok(plain) if !key.escaped => Cow::Borrowed(plain),
            _ => Cow::Owned(text::unescape(raw)),
        };
        let start = cursor.pos;
        cursor.value(1)?;
        found.push(Item { key, value: start..cursor.pos });
        Ok(())
    });
    found
}

/// The position of the value of the member with this name; `None` if there is no such member, or more than one.
pub(crate) fn only(json: &[u8], at: Range<usize>, name: &str) -> Option<Range<usize>> {
    let mut found = members(json, at).into_iter().filter(|item| item.key == name);
    let first = found.next()?;
    found.next().is_none().then_some(first.value)
}

/// The positions of the elements of the array at this position; `None` if the value there is not an array.
pub(crate) fn elements(json: &[u8], at: Range<usize>) -> Option<Vec<Range<usize>>> {
    if json.get(at.start) != Some(&b'[') {
        return None;
    }
    let mut cursor = JsonCursor::new(json, at.start + 1);
    let mut found = Vec::new();
    cursor.skip_space();
    while cursor.peek().ok()? != b']' {
        let start = cursor.pos;
        cursor.value(1).ok()?;
        found.push(start..cursor.pos);
        cursor.skip_space();
        if cursor.peek().ok()? == b',' {
            cursor.pos += 1;
            cursor.skip_space();
        }
    }
    Some(found)
}

/// The string at this position, unescaped and with lone surrogates replaced; `None` if the value there is not a string.
pub(crate) fn string(json: &[u8], at: Range<usize>) -> Option<String> {
    let content = json.get(at)?.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    Some(text::unescape(content))
}

/// The text as a JSON string, with its quotes.
pub(crate) fn quoted(text: &str) -> Vec<u8> {
    let mut json = Vec::with_capacity(text.len() + 2);
    text::quote(text, &mut json);
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_and_elements_are_found() {
        let json = br#"{ "a" : [ 1 , {"b":"x\ny"} ,[] ], "\u0061":"\ud800", "c":{} }"#;
        let whole = 0..json.len();
        let found: Vec<_> =
            members(json, whole.clone()).into_iter().map(|item| (item.key.into_owned(), item.value)).collect();
        let keys: Vec<_> = found.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["a", "a", "c"]);
        let each = elements(json, found[0].1.clone()).unwrap();
        let texts: Vec<_> = each.iter().map(|at| std::str::from_utf8(&json[at.clone()]).unwrap()).collect();
        assert_eq!(texts, ["1", r#"{"b":"x\ny"}"#, "[]"]);
        assert_eq!(elements(json, each[2].clone()), Some(Vec::new()));
        assert_eq!(elements(json, each[1].clone()), None);
        let text = only(json, each[1].clone(), "b").unwrap();
        assert_eq!(string(json, text).as_deref(), Some("x\ny"));
        assert_eq!(only(json, whole.clone(), "a"), None, "it is there twice");
        assert_eq!(only(json, whole, "b"), None);
        assert_eq!(string(json, found[1].1.clone()).as_deref(), Some("\u{fffd}"));
        assert_eq!(string(json, each[0].clone()), None);
        assert_eq!(quoted("a\"b\n"), br#""a\"b\n""#);
    }
}
