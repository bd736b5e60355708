//! Reads what a run says while it is written.

use astraler_pipeline::RunEvent;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// One event: the report is the largest.
const MAX_LINE_BYTES: usize = 8 << 20;
const PIECE_BYTES: usize = 64 << 10;

/// A place in the events of a run.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    file: Option<File>,
    pending: Vec<u8>,
    read: u64,
}

impl Tail {
    /// From the beginning; the file may not be there yet.
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            file: None,
            pending: Vec::new(),
            read: 0,
        }
    }

    /// Bytes that were given out.
    pub(super) fn place(&self) -> u64 {
        self.read - self.pending.len() as u64
    }

    /// Whole lines that have come since, of one piece at most; none when there is nothing new. A half-written last line
    /// waits for its end.
    pub(super) fn next(&mut self) -> io::Result<Vec<RunEvent>> {
        if self.file.is_none() {
            match File::open(&self.path) {
                Ok(file) => self.file = Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
                Err(error) => return Err(error),
            }
        }
        let Some(file) = &mut self.file else {
            return Ok(vec![]);
        };
        let mut events = Vec::new();
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let read = file.read(&mut piece)?;
            self.read += read as u64;
            self.pending.extend_from_slice(&piece[..read]);
            let whole = self.pending.iter().rposition(|byte| *byte == b'\n');
            if let Some(end) = whole {
                let rest = self.pending.split_off(end + 1);
                let lines = std::mem::replace(&mut self.pending, rest);
                let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                // A line that a killed runner left half written, and another was begun on, is nobody's event.
                events.extend(lines.filter_map(|line| serde_json::from_slice(line).ok()));
                return Ok(events);
            }
            if read == 0 {
                return Ok(events);
            }
            if self.pending.len() > MAX_LINE_BYTES {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "an event is too long"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_line_is_an_event_when_its_end_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let mut tail = Tail::new(&path);
        assert_eq!(tail.next().unwrap(), [], "there is no file yet");
        let event = |line: &str| RunEvent::Log {
            job: "a".into(),
            step: 1,
            line: line.into(),
        };
        let text = |line: &str| serde_json::to_string(&event(line)).unwrap();
        let mut file = File::create(&path).unwrap();
        write!(file, "{}\n{}", text("one"), &text("two")[..10]).unwrap();
        assert_eq!(tail.next().unwrap(), [event("one")]);
        assert_eq!(tail.next().unwrap(), []);
        writeln!(file, "{}\nnot an event", &text("two")[10..]).unwrap();
        assert_eq!(tail.next().unwrap(), [event("two")]);
        assert_eq!(tail.place(), std::fs::metadata(&path).unwrap().len());
        // A long one comes in pieces.
        let long = "x".repeat(200 << 10);
        writeln!(file, "{}", text(&long)).unwrap();
        assert_eq!(tail.next().unwrap(), [event(&long)]);
    }
}
