//! One connection to Redis that many requests share: each request's commands are written together, and
//! replies come back in order.

use crate::resp::{Decoder, Limits, RespError, Value, encode_command};
use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// A request got no reply from Redis.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// Not reachable.
    #[error("Redis at {} cannot be reached: {reason}", socket.display())]
    Unreachable {
        /// Its socket.
        socket: PathBuf,
        /// Why.
        reason: String,
    },
    /// It refused the user or its password.
    #[error("Redis at {} refused the user: {reply}", socket.display())]
    Refused {
        /// Its socket.
        socket: PathBuf,
        /// What it said.
        reply: String,
    },
    /// The connection ended before the reply; the command may have been executed.
    #[error("the connection to Redis ended before it replied")]
    Lost,
    /// Too many requests wait already.
    #[error("too many requests wait for Redis")]
    Busy,
    /// No reply in time; the command may still be executed.
    #[error("Redis did not reply within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// It replied with nonsense or too much.
    #[error(transparent)]
    Reply(#[from] RespError),
}

/// How to get in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) socket: PathBuf,
    pub(crate) user: String,
    pub(crate) password: String,
}

/// Asks once more every few milliseconds until Redis answers PING, or the time is over. A wrong password is
/// an error at once.
pub async fn ping(socket: &Path, user: &str, password: &str, timeout: Duration) -> Result<(), ClientError> {
    let login = Login {
        socket: socket.to_owned(),
        user: user.to_owned(),
        password: password.to_owned(),
    };
    let deadline = Instant::now() + timeout;
    loop {
        let attempt = async {
            let mut connection = Connection::open(&login).await?;
            let mut out = BytesMut::new();
            encode_command(&["PING"], &mut out);
            match connection.ask(&out).await? {
                Value::Simple(_) => Ok(()),
                // LOADING, for example.
                other => Err(ClientError::Unreachable {
                    socket: login.socket.clone(),
                    reason: format!("{other:?}"),
                }),
            }
        };
        let error = match tokio::time::timeout_at(deadline, attempt).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error @ ClientError::Refused { .. })) => return Err(error),
            Ok(Err(error)) => error,
            Err(_) => return Err(ClientError::Timeout(timeout)),
        };
        if Instant::now() + RETRY >= deadline {
            return Err(error);
        }
        tokio::time::sleep(RETRY).await;
    }
}

const RETRY: Duration = Duration::from_millis(25);
/// A request that finds Redis restarting waits so long for it.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// Requests that wait to be written.
const QUEUE: usize = 1_024;
/// Requests written and not answered yet.
const IN_FLIGHT: usize = 1_024;
/// Bytes not written yet above which no further request is taken.
const OUT_HIGH: usize = 256 << 10;
const IDLE: Duration = Duration::from_secs(60);

/// Commands of one request.
struct Job {
    payload: Bytes,
    replies: usize,
    answer: oneshot::Sender<Result<Vec<Value>, ClientError>>,
}

/// A handle to the shared connection, which opens when it is needed and ends with the last handle.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    jobs: mpsc::Sender<Job>,
}

impl Client {
    pub(crate) fn new(login: Login) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        tokio::spawn(run(login, queue));
        Self { jobs }
    }

    /// Sends commands, already encoded, and waits for so many replies.
    pub(crate) async fn send(&self, payload: Bytes, replies: usize) -> Result<Vec<Value>, ClientError> {
        let (answer, reply) = oneshot::channel();
        self.jobs
            .try_send(Job {
                payload,
                replies,
                answer,
            })
            .map_err(|_| ClientError::Busy)?;
        match tokio::time::timeout(REPLY_TIMEOUT, reply).await {
            Ok(answered) => answered.unwrap_or(Err(ClientError::Lost)),
            Err(_) => Err(ClientError::Timeout(REPLY_TIMEOUT)),
        }
    }
}

async fn run(login: Login, mut queue: mpsc::Receiver<Job>) {
    while let Some(job) = queue.recv().await {
        match open_patiently(&login).await {
            Ok(connection) => serve(connection, job, &mut queue).await,
            Err(error) => {
                tracing::warn!(%error, "requests for Redis fail");
                let _ = job.answer.send(Err(error.clone()));
                while let Ok(job) = queue.try_recv() {
                    let _ = job.answer.send(Err(error.clone()));
                }
            }
        }
    }
}

async fn open_patiently(login: &Login) -> Result<Connection, ClientError> {
    let deadline = Instant::now() + CONNECT_PATIENCE;
    loop {
        let opened = tokio::time::timeout_at(deadline, Connection::open(login)).await;
        let error = match opened {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => error,
            Err(_) => ClientError::Timeout(CONNECT_PATIENCE),
        };
        if matches!(error, ClientError::Refused { .. }) || Instant::now() + RETRY >= deadline {
            return Err(error);
        }
        tokio::time::sleep(RETRY).await;
    }
}

