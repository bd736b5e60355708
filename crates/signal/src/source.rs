//! A log that somebody else writes and rotates (`NAME`, `NAME.1`, `NAME.2`…), read on from a recorded position. It is the
//! write-ahead segment of the store: what was read is forgotten here only when it lies in a segment.

use serde::{Deserialize, Serialize};
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A longer line is no record; it is passed over.
pub(crate) const MAX_LINE: usize = 64 << 10;
/// Bytes at the beginning of a file by which it is known again: an inode alone is soon given to another file.
const HEAD: usize = 96;
const MAX_ROTATED: u32 = 999;

/// How far a log has been read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    inode: u64,
    offset: u64,
    /// Hash of the first [`HEAD`] bytes, or of as many as had been read.
    head: u64,
}

/// Whole lines, and where the next ones begin.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    /// Ends with a newline, or is empty.
    pub(crate) bytes: Vec<u8>,
    pub(crate) position: Position,
    /// The file at the position was gone: the log was rotated away before it had been read.
    pub(crate) lost: bool,
}

/// Reads on from a position, at most about `max` bytes, across rotations. Without one, from the oldest line there is.
pub(crate) fn read(path: &Path, from: Option<&Position>, max: usize) -> io::Result<Chunk> {
    let files = files(path)?;
    let mut chunk = Chunk {
        position: from.cloned().unwrap_or_default(),
        ..Chunk::default()
    };
    let start = match from {
        None => 0,
        Some(position) => match files.iter().position(|file| is_at(file, position)) {
            Some(index) => index,
            // It had read nothing, or there is no log yet: nothing is missing.
            None if position.offset == 0 || files.is_empty() => 0,
            None => {
                chunk.lost = true;
                0
            }
        },
    };
    for (index, (_, file, inode)) in files.iter().enumerate().skip(start) {
        let known = from.filter(|position| index == start && !chunk.lost && position.inode == *inode);
        let offset = known.map_or(0, |position| position.offset);
        let last = index + 1 == files.len();
        let left = max.saturating_sub(chunk.bytes.len());
        if left == 0 {
            break;
        }
        let (end, whole) = lines(file, offset, left, !last, &mut chunk.bytes)?;
        if end > 0 {
            chunk.position = Position {
                inode: *inode,
                offset: end,
                head: head(file, end)?,
            };
        }
        if !whole {
            break;
        }
    }
    Ok(chunk)
}

/// Bytes that wait behind a position.
pub(crate) fn waiting(path: &Path, from: Option<&Position>) -> io::Result<u64> {
    let files = files(path)?;
    let start = from.and_then(|position| files.iter().position(|file| is_at(file, position)));
    let read = start.and(from).map_or(0, |position| position.offset);
    let mut bytes = 0;
    for (_, file, _) in files.iter().skip(start.unwrap_or(0)) {
        bytes += file.metadata()?.len();
    }
    Ok(bytes.saturating_sub(read))
}

