//! One job: its folders, its contexts, its steps, and what comes after them.

use super::contexts::{self, Github};
use super::graph::Leg;
use super::post::Post;
use super::scope::{StepFunctions, object};
use super::{Shared, millis, write};
use crate::confined::Confined;
use crate::event::{Annotation, Conclusion, JobReport, Level, RunEvent, StepReport};
use crate::proxy::{self, Proxy, Reach};
use crate::registry;
use crate::sandbox::{COMMANDS, HOME, Sandbox, TEMP};
use astraler_workflow::expression::{Contexts, Object, Scope, Value};
use astraler_workflow::{RunDefaults, TemplateError};
use std::collections::BTreeMap;
use std::io::{self, Read};
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
const MAX_TOKEN: u64 = 64 << 10;
const DEPLOY_SOCKET: &str = "/run/astraler/deploy.sock";
const DEPLOY_TOKEN: &str = "/run/astraler/deploy.token";

/// A job that runs.
pub(crate) struct Job {
    pub(crate) shared: Arc<Shared>,
    pub(super) leg: Leg,
    pub(super) secrets: BTreeMap<String, String>,
    pub(super) vars: BTreeMap<String, String>,
    pub(super) environment: Option<astraler_workflow::Environment>,
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
    match Job::new(&shared, leg, cancel) {
        Ok(mut job) => {
            report.environment = job
                .environment
                .as_ref()
                .map(|environment| environment.name.clone());
            job.run().await;
            let (conclusion, outputs, url) = job.end().await;
            report.conclusion = conclusion;
            report.outputs = outputs;
            report.url = url;
            report.steps = std::mem::take(&mut job.reports);
            let folder = job.sandbox.folder.clone();
            drop(job);
            // The next job may need the space.
            tokio::task::spawn_blocking(move || crate::work::remove(&folder))
                .await
                .ok();
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
    report.duration_ms = millis(begun);
    let result = Result {
        conclusion: report.conclusion,
        outputs: report.outputs.clone(),
    };
    shared.send(RunEvent::JobEnded { report }).await;
    result
}

impl Job {
    fn new(shared: &Arc<Shared>, leg: Leg, cancel: CancellationToken) -> std::result::Result<Self, String> {
        let spec = &shared.spec;
        let folder = shared.next_folder();
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
        let mut binds = Vec::new();
        let base_scope = leg.contexts(shared);
        let functions = leg.functions();
        let scope = Scope {
            contexts: &base_scope,
            functions: &functions,
        };
        let wrong = |error: TemplateError| format!("{} {error}", leg.workflow.file);
        let environment = match &leg.job().environment {
            Some(template) => template.environment(&scope).map_err(wrong)?,
            None => None,
        };
        let of = environment.as_ref().map(|environment| environment.name.as_str());
        let mut secrets = leg.secrets.clone().unwrap_or_else(|| spec.secrets.of(of));
        let mut vars = spec.vars.of(of);
        let mut base = base_environment(shared);
        let mut ports = vec![];
        if let Some(of) = of {
            ports.clone_from(&spec.ports);
            if let Some(access) = shared.deploys.access(&leg.key, of)? {
                let unreadable = |error| format!("the job's token cannot be read: {error}");
                let mut token = String::new();
                let file = std::fs::File::open(&access.token_file).map_err(unreadable)?;
                file.take(MAX_TOKEN)
                    .read_to_string(&mut token)
                    .map_err(unreadable)?;
                let token = token.trim().to_owned();
                shared.masks.add([token.as_str()]);
                let own = folder.join("deploy.token");
                write(&own, token.as_bytes()).map_err(said)?;
                binds.push((access.socket, DEPLOY_SOCKET.to_owned()));
                binds.push((own, DEPLOY_TOKEN.to_owned()));
                let url = format!("unix:{DEPLOY_SOCKET}");
                base.insert("ASTRALER_SOCKET".into(), DEPLOY_SOCKET.into());
                base.insert("ASTRALER_TOKEN_FILE".into(), DEPLOY_TOKEN.into());
                // The names that workflows for GitHub's runners use.
                vars.entry("ASTRALER_URL".into()).or_insert_with(|| url.clone());
                base.insert("ASTRALER_URL".into(), url);
                secrets.entry("ASTRALER_TOKEN".into()).or_insert(token);
            }
            for (name, path) in &spec.tools.deploy {
                binds.push((path.clone(), path.display().to_string()));
                base.insert(name.clone(), path.display().to_string());
            }
            if let Some(program) = &spec.tools.program {
                binds.push((program.clone(), "/opt/astraler/bin/astraler".to_owned()));
            }
        }
        if let Some((node, _)) = &spec.tools.node
            && !node.starts_with("/usr")
        {
            binds.push((node.clone(), "/opt/astraler/node/bin/node".to_owned()));
        }
        if let Some((pnpm, _)) = &spec.tools.pnpm {
            binds.push((pnpm.clone(), "/opt/astraler/pnpm".to_owned()));
        }
        shared.masks.add(secrets.values().map(String::as_str));
        let reach = Reach {
            places: registry::places(&spec.registries, &spec.machine),
            ports: ports.clone(),
        };
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

/// What every program gets that no file says: home, path, the way to the registries.
fn base_environment(shared: &Shared) -> BTreeMap<String, String> {
    let spec = &shared.spec;
    let proxy = format!("http://127.0.0.1:{}", crate::order::PROXY_PORT);
    let mut all: BTreeMap<String, String> = spec.machine.certificates.clone();
    for (name, value) in [
        ("HOME", HOME),
        ("USER", "runner"),
        ("LANG", "C.UTF-8"),
        (
            "PATH",
            "/opt/astraler/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ),
        ("no_proxy", "localhost,127.0.0.1,::1,.localhost"),
        ("NO_PROXY", "localhost,127.0.0.1,::1,.localhost"),
        ("NODE_USE_ENV_PROXY", "1"),
        ("npm_config_update_notifier", "false"),
    ] {
        all.insert(name.into(), value.into());
    }
    for name in [
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "npm_config_proxy",
        "npm_config_https_proxy",
    ] {
        all.insert(name.into(), proxy.clone());
    }
    if let Some(registry) = &spec.machine.npm_registry {
        all.insert("npm_config_registry".into(), registry.clone());
    }
    if let Some(index) = &spec.machine.pip_index {
        all.insert("PIP_INDEX_URL".into(), index.clone());
    }
    all
}
