//! Several servers as one. Here every effect is a line with the whole message in it: `a>` went to server `a`, `1<` to
//! the client on stream 1.

mod any_order;
mod handshake;
mod lists;
mod lost;
mod messages;
mod routes;

use serde_json::{Value, json};

use super::*;

/// A session with servers `a`, `b` and so on, over stdio.
pub(super) struct UnionHarness {
    pub core: CoreHarness,
}

pub(super) const A: LinkId = LinkId(0);
pub(super) const B: LinkId = LinkId(1);
pub(super) const C: LinkId = LinkId(2);

pub(super) fn union_of(servers: Servers, limits: Limits) -> UnionHarness {
    let mut core = CoreHarness::new(limits.clone());
    core.state = State::new("s".into(), Arc::new(servers), limits, true, core.now);
    core.open(1, StreamKind::Duplex);
    UnionHarness { core }
}

pub(super) fn servers(names: &[&str], prefix: bool, prefix_uris: bool) -> Servers {
    Servers::new(names.iter().map(|name| ConfiguredServer::new(name, Filter::new())).collect(), prefix, prefix_uris)
}

impl UnionHarness {
    /// Two servers that have said nothing yet.
    fn new() -> Self {
        union_of(servers(&["a", "b"], true, false), limits())
    }

    /// After the handshake: all servers have everything.
    pub(super) fn open(servers: Servers) -> Self {
        Self::opened(servers, limits())
    }

    fn opened(servers: Servers, limits: Limits) -> Self {
        let links: Vec<_> = servers.links().collect();
        let mut session = union_of(servers, limits);
        session.client(r#"{"jsonrpc":"2.0","id":"i","method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#);
        for link in links {
            session.server(link, &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{}}}"#, 2 + link.0, everything()));
        }
        session.client(&tell("notifications/initialized"));
        // Whether they are two or three, the next call has number 5.
        for ping in session.core.state.union().server_count()..3 {
            session.asks(&ping.to_string(), "ping", "{}");
        }
        session
    }

    pub(super) fn event(&mut self, event: Event) -> Vec<String> {
        self.core.state.apply(event, self.core.now).into_iter().map(line).collect()
    }

    pub(super) fn client(&mut self, json: &str) -> Vec<String> {
        self.event(Event::FromClient {
            client: ClientId::FIRST,
            respond_on: RespondOn::Stream(StreamId(1)),
            frames: frame::split(String::from(json)),
        })
    }

    pub(super) fn server(&mut self, link: LinkId, json: &str) -> Vec<String> {
        self.event(Event::FromServer { link, on: None, frames: frame::split(String::from(json)) })
    }

    /// A request of the client, and what follows.
    pub(super) fn asks(&mut self, id: &str, method: &str, params: &str) -> Vec<String> {
        self.client(&request(id, method, params))
    }

    /// A server answers a request with a result.
    pub(super) fn answers(&mut self, link: LinkId, id: &str, result: &str) -> Vec<String> {
        self.server(link, &result_of(id, result))
    }

    fn exits(&mut self, link: LinkId) -> Vec<String> {
        self.event(Event::LinkClosed { link, exit: exited() })
    }

    pub(super) fn wait(&mut self, time: Duration) -> Vec<String> {
        let until = self.core.now + time;
        let mut lines = Vec::new();
        while let Some(due) = self.core.state.next_deadline(self.core.now).filter(|due| *due <= until) {
            self.core.now = self.core.now.max(due);
            lines.extend(self.event(Event::Tick));
            let next = self.core.state.next_deadline(self.core.now);
            assert!(next.is_none_or(|next| next > self.core.now), "a tick that changes nothing is due at once");
        }
        self.core.now = until;
        lines
    }

    /// Nothing is asked by anybody, and nothing waits.
    pub(super) fn is_quiet(&self) {
        assert_eq!((self.core.state.union().under_way(), self.core.state.requests_in_flight()), (0, 0));
    }
}

fn line(effect: Effect) -> String {
    let text = |wire: Wire| String::from_utf8(wire.into_bytes().to_vec()).unwrap();
    let letter = |link: LinkId| char::from(b'a' + u8::try_from(link.0).unwrap());
    match effect {
        Effect::ToServer { link, wire, .. } => format!("{}> {}", letter(link), text(wire)),
        Effect::ToClient { stream, wire, .. } => format!("{}< {}", stream.0, text(wire)),
        Effect::Warn { link, text } => format!("{}! {text}", letter(link)),
        other => show(other),
    }
}

/// The result of `initialize` of a server that can do everything.
pub(super) fn everything() -> String {
    let changing = json!({ "listChanged": true });
    json!({
        "protocolVersion": "2025-11-25",
        "capabilities": {
            "tools": changing, "prompts": changing, "resources": { "listChanged": true, "subscribe": true },
            "logging": {}, "completions": {}, "tasks": { "list": {} },
        },
        "serverInfo": { "name": "x", "version": "1" },
    })
    .to_string()
}

pub(super) fn request(id: &str, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
}

pub(super) fn result_of(id: &str, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

pub(super) fn notification(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#)
}

/// The message of the only line that begins like this.
pub(super) fn json_of(lines: &[String], begin: &str) -> Value {
    let mut found = lines.iter().filter_map(|line| line.strip_prefix(begin));
    let text = found.next().unwrap_or_else(|| panic!("no {begin} in {lines:?}"));
    assert!(found.next().is_none(), "more than one {begin} in {lines:?}");
    serde_json::from_str(text).unwrap()
}

/// Code and message of the error that the client is told.
pub(super) fn error_of(lines: &[String]) -> (i64, String) {
    let json = json_of(lines, "1< ");
    let error = &json["error"];
    (error["code"].as_i64().unwrap_or_else(|| panic!("{json}")), error["message"].as_str().unwrap().to_owned())
}
