//! Lists: reading a server's page, taking out what is filtered, and making one page of several.
//!
//! An entry stays what its server wrote, but for its name. Entries that cannot be told by a name of their own are left
//! out.

use std::collections::HashSet;
use std::ops::Range;

use super::{List, ListCursor};
use crate::frame::{Frame, Item, elements, members, only, quoted, string};

/// Most members besides its own that a merged page has, and as many in its `_meta`.
const MOST_OTHER_MEMBERS: usize = 64;

/// A page of one server's list.
#[derive(Debug)]
pub(super) struct ListPage<'a> {
    frame: &'a Frame,
    pub entries: Vec<ListEntry>,
    /// The server's cursor to what follows.
    pub next: Option<String>,
}

#[derive(Debug)]
pub(super) struct ListEntry {
    at: Range<usize>,
    /// Where its name stands, as a JSON string.
    name: Range<usize>,
    /// What its server calls it.
    pub own_name: String,
}

impl<'a> ListPage<'a> {
    /// Reads an answer; `None` if there is no such list in it, or more than one.
    pub(super) fn read(list: List, frame: &'a Frame) -> Option<Self> {
        let json: &[u8] = frame.bytes();
        let at = frame.lookup_range(&["result", list.member()]).ok().flatten()?;
        let entry = |at: Range<usize>| {
            let name = only(json, at.clone(), list.key())?;
            let own_name = string(json, name.clone())?;
            Some(ListEntry { at, name, own_name })
        };
        let entries = elements(json, at)?.into_iter().filter_map(entry).collect();
        let next = frame.lookup_range(&["result", "nextCursor"]).ok()?;
        // An empty one is the end: so clients take it, and ours is not to keep them asking.
        let next = next.and_then(|at| string(json, at)).filter(|next| !next.is_empty());
        Some(Self { frame, entries, next })
    }
}

/// Where the entries stand that are not let through, to be cut out of the answer: all other bytes stay. `None` if there
/// is no such list in it, or more than one.
pub(super) fn filtered(list: List, frame: &Frame, allows: impl Fn(&str) -> bool) -> Option<Vec<Range<usize>>> {
    let json: &[u8] = frame.bytes();
    let at = frame.lookup_range(&["result", list.member()]).ok().flatten()?;
    let elements = elements(json, at)?;
    let keep = |at: &Range<usize>| {
        let name = only(json, at.clone(), list.key()).and_then(|name| string(json, name));
        name.is_some_and(|name| allows(&name))
    };
    let stays: Vec<bool> = elements.iter().map(keep).collect();
    let mut cuts = Vec::new();
    // Behind the last that stays there is no comma to be taken along: what follows goes with the comma before it.
    let tail = stays.iter().rposition(|stays| *stays).map_or(0, |final_one| final_one + 1);
    for position in 0..tail {
        if !stays[position] {
            cuts.push(elements[position].start..elements[position + 1].start);
        }
    }
    if let (Some(first), Some(end)) = (elements.get(tail), elements.last()) {
        let start = tail.checked_sub(1).map_or(first.start, |before| elements[before].end);
        cuts.push(start..end.end);
    }
    Some(cuts)
}

/// One page in the making, out of several.
#[derive(Debug)]
pub(super) struct ListMerge {
    list: List,
    entries: Vec<u8>,
    /// Other members of the results, and members of their `_meta`.
    others: OtherMembers,
    meta: OtherMembers,
}

/// Members that are none of ours: the first of a name stays, as long as there are few.
#[derive(Debug, Default)]
struct OtherMembers {
    names: HashSet<String>,
    members: Vec<(String, Vec<u8>)>,
}

impl OtherMembers {
    fn add(&mut self, key: &str, value: &[u8]) {
        if self.members.len() < MOST_OTHER_MEMBERS && self.names.insert(key.to_owned()) {
            self.members.push((key.to_owned(), value.to_vec()));
        }
    }
}

impl ListMerge {
    pub(super) fn new(list: List) -> Self {
        Self { list, entries: Vec::new(), others: OtherMembers::default(), meta: OtherMembers::default() }
    }

