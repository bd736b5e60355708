//! Records in zone-file form (RFC 1035 section 5.1), one on a line.

use super::name::escaped;
use super::record::kind;
use super::{DnsData, DnsName, DnsNameError, DnsRecord};
use std::fmt;
use std::str::FromStr;

/// RFC 2181 section 8.
const MAX_TTL_S: u32 = i32::MAX as u32;
/// Data of one record.
const MAX_DATA: usize = 4096;
/// A line is not read beyond this.
const MAX_LINE: usize = 16 << 10;

/// The types that have a word of their own, and whether a manifest may have them.
const TYPES: [(&str, u16); 13] = [
    ("A", kind::A),
    ("AAAA", kind::AAAA),
    ("CNAME", kind::CNAME),
    ("NS", kind::NS),
    ("PTR", kind::PTR),
    ("MX", kind::MX),
    ("TXT", kind::TXT),
    ("SRV", kind::SRV),
    ("CAA", kind::CAA),
    ("DS", kind::DS),
    ("SSHFP", kind::SSHFP),
    ("TLSA", kind::TLSA),
    ("SMIMEA", kind::SMIMEA),
];

/// Made by the server itself, or no type of data.
const OURS: [(&str, u16); 9] = [
    ("SOA", 6),
    ("OPT", 41),
    ("RRSIG", 46),
    ("NSEC", 47),
    ("DNSKEY", 48),
    ("NSEC3", 50),
    ("NSEC3PARAM", 51),
    ("TSIG", 250),
    ("ANY", 255),
];

/// A line is no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DnsRecordError {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: String,
}

fn error(message: impl Into<String>, hint: impl Into<String>) -> DnsRecordError {
    DnsRecordError {
        message: message.into(),
        hint: hint.into(),
    }
}

/// A word of a line; quoted ones may be empty and have spaces.
#[derive(Debug)]
struct Word {
    /// As it stands, without quotes.
    raw: String,
    /// Without escapes.
    bytes: Box<[u8]>,
    quoted: bool,
}

pub(super) fn parse(line: &str, origin: &DnsName, default_ttl_s: u32) -> Result<DnsRecord, DnsRecordError> {
    const FORM: &str = "write NAME [TTL] TYPE DATA, such as: www 300 A 192.0.2.1";
    let words = words(line)?;
    let mut words = words.iter();
    let name = words.next().ok_or_else(|| error("there is no record", FORM))?;
    let name = owner(name, origin)?;
    let mut ttl_s = None;
    let mut class = false;
    let kind = loop {
        let word = words
            .next()
            .ok_or_else(|| error("the record ends before its type", FORM))?;
        let upper = word.raw.to_ascii_uppercase();
        match upper.as_str() {
            "IN" if !class => class = true,
            "CH" | "CS" | "HS" => {
                return Err(error(
                    format!("class {upper} is not served"),
                    "leave the class out",
                ));
            }
            _ if ttl_s.is_none() && upper.starts_with(|c: char| c.is_ascii_digit()) => {
                ttl_s = Some(ttl(&word.raw)?);
            }
            _ => break upper,
        }
    };
    let data = data(&kind, words.as_slice(), origin)?;
    if data.wire().is_some_and(|wire| wire.len() > MAX_DATA) {
        return Err(error(
            format!("its data has more than {MAX_DATA} bytes"),
            "shorten it",
        ));
    }
    Ok(DnsRecord {
        name,
        ttl_s: ttl_s.unwrap_or(default_ttl_s),
        data,
    })
}

/// The number of a record type, from its word or `TYPE123`.
pub fn type_number(word: &str) -> Option<u16> {
    let upper = word.to_ascii_uppercase();
    let known = TYPES.iter().chain(&OURS).find(|(name, _)| *name == upper);
    match known {
        Some((_, number)) => Some(*number),
        None => upper.strip_prefix("TYPE")?.parse().ok(),
    }
}

pub(super) fn type_name(number: u16) -> String {
    let known = TYPES.iter().chain(&OURS).find(|(_, known)| *known == number);
    known.map_or_else(|| format!("TYPE{number}"), |(name, _)| (*name).to_owned())
}

