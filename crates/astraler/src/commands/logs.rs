//! `astraler logs`: the last lines of parts, or, with a question, records.

mod audit;
pub(super) mod records;

use crate::cli::{Arguments, LogsArguments};
use crate::failure::{Failure, Kind, Outcome};
use crate::place::Place;
use crate::progress::line;
use astraler_control::AdminClient;
use astraler_host::logs;
use astraler_model::UnitName;
use futures_util::{StreamExt, stream};
use std::borrow::Cow;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Lines that are masked with one question: far below what a request may hold.
const MASKED_AT_ONCE: usize = 32;

pub(super) fn run(arguments: &Arguments, wanted: &LogsArguments) -> Outcome {
    let place = Place::find(arguments)?;
    place.installation()?;
    if wanted.is_question() {
        return records::run(&place, wanted);
    }
    let count = wanted.lines.unwrap_or(100);
    let parts = parts(&place)?;
    let chosen: Vec<(String, PathBuf)> = match &wanted.part {
        None => parts.into_iter().filter(|(name, _)| name != "access").collect(),
        Some(part) => {
            let matching: Vec<_> = parts
                .iter()
                .filter(|(name, _)| name == part || name.starts_with(&format!("{part}-")))
                .cloned()
                .collect();
            if matching.is_empty() {
                let names: Vec<&str> = parts.iter().map(|(name, _)| name.as_str()).collect();
                return Err(
                    Failure::new(Kind::General, format!("there is no log of `{part}`"))
                        .hint(format!("there are: {}", names.join(", "))),
                );
            }
            matching
        }
    };
    let width = chosen.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let prefix = |name: &str| {
        if chosen.len() > 1 {
            format!("{name:width$} | ")
        } else {
            String::new()
        }
    };
    let mut lines: Vec<(String, String)> = Vec::new();
    for (name, path) in &chosen {
        let (dir, unit) = split(path)?;
        lines.extend(
            logs::tail(dir, &unit, count)?
                .into_iter()
                .map(|line| (line, prefix(name))),
        );
    }
    in_order_of_time(&mut lines);
    let last = &lines[lines.len().saturating_sub(count)..];
    let mut masks = Masks::new(&place);
    super::block_on(async {
        for lines in last.chunks(MASKED_AT_ONCE) {
            let texts = lines.iter().map(|(text, _)| text.clone()).collect();
            for (text, (_, prefix)) in masks.mask(texts).await.iter().zip(lines) {
                line(&format!("{prefix}{}", shown(text, wanted.raw)));
            }
        }
        Ok(())
    })?;
    if wanted.follow {
        follow(&chosen, prefix, wanted.raw, &mut masks)?;
    }
    Ok(())
}

/// Prints new lines of all parts as they arrive, until Ctrl-C.
fn follow(
    chosen: &[(String, PathBuf)],
    prefix: impl Fn(&str) -> String,
    raw: bool,
    masks: &mut Masks,
) -> Outcome {
    let mut streams = Vec::new();
    for (name, path) in chosen {
        let (dir, unit) = split(path)?;
        let lines = logs::follow(dir, &unit);
        let prefix = prefix(name);
        streams.push(Box::pin(stream::unfold(
            (lines, prefix),
            |(mut lines, prefix)| async move {
                let text = lines.next().await.ok()?;
                Some(((text, prefix.clone()), (lines, prefix)))
            },
        )));
    }
    super::block_on(async {
        let mut all = stream::select_all(streams);
        loop {
            tokio::select! {
                next = all.next() => match next {
                    Some((text, prefix)) => for text in masks.mask(vec![text]).await {
                        line(&format!("{prefix}{}", shown(&text, raw)));
                    },
                    None => return Ok(()),
                },
                _ = tokio::signal::ctrl_c() => return Ok(()),
            }
        }
    })
}

/// Prints lines without the values of secrets, some at once.
pub(super) struct Printer {
    masks: Masks,
    pending: Vec<String>,
}

impl Printer {
    pub(super) fn new(place: &Place) -> Self {
        Self {
            masks: Masks::new(place),
            pending: Vec::new(),
        }
    }

    pub(super) fn line(&mut self, text: String) -> Outcome {
        self.pending.push(text);
        if self.pending.len() >= MASKED_AT_ONCE {
            return self.flush();
        }
        Ok(())
    }

    /// What is left.
    pub(super) fn flush(&mut self) -> Outcome {
        super::block_on(async {
            self.now().await;
            Ok(())
        })
    }

