//! The charge for the buffer of a message that is still being received: a body, a line or an event.

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ledger::GrowthKey;
use super::stalls::HolderKey;
use super::{Budget, OVERHEAD, SessionCharge, TicketWait, UNCHARGED_BUFFER};
use crate::frame::Permit;

/// The receiving of a message has to end: its sender stalled in the middle of it, and others wait for the bytes it
/// holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GaveWay;

/// A full buffer is doubled up to this size.
const DOUBLED_UP_TO: usize = 1024 * 1024;

/// The new capacity of a buffer of `capacity` bytes that has to hold `needed` bytes. Small buffers become a power of
/// two, because each step copies what is there. Above [`DOUBLED_UP_TO`] a buffer grows by a half, because all of it is
/// charged, and a sender may stop at any byte.
pub(crate) fn grown_capacity(capacity: usize, needed: usize) -> usize {
    if needed <= capacity {
        capacity
    } else if needed <= DOUBLED_UP_TO {
        needed.next_power_of_two()
    } else {
        needed.max(capacity + capacity / 2)
    }
}

/// From this size on the allocator maps every buffer by itself (the largest threshold of glibc's malloc).
const MAPPED_FROM: usize = 32 * 1024 * 1024;

/// The message in `buffer`, in memory of which at most an eighth is spare, and how many bytes that takes: the message
/// is charged for them.
///
/// Large buffers are copied rather than shrunk. glibc maps a buffer that is larger than any that was freed before. If
/// buffers were shrunk before they are freed, each of them would be mapped anew, and the page faults of that took as
/// long as the whole rest of a call of 1 MB.
pub(crate) fn fit_buffer(mut buffer: Vec<u8>) -> (Bytes, usize) {
    let spare = buffer.capacity() - buffer.len();
    if spare > buffer.capacity() / 8 {
        if (UNCHARGED_BUFFER..MAPPED_FROM).contains(&buffer.capacity()) {
            return (Bytes::copy_from_slice(&buffer), buffer.len());
        }
        buffer.shrink_to_fit();
    }
    let capacity = buffer.capacity();
    (buffer.into(), capacity)
}

/// The charge for the buffer of one message at a time, while the message is received. A buffer of up to
/// [`UNCHARGED_BUFFER`] bytes is not charged.
#[derive(Debug)]
pub(crate) struct BufferCharge {
    budget: Budget,
    charged: Option<ChargedBuffer>,
}

/// A buffer that is large enough to be charged.
#[derive(Debug)]
struct ChargedBuffer {
    growth: GrowthKey,
    holder: HolderKey,
    /// How many bytes it is charged for.
    bytes: usize,
    gave_way: CancellationToken,
}

impl Budget {
    /// The charge for the buffer of a reader, which receives one message after another.
    pub(crate) fn buffer_charge(&self) -> BufferCharge {
        BufferCharge { budget: self.clone(), charged: None }
    }
}

impl BufferCharge {
    /// Waits until a buffer of `capacity` bytes is charged. Nothing is lost if the future is dropped.
    pub(crate) async fn reach(&mut self, capacity: usize) {
        if capacity <= UNCHARGED_BUFFER || self.charged.as_ref().is_some_and(|grown| capacity <= grown.bytes) {
            return;
        }
        let account = &self.budget.0;
        let grown = self.charged.get_or_insert_with(|| begin(&self.budget));
        let (growth, holder) = (grown.growth, grown.holder);
        let asked = account.pool.with(|state| state.ledger.grow(growth, capacity));
        if let Err(ticket) = asked {
            let _excused = SenderExcused::new(&self.budget, holder);
            TicketWait { account, ticket: Some(ticket) }.await;
        }
        grown.bytes = account.pool.with(|state| {
            let held = state.ledger.held(growth);
            state.stalls.set_held(holder, held, Instant::now().into_std());
            // A message above the largest size is charged as the largest: its reader knows the limit, and ends it.
            held.max(capacity)
        });
    }

    /// Notes that the sender has sent `bytes`, and so is not stalled.
    pub(crate) fn received(&self, bytes: usize) {
        if let Some(grown) = &self.charged {
            let now = Instant::now().into_std();
            self.budget.0.pool.with(|state| state.stalls.moved(grown.holder, bytes, now));
        }
    }

