//! Idle previews: asleep without a process of their own, awake with the next request, gone after a time without one.
//!
//! An environment sleeps in this order: the record, the routes (the edge asks before it sends anybody on), what is under
//! way, the processes. It wakes as it comes up. Killed in between, the record says what is meant.

use crate::platform::{Platform, now_ms};
use crate::words::{Application, chain};
use crate::{deploy, drain, engines, publish};
use astraler_host::supervisor::SupervisorError;
use astraler_model::Environment;
use astraler_store::Deployment;
use std::time::Duration;

/// Requests that were under way when the idle time ended get this long.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);
/// The time of the last request is recorded when it has moved on by this much.
const RECORD_EVERY_MS: u64 = 60_000;

/// An environment could not be put to sleep.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SleepError {
    #[error(transparent)]
    Platform(#[from] crate::platform::PlatformError),
    #[error(transparent)]
    Publish(#[from] publish::PublishError),
    #[error("its processes cannot be stopped")]
    Supervisor(#[from] SupervisorError),
}

/// What is due for an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    Sleep,
    Removal,
}

/// What the manifest says about an environment that has had no request for some time. One that is protected sleeps and
/// stays.
pub(crate) fn due(
    environment: Environment,
    application: &Application,
    idle_ms: u64,
    asleep: bool,
    protected: bool,
) -> Due {
    if !matches!(environment, Environment::Preview(_)) {
        return Due::Nothing;
    }
    let settings = &application.config.environments.preview;
    let hours = |hours: u32| u64::from(hours) * 3_600_000;
    let minutes = |minutes: u32| u64::from(minutes) * 60_000;
    if !protected && settings.ttl_hours.is_some_and(|ttl| idle_ms >= hours(ttl)) {
        Due::Removal
    } else if !asleep && settings.idle_sleep_minutes > 0 && idle_ms >= minutes(settings.idle_sleep_minutes) {
        Due::Sleep
    } else {
        Due::Nothing
    }
}

/// How long ago each live environment was asked for: by the edge's count, and by the record where the edge is younger.
pub(crate) async fn idle_times(
    platform: &Platform,
) -> Result<Vec<(Environment, Deployment, Application, u64)>, crate::platform::PlatformError> {
    let status = drain::edge_status(platform).await;
    let now = now_ms();
    let mut found = Vec::new();
    for (environment, (deployment, application)) in platform.live()? {
        let recorded = platform
            .environment(environment)?
            .and_then(|record| record.active_ms);
        let seen = status.as_ref().and_then(|status| {
            let seen = &status["deployments"][deployment.id.to_string()];
            let asked = seen["requests"].as_u64()? > 0;
            asked.then(|| seen["idle_ms"].as_u64().map(|idle| now.saturating_sub(idle)))?
        });
        // A deployment is a sign of life too.
        let last = seen.max(recorded).max(deployment.switched_ms).unwrap_or(now);
        if seen.is_some_and(|seen| seen > recorded.unwrap_or(0) + RECORD_EVERY_MS) {
            platform.set_active(environment, last)?;
        }
        found.push((environment, deployment, application, now.saturating_sub(last)));
    }
    Ok(found)
}

/// Puts an environment to sleep. Its turn is the caller's.
pub(crate) async fn sleep(platform: &Platform, deployment: &Deployment) -> Result<(), SleepError> {
    let environment = deployment.environment;
    platform.set_asleep(environment, true)?;
    publish::edge(platform).await?;
    drain::drain(platform, &deployment.id.to_string(), DRAIN_LIMIT).await;
    stop(platform, deployment).await?;
    Ok(())
}

/// Stops the processes of an environment that sleeps.
pub(crate) async fn stop(platform: &Platform, deployment: &Deployment) -> Result<(), SupervisorError> {
    deploy::sleep(platform, deployment).await?;
    if let Ok(unit) = engines::redis_unit(deployment.environment) {
        platform.supervisor.remove(&unit).await?;
    }
    Ok(())
}

/// Records that somebody asks for it.
pub(crate) fn touch(platform: &Platform, environment: Environment) {
    if let Err(error) = platform.set_active(environment, now_ms()) {
        tracing::warn!(%environment, error = chain(&error), "the time of a request cannot be recorded");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn previews_sleep_and_go_when_the_manifest_says_so_and_nothing_else_does() {
        let application = |settings: serde_json::Value| Application {
            config: serde_json::from_value(serde_json::json!({
                "name": "a", "domain": "a.example", "environments": { "preview": settings }
            }))
            .unwrap(),
            release: "sha256:a".into(),
            workers: vec![],
            assets: None,
            migrations: None,
            mask: None,
        };
        let preview = Environment::Preview(7);
        let minute = 60_000;
        let standard = application(serde_json::json!({}));
        let due = |environment, application: &Application, idle_ms, asleep| {
            due(environment, application, idle_ms, asleep, false)
        };
        assert_eq!(due(preview, &standard, 15 * minute - 1, false), Due::Nothing);
        assert_eq!(due(preview, &standard, 15 * minute, false), Due::Sleep);
        assert_eq!(due(preview, &standard, u64::MAX, true), Due::Nothing);
        assert_eq!(
            due(Environment::Staging, &standard, u64::MAX, false),
            Due::Nothing
        );
        let own = application(serde_json::json!({ "ttl_hours": 2, "idle_sleep_minutes": 0 }));
        assert_eq!(due(preview, &own, 120 * minute - 1, false), Due::Nothing);
        assert_eq!(due(preview, &own, 120 * minute, true), Due::Removal);
        assert_eq!(super::due(preview, &own, u64::MAX, true, true), Due::Nothing);
    }
}
