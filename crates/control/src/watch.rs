//! The watch over a new deployment: for some minutes after everybody is sent to it, its share of failed requests is
//! compared with that of the one before. When it is critical and its predecessor's was not, it is bad, and the daemon
//! goes back by itself.
//!
//! The verdict is on disk before anything is done about it, and whether people were told, after. From any prefix the next
//! look goes on: a bad deployment that serves is rolled back from, one that no longer does is told of. A rollback is not
//! watched: it never rolls back.

use crate::alerts::measure::Measured;
use crate::alerts::{self, AlertsError};
use crate::daemon::Daemon;
use crate::deploy::short;
use crate::platform::{Platform, PlatformError, now_ms, origin_of};
use crate::requests::{self, HISTORY};
use crate::words::{Action, Application, Event, chain};
use astraler_alert::{Rule, Severity, Standing, evaluate};
use astraler_model::Environment;
use astraler_store::{BadDeployment, Deployment, DeploymentId, DeploymentState};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// Who acts.
pub(crate) const ACTOR: &str = "daemon";
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// People hear of a rollback that takes longer before it is done.
const TELL_AFTER: Duration = Duration::from_secs(8);
/// Between two tries to roll back, and how many there are; then people must.
const TRY_AGAIN: Duration = Duration::from_secs(30);
const MAX_TRIES: u32 = 5;

/// Tries to roll back, by bad deployment.
type Tries = BTreeMap<DeploymentId, (u32, Instant)>;

/// Watches until the process ends.
pub(crate) async fn keep(daemon: Arc<Daemon>) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut tries = Tries::new();
    loop {
        ticks.tick().await;
        if let Err(error) = look(&daemon, &mut tries).await {
            tracing::error!(
                error = chain(&error),
                "deployments cannot be watched; trying again"
            );
        }
    }
}

async fn look(daemon: &Arc<Daemon>, tries: &mut Tries) -> Result<(), AlertsError> {
    let platform = &daemon.platform;
    let known = condemned(platform)?;
    for (environment, (deployment, application)) in platform.awake()? {
        if !known.contains(&deployment.id)
            && is_watched(environment, &deployment, &application)
            && let Some(why) = judge(platform, &deployment).await?
        {
            condemn(platform, &deployment, &why)?;
        }
    }
    for bad in platform.store.deployments_bad()? {
        follow(daemon, &bad, tries).await?;
    }
    Ok(())
}

/// Deployments that were found to be bad.
pub(crate) fn condemned(platform: &Platform) -> Result<BTreeSet<DeploymentId>, PlatformError> {
    let bad = platform.store.deployments_bad()?;
    Ok(bad.into_iter().map(|bad| bad.deployment).collect())
}

/// Until when a deployment is watched, by the wall clock; `None` for one that is not.
pub(crate) fn watched_until_ms(
    environment: Environment,
    deployment: &Deployment,
    application: &Application,
) -> Option<u64> {
    let minutes = application.config.environments.watch_minutes(environment);
    // New secrets for the same release are not undone by going back, and going back is not gone back from.
    let new = matches!(
        origin_of(deployment).action,
        Action::Up | Action::Deploy | Action::Promote
    );
    let until = deployment
        .switched_ms?
        .saturating_add(u64::from(minutes) * 60_000);
    (new && minutes > 0).then_some(until)
}

fn is_watched(environment: Environment, deployment: &Deployment, application: &Application) -> bool {
    watched_until_ms(environment, deployment, application).is_some_and(|until| now_ms() < until)
}

/// What is wrong with a deployment that was not with the one before; `None` when nothing is, or nobody measures.
async fn judge(platform: &Platform, new: &Deployment) -> Result<Option<String>, AlertsError> {
    let (environment, switched) = (new.environment, new.switched_ms.unwrap_or_default());
    let Some(rule) = alerts::rule(platform, "errors")? else {
        return Ok(None);
    };
    let critical = Rule {
        levels: rule
            .levels
            .into_iter()
            .filter(|level| level.severity == Severity::Critical)
            .collect(),
        ..rule
    };
    let rules = std::slice::from_ref(&critical);
    let id = new.id.to_string();
    let Some(of_new) = Measured::of_deployment(platform, environment, rules, (&id, None)).await else {
        return Ok(None);
    };
    // Most looks end here.
    if !breaches(&critical, environment, &of_new) {
        return Ok(None);
    }
    let history = platform.deployments(Some(environment), HISTORY)?;
    let before = history
        .iter()
        .filter(|other| other.id != new.id && other.switched_ms.is_some_and(|at| at < switched))
        .max_by_key(|other| other.switched_ms);
    // The first deployment of all has nothing to go back to: the rule alone tells of it.
    let Some(before) = before else { return Ok(None) };
    let old = before.id.to_string();
    let of_old = Measured::of_deployment(
        platform,
        environment,
        rules,
        (&old, Some(switched.saturating_add(1))),
    )
    .await;
    let Some(of_old) = of_old else { return Ok(None) };
    if breaches(&critical, environment, &of_old) {
        return Ok(None);
    }
    let (now, then) = (of_new.errors(), of_old.errors());
    let before = match then.total {
        0 => format!("{old} before it was asked nothing for an hour"),
        total => format!("{old} before it answered {} of {total} so", then.bad),
    };
    Ok(Some(format!(
        "{id} (release {}) answers {} of {} requests with a server error; {before}",
        short(&new.release),
        now.bad,
        now.total
    )))
}

