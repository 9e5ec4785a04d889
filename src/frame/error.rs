//! What is wrong with a message, where, and which requests it names. The HTTP status is the front's decision.

use super::{Id, Kind, LONGEST_ID};

/// A message that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}, at byte {offset}")]
pub struct FrameError {
    /// What is wrong.
    pub kind: FrameErrorKind,
    /// Position of the error, from the start of the bytes that were handed in (of the whole batch, for one of its
    /// elements).
    pub offset: usize,
    /// The message's id, if it could be made out.
    pub id: Option<Id>,
    /// The kind of the message, as far as it was read. The id of a [`Kind::Response`] names a request of the
    /// *receiver*: that request has to fail, and no error is sent back.
    pub about: Option<Kind>,
    /// The requests of the *receiver* that the message was meant to answer. For a message that is itself a request,
    /// [`Named::Unknown`] says that it has an id which cannot be repeated, and [`Named::Nothing`] says nothing.
    pub named: Named,
}

/// The requests that a refused message names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// No request: the message is a notification, has the id null, or is not JSON-RPC at all. Many servers print their
    /// log, also as JSON, where their messages go, and no request fails because of that.
    Nothing,
    /// One request, and nobody can tell which.
    Unknown,
    /// The requests with these numbers: several if `id` stands several times, because nobody can tell which was meant.
    /// Any other id names no request, because sessile gives its own requests only such numbers.
    Numbers(Box<[u64]>),
}

impl FrameError {
    /// The JSON-RPC error code: -32700 for what is not JSON, -32600 for JSON that is not a JSON-RPC message.
    pub fn code(&self) -> i32 {
        self.kind.code()
    }

    /// Whether the message was a request whose sender may wait for a response. Nobody waits if the id is null.
    pub fn is_request(&self) -> bool {
        self.about == Some(Kind::Request) && (self.id.is_some() || self.named == Named::Unknown)
    }

    /// Whether the message has to count as the response to the request with this number, on whose own stream it came.
    pub fn is_answer_to(&self, number: u64) -> bool {
        if self.about == Some(Kind::Request) {
            return false;
        }
        match &self.named {
            Named::Nothing => false,
            Named::Unknown => true,
            Named::Numbers(numbers) => numbers.contains(&number),
        }
    }
}

/// What is wrong with a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameErrorKind {
    /// Nothing but white space.
    #[error("the message is empty; send one JSON-RPC object")]
    Empty,
    /// The text ends inside a value.
    #[error("the message ends too early; send the whole of it")]
    Truncated,
    /// A byte that the grammar does not allow here.
    #[error("this byte cannot stand here; send JSON as RFC 8259 has it")]
    Unexpected,
    /// Anything but white space after the value.
    #[error("something follows the message; send one message at a time")]
    Trailing,
    /// A byte below 0x20 in a string.
    #[error("a string holds a raw control character; write it as an escape")]
    ControlCharacter,
    /// A backslash with a character after it that does not make an escape.
    #[error("a string holds an unknown escape; use those of RFC 8259 only")]
    Escape,
    /// A number that is not spelled as JSON has it.
    #[error("a number is misspelled; write it as RFC 8259 has it")]
    Number,
    /// Bytes that are not UTF-8.
    #[error("a string is not UTF-8; encode the message as UTF-8")]
    Utf8,
    /// Objects and arrays within one another beyond the limit of depth.
    #[error("values are nested too deeply; keep to {} levels", super::MAX_DEPTH)]
    TooDeep,
    /// Longer than 4 GiB, which is as far as the positions in a frame reach.
    #[error("the message is too long; keep it below 4 GiB")]
    TooLong,
    /// A value of another type than an object.
    #[error("the message is not an object; send one JSON-RPC object")]
    NotAnObject,
    /// `jsonrpc` is missing, or is not the string `2.0`.
    #[error("`jsonrpc` must be the string \"2.0\"")]
    Version,
    /// A member that may stand once only stands twice. Its name is that of the field, unescaped.
    #[error("`{0}` stands more than once; send it once")]
    Duplicate(Box<str>),
    /// `id` is neither a string nor a number.
    #[error("`id` must be a string or a number; leave it out of a notification")]
    IdType,
    /// An id, or the progress token of a request, of more than [`LONGEST_ID`] bytes.
    #[error("an id or a progress token is too long; keep it to {LONGEST_ID} bytes")]
    LongId,
    /// A response without an id, where there must be one.
    #[error("a result must carry the `id` of its request")]
    IdMissing,
    /// `method` is not a string.
    #[error("`method` must be a string")]
    MethodType,
    /// `params` is neither an object nor an array nor null.
    #[error("`params` must be an object or an array")]
    ParamsType,
    /// `error` is not an object.
    #[error("`error` must be an object")]
    ErrorType,
    /// None of `method`, `result` and `error`.
    #[error("the message is neither request nor response; send `method`, `result` or `error`")]
    NoBody,
    /// More than one of `method`, `result` and `error`.
    #[error("the message is several things at once; send one of `method`, `result` and `error`")]
    ManyBodies,
    /// A batch without elements.
    #[error("the batch is empty; send at least one message")]
    EmptyBatch,
    /// A batch of more elements than the limit.
    #[error("the batch is too long; send at most {} messages in one", super::MAX_BATCH)]
    BatchTooLong,
    /// A splice was asked to write into an object that is not there.
    #[error("there is no object to hold `{0}`; set the object itself")]
    NoObject(Box<str>),
    /// A splice was asked for two changes in one place.
    #[error("two changes overlap; make the second one in another splice")]
    Overlap,
}

impl FrameErrorKind {
    /// The JSON-RPC error code: see [`FrameError::code`].
    pub fn code(&self) -> i32 {
        match self {
            Self::Empty
            | Self::Truncated
            | Self::Unexpected
            | Self::Trailing
            | Self::ControlCharacter
            | Self::Escape
            | Self::Number
            | Self::Utf8 => -32700,
            Self::TooDeep
            | Self::TooLong
            | Self::NotAnObject
            | Self::Version
            | Self::Duplicate(_)
            | Self::IdType
            | Self::LongId
            | Self::IdMissing
            | Self::MethodType
            | Self::ParamsType
            | Self::ErrorType
            | Self::NoBody
            | Self::ManyBodies
            | Self::EmptyBatch
            | Self::BatchTooLong
            | Self::NoObject(_)
            | Self::Overlap => -32600,
        }
    }
}

/// An error of the scanner, which knows neither ids nor kinds of messages.
#[derive(Debug)]
pub(super) struct ScanError {
    pub(super) kind: FrameErrorKind,
    pub(super) offset: usize,
}

impl ScanError {
    /// The same as an error of no message in particular.
    pub(super) fn unattributed(self) -> FrameError {
        FrameError { kind: self.kind, offset: self.offset, id: None, about: None, named: Named::Nothing }
    }
}
