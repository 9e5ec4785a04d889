//! What is found, and that nothing is left of what has ended.

use std::collections::HashSet;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use super::*;
use crate::backend::{Backend, InProcessBackend};
use crate::config::SessionSettings;
use crate::session::{FoundBy, JoinBy, Refused, SessionPlan, SessionRequest, SupervisorHandle, UnclaimedSession};

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
    registry.insert(session.clone(), secret, FoundByKeys::default());
    registry.remove(id);
    registry.remove(id);
    assert_eq!((registry.by_id.len(), registry.by_secret.len()), (0, 0));
}

#[tokio::test]
async fn a_late_removal_leaves_the_next_session_of_that_secret() {
    let supervisor = supervisor();
    let (old, new) = (unkeyed(&supervisor).await, unkeyed(&supervisor).await);
    let (registry, secret) = (Registry::default(), secret("token"));
    registry.insert(old.clone(), Some(secret), FoundByKeys::default());
    registry.insert(new.clone(), Some(secret), FoundByKeys::default());
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
            registry.insert(session.clone(), Some(secret(&round.to_string())), FoundByKeys::default());
            done.wait();
            // What the supervisor does when it sees that the session has ended already.
            registry.remove(id);
        }
    });
    assert_eq!((registry.by_id.len(), registry.by_secret.len()), (0, 0));
}

fn key(value: &str) -> SessionKey {
    SessionKey::of(&KeyKind::Cookie, value.as_bytes(), &Caller::default())
}

fn brought(value: &str) -> JoinBy {
    JoinBy::Brought { kind: KeyKind::Cookie, key: key(value) }
}

fn minted(brought: &str, fresh: &str) -> JoinBy {
    JoinBy::Minted { kind: KeyKind::Cookie, brought: Some(key(brought)), fresh: key(fresh) }
}

async fn join(supervisor: &SupervisorHandle, join_by: JoinBy) -> Result<UnclaimedSession, Refused> {
    let caller = Caller::default();
    let join_by = Some(join_by);
    let request = SessionRequest { caller, found_by: FoundBy::NewToken, join_by, expose_stderr: false, upward: None };
    supervisor.open_or_join(request).await
}

/// The names of all that the registry has, of each kind.
fn sizes(registry: &Registry) -> (usize, usize, usize) {
    (registry.by_id.len(), registry.by_secret.len(), registry.by_key.len())
}

fn generation(supervisor: &SupervisorHandle, session: &SessionHandle) -> u64 {
    let listed = supervisor.registry().listed();
    listed.iter().find(|listed| listed.session.facts().id == session.facts().id).unwrap().generation
}

