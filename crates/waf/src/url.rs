//! Query strings and cookies, split into names and values.

use std::borrow::Cow;

use crate::transform::decode;

/// The names and values of a query string or an urlencoded body, decoded (`+` is a space; what is no escape stays).
///
/// Pieces between two separators that are empty count as nothing; a piece without `=` is a name with an empty value.
/// `invalid` counts the `%` that begin no escape (`URLENCODED_ERROR`).
pub fn pairs<'a, 'n>(
    text: &'a [u8],
    separator: u8,
    invalid: &'n mut usize,
) -> impl Iterator<Item = (Cow<'a, [u8]>, Cow<'a, [u8]>)> + use<'a, 'n> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            if rest.is_empty() {
                return None;
            }
            let end = memchr::memchr(separator, rest).unwrap_or(rest.len());
            let piece = &rest[..end];
            rest = rest.get(end + 1..).unwrap_or_default();
            if piece.is_empty() {
                continue;
            }
            let (name, value) = split(piece, b'=');
            return Some((form_decoded(name, invalid), form_decoded(value, invalid)));
        }
    })
}

/// The names and values of a `Cookie` header, as they stand.
///
/// White space before a name is not part of it, and a piece without `=` is a name with an empty value.
pub fn cookies(header: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    header.split(|byte| *byte == b';').filter_map(|piece| {
        let piece = piece.trim_ascii_start();
        (!piece.is_empty()).then(|| split(piece, b'='))
    })
}

/// The path and the query of a request target: what is before and after the first `?`. A fragment belongs to neither.
pub fn split_target(target: &[u8]) -> (&[u8], &[u8]) {
    let target = split(target, b'#').0;
    split(target, b'?')
}

fn split(text: &[u8], at: u8) -> (&[u8], &[u8]) {
    match memchr::memchr(at, text) {
        Some(place) => (&text[..place], &text[place + 1..]),
        None => (text, &[]),
    }
}

fn form_decoded<'a>(text: &'a [u8], invalid: &mut usize) -> Cow<'a, [u8]> {
    let mut decoded = Vec::new();
    if decode::url_decode(text, &mut decoded, invalid) {
        Cow::Owned(decoded)
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> (Vec<(String, String)>, usize) {
        let mut invalid = 0;
        let found = pairs(text.as_bytes(), b'&', &mut invalid)
            .map(|(name, value)| {
                (
                    String::from_utf8(name.into()).unwrap(),
                    String::from_utf8(value.into()).unwrap(),
                )
            })
            .collect();
        (found, invalid)
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.into(), value.into())
    }

    #[test]
    fn names_and_values_are_decoded_one_by_one() {
        let (found, invalid) = all("a=1&b=%26+%3d&&c&=d&e==f");
        let wanted = [
            pair("a", "1"),
            pair("b", "& ="),
            pair("c", ""),
            pair("", "d"),
            pair("e", "=f"),
        ];
        assert_eq!(found, wanted);
        assert_eq!(invalid, 0);
    }

    #[test]
    fn what_is_no_escape_stays_and_is_counted() {
        assert_eq!(
            all("a=%zz&%=50%&b=%4"),
            (vec![pair("a", "%zz"), pair("%", "50%"), pair("b", "%4")], 4)
        );
        assert_eq!(all("a=%41%00"), (vec![pair("a", "A\0")], 0));
        assert_eq!(all(""), (vec![], 0));
    }

    #[test]
    fn clean_pieces_are_borrowed() {
        let mut invalid = 0;
        let (name, value) = pairs(b"name=value", b'&', &mut invalid).next().unwrap();
        assert!(matches!(name, Cow::Borrowed(_)) && matches!(value, Cow::Borrowed(_)));
    }

    #[test]
    fn cookies_are_taken_as_they_stand() {
        let found: Vec<_> = cookies(b"a=1; b=x%20y=z;; c; =v;\td=\"q\"").collect();
        let wanted: [(&[u8], &[u8]); 5] = [
            (b"a", b"1"),
            (b"b", b"x%20y=z"),
            (b"c", b""),
            (b"", b"v"),
            (b"d", b"\"q\""),
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_target_is_a_path_and_a_query() {
        assert_eq!(split_target(b"/a?b?c#d"), (&b"/a"[..], &b"b?c"[..]));
        assert_eq!(split_target(b"/a"), (&b"/a"[..], &b""[..]));
        assert_eq!(split_target(b"/a#?b"), (&b"/a"[..], &b""[..]));
    }
}
