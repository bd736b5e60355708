//! Drills: a random point in time is brought back in the scratch cluster and looked through. Nothing that serves is
//! touched, and a restore that somebody waits for goes first.

use super::{DrillRequest, journal, scratch};
use crate::backups::{self, PasswordFile, Progress, Protected};
use crate::daemon::Daemon;
use crate::engines;
use crate::platform::{Platform, PlatformError, now_ms};
use crate::words::{Fault, chain};
use astraler_alert::Severity;
use astraler_postgres::{self as postgres, Canary};
use astraler_recovery::{Kind, RestorePlan, fetch, plan_restore, range, timestamp};
use astraler_store::{BackupState, OperationId, Outcome, StepDescription};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

const KIND: &str = "drill";
/// Name of the alert.
const RULE: &str = "drill";
/// How often it is looked whether a drill is due.
const LOOK_EVERY: Duration = Duration::from_secs(60);
const HOUR_MS: u64 = 3_600_000;
/// Between a canary's time and its commit less than this passes.
const COMMIT_MS: u64 = 1_000;

/// In the order in which they are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// A row is written by which the restore is recognised.
    Canary,
    /// All that is committed until now goes to the archive.
    Archive,
    /// Base and log of a random point come back.
    Fetch,
    /// They are brought to the point.
    Replay,
    /// The canaries until the point are there, and no later one.
    Canaries,
    /// Every row of every database is read.
    Read,
    /// Every table and every index is checked.
    Check,
    /// Every page has its checksum.
    Pages,
    /// The scratch cluster goes.
    Clean,
}

const STEPS: [Step; 9] = [
    Step::Canary,
    Step::Archive,
    Step::Fetch,
    Step::Replay,
    Step::Canaries,
    Step::Read,
    Step::Check,
    Step::Pages,
    Step::Clean,
];

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Canary => "canary",
            Self::Archive => "archive",
            Self::Fetch => "fetch",
            Self::Replay => "replay",
            Self::Canaries => "canaries",
            Self::Read => "read",
            Self::Check => "check",
            Self::Pages => "pages",
            Self::Clean => "clean",
        }
    }
}

/// What a drill has proved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The point that was brought back, in milliseconds since the Unix epoch.
    pub point_ms: u64,
    /// The base that it was brought back from.
    pub base: String,
    /// Canaries that had to be there, and were.
    pub canaries: u64,
    /// Databases of which every row was read.
    pub databases: u64,
    /// Bytes of their dumps.
    pub bytes: u64,
    /// Tables that were checked; none where the server has no `amcheck`.
    pub tables: u64,
    /// Indexes that were checked.
    pub indexes: u64,
    /// Every page has its checksum; not so where there is no `pg_checksums`.
    pub pages: bool,
}

/// How drills of a cluster stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillReport {
    /// The cluster.
    pub cluster: String,
    /// When a restore was last proven, in milliseconds since the Unix epoch.
    pub proven_ms: Option<u64>,
    /// What that proved.
    pub proof: Option<Proof>,
    /// Why the newest drill failed, where that is later.
    pub error: Option<String>,
}

/// How drills stand, of every cluster that can be restored.
pub(crate) fn report(platform: &Platform) -> Result<Vec<DrillReport>, PlatformError> {
    let mut all = Vec::new();
    for one in drilled(platform)? {
        let cluster = one.cluster.name();
        let proven = platform.store.drill_newest(cluster, true)?;
        let newest = platform.store.drill_newest(cluster, false)?;
        all.push(DrillReport {
            cluster: cluster.to_owned(),
            proven_ms: proven.as_ref().and_then(|proven| proven.ended_ms),
            proof: proven
                .and_then(|proven| proven.proof)
                .and_then(|proof| serde_json::from_str(&proof).ok()),
            error: newest.and_then(|newest| newest.error),
        });
    }
    Ok(all)
}

fn drilled(platform: &Platform) -> Result<impl Iterator<Item = Protected>, PlatformError> {
    let all = backups::protected(platform)?.into_iter();
    Ok(all.filter(|one| one.config.backups.archives()))
}

