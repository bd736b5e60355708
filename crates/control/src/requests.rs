//! What can be asked for: up, deploy, promote, rollback, the end of a preview. Each answers with events as they happen,
//! and goes on when nobody reads them.

use crate::change::{self, Change, Changed};
use crate::daemon::Daemon;
use crate::platform::{Platform, PlatformError, application_of, origin_of};
use crate::releases::ReleaseError;
use crate::words::{
    Action, Application, Event, Fault, Origin, PromoteRequest, RollbackRequest, StepOutcome, chain,
};
use crate::{remove, sleep, status};
use astraler_model::{Environment, Principal};
use astraler_store::{Deployment, DeploymentId, DeploymentState};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Lines of progress that wait for a slow reader.
const PROGRESS_QUEUE: usize = 256;

/// Deployments among which the last good one is looked for.
pub(crate) const HISTORY: u32 = 200;

/// What has happened, as it happens. The last event is `Done`, `Failed`, `Superseded`, `Blocked` or `Removed`.
pub(crate) type Events = mpsc::Receiver<Event>;

impl Daemon {
    /// Brings an environment up with a release.
    pub(crate) fn up(
        self: Arc<Self>,
        actor: String,
        environment: Environment,
        release: String,
        origin: Origin,
    ) -> Events {
        let origin = Origin {
            action: Action::Up,
            override_reason: None,
            gates: None,
            ..origin
        };
        spawn(move |events| async move {
            let _change = self.changes.read().await;
            let _turn = self.turns.take(environment).await;
            let healed = self.take_healed(environment);
            let application = self.application(environment, release).await?;
            let change = Change {
                platform: &self.platform,
                kind: "up",
                environment,
                application: &application,
                actor: &actor,
                origin: &origin,
                events: &events,
                deployment: None,
                heals: false,
            };
            let changed = Box::pin(change::run(change)).await;
            self.after(environment, changed.as_ref().ok());
            let changed = changed?;
            let report = status::environment_report(&self.platform, environment, &application)
                .map_err(|error| Fault::of("status", &error))?;
            Ok(Event::Done {
                changed: changed.any || healed,
                environment: report,
            })
        })
    }

    /// Puts a release into an environment.
    pub(crate) fn deploy(
        self: Arc<Self>,
        principal: Principal,
        environment: Environment,
        release: String,
        origin: Origin,
    ) -> Events {
        spawn(move |events| async move {
            let application = self.application(environment, release).await?;
            let passed = self
                .pass_gates(&principal, environment, &application, origin, &events)
                .await?;
            let origin = match passed {
                ControlFlow::Continue(origin) => origin,
                ControlFlow::Break(blocked) => return Ok(blocked),
            };
            self.line_up(&principal.name, environment, application, origin, &events)
                .await
        })
    }

    /// Puts the release that one environment runs into another.
    pub(crate) fn promote(self: Arc<Self>, principal: Principal, request: PromoteRequest) -> Events {
        spawn(move |events| async move {
            let PromoteRequest { from, to, origin } = request;
            let fault = |error: &dyn std::error::Error| Fault::of("promote", error);
            let live = self
                .platform
                .live_deployment(from)
                .map_err(|error| fault(&error))?;
            let live = live.ok_or_else(|| Fault {
                part: "promote".into(),
                message: format!("{from} runs no release that could be promoted"),
                log: vec![],
                hint: Some(format!("`astraler deploy --env {from}` puts one there")),
            })?;
            let application = self.application(to, live.release.clone()).await?;
            let source = origin_of(&live);
            let origin = Origin {
                action: Action::Promote,
                commit: origin.commit.or(source.commit),
                branch: origin.branch.or(source.branch),
                from: Some(from.to_string()),
                ..origin
            };
            let passed = self
                .pass_gates(&principal, to, &application, origin, &events)
                .await?;
            let origin = match passed {
                ControlFlow::Continue(origin) => origin,
                ControlFlow::Break(blocked) => return Ok(blocked),
            };
            self.line_up(&principal.name, to, application, origin, &events)
                .await
        })
    }

