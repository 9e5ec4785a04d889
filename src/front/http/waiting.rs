//! Streams of HTTP+SSE whose clients have not sent `initialize` yet. There is no session behind them: whoever opens one and
//! says nothing more, as any web page can make a browser do, takes no place that a client needs.
//!
//! The table holds a bounded number of them. A stream ends when it is taken out, after a time, and with its client.

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
use crate::session::{Fresh, Refused, SessionHandle, SessionSecret, Stream, StreamKind};

/// Most streams that wait at once. When another one comes, the oldest gives way.
const MOST_STREAMS: usize = 128;
/// How long a client may hold its stream open before it sends `initialize`. The SDKs send it at once. A browser's
/// `EventSource` opens another stream by itself when one has ended, and never sends anything.
const INITIALIZE_WITHIN: Duration = Duration::from_secs(30);
/// Most bytes of errors that a client may leave unread before its session is open, and what one of them takes at least.
const MOST_UNREAD: usize = 32 * 1024;
const LEAST_CHARGE: usize = 1024;

/// All streams that wait for their clients' `initialize`.
#[derive(Debug, Default)]
pub(crate) struct WaitingStreams {
    streams: Mutex<StreamTable>,
}

#[derive(Debug, Default)]
struct StreamTable {
    /// The oldest first.
    all: VecDeque<Arc<WaitingClient>>,
    /// Whether the proxy shuts down.
    is_closed: bool,
}

/// A client that has opened its stream and not sent `initialize` yet.
#[derive(Debug)]
pub(super) struct WaitingClient {
    /// What it is found by: the secret that its stream has named, and its credentials.
    secret: SessionSecret,
    /// Whether it may be told what a server wrote on stderr.
    may_see_stderr: bool,
    /// Ends its connection if it does not read its session's messages while others need the memory.
    cut: CancellationToken,
    sender: mpsc::Sender<StreamItem>,
    unread: Arc<Semaphore>,
    session: OnceCell<SessionHandle>,
}

/// What goes out on a stream that waits.
#[derive(Debug)]
enum StreamItem {
    Error(Wire, OwnedSemaphorePermit),
    /// From here on it is the stream of this session.
    Session(Box<Stream>),
}

impl WaitingStreams {
    fn streams(&self) -> MutexGuard<'_, StreamTable> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new stream that waits. `None` if the proxy shuts down.
    pub(super) fn add(
        self: &Arc<Self>,
        secret: SessionSecret,
        may_see_stderr: bool,
        cut: CancellationToken,
        endpoint: &str,
        keep_alive: Duration,
    ) -> Option<WaitingBody> {
        // One message more than there are errors at most: the session.
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

    /// The client that holds this secret, if it has not opened its session yet.
    pub(super) fn find(&self, secret: SessionSecret) -> Option<Arc<WaitingClient>> {
        self.streams().all.iter().find(|client| client.secret == secret).cloned()
    }

    fn remove(&self, secret: SessionSecret) {
        self.streams().all.retain(|client| client.secret != secret);
    }

    /// Ends all streams that wait. None is taken from now on.
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

    /// The session of this client, which is opened with `open` if there is none yet. From then on its stream is the
    /// session's, and both end together.
    pub(super) async fn session(
        &self,
        waiting: &WaitingStreams,
        open: impl Future<Output = Result<Fresh, Refused>>,
    ) -> Result<SessionHandle, Refused> {
        let session = self.session.get_or_try_init(|| async {
            let (session, _) = open.await?.take().ok_or(Refused::Failed)?;
            let stream = session.open_stream(StreamKind::Sse, self.cut.clone());
            // If the client has left in the meantime, the stream is dropped here, and the session ends with it.
            let _ = self.sender.try_send(StreamItem::Session(Box::new(stream)));
            // Only now: until the session could be found, this is where its client was known.
            waiting.remove(self.secret);
            Ok(session)
        });
        session.await.cloned()
    }

    /// Tells the client something on its stream. False if it has left, or leaves too much unread.
    pub(super) fn send_error(&self, wire: Wire) -> bool {
        let size = u32::try_from(wire.len().max(LEAST_CHARGE)).unwrap_or(u32::MAX);
        let Ok(permit) = self.unread.clone().try_acquire_many_owned(size) else { return false };
        self.sender.try_send(StreamItem::Error(wire, permit)).is_ok()
    }
}

/// The stream of a client, as the body of a response: it begins by naming the URI that messages are posted to (2024-11-05,
/// basic/transports, "HTTP with SSE").
pub(super) struct WaitingBody {
    receiver: mpsc::Receiver<StreamItem>,
    ready: Option<Bytes>,
    keep_alive: Duration,
    keep_alive_timer: Pin<Box<Sleep>>,
    /// When the stream ends if its client has not sent `initialize` by then.
    initialize_timer: Pin<Box<Sleep>>,
    session: Option<Box<EventBody>>,
    place: TablePlace,
}

/// A place in the table, which is given back when the stream has ended.
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
    /// The next bytes before there is a session; `None` when the stream ends, and nothing once there is one.
    fn poll_before_session(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if let Some(bytes) = self.ready.take() {
                self.keep_alive_timer.as_mut().reset(Instant::now() + self.keep_alive);
                return Poll::Ready(Some(bytes));
            }
            match self.receiver.poll_recv(context) {
                Poll::Ready(Some(StreamItem::Error(wire, permit))) => {
                    let event = [b"event: message\ndata: ", &*wire.into_bytes(), b"\n\n"].concat();
                    self.ready = Some(with_charge(event.into(), Arc::new((Some(Permit::new(permit)), None))));
                }
                Poll::Ready(Some(StreamItem::Session(stream))) => {
                    self.session = Some(Box::new(EventBody::new(*stream, false, Vec::new(), self.keep_alive)));
                    return Poll::Ready(None);
                }
                // It was taken out of the table.
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending if self.initialize_timer.as_mut().poll(context).is_ready() => {
                    // What comes now comes too late: its sender must not count on this stream.
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
