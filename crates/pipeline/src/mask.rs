//! Secrets out of output: every line is masked before anything else sees it.

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Longest line that is kept in one piece.
pub(crate) const MAX_LINE: usize = 64 << 10;
/// Most values of one run.
const MAX_VALUES: usize = 20_000;
/// Encodings shorter than this would mask ordinary text.
const MIN_ENCODED: usize = 8;
const MASK: &str = "***";

/// What must not be shown. Shared by all jobs of a run: one job's secret does not show in another's log either.
#[derive(Debug, Clone, Default)]
pub(crate) struct Masks {
    values: Arc<Mutex<BTreeSet<String>>>,
    matcher: Arc<RwLock<Option<Matcher>>>,
}

#[derive(Debug)]
struct Matcher {
    automaton: AhoCorasick,
    longest: usize,
}

impl Masks {
    /// Adds values, with their lines and their usual encodings.
    pub(crate) fn add<'a>(&self, secrets: impl IntoIterator<Item = &'a str>) {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let before = values.len();
        for secret in secrets {
            if values.len() < MAX_VALUES {
                values.extend(forms(secret));
            }
        }
        if values.len() == before {
            return;
        }
        let built = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(values.iter());
        let longest = values.iter().map(String::len).max().unwrap_or(0);
        // It fails only beyond sizes that the bounds exclude.
        if let Ok(automaton) = built {
            let mut matcher = self.matcher.write().unwrap_or_else(PoisonError::into_inner);
            *matcher = Some(Matcher { automaton, longest });
        }
    }

    /// The text without what must not be shown.
    pub(crate) fn apply<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let matcher = self.matcher.read().unwrap_or_else(PoisonError::into_inner);
        let Some(matcher) = matcher.as_ref() else {
            return Cow::Borrowed(text);
        };
        if !matcher.automaton.is_match(text) {
            return Cow::Borrowed(text);
        }
        let mut masked = String::with_capacity(text.len());
        let mut end = 0;
        for found in matcher.automaton.find_iter(text) {
            masked.push_str(&text[end..found.start()]);
            // Secrets side by side are one mask: their number is nobody's business.
            if found.start() > end || masked.is_empty() || !masked.ends_with(MASK) {
                masked.push_str(MASK);
            }
            end = found.end();
        }
        masked.push_str(&text[end..]);
        Cow::Owned(masked)
    }

    /// Whether the text holds something that must not be shown.
    pub(crate) fn finds(&self, text: &str) -> bool {
        let matcher = self.matcher.read().unwrap_or_else(PoisonError::into_inner);
        matcher
            .as_ref()
            .is_some_and(|matcher| matcher.automaton.is_match(text))
    }

    /// Where a line that is too long may be cut, so that no secret is cut with it.
    fn cut(&self, text: &str) -> usize {
        let matcher = self.matcher.read().unwrap_or_else(PoisonError::into_inner);
        let mut at = text.len();
        if let Some(matcher) = matcher.as_ref() {
            // What begins behind this may go on in text that is not there yet.
            at = at.saturating_sub(matcher.longest);
            for found in matcher.automaton.find_iter(text) {
                if found.start() < at && found.end() > at {
                    at = found.start();
                    break;
                }
            }
        }
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        // A secret longer than a line: it goes as a whole, and its end is masked as a line of its own.
        if at == 0 { text.len() } else { at }
    }
}

/// Bytes to lines. Carriage returns at the end go; what is not UTF-8 is replaced.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    buffer: Vec<u8>,
}

impl Lines {
    /// Takes bytes in and gives the lines that are whole.
    pub(crate) fn push(&mut self, bytes: &[u8], masks: &Masks, mut line: impl FnMut(String)) {
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
            self.buffer.extend_from_slice(&rest[..at]);
            rest = &rest[at + 1..];
            self.flush(masks, &mut line, true);
        }
        self.buffer.extend_from_slice(rest);
        if self.buffer.len() > 2 * MAX_LINE {
            self.flush(masks, &mut line, false);
        }
    }

    /// Gives what is left.
    pub(crate) fn end(&mut self, masks: &Masks, mut line: impl FnMut(String)) {
        if !self.buffer.is_empty() {
            self.flush(masks, &mut line, true);
        }
    }

    fn flush(&mut self, masks: &Masks, line: &mut impl FnMut(String), whole: bool) {
        let mut text = String::from_utf8_lossy(&self.buffer).into_owned();
        self.buffer.clear();
        if whole && text.ends_with('\r') {
            text.pop();
        }
        if whole && text.len() <= MAX_LINE {
            return line(text);
        }
        if !whole {
            let at = masks.cut(&text);
            self.buffer.extend_from_slice(&text.as_bytes()[at..]);
            text.truncate(at);
        }
        // Masked already here: the pieces are no place to look for a secret.
        let masked = masks.apply(&text).into_owned();
        let mut rest = masked.as_str();
        while rest.len() > MAX_LINE {
            let at = (0..=MAX_LINE).rev().find(|at| rest.is_char_boundary(*at));
            let (piece, after) = rest.split_at(at.unwrap_or(rest.len()));
            line(piece.to_owned());
            rest = after;
        }
        line(rest.to_owned());
    }
}

