//! Variables in the texts of a configuration file: `${NAME}`, `${NAME:-default}`, and the editors' `${env:NAME}`.
//!
//! Any other text stays as it is, a lone `$` included. A variable without a value is an error: a server that was
//! started with `${TOKEN}` as its token would fail with an error that is much harder to understand.

use std::ffi::OsString;

use super::safe_environment;

/// Finds the value of a variable.
pub(crate) type VariableLookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// A text with its variables put in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ExpandedText {
    pub text: String,
    /// The values of the variables in the text, without those that every server gets anyway.
    pub secrets: Vec<String>,
}

/// Why a text could not be expanded. It quotes names of variables, and never their values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VarError {
    #[error("the environment variable {0} is not set: set it, or give a default with ${{{0}:-default}}")]
    Missing(String),
    #[error("the environment variable {0} is not valid UTF-8")]
    NotText(String),
    #[error(
        "${{{0}}} asks the user of an editor, and sessile has nobody to ask: write ${{NAME}} and set that variable"
    )]
    NeedsEditorInput(String),
    #[error("only editors know ${{{0}}}: write the path or text that is meant, or ${{NAME}} and set that variable")]
    EditorOnly(String),
    #[error("${{{0} has no closing brace")]
    Unclosed(String),
    #[error("the default of ${{{0}}} has a variable in it, which is not supported: write a plain text")]
    Nested(String),
}

/// Puts the variables into a text.
pub(crate) fn expand(text: &str, lookup: VariableLookup<'_>) -> Result<ExpandedText, VarError> {
    let mut expanded = ExpandedText { text: String::with_capacity(text.len()), secrets: Vec::new() };
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        expanded.text.push_str(&rest[..at]);
        let inside = &rest[at + 2..];
        if let Some((reference, after)) = Reference::read(inside)? {
            reference.resolve(lookup, &mut expanded)?;
            rest = after;
        } else {
            expanded.text.push_str("${");
            rest = inside;
        }
    }
    expanded.text.push_str(rest);
    Ok(expanded)
}

/// A reference to a variable, by what stands between the braces.
enum Reference<'a> {
    Variable { name: &'a str, default: Option<&'a str> },
    Separator,
}

impl<'a> Reference<'a> {
    /// Reads what follows `${`; `None` if it is no reference, but a text that only looks like one.
    fn read(inside: &'a str) -> Result<Option<(Self, &'a str)>, VarError> {
        if let Some(after) = inside.strip_prefix("/}").or_else(|| inside.strip_prefix("pathSeparator}")) {
            return Ok(Some((Self::Separator, after)));
        }
        let word = &inside[..inside.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inside.len())];
        if word.is_empty() || word.starts_with(|first: char| first.is_ascii_digit()) {
            return Ok(None);
        }
        let unclosed = || VarError::Unclosed(word.to_owned());
        let after = &inside[word.len()..];
        match after.as_bytes() {
            [] => Err(unclosed()),
            [b'}', ..] => match word {
                "workspaceFolder" | "workspaceFolderBasename" | "file" | "cwd" => {
                    Err(VarError::EditorOnly(word.to_owned()))
                }
                "userHome" => Ok(Some((Self::Variable { name: home(), default: None }, &after[1..]))),
                _ => Ok(Some((Self::Variable { name: word, default: None }, &after[1..]))),
            },
            [b':', b'-', ..] => {
                let (default, after) = after[2..].split_once('}').ok_or_else(unclosed)?;
                if default.contains("${") {
                    return Err(VarError::Nested(word.to_owned()));
                }
                Ok(Some((Self::Variable { name: word, default: Some(default) }, after)))
            }
            [b':', ..] => {
                let Some((argument, after)) = after[1..].split_once('}') else { return Ok(None) };
                match word {
                    "env" => {
                        let (name, default) = argument.split_once(":-").map_or((argument, None), |(n, d)| (n, Some(d)));
                        Ok(Some((Self::Variable { name, default }, after)))
                    }
                    "input" => Err(VarError::NeedsEditorInput(format!("input:{argument}"))),
                    "command" | "config" | "workspaceFolder" | "extensionInstallFolder" => {
                        Err(VarError::EditorOnly(format!("{word}:{argument}")))
                    }
                    _ => Ok(None),
                }
            }
            _ => Ok(None),
        }
    }

    fn resolve(self, lookup: VariableLookup<'_>, expanded: &mut ExpandedText) -> Result<(), VarError> {
        let (name, default) = match self {
            Self::Separator => {
                expanded.text.push(std::path::MAIN_SEPARATOR);
                return Ok(());
            }
            Self::Variable { name, default } => (name, default),
        };
        let value = match lookup(name) {
            Some(value) => value.into_string().map_err(|_| VarError::NotText(name.to_owned()))?,
            None => String::new(),
        };
        match (value.is_empty(), default) {
            // As in a shell: an empty variable counts as none where there is a default.
            (true, Some(default)) => expanded.text.push_str(default),
            (true, None) if lookup(name).is_none() => return Err(VarError::Missing(name.to_owned())),
            (true, None) => {}
            (false, _) => {
                expanded.text.push_str(&value);
                if !safe_environment::may_be_shown(name) {
                    expanded.secrets.push(value);
                }
            }
        }
        Ok(())
    }
}

