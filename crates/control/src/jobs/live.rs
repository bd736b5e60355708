//! A job that is at it: its token, its socket, and the record by which the next daemon finds them.

use super::{JobsError, Run, listen, routes};
use crate::words::chain;
use crate::{api, platform::now_ms};
use astraler_host::file::{self, FileError};
use astraler_model::{Environment, Scope};
use astraler_pipeline::JobNotice;
use astraler_store::TokenKind;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

/// The longest that `pipeline.job_timeout_minutes` may say, and what a job may take to clean up: no token outlives that,
/// whatever else happens.
const LONGEST_JOB_MS: u64 = (4320 + 30) * 60_000;
/// Connections of one job at once; more wait in its queue.
const MAX_CONNECTIONS: usize = 16;
/// A principal's name with a longer key is cut: the store keeps 128 bytes.
const MAX_KEY: usize = 80;

/// A job that is at it. Dropped, it is heard no more.
pub(super) struct Live {
    pub(super) notice: JobNotice,
    pub(super) socket: PathBuf,
    pub(super) token_file: PathBuf,
    serving: JoinHandle<()>,
}

#[derive(Serialize, Deserialize)]
struct Record {
    notice: JobNotice,
    /// The public part of its token.
    token: String,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// As the audit chain names the job: `run 12 job deploy-staging`.
pub(super) fn principal(run: u64, key: &str) -> String {
    let plain = key.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut name = format!("run {run} job ");
    let most = name.len() + MAX_KEY;
    for c in plain {
        if name.len() + c.len_utf8() > most {
            break;
        }
        name.push(c);
    }
    name
}

impl Live {
    /// Lets a job in.
    pub(super) fn begin(
        run: &Arc<Run>,
        notice: JobNotice,
        environment: Environment,
    ) -> Result<Self, JobsError> {
        let platform = &run.daemon.platform;
        let name = principal(run.scope.number, &notice.key);
        let detail =
            json!({ "run": run.scope.number, "environment": environment, "commit": run.scope.commit });
        // Before it exists: no audit, no token.
        platform.audit(&run.scope.actor, "job token", &name, &detail)?;
        let scopes = [Scope::Release, Scope::deploy(environment)];
        let minted = platform.mint(TokenKind::Job, &name, &scopes, Some(now_ms() + LONGEST_JOB_MS))?;
        let record = serde_json::to_vec(&Record {
            notice: notice.clone(),
            token: minted.id.clone(),
        })?;
        let text = minted.token.expose().as_bytes();
        file::replace_owned(token_file(run, notice.number), text, 0o640, run.group())?;
        file::replace(record_file(run, notice.number), &record, 0o600)?;
        Self::serve(run, notice, environment, minted.id)
    }

    /// Takes up a job of a daemon before; none where its token holds no more.
    pub(super) fn again(run: &Arc<Run>, record: Recorded) -> Result<Option<Self>, JobsError> {
        let Record { notice, token } = record.0;
        let found = run.daemon.platform.store.token(&token)?;
        let holds = found.is_some_and(|found| found.holds(now_ms()));
        match run.scope.environment.filter(|_| holds) {
            Some(environment) => Self::serve(run, notice, environment, token).map(Some),
            None => Ok(None),
        }
    }

    fn serve(
        run: &Arc<Run>,
        notice: JobNotice,
        environment: Environment,
        token: String,
    ) -> Result<Self, JobsError> {
        let folder = run.jobs_folder().join(notice.number.to_string());
        file::make_dir(&folder, 0o750, None, run.group())?;
        let socket = folder.join("s.sock");
        let listener = listen(&socket, run.group())?;
        let bearer = routes::Bearer {
            daemon: Arc::clone(&run.daemon),
            run: run.scope.clone(),
            environment,
            token,
        };
        Ok(Self {
            token_file: token_file(run, notice.number),
            notice,
            socket,
            serving: tokio::spawn(serve(Arc::new(bearer), listener)),
        })
    }
}

/// What a daemon before has written of a job.
pub(super) struct Recorded(Record);

impl Recorded {
    pub(super) fn number(&self) -> u64 {
        self.0.notice.number
    }
}

/// All that was written. A record that cannot be read is none: its job is refused from then on.
pub(super) fn recorded(folder: &Path) -> Result<Vec<Recorded>, JobsError> {
    let unreadable = |source| FileError {
        operation: "list",
        path: folder.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let read = std::fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
        match read {
            Ok(record) => found.push(Recorded(record)),
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "the record of a job cannot be read");
            }
        }
    }
    Ok(found)
}

/// Ends what a job has: first its token, whatever becomes of the files.
pub(super) fn remove(run: &Run, number: u64) {
    let record = record_file(run, number);
    let token = std::fs::read(&record)
        .and_then(|bytes| Ok(serde_json::from_slice::<Record>(&bytes)?))
        .map(|record| record.token);
    if let Ok(token) = token
        && let Err(error) = run.daemon.platform.store.token_remove(&token)
    {
        tracing::warn!(
            error = chain(&error),
            "the token of a job is left until its run ends"
        );
    }
    let folder = run.jobs_folder().join(number.to_string());
    let removed = file::remove_if_present(token_file(run, number))
        .and_then(|()| file::remove_if_present(record))
        .map_err(|error| chain(&error));
    let gone = match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
        _ => Ok(()),
    };
    if let Err(error) = removed.and(gone) {
        tracing::warn!(error, "files of a job are left until its run ends");
    }
}

fn token_file(run: &Run, number: u64) -> PathBuf {
    run.jobs_folder().join(format!("{number}.token"))
}

fn record_file(run: &Run, number: u64) -> PathBuf {
    run.jobs_folder().join(format!("{number}.json"))
}

async fn serve(bearer: Arc<routes::Bearer>, listener: UnixListener) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let router = routes::router(Arc::clone(&bearer));
    // Connections end with the job. What they asked for goes on.
    let mut open = JoinSet::new();
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Some(stream) = api::accepted(listener.accept().await).await else {
            continue;
        };
        if !super::is_runner(&bearer.daemon.platform.installation, &stream) {
            tracing::warn!("a process of another user tried a job's socket");
            continue;
        }
        while open.try_join_next().is_some() {}
        open.spawn(api::serve(stream, router.clone(), place));
    }
}
