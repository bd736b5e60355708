//! Jobs of a run that deploy: what they get of the platform, and the workflow that deploys where none does.
//!
//! A run has a socket of its own for the runner alone. There a job with `environment:` is announced, and gets a socket
//! of its own, a token for the run's environment, and the environment's address; or a refusal in words. What a job was
//! given goes when it has ended, and all of it with the run. Sockets, tokens and records lie in the run's folder on the
//! runtime folder, so that a daemon that was killed takes them up again: the sandbox has the folder of the socket, and
//! finds the new one in it.

mod live;
mod routes;
#[cfg(test)]
mod tests;
mod workflow;

pub(crate) use workflow::{deploy_workflow, deploys, name_in_workflows};

use crate::api;
use crate::daemon::Daemon;
use crate::installation::Installation;
use crate::words::chain;
use astraler_host::file::{self, FileError};
use astraler_model::Environment;
use astraler_pipeline::{DeployAccess, JobAnswer, JobNotice, JobRequest, MAX_CONTROL_LINE};
use astraler_store::StoreError;
use live::Live;
use serde_json::json;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

/// Jobs with an environment at once in one run.
const MAX_JOBS: usize = 64;
/// Requests on a run's socket at once.
const MAX_REQUESTS: usize = 64;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What a run may do, as the daemon knows it: nothing of this is its jobs' to say.
#[derive(Debug, Clone)]
pub(crate) struct RunScope {
    /// Its number.
    pub(crate) number: u64,
    /// Where its jobs may deploy to.
    pub(crate) environment: Option<Environment>,
    /// The git tree that it has checked out.
    pub(crate) tree: String,
    /// The commit.
    pub(crate) commit: String,
    /// The branch, where there is one.
    pub(crate) branch: Option<String>,
    /// Who asked for it.
    pub(crate) actor: String,
}

