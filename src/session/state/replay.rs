//! Messages that were sent on streams that can be resumed: kept for a while, within a bound in bytes.
//!
//! Of a message that is dropped for the bound the id is remembered, within a bound as well, so that a client which
//! comes back for it gets an error instead of nothing. A message that has merely grown old is forgotten.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::{ClientMessageKind, Keeper, StreamId};
use crate::frame::{Id, Wire};

/// What a kept message costs besides its bytes: its place here, that of its stream, and what allocators add.
pub(super) const OVERHEAD: usize = 256;
/// The most bytes that the memory of dropped messages takes; it is a fraction of the bound if that is small.
const DROPPED_BYTES: usize = 64 * 1024;
/// Up to this length a message is copied when it is kept. A slice would keep alive all that was read along with it.
const COPY_UP_TO: usize = 64 * 1024;
/// A queue that is larger than this gives back room that it does not need.
const ROOMY: usize = 64;

/// The streams of entries that are gone, each as often as it had some.
pub(super) type Released = SmallVec<[StreamId; 4]>;

#[derive(Debug)]
pub(super) struct Replay {
    kept: VecDeque<Kept>,
    kept_bytes: usize,
    dropped: VecDeque<Dropped>,
    dropped_bytes: usize,
    bound: usize,
    keep: Duration,
}

#[derive(Debug)]
struct Kept {
    stream: StreamId,
    event: u64,
    wire: Wire,
    kind: ClientMessageKind,
    at: Instant,
}

#[derive(Debug)]
struct Dropped {
    stream: StreamId,
    event: u64,
    kind: ClientMessageKind,
    at: Instant,
}

impl Dropped {
    fn cost(&self) -> usize {
        let ids = match &self.kind {
            ClientMessageKind::Response(ids) => ids.iter().map(|id| id.raw().len() + size_of::<Id>()).sum(),
            ClientMessageKind::ServerRequest(_) | ClientMessageKind::Notification => 0,
        };
        size_of::<Self>() + ids
    }
}

/// What a stream has to be told when it is taken up again.
#[derive(Debug, Default)]
pub(super) struct Resumed {
    /// Events that the client has not seen, in order.
    pub replay: Vec<(u64, Wire)>,
    /// What it has not seen and never will.
    pub dropped: Vec<ClientMessageKind>,
    /// How many entries of the stream are gone by this.
    pub released: usize,
}

impl Replay {
    pub(super) fn new(bound: usize, keep: Duration) -> Self {
        Self { kept: VecDeque::new(), kept_bytes: 0, dropped: VecDeque::new(), dropped_bytes: 0, bound, keep }
    }

    /// Keeps a message, at the cost of the oldest ones. One that is larger than the bound costs itself only.
    pub(super) fn keep(
        &mut self,
        stream: StreamId,
        event: u64,
        wire: &Wire,
        kind: ClientMessageKind,
        at: Instant,
        keeper: &Keeper,
    ) -> Released {
        let mut released = Released::new();
        let cost = wire.len() + OVERHEAD;
        let copy = if cost > self.bound { None } else { keeper.keep(cost, || compact(wire)) };
        let Some(wire) = copy else {
            self.remember(Dropped { stream, event, kind, at }, &mut released);
            return released;
        };
        self.kept_bytes += cost;
        self.kept.push_back(Kept { stream, event, wire, kind, at });
        while self.kept_bytes > self.bound
            && let Some(Kept { stream, event, wire, kind, at }) = self.kept.pop_front()
        {
            self.kept_bytes -= wire.len() + OVERHEAD;
            self.remember(Dropped { stream, event, kind, at }, &mut released);
        }
        released
    }

    /// Drops all that is kept, as if there were no more space for it.
    pub(super) fn drop_kept(&mut self) -> Released {
        let mut released = Released::new();
        self.kept_bytes = 0;
        for Kept { stream, event, kind, at, .. } in std::mem::take(&mut self.kept) {
            self.remember(Dropped { stream, event, kind, at }, &mut released);
        }
        released
    }

    fn remember(&mut self, dropped: Dropped, released: &mut Released) {
        if dropped.kind == ClientMessageKind::Notification {
            released.push(dropped.stream);
            return;
        }
        self.dropped_bytes += dropped.cost();
        self.dropped.push_back(dropped);
        while self.dropped_bytes > DROPPED_BYTES.min(self.bound)
            && let Some(oldest) = self.dropped.pop_front()
        {
            self.dropped_bytes -= oldest.cost();
            released.push(oldest.stream);
        }
    }

    /// What the client has not seen of a stream that it knows up to event `after`.
    pub(super) fn resume(&mut self, stream: StreamId, after: u64, keeper: &Keeper) -> Resumed {
        let mut resumed = Resumed::default();
        for kept in self.kept.iter().filter(|kept| kept.stream == stream && kept.event > after) {
            // The message is sent and kept at the same time, and either may last longer, so each has a permit.
            match keeper.keep(kept.wire.len() + OVERHEAD, || kept.wire.clone_parts()) {
                Some(wire) => resumed.replay.push((kept.event, wire)),
                None => resumed.dropped.push(kept.kind.clone()),
            }
        }
        let bytes = &mut self.dropped_bytes;
        self.dropped.retain(|dropped| {
            if dropped.stream != stream {
                return true;
            }
            *bytes -= dropped.cost();
            resumed.released += 1;
            if dropped.event > after {
                resumed.dropped.push(dropped.kind.clone());
            }
            false
        });
        resumed
    }

    /// Lets go of what is too old.
    pub(super) fn expire(&mut self, now: Instant) -> Released {
        let keep = self.keep;
        let mut released = Released::new();
        while self.kept.front().is_some_and(|kept| kept.at + keep <= now)
            && let Some(kept) = self.kept.pop_front()
        {
            self.kept_bytes -= kept.wire.len() + OVERHEAD;
            released.push(kept.stream);
        }
        // These are not quite in order of age, because a large message is dropped before older ones: it only lasts
        // longer.
        while self.dropped.front().is_some_and(|dropped| dropped.at + keep <= now)
            && let Some(dropped) = self.dropped.pop_front()
        {
            self.dropped_bytes -= dropped.cost();
            released.push(dropped.stream);
        }
        give_back(&mut self.kept);
        give_back(&mut self.dropped);
        released
    }

    /// When something is too old.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let kept = self.kept.front().map(|kept| kept.at);
        let dropped = self.dropped.front().map(|dropped| dropped.at);
        [kept, dropped].into_iter().flatten().min().map(|at| at + self.keep)
    }

    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.kept.capacity() + self.dropped.capacity()
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.kept_bytes + self.dropped_bytes
    }
}

/// The message with as little memory behind it as can be had at a small price.
pub(super) fn compact(wire: &Wire) -> Wire {
    if wire.len() > COPY_UP_TO {
        return wire.clone_parts();
    }
    match wire.parts() {
        [only] => Bytes::copy_from_slice(only).into(),
        parts => {
            let mut whole = BytesMut::with_capacity(wire.len());
            for part in parts {
                whole.extend_from_slice(part);
            }
            whole.freeze().into()
        }
    }
}

fn give_back<T>(queue: &mut VecDeque<T>) {
    if queue.capacity() > ROOMY && queue.len() < queue.capacity() / 4 {
        queue.shrink_to(queue.len() * 2);
    }
}

#[cfg(test)]
#[test]
fn the_overhead_is_what_is_charged() {
    assert!(size_of::<Kept>() <= OVERHEAD, "{}", size_of::<Kept>());
}
