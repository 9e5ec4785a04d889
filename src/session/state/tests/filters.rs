//! What is filtered is neither listed nor of any use, with one server and with several.

use super::union::{A, B, UnionHarness, error_of, everything, json_of, notification, request, result_of, union_of};
use super::*;
use crate::config::Offered;

fn filter() -> Filter {
    let filter = Filter::new().allow(Offered::Tools, ["good_*"]).unwrap().deny(Offered::Tools, ["good_but"]).unwrap();
    let filter = filter.deny(Offered::Prompts, ["bad"]).unwrap();
    filter.deny(Offered::Resources, ["x://bad/*"]).unwrap().deny(Offered::Templates, ["y://{id}"]).unwrap()
}

/// One server, after its handshake.
fn one(filter: Filter) -> UnionHarness {
    let mut union = union_of(Servers::new(vec![ConfiguredServer::new("one", filter)], true, false), limits());
    union.client(&ask("0", "initialize"));
    union.answers(A, "1", &everything());
    union
}

#[test]
fn what_passes_passes_as_it_is() {
    let mut union = one(filter());
    let call = r#"{ "name":"good_x","arguments":{"a":1.0}}"#;
    assert_eq!(union.asks("7", "tools/call", call), [format!("a> {}", request("2", "tools/call", call))]);
    let result = r#"{"content":[{"type":"resource_link","uri":"x://bad/1"}]}"#;
    assert_eq!(union.answers(A, "2", result), [format!("1< {}", result_of("7", result))]);
    for (method, params) in
        [("ping", "{}"), ("vendor/x", "{}"), ("logging/setLevel", "{}"), ("tasks/get", r#"{"taskId":"t"}"#)]
    {
        let lines = union.asks(&format!("\"{method}\""), method, params);
        let id = json_of(&lines, "a> ")["id"].to_string();
        assert_eq!(lines, [format!("a> {}", request(&id, method, params))]);
    }
    for method in ["notifications/roots/list_changed", "notifications/vendor"] {
        assert_eq!(union.client(&tell(method)), [format!("a> {}", tell(method))]);
        assert_eq!(union.server(A, &tell(method)), [format!("1< {}", tell(method))]);
    }
}

#[test]
fn what_is_filtered_cannot_be_used() {
    let mut union = one(filter());
    for (method, params, code) in [
        ("tools/call", r#"{"name":"other"}"#, -32602),
        ("tools/call", r#"{"name":"good_but"}"#, -32602),
        ("tools/call", r#"{"name":"good\u005fbut"}"#, -32602),
        ("tools/call", r#"{"name":"good_x","name":"other"}"#, -32600),
        ("prompts/get", r#"{"name":"bad"}"#, -32602),
        ("completion/complete", r#"{"ref":{"type":"ref/prompt","name":"bad"}}"#, -32602),
        ("resources/read", r#"{"uri":"x:\/\/bad\/1"}"#, -32002),
        ("resources/subscribe", r#"{"uri":"x://bad/1"}"#, -32002),
        ("resources/unsubscribe", r#"{"uri":"x://bad/1"}"#, -32002),
        ("completion/complete", r#"{"ref":{"type":"ref/resource","uri":"y://{id}"}}"#, -32002),
    ] {
        let lines = union.asks("7", method, params);
        assert_eq!((lines.len(), error_of(&lines).0), (1, code), "{method} {params}");
    }
    let updated = |uri: &str| notification("notifications/resources/updated", &format!(r#"{{"uri":"{uri}"}}"#));
    assert!(union.server(A, &updated("x:\\/\\/bad/1")).is_empty());
    assert!(union.server(A, &tell("notifications/resources/updated")).is_empty(), "it may be about anything");
    assert!(union.server(A, &updated("x://good")).is_empty(), "its templates are not known yet");
    let lines = union.asks("8", "resources/subscribe", r#"{"uri":"x://good"}"#);
    let id = |line: &String| json_of(std::slice::from_ref(line), "a> ")["id"].to_string();
    assert_eq!(lines.len(), 2);
    union.answers(A, &id(&lines[0]), r#"{"resources":[]}"#);
    let lines = union.answers(A, &id(&lines[1]), r#"{"resourceTemplates":[]}"#);
    union.answers(A, &id(&lines[0]), "{}");
    assert_eq!(union.server(A, &updated("x://good")), [format!("1< {}", updated("x://good"))]);
    union.is_quiet();
}

#[test]
fn what_is_filtered_is_cut_out_of_lists() {
    let mut union = one(filter());
    union.asks("7", "tools/list", r#"{"cursor":"c"}"#);
    let listed = r#"{"tools":[ {"name":"other"}, {"name":"good_x","z":1.0} ,{"name":"good_but"}],"nextCursor":"d"}"#;
    let told = r#"{"tools":[ {"name":"good_x","z":1.0}],"nextCursor":"d"}"#;
    assert_eq!(union.answers(A, "2", listed), [format!("1< {}", result_of("7", told))]);
    union.asks("8", "resources/templates/list", "{}");
    let listed = r#"{"resourceTemplates":[{"uriTemplate":"y://{id}"},{"uriTemplate":"z://{id}"}]}"#;
    let told = r#"{"resourceTemplates":[{"uriTemplate":"z://{id}"}]}"#;
    assert_eq!(union.answers(A, "3", listed), [format!("1< {}", result_of("8", told))]);
    // What cannot be filtered is not passed on; an error is.
    union.asks("9", "tools/list", "{}");
    assert_eq!(error_of(&union.answers(A, "4", r#"{"tools":[],"tools":[{"name":"other"}]}"#)).0, -31009);
    union.asks("10", "tools/list", "{}");
    assert_eq!(error_of(&union.server(A, &error("5"))).0, -1);
    union.asks("11", "tasks/list", "{}");
    assert_eq!(union.answers(A, "6", r#"{"x":1}"#), [format!("1< {}", result_of("11", r#"{"x":1}"#))]);
}

#[test]
fn what_a_denied_template_stands_for_cannot_be_read() {
    let mut union = one(filter());
    let lines = union.asks("7", "resources/read", r#"{"uri":"y://1"}"#);
    assert_eq!(
        lines,
        [
            r#"a> {"jsonrpc":"2.0","id":3,"method":"resources/list"}"#,
            r#"a> {"jsonrpc":"2.0","id":4,"method":"resources/templates/list"}"#
        ]
    );
    assert!(union.answers(A, "3", r#"{"resources":[{"uri":"y://listed"}]}"#).is_empty());
    let templates = r#"{"resourceTemplates":[{"uriTemplate":"y://{id}"},{"uriTemplate":"z://{id}"}]}"#;
    assert_eq!(error_of(&union.answers(A, "4", templates)).0, -32002);
    // It is known now, until it changes.
    for (uri, passes) in [("y://2", false), ("y://listed", true), ("z://1", true), ("w://1", true)] {
        let lines = union.asks(&format!("\"{uri}\""), "resources/read", &format!(r#"{{"uri":"{uri}"}}"#));
        assert_eq!(lines[0].starts_with("a> "), passes, "{uri} {lines:?}");
    }
    let updated = notification("notifications/resources/updated", r#"{"uri":"y://1"}"#);
    assert!(union.server(A, &updated).is_empty());
    union.server(A, &tell("notifications/resources/list_changed"));
    assert_eq!(union.asks("8", "resources/read", r#"{"uri":"y://2"}"#).len(), 2);
}

#[test]
fn who_reads_before_the_handshake_reads_nothing_denied() {
    let mut union = union_of(Servers::new(vec![ConfiguredServer::new("one", filter())], true, false), limits());
    assert_eq!(union.asks("7", "resources/read", r#"{"uri":"y://1"}"#).len(), 2, "the server is asked");
    union.answers(A, "2", r#"{"resources":[]}"#);
    let templates = r#"{"resourceTemplates":[{"uriTemplate":"y://{id}"}]}"#;
    assert_eq!(error_of(&union.answers(A, "3", templates)).0, -32002);
}

#[test]
fn a_server_without_resources_is_not_asked_for_them() {
    let mut union = union_of(Servers::new(vec![ConfiguredServer::new("one", filter())], true, false), limits());
    union.client(&ask("0", "initialize"));
    union.answers(A, "1", r#"{"capabilities":{}}"#);
    assert_eq!(union.asks("7", "resources/read", r#"{"uri":"y://1"}"#).len(), 1);
}

#[test]
fn what_cannot_be_checked_is_not_read() {
    let mut union = one(filter());
    union.asks("7", "resources/read", r#"{"uri":"y://1"}"#);
    union.answers(A, "3", r#"{"resources":[]}"#);
    let lines = union.wait(secs(10));
    assert_eq!(error_of(&lines).0, -32002, "{lines:?}");
    union.is_quiet();
}

#[test]
fn each_of_several_has_its_own() {
    let servers = vec![ConfiguredServer::new("a", filter()), ConfiguredServer::new("b", Filter::new())];
    let mut union = UnionHarness::open(Servers::new(servers, true, true));
    union.asks("7", "tools/list", "{}");
    let tools = r#"{"tools":[{"name":"good_x"},{"name":"other"}]}"#;
    union.answers(A, "6", tools);
    let lines = union.answers(B, "7", tools);
    let told = r#"{"tools":[{"name":"a_good_x"},{"name":"b_good_x"},{"name":"b_other"}]}"#;
    assert_eq!(lines, [format!("1< {}", result_of("7", told))]);
    assert_eq!(
        error_of(&union.asks("8", "tools/call", r#"{"name":"a_other"}"#)),
        (-32602, "unknown tool: a_other".into())
    );
    assert_eq!(union.asks("9", "tools/call", r#"{"name":"b_other"}"#).len(), 1);
    assert_eq!(error_of(&union.asks("10", "resources/read", r#"{"uri":"x://a/bad/1"}"#)).0, -32002);
    assert_eq!(union.asks("11", "resources/read", r#"{"uri":"x://b/bad/1"}"#).len(), 1);
    let updated = notification("notifications/resources/updated", r#"{"uri":"x://bad/1"}"#);
    assert!(union.server(A, &updated).is_empty());
    assert_eq!(union.server(B, &updated).len(), 1);
}

#[test]
fn other_spellings_of_what_is_filtered_cannot_be_used() {
    let mut union = one(filter());
    for uri in ["X://bad/1", "x://bad/a/../1", "x://bad/%31", " x://bad/1", "x://bad/1#a", "x://bad/\\u00001"] {
        for method in ["resources/read", "resources/subscribe"] {
            let lines = union.asks("7", method, &format!(r#"{{"uri":"{uri}"}}"#));
            assert_eq!((lines.len(), error_of(&lines).0), (1, -32002), "{uri}");
        }
    }
    union.is_quiet();
}

/// Two servers, the first with a denied template; then the client's call is answered with these lists.
fn knows_both(union: &mut UnionHarness, templates: &str) -> Vec<String> {
    let lines = union.asks("7", "resources/read", r#"{"uri":"y://1"}"#);
    let asked: Vec<_> =
        lines.iter().map(|line| json_of(std::slice::from_ref(line), &line[..3])["id"].to_string()).collect();
    union.answers(A, &asked[0], r#"{"resources":[]}"#);
    union.answers(A, &asked[1], templates);
    union.answers(B, &asked[2], r#"{"resources":[]}"#);
    union.answers(B, &asked[3], r#"{"resourceTemplates":[]}"#)
}

#[test]
fn a_denied_template_is_known_whatever_page_the_client_asks_for() {
    let servers = || {
        Servers::new(vec![ConfiguredServer::new("a", filter()), ConfiguredServer::new("b", Filter::new())], true, false)
    };
    let mut union = UnionHarness::open(servers());
    let templates =
        r#"{"resourceTemplates":[{"uriTemplate":"y://{id}"},{"uriTemplate":"y://{id}/x"},{"uriTemplate":"z://{id}"}]}"#;
    assert_eq!(error_of(&knows_both(&mut union, templates)).0, -32002);
    let lines = union.asks("8", "resources/templates/list", "{}");
    let (a, b) = (json_of(&lines, "a> ")["id"].to_string(), json_of(&lines, "b> ")["id"].to_string());
    union.answers(A, &a, r#"{"resourceTemplates":[{"uriTemplate":"w://{id}"}],"nextCursor":"n"}"#);
    union.answers(B, &b, r#"{"resourceTemplates":[{"uriTemplate":"y://{+any}"}]}"#);
    let updated = notification("notifications/resources/updated", r#"{"uri":"y://1"}"#);
    assert!(union.server(A, &updated).is_empty(), "it is denied still");
    // What is on the other pages is asked for again.
    let lines = union.asks("9", "resources/read", r#"{"uri":"z://1"}"#);
    assert_eq!(json_of(&lines, "a> ")["method"], "resources/templates/list");
    let id = json_of(&lines, "a> ")["id"].to_string();
    let lines = union.answers(A, &id, templates);
    assert_eq!(json_of(&lines, "a> ")["params"]["uri"], "z://1");
}

#[test]
fn what_is_too_long_or_too_much_to_be_checked_is_not_read() {
    let mut union = one(filter());
    union.asks("7", "resources/read", r#"{"uri":"y://1"}"#);
    union.answers(A, "3", r#"{"resources":[]}"#);
    let others = (0..1500).map(|number| format!("z://{number}/{{id}}"));
    let all: Vec<_> = std::iter::once("y://{id}".to_owned()).chain(others).collect();
    let all: Vec<_> = all.iter().map(|text| format!(r#"{{"uriTemplate":"{text}"}}"#)).collect();
    let all = all.join(",");
    assert_eq!(error_of(&union.answers(A, "4", &format!(r#"{{"resourceTemplates":[{all}]}}"#))).0, -32002);
    for uri in ["y://2".to_owned(), format!("y://{}", "2".repeat(5000))] {
        assert_eq!(error_of(&union.asks("8", "resources/read", &format!(r#"{{"uri":"{uri}"}}"#))).0, -32002);
    }
    assert_eq!(union.asks("9", "resources/read", r#"{"uri":"z://1499/2"}"#).len(), 1);
}

#[test]
fn who_has_no_end_of_templates_cannot_be_checked() {
    let mut union = one(filter());
    union.asks("7", "resources/read", r#"{"uri":"v://1"}"#);
    union.answers(A, "3", r#"{"resources":[]}"#);
    let mut lines = Vec::new();
    for id in 4..1004 {
        lines = union.answers(A, &id.to_string(), r#"{"resourceTemplates":[],"nextCursor":"n"}"#);
    }
    assert!(lines[0].contains("has more than 1000 pages"), "{lines:?}");
    assert_eq!(error_of(&lines).0, -32002);
}

#[test]
fn a_filtered_link_keeps_its_servers_name() {
    let servers = vec![ConfiguredServer::new("a", filter()), ConfiguredServer::new("b", Filter::new())];
    let mut union = UnionHarness::open(Servers::new(servers, true, true));
    let lines = union.asks("7", "tools/call", r#"{"name":"a_good_x"}"#);
    let id = json_of(&lines, "a> ")["id"].to_string();
    let result = r#"{"content":[{"type":"resource_link","uri":"x://bad/1"}]}"#;
    let told = result.replace("x://bad", "x://a/bad");
    assert_eq!(union.answers(A, &id, result), [format!("1< {}", result_of("7", &told))]);
    assert_eq!(error_of(&union.asks("8", "resources/read", r#"{"uri":"x://a/bad/1"}"#)).0, -32002);
}
