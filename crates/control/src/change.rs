//! A change of an environment: its parts in order, each idempotent, each journaled (intent before, result after).
//!
//! What environments share and the environment's own engines come first; then the deployment, as a story: migrate,
//! start, probe, switch, drain, stop. The old deployment is not touched before the new one has answered and the edge has
//! confirmed that it sends everybody there. From any prefix of the journal the old one or the new one serves, and
//! [`crate::deploy::settle`] ends the other.

use crate::deploy::{self, Story};
use crate::engines::{self, Step, outcome};
use crate::platform::{Platform, application_of};
use crate::words::{Application, Event, Fault, Origin, StepOutcome};
use crate::{preview, publish, services, status};
use astraler_host::supervisor::Started;
use astraler_model::{Cluster, Environment, UnitSpec};
use astraler_store::{Deployment, OperationId, Outcome, StepDescription};
use std::time::Instant;
use tokio::sync::mpsc;

/// What is to be made true, and for whom.
pub(crate) struct Change<'a> {
    pub(crate) platform: &'a Platform,
    /// `up`, `deploy`… in the journal and the audit chain.
    pub(crate) kind: &'static str,
    pub(crate) environment: Environment,
    pub(crate) application: &'a Application,
    pub(crate) actor: &'a str,
    pub(crate) origin: &'a Origin,
    pub(crate) events: &'a mpsc::Sender<Event>,
    /// The record, where it was made while the change waited. Without one, the live deployment stays when it is the
    /// same application.
    pub(crate) deployment: Option<Deployment>,
    /// It brings back what has served before. A firewall whose rules cannot be used any more is no reason not to.
    pub(crate) heals: bool,
}

/// What a change did.
pub(crate) struct Changed {
    /// False when nothing had to be done.
    pub(crate) any: bool,
    /// Whether another deployment serves now.
    pub(crate) switched: bool,
}

/// The parts of an environment, in the order in which they depend on each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Services,
    Edge,
    Cluster(Cluster),
    Database,
    Redis,
    Migrate,
    Start,
    Probe,
    Switch,
    Drain,
    Stop,
}

/// Makes it true. A part that fails ends the change: what was done before it stays, and the next change finds it done;
/// a deployment that had not been switched to is taken back.
pub(crate) async fn run(change: Change<'_>) -> Result<Changed, Fault> {
    let Change {
        platform,
        environment,
        application,
        ..
    } = change;
    let record = |error: &dyn std::error::Error| Fault::of("journal", error);
    let detail = serde_json::json!({ "release": application.release, "origin": change.origin });
    platform
        .audit(change.actor, change.kind, &environment.to_string(), &detail)
        .map_err(|error| record(&error))?;
    platform.want(environment).map_err(|error| record(&error))?;
    platform
        .protect_at_least(environment, &application.config)
        .map_err(|error| record(&error))?;
    let (deployment, fresh) = deployment(&change).map_err(|error| record(&error))?;
    let mut story = Story::new(environment, deployment, fresh);

    let parts = parts(environment);
    let plan: Vec<StepDescription> = parts
        .iter()
        .map(|part| StepDescription {
            name: part.name(environment),
            detail: serde_json::json!({ "deployment": story.deployment.id }),
        })
        .collect();
    let begun = platform.begin(change.kind, &environment.to_string(), &plan);
    let result = match begun {
        Ok(operation) => {
            let result = run_parts(&change, operation, &parts, &mut story).await;
            let end = match &result {
                Ok(_) => Outcome::Done,
                Err(fault) => Outcome::Failed {
                    error: fault.message.clone(),
                },
            };
            platform.end(operation, &end);
            result
        }
        Err(error) => Err(record(&error)),
    };
    if let Err(fault) = &result {
        story.take_back(platform, &fault.message).await;
    }
    platform.prune_deployments(environment);
    result.map(|any| Changed { any, switched: fresh })
}

/// The deployment that the change is about, and whether it is a new one.
fn deployment(change: &Change<'_>) -> Result<(Deployment, bool), crate::platform::PlatformError> {
    if let Some(deployment) = &change.deployment {
        return Ok((deployment.clone(), true));
    }
    if let Some(live) = change.platform.live_deployment(change.environment)?
        && application_of(&live)? == *change.application
    {
        return Ok((live, false));
    }
    let new = change.platform.new_deployment(
        change.environment,
        change.application,
        change.actor,
        change.origin,
    )?;
    Ok((new, true))
}

fn parts(environment: Environment) -> [Part; 11] {
    [
        Part::Services,
        Part::Edge,
        Part::Cluster(environment.cluster()),
        Part::Database,
        Part::Redis,
        Part::Migrate,
        Part::Start,
        Part::Probe,
        Part::Switch,
        Part::Drain,
        Part::Stop,
    ]
}

impl Part {
    fn name(self, environment: Environment) -> String {
        let of = match self {
            Self::Services => return "services".into(),
            Self::Edge => return "edge".into(),
            Self::Cluster(cluster) => return format!("postgres {cluster}"),
            Self::Database => "database",
            Self::Redis => "redis",
            Self::Migrate => "migrate",
            Self::Start => "start",
            Self::Probe => "probe",
            Self::Switch => "switch",
            Self::Drain => "drain",
            Self::Stop => "stop",
        };
        format!("{of} {environment}")
    }
}

