//! Output of units: from the raw file that a unit writes to, into its log, line by line, each line once.
//!
//! The unit appends to the raw file itself, so that neither a dead nor a slow `keep` holds it up. How far it has been
//! read, and how long the log was then, is in the mark: a successor cuts the log back to that length and reads on, so
//! that no line is lost or doubled. What has been read is freed by punching holes.

use crate::file::{FileError, at};
use crate::logs::{MAX_LINE, current, rotated};
use astraler_model::{LogPolicy, UnitName};
use rustix::fs::FallocateFlags;
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const BLOCK: usize = 64 << 10;
/// What one round reads at most from one unit, so that a loud unit does not starve the others.
const ROUND: usize = 16;
/// Output that is not read yet may take so much disk; beyond it is skipped, and the log says so.
const MAX_LAG: u64 = 64 << 20;
/// What a time, a space and the end of the line add to a line.
const STAMP: usize = 26;
/// Lines kept for error messages.
const LAST_LINES: usize = 15;

/// The reader of one unit's output.
pub(super) struct Capture {
    raw: File,
    raw_path: PathBuf,
    mark: File,
    log_path: PathBuf,
    log: File,
    log_length: u64,
    offset: u64,
    punched: u64,
    can_punch: bool,
    group: u32,
    policy: LogPolicy,
    last: VecDeque<String>,
}

