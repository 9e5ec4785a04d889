//! Files of variables, as the `envFile` of an entry names them: `NAME=value` on each line, with `#` for comments.

/// Takes such a file apart; what is wrong with it is said with the number of the line, and with nothing of a value.
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut variables = Vec::new();
    for (at, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or_else(|| format!("line {}: expected NAME=value", at + 1))?;
        let name = name.trim_end();
        if name.is_empty() || name.contains(char::is_whitespace) || line.contains('\0') {
            return Err(format!("line {}: expected the name of a variable before the =", at + 1));
        }
        let value = unquoted(value.trim()).ok_or_else(|| format!("line {}: a quote is not closed", at + 1))?;
        variables.push((name.to_owned(), value));
    }
    Ok(variables)
}

/// The value without its quotes, or without the comment that follows it.
fn unquoted(value: &str) -> Option<String> {
    let inside = |quote: char| value.strip_prefix(quote).map(|rest| rest.split_once(quote).map(|(inside, _)| inside));
    if let Some(literal) = inside('\'') {
        return literal.map(str::to_owned);
    }
    let Some(rest) = value.strip_prefix('"') else {
        let end = value.find(" #").unwrap_or(value.len());
        return Some(value[..end].trim_end().to_owned());
    };
    let mut text = String::new();
    let mut letters = rest.chars();
    loop {
        match letters.next()? {
            '"' => return Some(text),
            '\\' => match letters.next()? {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                escaped @ ('"' | '\\' | '$') => text.push(escaped),
                other => text.extend(['\\', other]),
            },
            letter => text.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read() {
        let text = "\u{feff}# comment\n\nA=1\nexport B = two words # comment\nC='# $kept'\nD=\"a\\n\\\"b\\\"\" # x\nE=\nF=a=b\r\n";
        let read = parse(text).unwrap();
        let read: Vec<_> = read.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let expected = [("A", "1"), ("B", "two words"), ("C", "# $kept"), ("D", "a\n\"b\""), ("E", ""), ("F", "a=b")];
        assert_eq!(read, expected);
    }

    #[test]
    fn errors_name_the_line_and_no_value() {
        for (text, expected) in [
            ("A=1\nsecret", "line 2: expected NAME=value"),
            ("=secret", "line 1: expected the name"),
            ("a b=secret", "line 1: expected the name"),
            ("A=\"secret", "line 1: a quote is not closed"),
            ("A='secret", "line 1: a quote is not closed"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(expected) && !error.contains("secret"), "{text}: {error}");
        }
    }
}
