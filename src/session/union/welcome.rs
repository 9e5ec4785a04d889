//! What several servers say in answer to `initialize`, as one answer.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::List;
use crate::frame::Frame;

/// The protocol versions with a handshake, oldest first.
const VERSIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

/// Most members of an object that the union has: of the result, of the capabilities, and of each that is united.
const MOST_MEMBERS: usize = 64;
/// Members for which there is room whatever else there is: those of the specification.
const OUR_MEMBERS: [&str; 11] = [
    "capabilities",
    "_meta",
    "tools",
    "prompts",
    "resources",
    "logging",
    "completions",
    "tasks",
    "experimental",
    "listChanged",
    "subscribe",
];
/// The longest version of the protocol, as JSON. Those that there are have twelve bytes.
const LONGEST_VERSION: usize = 64;
/// How deep objects are united; below, the first stays.
const DEEPEST: usize = 8;
/// Most instructions in all, in bytes. They go into the context of a model.
const LONGEST_INSTRUCTIONS: usize = 256 * 1024;

/// What a server can be asked, by its capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a capability of its own")]
pub(crate) struct Abilities {
    tools: bool,
    prompts: bool,
    resources: bool,
    tasks: bool,
    pub logging: bool,
    tells_tools: bool,
    tells_prompts: bool,
    tells_resources: bool,
}

impl Abilities {
    fn of(capabilities: &Value) -> Self {
        let has = |name: &str| capabilities.get(name).is_some_and(Value::is_object);
        let tells = |name: &str| capabilities[name]["listChanged"] == json!(true);
        Self {
            tools: has("tools"),
            prompts: has("prompts"),
            resources: has("resources"),
            tasks: capabilities["tasks"].get("list").is_some_and(Value::is_object),
            logging: has("logging"),
            tells_tools: tells("tools"),
            tells_prompts: tells("prompts"),
            tells_resources: tells("resources"),
        }
    }

    /// Whether it lists these.
    pub(crate) fn lists(self, list: List) -> bool {
        match list {
            List::Tools => self.tools,
            List::Prompts => self.prompts,
            List::Resources | List::Templates => self.resources,
            List::Tasks => self.tasks,
        }
    }

    /// Whether it says when that list has changed.
    pub(crate) fn tells(self, list: List) -> bool {
        match list {
            List::Tools => self.tells_tools,
            List::Prompts => self.tells_prompts,
            List::Resources | List::Templates => self.tells_resources,
            List::Tasks => false,
        }
    }

    /// The notifications that say that its lists have changed, for those that it has.
    pub(crate) fn changes(self) -> impl Iterator<Item = &'static str> {
        let all = [
            (self.tools, "notifications/tools/list_changed"),
            (self.prompts, "notifications/prompts/list_changed"),
            (self.resources, "notifications/resources/list_changed"),
        ];
        all.into_iter().filter_map(|(has, method)| has.then_some(method))
    }
}

/// The protocol version that a request or a result names, as `place` is `params` or `result`. What is too long to be one
/// is none: it may be kept as long as the session lives.
pub(crate) fn version_of(frame: &Frame, place: &str) -> Option<String> {
    let raw = frame.lookup(&[place, "protocolVersion"]).ok().flatten()?;
    if raw.len() <= LONGEST_VERSION { serde_json::from_slice(raw).ok() } else { None }
}

/// The one answer in the making.
#[derive(Debug, Default)]
pub(crate) struct Welcome {
    versions: Vec<String>,
    whole: Map<String, Value>,
    instructions: Vec<(Arc<str>, String)>,
    /// How long the instructions are, in bytes.
    length: usize,
}

impl Welcome {
    /// Adds a server's answer, and says what it can be asked. An answer that is not an object is refused.
    pub(crate) fn read(frame: &Frame) -> Option<(Abilities, Value)> {
        let result: Value = serde_json::from_slice(frame.result()?).ok()?;
        result.is_object().then(|| (Abilities::of(&result["capabilities"]), result))
    }

    /// Adds what that server said.
    pub(crate) fn add(&mut self, server: &Arc<str>, result: Value) {
        let Value::Object(result) = result else { return };
        for (key, value) in result {
            match (key.as_str(), value) {
                ("protocolVersion", Value::String(version)) if version.len() <= LONGEST_VERSION => {
                    self.versions.push(version);
                }
                ("instructions", Value::String(text)) if !text.trim().is_empty() => self.instruct(server, &text),
                ("protocolVersion" | "instructions" | "serverInfo", _) => {}
                (_, value) => unite_member(&mut self.whole, key, value, 0),
            }
        }
    }