fn words(line: &str) -> Result<Vec<Word>, DnsRecordError> {
    if line.len() > MAX_LINE {
        return Err(error(
            format!("the record has more than {MAX_LINE} bytes"),
            "shorten it",
        ));
    }
    let mut found = Vec::new();
    let mut bytes = line.bytes().peekable();
    loop {
        while bytes.next_if(u8::is_ascii_whitespace).is_some() {}
        let Some(&first) = bytes.peek() else {
            return Ok(found);
        };
        if first == b';' {
            return Ok(found);
        }
        let quoted = first == b'"';
        if quoted {
            bytes.next();
        }
        let (mut raw, mut plain) = (Vec::new(), Vec::new());
        loop {
            match bytes.peek().copied() {
                None if quoted => {
                    return Err(error("a quoted text does not end", "add the closing quote"));
                }
                Some(b'"') if quoted => {
                    bytes.next();
                    break;
                }
                None => break,
                Some(byte) if !quoted && (byte.is_ascii_whitespace() || byte == b';') => break,
                Some(b'(' | b')') if !quoted => {
                    return Err(error(
                        "a parenthesis stands outside of quotes",
                        "write one record on one line",
                    ));
                }
                Some(b'"') => {
                    return Err(error(
                        "a quote stands in the middle of a word",
                        "put a space before the quote",
                    ));
                }
                Some(b'\\') => {
                    bytes.next();
                    let mut taken = Vec::new();
                    let byte = escaped(&mut bytes.by_ref().inspect(|byte| taken.push(*byte)))
                        .ok_or_else(|| error("a backslash escapes nothing", "write \\\\ for a backslash"))?;
                    raw.push(b'\\');
                    raw.append(&mut taken);
                    plain.push(byte);
                }
                Some(byte) => {
                    bytes.next();
                    raw.push(byte);
                    plain.push(byte);
                }
            }
        }
        found.push(Word {
            raw: String::from_utf8_lossy(&raw).into_owned(),
            bytes: plain.into(),
            quoted,
        });
    }
}

fn owner(word: &Word, origin: &DnsName) -> Result<DnsName, DnsRecordError> {
    let name = named(word, origin)?;
    let origin_text = origin.host();
    let repeats = !origin.is_root()
        && word.raw != "@"
        && !word.raw.ends_with('.')
        && word.raw.to_ascii_lowercase().ends_with(&origin_text);
    if repeats {
        return Err(error(
            format!("`{}` means {name}, with the domain twice", word.raw),
            format!("end it with a dot (`{}.`), or leave the domain out", word.raw),
        ));
    }
    if !name.is_at_or_below(origin) {
        return Err(error(
            format!("{name} is not in the zone {origin}"),
            "only names below the manifest's domain are served here",
        ));
    }
    Ok(name)
}

/// A name in the data. One that has dots but none at the end is most often a mistake that no one notices: refused.
fn target(word: &Word, origin: &DnsName) -> Result<DnsName, DnsRecordError> {
    let raw = &word.raw;
    if !origin.is_root() && raw.contains('.') && !raw.ends_with('.') {
        return Err(error(
            format!("`{raw}` has no dot at its end, so it would mean {raw}.{origin}"),
            format!("write `{raw}.`, or `{raw}.{origin}` when it is a name of this zone"),
        ));
    }
    named(word, origin)
}

fn named(word: &Word, origin: &DnsName) -> Result<DnsName, DnsRecordError> {
    if word.quoted {
        return Err(error(
            format!("\"{}\" is a text, not a name", word.raw),
            "leave the quotes out",
        ));
    }
    DnsName::parse(&word.raw, origin).map_err(|wrong| {
        let hint = match &wrong {
            DnsNameError::Character { .. } => {
                "names have letters, digits, `-` and `_`; escape others with a backslash"
            }
            DnsNameError::NotAscii(_) => {
                "every tool that registers such domains shows the form that begins with xn--"
            }
            _ => "labels have 1 to 63 bytes, and a whole name up to 255",
        };
        error(wrong.to_string(), hint)
    })
}

fn ttl(word: &str) -> Result<u32, DnsRecordError> {
    let wrong = || {
        error(
            format!("`{word}` is no time to live"),
            "write seconds, such as 300, or with a unit, such as 5m, 1h, 1d",
        )
    };
    let mut total: u64 = 0;
    let mut number: Option<u64> = None;
    for byte in word.bytes() {
        if byte.is_ascii_digit() {
            let digits = number
                .unwrap_or(0)
                .saturating_mul(10)
                .saturating_add(u64::from(byte - b'0'));
            number = Some(digits);
            continue;
        }
        let unit = match byte.to_ascii_lowercase() {
            b's' => 1,
            b'm' => 60,
            b'h' => 3_600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return Err(wrong()),
        };
        total = total.saturating_add(number.take().ok_or_else(wrong)?.saturating_mul(unit));
    }
    let total = total.saturating_add(number.unwrap_or(0));
    u32::try_from(total)
        .ok()
        .filter(|ttl| *ttl <= MAX_TTL_S)
        .ok_or_else(wrong)
}

