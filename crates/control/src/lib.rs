//! The control plane: what `astraler up` asks for, made true step by step on real engines.
//!
//! For: the `daemon` process and the command line that talks to it. One of the two crates in which the
//! capabilities meet (the other is `dataplane`). It decides and records; it serves no request of a user's
//! application, so that every request is still served while it is down.
//!
//! It does *not* know: how a process is started (`host`), how an engine is configured (`postgres`, `redis`,
//! `workers`), what a manifest file looks like (`manifest`), or how anything is shown (`astraler`).

mod admin;
mod alerts;
mod api;
mod application;
mod backups;
mod cache;
mod certificates;
mod change;
mod client;
mod config_git;
mod credentials;
mod daemon;
mod deploy;
mod dns;
mod drain;
mod engines;
mod gates;
mod git;
mod identity;
mod installation;
mod jobs;
mod metrics;
mod parity;
mod plan;
mod platform;
mod preview;
mod publish;
mod recover;
mod releases;
mod removal;
mod remove;
mod replicas;
mod repository;
mod requests;
mod retention;
mod runs;
mod secrets;
mod services;
mod sleep;
mod status;
mod steps;
mod switches;
mod tokens;
mod turns;
mod upload;
mod waf;
mod wake;
mod watch;
mod words;

pub use alerts::{AcknowledgeRequest, AlertsReport, ChannelReport, SilenceRequest, TestRequest};
pub use application::{MAX_MASK_BYTES, ReleaseConfiguration};
pub use backups::{ArchiveStanding, BackupReport, BackupStanding, ClusterBackups, Progress};
pub use certificates::{CertificateReport, TlsReport};
pub use client::{AdminClient, ClientError};
pub use config_git::ConfigGitReport;
pub use daemon::{DaemonError, Listening, run};
pub use dns::{DnsCheckReport, DnsReport, Missing};
pub use engines::POSTGRES_VERSIONS;
pub use gates::{GateStanding, Standing};
pub use installation::{Engines, Identities, Installation, InstallationError, Layout, Ports};
pub use parity::{Difference, EnvironmentFacts, compare};
pub use plan::{ApplyEvent, ApplyRequest, DestroyRequest, ManifestWords, PlanRequest, Refusal};
pub use platform::audit_report;
pub use recover::{DrillReport, DrillRequest, Proof, RecoverDatabaseRequest, RecoverServiceRequest};
pub use releases::{DAMAGED, ReleaseError, ReleaseSummary, Verified, describe_release, verify_release};
pub use replicas::RecoverStorageRequest;
pub use runs::runner_tools;
pub use secrets::{KeyRotation, ParsePlaceError, SecretGrantReport, SecretPlace, SecretReport, SecretSet};
pub use services::{daemon_unit, socket_folders};
pub use switches::{AttackRequest, MaintenanceRequest};
pub use waf::WafReport;
pub use words::{
    Action, Application, DeployRequest, DeploymentReport, EnvironmentReport, Event, Fault, NewTokenReport,
    NewTokenRequest, Origin, PartReport, PromoteRequest, PushRequest, PushTaken, PushVerdict, RefUpdate,
    RollbackRequest, RunLine, RunSummary, StatusReport, StepOutcome, UpRequest, WorkerPlan,
};
