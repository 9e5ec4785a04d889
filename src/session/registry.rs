//! Finds a session by its key. No guard of a map leaves this file: what is given out are clones.

use dashmap::DashMap;

use super::{SessionHandle, SessionId, SessionSecret};

#[derive(Debug, Default)]
pub(crate) struct Registry {
    by_id: DashMap<SessionId, (SessionHandle, Option<SessionSecret>)>,
    by_secret: DashMap<SessionSecret, SessionId>,
}

impl Registry {
    pub(super) fn insert(&self, session: SessionHandle, secret: Option<SessionSecret>) {
        let id = session.shared().id;
        self.by_id.insert(id, (session, secret));
        if let Some(secret) = secret {
            self.by_secret.insert(secret, id);
        }
    }

    pub(super) fn remove(&self, id: SessionId) {
        if let Some((_, (_, Some(secret)))) = self.by_id.remove(&id) {
            self.by_secret.remove(&secret);
        }
    }

    /// The living session whose client holds this `Mcp-Session-Id`.
    pub(crate) fn find(&self, token: &str) -> Option<SessionHandle> {
        let id = *self.by_secret.get(&SessionSecret::of(token))?;
        self.get(id)
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<SessionHandle> {
        Some(self.by_id.get(&id)?.0.clone())
    }

    pub(crate) fn all(&self) -> Vec<SessionHandle> {
        self.by_id.iter().map(|entry| entry.0.clone()).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }
}
