//! Deployment, as a story: start, probe, switch, drain, stop. The old deployment is not touched before the
//! new one has answered, and nothing is lost on the way.

use crate::credentials::EnvironmentSecrets;
use crate::engines::{self, Step, outcome};
use crate::platform::{Platform, PlatformError, application_of};
use crate::words::{Application, Fault, StepOutcome};
use crate::{drain as draining, publish, status};
use astraler_host::supervisor::{Started, SupervisorError};
use astraler_model::{Environment, ListenAddress, Listener, UnitName, UnitPhase, UnitSpec};
use astraler_store::{Deployment, DeploymentState};
use astraler_workers as workers;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One try of a probe; how many there are is the manifest's business.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
const PROBE_AGAIN: Duration = Duration::from_millis(100);

/// How far a deployment has come.
pub(crate) struct Story {
    pub(crate) environment: Environment,
    pub(crate) deployment: Deployment,
    /// Whether it is a new one; else it is the live one, looked after.
    pub(crate) fresh: bool,
    /// Whether it was switched to.
    live: bool,
    old: Option<Deployment>,
}

impl Story {
    pub(crate) fn new(environment: Environment, deployment: Deployment, fresh: bool) -> Self {
        Self {
            environment,
            deployment,
            fresh,
            live: !fresh,
            old: None,
        }
    }

    /// After a failure: what had not been switched to goes. What was, stays, and what drains is ended later.
    pub(crate) async fn take_back(&self, platform: &Platform, reason: &str) {
        if self.live {
            return;
        }
        if let Err(error) = abandon(platform, &self.deployment, reason).await {
            tracing::warn!(%self.deployment.id, %error, "a deployment that did not come up is ended later");
        }
        if let Err(error) = publish::data(platform).await {
            tracing::debug!(
                error = crate::words::chain(&error),
                "what it needed is taken back later"
            );
        }
    }
}

/// Starts the deployment's process beside the old one's. Nobody is sent to it.
pub(crate) async fn start(
    platform: &Platform,
    part: &str,
    story: &Story,
    secrets: &EnvironmentSecrets,
    application: &Application,
) -> Step {
    let fault = |error: &dyn std::error::Error| Fault::of(part, error);
    let id = story.deployment.id.to_string();
    if story.fresh {
        platform
            .start_deployment(&story.deployment)
            .map_err(|error| fault(&error))?;
    }
    publish::data(platform).await.map_err(|error| fault(&error))?;
    let unit = worker_unit(platform, story.environment, &id, secrets, application)
        .map_err(|error| fault(error.as_ref()))?;
    let started = engines::start(platform, part, &unit).await?;
    Ok((
        outcome(matches!(started, Started::Fresh(_))),
        format!(
            "{id}: {} workers, release {}",
            application.workers.len(),
            short(&application.release)
        ),
    ))
}

/// Waits until the deployment answers as the manifest says.
pub(crate) async fn probe(platform: &Platform, part: &str, story: &Story, application: &Application) -> Step {
    let id = story.deployment.id.to_string();
    let settings = &application.config.deploy;
    let limit = Duration::from_millis(settings.health_timeout_ms);
    let failed = |worker: &str, error: &ProbeError| {
        let mut fault = Fault::of(part, error);
        fault.message = format!("worker `{worker}`: {}", fault.message);
        fault.log = unit_name(story.environment, &id)
            .map(|unit| platform.last_log_lines(&unit))
            .unwrap_or_default();
        fault.hint = Some("the log lines above are the worker's own; the old deployment serves on".into());
        fault
    };
    if let Some(path) = &settings.health_path
        && let Some(worker) = worker_of(application, path)
    {
        let socket = worker_http_socket(platform, &id, worker);
        wait_healthy(&socket, path, limit)
            .await
            .map_err(|error| failed(worker, &error))?;
        return Ok((StepOutcome::Unchanged, format!("{path} answers")));
    }
    for worker in &application.workers {
        let socket = worker_http_socket(platform, &id, &worker.name);
        let path = worker.routes.first().map_or("/", String::as_str);
        let any = |status: u16| !matches!(status, 500 | 502 | 503 | 504);
        ask(&socket, path, limit.min(PROBE_TIMEOUT), any)
            .await
            .map_err(|error| failed(&worker.name, &error))?;
    }
    Ok((StepOutcome::Unchanged, "every worker answers".into()))
}