    /// Gives what runs in an environment the secrets as they are now: the live release, deployed anew. Nothing happens
    /// where it has them already.
    pub(crate) fn apply_secrets(self: Arc<Self>, actor: String, environment: Environment) -> Events {
        spawn(move |events| async move {
            let fault = |error: &dyn std::error::Error| Fault::of("secrets", error);
            let live = self
                .platform
                .live_deployment(environment)
                .map_err(|error| fault(&error))?;
            let live = live.ok_or_else(|| Fault {
                part: "secrets".into(),
                message: format!("{environment} runs nothing that could take secrets"),
                log: vec![],
                hint: Some("the next deployment takes them as they are then".into()),
            })?;
            let present = application_of(&live).map_err(|error| fault(&error))?;
            let mut application = present.clone();
            self.platform.pin_secrets(environment, &mut application)?;
            if application == present {
                let report = status::environment_report(&self.platform, environment, &present)
                    .map_err(|error| fault(&error))?;
                return Ok(Event::Done {
                    changed: false,
                    environment: report,
                });
            }
            // The release stays, and with it what is known of it.
            let source = origin_of(&live);
            let origin = Origin {
                action: Action::Apply,
                commit: source.commit,
                branch: source.branch,
                gates: source.gates,
                override_reason: source.override_reason,
                reason: Some("secrets".into()),
                ..Origin::default()
            };
            self.line_up(&actor, environment, application, origin, &events)
                .await
        })
    }

    /// Goes back to a deployment that served before, with its release and its configuration. The schema stays.
    pub(crate) fn rollback(self: Arc<Self>, actor: String, request: RollbackRequest) -> Events {
        spawn(move |events| async move { self.go_back(&actor, request, None, &events).await })
    }

    /// Goes back from a deployment that was found to be bad. Nothing happens when another one serves by the time that it
    /// is its turn.
    pub(crate) fn roll_back_from(self: Arc<Self>, bad: &Deployment, why: &str) -> Events {
        let request = RollbackRequest {
            environment: bad.environment,
            to: None,
            origin: Origin {
                reason: Some(why.to_owned()),
                ..Origin::default()
            },
        };
        let from = bad.id;
        spawn(move |events| async move {
            self.go_back(crate::watch::ACTOR, request, Some(from), &events)
                .await
        })
    }

    /// Goes back, from this deployment only where one is named.
    pub(crate) async fn go_back(
        &self,
        actor: &str,
        request: RollbackRequest,
        only_from: Option<DeploymentId>,
        events: &mpsc::Sender<Event>,
    ) -> Result<Event, Fault> {
        let environment = request.environment;
        let target = target(&self.platform, &request)?;
        let mut application = application_of(&target).map_err(|error| Fault::of("rollback", &error))?;
        // With the secrets of today: what was rotated or revoked since does not come back.
        self.platform.pin_secrets(environment, &mut application)?;
        self.verified(target.release.clone())
            .await
            .map_err(|fault| gone(fault, &target))?;
        let live = self
            .platform
            .live_deployment(environment)
            .map_err(|error| Fault::of("rollback", &error))?;
        let from = only_from.or(live.map(|live| live.id));
        let source = origin_of(&target);
        let origin = Origin {
            action: Action::Rollback,
            commit: source.commit,
            branch: source.branch,
            gates: source.gates,
            override_reason: None,
            from: from.map(|from| from.to_string()),
            ..request.origin
        };
        self.line_up_from(only_from, actor, environment, application, origin, events)
            .await
    }

    /// Removes a preview with everything it has.
    pub(crate) fn remove(self: Arc<Self>, actor: String, environment: Environment, reason: String) -> Events {
        spawn(move |events| async move {
            let _change = self.changes.read().await;
            let _turn = self.turns.take(environment).await;
            if let Environment::Preview(number) = environment {
                // Or the next push of its branch would bring it back.
                crate::runs::end_pull_request(&self.platform, number, &actor, &reason)
                    .map_err(|error| Fault::of("pull request", &error))?;
                self.runs.wake();
            }
            remove::remove(&self.platform, environment, &actor, &reason, &events).await?;
            Ok(Event::Removed { environment })
        })
    }

    /// Wakes an environment; nothing happens when it is awake.
    pub(crate) async fn wake(&self, environment: Environment) -> Result<(), Fault> {
        let fault = |error: &dyn std::error::Error| Fault::of("wake", error);
        sleep::touch(&self.platform, environment);
        let _change = self.changes.read().await;
        let _turn = self.turns.take(environment).await;
        let asleep = self.platform.asleep().map_err(|error| fault(&error))?;
        if !asleep.contains(&environment) {
            return Ok(());
        }
        let live = self
            .platform
            .live_deployment(environment)
            .map_err(|error| fault(&error))?;
        if let Some(live) = live {
            let application = application_of(&live).map_err(|error| fault(&error))?;
            Box::pin(bring_back(&self.platform, &live, &application)).await?;
        }
        Ok(())
    }

