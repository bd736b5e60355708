//! One job: its folders, its contexts, its steps, and what comes after them.

use super::contexts::{self, Github};
use super::given::{self, Given};
use super::legs::Leg;
use super::post::Post;
use super::scope::{StepFunctions, object};
use super::{Shared, millis, write};
use crate::confined::Confined;
use crate::control::{DeployAccess, JobNotice};
use crate::event::{Annotation, Conclusion, JobReport, Level, RunEvent, StepReport};
use crate::proxy::{self, Proxy};
use crate::sandbox::{COMMANDS, HOME, Sandbox, TEMP};
use astraler_workflow::expression::{Contexts, Object, Scope, Value};
use astraler_workflow::{Environment, RunDefaults, TemplateError};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a job that is cancelled may clean up.
const CLEAN_UP: Duration = Duration::from_secs(300);
/// Longest job where nobody says it.
const DEFAULT_MINUTES: f64 = 360.0;

/// A job that runs.
pub(crate) struct Job {
    pub(crate) shared: Arc<Shared>,
    pub(super) leg: Leg,
    pub(super) secrets: BTreeMap<String, String>,
    pub(super) vars: BTreeMap<String, String>,
    pub(super) environment: Option<Environment>,
    /// Where its environment is seen, if the workflow does not say it.
    url: Option<String>,
    /// What every step has in its environment: of the workflow, the job, and the steps before.
    pub(crate) env: BTreeMap<String, String>,
    /// Folders that steps put before the path, the last one first.
    pub(crate) paths: Vec<String>,
    pub(super) status: Conclusion,
    pub(crate) sandbox: Sandbox,
    pub(crate) confined: Confined,
    pub(crate) workspace: String,
    pub(crate) posts: Vec<Post>,
    /// Place of the step that runs, from 1.
    pub(crate) number: u32,
    pub(super) counter: u32,
    pub(super) cancel: CancellationToken,
    pub(super) timed_out: Arc<AtomicBool>,
    pub(super) clean_up_until: Option<Instant>,
    pub(super) deadline: Instant,
    pub(super) defaults: RunDefaults,
    pub(super) reports: Vec<StepReport>,
    refused: mpsc::UnboundedReceiver<String>,
    _proxy: Proxy,
    base: BTreeMap<String, String>,
}

/// Steps that belong together: those of a job, or of a composite action.
pub(crate) struct Frame {
    pub(super) steps: Object,
    pub(super) inputs: Value,
    pub(super) action_path: Option<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) status: Conclusion,
    pub(super) depth: usize,
}

/// How a job ended, for the jobs after it.
#[derive(Debug, Clone)]
pub(super) struct Result {
    pub(super) conclusion: Conclusion,
    pub(super) outputs: BTreeMap<String, String>,
}

/// Runs a job. What cannot be set up fails it, in words.
pub(super) async fn run(shared: Arc<Shared>, leg: Leg, cancel: CancellationToken) -> Result {
    let begun = std::time::Instant::now();
    shared
        .send(RunEvent::JobStarted {
            job: leg.key.clone(),
            name: leg.name.clone(),
        })
        .await;
    let mut report = JobReport {
        key: leg.key.clone(),
        id: leg.job().id.clone(),
        name: leg.name.clone(),
        workflow: leg.workflow.file.clone(),
        conclusion: Conclusion::Failure,
        allowed_to_fail: leg.continue_on_error,
        environment: None,
        url: None,
        outputs: BTreeMap::new(),
        steps: vec![],
        duration_ms: 0,
    };
    let key = leg.key.clone();
    let (number, folder) = shared.next_job();
    let at = folder.clone();
    let environment = given::environment(&shared, &leg);
    let mut notice = None;
    if let Ok(Some(environment)) = &environment {
        report.environment = Some(environment.name.clone());
        notice = Some(JobNotice {
            number,
            key: key.clone(),
            environment: environment.name.clone(),
        });
    }
    let access = given::ask(&shared, notice.as_ref(), &cancel).await;
    let ready = environment.and_then(|environment| Ok((environment, access?)));
    match ready.and_then(|(environment, access)| Job::new(&shared, leg, folder, environment, access, cancel))
    {
        Ok(mut job) => {
            job.run().await;
            let (conclusion, outputs, url) = job.end().await;
            report.conclusion = conclusion;
            report.outputs = outputs;
            report.url = url;
            report.steps = std::mem::take(&mut job.reports);
            drop(job);
        }
        Err(message) => {
            let message = shared.masks.apply(&message).into_owned();
            shared
                .send(RunEvent::Log {
                    job: key.clone(),
                    step: 0,
                    line: format!("##[error]{message}"),
                })
                .await;
            shared
                .send(RunEvent::Annotation {
                    job: key,
                    annotation: Annotation::new(Level::Error, message),
                })
                .await;
        }
    }
    shared.sweep(at);
    if let Some(notice) = &notice {
        shared.deploys.ended(notice).await;
    }
    report.duration_ms = millis(begun);
    let result = Result {
        conclusion: report.conclusion,
        outputs: report.outputs.clone(),
    };
    shared.send(RunEvent::JobEnded { report }).await;
    result
}

