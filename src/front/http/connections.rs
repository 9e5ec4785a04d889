//! The connections of one listener: which of them are idle, and which are closed when file descriptors run short.
//!
//! A connection is idle while no request is in flight on it: before the first request, between two requests, and while
//! only a part of the next one's headers has come. The task that serves a connection holds its [`ConnectionActivity`].

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio_util::sync::CancellationToken;

/// The most file descriptors that idle connections must leave free, for new clients and for the pipes and sockets of
/// servers.
const MOST_FREE_DESCRIPTORS: u64 = 256;

/// All connections of a listener.
#[derive(Debug, Clone, Default)]
pub(super) struct Connections {
    idle: Arc<Mutex<IdleConnections>>,
    closing: CancellationToken,
}

/// The idle connections, in the order in which they became idle.
#[derive(Debug, Default)]
struct IdleConnections {
    next: u64,
    waiting: BTreeMap<u64, CancellationToken>,
}

impl Connections {
    fn idle(&self) -> MutexGuard<'_, IdleConnections> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a new connection, which is idle.
    pub(super) fn register(&self) -> Arc<ConnectionActivity> {
        let activity = ConnectionActivity {
            connections: self.clone(),
            requests: AtomicUsize::new(0),
            place: Mutex::new(None),
            close: self.closing.child_token(),
        };
        activity.mark_idle();
        Arc::new(activity)
    }

    /// Asks up to `count` idle connections to close, the longest idle first. Returns how many were asked.
    pub(super) fn give_way(&self, count: usize) -> usize {
        let mut idle = self.idle();
        let longest = std::iter::from_fn(|| idle.waiting.pop_first()).take(count);
        longest.inspect(|(_, close)| close.cancel()).count()
    }

    /// Asks all connections to close, each of them after the request in flight on it is answered.
    pub(super) fn close(&self) {
        self.closing.cancel();
    }
}

/// Whether a connection is idle or busy, and whether it was asked to close.
#[derive(Debug)]
pub(super) struct ConnectionActivity {
    connections: Connections,
    requests: AtomicUsize,
    /// The connection's number among the idle ones; `None` while it is busy.
    place: Mutex<Option<u64>>,
    close: CancellationToken,
}

impl ConnectionActivity {
    /// Notes that a request has come. The connection is busy until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> RequestGuard {
        if self.requests.fetch_add(1, Ordering::AcqRel) == 0 {
            self.mark_busy();
        }
        RequestGuard(self.clone())
    }

    pub(super) fn is_idle(&self) -> bool {
        self.requests.load(Ordering::Acquire) == 0
    }

    /// Resolves when the connection was asked to close.
    pub(super) async fn asked_to_close(&self) {
        self.close.cancelled().await;
    }

    fn place(&self) -> MutexGuard<'_, Option<u64>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark_idle(&self) {
        let mut idle = self.connections.idle();
        idle.next += 1;
        let place = idle.next;
        idle.waiting.insert(place, self.close.clone());
        *self.place() = Some(place);
    }

    fn mark_busy(&self) {
        let mut idle = self.connections.idle();
        if let Some(place) = self.place().take() {
            idle.waiting.remove(&place);
        }
    }
}

impl Drop for ConnectionActivity {
    fn drop(&mut self) {
        self.mark_busy();
    }
}

/// A request that is not answered to its end. Its handler holds this, and then the body of the response.
#[derive(Debug)]
pub(super) struct RequestGuard(Arc<ConnectionActivity>);

impl Clone for RequestGuard {
    fn clone(&self) -> Self {
        self.0.requests.fetch_add(1, Ordering::AcqRel);
        Self(self.0.clone())
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        if self.0.requests.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.mark_idle();
        }
    }
}

/// The body of a response, which keeps its connection busy until it was sent as a whole or dropped.
#[derive(Debug)]
pub(super) struct TrackedBody {
    body: Body,
    _request: RequestGuard,
}

impl TrackedBody {
    pub(super) fn new(body: Body, request: RequestGuard) -> Self {
        Self { body, _request: request }
    }
}

