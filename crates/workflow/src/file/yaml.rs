//! A YAML text as a stream of events with their places: YAML 1.2, the core schema, as GitHub reads it.

use super::lenient::Text;
use crate::diagnostic::Place;
use crate::expression::{decimal, radix};
use saphyr_parser::{Event as Parsed, Marker, Parser, ScalarStyle, ScanError, Span, Tag};
use std::borrow::Cow;

/// Most nodes of a file, where what an alias stands for counts each time.
const MAX_NODES: usize = 50_000;
/// Most events of a text: a file has no more characters than this many events.
const MAX_EVENTS: usize = 2_100_000;

/// What the reader sees.
#[derive(Debug, Clone)]
pub(super) enum Event {
    Scalar(Scalar),
    SequenceStart(Place),
    SequenceEnd,
    MappingStart(Place),
    MappingEnd,
    DocumentStart,
    DocumentEnd,
    StreamStart,
    StreamEnd,
}

/// A plain or quoted value.
#[derive(Debug, Clone)]
pub(super) struct Scalar {
    pub(super) place: Place,
    pub(super) value: String,
    style: ScalarStyle,
    tag: Option<String>,
}

/// A scalar in its type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    Null,
    Boolean(bool),
    Number(f64),
    String(String),
}

/// Why the stream ends before its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) place: Option<Place>,
    pub(super) message: String,
}

/// The events of a text one after the other; an alias gives again those of its anchor.
#[derive(Default)]
pub(super) struct Stream {
    events: Vec<Parsed<'static>>,
    places: Vec<Place>,
    broken: Option<Broken>,
    /// Index of the event that belongs to an anchor.
    anchors: Vec<usize>,
    at: usize,
    /// What is given again: next event, and how many of its nodes are open.
    replays: Vec<(usize, usize)>,
    nodes: usize,
}

impl Stream {
    pub(super) fn new(text: &str) -> Self {
        // A byte order mark is no content.
        let mut text = Text::new(text.strip_prefix('\u{feff}').unwrap_or(text));
        loop {
            let (stream, error) = Self::parse(&text);
            if !error.is_some_and(|error| text.mend(&error)) {
                return stream;
            }
        }
    }

    fn parse(text: &Text) -> (Self, Option<ScanError>) {
        let mut stream = Self::default();
        let mut last = Marker::new(0, 1, 0);
        let whole: String = text.characters.iter().collect();
        for parsed in Parser::new_from_str(&whole) {
            match parsed {
                Ok((event, span)) => {
                    stream.remember_anchor(&event);
                    let (event, place) = corrected(owned(event), &span, text, &last);
                    last = span.end;
                    stream.places.push(place);
                    stream.events.push(event);
                }
                Err(error) => {
                    stream.broken = Some(Broken {
                        place: Some(place_of(error.marker(), text)),
                        message: format!("the YAML is not valid: {}", error.info()),
                    });
                    return (stream, Some(error));
                }
            }
            if stream.events.len() > MAX_EVENTS {
                break;
            }
        }
        (stream, None)
    }

    fn remember_anchor(&mut self, event: &Parsed<'_>) {
        let anchor = match event {
            Parsed::Scalar(_, _, anchor, _)
            | Parsed::SequenceStart(anchor, _)
            | Parsed::MappingStart(anchor, _) => *anchor,
            _ => 0,
        };
        if anchor > 0 {
            // They are numbered as they come, from 1.
            self.anchors.resize(anchor.max(self.anchors.len()), usize::MAX);
            self.anchors[anchor - 1] = self.events.len();
        }
    }

