//! Live progress of long work: a spinner with the elapsed time for each part in a terminal, plain lines
//! elsewhere, JSON lines when asked for.

use astraler_control::{Event, StepOutcome};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Terminal,
    Lines,
    Json,
}

/// Shows one part after the other.
pub(crate) struct Progress {
    form: Form,
    current: Option<(ProgressBar, Instant)>,
}

const NAME_WIDTH: usize = 24;

impl Progress {
    pub(crate) fn new(json: bool) -> Self {
        let form = match (json, std::io::stdout().is_terminal()) {
            (true, _) => Form::Json,
            (false, true) => Form::Terminal,
            (false, false) => Form::Lines,
        };
        Self { form, current: None }
    }

    pub(crate) fn begin(&mut self, part: &str) {
        self.event(&Event::Begin {
            part: part.to_owned(),
        });
    }

    pub(crate) fn end(
        &mut self,
        part: &str,
        outcome: StepOutcome,
        detail: impl Into<String>,
        began: Instant,
    ) {
        let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.event(&Event::End {
            part: part.to_owned(),
            outcome,
            detail: detail.into(),
            elapsed_ms,
        });
    }

    /// Shows an event of our own or of the daemon's.
    pub(crate) fn event(&mut self, event: &Event) {
        match (self.form, event) {
            (Form::Json, event) => line(&serde_json::to_string(event).unwrap_or_default()),
            (Form::Terminal, Event::Begin { part }) => {
                let style = ProgressStyle::with_template("  {spinner:.cyan} {msg:24} {elapsed:.dim}")
                    .unwrap_or_else(|_| ProgressStyle::default_spinner());
                let bar = ProgressBar::new_spinner()
                    .with_style(style)
                    .with_message(part.clone());
                bar.enable_steady_tick(Duration::from_millis(100));
                self.current = Some((bar, Instant::now()));
            }
            (
                _,
                Event::End {
                    part,
                    outcome,
                    detail,
                    elapsed_ms,
                },
            ) => {
                self.clear();
                let sign = if *outcome == StepOutcome::Changed {
                    "✓"
                } else {
                    "·"
                };
                let seconds = Duration::from_millis(*elapsed_ms).as_secs_f64();
                line(&format!("  {sign} {part:NAME_WIDTH$} {seconds:>6.2} s  {detail}"));
            }
            (_, Event::Failed(fault)) => {
                self.clear();
                line(&format!("  ✗ {}", fault.part));
            }
            (_, Event::Blocked { environment, .. }) => {
                self.clear();
                line(&format!("  ✗ gates {environment}"));
            }
            (_, Event::Superseded { deployment, by }) => {
                self.clear();
                line(&format!("  ✗ {deployment} superseded by {by}"));
            }
            (Form::Lines, Event::Begin { .. })
            | (_, Event::Done { .. } | Event::Live { .. } | Event::Removed { .. }) => {}
        }
    }

    /// A last word for people; with JSON the events have said it.
    pub(crate) fn say(&self, text: &str) {
        if self.form != Form::Json {
            line(text);
        }
    }

    /// Takes an unfinished spinner away.
    pub(crate) fn clear(&mut self) {
        if let Some((bar, _)) = self.current.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// One line to standard output; a closed pipe is the reader's choice, not an error.
pub(crate) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
        .ok();
}
