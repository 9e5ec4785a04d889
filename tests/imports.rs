//! Which module may name which: reads `src/` and fails on a path that the layout does not permit (ARCHITECTURE.md,
//! "Invariants"). `names` fails when two types have one name, `lengths` when a file is too long.
//!
//! The tests read tokens, not types: comments and strings are left out, `use` trees are taken apart, `self`, `super`
//! and imported names are followed to where they lead, so that neither a re-export nor `super::super` goes around a
//! rule. What a macro makes is not seen.
#![expect(clippy::unwrap_used, reason = "a test that cannot read its files has failed")]

#[path = "imports/lengths.rs"]
mod lengths;
#[path = "imports/names.rs"]
mod names;
#[path = "imports/tokens.rs"]
mod tokens;

use std::collections::{BTreeMap, BTreeSet};

use tokens::{is_name, read_sources, tokens};

/// What runs, waits or speaks HTTP: nothing of it belongs in code that only decides.
const RUNTIMES: [&str; 9] =
    ["tokio", "tokio_util", "ractor", "rmcp", "hyper", "hyper_util", "axum", "dashmap", "futures_util"];

struct Rule {
    /// The module that the rule binds, with all below it.
    who: &'static str,
    /// Modules of the crate that must not be named there.
    never: &'static [&'static str],
    /// Where it is set, nothing of the crate is named but this and the module itself.
    only: Option<&'static [&'static str]>,
    /// Whether it decides and nothing else: it names no [`RUNTIMES`] and nothing that does I/O.
    pure: bool,
}

const RULES: [Rule; 11] = [
    Rule { who: "crate::front", never: &["crate::backend", "crate::reaper", "crate::proxy"], only: None, pure: false },
    Rule { who: "crate::backend", never: &["crate::session", "crate::front", "crate::proxy"], only: None, pure: false },
    Rule { who: "crate::session", never: &["crate::front", "crate::proxy", "crate::reaper"], only: None, pure: false },
    Rule {
        who: "crate::session::state",
        never: &[],
        only: Some(&[
            "crate::frame",
            "crate::error",
            "crate::config::filter",
            "crate::link",
            "crate::mcp",
            "crate::session::limits",
            "crate::session::link_phase",
            "crate::session::union",
        ]),
        pure: true,
    },
    Rule {
        who: "crate::session::union",
        never: &[],
        only: Some(&[
            "crate::frame",
            "crate::error",
            "crate::config::filter",
            "crate::link",
            "crate::mcp",
            "crate::session::link_phase",
        ]),
        pure: true,
    },
    Rule {
        who: "crate::session::link_phase",
        never: &[],
        only: Some(&["crate::frame", "crate::error", "crate::link", "crate::mcp"]),
        pure: true,
    },
    Rule { who: "crate::link", never: &[], only: Some(&["crate::budget", "crate::frame"]), pure: false },
    Rule { who: "crate::frame", never: &[], only: Some(&[]), pure: true },
    Rule { who: "crate::era", never: &[], only: Some(&["crate::frame", "crate::error"]), pure: true },
    Rule {
        who: "crate::config",
        never: &["crate::front", "crate::session", "crate::backend"],
        only: None,
        pure: false,
    },
    Rule { who: "crate::reaper", never: &[], only: Some(&[]), pure: false },
];

