//! What is wrong with a message, where, and whom to tell. It renders no HTTP: the front does that.

use super::{Id, Kind, LONGEST_ID};

/// A message that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}, at byte {offset}")]
pub struct FrameError {
    /// What is wrong.
    pub kind: FrameErrorKind,
    /// Where, counted from the start of the bytes that were handed in (of the whole batch, for an element of one).
    pub offset: usize,
    /// The message's id, where one could be made out.
    pub id: Option<Id>,
    /// What the message looked like, as far as it was read. For [`Kind::Response`] the id names a request of the
    /// *receiver*: that request is to be failed, and no error is to be sent back.
    pub about: Option<Kind>,
    /// Which requests of the *receiver* the message was to answer. Of a request it says no more than whether that has an id
    /// which cannot be repeated.
    pub named: Named,
}

/// Which requests a message names that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// None: it is a notification, says that its id is null, or is no message of JSON-RPC at all. Many servers print the
    /// lines of their log where their messages go, also as JSON, and no request has failed for that.
    Nothing,
    /// One, and which one cannot be made out.
    Unknown,
    /// Those with these numbers: more than one where `id` stands more than once, for nobody can tell which of them counts.
    /// An id that is no such number names nothing, because sessile gives its own requests no other ids.
    Numbers(Box<[u64]>),
}

impl FrameError {
    /// The JSON-RPC error code: -32700 for what is not JSON, -32600 for JSON that is not a JSON-RPC message.
    pub fn code(&self) -> i32 {
        self.kind.code()
    }

    /// Whether it was a request, whose sender may wait for an answer. Nobody waits for the answer to one whose id is null.
    pub fn is_request(&self) -> bool {
        self.about == Some(Kind::Request) && (self.id.is_some() || self.named == Named::Unknown)
    }

    /// Whether this was, or has to be taken for, the answer to the request with this number, on whose own stream it came.
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
    /// Something other than white space after the value.
    #[error("something follows the message; send one message at a time")]
    Trailing,
    /// A byte below 0x20 in a string.
    #[error("a string holds a raw control character; write it as an escape")]
    ControlCharacter,
    /// A backslash and what does not belong after it.
    #[error("a string holds an unknown escape; use those of RFC 8259 only")]
    Escape,
    /// A number that JSON does not spell like this.
    #[error("a number is misspelled; write it as RFC 8259 has it")]
    Number,
    /// Bytes that are not UTF-8.
    #[error("a string is not UTF-8; encode the message as UTF-8")]
    Utf8,
    /// Objects and arrays within one another beyond [`MAX_DEPTH`](super::MAX_DEPTH).
    #[error("values are nested too deeply; keep to {} levels", super::MAX_DEPTH)]
    TooDeep,
    /// Longer than 4 GiB, which is what a frame can address.
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
    /// A batch of more than [`MAX_BATCH`](super::MAX_BATCH) elements.
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

/// What the scanner reports: it knows neither ids nor kinds of messages.
#[derive(Debug)]
pub(super) struct ScanError {
    pub(super) kind: FrameErrorKind,
    pub(super) offset: usize,
}

impl ScanError {
    /// As an error about no message in particular.
    pub(super) fn unattributed(self) -> FrameError {
        FrameError { kind: self.kind, offset: self.offset, id: None, about: None, named: Named::Nothing }
    }
}