async fn run_parts(
    change: &Change<'_>,
    operation: OperationId,
    parts: &[Part],
    story: &mut Story,
) -> Result<bool, Fault> {
    let mut changed = false;
    for (index, part) in parts.iter().enumerate() {
        let step = run_part(change, operation, index, *part, story).await?;
        changed |= step == StepOutcome::Changed;
        if *part == Part::Switch && story.fresh {
            live(change, story).await;
        }
    }
    Ok(changed)
}

/// Says that the new deployment serves, before the old one has ended.
async fn live(change: &Change<'_>, story: &Story) {
    let report = status::environment_report(change.platform, change.environment, change.application);
    if let Ok(environment) = report {
        let deployment = story.deployment.id.to_string();
        change
            .events
            .send(Event::Live {
                deployment,
                environment,
            })
            .await
            .ok();
    }
}

async fn run_part(
    change: &Change<'_>,
    operation: OperationId,
    index: usize,
    part: Part,
    story: &mut Story,
) -> Result<StepOutcome, Fault> {
    let platform = change.platform;
    let name = part.name(change.environment);
    // Progress is a courtesy: a command line that went away must not stop the work.
    change.events.send(Event::Begin { part: name.clone() }).await.ok();
    let began = Instant::now();
    platform
        .intent(operation, index)
        .map_err(|error| Fault::of(&name, &error))?;
    let result = Box::pin(make(change, part, &name, story))
        .await
        .map_err(|fault| platform.masked(fault));
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
    change
        .events
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

async fn make(change: &Change<'_>, part: Part, name: &str, story: &mut Story) -> Step {
    let Change {
        platform,
        environment,
        application,
        ..
    } = *change;
    let secrets = || {
        platform
            .credentials
            .environment(environment)
            .map_err(|error| Fault::of(name, &error))
    };
    match part {
        Part::Services => {
            let _shared = platform.shared.lock().await;
            data_plane_services(platform, environment, application).await
        }
        Part::Edge => {
            let (step, words) = {
                let _shared = platform.shared.lock().await;
                edge(platform, environment, application).await?
            };
            // Before anything else is touched: the edge runs now, and can say what it thinks of rules.
            match crate::waf::ready(platform, environment, application).await {
                Ok(None) => Ok((step, words)),
                Ok(Some(rules)) => Ok((step, format!("{words}, {rules}"))),
                Err(fault) if change.heals => {
                    tracing::warn!(%environment, fault.message, "the firewall's rules");
                    Ok((step, format!("{words}; {}", fault.message)))
                }
                Err(fault) => Err(fault),
            }
        }
        Part::Cluster(cluster) => {
            let _shared = platform.shared.lock().await;
            let config = platform
                .governing(environment, application, |other| other.cluster() == cluster)
                .map_err(|error| Fault::of(name, &error))?;
            engines::cluster(platform, cluster, &config).await
        }
        Part::Database => {
            let copied = preview::copy(platform, environment, &secrets()?).await?;
            let (step, detail) = engines::database(platform, environment, &secrets()?, application).await?;
            Ok(copied.map_or((step, detail), |copied| (StepOutcome::Changed, copied)))
        }
        Part::Redis => engines::redis(platform, environment, &secrets()?, application).await,
        Part::Migrate => engines::migrate(platform, environment, &secrets()?, application).await,
        Part::Start => deploy::start(platform, name, story, &secrets()?, application).await,
        Part::Probe => deploy::probe(platform, name, story, application).await,
        Part::Switch => deploy::switch(platform, name, story).await,
        Part::Drain => deploy::drain(platform, story).await,
        Part::Stop => deploy::stop(platform, name, story).await,
    }
}

pub(crate) async fn data_plane_services(
    platform: &Platform,
    environment: Environment,
    application: &Application,
) -> Step {
    let fault = |error: &dyn std::error::Error| Fault::of("services", error);
    let config = platform
        .governing(environment, application, |_| true)
        .map_err(|error| fault(&error))?;
    publish::first(platform).map_err(|error| fault(&error))?;
    publish::signal(platform, Some(&config)).map_err(|error| fault(&error))?;
    let data = services::data_unit(&platform.installation).map_err(|error| fault(&error))?;
    let egress = services::egress_unit(&platform.installation).map_err(|error| fault(&error))?;
    let data = upgrade(platform, "services", &data).await?;
    let egress = upgrade(platform, "services", &egress).await?;
    let signal = services::signal_unit(&platform.installation).map_err(|error| fault(&error))?;
    let signal = upgrade(platform, "services", &signal).await?;
    let fresh = [&data, &egress, &signal]
        .iter()
        .any(|started| matches!(started, Started::Fresh(_)));
    Ok((outcome(fresh), "data, egress, signal".into()))
}

pub(crate) async fn edge(platform: &Platform, environment: Environment, application: &Application) -> Step {
    let fault = |error: &dyn std::error::Error| Fault::of("edge", error);
    let config = platform
        .governing(environment, application, |_| true)
        .map_err(|error| fault(&error))?;
    let settings = platform.edge_settings(&config).map_err(|error| fault(&error))?;
    let unit = services::edge_unit(&platform.installation, &settings).map_err(|error| fault(&error))?;
    let started = upgrade(platform, "edge", &unit).await?;
    let ports = &platform.installation.ports;
    let words = match ports.https {
        0 => format!("http port {}", ports.http),
        https => format!("http port {}, https port {https}", ports.http),
    };
    Ok((outcome(matches!(started, Started::Fresh(_))), words))
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
