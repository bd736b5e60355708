//! What a rule asks of a value: `@rx`, `@pm`, `@eq` and the others.

mod address;
mod bytes;
mod dialect;
mod equivalents;
mod need;
mod pattern;
mod verify;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

pub(crate) use address::Networks;
pub(crate) use bytes::{bad_escape, contains_word, number};
pub(crate) use need::{ByteSet, Need};
pub(crate) use pattern::{Flags, Pattern};
pub(crate) use verify::{Check, check};

use crate::seclang::{Operator as Written, Template, Wrong};

/// An operator, ready but for its templates.
#[derive(Debug)]
pub(crate) enum Operator {
    /// Matches always.
    Always,
    /// Matches never.
    Never,
    /// A pattern.
    Pattern(Arc<Pattern>),
    /// One of these phrases is in it, whatever its case. In lower case.
    Phrases(Vec<Vec<u8>>),
    /// A comparison of texts.
    Text(TextTest, Template),
    /// A comparison of numbers.
    Number(Compare, Template),
    /// The address is in one of these networks.
    Address(Networks),
    /// A byte outside of this set is there.
    ByteOutside(ByteSet),
    /// A bad `%` escape is there.
    BadEscape,
    /// It is not UTF-8.
    BadUtf8,
    /// SQL injection.
    Sqli,
    /// Cross-site scripting.
    Xss,
    /// The pattern finds a number with right check digits.
    Verify(Check, Arc<Pattern>),
    /// The client's country is known.
    Country,
    /// A pattern with macros.
    Expanded(Template),
}

/// How texts are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextTest {
    BeginsWith,
    Contains,
    ContainsWord,
    EndsWith,
    Equals,
    /// The value is in the argument.
    Within,
}

/// How numbers are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal,
    GreaterOrEqual,
    Greater,
    LessOrEqual,
    Less,
}

impl Compare {
    pub(crate) fn holds(self, left: i64, right: i64) -> bool {
        match self {
            Self::Equal => left == right,
            Self::GreaterOrEqual => left >= right,
            Self::Greater => left > right,
            Self::LessOrEqual => left <= right,
            Self::Less => left < right,
        }
    }
}

impl TextTest {
    pub(crate) fn holds(self, value: &[u8], argument: &[u8]) -> bool {
        match self {
            Self::BeginsWith => value.starts_with(argument),
            Self::Contains => memchr::memmem::find(value, argument).is_some(),
            Self::ContainsWord => contains_word(value, argument),
            Self::EndsWith => value.ends_with(argument),
            Self::Equals => value == argument,
            Self::Within => memchr::memmem::find(argument, value).is_some(),
        }
    }
}

/// What operators a rule may name, for hints.
const NAMES: &[&str] = &[
    "beginsWith",
    "contains",
    "containsWord",
    "detectSQLi",
    "detectXSS",
    "endsWith",
    "eq",
    "ge",
    "geoLookup",
    "gt",
    "ipMatch",
    "ipMatchF",
    "ipMatchFromFile",
    "le",
    "lt",
    "noMatch",
    "pm",
    "pmf",
    "pmFromFile",
    "rbl",
    "rx",
    "rxGlobal",
    "streq",
    "strmatch",
    "unconditionalMatch",
    "validateByteRange",
    "validateUrlEncoding",
    "validateUtf8Encoding",
    "verifyCC",
    "verifyCPF",
    "verifySSN",
    "verifySVNR",
    "within",
];

/// A known operator that never matches here, with the reason: the rule loads, and its user is told.
pub(crate) const NO_NETWORK: &str =
    "@rbl asks a name server for each request, and this engine asks nobody: the rule never matches";

