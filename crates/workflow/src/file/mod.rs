//! Workflow files: text to [`Workflow`], or everything that is wrong with it.

mod action;
mod convert;
mod ids;
mod lenient;
mod reader;
pub(crate) mod schema;
mod yaml;

pub(crate) use action::read_action;

use crate::diagnostic::{Diagnostic, Place};
use crate::model::{InputKind, Workflow};
use crate::template::{Node, Template};
use yaml::Broken;

/// Longest file, in characters.
pub const MAX_FILE: usize = 1024 * 1024;
/// Most problems that are told of one file.
pub const MAX_PROBLEMS: usize = 1000;

/// How a file is read. The default is what GitHub does, with all of its triggers checked.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether keys under `on` that mean nothing are errors. GitHub takes some of them in silence.
    pub strict_triggers: bool,
    /// Deepest nesting of lists and mappings.
    pub max_depth: usize,
    /// Most bytes that a workflow may take, counted as GitHub counts them.
    pub max_size: usize,
    /// Most jobs, those of called workflows with them; 0 is any number.
    pub max_jobs: usize,
    /// How many calls deep workflows may call workflows.
    pub max_calls: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            strict_triggers: true,
            max_depth: 50,
            max_size: 10 * 1024 * 1024,
            max_jobs: 256,
            max_calls: 9,
        }
    }
}

/// Reads a workflow file. The name is for errors and for [`Workflow::file`]; all errors come at once.
pub fn parse(file: &str, text: &str) -> Result<Workflow, Vec<Diagnostic>> {
    parse_with(file, text, &Options::default())
}

/// [`parse`] with options.
pub fn parse_with(file: &str, text: &str, options: &Options) -> Result<Workflow, Vec<Diagnostic>> {
    let mut workflow = read(file, text, options, &mut Budget::new(options))?;
    workflow.propagate_permissions();
    count_jobs(&workflow, options)?;
    Ok(workflow)
}

/// Whether there are too many jobs, those of called workflows with them.
pub(crate) fn count_jobs(workflow: &Workflow, options: &Options) -> Result<(), Vec<Diagnostic>> {
    fn count(workflow: &Workflow) -> usize {
        let nested = workflow
            .jobs
            .iter()
            .filter_map(|job| job.call.as_ref()?.workflow.as_ref());
        workflow.jobs.len() + nested.map(|workflow| count(workflow)).sum::<usize>()
    }
    if options.max_jobs == 0 || count(workflow) <= options.max_jobs {
        return Ok(());
    }
    Err(vec![Diagnostic {
        file: None,
        place: None,
        message: format!("The workflow may not contain more than {} jobs", options.max_jobs),
        hint: None,
    }])
}

/// Whether a value of a call fits the type of its input; expressions are not known yet.
pub(crate) fn check_call_value(file: &str, value: &Template, kind: InputKind, found: &mut Vec<Diagnostic>) {
    let mut problems = Problems { file, all: vec![] };
    reader::check_literal(value, schema::call_value(kind), &mut problems);
    found.extend(problems.all);
}

/// Reads a file on an account that several files share.
pub(crate) fn read(
    file: &str,
    text: &str,
    options: &Options,
    budget: &mut Budget,
) -> Result<Workflow, Vec<Diagnostic>> {
    let mut problems = Problems { file, all: vec![] };
    if !is_short_enough(text, &mut problems) {
        return Err(problems.all);
    }
    let root = if options.strict_triggers {
        &schema::STRICT_WORKFLOW
    } else {
        &schema::WORKFLOW
    };
    if let Err(Broken { place, message }) = budget.add_text(file) {
        problems.add(place, message);
        return Err(problems.all);
    }
    budget.depth = 0;
    let template = reader::read(text, root, budget, &mut problems);
    let Some(template) = template.filter(|_| problems.all.is_empty()) else {
        return Err(problems.all);
    };
    let workflow = convert::workflow(file, &template, options.strict_triggers, &mut problems);
    match workflow.filter(|_| problems.all.is_empty()) {
        Some(workflow) => Ok(workflow),
        None => Err(problems.all),
    }
}

