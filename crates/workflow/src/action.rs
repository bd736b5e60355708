//! `action.yml`: what an action takes, gives and runs.
//!
//! <https://docs.github.com/actions/reference/workflows-and-actions/metadata-syntax>

use crate::diagnostic::{Diagnostic, Place};
use crate::file::read_action;
use crate::model::Step;
use crate::template::Template;

/// An action's metadata.
#[derive(Debug, Clone)]
pub struct Action {
    /// The file, as the caller named it.
    pub file: String,
    /// Its name.
    pub name: String,
    /// What it takes.
    pub inputs: Vec<ActionInput>,
    /// What it gives. Those of a composite action have a value; those of others are set as it runs.
    pub outputs: Vec<ActionOutput>,
    /// What it runs.
    pub runs: Runs,
}

/// An input of an action.
#[derive(Debug, Clone)]
pub struct ActionInput {
    /// Its key.
    pub name: String,
    /// Whether its author says that it must be given. GitHub does not enforce it.
    pub required: bool,
    /// What it is otherwise: a string.
    pub default: Option<Template>,
    /// Why it should not be used any more.
    pub deprecated: Option<String>,
}

/// An output of an action.
#[derive(Debug, Clone)]
pub struct ActionOutput {
    /// Its key.
    pub name: String,
    /// Of a composite action.
    pub value: Option<Template>,
}

/// What an action runs.
#[derive(Debug, Clone)]
pub enum Runs {
    /// JavaScript on Node.
    Node {
        /// Major version: 20 in `node20`.
        version: u32,
        /// Files, from the action's folder.
        main: String,
        /// Before all steps of the job.
        pre: Option<Hook>,
        /// After all steps of the job.
        post: Option<Hook>,
    },
    /// Steps.
    Composite {
        /// Each with a shell where it runs a script.
        steps: Vec<Step>,
    },
    /// A container.
    Docker {
        /// `Dockerfile` or `docker://IMAGE`.
        image: String,
    },
}

/// A file that runs before or after all steps.
#[derive(Debug, Clone)]
pub struct Hook {
    /// From the action's folder.
    pub file: String,
    /// When; always where the action says nothing.
    pub condition: Option<String>,
    /// Where the condition stands.
    pub place: Place,
}

/// Reads an action's metadata; all errors come at once.
pub fn parse(file: &str, text: &str) -> Result<Action, Vec<Diagnostic>> {
    read_action(file, text)
}
