//! Who holds bytes of the pool for a peer, and for how long that peer has moved next to nothing. Pure.
//!
//! A holder is a connection whose client has not read what was sent, a message that a peer has sent in part, what is queued
//! for a server, or what is kept for a client that may come back. While others wait for the pool, the holder that has been
//! stalled for longest gives way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;

/// A holder is stalled if fewer than this many bytes have moved...
pub(super) const STALLED_BELOW: usize = 64 * 1024;
/// ... within this time.
pub(super) const STALLED_WITHIN: Duration = Duration::from_secs(5);

/// What a holder does to give way. It is called without any lock held, and must not wait.
pub(super) type GiveWay = Arc<dyn Fn() + Send + Sync>;

/// The number of a holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HolderKey(usize);

struct Holder {
    held: usize,
    /// When it last had moved [`STALLED_BELOW`] bytes, or began to hold some, or was asked to give way.
    since: Instant,
    moved: usize,
    /// It was asked to give way, and still holds what it held then.
    asked: bool,
    /// Its peer is not to blame for the time that passes: it is not listened to.
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

    /// Removes a holder. What it gives way with is handed out: it may hold a permit itself, which is not to be given back
    /// under the lock that is held here.
    #[must_use]
    pub(super) fn remove(&mut self, key: HolderKey) -> GiveWay {
        self.holders.remove(key.0).give_way
    }

    /// It holds so many bytes in all.
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

    /// Its peer has taken or given so many bytes.
    pub(super) fn moved(&mut self, key: HolderKey, bytes: usize, now: Instant) {
        let holder = &mut self.holders[key.0];
        holder.moved += bytes;
        if holder.moved >= STALLED_BELOW {
            (holder.since, holder.moved, holder.asked) = (now, 0, false);
        }
    }

    /// From now on its peer is not listened to, or is again: it does not count as stalled in the meantime.
    pub(super) fn excuse(&mut self, key: HolderKey, is_excused: bool, now: Instant) {
        let holder = &mut self.holders[key.0];
        (holder.since, holder.moved, holder.is_excused) = (now, 0, is_excused);
    }

    /// Those who are to give way so that `shortage` bytes become free, longest stalled first. What others that were asked
    /// before have not given back yet counts as well. One that still holds its bytes [`STALLED_WITHIN`] later is asked again.
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