/// One atomic switch: the record, then the routes, which the edge confirms. Where it does not, the old deployment is
/// the live one again.
pub(crate) async fn switch(platform: &Platform, part: &str, story: &mut Story) -> Step {
    let fault = |error: &dyn std::error::Error| Fault::of(part, error);
    let awake = platform
        .set_asleep(story.environment, false)
        .map_err(|error| fault(&error))?;
    if !story.fresh {
        publish::edge(platform).await.map_err(|error| fault(&error))?;
        return Ok((outcome(awake), format!("{} serves", story.deployment.id)));
    }
    story.old = platform
        .switch_live(&story.deployment)
        .map_err(|error| fault(&error))?;
    if let Err(error) = publish::edge(platform).await {
        let failure = fault(&error);
        // Both run. Whichever the edge sends people to, they are served; the record says which stays.
        let Some(old) = story.old.take() else {
            story.live = true;
            return Err(failure);
        };
        story.live = true;
        platform.switch_live(&old).map_err(|error| fault(&error))?;
        publish::edge(platform).await.map_err(|error| fault(&error))?;
        story.live = false;
        return Err(failure);
    }
    story.live = true;
    Ok((StepOutcome::Changed, format!("{} serves", story.deployment.id)))
}

/// What the old deployment had begun ends, within the manifest's bound.
pub(crate) async fn drain(platform: &Platform, story: &Story) -> Step {
    let Some(old) = &story.old else {
        return Ok((StepOutcome::Unchanged, "nothing to drain".into()));
    };
    let quiet = draining::drain(platform, &old.id.to_string(), drain_limit(old)).await;
    let detail = if quiet {
        format!("{} serves nobody", old.id)
    } else {
        format!("{} is cut: its last requests took too long", old.id)
    };
    Ok((StepOutcome::Changed, detail))
}

/// The old deployment's process ends.
pub(crate) async fn stop(platform: &Platform, part: &str, story: &Story) -> Step {
    let Some(old) = &story.old else {
        return Ok((StepOutcome::Unchanged, "nothing to stop".into()));
    };
    retire(platform, old)
        .await
        .map_err(|error| Fault::of_supervisor(part, &error))?;
    Ok((StepOutcome::Changed, format!("{} stopped", old.id)))
}

/// The drain time of the configuration that the deployment was made with.
fn drain_limit(deployment: &Deployment) -> Duration {
    application_of(deployment).map_or(Duration::ZERO, |application| {
        Duration::from_millis(application.config.deploy.drain_ms)
    })
}

/// Ends what a killed process left half done: what had not been switched to goes, what was draining stops, once the edge
/// has the routes that the record says. Only while no change runs.
pub(crate) async fn settle(platform: &Platform) -> Result<(), SettleError> {
    let unsettled = platform.unsettled_deployments()?;
    if unsettled.is_empty() {
        return Ok(());
    }
    // The kill may have come between the record of the switch and the routes: those who drain may still be served.
    let edge = UnitName::new("edge").map_err(SettleError::Name)?;
    let serves = status::unit(platform, &edge)
        .await
        .map_err(SettleError::Supervisor)?
        .is_some_and(|unit| unit.phase == UnitPhase::Running);
    if serves {
        publish::edge(platform).await?;
    } else {
        publish::write_edge(platform).await?;
    }
    for deployment in unsettled {
        let ended = if deployment.state == DeploymentState::Draining {
            if serves {
                draining::drain(platform, &deployment.id.to_string(), drain_limit(&deployment)).await;
            }
            retire(platform, &deployment).await
        } else {
            abandon(platform, &deployment, "its start was interrupted").await
        };
        ended.map_err(SettleError::Supervisor)?;
    }
    Ok(())
}

