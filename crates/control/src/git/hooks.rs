//! What the hooks of the repository ask and tell: may this push be taken, and that it was.

use super::options::PushOptions;
use super::{Asked, MAX_UPDATES};
use crate::admin::{self, ApiError};
use crate::daemon::Daemon;
use crate::runs::{self, Rules};
use crate::words::{PushRequest, PushTaken, PushVerdict, RefUpdate, RunLine};
use astraler_model::{Principal, Scope};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::json;
use std::sync::Arc;
use tokio::sync::mpsc;

/// `POST /v1/git/decide`, from the hook: all of a push is taken, or nothing.
pub(crate) async fn decide(
    State(daemon): State<Arc<Daemon>>,
    Extension(asking): Extension<Principal>,
    body: Bytes,
) -> Result<Response, ApiError> {
    daemon.allow(&asking, &Scope::Admin, "git decide")?;
    let request: PushRequest = serde_json::from_slice(&body).map_err(ApiError::bad_request)?;
    let no_push = || ApiError::new(StatusCode::NOT_FOUND, "there is no such push");
    let pusher = daemon
        .exchanges
        .pushes()
        .get(&request.push)
        .map(|pushing| pushing.principal.clone())
        .ok_or_else(no_push)?;
    let platform = &daemon.platform;
    let rules = Rules::of(platform).map_err(ApiError::internal)?;
    let (refused, options) = match PushOptions::parse(&request.options) {
        Ok(options) => {
            let mut refused = refusals(&pusher, &rules, &request.updates);
            let meant = runs::refusal(platform, &request.updates, &options).map_err(ApiError::internal)?;
            refused.extend(meant);
            (refused, options)
        }
        Err(words) => (vec![words], PushOptions::default()),
    };
    let action = if refused.is_empty() { "git push" } else { "refused" };
    for update in request.updates.iter().take(MAX_UPDATES) {
        let detail =
            json!({ "old": update.old, "new": update.new, "options": request.options, "why_not": refused });
        let subject = match action {
            "refused" => format!("git push {}", update.name),
            _ => update.name.clone(),
        };
        platform
            .audit(&pusher.name, action, &subject, &detail)
            .map_err(ApiError::internal)?;
    }
    if refused.is_empty() {
        let asked = runs::received(platform, request.push, &pusher.name, &request.updates, &options)
            .map_err(ApiError::internal)?;
        let mut pushes = daemon.exchanges.pushes();
        // Whoever pushed may have gone: then what was written down is forgotten, or run if git has taken it.
        let pushing = pushes.get_mut(&request.push).ok_or_else(no_push)?;
        pushing.asked = Some(Asked {
            updates: request.updates,
            options,
            runs: asked,
        });
    }
    Ok(Json(PushVerdict { refused }).into_response())
}

/// `POST /v1/git/taken`, from the other hook: the branches are moved. Answers with what the runs say, to their end.
pub(crate) async fn taken(
    State(daemon): State<Arc<Daemon>>,
    Extension(asking): Extension<Principal>,
    body: Bytes,
) -> Result<Response, ApiError> {
    daemon.allow(&asking, &Scope::Admin, "git taken")?;
    let request: PushTaken = serde_json::from_slice(&body).map_err(ApiError::bad_request)?;
    let found = {
        let mut pushes = daemon.exchanges.pushes();
        pushes.get_mut(&request.push).and_then(|pushing| {
            pushing.place = None;
            Some((pushing.principal.name.clone(), pushing.asked.take()?))
        })
    };
    let (pusher, asked) =
        found.ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, "there is no such push"))?;
    let shared = Arc::clone(&daemon);
    let of = asked.clone();
    let notes = tokio::task::spawn_blocking(move || {
        runs::taken(&shared, &pusher, &of.runs, &of.updates, &of.options)
    })
    .await
    .map_err(ApiError::internal)?
    .map_err(ApiError::internal)?;
    Ok(admin::lines(watch(daemon, asked.runs, notes)))
}

/// What the pusher hears: notes first, then the runs.
fn watch(daemon: Arc<Daemon>, numbers: Vec<u64>, mut notes: Vec<String>) -> mpsc::Receiver<RunLine> {
    let (lines, received) = mpsc::channel(1);
    let open: Vec<u64> = numbers
        .into_iter()
        .filter(|number| daemon.platform.store.run(*number).is_ok())
        .collect();
    let place = Arc::clone(&daemon.exchanges.watching).try_acquire_owned();
    if place.is_err() {
        let follow = open
            .iter()
            .map(|number| format!("run {number} is queued; `astraler pipeline logs -f {number}` follows it"));
        notes.extend(follow);
    }
    tokio::spawn(async move {
        for note in notes {
            if lines.send(RunLine::Note(note)).await.is_err() {
                return;
            }
        }
        let Ok(_place) = place else { return };
        let mut runs = runs::stream(daemon, open, true);
        while let Some(line) = runs.recv().await {
            if lines.send(line).await.is_err() {
                return;
            }
        }
    });
    received
}

/// Why a push is refused, in words for its pusher; empty when it is not.
fn refusals(pusher: &Principal, rules: &Rules, updates: &[RefUpdate]) -> Vec<String> {
    if updates.len() > MAX_UPDATES {
        return vec![format!(
            "one push may change {MAX_UPDATES} branches, and this changes {}",
            updates.len()
        )];
    }
    updates
        .iter()
        .filter_map(|update| refusal(pusher, rules, update))
        .collect()
}

fn refusal(pusher: &Principal, rules: &Rules, update: &RefUpdate) -> Option<String> {
    let Some(branch) = update.branch() else {
        return Some(format!("{}: only branches are kept here", update.name));
    };
    if let Err(forbidden) = pusher.require(&Scope::push(branch)) {
        return Some(format!("{branch}: {forbidden}"));
    }
    let protected = rules.protected(branch);
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
    use crate::platform::Platform;
    use std::path::Path;

    fn platform(folder: &Path) -> Platform {
        use astraler_host::sim::{SimClock, SimFaults, SimSupervisor};
        let supervisor = SimSupervisor::new(7, SimFaults::NONE, SimClock::automatic(1_000));
        Platform::simulated(folder, Arc::new(supervisor))
    }

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
        let folder = tempfile::tempdir().unwrap();
        let rules = Rules::of(&platform(folder.path())).unwrap();
        let taken = |name: &str, new: &str, forward| {
            refusals(&anna, &rules, &[update(name, new, forward)]).is_empty()
        };
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
            refusals(&anna, &rules, &both),
            ["develop: token anna may not do this: the scope `push:develop` is needed"]
        );
        let many = vec![update("refs/heads/feature/x", &new, true); MAX_UPDATES + 1];
        assert_eq!(refusals(&anna, &rules, &many).len(), 1);
    }
}