fn home() -> &'static str {
    if cfg!(windows) { "USERPROFILE" } else { "HOME" }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lookup(name: &str) -> Option<OsString> {
        let set =
            [("TOKEN", "t0ps3cret"), ("HOME", "/home/me"), ("EMPTY", ""), ("DOLLAR", "${TOKEN}"), ("a.b", "dots")];
        set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into())
    }

    #[test]
    fn variables_are_put_in() {
        let cases = [
            ("plain", "plain"),
            ("", ""),
            ("${TOKEN}", "t0ps3cret"),
            ("a ${TOKEN} b ${HOME}", "a t0ps3cret b /home/me"),
            ("${env:TOKEN}", "t0ps3cret"),
            ("${env:a.b}", "dots"),
            ("${env:NONE:-x}", "x"),
            ("${userHome}/x", "/home/me/x"),
            ("${NONE:-default text}", "default text"),
            ("${NONE:-}", ""),
            ("${TOKEN:-default}", "t0ps3cret"),
            ("${EMPTY:-default}", "default"),
            ("[${EMPTY}]", "[]"),
            // Values are not expanded again.
            ("${DOLLAR}", "${TOKEN}"),
            ("${DOLLAR:-$}", "${TOKEN}"),
            ("${NONE:-$}{TOKEN}", "${TOKEN}"),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text, &lookup).map(|expanded| expanded.text).as_deref(), Ok(expected), "{text}");
        }
        let separator = std::path::MAIN_SEPARATOR.to_string();
        assert_eq!(expand("${/}${pathSeparator}", &lookup).unwrap().text, separator.repeat(2));
    }

    #[test]
    fn what_is_no_variable_stays() {
        for text in [
            "$",
            "$$",
            "$TOKEN",
            "${}",
            "${ TOKEN }",
            "${1}",
            "${TOKEN%x}",
            "${TOKEN-x}",
            "{TOKEN}",
            "a$",
            "${a:b}",
            "${",
            "${-",
        ] {
            assert_eq!(expand(text, &lookup).unwrap().text, text);
        }
    }

    #[test]
    fn errors_say_which_variable() {
        let cases = [
            ("${NONE}", "the environment variable NONE is not set: set it, or give a default with ${NONE:-default}"),
            ("${env:NONE}", "the environment variable NONE is not set"),
            ("${input:api-key}", "${input:api-key} asks the user of an editor"),
            ("${workspaceFolder}/x", "only editors know ${workspaceFolder}"),
            ("${config:a.b}", "only editors know ${config:a.b}"),
            ("${TOKEN", "${TOKEN has no closing brace"),
            ("${TOKEN:-x", "${TOKEN has no closing brace"),
            ("${A:-${B}}", "the default of ${A} has a variable in it"),
        ];
        for (text, expected) in cases {
            let error = expand(text, &lookup).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }

    #[test]
    fn values_are_secrets_but_for_what_every_server_gets() {
        assert_eq!(expand("${TOKEN}", &lookup).unwrap().secrets, ["t0ps3cret"]);
        assert!(expand("${HOME} ${NONE:-x} ${EMPTY}", &lookup).unwrap().secrets.is_empty());
    }

    proptest! {
        #[test]
        fn no_text_is_too_much(text in r"(\$|\{|\}|:|-|/|[A-Z]{1,3}|env|input|é){0,12}") {
            if let Ok(expanded) = expand(&text, &|_| Some("v".into())) {
                let untouched = expanded.text == text;
                prop_assert!(untouched || text.contains("${"), "{text}");
            }
        }
    }
}
