//! The envelope of a message: what kind it is, and where the few fields stand that routing needs. One pass over the
//! text finds it all; the rules of JSON-RPC are judged afterwards, because members come in any order.

use std::ops::Range;

use super::error::{Fault, FrameErrorKind};
use super::scan::{Cursor, Text};
use super::{FrameError, Id, Kind, text};

/// A range of a frame's bytes. No field can start at 0, where the opening brace is: an empty span stands for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    const NONE: Self = Self { start: 0, end: 0 };

    fn new(start: usize, end: usize) -> Self {
        // `scan` refuses texts in which this would not fit.
        let place = |at| u32::try_from(at).unwrap_or(u32::MAX);
        Self { start: place(start), end: place(end) }
    }

    pub(super) fn range(self) -> Option<Range<usize>> {
        if self == Self::NONE { None } else { Some(self.start as usize..self.end as usize) }
    }

    pub(super) fn of(self, bytes: &[u8]) -> Option<&[u8]> {
        bytes.get(self.range()?)
    }
}

#[derive(Debug, Clone)]
pub(super) struct Envelope {
    pub(super) kind: Kind,
    pub(super) id: Span,
    /// The method between its quotes.
    pub(super) method: Span,
    /// The method as it reads, where that is not how it is spelled.
    pub(super) unescaped: Option<Box<str>>,
    pub(super) params: Span,
    pub(super) result: Span,
    pub(super) error: Span,
    pub(super) progress_token: Span,
    pub(super) cancelled_id: Span,
}

/// Reads the text of one message from `start` on. Also says whether there are line breaks in it, which in valid JSON
/// stand between tokens only.
pub(super) fn scan(bytes: &[u8], start: usize) -> Result<(Envelope, bool), FrameError> {
    let mut draft = Draft::default();
    let mut cursor = Cursor::new(bytes, start);
    let envelope = match draft.read(&mut cursor) {
        Ok(()) => draft.judge(bytes),
        Err(fault) => Err(fault),
    };
    match envelope {
        Ok(envelope) => Ok((envelope, cursor.newlines)),
        Err(Fault { kind, offset }) => Err(FrameError { kind, offset, id: draft.any_id(bytes), about: draft.about() }),
    }
}

/// A field that may stand once only: the last value seen, and where a second one stood.
#[derive(Default)]
struct Once {
    value: Option<Value>,
    again: Option<usize>,
}

#[derive(Clone, Copy)]
struct Value {
    start: usize,
    end: usize,
    /// The first byte tells the type.
    first: u8,
    /// Of a string: whether a backslash is in it.
    escaped: bool,
}

impl Value {
    fn span(self) -> Span {
        Span::new(self.start, self.end)
    }

    fn is_string(self) -> bool {
        self.first == b'"'
    }

    fn is_id(self) -> bool {
        matches!(self.first, b'"' | b'-' | b'0'..=b'9')
    }

    /// What stands between the quotes of a string.
    fn content(self) -> Option<Range<usize>> {
        if self.is_string() { Some(self.start + 1..self.end - 1) } else { None }
    }

    fn says(self, bytes: &[u8], name: &str) -> bool {
        self.content().is_some_and(|content| text::equals(&bytes[content], self.escaped, name))
    }
}

impl Once {
    /// Reads the value at the cursor with `read`.
    fn fill<'a>(
        &mut self,
        cursor: &mut Cursor<'a>,
        read: impl FnOnce(&mut Cursor<'a>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let start = cursor.pos;
        let first = cursor.peek()?;
        let escaped = if first == b'"' {
            cursor.string()?.escaped
        } else {
            read(cursor)?;
            false
        };
        if self.value.replace(Value { start, end: cursor.pos, first, escaped }).is_some() {
            self.again.get_or_insert(start);
        }
        Ok(())
    }

    fn unique(&self, name: &str) -> Result<(), Fault> {
        match self.again {
            Some(offset) => Err(Fault { kind: FrameErrorKind::Duplicate(name.into()), offset }),
            None => Ok(()),
        }
    }

    /// The value's span, if it can be an id or a token. Other types are none, and are relayed as they are.
    fn id_span(&self) -> Span {
        self.value.filter(|value| value.is_id()).map_or(Span::NONE, Value::span)
    }
}

/// All that was seen in one pass. Which of the fields in `params` count depends on `method`, which may come later.
#[derive(Default)]
struct Draft {
    start: usize,
    other_type: bool,
    jsonrpc: Once,
    id: Once,
    method: Once,
    params: Once,
    result: Once,
    error: Once,
    /// In `params`.
    meta: Once,
    request_id: Once,
    progress_token: Once,
    /// In `params._meta`.
    meta_token: Once,
}

