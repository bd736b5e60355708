//! A compiled pattern.

use regex_automata::meta::{Cache, Regex};
use regex_automata::util::captures::Captures;
use regex_automata::util::syntax;
use regex_automata::{Input, Span};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind, Look};

use super::dialect::{self, Unsupported};
use super::equivalents::{EQUIVALENTS, Same};
use super::need::Need;

/// How large one pattern's automaton may get.
const AUTOMATON_BYTES: usize = 16 << 20;
/// How much a thread keeps for one pattern.
const CACHE_BYTES: usize = 1 << 19;
/// How deep groups may nest.
const NESTING: u32 = 250;

/// A pattern as ModSecurity means it, matched in linear time.
#[derive(Debug)]
pub(crate) struct Pattern {
    regex: Regex,
    form: Form,
    pub(crate) need: Need,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    /// `^.*$` and its like: any text matches, all of it.
    Everything,
    Unmatched,
    Compared,
}

/// How a pattern is read.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Flags {
    pub(crate) caseless: bool,
}

impl Pattern {
    pub(crate) fn new(pattern: &str, flags: Flags) -> Result<Self, Unsupported> {
        let same = EQUIVALENTS
            .iter()
            .find(|(known, _)| *known == pattern)
            .map(|(_, same)| same);
        let edited;
        let (text, form) = match same {
            None => (pattern, Form::Plain),
            Some(Same::Edited(pieces)) => {
                edited = pieces
                    .iter()
                    .fold(pattern.to_owned(), |text, (from, to)| text.replace(from, to));
                (edited.as_str(), Form::Plain)
            }
            Some(Same::Pattern(text)) => (*text, Form::Plain),
            Some(Same::Unmatched(text)) => (*text, Form::Unmatched),
            Some(Same::Compared(text)) => (*text, Form::Compared),
        };
        let hir = parse(text, flags)?;
        let form = match form {
            Form::Plain if is_everything(&hir) => Form::Everything,
            form => form,
        };
        let need = match form {
            Form::Unmatched => Need::default(),
            _ => Need::of(&hir),
        };
        Ok(Self {
            regex: build(&hir)?,
            form,
            need,
        })
    }

    /// Bytes in memory, without caches.
    pub(crate) fn memory(&self) -> usize {
        self.regex.memory_usage()
    }

    pub(crate) fn cache(&self) -> Cache {
        self.regex.create_cache()
    }

    pub(crate) fn is_match(&self, cache: &mut Cache, text: &[u8]) -> bool {
        match self.form {
            Form::Plain => self
                .regex
                .search_half_with(cache, &Input::new(text).earliest(true))
                .is_some(),
            Form::Unmatched => self
                .regex
                .search_half_with(cache, &Input::new(text).earliest(true))
                .is_none(),
            Form::Compared => self.compared(cache, text).is_some(),
            Form::Everything => true,
        }
    }

    /// As [`Self::is_match`], where no cache is at hand: selectors, which are few.
    pub(crate) fn fits(&self, text: &[u8]) -> bool {
        self.regex.is_match(text)
    }

    /// The groups of the first match, 0 being all of it; at most ten.
    pub(crate) fn captures(&self, cache: &mut Cache, text: &[u8]) -> Option<[Option<Span>; 10]> {
        let mut spans = [None; 10];
        let found = match self.form {
            Form::Everything => {
                spans[0] = Some(Span::from(0..text.len()));
                return Some(spans);
            }
            // Without groups, where it begins and ends is all that is asked.
            Form::Plain if self.regex.captures_len() == 1 => {
                spans[0] = Some(self.regex.search_with(cache, &Input::new(text))?.span());
                return Some(spans);
            }
            Form::Plain => self.groups(cache, &Input::new(text)),
            Form::Unmatched => None,
            Form::Compared => self.compared(cache, text),
        }?;
        for (index, span) in spans.iter_mut().enumerate() {
            *span = found.get_group(index);
        }
        Some(spans)
    }

    fn groups(&self, cache: &mut Cache, input: &Input<'_>) -> Option<Captures> {
        let mut captures = self.regex.create_captures();
        self.regex.search_captures_with(cache, input, &mut captures);
        captures.is_match().then_some(captures)
    }

    /// Each try begins behind the word that the last began with: at most one for each word, each to its own end.
    fn compared(&self, cache: &mut Cache, text: &[u8]) -> Option<Captures> {
        let mut start = 0;
        for _ in 0..COMPARISONS {
            let input = Input::new(text).span(start..text.len());
            let found = self.groups(cache, &input)?;
            let group = |index| found.get_group(index).map(|span: Span| &text[span.range()]);
            let first = group(1)?;
            let fits = match (group(2), group(3)) {
                (Some(other), _) => !first.eq_ignore_ascii_case(other),
                (_, Some(other)) => first.eq_ignore_ascii_case(other),
                _ => false,
            };
            if fits {
                return Some(found);
            }
            start = found.get_group(1)?.end;
        }
        None
    }
}

/// `^.*$`: the beginning, anything, the end.
fn is_everything(hir: &Hir) -> bool {
    let HirKind::Concat(parts) = hir.kind() else {
        return false;
    };
    let [begin, middle, end] = parts.as_slice() else {
        return false;
    };
    let any = match middle.kind() {
        HirKind::Repetition(any) if any.min == 0 && any.max.is_none() => any,
        _ => return false,
    };
    let every_byte = match any.sub.kind() {
        HirKind::Class(Class::Bytes(class)) => {
            matches!(class.ranges(), [range] if range.start() == 0 && range.end() == u8::MAX)
        }
        _ => false,
    };
    every_byte
        && any.greedy
        && matches!(begin.kind(), HirKind::Look(Look::Start))
        && matches!(end.kind(), HirKind::Look(Look::End))
}

/// How many pairs of words are compared in one text.
const COMPARISONS: usize = 1000;

fn parse(pattern: &str, flags: Flags) -> Result<Hir, Unsupported> {
    let translated = dialect::translate(pattern)?;
    ParserBuilder::new()
        .unicode(false)
        .utf8(false)
        .dot_matches_new_line(true)
        .case_insensitive(flags.caseless)
        .nest_limit(NESTING)
        .build()
        .parse(&translated)
        .map_err(|error| Unsupported {
            message: format!("the pattern cannot be read: {}", last_line(&error.to_string())),
            hint: None,
        })
}

fn last_line(text: &str) -> String {
    text.lines()
        .last()
        .unwrap_or(text)
        .trim_start_matches("error: ")
        .to_owned()
}

fn build(hir: &Hir) -> Result<Regex, Unsupported> {
    let config = Regex::config()
        .utf8_empty(false)
        .nfa_size_limit(Some(AUTOMATON_BYTES))
        .hybrid_cache_capacity(CACHE_BYTES)
        .dfa(false)
        .onepass(false);
    Regex::builder()
        .configure(config)
        .syntax(syntax::Config::new().unicode(false).utf8(false))
        .build_from_hir(hir)
        .map_err(|error| Unsupported {
            message: format!("the pattern is too large: {error}"),
            hint: Some("bounded repetitions such as {1,1000} multiply; make them smaller".to_owned()),
        })
}
