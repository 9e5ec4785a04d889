//! Filters: which tools, prompts and resources of a server are offered, by allow and deny lists of globs.

mod names;
mod uri;

use std::fmt;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use url::Url;

pub use names::ExactNames;
pub(crate) use uri::Spellings;

/// The kinds of things that a server offers. The names of each kind are separate from those of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Offered {
    /// Tools, by `name`.
    Tools,
    /// Prompts, by `name`.
    Prompts,
    /// Resources, by `uri`: those that are listed, and those that are read without being listed.
    Resources,
    /// Resource templates, by `uriTemplate`.
    Templates,
}

/// Which tools, prompts, resources and resource templates of a server are offered to clients.
///
/// A tool that is filtered is not listed, and calling it gives the same error as if it did not exist; the same holds
/// for prompts and resources. Patterns are compared with the server's own names, as a whole and case-sensitively: `*`
/// stands for any characters, `/` among them, `?` for one character, and `[a-z]` for one of these. Braces stand for
/// themselves, so that the text of a template is a pattern that matches the template.
///
/// Resources can be spelled in more than one way, and servers read them so: `x://a/../b` is `x://b`, and `%61` is `a`.
/// A rule for resources holds for all spellings of a URI: it is offered if none of them is denied and, where there is a
/// list of what is allowed, all of them are allowed. Where there are such rules, URIs with control characters in them
/// or white space around them are not offered, nor are those of more than 64 KiB.
///
/// ```
/// use sessile::{Filter, Offered};
///
/// # fn main() -> Result<(), sessile::FilterError> {
/// let filter = Filter::new()
///     .allow(Offered::Tools, ["browser_*"])?
///     .deny(Offered::Tools, ["browser_evaluate", "browser_run_*"])?
///     .deny(Offered::Resources, ["file:///etc/*"])?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Exact names of tools. A tool is offered if both these and the patterns let it through.
    tool_names: ExactNames,
    tools: Rules,
    prompts: Rules,
    resources: Rules,
    templates: Rules,
}

/// A pattern that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` is no pattern: {reason}; write `*` for any characters, `?` for one, `[a-z]` for one of these")]
pub struct FilterError {
    /// The pattern as it was written.
    pub pattern: String,
    /// What is wrong with the pattern.
    pub reason: String,
}

/// The rules for one kind.
#[derive(Clone, Default)]
struct Rules {
    /// `None` where all are allowed.
    allow: Option<Globs>,
    deny: Globs,
}

#[derive(Clone, Default)]
struct Globs {
    patterns: Vec<String>,
    set: GlobSet,
}

impl Filter {
    /// A filter that lets everything through.
    pub fn new() -> Self {
        Self::default()
    }

    /// Offers what matches one of these patterns or of those that were allowed before, and nothing else of this kind.
    /// An empty list allows nothing.
    pub fn allow<P: AsRef<str>>(
        mut self,
        what: Offered,
        patterns: impl IntoIterator<Item = P>,
    ) -> Result<Self, FilterError> {
        self.rules_mut(what).allow.get_or_insert_default().add(patterns)?;
        Ok(self)
    }

    /// Does not offer what matches one of these patterns, even where it is allowed too.
    pub fn deny<P: AsRef<str>>(
        mut self,
        what: Offered,
        patterns: impl IntoIterator<Item = P>,
    ) -> Result<Self, FilterError> {
        self.rules_mut(what).deny.add(patterns)?;
        Ok(self)
    }

    /// Restricts tools by exact names too: a tool is offered if both the patterns and these names let it through.
    #[must_use]
    pub(super) fn tool_names(mut self, names: ExactNames) -> Self {
        self.tool_names = self.tool_names.and(names);
        self
    }

    /// Whether it lets everything through.
    pub fn is_empty(&self) -> bool {
        [Offered::Tools, Offered::Prompts, Offered::Resources, Offered::Templates]
            .into_iter()
            .all(|what| self.allows_all(what))
    }

    /// Whether it lets everything of this kind through.
    pub fn allows_all(&self, what: Offered) -> bool {
        let rules = self.rules(what);
        let all_names = what != Offered::Tools || self.tool_names.is_empty();
        all_names && rules.allow.is_none() && rules.deny.patterns.is_empty()
    }

