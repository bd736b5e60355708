//! PCRE's patterns in the terms of linear-time ones.
//!
//! What ModSecurity compiles with PCRE (bytes, `.` matches line ends, `$` only at the very end, case matters) is written
//! anew for `regex-syntax`: every escape and every class by its bytes. What cannot be matched in linear time (look-around,
//! back-references, atomic groups) is refused, but for the listed patterns of the Core Rule Set 3 that have an equivalent.

use std::fmt::Write as _;

/// Why a pattern cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unsupported {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Unsupported {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    fn not_linear(what: &str) -> Self {
        Self {
            message: format!("{what} cannot be matched in linear time"),
            hint: Some("say it with two rules in a chain, or with a negated operator".to_owned()),
        }
    }
}

/// Writes a pattern for `regex-syntax` with Unicode off.
pub(crate) fn translate(pattern: &str) -> Result<String, Unsupported> {
    let mut translation = Translation {
        from: pattern.as_bytes(),
        at: 0,
        out: String::with_capacity(pattern.len() + 16),
        quantifiable: false,
        depth: 0,
    };
    translation.run()?;
    Ok(translation.out)
}

struct Translation<'p> {
    from: &'p [u8],
    at: usize,
    out: String,
    /// Whether what was written last is a quantifier, which a `+` would make possessive.
    quantifiable: bool,
    depth: usize,
}

