//! Finds a member by its path. The frame is known to be valid JSON; but a field that is read here may still stand
//! twice, which is refused.

use std::ops::Range;

use super::error::{FrameErrorKind, ScanError};
use super::scan::JsonCursor;
use super::{Frame, FrameError, text};

/// The positions of an object's member in the frame.
pub(super) struct MemberSpans {
    /// Position of the opening quote of its key.
    pub(super) key: usize,
    pub(super) value: Range<usize>,
    /// Where the value of the previous member ends.
    pub(super) before: Option<usize>,
    /// Where the key of the next member starts.
    pub(super) behind: Option<usize>,
}

impl Frame {
    /// The raw value at the end of this path of object members, from the root. `None` if a member on the path is
    /// missing, or if the value that should have the next member is not an object. Keys are compared after unescaping.
    /// A key of the path that stands twice in its object is an error.
    pub fn lookup(&self, path: &[&str]) -> Result<Option<&[u8]>, FrameError> {
        Ok(self.lookup_range(path)?.and_then(|range| self.bytes.get(range)))
    }

    /// [`lookup`](Self::lookup), as a range of the frame's bytes.
    pub fn lookup_range(&self, path: &[&str]) -> Result<Option<Range<usize>>, FrameError> {
        let (mut at, rest) = match path {
            // The envelope has the positions of these members, and has checked that each stands once.
            ["params", rest @ ..] => (self.envelope.params.range(), rest),
            ["result", rest @ ..] => (self.envelope.result.range(), rest),
            ["error", rest @ ..] => (self.envelope.error.range(), rest),
            path => (Some(0..self.len()), path),
        };
        for name in rest {
            let Some(object) = at else { return Ok(None) };
            at = self.find_member(&object, name)?.map(|member| member.value);
        }
        Ok(at)
    }

    /// The member of this name in the object at this position; `None` also if the value there is not an object.
    pub(super) fn find_member(&self, object: &Range<usize>, name: &str) -> Result<Option<MemberSpans>, FrameError> {
        self.scan_member(object, name).map_err(|error| FrameError {
            id: self.id(),
            about: Some(self.kind()),
            ..error.unattributed()
        })
    }

    fn scan_member(&self, object: &Range<usize>, name: &str) -> Result<Option<MemberSpans>, ScanError> {
        if self.bytes.get(object.start) != Some(&b'{') {
            return Ok(None);
        }
        let mut found: Option<MemberSpans> = None;
        let mut last: Option<(usize, usize)> = None;
        // The nesting was checked when the frame was parsed, so the depth of this object does not matter.
        JsonCursor::new(&self.bytes, object.start).object(|cursor, text| {
            let (key, start) = (text.start - 1, cursor.pos);
            if let Some(found) = &mut found
                && found.behind.is_none()
            {
                found.behind = Some(key);
            }
            cursor.value(1)?;
            if text::equals(cursor.raw(text), text.escaped, name) {
                if found.is_some() {
                    return Err(ScanError { kind: FrameErrorKind::Duplicate(name.into()), offset: start });
                }
                let before = last.map(|(_, end)| end);
                found = Some(MemberSpans { key, value: start..cursor.pos, before, behind: None });
            }
            last = Some((start, cursor.pos));
            Ok(())
        })?;
        Ok(found)
    }
}