    /// Waits for its turn, or is superseded; then deploys.
    async fn line_up(
        &self,
        actor: &str,
        environment: Environment,
        application: Application,
        origin: Origin,
        events: &mpsc::Sender<Event>,
    ) -> Result<Event, Fault> {
        self.line_up_from(None, actor, environment, application, origin, events)
            .await
    }

    /// As [`Daemon::line_up`]; where it is said which deployment it is to take the place of, of no other.
    async fn line_up_from(
        &self,
        only_from: Option<DeploymentId>,
        actor: &str,
        environment: Environment,
        application: Application,
        origin: Origin,
        events: &mpsc::Sender<Event>,
    ) -> Result<Event, Fault> {
        let fault = |error: &dyn std::error::Error| Fault::of("deploy", error);
        let platform = &self.platform;
        let _change = self.changes.read().await;
        let deployment = platform
            .new_deployment(environment, &application, actor, &origin)
            .map_err(|error| fault(&error))?;
        let id = deployment.id.to_string();
        let place = self.turns.line_up(environment, id.clone());
        let waiting = format!("queue {environment}");
        events
            .send(Event::Begin {
                part: waiting.clone(),
            })
            .await
            .ok();
        let began = std::time::Instant::now();
        let _turn = match place.turn().await {
            Ok(turn) => turn,
            Err(by) => {
                let reason = format!("superseded by {by}");
                platform.set_deployment_state(&deployment, DeploymentState::Superseded, Some(&reason));
                return Ok(Event::Superseded { deployment: id, by });
            }
        };
        let live = platform
            .live_deployment(environment)
            .map_err(|error| fault(&error))?;
        if let (Some(from), Some(live)) = (only_from, live)
            && live.id != from
        {
            let reason = format!("{} serves by now, not {from}", live.id);
            platform.set_deployment_state(&deployment, DeploymentState::Superseded, Some(&reason));
            return Ok(Event::Superseded {
                deployment: id,
                by: live.id.to_string(),
            });
        }
        events
            .send(Event::End {
                part: waiting,
                outcome: StepOutcome::Unchanged,
                detail: id,
                elapsed_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            })
            .await
            .ok();
        let kind = match origin.action {
            Action::Up => "up",
            Action::Deploy => "deploy",
            Action::Promote => "promote",
            Action::Rollback => "rollback",
            Action::Apply => "apply",
        };
        // What follows from a manifest was asked about by its plan.
        let heals = matches!(origin.action, Action::Rollback | Action::Apply);
        let change = Change {
            platform,
            kind,
            environment,
            application: &application,
            actor,
            origin: &origin,
            events,
            deployment: Some(deployment),
            heals,
        };
        let changed = Box::pin(change::run(change)).await;
        self.after(environment, changed.as_ref().ok());
        changed?;
        let report = status::environment_report(platform, environment, &application)
            .map_err(|error| Fault::of("status", &error))?;
        Ok(Event::Done {
            changed: true,
            environment: report,
        })
    }

    /// What follows from a change, in the background. None: it failed.
    fn after(&self, environment: Environment, changed: Option<&Changed>) {
        self.deployed.notify_one();
        if environment == Environment::Staging && changed.is_some_and(|changed| changed.switched) {
            self.stale.notify_one();
        }
    }

    /// The release, verified, with the environment's values.
    async fn application(&self, environment: Environment, release: String) -> Result<Application, Fault> {
        let release = self.verified(release).await?;
        let mut application = Application::of(&release, environment, &self.platform.installation.application)
            .map_err(|error| Fault::of("release", &error))?;
        self.platform.pin_secrets(environment, &mut application)?;
        Ok(application)
    }

    /// Every byte of the release is what its digest says.
    async fn verified(&self, digest: String) -> Result<astraler_release::Release, Fault> {
        let releases = self.platform.releases.clone();
        let resolved = blocking(move || releases.resolve(&digest)).await?;
        let digest = resolved.map_err(|error| unusable(&error.into()))?;
        self.wanted.note(&digest).await;
        let releases = self.platform.releases.clone();
        let verified = blocking(move || releases.verify(&digest)).await?;
        verified.map_err(|error| unusable(&error.into()))
    }
}

/// Reads files of releases on a thread for that.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Fault::of("release", &error))
}

/// The release of an earlier deployment is not here any more: its sources make the same one again.
fn gone(fault: Fault, target: &Deployment) -> Fault {
    let Some(commit) = origin_of(target).commit else {
        return fault;
    };
    let hint = fault
        .hint
        .map(|hint| format!("{} was built from commit {commit}; {hint}", target.id));
    Fault { hint, ..fault }
}

