//! A validating cursor over JSON text (RFC 8259). The cursor knows the grammar only; `envelope.rs` knows what the
//! members of a message mean. Nothing here recurses, so deep nesting cannot exhaust the stack: nesting is a stack of
//! bits.
//!
//! `serde_json` with `RawValue` could find the fields as well. It is not used here, for these reasons:
//!
//! - Speed. On the same messages (`frame/tests/speed.rs`) `serde_json` takes 1.7 times as long for a call of 200 bytes
//!   and 1.05 times for a response of 200 bytes; at 10 KB and 1 MB it takes 1.8 to 3.8 times as long for base64 and for
//!   long arguments, and 1.0 to 1.1 times for text with escapes, text that is not ASCII, and lists of small objects.
//! - A message that is refused still has to be answered: the scanner knows the id, what kind of message it was and the
//!   place of the error, up to where the text breaks off. `serde_json` returns nothing but an error.
//! - Splices need positions, keys are compared with lone surrogates in them, and nesting is bounded.

use super::error::{FrameErrorKind, ScanError};

/// How many objects and arrays may be nested within one another.
pub(crate) const MAX_DEPTH: usize = 512;

/// The position of a string in the text, without its quotes.
#[derive(Debug, Clone, Copy)]
pub(super) struct StringSpan {
    pub(super) start: usize,
    pub(super) end: usize,
    /// Whether the string has a backslash in it.
    pub(super) escaped: bool,
}

pub(super) struct JsonCursor<'a> {
    bytes: &'a [u8],
    pub(super) pos: usize,
    /// Whether a line break was skipped as white space.
    pub(super) newlines: bool,
}

impl<'a> JsonCursor<'a> {
    pub(super) fn new(bytes: &'a [u8], pos: usize) -> Self {
        Self { bytes, pos, newlines: false }
    }