    /// Adds a server's page. `full` says what the client is to call an entry, or that it is not shown.
    pub(super) fn add(&mut self, page: &ListPage<'_>, full: impl Fn(&ListEntry) -> Option<String>) {
        let json: &[u8] = page.frame.bytes();
        for entry in &page.entries {
            let Some(full) = full(entry) else { continue };
            if !self.entries.is_empty() {
                self.entries.push(b',');
            }
            if full == entry.own_name {
                self.entries.extend_from_slice(&json[entry.at.clone()]);
            } else {
                self.entries.extend_from_slice(&json[entry.at.start..entry.name.start]);
                self.entries.extend_from_slice(&quoted(&full));
                self.entries.extend_from_slice(&json[entry.name.end..entry.at.end]);
            }
        }
        let Ok(Some(result)) = page.frame.lookup_range(&["result"]) else { return };
        for Item { key, value } in members(json, result) {
            match &*key {
                "nextCursor" => {}
                key if key == self.list.member() => {}
                "_meta" => {
                    for Item { key, value } in members(json, value) {
                        self.meta.add(&key, &json[value]);
                    }
                }
                key => self.others.add(key, &json[value]),
            }
        }
    }

    /// The result, as JSON.
    pub(super) fn finish(self, next: Option<&ListCursor>) -> String {
        let mut json = b"{".to_vec();
        json.extend_from_slice(&quoted(self.list.member()));
        json.extend_from_slice(b":[");
        json.extend_from_slice(&self.entries);
        json.push(b']');
        if let Some(next) = next {
            json.extend_from_slice(b",\"nextCursor\":");
            json.extend_from_slice(&quoted(&next.encode()));
        }
        for (key, value) in &self.others.members {
            write_member(&mut json, key, value);
        }
        if !self.meta.members.is_empty() {
            json.extend_from_slice(b",\"_meta\":{");
            for (position, (key, value)) in self.meta.members.iter().enumerate() {
                json.extend_from_slice(if position == 0 { b"" } else { b"," });
                json.extend_from_slice(&quoted(key));
                json.push(b':');
                json.extend_from_slice(value);
            }
            json.push(b'}');
        }
        json.push(b'}');
        // All of it came out of valid frames.
        String::from_utf8(json).unwrap_or_default()
    }
}

