//! Which steps of a recovery are done: a file of its own in the state folder, a line before each step and one after it.

use super::failed_at;
use crate::failure::{Failure, Kind, Outcome};
use crate::progress::Progress;
use astraler_control::StepOutcome;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Name of the file.
pub(super) const FILE: &str = "recovery.jsonl";
/// A journal is short.
const MAX_BYTES: u64 = 256 << 10;

/// What is recovered: the same command goes on, another is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Asked {
    /// The destination.
    pub(super) from: String,
    /// The application.
    pub(super) name: String,
    /// The point in time.
    pub(super) to_ms: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "at", rename_all = "snake_case")]
enum Line {
    Asked(Asked),
    Begin { step: String },
    End { step: String },
}

pub(super) struct Journal {
    path: PathBuf,
    file: File,
    done: BTreeSet<String>,
}

impl Journal {
    /// Whether a recovery was begun in this state folder.
    pub(super) fn is_begun(state: &Path) -> bool {
        read(&state.join(FILE)).is_ok_and(|lines| !lines.is_empty())
    }

    /// Goes on with the journal of the folder, or begins one.
    pub(super) fn open(state: &Path, asked: &Asked) -> Outcome<Self> {
        let path = state.join(FILE);
        let lines = match read(&path) {
            Ok(lines) => lines,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => vec![],
            Err(error) => return Err(failed_at(&path)(error)),
        };
        let fresh = lines.is_empty();
        let mut done = BTreeSet::new();
        for line in lines {
            match line {
                Line::Asked(before) if before != *asked => {
                    return Err(Failure::new(
                        Kind::General,
                        format!(
                            "the recovery of {} from {} was begun here, and is not done",
                            before.name, before.from
                        ),
                    )
                    .hint(format!(
                        "run that command again; for another one remove {} first",
                        state.display()
                    )));
                }
                Line::End { step } => {
                    done.insert(step);
                }
                Line::Asked(_) | Line::Begin { .. } => {}
            }
        }
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(failed_at(&path))?;
        let mut journal = Self { path, file, done };
        if fresh {
            // A first line that was torn is none.
            journal.file.set_len(0).map_err(failed_at(&journal.path))?;
            journal.put(&Line::Asked(asked.clone()))?;
            astraler_host::file::sync_dir(state)?;
        }
        Ok(journal)
    }

    pub(super) fn is_done(&self, step: &str) -> bool {
        self.done.contains(step)
    }

    /// Takes a step that was not taken yet. Each begins anew where it was interrupted.
    pub(super) async fn step(
        &mut self,
        progress: &mut Progress,
        step: &str,
        work: impl Future<Output = Outcome<String>>,
    ) -> Outcome {
        if self.is_done(step) {
            return Ok(());
        }
        let began = Instant::now();
        self.put(&Line::Begin { step: step.into() })?;
        progress.begin(step);
        let detail = work.await?;
        self.put(&Line::End { step: step.into() })?;
        self.done.insert(step.to_owned());
        progress.end(step, StepOutcome::Changed, detail, began);
        Ok(())
    }

    fn put(&mut self, line: &Line) -> Outcome {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        self.file
            .write_all(text.as_bytes())
            .and_then(|()| self.file.sync_data())
            .map_err(failed_at(&self.path))
    }
}

/// Its whole lines: the last one may have been torn.
fn read(path: &Path) -> std::io::Result<Vec<Line>> {
    let mut text = String::new();
    File::open(path)?.take(MAX_BYTES).read_to_string(&mut text)?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    Ok(whole
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: &str) -> Asked {
        Asked {
            from: "file:///backups".into(),
            name: name.into(),
            to_ms: None,
        }
    }

    #[test]
    fn a_journal_goes_on_and_a_torn_line_is_none() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!Journal::is_begun(folder.path()));
        let mut journal = Journal::open(folder.path(), &asked("shop")).unwrap();
        assert!(Journal::is_begun(folder.path()));
        journal.put(&Line::Begin { step: "keys".into() }).unwrap();
        journal.put(&Line::End { step: "keys".into() }).unwrap();
        journal.file.write_all(br#"{"at":"end","step":"pla"#).unwrap();
        drop(journal);
        let journal = Journal::open(folder.path(), &asked("shop")).unwrap();
        assert!(journal.is_done("keys") && !journal.is_done("place"));
        drop(journal);
        let refused = Journal::open(folder.path(), &asked("other")).err().unwrap();
        assert!(
            refused.message.contains("recovery of shop"),
            "{}",
            refused.message
        );
    }

    #[test]
    fn a_journal_whose_first_line_was_torn_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = File::create(folder.path().join(FILE)).unwrap();
        file.write_all(br#"{"at":"as"#).unwrap();
        assert!(!Journal::is_begun(folder.path()));
        Journal::open(folder.path(), &asked("shop")).unwrap();
        let text = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
        assert!(
            text.starts_with(r#"{"at":"asked""#) && text.lines().count() == 1,
            "{text}"
        );
    }
}