    pub(super) fn raw(&self, text: StringSpan) -> &'a [u8] {
        &self.bytes[text.start..text.end]
    }

    pub(super) fn fail<T>(&self, kind: FrameErrorKind) -> Result<T, ScanError> {
        Err(ScanError { kind, offset: self.pos })
    }

    fn unexpected<T>(&self) -> Result<T, ScanError> {
        self.fail(if self.pos < self.bytes.len() { FrameErrorKind::Unexpected } else { FrameErrorKind::Truncated })
    }

    /// The byte at the cursor.
    #[inline]
    pub(super) fn peek(&self) -> Result<u8, ScanError> {
        match self.bytes.get(self.pos) {
            Some(&byte) => Ok(byte),
            None => self.fail(FrameErrorKind::Truncated),
        }
    }

    /// Skips white space.
    #[inline]
    pub(super) fn skip_space(&mut self) {
        while let Some(&byte @ (b' ' | b'\t' | b'\n' | b'\r')) = self.bytes.get(self.pos) {
            self.newlines |= byte == b'\n' || byte == b'\r';
            self.pos += 1;
        }
    }

    /// Fails if anything but white space is left.
    pub(super) fn expect_end(&mut self) -> Result<(), ScanError> {
        self.skip_space();
        if self.pos < self.bytes.len() { self.fail(FrameErrorKind::Trailing) } else { Ok(()) }
    }

    /// Reads the object at the cursor. `member` is called with the cursor at each value, and must read exactly that
    /// value. Only the few objects whose members are read come here; `value` reads all others, and bounds their
    /// nesting.
    #[inline]
    pub(super) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, StringSpan) -> Result<(), ScanError>,
    ) -> Result<(), ScanError> {
        if self.peek()? != b'{' {
            return self.unexpected();
        }
        self.pos += 1;
        self.skip_space();
        if self.peek()? == b'}' {
            self.pos += 1;
            return Ok(());
        }
        loop {
            let key = self.key()?;
            member(self, key)?;
            self.skip_space();
            match self.peek()? {
                b',' => self.pos += 1,
                b'}' => {
                    self.pos += 1;
                    return Ok(());
                }
                _ => return self.unexpected(),
            }
            self.skip_space();
        }
    }

    /// Reads one value of any type at the cursor, which is inside `outer` objects and arrays.
    #[inline]
    pub(super) fn value(&mut self, outer: usize) -> Result<(), ScanError> {
        match self.peek()? {
            b'{' | b'[' => self.container(outer),
            _ => self.scalar(),
        }
    }

    fn container(&mut self, outer: usize) -> Result<(), ScanError> {
        let mut open = Nesting { objects: [0; MAX_DEPTH / 64], depth: outer, floor: outer };
        loop {
            // The cursor is at the start of a value.
            match self.peek()? {
                byte @ (b'{' | b'[') => {
                    let object = byte == b'{';
                    if !open.push(object) {
                        return self.fail(FrameErrorKind::TooDeep);
                    }
                    self.pos += 1;
                    self.skip_space();
                    if self.peek()? == if object { b'}' } else { b']' } {
                        self.pos += 1;
                        open.pop();
                    } else {
                        if object {
                            self.key()?;
                        }
                        continue;
                    }
                }
                _ => self.scalar()?,
            }
            // The cursor is behind a value: close as many containers as end here, then read a comma.
            loop {
                let Some(object) = open.top() else { return Ok(()) };
                self.skip_space();
                match (self.peek()?, object) {
                    (b',', _) => {
                        self.pos += 1;
                        self.skip_space();
                        if object {
                            self.key()?;
                        }
                        break;
                    }
                    (b'}', true) | (b']', false) => {
                        self.pos += 1;
                        open.pop();
                    }
                    _ => return self.unexpected(),
                }
            }
        }
    }

    /// Reads a member's name, its colon, and the space up to its value.
    #[inline]
    fn key(&mut self) -> Result<StringSpan, ScanError> {
        if self.peek()? != b'"' {
            return self.unexpected();
        }
        let key = self.string()?;
        self.skip_space();
        if self.peek()? != b':' {
            return self.unexpected();
        }
        self.pos += 1;
        self.skip_space();
        Ok(key)
    }

    fn scalar(&mut self) -> Result<(), ScanError> {
        match self.peek()? {
            b'"' => self.string().map(drop),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            _ => self.unexpected(),
        }
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), ScanError> {
        for &byte in word {
            if self.peek()? != byte {
                return self.unexpected();
            }
            self.pos += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), ScanError> {
        if self.is_at(b'-') {
            self.pos += 1;
        }
        if self.is_at(b'0') {
            self.pos += 1;
        } else {
            self.digits()?;
        }
        if self.is_at(b'.') {
            self.pos += 1;
            self.digits()?;
        }
        if self.is_at(b'e') || self.is_at(b'E') {
            self.pos += 1;
            if self.is_at(b'+') || self.is_at(b'-') {
                self.pos += 1;
            }
            self.digits()?;
        }
        if self.bytes.get(self.pos).is_some_and(u8::is_ascii_digit) {
            // A digit can follow a whole number only if that began with a zero.
            return self.fail(FrameErrorKind::Number);
        }
        Ok(())
    }

    #[inline]
    fn is_at(&self, byte: u8) -> bool {
        self.bytes.get(self.pos) == Some(&byte)
    }

    fn digits(&mut self) -> Result<(), ScanError> {
        let start = self.pos;
        while self.bytes.get(self.pos).is_some_and(u8::is_ascii_digit) {
            self.pos += 1;
        }
        if self.pos > start {
            Ok(())
        } else if self.pos == self.bytes.len() {
            self.fail(FrameErrorKind::Truncated)
        } else {
            self.fail(FrameErrorKind::Number)
        }
    }

    /// Reads the string whose opening quote is at the cursor.
    #[inline]
    pub(super) fn string(&mut self) -> Result<StringSpan, ScanError> {
        let start = self.pos + 1;
        let mut escaped = false;
        let mut high = 0;
        self.pos = start;
        loop {
            self.pos = skip_plain(self.bytes, self.pos, &mut high);
            match self.peek()? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return self.fail(FrameErrorKind::ControlCharacter),
            }
        }
        let end = self.pos;
        if high >= 0x80
            && let Err(error) = std::str::from_utf8(&self.bytes[start..end])
        {
            return Err(ScanError { kind: FrameErrorKind::Utf8, offset: start + error.valid_up_to() });
        }
        self.pos = end + 1;
        Ok(StringSpan { start, end, escaped })
    }

    fn escape(&mut self) -> Result<(), ScanError> {
        match self.bytes.get(self.pos + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.pos += 2,
            Some(b'u') => match self.bytes.get(self.pos + 2..self.pos + 6) {
                Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => self.pos += 6,
                Some(_) => return self.fail(FrameErrorKind::Escape),
                None => return self.fail(FrameErrorKind::Truncated),
            },
            Some(_) => return self.fail(FrameErrorKind::Escape),
            None => return self.fail(FrameErrorKind::Truncated),
        }
        Ok(())
    }
}