impl Translation<'_> {
    fn run(&mut self) -> Result<(), Unsupported> {
        while let Some(byte) = self.next() {
            let quantified = std::mem::take(&mut self.quantifiable);
            match byte {
                b'\\' => self.escape()?,
                b'[' => self.class()?,
                b'(' => self.group()?,
                b')' => {
                    self.depth = self
                        .depth
                        .checked_sub(1)
                        .ok_or_else(|| Unsupported::new("a ) closes what was never opened"))?;
                    self.out.push(')');
                }
                b'*' | b'?' | b'+' => self.quantifier(byte as char, quantified)?,
                b'{' => match self.repetition() {
                    Some(text) => {
                        self.out.push_str(&text);
                        self.quantifiable = true;
                    }
                    None => self.out.push_str("\\{"),
                },
                b'.' | b'^' | b'$' | b'|' => self.out.push(byte as char),
                byte => self.byte(byte),
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.from.get(self.at).copied();
        self.at += usize::from(byte.is_some());
        byte
    }

    fn peek(&self) -> Option<u8> {
        self.from.get(self.at).copied()
    }

    fn rest(&self) -> &[u8] {
        &self.from[self.at..]
    }

    fn byte(&mut self, byte: u8) {
        write_byte(&mut self.out, byte);
    }

    fn quantifier(&mut self, sign: char, quantified: bool) -> Result<(), Unsupported> {
        if quantified && sign == '+' {
            return Err(Unsupported::not_linear("a possessive quantifier"));
        }
        self.out.push(sign);
        // After a lazy mark nothing more may come.
        self.quantifiable = !quantified;
        Ok(())
    }

    /// `{2}`, `{2,}`, `{2,3}`; anything else is a brace.
    fn repetition(&mut self) -> Option<String> {
        let length = self.rest().iter().position(|byte| *byte == b'}')?;
        let inner = std::str::from_utf8(&self.rest()[..length]).ok()?;
        let (low, high) = inner.split_once(',').unwrap_or((inner, ""));
        let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !number(low) || !(high.is_empty() || number(high)) {
            return None;
        }
        let text = format!("{{{inner}}}");
        self.at += length + 1;
        Some(text)
    }

    fn group(&mut self) -> Result<(), Unsupported> {
        if self.rest().starts_with(b"*") {
            return Err(Unsupported::new("verbs such as (*UTF8) are unknown here"));
        }
        if !self.rest().starts_with(b"?") {
            self.depth += 1;
            self.out.push('(');
            return Ok(());
        }
        let rest = self.rest();
        if rest.starts_with(b"?#") {
            while self.next().is_some_and(|byte| byte != b')') {}
            return Ok(());
        }
        for (start, what) in [
            (&b"?="[..], "look-ahead"),
            (b"?!", "negative look-ahead"),
            (b"?<=", "look-behind"),
            (b"?<!", "negative look-behind"),
            (b"?>", "an atomic group"),
            (b"?|", "a branch reset"),
            (b"?R", "recursion"),
            (b"?(", "a condition"),
            (b"?&", "recursion"),
            (b"?P=", "a back-reference"),
            (b"?P>", "recursion"),
        ] {
            if rest.starts_with(start) {
                return Err(Unsupported::not_linear(what));
            }
        }
        // Flags and names, up to what ends them.
        self.out.push('(');
        let mut named = false;
        while let Some(byte) = self.next() {
            self.out.push(byte as char);
            match byte {
                b'<' => named = true,
                b'>' if named => break,
                b':' if !named => break,
                // Flags for the rest of the group: no group is opened.
                b')' => return Ok(()),
                _ => {}
            }
        }
        self.depth += 1;
        Ok(())
    }

    fn escape(&mut self) -> Result<(), Unsupported> {
        let Some(byte) = self.peek() else {
            return Err(Unsupported::new("the pattern ends in a backslash"));
        };
        match byte {
            b'1'..=b'9' => Err(Unsupported::not_linear("a back-reference")),
            b'k' | b'g' => Err(Unsupported::not_linear("a back-reference")),
            b'G' | b'K' | b'C' | b'X' | b'p' | b'P' => {
                Err(Unsupported::new(format!("\\{} is unknown here", byte as char)))
            }
            b'Q' => {
                self.at += 1;
                self.quote();
                Ok(())
            }
            b'E' => {
                self.at += 1;
                Ok(())
            }
            b'b' | b'B' | b'A' | b'z' | b'd' | b'D' | b'w' | b'W' | b's' | b'S' => {
                self.at += 1;
                self.out.push('\\');
                self.out.push(byte as char);
                Ok(())
            }
            b'Z' => {
                self.at += 1;
                self.out.push_str(r"(?:\n?\z)");
                Ok(())
            }
            b'R' => {
                self.at += 1;
                self.out.push_str(r"(?:\r\n|[\n\x0B\x0C\r\x85])");
                Ok(())
            }
            b'N' => {
                self.at += 1;
                self.out.push_str(r"[^\n]");
                Ok(())
            }
            b'h' | b'H' | b'v' | b'V' => {
                self.at += 1;
                let negated = if byte.is_ascii_uppercase() { "^" } else { "" };
                let _ = write!(self.out, "[{negated}{}]", blank(byte));
                Ok(())
            }
            _ => {
                let byte = self.escaped_byte()?;
                self.byte(byte);
                Ok(())
            }
        }
    }

    fn quote(&mut self) {
        while let Some(byte) = self.peek() {
            if self.rest().starts_with(b"\\E") {
                self.at += 2;
                return;
            }
            self.at += 1;
            self.byte(byte);
        }
    }

    /// An escape that means one byte; the backslash is passed already.
    fn escaped_byte(&mut self) -> Result<u8, Unsupported> {
        let too_wide = || Unsupported::new("a character above \\xff: texts are matched by bytes");
        let byte = self.next().unwrap_or(b'\\');
        Ok(match byte {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'f' => 0x0c,
            b'a' => 0x07,
            b'e' => 0x1b,
            b'c' => self.next().unwrap_or(b'@').to_ascii_uppercase() ^ 0x40,
            b'x' if self.peek() == Some(b'{') => {
                let end = self.rest().iter().position(|byte| *byte == b'}');
                let end = end.ok_or_else(|| Unsupported::new("\\x{ without its brace"))?;
                let digits = std::str::from_utf8(&self.rest()[1..end]).unwrap_or("");
                let value = u32::from_str_radix(digits, 16)
                    .map_err(|_| Unsupported::new(format!("\\x{{{digits}}} is no number")))?;
                self.at += end + 1;
                u8::try_from(value).map_err(|_| too_wide())?
            }
            b'x' => self.digits(16, 2),
            b'0' => self.digits(8, 2),
            b'o' => return Err(Unsupported::new("\\o is unknown here")),
            other => other,
        })
    }

    /// Up to `most` digits.
    fn digits(&mut self, radix: u32, most: usize) -> u8 {
        let mut value = 0u32;
        for _ in 0..most {
            match self.peek().and_then(|byte| (byte as char).to_digit(radix)) {
                Some(digit) => {
                    value = value * radix + digit;
                    self.at += 1;
                }
                None => break,
            }
        }
        u8::try_from(value & 0xff).unwrap_or(0)
    }

    fn class(&mut self) -> Result<(), Unsupported> {
        self.out.push('[');
        if self.peek() == Some(b'^') {
            self.at += 1;
            self.out.push('^');
        }
        let mut first = true;
        loop {
            match self.peek() {
                None => return Err(Unsupported::new("a [ is never closed")),
                Some(b']') if !first => {
                    self.at += 1;
                    self.out.push(']');
                    return Ok(());
                }
                Some(_) => self.class_item()?,
            }
            first = false;
        }
    }

    fn class_item(&mut self) -> Result<(), Unsupported> {
        if self.rest().starts_with(b"[:")
            && let Some(end) = self.rest().windows(2).position(|pair| pair == b":]")
            && self.rest()[2..end]
                .iter()
                .all(|b| b.is_ascii_alphabetic() || *b == b'^')
        {
            let name = String::from_utf8_lossy(&self.rest()[..end + 2]).into_owned();
            self.at += end + 2;
            self.out.push_str(&name);
            return Ok(());
        }
        let Some(low) = self.class_byte()? else {
            return Ok(());
        };
        if self.peek() == Some(b'-') && self.from.get(self.at + 1).is_some_and(|b| *b != b']') {
            let before = self.at;
            self.at += 1;
            let length = self.out.len();
            if let Some(high) = self.class_byte()? {
                if low > high {
                    return Err(Unsupported::new("a range in a class runs backwards"));
                }
                self.byte(low);
                self.out.push('-');
                self.byte(high);
                return Ok(());
            }
            // `[a-\d]`: the minus is one.
            self.out.truncate(length);
            self.at = before;
        }
        self.byte(low);
        Ok(())
    }

    /// One byte of a class; none where it was a class within the class, which is then written.
    fn class_byte(&mut self) -> Result<Option<u8>, Unsupported> {
        let byte = self.next().unwrap_or(b']');
        if byte != b'\\' {
            return Ok(Some(byte));
        }
        match self.peek() {
            Some(b'b') => {
                self.at += 1;
                Ok(Some(0x08))
            }
            Some(class @ (b'd' | b'D' | b'w' | b'W' | b's' | b'S')) => {
                self.at += 1;
                self.out.push('\\');
                self.out.push(class as char);
                Ok(None)
            }
            Some(class @ (b'h' | b'v')) => {
                self.at += 1;
                self.out.push_str(blank(class));
                Ok(None)
            }
            Some(b'1'..=b'7') => Ok(Some(self.digits(8, 3))),
            _ => self.escaped_byte().map(Some),
        }
    }
}

/// The members of `\h` and `\v`.
fn blank(class: u8) -> &'static str {
    if class.eq_ignore_ascii_case(&b'h') {
        r"\t \xA0"
    } else {
        r"\n\x0B\x0C\r\x85"
    }
}

fn write_byte(out: &mut String, byte: u8) {
    if byte.is_ascii_alphanumeric() || byte == b'_' {
        out.push(byte as char);
    } else {
        let _ = write!(out, "\\x{byte:02X}");
    }
}