/// A release cannot be deployed, and what to do about it.
fn unusable(error: &ReleaseError) -> Fault {
    let mut fault = Fault::of("release", error);
    let hint = if error.is_damage() {
        "it was changed after it had been built, and is not deployed: build it again with `astraler deploy`"
    } else if error.is_unknown() {
        "`astraler release list` shows those that are here; old ones go (`release.keep`): `astraler deploy` on its \
         commit builds it again, `astraler release import` brings back what was exported"
    } else {
        return fault;
    };
    fault.hint = Some(hint.to_owned());
    fault
}

/// Makes the live deployment run as it should: after a restart, or from sleep.
pub(crate) async fn bring_back(
    platform: &Platform,
    live: &Deployment,
    application: &Application,
) -> Result<bool, Fault> {
    let (events, received) = mpsc::channel(1);
    drop(received);
    let change = Change {
        platform,
        kind: "up",
        environment: live.environment,
        application,
        actor: "daemon",
        origin: &origin_of(live),
        events: &events,
        deployment: None,
        heals: true,
    };
    Ok(Box::pin(change::run(change)).await?.any)
}

/// The deployment that a rollback goes back to.
pub(crate) fn target(platform: &Platform, request: &RollbackRequest) -> Result<Deployment, Fault> {
    let refused = |message: String, hint: Option<String>| Fault {
        part: "rollback".into(),
        message,
        log: vec![],
        hint,
    };
    let fault = |error: PlatformError| refused(chain(&error), None);
    let environment = request.environment;
    if let Some(id) = &request.to {
        let id = id
            .parse()
            .map_err(|error: astraler_store::ParseDeploymentIdError| refused(error.to_string(), None))?;
        let found = platform.deployment(id).map_err(fault)?;
        if found.environment != environment || found.switched_ms.is_none() {
            let hint = format!("`astraler deployments --env {environment}` shows those that did");
            return Err(refused(format!("{id} never served {environment}"), Some(hint)));
        }
        return Ok(found);
    }
    let mut history = platform.deployments(Some(environment), HISTORY).map_err(fault)?;
    let bad = crate::watch::condemned(platform).map_err(fault)?;
    history.retain(|deployment| deployment.state == DeploymentState::Live || !bad.contains(&deployment.id));
    last_good(&history).cloned().ok_or_else(|| {
        refused(
            format!("{environment} has no earlier deployment that was good"),
            Some("`astraler deployments` lists all; `--to ID` chooses one".into()),
        )
    })
}

/// Of a history, newest first: the newest that served before the live one, was not rolled back from, and differs from it.
fn last_good(history: &[Deployment]) -> Option<&Deployment> {
    good(history).next()
}

/// As [`last_good`], with those before it.
pub(crate) fn good(history: &[Deployment]) -> impl Iterator<Item = &Deployment> {
    let bad: BTreeSet<String> = history
        .iter()
        .map(origin_of)
        .filter(|origin| origin.action == Action::Rollback)
        .filter_map(|origin| origin.from)
        .collect();
    let live = history
        .iter()
        .find(|deployment| deployment.state == DeploymentState::Live);
    history.iter().filter(move |deployment| {
        deployment.switched_ms.is_some()
            && matches!(
                deployment.state,
                DeploymentState::Retired | DeploymentState::Draining
            )
            && !bad.contains(&deployment.id.to_string())
            && live.is_none_or(|live| without_pins(deployment) != without_pins(live))
    })
}

/// Whether two deployments are of the same release and configuration.
pub(crate) fn is_same(one: &Deployment, other: &Deployment) -> bool {
    without_pins(one) == without_pins(other)
}

/// What a deployment was made of but for the versions of its secrets, which a rollback leaves as they are.
fn without_pins(deployment: &Deployment) -> serde_json::Value {
    let mut configuration = deployment.configuration.clone();
    let workers = configuration["workers"].as_array_mut().into_iter().flatten();
    for worker in workers.filter_map(serde_json::Value::as_object_mut) {
        worker.remove("secrets");
    }
    configuration
}

/// Runs work whose events are read by somebody, or by nobody.
fn spawn<F, W>(work: W) -> Events
where
    W: FnOnce(mpsc::Sender<Event>) -> F + Send + 'static,
    F: Future<Output = Result<Event, Fault>> + Send + 'static,
{
    let (events, received) = mpsc::channel(PROGRESS_QUEUE);
    tokio::spawn(async move {
        let last = work(events.clone()).await.unwrap_or_else(Event::Failed);
        events.send(last).await.ok();
    });
    received
}