    /// The next event, which stays the next until [`Self::advance`].
    pub(super) fn peek(&mut self) -> Result<Event, Broken> {
        loop {
            let index = self.replays.last().map_or(self.at, |(index, _)| *index);
            let Some(event) = self.events.get(index) else {
                let end = Broken {
                    place: None,
                    message: "Unexpected end of the file".into(),
                };
                return Err(self.broken.clone().unwrap_or(end));
            };
            let place = self.places[index];
            return Ok(match event {
                Parsed::Alias(anchor) => {
                    let target = self.anchors.get(anchor.wrapping_sub(1)).copied();
                    let target = target.filter(|target| *target < index).ok_or(Broken {
                        place: Some(place),
                        message: "Unknown anchor".into(),
                    })?;
                    self.step_over();
                    self.replays.push((target, 0));
                    continue;
                }
                Parsed::Scalar(value, style, _, tag) => Event::Scalar(Scalar {
                    place,
                    value: value.to_string(),
                    style: *style,
                    tag: tag.as_deref().map(tag_name),
                }),
                Parsed::SequenceStart(..) => Event::SequenceStart(place),
                Parsed::SequenceEnd => Event::SequenceEnd,
                Parsed::MappingStart(..) => Event::MappingStart(place),
                Parsed::MappingEnd => Event::MappingEnd,
                Parsed::DocumentStart(_) => Event::DocumentStart,
                Parsed::DocumentEnd => Event::DocumentEnd,
                Parsed::StreamStart | Parsed::Nothing => Event::StreamStart,
                Parsed::StreamEnd => Event::StreamEnd,
            });
        }
    }

    /// On to the event after this one.
    pub(super) fn advance(&mut self) -> Result<(), Broken> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Broken {
                place: None,
                message: "Maximum YAML nodes exceeded".into(),
            });
        }
        if let Some((index, open)) = self.replays.last_mut() {
            match self.events.get(*index) {
                Some(Parsed::SequenceStart(..) | Parsed::MappingStart(..)) => *open += 1,
                Some(Parsed::SequenceEnd | Parsed::MappingEnd) => *open = open.saturating_sub(1),
                _ => {}
            }
            let over = *open == 0;
            *index += 1;
            if over {
                self.replays.pop();
            }
            return Ok(());
        }
        self.at += 1;
        Ok(())
    }

    /// Past an alias, which is no node of its own. Where it was the last of what is given again, that is over.
    fn step_over(&mut self) {
        match self.replays.last_mut() {
            Some((index, _)) => *index += 1,
            None => self.at += 1,
        }
    }
}

impl Scalar {
    /// The scalar in the type that its tag or its form gives it.
    pub(super) fn literal(&self) -> Result<Literal, Broken> {
        let text = || Literal::String(self.value.clone());
        let Some(tag) = &self.tag else {
            if self.style != ScalarStyle::Plain {
                return Ok(text());
            }
            return Ok(match null(&self.value).or_else(|| boolean(&self.value)) {
                Some(literal) => literal,
                None => match self.integer()? {
                    Some(literal) => literal,
                    None => float(&self.value).unwrap_or_else(text),
                },
            });
        };
        const PREFIX: &str = "tag:yaml.org,2002:";
        let kind = tag.strip_prefix(PREFIX);
        if kind == Some("str") {
            return Ok(text());
        }
        if self.style != ScalarStyle::Plain {
            return Err(self.broken(format!(
                "The scalar style '{:?}' on line {} and column {} is not valid with the tag '{tag}'",
                self.style, self.place.line, self.place.column
            )));
        }
        let literal = match kind {
            Some("bool") => boolean(&self.value),
            Some("float") => float(&self.value),
            Some("int") => self.integer()?,
            Some("null") => null(&self.value),
            _ => return Err(self.broken(format!("Unexpected tag '{tag}'"))),
        };
        literal.ok_or_else(|| self.invalid(tag))
    }

    fn broken(&self, message: String) -> Broken {
        Broken { place: None, message }
    }

    fn invalid(&self, tag: &str) -> Broken {
        self.broken(format!(
            "The value '{}' on line {} and column {} is invalid for the type '{tag}'",
            self.value, self.place.line, self.place.column
        ))
    }

    /// `[-+]?[0-9]+`, or 32 bits in `0x…` or `0o…`.
    fn integer(&self) -> Result<Option<Literal>, Broken> {
        let text = self.value.as_str();
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return Ok(decimal(text).map(Literal::Number));
        }
        for (prefix, base) in [("0x", 16), ("0o", 8)] {
            let Some(digits) = text.strip_prefix(prefix) else {
                continue;
            };
            if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(base)) {
                continue;
            }
            return match radix(digits, base) {
                Some(number) => Ok(Some(Literal::Number(number.into()))),
                None => Err(self.invalid("tag:yaml.org,2002:int")),
            };
        }
        Ok(None)
    }
}

