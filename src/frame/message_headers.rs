//! The headers that go along with a message to a server that is reached over HTTP.

use std::fmt;
use std::sync::Arc;

/// Headers that go along with a message to a server that is reached over HTTP: today those of the client's request that
/// are forwarded. Headers that mirror what a message says will stand here too.
///
/// Such headers belong to that one message. Their values are often secrets, so they are never shown in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct MessageHeaders(Arc<[Header]>);

/// A header's name, in lower case, and its value.
type Header = (Box<str>, Box<[u8]>);

impl MessageHeaders {
    /// Headers as pairs of the name, in lower case, and the value as it came.
    pub fn new(headers: impl IntoIterator<Item = (Box<str>, Box<[u8]>)>) -> Self {
        Self(headers.into_iter().collect())
    }

    /// All headers, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

impl fmt::Debug for MessageHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}
