//! The control plane's database: the journal of steps, the audit chain, deployments, environments, runs, tokens'
//! hashes and sealed secrets, in one SQLite file that works while PostgreSQL is down.
//!
//! For: `control`, its only writer, and read-only for commands such as `astraler audit verify`. Every change is
//! one transaction, on disk when the call returns (WAL, `synchronous = FULL`: a few milliseconds each). Calls
//! block: from async code they belong in `spawn_blocking`.
//!
//! It does not know: the clock (times are given by the caller, in milliseconds since the Unix epoch), what a
//! step does, how a secret is sealed, who may do what, or where ports, sockets and processes are (`host`).

mod alert;
mod audit;
mod backup;
mod certificate;
mod database;
mod deployment;
mod drill;
mod environment;
mod error;
mod gate;
mod journal;
mod mark;
mod pull_request;
mod run;
mod sealed;
mod source;
mod switch;
mod token;
mod user_secret;
mod verdict;

#[cfg(test)]
mod crash;

pub use alert::{AlertChange, AlertDelivery};
pub use audit::{AuditEntry, AuditFilter, AuditHead, AuditReport, AuditVerifyError};
pub use backup::{ArchiveRecord, BackupRecord, BackupState, NewBackup};
pub use database::Store;
pub use deployment::{
    Deployment, DeploymentId, DeploymentState, NewDeployment, ParseDeploymentIdError, Switch,
};
pub use drill::DrillRecord;
pub use environment::{Desired, EnvironmentRecord};
pub use error::StoreError;
pub use gate::{GateRecord, GateState, NewGate};
pub use journal::{Operation, OperationId, Outcome, Step, StepDescription, StepState};
pub use mark::EnvironmentMark;
pub use pull_request::PullRequest;
pub use run::{NewRun, Run, RunConclusion, RunState};
pub use sealed::{Rewrapped, SealedRecord, SealedVersion};
pub use switch::{SwitchKind, SwitchRecord};
pub use token::{NewToken, Token, TokenKind};
pub use user_secret::{NewUserSecret, UserSecret, UserSecretVersion, is_user_secret, sealed_name};
pub use verdict::BadDeployment;

/// The most rows that any call returns, whatever limit it was given.
pub const MAX_ROWS: u32 = 1000;
