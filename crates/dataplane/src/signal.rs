//! The `signal` role: keeps records and numbers, asks whether environments are up. Nothing that serves a request waits
//! for it, and it waits for nothing but files.

mod answers;
mod probe;

use crate::status::{self, RoleStatus};
use astraler_model::SignalSnapshot;
use astraler_signal::{KeeperConfig, KeeperError, Retention, Shared, Told};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::UnixListener;
use tokio::sync::{oneshot, watch};

/// How long the end waits for a segment that is being written; what it would hold is in the logs still.
const FINISH: Duration = Duration::from_secs(5);

/// What the role runs with.
#[derive(Debug)]
pub struct Config {
    /// Status and numbers.
    pub status: UnixListener,
    /// Folder of the records.
    pub folder: PathBuf,
    /// Folder of the logs.
    pub logs: PathBuf,
    /// Where the data role tells of its connections.
    pub data_status: PathBuf,
    /// Where the edge tells of records that it dropped.
    pub edge_status: PathBuf,
    /// What the daemon published last.
    pub snapshot: watch::Receiver<Arc<SignalSnapshot>>,
}

/// Keeps records until `shutdown`.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), KeeperError> {
    let shared = Shared::default();
    tokio::spawn(status::serve(
        config.status,
        Arc::new(|| RoleStatus {
            role: "signal".into(),
            snapshot_version: 0,
            pid: std::process::id(),
            connections: BTreeMap::new(),
        }),
        Some(answers::of(&shared)),
    ));
    tokio::spawn(probe::environments(shared.clone(), config.snapshot.clone()));
    tokio::spawn(probe::processes(
        shared.clone(),
        config.data_status,
        config.edge_status,
    ));
    let (stop, stopped) = mpsc::channel();
    let (ended, mut end) = oneshot::channel();
    let kept = KeeperConfig {
        folder: config.folder,
        logs: config.logs,
    };
    let snapshot = config.snapshot;
    let keeper = move || {
        let told = || told(&snapshot.borrow());
        ended
            .send(astraler_signal::keep(&kept, &shared, told, now_ms, &stopped))
            .ok();
    };
    let thread = std::thread::Builder::new()
        .name("keeper".to_owned())
        .spawn(keeper);
    if let Err(error) = thread {
        tracing::error!(%error, "no thread can be started: records are not kept");
    }
    tokio::select! {
        ended = &mut end => ended.unwrap_or(Ok(())),
        () = shutdown => {
            drop(stop);
            match tokio::time::timeout(FINISH, end).await {
                Ok(Ok(ended)) => ended,
                // It is cut off in the middle of a segment, as it may be at any time.
                _ => Ok(()),
            }
        }
    }
}

fn told(snapshot: &SignalSnapshot) -> Told {
    Told {
        retention: Retention {
            access_days: snapshot.access_days,
            application_days: snapshot.application_days,
            error_days: snapshot.error_days,
            max_bytes: snapshot.max_bytes,
        },
        slow_ms: snapshot.slow_ms,
        bundles: snapshot.bundles.clone(),
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