/// Compiles an operator. `folder` is what its files are relative to.
pub(crate) fn compile(
    written: &Written,
    folder: &Path,
    pattern: &mut dyn FnMut(&str) -> Result<Arc<Pattern>, Wrong>,
    warn: &mut dyn FnMut(&str),
) -> Result<Operator, Wrong> {
    let argument = written.argument.as_str();
    let template = || written.template.clone();
    let text = |test| Ok(Operator::Text(test, template()));
    let number = |compare| Ok(Operator::Number(compare, template()));
    match written.name.as_str() {
        "rx" | "rxglobal" if written.template.as_literal().is_none() => Ok(Operator::Expanded(template())),
        "rx" | "rxglobal" => Ok(Operator::Pattern(pattern(argument)?)),
        "pm" => phrases(split_phrases(argument)?),
        "pmf" | "pmfromfile" => phrases(phrase_files(argument, folder)?),
        "strmatch" | "contains" => text(TextTest::Contains),
        "containsword" => text(TextTest::ContainsWord),
        "beginswith" => text(TextTest::BeginsWith),
        "endswith" => text(TextTest::EndsWith),
        "streq" => text(TextTest::Equals),
        "within" => text(TextTest::Within),
        "eq" => number(Compare::Equal),
        "ge" => number(Compare::GreaterOrEqual),
        "gt" => number(Compare::Greater),
        "le" => number(Compare::LessOrEqual),
        "lt" => number(Compare::Less),
        "ipmatch" => {
            let mut networks = Networks::default();
            for item in argument.split([',', ' ']).filter(|item| !item.is_empty()) {
                networks.add(item).map_err(Wrong::new)?;
            }
            Ok(Operator::Address(networks))
        }
        "ipmatchf" | "ipmatchfromfile" => {
            let mut networks = Networks::default();
            for line in file_lines(argument, folder)? {
                networks
                    .add(&line)
                    .map_err(|error| Wrong::new(format!("{argument}: {error}")))?;
            }
            Ok(Operator::Address(networks))
        }
        "validatebyterange" => Ok(Operator::ByteOutside(bytes::range(argument).map_err(Wrong::new)?)),
        "validateurlencoding" => Ok(Operator::BadEscape),
        "validateutf8encoding" => Ok(Operator::BadUtf8),
        "detectsqli" => Ok(Operator::Sqli),
        "detectxss" => Ok(Operator::Xss),
        "unconditionalmatch" => Ok(Operator::Always),
        "nomatch" => Ok(Operator::Never),
        "verifycc" => Ok(Operator::Verify(Check::Card, pattern(argument)?)),
        "verifycpf" => Ok(Operator::Verify(Check::Cpf, pattern(argument)?)),
        "verifyssn" => Ok(Operator::Verify(Check::Ssn, pattern(argument)?)),
        "verifysvnr" => Ok(Operator::Verify(Check::Svnr, pattern(argument)?)),
        "geolookup" => Ok(Operator::Country),
        "rbl" => {
            warn(NO_NETWORK);
            Ok(Operator::Never)
        }
        "gsblookup" => Err(Wrong::new(
            "@gsbLookup asks a service over the network for each request, and this engine asks nobody",
        )),
        "inspectfile" => Err(Wrong::new(
            "@inspectFile starts a program for a request, and this engine starts none",
        )),
        "fuzzyhash" => Err(Wrong::new("@fuzzyHash is not done here")),
        "rsub" => Err(Wrong::new(
            "@rsub changes bodies, and this engine only looks at them",
        )),
        "validatedtd" | "validateschema" => Err(Wrong::new(format!(
            "@{} is not done here: XML is read, not validated",
            written.name
        ))),
        "validatehash" => Err(Wrong::new("links are not signed here (@validateHash)")),
        name => Err(Wrong::new(format!("unknown operator @{name}"))
            .hint(crate::seclang::nearest(name, NAMES.iter().copied()))),
    }
}

/// Compiles a pattern.
pub(crate) fn pattern(text: &str) -> Result<Pattern, Wrong> {
    let unsupported = |error: dialect::Unsupported| Wrong {
        message: error.message,
        hint: error.hint,
    };
    Pattern::new(text, Flags::default()).map_err(unsupported)
}

/// Compiles the pattern of a selector or of a tag: its case does not matter.
pub(crate) fn caseless(text: &str) -> Result<Pattern, Wrong> {
    let flags = Flags { caseless: true };
    Pattern::new(text, flags).map_err(|error| Wrong {
        message: error.message,
        hint: error.hint,
    })
}

fn phrases(mut phrases: Vec<Vec<u8>>) -> Result<Operator, Wrong> {
    phrases.retain(|phrase| !phrase.is_empty());
    if phrases.is_empty() {
        return Err(Wrong::new("there are no phrases"));
    }
    for phrase in &mut phrases {
        phrase.make_ascii_lowercase();
    }
    phrases.sort();
    phrases.dedup();
    Ok(Operator::Phrases(phrases))
}

/// Phrases stand between spaces; `|41 42|` are bytes in hexadecimal.
fn split_phrases(text: &str) -> Result<Vec<Vec<u8>>, Wrong> {
    text.split_ascii_whitespace()
        .map(|word| phrase(word.as_bytes()))
        .collect()
}

fn phrase(text: &[u8]) -> Result<Vec<u8>, Wrong> {
    let mut out = Vec::with_capacity(text.len());
    let mut pieces = text.split(|byte| *byte == b'|');
    out.extend_from_slice(pieces.next().unwrap_or_default());
    while let Some(hex) = pieces.next() {
        let Some(after) = pieces.next() else {
            // A single bar is one.
            out.push(b'|');
            out.extend_from_slice(hex);
            break;
        };
        match hex::decode(hex) {
            Ok(bytes) if !bytes.is_empty() => out.extend(bytes),
            _ => {
                out.push(b'|');
                out.extend_from_slice(hex);
                out.push(b'|');
            }
        }
        out.extend_from_slice(after);
    }
    Ok(out)
}

/// One phrase a line; `#` begins a comment line.
fn phrase_files(names: &str, folder: &Path) -> Result<Vec<Vec<u8>>, Wrong> {
    let mut all = Vec::new();
    for name in names.split_ascii_whitespace() {
        all.extend(file_lines(name, folder)?.into_iter().map(String::into_bytes));
    }
    Ok(all)
}

/// How large a list may be.
const LIST_BYTES: u64 = 16 << 20;

fn file_lines(name: &str, folder: &Path) -> Result<Vec<String>, Wrong> {
    if name.starts_with("http://") || name.starts_with("https://") {
        return Err(Wrong::new(format!(
            "{name}: lists come from files: fetch it first"
        )));
    }
    let path = folder.join(name);
    let failed = |error: std::io::Error| Wrong::new(format!("{} cannot be read: {error}", path.display()));
    if std::fs::metadata(&path).map_err(failed)?.len() > LIST_BYTES {
        return Err(Wrong::new(format!(
            "{} is larger than {LIST_BYTES} bytes",
            path.display()
        )));
    }
    let bytes = std::fs::read(&path).map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes)
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect())
}
