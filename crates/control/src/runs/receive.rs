//! What a push asks for. Its runs are written down while it may still be refused, and wait for their turn once it was
//! taken: whatever is killed in between, a push that was taken is run, and one that was not is forgotten.

use super::cause::{Cause, PullRequestCause};
use super::pull_requests;
use super::rules::Rules;
use crate::daemon::Daemon;
use crate::git::PushOptions;
use crate::platform::{Platform, PlatformError, now_ms};
use crate::repository::Repository;
use crate::words::RefUpdate;
use astraler_store::{NewRun, Run, RunState};
use serde_json::json;
use std::sync::Arc;

/// The branch that a pull request goes to where nobody says it.
const USUAL_BASE: &str = "develop";

/// Writes down what a push asks for; returns the numbers of the runs. The push may still be refused.
pub(crate) fn received(
    platform: &Platform,
    push: u64,
    actor: &str,
    updates: &[RefUpdate],
    options: &PushOptions,
) -> Result<Vec<u64>, PlatformError> {
    if options.skip_ci {
        return Ok(vec![]);
    }
    let rules = Rules::of(platform)?;
    let mut causes = Vec::new();
    for update in updates.iter().filter(|update| !update.is_deletion()) {
        let Some(branch) = update.branch() else { continue };
        let cause = Cause {
            push,
            actor: actor.to_owned(),
            branch: branch.to_owned(),
            before: update.old.clone(),
            sha: update.new.clone(),
            fast_forward: update.fast_forward,
            pull_request: None,
        };
        let pull_request = pull_request(platform, branch, options)?;
        causes.push(cause.clone());
        if pull_request.is_some() {
            causes.push(Cause {
                pull_request,
                ..cause
            });
        }
    }
    let mut rows = Vec::with_capacity(causes.len());
    for cause in &causes {
        let environment = match &cause.pull_request {
            Some(pull_request) => rules.preview(pull_request.number, &cause.branch),
            None => rules.environment(&cause.branch),
        };
        let text = serde_json::to_value(cause).map_err(|source| PlatformError::Record {
            record: "a push".into(),
            source,
        })?;
        rows.push((cause.event(), text, cause.line(), environment));
    }
    let new: Vec<NewRun<'_>> = rows
        .iter()
        .map(|(event, cause, line, environment)| NewRun {
            event,
            cause,
            line,
            environment: *environment,
        })
        .collect();
    Ok(platform.store.runs_receive(&new, now_ms())?)
}

/// The pull request that a branch brings: the one that the push names, else one that is open.
fn pull_request(
    platform: &Platform,
    branch: &str,
    options: &PushOptions,
) -> Result<Option<PullRequestCause>, PlatformError> {
    if options.close {
        return Ok(None);
    }
    let known = platform.store.pull_requests()?;
    let open = known
        .iter()
        .find(|known| known.branch == branch && known.closed_ms.is_none());
    let number = options.pull_request.or(open.map(|open| open.number));
    let Some(number) = number else { return Ok(None) };
    let same = open.filter(|open| open.number == number);
    let base = options
        .base
        .clone()
        .or(same.map(|open| open.base.clone()))
        .unwrap_or_else(|| USUAL_BASE.to_owned());
    let activity = if same.is_some() { "synchronize" } else { "opened" };
    Ok(Some(PullRequestCause {
        number,
        base,
        activity: activity.to_owned(),
    }))
}

/// Why the push options cannot be meant, in words for the pusher.
pub(crate) fn refusal(
    platform: &Platform,
    updates: &[RefUpdate],
    options: &PushOptions,
) -> Result<Option<String>, PlatformError> {
    if options.pull_request.is_none() && options.base.is_none() && !options.close {
        return Ok(None);
    }
    let branches: Vec<&str> = updates.iter().filter_map(RefUpdate::branch).collect();
    let [branch] = branches[..] else {
        return Ok(Some("a pull request is of one branch: push one at a time".into()));
    };
    let known = platform.store.pull_requests()?;
    let open = known
        .iter()
        .find(|known| known.branch == branch && known.closed_ms.is_none());
    let Some(number) = options.pull_request.or(open.map(|open| open.number)) else {
        return Ok(Some(format!(
            "no pull request of {branch} is open: name one with `-o pr=NUMBER`"
        )));
    };
    if let Some(open) = open
        && open.number != number
    {
        return Ok(Some(format!(
            "{branch} is pull request {} already; `-o close` ends it",
            open.number
        )));
    }
    let other = known
        .iter()
        .find(|known| known.number == number && known.closed_ms.is_none() && known.branch != branch);
    if let Some(other) = other {
        return Ok(Some(format!("pull request {number} is of {}", other.branch)));
    }
    let base = options.base.as_deref();
    if base == Some(branch) {
        return Ok(Some(format!("{branch} cannot be merged into itself")));
    }
    Ok(None)
}