    /// Adds a server's instructions, as far as there is room for them.
    fn instruct(&mut self, server: &Arc<str>, text: &str) {
        let text = text.trim();
        let room = LONGEST_INSTRUCTIONS - self.length;
        let end = (0..=room.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        let text = &text[..end];
        if !text.is_empty() {
            self.length += text.len();
            self.instructions.push((server.clone(), text.to_owned()));
        }
    }

    /// The result for a client that asked for this version. With `more`, some servers have not answered yet: they may
    /// offer anything.
    pub(crate) fn finish(mut self, asked: Option<&str>, more: bool) -> (String, String) {
        let known = asked.filter(|asked| VERSIONS.contains(asked)).map(str::to_owned);
        let newest = self.versions.into_iter().max();
        let version = known.or(newest).unwrap_or_else(|| VERSIONS[VERSIONS.len() - 1].to_owned());
        let mut capabilities = match self.whole.remove("capabilities") {
            Some(Value::Object(capabilities)) => capabilities,
            _ => Map::new(),
        };
        for name in ["tools", "prompts", "resources"] {
            if more {
                capabilities.entry(name).or_insert_with(|| json!({}));
            }
            if let Some(Value::Object(capability)) = capabilities.get_mut(name) {
                // A server that comes late or goes changes the union, whatever it says of its own list.
                capability.insert("listChanged".to_owned(), json!(true));
            }
        }
        self.whole.insert("capabilities".to_owned(), Value::Object(capabilities));
        self.whole.insert("protocolVersion".to_owned(), json!(version));
        self.whole.insert(
            "serverInfo".to_owned(),
            json!({ "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") }),
        );
        if !self.instructions.is_empty() {
            let each: Vec<_> = self.instructions.iter().map(|(server, text)| format!("# {server}\n\n{text}")).collect();
            self.whole.insert("instructions".to_owned(), json!(each.join("\n\n")));
        }
        (Value::Object(self.whole).to_string(), version)
    }
}

/// What either has: objects are united, booleans or-ed, and of anything else the first stays.
fn unite(into: &mut Value, from: Value, depth: usize) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) if depth < DEEPEST => {
            for (key, value) in from {
                unite_member(into, key, value, depth + 1);
            }
        }
        (Value::Bool(into), Value::Bool(from)) => *into |= from,
        (into @ Value::Null, from) => *into = from,
        _ => {}
    }
}

