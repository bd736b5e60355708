//! Functions that replace what a pattern matches.

use std::sync::Arc;

use regex_automata::PatternID;
use regex_automata::meta::Regex;

use super::ExpressionError;
use super::call::{Function, Replacement};
use super::check::{regex, wildcard_groups};
use super::function::{made, value};
use super::parse::{Operand, Parser};
use super::value::Type;

/// References to groups in a replacement, as at Cloudflare.
const MAX_REFERENCES: usize = 8;

type Result<T> = std::result::Result<T, ExpressionError>;

/// `regex_replace(source, "pattern", "replacement")`: the first match only.
pub(super) fn pattern(parser: &mut Parser<'_>, at: usize) -> Result<Operand> {
    once(parser, "regex_replace", at)?;
    let one = value(parser, &[Type::Bytes])?;
    parser.expect(",")?;
    let start = parser.start;
    let pattern = String::from_utf8(parser.text()?);
    let pattern = pattern.map_err(|_| ExpressionError::new(start, "this pattern is no UTF-8"))?;
    parser.pattern(start)?;
    let regex = regex(&pattern).map_err(|error| ExpressionError::new(start, error))?;
    let replacement = replacement(parser, &regex)?;
    made(Function::Replace(regex, replacement), vec![one])
}

/// `wildcard_replace(source, "/*/b", "/${1}", "s")`: where all of the source matches; case does not count without `s`.
pub(super) fn wildcards(parser: &mut Parser<'_>, at: usize) -> Result<Operand> {
    once(parser, "wildcard_replace", at)?;
    let one = value(parser, &[Type::Bytes])?;
    parser.expect(",")?;
    let start = parser.start;
    let pattern = parser.text()?;
    parser.pattern(start)?;
    // Whether case counts is said behind the replacement, and no group depends on it.
    let groups = wildcard_groups(&pattern, false).map_err(|error| ExpressionError::new(start, error))?;
    let replacement = replacement(parser, &groups)?;
    let mut regex = groups;
    if parser.sign(",")? {
        let flags = parser.start;
        match &*parser.text()? {
            b"" => {}
            b"s" => {
                regex =
                    wildcard_groups(&pattern, true).map_err(|error| ExpressionError::new(start, error))?;
            }
            _ => {
                let what = "the flag of wildcard_replace() is 's' (case counts)";
                return Err(ExpressionError::new(flags, what));
            }
        }
    }
    made(Function::Replace(regex, replacement), vec![one])
}

/// Either can be used once in an expression, as at Cloudflare.
fn once(parser: &mut Parser<'_>, name: &str, at: usize) -> Result<()> {
    if std::mem::replace(&mut parser.replaced, true) {
        let what = format!("{name}() can be used once in an expression");
        return Err(ExpressionError::new(at, what));
    }
    Ok(())
}

/// Behind a comma.
fn replacement(parser: &mut Parser<'_>, regex: &Arc<Regex>) -> Result<Box<[Replacement]>> {
    parser.expect(",")?;
    let start = parser.start;
    let replacement = pieces(&parser.text()?);
    let groups = regex.group_info().group_len(PatternID::ZERO);
    let named = || {
        replacement.iter().filter_map(|piece| match piece {
            Replacement::Group(group) => Some(*group),
            Replacement::Text(_) => None,
        })
    };
    if let Some(group) = named().find(|group| *group >= groups) {
        let what = format!("the pattern has no group {group}");
        return Err(ExpressionError::new(start, what));
    }
    if named().count() > MAX_REFERENCES {
        let what = format!("a replacement has {MAX_REFERENCES} references at most");
        return Err(ExpressionError::new(start, what));
    }
    Ok(replacement)
}

/// `${1}` is a group, `$$` a dollar, all else is text.
fn pieces(replacement: &[u8]) -> Box<[Replacement]> {
    let mut pieces = Vec::new();
    let mut text = Vec::new();
    let mut rest = replacement;
    while let Some((byte, mut behind)) = rest.split_first() {
        let group = rest.strip_prefix(b"${").and_then(|digits| {
            let end = digits.iter().position(|digit| *digit == b'}')?;
            let group: u8 = std::str::from_utf8(&digits[..end]).ok()?.parse().ok()?;
            Some((usize::from(group), &digits[end + 1..]))
        });
        if let Some((group, after)) = group {
            if !text.is_empty() {
                pieces.push(Replacement::Text(std::mem::take(&mut text).into()));
            }
            pieces.push(Replacement::Group(group));
            behind = after;
        } else {
            text.push(*byte);
            behind = match rest.starts_with(b"$$") {
                true => &behind[1..],
                false => behind,
            };
        }
        rest = behind;
    }
    if !text.is_empty() {
        pieces.push(Replacement::Text(text.into()));
    }
    pieces.into()
}

/// The first match, replaced; none where nothing matches.
pub(super) fn replaced(regex: &Regex, replacement: &[Replacement], text: &[u8]) -> Option<Vec<u8>> {
    let mut captures = regex.create_captures();
    regex.captures(text, &mut captures);
    let whole = captures.get_group(0)?;
    let mut replaced = text[..whole.start].to_vec();
    for piece in replacement {
        match piece {
            Replacement::Text(piece) => replaced.extend_from_slice(piece),
            Replacement::Group(group) => {
                if let Some(span) = captures.get_group(*group) {
                    replaced.extend_from_slice(&text[span.start..span.end]);
                }
            }
        }
    }
    replaced.extend_from_slice(&text[whole.end..]);
    Some(replaced)
}