impl http_body::Body for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How many file descriptors a process may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Descriptors {
    /// From this number on descriptors run short, and idle connections are closed.
    pub(super) line: u64,
    pub(super) limit: u64,
}

impl Descriptors {
    fn of(limit: u64) -> Self {
        Self { line: limit - (limit / 4).min(MOST_FREE_DESCRIPTORS), limit }
    }

    /// The limit of this process; `None` on systems where it is not known.
    pub(super) fn of_process() -> Option<Self> {
        #[cfg(target_os = "linux")]
        return rustix::process::getrlimit(rustix::process::Resource::Nofile).current.map(Self::of);
        #[cfg(not(target_os = "linux"))]
        None
    }

    /// How many connections have to close for the one that has this descriptor. A new descriptor gets the lowest free
    /// number, so all below it are in use.
    pub(super) fn missing_for(self, descriptor: u64) -> usize {
        usize::try_from((descriptor + 1).saturating_sub(self.line)).unwrap_or(usize::MAX)
    }

    /// How many connections have to close when there is no descriptor left.
    pub(super) fn reserve(self) -> usize {
        usize::try_from(self.limit - self.line).unwrap_or(usize::MAX).max(1)
    }
}

/// Whether a connection could not be accepted because the process or the system has no file descriptor left.
pub(super) fn is_out_of_descriptors(error: &std::io::Error) -> bool {
    // EMFILE and ENFILE, which have the same numbers on all unix systems; WSAEMFILE.
    let codes: &[i32] = if cfg!(windows) { &[10024] } else { &[24, 23] };
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_idle_for_longest_gives_way_first() {
        let connections = Connections::default();
        let activities: Vec<_> = (0..4).map(|_| connections.register()).collect();
        // The first one has become idle again after all others; the second is busy.
        drop(activities[0].begin());
        let busy = activities[1].begin();
        let left = || activities.iter().map(|activity| activity.close.is_cancelled()).collect::<Vec<_>>();
        assert_eq!(connections.give_way(1), 1);
        assert_eq!(left(), [false, false, true, false]);
        assert_eq!(connections.give_way(10), 2);
        assert_eq!(left(), [true, false, true, true]);
        assert_eq!(connections.give_way(1), 0, "who is busy stays");
        drop(busy);
        assert_eq!(connections.give_way(1), 1);
        assert_eq!(left(), [true; 4]);
    }

    #[test]
    fn a_connection_is_idle_when_all_its_requests_are_answered() {
        let connections = Connections::default();
        let activity = connections.register();
        let (one, two) = (activity.begin(), activity.begin());
        drop(one);
        assert!(!activity.is_idle() && connections.give_way(1) == 0);
        let answer = TrackedBody::new(Body::empty(), two);
        assert!(!activity.is_idle());
        drop(answer);
        assert!(activity.is_idle());
        drop(activity);
        assert!(connections.idle().waiting.is_empty(), "who has left is not counted");
    }

    #[test]
    fn all_are_asked_to_leave_at_the_end() {
        let connections = Connections::default();
        let (idle, busy) = (connections.register(), connections.register());
        let _request = busy.begin();
        connections.close();
        assert!(idle.close.is_cancelled() && busy.close.is_cancelled());
        assert!(connections.register().close.is_cancelled());
    }

    #[test]
    fn where_descriptors_run_short() {
        for (limit, line, reserve) in [(256, 192, 64), (1024, 768, 256), (1_000_000, 999_744, 256), (3, 3, 1)] {
            let descriptors = Descriptors::of(limit);
            assert_eq!((descriptors.line, descriptors.reserve()), (line, reserve));
            assert_eq!([line - 1, line, line + 4].map(|number| descriptors.missing_for(number)), [0, 1, 5]);
        }
    }

    #[cfg(unix)]
    #[test]
    fn which_errors_are_a_want_of_descriptors() {
        let of = |code| is_out_of_descriptors(&std::io::Error::from_raw_os_error(code));
        assert!(of(24) && of(23) && !of(103) && !is_out_of_descriptors(&std::io::Error::other("x")));
    }
}
