//! Reading header fields: lists, numbers of seconds, dates, entity tags.

use http::header::{HeaderMap, HeaderName};
use std::time::{Duration, SystemTime};

/// What a number of seconds that cannot be held counts as (RFC 9111 section 1.2.2).
const GREATEST_SECONDS: u32 = 1 << 31;

/// Whether quoted text knows `\` as an escape: quoted strings do (RFC 9110 section 5.6.4), entity tags do not
/// (section 8.8.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quotes {
    Escaped,
    Plain,
}

/// The members of one line of a list, without surrounding whitespace; empty ones are left out (RFC 9110 section
/// 5.6.1.2). Commas inside of quotes separate nothing; a quote that never ends takes the rest of the line.
pub(crate) fn members(line: &[u8], quotes: Quotes) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        loop {
            let line = rest?;
            let end = member_end(line, quotes);
            rest = line.get(end + 1..);
            let member = line[..end].trim_ascii();
            if !member.is_empty() {
                return Some(member);
            }
        }
    })
}

fn member_end(line: &[u8], quotes: Quotes) -> usize {
    walk(line, quotes).0
}

/// Whether each quote in a member of a list has its end.
pub(crate) fn balanced(member: &[u8]) -> bool {
    !walk(member, Quotes::Escaped).1
}

/// Where the first member ends, and whether that is inside of quotes.
fn walk(line: &[u8], quotes: Quotes) -> (usize, bool) {
    let (mut quoted, mut escaped) = (false, false);
    for (at, &byte) in line.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted && quotes == Quotes::Escaped => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return (at, false),
            _ => {}
        }
    }
    (line.len(), quoted)
}

/// The members of all lines of a field.
pub(crate) fn list(headers: &HeaderMap, name: HeaderName, quotes: Quotes) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(name)
        .into_iter()
        .flat_map(move |line| members(line.as_bytes(), quotes))
}

/// The content of a quoted string, escapes resolved (RFC 9110 section 5.6.4); `None` for anything else.
pub(crate) fn unquote(text: &[u8]) -> Option<Vec<u8>> {
    let inner = text.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'"' => return None,
            b'\\' => out.push(*bytes.next()?),
            _ => out.push(byte),
        }
    }
    Some(out)
}

/// Delta seconds (RFC 9111 section 1.2.2): digits only; what is too large counts as 2^31.
pub(crate) fn seconds(text: &[u8]) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u32, |value, &byte| {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        let next = value.saturating_mul(10).saturating_add(digit);
        Some(next.min(GREATEST_SECONDS))
    })
}

/// `Age` (RFC 9111 section 5.1): the first member counts; what is no number is ignored.
pub(crate) fn age(headers: &HeaderMap) -> Option<Duration> {
    let first = list(headers, http::header::AGE, Quotes::Escaped).next()?;
    seconds(first).map(|seconds| Duration::from_secs(seconds.into()))
}

/// A date in one of the three forms (RFC 9110 section 5.6.7), in any letter case and in no zone but GMT (RFC 9111
/// section 4.2). Two-digit years are those of 1970 to 2069.
pub(crate) fn date(text: &[u8]) -> Option<SystemTime> {
    // The longest form, "Wednesday, 06-Nov-94 08:49:37 GMT", has 33 bytes.
    let mut spelled = [0_u8; 33];
    let spelled = spelled.get_mut(..text.len())?;
    let mut at = 0;
    while at < text.len() {
        let word = text[at..].iter().take_while(|byte| byte.is_ascii_alphabetic());
        let length = word.count();
        if text[at..at + length].eq_ignore_ascii_case(b"GMT") {
            spelled[at..at + length].copy_from_slice(b"GMT");
        } else {
            for offset in 0..length {
                let byte = text[at + offset];
                spelled[at + offset] = match offset {
                    0 => byte.to_ascii_uppercase(),
                    _ => byte.to_ascii_lowercase(),
                };
            }
        }
        at += length;
        if let Some(&byte) = text.get(at) {
            spelled[at] = byte;
            at += 1;
        }
    }
    httpdate::parse_http_date(std::str::from_utf8(spelled).ok()?).ok()
}

