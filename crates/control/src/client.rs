//! HTTP over a Unix socket: the admin API's client, and single GETs to status and worker sockets.

use crate::releases::{ReleaseSummary, Verified};
use crate::upload::Received;
use crate::words::{
    DeployRequest, DeploymentReport, Event, NewTokenReport, NewTokenRequest, PromoteRequest, PushRequest,
    PushTaken, PushVerdict, RollbackRequest, RunLine, RunSummary, StatusReport, UpRequest,
};
use astraler_model::Environment;
use astraler_release::Description;
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use http::{Method, Request};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::Instant;

/// Between looks for somebody who listens.
const PAUSE: Duration = Duration::from_millis(200);

/// Answers are read up to this size.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// The daemon, or another process of ours, did not answer as expected.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there, or we may not connect.
    #[error("cannot connect to {path}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("the connection to {path} broke")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: hyper::Error,
    },
    /// The request or the answer is not well formed.
    #[error("{path}: {reason}")]
    Protocol {
        /// The socket.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// What was received cannot be written.
    #[error("the answer cannot be written")]
    Write(#[source] std::io::Error),
    /// The daemon refused.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its words.
        message: String,
    },
}

/// What is sent: one piece, or many as they come.
type Body = UnsyncBoxBody<Bytes, std::io::Error>;

fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// An answer read whole.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

/// One request without a body on a socket.
pub(crate) async fn ask(socket: &Path, method: Method, path: &str) -> Result<Answer, ClientError> {
    let response = send(socket, method, path).await?;
    let status = response.status().as_u16();
    Ok(Answer {
        status,
        body: collect(socket, response.into_body()).await?,
    })
}

/// One GET on a socket.
pub(crate) async fn get(socket: &Path, path: &str) -> Result<Answer, ClientError> {
    ask(socket, Method::GET, path).await
}

/// The admin API, as the command line uses it.
#[derive(Debug, Clone)]
pub struct AdminClient {
    socket: PathBuf,
    /// `Authorization: Bearer`, on a socket where the peer's user says nothing.
    token: Option<String>,
    /// How long it waits for somebody to listen.
    patience: Duration,
}

