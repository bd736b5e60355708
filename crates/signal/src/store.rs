//! The store of one stream: segments in a folder for each day. One process writes; anybody who may read the folder reads.

use crate::segment::{self, BATCH_ROWS, Draft, GROUP_ROWS, Positions, Segment, SegmentError};
use crate::source;
use crate::stream::Stream;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// Bytes of a source that are read at once.
const CHUNK: usize = 2 << 20;
/// So many small segments of a day become one.
const MERGE: usize = 16;
/// A segment of this size is left as it is.
const SMALL_BYTES: u64 = 4 << 20;
const DAY_MS: i64 = 86_400_000;

/// The store cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A segment.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// A folder, or the log that is read.
    #[error("cannot use {path}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A durable file.
    #[error(transparent)]
    File(#[from] astraler_host::file::FileError),
    /// Columns do not fit together: an error of ours.
    #[error("records cannot be put into columns")]
    Columns(#[from] arrow_schema::ArrowError),
}

impl StoreError {
    /// The disk is full: what is oldest can go.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Segment(error) => error.is_disk_full(),
            Self::File(error) => error.is_disk_full(),
            _ => false,
        }
    }
}

/// What the writer remembers beside the segments.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct State {
    /// Number of the next flush.
    next: u64,
    positions: Positions,
    counts: Counts,
}

/// What did not become or stay a record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Records that were dropped because the space was used up, the oldest first.
    pub dropped: u64,
    /// How often a log had been rotated away before it was read.
    pub gaps: u64,
    /// Lines that are no record.
    pub unreadable: u64,
}

/// The writer of a stream.
#[derive(Debug)]
pub struct Store {
    stream: Stream,
    folder: PathBuf,
    logs: PathBuf,
    state: State,
}

impl Store {
    /// Opens the store below `folder`, whose sources lie below `logs`. The caller sees to it that it is the only one.
    pub fn open(stream: Stream, folder: &Path, logs: &Path) -> Result<Self, StoreError> {
        let folder = folder.join(stream.name());
        astraler_host::file::make_dir(&folder, 0o750, None, None)?;
        segment::sweep(&folder).map_err(at(&folder))?;
        let found = Found::look(&folder)?;
        for covered in &found.covered {
            astraler_host::file::remove_if_present(&covered.path)?;
        }
        let mut state = found.state;
        // Killed between the commit of a segment and what follows from it.
        if let Some(newest) = found.segments.last()
            && newest.last >= state.next
        {
            state.next = newest.last + 1;
            match newest.positions() {
                Ok(positions) => state.positions = positions,
                // The disk lost it after it was whole: what it held is read again, as far as the logs still have it.
                Err(error) => {
                    tracing::error!(%error, "a damaged segment is put aside");
                    let aside = newest.path.with_extension("damaged");
                    std::fs::rename(&newest.path, &aside).map_err(at(&newest.path))?;
                }
            }
        }
        Ok(Self {
            stream,
            folder,
            logs: logs.to_owned(),
            state,
        })
    }

    /// Which stream it is.
    pub fn stream(&self) -> Stream {
        self.stream
    }

    /// What is missing.
    pub fn counts(&self) -> Counts {
        self.state.counts
    }

    /// Bytes of logs that are not in a segment yet.
    pub fn waiting(&self) -> Result<u64, StoreError> {
        let mut bytes = 0;
        for (name, path) in self.sources()? {
            bytes += source::waiting(&path, self.state.positions.get(&name)).map_err(at(&path))?;
        }
        Ok(bytes)
    }

    /// Writes what waits into a segment; true when there is more. An error leaves everything as it was.
    pub fn flush(&mut self) -> Result<bool, StoreError> {
        let mut state = self.state.clone();
        let mut draft: Option<Draft> = None;
        let mut builder = self.stream.builder();
        let mut more = false;
        let sources = self.sources()?;
        state
            .positions
            .retain(|known, _| sources.iter().any(|(name, _)| name == known));
        for (name, path) in &sources {
            loop {
                if draft.as_ref().map_or(0, Draft::rows) + builder.rows() >= GROUP_ROWS {
                    more = true;
                    break;
                }
                let chunk = source::read(path, state.positions.get(name), CHUNK).map_err(at(path))?;
                if chunk.lost {
                    state.counts.gaps += 1;
                    tracing::warn!(
                        log = name,
                        "a log was rotated away before it was read: records are missing"
                    );
                }
                let moved = state.positions.get(name) != Some(&chunk.position);
                state.positions.insert(name.clone(), chunk.position);
                for line in lines(&chunk.bytes) {
                    if !builder.push(name, line) {
                        state.counts.unreadable += 1;
                    }
                    if builder.rows() >= BATCH_ROWS {
                        self.write(&mut draft, &mut builder)?;
                    }
                }
                if !moved {
                    break;
                }
            }
        }
        if builder.rows() > 0 {
            self.write(&mut draft, &mut builder)?;
        }
        if let Some(draft) = draft {
            draft.finish(state.next, state.next, &state.positions)?;
            state.next += 1;
        }
        if state != self.state {
            // The segment is the commit: what follows from it holds, whether or not this can be written.
            self.state = state;
            self.save()?;
        }
        Ok(more)
    }

