//! Runs GitHub Actions workflows as they stand, on one machine, each step in a sandbox.
//!
//! For: `astraler pipeline run`, and the runner that the daemon starts for a push. [`run`] takes a [`RunSpec`]
//! (plain data), sends [`RunEvent`]s while it works, and ends with a [`RunReport`]. The language of workflows is
//! `astraler_workflow`'s.
//!
//! It does *not* know the daemon, a database, an environment of the platform or what a deployment is: a job with
//! `environment:` gets what [`Deploys`] gives it, and nothing else of this machine. It reads no environment
//! variable and no clock but for durations; [`Machine::probe`] is the one place that asks the machine.
//!
//! # Invariants
//!
//! 1. **Refused before it runs.** All that a run would use is looked at first; what is not supported is refused by
//!    name, file and line, and no step has run.
//! 2. **A step ends with all that it started.** It is process 1's child in a PID namespace of its own, and that
//!    namespace ends with the step, with the runner, and with the machine.
//! 3. **No secret in argv, in the environment of the sandbox's own processes, or in a log.** A step gets its
//!    variables over a pipe; every line is masked before it is an event.
//! 4. **What a step wrote is hostile.** Files are opened without following links, and are bounded.
//! 5. **Everything has a bound**: lines, logs, files of commands, outputs, time, disk, processes, connections.

mod action;
mod artifact;
mod cache;
mod command;
mod confined;
mod control;
mod disk;
mod engine;
mod event;
mod file_command;
mod gate;
mod git;
mod glob;
mod machine;
mod mask;
mod order;
mod proxy;
mod registry;
mod render;
mod sandbox;
mod sandbox_init;
mod spec;
mod store;
mod work;

pub use control::{
    Answering, ControlDeploys, DeployAccess, Deploys, JobAnswer, JobNotice, JobRequest, MAX_CONTROL_LINE,
    NoDeploys,
};
pub use engine::{PipelineError, check, concurrency, gates_of, run};
pub use event::{
    Annotation, Conclusion, Coverage, GateReport, GateState, JobReport, Level, RunEvent, RunReport,
    StepReport,
};
pub use gate::{COVERAGE, Promised};
pub use git::{GitError, snapshot, workflow_files};
pub use machine::Machine;
pub use render::{Renderer, gates_table};
pub use sandbox_init::sandbox_init;
pub use spec::{Event, Folders, Limits, RunSpec, Secrets, Source, SpecError, Tools, WorkflowFile};
