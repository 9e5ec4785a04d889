//! What a front asks the supervisor for, and what it gets: a session, or a place in one.

use tracing::error;

use super::key::{SessionKey, generate_token};
use super::{Caller, ClientTransport, EndReason, Refused, SessionHandle, SessionSecret};
use crate::budget::Budget;
use crate::config::KeyKind;

/// What a client's own place in a session is found by, by its caller and by nobody else.
#[derive(Debug, Clone, Copy)]
pub(crate) enum FoundBy {
    /// By nothing: its client has one connection, which is the client's for life.
    Nobody,
    /// By a token for streamable HTTP that is made with the session.
    NewToken,
    /// By a secret that its client was given before.
    Secret(SessionSecret),
}

impl FoundBy {
    /// The token that the client is given, and what it is found by.
    pub(super) fn token_and_secret(self, caller: &Caller) -> Result<(Option<String>, Option<SessionSecret>), Refused> {
        Ok(match self {
            Self::Nobody => (None, None),
            Self::NewToken => {
                let token = new_token()?;
                let secret = SessionSecret::of(&token, ClientTransport::Streamable, caller);
                (Some(token), Some(secret))
            }
            Self::Secret(secret) => (None, Some(secret)),
        })
    }

    pub(super) fn kind(self) -> KeyKind {
        match self {
            Self::NewToken => KeyKind::SessionId,
            Self::Nobody | Self::Secret(_) => KeyKind::Connection,
        }
    }
}

/// The key of the session that a client joins, or that is opened for it if none of that key lives.
#[derive(Debug, Clone)]
pub(crate) enum JoinBy {
    /// A key that the client has brought.
    Brought { kind: KeyKind, key: SessionKey },
    /// A key of a value that is made here. One that the client has brought counts only if a session was opened for it;
    /// otherwise a session is opened for the fresh one.
    Minted { kind: KeyKind, brought: Option<SessionKey>, fresh: SessionKey },
}

/// A request for a session.
#[derive(Debug, Clone)]
pub(crate) struct SessionRequest {
    /// Who opens or joins it.
    pub caller: Caller,
    pub found_by: FoundBy,
    /// `None` if a session is to be opened in any case.
    pub join_by: Option<JoinBy>,
    /// Whether the clients of a session that is opened may be told what a server wrote on stderr.
    pub expose_stderr: bool,
    /// The client's budget, if bytes were charged to it before there was a session.
    pub upward: Option<Budget>,
}

/// What the supervisor has found or made.
#[derive(Debug)]
pub(super) enum FoundSession {
    Opened(UnclaimedSession),
    /// A session that lives already, which the client has still to join.
    Living(SessionHandle),
}

/// A client's place in a session, which was just opened or joined. The client leaves when this is dropped before it was
/// taken: it may be gone while its session is being made, and then nobody would ever ask for it.
#[derive(Debug)]
pub(crate) struct UnclaimedSession {
    session: Option<SessionHandle>,
    pub(super) token: Option<String>,
    /// Whether the session was opened for the fresh key of [`JoinBy::Minted`].
    pub(super) has_fresh_key: bool,
}

impl UnclaimedSession {
    pub(super) fn new(session: SessionHandle) -> Self {
        Self { session: Some(session), token: None, has_fresh_key: false }
    }

    /// The session, until it is taken.
    pub(crate) fn session(&self) -> Option<&SessionHandle> {
        self.session.as_ref()
    }

    /// Whether the client has to be told the value of a key that was made for it.
    pub(crate) fn has_fresh_key(&self) -> bool {
        self.has_fresh_key
    }

    /// Takes the session, and the client's token if it was to have one.
    pub(crate) fn take(mut self) -> Option<(SessionHandle, Option<String>)> {
        let token = self.token.take();
        Some((self.session.take()?, token))
    }
}

impl Drop for UnclaimedSession {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            session.leave(EndReason::ClientLeft);
        }
    }
}

/// Makes the token that a client is given.
pub(crate) fn new_token() -> Result<String, Refused> {
    generate_token().map_err(|reason| {
        error!(%reason, "the operating system gives no randomness");
        Refused::Failed
    })
}
