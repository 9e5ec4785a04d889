//! The sources as tokens, without types: comments, strings and lifetimes are left out.

use std::fs;
use std::path::Path;

/// All Rust files below a folder of the repository, by their paths in it, with their texts.
pub(crate) fn read_sources(folder: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, name: &str, sources: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{name}{}", path.file_name().unwrap().to_str().unwrap());
            if path.is_dir() {
                walk(&path, &format!("{name}/"), sources);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut sources = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), "", &mut sources);
    sources.sort();
    sources
}

pub(crate) fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first == '_' || first.is_alphabetic())
}

/// Names, `::`, and single characters, each with its line. Comments, strings and lifetimes are left out.
pub(crate) fn tokens(text: &str) -> Vec<(String, usize)> {
    let chars: Vec<char> = text.chars().collect();
    let char_at = |at: usize| chars.get(at).copied().unwrap_or('\0');
    let is_part = |char: char| char == '_' || char.is_alphanumeric();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let start = at;
        match (char_at(at), char_at(at + 1)) {
            ('/', '/') => {
                while at < chars.len() && char_at(at) != '\n' {
                    at += 1;
                }
            }
            ('/', '*') => {
                let mut depth = 0;
                loop {
                    match (char_at(at), char_at(at + 1)) {
                        ('/', '*') => (depth, at) = (depth + 1, at + 2),
                        ('*', '/') => (depth, at) = (depth - 1, at + 2),
                        _ => at += 1,
                    }
                    if depth == 0 || at >= chars.len() {
                        break;
                    }
                }
            }
            ('"', _) => at = string_end(&chars, at + 1),
            ('\'', '\\') => {
                at += 3;
                while at < chars.len() && char_at(at) != '\'' {
                    at += 1;
                }
                at += 1;
            }
            ('\'', _) if char_at(at + 2) == '\'' => at += 3,
            ('\'', _) => {
                at += 1;
                while is_part(char_at(at)) {
                    at += 1;
                }
            }
            (':', ':') => {
                tokens.push(("::".to_owned(), line));
                at += 2;
            }
            (first, _) if is_part(first) => {
                while is_part(char_at(at)) {
                    at += 1;
                }
                let name: String = chars[start..at].iter().collect();
                let hashes = chars[at..].iter().take_while(|char| **char == '#').count();
                let is_raw = matches!(name.as_str(), "r" | "br" | "cr") && char_at(at + hashes) == '"';
                if is_raw {
                    at += hashes + 1;
                    while at < chars.len()
                        && !(char_at(at) == '"' && (1..=hashes).all(|offset| char_at(at + offset) == '#'))
                    {
                        at += 1;
                    }
                    at += hashes + 1;
                } else if name == "r" && hashes == 1 {
                    // A raw name: what follows is the name.
                    at += 1;
                } else {
                    tokens.push((name, line));
                }
            }
            (space, _) if space.is_whitespace() => at += 1,
            (other, _) => {
                tokens.push((other.to_string(), line));
                at += 1;
            }
        }
        let end = at.min(chars.len());
        line += chars[start..end].iter().filter(|char| **char == '\n').count();
    }
    tokens
}

/// Behind the closing quote.
fn string_end(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}