    /// Whether the tool, prompt or resource of this name is offered. The name is the server's own, unescaped.
    pub fn allows(&self, what: Offered, name: &str) -> bool {
        let rules = self.rules(what);
        match what {
            _ if self.allows_all(what) => true,
            Offered::Tools if !self.tool_names.allows(name) => false,
            Offered::Resources => Spellings::of(name).is_some_and(|uri| rules.allow_uri(&uri)),
            _ => rules.allow.as_ref().is_none_or(|allow| allow.set.is_match(name)) && !rules.deny.set.is_match(name),
        }
    }

    fn rules(&self, what: Offered) -> &Rules {
        match what {
            Offered::Tools => &self.tools,
            Offered::Prompts => &self.prompts,
            Offered::Resources => &self.resources,
            Offered::Templates => &self.templates,
        }
    }

    fn rules_mut(&mut self, what: Offered) -> &mut Rules {
        match what {
            Offered::Tools => &mut self.tools,
            Offered::Prompts => &mut self.prompts,
            Offered::Resources => &mut self.resources,
            Offered::Templates => &mut self.templates,
        }
    }
}

impl Rules {
    /// Whether no spelling of a URI is denied, and all are allowed. A pattern has one spelling itself: the URI as it
    /// was written has to match it, and each other spelling has to match it as it is, in normal form, or unescaped.
    fn allow_uri(&self, uri: &Spellings) -> bool {
        if uri.all().any(|one| self.deny.set.is_match(one)) {
            return false;
        }
        let Some(allow) = &self.allow else { return true };
        let again = |one: &String| {
            allow.set.is_match(one) || uri::normal_and_unescaped(one).any(|other| allow.set.is_match(other))
        };
        uri.same.first().is_some_and(|written| allow.set.is_match(written)) && uri.same.iter().all(again)
    }
}

impl Globs {
    fn add<P: AsRef<str>>(&mut self, patterns: impl IntoIterator<Item = P>) -> Result<(), FilterError> {
        self.patterns.extend(patterns.into_iter().map(|pattern| pattern.as_ref().to_owned()));
        let mut set = GlobSetBuilder::new();
        for pattern in &self.patterns {
            let refuse = |reason: String| FilterError { pattern: pattern.clone(), reason };
            if pattern.is_empty() {
                return Err(refuse("it is empty".to_owned()));
            }
            let glob = GlobBuilder::new(&plain_braces(pattern)).literal_separator(false).backslash_escape(true).build();
            set.add(glob.map_err(|error| refuse(error.kind().to_string()))?);
            if let Some(normal) = normalized_pattern(pattern) {
                let glob =
                    GlobBuilder::new(&plain_braces(&normal)).literal_separator(false).backslash_escape(true).build();
                set.add(glob.map_err(|error| refuse(error.kind().to_string()))?);
            }
        }
        self.set = set
            .build()
            .map_err(|error| FilterError { pattern: self.patterns.join("`, `"), reason: error.kind().to_string() })?;
        Ok(())
    }
}

/// Escapes braces and backslashes, which have a meaning in a glob, but stand for themselves in the text of a template.
fn plain_braces(pattern: &str) -> String {
    let mut escaped = String::with_capacity(pattern.len() + 4);
    let mut class = false;
    for character in pattern.chars() {
        if !class && matches!(character, '{' | '}' | '\\') {
            escaped.push('\\');
        }
        class = character == '[' || class && character != ']';
        escaped.push(character);
    }
    escaped
}

