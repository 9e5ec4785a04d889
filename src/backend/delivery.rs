//! Reads the lines of a server, takes them apart, and delivers them to the session.

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::AsyncRead;

use crate::frame::{self, FrameError, Incoming, Permit};
use crate::lines::{Line, LineReader};
use crate::link::{Inlet, LostMessage};

/// Carries the server's messages to `inlet` until there are no more.
pub(super) async fn deliver_lines(reader: impl AsyncRead + Unpin, limit: usize, inlet: Arc<dyn Inlet>) {
    let mut lines = LineReader::new(reader, limit, inlet.budget().growth());
    // An error in reading is the end of reading: how the server ended is told by whoever watches it.
    while let Ok(Some(line)) = lines.next().await {
        match line {
            Line::Message { bytes, permit } => deliver(bytes, permit, None, &*inlet).await,
            Line::Lost { id, request, size, why } => {
                deliver_lost(LostMessage { id, request, size, why }, &*inlet).await
            }
        }
    }
}

/// Takes one message apart and hands it on when it has its permit. `grown` is the one that it was received with, and `on`
/// the call whose response stream it came on.
pub(super) async fn deliver(bytes: Bytes, grown: Option<Permit>, on: Option<u64>, inlet: &dyn Inlet) {
    let size = bytes.len();
    deliver_parsed(frame::split(bytes), size, grown, on, inlet).await;
}

/// As [`deliver`], for what was taken apart already and has `size` bytes.
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

/// Tells of a message that was not kept.
pub(super) async fn deliver_lost(message: LostMessage, inlet: &dyn Inlet) {
    let permit = inlet.budget().unreadable(inlet.answers()).await;
    inlet.lost(message, permit);
}
