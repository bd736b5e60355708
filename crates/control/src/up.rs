//! `up`: the parts of an environment, in order, each idempotent, each journaled (intent before, result after).

use crate::engines::{self, Step, outcome};
use crate::platform::Platform;
use crate::words::{Application, Event, Fault, StepOutcome};
use crate::{deploy, publish, services, status};
use astraler_host::supervisor::Started;
use astraler_model::{Environment, UnitSpec};
use astraler_store::{OperationId, Outcome, StepDescription};
use std::time::Instant;
use tokio::sync::mpsc;

/// Brings the environment up and reports each part as it begins and ends. A part that fails ends the
/// operation: what was done before it stays, and the next `up` finds it done.
pub(crate) async fn up(
    platform: &Platform,
    environment: Environment,
    application: &Application,
    actor: &str,
    events: &mpsc::Sender<Event>,
) -> Result<bool, Fault> {
    let parts = parts(environment);
    let record = |error: &dyn std::error::Error| Fault::of("journal", error);
    platform
        .audit(
            actor,
            "up",
            &environment.to_string(),
            &serde_json::json!({ "release": application.release }),
        )
        .map_err(|error| record(&error))?;
    platform.want(environment).map_err(|error| record(&error))?;
    let plan: Vec<StepDescription> = parts
        .iter()
        .map(|part| StepDescription {
            name: part.name(),
            detail: serde_json::Value::Null,
        })
        .collect();
    let operation = platform
        .begin("up", &environment.to_string(), &plan)
        .map_err(|error| record(&error))?;

    let mut changed = false;
    for (index, part) in parts.iter().enumerate() {
        match run_part(
            platform,
            operation,
            index,
            *part,
            environment,
            application,
            events,
        )
        .await
        {
            Ok(step) => changed |= step == StepOutcome::Changed,
            Err(fault) => {
                platform.end(
                    operation,
                    &Outcome::Failed {
                        error: fault.message.clone(),
                    },
                );
                return Err(fault);
            }
        }
    }
    platform.end(operation, &Outcome::Done);
    Ok(changed)
}

/// The parts of an environment, in the order in which they depend on each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Services,
    Edge,
    Cluster(astraler_model::Cluster),
    Database(Environment),
    Redis(Environment),
    Workers(Environment),
}

fn parts(environment: Environment) -> [Part; 6] {
    [
        Part::Services,
        Part::Edge,
        Part::Cluster(environment.cluster()),
        Part::Database(environment),
        Part::Redis(environment),
        Part::Workers(environment),
    ]
}

impl Part {
    fn name(self) -> String {
        match self {
            Self::Services => "services".into(),
            Self::Edge => "edge".into(),
            Self::Cluster(cluster) => format!("postgres {cluster}"),
            Self::Database(environment) => format!("database {environment}"),
            Self::Redis(environment) => format!("redis {environment}"),
            Self::Workers(environment) => format!("workers {environment}"),
        }
    }
}

async fn run_part(
    platform: &Platform,
    operation: OperationId,
    index: usize,
    part: Part,
    environment: Environment,
    application: &Application,
    events: &mpsc::Sender<Event>,
) -> Result<StepOutcome, Fault> {
    let name = part.name();
    // Progress is a courtesy: a command line that went away must not stop the work.
    events.send(Event::Begin { part: name.clone() }).await.ok();
    let began = Instant::now();
    platform
        .intent(operation, index)
        .map_err(|error| Fault::of(&name, &error))?;
    let result = Box::pin(make(platform, part, environment, application)).await;
    let recorded = match &result {
        Ok((step, detail)) => platform.result(
            operation,
            index,
            &Outcome::Done,
            &serde_json::json!([step, detail]),
        ),
        Err(fault) => {
            let failed = Outcome::Failed {
                error: fault.message.clone(),
            };
            platform.result(operation, index, &failed, &serde_json::Value::Null)
        }
    };
    let (step, detail) = result?;
    recorded.map_err(|error| Fault::of(&name, &error))?;
    let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    events
        .send(Event::End {
            part: name,
            outcome: step,
            detail,
            elapsed_ms,
        })
        .await
        .ok();
    Ok(step)
}

async fn make(platform: &Platform, part: Part, environment: Environment, application: &Application) -> Step {
    let secrets = || {
        platform
            .credentials
            .environment(environment)
            .map_err(|error| Fault::of(&part.name(), &error))
    };
    match part {
        Part::Services => data_plane_services(platform).await,
        Part::Edge => edge(platform, application).await,
        Part::Cluster(cluster) => engines::cluster(platform, cluster, application).await,
        Part::Database(environment) => {
            engines::database(platform, environment, &secrets()?, application).await
        }
        Part::Redis(environment) => engines::redis(platform, environment, &secrets()?, application).await,
        Part::Workers(environment) => deploy::deploy(platform, environment, &secrets()?, application).await,
    }
}

async fn data_plane_services(platform: &Platform) -> Step {
    let fault = |error: &dyn std::error::Error| Fault::of("services", error);
    publish::first(platform).map_err(|error| fault(&error))?;
    let data = services::data_unit(&platform.installation).map_err(|error| fault(&error))?;
    let egress = services::egress_unit(&platform.installation).map_err(|error| fault(&error))?;
    let data = upgrade(platform, "services", &data).await?;
    let egress = upgrade(platform, "services", &egress).await?;
    let fresh = [&data, &egress]
        .iter()
        .any(|started| matches!(started, Started::Fresh(_)));
    Ok((outcome(fresh), "data, egress".into()))
}

async fn edge(platform: &Platform, application: &Application) -> Step {
    let fault = |error: &dyn std::error::Error| Fault::of("edge", error);
    let settings = platform
        .edge_settings(application)
        .map_err(|error| fault(&error))?;
    let unit = services::edge_unit(&platform.installation, &settings).map_err(|error| fault(&error))?;
    let started = upgrade(platform, "edge", &unit).await?;
    let port = platform.installation.ports.http;
    Ok((
        outcome(matches!(started, Started::Fresh(_))),
        format!("http port {port}"),
    ))
}

/// Starts a process of the data plane, or puts its successor beside it: the sockets stay with `keep`, so no
/// connection is refused.
async fn upgrade(platform: &Platform, part: &str, unit: &UnitSpec) -> Result<Started, Fault> {
    let present = status::unit(platform, &unit.name)
        .await
        .map_err(|error| Fault::of_supervisor(part, &error))?;
    let running = present.is_some_and(|present| {
        present.phase == astraler_model::UnitPhase::Running && present.spec_digest != unit.digest()
    });
    if running {
        platform
            .supervisor
            .replace(unit)
            .await
            .map_err(|error| Fault::of_supervisor(part, &error))
    } else {
        engines::start(platform, part, unit).await
    }
}
