//! A slow and plain second opinion: reads a whole JSON tree, duplicates and all, and judges it as JSON-RPC.

/// A JSON value. Strings are UTF-16, so that lone surrogates can be held.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    Null,
    Bool,
    Number(String),
    Text(Vec<u16>),
    Array(Vec<Tree>),
    Object(Vec<(Vec<u16>, Tree)>),
}

struct OracleParser<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
}

pub(super) fn read(bytes: &[u8]) -> Option<Tree> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut reader = OracleParser { rest: text.chars().peekable() };
    let tree = reader.value()?;
    reader.rest.next().is_none().then_some(tree)
}

impl OracleParser<'_> {
    fn space(&mut self) {
        while self.rest.next_if(|char| " \t\r\n".contains(*char)).is_some() {}
    }

    fn take(&mut self, char: char) -> Option<()> {
        self.rest.next_if_eq(&char).map(drop)
    }

    fn value(&mut self) -> Option<Tree> {
        self.space();
        let tree = match self.rest.peek()? {
            '{' => {
                self.take('{')?;
                self.space();
                let mut members = Vec::new();
                while self.take('}').is_none() {
                    if !members.is_empty() {
                        self.take(',')?;
                        self.space();
                    }
                    let key = self.text()?;
                    self.space();
                    self.take(':')?;
                    members.push((key, self.value()?));
                }
                Tree::Object(members)
            }
            '[' => {
                self.take('[')?;
                self.space();
                let mut elements = Vec::new();
                while self.take(']').is_none() {
                    if !elements.is_empty() {
                        self.take(',')?;
                    }
                    elements.push(self.value()?);
                }
                Tree::Array(elements)
            }
            '"' => Tree::Text(self.text()?),
            't' => self.word("true", Tree::Bool)?,
            'f' => self.word("false", Tree::Bool)?,
            'n' => self.word("null", Tree::Null)?,
            _ => self.number()?,
        };
        self.space();
        Some(tree)
    }

    fn word(&mut self, word: &str, tree: Tree) -> Option<Tree> {
        word.chars().try_for_each(|char| self.take(char))?;
        Some(tree)
    }

    fn text(&mut self) -> Option<Vec<u16>> {
        self.take('"')?;
        let mut units = Vec::new();
        loop {
            match self.rest.next()? {
                '"' => return Some(units),
                '\\' => units.push(match self.rest.next()? {
                    'b' => 8,
                    'f' => 12,
                    'n' => 10,
                    'r' => 13,
                    't' => 9,
                    'u' => {
                        let mut unit = 0;
                        for _ in 0..4 {
                            unit = unit * 16 + u16::try_from(self.rest.next()?.to_digit(16)?).unwrap();
                        }
                        unit
                    }
                    char @ ('"' | '\\' | '/') => char as u16,
                    _ => return None,
                }),
                '\0'..' ' => return None,
                char => units.extend_from_slice(char.encode_utf16(&mut [0; 2])),
            }
        }
    }

    fn number(&mut self) -> Option<Tree> {
        let mut text = String::new();
        while let Some(char) = self.rest.next_if(|char| "+-.eE0123456789".contains(*char)) {
            text.push(char);
        }
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, Some(exponent)),
            None => (&*text, None),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (mantissa, None),
        };
        let whole = whole.strip_prefix('-').unwrap_or(whole);
        let exponent_is_fine = exponent.is_none_or(|part| digits(part.strip_prefix(['+', '-']).unwrap_or(part)));
        let fine = digits(whole) && (whole == "0" || !whole.starts_with('0'));
        (fine && fraction.is_none_or(digits) && exponent_is_fine).then_some(Tree::Number(text))
    }
}

impl Tree {
    fn all(&self, name: &str) -> Vec<&Tree> {
        let name: Vec<u16> = name.encode_utf16().collect();
        match self {
            Tree::Object(members) => members.iter().filter(|(key, _)| *key == name).map(|(_, value)| value).collect(),
            _ => Vec::new(),
        }
    }

    fn is_id(&self) -> bool {
        matches!(self, Tree::Number(_) | Tree::Text(_))
    }

    fn says(&self, text: &str) -> bool {
        *self == Tree::Text(text.encode_utf16().collect())
    }

    /// The rules of [`crate::frame`] for messages, written in another way.
    pub(super) fn is_message(&self) -> bool {
        if !matches!(self, Tree::Object(_)) {
            return false;
        }
        let members = ["jsonrpc", "id", "method", "params", "result", "error"].map(|name| self.all(name));
        if members.iter().any(|values| values.len() > 1) {
            return false;
        }
        let [version, id, method, params, result, error] = members.map(|values| values.first().copied());
        if !version.is_some_and(|version| version.says("2.0")) {
            return false;
        }
        if params.is_some_and(|params| !matches!(params, Tree::Null | Tree::Array(_) | Tree::Object(_))) {
            return false;
        }
        let id_is_fine = id.is_none_or(Tree::is_id);
        match (method, result, error) {
            (Some(method @ Tree::Text(_)), None, None) => id_is_fine && routed_once(method, id, params),
            (None, Some(_), None) => id.is_some() && id_is_fine,
            (None, None, Some(Tree::Object(_))) => id_is_fine || id == Some(&Tree::Null),
            _ => false,
        }
    }
}

fn routed_once(method: &Tree, id: Option<&Tree>, params: Option<&Tree>) -> bool {
    let Some(params) = params else { return true };
    if id.is_some() {
        let metas = params.all("_meta");
        return metas.len() <= 1 && metas.iter().all(|meta| meta.all("progressToken").len() <= 1);
    }
    !(method.says("notifications/progress") && params.all("progressToken").len() > 1
        || method.says("notifications/cancelled") && params.all("requestId").len() > 1)
}