fn unite_member(into: &mut Map<String, Value>, key: String, value: Value, depth: usize) {
    if let Some(known) = into.get_mut(&key) {
        unite(known, value, depth);
    } else if into.len() < MOST_MEMBERS || OUR_MEMBERS.contains(&&*key) {
        // An object is taken over member by member: it may be as large as a message.
        let empty = if value.is_object() && depth < DEEPEST { json!({}) } else { Value::Null };
        unite(into.entry(key).or_insert(empty), value, depth);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn united(results: &[Value], asked: &str, more: bool) -> Value {
        let mut welcome = Welcome::default();
        for (position, result) in results.iter().enumerate() {
            let frame = json!({ "jsonrpc": "2.0", "id": 1, "result": result }).to_string();
            let (_, result) = Welcome::read(&Frame::parse(frame).unwrap()).unwrap();
            welcome.add(&format!("s{position}").into(), result);
        }
        let (json, version) = welcome.finish(Some(asked), more);
        let result: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(result["protocolVersion"], version);
        result
    }

    #[test]
    fn capabilities_are_united() {
        let results = [
            json!({ "capabilities": { "tools": {}, "resources": { "subscribe": false }, "experimental": { "a": 1, "b": [1] } } }),
            json!({ "capabilities": { "tools": { "listChanged": false, "x": "y" }, "resources": { "subscribe": true },
                "experimental": { "a": 2, "c": {} }, "completions": {} } }),
        ];
        let result = united(&results, "2025-06-18", false);
        assert_eq!(
            result["capabilities"],
            json!({
                "tools": { "listChanged": true, "x": "y" },
                "resources": { "subscribe": true, "listChanged": true },
                "experimental": { "a": 1, "b": [1], "c": {} },
                "completions": {},
            })
        );
        assert_eq!(result["serverInfo"]["name"], "sessile");
        assert_eq!(result.get("instructions"), None);
    }

    #[test]
    fn the_version_is_the_clients_if_there_is_such_a_one() {
        let results = [json!({ "protocolVersion": "2024-11-05" }), json!({ "protocolVersion": "2025-03-26" })];
        for (asked, expected) in [
            ("2025-11-25", "2025-11-25"),
            ("2024-11-05", "2024-11-05"),
            ("2026-07-28", "2025-03-26"),
            ("1", "2025-03-26"),
        ] {
            assert_eq!(united(&results, asked, false)["protocolVersion"], expected, "{asked}");
        }
        assert_eq!(united(&[json!({})], "1", false)["protocolVersion"], "2025-11-25");
    }

    #[test]
    fn instructions_have_headings_and_other_members_stay() {
        let results = [
            json!({ "instructions": " Be kind.\n", "x": 1, "_meta": { "a": 1 } }),
            json!({ "instructions": "  ", "x": 2 }),
            json!({ "instructions": "Be quick.", "_meta": { "a": 2, "b": 3 } }),
        ];
        let result = united(&results, "1", false);
        assert_eq!(result["instructions"], "# s0\n\nBe kind.\n\n# s2\n\nBe quick.");
        assert_eq!((&result["x"], &result["_meta"]), (&json!(1), &json!({ "a": 1, "b": 3 })));
    }

    #[test]
    fn what_is_no_object_is_no_capability() {
        let results = [json!({ "capabilities": "x" }), json!({ "capabilities": { "tools": 1 } })];
        assert_eq!(united(&results, "1", false)["capabilities"], json!({}));
        assert_eq!(united(&results[1..], "1", true)["capabilities"]["tools"], 1);
        assert!(Welcome::read(&Frame::parse(r#"{"jsonrpc":"2.0","id":1,"result":[]}"#).unwrap()).is_none());
    }

    #[test]
    fn who_comes_late_may_offer_anything() {
        let result = united(&[json!({ "capabilities": { "logging": {} } })], "1", true);
        let changes = json!({ "listChanged": true });
        assert_eq!(
            result["capabilities"],
            json!({ "logging": {}, "tools": changes, "prompts": changes, "resources": changes })
        );
    }

    #[test]
    fn abilities_are_read() {
        let capabilities =
            json!({ "tools": { "listChanged": true }, "resources": {}, "tasks": { "list": {} }, "prompts": null });
        let abilities = Abilities::of(&capabilities);
        let lists: Vec<_> = List::ALL.into_iter().filter(|list| abilities.lists(*list)).collect();
        assert_eq!(lists, [List::Tools, List::Resources, List::Templates, List::Tasks]);
        assert!(abilities.tells(List::Tools) && !abilities.tells(List::Resources) && !abilities.logging);
        let changes: Vec<_> = abilities.changes().collect();
        assert_eq!(changes, ["notifications/tools/list_changed", "notifications/resources/list_changed"]);
        assert_eq!(Abilities::of(&Value::Null), Abilities::default());
    }

    #[test]
    fn what_servers_say_has_bounds() {
        let many: Map<String, Value> = (0..1000).map(|number| (format!("a{number}"), json!({}))).collect();
        let mut result = many.clone();
        result.insert("capabilities".to_owned(), json!({ "tools": {}, "experimental": many }));
        result.insert("instructions".to_owned(), json!("é".repeat(LONGEST_INSTRUCTIONS)));
        let result = Value::Object(result);
        let result = united(&[result.clone(), result], "1", false);
        // `protocolVersion`, `serverInfo` and `instructions` are ours; `a…` came before `capabilities` and left no room.
        assert_eq!(result.as_object().unwrap().len(), MOST_MEMBERS + 4);
        assert_eq!(result["capabilities"]["tools"], json!({ "listChanged": true }));
        assert_eq!(result["capabilities"]["experimental"].as_object().unwrap().len(), MOST_MEMBERS);
        let instructions = result["instructions"].as_str().unwrap();
        assert_eq!(instructions.len(), LONGEST_INSTRUCTIONS + "# s0\n\n".len());
    }
}
