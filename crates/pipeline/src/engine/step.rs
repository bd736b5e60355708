//! One step: its condition, what it runs, and what it leaves behind.

use super::job::{Frame, Job};
use super::line::Reader;
use super::{millis, plan, shell, write};
use crate::action;
use crate::event::{Annotation, Conclusion, Level, RunEvent, StepReport};
use crate::file_command;
use crate::sandbox::{COMMANDS, Ended, Program, SCRIPTS};
use astraler_workflow::expression::{Contexts, Object, Scope, Value};
use astraler_workflow::{Runs, Step, StepAction, Template, TemplateError};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Lines of output that wait for whoever listens.
const MAX_WAITING: usize = 1024;
/// Most text of all outputs of a step.
const MAX_OUTPUTS: usize = 1 << 20;

/// Why a step failed, in words; none where the log has said it.
#[derive(Debug)]
pub(crate) enum Failed {
    Said,
    Because(String),
    Cancelled,
}

impl From<String> for Failed {
    fn from(message: String) -> Self {
        Self::Because(message)
    }
}

/// What a step leaves for the steps after it.
type Outputs = BTreeMap<String, String>;
type Done = Result<Outputs, Failed>;

struct Prepared {
    /// The environment of this step: of the job, the composite action around it, and its own.
    env: BTreeMap<String, String>,
    most: Duration,
    continue_on_error: bool,
}