async fn end(session: &SessionHandle, reason: EndReason) {
    session.end(reason);
    session.ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn those_who_come_at_once_get_one_session() {
    let supervisor = Arc::new(supervisor());
    for round in 0..20 {
        let joining = (0..32).map(|_| {
            let supervisor = supervisor.clone();
            tokio::spawn(async move { join(&supervisor, brought(&round.to_string())).await.unwrap().take().unwrap() })
        });
        let mut places = Vec::new();
        for joined in joining.collect::<Vec<_>>() {
            places.push(joined.await.unwrap());
        }
        let registry = supervisor.registry();
        assert_eq!(sizes(registry), (1, 32, 1));
        let mut clients = HashSet::new();
        for (place, token) in &places {
            let found = registry.find(token.as_ref().unwrap(), HTTP, &Caller::default()).unwrap();
            assert_eq!((found.facts().id, found.client().id), (place.facts().id, place.client().id));
            clients.insert(found.client().id);
        }
        assert_eq!(clients.len(), 32, "each is a client of its own");
        end(&places[0].0, EndReason::Cleared).await;
        assert_eq!(sizes(registry), (0, 0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_left_of_clients_that_join_while_sessions_end() {
    let supervisor = Arc::new(supervisor());
    let tasks = (0..8).map(|number| {
        let supervisor = supervisor.clone();
        tokio::spawn(async move {
            for round in 0..100 {
                let place = join(&supervisor, brought("the only one")).await.unwrap();
                match (number + round) % 4 {
                    0 => drop(place),
                    1 => end(&place.take().unwrap().0, EndReason::Cleared).await,
                    2 => {
                        let (client, token) = place.take().unwrap();
                        client.leave(EndReason::Deleted);
                        client.left().await;
                        let found = supervisor.registry().find(&token.unwrap(), HTTP, &Caller::default());
                        assert!(found.is_none(), "it has left");
                    }
                    _ => drop(place.take()),
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    for session in supervisor.registry().all() {
        end(&session, EndReason::Cleared).await;
    }
    assert_eq!(sizes(supervisor.registry()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_a_client_holds_is_forgotten_with_it() {
    let supervisor = supervisor();
    let registry = supervisor.registry();
    let (opener, _) = join(&supervisor, brought("a")).await.unwrap().take().unwrap();
    let _ = opener.facts().version.set("2025-11-25".to_owned());
    let mut tokens = Vec::new();
    for number in 0..600 {
        if number % 100 == 0 {
            // Those that have just joined do not make way.
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
        let (_, token) = join(&supervisor, brought("a")).await.unwrap().take().unwrap();
        tokens.push(token.unwrap());
    }
    let clients = opener.facts().clients.load(std::sync::atomic::Ordering::Relaxed);
    assert!(clients < 300, "those without a stream make way");
    assert_eq!(sizes(registry), (1, clients, 1));
    let found = tokens.iter().filter(|token| registry.find(token, HTTP, &Caller::default()).is_some()).count();
    assert_eq!(found, clients);
    end(&opener, EndReason::Cleared).await;
    assert_eq!(sizes(registry), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn lost_state_is_counted() {
    let supervisor = supervisor();
    let open = async |value| join(&supervisor, brought(value)).await.unwrap().take().unwrap().0;
    let opened = async |value| {
        let session = open(value).await;
        let _ = session.facts().version.set("2025-11-25".to_owned());
        session
    };
    for expected in 1..=3 {
        let session = opened("a").await;
        assert_eq!(generation(&supervisor, &session), expected);
        end(&session, EndReason::Cleared).await;
    }
    // Sessions whose servers never answered had no state: what was lost before them is still to be told.
    for reason in [EndReason::Refused, EndReason::Failed, EndReason::ClientLeft] {
        let session = open("a").await;
        assert_eq!(generation(&supervisor, &session), 4);
        end(&session, reason).await;
    }
    let other = opened("b").await;
    assert_eq!(generation(&supervisor, &other), 1);
    let session = opened("a").await;
    assert_eq!(generation(&supervisor, &session), 4);
    end(&session, EndReason::Deleted).await;
    let session = opened("a").await;
    assert_eq!(generation(&supervisor, &session), 1, "its client has ended it");
    end(&session, EndReason::Cleared).await;
    tokio::time::advance(Duration::from_secs(3599)).await;
    assert!(supervisor.registry().lost_state(key("a")).is_some());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(supervisor.registry().lost_state(key("a")).is_none());
    end(&other, EndReason::Cleared).await;
}

#[tokio::test]
async fn only_a_value_that_was_made_here_counts() {
    let supervisor = supervisor();
    let first = join(&supervisor, minted("theirs", "ours")).await.unwrap();
    assert!(first.has_fresh_key());
    let (first, _) = first.take().unwrap();
    let _ = first.facts().version.set("2025-11-25".to_owned());
    let second = join(&supervisor, minted("ours", "unused")).await.unwrap();
    assert!(!second.has_fresh_key());
    assert_eq!(second.session().unwrap().facts().id, first.facts().id);
    let third = join(&supervisor, minted("theirs", "ours too")).await.unwrap();
    assert!(third.has_fresh_key());
    assert_ne!(third.session().unwrap().facts().id, first.facts().id);
    // The value outlives the session whose state was lost, and no other.
    end(&first, EndReason::Cleared).await;
    let again = join(&supervisor, minted("ours", "unused")).await.unwrap();
    assert!(!again.has_fresh_key());
    let (again, _) = again.take().unwrap();
    assert_eq!(generation(&supervisor, &again), 2);
    let _ = again.facts().version.set("2025-11-25".to_owned());
    end(&again, EndReason::Deleted).await;
    assert!(join(&supervisor, minted("ours", "another")).await.unwrap().has_fresh_key());
}

#[test]
fn what_becomes_of_the_state() {
    let gone = EndReason::BackendGone(crate::link::LinkExit::Failed { reason: String::new() });
    let idle = EndReason::Idle { after: Duration::from_secs(1) };
    for reason in [gone, idle, EndReason::Cleared, EndReason::Failed, EndReason::ClientStalled, EndReason::Revoked] {
        assert_eq!(StateFate::after(&reason, true), StateFate::Lost, "{reason:?}");
        assert_eq!(StateFate::after(&reason, false), StateFate::NeverWas, "{reason:?}");
    }
    for reason in [EndReason::Deleted, EndReason::ClientLeft] {
        assert_eq!(StateFate::after(&reason, true), StateFate::GivenUp, "{reason:?}");
    }
}