    /// Resolves when the sender has stalled and other messages need the bytes; never while nothing is charged.
    pub(crate) async fn gave_way(&self) -> GaveWay {
        match &self.charged {
            Some(grown) => grown.gave_way.cancelled().await,
            None => std::future::pending().await,
        }
        GaveWay
    }

    /// Ends the charge of a message that is complete, in a buffer of `bytes`, and returns its permit. `None` if the
    /// buffer was not charged.
    pub(crate) fn finish(&mut self, bytes: usize) -> Option<Permit> {
        let ChargedBuffer { growth, holder, .. } = self.charged.take()?;
        let account = &self.budget.0;
        let (charge, give_way) = account
            .pool
            .with(|state| (state.ledger.finish(growth, bytes.saturating_add(OVERHEAD)), state.stalls.remove(holder)));
        drop(give_way);
        Some(SessionCharge { account: account.clone(), charge }.into_permit())
    }

    /// Gives back the charge of a message that was dropped.
    pub(crate) fn clear(&mut self) {
        if let Some(ChargedBuffer { growth, holder, .. }) = self.charged.take() {
            let give_way = self.budget.0.pool.with(|state| {
                state.ledger.abandon(growth);
                state.stalls.remove(holder)
            });
            drop(give_way);
        }
    }
}

impl Drop for BufferCharge {
    fn drop(&mut self) {
        self.clear();
    }
}

fn begin(budget: &Budget) -> ChargedBuffer {
    let gave_way = CancellationToken::new();
    let token = gave_way.clone();
    let asked = std::sync::Arc::new(move || token.cancel());
    let (growth, holder) = budget.0.pool.with(|state| {
        let growth = state.ledger.begin(budget.0.session);
        (growth, state.stalls.add(asked, Instant::now().into_std()))
    });
    ChargedBuffer { growth, holder, bytes: 0, gave_way }
}

/// While this lives, a sender does not count as stalled: its reader waits for a charge and does not read.
struct SenderExcused<'a> {
    budget: &'a Budget,
    holder: HolderKey,
}

impl<'a> SenderExcused<'a> {
    fn new(budget: &'a Budget, holder: HolderKey) -> Self {
        budget.0.pool.with(|state| state.stalls.excuse(holder, true, Instant::now().into_std()));
        Self { budget, holder }
    }
}

impl Drop for SenderExcused<'_> {
    fn drop(&mut self) {
        let holder = self.holder;
        self.budget.0.pool.with(|state| state.stalls.excuse(holder, false, Instant::now().into_std()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_doubled_and_then_grows_by_halves() {
        let cases = [
            (0, 1, 1),
            (4096, 4096, 4096),
            (4096, 4097, 8192),
            (10, 100_000, 131_072),
            (0, DOUBLED_UP_TO, DOUBLED_UP_TO),
            (DOUBLED_UP_TO, DOUBLED_UP_TO + 1, DOUBLED_UP_TO * 3 / 2),
            (DOUBLED_UP_TO, 3 * DOUBLED_UP_TO, 3 * DOUBLED_UP_TO),
        ];
        for (capacity, needed, expected) in cases {
            assert_eq!(grown_capacity(capacity, needed), expected, "{capacity} to {needed}");
        }
    }

    #[test]
    fn what_is_kept_is_little_larger_than_its_message() {
        for (length, capacity, stays) in [
            (0, 0, true),
            (900, 1000, true),
            (500, 1000, false),
            (950_000, DOUBLED_UP_TO, true),
            (600_000, DOUBLED_UP_TO, false),
        ] {
            let mut buffer = Vec::with_capacity(capacity);
            buffer.resize(length, b'x');
            let before = buffer.as_ptr();
            let (fitted, charged) = fit_buffer(buffer);
            assert_eq!(fitted.len(), length);
            if stays && length > 0 {
                assert_eq!(fitted.as_ptr(), before, "{length} of {capacity} bytes were copied");
            }
            // A `Bytes` that nobody else has is taken apart without a copy, so this is the buffer that it was in.
            let capacity_kept = Vec::from(fitted).capacity();
            assert_eq!(charged, capacity_kept, "{length} bytes");
            assert!(capacity_kept - length <= capacity_kept / 8, "{length} bytes in {capacity_kept}");
        }
    }
}
