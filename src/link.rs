//! The contract between a session and its servers: what a session sends, what comes back, and how a link ends.
//!
//! A session knows of a backend what stands here, and a backend of a session likewise. The session opens a link with a
//! [`LinkContext`] and hands it each message as a [`MessageToServer`]; the link tells the session's [`LinkEvents`] what
//! its server says, and in the end how it ended ([`LinkExit`]).

use std::borrow::Borrow;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::budget::{Backlog, Budget, Held};
use crate::frame::{FrameError, Incoming, LostMessage, Permit, Wire};

/// How a server process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this exit status.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
    /// The process closed its input or output, or does not read; or the server is not a process.
    Closed,
}

/// How a link ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkExit {
    /// The server was there, and is gone.
    Exited {
        /// How it ended.
        exit: Exit,
        /// The last lines of its stderr, oldest first, with configured secrets masked.
        stderr: Vec<String>,
    },
    /// The server could not be started or reached.
    Failed {
        /// Why, in words for the person who configured it.
        reason: String,
    },
    /// The server may still be there, but what it knew of this session is lost: it has forgotten the session, or the
    /// connection that was the session has broken.
    Lost {
        /// How that came to be known.
        reason: String,
    },
}

/// Why one request of a link that goes on has no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestFailure {
    /// The call never reached the server, so it had no effect.
    Unreachable {
        /// Why.
        reason: String,
    },
    /// The connection broke before the answer came, and the answer cannot be fetched any more: the call may have had
    /// its effect.
    Broken {
        /// How.
        reason: String,
    },
    /// The server refused the request with an HTTP status, and said nothing that is JSON-RPC.
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the server said, cut short.
        reason: String,
    },
    /// The server wants other credentials (HTTP 401 or 403).
    Unauthorized {
        /// The HTTP status.
        status: u16,
        /// The server's `WWW-Authenticate`.
        challenge: Option<String>,
        /// Whose credentials were refused: those that the client sent, or those that the operator configured.
        whose: CredentialsOwner,
        /// What is to be done about it.
        reason: String,
    },
    /// The answer is larger than the limit, compressed or not.
    TooLarge {
        /// How large it is at least, in bytes.
        size: usize,
    },
    /// The rest of the answer did not come for a while, and the memory that it took was needed for others.
    Stalled,
    /// What came back is no answer.
    BadAnswer {
        /// What it is.
        reason: String,
    },
}

/// Whose credentials a request carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialsOwner {
    /// The client's own: they came with its request, and it can do something about them.
    Client,
    /// Those that the operator configured, or none.
    Operator,
}

/// What a message to a server is, for links that treat messages differently and need not read them for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The handshake's request, with this id.
    Initialize(u64),
    /// The end of the handshake.
    Initialized,
    /// Any other request, with this id.
    Request(u64),
    /// The notification that withdraws the request with this id. A link to a server that is told in another way, such as by
    /// closing the stream of the request, does that in place of sending it.
    Cancel(u64),
    /// Any other notification.
    Notification,
    /// Responses to the server's requests.
    Response,
}

/// A message on its way to a server.
#[derive(Debug)]
pub(crate) struct MessageToServer {
    /// The bytes, with the headers that go along with them ([`Wire::headers`]).
    pub wire: Wire,
    pub purpose: Purpose,
    /// What it holds of the bytes that all sessions have in common, until the link has taken it.
    pub held: Option<Held>,
    /// Counts a response until it is written: a server that asks without end and reads no response is given up.
    #[expect(dead_code, reason = "counted, not read")]
    pub response: Option<Arc<()>>,
}

impl Borrow<Wire> for MessageToServer {
    fn borrow(&self) -> &Wire {
        &self.wire
    }
}

/// What one link needs to run.
pub(crate) struct LinkContext {
    /// The session's name, for logs.
    pub name: Arc<str>,
    /// The server's name, for logs.
    pub server: Arc<str>,
    /// A folder that this link may make for its server, and removes at its end.
    pub scratch: PathBuf,
    /// The largest message, in bytes.
    pub message_size: usize,
    /// Where the server's messages go.
    pub link_events: Arc<dyn LinkEvents>,
    /// What goes to the server. When it ends, so does the link.
    pub outgoing: mpsc::Receiver<MessageToServer>,
    /// What this session may have under way to the server.
    pub outgoing_budget: Budget,
    /// What waits in `outgoing`, and in the link itself, for a server that does not read.
    pub backlog: Backlog,
    /// Notified when the server has read next to nothing for a while and others need the memory of what waits for it.
    pub stalled: Arc<Notify>,
    /// Ends the link: gently first, then for certain.
    pub stop: CancellationToken,
}

/// Where a link delivers what its server says.
pub(crate) trait LinkEvents: Send + Sync {
    /// What this session may have under way from its servers. A message is let in by it before it is delivered.
    fn budget(&self) -> &Budget;
    /// What this session may have under way to its servers, with the responses that sessile itself gives them.
    fn answers(&self) -> &Budget;
    /// Messages of the server, in the order in which they came. `on` is the call whose response stream they came on,
    /// where the transport knows; 0, the number of no call, where they came on a stream on which no call is answered.
    /// `permit` is to be dropped as soon as the session has dealt with the messages ([`Budget::let_in`]).
    fn deliver(&self, frames: Result<Incoming, FrameError>, permit: Option<Permit>, on: Option<u64>);
    /// A request has no response, and will have none; the link goes on.
    fn failed(&self, number: u64, failure: RequestFailure);
    /// A message that was not kept and is gone.
    fn lost(&self, message: LostMessage, permit: Permit);
    /// The server runs under this process id.
    fn started(&self, pid: u32);
    /// The server is gone. Nothing follows.
    fn closed(&self, exit: LinkExit);
}

/// What opens links to one server.
pub(crate) trait LinkOpener: Send + Sync {
    /// Runs one link to its end: connects, carries messages both ways, and calls [`LinkEvents::closed`] last.
    fn run(self: Arc<Self>, context: LinkContext) -> BoxFuture<'static, ()>;
    /// What the server is, for listings and logs: its program or URL, without secrets.
    fn describe(&self) -> String;
    /// The headers, by name, of a client's request that are to go along with its messages.
    fn forwards(&self) -> Vec<String> {
        Vec::new()
    }
    /// Whether its links make the scratch folders that they are given.
    fn makes_scratch(&self) -> bool {
        false
    }
}
