//! The requests of a server that have no response yet, each with the call on whose stream it came.
//!
//! A server that asks on the stream of a call waits for the response before it answers the call. If the response cannot
//! be delivered, that call has to fail, or it would wait for ever.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::frame::{Frame, Id, Incoming, Kind, Wire, split};

/// Most requests that are remembered: the oldest ones are forgotten first.
const MAX_OPEN_SERVER_REQUESTS: usize = 1024;
/// The longest response that is parsed for the id of the request that it answers, in bytes.
const MAX_READ_RESPONSE: usize = 1024 * 1024;

/// The open requests of one link's server.
#[derive(Default)]
pub(super) struct OpenServerRequests(Mutex<VecDeque<(Id, u64)>>);

impl OpenServerRequests {
    fn open(&self) -> MutexGuard<'_, VecDeque<(Id, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the message with the call on whose stream it came, if it is a request.
    pub(super) fn note(&self, frame: &Frame, call: u64) {
        if let (Kind::Request, Some(id)) = (frame.kind(), frame.id()) {
            let mut open = self.open();
            if open.len() >= MAX_OPEN_SERVER_REQUESTS {
                open.pop_front();
            }
            open.push_back((id, call));
        }
    }

    /// Forgets the requests of a call that is over.
    pub(super) fn forget_call(&self, call: u64) {
        self.open().retain(|(_, on)| *on != call);
    }

    /// Forgets the requests that these responses answer, and returns the calls on whose streams they came.
    pub(super) fn take_answered(&self, responses: &Wire) -> Vec<u64> {
        if responses.len() > MAX_READ_RESPONSE || self.open().is_empty() {
            return Vec::new();
        }
        let ids: Vec<_> = match split(responses.clone_parts().into_bytes()) {
            Ok(Incoming::One(frame)) => frame.id().into_iter().collect(),
            Ok(Incoming::Batch(frames)) => frames.iter().flatten().filter_map(Frame::id).collect(),
            Err(_) => Vec::new(),
        };
        let mut open = self.open();
        let find = |id: &Id| open.iter().position(|(asked, _)| asked == id);
        let places: Vec<_> = ids.iter().filter_map(find).collect();
        let calls = places.iter().map(|place| open[*place].1).collect();
        open.retain(|(asked, _)| !ids.contains(asked));
        calls
    }
}
