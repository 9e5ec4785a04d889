//! Finds a session by its key. No guard of a map leaves this file: what is given out are clones.

use std::sync::{Mutex, PoisonError};

use dashmap::DashMap;
use tokio_util::task::TaskTracker;

use super::state::ClientId;
use super::{Caller, ClientTransport, SessionHandle, SessionId, SessionSecret};

#[derive(Debug, Default)]
pub(crate) struct Registry {
    by_id: DashMap<SessionId, (SessionHandle, Option<SessionSecret>)>,
    by_secret: DashMap<SessionSecret, SessionId>,
    /// The links of sessions that have ended while their servers have not, each with a session's.
    leaving: Mutex<Vec<TaskTracker>>,
}

impl Registry {
    pub(super) fn insert(&self, session: SessionHandle, secret: Option<SessionSecret>) {
        let id = session.facts().id;
        // The secret first: a removal that comes in between finds nothing yet, and the next one finds both. The other
        // way round it would take the session away and leave its secret for ever.
        if let Some(secret) = secret {
            self.by_secret.insert(secret, id);
        }
        self.by_id.insert(id, (session, secret));
    }

    /// The session lives on without this client.
    #[expect(clippy::unused_self, reason = "no session has several clients yet")]
    pub(super) fn forget_client(&self, _session: SessionId, _client: ClientId) {}

    pub(super) fn remove(&self, id: SessionId) {
        if let Some((_, (_, Some(secret)))) = self.by_id.remove(&id) {
            // Unless another session has it by now: a client of HTTP+SSE that left while its session was being opened
            // may have asked for one again.
            self.by_secret.remove_if(&secret, |_, of| *of == id);
        }
    }

    /// Removes a session that has ended, and keeps its links until they have ended too.
    pub(super) fn leave(&self, id: SessionId, links: &TaskTracker) {
        {
            let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
            leaving.retain(|links| !links.is_empty());
            if !links.is_empty() {
                leaving.push(links.clone());
            }
        }
        self.remove(id);
    }

    /// The links of the sessions that have ended while their servers have not.
    pub(crate) fn leaving(&self) -> Vec<TaskTracker> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The living session whose client holds this token, for this transport, if it is this caller who opened it. To
    /// anybody else it is as unknown as one that never was.
    pub(crate) fn find(&self, token: &str, transport: ClientTransport, caller: &Caller) -> Option<SessionHandle> {
        let id = *self.by_secret.get(&SessionSecret::of(token, transport, caller))?;
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

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::time::Duration;

    use super::super::{EndReason, FoundBy, Refused, SessionPlan, SupervisorHandle, UnclaimedSession};
    use super::*;
    use crate::backend::{Backend, InProcessBackend};
    use crate::config::SessionSettings;

    const HTTP: ClientTransport = ClientTransport::Streamable;

    fn secret(token: &str) -> SessionSecret {
        SessionSecret::of(token, HTTP, &Caller::default())
    }

    async fn open(supervisor: &SupervisorHandle, found_by: FoundBy) -> Result<UnclaimedSession, Refused> {
        supervisor.open(Caller::default(), found_by, false, None).await
    }

    async fn unkeyed(supervisor: &SupervisorHandle) -> SessionHandle {
        open(supervisor, FoundBy::Nobody).await.unwrap().take().unwrap().0
    }

    fn supervisor() -> SupervisorHandle {
        let backend = InProcessBackend::over_bytes("idle", |_io| std::future::pending());
        SupervisorHandle::new(SessionPlan::new(
            [Backend::from(backend)].into(),
            SessionSettings::default(),
            Duration::from_secs(15),
        ))
    }

    #[tokio::test]
    async fn nothing_is_left_of_sessions_that_ended() {
        let supervisor = supervisor();
        let registry = supervisor.registry();
        for round in 0..50 {
            let keyed = if round % 5 > 0 { FoundBy::NewToken } else { FoundBy::Nobody };
            let fresh = open(&supervisor, keyed).await.unwrap();
            let (session, token) = if round % 2 == 0 {
                fresh.take().unwrap()
            } else {
                // Nobody takes it: it ends by itself.
                let session = fresh.session().unwrap().clone();
                drop(fresh);
                (session, None)
            };
            if let Some(token) = &token {
                assert_eq!(
                    registry.find(token, HTTP, &Caller::default()).map(|found| found.facts().id),
                    Some(session.facts().id)
                );
            }
            session.end(EndReason::Deleted);
            session.ended().await;
            assert!(token.is_none_or(|token| registry.find(&token, HTTP, &Caller::default()).is_none()));
        }
        assert_eq!((registry.by_id.len(), registry.by_secret.len()), (0, 0));
    }

    #[tokio::test]
    async fn an_entry_that_is_late_for_its_own_removal_goes_as_well() {
        let supervisor = supervisor();
        let session = unkeyed(&supervisor).await;
        let (registry, id) = (Registry::default(), session.facts().id);
        let secret = Some(secret("token"));
        registry.remove(id);
        registry.insert(session.clone(), secret);
        registry.remove(id);
        registry.remove(id);
        assert_eq!((registry.by_id.len(), registry.by_secret.len()), (0, 0));
    }

    #[tokio::test]
    async fn a_late_removal_leaves_the_next_session_of_that_secret() {
        let supervisor = supervisor();
        let (old, new) = (unkeyed(&supervisor).await, unkeyed(&supervisor).await);
        let (registry, secret) = (Registry::default(), secret("token"));
        registry.insert(old.clone(), Some(secret));
        registry.insert(new.clone(), Some(secret));
        registry.remove(old.facts().id);
        let found = registry.find("token", HTTP, &Caller::default()).map(|session| session.facts().id);
        assert_eq!(found, Some(new.facts().id));
        registry.remove(new.facts().id);
        assert_eq!((registry.by_id.len(), registry.by_secret.len()), (0, 0));
    }

    #[test]
    fn removals_that_come_in_between_leave_nothing() {
        const ROUNDS: usize = 2000;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let supervisor = supervisor();
        let session = runtime.block_on(unkeyed(&supervisor));
        let id = session.facts().id;
        let registry = Registry::default();
        let (begin, done) = (Barrier::new(2), Barrier::new(2));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    begin.wait();
                    // Until it has found something, as an end does that comes right after the beginning.
                    while !registry.by_id.contains_key(&id) {
                        std::hint::spin_loop();
                    }
                    registry.remove(id);
                    done.wait();
                }
            });
            for round in 0..ROUNDS {
                begin.wait();
                registry.insert(session.clone(), Some(secret(&round.to_string())));
                done.wait();
                // What the supervisor does when it sees that the session has ended already.
                registry.remove(id);
            }
        });
        assert_eq!((registry.by_id.len(), registry.by_secret.len()), (0, 0));
    }
}