fn breaches(rule: &Rule, environment: Environment, measured: &Measured) -> bool {
    let observation = evaluate(rule, environment, &mut |question| measured.counts(question));
    matches!(observation.standing, Standing::Breached { .. })
}

/// The verdict, on disk.
fn condemn(platform: &Platform, deployment: &Deployment, why: &str) -> Result<(), PlatformError> {
    let subject = format!("{}/{}", deployment.environment, deployment.id);
    platform.audit(ACTOR, "deployment condemned", &subject, &json!({ "why": why }))?;
    platform.store.deployment_condemn(deployment.id, why, now_ms())?;
    tracing::error!(environment = %deployment.environment, why, "a deployment is bad, and is rolled back from");
    Ok(())
}

/// What is still to be done about a bad deployment.
async fn follow(daemon: &Arc<Daemon>, bad: &BadDeployment, tries: &mut Tries) -> Result<(), AlertsError> {
    let platform = &daemon.platform;
    let deployment = platform.deployment(bad.deployment)?;
    let environment = deployment.environment;
    let live = platform.live_deployment(environment)?;
    if live.as_ref().is_some_and(|live| live.id == deployment.id) {
        return go_back(daemon, bad, &deployment, tries).await;
    }
    tries.remove(&deployment.id);
    let Some(live) = live else { return Ok(()) };
    if !bad.told {
        let done = match rollback_from(&live, &deployment) {
            true => format!("rolled back: {} serves release {}", live.id, short(&live.release)),
            false => format!("{} serves by now", live.id),
        };
        return tell(daemon, bad, environment, &done);
    }
    // The next one that somebody deploys ends it.
    if origin_of(&live).action != Action::Rollback && live.state == DeploymentState::Live {
        daemon.lower_alert(&rule_name(deployment.id), Some(environment))?;
    }
    Ok(())
}

/// Whether one deployment is the way back from another.
pub(crate) fn rollback_from(live: &Deployment, bad: &Deployment) -> bool {
    let origin = origin_of(live);
    origin.action == Action::Rollback && origin.from == Some(bad.id.to_string())
}

/// Rolls back, and tells as soon as everybody is sent elsewhere. Somebody else's change goes first.
async fn go_back(
    daemon: &Arc<Daemon>,
    bad: &BadDeployment,
    deployment: &Deployment,
    tries: &mut Tries,
) -> Result<(), AlertsError> {
    let environment = deployment.environment;
    let (tried, last) = tries
        .get(&deployment.id)
        .copied()
        .map_or((0, None), |(n, at)| (n, Some(at)));
    let soon = last.is_some_and(|at| at.elapsed() < TRY_AGAIN);
    if soon || tried >= MAX_TRIES || !daemon.turns.is_free(environment) {
        return Ok(());
    }
    tries.insert(deployment.id, (tried + 1, Instant::now()));
    let events = Arc::clone(daemon).roll_back_from(deployment, &bad.why);
    let done = match tokio::time::timeout(TELL_AFTER, outcome(events)).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(why)) => format!("it cannot be rolled back and still serves: {why}"),
        Err(_) => "it is being rolled back".to_owned(),
    };
    tell(daemon, bad, environment, &done)
}

/// Waits until everybody is sent to another deployment. The work goes on when nobody reads its events.
async fn outcome(mut events: requests::Events) -> Result<(), String> {
    while let Some(event) = events.recv().await {
        match event {
            Event::Live { .. } | Event::Done { .. } | Event::Superseded { .. } => return Ok(()),
            Event::Failed(fault) => return Err(fault.message),
            _ => {}
        }
    }
    Err("the work broke off".to_owned())
}

/// People hear of it; then it is written down that they did.
fn tell(
    daemon: &Daemon,
    bad: &BadDeployment,
    environment: Environment,
    done: &str,
) -> Result<(), AlertsError> {
    let summary = format!("{environment}: {}; {done}", bad.why);
    daemon.raise_alert(
        &rule_name(bad.deployment),
        Some(environment),
        Severity::Critical,
        summary,
    )?;
    daemon.platform.store.deployment_told(bad.deployment)?;
    Ok(())
}

/// Each bad deployment is an alert of its own.
fn rule_name(id: DeploymentId) -> String {
    format!("deployment {id}")
}

/// What is said of the live deployment beside its number: that it is watched, or that it took the place of a bad one.
pub(crate) fn words(
    platform: &Platform,
    live: &Deployment,
    application: &Application,
) -> Result<Option<String>, PlatformError> {
    let all = platform.store.deployments_bad()?;
    if let Some(bad) = all.iter().find(|bad| bad.deployment == live.id) {
        return Ok(Some(format!("bad: {}", bad.why)));
    }
    let from = origin_of(live).from.filter(|_| live.actor == ACTOR);
    let replaced = all.iter().find(|bad| from == Some(bad.deployment.to_string()));
    if let Some(bad) = replaced {
        return Ok(Some(format!("rolled back by itself: {}", bad.why)));
    }
    let until = watched_until_ms(live.environment, live, application);
    Ok(until.filter(|until| now_ms() < *until).map(|until| {
        let seconds = until.saturating_sub(now_ms()).div_ceil(1_000);
        format!("watched for {} min {} s more", seconds / 60, seconds % 60)
    }))
}
