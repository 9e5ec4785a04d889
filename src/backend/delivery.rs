//! Delivers the messages of a server to the session: parsed, and with a permit.

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::AsyncRead;

use crate::frame::{self, FrameError, Incoming, LostMessage, Permit};
use crate::lines::{Line, LineReader};
use crate::link::LinkEvents;

/// Reads messages as lines and delivers them to `link_events`, until there are no more.
pub(super) async fn deliver_lines(reader: impl AsyncRead + Unpin, limit: usize, link_events: Arc<dyn LinkEvents>) {
    let mut lines = LineReader::new(reader, limit, link_events.budget().buffer_charge());
    // An error is treated as the end of the stream: the task that watches the server reports how the server ended.
    while let Ok(Some(line)) = lines.next().await {
        match line {
            Line::Message { bytes, permit } => deliver(bytes, permit, None, &*link_events).await,
            Line::Lost(message) => deliver_lost(message, &*link_events).await,
        }
    }
}

/// Parses one message and delivers it when it has a permit. `grown` is the permit under which the message was received,
/// and `on` the call on whose response stream it came.
pub(super) async fn deliver(bytes: Bytes, grown: Option<Permit>, on: Option<u64>, link_events: &dyn LinkEvents) {
    let size = bytes.len();
    deliver_parsed(frame::split(bytes), size, grown, on, link_events).await;
}

/// Delivers a message of `size` bytes that was parsed already. The parameters are as for [`deliver`].
pub(super) async fn deliver_parsed(
    received: Result<Incoming, FrameError>,
    size: usize,
    grown: Option<Permit>,
    on: Option<u64>,
    link_events: &dyn LinkEvents,
) {
    let (received, permit) = link_events.budget().let_in(received, size, grown, link_events.answers()).await;
    link_events.deliver(received, permit, on);
}

/// Reports a message that was not kept.
pub(super) async fn deliver_lost(message: LostMessage, link_events: &dyn LinkEvents) {
    let permit = link_events.budget().unreadable(link_events.answers()).await;
    link_events.lost(message, permit);
}