/// What a job needs cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JobsError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("the socket {path} cannot be made", path = path.display())]
    Socket { path: PathBuf, source: io::Error },
    #[error("the store cannot be used")]
    Store(#[from] StoreError),
    #[error("a job's record cannot be written")]
    Record(#[from] serde_json::Error),
}

/// A run whose jobs may ask. Dropped, it is heard no more, and what its jobs have stays for the next daemon;
/// [`RunAccess::close`] ends it.
#[derive(Debug)]
pub(crate) struct RunAccess {
    run: Arc<Run>,
    socket: PathBuf,
    serving: JoinHandle<()>,
}

/// A run, and its jobs that are at it.
struct Run {
    daemon: Arc<Daemon>,
    scope: RunScope,
    folder: PathBuf,
    jobs: Mutex<Jobs>,
}

/// Jobs that are at it, by number.
#[derive(Default)]
struct Jobs {
    live: BTreeMap<u64, Live>,
    /// The run has ended: nobody is let in any more.
    closed: bool,
}

/// Hears the run's runner from now on. What is there of a daemon before is taken up.
pub(crate) fn open(daemon: &Arc<Daemon>, scope: RunScope) -> Result<RunAccess, JobsError> {
    let folder = daemon.platform.installation.layout.run_sockets(scope.number);
    let run = Arc::new(Run {
        daemon: Arc::clone(daemon),
        scope,
        folder,
        jobs: Mutex::default(),
    });
    for folder in [&run.folder, &run.jobs_folder()] {
        file::make_dir(folder, 0o750, None, run.group())?;
    }
    run.take_up()?;
    let socket = run.folder.join("control.sock");
    let listener = listen(&socket, run.group())?;
    let serving = tokio::spawn(serve(Arc::clone(&run), listener));
    Ok(RunAccess { run, socket, serving })
}

impl RunAccess {
    /// Where the runner asks.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The run has ended: its sockets and tokens go.
    pub(crate) fn close(self) {
        self.serving.abort();
        let run = &self.run;
        let mut jobs = run.jobs();
        jobs.closed = true;
        jobs.live.clear();
        drop(jobs);
        let name = live::principal(run.scope.number, "");
        let tokens = run.daemon.platform.store.job_tokens_remove(&name);
        if let Err(error) = tokens {
            tracing::warn!(
                error = chain(&error),
                run = run.scope.number,
                "tokens of a run are left to expire"
            );
        }
        if let Err(error) = std::fs::remove_dir_all(&run.folder) {
            tracing::warn!(%error, path = %run.folder.display(), "the sockets of a run are left behind");
        }
    }
}

impl Drop for RunAccess {
    fn drop(&mut self) {
        self.serving.abort();
        self.run.jobs().live.clear();
    }
}

impl Run {
    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn jobs_folder(&self) -> PathBuf {
        self.folder.join("jobs")
    }

    fn group(&self) -> Option<u32> {
        Installation::group(self.daemon.platform.installation.identities.runner.as_ref())
    }

    /// Listens again for the jobs that a daemon before has let in.
    fn take_up(self: &Arc<Self>) -> Result<(), JobsError> {
        for record in live::recorded(&self.jobs_folder())? {
            let number = record.number();
            match Live::again(self, record) {
                Ok(Some(job)) => {
                    self.jobs().live.insert(number, job);
                }
                Ok(None) => live::remove(self, number),
                Err(error) => {
                    // The others go on.
                    tracing::error!(
                        error = chain(&error),
                        run = self.scope.number,
                        "a job cannot be taken up"
                    );
                }
            }
        }
        Ok(())
    }

    fn answer(self: &Arc<Self>, request: JobRequest) -> JobAnswer {
        match request {
            JobRequest::Begins(notice) => match self.begins(notice) {
                Ok(access) => JobAnswer::Access(access),
                Err(message) => JobAnswer::Refused { message },
            },
            JobRequest::Ended { number } => {
                if let Some(job) = self.jobs().live.remove(&number) {
                    drop(job);
                    live::remove(self, number);
                }
                JobAnswer::Noted
            }
        }
    }

    /// What a job gets; why not, in words for its log.
    fn begins(self: &Arc<Self>, notice: JobNotice) -> Result<DeployAccess, String> {
        let Some(environment) = self.scope.environment else {
            self.refuse(&notice);
            return Err(format!(
                "{} deploy nowhere: no environment has this branch (environments.*.branches in astraler.toml)",
                self.runs()
            ));
        };
        if !workflow::is_named(environment, &notice.environment) {
            self.refuse(&notice);
            return Err(format!(
                "{} deploy to {environment}, not to {}",
                self.runs(),
                notice.environment
            ));
        }
        let mut jobs = self.jobs();
        if jobs.closed {
            return Err("the run has ended".to_owned());
        }
        if let Some(job) = jobs.live.get(&notice.number) {
            return if job.notice == notice {
                Ok(self.access(environment, job))
            } else {
                Err(format!("another job has the number {}", notice.number))
            };
        }
        if jobs.live.len() >= MAX_JOBS {
            return Err(format!("at most {MAX_JOBS} jobs of a run deploy at once"));
        }
        let number = notice.number;
        let job = Live::begin(self, notice, environment).map_err(|error| {
            tracing::error!(
                error = chain(&error),
                run = self.scope.number,
                "a job cannot be let in"
            );
            format!("the job's way to the platform cannot be made: {}", chain(&error))
        })?;
        let access = self.access(environment, &job);
        jobs.live.insert(number, job);
        Ok(access)
    }

    fn access(&self, environment: Environment, job: &Live) -> DeployAccess {
        let port = self.daemon.platform.installation.ports.http;
        let host = environment.local_hosts().into_iter().next();
        let url = host.map(|host| format!("http://{host}:{port}"));
        let mut variables = BTreeMap::from([("ASTRALER_ENVIRONMENT".to_owned(), environment.to_string())]);
        if let Some(url) = &url {
            variables.insert("ASTRALER_ENVIRONMENT_URL".to_owned(), url.clone());
        }
        DeployAccess {
            socket: job.socket.clone(),
            token_file: job.token_file.clone(),
            url,
            variables,
        }
    }

    /// `runs of `develop``.
    fn runs(&self) -> String {
        match (&self.scope.branch, self.scope.environment) {
            (_, Some(Environment::Preview(number))) => format!("runs of pull request {number}"),
            (Some(branch), _) => format!("runs of `{branch}`"),
            (None, _) => "runs like this one".to_owned(),
        }
    }

    fn refuse(&self, notice: &JobNotice) {
        let principal = live::principal(self.scope.number, &notice.key);
        let subject = format!("deploy {}", notice.environment);
        let detail = json!({ "actor": self.scope.actor, "environment": self.scope.environment });
        if let Err(error) = self
            .daemon
            .platform
            .audit(&principal, "refused", &subject, &detail)
        {
            tracing::error!(error = chain(&error), "a refusal cannot be written down");
        }
    }
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run")
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

/// A socket for the runner's user. What a process before has left there goes.
fn listen(path: &Path, group: Option<u32>) -> Result<UnixListener, JobsError> {
    use std::os::unix::fs::PermissionsExt;
    file::remove_if_present(path)?;
    let made = UnixListener::bind(path).and_then(|listener| {
        std::os::unix::fs::chown(path, None, group)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
        Ok(listener)
    });
    made.map_err(|source| JobsError::Socket {
        path: path.to_owned(),
        source,
    })
}

/// Whether the other end is the runner, or a step of it: their user is the same.
fn is_runner(installation: &Installation, stream: &UnixStream) -> bool {
    let runner = installation.identities.runner.as_ref();
    let wanted = runner.map_or(installation.owner_uid, |identity| identity.uid);
    stream.peer_cred().is_ok_and(|peer| peer.uid() == wanted)
}

async fn serve(run: Arc<Run>, listener: UnixListener) {
    let mut requests = JoinSet::new();
    loop {
        let Some(stream) = api::accepted(listener.accept().await).await else {
            continue;
        };
        if !is_runner(&run.daemon.platform.installation, &stream) {
            tracing::warn!(
                run = run.scope.number,
                "a process of another user tried a run's socket"
            );
            continue;
        }
        while requests.try_join_next().is_some() {}
        if requests.len() >= MAX_REQUESTS {
            requests.join_next().await;
        }
        let run = Arc::clone(&run);
        requests.spawn(async move {
            let asked = tokio::time::timeout(REQUEST_TIMEOUT, exchange(&run, stream)).await;
            if let Ok(Err(error)) = asked {
                tracing::debug!(%error, "a connection of a runner ended early");
            }
        });
    }
}

async fn exchange(run: &Arc<Run>, stream: UnixStream) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    BufReader::new(reader.take(MAX_CONTROL_LINE))
        .read_line(&mut line)
        .await?;
    let request: JobRequest = serde_json::from_str(&line)?;
    let asked = Arc::clone(run);
    let answer = tokio::task::spawn_blocking(move || asked.answer(request))
        .await
        .map_err(io::Error::other)?;
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    writer.write_all(&text).await
}
