//! Masks known secrets in text on its way to a log, a terminal or a page.

use crate::Secret;
use aho_corasick::AhoCorasick;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

/// Shorter values are not masked: they would turn up in innocent text everywhere.
const MIN_LENGTH: usize = 6;
const MASK: &str = "***";

/// What RFC 3986 lets stand in a query: a client escapes at least the others.
const QUERY: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'%')
    .add(b'&')
    .add(b'+');
/// What RFC 3986 calls unreserved stays, as JavaScript's `encodeURIComponent` nearly does.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
const JAVASCRIPT: &AsciiSet = &COMPONENT
    .remove(b'!')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*');

/// Finds values given to it in any text, also in base64 (at any offset inside a longer text), in hexadecimal,
/// percent-encoded, or escaped as in JSON, and each line of a value that has several.
///
/// It works on whole texts: mask line by line or message by message, not on arbitrary chunks of a stream, where
/// a value could lie across two. It keeps the values in memory, unwiped, for as long as it lives. It is a net
/// under the rule that secrets are not logged, never a replacement for it: an unknown encoding passes.
#[derive(Clone, Default)]
pub struct Redactor {
    patterns: BTreeSet<String>,
    automaton: Option<AhoCorasick>,
}

impl Redactor {
    /// A redactor that knows no value yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A redactor that knows these values.
    pub fn of<'a>(values: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut redactor = Self::new();
        values
            .into_iter()
            .for_each(|value| redactor.collect(value.expose()));
        redactor.build();
        redactor
    }

    /// Learns a value. Values shorter than 6 bytes are not learned: returns whether it was.
    pub fn add(&mut self, value: &Secret) -> bool {
        let before = self.patterns.len();
        self.collect(value.expose());
        if self.patterns.len() > before {
            self.build();
        }
        value.expose().trim().len() >= MIN_LENGTH
    }

    /// The text with `***` in place of every value; borrowed when there was none.
    pub fn mask<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let Some(automaton) = &self.automaton else {
            return Cow::Borrowed(text);
        };
        let mut hidden: Vec<(usize, usize)> = Vec::new();
        // Overlapping matches, merged: masking only the first of two values that overlap would show the rest
        // of the second.
        for found in automaton.find_overlapping_iter(text) {
            let (mut start, end) = (found.start(), found.end());
            while let Some(last) = hidden.last().filter(|last| start <= last.1) {
                start = start.min(last.0);
                hidden.pop();
            }
            hidden.push((start, end));
        }
        if hidden.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut masked = String::with_capacity(text.len());
        let mut shown = 0;
        for (start, end) in hidden {
            masked.push_str(&text[shown..start]);
            masked.push_str(MASK);
            shown = end;
        }
        masked.push_str(&text[shown..]);
        Cow::Owned(masked)
    }

    fn collect(&mut self, value: &str) {
        let lines = value.lines().filter(|line| *line != value);
        for text in std::iter::once(value).chain(lines).map(str::trim) {
            if text.len() >= MIN_LENGTH {
                self.patterns.extend(forms(text));
            }
        }
    }

    #[expect(
        clippy::expect_used,
        reason = "fails only over 2^31 patterns or bytes; secrets are bounded to 1 MiB"
    )]
    fn build(&mut self) {
        self.automaton = (!self.patterns.is_empty())
            .then(|| AhoCorasick::new(&self.patterns).expect("the values fit an automaton"));
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} patterns)", self.patterns.len())
    }
}

/// Every spelling of a text that is looked for. All begin and end on a character boundary of the text they are
/// found in, because each is whole UTF-8 itself.
fn forms(text: &str) -> Vec<String> {
    let bytes = text.as_bytes();
    let mut forms = vec![text.to_owned(), hex::encode(bytes), hex::encode_upper(bytes)];
    for set in [QUERY, COMPONENT, JAVASCRIPT, NON_ALPHANUMERIC] {
        let encoded = utf8_percent_encode(text, set).to_string();
        forms.push(encoded.replace("%20", "+"));
        forms.push(lower_escapes(&encoded));
        forms.push(encoded);
    }
    let json = escape_json(text);
    forms.push(json.replace('/', "\\/"));
    forms.push(json);
    for offset in 0..3 {
        forms.extend(base64_at(bytes, offset));
    }
    forms
}

/// What of the base64 of a longer text depends on `bytes` alone, when they begin `offset` bytes (modulo 3) into it.
fn base64_at(bytes: &[u8], offset: usize) -> Vec<String> {
    let mut padded = vec![0; offset];
    padded.extend_from_slice(bytes);
    // A character carries 6 bits: the first ones share bits with what stands before, the last with what follows.
    let first = (offset * 8).div_ceil(6);
    let last = padded.len() * 8 / 6;
    let engines = [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD];
    engines
        .iter()
        .map(|engine| engine.encode(&padded)[first..last].to_owned())
        .filter(|s| s.len() >= MIN_LENGTH)
        .collect()
}

