//! Streams of HTTP+SSE whose clients have not sent `initialize` yet. They have no session: any web page can make a
//! browser open a stream and send nothing more, and such streams must not use up the sessions.
//!
//! That is why these streams and their time limit are here, in the front, while the core decides about all other streams
//! and times: a core belongs to a session, and before the client's first POST there is no session, so there is no core
//! that could hold a stream or tell it when its time is over.
//!
//! A table holds a bounded number of these streams. A stream ends when it is removed from the table, when its time is
//! over, or when its client leaves.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::CancellationToken;

use super::body::with_charge;
use super::events::EventBody;
use crate::frame::{Permit, Wire};
use crate::session::{Refused, SessionHandle, SessionSecret, StreamConnection, StreamKind, UnclaimedSession};

/// The most streams that wait at once. When another one comes, the oldest one ends.
const MOST_STREAMS: usize = 128;
/// How long a client may keep its stream open before it sends `initialize`. The SDKs send it at once. A browser's
/// `EventSource` never sends anything, and opens another stream by itself when one has ended.
const INITIALIZE_WITHIN: Duration = Duration::from_secs(30);
/// The most bytes of errors that a client may leave unread before its session is open, and the least that one error
/// counts.
const MOST_UNREAD: usize = 32 * 1024;
const LEAST_CHARGE: usize = 1024;

/// All streams that wait for their clients' `initialize`.
#[derive(Debug, Default)]
pub(crate) struct WaitingStreams {
    streams: Mutex<StreamTable>,
}

/// The table of the streams that wait.
#[derive(Debug, Default)]
struct StreamTable {
    /// The waiting clients, the oldest first.
    all: VecDeque<Arc<WaitingClient>>,
    /// Whether the proxy is shutting down.
    is_closed: bool,
}

/// A client that has opened its stream and not sent `initialize` yet.
#[derive(Debug)]
pub(super) struct WaitingClient {
    /// The secret in the URI that the stream has named, together with the client's credentials: a POST is matched by
    /// it.
    secret: SessionSecret,
    /// Whether the client may be told what a server wrote on stderr.
    may_see_stderr: bool,
    /// Ends the client's connection if it does not read its session's messages while others need the memory.
    cut: CancellationToken,
    sender: mpsc::Sender<WaitingItem>,
    /// The bytes of errors that the client may still leave unread.
    unread: Arc<Semaphore>,
    session: OnceCell<SessionHandle>,
}

/// An item for a stream that waits.
#[derive(Debug)]
enum WaitingItem {
    /// An error for the client.
    Error(Wire, OwnedSemaphorePermit),
    /// The session's own stream: from here on the response carries this.
    Session(Box<StreamConnection>),
}

impl WaitingStreams {
    fn streams(&self) -> MutexGuard<'_, StreamTable> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a stream that waits; `None` if the proxy is shutting down.
    pub(super) fn add(
        self: &Arc<Self>,
        secret: SessionSecret,
        may_see_stderr: bool,
        cut: CancellationToken,
        endpoint: &str,
        keep_alive: Duration,
    ) -> Option<WaitingBody> {
        // Room for as many errors as may be unread, and for the session.
        let (sender, receiver) = mpsc::channel(MOST_UNREAD / LEAST_CHARGE + 1);
        let unread = Arc::new(Semaphore::new(MOST_UNREAD));
        let client = WaitingClient { secret, may_see_stderr, cut, sender, unread, session: OnceCell::new() };
        let mut streams = self.streams();
        if streams.is_closed {
            return None;
        }
        if streams.all.len() >= MOST_STREAMS {
            streams.all.pop_front();
        }
        streams.all.push_back(Arc::new(client));
        drop(streams);
        Some(WaitingBody {
            receiver,
            ready: Some(format!("event: endpoint\ndata: {endpoint}\n\n").into()),
            keep_alive,
            keep_alive_timer: Box::pin(sleep(keep_alive)),
            initialize_timer: Box::pin(sleep(INITIALIZE_WITHIN)),
            session: None,
            place: TablePlace { waiting: self.clone(), secret },
        })
    }

    /// The client with this secret, if it has not opened its session yet.
    pub(super) fn find(&self, secret: SessionSecret) -> Option<Arc<WaitingClient>> {
        self.streams().all.iter().find(|client| client.secret == secret).cloned()
    }

