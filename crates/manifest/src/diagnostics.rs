//! Errors with their place: file, line, column, a caret, the nearest right name, a hint.

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource};
use serde::Serialize;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// One error in one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// File, as the user knows it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Stable short name of the kind of error.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    #[serde(skip)]
    span: Range<usize>,
    #[serde(skip)]
    text: Arc<str>,
}

/// All errors of a manifest, in the order of their places. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics(Vec<Diagnostic>);

/// A file's text under its name, to which errors point.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) text: Arc<str>,
}

impl Source {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        Self {
            name: name.to_owned(),
            text: text.into(),
        }
    }

    pub(crate) fn error(
        &self,
        span: Range<usize>,
        code: &'static str,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Diagnostic {
        let end = self.text.len();
        let boundary = |mut at: usize| {
            at = at.min(end);
            while !self.text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let span = boundary(span.start)..boundary(span.end.max(span.start));
        let before = &self.text[..span.start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Diagnostic {
            file: self.name.clone(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            code,
            message: message.into(),
            help,
            span,
            text: Arc::clone(&self.text),
        }
    }
}

impl Diagnostic {
    /// An error at a line and a column of a text, both from 1; it points at what stands there up to the next
    /// white space.
    pub fn at(
        (file, text): (&str, &Arc<str>),
        (line, column): (usize, usize),
        code: &'static str,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Self {
        let lines = text.split_inclusive('\n').take(line.saturating_sub(1));
        let line_start: usize = lines.map(str::len).sum();
        let rest = text.get(line_start..).unwrap_or_default();
        let here = rest.split(['\n', '\r']).next().unwrap_or_default();
        let offset = here
            .char_indices()
            .nth(column.saturating_sub(1))
            .map_or(here.len(), |(at, _)| at);
        let word = here[offset..]
            .split(char::is_whitespace)
            .next()
            .unwrap_or_default();
        let start = line_start + offset;
        Self {
            file: file.to_owned(),
            line,
            column,
            code,
            message: message.into(),
            help,
            span: start..start + word.len(),
            text: Arc::clone(text),
        }
    }
}

impl Diagnostics {
    /// All errors of some files, in the order of their places. `None` when there is no error.
    pub fn new(all: Vec<Diagnostic>) -> Option<Self> {
        Self::of(all)
    }

    /// Sorts by place. `None` when there is no error.
    pub(crate) fn of(mut all: Vec<Diagnostic>) -> Option<Self> {
        all.sort_by(|a, b| (&a.file, a.span.start, a.span.end).cmp(&(&b.file, b.span.start, b.span.end)));
        all.dedup();
        (!all.is_empty()).then_some(Self(all))
    }

    pub(crate) fn one(error: Diagnostic) -> Self {
        Self(vec![error])
    }

    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "there is always one at least")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.iter()
    }

    /// An array of `{file, line, column, code, message, help}`.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(&self.0).unwrap_or_default()
    }

    /// Each with the lines around it and a caret, for a terminal of this width.
    pub fn render(&self, color: bool, width: usize) -> String {
        let theme = if color {
            GraphicalTheme::unicode()
        } else {
            GraphicalTheme::unicode_nocolor()
        };
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_width(width)
            .with_context_lines(1);
        let mut out = String::new();
        for diagnostic in &self.0 {
            if handler.render_report(&mut out, &Shown::of(diagnostic)).is_err() {
                out.push_str(&diagnostic.to_string());
            }
            out.push('\n');
        }
        let noun = if self.0.len() == 1 { "error" } else { "errors" };
        out.push_str(&format!("{} {noun}\n", self.0.len()));
        out
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// A diagnostic as miette wants it.
#[derive(Debug)]
struct Shown {
    message: String,
    code: &'static str,
    help: Option<String>,
    source: NamedSource<Arc<str>>,
    span: Range<usize>,
}

impl Shown {
    fn of(diagnostic: &Diagnostic) -> Self {
        Self {
            message: diagnostic.message.clone(),
            code: diagnostic.code,
            help: diagnostic.help.clone(),
            source: NamedSource::new(&diagnostic.file, Arc::clone(&diagnostic.text)),
            span: diagnostic.span.clone(),
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Shown {}

impl miette::Diagnostic for Shown {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help
            .as_ref()
            .map(|help| Box::new(help) as Box<dyn fmt::Display + 'a>)
    }
    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        Some(&self.source)
    }
    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = LabeledSpan::new(None, self.span.start, self.span.len().max(1));
        Some(Box::new(std::iter::once(label)))
    }
}
