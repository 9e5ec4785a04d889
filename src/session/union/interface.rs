//! What goes into a union, and what comes out.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ResultShape;
use crate::error::ProxyError;
use crate::frame::{Frame, Id, Permit, Wire, notification};
use crate::link::{LinkExit, Purpose};
use crate::mcp;
use crate::session::link_phase::{LinkId, LinkPhases};

/// Bytes of a frame, and what is to stand in their place.
pub(crate) type Edit = (Range<usize>, Vec<u8>);

/// Gives each request to a server a number of its own, in one series for all requests of a session.
#[derive(Debug, Default)]
pub(crate) struct RequestNumbers {
    last: u64,
}

impl RequestNumbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Whether a request had this number.
    pub(crate) fn was_given(&self, number: u64) -> bool {
        number > 0 && number <= self.last
    }
}

/// What can happen to a union.
#[derive(Debug)]
pub(crate) enum UnionInput {
    /// A request of the client, which has this number in the session.
    Request { number: u64, frame: Frame },
    /// The client request of this number will have no response: the client has cancelled it, or its time is over.
    Withdrawn { number: u64, cancellation: Cancellation },
    /// A notification of the client that is neither a cancellation nor progress on a server's request.
    Notification(Frame),
    /// A server's response to a sub-request.
    Response { link: LinkId, number: u64, frame: Frame },
    /// A sub-request has no response, and will have none; the link goes on.
    Failure { link: LinkId, number: u64, error: ProxyError },
    /// A link has closed. Its phase in [`LinkPhases`] says so already. `error` is what requests to it are told.
    LinkClosed { link: LinkId, error: ProxyError },
    /// A deadline may have come.
    Tick,
}

/// How servers are told that a request is withdrawn.
#[derive(Debug)]
pub(crate) enum Cancellation {
    /// As the client has said it, with the number of each sub-request in place of the client's id.
    ByClient(Frame),
    /// In sessile's own words.
    Because(&'static str),
}

impl Cancellation {
    /// The notification that withdraws the request of this number.
    pub(crate) fn notification(&self, number: u64) -> Wire {
        match self {
            Self::ByClient(frame) => frame.splice().cancelled_id(&Id::number(number)).finish(),
            Self::Because(reason) => {
                let params = serde_json::json!({ "requestId": number, "reason": reason }).to_string();
                notification(mcp::CANCELLED, Some(&params))
            }
        }
    }
}

/// What the session has to do for its union.
#[derive(Debug)]
pub(crate) enum UnionOutput {
    /// Forward the client request of this number to a server, with `edit` in it. `shape` says what its result names.
    Forward { number: u64, link: LinkId, frame: Frame, edit: Option<Edit>, shape: ResultShape },
    /// Send a server a message of the union's own.
    Send { link: LinkId, wire: Wire, purpose: Purpose },
    /// Respond to the client request with a result that was made here.
    Respond { number: u64, result: String, permit: Option<Permit> },
    /// Respond to the client request with what one server has answered to a sub-request.
    Relay { number: u64, frame: Frame },
    /// Respond to the client's `initialize`: the session is open.
    Open { number: u64, result: String, version: String },
    /// The client request fails.
    Fail { number: u64, error: ProxyError },
    /// Send the client a notification, as if this server had sent it.
    Notify { link: LinkId, wire: Wire },
    /// A server has answered the handshake: it is ready, or it has refused.
    HandshakeAnswered { link: LinkId, ready: bool },
    /// Tell whoever runs sessile something about a server.
    Warn { link: LinkId, text: String },
    /// No server is left, and none will come.
    End(LinkExit),
}

/// What the union sees of its session while it deals with one input.
pub(crate) struct UnionContext<'a> {
    pub now: Instant,
    /// How long the handshake, lists and discoveries wait for the slowest server.
    pub server_wait: Duration,
    /// The largest message, in bytes.
    pub message_size: usize,
    /// The session's name, for errors.
    pub session: &'a Arc<str>,
    /// How many times a session of its key was started, for errors.
    pub generation: u64,
    /// Whether errors may quote a server's stderr.
    pub expose_stderr: bool,
    pub numbers: &'a mut RequestNumbers,
    pub links: &'a mut LinkPhases,
}