impl Job {
    fn new(
        shared: &Arc<Shared>,
        leg: Leg,
        folder: PathBuf,
        environment: Option<Environment>,
        access: Option<DeployAccess>,
        cancel: CancellationToken,
    ) -> std::result::Result<Self, String> {
        let spec = &shared.spec;
        let name = spec.event.repository.rsplit('/').next().unwrap_or("work");
        let workspace = format!("{HOME}/work/{name}/{name}");
        let confined = Confined {
            roots: vec![
                (HOME.to_owned(), folder.join("home")),
                ("/tmp".to_owned(), folder.join("tmp")),
                (COMMANDS.to_owned(), folder.join("commands")),
            ],
        };
        let said = |error: io::Error| format!("the folders of the job cannot be made: {error}");
        for name in ["home", "tmp", "commands", "scripts"] {
            crate::work::make(&folder.join(name)).map_err(said)?;
        }
        for inside in [workspace.as_str(), TEMP] {
            confined.make_dir(inside).map_err(said)?;
        }
        let payload = serde_json::to_vec_pretty(&spec.event.payload).unwrap_or_default();
        write(&folder.join("event.json"), &payload).map_err(said)?;
        let base_scope = leg.contexts(shared);
        let functions = leg.functions();
        let scope = Scope {
            contexts: &base_scope,
            functions: &functions,
        };
        let wrong = |error: TemplateError| format!("{} {error}", leg.workflow.file);
        let of = environment.as_ref().map(|environment| environment.name.as_str());
        let Given {
            binds,
            base,
            vars,
            secrets,
            reach,
            url,
        } = Given::of(shared, &leg, of, access, &folder)?;
        let ports = reach.ports.clone();
        let (told, refused) = mpsc::unbounded_channel();
        let proxy = proxy::start(&folder.join("proxy.sock"), reach, told)
            .map_err(|error| format!("the job's proxy cannot be started: {error}"))?;
        let sandbox = Sandbox {
            tools: spec.tools.clone(),
            limits: spec.limits.clone(),
            etc: shared.folder.join("etc"),
            repository: spec.source.repository.clone(),
            tool_cache: spec.folders.tool_cache.clone(),
            folder,
            binds,
            ports,
        };
        let minutes = match &leg.job().timeout_minutes {
            Some(template) => template.number(&scope).map_err(wrong)?,
            None => DEFAULT_MINUTES,
        };
        let minutes = minutes.clamp(0.0, f64::from(spec.limits.job_timeout_minutes));
        let mut time = Duration::from_secs_f64(minutes * 60.0);
        if leg.cleans_up {
            time = time.min(CLEAN_UP);
        }
        let deadline = Instant::now() + time;
        let mut job = Self {
            env: BTreeMap::new(),
            paths: vec![],
            status: Conclusion::Success,
            posts: vec![],
            number: 0,
            counter: 0,
            timed_out: Arc::default(),
            clean_up_until: None,
            defaults: RunDefaults::default(),
            reports: vec![],
            _proxy: proxy,
            shared: Arc::clone(shared),
            leg,
            secrets,
            vars,
            environment,
            url,
            sandbox,
            confined,
            workspace,
            cancel,
            deadline,
            refused,
            base,
        };
        job.evaluate_env()
            .map_err(|error| format!("{} {error}", job.leg.workflow.file))?;
        Ok(job)
    }

