//! The results of several servers' `initialize` as one result.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::mcp;

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
/// The longest protocol version, in bytes. Those that there are have ten.
const LONGEST_VERSION: usize = 64;
/// How deep objects are united; below, the first stays.
const DEEPEST: usize = 8;
/// Most instructions in all, in bytes. They go into the context of a model.
const LONGEST_INSTRUCTIONS: usize = 256 * 1024;

/// The one result while it is made.
#[derive(Debug, Default)]
pub(super) struct InitializeMerge {
    versions: Vec<String>,
    whole: Map<String, Value>,
    instructions: Vec<(Arc<str>, String)>,
    /// How long the instructions are, in bytes.
    length: usize,
}

impl InitializeMerge {
    /// Adds the result of that server.
    pub(super) fn add(&mut self, server: &Arc<str>, result: Value) {
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
    pub(super) fn finish(mut self, asked: Option<&str>, more: bool) -> (String, String) {
        let known = asked.filter(|asked| mcp::HANDSHAKE_VERSIONS.contains(asked)).map(str::to_owned);
        let newest = self.versions.into_iter().max();
        let version = known.or(newest).unwrap_or_else(|| mcp::NEWEST_HANDSHAKE_VERSION.to_owned());
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

/// Adds what the other value has: objects are united, booleans or-ed, and of anything else the first stays.
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
        let mut merge = InitializeMerge::default();
        for (position, result) in results.iter().enumerate() {
            merge.add(&format!("s{position}").into(), result.clone());
        }
        let (json, version) = merge.finish(Some(asked), more);
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
    fn what_servers_say_has_bounds() {
        let many: Map<String, Value> = (0..1000).map(|number| (format!("a{number}"), json!({}))).collect();
        let mut result = many.clone();
        result.insert("capabilities".to_owned(), json!({ "tools": {}, "experimental": many }));
        result.insert("instructions".to_owned(), json!("é".repeat(LONGEST_INSTRUCTIONS)));
        let result = Value::Object(result);
        let result = united(&[result.clone(), result], "1", false);
        // `protocolVersion`, `serverInfo` and `instructions` are ours; `a…` came before `capabilities` and left no
        // room.
        assert_eq!(result.as_object().unwrap().len(), MOST_MEMBERS + 4);
        assert_eq!(result["capabilities"]["tools"], json!({ "listChanged": true }));
        assert_eq!(result["capabilities"]["experimental"].as_object().unwrap().len(), MOST_MEMBERS);
        let instructions = result["instructions"].as_str().unwrap();
        assert_eq!(instructions.len(), LONGEST_INSTRUCTIONS + "# s0\n\n".len());
    }
}