fn lower_escapes(encoded: &str) -> String {
    let mut out = String::with_capacity(encoded.len());
    let mut escape = 0;
    for c in encoded.chars() {
        escape = if c == '%' { 3 } else { escape };
        out.push(if escape > 0 { c.to_ascii_lowercase() } else { c });
        escape = usize::saturating_sub(escape, 1);
    }
    out
}

fn escape_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    fn redactor(values: &[&str]) -> Redactor {
        let secrets: Vec<Secret> = values.iter().map(|v| Secret::new(*v)).collect();
        Redactor::of(&secrets)
    }

    #[test]
    fn masks_plain_overlapping_and_adjacent_values() {
        let r = redactor(&["abcdefgh", "efghijkl"]);
        assert_eq!(r.mask("x abcdefghijkl y"), "x *** y");
        assert_eq!(r.mask("abcdefghefghijkl"), "***");
        assert_eq!(r.mask("-abcdefgh-efghijkl-"), "-***-***-");
        assert_eq!(
            redactor(&["secret-long", "secret-"]).mask("a secret-long b"),
            "a *** b"
        );
        assert!(matches!(r.mask("nothing here"), Cow::Borrowed("nothing here")));
    }

    #[test]
    fn masks_a_value_in_urls_json_headers_and_hex() {
        let value = "pä/s s+w\"rd&é~(1)";
        let r = redactor(&[value]);
        let upper = utf8_percent_encode(value, COMPONENT).to_string();
        for text in [
            upper.clone(),
            lower_escapes(&upper),
            upper.replace("%20", "+"),
            // What `encodeURIComponent` of Node.js prints for it.
            "p%C3%A4%2Fs%20s%2Bw%22rd%26%C3%A9~(1)".to_owned(),
            hex::encode(value),
            "pä/s s+w\\\"rd&é~(1)".to_owned(),
            "pä\\/s s+w\\\"rd&é~(1)".to_owned(),
        ] {
            assert_eq!(r.mask(&format!("<{text}>")), "<***>", "{text}");
        }
        let basic = STANDARD.encode(format!("user:{value}"));
        let masked = r.mask(&basic).into_owned();
        assert!(masked.contains("***") && masked.len() < 14, "{masked}");
    }

    #[test]
    fn each_line_of_a_long_value_is_masked() {
        let r = redactor(&["-----BEGIN KEY-----\nMIIBVgIBADAN\nabc\n-----END KEY-----\n"]);
        assert_eq!(r.mask("1: MIIBVgIBADAN"), "1: ***");
        assert_eq!(r.mask("abc stays: too short"), "abc stays: too short");
    }

    #[test]
    fn short_values_are_not_learned_and_that_is_said() {
        let mut r = Redactor::new();
        assert!(!r.add(&Secret::new("abc")));
        assert!(r.add(&Secret::new("abcdef")));
        assert!(r.add(&Secret::new("abcdef")), "learned already");
        assert_eq!(r.mask("abc abcdef"), "abc ***");
        assert_eq!(
            format!("{:?}", Redactor::of(&[Secret::new("abc")])),
            "Redactor(0 patterns)"
        );
        assert!(!format!("{r:?}").contains("abcdef"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn no_value_survives_anywhere(
            values in prop::collection::vec("[ -~äé€]{6,20}", 1..4),
            parts in prop::collection::vec(("[ -~\nß]{0,8}", 0usize..4), 0..6),
        ) {
            let r = redactor(&values.iter().map(String::as_str).collect::<Vec<_>>());
            let text: String = parts.iter().map(|(noise, i)| format!("{noise}{}", values[i % values.len()])).collect();
            let masked = r.mask(&text);
            for value in values.iter().map(|v| v.trim()).filter(|v| v.len() >= MIN_LENGTH && !v.contains("***")) {
                prop_assert!(!masked.contains(value));
            }
        }

        #[test]
        fn base64_is_found_at_every_offset(value in "[ -~]{9,40}", before in "[ -~]{0,5}", after in "[ -~]{0,5}") {
            prop_assume!(value.trim() == value);
            let r = redactor(&[&value]);
            let all = format!("{before}{value}{after}");
            for encoded in [STANDARD.encode(&all), URL_SAFE_NO_PAD.encode(&all)] {
                let masked = r.mask(&encoded);
                // At most two characters at either end share bits with the value.
                let left = masked.replace(MASK, "").len();
                prop_assert!(left <= (before.len() + after.len()) * 4 / 3 + 8, "{masked}");
                prop_assert!(masked.contains(MASK));
            }
        }
    }
}
