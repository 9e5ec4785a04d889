//! Changes a few fields of a message and leaves all its other bytes alone.

use std::borrow::Cow;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::envelope::Span;
use super::error::{FrameErrorKind, ScanError};
use super::text::{one_line, quote, trim};
use super::wire::JOIN_BELOW;
use super::{Frame, FrameError, Id, Wire};

/// A message with more changes than this is copied into one piece, because writing so many parts costs more than the
/// copy.
const MOST_EDITS_IN_PARTS: usize = 16;

/// The changes that turn a frame into a message to be written. All bytes outside of the changed spans stay as they are.
///
/// A change to a field that is absent does nothing. The permit stays with the frame: see [`Frame::hand_over`].
#[must_use = "a splice does nothing until it is finished"]
pub struct Splice<'a> {
    frame: &'a Frame,
    edits: SmallVec<[SpanEdit<'a>; 3]>,
}

/// One change: the bytes at `at` become `with`.
struct SpanEdit<'a> {
    at: Range<usize>,
    with: Cow<'a, [u8]>,
    /// Where the object starts to which this edit adds a member, or from which it removes one.
    object: Option<usize>,
}

impl<'a> Splice<'a> {
    pub(super) fn new(frame: &'a Frame) -> Self {
        Self { frame, edits: SmallVec::new() }
    }

    /// Replaces the id.
    pub fn id(self, id: &'a Id) -> Self {
        let span = self.frame.envelope.id;
        self.field(span, id)
    }

    /// Replaces the progress token, where [`Frame::progress_token`] finds it.
    pub fn progress_token(self, token: &'a Id) -> Self {
        let span = self.frame.envelope.progress_token;
        self.field(span, token)
    }

    /// Replaces the id of the request that is cancelled.
    pub fn cancelled_id(self, id: &'a Id) -> Self {
        let span = self.frame.envelope.cancelled_id;
        self.field(span, id)
    }

    /// Sets the member at this path to `json`: replaces its value, or adds the member in front of the others. The
    /// object around the member must be there. `json` must be valid; line breaks in it become spaces.
    ///
    /// A splice can add or remove only one member of the same object.
    pub fn set(self, path: &[&str], json: impl Into<Cow<'a, [u8]>>) -> Result<Self, FrameError> {
        let with = one_line(json);
        let Some((name, parents)) = path.split_last() else {
            let whole = 0..self.frame.len();
            return self.edit(SpanEdit { at: whole, with, object: None });
        };
        let parent = self.frame.lookup_range(parents)?;
        let Some(object) = parent.filter(|parent| self.frame.bytes[parent.start] == b'{') else {
            return self.refuse(FrameErrorKind::NoObject((*name).into()), 0);
        };
        if let Some(member) = self.frame.find_member(&object, name)? {
            return self.edit(SpanEdit { at: member.value, with, object: None });
        }
        let inside = &self.frame.bytes[object.start + 1..object.end - 1];
        let mut member = Vec::with_capacity(name.len() + with.len() + 4);
        quote(name, &mut member);
        member.push(b':');
        member.extend_from_slice(&with);
        if !trim(inside).is_empty() {
            member.push(b',');
        }
        let at = object.start + 1;
        self.edit(SpanEdit { at: at..at, with: member.into(), object: Some(object.start) })
    }

    /// Removes the member at this path, with its comma.
    ///
    /// A splice can add or remove only one member of the same object.
    pub fn remove(self, path: &[&str]) -> Result<Self, FrameError> {
        let Some((name, parents)) = path.split_last() else { return Ok(self) };
        let Some(object) = self.frame.lookup_range(parents)? else { return Ok(self) };
        let Some(member) = self.frame.find_member(&object, name)? else { return Ok(self) };
        let at = match (member.before, member.behind) {
            (_, Some(behind)) => member.key..behind,
            (Some(before), None) => before..member.value.end,
            (None, None) => member.key..member.value.end,
        };
        self.edit(SpanEdit { at, with: Cow::Borrowed(b""), object: Some(object.start) })
    }

    /// Replaces these parts of the message, which must be in order and must not overlap. A part in which another change
    /// was made before stays as it is.
    pub fn spans(mut self, spans: impl IntoIterator<Item = (Range<usize>, Vec<u8>)>) -> Self {
        let made = self.edits.len();
        let mut done = 0;
        for (at, with) in spans {
            let edit = SpanEdit { at, with: one_line(with), object: None };
            if edit.at.start < done || self.edits[..made].iter().any(|made| made.overlaps(&edit)) {
                continue;
            }
            done = edit.at.end;
            self.edits.push(edit);
        }
        self
    }

    /// Makes all changes, and returns the message to be written.
    pub fn finish(mut self) -> Wire {
        let source = &self.frame.bytes;
        if self.edits.is_empty() {
            return Wire::from(source.clone());
        }
        self.edits.sort_by_key(|edit| edit.at.start);
        let removed: usize = self.edits.iter().map(|edit| edit.at.len()).sum();
        let added: usize = self.edits.iter().map(|edit| edit.with.len()).sum();
        let len = source.len() - removed + added;
        if len < JOIN_BELOW || self.edits.len() > MOST_EDITS_IN_PARTS {
            let mut whole = BytesMut::with_capacity(len);
            let mut done = 0;
            for edit in &self.edits {
                whole.extend_from_slice(&source[done..edit.at.start]);
                whole.extend_from_slice(&edit.with);
                done = edit.at.end;
            }
            whole.extend_from_slice(&source[done..]);
            return Wire::from(whole.freeze());
        }
        let mut parts = SmallVec::new();
        let mut done = 0;
        for edit in self.edits {
            parts.push(source.slice(done..edit.at.start));
            parts.push(match edit.with {
                Cow::Borrowed(with) => Bytes::copy_from_slice(with),
                Cow::Owned(with) => with.into(),
            });
            done = edit.at.end;
        }
        parts.push(source.slice(done..));
        Wire::new(parts)
    }

    /// Replaces a field that the envelope knows, unless a part around it was replaced before.
    fn field(mut self, span: Span, id: &'a Id) -> Self {
        if let Some(at) = span.range() {
            let edit = SpanEdit { at, with: Cow::Borrowed(id.raw()), object: None };
            // The last change of the same field counts.
            self.edits.retain(|made| made.at != edit.at);
            if !self.edits.iter().any(|made| made.overlaps(&edit)) {
                self.edits.push(edit);
            }
        }
        self
    }

    fn edit(mut self, edit: SpanEdit<'a>) -> Result<Self, FrameError> {
        if self.edits.iter().any(|made| made.overlaps(&edit)) {
            return self.refuse(FrameErrorKind::Overlap, edit.at.start);
        }
        self.edits.push(edit);
        Ok(self)
    }

    fn refuse<T>(&self, kind: FrameErrorKind, offset: usize) -> Result<T, FrameError> {
        let error = ScanError { kind, offset };
        Err(FrameError { id: self.frame.id(), about: Some(self.frame.kind()), ..error.unattributed() })
    }
}

impl SpanEdit<'_> {
    fn overlaps(&self, other: &Self) -> bool {
        let shared = self.at.start < other.at.end && other.at.start < self.at.end;
        shared || self.object.is_some() && self.object == other.object
    }
}
