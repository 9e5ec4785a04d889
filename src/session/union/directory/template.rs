//! Whether a URI may have come from a template (RFC 6570).
//!
//! This routes, it does not validate: what a variable can stand for is read a little more widely than the RFC has it,
//! because servers do so too. The time is bounded by the length of the template times that of the URI: both are bounded
//! here, and so is what all templates take together. What is beyond that cannot be told.

/// The longest template, in literal bytes and expressions.
const MOST_STEPS: usize = 512;
/// The longest URI, in bytes.
const LONGEST_URI: usize = 4096;
/// What one look among templates may take: steps of templates times bytes of URIs. It is some ten milliseconds.
pub(super) const MOST_WORK: usize = 8 * 1024 * 1024;

/// A template that was read.
#[derive(Debug, Clone)]
pub(crate) struct UriPattern(Box<[PatternStep]>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PatternStep {
    Byte(u8),
    /// Any number of bytes of a class.
    Any(ByteClass),
    /// Nothing, or this byte and then any number of a class.
    Maybe(u8, ByteClass),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ByteClass {
    /// What stands within one part of a path.
    Part,
    /// Several parts of a path.
    Path,
    /// All but a fragment.
    Query,
    All,
}

impl ByteClass {
    fn takes(self, byte: u8) -> bool {
        match self {
            Self::Part => !matches!(byte, b'/' | b'?' | b'#'),
            Self::Path => !matches!(byte, b'?' | b'#'),
            Self::Query => byte != b'#',
            Self::All => true,
        }
    }
}

impl UriPattern {
    /// Reads a template. What is not well formed stands for itself.
    pub(crate) fn new(template: &str) -> Self {
        let mut steps = Vec::new();
        let mut rest = template;
        while let Some(open) = rest.find('{') {
            let (literal, expression) = rest.split_at(open);
            let Some(close) = expression.find('}') else { break };
            steps.extend(literal.bytes().map(PatternStep::Byte));
            steps.push(match expression.as_bytes().get(1) {
                Some(b'+') => PatternStep::Any(ByteClass::All),
                Some(b'#') => PatternStep::Maybe(b'#', ByteClass::All),
                Some(b'.') => PatternStep::Maybe(b'.', ByteClass::Part),
                Some(b'/') => PatternStep::Maybe(b'/', ByteClass::Path),
                Some(b';') => PatternStep::Maybe(b';', ByteClass::Part),
                Some(b'?') => PatternStep::Maybe(b'?', ByteClass::Query),
                Some(b'&') => PatternStep::Maybe(b'&', ByteClass::Query),
                _ => PatternStep::Any(ByteClass::Part),
            });
            rest = &expression[close + 1..];
        }
        steps.extend(rest.bytes().map(PatternStep::Byte));
        Self(steps.into_boxed_slice())
    }

    /// Whether it can stand for this URI; `None` if that takes more than is bearable. What it takes is taken off
    /// `work`.
    pub(crate) fn matches(&self, uri: &str, work: &mut usize) -> Option<bool> {
        let steps = &self.0;
        let literal =
            steps.iter().map_while(|step| if let PatternStep::Byte(byte) = step { Some(*byte) } else { None });
        // Most templates differ from a URI in their first bytes.
        if literal.zip(uri.bytes()).any(|(expected, byte)| expected != byte) {
            return Some(false);
        }
        if steps.len() > MOST_STEPS || uri.len() > LONGEST_URI {
            return None;
        }
        *work = work.checked_sub((steps.len() + 1) * (uri.len() + 1))?;
        // All places in the template at which one may be. `inside` are those within a `Maybe` that was begun.
        let (mut at, mut inside) = (vec![false; steps.len() + 1], vec![false; steps.len()]);
        let (mut next, mut begun) = (at.clone(), inside.clone());
        at[0] = true;
        skip(steps, &mut at, &inside);
        for byte in uri.bytes() {
            next.fill(false);
            begun.fill(false);
            for (place, step) in steps.iter().enumerate() {
                match *step {
                    PatternStep::Byte(expected) => next[place + 1] |= at[place] && byte == expected,
                    PatternStep::Any(class) => next[place] |= at[place] && class.takes(byte),
                    PatternStep::Maybe(first, class) => {
                        begun[place] |= at[place] && byte == first || inside[place] && class.takes(byte);
                    }
                }
            }
            skip(steps, &mut next, &begun);
            if !next.contains(&true) {
                return Some(false);
            }
            std::mem::swap(&mut at, &mut next);
            std::mem::swap(&mut inside, &mut begun);
        }
        at.last().copied()
    }
}

/// What may stand for nothing, or has had enough, is passed over.
fn skip(steps: &[PatternStep], at: &mut [bool], inside: &[bool]) {
    for (place, step) in steps.iter().enumerate() {
        if at[place] && !matches!(step, PatternStep::Byte(_)) || inside[place] {
            at[place + 1] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(template: &str, uri: &str) -> Option<bool> {
        UriPattern::new(template).matches(uri, &mut { MOST_WORK })
    }

    #[test]
    fn a_template_stands_for_what_it_can_become() {
        let cases = [
            ("demo://{id}", "demo://7", true),
            ("demo://{id}", "demo://", true),
            ("demo://{id}", "demo://a/b", false),
            ("demo://{id}", "demo:/7", false),
            ("demo://{id}/x", "demo://7/x", true),
            ("demo://{id}/x", "demo://7/y", false),
            ("demo://{a}/{b}", "demo://1/2", true),
            ("demo://{a}/{b}", "demo://1", false),
            ("demo://{a}-{b}", "demo://1-2-3", true),
            ("demo://{a,b}", "demo://1,2", true),
            ("demo://{a*}", "demo://1,2", true),
            ("file:///{+path}", "file:///a/b?c#d", true),
            ("file:///{path}", "file:///a/b", false),
            ("x://y{#part}", "x://y", true),
            ("x://y{#part}", "x://y#z/z", true),
            ("x://y{#part}", "x://yz", false),
            ("x://y{.kind}", "x://y.json", true),
            ("x://y{/a,b}", "x://y/1/2", true),
            ("x://y{/a,b}/z", "x://y/1/2/z", true),
            ("x://y{/a,b}", "x://y?1", false),
            ("x://y{;a}", "x://y;a=1", true),
            ("x://y{?a,b}", "x://y?a=1&b=2", true),
            ("x://y{?a,b}", "x://y", true),
            ("x://y{?a,b}", "x://ya=1", false),
            ("x://y?c=d{&a}", "x://y?c=d&a=1", true),
            ("x://{a", "x://{a", true),
            ("x://{a", "x://b", false),
            ("x://}", "x://}", true),
            ("x://é{a}", "x://éü", true),
            ("", "", true),
            ("", "x", false),
        ];
        for (template, uri, expected) in cases {
            assert_eq!(matches(template, uri), Some(expected), "{template} {uri}");
        }
    }

    #[test]
    fn no_template_takes_long() {
        let template = "{+a}".repeat(MOST_STEPS - 1);
        let uri = "x".repeat(LONGEST_URI);
        assert_eq!(matches(&template, &uri), Some(true));
        assert_eq!(matches(&format!("{template}y"), &uri), Some(false));
        assert_eq!(matches(&format!("{template}{{a}}{{a}}"), &uri), None);
        assert_eq!(matches(&template, &format!("{uri}x")), None);
        assert_eq!(matches("y{+a}", &format!("{uri}x")), Some(false), "it differs at once");
        assert_eq!(UriPattern::new(&template).matches(&uri, &mut 1000), None);
    }

    proptest! {
        #[test]
        fn a_uri_matches_itself_and_its_own_template(parts in proptest::collection::vec("[a-z0-9._~-]{0,5}", 1..5)) {
            let uri = format!("x://{}", parts.join("/"));
            let template = format!("x://{}", vec!["{v}"; parts.len()].join("/"));
            prop_assert_eq!(matches(&uri, &uri), Some(true));
            prop_assert_eq!(matches(&template, &uri), Some(true));
            let one_more = uri + "/z";
            prop_assert_eq!(matches(&template, &one_more), Some(false));
        }

        #[test]
        fn any_template_can_be_read(template in ".*", uri in ".*") {
            matches(&template, &uri);
        }
    }
}
