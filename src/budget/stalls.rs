//! The holders of the pool's bytes, and how long each has been stalled: its peer has taken or sent next to nothing.
//! Pure.
//!
//! A holder is a connection whose client has not read what was sent, a message that a peer has sent in part, the queue
//! for a server, or the messages that are kept for a client that may come back. While messages wait for the pool, the
//! holder that has been stalled for longest is asked to give way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;

/// A holder is stalled if fewer bytes than this have moved within [`STALLED_WITHIN`].
pub(super) const STALLED_BELOW: usize = 64 * 1024;
/// The time within which [`STALLED_BELOW`] bytes have to move.
pub(super) const STALLED_WITHIN: Duration = Duration::from_secs(5);

/// Makes a holder give its bytes back. The function is called without any lock held, from a task that serves all
/// holders, so it must not wait.
pub(super) type GiveWay = Arc<dyn Fn() + Send + Sync>;

/// The number of a holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HolderKey(usize);

struct Holder {
    held: usize,
    /// When the holder last had moved [`STALLED_BELOW`] bytes, began to hold some, or was asked to give way.
    since: Instant,
    /// Bytes that have moved since then.
    moved: usize,
    /// Whether the holder was asked to give way and has not moved since.
    asked: bool,
    /// Whether sessile itself does not read from the peer, which is then not to blame that nothing moves.
    is_excused: bool,
    give_way: GiveWay,
}

/// All that hold bytes of the pool.
#[derive(Default)]
pub(super) struct Stalls {
    holders: Slab<Holder>,
}

impl Stalls {
    /// Adds a holder that holds nothing yet.
    pub(super) fn add(&mut self, give_way: GiveWay, now: Instant) -> HolderKey {
        let holder = Holder { held: 0, since: now, moved: 0, asked: false, is_excused: false, give_way };
        HolderKey(self.holders.insert(holder))
    }

    /// Removes a holder and returns its function, which the caller has to drop after the lock is released: the function
    /// may hold a permit, and to give back a permit takes the same lock.
    #[must_use]
    pub(super) fn remove(&mut self, key: HolderKey) -> GiveWay {
        self.holders.remove(key.0).give_way
    }

    /// Sets how many bytes the holder holds in all.
    pub(super) fn set_held(&mut self, key: HolderKey, bytes: usize, now: Instant) {
        let holder = &mut self.holders[key.0];
        if holder.held == 0 || bytes == 0 {
            (holder.since, holder.moved, holder.asked) = (now, 0, false);
        }
        holder.held = bytes;
    }

    pub(super) fn held(&self, key: HolderKey) -> usize {
        self.holders[key.0].held
    }

    /// Notes that the holder's peer has taken or sent `bytes`.
    pub(super) fn moved(&mut self, key: HolderKey, bytes: usize, now: Instant) {
        let holder = &mut self.holders[key.0];
        holder.moved += bytes;
        if holder.moved >= STALLED_BELOW {
            (holder.since, holder.moved, holder.asked) = (now, 0, false);
        }
    }

    /// Notes that sessile stops reading from the holder's peer, or reads again. In the meantime the holder does not
    /// count as stalled.
    pub(super) fn excuse(&mut self, key: HolderKey, is_excused: bool, now: Instant) {
        let holder = &mut self.holders[key.0];
        (holder.since, holder.moved, holder.is_excused) = (now, 0, is_excused);
    }

    /// Chooses the holders that have to give way so that `shortage` bytes become free, the longest stalled first. Bytes
    /// that holders asked before have still to give back are counted in. A holder that still has its bytes
    /// [`STALLED_WITHIN`] later is asked again.
    pub(super) fn choose(&mut self, mut shortage: usize, now: Instant) -> Vec<GiveWay> {
        let mut stalled = Vec::new();
        for (key, holder) in self.holders.iter().filter(|(_, holder)| holder.held > 0 && !holder.is_excused) {
            if now.saturating_duration_since(holder.since) >= STALLED_WITHIN {
                stalled.push((holder.since, key));
            } else if holder.asked {
                shortage = shortage.saturating_sub(holder.held);
            }
        }
        stalled.sort_unstable();
        let mut chosen = Vec::new();
        for (_, key) in stalled {
            if shortage == 0 {
                break;
            }
            let holder = &mut self.holders[key];
            shortage = shortage.saturating_sub(holder.held);
            (holder.asked, holder.since, holder.moved) = (true, now, 0);
            chosen.push(holder.give_way.clone());
        }
        chosen
    }

    /// When the next holder will count as stalled if nothing moves.
    pub(super) fn next_stall(&self) -> Option<Instant> {
        let holding = self.holders.iter().filter(|(_, holder)| holder.held > 0 && !holder.is_excused);
        holding.map(|(_, holder)| holder.since + STALLED_WITHIN).min()
    }
}

impl std::fmt::Debug for Stalls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stalls").field("holders", &self.holders.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn the_longest_stalled_gives_way_and_no_more_than_are_needed() {
        let begin = tokio::time::Instant::now().into_std();
        let asked: [Arc<AtomicUsize>; 3] = Default::default();
        let mut stalls = Stalls::default();
        let keys: Vec<_> = asked
            .iter()
            .zip(0..)
            .map(|(asked, second)| {
                let asked = asked.clone();
                let give_way: GiveWay = Arc::new(move || _ = asked.fetch_add(1, Ordering::Relaxed));
                let key = stalls.add(give_way, begin);
                stalls.set_held(key, 100, begin + Duration::from_secs(second));
                key
            })
            .collect();
        let counts = || asked.each_ref().map(|asked| asked.load(Ordering::Relaxed));
        let ask = |stalls: &mut Stalls, shortage, seconds| {
            let chosen = stalls.choose(shortage, begin + Duration::from_secs(seconds));
            for give_way in chosen {
                give_way();
            }
        };
        ask(&mut stalls, 50, 4);
        assert_eq!(counts(), [0, 0, 0], "nobody is stalled yet");
        stalls.moved(keys[0], STALLED_BELOW - 1, begin + Duration::from_secs(4));
        ask(&mut stalls, 50, 7);
        assert_eq!(counts(), [1, 0, 0], "less than it must have moved");
        ask(&mut stalls, 100, 8);
        assert_eq!(counts(), [1, 0, 0], "what it was asked for is on its way");
        ask(&mut stalls, 101, 8);
        assert_eq!(counts(), [1, 1, 0]);
        stalls.moved(keys[2], STALLED_BELOW, begin + Duration::from_secs(9));
        ask(&mut stalls, 1000, 11);
        assert_eq!(counts(), [1, 1, 0], "it has moved enough");
        ask(&mut stalls, 1000, 12);
        assert_eq!(counts(), [2, 1, 0], "it holds its bytes still");
        ask(&mut stalls, 1000, 14);
        assert_eq!(counts(), [2, 2, 1]);
    }
}
