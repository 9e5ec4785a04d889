//! Where each link of a session is in its life. This is the one place that records whether a server has answered the
//! handshake, with one server as with several.
//!
//! ```text
//!            `initialize`                its result
//!   New ───────────────────▶ Initializing ─────────▶ Ready
//!    ▲                         │                       │
//!    │ the client tries again  ▼ an error              │
//!    └───────────────────── Refused                    │
//!   any ─▶ Gone   the link has closed  ◀───────────────┘
//! ```

use std::sync::Arc;

use serde_json::Value;
use smallvec::SmallVec;

use crate::error::ProxyError;
use crate::frame::Frame;
use crate::link::LinkExit;
use crate::mcp;

/// Which of a session's links. Every session has one to each server, in the order of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LinkId(pub u16);

/// A few links.
pub(crate) type LinkIds = SmallVec<[LinkId; 4]>;

/// The longest protocol version, as JSON. Those that there are have twelve bytes.
const LONGEST_VERSION: usize = 64;

/// The largest result of `initialize` that is kept, in bytes: it is kept as long as the session lives. Of a larger one,
/// only the members are kept that a client cannot do without.
const LARGEST_KEPT_RESULT: usize = 16 * 1024;

/// What a server has, by its capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a capability of its own")]
pub(crate) struct ServerCapabilities {
    pub tools: bool,
    pub prompts: bool,
    pub resources: bool,
    /// Whether the server lists its tasks.
    pub tasks: bool,
    pub logging: bool,
    pub tools_list_changed: bool,
    pub prompts_list_changed: bool,
    pub resources_list_changed: bool,
}

impl ServerCapabilities {
    pub(crate) fn of(capabilities: &Value) -> Self {
        let has = |name: &str| capabilities.get(name).is_some_and(Value::is_object);
        let list_changed = |name: &str| capabilities[name]["listChanged"] == Value::Bool(true);
        Self {
            tools: has("tools"),
            prompts: has("prompts"),
            resources: has("resources"),
            tasks: capabilities["tasks"].get("list").is_some_and(Value::is_object),
            logging: has("logging"),
            tools_list_changed: list_changed("tools"),
            prompts_list_changed: list_changed("prompts"),
            resources_list_changed: list_changed("resources"),
        }
    }

    /// The `list_changed` notifications of the lists that the server has.
    pub(crate) fn list_changed_methods(self) -> impl Iterator<Item = &'static str> {
        let all = [
            (self.tools, mcp::TOOLS_LIST_CHANGED),
            (self.prompts, mcp::PROMPTS_LIST_CHANGED),
            (self.resources, mcp::RESOURCES_LIST_CHANGED),
        ];
        all.into_iter().filter_map(|(has, method)| has.then_some(method))
    }
}

/// The protocol version that a request or a result names, as `place` is `params` or `result`. A longer text than any
/// version is ignored, because it may be kept as long as the session lives.
pub(crate) fn protocol_version(frame: &Frame, place: &str) -> Option<String> {
    let raw = frame.lookup(&[place, "protocolVersion"]).ok().flatten()?;
    if raw.len() <= LONGEST_VERSION { serde_json::from_slice(raw).ok() } else { None }
}

/// The result of `initialize` as far as it is kept for clients that join the session; `None` if even the least of it is
/// too large.
pub(crate) fn kept_result(result: &[u8]) -> Option<Arc<[u8]>> {
    if result.len() <= LARGEST_KEPT_RESULT {
        return Some(result.into());
    }
    let mut members: serde_json::Map<String, Value> = serde_json::from_slice(result).ok()?;
    members.retain(|name, _| matches!(name.as_str(), "protocolVersion" | "capabilities" | "serverInfo"));
    let least = Value::Object(members).to_string();
    (least.len() <= LARGEST_KEPT_RESULT).then(|| least.into_bytes().into())
}

/// What a server has answered to `initialize`.
#[derive(Debug, Clone, Default)]
pub(crate) struct InitializeAnswer {
    /// The result as the server wrote it, as far as it is kept ([`kept_result`]): a client that joins a living session
    /// is answered with it.
    pub result: Option<Arc<[u8]>>,
    /// What the server has; `None` if its answer does not say so in a form that can be read. Only a server that is
    /// alone in its session may answer so.
    pub capabilities: Option<ServerCapabilities>,
}

