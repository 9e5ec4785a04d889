//! Finds the response to a call where servers depart from JSON-RPC: errors without an id, and errors in the bodies of
//! HTTP refusals. Pure.

use bytes::Bytes;

use super::rules;
use crate::frame::{Frame, Id, Incoming, split};

/// Gives an error that has no id the id of the call that it came for. Returns `None` for all other messages.
pub(super) fn with_call_id(frame: &Frame, id: &Id) -> Option<Bytes> {
    if !frame.is_error() || frame.id().is_some() {
        return None;
    }
    Some(frame.splice().set(&["id"], id.raw()).ok()?.finish().into_bytes())
}

/// Returns the JSON-RPC error in the body of a 404 if that error is the response to this call, and does not say that
/// the session is unknown. `None` stands for sessile's own ping.
pub(super) fn error_with_404(body: &Bytes, call: Option<u64>) -> Option<Bytes> {
    let Ok(Incoming::One(frame)) = split(body.clone()) else { return None };
    let found = frame.id()?;
    let same = match call {
        Some(call) => found.as_u64() == Some(call),
        None => found.to_text().as_deref() == Some("sessile-ping"),
    };
    let code = frame.lookup(&["error", "code"]).ok().flatten()?;
    let code = serde_json::from_slice::<i64>(code).ok()?;
    (frame.is_error() && same && rules::is_response_with_404(code)).then(|| frame.bytes().clone())
}

/// Returns the JSON-RPC error in the body of a refusal as the response to this call, if the body is one.
pub(super) fn json_rpc_error(body: &Bytes, call: u64) -> Option<Bytes> {
    let Ok(Incoming::One(frame)) = split(body.clone()) else { return None };
    if !frame.is_error() {
        return None;
    }
    if has_id(&frame, call) {
        return Some(frame.bytes().clone());
    }
    // Some servers put in `null` or an id of their own. The error came with this call, so it answers no other.
    let id = Id::number(call);
    Some(frame.splice().set(&["id"], id.raw()).ok()?.finish().into_bytes())
}

/// Whether the id of the message is this number, however the server spells it.
pub(super) fn has_id(frame: &Frame, call: u64) -> bool {
    frame.id().is_some_and(|id| id.as_u64() == Some(call))
}
