//! An expression in tokens.

use super::number;
use super::value::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    StartGroup,
    StartIndex,
    StartParameters,
    EndGroup,
    EndIndex,
    EndParameters,
    Separator,
    Dereference,
    Wildcard,
    Operator(Operator),
    Literal,
    PropertyName,
    Function,
    NamedValue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Not,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Equal,
    And,
    Or,
}

#[derive(Debug, Clone)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) raw: &'a str,
    /// In bytes.
    pub(super) index: usize,
    /// Of a literal.
    pub(super) value: Value,
}

/// What stands where nothing of its kind may.
pub(super) struct Unexpected<'a> {
    pub(super) raw: &'a str,
    pub(super) index: usize,
    /// It is no token at all.
    pub(super) lexical: bool,
}

pub(super) struct Lexer<'a> {
    text: &'a str,
    index: usize,
    last: Option<Kind>,
    /// What is open: start tokens.
    open: Vec<Kind>,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            index: 0,
            last: None,
            open: Vec::new(),
        }
    }

    pub(super) fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    pub(super) fn next(&mut self) -> Result<Option<Token<'a>>, Unexpected<'a>> {
        let rest = &self.text[self.index..];
        self.index += rest.len() - rest.trim_start().len();
        let Some(first) = self.text[self.index..].chars().next() else {
            return Ok(None);
        };
        let token = match first {
            '(' if self.last == Some(Kind::Function) => self.one(Kind::StartParameters),
            '(' => self.one(Kind::StartGroup),
            '[' => self.one(Kind::StartIndex),
            ')' if self.open.last() == Some(&Kind::StartParameters) => self.one(Kind::EndParameters),
            ')' => self.one(Kind::EndGroup),
            ']' => self.one(Kind::EndIndex),
            ',' => self.one(Kind::Separator),
            '*' => self.one(Kind::Wildcard),
            '\'' => self.string()?,
            '!' | '>' | '<' | '=' | '&' | '|' => self.operator()?,
            '.' if self.at_start_of_value() => self.number()?,
            '.' => self.one(Kind::Dereference),
            '-' | '+' | '0'..='9' => self.number()?,
            _ => self.keyword()?,
        };
        self.check(&token)?;
        self.last = Some(token.kind);
        Ok(Some(token))
    }

    fn one(&mut self, kind: Kind) -> Token<'a> {
        let start = self.index;
        self.index += 1;
        self.token(kind, start, Value::Null)
    }

    fn token(&self, kind: Kind, start: usize, value: Value) -> Token<'a> {
        Token {
            kind,
            raw: &self.text[start..self.index],
            index: start,
            value,
        }
    }

    fn unreadable(&self, start: usize) -> Unexpected<'a> {
        Unexpected {
            raw: &self.text[start..self.index],
            index: start,
            lexical: true,
        }
    }

    /// On to the next character at which this does not hold.
    fn skip_while(&mut self, holds: impl Fn(char) -> bool) {
        let rest = &self.text[self.index..];
        self.index += rest.find(|c| !holds(c)).unwrap_or(rest.len());
    }

    fn number(&mut self) -> Result<Token<'a>, Unexpected<'a>> {
        let start = self.index;
        self.index += 1;
        self.skip_while(|c| c == '.' || !is_boundary(c));
        let number = number::parse(&self.text[start..self.index]);
        if number.is_nan() {
            return Err(self.unreadable(start));
        }
        Ok(self.token(Kind::Literal, start, Value::Number(number)))
    }

    fn string(&mut self) -> Result<Token<'a>, Unexpected<'a>> {
        let start = self.index;
        let mut value = String::new();
        self.index += 1;
        loop {
            let Some(length) = self.text[self.index..].find('\'') else {
                self.index = self.text.len();
                return Err(self.unreadable(start));
            };
            value.push_str(&self.text[self.index..self.index + length]);
            self.index += length + 1;
            // Two of them are one that belongs to the string.
            if !self.text[self.index..].starts_with('\'') {
                break;
            }
            value.push('\'');
            self.index += 1;
        }
        Ok(self.token(Kind::Literal, start, Value::String(value)))
    }

    fn operator(&mut self) -> Result<Token<'a>, Unexpected<'a>> {
        const ALL: [(&str, Operator); 9] = [
            ("!=", Operator::NotEqual),
            (">=", Operator::GreaterOrEqual),
            ("<=", Operator::LessOrEqual),
            ("==", Operator::Equal),
            ("&&", Operator::And),
            ("||", Operator::Or),
            ("!", Operator::Not),
            (">", Operator::Greater),
            ("<", Operator::Less),
        ];
        let start = self.index;
        let rest = &self.text[start..];
        if let Some((raw, operator)) = ALL.iter().find(|(raw, _)| rest.starts_with(raw)) {
            self.index += raw.len();
            return Ok(self.token(Kind::Operator(*operator), start, Value::Null));
        }
        self.index += 1;
        self.skip_while(|c| !is_boundary(c));
        Err(self.unreadable(start))
    }

    fn keyword(&mut self) -> Result<Token<'a>, Unexpected<'a>> {
        let start = self.index;
        self.skip_while(|c| !is_boundary(c));
        let raw = &self.text[start..self.index];
        if !is_keyword(raw) {
            return Err(self.unreadable(start));
        }
        if self.last == Some(Kind::Dereference) {
            return Ok(self.token(Kind::PropertyName, start, Value::Null));
        }
        let literal = match raw {
            "null" => Some(Value::Null),
            "true" => Some(Value::Boolean(true)),
            "false" => Some(Value::Boolean(false)),
            "NaN" => Some(Value::Number(f64::NAN)),
            "Infinity" => Some(Value::Number(f64::INFINITY)),
            _ => None,
        };
        if let Some(value) = literal {
            return Ok(self.token(Kind::Literal, start, value));
        }
        let called = self.text[self.index..].trim_start().starts_with('(');
        let kind = if called { Kind::Function } else { Kind::NamedValue };
        Ok(self.token(kind, start, Value::Null))
    }

    /// Whether a value may begin here: nothing before it, or something that takes one.
    fn at_start_of_value(&self) -> bool {
        matches!(
            self.last,
            None | Some(
                Kind::Separator
                    | Kind::StartGroup
                    | Kind::StartIndex
                    | Kind::StartParameters
                    | Kind::Operator(_)
            )
        )
    }

    /// Whether what stands before is something that can be looked into.
    fn after_container(&self) -> bool {
        matches!(
            self.last,
            Some(
                Kind::EndGroup
                    | Kind::EndParameters
                    | Kind::EndIndex
                    | Kind::Wildcard
                    | Kind::PropertyName
                    | Kind::NamedValue
            )
        )
    }

    fn after_value(&self) -> bool {
        self.after_container() || self.last == Some(Kind::Literal)
    }

    /// Whether the token may stand here; remembers what it opens and closes.
    fn check(&mut self, token: &Token<'a>) -> Result<(), Unexpected<'a>> {
        let open = self.open.last().copied();
        let legal = match token.kind {
            Kind::StartGroup | Kind::Literal | Kind::Function | Kind::NamedValue => self.at_start_of_value(),
            Kind::Operator(Operator::Not) => self.at_start_of_value(),
            Kind::Operator(_) => self.after_value(),
            Kind::StartIndex | Kind::Dereference => self.after_container(),
            Kind::StartParameters => self.last == Some(Kind::Function),
            Kind::EndGroup => self.after_value() && open == Some(Kind::StartGroup),
            Kind::EndIndex => self.after_value() && open == Some(Kind::StartIndex),
            Kind::EndParameters => {
                (self.after_value() || self.last == Some(Kind::StartParameters))
                    && open == Some(Kind::StartParameters)
            }
            Kind::Separator => self.after_value() && open == Some(Kind::StartParameters),
            Kind::Wildcard => matches!(self.last, Some(Kind::StartIndex | Kind::Dereference)),
            Kind::PropertyName => self.last == Some(Kind::Dereference),
        };
        if !legal {
            return Err(Unexpected {
                raw: token.raw,
                index: token.index,
                lexical: false,
            });
        }
        match token.kind {
            Kind::StartGroup | Kind::StartIndex | Kind::StartParameters => self.open.push(token.kind),
            Kind::EndGroup | Kind::EndIndex | Kind::EndParameters => {
                self.open.pop();
            }
            _ => {}
        }
        Ok(())
    }
}

fn is_boundary(c: char) -> bool {
    matches!(
        c,
        '(' | '[' | ')' | ']' | ',' | '.' | '!' | '>' | '<' | '=' | '&' | '|'
    ) || c.is_whitespace()
}

pub(crate) fn is_keyword(text: &str) -> bool {
    let mut all = text.bytes();
    let first = all.next();
    first.is_some_and(|c| c.is_ascii_alphabetic() || c == b'_')
        && all.all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-')
}
