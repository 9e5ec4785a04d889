//! The errors that sessile itself sends to peers: what went wrong between a client and its server.
//!
//! A [`ProxyError`] is typed inside sessile and becomes a JSON-RPC error here, in one place. The texts name settings by
//! their names in the library, as in `max_sessions`, because not every program that embeds sessile has a command line.
//! Sessile's own codes are -31006 to -31021, outside of the range that JSON-RPC reserves: MCP says that new
//! implementations should not use -32000 to -32019, and keeps -32020 to -32099 for itself (2026-07-28, basic, "Error
//! codes"). -32001 for an unknown session is what the official SDKs use, and -32002 for a resource is MCP's own.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::frame::{FrameError, Id, Lost, Wire};
use crate::link::{CredentialsOwner, Exit, LinkExit, RequestFailure};

/// Sessile's own JSON-RPC error codes.
pub mod code {
    /// No session has that id, or it has ended (HTTP 404). The code that the official SDKs use for it.
    pub const SESSION_NOT_FOUND: i32 = -32001;
    /// The server exited; the session's state is lost.
    pub const BACKEND_EXITED: i32 = -31010;
    /// The server could not be started or reached.
    pub const BACKEND_UNAVAILABLE: i32 = -31011;
    /// The session ended while the call was in flight.
    pub const SESSION_ENDED: i32 = -31012;
    /// The state of a shared session was lost, and its servers were started anew.
    pub const STATE_LOST: i32 = -31021;
    /// There are as many sessions, or clients of a session, as there may be (HTTP 503).
    pub const SESSION_LIMIT: i32 = -31013;
    /// A message is larger than the limit (HTTP 413).
    pub const MESSAGE_TOO_LARGE: i32 = -31014;
    /// The rest of a message did not come in time (HTTP 408).
    pub const MESSAGE_STALLED: i32 = -31020;
    /// The server did not answer within the request timeout.
    pub const REQUEST_TIMEOUT: i32 = -31015;
    /// Sessile is shutting down and takes no new calls.
    pub const SHUTTING_DOWN: i32 = -31016;
    /// No client could be asked what a server's request asks. Sent to servers only.
    pub const UNDELIVERABLE: i32 = -31017;
    /// An answer was dropped before the client came back for it.
    pub const RESPONSE_DROPPED: i32 = -31018;
    /// Too many calls are in flight in this session.
    pub const TOO_MANY_CALLS: i32 = -31019;
    /// The server refused the request over HTTP.
    pub const BACKEND_REFUSED: i32 = -31008;
    /// The server wants other credentials (HTTP 401, where they are the client's own).
    pub const BACKEND_UNAUTHORIZED: i32 = -31007;
    /// The client has to show a token of its own, or another one (HTTP 401).
    pub const UNAUTHENTICATED: i32 = -31006;
    /// The server's message could not be understood.
    pub const BAD_SERVER_MESSAGE: i32 = -31009;
    /// The message is not valid JSON-RPC.
    pub const INVALID_REQUEST: i32 = -32600;
    /// There is no such method.
    pub const METHOD_NOT_FOUND: i32 = -32601;
    /// The parameters are not valid, or name a tool, a prompt, a task or a cursor that there is not.
    pub const INVALID_PARAMS: i32 = -32602;
    /// There is no such resource.
    pub const RESOURCE_NOT_FOUND: i32 = -32002;
}

