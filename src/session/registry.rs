//! Finds sessions: by their names, by the keys that several clients may bring, and by what one client holds. No guard of a
//! map leaves this file: what is given out are clones.

use std::sync::{Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use smallvec::SmallVec;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::lost_keys::LostKeys;
use super::state::{ClientId, LostState};
use super::{Caller, ClientTransport, EndReason, SessionHandle, SessionId, SessionKey, SessionSecret};
use crate::config::KeyKind;

#[derive(Debug, Default)]
pub(crate) struct Registry {
    by_id: DashMap<SessionId, Entry>,
    /// The clients of all sessions that hold something, each as the handle that acts for it.
    by_secret: DashMap<SessionSecret, SessionHandle>,
    by_key: DashMap<SessionKey, SessionId>,
    lost: Mutex<LostKeys>,
    /// The links of sessions that have ended while their servers have not, each with a session's.
    leaving: Mutex<Vec<TaskTracker>>,
}

/// What is known of a living session.
#[derive(Debug)]
struct Entry {
    session: SessionHandle,
    /// What its clients hold.
    secrets: SmallVec<[(ClientId, SessionSecret); 1]>,
    found_by: FoundByKeys,
}

/// What a session is found by, besides what its clients hold.
#[derive(Debug, Clone, Default)]
pub(super) struct FoundByKeys {
    /// The kinds of all that it is found by.
    pub kinds: SmallVec<[KeyKind; 2]>,
    /// The keys that several clients may bring.
    pub keys: SmallVec<[SessionKey; 1]>,
    /// How many times a session of these keys was started, this one included.
    pub generation: u64,
}

/// A session in a listing.
#[derive(Debug)]
pub(crate) struct ListedSession {
    pub session: SessionHandle,
    pub found_by: Vec<KeyKind>,
    pub generation: u64,
}

impl Registry {
    /// Enters a session with what its first client holds.
    pub(super) fn insert(&self, session: SessionHandle, secret: Option<SessionSecret>, found_by: FoundByKeys) {
        let id = session.facts().id;
        // The session last: a removal that comes in between finds nothing yet, and the next one finds all. The other way
        // round it would take the session away and leave what it is found by for ever.
        if let Some(secret) = secret {
            self.by_secret.insert(secret, session.clone());
        }
        for key in &found_by.keys {
            self.by_key.insert(*key, id);
        }
        let secrets = secret.map(|secret| (session.client().id, secret)).into_iter().collect();
        self.by_id.insert(id, Entry { session, secrets, found_by });
    }

    /// Enters a client that has joined a session, with what it holds. False if it is no part of the session any more.
    pub(super) fn add_client(&self, client: &SessionHandle, secret: SessionSecret) -> bool {
        let (session, id) = (client.facts().id, client.client().id);
        // In the same order as above, so that the end of the session takes the secret along, or its entry is missing
        // here already.
        self.by_secret.insert(secret, client.clone());
        let is_entered = match self.by_id.get_mut(&session) {
            Some(mut entry) => {
                entry.secrets.push((id, secret));
                true
            }
            None => false,
        };
        if !is_entered {
            self.remove_secret(secret, session);
        } else if client.client().left.is_cancelled() {
            // A client that left before it was entered could not remove its secret.
            self.forget_client(session, id);
        } else {
            return true;
        }
        false
    }

    /// Removes what a client holds that has left its session. The client counts as gone already: one that is entered at
    /// this moment is looked at again.
    pub(super) fn forget_client(&self, session: SessionId, client: ClientId) {
        let secret = self.by_id.get_mut(&session).and_then(|mut entry| {
            let place = entry.secrets.iter().position(|(of, _)| *of == client)?;
            Some(entry.secrets.swap_remove(place).1)
        });
        if let Some(secret) = secret {
            self.remove_secret(secret, session);
        }
    }

    pub(super) fn remove(&self, id: SessionId) {
        let Some((_, entry)) = self.by_id.remove(&id) else { return };
        for (_, secret) in entry.secrets {
            self.remove_secret(secret, id);
        }
        for key in entry.found_by.keys {
            // Unless the next session of that key has it by now.
            self.by_key.remove_if(&key, |_, of| *of == id);
        }
    }

    fn remove_secret(&self, secret: SessionSecret, of: SessionId) {
        // Unless another session has it by now: a client of HTTP+SSE that left while its session was being opened may
        // have asked for one again.
        self.by_secret.remove_if(&secret, |_, client| client.facts().id == of);
    }

    /// Removes a session that has ended for this reason, and keeps its links until they have ended too. If others will
    /// miss its state, that is remembered for the next session of its keys.
    pub(super) fn leave(&self, id: SessionId, reason: &EndReason, links: &TaskTracker) {
        {
            let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
            leaving.retain(|links| !links.is_empty());
            if !links.is_empty() {
                leaving.push(links.clone());
            }
        }
        // Before the session is removed: whoever opens the next one must find what is remembered.
        self.remember_keys(id, reason);
        self.remove(id);
    }

    fn remember_keys(&self, id: SessionId, reason: &EndReason) {
        let Some((session, found_by)) =
            self.by_id.get(&id).map(|entry| (entry.session.clone(), entry.found_by.clone()))
        else {
            return;
        };
        if found_by.keys.is_empty() {
            return;
        }
        let fate = StateFate::after(reason, session.facts().version.get().is_some());
        let mut lost = self.lost_keys();
        for key in found_by.keys {
            match fate {
                StateFate::Lost => lost.remember(key, found_by.generation, Instant::now().into_std()),
                StateFate::GivenUp => lost.forget(key),
                StateFate::NeverWas => {}
            }
        }
    }

    fn lost_keys(&self) -> MutexGuard<'_, LostKeys> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was lost with the last session of this key, for the next one.
    pub(super) fn lost_state(&self, key: SessionKey) -> Option<LostState> {
        let generation = self.lost_keys().generation(key, Instant::now().into_std())?;
        Some(LostState { generation: generation.saturating_add(1) })
    }

    /// The links of the sessions that have ended while their servers have not.
    pub(crate) fn leaving(&self) -> Vec<TaskTracker> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The client of a living session that holds this token, for this transport, if it is this caller who was given it.
    /// To anybody else it is as unknown as one that never was.
    pub(crate) fn find(&self, token: &str, transport: ClientTransport, caller: &Caller) -> Option<SessionHandle> {
        let client = self.by_secret.get(&SessionSecret::of(token, transport, caller))?.clone();
        // A client that has seen that it has left must not find its session any more.
        (!client.client().left.is_cancelled()).then_some(client)
    }

    /// The living session of this key.
    pub(super) fn find_by_key(&self, key: SessionKey) -> Option<SessionHandle> {
        let id = *self.by_key.get(&key)?;
        self.get(id)
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<SessionHandle> {
        Some(self.by_id.get(&id)?.session.clone())
    }

    pub(crate) fn all(&self) -> Vec<SessionHandle> {
        self.by_id.iter().map(|entry| entry.session.clone()).collect()
    }

    pub(crate) fn listed(&self) -> Vec<ListedSession> {
        let listed = |entry: &Entry| ListedSession {
            session: entry.session.clone(),
            found_by: entry.found_by.kinds.to_vec(),
            generation: entry.found_by.generation,
        };
        self.by_id.iter().map(|entry| listed(&entry)).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }
}

/// What the end of a session has done to its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StateFate {
    /// Whoever comes next has to be told.
    Lost,
    /// The client that had it did not want it any more.
    GivenUp,
    /// The servers have never answered the handshake.
    NeverWas,
}

impl StateFate {
    fn after(reason: &EndReason, was_open: bool) -> Self {
        if !was_open {
            return Self::NeverWas;
        }
        match reason {
            EndReason::Deleted | EndReason::ClientLeft => Self::GivenUp,
            EndReason::Cleared
            | EndReason::Idle { .. }
            | EndReason::ClientStalled
            | EndReason::Revoked
            | EndReason::Shutdown
            | EndReason::Refused
            | EndReason::BackendGone(_)
            | EndReason::Failed => Self::Lost,
        }
    }
}

#[cfg(test)]
mod tests;