fn write_member(json: &mut Vec<u8>, key: &str, value: &[u8]) {
    json.push(b',');
    json.extend_from_slice(&quoted(key));
    json.push(b':');
    json.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::link_phase::LinkId;

    fn answer(result: &str) -> Frame {
        Frame::parse(format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#)).unwrap()
    }

    fn cut(result: &str, allows: impl Fn(&str) -> bool) -> Option<String> {
        let frame = answer(result);
        let cuts = filtered(List::Tools, &frame, allows)?;
        let wire = frame.splice().spans(cuts.into_iter().map(|at| (at, Vec::new()))).finish();
        let frame = Frame::parse(wire.into_bytes()).unwrap();
        Some(std::str::from_utf8(frame.result().unwrap()).unwrap().to_owned())
    }

    #[test]
    fn what_is_filtered_is_cut_out_and_the_rest_stays() {
        let list = r#"{"x":1, "tools" : [ {"name":"a","z":1.0} , {"name":"b"}, {"name":"\u0063"} ] ,"nextCursor":"n"}"#;
        let cases: [(&str, &str); 8] = [
            ("abc", list),
            ("ab", r#"{"x":1, "tools" : [ {"name":"a","z":1.0} , {"name":"b"} ] ,"nextCursor":"n"}"#),
            ("ac", r#"{"x":1, "tools" : [ {"name":"a","z":1.0} , {"name":"\u0063"} ] ,"nextCursor":"n"}"#),
            ("bc", r#"{"x":1, "tools" : [ {"name":"b"}, {"name":"\u0063"} ] ,"nextCursor":"n"}"#),
            ("a", r#"{"x":1, "tools" : [ {"name":"a","z":1.0} ] ,"nextCursor":"n"}"#),
            ("b", r#"{"x":1, "tools" : [ {"name":"b"} ] ,"nextCursor":"n"}"#),
            ("c", r#"{"x":1, "tools" : [ {"name":"\u0063"} ] ,"nextCursor":"n"}"#),
            ("", r#"{"x":1, "tools" : [  ] ,"nextCursor":"n"}"#),
        ];
        for (allowed, expected) in cases {
            assert_eq!(cut(list, |name| allowed.contains(name)).as_deref(), Some(expected), "{allowed}");
        }
    }

    #[test]
    fn what_has_no_name_of_its_own_is_cut_out() {
        let list = r#"{"tools":[{"name":"a","name":"b"},1,{"name":7},{},{"name":"a"},{"title":"x"}]}"#;
        assert_eq!(cut(list, |_| true).as_deref(), Some(r#"{"tools":[{"name":"a"}]}"#));
        assert_eq!(cut(r#"{"tools":[]}"#, |_| true).as_deref(), Some(r#"{"tools":[]}"#));
        for other in ["{}", r#"{"tools":{}}"#, r#"{"tools":[],"tools":[]}"#, "[]", "null"] {
            assert_eq!(cut(other, |_| true), None, "{other}");
        }
    }

    #[test]
    fn pages_become_one() {
        let first = answer(
            r#"{"_meta":{"a":1},"tools":[{"name":"x","inputSchema":{"type":"object", "n":1e400}},{"name":"hidden"}],"nextCursor":"m","ttl":5}"#,
        );
        let second = answer(r#"{"tools":[ { "title":"é" ,"name" : "x" } ],"_meta":{"a":2,"b":3},"ttl":6,"more":null}"#);
        let mut merge = ListMerge::new(List::Tools);
        let show = |prefix: &'static str| {
            move |entry: &ListEntry| (entry.own_name != "hidden").then(|| format!("{prefix}{}", entry.own_name))
        };
        let page = ListPage::read(List::Tools, &first).unwrap();
        assert_eq!(page.next.as_deref(), Some("m"));
        merge.add(&page, show(""));
        for end in [r#"{"tools":[],"nextCursor":""}"#, r#"{"tools":[],"nextCursor":null}"#] {
            assert_eq!(ListPage::read(List::Tools, &answer(end)).unwrap().next, None);
        }
        merge.add(&ListPage::read(List::Tools, &second).unwrap(), show("b_"));
        let cursor = ListCursor { list: List::Tools, rest: vec![(LinkId(0), "m".to_owned())] };
        assert_eq!(
            merge.finish(Some(&cursor)),
            r#"{"tools":[{"name":"x","inputSchema":{"type":"object", "n":1e400}},{ "title":"é" ,"name" : "b_x" }],"nextCursor":"sessile.tools.0-6d","ttl":5,"more":null,"_meta":{"a":1,"b":3}}"#
        );
        assert_eq!(ListMerge::new(List::Templates).finish(None), r#"{"resourceTemplates":[]}"#);
    }

    #[test]
    fn foreign_members_are_few_however_many_a_server_sends() {
        let many: Vec<_> = (0..100_000).map(|number| format!(r#""k{number}":{number}"#)).collect();
        let many = many.join(",");
        let frame = answer(&format!(r#"{{"tools":[{{"name":"x"}}],{many},"_meta":{{{many}}}}}"#));
        let mut merge = ListMerge::new(List::Tools);
        merge.add(&ListPage::read(List::Tools, &frame).unwrap(), |entry| Some(entry.own_name.clone()));
        let merged: serde_json::Value = serde_json::from_str(&merge.finish(None)).unwrap();
        assert_eq!(merged["tools"], serde_json::json!([{ "name": "x" }]));
        // The list and `_meta` are members too.
        assert_eq!(merged.as_object().unwrap().len(), MOST_OTHER_MEMBERS + 2);
        assert_eq!(merged["_meta"].as_object().unwrap().len(), MOST_OTHER_MEMBERS);
        assert_eq!((&merged["k63"], merged.get("k64")), (&serde_json::json!(63), None));
    }
}
