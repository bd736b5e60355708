//! `fromJSON` and `toJSON`.

use super::value::{Object, Value};
use super::{MAX_JSON_DEPTH, number};
use std::fmt::Write;

/// RFC 8259, nothing more. Of names that are alike the last counts; of names that differ by case alone, the
/// first.
pub(super) fn read(text: &str) -> Result<Value, String> {
    let mut reader = Reader { text, at: 0 };
    let value = reader.value(0)?;
    reader.skip_space();
    match reader.peek() {
        None => Ok(value),
        Some(other) => Err(reader.error(&format!("unexpected `{other}` after the value"))),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn error(&self, what: &str) -> String {
        let before = &self.text[..self.at];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        format!("{what} at line {line}, column {column}")
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn skip_space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.text[self.at..].starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        if depth > MAX_JSON_DEPTH {
            return Err(self.error("nesting is too deep"));
        }
        self.skip_space();
        match self.peek() {
            None => Err(self.error("unexpected end")),
            Some('{') => self.object(depth),
            Some('[') => self.array(depth),
            Some('"') => self.string().map(Value::String),
            Some('-' | '0'..='9') => self.number(),
            Some(other) => {
                for (name, value) in [
                    ("null", Value::Null),
                    ("true", Value::Boolean(true)),
                    ("false", Value::Boolean(false)),
                ] {
                    if self.eat(name) {
                        return Ok(value);
                    }
                }
                Err(self.error(&format!("unexpected `{other}`")))
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, String> {
        self.at += 1;
        let mut items = Vec::new();
        self.skip_space();
        if self.eat("]") {
            return Ok(Value::array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.skip_space();
            if self.eat("]") {
                return Ok(Value::array(items));
            }
            if !self.eat(",") {
                return Err(self.error("expected `,` or `]`"));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, String> {
        self.at += 1;
        let mut entries: Vec<(String, Value)> = Vec::new();
        let mut places: std::collections::HashMap<String, usize> = std::collections::HashMap::new();
        self.skip_space();
        let mut ended = self.eat("}");
        while !ended {
            self.skip_space();
            if self.peek() != Some('"') {
                return Err(self.error("expected a name in double quotes"));
            }
            let name = self.string()?;
            self.skip_space();
            if !self.eat(":") {
                return Err(self.error("expected `:`"));
            }
            let value = self.value(depth + 1)?;
            match places.get(&name) {
                Some(&at) => entries[at].1 = value,
                None => {
                    places.insert(name.clone(), entries.len());
                    entries.push((name, value));
                }
            }
            self.skip_space();
            ended = self.eat("}");
            if !ended && !self.eat(",") {
                return Err(self.error("expected `,` or `}`"));
            }
        }
        let mut object = Object::default();
        for (name, value) in entries {
            if object.get(&name).is_none() {
                object.insert(name, value);
            }
        }
        Ok(object.into())
    }

    fn number(&mut self) -> Result<Value, String> {
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'));
        let text = &rest[..end.unwrap_or(rest.len())];
        let digits = text.strip_prefix('-').unwrap_or(text);
        let whole = digits.bytes().take_while(u8::is_ascii_digit).count();
        let zero_first = digits.starts_with('0') && whole > 1;
        let bare_dot = digits[whole..]
            .strip_prefix('.')
            .is_some_and(|after| !after.starts_with(|c: char| c.is_ascii_digit()));
        let legal = whole > 0 && !zero_first && !bare_dot;
        match number::decimal(text).filter(|_| legal) {
            Some(number) => {
                self.at += text.len();
                Ok(Value::Number(number))
            }
            None => Err(self.error(&format!("`{text}` is no number"))),
        }
    }

    fn string(&mut self) -> Result<String, String> {
        self.at += 1;
        let mut text = String::new();
        loop {
            match self.peek() {
                None => return Err(self.error("unexpected end of a string")),
                Some('"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some('\\') => text.push(self.escape()?),
                Some(c) if c < ' ' => return Err(self.error("a control character in a string")),
                Some(c) => {
                    self.at += c.len_utf8();
                    text.push(c);
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, String> {
        self.at += 1;
        let Some(kind) = self.peek() else {
            return Err(self.error("unexpected end of a string"));
        };
        self.at += kind.len_utf8();
        Ok(match kind {
            '"' | '\\' | '/' => kind,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let first = self.unit()?;
                let mut units = vec![first];
                if (0xD800..0xDC00).contains(&first) && self.eat("\\u") {
                    units.push(self.unit()?);
                }
                let mut all = char::decode_utf16(units);
                match (all.next(), all.next()) {
                    (Some(Ok(c)), None) => c,
                    _ => return Err(self.error("a half of a surrogate pair")),
                }
            }
            _ => return Err(self.error("an unknown escape")),
        })
    }

    fn unit(&mut self) -> Result<u16, String> {
        let digits = self.text.get(self.at..self.at + 4);
        let unit = digits
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u16::from_str_radix(digits, 16).ok());
        match unit {
            Some(unit) => {
                self.at += 4;
                Ok(unit)
            }
            None => Err(self.error("expected four hexadecimal digits")),
        }
    }
}

/// With two spaces for each level.
pub(super) fn write(value: &Value) -> String {
    let mut out = String::new();
    write_value(value, 0, &mut out);
    out
}

fn write_value(value: &Value, level: usize, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Boolean(_) | Value::Number(_) => out.push_str(&value.to_text()),
        Value::String(text) => write_string(text, out),
        Value::Array(array) if array.items().is_empty() => out.push_str("[]"),
        Value::Array(array) => {
            for (index, item) in array.items().iter().enumerate() {
                out.push(if index == 0 { '[' } else { ',' });
                new_line(level + 1, out);
                write_value(item, level + 1, out);
            }
            new_line(level, out);
            out.push(']');
        }
        Value::Object(object) if object.is_empty() => out.push_str("{}"),
        Value::Object(object) => {
            for (index, (name, value)) in object.iter().enumerate() {
                out.push(if index == 0 { '{' } else { ',' });
                new_line(level + 1, out);
                write_string(name, out);
                out.push_str(": ");
                write_value(value, level + 1, out);
            }
            new_line(level, out);
            out.push('}');
        }
    }
}

fn new_line(level: usize, out: &mut String) {
    out.push('\n');
    for _ in 0..level {
        out.push_str("  ");
    }
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..'\u{20}' | '\u{85}' | '\u{2028}' | '\u{2029}' => {
                // Writing to a string does not fail.
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_read_strictly() {
        for text in [
            "",
            " ",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "01",
            "1.",
            ".5",
            "+1",
            "--1",
            "'a'",
            "\"\\x\"",
            "\"\\ud800\"",
            "1 2",
            "nul",
            "\"\t\"",
            "{a:1}",
            "[1 2]",
            "NaN",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert!(read(&deep).is_err());
        assert_eq!(
            read("\"\\ud83d\\ude00\\u00e9\"").map(|value| value.to_text()),
            Ok("😀é".into())
        );
        assert_eq!(read("-1.5e2").map(|value| value.to_number()), Ok(-150.0));
    }

    #[test]
    fn of_names_that_are_alike_one_counts() {
        let value = read(r#"{"a": 1, "A": 2, "a": 3}"#).unwrap_or_default();
        assert_eq!(write(&value), "{\n  \"a\": 3\n}");
    }
}
