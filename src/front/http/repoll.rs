//! Polls a connection's future again at once if it has woken itself while it ran.
//!
//! A task that is woken while it runs goes to the back of its queue, and another thread is woken to look for work,
//! which often takes the task away. hyper does that to itself with every request that has a body, because both ends of
//! the body are one task. Polling again at once was part of what brought the cost of a call from 75 to 20 us.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// How often a future is polled in a row before other tasks get their turn.
const MOST_ROUNDS: usize = 8;

const WAITING: u8 = 0;
const POLLING: u8 = 1;
const WOKEN: u8 = 2;

/// A future that is polled again at once if it has woken itself, up to [`MOST_ROUNDS`] times.
pub(super) struct RepollOnSelfWake<F> {
    future: Pin<Box<F>>,
    wakes: Arc<SelfWakes>,
    waker: Waker,
}

/// The waker that the future gets: it tells wakes during a poll from all others, which go to the task.
struct SelfWakes {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Wake for SelfWakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(WOKEN, Ordering::AcqRel) == WAITING {
            self.task.wake();
        }
    }
}

impl<F> RepollOnSelfWake<F> {
    pub(super) fn new(future: F) -> Self {
        let wakes = Arc::new(SelfWakes { state: AtomicU8::new(WAITING), task: AtomicWaker::new() });
        Self { future: Box::pin(future), waker: wakes.clone().into(), wakes }
    }
}

impl<F: Future> Future for RepollOnSelfWake<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        this.wakes.task.register(context.waker());
        for _ in 0..MOST_ROUNDS {
            // A swap, not a store: the poll has to see everything that was written before the last wake.
            this.wakes.state.swap(POLLING, Ordering::AcqRel);
            if let Poll::Ready(output) = this.future.as_mut().poll(&mut Context::from_waker(&this.waker)) {
                return Poll::Ready(output);
            }
            let still = this.wakes.state.compare_exchange(POLLING, WAITING, Ordering::AcqRel, Ordering::Acquire);
            if still.is_ok() {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use tokio::time::{sleep, timeout};

    use super::*;

    /// Wakes itself so often, then is done.
    async fn restless(times: usize) {
        for _ in 0..times {
            let mut woken = false;
            poll_fn(|context| {
                if std::mem::replace(&mut woken, true) {
                    return Poll::Ready(());
                }
                context.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        }
    }

    /// How often the task of a future is polled until the future is done.
    async fn polls(future: impl Future<Output = ()>) -> usize {
        let count = AtomicUsize::new(0);
        let mut future = std::pin::pin!(future);
        let counted = poll_fn(|context| {
            count.fetch_add(1, Ordering::Relaxed);
            future.as_mut().poll(context)
        });
        timeout(Duration::from_secs(60), counted).await.unwrap();
        count.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn a_wake_of_its_own_is_another_round() {
        assert_eq!(polls(restless(3)).await, 4);
        assert_eq!(polls(RepollOnSelfWake::new(restless(3))).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn others_get_their_turn() {
        assert_eq!(polls(RepollOnSelfWake::new(restless(MOST_ROUNDS * 3))).await, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wake_from_elsewhere_comes_through() {
        assert_eq!(polls(RepollOnSelfWake::new(sleep(Duration::from_secs(5)))).await, 2);
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let waiting = tokio::spawn(RepollOnSelfWake::new(receiver));
        tokio::task::yield_now().await;
        sender.send(7).unwrap();
        assert_eq!(waiting.await.unwrap().unwrap(), 7);
    }
}
