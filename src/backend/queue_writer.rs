//! Writes a session's queued messages to a server that reads lines, and drops what the server does not read when other
//! sessions need the memory.

use std::io;
use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Notify, mpsc};
use tracing::warn;

use crate::budget::Backlog;
use crate::lines::Unwritten;
use crate::link::{LinkEvents, MessageToServer, Purpose, RequestFailure};

/// The writer of one session's queue to one server.
pub(super) struct QueueWriter {
    pub queue: mpsc::Receiver<MessageToServer>,
    pub backlog: Backlog,
    /// Notified when the server is stalled and other sessions need the memory of the messages that wait for it.
    pub stalled: Arc<Notify>,
    pub link_events: Arc<dyn LinkEvents>,
}

impl QueueWriter {
    /// Writes messages as lines until the session has no more, or the server is gone. The permit of a message is given
    /// back when the message has been written.
    ///
    /// When the server is stalled, calls and notifications of which nothing was written are dropped, and the calls
    /// fail. If there are none, and a message that was begun holds the memory that others need, the server counts as
    /// gone.
    pub(super) async fn write<W: AsyncWrite + Unpin>(mut self, mut writer: W) -> io::Result<()> {
        let (mut unwritten, backlog) = (Unwritten::default(), self.backlog.clone());
        while unwritten.receive(&mut self.queue).await {
            // A notification from before these messages came is not about them.
            let _ = self.stalled.notified().now_or_never();
            while !unwritten.is_empty() {
                tokio::select! {
                    biased;
                    written = unwritten.write(&mut writer, |_, written| backlog.moved(written)) => written?,
                    () = self.stalled.notified() => self.give_way(&mut unwritten)?,
                }
            }
            writer.flush().await?;
        }
        Ok(())
    }

    fn give_way(&mut self, unwritten: &mut Unwritten<MessageToServer>) -> io::Result<()> {
        while let Ok(message) = self.queue.try_recv() {
            unwritten.push(message);
        }
        let dropped = unwritten.take(may_be_dropped);
        if dropped.is_empty() {
            return if unwritten.is_held() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) };
        }
        for message in dropped {
            fail_unsent(&message, &*self.link_events);
        }
        Ok(())
    }
}

impl Unwritten<MessageToServer> {
    /// Whether any message is charged to the pool of all sessions.
    fn is_held(&self) -> bool {
        self.iter().any(|message| message.held.is_some())
    }
}

/// Whether a message that was not sent yet may be dropped to give its memory to other sessions. A response or a message
/// of the handshake may not: the server or the session would wait for it for ever.
pub(super) fn may_be_dropped(message: &MessageToServer) -> bool {
    message.held.is_some() && matches!(message.purpose, Purpose::Request(_) | Purpose::Notification)
}

/// Reports that a message was dropped before anything of it was sent: its call fails.
pub(super) fn fail_unsent(message: &MessageToServer, link_events: &dyn LinkEvents) {
    match message.purpose {
        Purpose::Request(call) => {
            let reason = "it reads nothing, and other sessions needed the memory of the calls that wait for it: \
                          try again later";
            link_events.failed(call, RequestFailure::Unreachable { reason: reason.to_owned() });
        }
        purpose => warn!(?purpose, "a message for a backend that reads nothing was dropped"),
    }
}