/// The push was taken: its runs wait for their turn, pull requests are opened or closed. Returns words for the pusher.
pub(crate) fn taken(
    daemon: &Arc<Daemon>,
    actor: &str,
    runs: &[u64],
    updates: &[RefUpdate],
    options: &PushOptions,
) -> Result<Vec<String>, PlatformError> {
    let mut words = Vec::new();
    for number in runs {
        let run = daemon.platform.store.run(*number)?;
        if let Some(told) = queue(&daemon.platform, &run)? {
            words.push(told);
        }
    }
    if options.close {
        for branch in updates.iter().filter_map(RefUpdate::branch) {
            for known in daemon.platform.store.pull_requests()? {
                if known.branch == branch && known.closed_ms.is_none() {
                    pull_requests::close(daemon, known.number, actor, "its pusher said so")?;
                    words.push(format!("pull request {} is closed", known.number));
                }
            }
        }
    }
    daemon.runs.wake();
    Ok(words)
}

/// A run waits for its turn; a pull request is open since. Answers why not, where it does not.
fn queue(platform: &Platform, run: &Run) -> Result<Option<String>, PlatformError> {
    let cause = Cause::of(run)?;
    if let Some(pull_request) = &cause.pull_request {
        let installation = &platform.installation;
        let repository = Repository::new(installation.layout.repository(&installation.application));
        let base = &pull_request.base;
        let nothing = repository
            .tip(base)
            .is_some_and(|tip| repository.is_ancestor(&cause.sha, &tip));
        if nothing {
            platform.store.run_forget(run.id)?;
            return Ok(Some(format!(
                "pull request {}: {} has nothing that {base} has not; it is not opened",
                pull_request.number, cause.branch
            )));
        }
        let now = now_ms();
        let detail = json!({ "branch": cause.branch, "base": base, "head": cause.sha });
        if pull_request.activity == "opened" {
            let subject = pull_request.number.to_string();
            platform.audit(&cause.actor, "pull request opened", &subject, &detail)?;
        }
        platform
            .store
            .pull_request_open(pull_request.number, &cause.branch, base, &cause.sha, now)?;
    }
    platform.store.run_queue(run.id)?;
    Ok(None)
}

/// Runs whose push is over and of which nobody said how: the repository knows.
pub(super) async fn settle(daemon: &Arc<Daemon>) -> Result<(), PlatformError> {
    let open = daemon.platform.store.runs_open()?;
    for run in open.iter().filter(|run| run.state == RunState::Received) {
        let cause = Cause::of(run)?;
        if daemon.exchanges.under_way(cause.push) {
            continue;
        }
        let installation = &daemon.platform.installation;
        let repository = Repository::new(installation.layout.repository(&installation.application));
        let branch = cause.branch.clone();
        let tip = tokio::task::spawn_blocking(move || repository.tip(&branch)).await;
        if tip.ok().flatten().as_deref() == Some(cause.sha.as_str()) {
            tracing::info!(
                run = run.id,
                branch = cause.branch,
                "its push was interrupted; it is run"
            );
            queue(&daemon.platform, run)?;
        } else {
            daemon.platform.store.run_forget(run.id)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use astraler_host::sim::{SimClock, SimFaults, SimSupervisor};

    fn update(branch: &str, sha: &str) -> RefUpdate {
        RefUpdate {
            name: format!("refs/heads/{branch}"),
            old: "0".repeat(40),
            new: sha.to_owned(),
            fast_forward: true,
        }
    }

    /// A daemon was killed after it had said yes to a push: whether git took it is read from what the branch names.
    #[tokio::test]
    async fn what_was_received_is_run_if_git_took_it_and_else_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let supervisor = SimSupervisor::new(7, SimFaults::NONE, SimClock::automatic(1_000));
        let platform = Platform::simulated(folder.path(), Arc::new(supervisor));
        let installation = &platform.installation;
        let (repository, tip, other) = crate::repository::tests::repository(folder.path(), "3", "1");
        let place = installation.layout.repository(&installation.application);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::rename(repository.path(), &place).unwrap();
        let options = PushOptions {
            pull_request: Some(7),
            base: Some("base".into()),
            ..PushOptions::default()
        };
        let none = PushOptions::default();
        let taken = received(&platform, 1, "anna", &[update("work", &other)], &options).unwrap();
        let refused = received(&platform, 2, "anna", &[update("base", &other)], &none).unwrap();
        // It has nothing that its base has not.
        let nothing = received(
            &platform,
            3,
            "anna",
            &[update("base", &tip)],
            &PushOptions {
                pull_request: Some(8),
                base: Some("base".into()),
                ..PushOptions::default()
            },
        )
        .unwrap();
        assert_eq!((taken.len(), refused.len(), nothing.len()), (2, 1, 2));
        let daemon = Arc::new(Daemon::new(platform));
        settle(&daemon).await.unwrap();
        let store = &daemon.platform.store;
        for number in &taken {
            assert_eq!(store.run(*number).unwrap().state, RunState::Queued);
        }
        assert!(store.run(refused[0]).is_err());
        assert_eq!(
            store.run(nothing[0]).unwrap().state,
            RunState::Queued,
            "the push itself"
        );
        assert!(store.run(nothing[1]).is_err());
        let open = store.pull_request(7).unwrap().unwrap();
        assert_eq!((open.branch.as_str(), open.head), ("work", other));
        assert_eq!(store.pull_request(8).unwrap(), None);
    }
}
