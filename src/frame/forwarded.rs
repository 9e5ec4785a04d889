//! The headers of a client's request that are forwarded along with its message.

use std::fmt;
use std::sync::Arc;

/// Headers of the HTTP request in which a message came, which are forwarded with it to a server that is reached over
/// HTTP.
///
/// Such headers belong to that one message. Their values are often secrets, so they are never shown in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Forwarded(Arc<[Header]>);

/// A header's name, in lower case, and its value.
type Header = (Box<str>, Box<[u8]>);

impl Forwarded {
    /// Headers as pairs of the name, in lower case, and the value as it came.
    pub fn new(headers: impl IntoIterator<Item = (Box<str>, Box<[u8]>)>) -> Self {
        Self(headers.into_iter().collect())
    }

    /// All headers, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

impl fmt::Debug for Forwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}
