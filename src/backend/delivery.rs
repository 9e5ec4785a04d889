//! Delivers the messages of a server to the session: parsed, and with a permit.

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::AsyncRead;

use crate::frame::{self, FrameError, Incoming, Permit};
use crate::lines::{Line, LineReader};
use crate::link::{Inlet, LostMessage};

/// Reads messages as lines and delivers them to `inlet`, until there are no more.
pub(super) async fn deliver_lines(reader: impl AsyncRead + Unpin, limit: usize, inlet: Arc<dyn Inlet>) {
    let mut lines = LineReader::new(reader, limit, inlet.budget().buffer_charge());
    // An error is treated as the end of the stream: the task that watches the server reports how the server ended.
    while let Ok(Some(line)) = lines.next().await {
        match line {
            Line::Message { bytes, permit } => deliver(bytes, permit, None, &*inlet).await,
            Line::Lost { id, request, size, why } => {
                deliver_lost(LostMessage { id, request, size, why }, &*inlet).await;
            }
        }
    }
}

/// Parses one message and delivers it when it has a permit. `grown` is the permit under which the message was received,
/// and `on` the call on whose response stream it came.
pub(super) async fn deliver(bytes: Bytes, grown: Option<Permit>, on: Option<u64>, inlet: &dyn Inlet) {
    let size = bytes.len();
    deliver_parsed(frame::split(bytes), size, grown, on, inlet).await;
}

/// Delivers a message of `size` bytes that was parsed already. The parameters are as for [`deliver`].
pub(super) async fn deliver_parsed(
    received: Result<Incoming, FrameError>,
    size: usize,
    grown: Option<Permit>,
    on: Option<u64>,
    inlet: &dyn Inlet,
) {
    let (received, permit) = inlet.budget().let_in(received, size, grown, inlet.answers()).await;
    inlet.deliver(received, permit, on);
}

/// Reports a message that was not kept.
pub(super) async fn deliver_lost(message: LostMessage, inlet: &dyn Inlet) {
    let permit = inlet.budget().unreadable(inlet.answers()).await;
    inlet.lost(message, permit);
}
