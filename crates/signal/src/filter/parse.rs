//! `or` of `and` of `not` of comparisons, by recursive descent.

use super::{Compare, Condition, FilterError, Value};
use crate::stream::{Stream, time_ms, uuid};
use arrow_schema::DataType;

/// Nested parentheses and `not`.
const MAX_DEPTH: usize = 32;
const MAX_TEXT: usize = 4 << 10;

/// Other names of columns.
const ALIASES: &[(&str, &str)] = &[
    ("env", "environment"),
    ("id", "request_id"),
    ("ip", "client_ip"),
    ("duration", "duration_us"),
    ("upstream", "upstream_us"),
    ("connect", "connect_us"),
    ("tls", "tls_version"),
    ("cipher", "tls_cipher"),
    ("rule", "rules"),
    ("agent", "user_agent"),
    ("unit", "part"),
    ("time", "ts"),
];

const COLUMNS: &[&str] = &[
    "ts",
    "request_id",
    "environment",
    "deployment",
    "host",
    "method",
    "path",
    "query",
    "status",
    "bytes_in",
    "bytes_out",
    "duration_us",
    "upstream_us",
    "client_ip",
    "user_agent",
    "referer",
    "route",
    "protocol",
    "upgraded",
    "error",
    "error_reason",
    "blame",
    "cache",
    "connect_us",
    "retries",
    "tls_version",
    "tls_cipher",
    "rules",
    "part",
    "level",
    "message",
];

pub(super) fn parse(text: &str, stream: Stream) -> Result<Condition, FilterError> {
    let mut parser = Parser {
        text,
        at: 0,
        depth: 0,
        stream,
    };
    if text.len() > MAX_TEXT {
        return Err(FilterError {
            text: "…".to_owned(),
            at: 1,
            message: format!("a condition has at most {MAX_TEXT} bytes"),
        });
    }
    let root = parser.any()?;
    parser.space();
    if parser.at < text.len() {
        return Err(parser.wrong("expected `and`, `or` or the end"));
    }
    Ok(root)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    stream: Stream,
}

impl<'a> Parser<'a> {
    fn any(&mut self) -> Result<Condition, FilterError> {
        let mut sides = vec![self.all()?];
        while self.word("or") || self.sign("||") {
            sides.push(self.all()?);
        }
        Ok(one_or(sides, Condition::Or))
    }

    fn all(&mut self) -> Result<Condition, FilterError> {
        let mut sides = vec![self.one()?];
        while self.word("and") || self.sign("&&") {
            sides.push(self.one()?);
        }
        Ok(one_or(sides, Condition::And))
    }

