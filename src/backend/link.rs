//! A link over two streams of bytes with a message on each line.

use std::sync::Arc;

use tokio::io::AsyncRead;

use super::Inlet;
use crate::frame::{self, FrameError, Incoming, Kind};
use crate::lines::{Line, LineReader};

/// Carries the server's messages to `inlet` until there are no more.
pub(super) async fn read(reader: impl AsyncRead + Unpin, limit: usize, inlet: Arc<dyn Inlet>) {
    let mut lines = LineReader::new(reader, limit);
    // An error in reading is the end of reading: how the server ended is told by whoever watches it.
    while let Ok(Some(line)) = lines.next().await {
        match line {
            Line::Message(bytes) => deliver(bytes, None, &*inlet).await,
            Line::Oversized { id, request, size } => inlet.oversized(id, request, size),
        }
    }
}

/// Takes one message apart and hands it on, with the room it needs. `on` is the call whose response stream it came on.
pub(super) async fn deliver(bytes: bytes::Bytes, on: Option<u64>, inlet: &dyn Inlet) {
    let size = bytes.len();
    hand_on(frame::split(bytes), size, on, inlet).await;
}

/// As [`deliver`], for what was taken apart already and has `size` bytes.
pub(super) async fn hand_on(received: Result<Incoming, FrameError>, size: usize, on: Option<u64>, inlet: &dyn Inlet) {
    let received = match received {
        Ok(Incoming::One(frame)) => {
            let permit = match frame.kind() {
                // An answer must not wait for what is in front of it.
                Kind::Response => inlet.admit_now(size),
                Kind::Request | Kind::Notification => inlet.admit(size).await,
            };
            Ok(Incoming::One(frame.with_permit(permit)))
        }
        Ok(batch) => Ok(match inlet.admit(size).await {
            Some(permit) => batch.with_permit(permit),
            None => batch,
        }),
        Err(error) => Err(error),
    };
    inlet.deliver(received, on);
}
