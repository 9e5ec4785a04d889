//! How much of what passes through may be kept at once: copies of messages for a second sending, and bodies that have not come
//! to their end. The session's budgets know of neither: an answer has to be read before anything else can go on, so it may
//! not wait for what is in front of it.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one session may keep of messages for a second sending, and what all sessions with one server may, in bytes.
const COPIES: (usize, usize) = (1024 * 1024, 64 * 1024 * 1024);
/// The same for bodies and events whose end has not come yet, besides [`FREE`] and the one of each session that always may.
const UNENDED: (usize, usize) = (64 * 1024 * 1024, 256 * 1024 * 1024);
/// A body or event is gathered up to so many bytes without asking for room.
pub(super) const FREE: usize = 64 * 1024;
/// Room for more is taken in steps of so many bytes.
const STEP: usize = 256 * 1024;

/// The room of all sessions with one server.
pub(super) struct Shared {
    copies: Arc<Semaphore>,
    unended: Arc<Semaphore>,
}

impl Default for Shared {
    fn default() -> Self {
        Self { copies: Arc::new(Semaphore::new(COPIES.1)), unended: Arc::new(Semaphore::new(UNENDED.1)) }
    }
}

/// One session's room.
pub(super) struct Rooms {
    /// For copies of messages.
    pub copies: Room,
    /// For what has not come to its end.
    pub unended: Room,
}

impl Rooms {
    pub(super) fn new(shared: &Shared) -> Self {
        Self {
            copies: Room::new(COPIES.0, shared.copies.clone()),
            unended: Room::new(UNENDED.0, shared.unended.clone()),
        }
    }
}

/// So many bytes for one session, below those for all.
#[derive(Clone)]
pub(super) struct Room {
    own: Arc<Semaphore>,
    all: Arc<Semaphore>,
    /// Whoever has this needs no room: so one of a session always comes to its end, and those that wait for each other's room
    /// follow it.
    one: Arc<Semaphore>,
}

/// Never read: its drop gives the room back.
pub(super) struct Held(#[expect(dead_code, reason = "held, not read")] [OwnedSemaphorePermit; 2]);

impl Room {
    pub(super) fn new(own: usize, all: Arc<Semaphore>) -> Self {
        Self { own: Arc::new(Semaphore::new(own)), all, one: Arc::new(Semaphore::new(1)) }
    }

    /// Room for so many bytes, if it is there now.
    pub(super) fn take_now(&self, bytes: usize) -> Option<Held> {
        let bytes = u32::try_from(bytes).ok()?;
        let own = self.own.clone().try_acquire_many_owned(bytes).ok()?;
        let all = self.all.clone().try_acquire_many_owned(bytes).ok()?;
        Some(Held([own, all]))
    }

    async fn take(&self, bytes: u32) -> Option<Held> {
        let own = self.own.clone().acquire_many_owned(bytes).await.ok()?;
        let all = self.all.clone().acquire_many_owned(bytes).await.ok()?;
        Some(Held([own, all]))
    }
}

/// The room that one body takes while it grows.
pub(super) struct Growth {
    room: Room,
    held: Vec<Held>,
    /// For how many bytes that is enough.
    enough: usize,
    one: Option<OwnedSemaphorePermit>,
}

impl Growth {
    pub(super) fn new(room: Room) -> Self {
        Self { room, held: Vec::new(), enough: FREE, one: None }
    }

    /// Waits until there is room for a body of so many bytes in all. Nothing is lost if the future is dropped.
    pub(super) async fn reach(&mut self, size: usize) {
        while size > self.enough && self.one.is_none() {
            let more = (size - self.enough).next_multiple_of(STEP).min(u32::MAX as usize);
            let charge = u32::try_from(more).unwrap_or(u32::MAX);
            tokio::select! {
                biased;
                Some(held) = self.room.take(charge) => {
                    self.held.push(held);
                    self.enough += more;
                }
                Ok(one) = self.room.one.clone().acquire_owned() => {
                    self.one = Some(one);
                    self.held.clear();
                }
                // Neither is ever closed.
                else => return,
            }
        }
    }

    /// Gives the room back: the body is gone, or on its way.
    pub(super) fn clear(&mut self) {
        self.held.clear();
        self.enough = FREE;
        self.one = None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    async fn waits<T>(future: impl Future<Output = T>) -> bool {
        timeout(Duration::from_secs(1), future).await.is_err()
    }

    fn room(own: usize, all: &Arc<Semaphore>) -> Room {
        Room::new(own, all.clone())
    }

    #[test]
    fn copies_are_made_while_there_is_room() {
        let all = Arc::new(Semaphore::new(250));
        let (one, other) = (room(100, &all), room(1000, &all));
        let first = one.take_now(60);
        assert!(first.is_some() && one.take_now(60).is_none());
        let second = other.take_now(190);
        assert!(second.is_some() && one.take_now(10).is_none() && other.take_now(10).is_none());
        drop(first);
        assert!(one.take_now(60).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn one_body_of_each_session_always_grows() {
        let all = Arc::new(Semaphore::new(2 * STEP));
        let (here, there) = (room(10 * STEP, &all), room(10 * STEP, &all));
        let mut bodies: Vec<_> = (0..3).map(|_| Growth::new(here.clone())).collect();
        for body in &mut bodies {
            body.reach(FREE).await;
        }
        assert_eq!(all.available_permits(), 2 * STEP, "small ones are free");
        bodies[0].reach(FREE + STEP).await;
        bodies[1].reach(FREE + STEP).await;
        assert_eq!(all.available_permits(), 0);
        // The room is full, and each of them wants more.
        bodies[2].reach(100 * STEP).await;
        assert!(waits(bodies[0].reach(FREE + STEP + 1)).await);
        assert!(waits(bodies[1].reach(FREE + STEP + 1)).await);
        Growth::new(there.clone()).reach(100 * STEP).await;
        bodies[2].clear();
        bodies[0].reach(100 * STEP).await;
        assert_eq!(all.available_permits(), STEP, "it needs its room no more");
        drop(bodies);
        assert_eq!((all.available_permits(), here.one.available_permits()), (2 * STEP, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_has_its_share() {
        let all = Arc::new(Semaphore::new(100 * STEP));
        let here = room(STEP, &all);
        let (mut first, mut second, mut third) =
            (Growth::new(here.clone()), Growth::new(here.clone()), Growth::new(here));
        first.reach(FREE + 1).await;
        second.reach(FREE + 1).await;
        assert!(waits(third.reach(FREE + 1)).await);
        assert_eq!(all.available_permits(), 99 * STEP);
    }
}
