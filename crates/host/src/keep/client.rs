//! The client of `keep`'s control socket.

use super::protocol::{Answer, MAX_ANSWER, Request, read_line, to_line};
use crate::supervisor::{BoxFuture, Started, Supervisor, SupervisorError};
use astraler_model::{UnitName, UnitSpec, UnitStatus};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

/// How long a successor of a dead `keep` may take to answer. A socket that is not there is not waited for.
const SUCCESSOR: Duration = Duration::from_secs(3);
const RETRY: Duration = Duration::from_millis(20);

/// Asks `keep` through its control socket; each call is a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the `keep` that listens on this socket; nothing is connected yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// The control socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks once; while a dead `keep` is followed by its standby, asks again. Every request may be repeated: a start
    /// is idempotent by digest, a second replacement or restart puts one more fresh process in place.
    async fn ask(&self, request: Request) -> Result<Answer, SupervisorError> {
        let line = to_line(&request).map_err(|error| self.unreachable(&error))?;
        let deadline = Instant::now() + SUCCESSOR;
        loop {
            let error = match self.exchange(&line).await {
                Ok(Answer::Error(error)) => return Err(error),
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if matches!(request, Request::Shutdown) && !self.socket.exists() {
                return Ok(Answer::Done);
            }
            let passing = matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::UnexpectedEof
            );
            if !passing || Instant::now() >= deadline {
                return Err(self.unreachable(&error));
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn exchange(&self, line: &[u8]) -> io::Result<Answer> {
        let mut stream = UnixStream::connect(&self.socket).await?;
        stream.write_all(line).await?;
        // How long an answer takes is the unit's to say (its readiness, its grace), and `keep` bounds both.
        let answer = read_line(&mut stream, MAX_ANSWER)
            .await?
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(serde_json::from_slice(&answer)?)
    }

    fn unreachable(&self, error: &io::Error) -> SupervisorError {
        SupervisorError::Unreachable {
            socket: self.socket.clone(),
            reason: error.to_string(),
        }
    }

    fn unexpected(&self) -> SupervisorError {
        self.unreachable(&io::Error::new(
            io::ErrorKind::InvalidData,
            "the answer fits another request",
        ))
    }

    async fn started(&self, request: Request) -> Result<Started, SupervisorError> {
        match self.ask(request).await? {
            Answer::Started(started) => Ok(started),
            _ => Err(self.unexpected()),
        }
    }

    async fn done(&self, request: Request) -> Result<(), SupervisorError> {
        match self.ask(request).await? {
            Answer::Done => Ok(()),
            _ => Err(self.unexpected()),
        }
    }
}

impl Supervisor for Client {
    fn start(&self, spec: &UnitSpec) -> BoxFuture<'_, Result<Started, SupervisorError>> {
        let spec = Box::new(spec.clone());
        Box::pin(self.started(Request::Start { spec }))
    }

    fn replace(&self, spec: &UnitSpec) -> BoxFuture<'_, Result<Started, SupervisorError>> {
        let spec = Box::new(spec.clone());
        Box::pin(self.started(Request::Replace { spec }))
    }

    fn restart(&self, name: &UnitName) -> BoxFuture<'_, Result<UnitStatus, SupervisorError>> {
        let name = name.clone();
        Box::pin(async move {
            match self.ask(Request::Restart { name }).await? {
                Answer::Status(status) => Ok(status),
                _ => Err(self.unexpected()),
            }
        })
    }

    fn stop(&self, name: &UnitName) -> BoxFuture<'_, Result<(), SupervisorError>> {
        let name = name.clone();
        Box::pin(self.done(Request::Stop { name }))
    }

    fn remove(&self, name: &UnitName) -> BoxFuture<'_, Result<(), SupervisorError>> {
        let name = name.clone();
        Box::pin(self.done(Request::Remove { name }))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<UnitStatus>, SupervisorError>> {
        Box::pin(async move {
            match self.ask(Request::List).await? {
                Answer::Units(units) => Ok(units),
                _ => Err(self.unexpected()),
            }
        })
    }

    fn shutdown(&self) -> BoxFuture<'_, Result<(), SupervisorError>> {
        Box::pin(self.done(Request::Shutdown))
    }
}
