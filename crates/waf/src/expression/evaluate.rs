//! Asking about a request.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::call::{Call, Function, Step};
use super::field::{Collection, Detail, Field};
use super::parse::Test;
use super::replace::replaced;
use super::subject::Subject;
use super::value::{Part, Pick, Read, Source, Type, Value};
use crate::transform::{Transformation, apply, decode};
use crate::url;

/// `url_decode(…, "r")` goes on so many times at most; every time what is left is shorter.
const AGAIN: usize = 16;

/// Gets each value, and says whether it wants another.
type Each<'e> = &'e mut dyn FnMut(Read<'_>) -> bool;

pub(super) fn test(test: &Test, subject: &Subject<'_>) -> bool {
    match test {
        Test::And(all) => all.iter().all(|test| self::test(test, subject)),
        Test::Or(any) => any.iter().any(|test| self::test(test, subject)),
        Test::Xor(one, other) => self::test(one, subject) != self::test(other, subject),
        Test::Not(test) => !self::test(test, subject),
        Test::One(value, check) => {
            let mut answer = check.of_nothing();
            each(value, subject, &mut |read| {
                answer = check.of(read);
                false
            });
            answer
        }
        Test::Any(value, check) => {
            let mut any = false;
            each(value, subject, &mut |read| {
                any = check.of(read);
                !any
            });
            any
        }
        Test::All(value, check) => {
            let mut all = true;
            each(value, subject, &mut |read| {
                all = check.of(read);
                all
            });
            all
        }
    }
}

/// Reads a value: nothing where it is not there, many where it is many.
fn each(value: &Value, subject: &Subject<'_>, to: Each<'_>) {
    match value {
        Value::Field(field, _) => one(*field, subject, to),
        Value::Literal(bytes) => {
            to(Read::Bytes(bytes));
        }
        Value::Items(source, pick) => {
            let mut place = 0;
            items(source, subject, &mut |item| match pick {
                Pick::All => to(Read::Bytes(item)),
                Pick::At(wanted) if place == *wanted => {
                    to(Read::Bytes(item));
                    false
                }
                Pick::At(_) => {
                    place += 1;
                    true
                }
            });
        }
        Value::Count(source) => {
            let mut count = 0;
            items(source, subject, &mut |_| {
                count += 1;
                true
            });
            to(Read::Int(count));
        }
        Value::CountOf(value) => {
            let mut count = 0;
            each(value, subject, &mut |_| {
                count += 1;
                true
            });
            to(Read::Int(count));
        }
        Value::Nth(value, wanted) => {
            let mut place = 0;
            each(value, subject, &mut |read| {
                if place == *wanted {
                    to(read);
                    return false;
                }
                place += 1;
                true
            });
        }
        Value::Call(call) => called(call, subject, to),
    }
}

fn one(field: Field, subject: &Subject<'_>, to: Each<'_>) {
    let read = match field {
        Field::Source => Some(Read::Ip(subject.client)),
        Field::Country => Some(Read::Bytes(subject.country.unwrap_or("XX").as_bytes())),
        Field::European => {
            let country = subject.country.unwrap_or_default();
            Some(Read::Bool(EUROPEAN_UNION.contains(&country)))
        }
        Field::Place(detail) => Some(Read::Bytes(place(subject, detail).as_bytes())),
        Field::Asn => subject.network.map(|number| Read::Int(number.into())),
        Field::ClientPort => Some(Read::Int(subject.client_port.into())),
        Field::ClientTcp => Some(Read::Bool(subject.version != b"HTTP/3")),
        Field::Ssl => Some(Read::Bool(subject.tls.is_some())),
        Field::TlsVersion => Some(Read::Bytes(subject.tls.unwrap_or("none").as_bytes())),
        Field::ServerPort => Some(Read::Int(subject.server_port.into())),
        Field::RayId => Some(Read::Bytes(subject.id.as_bytes())),
        Field::TimestampSec => i64::try_from(subject.now_ms / 1000).ok().map(Read::Int),
        Field::TimestampMsec => Some(Read::Int((subject.now_ms % 1000).cast_signed())),
        Field::Method => Some(Read::Bytes(subject.method)),
        Field::Version => Some(Read::Bytes(subject.version)),
        Field::Host => Some(Read::Bytes(subject.host)),
        Field::Path => Some(Read::Bytes(subject.path)),
        Field::PathExtension => {
            with(Transformation::Lowercase, extension(subject.path), &mut |text| {
                to(Read::Bytes(text))
            });
            None
        }
        Field::RawPathExtension => Some(Read::Bytes(extension(url::split_target(subject.target).0))),
        Field::Query => Some(Read::Bytes(subject.query())),
        Field::RawPath => Some(Read::Bytes(url::split_target(subject.target).0)),
        Field::Uri | Field::RawUri => {
            to(Read::Bytes(&subject.uri(field == Field::RawUri)));
            None
        }
        Field::FullUri | Field::RawFullUri => {
            to(Read::Bytes(&subject.full_uri(field == Field::RawFullUri)));
            None
        }
        // A header that is not there is an empty string to these; `http.request.headers` tells the difference.
        Field::Cookie => Some(Read::Bytes(subject.header(b"cookie").unwrap_or_default())),
        Field::Referer => Some(Read::Bytes(subject.header(b"referer").unwrap_or_default())),
        Field::UserAgent => Some(Read::Bytes(subject.header(b"user-agent").unwrap_or_default())),
        Field::XForwardedFor => Some(Read::Bytes(
            subject.header(b"x-forwarded-for").unwrap_or_default(),
        )),
        // The edge refuses what it would have to cut.
        Field::HeadersTruncated => Some(Read::Bool(false)),
        Field::BodyMime => Some(Read::Bytes(
            subject
                .header(b"content-type")
                .map(Subject::media_type)
                .unwrap_or_default(),
        )),
        Field::BodyRaw => subject.body.map(|body| Read::Bytes(body.kept)),
        Field::BodySize => subject
            .body
            .and_then(|body| i64::try_from(body.size).ok())
            .map(Read::Int),
        Field::BodyTruncated => subject.body.map(|body| Read::Bool(body.truncated)),
        Field::ResponseCode => subject.response.map(|response| Read::Int(response.status.into())),
        Field::ResponseMediaType => subject.response.and_then(|response| {
            let header = response
                .headers
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(b"content-type"));
            header.map(|(_, value)| Read::Bytes(Subject::media_type(value)))
        }),
    };
    if let Some(read) = read {
        to(read);
    }
}