/// Drills what is due, as long as the daemon runs.
pub(crate) async fn keep(daemon: Arc<Daemon>) {
    if let Err(error) = daemon.platform.store.drills_interrupted(now_ms()) {
        tracing::warn!(%error, "drills that were interrupted cannot be written down as such");
    }
    let (events, received) = mpsc::channel(1);
    drop(received);
    loop {
        // What a start brings up is up first.
        drop(daemon.changes.read().await);
        let due = drilled(&daemon.platform).and_then(|all| {
            let mut due = Vec::new();
            for one in all {
                if is_due(&daemon.platform, &one)? {
                    due.push(one);
                }
            }
            Ok(due)
        });
        match due {
            Ok(due) => {
                for one in due {
                    // It is written down, and an alert says it.
                    Box::pin(drill(&daemon, &one, "daemon", &events)).await.ok();
                }
            }
            Err(error) => tracing::warn!(error = chain(&error), "whether a drill is due cannot be told"),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The first is due when the oldest base has its hours; one that failed is tried again within the hour.
fn is_due(platform: &Platform, one: &Protected) -> Result<bool, PlatformError> {
    let cluster = one.cluster.name();
    let every_ms = u64::from(one.config.recovery.drill_hours.max(1)) * HOUR_MS;
    let last = platform.store.drill_newest(cluster, false)?;
    let (since_ms, wait_ms) = match last {
        Some(last) if last.state == BackupState::Failed => (last.started_ms, every_ms.min(HOUR_MS)),
        Some(last) => (last.started_ms, every_ms),
        None => {
            let bases = platform
                .store
                .backups_done(Kind::Base.name(), cluster, astraler_store::MAX_ROWS)?;
            let Some(first) = bases.last() else {
                return Ok(false);
            };
            (first.started_ms, every_ms)
        }
    };
    Ok(now_ms().saturating_sub(since_ms) >= wait_ms)
}

/// Drills every cluster now, or the one of an environment. A failure does not keep the others from being drilled; the first one is the answer.
pub(crate) async fn all(
    daemon: &Daemon,
    request: &DrillRequest,
    actor: &str,
    events: &mpsc::Sender<Progress>,
) -> Result<String, Fault> {
    let clusters = drilled(&daemon.platform).map_err(|error| Fault::of(KIND, &error))?;
    let (mut said, mut failed) = (Vec::new(), None);
    let wanted = request.environment.map(astraler_model::Environment::cluster);
    for one in clusters.filter(|one| wanted.is_none_or(|cluster| one.cluster == cluster)) {
        match Box::pin(drill(daemon, &one, actor, events)).await {
            Ok(proof) => said.push(format!(
                "postgres {}: a restore to {} is proven",
                one.cluster.name(),
                timestamp(proof.point_ms)
            )),
            Err(fault) => failed = failed.or(Some(fault)),
        }
    }
    match failed {
        Some(fault) => Err(fault),
        None if said.is_empty() => Err(Fault {
            part: KIND.into(),
            message: "no log is archived: there is nothing to restore from".into(),
            log: vec![],
            hint: Some("set backups.target_url in astraler.toml, and deploy".into()),
        }),
        None => Ok(said.join("\n")),
    }
}

/// One drill of one cluster, with its record and its alert.
async fn drill(
    daemon: &Daemon,
    one: &Protected,
    actor: &str,
    events: &mpsc::Sender<Progress>,
) -> Result<Proof, Fault> {
    let platform = &daemon.platform;
    let cluster = one.cluster.name();
    let fault = |error: &dyn std::error::Error| Fault::of(KIND, error);
    let record = platform
        .store
        .drill_begin(cluster, now_ms())
        .map_err(|error| fault(&error))?;
    let hurry = platform.backups.hurry.notified();
    tokio::pin!(hurry);
    hurry.as_mut().enable();
    let (ended, hurried) = tokio::select! {
        ended = Box::pin(journaled(platform, one, actor, events)) => (ended, false),
        () = hurry => (Err(Fault {
            part: KIND.into(),
            message: "a restore came first; the drill is made later".into(),
            log: vec![],
            hint: None,
        }), true),
    };
    let end = match &ended {
        Ok(proof) => Ok(json!(proof).to_string()),
        Err(fault) => Err(fault.message.clone()),
    };
    platform
        .store
        .drill_end(record, end.as_deref().map_err(String::as_str), now_ms())
        .map_err(|error| fault(&error))?;
    let told = match &ended {
        Ok(_) => daemon.lower_alert(RULE, None),
        Err(_) if hurried => Ok(()),
        Err(fault) => {
            let words = format!(
                "postgres {cluster} could not be restored in a drill: {}",
                fault.message
            );
            daemon.raise_alert(RULE, None, Severity::High, words).map(|_| ())
        }
    };
    if let Err(error) = told {
        tracing::warn!(error = chain(&error), "how a drill ended cannot be told");
    }
    ended
}

struct Work<'a> {
    platform: &'a Platform,
    one: &'a Protected,
    begun_ms: u64,
    plan: Option<RestorePlan>,
    proof: Proof,
}

async fn journaled(
    platform: &Platform,
    one: &Protected,
    actor: &str,
    events: &mpsc::Sender<Progress>,
) -> Result<Proof, Fault> {
    let fault = |error: &dyn std::error::Error| Fault::of(KIND, error);
    let cluster = one.cluster.name();
    let _scratch = platform.backups.scratch.lock().await;
    platform
        .audit(actor, KIND, cluster, &json!(null))
        .map_err(|error| fault(&error))?;
    let plan: Vec<StepDescription> = STEPS
        .iter()
        .map(|step| StepDescription {
            name: format!("{} {cluster}", step.name()),
            detail: json!(null),
        })
        .collect();
    let operation = platform
        .begin(KIND, cluster, &plan)
        .map_err(|error| fault(&error))?;
    // Put off by a restore, it is dropped in the middle: then this ends it.
    let mut open = Open {
        platform,
        operation,
        outcome: Outcome::Failed {
            error: "put off".into(),
        },
    };
    let mut work = Work {
        platform,
        one,
        begun_ms: now_ms(),
        plan: None,
        proof: Proof::default(),
    };
    let mut ended = Ok(());
    for (index, step) in STEPS.into_iter().enumerate() {
        let name = format!("{} {cluster}", step.name());
        let begun = journal::Begun::step(platform, events, operation, index, name).await?;
        let taken = Box::pin(work.take(step)).await;
        ended = begun.end(taken).await;
        if ended.is_err() {
            break;
        }
    }
    if ended.is_err() {
        scratch::clean(platform).await.ok();
    }
    open.outcome = match &ended {
        Ok(()) => Outcome::Done,
        Err(fault) => Outcome::Failed {
            error: fault.message.clone(),
        },
    };
    ended.map(|()| work.proof)
}

struct Open<'a> {
    platform: &'a Platform,
    operation: OperationId,
    outcome: Outcome,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.platform.end(self.operation, &self.outcome);
    }
}