impl InitializeAnswer {
    /// Reads the response to `initialize` of one of several servers; `None` if its result is not an object. The whole
    /// result comes with it, to be merged with those of the others.
    pub(crate) fn read(frame: &Frame) -> Option<(Self, Value)> {
        let raw = frame.result()?;
        let result: Value = serde_json::from_slice(raw).ok()?;
        if !result.is_object() {
            return None;
        }
        let capabilities = Some(ServerCapabilities::of(&result["capabilities"]));
        Some((Self { result: kept_result(raw), capabilities }, result))
    }

    /// Reads the response to `initialize` of a server that is alone in its session. Its client reads the result itself,
    /// so here it may be anything.
    pub(crate) fn read_alone(frame: &Frame) -> Self {
        let result = frame.result().unwrap_or_default();
        let capabilities = match frame.lookup(&["result", "capabilities"]) {
            Ok(Some(raw)) if raw.len() <= LARGEST_KEPT_RESULT => {
                serde_json::from_slice(raw).ok().as_ref().map(ServerCapabilities::of)
            }
            Ok(None) if result.starts_with(b"{") => Some(ServerCapabilities::default()),
            Ok(_) | Err(_) => None,
        };
        Self { result: kept_result(result), capabilities }
    }
}

/// Where a link is in its life; see the diagram at the top of this file.
#[derive(Debug, Clone, Default)]
pub(crate) enum LinkPhase {
    /// The server has not been sent `initialize`.
    #[default]
    New,
    /// The server was sent `initialize`, and has not answered it.
    Initializing,
    Ready(InitializeAnswer),
    /// The server has answered `initialize` with an error, or in no form that can be used.
    Refused(ProxyError),
    /// The link has closed. `answer` is what the server had answered to `initialize`, if it had.
    Gone {
        exit: LinkExit,
        answer: Option<InitializeAnswer>,
    },
}

impl LinkPhase {
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self, Self::Ready(_))
    }

    pub(crate) fn is_initializing(&self) -> bool {
        matches!(self, Self::Initializing)
    }

    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. })
    }

    /// What the server has answered to `initialize`, also if it is gone by now.
    pub(crate) fn answer(&self) -> Option<&InitializeAnswer> {
        match self {
            Self::Ready(answer) => Some(answer),
            Self::Gone { answer, .. } => answer.as_ref(),
            Self::New | Self::Initializing | Self::Refused(_) => None,
        }
    }

    /// What the server has, if it has said so.
    pub(crate) fn known_capabilities(&self) -> Option<ServerCapabilities> {
        self.answer().and_then(|answer| answer.capabilities)
    }

    /// What the server has; nothing as long as it has not said so.
    pub(crate) fn capabilities(&self) -> ServerCapabilities {
        self.known_capabilities().unwrap_or_default()
    }
}

/// How far the servers' handshake has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HandshakeStage {
    /// The servers were not sent `initialize`, or have refused.
    NotBegun,
    UnderWay,
    Done,
}

/// The phases of all links of a session.
#[derive(Debug)]
pub(crate) struct LinkPhases(SmallVec<[LinkPhase; 1]>);

impl LinkPhases {
    pub(crate) fn new(count: usize) -> Self {
        Self((0..count).map(|_| LinkPhase::New).collect())
    }

    pub(crate) fn get(&self, link: LinkId) -> &LinkPhase {
        self.0.get(usize::from(link.0)).unwrap_or(&LinkPhase::New)
    }

    pub(crate) fn set(&mut self, link: LinkId, phase: LinkPhase) {
        if let Some(known) = self.0.get_mut(usize::from(link.0)) {
            *known = phase;
        }
    }