    /// `env` of the workflow and the job, and `defaults` of both.
    fn evaluate_env(&mut self) -> std::result::Result<(), TemplateError> {
        let workflow = Arc::clone(&self.leg.workflow);
        let frame = Frame::of_job(self.leg.inputs.clone());
        for template in [&workflow.env, &self.leg.job().env.clone()].into_iter().flatten() {
            let contexts = self.contexts(&frame, &self.env, "");
            let functions = self.functions(&frame);
            let scope = Scope {
                contexts: &contexts,
                functions: &functions,
            };
            let found = template.string_map(&scope)?;
            self.env.extend(found);
        }
        for template in [&workflow.defaults, &self.leg.job().defaults.clone()]
            .into_iter()
            .flatten()
        {
            let contexts = self.contexts(&frame, &self.env, "");
            let functions = self.functions(&frame);
            let found = template.run_defaults(&Scope {
                contexts: &contexts,
                functions: &functions,
            })?;
            self.defaults.shell = found.shell.or(self.defaults.shell.take());
            self.defaults.working_directory =
                found.working_directory.or(self.defaults.working_directory.take());
        }
        Ok(())
    }

    async fn run(&mut self) {
        let (token, timed_out, deadline) = (self.cancel.clone(), Arc::clone(&self.timed_out), self.deadline);
        let timer = tokio::spawn(async move {
            tokio::time::sleep_until(deadline).await;
            timed_out.store(true, Ordering::SeqCst);
            token.cancel();
        });
        let mut frame = Frame::of_job(self.leg.inputs.clone());
        let workflow = Arc::clone(&self.leg.workflow);
        let steps = &workflow.jobs[self.leg.index].steps;
        self.steps(&mut frame, steps).await;
        self.post().await;
        timer.abort();
        if self.timed_out.load(Ordering::SeqCst) {
            let text = "the job has used up its time (timeout-minutes, or pipeline.job_timeout_minutes)";
            self.say(&format!("##[error]{text}")).await;
            self.annotate(Annotation::new(Level::Error, text)).await;
        }
        self.leg.steps = frame.steps;
    }

    /// How it ended, its outputs, and where its environment can be seen.
    async fn end(&mut self) -> (Conclusion, BTreeMap<String, String>, Option<String>) {
        let mut conclusion = self.status;
        if self.timed_out.load(Ordering::SeqCst) {
            conclusion = Conclusion::Failure;
        }
        let mut frame = Frame::of_job(self.leg.inputs.clone());
        frame.steps = std::mem::take(&mut self.leg.steps);
        // What is borrowed for the evaluation must not be held while events are sent.
        let (outputs, url) = {
            let contexts = self.contexts(&frame, &self.env, "");
            let functions = self.functions(&frame);
            let scope = Scope {
                contexts: &contexts,
                functions: &functions,
            };
            let outputs = match &self.leg.job().outputs {
                Some(template) => template.string_map(&scope),
                None => Ok(vec![]),
            };
            let url = match self
                .environment
                .as_ref()
                .and_then(|environment| environment.url.as_ref())
            {
                Some(template) => template.string(&scope).ok().filter(|url| !url.is_empty()),
                None => None,
            };
            (outputs, url)
        };
        let url = url.or_else(|| self.url.clone());
        let url = url.map(|url| self.shared.masks.apply(&url).into_owned());
        let mut kept = BTreeMap::new();
        match outputs {
            Ok(outputs) => {
                for (name, value) in outputs {
                    if self.shared.masks.finds(&value) {
                        self.say(&format!(
                            "##[warning]Skip output '{name}' since it may contain secret."
                        ))
                        .await;
                    } else {
                        kept.insert(name, value);
                    }
                }
            }
            Err(error) => {
                self.say(&format!("##[error]{} {error}", self.leg.workflow.file))
                    .await;
                conclusion = Conclusion::Failure;
            }
        }
        (conclusion, kept, url)
    }