impl Work<'_> {
    async fn take(&mut self, step: Step) -> Result<String, Fault> {
        let (platform, cluster) = (self.platform, self.one.cluster);
        let part = format!("{} {}", step.name(), cluster.name());
        let fault = |error: &dyn std::error::Error| Fault::of(&part, error);
        let live = || engines::admin_access(platform, cluster).map_err(|error| fault(&error));
        let wrong = |message: String| Fault {
            part: part.clone(),
            message,
            log: vec![],
            hint: Some("`astraler backup run` makes all anew; `astraler backup verify` reads it back".into()),
        };
        match step {
            Step::Canary => {
                let days = u64::from(self.one.config.backups.retention_days.max(1));
                let forget = self.begun_ms.saturating_sub((days + 1) * 24 * HOUR_MS);
                let word = format!("{:032x}", rand::random::<u128>());
                postgres::write_canary(&live()?, &word, forget)
                    .await
                    .map_err(|error| fault(&error))?;
                Ok(word)
            }
            Step::Archive => {
                let _turn = platform.backups.turn.lock().await;
                backups::archive_now(platform, self.one)
                    .await
                    .map_err(|error| fault(&error))?;
                Ok("until now".into())
            }
            Step::Fetch => {
                // Retention waits: it would take away what is fetched.
                let _turn = platform.backups.turn.lock().await;
                let destination = self.one.destination(platform).map_err(|error| fault(&error))?;
                let possible = range(&destination, cluster.name())
                    .await
                    .map_err(|error| fault(&error))?
                    .ok_or_else(|| wrong("there is no base backup yet".into()))?;
                let last = possible.to_ms.min(self.begun_ms).max(possible.from_ms);
                let point_ms = possible.from_ms + rand::random::<u64>() % (last - possible.from_ms + 1);
                let plan = plan_restore(&destination, cluster.name(), point_ms)
                    .await
                    .map_err(|error| fault(&error))?;
                let folder = scratch::prepare(platform).await?;
                fetch(&destination, &plan, &folder)
                    .await
                    .map_err(|error| fault(&error))?;
                scratch::hand_over(platform, &folder).map_err(|error| fault(&error))?;
                self.proof.point_ms = point_ms;
                self.proof.base.clone_from(&plan.base.key);
                let said = format!("{} bytes for {}", plan.bytes, timestamp(point_ms));
                self.plan = Some(plan);
                Ok(said)
            }
            Step::Replay => {
                scratch::start(platform, cluster, &timestamp(self.proof.point_ms)).await?;
                let segments = self.plan.as_ref().map_or(0, |plan| plan.wal.len());
                Ok(format!("{segments} segments"))
            }
            Step::Canaries => {
                let (live, from) = scratch::access(platform, cluster).map_err(|error| fault(&error))?;
                let wanted = postgres::canaries(&live).await.map_err(|error| fault(&error))?;
                let found = postgres::canaries(&from).await.map_err(|error| fault(&error))?;
                self.proof.canaries = compare(&wanted, &found, self.proof.point_ms).map_err(wrong)?;
                Ok(format!("{} are there, and no later one", self.proof.canaries))
            }
            Step::Read => {
                let (_, from) = scratch::access(platform, cluster).map_err(|error| fault(&error))?;
                let binaries =
                    engines::postgres_binaries(platform, cluster).map_err(|error| fault(&error))?;
                let file =
                    PasswordFile::write(platform, "drill.pgpass", &from).map_err(|error| fault(&error))?;
                for access in databases(&from).await.map_err(|error| fault(&error))? {
                    self.proof.bytes += postgres::read_through(&access, &binaries, file.path())
                        .await
                        .map_err(|error| fault(&error))?;
                    self.proof.databases += 1;
                }
                Ok(format!(
                    "{} databases, {} bytes",
                    self.proof.databases, self.proof.bytes
                ))
            }
            Step::Check => {
                let (_, from) = scratch::access(platform, cluster).map_err(|error| fault(&error))?;
                for access in databases(&from).await.map_err(|error| fault(&error))? {
                    let checked = postgres::check_database(&access)
                        .await
                        .map_err(|error| fault(&error))?;
                    let Some(checked) = checked else {
                        return Ok("the server has no amcheck".into());
                    };
                    self.proof.tables += checked.tables;
                    self.proof.indexes += checked.indexes;
                }
                Ok(format!(
                    "{} tables, {} indexes",
                    self.proof.tables, self.proof.indexes
                ))
            }
            Step::Pages => {
                self.proof.pages = scratch::check_pages(platform, cluster).await?;
                Ok(match self.proof.pages {
                    true => "every page has its checksum".into(),
                    false => "there is no pg_checksums".into(),
                })
            }
            Step::Clean => {
                scratch::clean(platform).await?;
                Ok("scratch cluster".into())
            }
        }
    }
}

