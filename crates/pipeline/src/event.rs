//! What a run says while it works, and at its end.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Conclusion {
    /// It did what it should.
    Success,
    /// It did not.
    Failure,
    /// It was told to end.
    Cancelled,
    /// Its condition did not hold.
    Skipped,
}

/// One thing that happened. As JSON: one object a line, its kind in `type`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RunEvent {
    /// A run begins.
    RunStarted {
        /// Its id.
        run: String,
        /// What keeps steps apart from the machine, in words.
        isolation: Vec<String>,
    },
    /// A job begins.
    JobStarted {
        /// Its key: the id, with what tells apart a matrix.
        job: String,
        /// Its name.
        name: String,
    },
    /// A step begins.
    StepStarted {
        /// Key of the job.
        job: String,
        /// Its place in the job, from 1.
        step: u32,
        /// Its name.
        name: String,
    },
    /// A line of output, without secrets.
    Log {
        /// Key of the job; empty for the run's own words.
        job: String,
        /// Place of the step; 0 for the job's own words.
        step: u32,
        /// Without its end of line.
        line: String,
    },
    /// A notice, warning or error.
    Annotation {
        /// Key of the job.
        job: String,
        /// What it says.
        annotation: Annotation,
    },
    /// What a step wrote to its summary.
    Summary {
        /// Key of the job.
        job: String,
        /// Place of the step.
        step: u32,
        /// Markdown.
        markdown: String,
    },
    /// A step ended.
    StepEnded {
        /// Key of the job.
        job: String,
        /// How.
        report: StepReport,
    },
    /// A job ended.
    JobEnded {
        /// How.
        report: JobReport,
    },
    /// Gates came to their end: all jobs, or steps, of their names have ended.
    Gates {
        /// How they stand. Coverage is told at the end of the run.
        gates: Vec<GateReport>,
    },
    /// The run ended.
    RunEnded {
        /// How.
        report: Box<RunReport>,
    },
}

/// How loud an annotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Good to know.
    Notice,
    /// Somebody should look.
    Warning,
    /// Something failed.
    Error,
}

/// A notice, warning or error, of a step or of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotation {
    /// How loud.
    pub level: Level,
    /// What it says.
    pub message: String,
    /// Its heading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The file that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Line in the file, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Last line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_line: Option<u32>,
    /// Column, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Its place in the job, from 1.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// Before `continue-on-error`.
    pub outcome: Conclusion,
    /// After it.
    pub conclusion: Conclusion,
    /// How long it took.
    pub duration_ms: u64,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobReport {
    /// Its key: the id, with what tells apart a matrix.
    pub key: String,
    /// Its id in the workflow.
    pub id: String,
    /// Its name.
    pub name: String,
    /// File of its workflow.
    pub workflow: String,
    /// How it ended.
    pub conclusion: Conclusion,
    /// It failed, and `continue-on-error` says that this does not matter.
    pub allowed_to_fail: bool,
    /// Its `environment:`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Where the environment can be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Its outputs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, String>,
    /// Its steps.
    pub steps: Vec<StepReport>,
    /// How long it took.
    pub duration_ms: u64,
}

/// What a report of coverage says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    /// The file, in the workspace.
    pub file: String,
    /// Lines that can be covered.
    pub lines: u64,
    /// Of these, how many were.
    pub covered: u64,
}

/// The state of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GateState {
    /// Passed.
    Passed,
    /// Failed: it blocks, unless it only warns.
    Failed,
    /// The run did not come to it.
    Skipped,
    /// No job or step of the run is this gate.
    Missing,
}

/// One gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateReport {
    /// Its name in the manifest.
    pub name: String,
    /// How it stands.
    pub state: GateState,
    /// Whether a failure blocks what comes after.
    pub blocking: bool,
    /// Which jobs or steps, or what was measured.
    pub detail: String,
    /// How long it took.
    pub duration_ms: u64,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// Its id.
    pub run: String,
    /// How it ended.
    pub conclusion: Conclusion,
    /// Its jobs, in the order in which they ended.
    pub jobs: Vec<JobReport>,
    /// Its gates, in the order of the manifest.
    pub gates: Vec<GateReport>,
    /// Its notices, warnings and errors; at most [`RunReport::MAX_ANNOTATIONS`].
    pub annotations: Vec<Annotation>,
    /// What was measured.
    pub coverage: Vec<Coverage>,
    /// Names of its artifacts.
    pub artifacts: Vec<String>,
    /// How long it took.
    pub duration_ms: u64,
}

impl RunReport {
    /// Most annotations that a report keeps.
    pub const MAX_ANNOTATIONS: usize = 200;

    /// Whether every blocking gate that the run has stands open.
    pub fn gates_passed(&self) -> bool {
        let mut all = self.gates.iter();
        all.all(|gate| !gate.blocking || matches!(gate.state, GateState::Passed | GateState::Missing))
    }
}

impl Conclusion {
    /// As GitHub writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }
}

impl Annotation {
    /// One without a place.
    pub fn new(level: Level, message: impl Into<String>) -> Self {
        Self {
            level,
            message: message.into(),
            title: None,
            file: None,
            line: None,
            end_line: None,
            column: None,
        }
    }
}
