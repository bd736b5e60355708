//! Words of the language.

use super::ExpressionError;

/// A word.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token<'s> {
    /// A field, a function, an operator in letters, a number, an address, bytes in hexadecimal digits.
    Bare(&'s str),
    /// A string, decoded.
    Text(Vec<u8>),
    /// `$name`
    List(&'s str),
    /// An operator in signs, a parenthesis and such.
    Sign(&'static str),
    /// The end.
    End,
}

/// Longer signs before their beginnings.
const SIGNS: &[&str] = &[
    "==", "!=", "<=", ">=", "&&", "||", "^^", "<", ">", "~", "!", "(", ")", "[", "]", "{", "}", ",", "*",
];

/// The word at `at` or behind the white space there: where it begins, itself, and where it ends.
pub(super) fn next(source: &str, at: usize) -> Result<(usize, Token<'_>, usize), ExpressionError> {
    let rest = &source[at..];
    let start = at + rest.len() - rest.trim_start().len();
    let rest = &source[start..];
    let Some(first) = rest.chars().next() else {
        return Ok((start, Token::End, start));
    };
    if first == '"' {
        let (text, length) = quoted(rest, start)?;
        return Ok((start, Token::Text(text), start + length));
    }
    if rest.starts_with("r\"") || rest.starts_with("r#") {
        let (text, length) = raw(rest, start)?;
        return Ok((start, Token::Text(text), start + length));
    }
    if let Some(name) = rest.strip_prefix('$') {
        let length = name
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.')))
            .unwrap_or(name.len());
        return Ok((start, Token::List(&name[..length]), start + 1 + length));
    }
    if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
        return Ok((start, Token::Sign(sign), start + sign.len()));
    }
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':' | '/' | '-');
    let length = rest.find(|c| !bare(c)).unwrap_or(rest.len());
    if length == 0 {
        return Err(ExpressionError::new(
            start,
            format!("unexpected character '{first}'"),
        ));
    }
    Ok((start, Token::Bare(&rest[..length]), start + length))
}

/// The same where a pattern is next: in quotes, all but `\"` is the pattern's own, and so are quotes within `[…]`.
pub(super) fn next_pattern(source: &str, at: usize) -> Result<(usize, Token<'_>, usize), ExpressionError> {
    let rest = &source[at..];
    let start = at + rest.len() - rest.trim_start().len();
    let Some(quoted) = source[start..].strip_prefix('"') else {
        return next(source, at);
    };
    let mut pattern = Vec::new();
    let mut in_class = false;
    let mut bytes = quoted.bytes().enumerate();
    while let Some((place, byte)) = bytes.next() {
        match byte {
            b'"' if !in_class => return Ok((start, Token::Text(pattern), start + place + 2)),
            b'\\' => match bytes.next() {
                Some((_, b'"')) => pattern.push(b'"'),
                Some((_, escaped)) => pattern.extend([b'\\', escaped]),
                None => break,
            },
            byte => {
                in_class = match byte {
                    b'[' => true,
                    b']' => false,
                    _ => in_class,
                };
                pattern.push(byte);
            }
        }
    }
    let error = ExpressionError::new(start, "this string has no end");
    Err(match in_class {
        true => error.hint("a quote within […] is the pattern's own"),
        false => error,
    })
}

/// `"…"` with `\"`, `\\`, `\xHH` and `\OOO`.
fn quoted(rest: &str, start: usize) -> Result<(Vec<u8>, usize), ExpressionError> {
    let mut text = Vec::new();
    let bytes = rest.as_bytes();
    let mut at = 1;
    loop {
        match bytes.get(at) {
            None => return Err(ExpressionError::new(start, "this string has no end")),
            Some(b'"') => return Ok((text, at + 1)),
            Some(b'\\') => {
                let escape = start + at;
                let (byte, used) = match &bytes[at + 1..] {
                    [byte @ (b'"' | b'\\'), ..] => (*byte, 1),
                    [b'x', high, low, ..] => {
                        let digits = [*high, *low];
                        let digits = std::str::from_utf8(&digits).ok();
                        let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
                            return Err(ExpressionError::new(escape, "'\\x' needs two hexadecimal digits"));
                        };
                        (byte, 3)
                    }
                    [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                        ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), 3)
                    }
                    _ => {
                        return Err(ExpressionError::new(escape, "unknown escape in a string")
                            .hint("write '\\\\' for a backslash, or a raw string: r\"\\d+\""));
                    }
                };
                text.push(byte);
                at += 1 + used;
            }
            Some(byte) => {
                text.push(*byte);
                at += 1;
            }
        }
    }
}

/// `r"…"`, `r#"…"#` and so on: nothing in it is an escape.
fn raw(rest: &str, start: usize) -> Result<(Vec<u8>, usize), ExpressionError> {
    let hashes = rest[1..].bytes().take_while(|byte| *byte == b'#').count();
    let open = 1 + hashes;
    if rest.as_bytes().get(open) != Some(&b'"') || hashes > 255 {
        return Err(ExpressionError::new(start, "a raw string is r\"…\" or r#\"…\"#"));
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let body = &rest[open + 1..];
    match body.find(&end) {
        Some(length) => Ok((body.as_bytes()[..length].to_vec(), open + 1 + length + end.len())),
        None => Err(ExpressionError::new(start, "this string has no end")),
    }
}

/// `61:62:63`: bytes in hexadecimal digits, two at least.
pub(super) fn hex_bytes(word: &str) -> Option<Vec<u8>> {
    let separator = word.chars().nth(2).filter(|c| matches!(c, ':' | '-' | '.'))?;
    word.split(separator)
        .map(|digits| {
            (digits.len() == 2)
                .then(|| u8::from_str_radix(digits, 16).ok())
                .flatten()
        })
        .collect()
}
