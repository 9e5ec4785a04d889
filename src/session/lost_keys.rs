//! The keys whose sessions have ended and taken their state with them, so that the next session of such a key can say so.
//! Pure; what is remembered is bounded in number and time.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::key::SessionKey;

/// Most keys that are remembered. More sessions than this seldom end within [`REMEMBERED_FOR`]; the oldest is forgotten
/// first, and its next session says nothing.
const MOST_KEYS: usize = 4096;
/// How long a key is remembered. Whoever comes back later than this, after an idle timeout of half an hour at that, begins
/// a new piece of work.
const REMEMBERED_FOR: Duration = Duration::from_secs(60 * 60);

#[derive(Debug, Default)]
pub(super) struct LostKeys {
    /// How many times a session of each key has been started, and when the last one ended.
    ended: HashMap<SessionKey, (u64, Instant)>,
    oldest_first: VecDeque<SessionKey>,
}

impl LostKeys {
    /// Notes that the session of this key has ended with its state. It was the one of that number.
    pub(super) fn remember(&mut self, key: SessionKey, generation: u64, now: Instant) {
        self.forget(key);
        while let Some(oldest) = self.oldest_first.front()
            && (self.oldest_first.len() >= MOST_KEYS || self.generation(*oldest, now).is_none())
        {
            self.ended.remove(oldest);
            self.oldest_first.pop_front();
        }
        self.ended.insert(key, (generation, now));
        self.oldest_first.push_back(key);
    }

    pub(super) fn forget(&mut self, key: SessionKey) {
        if self.ended.remove(&key).is_some() {
            self.oldest_first.retain(|known| *known != key);
        }
    }

    /// How many times a session of this key was started, if the last one ended with its state and not too long ago.
    pub(super) fn generation(&self, key: SessionKey, now: Instant) -> Option<u64> {
        let (generation, at) = self.ended.get(&key)?;
        (now.saturating_duration_since(*at) < REMEMBERED_FOR).then_some(*generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KeyKind;
    use crate::session::Caller;

    fn key(number: usize) -> SessionKey {
        SessionKey::of(&KeyKind::Cookie, &number.to_be_bytes(), &Caller::default())
    }

    #[test]
    fn keys_are_remembered_for_a_while() {
        let (mut lost, begin) = (LostKeys::default(), tokio::time::Instant::now().into_std());
        assert_eq!(lost.generation(key(1), begin), None);
        lost.remember(key(1), 1, begin);
        lost.remember(key(2), 7, begin + REMEMBERED_FOR / 2);
        lost.remember(key(1), 2, begin + REMEMBERED_FOR / 2);
        let late = begin + REMEMBERED_FOR;
        assert_eq!((lost.generation(key(1), late), lost.generation(key(2), late)), (Some(2), Some(7)));
        lost.forget(key(1));
        lost.forget(key(3));
        assert_eq!((lost.generation(key(1), late), lost.generation(key(2), late)), (None, Some(7)));
        let too_late = late + REMEMBERED_FOR / 2;
        assert_eq!(lost.generation(key(2), too_late), None);
        lost.remember(key(3), 1, too_late);
        assert_eq!((lost.ended.len(), lost.oldest_first.len()), (1, 1));
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let (mut lost, begin) = (LostKeys::default(), tokio::time::Instant::now().into_std());
        for number in 0..MOST_KEYS + 10 {
            lost.remember(key(number), 1, begin);
            // What comes again is the newest.
            lost.remember(key(0), 1, begin);
        }
        assert_eq!((lost.ended.len(), lost.oldest_first.len()), (MOST_KEYS, MOST_KEYS));
        assert_eq!(lost.generation(key(1), begin), None);
        for number in [0, 11, MOST_KEYS + 9] {
            assert_eq!(lost.generation(key(number), begin), Some(1), "{number}");
        }
    }
}
