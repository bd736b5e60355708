//! Restores: an environment's database brought to the moment before a point in time, while its cluster serves the others.
//!
//! The cluster's base and log are replayed in a scratch cluster, the one database is copied out of it beside the one that
//! serves, and takes its place in one transaction. Each step is in the journal before it is taken and after; killed at
//! any of them the old or the new database serves, and the next run begins anew and finishes.

pub(crate) mod api;
pub(crate) mod drill;
mod journal;
mod scratch;
mod service;

pub use api::{DrillRequest, RecoverDatabaseRequest};
pub use drill::{DrillReport, Proof};
pub use service::RecoverServiceRequest;

use crate::backups::{self, BackupsError, PasswordFile, Progress, Protected};
use crate::engines;
use crate::platform::{Platform, application_of, now_ms};
use crate::words::{Application, Fault};
use astraler_model::Environment;
use astraler_postgres as postgres;
use astraler_recovery::{Destination, RestorePlan, fetch, plan_restore, timestamp};
use astraler_store::{OperationId, Outcome, StepDescription};
use serde_json::json;
use tokio::sync::mpsc;

const KIND: &str = "recover database";

/// One restore of one database.
pub(crate) struct Restore<'a> {
    pub(crate) platform: &'a Platform,
    pub(crate) environment: Environment,
    pub(crate) to_ms: u64,
    pub(crate) actor: &'a str,
    pub(crate) events: &'a mpsc::Sender<Progress>,
}

/// In the order in which they are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// All that is committed until now goes to the archive.
    Archive,
    /// Base and log come back.
    Fetch,
    /// They are brought to the point.
    Replay,
    /// The database is copied out, beside the one that serves.
    Copy,
    /// It takes that one's place.
    Swap,
    /// Rights and deadlines, as `up` makes them.
    Rights,
    /// The scratch cluster goes.
    Clean,
}

const STEPS: [Step; 7] = [
    Step::Archive,
    Step::Fetch,
    Step::Replay,
    Step::Copy,
    Step::Swap,
    Step::Rights,
    Step::Clean,
];

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Archive => "archive",
            Self::Fetch => "fetch",
            Self::Replay => "replay",
            Self::Copy => "copy",
            Self::Swap => "swap",
            Self::Rights => "rights",
            Self::Clean => "clean",
        }
    }
}

/// What steps need of each other.
struct Work {
    protected: Protected,
    destination: Destination,
    application: Application,
    plan: Option<RestorePlan>,
}

/// Brings the database back; returns what was done, in words. `dry` only says what would be.
pub(crate) async fn database(restore: &Restore<'_>, dry: bool) -> Result<String, Fault> {
    let platform = restore.platform;
    let fault = |error: &dyn std::error::Error| Fault::of("recovery", error);
    let mut work = begin(restore).map_err(|error| fault(&error))?;
    if restore.to_ms > now_ms() {
        return Err(Fault {
            part: "recovery".into(),
            message: format!("{} has not come yet", timestamp(restore.to_ms)),
            log: vec![],
            hint: Some("--to takes a time in UTC, as 2026-11-27T18:50:30Z".into()),
        });
    }
    if dry {
        let plan = plan_restore(&work.destination, work.protected.cluster.name(), restore.to_ms)
            .await
            .map_err(|error| fault(&error))?;
        return Ok(format!(
            "would bring database {} to {}: base {} and {} segments of the log, {} bytes to fetch",
            restore.environment.identifier(),
            timestamp(restore.to_ms),
            plan.base.key,
            plan.wal.len(),
            plan.bytes
        ));
    }
    // A drill makes way. Backups wait until all is fetched: retention would take that away, and the spool is ours.
    platform.backups.hurry.notify_waiters();
    let _scratch = platform.backups.scratch.lock().await;
    let turn = platform.backups.turn.lock().await;
    let subject = restore.environment.to_string();
    let detail = json!({ "to_ms": restore.to_ms, "destination": work.destination.url() });
    platform
        .audit(restore.actor, KIND, &subject, &detail)
        .map_err(|error| fault(&error))?;
    let plan: Vec<StepDescription> = STEPS
        .iter()
        .map(|step| StepDescription {
            name: format!("{} {subject}", step.name()),
            detail: detail.clone(),
        })
        .collect();
    let operation = platform
        .begin(KIND, &subject, &plan)
        .map_err(|error| fault(&error))?;
    let result = steps(restore, &mut work, operation, turn).await;
    let end = match &result {
        Ok(()) => Outcome::Done,
        Err(fault) => Outcome::Failed {
            error: fault.message.clone(),
        },
    };
    platform.end(operation, &end);
    if result.is_err() {
        // Whatever is half done is not in the way of what serves.
        scratch::clean(platform).await.ok();
        if let Ok(admin) = engines::admin_access(platform, work.protected.cluster) {
            postgres::drop_aside(&admin, &restore.environment.identifier())
                .await
                .ok();
        }
    }
    result?;
    Ok(format!(
        "database {} is as it was before {}; what it was now is kept, closed, as {}",
        restore.environment.identifier(),
        timestamp(restore.to_ms),
        postgres::before(&restore.environment.identifier())
    ))
}

