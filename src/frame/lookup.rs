//! Finding a member by its path. The frame is known to be JSON; what a walk must still see to is that no field it
//! reads stands twice.

use std::ops::Range;

use super::error::{FrameErrorKind, ScanError};
use super::scan::JsonCursor;
use super::{Frame, FrameError, text};

/// A member of an object, by its places in the frame.
pub(super) struct MemberSpans {
    /// The opening quote of its key.
    pub(super) key: usize,
    pub(super) value: Range<usize>,
    /// Where the value of the member before it ends.
    pub(super) before: Option<usize>,
    /// Where the key of the member behind it starts.
    pub(super) behind: Option<usize>,
}

impl Frame {
    /// The raw value at the end of this path of object members, from the root. `None` if one of them is missing or what
    /// should hold it is no object. Keys are compared after unescaping; a key of the path that stands twice in its
    /// object is an error, also where the path goes no further.
    pub fn lookup(&self, path: &[&str]) -> Result<Option<&[u8]>, FrameError> {
        Ok(self.lookup_range(path)?.and_then(|range| self.bytes.get(range)))
    }

    /// [`lookup`](Self::lookup), as a range of the frame's bytes.
    pub fn lookup_range(&self, path: &[&str]) -> Result<Option<Range<usize>>, FrameError> {
        let (mut at, rest) = match path {
            // The envelope knows where these stand, and that they do so once.
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

    /// The member of this name of the object that stands there; `None` also if that is no object.
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
        // How deep the object stands is of no interest: the whole was within bounds.
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
