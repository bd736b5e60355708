//! Whether a text is what a rule looks for.

use super::Transaction;
use super::texts::{Side, TextId};
use crate::compile::rule::{Gated, Rule, Test};
use crate::operator::{self, ByteSet};

/// Without one of these no text is cross-site scripting: each way into a tag or an attribute's value needs one.
pub(super) const XSS_NEEDS: ByteSet = ByteSet::of(b"<=");

/// One word or one number is no SQL injection.
pub(super) const WORD: ByteSet =
    ByteSet::of(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");

/// An argument with its macros replaced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Argument<'a> {
    pub(super) text: &'a [u8],
    pub(super) number: i64,
}

impl<'t> Transaction<'t> {
    /// Whether a test holds for a text, without its negation.
    pub(super) fn holds(&mut self, rule: &'t Rule, text: TextId, argument: Argument<'_>) -> bool {
        match &rule.test {
            Test::Always => true,
            Test::Never => false,
            Test::Pattern(pattern, number, gated) => {
                if !self.may_match(gated, text) {
                    return false;
                }
                let bytes = self.texts.get(text);
                self.work += bytes.len() as u64 + 16;
                pattern.is_match(self.scratch.cache(pattern, *number), bytes)
            }
            // The search for phrases is exact.
            Test::Phrases(gated) => self.may_match(gated, text),
            Test::Text(test, _) => test.holds(self.texts.get(text), argument.text),
            Test::Number(compare, _) => {
                compare.holds(operator::number(self.texts.get(text)), argument.number)
            }
            Test::Address(networks) => std::str::from_utf8(self.texts.get(text))
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .is_some_and(|address| networks.contains(address)),
            Test::ByteOutside(set) => self.texts.set(text).exceeds(set),
            Test::BadEscape => operator::bad_escape(self.texts.get(text)),
            Test::BadUtf8 => std::str::from_utf8(self.texts.get(text)).is_err(),
            Test::Sqli => {
                let bytes = self.texts.get(text);
                if !self.texts.set(text).exceeds(&WORD) {
                    return false;
                }
                self.work += bytes.len() as u64 * 4;
                crate::libinjection::sqli(bytes).is_some()
            }
            Test::Xss => {
                let bytes = self.texts.get(text);
                if !self.texts.set(text).meets(&XSS_NEEDS) {
                    return false;
                }
                self.work += bytes.len() as u64 * 4;
                crate::libinjection::xss(bytes)
            }
            Test::Verify(check, pattern, number, gated) => {
                if !self.may_match(gated, text) {
                    return false;
                }
                let bytes = self.texts.get(text);
                self.work += bytes.len() as u64 + 16;
                let cache = self.scratch.cache(pattern, *number);
                pattern.captures(cache, bytes).is_some_and(|groups| {
                    groups[0].is_some_and(|span| operator::check(*check, &bytes[span.range()]))
                })
            }
            Test::Expanded(_) => self
                .program
                .expanded(argument.text)
                .is_some_and(|pattern| pattern.fits(self.texts.get(text))),
            Test::Country => self.request.country.is_some(),
        }
    }

    /// What a text must have before the pattern itself is tried.
    #[inline]
    pub(super) fn may_match(&mut self, gated: &Gated, text: TextId) -> bool {
        let set = self.texts.set(text);
        if !gated.bytes.iter().all(|needed| needed.meets(set)) {
            return false;
        }
        if gated.length > 0 && self.texts.get(text).len() < gated.length as usize {
            return false;
        }
        match gated.bit {
            None => true,
            Some(bit) => {
                let program = self.program;
                let (side, gate) = if self.side == Side::Request {
                    (Side::Request, &program.request_gate)
                } else {
                    (Side::Response, &program.response_gate)
                };
                self.texts.has_bit(text, side, gate, bit)
            }
        }
    }

    /// Fills `TX:0` to `TX:9` with what a test found.
    pub(super) fn capture(&mut self, rule: &'t Rule, text: TextId) {
        let bytes = self.texts.get(text);
        let mut captures: [Option<Box<[u8]>>; 10] = Default::default();
        match &rule.test {
            Test::Pattern(pattern, number, _) | Test::Verify(_, pattern, number, _) => {
                let cache = self.scratch.cache(pattern, *number);
                if let Some(spans) = pattern.captures(cache, bytes) {
                    for (capture, span) in captures.iter_mut().zip(spans) {
                        *capture = span.map(|span| bytes[span.range()].into());
                    }
                }
            }
            Test::Phrases(gated) => {
                let gate = if self.side == Side::Request {
                    &self.program.request_gate
                } else {
                    &self.program.response_gate
                };
                let found = gated.bit.and_then(|bit| gate.first(bytes, bit));
                captures[0] = found.map(|range| bytes[range].into());
            }
            Test::Sqli => {
                captures[0] = crate::libinjection::sqli(bytes)
                    .map(|fingerprint| fingerprint.as_str().as_bytes().into());
            }
            _ => captures[0] = Some(bytes.into()),
        }
        self.captures = captures;
    }
}