impl AdminClient {
    /// A client of the daemon behind a socket.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            token: None,
            patience: Duration::ZERO,
        }
    }

    /// The same, which waits so long for a daemon that starts anew. What was sent already is not sent again.
    pub fn patient(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The same with a bearer token, for a job's socket.
    pub fn with_token(self, token: impl Into<String>) -> Self {
        Self {
            token: Some(token.into()),
            ..self
        }
    }

    /// Whether it waits for a daemon that starts anew.
    pub fn is_patient(&self) -> bool {
        !self.patience.is_zero()
    }

    /// Asks for the state of the platform.
    pub async fn status(&self) -> Result<StatusReport, ClientError> {
        self.read("/v1/status").await
    }

    /// One credential of an environment, in clear; the daemon writes an audit entry before it answers.
    pub async fn credential(&self, environment: &str, name: &str) -> Result<String, ClientError> {
        self.read(&format!("/v1/environments/{environment}/credentials/{name}"))
            .await
    }

    /// Audit entries, newest last.
    pub async fn audit(&self, limit: usize) -> Result<serde_json::Value, ClientError> {
        self.read(&format!("/v1/audit?limit={limit}")).await
    }

    /// The numbers of environments from a time on.
    pub async fn metrics(
        &self,
        environment: Option<Environment>,
        since_ms: i64,
    ) -> Result<serde_json::Value, ClientError> {
        let of = environment.map_or_else(String::new, |environment| format!("&environment={environment}"));
        self.read(&format!("/v1/metrics?since_ms={since_ms}{of}")).await
    }

    /// Checks the audit chain.
    pub async fn audit_verify(&self) -> Result<serde_json::Value, ClientError> {
        self.read("/v1/audit/verify").await
    }

    /// Every release, the one that was stored last at the end.
    pub async fn releases(&self) -> Result<Vec<ReleaseSummary>, ClientError> {
        self.read("/v1/releases").await
    }

    /// One release; its digest may be short.
    pub async fn release(&self, digest: &str) -> Result<Description, ClientError> {
        self.read(&release_path(digest, "")).await
    }

    /// Checks every byte of a release; status [`crate::DAMAGED`] says that it is not what it was.
    pub async fn release_verify(&self, digest: &str) -> Result<Verified, ClientError> {
        self.read(&release_path(digest, "/verify")).await
    }

    /// Hands the pieces of a release's archive to `write` as they arrive.
    pub async fn release_archive(
        &self,
        digest: &str,
        mut write: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<(), ClientError> {
        let path = release_path(digest, "/archive");
        let response = self.send(Method::GET, &path, whole(Bytes::new())).await?;
        let status = response.status();
        let mut body = response.into_body();
        if !status.is_success() {
            return Err(refused(status.as_u16(), &collect(&self.socket, body).await?));
        }
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|source| ClientError::Broken {
                path: self.socket.clone(),
                source,
            })?;
            if let Some(piece) = frame.data_ref() {
                write(piece).map_err(ClientError::Write)?;
            }
        }
        Ok(())
    }

    /// Makes a token; the answer is the only place where its text is.
    pub async fn token_create(&self, request: &NewTokenRequest) -> Result<NewTokenReport, ClientError> {
        let body = serde_json::to_vec(request).map_err(|error| self.protocol(&error))?;
        self.ask(Method::POST, "/v1/tokens", body.into()).await
    }

    /// Named tokens, without their text.
    pub async fn tokens(&self) -> Result<serde_json::Value, ClientError> {
        self.read("/v1/tokens").await
    }

    /// Ends a token.
    pub async fn token_revoke(&self, name: &str) -> Result<(), ClientError> {
        let path = format!("/v1/tokens/{name}");
        let _: serde_json::Value = self.ask(Method::DELETE, &path, Bytes::new()).await?;
        Ok(())
    }

    /// A token with the owner's rights that holds for some minutes: for tools that cannot use the socket.
    pub async fn session(&self) -> Result<NewTokenReport, ClientError> {
        self.ask(Method::POST, "/v1/session", Bytes::new()).await
    }

    /// Asks whether a push may be taken: for the hook of the repository.
    pub async fn push_verdict(&self, request: &PushRequest) -> Result<PushVerdict, ClientError> {
        let body = serde_json::to_vec(request).map_err(|error| self.protocol(&error))?;
        self.ask(Method::POST, "/v1/git/decide", body.into()).await
    }

    /// Tells that a push was taken, and hears what its runs say: for the other hook.
    pub async fn push_taken(
        &self,
        request: &PushTaken,
        on_line: impl FnMut(RunLine) -> bool,
    ) -> Result<(), ClientError> {
        self.change(Method::POST, "/v1/git/taken", request, on_line).await
    }

    /// The newest runs, newest first, without their reports.
    pub async fn runs(&self, branch: Option<&str>, limit: u32) -> Result<Vec<RunSummary>, ClientError> {
        let of = branch.map_or_else(String::new, |branch| format!("&branch={}", encoded(branch)));
        self.read(&format!("/v1/runs?limit={limit}{of}")).await
    }

    /// One run.
    pub async fn run(&self, number: u64) -> Result<RunSummary, ClientError> {
        self.read(&format!("/v1/runs/{number}")).await
    }

    /// What a run said; with `follow` also what it says until it ends.
    pub async fn run_events(
        &self,
        number: u64,
        follow: bool,
        on_line: impl FnMut(RunLine) -> bool,
    ) -> Result<(), ClientError> {
        let path = format!("/v1/runs/{number}/events?follow={follow}");
        self.change(Method::GET, &path, &serde_json::Value::Null, on_line)
            .await
    }

    /// Asks that a run end.
    pub async fn run_cancel(&self, number: u64) -> Result<(), ClientError> {
        let path = format!("/v1/runs/{number}/cancel");
        let _: serde_json::Value = self.ask(Method::POST, &path, Bytes::new()).await?;
        Ok(())
    }

    /// The zone.
    pub async fn dns(&self) -> Result<crate::DnsReport, ClientError> {
        self.read("/v1/dns").await
    }

    /// Whether it is served as it should be.
    pub async fn dns_check(&self) -> Result<crate::DnsCheckReport, ClientError> {
        self.read("/v1/dns/check").await
    }

    /// Serves a proof for a certificate authority, or takes it away.
    pub async fn dns_challenge(&self, host: &str, value: &str, remove: bool) -> Result<(), ClientError> {
        let request = crate::dns::ChallengeRequest {
            host: host.to_owned(),
            value: value.to_owned(),
            remove,
        };
        let _: serde_json::Value = self.post("/v1/dns/challenges", &request).await?;
        Ok(())
    }

    /// How backups stand.
    pub async fn backup_status(&self) -> Result<crate::BackupReport, ClientError> {
        self.read("/v1/backups").await
    }

    /// The newest backups that were tried, newest first.
    pub async fn backups(&self, limit: u32) -> Result<serde_json::Value, ClientError> {
        self.read(&format!("/v1/backups/list?limit={limit}")).await
    }

    /// Makes all backups now.
    pub async fn backup_run(&self, on_line: impl FnMut(crate::Progress) -> bool) -> Result<(), ClientError> {
        self.change(Method::POST, "/v1/backups/run", &serde_json::Value::Null, on_line)
            .await
    }

    /// Reads the newest backups back, and a sample of the replicas' objects, or all of them.
    pub async fn backup_verify(
        &self,
        full: bool,
        on_line: impl FnMut(crate::Progress) -> bool,
    ) -> Result<(), ClientError> {
        let path = format!("/v1/backups/verify?full={full}");
        self.change(Method::POST, &path, &serde_json::Value::Null, on_line)
            .await
    }

    /// Brings objects back from their second location.
    pub async fn recover_storage(
        &self,
        request: &crate::RecoverStorageRequest,
        on_line: impl FnMut(crate::Progress) -> bool,
    ) -> Result<(), ClientError> {
        self.change(Method::POST, "/v1/recover/storage", request, on_line)
            .await
    }

    /// Restores a random point in time on trial.
    pub async fn drill(
        &self,
        request: &crate::DrillRequest,
        on_line: impl FnMut(crate::Progress) -> bool,
    ) -> Result<(), ClientError> {
        self.change(Method::POST, "/v1/drill", request, on_line).await
    }

    /// Brings a database back.
    pub async fn recover_database(
        &self,
        request: &crate::RecoverDatabaseRequest,
        on_line: impl FnMut(crate::Progress) -> bool,
    ) -> Result<(), ClientError> {
        self.change(Method::POST, "/v1/recover/database", request, on_line)
            .await
    }

    /// Brings a service back.
    pub async fn recover_service(
        &self,
        request: &crate::RecoverServiceRequest,
        on_line: impl FnMut(crate::Progress) -> bool,
    ) -> Result<(), ClientError> {
        self.change(Method::POST, "/v1/recover/service", request, on_line)
            .await
    }

    /// Tells the daemon that the platform is about to stop, so that it is recorded.
    pub async fn note_down(&self) -> Result<(), ClientError> {
        let _: serde_json::Value = self.ask(Method::POST, "/v1/down", Bytes::new()).await?;
        Ok(())
    }

    /// Brings an environment up; calls `on_event` for each line of progress as it arrives.
    pub async fn up(
        &self,
        request: &UpRequest,
        on_event: impl FnMut(Event) -> bool,
    ) -> Result<(), ClientError> {
        self.change(Method::POST, "/v1/up", request, on_event).await
    }

    /// Puts a release into an environment. Here and below: `on_event` says whether to go on listening; the work goes on
    /// whatever it says.
    pub async fn deploy(
        &self,
        request: &DeployRequest,
        on_event: impl FnMut(Event) -> bool,
    ) -> Result<(), ClientError> {
        self.change(Method::POST, "/v1/deploy", request, on_event).await
    }

    /// Puts the release of one environment into another.
    pub async fn promote(
        &self,
        request: &PromoteRequest,
        on_event: impl FnMut(Event) -> bool,
    ) -> Result<(), ClientError> {
        self.change(Method::POST, "/v1/promote", request, on_event).await
    }

    /// Goes back.
    pub async fn rollback(
        &self,
        request: &RollbackRequest,
        on_event: impl FnMut(Event) -> bool,
    ) -> Result<(), ClientError> {
        self.change(Method::POST, "/v1/rollback", request, on_event).await
    }

    /// Removes a preview.
    pub async fn remove_environment(
        &self,
        environment: Environment,
        on_event: impl FnMut(Event) -> bool,
    ) -> Result<(), ClientError> {
        let path = format!("/v1/environments/{environment}");
        self.change(Method::DELETE, &path, &serde_json::Value::Null, on_event)
            .await
    }

    /// The newest deployments, newest first.
    pub async fn deployments(
        &self,
        environment: Option<Environment>,
        limit: u32,
    ) -> Result<Vec<DeploymentReport>, ClientError> {
        let of = environment.map_or_else(String::new, |environment| format!("&environment={environment}"));
        self.read(&format!("/v1/deployments?limit={limit}{of}")).await
    }

    /// The release that was built from what the key stands for, if the daemon has it.
    pub async fn release_by_key(&self, key: &str) -> Result<Option<String>, ClientError> {
        match self.read::<Received>(&format!("/v1/releases/key/{key}")).await {
            Ok(received) => Ok(Some(received.digest)),
            Err(ClientError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends a release: a tar of an OCI image layout, in pieces as they come. Answers its digest.
    pub async fn upload(
        &self,
        key: Option<&str>,
        pieces: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    ) -> Result<String, ClientError> {
        let path = match key {
            Some(key) => format!("/v1/releases?key={key}"),
            None => "/v1/releases".to_owned(),
        };
        let body = StreamBody::new(pieces.map_ok(Frame::data)).boxed_unsync();
        let response = self.send(Method::POST, &path, body).await?;
        let status = response.status();
        let body = collect(&self.socket, response.into_body()).await?;
        if !status.is_success() {
            return Err(refused(status.as_u16(), &body));
        }
        let received: Received = serde_json::from_slice(&body).map_err(|error| self.protocol(&error))?;
        Ok(received.digest)
    }

    pub(crate) async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        request: &impl Serialize,
        mut on_event: impl FnMut(T) -> bool,
    ) -> Result<(), ClientError> {
        let body = serde_json::to_vec(request).map_err(|error| self.protocol(&error))?;
        let response = self.send(method, path, whole(body)).await?;
        let status = response.status();
        let mut body = response.into_body();
        if !status.is_success() {
            return Err(refused(status.as_u16(), &collect(&self.socket, body).await?));
        }
        let mut pending = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|source| ClientError::Broken {
                path: self.socket.clone(),
                source,
            })?;
            pending.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            if pending.len() > MAX_ANSWER_BYTES {
                return Err(self.protocol(&"a line of progress is too long"));
            }
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                let event = serde_json::from_slice(&line).map_err(|error| self.protocol(&error))?;
                if !on_event(event) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<http::Response<Incoming>, ClientError> {
        let until = Instant::now() + self.patience;
        let stream = loop {
            match UnixStream::connect(&self.socket).await {
                Ok(stream) => break stream,
                Err(source) => {
                    let nobody = matches!(source.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused);
                    if !nobody || Instant::now() >= until {
                        return Err(unconnected(&self.socket, source));
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        };
        exchange(stream, &self.socket, method, path, self.token.as_deref(), body).await
    }

    /// What a manifest would change. Nothing is changed.
    pub async fn plan(&self, request: &crate::PlanRequest) -> Result<astraler_plan::Plan, ClientError> {
        self.post("/v1/plan", request).await
    }

    /// What was changed by hand. Nothing is changed.
    pub async fn drift(&self) -> Result<astraler_plan::Plan, ClientError> {
        self.read("/v1/drift").await
    }

    /// What destroying environments would take away. Nothing is changed.
    pub async fn destruction(
        &self,
        environments: std::collections::BTreeSet<astraler_model::Environment>,
    ) -> Result<astraler_plan::Plan, ClientError> {
        let request = crate::DestroyRequest {
            environments,
            plan: None,
        };
        self.post("/v1/destroy", &request).await
    }

    /// Carries a plan out; calls `on_event` for each line of progress as it arrives.
    pub async fn apply(
        &self,
        request: &crate::ApplyRequest,
        mut on_event: impl FnMut(crate::ApplyEvent),
    ) -> Result<(), ClientError> {
        self.change(Method::POST, "/v1/apply", request, |event| {
            on_event(event);
            true
        })
        .await
    }

    /// Destroys environments by a plan that was agreed to.
    pub async fn destroy(
        &self,
        request: &crate::DestroyRequest,
        mut on_event: impl FnMut(crate::ApplyEvent),
    ) -> Result<(), ClientError> {
        self.change(Method::POST, "/v1/destroy", request, |event| {
            on_event(event);
            true
        })
        .await
    }

    /// What an environment is, for a comparison.
    pub async fn facts(&self, environment: &str) -> Result<crate::EnvironmentFacts, ClientError> {
        self.read(&format!("/v1/environments/{environment}/facts")).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        request: &impl serde::Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(request).map_err(|error| self.protocol(&error))?;
        let response = self.send(Method::POST, path, whole(body)).await?;
        let status = response.status();
        let body = collect(&self.socket, response.into_body()).await?;
        if !status.is_success() {
            return Err(refused(status.as_u16(), &body));
        }
        serde_json::from_slice(&body).map_err(|error| self.protocol(&error))
    }

    pub(crate) async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let response = self.send(method, path, whole(body)).await?;
        let status = response.status();
        let body = collect(&self.socket, response.into_body()).await?;
        if !status.is_success() {
            return Err(refused(status.as_u16(), &body));
        }
        serde_json::from_slice(&body).map_err(|error| self.protocol(&error))
    }

    fn protocol(&self, reason: &dyn std::fmt::Display) -> ClientError {
        ClientError::Protocol {
            path: self.socket.clone(),
            reason: reason.to_string(),
        }
    }
}

/// A query's value (RFC 3986 section 2.1).
pub(crate) fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    text.bytes()
        .map(|byte| match byte {
            byte if plain(byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// A digest has hex digits, a colon or a hyphen: whatever else was given is no part of a path.
fn release_path(digest: &str, rest: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'-');
    let digest = if digest.is_empty() || !digest.as_bytes().iter().all(plain) {
        "-"
    } else {
        digest
    };
    format!("/v1/releases/{digest}{rest}")
}

fn refused(status: u16, body: &[u8]) -> ClientError {
    let message = serde_json::from_slice::<serde_json::Value>(body)
        .ok()
        .and_then(|value| {
            let said = value["message"].as_str().or(value["error"].as_str());
            said.map(str::to_owned)
        })
        .unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    ClientError::Refused { status, message }
}

/// A request without a body, on a socket where the peer's user says who asks.
async fn send(socket: &Path, method: Method, path: &str) -> Result<http::Response<Incoming>, ClientError> {
    let stream = UnixStream::connect(socket).await;
    let stream = stream.map_err(|source| unconnected(socket, source))?;
    exchange(stream, socket, method, path, None, whole(Bytes::new())).await
}

fn unconnected(socket: &Path, source: std::io::Error) -> ClientError {
    ClientError::Connect {
        path: socket.to_owned(),
        source,
    }
}

async fn exchange(
    stream: UnixStream,
    socket: &Path,
    method: Method,
    path: &str,
    token: Option<&str>,
    body: Body,
) -> Result<http::Response<Incoming>, ClientError> {
    let broken = |source| ClientError::Broken {
        path: socket.to_owned(),
        source,
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to a socket of ours");
        }
    });
    let mut request = Request::builder();
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(body)
        .map_err(|error| ClientError::Protocol {
            path: socket.to_owned(),
            reason: error.to_string(),
        })?;
    sender.send_request(request).await.map_err(broken)
}

async fn collect(socket: &Path, body: Incoming) -> Result<Bytes, ClientError> {
    match Limited::new(body, MAX_ANSWER_BYTES).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(ClientError::Protocol {
            path: socket.to_owned(),
            reason: error.to_string(),
        }),
    }
}
