//! Bodies in one piece: a request's, read up to the limit, and a response's, with the room that it takes.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use crate::error::Fault;
use crate::frame::Permit;

/// How long the rest of a body that is too large is read and thrown away: a client that is still sending would not see
/// the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The whole body. One that comes in a single piece is not copied.
pub(super) async fn read(headers: &HeaderMap, mut body: Body, limit: usize) -> Result<Bytes, Fault> {
    let announced =
        headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    if let Some(size) = announced.filter(|size: &usize| *size > limit) {
        discard(body).await;
        return Err(Fault::MessageTooLarge { limit, size });
    }
    let mut whole = BytesMut::new();
    let mut only = Bytes::new();
    while let Some(piece) = body.frame().await {
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
            drop(whole);
            discard(body).await;
            return Err(Fault::MessageTooLarge { limit, size });
        }
    }
    Ok(if whole.is_empty() { only } else { whole.freeze() })
}

async fn discard(mut body: Body) {
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    let _ = timeout(PATIENCE, rest).await;
}

/// A message as a whole response. The room that it takes is given back when its bytes have gone to the socket.
pub(super) struct Held {
    bytes: Bytes,
    _permit: Option<Permit>,
}

impl Held {
    pub(super) fn new(bytes: Bytes, permit: Option<Permit>) -> Self {
        Self { bytes, _permit: permit }
    }
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = std::mem::take(&mut self.bytes);
        Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}
