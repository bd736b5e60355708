//! The streams: what a record of each has, and how one is read from the line that somebody wrote.

mod access;
mod text;

pub(crate) use access::{uuid, uuid_text};
pub(crate) use text::{deployment, parse as parse_text};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Records of one shape and one retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// One record a request: the edge's.
    Access,
    /// What workers write.
    Application,
    /// What workers, engines and our own processes write as an error.
    Error,
}

/// Every stream that is kept in segments. Audit entries are kept in their chain, by its owner.
pub const STREAMS: [Stream; 3] = [Stream::Access, Stream::Application, Stream::Error];

impl Stream {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Application => "application",
            Self::Error => "error",
        }
    }

    pub(crate) fn schema(self) -> SchemaRef {
        match self {
            Self::Access => access::schema(),
            Self::Application | Self::Error => text::schema(),
        }
    }

    /// The logs that feed it, by name, below the folder of all logs.
    pub(crate) fn sources(self, logs: &Path) -> std::io::Result<Vec<(String, PathBuf)>> {
        match self {
            Self::Access => Ok(vec![("access".to_owned(), logs.join("edge/access.log"))]),
            Self::Application | Self::Error => text::sources(logs, self),
        }
    }

    pub(crate) fn builder(self) -> Builder {
        match self {
            Self::Access => Builder::Access(Box::default()),
            Self::Application => Builder::Text(Box::new(text::Columns::new(false))),
            Self::Error => Builder::Text(Box::new(text::Columns::new(true))),
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No stream has this name.
#[derive(Debug, thiserror::Error)]
#[error("there is no stream `{0}`: expected access, application (or app), error or audit")]
pub struct StreamError(String);

impl FromStr for Stream {
    type Err = StreamError;

    fn from_str(text: &str) -> Result<Self, StreamError> {
        match text {
            "access" => Ok(Self::Access),
            "app" | "application" => Ok(Self::Application),
            "error" | "errors" => Ok(Self::Error),
            other => Err(StreamError(other.to_owned())),
        }
    }
}

/// Lines on their way into columns.
pub(crate) enum Builder {
    Access(Box<access::Columns>),
    Text(Box<text::Columns>),
}

impl Builder {
    /// Takes a line of a source; false when it is none that a record can be made of.
    pub(crate) fn push(&mut self, source: &str, line: &[u8]) -> bool {
        match self {
            Self::Access(columns) => columns.push(line),
            Self::Text(columns) => columns.push(source, line),
        }
    }

    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::Access(columns) => columns.rows(),
            Self::Text(columns) => columns.rows(),
        }
    }

    /// What was taken so far; it begins anew.
    pub(crate) fn finish(&mut self) -> Result<RecordBatch, arrow_schema::ArrowError> {
        match self {
            Self::Access(columns) => columns.finish(),
            Self::Text(columns) => columns.finish(),
        }
    }
}

/// Milliseconds since the epoch of a time as logs write it.
pub(crate) fn time_ms(text: &str) -> Option<i64> {
    fast_time_ms(text.as_bytes()).or_else(|| {
        let time: jiff::Timestamp = text.parse().ok()?;
        Some(time.as_millisecond())
    })
}

/// `2026-11-27T14:41:51.112Z`, the form in which our own processes write: twenty times as fast as a parser of all forms.
fn fast_time_ms(text: &[u8]) -> Option<i64> {
    if text.len() != 24 || text[23] != b'Z' || text[10] != b'T' || text[19] != b'.' {
        return None;
    }
    let number = |range: std::ops::Range<usize>| {
        text[range].iter().try_fold(0_i64, |number, byte| {
            byte.is_ascii_digit()
                .then(|| number * 10 + i64::from(byte - b'0'))
        })
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Days since the epoch (Howard Hinnant, "chrono-compatible low-level date algorithms").
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let of_era = shifted - era * 400;
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + number(20..23)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        for text in [
            "1970-01-01T00:00:00.000Z",
            "2024-02-29T23:59:59.999Z",
            "2026-11-27T14:41:51.112Z",
            "2000-03-01T00:00:00.000Z",
            "2100-12-31T12:00:00.001Z",
        ] {
            let time: jiff::Timestamp = text.parse().unwrap();
            assert_eq!(
                fast_time_ms(text.as_bytes()),
                Some(time.as_millisecond()),
                "{text}"
            );
        }
        assert_eq!(time_ms("2026-11-27T14:41:51Z"), Some(1_795_790_511_000));
        for text in ["", "2026-13-27T14:41:51.112Z", "2026-11-27T24:41:51.112Z", "x"] {
            assert_eq!(time_ms(text), None, "{text}");
        }
    }
}