/// Removes what a restore has left that was interrupted together with its daemon.
pub(crate) async fn clean_left(platform: &Platform) {
    let layout = &platform.installation.layout;
    if !layout.scratch().exists() && !layout.fetched().exists() {
        return;
    }
    let _scratch = platform.backups.scratch.lock().await;
    if let Err(fault) = scratch::clean(platform).await {
        tracing::warn!(
            message = fault.message,
            "a scratch cluster stays until the next restore"
        );
    }
}

/// Something that a restore stands on is missing.
#[derive(Debug, thiserror::Error)]
enum BeginError {
    #[error(transparent)]
    Platform(#[from] crate::platform::PlatformError),
    #[error(transparent)]
    Backups(#[from] BackupsError),
    #[error("{0} is not deployed here: there is nothing to bring back")]
    NotThere(Environment),
    #[error("{0} is not backed up: set backups.target_url in astraler.toml, and deploy")]
    NotProtected(Environment),
}

fn begin(restore: &Restore<'_>) -> Result<Work, BeginError> {
    let (platform, environment) = (restore.platform, restore.environment);
    let live = platform
        .live_deployment(environment)?
        .ok_or(BeginError::NotThere(environment))?;
    let protected = backups::protected(platform)?
        .into_iter()
        .find(|one| one.cluster == environment.cluster() && one.config.backups.archives())
        .ok_or(BeginError::NotProtected(environment))?;
    Ok(Work {
        destination: protected.destination(platform)?,
        application: application_of(&live)?,
        protected,
        plan: None,
    })
}

async fn steps(
    restore: &Restore<'_>,
    work: &mut Work,
    operation: OperationId,
    turn: tokio::sync::MutexGuard<'_, ()>,
) -> Result<(), Fault> {
    let mut turn = Some(turn);
    for (index, step) in STEPS.into_iter().enumerate() {
        let name = format!("{} {}", step.name(), restore.environment);
        let begun =
            journal::Begun::step(restore.platform, restore.events, operation, index, name.clone()).await?;
        let taken = Box::pin(take(restore, work, step, &name)).await;
        begun.end(taken).await?;
        if step == Step::Fetch {
            turn = None;
        }
    }
    drop(turn);
    Ok(())
}

async fn take(restore: &Restore<'_>, work: &mut Work, step: Step, name: &str) -> Result<String, Fault> {
    let (platform, environment) = (restore.platform, restore.environment);
    let fault = |error: &dyn std::error::Error| Fault::of(name, error);
    let cluster = work.protected.cluster;
    match step {
        Step::Archive => {
            // A cluster that is down cannot say more than the archive has: what that reaches is told by the next step.
            let ended = backups::archive_now(platform, &work.protected).await;
            Ok(match ended {
                Ok(()) => "until now".to_owned(),
                Err(error) => format!("not until now: {}", crate::words::chain(&error)),
            })
        }
        Step::Fetch => {
            let plan = plan_restore(&work.destination, cluster.name(), restore.to_ms)
                .await
                .map_err(|error| fault(&error))?;
            let folder = scratch::prepare(platform).await?;
            fetch(&work.destination, &plan, &folder)
                .await
                .map_err(|error| fault(&error))?;
            scratch::hand_over(platform, &folder).map_err(|error| fault(&error))?;
            let detail = format!("{} bytes", plan.bytes);
            work.plan = Some(plan);
            Ok(detail)
        }
        Step::Replay => {
            scratch::start(platform, cluster, &timestamp(restore.to_ms)).await?;
            let segments = work.plan.as_ref().map_or(0, |plan| plan.wal.len());
            Ok(format!("{segments} segments"))
        }
        Step::Copy => {
            let (live, from) = scratch::access(platform, cluster).map_err(|error| fault(&error))?;
            let binaries = engines::postgres_binaries(platform, cluster).map_err(|error| fault(&error))?;
            let file =
                PasswordFile::write(platform, "recovery.pgpass", &live).map_err(|error| fault(&error))?;
            postgres::copy_aside(
                &from,
                &live,
                &binaries,
                &environment.identifier(),
                &engines::owner_role(environment),
                &engines::service_role(environment),
                file.path(),
            )
            .await
            .map_err(|error| fault(&error))?;
            Ok(postgres::recovering(&environment.identifier()))
        }
        Step::Swap => {
            let admin = engines::admin_access(platform, cluster).map_err(|error| fault(&error))?;
            postgres::swap_in(&admin, &environment.identifier())
                .await
                .map_err(|error| fault(&error))?;
            Ok(environment.identifier())
        }
        Step::Rights => {
            let secrets = platform
                .credentials
                .environment(environment)
                .map_err(|error| fault(&error))?;
            let (_, detail) = engines::database(platform, environment, &secrets, &work.application).await?;
            Ok(detail)
        }
        Step::Clean => {
            scratch::clean(platform).await?;
            Ok("scratch cluster".to_owned())
        }
    }
}