    /// Takes the values of secrets out of texts that are not printed as lines.
    pub(super) fn mask<'a>(&mut self, texts: impl Iterator<Item = &'a mut String>) -> Outcome {
        let mut texts: Vec<&mut String> = texts.collect();
        super::block_on(async {
            for some in texts.chunks_mut(MASKED_AT_ONCE) {
                let masked = self
                    .masks
                    .mask(some.iter().map(|text| (**text).clone()).collect())
                    .await;
                for (text, masked) in some.iter_mut().zip(masked) {
                    **text = masked;
                }
            }
            Ok(())
        })
    }

    async fn now(&mut self) {
        let texts = std::mem::take(&mut self.pending);
        if !texts.is_empty() {
            self.masks.mask(texts).await.iter().for_each(|text| line(text));
        }
    }
}

/// Takes the values of secrets out of lines: the daemon, which alone knows them, does it.
struct Masks {
    client: AdminClient,
    told: bool,
}

impl Masks {
    fn new(place: &Place) -> Self {
        Self {
            client: AdminClient::new(place.layout.admin_socket()),
            told: false,
        }
    }

    /// While the daemon is down, lines are as they were written, and that is said once: they are the owner's own files.
    async fn mask(&mut self, lines: Vec<String>) -> Vec<String> {
        match self.client.mask(&lines).await {
            Ok(masked) => masked,
            Err(error) => {
                if !self.told {
                    let note = format!("note: secrets in these lines are not masked: {error}\n");
                    std::io::stderr().write_all(note.as_bytes()).ok();
                    self.told = true;
                }
                lines
            }
        }
    }
}

/// Every line begins with its time. Lines of one time keep the order in which their part wrote them.
fn in_order_of_time(lines: &mut [(String, String)]) {
    let time = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    lines.sort_by_cached_key(|(text, _)| time(text));
}

/// workerd writes what a worker logs as JSON; a person reads the level and the words.
fn shown(text: &str, raw: bool) -> Cow<'_, str> {
    #[derive(serde::Deserialize)]
    struct Logged {
        level: String,
        message: String,
    }
    match text.split_once(' ') {
        Some((time, json)) if !raw && json.starts_with("{\"timestamp\":") => {
            match serde_json::from_str::<Logged>(json) {
                Ok(Logged { level, message }) => {
                    let words = astraler_signal::exception_words(&message).unwrap_or(message);
                    Cow::Owned(format!("{time} {level:>5} {words}"))
                }
                Err(_) => Cow::Borrowed(text),
            }
        }
        _ => Cow::Borrowed(text),
    }
}

/// Part name → its current log file.
fn parts(place: &Place) -> Outcome<Vec<(String, PathBuf)>> {
    let mut parts = Vec::new();
    for entry in std::fs::read_dir(place.layout.logs())?.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "log")
            && let Some(stem) = path.file_stem()
        {
            parts.push((stem.to_string_lossy().into_owned(), path.clone()));
        }
    }
    if place.layout.access_log().is_file() {
        parts.push(("access".to_owned(), place.layout.access_log()));
    }
    parts.sort();
    Ok(parts)
}

fn split(path: &Path) -> Outcome<(&Path, UnitName)> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let stem = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    Ok((dir, UnitName::new(stem)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_one_time_keep_their_order() {
        let time = "2026-11-27T14:41:51.112Z";
        let line = |text: &str| (format!("{time} {text}"), String::new());
        let mut lines = vec![
            line("z"),
            line("a"),
            ("2026-11-27T14:41:51.111Z q".into(), String::new()),
        ];
        in_order_of_time(&mut lines);
        let texts: Vec<&str> = lines.iter().map(|(text, _)| &text[25..]).collect();
        assert_eq!(texts, ["q", "z", "a"]);
    }

    #[test]
    fn what_a_worker_logs_is_shown_in_words_and_as_written_when_asked() {
        let logged = r#"2026-11-27T14:41:51.112Z {"timestamp":1,"level":"error","message":"Error: bad\n    at fetch"}"#;
        assert_eq!(
            shown(logged, false),
            "2026-11-27T14:41:51.112Z error Error: bad\n    at fetch"
        );
        assert_eq!(shown(logged, true), logged);
        for other in [
            "2026-11-27T14:41:51.112Z {\"timestamp\":1}",
            "plain",
            r#"t {"a":1}"#,
        ] {
            assert_eq!(shown(other, false), other);
        }
    }
}
