//! The envelope of a message: its kind, and the positions of the few fields that routing needs.
//!
//! One pass over the text collects all fields ([`EnvelopeDraft`]). The rules of JSON-RPC are checked afterwards,
//! because members come in any order: `params` may stand before the `method` that says what its fields mean.

mod field;

use std::collections::HashSet;

use super::error::{FrameErrorKind, ScanError};
use super::scan::{JsonCursor, StringSpan};
use super::{FrameError, Id, Kind, LONGEST_ID, Named, text};
pub(super) use field::Span;
use field::{FieldValue, UniqueField};

/// How many ids of one message are collected if it has several, which is an error: all the requests that they name have
/// to fail, because nobody can tell which of them was meant.
const MOST_DUPLICATE_IDS: usize = 1024;

/// What a frame knows of its message.
#[derive(Debug, Clone)]
pub(super) struct Envelope {
    pub(super) kind: Kind,
    pub(super) id: Span,
    /// The method, without its quotes.
    pub(super) method: Span,
    /// The unescaped method, if there are escapes in it.
    pub(super) unescaped: Option<Box<str>>,
    pub(super) params: Span,
    pub(super) result: Span,
    pub(super) error: Span,
    pub(super) progress_token: Span,
    pub(super) cancelled_id: Span,
}

/// Reads the text of one message from `start` on. Also returns whether there are line breaks in it; in valid JSON they
/// stand between tokens only.
pub(super) fn scan(bytes: &[u8], start: usize) -> Result<(Envelope, bool), FrameError> {
    let mut draft = EnvelopeDraft::default();
    let mut cursor = JsonCursor::new(bytes, start);
    let envelope = match draft.read(&mut cursor) {
        Ok(()) => draft.check_rules(bytes),
        Err(error) => Err(error),
    };
    match envelope {
        Ok(envelope) => Ok((envelope, cursor.newlines)),
        Err(error) => Err(draft.frame_error(bytes, error)),
    }
}

/// All fields that were seen in the one pass over a message. `method`, which may come last, decides which of those in
/// `params` are used.
#[derive(Default)]
struct EnvelopeDraft {
    start: usize,
    /// Whether the message is a value of another type than an object.
    other_type: bool,
    /// Whether the text was read to its end, and is JSON.
    is_json: bool,
    jsonrpc: UniqueField,
    id: UniqueField,
    method: UniqueField,
    params: UniqueField,
    result: UniqueField,
    error: UniqueField,
    /// `params._meta`.
    meta: UniqueField,
    /// `params.requestId`.
    request_id: UniqueField,
    /// `params.progressToken`.
    progress_token: UniqueField,
    /// `params._meta.progressToken`.
    meta_token: UniqueField,
}

impl EnvelopeDraft {
    fn read(&mut self, cursor: &mut JsonCursor<'_>) -> Result<(), ScanError> {
        self.start = cursor.pos;
        if cursor.peek()? == b'{' {
            cursor.object(|cursor, key| self.member(cursor, key))?;
        } else {
            self.other_type = true;
            cursor.value(0)?;
        }
        cursor.expect_end()?;
        self.is_json = true;
        Ok(())
    }

