//! What the runner and whoever started it say to each other while a run goes on, over a socket of the run's own: a
//! job with `environment:` begins, and gets its way to the platform or a refusal in words; it has ended, and what it
//! got goes. No job reaches that socket.
//!
//! One connection for each request: a line of JSON, answered by a line of JSON. What listens there may be killed and
//! started anew at any time, so that the runner asks again; a job that is announced twice gets what it has got.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Longest line, of either side.
pub const MAX_CONTROL_LINE: u64 = 64 << 10;
/// How long an announcement is tried: a daemon that starts anew needs some seconds.
const BEGIN_WITHIN: Duration = Duration::from_secs(60);
/// What is not told that a job has ended hears it when the run has.
const END_WITHIN: Duration = Duration::from_secs(15);
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(200);

/// A job with `environment:` that begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobNotice {
    /// Its number in the run: two workflows may have jobs of one key.
    pub number: u64,
    /// Its key: the id, with what tells apart a matrix.
    pub key: String,
    /// Name of its environment.
    pub environment: String,
}

/// What a job with `environment:` gets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployAccess {
    /// A unix socket, in a folder that holds nothing else: the sandbox gets that folder, so that a socket that is made
    /// anew is reached too. In the sandbox `ASTRALER_SOCKET` says where it is, and `ASTRALER_URL` as `unix:…`.
    pub socket: PathBuf,
    /// A file with the job's token: `ASTRALER_TOKEN_FILE`. It is read when the job begins.
    pub token_file: PathBuf,
    /// Where its environment is seen, if the workflow does not say it.
    #[serde(default)]
    pub url: Option<String>,
    /// What else stands in the environment of its steps. No secret: it is not masked.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
}

/// What the runner says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum JobRequest {
    /// A job begins.
    Begins(JobNotice),
    /// It has ended, and its sandbox with it.
    Ended {
        /// [`JobNotice::number`].
        number: u64,
    },
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum JobAnswer {
    /// What the job gets.
    Access(DeployAccess),
    /// The job fails with these words.
    Refused {
        /// Why.
        message: String,
    },
    /// Its end is known.
    Noted,
}

/// An answer that takes its time.
pub type Answering<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Gives a job with `environment:` its way to the platform.
pub trait Deploys: Send + Sync {
    /// What this job gets; none where nothing is deployed from here. The error is shown, and fails the job.
    fn begins<'a>(&'a self, job: &'a JobNotice) -> Answering<'a, Result<Option<DeployAccess>, String>>;

    /// The job has ended. Also told of jobs that got nothing.
    fn ended<'a>(&'a self, job: &'a JobNotice) -> Answering<'a, ()>;
}

/// Where nothing is deployed from.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoDeploys;

impl Deploys for NoDeploys {
    fn begins<'a>(&'a self, _: &'a JobNotice) -> Answering<'a, Result<Option<DeployAccess>, String>> {
        Box::pin(async { Ok(None) })
    }

    fn ended<'a>(&'a self, _: &'a JobNotice) -> Answering<'a, ()> {
        Box::pin(async {})
    }
}

/// Asks on the run's socket.
#[derive(Debug, Clone)]
pub struct ControlDeploys {
    socket: PathBuf,
}

impl ControlDeploys {
    /// The run's socket.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// Asks until there is an answer, or the time is up.
    async fn ask(&self, request: &JobRequest, within: Duration) -> io::Result<JobAnswer> {
        let until = Instant::now() + within;
        loop {
            let asked = timeout_at(until, timeout(ANSWER_WITHIN, self.ask_once(request))).await;
            let error = match asked {
                Ok(Ok(Ok(answer))) => return Ok(answer),
                Ok(Ok(Err(error))) => error,
                Ok(Err(_)) | Err(_) => io::ErrorKind::TimedOut.into(),
            };
            if Instant::now() + PAUSE >= until {
                return Err(error);
            }
            sleep(PAUSE).await;
        }
    }

    async fn ask_once(&self, request: &JobRequest) -> io::Result<JobAnswer> {
        let mut stream = UnixStream::connect(&self.socket).await?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut answer = String::new();
        BufReader::new(stream.take(MAX_CONTROL_LINE))
            .read_line(&mut answer)
            .await?;
        Ok(serde_json::from_str(&answer)?)
    }
}

impl Deploys for ControlDeploys {
    fn begins<'a>(&'a self, job: &'a JobNotice) -> Answering<'a, Result<Option<DeployAccess>, String>> {
        Box::pin(async move {
            match self.ask(&JobRequest::Begins(job.clone()), BEGIN_WITHIN).await {
                Ok(JobAnswer::Access(access)) => Ok(Some(access)),
                Ok(JobAnswer::Refused { message }) => Err(message),
                Ok(JobAnswer::Noted) => Err("the platform's answer is not understood".into()),
                Err(error) => Err(format!(
                    "the platform does not answer, so that this job cannot deploy: {error}"
                )),
            }
        })
    }

    fn ended<'a>(&'a self, job: &'a JobNotice) -> Answering<'a, ()> {
        Box::pin(async move {
            let request = JobRequest::Ended { number: job.number };
            if let Err(error) = self.ask(&request, END_WITHIN).await {
                // All of a run's goes at its end, whatever was told before.
                tracing::warn!(%error, job = job.key, "the platform was not told that a job has ended");
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    fn notice() -> JobNotice {
        JobNotice {
            number: 3,
            key: "deploy".into(),
            environment: "staging".into(),
        }
    }

    /// Answers one request after each other, and gives what it was asked.
    async fn answer(listener: &UnixListener, answer: Option<&JobAnswer>) -> JobRequest {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut line = String::new();
        BufReader::new(&mut stream).read_line(&mut line).await.unwrap();
        if let Some(answer) = answer {
            let text = serde_json::to_string(answer).unwrap();
            stream.write_all(format!("{text}\n").as_bytes()).await.unwrap();
        }
        serde_json::from_str(&line).unwrap()
    }

    #[tokio::test]
    async fn a_daemon_that_is_killed_before_it_answers_is_asked_again() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("control.sock");
        let access = DeployAccess {
            socket: "/run/s.sock".into(),
            ..DeployAccess::default()
        };
        let told = JobAnswer::Access(access.clone());
        let serving = async {
            // Nobody listens at first, then somebody who dies, then somebody who answers.
            sleep(Duration::from_millis(50)).await;
            let listener = UnixListener::bind(&socket).unwrap();
            let first = answer(&listener, None).await;
            let second = answer(&listener, Some(&told)).await;
            assert_eq!(first, second);
            assert_eq!(first, JobRequest::Begins(notice()));
            let refused = JobAnswer::Refused {
                message: "not from here".into(),
            };
            answer(&listener, Some(&refused)).await;
            let end = answer(&listener, Some(&JobAnswer::Noted)).await;
            assert_eq!(end, JobRequest::Ended { number: 3 });
        };
        let deploys = ControlDeploys::new(&socket);
        let asking = async {
            assert_eq!(deploys.begins(&notice()).await, Ok(Some(access)));
            assert_eq!(deploys.begins(&notice()).await, Err("not from here".into()));
            deploys.ended(&notice()).await;
        };
        tokio::join!(serving, asking);
    }
}