impl Draft {
    fn read(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Fault> {
        self.start = cursor.pos;
        if cursor.peek()? == b'{' {
            cursor.object(|cursor, key| self.member(cursor, key))?;
        } else {
            self.other_type = true;
            cursor.value(0)?;
        }
        cursor.end()
    }

    fn member(&mut self, cursor: &mut Cursor<'_>, key: Text) -> Result<(), Fault> {
        const NAMES: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];
        let slot = match name(cursor, key, &NAMES) {
            Some("jsonrpc") => &mut self.jsonrpc,
            Some("id") => &mut self.id,
            Some("method") => &mut self.method,
            Some("result") => &mut self.result,
            Some("error") => &mut self.error,
            Some("params") => {
                let Self { params, meta, request_id, progress_token, meta_token, .. } = self;
                return params.fill(cursor, |cursor| {
                    if cursor.peek()? != b'{' {
                        return cursor.value(1);
                    }
                    cursor.object(|cursor, key| match name(cursor, key, &["_meta", "requestId", "progressToken"]) {
                        Some("_meta") => meta.fill(cursor, |cursor| read_meta(cursor, meta_token)),
                        Some("requestId") => request_id.fill(cursor, |cursor| cursor.value(2)),
                        Some("progressToken") => progress_token.fill(cursor, |cursor| cursor.value(2)),
                        _ => cursor.value(2),
                    })
                });
            }
            _ => return cursor.value(1),
        };
        slot.fill(cursor, |cursor| cursor.value(1))
    }

    fn judge(&self, bytes: &[u8]) -> Result<Envelope, Fault> {
        let fault = |kind, offset| Err(Fault { kind, offset });
        if self.other_type {
            return fault(FrameErrorKind::NotAnObject, self.start);
        }
        self.jsonrpc.unique("jsonrpc")?;
        self.id.unique("id")?;
        self.method.unique("method")?;
        self.params.unique("params")?;
        self.result.unique("result")?;
        self.error.unique("error")?;

        match self.jsonrpc.value {
            Some(version) if version.says(bytes, "2.0") => {}
            other => return fault(FrameErrorKind::Version, other.map_or(self.start, |value| value.start)),
        }
        if let Some(params) = self.params.value
            && !matches!(params.first, b'{' | b'[' | b'n')
        {
            return fault(FrameErrorKind::ParamsType, params.start);
        }
        match (self.method.value, self.result.value, self.error.value) {
            (Some(method), None, None) => self.call(bytes, method),
            (None, Some(_), None) | (None, None, Some(_)) => self.response(),
            (None, None, None) => fault(FrameErrorKind::NoBody, self.start),
            _ => fault(FrameErrorKind::ManyBodies, self.start),
        }
    }

    fn call(&self, bytes: &[u8], method: Value) -> Result<Envelope, Fault> {
        let Some(name) = method.content() else {
            return Err(Fault { kind: FrameErrorKind::MethodType, offset: method.start });
        };
        let mut envelope = self.envelope(Kind::Notification);
        envelope.unescaped = method.escaped.then(|| text::unescape(&bytes[name.clone()]).into());
        envelope.method = Span::new(name.start, name.end);
        match self.id.value {
            Some(id) if id.is_id() => {
                self.meta.unique("_meta")?;
                self.meta_token.unique("progressToken")?;
                envelope.kind = Kind::Request;
                envelope.progress_token = self.meta_token.id_span();
            }
            Some(id) => return Err(Fault { kind: FrameErrorKind::IdType, offset: id.start }),
            None if method.says(bytes, "notifications/progress") => {
                self.progress_token.unique("progressToken")?;
                envelope.progress_token = self.progress_token.id_span();
            }
            None if method.says(bytes, "notifications/cancelled") => {
                self.request_id.unique("requestId")?;
                envelope.cancelled_id = self.request_id.id_span();
            }
            None => {}
        }
        Ok(envelope)
    }

    fn response(&self) -> Result<Envelope, Fault> {
        let fault = |kind, offset| Err(Fault { kind, offset });
        if let Some(error) = self.error.value
            && error.first != b'{'
        {
            return fault(FrameErrorKind::ErrorType, error.start);
        }
        // Only an error may say that it does not know the id: with null (JSON-RPC) or by leaving it out (MCP).
        match (self.id.value, self.error.value) {
            (Some(id), _) if id.is_id() => Ok(self.envelope(Kind::Response)),
            (None, Some(_)) => Ok(self.envelope(Kind::Response)),
            (Some(id), Some(_)) if id.first == b'n' => Ok(self.envelope(Kind::Response)),
            (Some(id), _) => fault(FrameErrorKind::IdType, id.start),
            (None, None) => fault(FrameErrorKind::IdMissing, self.start),
        }
    }

    fn envelope(&self, kind: Kind) -> Envelope {
        let span = |field: &Once| field.value.map_or(Span::NONE, Value::span);
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

    /// The id of a message that is refused. Two of them are none.
    fn any_id(&self, bytes: &[u8]) -> Option<Id> {
        if self.id.again.is_some() {
            return None;
        }
        self.id.id_span().of(bytes).map(Id::trusted)
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

fn read_meta(cursor: &mut Cursor<'_>, token: &mut Once) -> Result<(), Fault> {
    if cursor.peek()? != b'{' {
        return cursor.value(2);
    }
    cursor.object(|cursor, key| match name(cursor, key, &["progressToken"]) {
        Some(_) => token.fill(cursor, |cursor| cursor.value(3)),
        None => cursor.value(3),
    })
}

/// Which of the names the key is, once unescaped.
#[inline]
fn name(cursor: &Cursor<'_>, key: Text, names: &[&'static str]) -> Option<&'static str> {
    let raw = cursor.raw(key);
    names.iter().copied().find(|name| text::equals(raw, key.escaped, name))
}