impl Job {
    /// Runs steps in order.
    pub(super) fn steps<'a>(
        &'a mut self,
        frame: &'a mut Frame,
        steps: &'a [Step],
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            for step in steps {
                self.step(frame, step).await;
            }
        })
    }

    async fn step(&mut self, frame: &mut Frame, step: &Step) {
        self.look();
        let top = frame.depth == 0;
        if top {
            self.number += 1;
        }
        let begun = std::time::Instant::now();
        let mut env = self.env.clone();
        env.extend(frame.env.clone());
        let wanted = self.with(frame, &env, step, |scope| {
            let held = step.condition.expression.evaluate(scope);
            held.map(|value| value.is_truthy()).map_err(|error| error.message)
        });
        let name = self.name(frame, &env, step);
        if let Ok(false) = wanted {
            record(
                frame,
                step,
                Conclusion::Skipped,
                Conclusion::Skipped,
                &Outputs::new(),
            );
            if top {
                self.report(name, Conclusion::Skipped, Conclusion::Skipped, begun)
                    .await;
            }
            return;
        }
        if top {
            let event = RunEvent::StepStarted {
                job: self.key().to_owned(),
                step: self.number,
                name: name.clone(),
            };
            self.shared.send(event).await;
        }
        let mut continue_on_error = false;
        let done: Done = match wanted {
            Err(message) => Err(format!("{} (`if` of {name}): {message}", self.leg.workflow.file).into()),
            Ok(_) => match self.prepare(frame, &env, step) {
                Err(error) => Err(format!("{} {error}", self.leg.workflow.file).into()),
                Ok(prepared) => {
                    continue_on_error = prepared.continue_on_error;
                    self.act(frame, step, prepared).await
                }
            },
        };
        self.name_refused().await;
        let (outcome, outputs) = match done {
            Ok(outputs) => (Conclusion::Success, outputs),
            Err(Failed::Cancelled) => {
                self.look();
                (Conclusion::Cancelled, Outputs::new())
            }
            Err(Failed::Said) => (Conclusion::Failure, Outputs::new()),
            Err(Failed::Because(message)) => {
                self.say(&format!("##[error]{message}")).await;
                self.annotate(Annotation::new(Level::Error, format!("{name}: {message}")))
                    .await;
                (Conclusion::Failure, Outputs::new())
            }
        };
        // A failed step's outputs count too: they were read before it was known.
        let outputs = if outputs.is_empty() {
            std::mem::take(&mut self.leg.last_outputs)
        } else {
            outputs
        };
        let conclusion = if outcome == Conclusion::Failure && continue_on_error {
            Conclusion::Success
        } else {
            outcome
        };
        record(frame, step, outcome, conclusion, &outputs);
        if conclusion == Conclusion::Failure && frame.status == Conclusion::Success {
            frame.status = Conclusion::Failure;
        }
        if top {
            if self.status == Conclusion::Success {
                self.status = frame.status;
            }
            self.report(name, outcome, conclusion, begun).await;
        }
    }

    pub(super) async fn report(
        &mut self,
        name: String,
        outcome: Conclusion,
        conclusion: Conclusion,
        begun: std::time::Instant,
    ) {
        let report = StepReport {
            number: self.number,
            name,
            outcome,
            conclusion,
            duration_ms: millis(begun),
        };
        self.reports.push(report.clone());
        let event = RunEvent::StepEnded {
            job: self.key().to_owned(),
            report: report.clone(),
        };
        self.shared.send(event).await;
        self.shared.step_ended(&self.leg, &report).await;
    }

    /// Evaluates something of a step.
    fn with<T>(
        &self,
        frame: &Frame,
        env: &BTreeMap<String, String>,
        step: &Step,
        work: impl FnOnce(&Scope<'_>) -> T,
    ) -> T {
        let contexts: Contexts = self.contexts(frame, env, &step.id);
        let functions = self.functions(frame);
        work(&Scope {
            contexts: &contexts,
            functions: &functions,
        })
    }

    /// The name of a step, or what GitHub shows instead.
    fn name(&self, frame: &Frame, env: &BTreeMap<String, String>, step: &Step) -> String {
        let text = |template: &Template| self.with(frame, env, step, |scope| template.string(scope)).ok();
        let named = step
            .name
            .as_ref()
            .and_then(text)
            .filter(|name| !name.trim().is_empty());
        let name = named.unwrap_or_else(|| match &step.action {
            StepAction::Run { script, .. } => {
                let script = text(script).unwrap_or_default();
                format!("Run {}", script.trim().lines().next().unwrap_or_default())
            }
            StepAction::Uses { action, .. } => format!("Run {action}"),
        });
        self.shared.masks.apply(&name).into_owned()
    }

    fn prepare(
        &mut self,
        frame: &Frame,
        env: &BTreeMap<String, String>,
        step: &Step,
    ) -> Result<Prepared, TemplateError> {
        let mut env = env.clone();
        if let Some(template) = &step.env {
            let own = self.with(frame, &env, step, |scope| template.string_map(scope))?;
            env.extend(own);
        }
        let minutes = match &step.timeout_minutes {
            Some(template) => Some(self.with(frame, &env, step, |scope| template.number(scope))?),
            None => None,
        };
        let continue_on_error = match &step.continue_on_error {
            Some(template) => self.with(frame, &env, step, |scope| template.boolean(scope))?,
            None => false,
        };
        let left = self.time_left();
        let most = minutes.map_or(left, |minutes| {
            Duration::try_from_secs_f64(minutes * 60.0)
                .unwrap_or(left)
                .min(left)
        });
        Ok(Prepared {
            env,
            most,
            continue_on_error,
        })
    }

    async fn act(&mut self, frame: &mut Frame, step: &Step, prepared: Prepared) -> Done {
        match &step.action {
            StepAction::Run {
                script,
                shell,
                working_directory,
            } => {
                let evaluate = |template: &Template| {
                    self.with(frame, &prepared.env, step, |scope| template.string(scope))
                        .map_err(|error| format!("{} {error}", self.leg.workflow.file))
                };
                let script = evaluate(script)?;
                let shell = shell
                    .as_ref()
                    .map(evaluate)
                    .transpose()?
                    .or_else(|| self.defaults.shell.clone());
                let folder = working_directory.as_ref().map(evaluate).transpose()?;
                let folder = folder.or_else(|| self.defaults.working_directory.clone());
                self.script(
                    frame,
                    step,
                    &prepared,
                    &script,
                    shell.as_deref(),
                    folder.as_deref(),
                )
                .await
            }
            StepAction::Uses { action, with, .. } => {
                let with = match with {
                    Some(with) => self
                        .with(frame, &prepared.env, step, |scope| with.string_map(scope))
                        .map_err(|error| format!("{} {error}", self.leg.workflow.file))?,
                    None => vec![],
                };
                if let Some(native) = plan::native(action) {
                    let inputs = action::Inputs::new(with);
                    let mut context = action::Context {
                        frame,
                        id: &step.id,
                        most: prepared.most,
                        uses: action,
                    };
                    return action::run(self, native, &inputs, &mut context).await;
                }
                self.composite(frame, step, action, with, &prepared).await
            }
        }
    }

    async fn script(
        &mut self,
        frame: &Frame,
        step: &Step,
        prepared: &Prepared,
        script: &str,
        shell: Option<&str>,
        folder: Option<&str>,
    ) -> Done {
        self.counter += 1;
        let file = format!("{}.{}", self.counter, shell::extension(shell));
        let path = self.sandbox.folder.join("scripts").join(&file);
        let said = |error: std::io::Error| Failed::Because(format!("the script cannot be written: {error}"));
        write(&path, script.as_bytes()).map_err(said)?;
        let argv = shell::command(shell, &format!("{SCRIPTS}/{file}"))?;
        for line in script.trim_end().lines().take(20) {
            self.say(&format!("$ {line}")).await;
        }
        let cwd = match folder {
            Some(folder) if folder.starts_with('/') => folder.to_owned(),
            Some(folder) => format!("{}/{folder}", self.workspace),
            None => self.workspace.clone(),
        };
        let program = Program {
            argv,
            env: self.environment(frame, &prepared.env, &step.id),
            cwd,
            writable: None,
        };
        let ended = self.program(program, prepared.most).await;
        std::fs::remove_file(&path).ok();
        let (ended, outputs) = ended?;
        match ended {
            Ended::Exit(0) => Ok(outputs),
            other => {
                self.leg.last_outputs = outputs;
                Err(fault(other, prepared.most))
            }
        }
    }

    /// Runs a program with files for commands, and takes in what it wrote to them.
    async fn program(&mut self, mut program: Program, most: Duration) -> Result<(Ended, Outputs), Failed> {
        self.counter += 1;
        let number = self.counter;
        let name = |kind: &str| format!("{COMMANDS}/{kind}_{number}");
        const KINDS: [(&str, &str); 5] = [
            ("GITHUB_OUTPUT", "output"),
            ("GITHUB_ENV", "env"),
            ("GITHUB_PATH", "path"),
            ("GITHUB_STATE", "state"),
            ("GITHUB_STEP_SUMMARY", "summary"),
        ];
        for (variable, kind) in KINDS {
            let path = self
                .sandbox
                .folder
                .join("commands")
                .join(format!("{kind}_{number}"));
            write(&path, b"").map_err(|error| format!("a file for commands cannot be made: {error}"))?;
            program.env.insert(variable.to_owned(), name(kind));
        }
        let mut reader = Reader {
            job: self.key().to_owned(),
            step: self.number,
            debug: program
                .env
                .get("ACTIONS_STEP_DEBUG")
                .is_some_and(|value| value == "true"),
            ..Reader::default()
        };
        let ended = self.exec(&program, most, &mut reader).await?;
        let mut outputs = std::mem::take(&mut reader.outputs);
        let wrong = |kind: &str, error: &dyn std::fmt::Display| {
            Failed::Because(format!(
                "Unable to process file command '{kind}' successfully: {error}"
            ))
        };
        let read = |kind: &str| {
            let found = self.confined.read(&name(kind), file_command::MAX_FILE);
            found.map_err(|error| wrong(kind, &error))
        };
        let (output, env, path, summary) = (read("output")?, read("env")?, read("path")?, read("summary")?);
        outputs.extend(file_command::pairs(&output).map_err(|error| wrong("output", &error))?);
        for (variable, value) in file_command::pairs(&env).map_err(|error| wrong("env", &error))? {
            if file_command::may_set(&variable) {
                self.env.insert(variable, value);
            } else {
                self.say(&format!(
                    "##[warning]Can't store {variable} output parameter using '$GITHUB_ENV' command."
                ))
                .await;
            }
        }
        for folder in file_command::paths(&path) {
            self.paths.insert(0, folder);
        }
        if !summary.trim().is_empty() {
            let event = RunEvent::Summary {
                job: self.key().to_owned(),
                step: self.number,
                markdown: self.shared.masks.apply(&summary).into_owned(),
            };
            self.shared.send(event).await;
        }
        for (_, kind) in KINDS {
            let path = self
                .sandbox
                .folder
                .join("commands")
                .join(format!("{kind}_{number}"));
            std::fs::remove_file(path).ok();
        }
        if outputs
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum::<usize>()
            > MAX_OUTPUTS
        {
            return Err(format!("the outputs of a step have at most {MAX_OUTPUTS} bytes").into());
        }
        if reader.refused && ended == Ended::Exit(0) {
            return Err(Failed::Said);
        }
        Ok((ended, outputs))
    }

    /// Runs a program in the sandbox; its lines become events as they come.
    pub(crate) async fn exec(
        &mut self,
        program: &Program,
        most: Duration,
        reader: &mut Reader,
    ) -> Result<Ended, Failed> {
        let shared = Arc::clone(&self.shared);
        let token = if self.status == Conclusion::Cancelled {
            // What cleans up is not cancelled again.
            CancellationToken::new()
        } else {
            self.cancel.clone()
        };
        let (out, mut lines) = mpsc::channel::<String>(MAX_WAITING);
        let sandbox = self.sandbox.clone();
        let running = async {
            let ended = sandbox.run(program, most, &token, &shared.masks, &out).await;
            drop(out);
            ended
        };
        let reading = async {
            while let Some(line) = lines.recv().await {
                for event in reader.read(&line, &shared.masks) {
                    shared.send(event).await;
                }
            }
        };
        let (ended, ()) = tokio::join!(running, reading);
        ended.map_err(|error| format!("the sandbox cannot be started: {error}").into())
    }

    /// Runs a program of a native action: its output is the step's, and it must end well.
    pub(crate) async fn tool(&mut self, program: Program, most: Duration) -> Result<(), Failed> {
        let mut reader = Reader {
            job: self.key().to_owned(),
            step: self.number,
            ..Reader::default()
        };
        match self.exec(&program, most, &mut reader).await? {
            Ended::Exit(0) => Ok(()),
            other => Err(fault(other, most)),
        }
    }

    async fn composite(
        &mut self,
        frame: &mut Frame,
        step: &Step,
        uses: &str,
        with: Vec<(String, String)>,
        prepared: &Prepared,
    ) -> Done {
        let Some(action) = self.shared.plan.actions.get(uses).cloned() else {
            return Err(format!("the action {uses} was not there when the run was checked").into());
        };
        let Runs::Composite { steps } = &action.runs else {
            return Err(format!("the action {uses} is not a composite one").into());
        };
        let mut inputs = Object::default();
        for input in &action.inputs {
            let given = with
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(&input.name));
            let value = match (given, &input.default) {
                (Some((_, value)), _) => value.clone(),
                (None, Some(default)) => self
                    .with(frame, &prepared.env, step, |scope| default.string(scope))
                    .map_err(|error| format!("{} {error}", action.file))?,
                (None, None) => {
                    if input.required {
                        self.say(&format!(
                            "##[warning]the input {} of {uses} is required",
                            input.name
                        ))
                        .await;
                    }
                    String::new()
                }
            };
            inputs.insert(input.name.clone(), Value::String(value));
        }
        for (name, _) in &with {
            if !action
                .inputs
                .iter()
                .any(|input| input.name.eq_ignore_ascii_case(name))
            {
                self.say(&format!("##[warning]Unexpected input '{name}' of {uses}"))
                    .await;
            }
        }
        let folder = crate::glob::segments(uses.trim_start_matches("./")).join("/");
        let mut env = frame.env.clone();
        // What the step around it says reaches all its steps; what the job says does anyway.
        env.extend(
            prepared
                .env
                .iter()
                .filter(|(name, value)| self.env.get(*name) != Some(value))
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        let mut own = Frame {
            steps: Object::default(),
            inputs: Value::from(inputs),
            action_path: Some(
                format!("{}/{folder}", self.workspace)
                    .trim_end_matches('/')
                    .to_owned(),
            ),
            env,
            status: Conclusion::Success,
            depth: frame.depth + 1,
        };
        self.steps(&mut own, steps).await;
        let mut outputs = Outputs::new();
        for output in &action.outputs {
            if let Some(template) = &output.value {
                let value = self
                    .with(&own, &prepared.env, step, |scope| template.string(scope))
                    .map_err(|error| format!("{} {error}", action.file))?;
                outputs.insert(output.name.clone(), value);
            }
        }
        self.look();
        match own.status {
            Conclusion::Failure => {
                self.leg.last_outputs = outputs;
                Err(Failed::Said)
            }
            _ if self.status == Conclusion::Cancelled => Err(Failed::Cancelled),
            _ => Ok(outputs),
        }
    }
}

/// Why a program that did not end well did not.
fn fault(ended: Ended, most: Duration) -> Failed {
    match ended {
        Ended::Exit(code) => {
            let why = match code {
                153 => " (a file grew over the limit of the job)",
                137 => " (it was killed: did it need more memory than the run may take?)",
                _ => "",
            };
            Failed::Because(format!("Process completed with exit code {code}.{why}"))
        }
        Ended::TimedOut => Failed::Because(format!(
            "The action has timed out after {:.1} minutes.",
            most.as_secs_f64() / 60.0
        )),
        Ended::Cancelled => Failed::Cancelled,
        Ended::Stopped(why) => Failed::Because(format!("the step was stopped: {why}")),
    }
}

fn record(frame: &mut Frame, step: &Step, outcome: Conclusion, conclusion: Conclusion, outputs: &Outputs) {
    let outputs = Value::object(
        outputs
            .iter()
            .map(|(name, value)| (name.clone(), Value::from(value.as_str()))),
    );
    let entry = Value::object([
        ("outputs", outputs),
        ("outcome", Value::from(outcome.word())),
        ("conclusion", Value::from(conclusion.word())),
    ]);
    frame.steps.insert(step.id.clone(), entry);
}
