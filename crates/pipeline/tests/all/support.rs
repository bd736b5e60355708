//! A repository with a workflow, and a run of it.

use astraler_pipeline::{
    Conclusion, ControlDeploys, Deploys, Event, Folders, Limits, Machine, NoDeploys, PipelineError, RunEvent,
    RunReport, RunSpec, Secrets, Tools, WorkflowFile, run, snapshot,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The program of the sandbox's process 1: cargo builds examples before tests, beside them.
pub(crate) fn helper() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let helper = own
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples/sandbox-init");
    assert!(helper.is_file(), "{} is not built", helper.display());
    helper
}

pub(crate) struct Fixture {
    pub(crate) folder: TempDir,
    pub(crate) spec: RunSpec,
}

pub(crate) struct Ran {
    pub(crate) report: RunReport,
    pub(crate) events: Vec<RunEvent>,
}

impl Fixture {
    /// An application with these files; `ci` is its workflow.
    pub(crate) fn new(ci: &str, files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let app = folder.path().join("app");
        write(&app.join(".github/workflows/ci.yml"), ci);
        for (path, text) in files {
            write(&app.join(path), text);
        }
        let source = snapshot(&app, &folder.path().join("source.git")).unwrap();
        let at = |name: &str| folder.path().join(name);
        let spec = RunSpec {
            id: "r1".into(),
            number: 7,
            attempt: 1,
            event: Event {
                name: "push".into(),
                reference: "refs/heads/main".into(),
                sha: source.sha.clone(),
                repository: "team/board".into(),
                actor: "ada".into(),
                payload: serde_json::json!({ "after": source.sha, "number": 3 }),
                ..Event::default()
            },
            workflows: vec![WorkflowFile {
                path: ".github/workflows/ci.yml".into(),
                text: ci.into(),
                after: false,
            }],
            jobs: vec![],
            source,
            inputs: [].into(),
            secrets: Secrets::default(),
            vars: Secrets::default(),
            folders: Folders {
                work: at("work"),
                cache: at("cache"),
                artifacts: at("artifacts"),
                tool_cache: at("tools"),
            },
            tools: Tools {
                helper: vec![helper().display().to_string()],
                bwrap: "/usr/bin/bwrap".into(),
                node: None,
                pnpm: None,
                deploy: [].into(),
                program: None,
            },
            machine: Machine::default(),
            registries: vec![],
            ports: vec![],
            hosts: vec![],
            limits: Limits::default(),
            gates: vec![],
            coverage_percent: 70,
            trust: "protected".into(),
            control: None,
        };
        Self { folder, spec }
    }

    pub(crate) async fn run(&self) -> Ran {
        self.run_with(CancellationToken::new(), |_| {}).await.unwrap()
    }

    pub(crate) async fn refused(&self) -> PipelineError {
        match self.run_with(CancellationToken::new(), |_| {}).await {
            Ok(ran) => panic!("it ran: {:?}", ran.report),
            Err(error) => error,
        }
    }

    pub(crate) async fn run_with(
        &self,
        cancel: CancellationToken,
        mut seen: impl FnMut(&RunEvent),
    ) -> Result<Ran, PipelineError> {
        let (sender, mut receiver) = mpsc::channel(64);
        let deploys: Arc<dyn Deploys> = match &self.spec.control {
            Some(socket) => Arc::new(ControlDeploys::new(socket)),
            None => Arc::new(NoDeploys),
        };
        let running = tokio::spawn(run(self.spec.clone(), deploys, sender, cancel));
        let mut events = Vec::new();
        while let Some(event) = receiver.recv().await {
            seen(&event);
            events.push(event);
        }
        let report = running.await.unwrap()?;
        assert_eq!(
            std::fs::read_dir(&self.spec.folders.work).unwrap().count(),
            0,
            "a run leaves no folder behind"
        );
        Ok(Ran { report, events })
    }
}

impl Ran {
    /// The lines of a job.
    pub(crate) fn lines(&self, of: &str) -> Vec<&str> {
        let lines = self.events.iter().filter_map(|event| match event {
            RunEvent::Log { job, line, .. } if job == of => Some(line.as_str()),
            _ => None,
        });
        lines.collect()
    }

    /// The lines that programs wrote: not the echo of scripts.
    pub(crate) fn output(&self, of: &str) -> Vec<&str> {
        self.lines(of)
            .into_iter()
            .filter(|line| !line.starts_with("$ "))
            .collect()
    }

    pub(crate) fn job(&self, key: &str) -> Conclusion {
        let found = self.report.jobs.iter().find(|job| job.key == key);
        found
            .unwrap_or_else(|| panic!("no job {key}: {:?}", self.report.jobs))
            .conclusion
    }

    pub(crate) fn all(&self) -> String {
        self.events.iter().map(|event| format!("{event:?}\n")).collect()
    }
}

pub(crate) fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// A workflow of one job with these steps.
pub(crate) fn job(steps: &str) -> String {
    format!("on: push\njobs:\n  job:\n    runs-on: ubuntu-latest\n    steps:\n{steps}")
}
