//! JSON whose values know their position, so that an error can name the file, the line and the key.
//!
//! Comments and trailing commas are allowed, because editors write them into such files; other extensions of JSON are
//! not.

use std::cell::RefCell;
use std::fmt;

use jsonc_parser::ast::{Object, Value};
use jsonc_parser::common::Ranged as _;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use super::Secret;
use super::nearest::nearest;
use super::text::ConfigText;
use super::vars::{self, VariableLookup};

/// A mistake in a configuration file, and its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    /// The file, as it was named.
    pub file: String,
    /// Line and column, both from 1; none if the file could not be read.
    pub position: Option<(usize, usize)>,
    /// The way to the key, such as `mcpServers.git.args[1]`; empty for the file as a whole.
    pub key: String,
    /// What is wrong with the value, and what was expected.
    pub reason: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some((line, column)) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl std::error::Error for FileError {}

/// A file that is being read.
pub(super) struct Document<'d> {
    pub name: &'d str,
    pub text: &'d str,
    pub lookup: VariableLookup<'d>,
    /// Values of variables that were put into texts since `take_secrets` was last called.
    secrets: RefCell<Vec<Secret>>,
}

impl<'d> Document<'d> {
    pub(super) fn new(name: &'d str, text: &'d str, lookup: VariableLookup<'d>) -> Self {
        Self { name, text, lookup, secrets: RefCell::default() }
    }

    /// Parses the whole file; `None` if it is empty.
    pub(super) fn parse(&self) -> Result<Option<Value<'d>>, FileError> {
        let options = ParseOptions {
            allow_comments: true,
            allow_trailing_commas: true,
            allow_loose_object_property_names: false,
            allow_missing_commas: false,
            allow_single_quoted_strings: false,
            allow_hexadecimal_numbers: false,
            allow_unary_plus_numbers: false,
            allow_bare_decimal_point_numbers: false,
            allow_non_finite_numbers: false,
            allow_extended_string_escapes: false,
        };
        let parsed = parse_to_ast(self.text, &CollectOptions::default(), &options);
        let parsed = parsed.map_err(|error| {
            let reason =
                format!("this is not JSON (comments are fine): {}", lowercase_first(&error.kind().to_string()));
            self.error(error.range().start, "", reason)
        })?;
        Ok(parsed.value)
    }

    pub(super) fn error(&self, at: usize, key: &str, reason: impl Into<String>) -> FileError {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        FileError {
            file: self.name.to_owned(),
            position: Some((line, column)),
            key: key.to_owned(),
            reason: reason.into(),
        }
    }

    /// The values of the variables that were put into texts since this was last called.
    pub(super) fn take_secrets(&self) -> Vec<Secret> {
        self.secrets.take()
    }
}

fn lowercase_first(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// A value with its position.
#[derive(Clone)]
pub(super) struct Node<'n> {
    document: &'n Document<'n>,
    value: &'n Value<'n>,
    /// The path to the value, such as `mcpServers.git.args[1]`.
    pub key: String,
}

impl<'n> Node<'n> {
    pub(super) fn root(document: &'n Document<'n>, value: &'n Value<'n>) -> Self {
        Self { document, value, key: String::new() }
    }

    pub(super) fn error(&self, reason: impl Into<String>) -> FileError {
        self.document.error(self.value.start(), &self.key, reason)
    }

