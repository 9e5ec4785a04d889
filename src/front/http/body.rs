//! Reads a request's body, up to the limit; and bytes that hold the room they take until they are written.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, EXPECT};
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use crate::error::Fault;
use crate::frame::Permit;
use crate::session::Budget;

/// How long the rest of a body that is too large is read and thrown away: a client that is still sending would not see
/// the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a client may be silent in the middle of a body: what has come of it is kept in the meantime.
const SILENCE: Duration = Duration::from_secs(60);

/// A body of no more bytes is read without asking for room: it costs about what its headers do, and answers and
/// cancellations, which must not wait, are hardly ever larger.
const SMALL: usize = 64 * 1024;

/// The whole body, and the part of `room` that it takes. One that comes in a single piece is not copied.
///
/// A large one is not read before there is room for it; where nobody has said how large it will be, that is room for the
/// largest.
pub(super) async fn read(
    headers: &HeaderMap,
    body: &mut Body,
    limit: usize,
    room: &Budget,
) -> Result<(Bytes, Option<Permit>), Fault> {
    let announced =
        headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    if let Some(size) = announced.filter(|size: &usize| *size > limit) {
        return Err(Fault::MessageTooLarge { limit, size });
    }
    let mut held = None;
    if let Some(size) = announced.filter(|size| *size > SMALL) {
        held = room.admit(size).await;
    }
    let mut whole = BytesMut::new();
    let mut only = Bytes::new();
    loop {
        let next = timeout(SILENCE, body.frame()).await;
        let next = next.map_err(|_| Fault::InvalidRequest("the body did not come: it was given up".to_owned()))?;
        let Some(piece) = next else { break };
        let piece = piece.map_err(|error| Fault::InvalidRequest(format!("the body ended early: {error}")))?;
        let Ok(bytes) = piece.into_data() else { continue };
        if whole.is_empty() && only.is_empty() {
            only = bytes;
        } else {
            if whole.is_empty() {
                whole.reserve(announced.unwrap_or(0).max(only.len() + bytes.len()));
                whole.extend_from_slice(&only);
            }
            whole.extend_from_slice(&bytes);
        }
        let size = whole.len().max(only.len());
        if size > limit {
            return Err(Fault::MessageTooLarge { limit, size });
        }
        if size > SMALL && held.is_none() {
            held = room.admit(limit).await;
        }
    }
    Ok((if whole.is_empty() { only } else { whole.freeze() }, held))
}

/// Reads what is left of a body, and throws it away.
pub(super) async fn discard(headers: &HeaderMap, body: &mut Body) {
    // A client that asked whether to send it has its answer in the response.
    if headers.contains_key(EXPECT) {
        return;
    }
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    let _ = timeout(PATIENCE, rest).await;
}

/// Bytes that hold something, such as the room that they take, until they have gone to the socket.
pub(super) fn holding(bytes: Bytes, held: impl Send + Sync + 'static) -> Bytes {
    struct Holding<T> {
        bytes: Bytes,
        _held: T,
    }
    impl<T> AsRef<[u8]> for Holding<T> {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }
    Bytes::from_owner(Holding { bytes, _held: held })
}
