//! The application's repository, over git's smart HTTP (gitprotocol-http(5)): `git http-backend` does the protocol,
//! this module decides who may read and who may push to what.
//!
//! The decision about a push is made in its `pre-receive` hook, where the new objects can be looked at already and
//! are thrown away when any of it is refused. The hook is this program; it names the push by a number that only the
//! daemon knows the bearer of, so that no token reaches a process's environment.

mod hooks;
mod options;

pub(crate) use hooks::{decide, taken};
pub(crate) use options::PushOptions;

use crate::admin::ApiError;
use crate::daemon::Daemon;
use crate::platform::Platform;
use crate::repository;
use crate::words::RefUpdate;
use astraler_model::{Principal, Scope};
use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::{StreamExt, stream};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Fetches and pushes at once; more wait.
const MAX_EXCHANGES: usize = 8;
/// A pack that is larger is refused.
const MAX_PACK_BYTES: u64 = 1 << 30;
/// The longest fetch or push.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// The head of an answer of `git http-backend`.
const MAX_HEAD_BYTES: u64 = 16 << 10;
const PIECE_BYTES: usize = 64 << 10;
/// Branches that one push may change.
const MAX_UPDATES: usize = 100;
/// Pushers who watch their runs at once; more are told how to.
const MAX_WATCHING: usize = 24;

/// Pushes under way, and how many exchanges there may be.
#[derive(Debug)]
pub(crate) struct Exchanges {
    places: Arc<Semaphore>,
    watching: Arc<Semaphore>,
    /// Held while the repository is made or brought up to date: two who do it at once would break it.
    preparing: tokio::sync::Mutex<()>,
    pushes: Mutex<BTreeMap<u64, Pushing>>,
}

/// A push under way.
#[derive(Debug)]
struct Pushing {
    principal: Principal,
    /// Given back when the push was taken: who watches a run takes nobody's place.
    place: Option<OwnedSemaphorePermit>,
    /// What the hook asked for, once it has.
    asked: Option<Asked>,
}

#[derive(Debug, Clone)]
struct Asked {
    updates: Vec<RefUpdate>,
    options: PushOptions,
    runs: Vec<u64>,
}

impl Default for Exchanges {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(MAX_EXCHANGES)),
            watching: Arc::new(Semaphore::new(MAX_WATCHING)),
            preparing: tokio::sync::Mutex::default(),
            pushes: Mutex::default(),
        }
    }
}

/// What a request asks of the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Service {
    Fetch,
    Push,
}

/// `GET /git/APP.git/info/refs?service=…`, `POST /git/APP.git/git-upload-pack` and `…/git-receive-pack`.
pub(crate) async fn exchange(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    request: Request,
) -> Result<Response, ApiError> {
    let repository = format!("{}.git", daemon.platform.installation.application);
    let (service, path) = requested(&repository, &request).ok_or_else(|| {
        ApiError::new(
            StatusCode::NOT_FOUND,
            format!("there is /git/{repository} and nothing else"),
        )
    })?;
    match service {
        Service::Fetch => daemon.allow(&principal, &Scope::Read, "git fetch")?,
        // Which branches is decided when they are known.
        Service::Push if may_push_somewhere(&principal) => {}
        Service::Push => daemon.allow(&principal, &Scope::push("*"), "git push")?,
    }
    let place = Arc::clone(&daemon.exchanges.places)
        .acquire_owned()
        .await
        .map_err(ApiError::internal)?;
    {
        let _alone = daemon.exchanges.preparing.lock().await;
        prepare(&daemon.platform).await?;
    }
    let push = Push::begin(&daemon, principal, place);
    let mut child = backend(&daemon.platform, &request, &path, push.number)
        .spawn()
        .map_err(ApiError::internal)?;
    let body = request.into_body();
    if let Some(mut input) = child.stdin.take() {
        tokio::spawn(async move {
            let mut pieces = body.into_data_stream();
            while let Some(Ok(piece)) = pieces.next().await {
                // It may answer without reading all.
                if input.write_all(&piece).await.is_err() {
                    return;
                }
            }
        });
    }
    let output = child.stdout.take().ok_or_else(silent)?;
    let mut output = BufReader::with_capacity(PIECE_BYTES, output);
    let mut response = head(&mut output).await?;
    *response.body_mut() = Body::from_stream(pieces(output, (child, push)));
    Ok(response)
}