    pub(super) fn expected(&self, expected: &str) -> FileError {
        self.error(format!("expected {expected}, found {}", kind_of(self.value)))
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(self.value, Value::StringLit(_))
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.value, Value::NullKeyword(_))
    }

    pub(super) fn is_array(&self) -> bool {
        matches!(self.value, Value::Array(_))
    }

    /// Whether the value is this boolean.
    pub(super) fn is(&self, boolean: bool) -> bool {
        self.value.as_boolean_lit().is_some_and(|literal| literal.value == boolean)
    }

    /// Whether the value is null, or an empty text, list or object.
    pub(super) fn is_empty(&self) -> bool {
        match self.value {
            Value::NullKeyword(_) => true,
            Value::StringLit(literal) => literal.value.is_empty(),
            Value::Array(array) => array.elements.is_empty(),
            Value::Object(object) => object.properties.is_empty(),
            _ => false,
        }
    }

    /// The text as it is written, without its variables put in; `None` if the value is no text.
    pub(super) fn literal(&self) -> Option<&str> {
        self.value.as_string_lit().map(|literal| literal.value.as_ref())
    }

    /// The values in an object, each with its key, or in a list, each without one. A key that stands twice is given
    /// twice.
    pub(super) fn inner(&self) -> Vec<(Option<&'n str>, Node<'n>)> {
        let object = self.value.as_object().map(|object| ObjectReader {
            document: self.document,
            object,
            key: self.key.clone(),
            asked: RefCell::default(),
        });
        match object {
            Some(object) => object.entries().map(|(name, node)| (Some(name), node)).collect(),
            None => self.list().unwrap_or_default().into_iter().map(|node| (None, node)).collect(),
        }
    }

    /// The text with its variables put in.
    pub(super) fn text(&self) -> Result<ConfigText, FileError> {
        self.text_or("a string")
    }

    fn text_or(&self, expected: &str) -> Result<ConfigText, FileError> {
        let literal = self.value.as_string_lit().ok_or_else(|| self.expected(expected))?;
        let expanded =
            vars::expand(&literal.value, self.document.lookup).map_err(|error| self.error(error.to_string()))?;
        if expanded.text.contains('\0') {
            return Err(self.error("expected a text without NUL characters"));
        }
        let secret = !expanded.secrets.is_empty();
        self.document.secrets.borrow_mut().extend(expanded.secrets.into_iter().map(Secret::from));
        Ok(if secret { ConfigText::secret(expanded.text) } else { ConfigText::plain(expanded.text) })
    }

    /// The text that has something in it.
    pub(super) fn some_text(&self) -> Result<ConfigText, FileError> {
        let text = self.text()?;
        if text.expose().trim().is_empty() { Err(self.error("expected a text, found an empty one")) } else { Ok(text) }
    }

    /// The text as something else. What is wrong with it is said only if it is no secret.
    pub(super) fn parsed<T>(
        &self,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, FileError> {
        let text = self.text_or(expected)?;
        self.check(&text, expected, parse)
    }

    pub(super) fn check<T>(
        &self,
        text: &ConfigText,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, FileError> {
        parse(text.expose()).map_err(|error| {
            if text.is_secret() {
                self.error(format!("expected {expected}, and what its variable holds is none"))
            } else {
                self.error(format!("expected {expected}: {error}"))
            }
        })
    }

    /// A text, number or boolean as a text: values of environment variables may be written as any of these.
    pub(super) fn text_or_scalar(&self) -> Result<ConfigText, FileError> {
        match self.value {
            Value::NumberLit(number) => Ok(ConfigText::plain(number.value)),
            Value::BooleanLit(boolean) => Ok(ConfigText::plain(boolean.value.to_string())),
            _ => self.text(),
        }
    }

    pub(super) fn boolean(&self) -> Result<bool, FileError> {
        Ok(self.value.as_boolean_lit().ok_or_else(|| self.expected("true or false"))?.value)
    }

    /// A number that `parse` accepts. A text of one will do, because variables are texts.
    pub(super) fn number<T>(
        &self,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, FileError> {
        match self.value {
            Value::NumberLit(number) => self.check(&ConfigText::plain(number.value), expected, parse),
            _ => self.parsed(expected, parse),
        }
    }

    pub(super) fn list(&self) -> Result<Vec<Node<'n>>, FileError> {
        let array = self.value.as_array().ok_or_else(|| self.expected("a list"))?;
        let node = |(at, value)| Node { document: self.document, value, key: format!("{}[{at}]", self.key) };
        Ok(array.elements.iter().enumerate().map(node).collect())
    }

    pub(super) fn texts(&self) -> Result<Vec<ConfigText>, FileError> {
        self.list()?.iter().map(Node::text).collect()
    }

    /// The value as an object; fails if a key stands twice.
    pub(super) fn object(&self) -> Result<ObjectReader<'n>, FileError> {
        self.object_or("an object")
    }

    pub(super) fn object_or(&self, expected: &str) -> Result<ObjectReader<'n>, FileError> {
        let object = self.value.as_object().ok_or_else(|| self.expected(expected))?;
        let reader = ObjectReader { document: self.document, object, key: self.key.clone(), asked: RefCell::default() };
        let mut seen = std::collections::HashSet::new();
        for property in &object.properties {
            let name = property.name.as_str();
            if !seen.insert(name) {
                let key = reader.key_of(name);
                return Err(self.document.error(
                    property.start(),
                    &key,
                    "this key stands here twice: keep one of them",
                ));
            }
        }
        Ok(reader)
    }
}