/// A pattern for URIs with its literal part in normal form: all of it, or scheme and host where wildcards follow.
/// `None` where the normal form is the same, or the pattern has no such literal part.
fn normalized_pattern(pattern: &str) -> Option<String> {
    let Some(open) = pattern.find(['*', '?', '[', '{']) else {
        return Url::parse(pattern).ok().map(String::from).filter(|normal| normal != pattern);
    };
    let host = pattern.find("://")? + 3;
    let path = host + pattern[host..].find('/')?;
    if open < path {
        return None;
    }
    let (head, rest) = pattern.split_at(path);
    let url = Url::parse(head).ok()?;
    let normal = format!("{}{rest}", url.as_str().trim_end_matches('/'));
    (url.has_host() && normal != pattern).then_some(normal)
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let allow = self.allow.as_ref().map(|allow| &allow.patterns);
        f.debug_struct("Rules").field("allow", &allow).field("deny", &self.deny.patterns).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(allow: Option<&[&str]>, deny: &[&str]) -> Filter {
        let filter = match allow {
            Some(allow) => Filter::new().allow(Offered::Resources, allow).unwrap(),
            None => Filter::new(),
        };
        filter.deny(Offered::Resources, deny).unwrap()
    }

    #[test]
    fn what_is_allowed_and_not_denied_is_offered() {
        type Case<'a> = (Option<&'a [&'a str]>, &'a [&'a str], &'a str, bool);
        let cases: [Case<'_>; 16] = [
            (None, &[], "anything", true),
            (Some(&[]), &[], "anything", false),
            (Some(&["a*"]), &[], "abc", true),
            (Some(&["a*"]), &[], "bc", false),
            (Some(&["a*"]), &[], "xabc", false),
            (Some(&["a", "b"]), &[], "b", true),
            (Some(&["*"]), &["ab*"], "abc", false),
            (None, &["A*"], "abc", true),
            (None, &["file:///*"], "file:///a/b/c", false),
            (None, &["a?c"], "abc", false),
            (None, &["[a-c]x"], "bx", false),
            (None, &["db://{id}"], "db://{id}", false),
            (None, &["db://{id}"], "db://id", true),
            (None, &["db://{+path}/x"], "db://{+path}/x", false),
            (None, &["a\\b"], "a\\b", false),
            (None, &["[{]x"], "{x", false),
        ];
        for (allow, deny, name, expected) in cases {
            let filter = filter(allow, deny);
            assert_eq!(filter.allows(Offered::Resources, name), expected, "{filter:?} {name}");
            assert!(filter.allows(Offered::Tools, name), "the other kinds have rules of their own");
        }
    }

    #[test]
    fn a_resource_is_filtered_in_all_spellings() {
        let filter = filter(None, &["demo://h/secret*", "https://Example.com/x*", "file:///etc/passwd"]);
        for uri in [
            "DEMO://h/secret.md",
            "demo://h/x/../secret.md",
            "demo://h/./secret",
            " demo://h/secret",
            "demo://h/s%65cret",
            "demo://h/x%2f..%2fsecret",
            "demo://h/a\tb",
            "https://example.COM:443/x1",
            "file://localhost/etc//passwd#x",
        ] {
            assert!(!filter.allows(Offered::Resources, uri), "{uri:?}");
        }
        for uri in ["demo://h/open", "demo://h/a b/é", "https://example.com/y", "urn:x", "file:///etc/hosts"] {
            assert!(filter.allows(Offered::Resources, uri), "{uri:?}");
        }
    }

    #[test]
    fn what_is_allowed_is_allowed_in_all_spellings() {
        let allow = ["demo://h/a/*", "demo://h/é b", "demo://h/%C3%A4", "HTTPS://Example.com", "demo://H2/*"];
        let filter = filter(Some(&allow), &[]);
        for uri in ["demo://h/a/1 2/é%20%25", "demo://h/é b", "demo://h/%C3%A4", "HTTPS://Example.com", "demo://H2/x"]
        {
            assert!(filter.allows(Offered::Resources, uri), "{uri}");
        }
        for uri in
            ["demo://h/a/../b", "demo://h/a/%2e%2e/b", "demo://h/a/%252e%252e/b", "demo://h/a/..%2fb", "demo://h/b"]
        {
            assert!(!filter.allows(Offered::Resources, uri), "{uri}");
        }
    }

    #[test]
    fn lists_add_up() {
        let filter = filter(Some(&["a*"]), &["ab"]);
        let filter = filter.allow(Offered::Resources, ["b*"]).unwrap().deny(Offered::Resources, ["bc"]).unwrap();
        let offered: Vec<_> =
            ["a", "ab", "b", "bc", "c"].into_iter().filter(|name| filter.allows(Offered::Resources, name)).collect();
        assert_eq!(offered, ["a", "b"]);
        assert!(!filter.is_empty() && filter.allows_all(Offered::Tools) && !filter.allows_all(Offered::Resources));
        assert!(Filter::new().is_empty());
    }

    #[test]
    fn a_bad_pattern_is_refused() {
        for pattern in ["[", "a[b", "", "[z-a]"] {
            let error = Filter::new().deny(Offered::Tools, [pattern]).unwrap_err();
            assert_eq!(error.pattern, pattern);
            assert!(error.to_string().contains("is no pattern"), "{error}");
        }
    }
}
