//! Dictionaries of structured fields (RFC 9651 sections 3.2 and 4.2.2), as strict as that RFC asks: one error, and
//! the whole field is void.

/// The value of one member. Parameters are checked and dropped (RFC 9213 section 2.1).
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Integer(i64),
    Boolean(bool),
    /// A string or a token.
    Text(Vec<u8>),
    /// An inner list, a decimal, a date, bytes, or a display string.
    Other,
}

/// The field is not a dictionary.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

type Parsed<T> = Result<T, Malformed>;

/// Calls `member` for each member in order; of those with the same key, the last one counts.
pub(crate) fn dictionary(text: &[u8], member: &mut dyn FnMut(&str, Value)) -> Parsed<()> {
    let mut input = Input { rest: text };
    input.skip(b" ");
    while !input.rest.is_empty() {
        let key = input.key()?;
        let value = if input.eat(b'=') {
            if input.peek() == Some(b'(') {
                input.inner_list()?
            } else {
                input.bare_item()?
            }
        } else {
            Value::Boolean(true)
        };
        input.parameters()?;
        member(key, value);
        input.skip(b" \t");
        if input.rest.is_empty() {
            return Ok(());
        }
        if !input.eat(b',') {
            return Err(Malformed);
        }
        input.skip(b" \t");
        if input.rest.is_empty() {
            return Err(Malformed);
        }
    }
    Ok(())
}

struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn next(&mut self) -> Parsed<u8> {
        let (&byte, rest) = self.rest.split_first().ok_or(Malformed)?;
        self.rest = rest;
        Ok(byte)
    }

    fn eat(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    fn skip(&mut self, bytes: &[u8]) {
        self.take(|byte| bytes.contains(&byte));
    }

    fn take(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let length = self.rest.iter().take_while(|&&byte| wanted(byte)).count();
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    /// RFC 9651 section 4.2.3.3.
    fn key(&mut self) -> Parsed<&'a str> {
        if !self
            .peek()
            .is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'*')
        {
            return Err(Malformed);
        }
        let key =
            self.take(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte));
        std::str::from_utf8(key).map_err(|_| Malformed)
    }

    /// RFC 9651 section 4.2.1.2.
    fn inner_list(&mut self) -> Parsed<Value> {
        self.eat(b'(');
        loop {
            self.skip(b" ");
            if self.eat(b')') {
                return Ok(Value::Other);
            }
            self.bare_item()?;
            self.parameters()?;
            if !matches!(self.peek(), Some(b' ' | b')')) {
                return Err(Malformed);
            }
        }
    }

    /// RFC 9651 section 4.2.3.2.
    fn parameters(&mut self) -> Parsed<()> {
        while self.eat(b';') {
            self.skip(b" ");
            self.key()?;
            if self.eat(b'=') {
                self.bare_item()?;
            }
        }
        Ok(())
    }

    /// RFC 9651 section 4.2.3.1.
    fn bare_item(&mut self) -> Parsed<Value> {
        match self.peek().ok_or(Malformed)? {
            b'-' | b'0'..=b'9' => self.number(),
            b'"' => self.string().map(Value::Text),
            b'*' | b'a'..=b'z' | b'A'..=b'Z' => Ok(Value::Text(self.take(is_token).to_vec())),
            b':' => self.byte_sequence(),
            b'?' => {
                self.next()?;
                match self.next()? {
                    b'0' => Ok(Value::Boolean(false)),
                    b'1' => Ok(Value::Boolean(true)),
                    _ => Err(Malformed),
                }
            }
            b'@' => {
                self.next()?;
                match self.number()? {
                    Value::Integer(_) => Ok(Value::Other),
                    _ => Err(Malformed),
                }
            }
            b'%' => self.display_string(),
            _ => Err(Malformed),
        }
    }

    /// RFC 9651 section 4.2.4: at most 15 digits, or 12 and 3 with a point.
    fn number(&mut self) -> Parsed<Value> {
        let negative = self.eat(b'-');
        let whole = self.take(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 15 {
            return Err(Malformed);
        }
        if self.eat(b'.') {
            let fraction = self.take(|byte| byte.is_ascii_digit());
            return if whole.len() <= 12 && (1..=3).contains(&fraction.len()) {
                Ok(Value::Other)
            } else {
                Err(Malformed)
            };
        }
        let value = whole
            .iter()
            .fold(0_i64, |value, digit| value * 10 + i64::from(digit - b'0'));
        Ok(Value::Integer(if negative { -value } else { value }))
    }

    /// RFC 9651 section 4.2.5.
    fn string(&mut self) -> Parsed<Vec<u8>> {
        self.eat(b'"');
        let mut out = Vec::new();
        loop {
            match self.next()? {
                b'"' => return Ok(out),
                b'\\' => match self.next()? {
                    byte @ (b'"' | b'\\') => out.push(byte),
                    _ => return Err(Malformed),
                },
                byte @ 0x20..=0x7e => out.push(byte),
                _ => return Err(Malformed),
            }
        }
    }

    /// RFC 9651 section 4.2.7; what the bytes are is nobody's concern here.
    fn byte_sequence(&mut self) -> Parsed<Value> {
        self.eat(b':');
        self.take(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
        if self.eat(b':') {
            Ok(Value::Other)
        } else {
            Err(Malformed)
        }
    }

    /// RFC 9651 section 4.2.10; escapes are checked, the text is nobody's concern here.
    fn display_string(&mut self) -> Parsed<Value> {
        self.eat(b'%');
        if !self.eat(b'"') {
            return Err(Malformed);
        }
        loop {
            match self.next()? {
                b'"' => return Ok(Value::Other),
                b'%' => {
                    for _ in 0..2 {
                        if !matches!(self.next()?, b'0'..=b'9' | b'a'..=b'f') {
                            return Err(Malformed);
                        }
                    }
                }
                0x20..=0x7e => {}
                _ => return Err(Malformed),
            }
        }
    }
}

/// RFC 9651 section 3.3.4.
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Parsed<Vec<(String, Value)>> {
        let mut found = Vec::new();
        dictionary(text.as_bytes(), &mut |key, value| {
            found.push((key.to_owned(), value));
        })?;
        Ok(found)
    }

    #[test]
    fn members_have_types() {
        let text = |text: &str| Value::Text(text.as_bytes().to_vec());
        for (field, members) in [
            ("", vec![]),
            ("max-age=60", vec![("max-age", Value::Integer(60))]),
            ("max-age=-1", vec![("max-age", Value::Integer(-1))]),
            (
                "  a , b\t,c",
                vec![
                    ("a", Value::Boolean(true)),
                    ("b", Value::Boolean(true)),
                    ("c", Value::Boolean(true)),
                ],
            ),
            ("a=?0;p=1;q", vec![("a", Value::Boolean(false))]),
            ("a=\"x\\\"y\"", vec![("a", text("x\"y"))]),
            ("a=foo/bar", vec![("a", text("foo/bar"))]),
            ("a=1.5", vec![("a", Value::Other)]),
            ("a=(1 \"x\";q=1  b)", vec![("a", Value::Other)]),
            (
                "a=:aGk=:, b=@1659578233, c=%\"f%c3%bc\"",
                vec![("a", Value::Other), ("b", Value::Other), ("c", Value::Other)],
            ),
        ] {
            let members = members
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect();
            assert_eq!(read(field), Ok(members), "{field}");
        }
    }

    #[test]
    fn one_error_voids_the_field() {
        for field in [
            "a,",
            ",a",
            "a b",
            "A",
            "a=",
            "a=\"x",
            "a=\"\\x\"",
            "a=?2",
            "a=1.",
            "a=1234567890123456",
            "a=1.2345",
            "a=(1",
            "a=(1,2)",
            "a=:x",
            "a=@1.5",
            "a=%\"%zz\"",
            "a;",
            "a;B",
            "a=1;p=",
            "\u{fc}",
            "a = 1",
            "max-age=60;;",
        ] {
            assert_eq!(read(field), Err(Malformed), "{field}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[a-z=,;()?\"\\\\:@%.0-9 *-]{0,40}", bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = dictionary(text.as_bytes(), &mut |_, _| {});
            let _ = dictionary(&bytes, &mut |_, _| {});
        }
    }
}