#[test]
fn every_import_is_permitted() {
    let sources = read_sources("src");
    assert!(sources.len() > 20, "src/ was not read: {sources:?}");
    let violations = check(&sources);
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn every_rule_is_about_a_module_that_exists() {
    let sources = read_sources("src");
    let modules: BTreeSet<_> = sources.iter().map(|(file, _)| module_of(file)).collect();
    // `era` comes with the modern protocol; its rule waits for it.
    for rule in RULES.iter().filter(|rule| rule.who != "crate::era") {
        for module in rule.never.iter().chain([&rule.who]) {
            assert!(modules.contains(*module), "{module} is gone: change the rule along with it");
        }
    }
}

#[test]
fn violations_are_found() {
    let cases = [
        ("front/http/mod.rs", "use crate::backend::Backend;", "crate::backend::Backend"),
        ("front/http/mod.rs", "use crate::{backend::X, front};", "crate::backend::X"),
        ("front/http/mod.rs", "use crate::{error::{ProxyError, code}, backend as b};", "crate::backend"),
        ("front/http/mod.rs", "fn f(b: &crate::backend::Backend) {}", "crate::backend::Backend"),
        ("front/http/mod.rs", "fn f() { let x = super::super::backend::run(); }", "crate::backend::run"),
        ("front/stdio.rs", "use super::super::backend;", "crate::backend"),
        ("front/stdio.rs", "use crate::*;", "crate::*"),
        ("front/stdio.rs", "use crate as sessile; fn f() { sessile::backend::run() }", "crate::backend::run"),
        ("front/stdio.rs", "use crate::Backend;", "crate::backend::Backend"),
        ("front/stdio.rs", "mod inner { use super::super::super::backend::X; }", "crate::backend::X"),
        ("front/stdio.rs", "type T = <crate::backend::X as Clone>::Y;", "crate::backend::X"),
        ("backend/child.rs", "pub(in crate::session) struct X;", "crate::session"),
        ("backend/child.rs", "use crate::frame::Id; use crate::session::SessionId;", "crate::session::SessionId"),
        ("session/state/mod.rs", "use tokio::time::Instant;", "tokio::time::Instant"),
        ("session/state/mod.rs", "use std::{time::Duration}; fn f() { ::tokio::spawn(g()); }", "tokio::spawn"),
        ("session/state/mod.rs", "use super::super::lines::Line;", "crate::lines::Line"),
        ("session/state/mod.rs", "use crate::session::Budget;", "crate::session::budget::Budget"),
        ("session/state/mod.rs", "fn f() { super::Budget::new() }", "crate::session::budget::Budget::new"),
        ("session/state/mod.rs", "use crate::session::*;", "crate::session::*"),
        ("session/state/mod.rs", "#[tokio::test] async fn t() {}", "tokio::test"),
        (
            "session/state/mod.rs",
            "fn f() { let now = std::net::TcpStream::connect(a); }",
            "std::net::TcpStream::connect",
        ),
        ("frame/id.rs", "use crate::session::SessionId;", "crate::session::SessionId"),
        ("frame/id.rs", "use crate::error::ProxyError;", "crate::error::ProxyError"),
        ("era/mod.rs", "use rmcp::model::Tool;", "rmcp::model::Tool"),
        ("config/mod.rs", "fn f() -> crate::front::http::Front { todo!() }", "crate::front::http::Front"),
    ];
    for (file, text, culprit) in cases {
        let found = check(&with_crate(file, text));
        assert_eq!(found.len(), 1, "{file}: {text}\n{found:?}");
        assert!(found[0].contains(&format!("{culprit} ")), "{file}: {text}\n{found:?}");
        assert!(found[0].starts_with(&format!("src/{file}:1:")), "{found:?}");
    }
}

#[test]
fn what_is_permitted_passes() {
    let cases = [
        ("front/http/mod.rs", "use crate::session::{SessionHandle, SupervisorHandle}; use super::stdio;"),
        ("front/http/mod.rs", "// use crate::backend::X;\n/* crate::backend /* nested */ */ fn f() {}"),
        ("front/http/mod.rs", r##"const A: &str = "crate::backend::X"; const B: &str = r#"crate::"backend"#;"##),
        ("front/http/mod.rs", "fn f<'a>(x: &'a str) -> char { let backend = 'b'; backend }"),
        ("front/http/mod.rs", "fn f(plan: &Plan) { plan.backend.run(); my::crate_::backend::x(); }"),
        ("front/stdio.rs", "mod tests { use super::*; use super::super::http; }"),
        ("session/mod.rs", "use crate::link::LinkExit; use tokio::sync::mpsc;"),
        ("session/state/mod.rs", "use crate::link::LinkExit; use super::union::LinkId;"),
        ("session/state/client.rs", "use super::{State, pending::ClientRequest}; use std::time::Instant;"),
        ("frame/id.rs", "use super::text; use crate::frame::Kind; use std::fmt;"),
        ("backend/child.rs", "fn f(session: u8) -> u8 { session } use crate::reaper::start;"),
    ];
    for (file, text) in cases {
        let found = check(&with_crate(file, text));
        assert!(found.is_empty(), "{file}: {text}\n{found:?}");
    }
}

/// A made-up crate with one file of it as given.
fn with_crate(file: &str, text: &str) -> Vec<(String, String)> {
    let others = [
        ("lib.rs", "pub use backend::Backend; pub use link::LinkExit;"),
        ("link.rs", ""),
        ("backend/mod.rs", ""),
        ("front/mod.rs", ""),
        ("session/mod.rs", "pub(crate) use budget::Budget; pub enum EndReason {}"),
        ("session/budget.rs", ""),
        ("lines.rs", ""),
    ];
    let others = others.into_iter().filter(|(name, _)| *name != file);
    others.chain([(file, text)]).map(|(name, text)| (name.to_owned(), text.to_owned())).collect()
}

/// All violations, each as `file:line: what and why`.
fn check(sources: &[(String, String)]) -> Vec<String> {
    let modules: BTreeSet<String> = sources.iter().map(|(file, _)| module_of(file)).collect();
    let files: Vec<_> = sources.iter().map(|(file, text)| (file, Names::read(&module_of(file), text))).collect();
    // What a name leads to: imports and re-exports of all modules.
    let mut aliases = BTreeMap::new();
    for name in files.iter().flat_map(|(_, names)| &names.0) {
        if let Some(alias) = &name.alias {
            aliases.insert(format!("{}::{alias}", name.module), (name.module.clone(), name.path.clone()));
        }
    }
    let mut violations = BTreeSet::new();
    for (file, names) in &files {
        for name in &names.0 {
            let target = resolve(&name.module, &name.path, &modules, &aliases, 0);
            for rule in RULES.iter().filter(|rule| is_within(&name.module, rule.who)) {
                if let Some(why) = rule.broken_by(&target) {
                    violations.insert(format!("src/{file}:{}: {target} {why}", name.line));
                }
            }
        }
    }
    violations.into_iter().collect()
}

impl Rule {
    fn broken_by(&self, target: &str) -> Option<String> {
        let who = self.who;
        let of_the_crate = target == "crate" || target.starts_with("crate::");
        let whole = target.strip_suffix("::*");
        // A glob of an ancestor brings in what is forbidden along with the rest.
        let under_glob = |forbidden: &&str| whole.is_some_and(|whole| is_within(forbidden, whole));
        if self.never.iter().any(|never| is_within(target, never) || under_glob(never)) {
            return Some(format!("must not be named in {who}"));
        }
        if let Some(only) = self.only.filter(|_| of_the_crate && target != "crate") {
            let own = is_within(target, who) || is_within(who, target);
            if !own && !only.iter().any(|permitted| is_within(target, permitted)) {
                return Some(format!("must not be named in {who}, which names {only:?} and nothing else of the crate"));
            }
        }
        let first = target.split("::").next().unwrap_or_default();
        let does_io = ["std::net", "std::fs", "std::process", "std::thread", "std::io"];
        if self.pure && (RUNTIMES.contains(&first) || does_io.iter().any(|io| is_within(target, io))) {
            return Some(format!("must not be named in {who}, which only decides"));
        }
        None
    }
}

fn is_within(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Where a path leads that stands in `module`.
fn resolve(
    module: &str,
    path: &[String],
    modules: &BTreeSet<String>,
    aliases: &BTreeMap<String, (String, Vec<String>)>,
    depth: usize,
) -> String {
    let mut at = match path[0].as_str() {
        "crate" => "crate".to_owned(),
        "self" => module.to_owned(),
        "super" => parent(module),
        // A path that starts with `::` is marked by an empty first name.
        "" => String::new(),
        first => {
            let local = format!("{module}::{first}");
            if depth < 8 && aliases.get(&local).is_some_and(|(_, target)| target != path) || modules.contains(&local) {
                module.to_owned()
            } else {
                String::new()
            }
        }
    };
    let rest = if matches!(path[0].as_str(), "crate" | "self" | "super" | "") { &path[1..] } else { path };
    for name in rest {
        if name == "super" {
            at = parent(&at);
            continue;
        }
        let next = if at.is_empty() { name.clone() } else { format!("{at}::{name}") };
        at = match aliases.get(&next) {
            Some((origin, target)) if depth < 8 && next.starts_with("crate::") => {
                resolve(origin, target, modules, aliases, depth + 1)
            }
            _ => next,
        };
    }
    at
}

fn parent(module: &str) -> String {
    module.rsplit_once("::").map_or("crate", |(parent, _)| parent).to_owned()
}

fn module_of(file: &str) -> String {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    match path {
        "lib" | "main" => "crate".to_owned(),
        path => format!("crate::{}", path.replace('/', "::")),
    }
}

/// A path as it stands in a file.
struct Name {
    module: String,
    line: usize,
    path: Vec<String>,
    /// What an import calls it from then on.
    alias: Option<String>,
}

/// All paths of a file, with `use` trees taken apart.
#[derive(Default)]
struct Names(Vec<Name>);

impl Names {
    fn read(module: &str, text: &str) -> Self {
        let tokens = tokens(text);
        let token = |at: usize| tokens.get(at).map_or("", |(text, _)| text.as_str());
        let mut names = Self::default();
        let mut open: Vec<Option<String>> = Vec::new();
        let mut module = module.to_owned();
        let mut at = 0;
        while at < tokens.len() {
            match token(at) {
                "{" => open.push(None),
                "}" => {
                    if let Some(Some(outer)) = open.pop() {
                        module = outer;
                    }
                }
                "mod" if token(at + 2) == "{" => {
                    let inner = format!("{module}::{}", token(at + 1));
                    open.push(Some(std::mem::replace(&mut module, inner)));
                    at += 2;
                }
                "use" if token(at + 1) != "<" => {
                    at += 1;
                    names.tree(&tokens, &mut at, &module, &[]);
                    continue;
                }
                first if is_name(first) || first == "::" && is_name(token(at + 1)) => {
                    let after_dot = at > 0 && token(at - 1) == ".";
                    let line = tokens[at].1;
                    let mut path = vec![if first == "::" { String::new() } else { first.to_owned() }];
                    if first == "::" {
                        path.push(token(at + 1).to_owned());
                        at += 1;
                    }
                    while token(at + 1) == "::" && is_name(token(at + 2)) {
                        path.push(token(at + 2).to_owned());
                        at += 2;
                    }
                    // One name alone is a variable, a field, or was named by an import.
                    if path.len() > 1 && !after_dot {
                        names.0.push(Name { module: module.clone(), line, path, alias: None });
                    }
                }
                _ => {}
            }
            at += 1;
        }
        names
    }

    /// One branch of a `use` tree, from `at` to behind its end.
    fn tree(&mut self, tokens: &[(String, usize)], at: &mut usize, module: &str, stem: &[String]) {
        let mut path = stem.to_vec();
        let mut alias = None;
        let line = tokens.get(*at).map_or(0, |(_, line)| *line);
        while let Some((text, _)) = tokens.get(*at) {
            *at += 1;
            match text.as_str() {
                "::" if path.is_empty() => path.push(String::new()),
                "::" => {}
                "{" => {
                    while tokens.get(*at).is_some_and(|(text, _)| text != "}") {
                        self.tree(tokens, at, module, &path);
                    }
                    *at += 1;
                    // What follows is the end of this branch.
                    while tokens.get(*at).is_some_and(|(text, _)| text == "," || text == ";") {
                        *at += 1;
                    }
                    return;
                }
                "as" => {
                    alias = tokens.get(*at).map(|(text, _)| text.clone());
                    *at += 1;
                }
                "self" if !path.is_empty() => {}
                "," | ";" => break,
                "}" => {
                    *at -= 1;
                    break;
                }
                name => path.push(name.to_owned()),
            }
        }
        if let Some(last) = path.last() {
            let alias = alias.or_else(|| Some(last.clone())).filter(|name| name != "*" && name != "_");
            self.0.push(Name { module: module.to_owned(), line, path, alias });
        }
    }
}
