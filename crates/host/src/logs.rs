//! The logs that `keep` writes: `<dir>/<unit>.log`, older ones `.log.1`, `.log.2`… Each line is the time in RFC 3339
//! (UTC, milliseconds), a space, and what the unit wrote.

use astraler_model::UnitName;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A line is never longer than this, in bytes; `keep` cuts it into pieces.
pub const MAX_LINE: usize = 16 << 10;
const POLL: Duration = Duration::from_millis(100);
const BLOCK: u64 = 64 << 10;

/// The files of a unit, the oldest first, the current one last.
pub fn files(dir: impl AsRef<Path>, unit: &UnitName) -> Vec<PathBuf> {
    let current = current(dir.as_ref(), unit);
    let mut found: Vec<PathBuf> = (1..=999)
        .map(|number| rotated(&current, number))
        .take_while(|path| path.exists())
        .collect();
    found.reverse();
    found.push(current);
    found.retain(|path| path.exists());
    found
}

/// The last lines of a unit, the oldest first, across rotated files. A unit that wrote nothing has none.
pub fn tail(dir: impl AsRef<Path>, unit: &UnitName, lines: usize) -> io::Result<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    for path in files(dir, unit).iter().rev() {
        let missing = lines.saturating_sub(found.len());
        if missing == 0 {
            break;
        }
        let mut older = match last_lines(path, missing) {
            // Rotated away between listing and reading.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        older.append(&mut found);
        found = older;
    }
    Ok(found)
}

/// Follows a unit from now on.
pub fn follow(dir: impl Into<PathBuf>, unit: &UnitName) -> Follow {
    let path = current(&dir.into(), unit);
    let file = File::open(&path).ok().and_then(|mut file| {
        file.seek(SeekFrom::End(0)).ok()?;
        Some(file)
    });
    Follow {
        path,
        file,
        pending: Vec::new(),
        lines: Vec::new().into_iter(),
    }
}

/// The new lines of a unit, across rotation.
#[derive(Debug)]
pub struct Follow {
    path: PathBuf,
    file: Option<File>,
    pending: Vec<u8>,
    lines: std::vec::IntoIter<String>,
}

impl Follow {
    /// The next line; waits for it. Safe to drop and call again.
    pub async fn next(&mut self) -> io::Result<String> {
        loop {
            if let Some(line) = self.lines.next() {
                return Ok(line);
            }
            if !self.read()? {
                tokio::time::sleep(POLL).await;
            }
        }
    }

    /// Reads what is there; false when there is nothing new.
    fn read(&mut self) -> io::Result<bool> {
        if self.file.is_none() {
            self.file = match File::open(&self.path) {
                Ok(file) => Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(error),
            };
        }
        let Some(file) = &mut self.file else {
            return Ok(false);
        };
        // Where the current file is another one, nothing is appended to ours any more: what is read after this look is
        // its end.
        let successor = successor(&self.path, file.metadata()?.ino());
        let mut block = Vec::new();
        file.take(BLOCK).read_to_end(&mut block)?;
        if block.is_empty() {
            let Some(next) = successor else { return Ok(false) };
            let (path, inode) = next;
            match File::open(path) {
                Ok(found) if found.metadata()?.ino() == inode => self.file = Some(found),
                // Rotated between the look and the opening: looked for again.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            return Ok(true);
        }
        self.pending.extend_from_slice(&block);
        if let Some(end) = self.pending.iter().rposition(|byte| *byte == b'\n') {
            let rest = self.pending.split_off(end + 1);
            let whole = std::mem::replace(&mut self.pending, rest);
            self.lines = split(&whole).collect::<Vec<_>>().into_iter();
        }
        Ok(true)
    }
}

/// The file that followed the one with this inode, when it has been rotated, and its inode.
fn successor(current: &Path, inode: u64) -> Option<(PathBuf, u64)> {
    let of = |path: &Path| fs::metadata(path).ok().map(|found| found.ino());
    let mut newer = (current.to_owned(), of(current)?);
    if newer.1 == inode {
        return None;
    }
    for number in 1..=999 {
        let path = rotated(current, number);
        match of(&path) {
            Some(found) if found == inode => break,
            Some(found) => newer = (path, found),
            // Ours was dropped meanwhile: the oldest one left is the next.
            None => break,
        }
    }
    Some(newer)
}

fn last_lines(path: &Path, lines: usize) -> io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let mut start = file.metadata()?.len();
    let mut bytes: Vec<u8> = Vec::new();
    while start > 0 && bytes.iter().filter(|byte| **byte == b'\n').count() <= lines {
        let from = start.saturating_sub(BLOCK);
        let mut block = vec![0; usize::try_from(start - from).unwrap_or(0)];
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(&mut block)?;
        block.append(&mut bytes);
        bytes = block;
        start = from;
    }
    // What follows the last newline is a line that is being written at this moment.
    let end = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |last| last + 1);
    let mut found: Vec<String> = split(&bytes[..end]).collect();
    Ok(found.split_off(found.len().saturating_sub(lines)))
}

fn split(bytes: &[u8]) -> impl Iterator<Item = String> + '_ {
    let whole = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let lines = (!bytes.is_empty()).then(|| whole.split(|byte| *byte == b'\n'));
    lines
        .into_iter()
        .flatten()
        .map(|line| String::from_utf8_lossy(line).into_owned())
}

pub(crate) fn current(dir: &Path, unit: &UnitName) -> PathBuf {
    dir.join(format!("{unit}.log"))
}

pub(crate) fn rotated(current: &Path, number: u32) -> PathBuf {
    let mut name = current.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn append(path: &Path, text: &str) {
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn tail_reads_across_rotated_files() {
        let folder = tempfile::tempdir().unwrap();
        let unit = UnitName::new("a").unwrap();
        append(&folder.path().join("a.log.1"), "1\n2\n");
        append(&folder.path().join("a.log"), "3\n4\n");
        assert_eq!(tail(folder.path(), &unit, 3).unwrap(), ["2", "3", "4"]);
        assert_eq!(tail(folder.path(), &unit, 9).unwrap(), ["1", "2", "3", "4"]);
        assert!(
            tail(folder.path(), &UnitName::new("b").unwrap(), 3)
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn tail_shows_no_half_of_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let unit = UnitName::new("a").unwrap();
        append(&folder.path().join("a.log"), "1\n2\n2026-01-01T");
        assert_eq!(tail(folder.path(), &unit, 2).unwrap(), ["1", "2"]);
    }

    #[tokio::test]
    async fn follow_sees_every_line_across_two_rotations() {
        let folder = tempfile::tempdir().unwrap();
        let unit = UnitName::new("a").unwrap();
        let path = folder.path().join("a.log");
        append(&path, "old\n");
        let mut follow = follow(folder.path(), &unit);
        append(&path, "1\n2");
        assert_eq!(follow.next().await.unwrap(), "1");
        append(&path, "\n");
        fs::rename(&path, rotated(&path, 1)).unwrap();
        append(&path, "3\n");
        fs::rename(rotated(&path, 1), rotated(&path, 2)).unwrap();
        fs::rename(&path, rotated(&path, 1)).unwrap();
        append(&path, "4\n");
        for expected in ["2", "3", "4"] {
            assert_eq!(follow.next().await.unwrap(), expected);
        }
        assert!(
            tokio::time::timeout(Duration::from_millis(250), follow.next())
                .await
                .is_err()
        );
    }
}