fn kind_of(value: &Value<'_>) -> &'static str {
    match value {
        Value::StringLit(_) => "a string",
        Value::NumberLit(_) => "a number",
        Value::BooleanLit(boolean) => {
            if boolean.value {
                "true"
            } else {
                "false"
            }
        }
        Value::Object(_) => "an object",
        Value::Array(_) => "a list",
        Value::NullKeyword(_) => "null",
    }
}

/// Reads the keys of an object, and remembers which were asked for, so that [`finish`](Self::finish) can refuse the
/// others.
pub(super) struct ObjectReader<'n> {
    document: &'n Document<'n>,
    object: &'n Object<'n>,
    key: String,
    asked: RefCell<Vec<&'static str>>,
}

impl<'n> ObjectReader<'n> {
    /// An error about the object itself.
    pub(super) fn error(&self, reason: impl Into<String>) -> FileError {
        self.document.error(self.object.range.start, &self.key, reason)
    }

    /// The value of a key, unless there is none or it is null.
    pub(super) fn get(&self, name: &'static str) -> Option<Node<'n>> {
        self.asked.borrow_mut().push(name);
        let value = &self.object.get(name)?.value;
        let node = Node { document: self.document, value, key: self.key_of(name) };
        (!matches!(value, Value::NullKeyword(_))).then_some(node)
    }

    /// The value of a key that has two names, of which only one may be used.
    pub(super) fn get_either(&self, name: &'static str, other: &'static str) -> Result<Option<Node<'n>>, FileError> {
        match (self.get(name), self.get(other)) {
            (Some(_), Some(second)) => Err(second.error(format!("this is {name} by another name: keep one of them"))),
            (first, second) => Ok(first.or(second)),
        }
    }

    /// All keys and values, in order.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'n str, Node<'n>)> {
        self.object.properties.iter().map(|property| {
            let name = property.name.as_str();
            (name, Node { document: self.document, value: &property.value, key: self.key_of(name) })
        })
    }

    /// As [`ObjectReader::entries`], without those that are null.
    pub(super) fn set_entries(&self) -> impl Iterator<Item = (&'n str, Node<'n>)> {
        self.entries().filter(|(_, node)| !matches!(node.value, Value::NullKeyword(_)))
    }

    /// Fails on a key that was not asked for: a setting with a typing mistake must not be ignored.
    pub(super) fn finish(&self) -> Result<(), FileError> {
        let asked = self.asked.borrow();
        let unknown = self.object.properties.iter().find(|property| !asked.contains(&property.name.as_str()));
        let Some(property) = unknown else { return Ok(()) };
        let name = property.name.as_str();
        let hint = if let Some(known) = nearest(name, asked.iter().copied()) {
            format!("did you mean {known}?")
        } else {
            let mut known = asked.clone();
            known.sort_unstable();
            known.dedup();
            format!("the keys here are {}", known.join(", "))
        };
        let reason = format!("there is no such setting: {hint}");
        Err(self.document.error(property.start(), &self.key_of(name), reason))
    }

    fn key_of(&self, name: &str) -> String {
        let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-$".contains(c));
        match (plain, self.key.is_empty()) {
            (true, true) => name.to_owned(),
            (true, false) => format!("{}.{name}", self.key),
            (false, _) => format!("{}[{:?}]", self.key, shortened(name)),
        }
    }
}

/// A name that is short enough for an error.
fn shortened(name: &str) -> String {
    if name.chars().count() <= 80 { name.to_owned() } else { name.chars().take(77).chain("...".chars()).collect() }
}