    /// The link has closed. Returns the phase that it was in before.
    pub(crate) fn close(&mut self, link: LinkId, exit: LinkExit) -> LinkPhase {
        let before = self.0.get_mut(usize::from(link.0)).map(std::mem::take).unwrap_or_default();
        self.set(link, LinkPhase::Gone { exit, answer: before.answer().cloned() });
        before
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (LinkId, &LinkPhase)> {
        let numbered = |(index, phase)| (LinkId(u16::try_from(index).unwrap_or(u16::MAX)), phase);
        self.0.iter().enumerate().map(numbered)
    }

    /// The links whose servers have answered the handshake and are still there.
    pub(crate) fn ready(&self) -> LinkIds {
        self.iter().filter(|(_, phase)| phase.is_ready()).map(|(link, _)| link).collect()
    }

    pub(crate) fn any_ready(&self) -> bool {
        self.0.iter().any(LinkPhase::is_ready)
    }

    pub(crate) fn any_initializing(&self) -> bool {
        self.0.iter().any(LinkPhase::is_initializing)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::link::Exit;

    fn answer(result: &str) -> Option<(InitializeAnswer, Value)> {
        InitializeAnswer::read(&Frame::parse(format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#)).unwrap())
    }

    #[test]
    fn capabilities_are_read() {
        let capabilities =
            json!({ "tools": { "listChanged": true }, "resources": {}, "tasks": { "list": {} }, "prompts": null });
        let read = ServerCapabilities::of(&capabilities);
        assert!(read.tools && read.resources && read.tasks && !read.prompts && !read.logging);
        assert!(read.tools_list_changed && !read.resources_list_changed);
        let methods: Vec<_> = read.list_changed_methods().collect();
        assert_eq!(methods, ["notifications/tools/list_changed", "notifications/resources/list_changed"]);
        assert_eq!(ServerCapabilities::of(&Value::Null), ServerCapabilities::default());
    }

    #[test]
    fn the_answer_is_kept_within_a_bound() {
        let (kept, result) = answer(r#"{"capabilities":{"logging":{}},"x":1}"#).unwrap();
        assert!(kept.capabilities.unwrap().logging);
        assert_eq!(kept.result.as_deref(), Some(br#"{"capabilities":{"logging":{}},"x":1}"#.as_slice()));
        assert_eq!(result["x"], 1);
        let (kept, _) = answer(&format!(r#"{{"x":"{}"}}"#, "x".repeat(LARGEST_KEPT_RESULT))).unwrap();
        assert_eq!(kept.result.as_deref(), Some(b"{}".as_slice()), "the rest is too large");
        assert!(answer("[]").is_none());
    }

    #[test]
    fn the_answer_of_a_single_server_may_be_anything() {
        let read = |result: &str| {
            let frame = Frame::parse(format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#)).unwrap();
            InitializeAnswer::read_alone(&frame)
        };
        let odd = read(r#"{"x":1e999,"capabilities":{"tools":{}}}"#);
        assert!(odd.result.is_some() && odd.capabilities.unwrap().tools);
        assert_eq!(read(r#"{"capabilities":{"x":1e999}}"#).capabilities, None);
        assert_eq!(read("7").capabilities, None);
        assert_eq!(read("{}").capabilities, Some(ServerCapabilities::default()));
    }

    #[test]
    fn the_diagram() {
        let link = LinkId(1);
        let mut links = LinkPhases::new(2);
        assert!(matches!(links.get(link), LinkPhase::New) && !links.any_initializing());
        links.set(link, LinkPhase::Initializing);
        assert!(links.any_initializing() && !links.any_ready());
        links.set(link, LinkPhase::Refused(ProxyError::NotReady));
        assert!(!links.any_initializing() && !links.any_ready());
        links.set(link, LinkPhase::Initializing);
        links.set(link, LinkPhase::Ready(answer(r#"{"capabilities":{"tools":{}}}"#).unwrap().0));
        assert_eq!(links.ready().as_slice(), [link]);
        let exit = LinkExit::Exited { exit: Exit::Closed, stderr: Vec::new() };
        assert!(links.close(link, exit.clone()).is_ready());
        assert!(links.get(link).is_gone() && links.get(link).capabilities().tools && !links.any_ready());
        assert!(matches!(links.close(LinkId(0), exit), LinkPhase::New));
        assert!(links.get(LinkId(0)).answer().is_none());
        links.set(LinkId(7), LinkPhase::Initializing);
        assert!(matches!(links.get(LinkId(7)), LinkPhase::New), "a link that there is not");
    }
}