impl Capture {
    /// Opens the files of a unit below `logs`, and takes up where another `keep` left off.
    pub(super) fn open(logs: &Path, unit: &UnitName, policy: LogPolicy) -> Result<Self, FileError> {
        let raw_path = logs.join("raw").join(format!("{unit}.out"));
        let mark_path = logs.join("raw").join(format!("{unit}.mark"));
        let log_path = current(logs, unit);
        let group = fs::metadata(logs).map_err(at("look at", logs))?.gid();
        let raw = append(&raw_path, 0o600, None)?;
        let mark = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&mark_path)
            .map_err(at("open", &mark_path))?;
        let (offset, length_then) = read_mark(&mark);
        let log = append(&log_path, 0o640, Some(group))?;
        let mut log_length = log.metadata().map_err(at("look at", &log_path))?.len();
        if length_then < log_length {
            // Written after the mark: it is read again from the raw file.
            log.set_len(length_then).map_err(at("cut", &log_path))?;
            log_length = length_then;
        }
        let raw_length = raw.metadata().map_err(at("look at", &raw_path))?.len();
        // Shorter than what was read: it was emptied just before the other `keep` died.
        let offset = if offset > raw_length { 0 } else { offset };
        let capture = Self {
            raw,
            raw_path,
            mark,
            log_path,
            log,
            log_length,
            offset,
            punched: offset,
            can_punch: true,
            group,
            policy,
            last: VecDeque::new(),
        };
        capture.write_mark().map_err(at("write", &mark_path))?;
        Ok(capture)
    }

    pub(super) fn set_policy(&mut self, policy: LogPolicy) {
        self.policy = policy;
    }

    /// What a unit gets as its standard output and error.
    pub(super) fn writer(&self) -> Result<File, FileError> {
        append(&self.raw_path, 0o600, None)
    }

    /// Forgets the last lines: a new process starts.
    pub(super) fn forget(&mut self) {
        self.last.clear();
    }

    pub(super) fn last_lines(&self) -> Vec<String> {
        self.last.iter().cloned().collect()
    }

    /// Takes what the unit has written; true when there is more. A failure (a full disk) is logged, and the lines are
    /// tried again the next time.
    pub(super) fn pump(&mut self, ended: bool) -> bool {
        match self.try_pump(ended) {
            Ok(more) => more,
            Err(error) => {
                tracing::warn!(path = %self.log_path.display(), %error, "cannot write the log of a unit");
                let _ = self.log.set_len(self.log_length);
                false
            }
        }
    }

    /// Takes the rest, a last line without its end too, and frees the raw file. Only when no process of the unit is
    /// left.
    pub(super) fn finish(&mut self) {
        // Bounded by MAX_LAG, which one round can skip to.
        for _ in 0..=(MAX_LAG as usize / BLOCK / ROUND) {
            if !self.pump(true) {
                break;
            }
        }
        let read_all = self.raw.metadata().is_ok_and(|found| found.len() == self.offset);
        if read_all && self.offset > 0 && self.raw.set_len(0).is_ok() {
            self.offset = 0;
            self.punched = 0;
            if let Err(error) = self.write_mark() {
                tracing::warn!(path = %self.log_path.display(), %error, "cannot note how far a log was read");
            }
        }
    }

    fn try_pump(&mut self, ended: bool) -> io::Result<bool> {
        let length = self.raw.metadata()?.len();
        if length < self.offset {
            self.offset = 0;
            self.punched = 0;
        }
        if length - self.offset > MAX_LAG {
            let skipped = length - self.offset - BLOCK as u64;
            self.offset += skipped;
            let note =
                format!("keep: {skipped} bytes of output were skipped: written faster than can be kept");
            self.commit(&[note.as_bytes()], self.offset)?;
        }
        let mut block = Vec::new();
        for _ in 0..ROUND {
            if self.offset >= length {
                return Ok(false);
            }
            block.resize(BLOCK, 0);
            let read = self.raw.read_at(&mut block, self.offset)?;
            let block = block.get(..read).unwrap_or_default();
            let taken = match block.iter().rposition(|byte| *byte == b'\n') {
                Some(end) => end + 1,
                None if ended || read >= MAX_LINE => read,
                None => return Ok(false),
            };
            let (lines, taken) = self.fitting(block.get(..taken).unwrap_or_default());
            self.commit(&lines, self.offset + taken as u64)?;
        }
        Ok(true)
    }

    /// The lines at the start of a block that fit in the log, or in the next one when the first does not; at least one.
    /// Returns how many bytes of the block they are.
    fn fitting<'a>(&self, block: &'a [u8]) -> (Vec<&'a [u8]>, usize) {
        let mut lines = Vec::new();
        let mut taken = 0;
        let mut length = self.log_length;
        for line in block.split_inclusive(|byte| *byte == b'\n') {
            let found = pieces(line.strip_suffix(b"\n").unwrap_or(line));
            let more: u64 = found.clone().map(|piece| (piece.len() + STAMP) as u64).sum();
            if length + more > self.policy.max_file_bytes {
                if !lines.is_empty() {
                    break;
                }
                length = 0;
            }
            length += more;
            taken += line.len();
            lines.extend(found);
        }
        (lines, taken)
    }

    /// Writes the lines, then the mark, then frees what was read.
    fn commit(&mut self, lines: &[&[u8]], offset: u64) -> io::Result<()> {
        let time = timestamp();
        let mut bytes = Vec::with_capacity(lines.iter().map(|line| line.len() + STAMP).sum());
        for line in lines {
            bytes.extend_from_slice(time.as_bytes());
            bytes.push(b' ');
            bytes.extend_from_slice(line);
            bytes.push(b'\n');
        }
        if self.log_length > 0 && self.log_length + bytes.len() as u64 > self.policy.max_file_bytes {
            self.rotate()?;
        }
        self.log.write_all(&bytes)?;
        self.log_length += bytes.len() as u64;
        self.offset = offset;
        self.write_mark()?;
        for line in lines.iter().rev().take(LAST_LINES).rev() {
            if self.last.len() == LAST_LINES {
                self.last.pop_front();
            }
            self.last.push_back(String::from_utf8_lossy(line).into_owned());
        }
        self.punch();
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let keep = self.policy.keep_files.min(999);
        let _ = fs::remove_file(rotated(&self.log_path, keep.max(1)));
        for number in (1..keep).rev() {
            let _ = fs::rename(
                rotated(&self.log_path, number),
                rotated(&self.log_path, number + 1),
            );
        }
        if keep == 0 {
            fs::remove_file(&self.log_path)?;
        } else {
            fs::rename(&self.log_path, rotated(&self.log_path, 1))?;
        }
        self.log = append(&self.log_path, 0o640, Some(self.group)).map_err(|error| error.source)?;
        self.log_length = 0;
        self.write_mark()
    }

    fn write_mark(&self) -> io::Result<()> {
        // One length always, so that one write replaces all of it.
        self.mark.write_all_at(
            format!("{:020} {:020}\n", self.offset, self.log_length).as_bytes(),
            0,
        )
    }

    fn punch(&mut self) {
        let until = self.offset / 4096 * 4096;
        if !self.can_punch || until < self.punched + BLOCK as u64 {
            return;
        }
        let from = self.punched / 4096 * 4096;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.raw, flags, from, until - from) {
            Ok(()) => self.punched = until,
            Err(_) => self.can_punch = false,
        }
    }
}

/// Removes the files with which the output of a unit was read; the logs stay.
pub(super) fn remove(logs: &Path, unit: &UnitName) {
    for ending in ["out", "mark"] {
        let _ = fs::remove_file(logs.join("raw").join(format!("{unit}.{ending}")));
    }
}

