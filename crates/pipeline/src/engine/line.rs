//! What a step's output says: commands, and everything else.

use crate::command;
use crate::event::{Annotation, Level, RunEvent};
use crate::mask::Masks;
use std::collections::BTreeMap;

/// Longest message of an annotation that is kept.
const MAX_MESSAGE: usize = 4096;
/// Most annotations of one step.
const MAX_ANNOTATIONS: usize = 50;

/// Reads the lines of one step.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    pub(crate) job: String,
    pub(crate) step: u32,
    pub(crate) debug: bool,
    pub(crate) outputs: BTreeMap<String, String>,
    pub(crate) state: BTreeMap<String, String>,
    /// A command that is off was used: the step fails.
    pub(crate) refused: bool,
    pub(super) stopped: Option<String>,
    pub(super) echo: bool,
    pub(super) annotations: usize,
}

impl Reader {
    /// What a line means, in events.
    pub(crate) fn read(&mut self, line: &str, masks: &Masks) -> Vec<RunEvent> {
        if let Some(token) = &self.stopped {
            if command::resumes(line, token) {
                self.stopped = None;
            }
            return vec![self.log(line, masks)];
        }
        let Some(command) = command::parse(line) else {
            return vec![self.log(line, masks)];
        };
        let mut events = Vec::new();
        if self.echo && command.name != "add-mask" {
            events.push(self.log(line, masks));
        }
        match command.name.as_str() {
            "add-mask" => masks.add([command.value.as_str()]),
            "debug" if self.debug => events.push(self.log(&format!("##[debug]{}", command.value), masks)),
            "debug" | "add-matcher" | "remove-matcher" => {}
            "notice" => self.annotate(Level::Notice, &command, masks, &mut events),
            "warning" => self.annotate(Level::Warning, &command, masks, &mut events),
            "error" => self.annotate(Level::Error, &command, masks, &mut events),
            "group" => events.push(self.log(&format!("##[group]{}", command.value), masks)),
            "endgroup" => events.push(self.log("##[endgroup]", masks)),
            "stop-commands" if !command.value.is_empty() => self.stopped = Some(command.value),
            "echo" => self.echo = command.value.eq_ignore_ascii_case("on"),
            "set-output" | "save-state" => {
                let Some(name) = command.get("name") else {
                    let text = format!(
                        "Required field 'name' is missing in ##[{}] command.",
                        command.name
                    );
                    self.fail(&text, masks, &mut events);
                    return events;
                };
                let into = if command.name == "set-output" {
                    &mut self.outputs
                } else {
                    &mut self.state
                };
                into.insert(name.to_owned(), command.value.clone());
            }
            "set-env" | "add-path" => {
                let file = if command.name == "set-env" {
                    "GITHUB_ENV"
                } else {
                    "GITHUB_PATH"
                };
                let text = format!(
                    "The `{}` command is off, because whoever controls a step's output could use it: write to the file {file}",
                    command.name
                );
                self.fail(&text, masks, &mut events);
            }
            _ => events.push(self.log(line, masks)),
        }
        events
    }

    /// A line of the log.
    pub(crate) fn log(&self, line: &str, masks: &Masks) -> RunEvent {
        RunEvent::Log {
            job: self.job.clone(),
            step: self.step,
            line: masks.apply(line).into_owned(),
        }
    }

    fn fail(&mut self, text: &str, masks: &Masks, events: &mut Vec<RunEvent>) {
        self.refused = true;
        events.push(self.log(&format!("##[error]{text}"), masks));
        events.push(RunEvent::Annotation {
            job: self.job.clone(),
            annotation: Annotation::new(Level::Error, text),
        });
    }

    fn annotate(
        &mut self,
        level: Level,
        command: &command::Command,
        masks: &Masks,
        events: &mut Vec<RunEvent>,
    ) {
        let word = match level {
            Level::Notice => "notice",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        for line in command.value.lines() {
            events.push(self.log(&format!("##[{word}]{line}"), masks));
        }
        self.annotations += 1;
        if self.annotations > MAX_ANNOTATIONS {
            return;
        }
        let number = |name: &str| command.get(name).and_then(|text| text.parse().ok());
        let text = |name: &str| command.get(name).map(|text| masks.apply(text).into_owned());
        let mut message = masks.apply(&command.value).into_owned();
        if message.len() > MAX_MESSAGE {
            let at = (0..=MAX_MESSAGE).rev().find(|at| message.is_char_boundary(*at));
            message.truncate(at.unwrap_or(0));
        }
        events.push(RunEvent::Annotation {
            job: self.job.clone(),
            annotation: Annotation {
                level,
                message,
                title: text("title"),
                file: text("file"),
                line: number("line"),
                end_line: number("endLine"),
                column: number("col"),
            },
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(reader: &mut Reader, masks: &Masks, all: &[&str]) -> Vec<String> {
        let events = all.iter().flat_map(|line| reader.read(line, masks));
        events
            .filter_map(|event| match event {
                RunEvent::Log { line, .. } => Some(line),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn commands_are_obeyed_and_not_while_they_are_stopped() {
        let (masks, mut reader) = (Masks::default(), Reader::default());
        let shown = lines(
            &mut reader,
            &masks,
            &[
                "::add-mask::hush",
                "hush now",
                "::set-output name=a::1",
                "::stop-commands::t0k",
                "::set-output name=a::2",
                "::t0k::",
                "::debug::unseen",
                "::group::G",
                "::endgroup::",
                "::unknown::x",
            ],
        );
        assert_eq!(
            shown,
            [
                "*** now",
                "::set-output name=a::2",
                "::t0k::",
                "##[group]G",
                "##[endgroup]",
                "::unknown::x"
            ]
        );
        assert_eq!(reader.outputs["a"], "1");
        assert!(!reader.refused);
    }

    #[test]
    fn what_is_dangerous_is_off_and_annotations_have_their_place() {
        let (masks, mut reader) = (Masks::default(), Reader::default());
        masks.add(["s3cret-value"]);
        let events = reader.read("::error file=a.ts,line=3,endLine=4::bad s3cret-value", &masks);
        assert!(events.iter().any(|event| matches!(event, RunEvent::Annotation { annotation, .. }
            if annotation.file.as_deref() == Some("a.ts") && annotation.line == Some(3) && annotation.message == "bad ***")));
        reader.read("::set-env name=PATH::/evil", &masks);
        assert!(reader.refused);
    }
}
