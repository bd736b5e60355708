//! Deployment, as a story: start, probe, switch, drain, stop. The old deployment is not touched before the
//! new one has answered, and nothing is lost on the way.

use crate::credentials::EnvironmentSecrets;
use crate::engines::{self, Step, outcome};
use crate::platform::{Platform, PlatformError, application_of};
use crate::publish;
use crate::words::{Application, Fault};
use astraler_host::supervisor::{Started, SupervisorError};
use astraler_model::{Environment, ListenAddress, Listener, UnitName, UnitSpec};
use astraler_store::{Deployment, DeploymentState};
use astraler_workers as workers;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes `application` the live deployment of the environment.
pub(crate) async fn deploy(
    platform: &Platform,
    environment: Environment,
    secrets: &EnvironmentSecrets,
    application: &Application,
) -> Step {
    let part = format!("workers {environment}");
    let fault = |error: &dyn std::error::Error| Fault::of(&part, error);
    let live = platform
        .live_deployment(environment)
        .map_err(|error| fault(&error))?;
    let same = match &live {
        Some(live) => application_of(live).map_err(|error| fault(&error))? == *application,
        None => false,
    };
    let (deployment, fresh) = match live {
        Some(live) if same => (live, false),
        _ => (
            platform
                .new_deployment(environment, application)
                .map_err(|error| fault(&error))?,
            true,
        ),
    };
    let id = deployment.id.to_string();
    let prepared = async {
        publish::data(platform, Some((environment, application)))
            .await
            .map_err(|error| fault(&error))?;
        let unit = worker_unit(platform, environment, &id, secrets, application)
            .map_err(|error| fault(error.as_ref()))?;
        start_and_probe(platform, &part, &id, &unit, application).await
    };
    let started = match prepared.await {
        Ok(started) => started,
        Err(fault) => {
            if fresh && let Err(error) = abandon(platform, &deployment, &fault.message).await {
                tracing::warn!(%deployment.id, %error, "a deployment that did not come up is ended later");
            }
            return Err(fault);
        }
    };
    let mut old = None;
    if fresh {
        old = platform.switch_live(&deployment).map_err(|error| fault(&error))?;
    }
    publish::edge(platform).await.map_err(|error| fault(&error))?;
    if let Some(old) = &old {
        retire(platform, old)
            .await
            .map_err(|error| Fault::of_supervisor(&part, &error))?;
    }
    let changed = fresh || matches!(started, Started::Fresh(_));
    Ok((
        outcome(changed),
        format!(
            "{} workers, release {}",
            application.workers.len(),
            short(&application.release)
        ),
    ))
}

/// Ends what a killed process left half done: what had not been switched to goes, what was draining stops.
pub(crate) async fn settle(platform: &Platform) -> Result<(), PlatformError> {
    for deployment in platform.unsettled_deployments()? {
        let ended = if deployment.state == DeploymentState::Draining {
            retire(platform, &deployment).await
        } else {
            abandon(platform, &deployment, "its start was interrupted").await
        };
        ended.map_err(PlatformError::Supervisor)?;
    }
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

async fn start_and_probe(
    platform: &Platform,
    part: &str,
    deployment: &str,
    unit: &UnitSpec,
    application: &Application,
) -> Result<Started, Fault> {
    let started = engines::start(platform, part, unit).await?;
    for worker in &application.workers {
        let socket = worker_http_socket(platform, deployment, &worker.name);
        let path = worker.routes.first().map_or("/", String::as_str);
        if let Err(error) = probe(&socket, path).await {
            let mut fault = Fault::of(part, &error);
            fault.message = format!("worker `{}`: {}", worker.name, fault.message);
            fault.log = platform.last_log_lines(&unit.name);
            fault.hint =
                Some("the log lines above are the worker's own; the old deployment serves on".into());
            return Err(fault);
        }
    }
    Ok(started)
}

/// The worker did not answer as a living one does.
#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error("it does not answer on its socket")]
    Silent(#[source] crate::client::ClientError),
    #[error("it answered {0} to the probe")]
    Status(u16),
    #[error("it did not answer within {} s", PROBE_TIMEOUT.as_secs())]
    Timeout,
}

/// Any answer but a server error counts: a worker need not have a route at its prefix.
async fn probe(socket: &Path, path: &str) -> Result<(), ProbeError> {
    let answer = tokio::time::timeout(PROBE_TIMEOUT, crate::client::get(socket, path))
        .await
        .map_err(|_| ProbeError::Timeout)?
        .map_err(ProbeError::Silent)?;
    match answer.status {
        500 | 502 | 503 | 504 => Err(ProbeError::Status(answer.status)),
        _ => Ok(()),
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

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Writes the deployment's configuration to the runtime folder (it holds secrets) and describes its process.
fn worker_unit(
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
    let config = workers::DeploymentConfig {
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
    };
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
    let text = workers::render(&config);
    let file = folder.join("workerd.capnp");
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
        secrets: [(
            "UPSTASH_REDIS_REST_TOKEN".to_owned(),
            secrets.redis_token.expose().to_owned(),
        )]
        .into(),
        r2,
        hyperdrive,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
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
                    .new_deployment(environment, &application(release))
                    .unwrap();
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
            for deployment in platform.deployments() {
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