/// What follows the head, until the backend has ended. `held` goes with the answer: whoever stops reading it stops
/// the exchange.
fn pieces(
    output: BufReader<ChildStdout>,
    held: (Child, Push),
) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> {
    let deadline = tokio::time::Instant::now() + EXCHANGE_TIMEOUT;
    stream::unfold((output, held), move |(mut output, held)| async move {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        let read = tokio::time::timeout_at(deadline, output.read_buf(&mut piece)).await;
        let item = match read {
            Ok(Ok(0)) => return None,
            Ok(Ok(_)) => Ok(Bytes::from(piece)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
        };
        Some((item, (output, held)))
    })
}

/// The CGI head (RFC 3875 section 6): lines up to an empty one, `Status` among them when it is not 200.
async fn head(output: &mut BufReader<ChildStdout>) -> Result<Response, ApiError> {
    let mut response = Response::new(Body::empty());
    let mut limited = output.take(MAX_HEAD_BYTES);
    loop {
        let mut line = String::new();
        let read = tokio::time::timeout(EXCHANGE_TIMEOUT, limited.read_line(&mut line)).await;
        if read.ok().and_then(Result::ok).unwrap_or(0) == 0 {
            return Err(silent());
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(response);
        }
        let (name, value) = line.split_once(':').ok_or_else(silent)?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("status") {
            let code = value.get(..3).and_then(|code| code.parse().ok());
            *response.status_mut() = code.ok_or_else(silent)?;
        } else if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            response.headers_mut().insert(name, value);
        }
    }
}

fn silent() -> ApiError {
    ApiError::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "git http-backend gave no answer: is git installed whole?",
    )
}

/// Exactly the smart protocol: no file of the repository is served by its path.
fn requested(repository: &str, request: &Request) -> Option<(Service, String)> {
    let path = request.uri().path().strip_prefix("/git/")?;
    let rest = path.strip_prefix(repository)?;
    let service = match (request.method().as_str(), rest, request.uri().query()) {
        ("GET", "/info/refs", Some("service=git-upload-pack")) | ("POST", "/git-upload-pack", None) => {
            Service::Fetch
        }
        ("GET", "/info/refs", Some("service=git-receive-pack")) | ("POST", "/git-receive-pack", None) => {
            Service::Push
        }
        _ => return None,
    };
    Some((service, format!("/{path}")))
}

fn may_push_somewhere(principal: &Principal) -> bool {
    principal
        .scopes
        .iter()
        .any(|scope| matches!(scope, Scope::Admin | Scope::Push(_)))
}

