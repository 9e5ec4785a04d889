//! The cursor of a list that several servers share: which of them have more, and their own cursors.
//!
//! To clients it is opaque (2025-11-25, server/utilities/pagination). It holds no secret, and is checked to the letter:
//! whatever was not made here is refused.

use std::fmt::Write as _;

use super::List;
use crate::session::link_phase::LinkId;

/// Where the pages of several servers go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListCursor {
    pub list: List,
    /// The servers that have more, each once and in order.
    pub rest: Vec<(LinkId, String)>,
}

/// What every cursor of a union begins with.
const MARK: &str = "sessile";

impl ListCursor {
    /// `sessile.<list>.<link>-<cursor in hexadecimal>.…`
    pub(super) fn encode(&self) -> String {
        let mut text = format!("{MARK}.{}", self.list.member());
        for (link, cursor) in &self.rest {
            let _ = write!(text, ".{}-", link.0);
            for byte in cursor.bytes() {
                let _ = write!(text, "{byte:02x}");
            }
        }
        text
    }

    /// Reads a cursor for this list of so many servers; `None` if it is not one of ours.
    pub(super) fn decode(list: List, servers: usize, text: &str) -> Option<Self> {
        let rest = text.strip_prefix(MARK)?.strip_prefix('.')?.strip_prefix(list.member())?.strip_prefix('.')?;
        let mut cursor = Self { list, rest: Vec::new() };
        for part in rest.split('.') {
            let (link, hex) = part.split_once('-')?;
            let link = LinkId(link.parse().ok()?);
            let known = usize::from(link.0) < servers;
            let in_order = cursor.rest.last().is_none_or(|(last, _)| *last < link);
            if !known || !in_order {
                return None;
            }
            cursor.rest.push((link, String::from_utf8(bytes_of(hex)?).ok()?));
        }
        // There is one way to write it: other spellings of numbers and digits are not ours.
        (cursor.encode() == text).then_some(cursor)
    }
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_ours_is_refused() {
        let good = "sessile.tools.0-61.2-";
        let cursor = ListCursor::decode(List::Tools, 3, good).unwrap();
        assert_eq!(cursor.rest, [(LinkId(0), "a".to_owned()), (LinkId(2), String::new())]);
        for bad in [
            "",
            "a",
            "sessile",
            "sessile.tools",
            "sessile.tools.",
            "sessile.tools.0",
            "sessile.prompts.0-61",
            "sessile.tools.0-6",
            "sessile.tools.0-6g",
            "sessile.tools.0-6A",
            "sessile.tools.00-61",
            "sessile.tools.+0-61",
            "sessile.tools.3-61",
            "sessile.tools.1-61.0-61",
            "sessile.tools.0-61.0-61",
            "sessile.tools.0-ff",
            "sessile.tools.0-61.",
            "sessile.tools.0-61 ",
            "Sessile.tools.0-61",
            "sessile.tools.99999-61",
        ] {
            assert_eq!(ListCursor::decode(List::Tools, 3, bad), None, "{bad}");
        }
        assert_eq!(ListCursor::decode(List::Tools, 2, good), None, "there is no such server");
    }

    proptest! {
        #[test]
        fn a_cursor_comes_back_as_it_was(cursors in vec(proptest::option::of(".*"), 1..6)) {
            let servers = cursors.len();
            let link = |position| LinkId(u16::try_from(position).unwrap());
            let rest: Vec<_> = cursors.into_iter().enumerate()
                .filter_map(|(position, cursor)| Some((link(position), cursor?)))
                .collect();
            prop_assume!(!rest.is_empty());
            let cursor = ListCursor { list: List::Resources, rest };
            prop_assert_eq!(ListCursor::decode(List::Resources, servers, &cursor.encode()), Some(cursor));
        }

        #[test]
        fn whatever_is_accepted_is_written_in_one_way(text in "sessile\\.tools(\\.[0-9]{1,2}-([0-9a-fA-F]{2}){0,3}){1,3}") {
            if let Some(cursor) = ListCursor::decode(List::Tools, 50, &text) {
                prop_assert_eq!(cursor.encode(), text);
            }
        }
    }
}
