//! What comes with a client's message besides its bytes.

use std::fmt;
use std::sync::Arc;

/// Headers of the request that brought a message, which are to go with it to a server that is reached over HTTP.
///
/// They belong to that one message. Their values are secrets more often than not, and are never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Forwarded(Arc<[Header]>);

/// Its name, in lower case, and its value.
type Header = (Box<str>, Box<[u8]>);

impl Forwarded {
    /// Headers by name, in lower case, with their values as they came.
    pub fn new(headers: impl IntoIterator<Item = (Box<str>, Box<[u8]>)>) -> Self {
        Self(headers.into_iter().collect())
    }

    /// All of them, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

impl fmt::Debug for Forwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}
