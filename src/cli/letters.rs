//! How a terminal shows the letters of strangers: how wide they are, and which of them only change how others look.

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

/// Letters that stand on the one before them.
const MARKS: [(u32, u32); 6] =
    [(0x300, 0x36F), (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF), (0x20D0, 0x20FF), (0xFE00, 0xFE0F), (0xFE20, 0xFE2F)];

/// Letters as wide as two: those of East Asia, and pictures.
const WIDE: [(u32, u32); 14] = [
    (0x1100, 0x115F),
    (0x2E80, 0x303E),
    (0x3041, 0x4DBF),
    (0x4E00, 0xA4CF),
    (0xA960, 0xA97F),
    (0xAC00, 0xD7A3),
    (0xF900, 0xFAFF),
    (0xFE30, 0xFE6F),
    (0xFF00, 0xFF60),
    (0xFFE0, 0xFFE6),
    (0x1F300, 0x1F64F),
    (0x1F680, 0x1F6FF),
    (0x1F900, 0x1FAFF),
    (0x20000, 0x3FFFD),
];

fn is_in(ranges: &[(u32, u32)], letter: char) -> bool {
    ranges.iter().any(|(first, end)| (*first..=*end).contains(&u32::from(letter)))
}

/// Whether it is not seen itself, but changes how others look.
pub(super) fn is_hidden(letter: char) -> bool {
    is_in(&HIDDEN, letter)
}

/// How many columns of a terminal it takes.
pub(super) fn width(letter: char) -> usize {
    if is_hidden(letter) || is_in(&MARKS, letter) {
        0
    } else if is_in(&WIDE, letter) {
        2
    } else {
        1
    }
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