/// The date in the first line of a field.
pub(crate) fn date_of(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    date(headers.get(name)?.as_bytes().trim_ascii())
}

/// How entity tags are compared (RFC 9110 section 8.8.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Strong,
    Weak,
}

/// Whether two entity tags are the same. Those without quotes, which some origins send, are compared byte by byte.
pub(crate) fn same_tag(one: &[u8], other: &[u8], comparison: Comparison) -> bool {
    let opaque = |tag| <[u8]>::strip_prefix(tag, b"W/").unwrap_or(tag);
    match comparison {
        Comparison::Strong => one == other && !one.starts_with(b"W/"),
        Comparison::Weak => opaque(one) == opaque(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_are_split_at_commas_outside_of_quotes() {
        for (line, quotes, parts) in [
            ("", Quotes::Escaped, &[][..]),
            (" , ,", Quotes::Escaped, &[]),
            ("a, b ,c", Quotes::Escaped, &["a", "b", "c"]),
            ("a=\"x,y\", b", Quotes::Escaped, &["a=\"x,y\"", "b"]),
            ("a=\"x\\\",y\", b", Quotes::Escaped, &["a=\"x\\\",y\"", "b"]),
            ("\"a\\\", \"b\"", Quotes::Plain, &["\"a\\\"", "\"b\""]),
            ("a=\"x, b", Quotes::Escaped, &["a=\"x, b"]),
        ] {
            let split: Vec<_> = members(line.as_bytes(), quotes).collect();
            let expected: Vec<_> = parts.iter().map(|part| part.as_bytes()).collect();
            assert_eq!(split, expected, "{line}");
        }
    }

    #[test]
    fn seconds_are_digits_and_saturate() {
        for (text, value) in [
            ("0", Some(0)),
            ("0060", Some(60)),
            ("2147483648", Some(1 << 31)),
            ("2147483649", Some(1 << 31)),
            ("99999999999999999999999999", Some(1 << 31)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("1 ", None),
            ("\"1\"", None),
        ] {
            assert_eq!(seconds(text.as_bytes()), value, "{text}");
        }
    }

    #[test]
    fn dates_in_three_forms_and_any_case() {
        let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "sun, 06 nov 1994 08:49:37 gmt",
            "SUN, 06 NOV 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(date(text.as_bytes()), Some(expected), "{text}");
        }
        for text in [
            "",
            "0",
            "-1",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 +0100",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 GMT and more text than any date has",
            "Sun, 99 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(date(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn tags_are_compared_strongly_and_weakly() {
        for (one, other, strong, weak) in [
            ("\"1\"", "\"1\"", true, true),
            ("W/\"1\"", "W/\"1\"", false, true),
            ("W/\"1\"", "\"1\"", false, true),
            ("\"1\"", "\"2\"", false, false),
            ("W/\"1\"", "W/\"2\"", false, false),
        ] {
            let (one, other) = (one.as_bytes(), other.as_bytes());
            assert_eq!(same_tag(one, other, Comparison::Strong), strong);
            assert_eq!(same_tag(one, other, Comparison::Weak), weak);
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = (date(&bytes), seconds(&bytes), unquote(&bytes));
            for quotes in [Quotes::Escaped, Quotes::Plain] {
                for member in members(&bytes, quotes) {
                    prop_assert!(!member.is_empty());
                }
            }
        }

        #[test]
        fn every_date_is_read_back(seconds in 0_u64..253_402_300_799) {
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            prop_assert_eq!(date(httpdate::fmt_http_date(at).as_bytes()), Some(at));
            prop_assert_eq!(date(httpdate::fmt_http_date(at).to_lowercase().as_bytes()), Some(at));
        }
    }
}
