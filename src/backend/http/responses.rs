//! Which message is the response to a call, where servers do not say it as JSON-RPC has it. Pure.

use bytes::Bytes;

use super::rules;
use crate::frame::{Frame, Id, Incoming, split};

/// An error that does not say what it answers, with the id of the call that it came for.
pub(super) fn with_call_id(frame: &Frame, id: &Id) -> Option<Bytes> {
    if !frame.is_error() || frame.id().is_some() {
        return None;
    }
    Some(frame.splice().set(&["id"], id.raw()).ok()?.finish().into_bytes())
}

/// The JSON-RPC error in the body of a 404, if it is the answer to this request, by its id, and not word of a session that is
/// not known. `None` for the id stands for that of sessile's own ping.
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

/// The JSON-RPC error in the body of a refusal, as the answer to this call; `None` if it is none.
pub(super) fn json_rpc_error(body: &Bytes, call: u64) -> Option<Bytes> {
    let Ok(Incoming::One(frame)) = split(body.clone()) else { return None };
    if !frame.is_error() {
        return None;
    }
    if has_id(&frame, call) {
        return Some(frame.bytes().clone());
    }
    // Some servers put in what they like; it came with this call and answers no other.
    let id = Id::number(call);
    Some(frame.splice().set(&["id"], id.raw()).ok()?.finish().into_bytes())
}

/// Whether the id of the message is this number, however the server spells it.
pub(super) fn has_id(frame: &Frame, call: u64) -> bool {
    frame.id().is_some_and(|id| id.as_u64() == Some(call))
}
