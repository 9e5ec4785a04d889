//! No two types have one name: whoever reads a name, or searches for it, finds one thing.

use std::collections::{BTreeMap, BTreeSet};

use crate::tokens::{is_name, read_sources, tokens};

/// Names that several files may define, each with the reason: the types are the same thing in two lives.
const PERMITTED: [(&str, &str); 0] = [];

/// Names that several files define today. A name leaves the list when its types have got names of their own; none comes
/// onto it.
const TO_BE_RENAMED: [&str; 0] = [];

#[test]
fn no_two_types_have_one_name() {
    let shared = shared_names(&read_sources("src"));
    let permitted = |name: &str| PERMITTED.iter().any(|(known, _)| *known == name) || TO_BE_RENAMED.contains(&name);
    let violations: Vec<_> = shared
        .iter()
        .filter(|(name, _)| !permitted(name))
        .map(|(name, files)| format!("{name} is defined in {}", files.iter().cloned().collect::<Vec<_>>().join(", ")))
        .collect();
    assert!(
        violations.is_empty(),
        "\n{}\nrename all but one, or say in PERMITTED why they are the same thing\n",
        violations.join("\n")
    );
    for (name, reason) in PERMITTED {
        assert!(shared.contains_key(name) && !reason.is_empty(), "{name} needs no permission, or one with a reason");
    }
}

#[test]
fn definitions_are_found() {
    let sources =
        |first: &str, second: &str| [("a.rs".to_owned(), first.to_owned()), ("b.rs".to_owned(), second.to_owned())];
    for (first, second, expected) in [
        ("struct X;", "pub(crate) enum X {}", Some("X")),
        ("mod tests { struct X<T>(T); }", "fn f() { trait X {} }", Some("X")),
        ("type X = u8;", "impl Y for Z { type Item = u8; } union X { a: u8 }", Some("X")),
        ("impl Iterator for A { type Item = u8; }", "trait B { type Item; } struct Item;", None),
        ("impl A { fn f() { if a { struct X; } } }", "struct X;", Some("X")),
        ("// struct X;\nstruct Y;", "const A: &str = \"struct Y;\"; fn struct_y() {}", None),
        ("#[cfg(unix)] type X = u8; #[cfg(windows)] type X = u16;", "", None),
    ] {
        let shared = shared_names(&sources(first, second));
        assert_eq!(shared.keys().next().map(String::as_str), expected, "{first} | {second}");
    }
}

/// The names of types that more than one file defines, with these files. Associated types are no types of their own,
/// and one file may define a type for each system.
fn shared_names(sources: &[(String, String)]) -> BTreeMap<String, BTreeSet<String>> {
    let mut defined: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, text) in sources {
        for name in definitions(text) {
            defined.entry(name).or_default().insert(format!("src/{file}"));
        }
    }
    defined.retain(|_, files| files.len() > 1);
    defined
}

fn definitions(text: &str) -> Vec<String> {
    let tokens = tokens(text);
    let token = |at: usize| tokens.get(at).map_or("", |(text, _)| text.as_str());
    let mut found = Vec::new();
    // Of each brace that is open, whether it is that of an `impl` or a trait, directly in which types are associated
    // ones.
    let mut open = Vec::new();
    let mut begins_associated = false;
    for at in 0..tokens.len() {
        match token(at) {
            "impl" | "trait" if !matches!(token(at.wrapping_sub(1)), ":" | ">" | "(" | "," | "&" | "=" | "<") => {
                begins_associated = true;
            }
            "{" => open.push(std::mem::take(&mut begins_associated)),
            "}" => drop(open.pop()),
            ";" => begins_associated = false,
            _ => {}
        }
        let defines = match token(at) {
            "struct" | "enum" | "trait" | "union" => true,
            "type" => open.last() != Some(&true),
            _ => false,
        };
        // `union` is a name as well, and names of types begin with a capital.
        if defines && is_name(token(at + 1)) && token(at + 1).starts_with(char::is_uppercase) {
            found.push(token(at + 1).to_owned());
        }
    }
    found
}