fn data(kind: &str, words: &[Word], origin: &DnsName) -> Result<DnsData, DnsRecordError> {
    let form = |form: &str| error(format!("this is no {kind} record"), format!("write {form}"));
    if let [marker, rest @ ..] = words
        && marker.raw == "\\#"
    {
        return other(kind, rest);
    }
    Ok(match (kind, words) {
        ("A", [address]) => DnsData::A(parsed(address).ok_or_else(|| form("A 192.0.2.1"))?),
        ("AAAA", [address]) => DnsData::Aaaa(parsed(address).ok_or_else(|| form("AAAA 2001:db8::1"))?),
        ("CNAME", [name]) => DnsData::Cname(target(name, origin)?),
        ("ALIAS" | "ANAME", [name]) => DnsData::Alias(target(name, origin)?),
        ("NS", [name]) => DnsData::Ns(target(name, origin)?),
        ("PTR", [name]) => DnsData::Ptr(target(name, origin)?),
        ("MX", [preference, exchange]) => DnsData::Mx {
            preference: parsed(preference).ok_or_else(|| form("MX 10 mail.example.net."))?,
            exchange: target(exchange, origin)?,
        },
        ("TXT", [_, ..]) => DnsData::Txt(texts(words)?),
        ("SRV", [priority, weight, port, name]) => {
            let number = |word| parsed(word).ok_or_else(|| form("SRV 10 5 443 host.example.net."));
            DnsData::Srv {
                priority: number(priority)?,
                weight: number(weight)?,
                port: number(port)?,
                target: target(name, origin)?,
            }
        }
        ("CAA", [flags, tag, value]) => {
            caa(flags, tag, value).ok_or_else(|| form("CAA 0 issue \"letsencrypt.org\""))?
        }
        ("DS", [tag, algorithm, digest, hex @ ..]) => {
            let fields = parsed::<u16>(tag)
                .zip(parsed::<u8>(algorithm).zip(parsed::<u8>(digest)))
                .map(|(tag, (algorithm, digest))| [&tag.to_be_bytes()[..], &[algorithm, digest]].concat());
            hexed(kind::DS, fields, hex).ok_or_else(|| form("DS 12345 13 2 HEX"))?
        }
        ("SSHFP", [algorithm, digest, hex @ ..]) => {
            hexed(kind::SSHFP, bytes(&[algorithm, digest]), hex).ok_or_else(|| form("SSHFP 4 2 HEX"))?
        }
        ("TLSA" | "SMIMEA", [usage, selector, matching, hex @ ..]) => {
            let number = if kind == "TLSA" { kind::TLSA } else { kind::SMIMEA };
            hexed(number, bytes(&[usage, selector, matching]), hex).ok_or_else(|| form("TLSA 3 1 1 HEX"))?
        }
        _ => return Err(no_data(kind)),
    })
}

fn no_data(kind: &str) -> DnsRecordError {
    if OURS.iter().any(|(ours, _)| *ours == kind) {
        return error(
            format!("a {kind} record cannot be written here"),
            "the server makes it by itself",
        );
    }
    let form = match kind {
        "A" => "A 192.0.2.1",
        "AAAA" => "AAAA 2001:db8::1",
        "CNAME" | "ALIAS" | "ANAME" | "NS" | "PTR" => "one name, such as host.example.net.",
        "MX" => "MX 10 mail.example.net.",
        "TXT" => "TXT \"text\"",
        "SRV" => "SRV 10 5 443 host.example.net.",
        "CAA" => "CAA 0 issue \"letsencrypt.org\"",
        "DS" => "DS 12345 13 2 HEX",
        "SSHFP" => "SSHFP 4 2 HEX",
        "TLSA" | "SMIMEA" => "TLSA 3 1 1 HEX",
        _ => {
            return error(
                format!("`{kind}` is not a record type that is known here"),
                "for a type without a form of its own write TYPE65 \\# LENGTH HEX (RFC 3597)",
            );
        }
    };
    error(format!("this is no {kind} record"), format!("write {form}"))
}

fn parsed<T: FromStr>(word: &Word) -> Option<T> {
    // `+1` is a number for Rust and for nobody else.
    let plain = !word.quoted && !word.raw.starts_with('+');
    plain.then(|| word.raw.parse().ok()).flatten()
}

fn bytes(words: &[&Word]) -> Option<Vec<u8>> {
    words.iter().map(|word| parsed(word)).collect()
}

