//! The end of pull requests. There is no forge here: that one has ended is read from the repository, where it was
//! merged or its branch deleted, or said by a push. Its preview goes with it.

use crate::daemon::Daemon;
use crate::platform::{Platform, PlatformError, now_ms};
use crate::remove;
use crate::repository::Repository;
use crate::words::Fault;
use astraler_model::Environment;
use astraler_store::{Desired, PullRequest, RunState};
use serde_json::json;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Ends those that have ended, and goes on with what an interrupted end had left.
pub(super) async fn settle(daemon: &Arc<Daemon>) -> Result<(), PlatformError> {
    for pull_request in daemon.platform.store.pull_requests()? {
        match pull_request.closed_ms {
            None => {
                let (shared, of) = (Arc::clone(daemon), pull_request.clone());
                let ended = tokio::task::spawn_blocking(move || ended(&shared, &of)).await;
                if let Ok(Some(why)) = ended {
                    close(daemon, pull_request.number, "daemon", &why)?;
                }
            }
            Some(closed) => take_preview(daemon, pull_request.number, closed)?,
        }
    }
    Ok(())
}

/// Ends a pull request: its runs, its preview.
pub(super) fn close(daemon: &Arc<Daemon>, number: u32, actor: &str, why: &str) -> Result<(), PlatformError> {
    end(&daemon.platform, number, actor, why)?;
    take_preview(daemon, number, now_ms())
}

/// Ends a pull request and its runs; its preview is the caller's to remove. One that is not open stays as it is.
pub(crate) fn end(platform: &Platform, number: u32, actor: &str, why: &str) -> Result<(), PlatformError> {
    let store = &platform.store;
    let known = store.pull_request(number)?;
    if known.is_none_or(|known| known.closed_ms.is_some()) {
        return Ok(());
    }
    platform.audit(
        actor,
        "pull request closed",
        &number.to_string(),
        &json!({ "why": why }),
    )?;
    store.pull_request_close(number, now_ms())?;
    let line = format!("pull request {number}");
    for run in store.runs_open()? {
        if run.line == line && run.state != RunState::Received {
            store.run_cancel(run.id)?;
        }
    }
    Ok(())
}

/// Removes the preview of a pull request that has ended, in the background. One that somebody made since is theirs.
fn take_preview(daemon: &Arc<Daemon>, number: u32, closed_ms: u64) -> Result<(), PlatformError> {
    let environment = Environment::Preview(number);
    let platform = &daemon.platform;
    let Some(record) = platform.environment(environment)? else {
        return Ok(());
    };
    // A removal that was begun goes on by itself; what is protected stays until somebody ends that.
    if record.desired == Desired::Down || platform.is_protected(environment)? {
        return Ok(());
    }
    let newest = platform.deployments(Some(environment), 1)?;
    if newest.first().is_none_or(|newest| newest.created_ms > closed_ms) {
        return Ok(());
    }
    let daemon = Arc::clone(daemon);
    tokio::spawn(async move {
        let _change = daemon.changes.read().await;
        let _turn = daemon.turns.take(environment).await;
        // Somebody may have been here while this one waited.
        if !matches!(daemon.platform.environment(environment), Ok(Some(_))) {
            return;
        }
        let (events, received) = mpsc::channel(1);
        drop(received);
        let reason = "its pull request has ended";
        let removed = remove::remove(&daemon.platform, environment, "daemon", reason, &events).await;
        if let Err(Fault { part, message, .. }) = removed {
            tracing::warn!(%environment, part, message, "a preview cannot be removed; trying again");
        }
    });
    Ok(())
}

/// Why a pull request has ended; none where it has not. Blocking.
fn ended(daemon: &Daemon, pull_request: &PullRequest) -> Option<String> {
    let installation = &daemon.platform.installation;
    let repository = Repository::new(installation.layout.repository(&installation.application));
    if !repository.path().join("HEAD").is_file() {
        return None;
    }
    let Some(head) = repository.tip(&pull_request.branch) else {
        return Some(format!("{} was deleted", pull_request.branch));
    };
    let base = repository.tip(&pull_request.base)?;
    repository
        .is_ancestor(&head, &base)
        .then(|| format!("it was merged into {}", pull_request.base))
}