/// What was written so far survives a loss of power after this.
pub(crate) fn sync(path: &Path) -> io::Result<()> {
    match File::open(path) {
        Ok(file) => file.sync_data(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

type Opened = (PathBuf, File, u64);

/// The oldest first. Opened before anything is read, so that a rotation meanwhile takes nothing away.
fn files(path: &Path) -> io::Result<Vec<Opened>> {
    let mut found: Vec<Opened> = Vec::new();
    for number in 0..=MAX_ROTATED {
        let path = numbered(path, number);
        match File::open(&path) {
            Ok(file) => {
                let inode = file.metadata()?.ino();
                // Renamed between two looks: it is the one before.
                if found.last().is_none_or(|(_, _, newer)| *newer != inode) {
                    found.push((path, file, inode));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && number == 0 => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        }
    }
    found.reverse();
    Ok(found)
}

fn is_at((_, file, inode): &Opened, position: &Position) -> bool {
    let length = file.metadata().map_or(0, |found| found.len());
    *inode == position.inode
        && length >= position.offset
        && head(file, position.offset).is_ok_and(|found| found == position.head)
}

fn head(file: &File, read: u64) -> io::Result<u64> {
    let mut bytes = vec![0; HEAD.min(usize::try_from(read).unwrap_or(HEAD))];
    file.read_exact_at(&mut bytes, 0)?;
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    Ok(hasher.finish())
}

/// Appends whole lines to `out`; answers where they end, and whether the file has been read to its end. The last line of
/// a `finished` file that has no newline was cut off by a crash, and is passed over.
fn lines(
    mut file: &File,
    offset: u64,
    max: usize,
    finished: bool,
    out: &mut Vec<u8>,
) -> io::Result<(u64, bool)> {
    file.seek(SeekFrom::Start(offset))?;
    let before = out.len();
    let max = max.max(MAX_LINE);
    let read = file.take(max as u64).read_to_end(out)?;
    let end = memchr::memrchr(b'\n', &out[before..]).map_or(0, |end| end + 1);
    let complete = read < max;
    let kept = match end {
        0 if !complete => read,
        end => end,
    };
    // A line longer than the longest: none of it is kept.
    out.truncate(before + end);
    let passed = if complete && finished { read } else { kept };
    Ok((offset + passed as u64, complete))
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn append(path: &Path, text: &str) {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn text(chunk: &Chunk) -> &str {
        std::str::from_utf8(&chunk.bytes).unwrap()
    }

    #[test]
    fn it_reads_on_across_rotations_and_keeps_half_a_line_for_later() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("a.log");
        let nothing = read(&log, None, 1 << 20).unwrap();
        assert_eq!((text(&nothing), nothing.lost), ("", false));
        append(&log, "1\n2");
        let one = read(&log, Some(&nothing.position), 1 << 20).unwrap();
        assert_eq!((text(&one), one.lost), ("1\n", false));
        assert_eq!(waiting(&log, Some(&one.position)).unwrap(), 1);
        append(&log, "\n3\n");
        std::fs::rename(&log, numbered(&log, 1)).unwrap();
        append(&log, "4\n");
        let rest = read(&log, Some(&one.position), 1 << 20).unwrap();
        assert_eq!((text(&rest), rest.lost), ("2\n3\n4\n", false));
        let none = read(&log, Some(&rest.position), 1 << 20).unwrap();
        assert_eq!((text(&none), &none.position), ("", &rest.position));
        assert_eq!(waiting(&log, Some(&none.position)).unwrap(), 0);
    }

    #[test]
    fn a_log_that_was_rotated_away_unread_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("a.log");
        append(&log, "1\n");
        let one = read(&log, None, 1 << 20).unwrap();
        std::fs::remove_file(&log).unwrap();
        append(&log, "another\n");
        let next = read(&log, Some(&one.position), 1 << 20).unwrap();
        assert_eq!((text(&next), next.lost), ("another\n", true));
        let after = read(&log, Some(&next.position), 1 << 20).unwrap();
        assert_eq!((text(&after), after.lost), ("", false));
    }

    #[test]
    fn a_line_cut_off_by_a_crash_holds_nothing_up() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("a.log");
        append(&log, "1\nhal");
        std::fs::rename(&log, numbered(&log, 1)).unwrap();
        append(&log, "2\n");
        let all = read(&log, None, 1 << 20).unwrap();
        assert_eq!(text(&all), "1\n2\n");
    }

    #[test]
    fn a_chunk_is_bounded_and_too_long_a_line_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("a.log");
        append(
            &log,
            &format!("{}\n{}\n", "x".repeat(3 * MAX_LINE), "y".repeat(30)),
        );
        let mut position = None;
        let mut seen = String::new();
        for _ in 0..9 {
            let chunk = read(&log, position.as_ref(), 10).unwrap();
            assert!(chunk.bytes.len() <= MAX_LINE);
            seen.push_str(text(&chunk));
            position = Some(chunk.position);
        }
        assert!(seen.ends_with(&format!("{}\n", "y".repeat(30))), "{}", seen.len());
    }
}