/// Texts longer than 255 bytes are divided, as every tool does that people copy them from.
fn texts(words: &[Word]) -> Result<Vec<Box<[u8]>>, DnsRecordError> {
    let mut pieces: Vec<Box<[u8]>> = Vec::new();
    for word in words {
        match word.bytes.len() {
            0 => pieces.push(Box::from([])),
            _ => pieces.extend(word.bytes.chunks(255).map(Box::from)),
        }
    }
    if pieces.iter().map(|piece| piece.len() + 1).sum::<usize>() > MAX_DATA {
        return Err(error(
            format!("the text has more than {MAX_DATA} bytes"),
            "shorten it",
        ));
    }
    Ok(pieces)
}

fn caa(flags: &Word, tag: &Word, value: &Word) -> Option<DnsData> {
    let tag = &tag.raw;
    let valid = (1..=15).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_alphanumeric());
    valid.then_some(())?;
    Some(DnsData::Caa {
        flags: parsed(flags)?,
        tag: tag.to_ascii_lowercase(),
        value: value.bytes.clone(),
    })
}

fn hexed(kind: u16, fields: Option<Vec<u8>>, words: &[Word]) -> Option<DnsData> {
    let mut data = fields?;
    let hex = unhex(words).filter(|hex| !hex.is_empty())?;
    data.extend(hex);
    Some(DnsData::Other {
        kind,
        data: data.into(),
    })
}

fn unhex(words: &[Word]) -> Option<Vec<u8>> {
    let digits: String = words.iter().map(|word| word.raw.as_str()).collect();
    hex::decode(digits).ok()
}

/// `\# LENGTH HEX` (RFC 3597 section 5).
fn other(kind: &str, words: &[Word]) -> Result<DnsData, DnsRecordError> {
    let form = || {
        error(
            "this is no record in the form of RFC 3597",
            "write TYPE65 \\# LENGTH HEX",
        )
    };
    let number = type_number(kind).ok_or_else(|| no_data(kind))?;
    let meta = OURS.iter().any(|(_, ours)| *ours == number) || number == 0 || (128..256).contains(&number);
    if meta {
        return Err(no_data("SOA").with(format!("a {} record cannot be written here", type_name(number))));
    }
    // What has rules of its own (a CNAME stands alone, a name is in the zone) is written in its own form.
    if TYPES.iter().any(|(_, known)| *known == number) && !HEXED.contains(&number) {
        return Err(no_data(&type_name(number)));
    }
    let (length, hex) = words.split_first().ok_or_else(form)?;
    let data = unhex(hex).ok_or_else(form)?;
    if parsed::<usize>(length) != Some(data.len()) {
        return Err(error(
            format!(
                "the length says {} and there are {} bytes",
                length.raw,
                data.len()
            ),
            "write the number of bytes that follow",
        ));
    }
    Ok(DnsData::Other {
        kind: number,
        data: data.into(),
    })
}

/// Types whose form is our own and that are kept as bytes.
const HEXED: [u16; 4] = [kind::DS, kind::SSHFP, kind::TLSA, kind::SMIMEA];

impl DnsRecordError {
    fn with(mut self, message: String) -> Self {
        self.message = message;
        self
    }
}

pub(super) fn quoted(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 2);
    text.push('"');
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => {
                text.push('\\');
                text.push(byte.into());
            }
            0x20..=0x7e => text.push(byte.into()),
            _ => text.push_str(&format!("\\{byte:03}")),
        }
    }
    text.push('"');
    text
}

pub(super) fn write_other(f: &mut fmt::Formatter<'_>, number: u16, data: &[u8]) -> fmt::Result {
    let fields = match number {
        kind::DS => data
            .split_first_chunk::<4>()
            .map(|([a, b, algorithm, digest], hex)| {
                (
                    format!("{} {algorithm} {digest}", u16::from_be_bytes([*a, *b])),
                    hex,
                )
            }),
        kind::SSHFP => data
            .split_first_chunk::<2>()
            .map(|([algorithm, digest], hex)| (format!("{algorithm} {digest}"), hex)),
        kind::TLSA | kind::SMIMEA => data
            .split_first_chunk::<3>()
            .map(|([usage, selector, matching], hex)| (format!("{usage} {selector} {matching}"), hex)),
        _ => None,
    };
    match fields.filter(|(_, hex)| !hex.is_empty()) {
        Some((fields, hex)) => write!(f, "{} {fields} {}", type_name(number), hex::encode(hex)),
        None => write!(
            f,
            "{} \\# {} {}",
            type_name(number),
            data.len(),
            hex::encode(data)
        ),
    }
}

#[cfg(test)]
mod tests;