/// As Cloudflare's documentation lists them.
const EUROPEAN_UNION: [&str; 34] = [
    "AT", "AX", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GF", "GP", "GR", "HR", "HU",
    "IE", "IT", "LT", "LU", "LV", "MF", "MQ", "MT", "NL", "PL", "PT", "RE", "RO", "SE", "SI", "SK", "YT",
];

fn place<'t>(subject: &Subject<'t>, detail: Detail) -> &'t str {
    let Some(place) = subject.place else { return "" };
    match detail {
        Detail::City => &place.city,
        Detail::Continent => &place.continent,
        Detail::Latitude => &place.latitude,
        Detail::Longitude => &place.longitude,
        Detail::MetroCode => &place.metro_code,
        Detail::PostalCode => &place.postal_code,
        Detail::Region => &place.region,
        Detail::RegionCode => &place.region_code,
        Detail::Subdivision1 => &place.subdivisions[0],
        Detail::Subdivision2 => &place.subdivisions[1],
        Detail::Timezone => &place.timezone,
    }
}

/// What is behind the last dot of the last part of a path; a name that only begins with a dot has none.
fn extension(path: &[u8]) -> &[u8] {
    let file = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    match memchr::memrchr(b'.', file) {
        Some(dot) if dot > 0 => &file[dot + 1..],
        _ => b"",
    }
}

fn items(source: &Source, subject: &Subject<'_>, to: &mut dyn FnMut(&[u8]) -> bool) {
    let header = matches!(
        source.collection,
        Collection::Headers | Collection::ResponseHeaders
    );
    subject.pairs(source.collection, &mut |name, value| match &source.part {
        Part::Values => to(value),
        Part::Names if header => with(Transformation::Lowercase, name, to),
        Part::Names => to(name),
        Part::Of(wanted) if header && name.eq_ignore_ascii_case(wanted) => to(value),
        Part::Of(wanted) if !header && name == &**wanted => to(value),
        Part::Of(_) => true,
    });
}

/// Hands on what a transformation makes of a text.
fn with(transformation: Transformation, text: &[u8], to: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    let mut out = Vec::new();
    let text = if apply(transformation, text, &mut out) {
        &out[..]
    } else {
        text
    };
    to(text)
}