struct Pending {
    replies: usize,
    values: Vec<Value>,
    answer: oneshot::Sender<Result<Vec<Value>, ClientError>>,
}

/// Serves requests until the connection ends or nothing happened for a while. Requests that were not written
/// stay in the queue for the next connection.
async fn serve(mut connection: Connection, first: Job, queue: &mut mpsc::Receiver<Job>) {
    let mut pending: VecDeque<Pending> = VecDeque::new();
    let take = |job: Job, connection: &mut Connection, pending: &mut VecDeque<Pending>| {
        connection.out.extend_from_slice(&job.payload);
        pending.push_back(Pending {
            replies: job.replies,
            values: vec![],
            answer: job.answer,
        });
    };
    take(first, &mut connection, &mut pending);
    let error = loop {
        if let Err(error) = connection.flush() {
            tracing::debug!(%error, "writing to Redis");
            break ClientError::Lost;
        }
        let interest = connection.interest();
        tokio::select! {
            job = queue.recv(), if pending.len() < IN_FLIGHT && connection.out.len() < OUT_HIGH => {
                let Some(job) = job else {
                    if pending.is_empty() { return }
                    // The last handle is gone, but its request may still wait: finish below.
                    queue.close();
                    if let Err(error) = finish(&mut connection, &mut pending).await { break error }
                    return;
                };
                take(job, &mut connection, &mut pending);
            }
            ready = connection.stream.ready(interest) => {
                if ready.is_err() { break ClientError::Lost }
                if let Err(error) = receive(&mut connection, &mut pending) { break error }
            }
            () = tokio::time::sleep(IDLE), if pending.is_empty() => return,
        }
    };
    for request in pending {
        let _ = request.answer.send(Err(error.clone()));
    }
}

async fn finish(connection: &mut Connection, pending: &mut VecDeque<Pending>) -> Result<(), ClientError> {
    while !pending.is_empty() {
        connection.flush().map_err(|_| ClientError::Lost)?;
        connection
            .stream
            .ready(connection.interest())
            .await
            .map_err(|_| ClientError::Lost)?;
        receive(connection, pending)?;
    }
    Ok(())
}

/// Takes what has arrived and answers the requests that are complete.
fn receive(connection: &mut Connection, pending: &mut VecDeque<Pending>) -> Result<(), ClientError> {
    connection.fill()?;
    while let Some(value) = connection.decoder.next(&mut connection.incoming)? {
        let Some(request) = pending.front_mut() else {
            return Err(RespError::Malformed("a reply that nobody asked for").into());
        };
        request.values.push(value);
        if request.values.len() == request.replies
            && let Some(done) = pending.pop_front()
        {
            let _ = done.answer.send(Ok(done.values));
        }
    }
    Ok(())
}

pub(crate) struct Connection {
    stream: UnixStream,
    incoming: BytesMut,
    out: BytesMut,
    decoder: Decoder,
}

impl Connection {
    pub(crate) async fn open(login: &Login) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(&login.socket)
            .await
            .map_err(|error| ClientError::Unreachable {
                socket: login.socket.clone(),
                reason: error.to_string(),
            })?;
        let mut connection = Self {
            stream,
            incoming: BytesMut::new(),
            out: BytesMut::new(),
            decoder: Decoder::new(Limits::default()),
        };
        let mut out = BytesMut::new();
        encode_command(&["AUTH", &login.user, &login.password], &mut out);
        match connection.ask(&out).await? {
            Value::Simple(_) => Ok(connection),
            Value::Error(reply) => Err(ClientError::Refused {
                socket: login.socket.clone(),
                reply: String::from_utf8_lossy(&reply).into_owned(),
            }),
            _ => Err(RespError::Malformed("AUTH was answered with something else").into()),
        }
    }

    pub(crate) async fn ask(&mut self, command: &[u8]) -> Result<Value, ClientError> {
        self.out.extend_from_slice(command);
        loop {
            self.flush().map_err(|_| ClientError::Lost)?;
            self.stream
                .ready(self.interest())
                .await
                .map_err(|_| ClientError::Lost)?;
            self.fill()?;
            if let Some(value) = self.decoder.next(&mut self.incoming)? {
                return Ok(value);
            }
        }
    }

    fn interest(&self) -> Interest {
        if self.out.is_empty() {
            Interest::READABLE
        } else {
            Interest::READABLE | Interest::WRITABLE
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            match self.stream.try_write(&self.out) {
                Ok(written) => self.out.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads at most 256 KiB, so that writing has its turn.
    fn fill(&mut self) -> Result<(), ClientError> {
        for _ in 0..4 {
            self.incoming.reserve(64 << 10);
            match self.stream.try_read_buf(&mut self.incoming) {
                Ok(0) => return Err(ClientError::Lost),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    tracing::debug!(%error, "reading from Redis");
                    return Err(ClientError::Lost);
                }
            }
        }
        Ok(())
    }
}
