//! How a terminal shows the letters of a server's texts: how wide they are, and which of them only change how others
//! look.

use unicode_width::UnicodeWidthChar as _;

/// Letters that are not seen: they reorder, join or part others (the general category Cf, and the line separators).
const HIDDEN: [(u32, u32); 14] = [
    (0xAD, 0xAD),
    (0x600, 0x605),
    (0x61C, 0x61C),
    (0x6DD, 0x6DD),
    (0x70F, 0x70F),
    (0x180E, 0x180E),
    (0x200B, 0x200F),
    (0x2028, 0x202E),
    (0x2060, 0x206F),
    (0xFEFF, 0xFEFF),
    (0xFFF9, 0xFFFB),
    (0x110BD, 0x110BD),
    (0x1D173, 0x1D17A),
    (0xE0000, 0xE007F),
];

/// Whether a letter is not seen itself, but changes how others look: a server could make its line of the table read as
/// another one with it. The width does not tell, because accents have none either.
pub(super) fn is_hidden(letter: char) -> bool {
    HIDDEN.iter().any(|(first, last)| (*first..=*last).contains(&u32::from(letter)))
}

/// How many columns of a terminal a letter takes.
pub(super) fn width(letter: char) -> usize {
    if is_hidden(letter) { 0 } else { letter.width().unwrap_or(0) }
}

/// How many columns of a terminal a text takes.
pub(super) fn width_of(text: &str) -> usize {
    text.chars().map(width).sum()
}

#[cfg(test)]
#[test]
fn widths_are_those_of_terminals() {
    for (text, expected) in
        [("abc", 3), ("größe", 5), ("日本", 4), ("e\u{301}", 1), ("🚀", 2), ("\u{200b}\u{202e}x", 1)]
    {
        assert_eq!(width_of(text), expected, "{text}");
    }
}
