//! Backups: the log of each cluster goes to the destination as it is written, a base of each cluster and a dump of each
//! database when they are due. What was tried, and what came of it, is in the store; [`report`] says how all stands.

pub(crate) mod api;
mod archive;
mod make;
mod report;
mod subjects;
mod tell;
mod verify;
mod whole;

pub(crate) use make::PasswordFile;
pub(crate) use tell::exposition;

pub use report::{ArchiveStanding, BackupReport, BackupStanding, ClusterBackups};

use crate::daemon::Daemon;
use crate::platform::{Platform, PlatformError, now_ms};
use crate::words::Fault;
use astraler_manifest::Config;
use astraler_model::{Cluster, Environment};
use astraler_recovery::{Destination, DestinationConfig, DestinationError};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How often the spools are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often people and machines are told how backups stand.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// How often what is due is made; at once where something new is to be backed up.
const DUE_EVERY: Duration = Duration::from_secs(60);
/// After a failure: the first pause, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// A line of progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Progress {
    /// A part begins.
    Begin {
        /// Its name: `dump staging`.
        part: String,
    },
    /// A part ended well.
    End {
        /// Its name.
        part: String,
        /// A few words for people.
        detail: String,
        /// How long it took.
        elapsed_ms: u64,
    },
    /// The end: all is done.
    Done {
        /// What that is, in words.
        message: String,
    },
    /// The end: something was not done.
    Failed(Fault),
}

/// What backups wait for, and what they hold.
#[derive(Debug, Default)]
pub(crate) struct Backups {
    /// One maker at a time, and nobody takes from a spool while it is held.
    pub(crate) turn: tokio::sync::Mutex<()>,
    /// One user of the scratch cluster at a time.
    pub(crate) scratch: tokio::sync::Mutex<()>,
    /// A restore that somebody waits for: a drill makes way.
    pub(crate) hurry: tokio::sync::Notify,
}