/// The forms in which a secret usually shows.
fn forms(secret: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let lines = secret.lines().chain([secret]).map(str::trim);
    for line in lines.filter(|line| !line.is_empty()) {
        all.push(line.to_owned());
        all.push(json(line));
        all.push(percent(line));
    }
    let trimmed = secret.trim();
    for text in [secret, trimmed] {
        // In base64 three texts stand for one, by what comes before it.
        for shift in 0..3usize {
            let mut bytes = vec![0; shift];
            bytes.extend_from_slice(text.as_bytes());
            let encoded = STANDARD_NO_PAD.encode(&bytes);
            // The ends depend on the neighbours, so they are left out.
            let start = [0, 2, 3][shift];
            let end = encoded.len() - usize::from(bytes.len() % 3 != 0);
            if let Some(core) = encoded.get(start..end).filter(|core| core.len() >= MIN_ENCODED) {
                all.push(core.to_owned());
                all.push(core.replace('+', "-").replace('/', "_"));
            }
        }
    }
    all
}

fn json(text: &str) -> String {
    let quoted = serde_json::Value::String(text.to_owned()).to_string();
    quoted.trim_matches('"').to_owned()
}

fn percent(text: &str) -> String {
    let mut all = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            all.push(char::from(byte));
        } else {
            all.push_str(&format!("%{byte:02X}"));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;

    fn lines(chunks: &[&[u8]], masks: &Masks) -> Vec<String> {
        let mut all = Vec::new();
        let mut lines = Lines::default();
        for chunk in chunks {
            lines.push(chunk, masks, |line| all.push(masks.apply(&line).into_owned()));
        }
        lines.end(masks, |line| all.push(masks.apply(&line).into_owned()));
        all
    }

    #[test]
    fn a_secret_is_masked_wherever_the_output_is_cut() {
        let masks = Masks::default();
        masks.add(["hunter2-secret"]);
        let text = b"token=hunter2-secret!\n";
        for at in 0..text.len() {
            let found = lines(&[&text[..at], &text[at..]], &masks);
            assert_eq!(found, ["token=***!"], "cut at {at}");
        }
    }

    #[test]
    fn every_line_of_a_secret_and_its_encodings_are_masked() {
        let masks = Masks::default();
        masks.add(["first line\nsecond line\r\n", "p&ss \"word\" here"]);
        assert_eq!(masks.apply("x first line y"), "x *** y");
        assert_eq!(masks.apply("second line"), "***");
        assert_eq!(masks.apply(r#"{"a":"p&ss \"word\" here"}"#), r#"{"a":"***"}"#);
        assert_eq!(masks.apply("q=p%26ss%20%22word%22%20here"), "q=***");
        for before in ["", "a", "ab", "user:"] {
            let encoded = STANDARD.encode(format!("{before}p&ss \"word\" here"));
            assert!(masks.apply(&encoded).contains("***"), "{before:?}: {encoded}");
        }
        assert_eq!(masks.apply("nothing to hide"), "nothing to hide");
    }

    #[test]
    fn no_secret_survives_in_a_line_that_is_too_long() {
        let masks = Masks::default();
        masks.add(["0123456789abcdef"]);
        for shift in [0, 1, 7, 15] {
            let text = format!("{}{}", "x".repeat(shift), "0123456789abcdef".repeat(20_000));
            let chunks: Vec<&[u8]> = text.as_bytes().chunks(8191).collect();
            let found = lines(&chunks, &masks);
            assert!(found.iter().all(|line| line.len() <= MAX_LINE));
            let all = found.concat();
            assert!(
                !all.contains("0123456789abcdef") && !all.contains("89abc"),
                "{shift}"
            );
        }
    }

    #[test]
    fn bytes_that_are_no_text_and_carriage_returns_make_no_trouble() {
        let masks = Masks::default();
        assert_eq!(
            lines(&[b"a\xff\r\n", b"\n", b"end"], &masks),
            ["a\u{fffd}", "", "end"]
        );
    }
}
