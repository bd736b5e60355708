//! Texts that a pattern matches, by chance.

use std::path::Path;

use astraler_waf::seclang::Operator;
use regex_syntax::hir::{Class, Hir, HirKind};

use crate::chance::Chance;

/// Makes texts that an operator matches.
pub(crate) enum Maker {
    Pattern(Hir),
    Words(Vec<String>),
}

impl Maker {
    pub(crate) fn new(operator: &Operator, folder: &Path) -> Option<Self> {
        match operator.name.as_str() {
            "rx" if !operator.negated => {
                let hir = regex_syntax::ParserBuilder::new()
                    .unicode(false)
                    .utf8(false)
                    .dot_matches_new_line(true)
                    .build()
                    .parse(&operator.argument.replace("\\x{bc}", "\\xbc"))
                    .ok()?;
                Some(Self::Pattern(hir))
            }
            "pm" if !operator.negated => Some(Self::Words(
                operator.argument.split_whitespace().map(str::to_owned).collect(),
            )),
            "pmfromfile" if !operator.negated => {
                let text = std::fs::read_to_string(folder.join(&operator.argument)).ok()?;
                let words = text
                    .lines()
                    .filter(|line| !line.is_empty() && !line.starts_with('#'));
                Some(Self::Words(words.map(str::to_owned).collect()))
            }
            "detectsqli" => Some(words(&[
                "1' or '1'='1",
                "1 union select a from b",
                "x' and 1=1 -- ",
                "1;drop table a",
                "admin'--",
                "' or sleep(5)#",
                "1 or 1=1",
                "0x41 or 1",
                "a'||'b'='ab",
                "1/**/union/**/all/**/select/**/1",
            ])),
            "detectxss" => Some(words(&[
                "<script>alert(1)</script>",
                "<img src=x onerror=alert(1)>",
                "\"><svg/onload=1>",
                "javascript:alert(1)",
                "<a href=javascript:1>",
                "' onclick='x",
                "<!--x-->",
                "<x style=a:b>",
            ])),
            "validatebyterange" => Some(words(&[
                "a\u{1}b", "\u{e9}", "a\u{7f}", "\"x\"", "a&b", "~`", "a\tb", "x\u{0}y",
            ])),
            "ge" | "gt" | "eq" => Some(words(&["0", "1", "99999", "-1", "abc"])),
            "streq" | "within" | "endswith" | "beginswith" | "contains" => {
                Some(words(&[&operator.argument, "x", ""]))
            }
            "validateurlencoding" => Some(words(&["%", "%zz", "a%2"])),
            "validateutf8encoding" => Some(Self::Pattern(Hir::literal(vec![b'a', 0xc0, 0xaf]))),
            _ if operator.negated => Some(words(&["", "x", "1", "a/b", "GET", "text/html"])),
            _ => None,
        }
    }

    pub(crate) fn make(&self, chance: &mut Chance) -> Vec<u8> {
        match self {
            Self::Pattern(hir) => {
                let mut text = Vec::new();
                write(hir, chance, &mut text);
                // Some texts stand within others.
                match chance.below(4) {
                    0 => text.splice(0..0, *b"a ").for_each(drop),
                    1 => text.extend_from_slice(b" b"),
                    _ => {}
                }
                text
            }
            Self::Words(words) => {
                let word = words.get(chance.below(words.len())).map_or("", String::as_str);
                word.as_bytes().to_vec()
            }
        }
    }
}

fn words(words: &[&str]) -> Maker {
    Maker::Words(words.iter().map(|word| (*word).to_owned()).collect())
}

/// How long a text may get.
const LONG: usize = 400;

fn write(hir: &Hir, chance: &mut Chance, text: &mut Vec<u8>) {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => text.extend_from_slice(&literal.0),
        HirKind::Class(Class::Bytes(class)) => {
            let ranges = class.ranges();
            if ranges.is_empty() {
                return;
            }
            let range = ranges[chance.below(ranges.len())];
            let (low, high) = (range.start(), range.end());
            // What can be read is likelier.
            let (low, high) = match (low.max(b' '), high.min(b'~')) {
                (low, high) if low <= high && chance.below(8) > 0 => (low, high),
                _ => (low, high),
            };
            let width = usize::from(high - low) + 1;
            text.push(low + u8::try_from(chance.below(width)).unwrap_or(0));
        }
        HirKind::Class(Class::Unicode(class)) => {
            if let Some(range) = class.ranges().first() {
                text.extend_from_slice(range.start().encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        HirKind::Repetition(repetition) => {
            let most = repetition
                .max
                .unwrap_or(u32::MAX)
                .min(repetition.min.saturating_add(3));
            let more = usize::try_from(most - repetition.min).unwrap_or(0);
            let times = usize::try_from(repetition.min).unwrap_or(0) + chance.below(more + 1);
            for _ in 0..times {
                if text.len() < LONG {
                    write(&repetition.sub, chance, text);
                }
            }
        }
        HirKind::Capture(capture) => write(&capture.sub, chance, text),
        HirKind::Concat(parts) => parts.iter().for_each(|part| write(part, chance, text)),
        HirKind::Alternation(parts) => write(&parts[chance.below(parts.len())], chance, text),
    }
}