fn backend(platform: &Platform, request: &Request, path: &str, push: u64) -> Command {
    let text = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    let mut command = git(platform);
    command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", folder(platform))
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", path)
        .env("REQUEST_METHOD", request.method().as_str())
        .env("QUERY_STRING", request.uri().query().unwrap_or_default())
        .env("REMOTE_USER", "authenticated")
        .env("ASTRALER_PUSH", push.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let passed = [
        ("CONTENT_TYPE", text(header::CONTENT_TYPE)),
        ("CONTENT_LENGTH", text(header::CONTENT_LENGTH)),
        ("HTTP_CONTENT_ENCODING", text(header::CONTENT_ENCODING)),
        ("GIT_PROTOCOL", text(HeaderName::from_static("git-protocol"))),
    ];
    for (name, value) in passed {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command
}

fn git(platform: &Platform) -> Command {
    repository::plain(&folder(platform)).into()
}

fn folder(platform: &Platform) -> PathBuf {
    platform.installation.layout.state.join("git")
}

/// Makes the repository when there is none, and brings its settings and its hook up to date.
async fn prepare(platform: &Platform) -> Result<(), ApiError> {
    let repository = platform
        .installation
        .layout
        .repository(&platform.installation.application);
    if !repository.join("HEAD").is_file() {
        let mut init = git(platform);
        init.args(["init", "--quiet", "--bare", "--initial-branch=main"])
            .arg(&repository);
        let output = init.output().await.map_err(ApiError::internal)?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, words));
        }
    }
    let config = format!(
        "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n[http]\n\treceivepack = true\n\
         [transfer]\n\tfsckObjects = true\n[receive]\n\tmaxInputSize = {MAX_PACK_BYTES}\n\tadvertisePushOptions = true\n\
         \tautogc = true\n"
    );
    written(&repository.join("config"), &config, 0o600)?;
    let installation = &platform.installation;
    // Paths of ours; a quote in one would end the text.
    let quoted = |path: &Path| path.display().to_string().replace('\'', r"'\''");
    for name in ["pre-receive", "post-receive"] {
        let hook = format!(
            "#!/bin/sh\nexec '{}' git-hook --installation '{}' {name}\n",
            quoted(&installation.program),
            quoted(&installation.layout.installation_file())
        );
        written(&repository.join("hooks").join(name), &hook, 0o700)?;
    }
    Ok(())
}

fn written(path: &Path, contents: &str, mode: u32) -> Result<(), ApiError> {
    if std::fs::read(path).is_ok_and(|present| present == contents.as_bytes()) {
        return Ok(());
    }
    astraler_host::file::replace(path, contents.as_bytes(), mode).map_err(ApiError::internal)
}

/// A push under way: its number names its bearer while it lasts.
struct Push {
    daemon: Arc<Daemon>,
    number: u64,
}

impl Push {
    fn begin(daemon: &Arc<Daemon>, principal: Principal, place: OwnedSemaphorePermit) -> Self {
        // Kept as JSON, whose readers know 53 bits.
        let number = rand::random::<u64>() >> 11;
        let pushing = Pushing {
            principal,
            place: Some(place),
            asked: None,
        };
        daemon.exchanges.pushes().insert(number, pushing);
        Self {
            daemon: Arc::clone(daemon),
            number,
        }
    }
}

impl Drop for Push {
    fn drop(&mut self) {
        self.daemon.exchanges.pushes().remove(&self.number);
        // What it had asked for is settled by what became of it.
        self.daemon.runs.wake();
    }
}

impl Exchanges {
    /// Whether a push has not ended yet.
    pub(crate) fn under_way(&self, push: u64) -> bool {
        self.pushes().contains_key(&push)
    }

    fn pushes(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Pushing>> {
        self.pushes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_the_smart_protocol_is_served() {
        let asks = |method: &str, uri: &str| {
            let request = Request::builder()
                .method(method)
                .uri(uri)
                .body(Body::empty())
                .unwrap();
            requested("board.git", &request).map(|(service, _)| service)
        };
        assert_eq!(
            asks("GET", "/git/board.git/info/refs?service=git-upload-pack"),
            Some(Service::Fetch)
        );
        assert_eq!(
            asks("POST", "/git/board.git/git-receive-pack"),
            Some(Service::Push)
        );
        for (method, uri) in [
            ("GET", "/git/board.git/info/refs"),
            ("GET", "/git/board.git/HEAD"),
            ("GET", "/git/board.git/config"),
            ("GET", "/git/../control/control.db"),
            ("GET", "/git/other.git/info/refs?service=git-upload-pack"),
            ("GET", "/git/board.git/git-receive-pack"),
            (
                "GET",
                "/git/board.git/../board.git/info/refs?service=git-upload-pack",
            ),
        ] {
            assert_eq!(asks(method, uri), None, "{method} {uri}");
        }
    }
}
