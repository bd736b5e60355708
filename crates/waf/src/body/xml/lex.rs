//! The small pieces of XML: names, references, the document type.

/// XML's white space.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// How long the name at the beginning is. Beyond ASCII every character may be in one.
pub(super) fn name(text: &[u8]) -> usize {
    let begins = |byte: &u8| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b':') || !byte.is_ascii();
    let goes_on = |byte: &u8| begins(byte) || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    if !text.first().is_some_and(begins) {
        return 0;
    }
    text.iter().take_while(|byte| goes_on(byte)).count()
}

pub(super) enum Reference {
    Character(char),
    /// Of a name that XML does not know by itself.
    Declared,
}

/// The reference at the beginning, and its length. `None` where there is none.
pub(super) fn reference(text: &[u8]) -> Option<(Reference, usize)> {
    let rest = text.strip_prefix(b"&")?;
    if let Some(number) = rest.strip_prefix(b"#") {
        let (radix, digits) = match number.strip_prefix(b"x") {
            Some(digits) => (16, digits),
            None => (10, number),
        };
        let length = digits
            .iter()
            .take_while(|digit| char::from(**digit).is_digit(radix))
            .count();
        if digits.get(length) != Some(&b';') {
            return None;
        }
        let code = u32::from_str_radix(std::str::from_utf8(&digits[..length]).ok()?, radix).ok()?;
        // XML knows no control characters but white space.
        let valid = code >= 32 || u8::try_from(code).is_ok_and(is_space);
        let character = char::from_u32(code).filter(|_| valid)?;
        return Some((
            Reference::Character(character),
            text.len() - digits.len() + length + 1,
        ));
    }
    let length = name(rest);
    if length == 0 || rest.get(length) != Some(&b';') {
        return None;
    }
    let reference = match &rest[..length] {
        b"lt" => Reference::Character('<'),
        b"gt" => Reference::Character('>'),
        b"amp" => Reference::Character('&'),
        b"quot" => Reference::Character('"'),
        b"apos" => Reference::Character('\''),
        _ => Reference::Declared,
    };
    Some((reference, length + 2))
}

/// How long `<!DOCTYPE …>` at the beginning is, with what stands in brackets. `None` where it has no end.
pub(super) fn document_type(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut inner = false;
    loop {
        at += text[at..]
            .iter()
            .position(|byte| matches!(byte, b'"' | b'\'' | b'[' | b']' | b'>' | b'<'))?;
        at += match text[at] {
            quote @ (b'"' | b'\'') => memchr::memchr(quote, &text[at + 1..])? + 2,
            b'[' => {
                inner = true;
                1
            }
            b']' => {
                inner = false;
                1
            }
            b'>' if !inner => return Some(at + 1),
            b'<' if text[at..].starts_with(b"<!--") => memchr::memmem::find(&text[at + 4..], b"-->")? + 7,
            _ => 1,
        };
    }
}

/// What a document type, which has its end, names outside of the document: the identifiers of its own subset, and whole
/// declarations in brackets.
pub(super) fn outside(text: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut at = 0;
    let mut inner = false;
    while let Some(next) = text[at..]
        .iter()
        .position(|byte| matches!(byte, b'"' | b'\'' | b'[' | b']' | b'<'))
    {
        at += next;
        let rest = &text[at..];
        at += match rest[0] {
            quote @ (b'"' | b'\'') => {
                let length = memchr::memchr(quote, &rest[1..]).unwrap_or(rest.len() - 1);
                if !inner {
                    pieces.push(&rest[1..=length]);
                }
                (length + 2).min(rest.len())
            }
            b'<' if rest.starts_with(b"<!--") => {
                memchr::memmem::find(&rest[4..], b"-->").map_or(rest.len(), |end| end + 7)
            }
            b'<' if inner => {
                let length = declaration(rest);
                let names = |word: &[u8]| memchr::memmem::find(&rest[..length], word).is_some();
                if names(b"SYSTEM") || names(b"PUBLIC") {
                    pieces.push(&rest[..length]);
                }
                length
            }
            bracket => {
                if bracket != b'<' {
                    inner = bracket == b'[';
                }
                1
            }
        };
    }
    pieces
}

/// How long the declaration at the beginning is; all of the text where it has no end.
fn declaration(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(next) = text[at..]
        .iter()
        .position(|byte| matches!(byte, b'"' | b'\'' | b'>'))
    {
        at += next;
        let quote = text[at];
        if quote == b'>' {
            return at + 1;
        }
        match memchr::memchr(quote, &text[at + 1..]) {
            Some(length) => at += length + 2,
            None => break,
        }
    }
    text.len()
}

/// Whether it is an XML declaration: a version, then perhaps an encoding, then perhaps `standalone` (XML 1.0, production 23).
pub(super) fn is_declaration(text: &[u8]) -> bool {
    let inner = text
        .strip_prefix(b"<?xml")
        .and_then(|text| text.strip_suffix(b"?>"));
    let Some(mut rest) = inner else { return false };
    let is_version = |value: &[u8]| {
        value
            .strip_prefix(b"1.")
            .is_some_and(|minor| !minor.is_empty() && minor.iter().all(u8::is_ascii_digit))
    };
    if !pseudo_attribute(&mut rest, b"version").is_some_and(is_version) {
        return false;
    }
    pseudo_attribute(&mut rest, b"encoding");
    let standalone = pseudo_attribute(&mut rest, b"standalone");
    standalone.is_none_or(|value| matches!(value, b"yes" | b"no")) && rest.iter().all(|byte| is_space(*byte))
}

/// The value of what is next, if it is of this name, behind white space; then `rest` is behind it.
fn pseudo_attribute<'t>(rest: &mut &'t [u8], wanted: &[u8]) -> Option<&'t [u8]> {
    if !is_space(*rest.first()?) {
        return None;
    }
    let text = rest.trim_ascii_start().strip_prefix(wanted)?;
    let text = text.trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
    let quote = text.first().filter(|byte| matches!(byte, b'"' | b'\''))?;
    let length = memchr::memchr(*quote, &text[1..])?;
    *rest = &text[length + 2..];
    Some(&text[1..=length])
}

/// What an XML declaration says of its encoding.
pub(super) fn encoding(declaration: &[u8]) -> Option<&[u8]> {
    let at = memchr::memmem::find(declaration, b"encoding")?;
    let value = declaration[at + 8..]
        .trim_ascii_start()
        .strip_prefix(b"=")?
        .trim_ascii_start();
    let quote = *value.first()?;
    value[1..].split(|byte| *byte == quote).next()
}

/// Whether every byte is a character of it.
pub(super) fn is_one_byte(encoding: &[u8]) -> bool {
    let is = |known: &[u8]| {
        encoding
            .get(..known.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(known))
    };
    is(b"iso-8859-") || is(b"windows-125") || is(b"us-ascii")
}