    fn one(&mut self) -> Result<Condition, FilterError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.wrong("this is nested too deeply"));
        }
        let found = if self.word("not") {
            Condition::Not(Box::new(self.one()?))
        } else if self.sign("(") {
            let inner = self.any()?;
            if !self.sign(")") {
                return Err(self.wrong("expected `)`"));
            }
            inner
        } else {
            self.comparison()?
        };
        self.depth -= 1;
        Ok(found)
    }

    fn comparison(&mut self) -> Result<Condition, FilterError> {
        self.space();
        let begin = self.at;
        let name = self.take(|c| c.is_ascii_alphanumeric() || c == '_');
        let full = ALIASES
            .iter()
            .find(|(alias, _)| *alias == name)
            .map_or(name, |(_, full)| full);
        let schema = self.stream.schema();
        let column = COLUMNS.iter().copied().find(|column| *column == full);
        let (Some(column), Ok(field)) = (column, schema.field_with_name(full)) else {
            self.at = begin;
            let known: Vec<&str> = schema
                .fields()
                .iter()
                .map(|field| field.name().as_str())
                .collect();
            return Err(self.wrong(&format!("expected a field: {}", known.join(", "))));
        };
        let Some(compare) = self.compare() else {
            return Err(self.wrong("expected one of = != < <= > >= ~ !~"));
        };
        self.space();
        let begin = self.at;
        let value = self.value()?;
        let kind = field.data_type();
        let value = typed(kind, column, compare, &value).ok_or_else(|| {
            self.at = begin;
            self.wrong(&expected(kind, column, compare))
        })?;
        Ok(Condition::Is {
            column,
            compare,
            value,
        })
    }

    fn compare(&mut self) -> Option<Compare> {
        const SIGNS: [(&str, Compare); 9] = [
            ("!=", Compare::Unequal),
            ("!~", Compare::Lacks),
            ("<=", Compare::LessOrEqual),
            (">=", Compare::GreaterOrEqual),
            ("==", Compare::Equal),
            ("=", Compare::Equal),
            ("<", Compare::Less),
            (">", Compare::Greater),
            ("~", Compare::Contains),
        ];
        SIGNS
            .into_iter()
            .find_map(|(sign, compare)| self.sign(sign).then_some(compare))
    }

    /// In quotes with `\` before a quote, or up to a space or parenthesis.
    fn value(&mut self) -> Result<String, FilterError> {
        let quote = self.text[self.at..]
            .chars()
            .next()
            .filter(|c| matches!(c, '"' | '\''));
        let Some(quote) = quote else {
            let plain = self.take(|c| !c.is_whitespace() && c != ')' && c != '(');
            if plain.is_empty() {
                return Err(self.wrong("expected a value"));
            }
            return Ok(plain.to_owned());
        };
        let mut value = String::new();
        let mut escaped = false;
        for (index, c) in self.text[self.at + 1..].char_indices() {
            match c {
                '\\' if !escaped => escaped = true,
                c if c == quote && !escaped => {
                    self.at += 1 + index + 1;
                    return Ok(value);
                }
                c => {
                    if escaped && c != quote && c != '\\' {
                        value.push('\\');
                    }
                    escaped = false;
                    value.push(c);
                }
            }
        }
        Err(self.wrong("this quote is not closed"))
    }

    fn space(&mut self) {
        self.take(char::is_whitespace);
    }

    fn take(&mut self, of: impl Fn(char) -> bool) -> &'a str {
        let rest = &self.text[self.at..];
        let end = rest.find(|c| !of(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn sign(&mut self, sign: &str) -> bool {
        self.space();
        let found = self.text[self.at..].starts_with(sign);
        if found {
            self.at += sign.len();
        }
        found
    }

    /// In any case, and ended by something that is no letter.
    fn word(&mut self, word: &str) -> bool {
        self.space();
        let rest = &self.text[self.at..];
        let found = rest
            .get(..word.len())
            .is_some_and(|text| text.eq_ignore_ascii_case(word))
            && !rest[word.len()..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        if found {
            self.at += word.len();
        }
        found
    }

    fn wrong(&self, message: &str) -> FilterError {
        FilterError {
            text: self.text.to_owned(),
            at: self.text[..self.at].chars().count() + 1,
            message: message.to_owned(),
        }
    }
}

fn one_or(mut sides: Vec<Condition>, many: fn(Vec<Condition>) -> Condition) -> Condition {
    if sides.len() == 1
        && let Some(only) = sides.pop()
    {
        return only;
    }
    many(sides)
}

fn typed(kind: &DataType, column: &str, compare: Compare, text: &str) -> Option<Value> {
    use Compare::{Contains, Equal, Lacks, Unequal};
    let equality = matches!(compare, Equal | Unequal);
    let search = matches!(compare, Contains | Lacks);
    match kind {
        DataType::Utf8 | DataType::Dictionary(..) => {
            (equality || search).then(|| Value::Text(text.to_owned()))
        }
        DataType::FixedSizeBinary(_) if equality => uuid(text).map(Value::Id),
        DataType::Boolean if equality => text.parse().ok().map(Value::Bool),
        DataType::Timestamp(..) if !search => time_ms(text).map(Value::Number),
        DataType::UInt16 | DataType::UInt64 if !search => number(column, text).map(Value::Number),
        _ => None,
    }
}

/// `500`, or a time with its unit for what is measured in microseconds.
fn number(column: &str, text: &str) -> Option<i64> {
    if !column.ends_with("_us") {
        return text.parse().ok();
    }
    let (digits, factor) = if let Some(digits) = text.strip_suffix("us") {
        (digits, 1.0)
    } else if let Some(digits) = text.strip_suffix("ms") {
        (digits, 1e3)
    } else if let Some(digits) = text.strip_suffix('s') {
        (digits, 1e6)
    } else {
        (text, 1.0)
    };
    let number: f64 = digits.parse().ok()?;
    let micros = number * factor;
    #[expect(clippy::cast_possible_truncation, reason = "checked to be in range")]
    (micros.is_finite() && (0.0..1e15).contains(&micros)).then_some(micros as i64)
}

fn expected(kind: &DataType, column: &str, compare: Compare) -> String {
    let search = matches!(compare, Compare::Contains | Compare::Lacks);
    match kind {
        DataType::Utf8 | DataType::Dictionary(..) => {
            format!("{column} is text: expected one of = != ~ !~ before it")
        }
        _ if search => format!("{column} is no text: ~ and !~ search in text"),
        DataType::FixedSizeBinary(_) => format!("{column} is an id of 32 hex digits, and is equal or not"),
        DataType::Boolean => format!("{column} is true or false"),
        DataType::Timestamp(..) => format!("{column} is a time such as 2026-11-27T14:00:00Z"),
        _ if column.ends_with("_us") => {
            format!("{column} is a duration such as 500ms, 2s or 1500 (microseconds)")
        }
        _ => format!("{column} is a number"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match parse(text, Stream::Access) {
            Ok(condition) => show(&condition),
            Err(error) => format!("{}: {}", error.at, error.message),
        }
    }

    fn show(condition: &Condition) -> String {
        let join = |sides: &[Condition], word: &str| {
            let sides: Vec<String> = sides.iter().map(show).collect();
            format!("({})", sides.join(word))
        };
        match condition {
            Condition::And(sides) => join(sides, " & "),
            Condition::Or(sides) => join(sides, " | "),
            Condition::Not(side) => format!("!{}", show(side)),
            Condition::Is {
                column,
                compare,
                value,
            } => format!("{column} {compare:?} {value:?}"),
            Condition::Grep(text, _) => text.clone(),
        }
    }

    #[test]
    fn conditions_are_read() {
        for (text, tree) in [
            ("status>=500", "status GreaterOrEqual Number(500)"),
            (
                r#"status>=500 and path~"/api""#,
                r#"(status GreaterOrEqual Number(500) & path Contains Text("/api"))"#,
            ),
            (
                "status=1 OR status = 2 and not (method!=GET)",
                r#"(status Equal Number(1) | (status Equal Number(2) & !method Unequal Text("GET")))"#,
            ),
            ("duration>1.5ms", "duration_us Greater Number(1500)"),
            ("upgraded=true", "upgraded Equal Bool(true)"),
            (r#"path="a\"b\\c\d""#, r#"path Equal Text("a\"b\\c\\d")"#),
            ("ts<1970-01-01T00:00:01Z", "ts Less Number(1000)"),
            ("path!~é", r#"path Lacks Text("é")"#),
        ] {
            assert_eq!(shown(text), tree, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, message) in [
            ("status>=abc", "9: status is a number"),
            ("status~5", "8: status is no text: ~ and !~ search in text"),
            ("path>a", "6: path is text: expected one of = != ~ !~ before it"),
            ("status", "7: expected one of = != < <= > >= ~ !~"),
            ("status=1 status=2", "10: expected `and`, `or` or the end"),
            ("(status=1", "10: expected `)`"),
            ("path=\"a", "6: this quote is not closed"),
            ("status=", "8: expected a value"),
            (
                "id=abc",
                "4: request_id is an id of 32 hex digits, and is equal or not",
            ),
        ] {
            assert_eq!(shown(text), message, "{text}");
        }
        assert!(shown("level=error").starts_with("1: expected a field: ts, request_id,"));
        assert!(shown(&"(".repeat(100)).contains("nested too deeply"));
        assert!(shown(&"x".repeat(10_000)).contains("at most"));
    }
}