/// What was half done cannot be ended now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettleError {
    #[error(transparent)]
    Platform(#[from] PlatformError),
    #[error(transparent)]
    Publish(#[from] publish::PublishError),
    #[error("the parent process `keep` does not answer")]
    Supervisor(#[source] SupervisorError),
    #[error("a unit has no name")]
    Name(#[source] astraler_model::UnitNameError),
}

/// Stops the deployment's process; its record stays as it is.
pub(crate) async fn sleep(platform: &Platform, deployment: &Deployment) -> Result<(), SupervisorError> {
    let id = deployment.id.to_string();
    if let Ok(unit) = unit_name(deployment.environment, &id) {
        platform.supervisor.remove(&unit).await?;
    }
    platform.forget_runtime(&id);
    Ok(())
}

/// The first twelve characters of a digest: enough to recognise it.
pub(crate) fn short(digest: &str) -> &str {
    let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
    hex.get(..12).unwrap_or(hex)
}

/// Socket of one worker of a deployment.
pub(crate) fn worker_http_socket(platform: &Platform, deployment: &str, worker: &str) -> PathBuf {
    platform
        .installation
        .layout
        .deployment(deployment)
        .join(format!("{worker}.sock"))
}

/// Name of a deployment's unit.
pub(crate) fn unit_name(
    environment: Environment,
    deployment: &str,
) -> Result<UnitName, astraler_model::UnitNameError> {
    UnitName::new(format!("workers-{environment}-{deployment}"))
}

/// The worker that answers a path: the longest prefix wins, as in the edge.
fn worker_of<'a>(application: &'a Application, path: &str) -> Option<&'a str> {
    let below = |prefix: &str| {
        path.strip_prefix(prefix.trim_end_matches('/'))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
    };
    application
        .workers
        .iter()
        .flat_map(|worker| worker.routes.iter().map(move |route| (route, worker)))
        .filter(|(route, _)| below(route))
        .max_by_key(|(route, _)| route.trim_end_matches('/').len())
        .map(|(_, worker)| worker.name.as_str())
}

/// The worker did not answer as a living one does.
#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error("it does not answer on its socket")]
    Silent(#[source] crate::client::ClientError),
    #[error("it answered {0} to the probe")]
    Status(u16),
    #[error("it did not answer within {} ms", .0.as_millis())]
    Timeout(Duration),
}

/// Asks until the path answers with a status below 400.
async fn wait_healthy(socket: &Path, path: &str, limit: Duration) -> Result<(), ProbeError> {
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        match ask(socket, path, left, |status| status < 400).await {
            Ok(()) => return Ok(()),
            Err(ProbeError::Timeout(_)) => return Err(ProbeError::Timeout(limit)),
            Err(error) if tokio::time::Instant::now() + PROBE_AGAIN >= deadline => return Err(error),
            Err(_) => tokio::time::sleep(PROBE_AGAIN).await,
        }
    }
}

/// One try. Where no path is named any answer but a server error counts: a worker need not have a route at its prefix.
async fn ask(
    socket: &Path,
    path: &str,
    limit: Duration,
    good: impl Fn(u16) -> bool,
) -> Result<(), ProbeError> {
    let answer = tokio::time::timeout(limit, crate::client::get(socket, path))
        .await
        .map_err(|_| ProbeError::Timeout(limit))?
        .map_err(ProbeError::Silent)?;
    if good(answer.status) {
        Ok(())
    } else {
        Err(ProbeError::Status(answer.status))
    }
}

/// Takes back what did not come up.
async fn abandon(platform: &Platform, deployment: &Deployment, reason: &str) -> Result<(), SupervisorError> {
    end(platform, deployment, DeploymentState::Failed, Some(reason)).await
}

/// Drain and stop: the edge has already switched; SIGTERM lets requests in flight end.
async fn retire(platform: &Platform, old: &Deployment) -> Result<(), SupervisorError> {
    end(platform, old, DeploymentState::Retired, None).await
}

/// The record follows the process: while the unit may still run, the deployment stays unsettled, and the next look
/// ends it.
async fn end(
    platform: &Platform,
    deployment: &Deployment,
    state: DeploymentState,
    error: Option<&str>,
) -> Result<(), SupervisorError> {
    let id = deployment.id.to_string();
    if let Ok(unit) = unit_name(deployment.environment, &id) {
        platform.supervisor.remove(&unit).await?;
    }
    platform.forget_runtime(&id);
    platform.set_deployment_state(deployment, state, error);
    Ok(())
}