fn place_of(marker: &Marker, text: &Text) -> Place {
    text.place(marker.line(), marker.col() + 1)
}

/// Places and values as GitHub's parser gives them, where the two parsers differ. What stands after the marker
/// belongs to no event before.
fn corrected(event: Parsed<'static>, span: &Span, text: &Text, after: &Marker) -> (Parsed<'static>, Place) {
    let mut place = place_of(&span.start, text);
    let Parsed::Scalar(value, style, anchor, tag) = event else {
        return (event, place);
    };
    let mut value = value.into_owned();
    let characters = &text.characters;
    let index = span.start.index();
    match style {
        // Nothing stands after the colon, not on it.
        ScalarStyle::Plain if value.is_empty() && characters.get(index) == Some(&':') => place.column += 1,
        ScalarStyle::Literal | ScalarStyle::Folded => {
            if tag.is_none() && anchor == 0 {
                place = indicator(text, after, index).unwrap_or(place);
            }
            // A text that ends within the block has no line break to keep.
            let ends =
                span.end.index() >= characters.len() && !matches!(characters.last(), Some('\n' | '\r'));
            if ends && value.ends_with('\n') {
                value.pop();
            }
        }
        _ => {}
    }
    (Parsed::Scalar(Cow::Owned(value), style, anchor, tag), place)
}

/// Where `|` or `>` stands that begins a block, after the event before it.
fn indicator(text: &Text, after: &Marker, until: usize) -> Option<Place> {
    let (mut line, mut column) = (after.line(), after.col() + 1);
    let mut in_comment = false;
    for c in text
        .characters
        .get(after.index()..until.min(text.characters.len()))?
    {
        match c {
            '\n' => {
                in_comment = false;
                line += 1;
                column = 0;
            }
            '|' | '>' if !in_comment => return Some(text.place(line, column)),
            '#' => in_comment = true,
            _ => {}
        }
        column += 1;
    }
    None
}

fn null(text: &str) -> Option<Literal> {
    matches!(text, "" | "null" | "Null" | "NULL" | "~").then_some(Literal::Null)
}

fn boolean(text: &str) -> Option<Literal> {
    match text {
        "true" | "True" | "TRUE" => Some(Literal::Boolean(true)),
        "false" | "False" | "FALSE" => Some(Literal::Boolean(false)),
        _ => None,
    }
}

fn float(text: &str) -> Option<Literal> {
    let named = match text {
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Some(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Some(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => Some(f64::NAN),
        _ => None,
    };
    named.or_else(|| decimal(text)).map(Literal::Number)
}

fn tag_name(tag: &Tag) -> String {
    format!("{}{}", tag.handle, tag.suffix)
}

fn owned(event: Parsed<'_>) -> Parsed<'static> {
    let tag = |tag: Option<Cow<'_, Tag>>| tag.map(|tag| Cow::Owned(tag.into_owned()));
    match event {
        Parsed::Scalar(value, style, anchor, kind) => {
            Parsed::Scalar(Cow::Owned(value.into_owned()), style, anchor, tag(kind))
        }
        Parsed::SequenceStart(anchor, kind) => Parsed::SequenceStart(anchor, tag(kind)),
        Parsed::MappingStart(anchor, kind) => Parsed::MappingStart(anchor, tag(kind)),
        Parsed::Nothing => Parsed::Nothing,
        Parsed::StreamStart => Parsed::StreamStart,
        Parsed::StreamEnd => Parsed::StreamEnd,
        Parsed::DocumentStart(explicit) => Parsed::DocumentStart(explicit),
        Parsed::DocumentEnd => Parsed::DocumentEnd,
        Parsed::Alias(anchor) => Parsed::Alias(anchor),
        Parsed::SequenceEnd => Parsed::SequenceEnd,
        Parsed::MappingEnd => Parsed::MappingEnd,
    }
}