    /// The contexts of a step; `action` is its id.
    pub(super) fn contexts(&self, frame: &Frame, env: &BTreeMap<String, String>, action: &str) -> Contexts {
        let spec = &self.shared.spec;
        let mut all = self.leg.contexts(&self.shared);
        all.insert("github", contexts::github(spec, &self.github(frame, action)));
        let mut variables = Object::case_sensitive();
        for (name, value) in env {
            variables.insert(name.clone(), Value::String(value.clone()));
        }
        all.insert("env", Value::from(variables));
        all.insert("vars", object(&self.vars));
        all.insert("secrets", object(&self.secrets));
        all.insert("inputs", frame.inputs.clone());
        all.insert("steps", Value::from(frame.steps.clone()));
        all.insert("runner", contexts::runner());
        all.insert(
            "job",
            Value::object([("status", self.status.word())].map(|(name, word)| (name, Value::from(word)))),
        );
        all
    }

    fn github<'a>(&'a self, frame: &'a Frame, action: &'a str) -> Github<'a> {
        Github {
            workflow: self
                .leg
                .workflow
                .name
                .as_deref()
                .unwrap_or(&self.leg.workflow.file),
            file: &self.leg.workflow.file,
            job: &self.leg.job().id,
            workspace: &self.workspace,
            action,
            action_path: frame.action_path.as_deref(),
        }
    }

    /// The functions of a step.
    pub(super) fn functions(&self, frame: &Frame) -> StepFunctions<'_> {
        StepFunctions {
            status: if self.status == Conclusion::Cancelled {
                self.status
            } else {
                frame.status
            },
            confined: &self.confined,
            workspace: &self.workspace,
        }
    }

    /// The environment of a program of a step.
    pub(crate) fn environment(
        &self,
        frame: &Frame,
        env: &BTreeMap<String, String>,
        action: &str,
    ) -> BTreeMap<String, String> {
        let mut all = self.base.clone();
        all.extend(env.iter().map(|(name, value)| (name.clone(), value.clone())));
        all.extend(contexts::variables(
            &self.shared.spec,
            &self.github(frame, action),
        ));
        let path = env
            .get("PATH")
            .cloned()
            .or_else(|| self.base.get("PATH").cloned())
            .unwrap_or_default();
        let mut paths = self.paths.clone();
        paths.push(path);
        all.insert("PATH".into(), paths.join(":"));
        all
    }

    /// How long a step may take: what is left of the job, or of the time to clean up.
    pub(super) fn time_left(&mut self) -> Duration {
        let until = if self.status == Conclusion::Cancelled {
            *self
                .clean_up_until
                .get_or_insert_with(|| Instant::now() + CLEAN_UP)
        } else {
            self.deadline + CLEAN_UP
        };
        until.saturating_duration_since(Instant::now())
    }

    /// Notices that the job was cancelled.
    pub(super) fn look(&mut self) {
        if self.cancel.is_cancelled() && self.status != Conclusion::Cancelled {
            self.status = Conclusion::Cancelled;
        }
    }

    /// A line of the log of the step that runs.
    pub(crate) async fn say(&self, line: &str) {
        for line in line.lines() {
            let event = RunEvent::Log {
                job: self.leg.key.clone(),
                step: self.number,
                line: self.shared.masks.apply(line).into_owned(),
            };
            self.shared.send(event).await;
        }
    }

    pub(crate) async fn annotate(&self, mut annotation: Annotation) {
        annotation.message = self.shared.masks.apply(&annotation.message).into_owned();
        let event = RunEvent::Annotation {
            job: self.leg.key.clone(),
            annotation,
        };
        self.shared.send(event).await;
    }

    /// Names the hosts that the network refused.
    pub(super) async fn name_refused(&mut self) {
        while let Ok(host) = self.refused.try_recv() {
            let text = format!(
                "the network of jobs leads to the registries alone: {host} was refused; pipeline.registries in astraler.toml may name it"
            );
            self.say(&format!("##[warning]{text}")).await;
            self.annotate(Annotation::new(Level::Warning, text)).await;
        }
    }

    pub(super) fn key(&self) -> &str {
        &self.leg.key
    }
}

impl Frame {
    pub(super) fn of_job(inputs: Value) -> Self {
        Self {
            steps: Object::default(),
            inputs,
            action_path: None,
            env: BTreeMap::new(),
            status: Conclusion::Success,
            depth: 0,
        }
    }
}
