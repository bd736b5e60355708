//! The headers of multipart bodies: `Content-Type` of the whole, `Content-Disposition` of a part.

use memchr::memmem;

use super::MultipartFlags;

/// RFC 2046: a boundary is no longer.
const BOUNDARY: usize = 70;

/// The boundary that a `Content-Type` names; or what is wrong with it.
pub fn boundary<'c>(content_type: &'c [u8], flags: &mut MultipartFlags) -> Result<&'c [u8], &'static str> {
    const NAME: &[u8] = b"boundary";
    let lower = content_type.to_ascii_lowercase();
    // Names of parameters: a boundary may itself be called that.
    let is_name = |place: &usize| {
        let before = place.checked_sub(1).map(|at| lower[at]);
        let after = lower[place + NAME.len()..].trim_ascii_start();
        before.is_none_or(|byte| !byte.is_ascii_alphanumeric() && byte != b'=')
            && (after.is_empty() || after.starts_with(b"="))
    };
    let mut places = memmem::find_iter(&lower, NAME).filter(is_name);
    let Some(place) = places.next() else {
        return Err("the Content-Type names no boundary");
    };
    if places.next().is_some() {
        return Err("the Content-Type names more than one boundary");
    }
    let before = lower[..place].trim_ascii_end();
    match before.last() {
        Some(b';' | b',') => flags.missing_semicolon |= before.ends_with(b","),
        _ => flags.missing_semicolon = true,
    }
    let after = &content_type[place + NAME.len()..];
    let Some(value) = after.trim_ascii_start().strip_prefix(b"=") else {
        return Err("the boundary in the Content-Type is malformed");
    };
    flags.boundary_whitespace =
        after.first().copied().is_some_and(is_space) || value.first().copied().is_some_and(is_space);
    let value = value.trim_ascii_start();
    let boundary = match value.strip_prefix(b"\"") {
        Some(quoted) => {
            flags.boundary_quoted = true;
            let Some(end) = quoted.iter().position(|byte| *byte == b'"') else {
                return Err("the boundary in the Content-Type is malformed");
            };
            if !matches!(quoted[end + 1..].trim_ascii_start(), [] | [b';', ..]) {
                return Err("the boundary in the Content-Type is malformed");
            }
            &quoted[..end]
        }
        None => value
            .split(|byte| *byte == b';')
            .next()
            .unwrap_or_default()
            .trim_ascii_end(),
    };
    // RFC 2046's characters of boundaries.
    let valid = |byte: &u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(byte);
    match boundary {
        [] => Err("the boundary in the Content-Type is empty"),
        [.., b' '] => Err("the boundary in the Content-Type ends in a space"),
        long if long.len() > BOUNDARY => Err("the boundary in the Content-Type is too long"),
        other if other.iter().all(valid) => Ok(other),
        _ => Err("the boundary in the Content-Type has characters that none has"),
    }
}

/// The value of a header line, if it is of this name.
pub(super) fn value_of<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let at = memchr::memchr(b':', line)?;
    line[..at]
        .eq_ignore_ascii_case(name)
        .then(|| line[at + 1..].trim_ascii())
}

pub(super) struct Disposition {
    pub(super) name: Vec<u8>,
    pub(super) file_name: Option<Vec<u8>>,
}

/// `form-data; name="a"; filename="b"`: each at most once, and nothing else.
pub(super) fn disposition(value: &[u8], flags: &mut MultipartFlags) -> Option<Disposition> {
    const KIND: &[u8] = b"form-data";
    if !value.get(..KIND.len())?.eq_ignore_ascii_case(KIND) {
        return None;
    }
    let mut rest = value[KIND.len()..].trim_ascii_start();
    let (mut name, mut file_name) = (None, None);
    while !rest.is_empty() {
        rest = rest.strip_prefix(b";")?.trim_ascii_start();
        if rest.is_empty() {
            // A semicolon at the end.
            break;
        }
        let equals = rest.iter().position(|byte| *byte == b'=')?;
        let parameter = rest[..equals].trim_ascii_end();
        let place = if parameter.eq_ignore_ascii_case(b"name") {
            &mut name
        } else if parameter.eq_ignore_ascii_case(b"filename") {
            &mut file_name
        } else {
            return None;
        };
        let (value, behind) = parameter_value(rest[equals + 1..].trim_ascii_start(), flags)?;
        rest = behind.trim_ascii_start();
        if place.replace(value).is_some() {
            return None;
        }
    }
    Some(Disposition {
        name: name?,
        file_name,
    })
}

/// A value, in quotes or not, and what is behind it.
fn parameter_value<'v>(text: &'v [u8], flags: &mut MultipartFlags) -> Option<(Vec<u8>, &'v [u8])> {
    let quote = match text.first() {
        Some(b'"') => b'"',
        Some(b'\'') => {
            flags.invalid_quoting = true;
            b'\''
        }
        _ => {
            let end = text
                .iter()
                .position(|byte| *byte == b';' || is_space(*byte))
                .unwrap_or(text.len());
            let (value, behind) = text.split_at(end);
            flags.invalid_quoting |= value.iter().any(|byte| matches!(byte, b'"' | b'\''));
            return (!value.is_empty()).then(|| (value.to_vec(), behind));
        }
    };
    let mut value = Vec::new();
    let mut bytes = text.iter().enumerate().skip(1);
    while let Some((at, byte)) = bytes.next() {
        match byte {
            // Only what must be escaped is; browsers of old send `C:\folder\name`.
            b'\\'
                if text
                    .get(at + 1)
                    .is_some_and(|next| *next == quote || *next == b'\\') =>
            {
                value.extend(bytes.next().map(|(_, byte)| *byte));
            }
            byte if *byte == quote => return Some((value, &text[at + 1..])),
            byte => value.push(*byte),
        }
    }
    None
}

pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// As `trim_ascii_start`, and without vertical tabs.
pub(super) fn trim_start(text: &[u8]) -> &[u8] {
    &text[text.iter().take_while(|byte| is_space(**byte)).count()..]
}
