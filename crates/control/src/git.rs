//! The application's repository, over git's smart HTTP (gitprotocol-http(5)): `git http-backend` does the protocol,
//! this module decides who may read and who may push to what.
//!
//! The decision about a push is made in its `pre-receive` hook, where the new objects can be looked at already and
//! are thrown away when any of it is refused. The hook is this program; it names the push by a number that only the
//! daemon knows the bearer of, so that no token reaches a process's environment.

use crate::admin::ApiError;
use crate::daemon::Daemon;
use crate::platform::Platform;
use crate::words::{PushRequest, PushVerdict, RefUpdate};
use astraler_model::{Principal, Scope};
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures_util::{StreamExt, stream};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::Semaphore;

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
/// Staging and production are deployed from these: their history stays.
const PROTECTED: [&str; 2] = ["main", "develop"];

/// Pushes under way, and how many exchanges there may be.
#[derive(Debug)]
pub(crate) struct Exchanges {
    places: Arc<Semaphore>,
    pushes: Mutex<BTreeMap<u64, Principal>>,
}

impl Default for Exchanges {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(MAX_EXCHANGES)),
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
    prepare(&daemon.platform).await?;
    let push = Push::begin(&daemon, principal);
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
    *response.body_mut() = Body::from_stream(pieces(output, (child, push, place)));
    Ok(response)
}

/// What follows the head, until the backend has ended. `held` goes with the answer: whoever stops reading it stops
/// the exchange.
fn pieces(
    output: BufReader<ChildStdout>,
    held: (Child, Push, tokio::sync::OwnedSemaphorePermit),
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

/// No configuration but the repository's own decides what it does.
fn git(platform: &Platform) -> Command {
    let mut command = Command::new("git");
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", folder(platform))
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null");
    command
}

fn folder(platform: &Platform) -> PathBuf {
    platform.installation.layout.state.join("git")
}

/// Makes the repository when there is none, and brings its settings and its hook up to date.
async fn prepare(platform: &Platform) -> Result<(), ApiError> {
    let repository = folder(platform).join(format!("{}.git", platform.installation.application));
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
    let hook = format!(
        "#!/bin/sh\nexec '{}' git-hook --installation '{}'\n",
        quoted(&installation.program),
        quoted(&installation.layout.installation_file())
    );
    written(&repository.join("hooks/pre-receive"), &hook, 0o700)
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
    fn begin(daemon: &Arc<Daemon>, principal: Principal) -> Self {
        let number = rand::random();
        daemon.exchanges.pushes().insert(number, principal);
        Self {
            daemon: Arc::clone(daemon),
            number,
        }
    }
}

impl Drop for Push {
    fn drop(&mut self) {
        self.daemon.exchanges.pushes().remove(&self.number);
    }
}

impl Exchanges {
    fn pushes(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Principal>> {
        self.pushes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `POST /v1/git/decide`, from the hook: all of a push is taken, or nothing.
pub(crate) async fn decide(
    State(daemon): State<Arc<Daemon>>,
    Extension(asking): Extension<Principal>,
    body: Bytes,
) -> Result<Response, ApiError> {
    daemon.allow(&asking, &Scope::Admin, "git decide")?;
    let request: PushRequest = serde_json::from_slice(&body).map_err(ApiError::bad_request)?;
    let pusher = daemon.exchanges.pushes().get(&request.push).cloned();
    let pusher = pusher.ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, "there is no such push"))?;
    let refused = refusals(&pusher, &request.updates);
    let action = if refused.is_empty() { "git push" } else { "refused" };
    for update in request.updates.iter().take(MAX_UPDATES) {
        let detail = json!({ "old": update.old, "new": update.new, "why_not": refused });
        let subject = match action {
            "refused" => format!("git push {}", update.name),
            _ => update.name.clone(),
        };
        daemon
            .platform
            .audit(&pusher.name, action, &subject, &detail)
            .map_err(ApiError::internal)?;
    }
    Ok(Json(PushVerdict { refused }).into_response())
}

/// Why a push is refused, in words for its pusher; empty when it is not.
fn refusals(pusher: &Principal, updates: &[RefUpdate]) -> Vec<String> {
    if updates.len() > MAX_UPDATES {
        return vec![format!(
            "one push may change {MAX_UPDATES} branches, and this changes {}",
            updates.len()
        )];
    }
    updates
        .iter()
        .filter_map(|update| refusal(pusher, update))
        .collect()
}

fn refusal(pusher: &Principal, update: &RefUpdate) -> Option<String> {
    let Some(branch) = update.name.strip_prefix("refs/heads/") else {
        return Some(format!("{}: only branches are kept here", update.name));
    };
    if let Err(forbidden) = pusher.require(&Scope::push(branch)) {
        return Some(format!("{branch}: {forbidden}"));
    }
    let protected = PROTECTED.contains(&branch);
    if protected && update.is_deletion() {
        return Some(format!(
            "{branch}: an environment is deployed from it, it cannot be deleted"
        ));
    }
    if protected && !update.fast_forward {
        return Some(format!(
            "{branch}: an environment is deployed from it, its history cannot be rewritten; merge instead of forcing"
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(name: &str, new: &str, fast_forward: bool) -> RefUpdate {
        RefUpdate {
            name: name.into(),
            old: "1".repeat(40),
            new: new.into(),
            fast_forward,
        }
    }

    #[test]
    fn branches_go_by_scope_and_protected_ones_only_forward() {
        let (new, gone) = ("2".repeat(40), "0".repeat(40));
        let scopes = ["push:feature/*", "push:main"].map(|scope| scope.parse().unwrap());
        let anna = Principal::new("token anna", scopes.to_vec());
        let taken =
            |name: &str, new: &str, forward| refusals(&anna, &[update(name, new, forward)]).is_empty();
        assert!(taken("refs/heads/feature/x", &new, true));
        assert!(
            taken("refs/heads/feature/x", &new, false),
            "a feature branch may be rewritten"
        );
        assert!(taken("refs/heads/feature/x", &gone, false), "and deleted");
        assert!(taken("refs/heads/main", &new, true));
        assert!(!taken("refs/heads/main", &new, false));
        assert!(!taken("refs/heads/main", &gone, false));
        assert!(!taken("refs/heads/develop", &new, true));
        assert!(!taken("refs/tags/v1", &new, true));
        let both = [
            update("refs/heads/feature/x", &new, true),
            update("refs/heads/develop", &new, true),
        ];
        assert_eq!(
            refusals(&anna, &both),
            ["develop: token anna may not do this: the scope `push:develop` is needed"]
        );
        let many = vec![update("refs/heads/feature/x", &new, true); MAX_UPDATES + 1];
        assert_eq!(refusals(&anna, &many).len(), 1);
    }

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