    fn member(&mut self, cursor: &mut JsonCursor<'_>, key: StringSpan) -> Result<(), ScanError> {
        const NAMES: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];
        let slot = match known_name(cursor, key, &NAMES) {
            Some("jsonrpc") => &mut self.jsonrpc,
            Some("id") => &mut self.id,
            Some("method") => &mut self.method,
            Some("result") => &mut self.result,
            Some("error") => &mut self.error,
            Some("params") => {
                let Self { params, meta, request_id, progress_token, meta_token, .. } = self;
                return params.read_value(cursor, |cursor| {
                    if cursor.peek()? != b'{' {
                        return cursor.value(1);
                    }
                    cursor.object(|cursor, key| {
                        match known_name(cursor, key, &["_meta", "requestId", "progressToken"]) {
                            Some("_meta") => meta.read_value(cursor, |cursor| read_meta(cursor, meta_token)),
                            Some("requestId") => request_id.read_value(cursor, |cursor| cursor.value(2)),
                            Some("progressToken") => progress_token.read_value(cursor, |cursor| cursor.value(2)),
                            _ => cursor.value(2),
                        }
                    })
                });
            }
            _ => return cursor.value(1),
        };
        slot.read_value(cursor, |cursor| cursor.value(1))
    }

    fn check_rules(&self, bytes: &[u8]) -> Result<Envelope, ScanError> {
        let fail = |kind, offset| Err(ScanError { kind, offset });
        if self.other_type {
            return fail(FrameErrorKind::NotAnObject, self.start);
        }
        self.jsonrpc.check_unique("jsonrpc")?;
        self.id.check_unique("id")?;
        self.id.check_length()?;
        self.method.check_unique("method")?;
        self.params.check_unique("params")?;
        self.result.check_unique("result")?;
        self.error.check_unique("error")?;

        match self.jsonrpc.value {
            Some(version) if version.is_text(bytes, "2.0") => {}
            other => return fail(FrameErrorKind::Version, other.map_or(self.start, |value| value.start)),
        }
        if let Some(params) = self.params.value
            && !matches!(params.first, b'{' | b'[' | b'n')
        {
            return fail(FrameErrorKind::ParamsType, params.start);
        }
        match (self.method.value, self.result.value, self.error.value) {
            (Some(method), None, None) => self.request_or_notification(bytes, method),
            (None, Some(_), None) | (None, None, Some(_)) => self.response(),
            (None, None, None) => fail(FrameErrorKind::NoBody, self.start),
            _ => fail(FrameErrorKind::ManyBodies, self.start),
        }
    }

    fn request_or_notification(&self, bytes: &[u8], method: FieldValue) -> Result<Envelope, ScanError> {
        let Some(name) = method.content() else {
            return Err(ScanError { kind: FrameErrorKind::MethodType, offset: method.start });
        };
        let mut envelope = self.envelope(Kind::Notification);
        envelope.unescaped = method.escaped.then(|| text::unescape(&bytes[name.clone()]).into());
        envelope.method = Span::new(name.start, name.end);
        match self.id.value {
            Some(id) if id.is_id() => {
                self.meta.check_unique("_meta")?;
                self.meta_token.check_unique("progressToken")?;
                self.meta_token.check_length()?;
                envelope.kind = Kind::Request;
                envelope.progress_token = self.meta_token.id_span();
            }
            Some(id) => return Err(ScanError { kind: FrameErrorKind::IdType, offset: id.start }),
            None if method.is_text(bytes, "notifications/progress") => {
                self.progress_token.check_unique("progressToken")?;
                envelope.progress_token = self.progress_token.id_span();
            }
            None if method.is_text(bytes, "notifications/cancelled") => {
                self.request_id.check_unique("requestId")?;
                envelope.cancelled_id = self.request_id.id_span();
            }
            None => {}
        }
        Ok(envelope)
    }

    fn response(&self) -> Result<Envelope, ScanError> {
        let fail = |kind, offset| Err(ScanError { kind, offset });
        if let Some(error) = self.error.value
            && error.first != b'{'
        {
            return fail(FrameErrorKind::ErrorType, error.start);
        }
        // Only an error response may come without the id of its request: as null (JSON-RPC) or left out (MCP).
        match (self.id.value, self.error.value) {
            (Some(id), _) if id.is_id() => Ok(self.envelope(Kind::Response)),
            (None, Some(_)) => Ok(self.envelope(Kind::Response)),
            (Some(id), Some(_)) if id.first == b'n' => Ok(self.envelope(Kind::Response)),
            (Some(id), _) => fail(FrameErrorKind::IdType, id.start),
            (None, None) => fail(FrameErrorKind::IdMissing, self.start),
        }
    }

    fn envelope(&self, kind: Kind) -> Envelope {
        let span = |field: &UniqueField| field.value.map_or(Span::NONE, FieldValue::span);
        Envelope {
            kind,
            id: self.id.id_span(),
            method: Span::NONE,
            unescaped: None,
            params: span(&self.params),
            result: span(&self.result),
            error: span(&self.error),
            progress_token: Span::NONE,
            cancelled_id: Span::NONE,
        }
    }

    #[cold]
    fn frame_error(&self, bytes: &[u8], ScanError { kind, offset }: ScanError) -> FrameError {
        FrameError { kind, offset, id: self.repeatable_id(bytes), about: self.about(), named: self.named(bytes) }
    }

    fn named(&self, bytes: &[u8]) -> Named {
        let is_null = || self.id.value.is_some_and(|id| id.first == b'n') && self.id.again.is_none();
        match self.about() {
            Some(Kind::Notification) => Named::Nothing,
            Some(Kind::Request) => match self.id.value {
                Some(id) if id.is_long() && id.is_id() || self.id.again.is_some() => Named::Unknown,
                _ => Named::Nothing,
            },
            // Servers that answer notifications, which they should not, write null as the id.
            Some(Kind::Response) | None if is_null() => Named::Nothing,
            Some(Kind::Response) | None => match self.numeric_ids(bytes) {
                Some(numbers) => Named::Numbers(numbers.into()),
                None if self.may_be_message(bytes) => Named::Unknown,
                None => Named::Nothing,
            },
        }
    }

    /// Whether the text was meant as a JSON-RPC message, and is not a line of a log.
    fn may_be_message(&self, bytes: &[u8]) -> bool {
        if self.is_json { self.jsonrpc.value.is_some() } else { may_be_messages(&bytes[self.start..]) }
    }

    /// The ids that are numbers, in order and each once; `None` if there is no id at all. Ids behind the place where
    /// the text stops being JSON are not found.
    fn numeric_ids(&self, bytes: &[u8]) -> Option<Vec<u64>> {
        if self.id.again.is_none() {
            return self.repeatable_id(bytes).map(|id| id.as_u64().into_iter().collect());
        }
        let (mut has_id, mut numbers, mut seen) = (false, Vec::new(), HashSet::new());
        let mut cursor = JsonCursor::new(bytes, self.start);
        let _ = cursor.object(|cursor, key| {
            let start = cursor.pos;
            cursor.value(1)?;
            let value = &bytes[start..cursor.pos];
            if known_name(cursor, key, &["id"]).is_some()
                && value.len() <= LONGEST_ID
                && numbers.len() < MOST_DUPLICATE_IDS
                && let Some(id) = Id::from_raw(value)
            {
                has_id = true;
                numbers.extend(id.as_u64().filter(|number| seen.insert(*number)));
            }
            Ok(())
        });
        has_id.then_some(numbers)
    }

    /// The id that an error may repeat. `None` if there are two, or if it is longer than [`LONGEST_ID`].
    fn repeatable_id(&self, bytes: &[u8]) -> Option<Id> {
        if self.id.again.is_some() {
            return None;
        }
        self.id.id_span().of(bytes).map(Id::from_valid)
    }

    fn about(&self) -> Option<Kind> {
        match (&self.method.value, &self.result.value, &self.error.value) {
            (Some(_), _, _) if self.id.value.is_some() => Some(Kind::Request),
            (Some(_), _, _) => Some(Kind::Notification),
            (None, None, None) => None,
            (None, ..) => Some(Kind::Response),
        }
    }
}

/// Whether this text, which is not JSON or has too many messages, may have been meant as messages: it begins like an
/// object or an array of objects, and has `jsonrpc` in it. `[info] jsonrpc is ready` is a line of a log.
#[cold]
pub(super) fn may_be_messages(bytes: &[u8]) -> bool {
    let text = text::trim(bytes);
    let first = text.strip_prefix(b"[").map_or(text, text::trim);
    first.starts_with(b"{") && memchr::memmem::find(first, b"jsonrpc").is_some()
}

fn read_meta(cursor: &mut JsonCursor<'_>, token: &mut UniqueField) -> Result<(), ScanError> {
    if cursor.peek()? != b'{' {
        return cursor.value(2);
    }
    cursor.object(|cursor, key| match known_name(cursor, key, &["progressToken"]) {
        Some(_) => token.read_value(cursor, |cursor| cursor.value(3)),
        None => cursor.value(3),
    })
}

/// The name among `names` that this key is once it is unescaped.
#[inline]
fn known_name(cursor: &JsonCursor<'_>, key: StringSpan, names: &[&'static str]) -> Option<&'static str> {
    let raw = cursor.raw(key);
    names.iter().copied().find(|name| text::equals(raw, key.escaped, name))
}
