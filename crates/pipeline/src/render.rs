//! Events as plain text: for a terminal, and for the band of git's protocol that the pusher sees.

use crate::event::{Conclusion, GateReport, GateState, RunEvent, RunReport};
use std::collections::{BTreeMap, BTreeSet};

/// Turns events into lines. Where several jobs write at once, each line says whose it is.
#[derive(Debug, Default)]
pub struct Renderer {
    open: BTreeSet<String>,
    /// Folded output of the steps that run: shown only if they fail.
    brief: bool,
    kept: BTreeMap<(String, u32), Vec<String>>,
}

/// Most lines of a step that are kept for the case that it fails.
const MAX_KEPT: usize = 200;

impl Renderer {
    /// All output.
    pub fn new() -> Self {
        Self::default()
    }

    /// Output only of steps that fail.
    pub fn brief() -> Self {
        Self {
            brief: true,
            ..Self::default()
        }
    }

    /// The lines of an event.
    pub fn lines(&mut self, event: &RunEvent) -> Vec<String> {
        match event {
            RunEvent::RunStarted { run, isolation } => {
                let mut lines = vec![format!("run {run}")];
                if !self.brief {
                    lines.extend(isolation.iter().map(|line| format!("  {line}")));
                }
                lines
            }
            RunEvent::JobStarted { job, name } => {
                self.open.insert(job.clone());
                vec![format!("● {name}")]
            }
            RunEvent::StepStarted { job, name, .. } => vec![format!("{job} | ▸ {name}")],
            RunEvent::Log { job, step, line } => {
                let text = shown(line);
                if self.brief && *step > 0 {
                    let kept = self.kept.entry((job.clone(), *step)).or_default();
                    kept.push(text);
                    if kept.len() > MAX_KEPT {
                        kept.remove(0);
                    }
                    return vec![];
                }
                vec![prefixed(job, &text)]
            }
            RunEvent::Annotation { .. } | RunEvent::Summary { .. } | RunEvent::Gates { .. } => vec![],
            RunEvent::StepEnded { job, report } => {
                let kept = self
                    .kept
                    .remove(&(job.clone(), report.number))
                    .unwrap_or_default();
                let mut lines: Vec<String> = Vec::new();
                if report.outcome == Conclusion::Failure {
                    lines.extend(kept.iter().map(|line| prefixed(job, line)));
                }
                let allowed = if report.outcome == report.conclusion {
                    ""
                } else {
                    " (continue-on-error)"
                };
                lines.push(format!(
                    "{job} | {} {}{allowed}{}",
                    mark(report.outcome),
                    report.name,
                    took(report.duration_ms)
                ));
                lines
            }
            RunEvent::JobEnded { report } => {
                self.open.remove(&report.key);
                vec![format!(
                    "{} {}: {}{}",
                    mark(report.conclusion),
                    report.name,
                    report.conclusion.word(),
                    took(report.duration_ms)
                )]
            }
            RunEvent::RunEnded { report } => end(report),
        }
    }
}

/// The table of gates.
pub fn gates_table(gates: &[GateReport]) -> Vec<String> {
    let width = gates
        .iter()
        .map(|gate| gate.name.chars().count())
        .max()
        .unwrap_or(0);
    let rows = gates.iter().map(|gate| {
        let state = match (gate.state, gate.blocking) {
            (GateState::Passed, _) => "passed",
            (GateState::Failed, true) => "FAILED",
            (GateState::Failed, false) => "warning",
            (GateState::Skipped, _) => "skipped",
            (GateState::Missing, _) => "none",
        };
        let time = if gate.duration_ms == 0 {
            String::new()
        } else {
            took(gate.duration_ms)
        };
        format!("  {:width$}  {state:8} {}{time}", gate.name, gate.detail)
    });
    std::iter::once("gates".to_owned()).chain(rows).collect()
}

fn end(report: &RunReport) -> Vec<String> {
    let mut lines = vec![String::new()];
    for annotation in &report.annotations {
        let place = match (&annotation.file, annotation.line) {
            (Some(file), Some(line)) => format!("{file}:{line}: "),
            (Some(file), None) => format!("{file}: "),
            _ => String::new(),
        };
        let level = format!("{:?}", annotation.level).to_ascii_lowercase();
        lines.push(format!(
            "{level}: {place}{}",
            annotation.message.lines().next().unwrap_or_default()
        ));
    }
    lines.extend(gates_table(&report.gates));
    lines.push(format!(
        "run {}: {}{}",
        report.run,
        report.conclusion.word(),
        took(report.duration_ms)
    ));
    lines
}

fn prefixed(job: &str, line: &str) -> String {
    if job.is_empty() {
        line.to_owned()
    } else {
        format!("{job} |   {line}")
    }
}

/// Marks of the log in words, and nothing that moves the cursor.
fn shown(line: &str) -> String {
    let line = match line.strip_prefix("##[") {
        Some(rest) => match rest.split_once(']') {
            Some(("group", name)) => format!("▾ {name}"),
            Some(("endgroup", _)) => String::new(),
            Some((level, text)) => format!("{level}: {text}"),
            None => line.to_owned(),
        },
        None => line.to_owned(),
    };
    let mut text = String::with_capacity(line.len());
    let mut all = line.chars().peekable();
    while let Some(c) = all.next() {
        match c {
            // Colours stay; what else a terminal would do for a stranger does not.
            '\u{1b}' if all.peek() == Some(&'[') => {
                let mut sequence = String::from("\u{1b}[");
                all.next();
                while let Some(next) = all.next_if(|c| c.is_ascii_digit() || *c == ';') {
                    sequence.push(next);
                }
                if all.next_if_eq(&'m').is_some() {
                    text.push_str(&sequence);
                    text.push('m');
                }
            }
            '\t' => text.push(c),
            c if c.is_control() => {}
            c => text.push(c),
        }
    }
    text
}

fn mark(conclusion: Conclusion) -> &'static str {
    match conclusion {
        Conclusion::Success => "✓",
        Conclusion::Failure => "✗",
        Conclusion::Cancelled => "⊘",
        Conclusion::Skipped => "-",
    }
}

fn took(duration_ms: u64) -> String {
    format!("  {}.{} s", duration_ms / 1000, duration_ms % 1000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_stranger_moves_no_cursor() {
        assert_eq!(
            shown("\u{1b}[31mred\u{1b}[0m \u{1b}[2Jx\u{7}\rz"),
            "\u{1b}[31mred\u{1b}[0m Jxz"
        );
        assert_eq!(shown("##[group]Name"), "▾ Name");
        assert_eq!(shown("##[warning]text"), "warning: text");
    }
}