/// Why a cluster is not backed up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupsError {
    #[error(transparent)]
    Platform(#[from] PlatformError),
    #[error(transparent)]
    Destination(#[from] DestinationError),
    #[error("the folder of backups, or the state, cannot be looked at")]
    Device(#[source] std::io::Error),
    #[error(
        "the destination {url} is on the device that it protects: name one off this machine, or set backups.allow_same_device = true"
    )]
    SameDevice { url: String },
    #[error(transparent)]
    Credential(#[from] crate::credentials::CredentialError),
    #[error(transparent)]
    Database(#[from] astraler_postgres::DatabaseError),
}

/// One cluster that is backed up.
pub(crate) struct Protected {
    pub(crate) cluster: Cluster,
    pub(crate) config: Config,
    /// Whether what belongs to no cluster goes with it: what the control plane knows, secrets, releases.
    pub(crate) whole: bool,
}

/// Clusters whose governing manifest names a destination.
pub(crate) fn protected(platform: &Platform) -> Result<Vec<Protected>, PlatformError> {
    let mut clusters: BTreeMap<&'static str, Protected> = BTreeMap::new();
    for (environment, (_, application)) in platform.live()? {
        let cluster = environment.cluster();
        let config = platform.governing(environment, &application, |other| other.cluster() == cluster)?;
        if config.backups.target_url.is_some() {
            clusters.entry(cluster.name()).or_insert(Protected {
                cluster,
                config,
                whole: false,
            });
        }
    }
    let mut all: Vec<Protected> = clusters.into_values().collect();
    // Production's, where it has one.
    all.sort_by_key(|one| one.cluster != Cluster::Production);
    if let Some(first) = all.first_mut() {
        first.whole = true;
    }
    Ok(all)
}

impl Protected {
    /// Where its backups go. Refused where they would be lost together with what they protect.
    pub(crate) fn destination(&self, platform: &Platform) -> Result<Destination, BackupsError> {
        let backups = &self.config.backups;
        let config = DestinationConfig {
            url: backups.target_url.clone().unwrap_or_default(),
            endpoint: backups.endpoint_url.clone(),
            credentials_file: backups.credentials_file.clone().map(Into::into),
        };
        let destination = Destination::open(&config, &platform.installation.application)?;
        let shares = destination
            .shares_device_with(&platform.installation.layout.state)
            .map_err(BackupsError::Device)?;
        if shares && self.cluster == Cluster::Production && !backups.allow_same_device {
            let url = destination.url().to_owned();
            return Err(BackupsError::SameDevice { url });
        }
        Ok(destination)
    }

    /// Time between two backups of one thing.
    pub(crate) fn interval_ms(&self) -> u64 {
        u64::from(self.config.backups.database_hours.max(1)) * 3_600_000
    }

    /// Databases of this cluster that are some environment's.
    pub(crate) fn databases(&self, platform: &Platform) -> Result<Vec<String>, PlatformError> {
        let live = platform.live()?.into_keys();
        Ok(live
            .filter(|environment| environment.cluster() == self.cluster)
            // A preview's data is a copy of staging's.
            .filter(|environment| !matches!(environment, Environment::Preview(_)))
            .map(|environment| environment.identifier())
            .collect())
    }
}

/// Everything that is committed now goes to the archive. Its caller holds the turn.
pub(crate) async fn archive_now(platform: &Platform, one: &Protected) -> Result<(), BackupsError> {
    archive::end_segment(platform, one).await?;
    archive::take(platform, one).await
}

/// Runs as long as the daemon.
pub(crate) async fn keep(daemon: Arc<Daemon>) {
    if let Err(error) = daemon.platform.store.backups_interrupted(now_ms()) {
        tracing::warn!(%error, "backups that were interrupted cannot be written down as such");
    }
    crate::recover::clean_left(&daemon.platform).await;
    let mut archive_at: BTreeMap<&'static str, (Instant, Duration)> = BTreeMap::new();
    let mut due_at = Instant::now();
    let mut pause = PAUSE.0;
    let mut told = tell::Told::default();
    let mut tell_at = Instant::now();
    let mut known = BTreeSet::new();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let platform = &daemon.platform;
        let protected = match protected(platform) {
            Ok(protected) => protected,
            Err(error) => {
                tracing::warn!(
                    error = crate::words::chain(&error),
                    "which clusters are backed up cannot be told"
                );
                continue;
            }
        };
        for one in &protected {
            if !one.config.backups.archives() {
                continue;
            }
            let now = Instant::now();
            let (at, wait) = archive_at.entry(one.cluster.name()).or_insert((now, PAUSE.0));
            if *at > now {
                continue;
            }
            let Ok(_turn) = platform.backups.turn.try_lock() else {
                continue;
            };
            match archive::take(platform, one).await {
                Ok(()) => *wait = PAUSE.0,
                Err(_) => {
                    // It is written down, and shown by `backup status`; the spool keeps what it holds.
                    *at = now + *wait;
                    *wait = (*wait * 2).min(PAUSE.1);
                }
            }
        }
        let wanted = wanted(platform, &protected);
        if wanted != known {
            known = wanted;
            due_at = Instant::now();
        }
        if Instant::now() < due_at {
            if Instant::now() >= tell_at {
                told.tell(&daemon);
                tell_at = Instant::now() + TELL_EVERY;
            }
            continue;
        }
        let (events, received) = mpsc::channel(1);
        drop(received);
        due_at = Instant::now() + DUE_EVERY;
        match Box::pin(run(platform, false, &events)).await {
            Ok(_) => pause = PAUSE.0,
            Err(fault) => {
                tracing::warn!(
                    part = fault.part,
                    message = fault.message,
                    "a backup was not made; trying again"
                );
                due_at = Instant::now() + pause;
                pause = (pause * 2).min(PAUSE.1);
            }
        }
        told.tell(&daemon);
    }
}

/// Everything of which there should be backups.
fn wanted(platform: &Platform, protected: &[Protected]) -> BTreeSet<String> {
    let of = |one: &Protected| subjects::of(platform, one).unwrap_or_default();
    let names = protected.iter().flat_map(of);
    names
        .map(|subject| format!("{} {}", subject.kind.name(), subject.name))
        .collect()
}

/// Makes what is due, or everything when `all`. What fails does not keep the others from being made; the first failure
/// is the answer. Returns whether anything was made.
pub(crate) async fn run(
    platform: &Platform,
    all: bool,
    events: &mpsc::Sender<Progress>,
) -> Result<bool, Fault> {
    let _turn = platform.backups.turn.lock().await;
    let protected = protected(platform).map_err(|error| Fault::of("backups", &error))?;
    if protected.is_empty() && all {
        return Err(Fault {
            part: "backups".into(),
            message: "no destination is named".into(),
            log: vec![],
            hint: Some("set backups.target_url in astraler.toml, and deploy".into()),
        });
    }
    let mut made = false;
    let mut failed = None;
    for one in &protected {
        match Box::pin(make::cluster(platform, one, all, events)).await {
            Ok(any) => made |= any,
            Err(fault) => failed = failed.or(Some(fault)),
        }
        // What is asked for now holds all that is committed now.
        if all && one.config.backups.archives() {
            let archived = archive_now(platform, one).await;
            failed = failed.or(archived.err().map(|error| Fault::of("archive", &error)));
        }
    }
    failed.map_or(Ok(made), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use astraler_host::sim::{SimClock, SimFaults, SimSupervisor};
    use serde_json::json;

    fn one(cluster: Cluster, folder: &std::path::Path, allow: bool) -> Protected {
        let url = format!("file://{}", folder.display());
        let config = json!({
            "name": "small",
            "domain": "small.example",
            "backups": { "target_url": url, "allow_same_device": allow },
        });
        Protected {
            cluster,
            config: serde_json::from_value(config).unwrap(),
            whole: false,
        }
    }

    #[test]
    fn production_is_not_backed_up_to_the_device_that_it_is_on() {
        let folder = tempfile::tempdir().unwrap();
        let supervisor = SimSupervisor::new(7, SimFaults::NONE, SimClock::automatic(1_000));
        let platform = Platform::simulated(folder.path(), Arc::new(supervisor));
        let target = folder.path().join("backups");
        std::fs::create_dir(&target).unwrap();
        let asked = |cluster, allow| one(cluster, &target, allow).destination(&platform);
        let refused = asked(Cluster::Production, false).unwrap_err();
        assert!(refused.to_string().contains("allow_same_device"), "{refused}");
        asked(Cluster::Production, true).unwrap();
        asked(Cluster::Shared, false).unwrap();
    }
}