fn called(call: &Call, subject: &Subject<'_>, to: Each<'_>) {
    let [value, ..] = call.values() else { return };
    if matches!(call.function, Function::Concat) {
        return concat(call.values(), subject, to);
    }
    if let Function::Join(separator) = &call.function {
        let mut text = Vec::new();
        let mut first = true;
        each(value, subject, &mut |read| {
            if !std::mem::take(&mut first) {
                text.extend_from_slice(separator);
            }
            text.extend_from_slice(read.bytes());
            true
        });
        to(Read::Bytes(&text));
        return;
    }
    each(value, subject, &mut |read| {
        let text = read.bytes();
        match &call.function {
            Function::StartsWith(start) => to(Read::Bool(text.starts_with(start))),
            Function::EndsWith(end) => to(Read::Bool(text.ends_with(end))),
            Function::Len => to(Read::Int(i64::try_from(text.len()).unwrap_or(i64::MAX))),
            Function::Lower => with(Transformation::Lowercase, text, &mut |text| to(Read::Bytes(text))),
            Function::Upper => with(Transformation::Uppercase, text, &mut |text| to(Read::Bytes(text))),
            Function::DecodeBase64 => with(Transformation::Base64Decode, text, &mut |text| {
                to(Read::Bytes(text))
            }),
            Function::RemoveBytes(removed) => {
                if !text.iter().any(|byte| removed[usize::from(*byte)]) {
                    return to(Read::Bytes(text));
                }
                let kept: Vec<u8> = text
                    .iter()
                    .copied()
                    .filter(|byte| !removed[usize::from(*byte)])
                    .collect();
                to(Read::Bytes(&kept))
            }
            Function::Substring(start, end) => to(Read::Bytes(substring(text, *start, *end))),
            Function::UrlDecode { again, unicode } => to(Read::Bytes(&url_decode(text, *again, *unicode))),
            Function::Cidr(four, six) => match read {
                Read::Ip(address) => to(Read::Ip(network(address, *four, *six))),
                _ => true,
            },
            Function::Split(separator, limit) => split(text, separator, *limit, to),
            Function::RemoveQueryArgs(names) => to(Read::Bytes(&without(text, names))),
            Function::Replace(regex, replacement) => match replaced(regex, replacement, text) {
                Some(replaced) => to(Read::Bytes(&replaced)),
                None => to(Read::Bytes(text)),
            },
            Function::ToString => to(Read::Bytes(
                match read {
                    Read::Int(int) => int.to_string(),
                    Read::Ip(ip) => ip.to_canonical().to_string(),
                    Read::Bool(value) => value.to_string(),
                    Read::Bytes(_) => String::new(),
                }
                .as_bytes(),
            )),
            Function::LookupJson(steps, kind) => lookup(text, steps, *kind, to),
            // Not of a single value.
            Function::Concat | Function::Join(_) => true,
        }
    });
}

/// All arguments, one behind the other; once for each value of the one that is many.
fn concat(values: &[Value], subject: &Subject<'_>, to: Each<'_>) {
    let joined = |values: &[Value]| {
        let mut text = Vec::new();
        for value in values {
            each(value, subject, &mut |read| {
                text.extend_from_slice(read.bytes());
                false
            });
        }
        text
    };
    let Some(many) = values.iter().position(Value::is_many) else {
        to(Read::Bytes(&joined(values)));
        return;
    };
    let mut text = joined(&values[..many]);
    let begin = text.len();
    let end = joined(&values[many + 1..]);
    each(&values[many], subject, &mut |read| {
        text.truncate(begin);
        text.extend_from_slice(read.bytes());
        text.extend_from_slice(&end);
        to(Read::Bytes(&text))
    });
}

fn substring(text: &[u8], start: i64, end: Option<i64>) -> &[u8] {
    let length = i64::try_from(text.len()).unwrap_or(i64::MAX);
    let place = |at: i64| {
        let at = if at < 0 { length.saturating_add(at) } else { at };
        usize::try_from(at.clamp(0, length)).unwrap_or(0)
    };
    text.get(place(start)..end.map_or(text.len(), place))
        .unwrap_or_default()
}

fn url_decode(text: &[u8], again: bool, unicode: bool) -> Cow<'_, [u8]> {
    let mut text = Cow::Borrowed(text);
    for _ in 0..if again { AGAIN } else { 1 } {
        let mut out = Vec::new();
        let changed = if unicode {
            apply(Transformation::UrlDecodeUni, &text, &mut out)
        } else {
            decode::url_decode(&text, &mut out, &mut 0)
        };
        if !changed {
            break;
        }
        text = Cow::Owned(out);
    }
    text
}

/// The first bits of an address, of its own family.
fn network(address: IpAddr, four: u8, six: u8) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(four)).unwrap_or(0);
            Ipv4Addr::from(u32::from(address) & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(six)).unwrap_or(0);
            Ipv6Addr::from(u128::from(address) & mask).into()
        }
    }
}

/// What is left at the end is the last.
fn split(mut text: &[u8], separator: &[u8], limit: usize, to: Each<'_>) -> bool {
    let finder = memchr::memmem::Finder::new(separator);
    for _ in 1..limit {
        let Some(at) = finder.find(text) else { break };
        if !to(Read::Bytes(&text[..at])) {
            return false;
        }
        text = &text[at + separator.len()..];
    }
    to(Read::Bytes(text))
}

/// A query without some arguments, the others as they came.
fn without(query: &[u8], names: &[Box<[u8]>]) -> Vec<u8> {
    let left = query.split(|byte| *byte == b'&').filter(|piece| {
        let name = piece.split(|byte| *byte == b'=').next().unwrap_or_default();
        !names.iter().any(|own| **own == *name)
    });
    left.collect::<Vec<_>>().join(&b'&')
}

fn lookup(text: &[u8], steps: &[Step], kind: Type, to: Each<'_>) -> bool {
    let Ok(document) = serde_json::from_slice::<serde_json::Value>(text) else {
        return true;
    };
    let found = steps.iter().try_fold(&document, |value, step| match step {
        Step::Key(key) => value.get(&**key),
        Step::Index(index) => value.get(index),
    });
    let read = match (found, kind) {
        (Some(serde_json::Value::String(text)), Type::Bytes) => Some(Read::Bytes(text.as_bytes())),
        (Some(serde_json::Value::Number(number)), Type::Int) => number.as_i64().map(Read::Int),
        _ => None,
    };
    read.is_none_or(to)
}