/// The containers around the cursor: whether each is an object or an array, one bit for each.
struct Nesting {
    objects: [u64; MAX_DEPTH / 64],
    depth: usize,
    floor: usize,
}

impl Nesting {
    /// Enters a container; false if that would be one more than [`MAX_DEPTH`].
    #[inline]
    fn push(&mut self, object: bool) -> bool {
        let Some(word) = self.objects.get_mut(self.depth / 64) else { return false };
        let bit = 1 << (self.depth % 64);
        *word = if object { *word | bit } else { *word & !bit };
        self.depth += 1;
        true
    }

    #[inline]
    fn pop(&mut self) {
        self.depth -= 1;
    }

    /// Whether the innermost container is an object; `None` when all are closed.
    #[inline]
    fn top(&self) -> Option<bool> {
        let last = self.depth.checked_sub(1).filter(|_| self.depth > self.floor)?;
        self.objects.get(last / 64).map(|word| word >> (last % 64) & 1 == 1)
    }
}

/// How many bytes the vector loop looks at in one step.
const VECTOR_BYTES: usize = 64;
/// How many words of eight bytes are looked at before the vector loop. Most strings are short, and in text an escape
/// often follows within a line: a vector step that meets a stop was for nothing.
const WORDS_FIRST: usize = 6;

/// The position of the first quote, backslash or control character at or behind `pos`. All bytes that are passed over,
/// and perhaps a few behind them, are or-ed into `high`, whose top bit then says whether one of them is not ASCII.
#[inline]
fn skip_plain(bytes: &[u8], mut pos: usize, high: &mut u8) -> usize {
    for _ in 0..WORDS_FIRST {
        match word(bytes, pos, high) {
            Some(8) => pos += 8,
            Some(found) => return pos + found,
            None => return skip_tail(bytes, pos, high),
        }
    }
    pos = skip_chunks(bytes, pos, high);
    loop {
        match word(bytes, pos, high) {
            Some(8) => pos += 8,
            Some(found) => return pos + found,
            None => return skip_tail(bytes, pos, high),
        }
    }
}

/// How many of the eight bytes at `pos` come before the first that ends plain text; `None` if fewer than eight are
/// left.
#[inline]
fn word(bytes: &[u8], pos: usize, high: &mut u8) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    const QUOTES: u64 = u64::from_ne_bytes([b'"'; 8]);
    const SLASHES: u64 = u64::from_ne_bytes([b'\\'; 8]);
    const SPACES: u64 = u64::from_ne_bytes([b' '; 8]);
    let eight = bytes.get(pos..)?.first_chunk::<8>()?;
    let word = u64::from_le_bytes(*eight);
    let quote = word ^ QUOTES;
    let slash = word ^ SLASHES;
    // A borrow can make false hits only above a true one, and only the lowest hit is used.
    let stops =
        (quote.wrapping_sub(ONES) & !quote) | (slash.wrapping_sub(ONES) & !slash) | (word.wrapping_sub(SPACES) & !word);
    if word & HIGHS != 0 {
        *high |= 0x80;
    }
    Some((stops & HIGHS).trailing_zeros() as usize / 8)
}

/// Passes over whole chunks of plain bytes. The inner loop has no branch, so that the compiler can make vector
/// instructions of it.
fn skip_chunks(bytes: &[u8], pos: usize, high: &mut u8) -> usize {
    let (chunks, _) = bytes.get(pos..).unwrap_or_default().as_chunks::<VECTOR_BYTES>();
    let mut passed = 0;
    for chunk in chunks {
        let mut stop = 0;
        let mut all = 0;
        for &byte in chunk {
            stop |= u8::from(byte == b'"') | u8::from(byte == b'\\') | u8::from(byte < 0x20);
            all |= byte;
        }
        if stop != 0 {
            break;
        }
        *high |= all;
        passed += VECTOR_BYTES;
    }
    pos + passed
}

#[cold]
fn skip_tail(bytes: &[u8], pos: usize, high: &mut u8) -> usize {
    let rest = bytes.get(pos..).unwrap_or_default();
    let plain = rest.iter().take_while(|&&byte| byte != b'"' && byte != b'\\' && byte >= 0x20);
    pos + plain.inspect(|&&byte| *high |= byte).count()
}