fn is_short_enough(text: &str, problems: &mut Problems<'_>) -> bool {
    let short = text.chars().nth(MAX_FILE).is_none();
    if !short {
        problems.add(
            None,
            format!("The maximum file size of {MAX_FILE} characters has been exceeded"),
        );
    }
    short
}

/// What is wrong with a file.
pub(crate) struct Problems<'a> {
    file: &'a str,
    all: Vec<Diagnostic>,
}

impl Problems<'_> {
    fn add(&mut self, place: Option<Place>, message: impl Into<String>) {
        if self.all.len() < MAX_PROBLEMS {
            self.all.push(Diagnostic {
                file: Some(self.file.to_owned()),
                place,
                message: message.into(),
                hint: None,
            });
        }
    }

    fn hint(&mut self, hint: &str) {
        if let Some(last) = self.all.last_mut() {
            last.hint = Some(hint.to_owned());
        }
    }
}

/// What a workflow may take. GitHub counts bytes as .NET would use them, which decides what is too large.
pub(crate) struct Budget {
    depth: usize,
    max_depth: usize,
    events: usize,
    bytes: usize,
    max_bytes: usize,
}

impl Budget {
    const OBJECT: usize = 24;
    const TEXT: usize = 26;
    const MAX_EVENTS: usize = 1_000_000;

    pub(crate) fn new(options: &Options) -> Self {
        Self {
            depth: 0,
            max_depth: options.max_depth,
            events: 0,
            bytes: 0,
            max_bytes: options.max_size,
        }
    }

    fn event(&mut self) -> Result<(), Broken> {
        self.events += 1;
        if self.events > Self::MAX_EVENTS {
            return Err(broken("Maximum events exceeded while evaluating the template"));
        }
        Ok(())
    }

    fn descend(&mut self) -> Result<(), Broken> {
        self.depth += 1;
        if self.depth > self.max_depth {
            return Err(broken("Maximum object depth exceeded"));
        }
        Ok(())
    }

    fn ascend(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    fn add(&mut self, node: &Node) -> Result<(), Broken> {
        let text = match node {
            Node::String(text) => Some(text.as_str()),
            Node::Expression(expression) => Some(expression.source()),
            _ => None,
        };
        let text = text.map_or(0, |text| Self::TEXT + 2 * text.encode_utf16().count());
        self.add_bytes(Self::OBJECT + text)
    }

    fn add_text(&mut self, text: &str) -> Result<(), Broken> {
        self.add_bytes(Self::TEXT + 2 * text.encode_utf16().count())
    }

    fn add_bytes(&mut self, bytes: usize) -> Result<(), Broken> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.max_bytes {
            return Err(broken("Maximum object size exceeded"));
        }
        Ok(())
    }
}

fn broken(message: &str) -> Broken {
    Broken {
        place: None,
        message: message.into(),
    }
}

impl Template {
    /// A string that is no expression.
    fn literal(&self) -> Option<&str> {
        match &self.node {
            Node::String(text) => Some(text),
            _ => None,
        }
    }

    fn entries(&self) -> &[(Template, Template)] {
        match &self.node {
            Node::Mapping(entries) => entries,
            _ => &[],
        }
    }

    fn items(&self) -> &[Template] {
        match &self.node {
            Node::Sequence(items) => items,
            _ => &[],
        }
    }

    /// Whether an expression stands in it.
    pub fn has_expression(&self) -> bool {
        match &self.node {
            Node::Expression(_) | Node::Insert => true,
            Node::Sequence(items) => items.iter().any(Self::has_expression),
            Node::Mapping(entries) => {
                let mut all = entries.iter();
                all.any(|(key, value)| key.has_expression() || value.has_expression())
            }
            _ => false,
        }
    }
}