/// Why a request gets an error instead of its real response.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error("the backend {} and the state of this session is lost: open a new session to go on{}", .exit.how(), stderr_suffix(.stderr))]
    BackendExited { exit: Exit, stderr: Vec<String>, session: Arc<str>, generation: u64 },
    #[error("the backend could not be started: {reason}{}", stderr_suffix(.stderr))]
    BackendUnavailable { reason: String, stderr: Vec<String> },
    #[error("the backend has lost the state of this session ({reason}): open a new session to go on")]
    BackendLost { reason: String, session: Arc<str>, generation: u64 },
    #[error("the backend could not be reached, so nothing was done: {reason}")]
    Unreachable { reason: String },
    #[error(
        "the connection to the backend broke before its answer was there, and the call may have been carried out: {reason}"
    )]
    Broken { reason: String },
    #[error("the backend refused the request with HTTP status {status}: {reason}")]
    Refused { status: u16, reason: String },
    #[error("the backend refused the credentials with HTTP status {status}: {reason}")]
    Unauthorized { status: u16, challenge: Option<String>, whose: CredentialsOwner, reason: String },
    #[error("the backend's answer cannot be understood: {reason}")]
    BadAnswer { reason: String },
    #[error(
        "the state of this session is lost: its servers were started anew (generation {generation}), and the next request goes to them"
    )]
    StateLost { generation: u64, session: Arc<str> },
    #[error("the session has ended ({reason}): open a new session to go on")]
    SessionEnded { reason: &'static str, session: Arc<str> },
    #[error(
        "there is no such session, or it has ended: to open a new one send `initialize` without an Mcp-Session-Id, or GET /sse again"
    )]
    SessionNotFound,
    #[error("there is no token in this request: send `Authorization: Bearer TOKEN`")]
    NoToken,
    #[error("the token is not known, or not any more: have the operator give you another one")]
    InvalidToken,
    #[error("all {limit} sessions are in use: try again later, or have the operator raise the setting `max_sessions`")]
    SessionLimit { limit: usize },
    #[error(
        "{limit} clients are attached to this session, each with an open stream: try again when some of them have left"
    )]
    ClientLimit { limit: usize },
    #[error(
        "the message has {size} bytes or more and the limit is {limit}: send less at once, or have the operator raise the setting `max_message_size`"
    )]
    MessageTooLarge { limit: usize, size: usize },
    #[error(
        "the rest of the message did not come in time, and other messages needed its memory: send the message again"
    )]
    MessageStalled,
    #[error("the backend did not answer within {} seconds, and the call was cancelled", .after.as_secs_f32())]
    RequestTimeout { after: Duration },
    #[error("the proxy is shutting down and takes no new calls: try again in a moment")]
    ShuttingDown,
    #[error("no client can be asked: none has an open stream that can carry the request")]
    Undeliverable,
    #[error("the answer was dropped before it was fetched: more than {limit} bytes were waiting for this client")]
    ResponseDropped { limit: usize },
    #[error("{limit} requests are in flight in this session already: wait for some of them to end")]
    TooManyCalls { limit: usize },
    #[error("a request with this id is in flight already: ids must be unique within a session")]
    DuplicateId,
    #[error("the session is initialized already: `initialize` may be sent once only")]
    AlreadyInitialized,
    #[error("the backend sent an answer that is not valid JSON-RPC: {0}")]
    BadServerMessage(FrameError),
    #[error("{0}")]
    Frame(FrameError),
    #[error("{}", shortened(.0))]
    InvalidRequest(String),
    #[error("method not found: {}", shortened(.0))]
    MethodNotFound(String),
    #[error("{}", shortened(.0))]
    InvalidParams(String),
    /// `hint` says what the client can do about it.
    #[error("unknown {noun}: {}{}", shortened(name), hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default())]
    Unknown { noun: &'static str, name: String, hint: Option<String> },
    #[error("{noun} {} is offered by {}: {remedy}", shortened(name), quoted_list(.servers))]
    Clash { noun: &'static str, name: String, servers: Vec<Arc<str>>, remedy: &'static str },
    #[error("it has not answered the handshake yet: try again in a moment")]
    NotReady,
    #[error("it refused the handshake: {0}")]
    HandshakeRefused(String),
    #[error("none of the servers could be opened: {}", text_of_each_server(.0))]
    NoServer(Vec<(Arc<str>, ProxyError)>),
    #[error("{method}: {} did not answer in time: try again later", quoted_list(.servers))]
    NoAnswer { method: &'static str, servers: Vec<Arc<str>> },
    /// An error of one of several servers.
    #[error("server `{server}`: {}", text_of_one_server(.error))]
    Of { server: Arc<str>, error: Box<ProxyError> },
}

/// The longest text of a peer that an error repeats, in bytes: the peer's message was charged once, and the repetition
/// is not.
const LONGEST_REPEATED_TEXT: usize = 1024;

fn shortened(text: &str) -> Cow<'_, str> {
    let end = (0..=LONGEST_REPEATED_TEXT.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    if end == text.len() { text.into() } else { format!("{}...", &text[..end]).into() }
}

fn quoted_list(servers: &[Arc<str>]) -> String {
    let quoted: Vec<_> = servers.iter().map(|server| format!("`{server}`")).collect();
    quoted.join(" and ")
}

fn text_of_each_server(errors: &[(Arc<str>, ProxyError)]) -> String {
    let each: Vec<_> =
        errors.iter().map(|(server, error)| format!("`{server}`: {}", text_of_one_server(error))).collect();
    each.join("; ")
}

/// The text of an error of one of several servers: the other servers go on, and so does the session.
fn text_of_one_server(error: &ProxyError) -> String {
    match error {
        ProxyError::BackendExited { exit, stderr, .. } => format!(
            "it {} and its state is lost: the other servers go on, open a new session to have it back{}",
            exit.how(),
            stderr_suffix(stderr)
        ),
        ProxyError::BackendLost { reason, .. } => format!(
            "it has lost the state of this session ({reason}): the other servers go on, open a new session to have it back"
        ),
        error => error.to_string(),
    }
}

fn stderr_suffix(stderr: &[String]) -> String {
    if stderr.is_empty() { String::new() } else { format!("; its last words: {}", stderr.join(" | ")) }
}

impl ProxyError {
    pub(crate) fn code(&self) -> i32 {
        match self {
            Self::BackendExited { .. } | Self::BackendLost { .. } => code::BACKEND_EXITED,
            Self::Refused { .. } => code::BACKEND_REFUSED,
            Self::Unauthorized { .. } => code::BACKEND_UNAUTHORIZED,
            Self::StateLost { .. } => code::STATE_LOST,
            Self::SessionEnded { .. } => code::SESSION_ENDED,
            Self::SessionNotFound => code::SESSION_NOT_FOUND,
            Self::NoToken | Self::InvalidToken => code::UNAUTHENTICATED,
            Self::SessionLimit { .. } | Self::ClientLimit { .. } => code::SESSION_LIMIT,
            Self::MessageTooLarge { .. } => code::MESSAGE_TOO_LARGE,
            Self::MessageStalled => code::MESSAGE_STALLED,
            Self::RequestTimeout { .. } => code::REQUEST_TIMEOUT,
            Self::ShuttingDown => code::SHUTTING_DOWN,
            Self::Undeliverable => code::UNDELIVERABLE,
            Self::ResponseDropped { .. } => code::RESPONSE_DROPPED,
            Self::TooManyCalls { .. } => code::TOO_MANY_CALLS,
            Self::BadServerMessage(_) | Self::BadAnswer { .. } => code::BAD_SERVER_MESSAGE,
            Self::Frame(error) => error.code(),
            Self::DuplicateId | Self::AlreadyInitialized | Self::InvalidRequest(_) => code::INVALID_REQUEST,
            Self::MethodNotFound(_) => code::METHOD_NOT_FOUND,
            Self::Unknown { noun: "resource" | "resource template", .. } => code::RESOURCE_NOT_FOUND,
            Self::InvalidParams(_) | Self::Unknown { .. } | Self::Clash { .. } => code::INVALID_PARAMS,
            Self::BackendUnavailable { .. }
            | Self::Unreachable { .. }
            | Self::Broken { .. }
            | Self::NotReady
            | Self::HandshakeRefused(_)
            | Self::NoServer(_)
            | Self::NoAnswer { .. } => code::BACKEND_UNAVAILABLE,
            Self::Of { error, .. } => error.code(),
        }
    }

    /// The `data` of the error, for programs: its `type` names which one it is.
    fn data(&self) -> Option<Value> {
        Some(match self {
            Self::BackendExited { exit, stderr, session, generation } => {
                let mut data = json!({
                    "type": "backend_exited", "session": &**session, "generation": generation, "stateLost": true, "exit": exit.to_json(),
                });
                if !stderr.is_empty() {
                    data["stderr"] = json!(stderr);
                }
                data
            }
            Self::BackendUnavailable { reason, stderr } => {
                let mut data = json!({ "type": "backend_unavailable", "reason": reason });
                if !stderr.is_empty() {
                    data["stderr"] = json!(stderr);
                }
                data
            }
            Self::BackendLost { reason, session, generation } => json!({
                "type": "backend_lost", "session": &**session, "generation": generation, "stateLost": true, "reason": reason,
            }),
            Self::Unreachable { reason } => json!({ "type": "backend_unreachable", "reason": reason, "sent": false }),
            Self::Broken { reason } => json!({ "type": "backend_connection_broken", "reason": reason, "sent": true }),
            Self::Refused { status, reason } => {
                json!({ "type": "backend_refused", "status": status, "reason": reason })
            }
            Self::Unauthorized { status, challenge, whose, .. } => json!({
                "type": "backend_unauthorized", "status": status, "wwwAuthenticate": challenge,
                "credentials": if *whose == CredentialsOwner::Client { "client" } else { "operator" },
            }),
            Self::StateLost { generation, session } => json!({
                "type": "state_lost", "session": &**session, "generation": generation, "stateLost": true,
            }),
            Self::SessionEnded { reason, session } => {
                json!({ "type": "session_ended", "session": &**session, "reason": reason })
            }
            Self::SessionNotFound => json!({ "type": "session_not_found" }),
            Self::NoToken | Self::InvalidToken => json!({ "type": "unauthenticated" }),
            Self::SessionLimit { limit } => json!({ "type": "session_limit", "limit": limit }),
            Self::ClientLimit { limit } => json!({ "type": "client_limit", "limit": limit }),
            Self::MessageTooLarge { limit, size } => {
                json!({ "type": "message_too_large", "limit": limit, "size": size })
            }
            Self::MessageStalled => json!({ "type": "message_stalled" }),
            Self::RequestTimeout { after } => {
                json!({ "type": "request_timeout", "afterMs": u64::try_from(after.as_millis()).unwrap_or(u64::MAX) })
            }
            Self::ShuttingDown => json!({ "type": "shutting_down" }),
            Self::Undeliverable => json!({ "type": "undeliverable" }),
            Self::ResponseDropped { limit } => json!({ "type": "response_dropped", "limit": limit }),
            Self::TooManyCalls { limit } => json!({ "type": "too_many_calls", "limit": limit }),
            Self::BadServerMessage(_) | Self::BadAnswer { .. } => json!({ "type": "bad_server_message" }),
            Self::Unknown { noun: "resource" | "resource template", name, .. } => json!({ "uri": shortened(name) }),
            Self::Unknown { .. }
            | Self::Frame(_)
            | Self::DuplicateId
            | Self::AlreadyInitialized
            | Self::InvalidRequest(_)
            | Self::InvalidParams(_)
            | Self::MethodNotFound(_) => return None,
            Self::Clash { servers, .. } => {
                json!({ "type": "clash", "servers": servers.iter().map(|server| &**server).collect::<Vec<_>>() })
            }
            Self::NotReady | Self::HandshakeRefused(_) => json!({ "type": "backend_unavailable" }),
            Self::NoAnswer { servers, .. } => {
                json!({ "type": "backend_unavailable", "servers": servers.iter().map(|server| &**server).collect::<Vec<_>>() })
            }
            Self::NoServer(each) => {
                let each = each.iter().map(|(server, error)| {
                    let mut data = error.data().unwrap_or_else(|| json!({}));
                    data["server"] = json!(&**server);
                    data["reason"] = json!(text_of_one_server(error));
                    data
                });
                json!({ "type": "backend_unavailable", "servers": each.collect::<Vec<_>>() })
            }
            Self::Of { server, error } => {
                let mut data = error.data().unwrap_or_else(|| json!({}));
                data["server"] = json!(&**server);
                data
            }
        })
    }

    /// What is said of a message that was not kept; `limit` is the largest size.
    pub(crate) fn from_lost(why: Lost, limit: usize, size: usize) -> Self {
        match why {
            Lost::Oversized => Self::MessageTooLarge { limit, size },
            Lost::Stalled => Self::MessageStalled,
        }
    }

    /// What a call is told that failed while its link goes on; `limit` is the largest size of a message.
    pub(crate) fn from_failure(failure: RequestFailure, limit: usize) -> Self {
        match failure {
            RequestFailure::Unreachable { reason } => Self::Unreachable { reason },
            RequestFailure::Broken { reason } => Self::Broken { reason },
            RequestFailure::Refused { status, reason } => Self::Refused { status, reason },
            RequestFailure::Unauthorized { status, challenge, whose, reason } => {
                Self::Unauthorized { status, challenge, whose, reason }
            }
            RequestFailure::TooLarge { size } => Self::MessageTooLarge { limit, size },
            RequestFailure::Stalled => Self::MessageStalled,
            RequestFailure::BadAnswer { reason } => Self::BadAnswer { reason },
        }
    }

    /// Whether the client can succeed with other credentials of its own.
    pub(crate) fn is_challenge(&self) -> bool {
        match self {
            Self::Of { error, .. } => error.is_challenge(),
            error => matches!(error, Self::Unauthorized { whose: CredentialsOwner::Client, .. }),
        }
    }

    /// The same error as one of several servers.
    pub(crate) fn of(self, server: Arc<str>) -> Self {
        Self::Of { server, error: Box::new(self) }
    }

    /// This error as JSON-RPC, in answer to the request `id`.
    pub(crate) fn to_wire(&self, id: Option<&Id>) -> Wire {
        let data = self.data().map(|data| data.to_string());
        crate::frame::error_response(id, self.code(), &self.to_string(), data.as_deref())
    }
}

impl Exit {
    fn how(self) -> String {
        match self {
            Self::Code(code) => format!("exited with status {code}"),
            Self::Signal(signal) => format!("exited on signal {signal}"),
            Self::Closed => "exited, or takes or gives no more messages,".to_owned(),
        }
    }

    fn to_json(self) -> Value {
        match self {
            Self::Code(code) => json!({ "code": code }),
            Self::Signal(signal) => json!({ "signal": signal }),
            Self::Closed => json!({}),
        }
    }
}

impl LinkExit {
    /// What requests in flight are told when a link of this session ends, with its generation. `opened` says whether the
    /// session was open, so that its state is lost.
    pub(crate) fn request_error(&self, label: (&Arc<str>, u64), opened: bool, expose_stderr: bool) -> ProxyError {
        let (session, generation) = label;
        let words = |stderr: &[String]| if expose_stderr { stderr.to_vec() } else { Vec::new() };
        match self {
            Self::Exited { exit, stderr } if opened => {
                ProxyError::BackendExited { exit: *exit, stderr: words(stderr), session: session.clone(), generation }
            }
            Self::Exited { exit, stderr } => {
                let reason = format!("it {} before the session was open", exit.how());
                ProxyError::BackendUnavailable { reason, stderr: words(stderr) }
            }
            Self::Lost { reason } if opened => {
                ProxyError::BackendLost { reason: reason.clone(), session: session.clone(), generation }
            }
            Self::Failed { reason } | Self::Lost { reason } => {
                ProxyError::BackendUnavailable { reason: reason.clone(), stderr: Vec::new() }
            }
        }
    }
}

#[cfg(test)]
mod tests;