    /// Removes what is older than `days`, a folder at a time and one folder a call: a clock that jumps ahead takes no
    /// more than that. Then small segments of a day become large ones.
    pub fn tidy(&self, days: u32, now_ms: i64) -> Result<(), StoreError> {
        let oldest_kept = segment::day(now_ms.saturating_sub(i64::from(days) * DAY_MS));
        let mut old: Vec<PathBuf> = folders(&self.folder)?;
        old.retain(|folder| {
            folder
                .file_name()
                .is_some_and(|name| name.to_string_lossy().as_ref() < oldest_kept.as_str())
        });
        if let Some(folder) = old.first() {
            tracing::info!(stream = %self.stream, day = %folder.display(), "kept long enough: removed");
            std::fs::remove_dir_all(folder).map_err(at(folder))?;
        }
        self.merge()
    }

    fn merge(&self) -> Result<(), StoreError> {
        let segments = Found::look(&self.folder)?.segments;
        let mut run: Vec<Segment> = Vec::new();
        for segment in segments {
            let follows = run
                .last()
                .is_none_or(|before| before.path.parent() == segment.path.parent());
            if segment.bytes >= SMALL_BYTES || !follows {
                run.clear();
            }
            if segment.bytes < SMALL_BYTES {
                run.push(segment);
            }
            if run.len() == MERGE {
                segment::merge(&self.folder, self.stream, &run)?;
                for part in run.drain(..) {
                    astraler_host::file::remove_if_present(&part.path)?;
                }
            }
        }
        Ok(())
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> Result<u64, StoreError> {
        let found = Found::look(&self.folder)?;
        Ok(found.segments.iter().map(|segment| segment.bytes).sum())
    }

    /// Drops the oldest segment and counts its records; false when there is none.
    pub fn drop_oldest(&mut self) -> Result<bool, StoreError> {
        let found = Found::look(&self.folder)?;
        let Some(oldest) = found.segments.first() else {
            return Ok(false);
        };
        let rows = oldest.rows().unwrap_or(0);
        astraler_host::file::remove_if_present(&oldest.path)?;
        self.state.counts.dropped += rows;
        tracing::warn!(stream = %self.stream, rows, "the space is used up: the oldest records were dropped");
        // With a full disk the count is written later.
        self.save().ok();
        Ok(true)
    }

    fn sources(&self) -> Result<Vec<(String, PathBuf)>, StoreError> {
        self.stream.sources(&self.logs).map_err(at(&self.logs))
    }

    fn write(
        &self,
        draft: &mut Option<Draft>,
        builder: &mut crate::stream::Builder,
    ) -> Result<(), StoreError> {
        let batch = builder.finish()?;
        let draft = match draft {
            Some(draft) => draft,
            None => draft.insert(Draft::begin(&self.folder, self.stream)?),
        };
        Ok(draft.write(&batch)?)
    }

    fn save(&self) -> Result<(), StoreError> {
        let json = serde_json::to_vec(&self.state).unwrap_or_default();
        Ok(astraler_host::file::replace(
            self.folder.join(STATE),
            &json,
            0o640,
        )?)
    }
}

const STATE: &str = "state.json";

/// What lies in the folder of a stream, as one consistent look at it.
#[derive(Debug)]
pub(crate) struct Found {
    /// In the order of their flushes.
    pub(crate) segments: Vec<Segment>,
    /// Those that a larger one holds as well.
    covered: Vec<Segment>,
    state: State,
}

impl Found {
    pub(crate) fn look(folder: &Path) -> Result<Self, StoreError> {
        // Before the segments: what it says is then never newer than they are.
        let state = match std::fs::read(folder.join(STATE)) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => State::default(),
            Err(source) => return Err(at(&folder.join(STATE))(source)),
        };
        let mut all: Vec<Segment> = Vec::new();
        for day in folders(folder)? {
            let entries = match std::fs::read_dir(&day) {
                Ok(entries) => entries,
                // Removed meanwhile: kept long enough.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(at(&day)(error)),
            };
            for entry in entries.flatten() {
                let bytes = entry.metadata().map_or(0, |found| found.len());
                all.extend(Segment::of(&entry.path(), bytes));
            }
        }
        // The widest first among those that begin alike.
        all.sort_by_key(|segment| (segment.first, std::cmp::Reverse(segment.last)));
        let (mut segments, mut covered): (Vec<Segment>, Vec<Segment>) = (Vec::new(), Vec::new());
        for segment in all {
            if segments.last().is_some_and(|before| segment.last <= before.last) {
                covered.push(segment);
            } else {
                segments.push(segment);
            }
        }
        Ok(Self {
            segments,
            covered,
            state,
        })
    }

    /// Up to where the sources lie in these segments.
    pub(crate) fn positions(&self) -> Result<Positions, StoreError> {
        match self.segments.last() {
            Some(newest) if newest.last >= self.state.next => Ok(newest.positions()?),
            _ => Ok(self.state.positions.clone()),
        }
    }
}

/// The folders of days, the oldest first.
fn folders(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(at(folder)(error)),
    };
    let mut days: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            name.is_some_and(|name| {
                name.len() == 10 && name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
            })
        })
        .collect();
    days.sort();
    Ok(days)
}

/// Whole lines without their newlines.
pub(crate) fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Io {
        path: path.clone(),
        source,
    }
}