/// Ends every deployment of an environment that goes, and every process of one.
pub(crate) async fn end_all(platform: &Platform, environment: Environment) -> Result<(), Fault> {
    let part = format!("workers {environment}");
    let fault = |error: &dyn std::error::Error| Fault::of(&part, error);
    let reason = Some("its environment was destroyed");
    let live = platform
        .live_deployment(environment)
        .map_err(|error| fault(&error))?;
    let mut all = platform.unsettled_deployments().map_err(|error| fault(&error))?;
    all.retain(|deployment| deployment.environment == environment);
    all.extend(live);
    for deployment in all {
        end(platform, &deployment, DeploymentState::Failed, reason)
            .await
            .map_err(|error| Fault::of_supervisor(&part, &error))?;
    }
    let prefix = format!("workers-{environment}-");
    let units = platform
        .supervisor
        .list()
        .await
        .map_err(|error| Fault::of_supervisor(&part, &error))?;
    for unit in units {
        if unit.name.as_str().starts_with(&prefix) {
            platform
                .supervisor
                .remove(&unit.name)
                .await
                .map_err(|error| Fault::of_supervisor(&part, &error))?;
        }
    }
    Ok(())
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Writes the deployment's configuration to the runtime folder (it holds secrets) and describes its process.
pub(crate) fn worker_unit(
    platform: &Platform,
    environment: Environment,
    deployment: &str,
    secrets: &EnvironmentSecrets,
    application: &Application,
) -> Result<UnitSpec, BoxError> {
    let installation = &platform.installation;
    let layout = &installation.layout;
    let group = installation
        .identities
        .worker
        .as_ref()
        .map(|identity| identity.gid);
    let edge = installation.identities.edge.as_ref().map(|identity| identity.gid);
    let folder = layout.deployment(deployment);
    platform.make_dir_for(&folder, None)?;
    let config = deployment_config(platform, environment, deployment, secrets, application)?;
    let text = workers::render(&config);
    let file = folder.join("workerd.capnp");
    // What is there already was handed out when it was written.
    if !std::fs::read(&file).is_ok_and(|present| present == text.as_bytes()) {
        let of = |worker: &workers::WorkerConfig| {
            let names = worker.secrets.keys().chain(worker.r2.keys()).cloned();
            let bound = worker
                .hyperdrive
                .iter()
                .map(|hyperdrive| hyperdrive.binding.clone());
            (worker.name.clone(), names.chain(bound).collect())
        };
        let released = config.workers.iter().map(of).collect();
        platform.audit_release(&format!("{environment}/{deployment}"), &released)?;
    }
    let listeners = application
        .workers
        .iter()
        .map(|worker| Listener {
            name: workers::listener_name(&worker.name),
            address: ListenAddress::Unix {
                path: worker_http_socket(platform, deployment, &worker.name),
                mode: 0o660,
                group: edge,
            },
            backlog: 1024,
        })
        .collect();
    astraler_host::file::replace_owned(&file, text.as_bytes(), 0o640, group)?;
    let memory = application
        .workers
        .iter()
        .filter_map(|worker| worker.memory_bytes)
        .reduce(|sum, next| sum + next);
    Ok(workers::unit(&workers::UnitInput {
        name: unit_name(environment, deployment)?,
        config: &config,
        config_file: file,
        release_directory: layout
            .releases()
            .join(astraler_release::directory_name(&application.release)),
        tools: platform.tools()?,
        sandbox: platform.sandbox(application)?,
        identity: installation.identities.worker.clone(),
        memory_bytes: memory,
        listeners,
    }))
}

/// Text of a deployment's configuration. It holds secrets.
pub(crate) fn configuration(
    platform: &Platform,
    environment: Environment,
    deployment: &str,
    secrets: &EnvironmentSecrets,
    application: &Application,
) -> Result<String, BoxError> {
    let config = deployment_config(platform, environment, deployment, secrets, application)?;
    Ok(workers::render(&config))
}

fn deployment_config(
    platform: &Platform,
    environment: Environment,
    deployment: &str,
    secrets: &EnvironmentSecrets,
    application: &Application,
) -> Result<workers::DeploymentConfig, BoxError> {
    let layout = &platform.installation.layout;
    Ok(workers::DeploymentConfig {
        id: deployment.to_owned(),
        environment,
        workers: application
            .workers
            .iter()
            .map(|worker| worker_config(platform, environment, secrets, application, worker))
            .collect::<Result<_, _>>()?,
        bindings_socket: layout.worker_socket("bindings"),
        hyperdrive_socket: layout.worker_socket("postgres"),
        egress_socket: layout.worker_socket("egress"),
    })
}

fn worker_config(
    platform: &Platform,
    environment: Environment,
    secrets: &EnvironmentSecrets,
    application: &Application,
    worker: &crate::words::WorkerPlan,
) -> Result<workers::WorkerConfig, BoxError> {
    let mut vars = worker.vars.clone();
    vars.entry("UPSTASH_REDIS_REST_URL".into())
        .or_insert_with(|| publish::REDIS_URL.into());
    vars.entry("APP_ENVIRONMENT".into())
        .or_insert_with(|| environment.to_string().into());
    let r2 = worker
        .r2
        .iter()
        .map(|(binding, bucket)| {
            let token = platform.credentials.binding_token(environment, bucket)?;
            Ok((binding.clone(), token.expose().to_owned()))
        })
        .collect::<Result<_, crate::credentials::CredentialError>>()?;
    let hyperdrive = worker
        .hyperdrive
        .iter()
        .map(|binding| workers::HyperdriveBinding {
            binding: binding.clone(),
            database: environment.identifier(),
            user: engines::service_role(environment),
            password: secrets.postgres_client_token.expose().to_owned(),
        })
        .collect();
    let release = platform
        .installation
        .layout
        .releases()
        .join(astraler_release::directory_name(&application.release));
    let mut own: BTreeMap<String, String> = platform
        .worker_secrets(environment, worker)?
        .into_iter()
        .map(|(name, secret)| (name, secret.expose().to_owned()))
        .collect();
    own.insert(
        "UPSTASH_REDIS_REST_TOKEN".to_owned(),
        secrets.redis_token.expose().to_owned(),
    );
    Ok(workers::WorkerConfig {
        name: worker.name.clone(),
        modules: worker
            .modules
            .iter()
            .map(|module| workers::Module {
                path: release.join(&module.path),
                ..module.clone()
            })
            .collect(),
        compatibility_date: worker.compatibility_date.clone(),
        compatibility_flags: worker.compatibility_flags.clone(),
        vars,
        secrets: own,
        r2,
        hyperdrive,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::Origin;
    use astraler_host::sim::{SimClock, SimFaults, SimSupervisor};
    use astraler_host::supervisor::Supervisor;
    use astraler_model::UnitPhase;
    use std::sync::Arc;

    fn application(release: &str) -> Application {
        Application {
            config: serde_json::from_value(serde_json::json!({ "name": "sim", "domain": "sim.example" }))
                .unwrap(),
            release: release.into(),
            workers: vec![],
            assets: None,
            migrations: None,
            mask: None,
        }
    }

    fn worker(platform: &Platform, deployment: &Deployment) -> UnitSpec {
        let mut unit = crate::services::daemon_unit(&platform.installation).unwrap();
        unit.name = unit_name(deployment.environment, &deployment.id.to_string()).unwrap();
        unit
    }

    /// The control process was killed at any point of several deployments, and its supervisor is as bad as it can
    /// be: sooner or later exactly the live deployment runs, and every record says what is.
    #[tokio::test]
    async fn settling_ends_exactly_what_is_not_live_whatever_the_supervisor_does() {
        for seed in 0..40 {
            let folder = tempfile::tempdir().unwrap();
            let supervisor = SimSupervisor::new(seed, SimFaults::NONE, SimClock::automatic(1_000));
            let platform = Platform::simulated(folder.path(), Arc::new(supervisor.clone()));
            let environment = Environment::Production;
            platform.want(environment).unwrap();
            // One is live, one was draining, and the newest had not been switched to.
            for release in ["sha256:a", "sha256:b", "sha256:c"] {
                let deployment = platform
                    .new_deployment(environment, &application(release), "test", &Origin::default())
                    .unwrap();
                platform.start_deployment(&deployment).unwrap();
                supervisor.start(&worker(&platform, &deployment)).await.unwrap();
                std::fs::create_dir_all(
                    platform
                        .installation
                        .layout
                        .deployment(&deployment.id.to_string()),
                )
                .unwrap();
                // Where the kill came: before the switch of the last one, or after it.
                if release != "sha256:c" || seed % 2 == 0 {
                    platform.switch_live(&deployment).unwrap();
                }
            }
            let live = platform.live_deployment(environment).unwrap().unwrap();

            supervisor.set_faults(SimFaults {
                unreachable: 0.6,
                ..SimFaults::SOME
            });
            let mut looks = 0;
            while settle(&platform).await.is_err() {
                looks += 1;
                assert!(looks < 200, "seed {seed}: it never settles");
            }

            supervisor.set_faults(SimFaults::NONE);
            let running: Vec<String> = supervisor
                .list()
                .await
                .unwrap()
                .into_iter()
                .filter(|unit| unit.phase == UnitPhase::Running)
                .map(|unit| unit.name.to_string())
                .collect();
            assert_eq!(
                running,
                [worker(&platform, &live).name.to_string()],
                "seed {seed}"
            );
            for deployment in platform.deployments(None, 1_000).unwrap() {
                let id = deployment.id.to_string();
                let kept = platform.installation.layout.deployment(&id).exists();
                assert_eq!(kept, deployment.id == live.id, "seed {seed}: files of {id}");
                let settled = matches!(
                    deployment.state,
                    DeploymentState::Retired | DeploymentState::Failed
                );
                assert_eq!(
                    settled,
                    deployment.id != live.id,
                    "seed {seed}: {id} is {:?}",
                    deployment.state
                );
            }
        }
    }

    #[test]
    fn a_digest_is_shown_by_its_first_twelve_characters() {
        assert_eq!(short("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short("0123"), "0123");
    }
}
