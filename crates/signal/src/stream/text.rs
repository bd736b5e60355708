//! What units wrote: `keep` puts the time before each line; workerd writes what a worker logs as JSON.

use super::{Stream, time_ms};
use arrow_array::builder::{StringBuilder, StringDictionaryBuilder, TimestampMillisecondBuilder};
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use serde::Deserialize;
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let words = || DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let field = |name: &str, kind: DataType| Field::new(name, kind, true);
    Arc::new(Schema::new(vec![
        field("ts", DataType::Timestamp(TimeUnit::Millisecond, None)),
        field("environment", words()),
        field("deployment", words()),
        field("part", words()),
        field("level", words()),
        field("message", DataType::Utf8),
    ]))
});

pub(super) fn schema() -> SchemaRef {
    SCHEMA.clone()
}

/// The logs of all units, or of the workers alone.
pub(super) fn sources(logs: &Path, stream: Stream) -> std::io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(logs) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let log = path.extension().is_some_and(|extension| extension == "log");
        if let Some(stem) = stem
            && log
            && (stream == Stream::Error || deployment(&stem).is_some())
        {
            found.push((stem, path));
        }
    }
    found.sort();
    Ok(found)
}

/// Environment and deployment of a unit of workers: `workers-pr-7-d-12` is `d-12` of `pr-7`.
pub(crate) fn deployment(unit: &str) -> Option<(&str, &str)> {
    let rest = unit.strip_prefix("workers-")?;
    let at = rest.rfind("-d-")?;
    Some((&rest[..at], &rest[at + 1..]))
}

/// A line in its parts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parsed<'a> {
    pub(crate) ts: i64,
    pub(crate) level: &'static str,
    pub(crate) message: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Logged<'a> {
    #[serde(borrow)]
    level: Cow<'a, str>,
    #[serde(borrow)]
    message: Cow<'a, str>,
}

pub(crate) fn parse(line: &str) -> Option<Parsed<'_>> {
    let (time, rest) = line.split_once(' ')?;
    let ts = time_ms(time)?;
    if rest.starts_with("{\"timestamp\":")
        && let Ok(Logged { level, message }) = serde_json::from_str::<Logged<'_>>(rest)
    {
        let level = level_of(&level).unwrap_or("info");
        return Some(Parsed { ts, level, message });
    }
    // ` WARN module: …` of our own processes, `12:00 UTC [7] ERROR:  …` of PostgreSQL.
    let mut words = rest.split_whitespace().take(8);
    let level = words.find_map(|word| {
        let word = word.trim_end_matches(':');
        let shouted = word.bytes().all(|byte| byte.is_ascii_uppercase());
        shouted.then(|| level_of(word)).flatten()
    });
    Some(Parsed {
        ts,
        level: level.unwrap_or("info"),
        message: Cow::Borrowed(rest),
    })
}

fn level_of(word: &str) -> Option<&'static str> {
    match word.to_ascii_lowercase().as_str() {
        "error" | "fatal" | "panic" => Some("error"),
        "warn" | "warning" => Some("warn"),
        "info" | "log" => Some("info"),
        "debug" => Some("debug"),
        "trace" => Some("trace"),
        _ => None,
    }
}

type Words = StringDictionaryBuilder<Int32Type>;

/// Columns that fill.
pub(crate) struct Columns {
    errors_only: bool,
    rows: usize,
    ts: TimestampMillisecondBuilder,
    environment: Words,
    deployment: Words,
    part: Words,
    level: Words,
    message: StringBuilder,
}

impl Columns {
    pub(super) fn new(errors_only: bool) -> Self {
        Self {
            errors_only,
            rows: 0,
            ts: TimestampMillisecondBuilder::new(),
            environment: Words::new(),
            deployment: Words::new(),
            part: Words::new(),
            level: Words::new(),
            message: StringBuilder::new(),
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn push(&mut self, source: &str, line: &[u8]) -> bool {
        let line = String::from_utf8_lossy(line);
        let Some(parsed) = parse(&line) else { return false };
        if self.errors_only && parsed.level != "error" {
            return true;
        }
        self.rows += 1;
        let of = deployment(source);
        self.ts.append_value(parsed.ts);
        self.environment
            .append_option(of.map(|(environment, _)| environment));
        self.deployment
            .append_option(of.map(|(_, deployment)| deployment));
        self.part.append_value(source);
        self.level.append_value(parsed.level);
        self.message.append_value(parsed.message);
        true
    }

    pub(super) fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        self.rows = 0;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.ts.finish()),
            Arc::new(self.environment.finish()),
            Arc::new(self.deployment.finish()),
            Arc::new(self.part.finish()),
            Arc::new(self.level.finish()),
            Arc::new(self.message.finish()),
        ];
        RecordBatch::try_new(schema(), columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_of_a_line_is_found_where_its_writer_puts_it() {
        let of = |rest: &str| {
            let line = format!("2026-11-27T14:41:51.112Z {rest}");
            parse(&line).map(|found| (found.level, found.message.into_owned()))
        };
        let same = |level, rest: &str| Some((level, rest.to_owned()));
        assert_eq!(
            of(r#"{"timestamp":1,"level":"error","message":"Error: bad\n    at fetch"}"#),
            same("error", "Error: bad\n    at fetch")
        );
        assert_eq!(of(" WARN astraler: x"), same("warn", " WARN astraler: x"));
        assert_eq!(of("a b [7] FATAL:  no"), same("error", "a b [7] FATAL:  no"));
        assert_eq!(of("no error here"), same("info", "no error here"));
        assert_eq!(of(r#"{"timestamp":1}"#), same("info", r#"{"timestamp":1}"#));
        assert_eq!(parse("no time"), None);
    }

    #[test]
    fn a_unit_names_its_deployment() {
        assert_eq!(
            deployment("workers-development-d-1"),
            Some(("development", "d-1"))
        );
        assert_eq!(deployment("workers-pr-7-d-12"), Some(("pr-7", "d-12")));
        assert_eq!(deployment("postgres-shared"), None);
    }
}