async fn databases(from: &postgres::Access) -> Result<Vec<postgres::Access>, postgres::DatabaseError> {
    let names = postgres::database_names(from).await?;
    Ok(names
        .into_iter()
        .map(|database| postgres::Access {
            database,
            ..from.clone()
        })
        .collect())
}

/// How many canaries had to be in what was restored and are, unless one is missing or from after the point.
fn compare(live: &[Canary], restored: &[Canary], point_ms: u64) -> Result<u64, String> {
    if let Some(later) = restored.iter().find(|canary| canary.at_ms >= point_ms) {
        return Err(format!(
            "the restore to {} has a row of {}",
            timestamp(point_ms),
            timestamp(later.at_ms)
        ));
    }
    let due: Vec<&Canary> = live
        .iter()
        .filter(|canary| canary.at_ms + COMMIT_MS <= point_ms)
        .collect();
    if let Some(missing) = due.iter().find(|canary| !restored.contains(canary)) {
        return Err(format!(
            "the restore to {} lacks a row of {}",
            timestamp(point_ms),
            timestamp(missing.at_ms)
        ));
    }
    Ok(due.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_that_is_missing_and_one_that_is_too_late_are_found() {
        let canary = |at_ms: u64| Canary {
            at_ms,
            word: at_ms.to_string(),
        };
        let live = [canary(1_000), canary(5_000), canary(9_000)];
        assert_eq!(compare(&live, &live[..2], 7_000), Ok(2));
        assert_eq!(
            compare(&live, &live[..1], 5_500),
            Ok(1),
            "whether it was committed is not known"
        );
        assert!(compare(&live, &live[..1], 7_000).unwrap_err().contains("lacks"));
        assert!(compare(&live, &live, 7_000).unwrap_err().contains("has a row"));
    }
}