fn append(path: &Path, mode: u32, group: Option<u32>) -> Result<File, FileError> {
    let fresh = !path.exists();
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(mode)
        .open(path)
        .map_err(at("open", path))?;
    if let (true, Some(_)) = (fresh, group) {
        // The group of the folder may read the logs in it; where it cannot be given, the owner alone does.
        let _ = std::os::unix::fs::fchown(&file, None, group);
        let _ = file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    }
    Ok(file)
}

fn read_mark(mark: &File) -> (u64, u64) {
    let mut bytes = [0u8; 41];
    if mark.read_exact_at(&mut bytes, 0).is_err() {
        return (0, u64::MAX);
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut numbers = text.split(' ').map(|number| number.parse().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(offset), Some(length)) => (offset, length),
        _ => (0, u64::MAX),
    }
}

fn pieces(line: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let empty = line.is_empty().then_some(line);
    empty.into_iter().chain(line.chunks(MAX_LINE))
}

fn timestamp() -> String {
    let now = jiff::Timestamp::now();
    format!("{now:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| line.split_once(' ').unwrap().1.to_owned())
            .collect()
    }

    fn open(folder: &Path, policy: LogPolicy) -> Capture {
        fs::create_dir_all(folder.join("raw")).unwrap();
        Capture::open(folder, &UnitName::new("u").unwrap(), policy).unwrap()
    }

    #[test]
    fn a_successor_neither_loses_nor_doubles_lines() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = open(folder.path(), LogPolicy::default());
        let mut unit = first.writer().unwrap();
        unit.write_all(b"1\n2\n3").unwrap();
        first.pump(false);
        let mark = fs::read(folder.path().join("raw/u.mark")).unwrap();
        unit.write_all(b"\n4\n").unwrap();
        first.pump(false);
        drop(first);
        // As if it had died after writing the lines and before writing the mark.
        #[expect(clippy::disallowed_methods, reason = "the test puts back an older state")]
        fs::write(folder.path().join("raw/u.mark"), mark).unwrap();
        unit.write_all(b"5\n").unwrap();
        let mut second = open(folder.path(), LogPolicy::default());
        second.pump(false);
        assert_eq!(lines(&folder.path().join("u.log")), ["1", "2", "3", "4", "5"]);
        unit.write_all(b"six").unwrap();
        second.finish();
        assert_eq!(lines(&folder.path().join("u.log")).last().unwrap(), "six");
        assert_eq!(fs::metadata(folder.path().join("raw/u.out")).unwrap().len(), 0);
        let time = fs::read_to_string(folder.path().join("u.log")).unwrap();
        assert!(
            time.as_bytes()[23] == b'Z' && time.as_bytes()[24] == b' ',
            "{time}"
        );
    }

    #[test]
    fn rotation_and_holes_bound_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let policy = LogPolicy {
            max_file_bytes: 64 << 10,
            keep_files: 2,
        };
        let mut capture = open(folder.path(), policy);
        let mut unit = capture.writer().unwrap();
        for number in 0..200 {
            unit.write_all(format!("{number} {}\n", "x".repeat(20_000)).as_bytes())
                .unwrap();
            capture.pump(false);
        }
        let used = |path: PathBuf| fs::metadata(path).unwrap().blocks() * 512;
        let raw = folder.path().join("raw/u.out");
        assert!(fs::metadata(&raw).unwrap().len() > 4_000_000);
        assert!(used(raw) < 300_000);
        let logs = ["u.log", "u.log.1", "u.log.2"].map(|name| used(folder.path().join(name)));
        assert!(logs.iter().sum::<u64>() < 3 * ((64 << 10) + 8192), "{logs:?}");
        assert!(!folder.path().join("u.log.3").exists());
        assert_eq!(
            lines(&folder.path().join("u.log")).last().unwrap().len(),
            20_000 + 4 - MAX_LINE
        );
    }

    #[test]
    fn too_much_unread_output_is_skipped_and_said() {
        let folder = tempfile::tempdir().unwrap();
        let mut capture = open(folder.path(), LogPolicy::default());
        let unit = capture.writer().unwrap();
        unit.set_len(MAX_LAG + 1_000_000).unwrap();
        (&unit).write_all(b"\nend\n").unwrap();
        capture.finish();
        let found = lines(&folder.path().join("u.log"));
        assert!(found[0].contains("bytes of output were skipped"));
        assert_eq!(found.last().unwrap(), "end");
    }
}