    fn remove(&self, secret: SessionSecret) {
        self.streams().all.retain(|client| client.secret != secret);
    }

    /// Ends all streams that wait, and accepts no more.
    pub(crate) fn close(&self) {
        let mut streams = self.streams();
        streams.is_closed = true;
        streams.all.clear();
    }
}

impl WaitingClient {
    pub(super) fn may_see_stderr(&self) -> bool {
        self.may_see_stderr
    }

    /// The session of this client, which `open` opens or joins if it has none yet. From then on the client's stream and
    /// its place in the session end together.
    pub(super) async fn session(
        &self,
        waiting: &WaitingStreams,
        open: impl Future<Output = Result<UnclaimedSession, Refused>>,
    ) -> Result<SessionHandle, Refused> {
        let session = self.session.get_or_try_init(|| async {
            let (session, _) = open.await?.take().ok_or(Refused::Failed)?;
            let stream = session.open_stream(StreamKind::Sse, self.cut.clone());
            // If the client has left in the meantime, the stream is dropped here, and with it the client's place.
            let _ = self.sender.try_send(WaitingItem::Session(Box::new(stream)));
            // Removed only now that the session can be found: otherwise a POST could find neither.
            waiting.remove(self.secret);
            Ok(session)
        });
        session.await.cloned()
    }

    /// Sends the client an error on its stream; false if it has left, or leaves too much unread.
    pub(super) fn send_error(&self, wire: Wire) -> bool {
        let size = u32::try_from(wire.len().max(LEAST_CHARGE)).unwrap_or(u32::MAX);
        let Ok(permit) = self.unread.clone().try_acquire_many_owned(size) else { return false };
        self.sender.try_send(WaitingItem::Error(wire, permit)).is_ok()
    }
}

/// The stream of a client as the body of a response. Its first event names the URI that messages are posted to
/// (2024-11-05, basic/transports, "HTTP with SSE").
pub(super) struct WaitingBody {
    receiver: mpsc::Receiver<WaitingItem>,
    ready: Option<Bytes>,
    keep_alive: Duration,
    keep_alive_timer: Pin<Box<Sleep>>,
    /// Ends the stream if its client has not sent `initialize` in time.
    initialize_timer: Pin<Box<Sleep>>,
    session: Option<Box<EventBody>>,
    place: TablePlace,
}

/// Removes the stream from the table when the response is dropped.
struct TablePlace {
    waiting: Arc<WaitingStreams>,
    secret: SessionSecret,
}

impl Drop for TablePlace {
    fn drop(&mut self) {
        self.waiting.remove(self.secret);
    }
}

impl WaitingBody {
    /// The next bytes while there is no session; `None` when the stream ends or the session is there.
    fn poll_before_session(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if let Some(bytes) = self.ready.take() {
                self.keep_alive_timer.as_mut().reset(Instant::now() + self.keep_alive);
                return Poll::Ready(Some(bytes));
            }
            match self.receiver.poll_recv(context) {
                Poll::Ready(Some(WaitingItem::Error(wire, permit))) => {
                    let event = [b"event: message\ndata: ", &*wire.into_bytes(), b"\n\n"].concat();
                    self.ready = Some(with_charge(event.into(), Arc::new((Some(Permit::new(permit)), None))));
                }
                Poll::Ready(Some(WaitingItem::Session(stream))) => {
                    self.session = Some(Box::new(EventBody::new(*stream, false, Vec::new(), self.keep_alive)));
                    return Poll::Ready(None);
                }
                // The client was removed from the table.
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending if self.initialize_timer.as_mut().poll(context).is_ready() => {
                    // An `initialize` that comes now is too late: its sender must not be found in the table any more.
                    self.place.waiting.remove(self.place.secret);
                    self.receiver.close();
                }
                Poll::Pending => {
                    ready!(self.keep_alive_timer.as_mut().poll(context));
                    self.ready = Some(Bytes::from_static(b": keep-alive\n\n"));
                }
            }
        }
    }
}

impl Body for WaitingBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        if this.session.is_none()
            && let Some(bytes) = ready!(this.poll_before_session(context))
        {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        match &mut this.session {
            Some(session) => Pin::new(&mut **session).poll_frame(context),
            None => Poll::Ready(None),
        }
    }
}
