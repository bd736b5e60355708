//! An environment's service brought back: its processes that do not run or do not answer are started anew, and where the
//! live deployment is bad, or does not answer on engines that do, the last good one takes its place.
//!
//! Nothing here is a path of its own: processes come back as after a restart of the machine, and back to an earlier
//! deployment goes a rollback. Both are journaled; killed at any point, the same request again finishes.

use crate::backups::Progress;
use crate::daemon::Daemon;
use crate::deploy::{self, Story, short};
use crate::engines;
use crate::platform::{Platform, application_of, now_ms};
use crate::requests;
use crate::status;
use crate::words::{Application, Event, Fault, Origin, RollbackRequest};
use astraler_model::{Environment, UnitName, UnitPhase};
use astraler_postgres as postgres;
use astraler_redis as redis;
use astraler_store::{Deployment, Outcome, StepDescription};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const KIND: &str = "recover service";
/// A process that says nothing for so long does not answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Events of a rollback that wait to be passed on.
const EVENTS: usize = 64;

/// Which service is to be brought back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoverServiceRequest {
    /// Of which environment.
    pub environment: Environment,
    /// The deployment that is to serve; without one the live one stays where it is good, and the last good one takes its
    /// place where it is not.
    #[serde(default)]
    pub to: Option<String>,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// A process that is not as it should be.
#[derive(Debug)]
struct Ailing {
    unit: UnitName,
    /// Whether it runs, and does not answer.
    silent: bool,
}

impl Ailing {
    fn words(&self) -> String {
        match self.silent {
            true => format!("{} does not answer", self.unit),
            false => format!("{} does not run", self.unit),
        }
    }
}

/// Brings it back; returns what was done, in words.
pub(crate) async fn recover(
    daemon: &Daemon,
    request: &RecoverServiceRequest,
    actor: &str,
    events: &mpsc::Sender<Progress>,
) -> Result<String, Fault> {
    let platform = &daemon.platform;
    let environment = request.environment;
    let fault = |error: &dyn std::error::Error| Fault::of(KIND, error);
    let mut done = Vec::new();
    let (live, mut why) = {
        let _change = daemon.changes.read().await;
        let _turn = daemon.turns.take(environment).await;
        let live = platform
            .live_deployment(environment)
            .map_err(|error| fault(&error))?
            .ok_or_else(|| Fault {
                part: KIND.into(),
                message: format!("{environment} is not deployed here: there is nothing to bring back"),
                log: vec![],
                hint: Some(format!(
                    "`astraler deploy --env {environment}` puts a release there"
                )),
            })?;
        let application = application_of(&live).map_err(|error| fault(&error))?;
        let mut why = condemned(platform, request, &live).map_err(|error| fault(&error))?;
        let mut ailing = look(platform, environment).await?;
        if why.is_none()
            && let Some(workers) = workers(platform, &live, &application).await?
        {
            ailing.push(workers);
        }
        if request.dry_run {
            return Ok(intention(platform, request, &live, &ailing, why.as_deref()));
        }
        if !ailing.is_empty() {
            let detail = json!({ "ailing": ailing.iter().map(Ailing::words).collect::<Vec<_>>() });
            platform
                .audit(actor, KIND, &environment.to_string(), &detail)
                .map_err(|error| fault(&error))?;
            restart(platform, environment, &ailing, events).await?;
            done.extend(ailing.iter().map(|one| format!("{}: started anew", one.words())));
            match Box::pin(requests::bring_back(platform, &live, &application)).await {
                Ok(_) => {}
                Err(failed) if is_of_deployment(&failed, environment) => {
                    why = why.or_else(|| Some(format!("{} does not come up: {}", live.id, failed.message)));
                }
                Err(failed) => return Err(failed),
            }
        }
        (live, why)
    };
    if let Some(why) = why.take() {
        let back = RollbackRequest {
            environment,
            to: request.to.clone(),
            origin: Origin {
                reason: Some(why.clone()),
                ..Origin::default()
            },
        };
        let serves = go_back(daemon, &live, back, actor, events).await?;
        done.push(format!("{why}; rolled back, {serves}"));
    }
    if done.is_empty() {
        return Ok(format!(
            "nothing to do: {} answers in {environment}, and so does all that it needs",
            live.id
        ));
    }
    Ok(done.join("; "))
}

/// Why the live deployment is not to stay, as far as that is known without asking it.
fn condemned(
    platform: &Platform,
    request: &RecoverServiceRequest,
    live: &Deployment,
) -> Result<Option<String>, crate::platform::PlatformError> {
    if let Some(to) = &request.to {
        let serves = to
            .parse()
            .ok()
            .and_then(|id| platform.deployment(id).ok())
            .is_some_and(|wanted| wanted.id == live.id || requests::is_same(&wanted, live));
        return Ok((!serves).then(|| format!("{to} is to serve, not {}", live.id)));
    }
    let bad = platform.store.deployments_bad()?;
    let verdict = bad.into_iter().find(|bad| bad.deployment == live.id);
    Ok(verdict.map(|bad| format!("{} is bad: {}", live.id, bad.why)))
}

/// What would be done, in words.
fn intention(
    platform: &Platform,
    request: &RecoverServiceRequest,
    live: &Deployment,
    ailing: &[Ailing],
    why: Option<&str>,
) -> String {
    let mut all: Vec<String> = ailing
        .iter()
        .map(|one| format!("{}: would start it anew", one.words()))
        .collect();
    let back = RollbackRequest {
        environment: request.environment,
        to: request.to.clone(),
        origin: Origin::default(),
    };
    let target = requests::target(platform, &back).map_or_else(
        |fault| fault.message,
        |target| format!("{} (release {})", target.id, short(&target.release)),
    );
    if let Some(why) = why {
        all.push(format!("{why}: would roll back to {target}"));
    } else if !ailing.is_empty() {
        all.push(format!(
            "would roll back to {target} if {} does not answer then",
            live.id
        ));
    }
    match all.is_empty() {
        true => format!(
            "nothing would be done: {} answers in {}, and so does all that it needs",
            live.id, request.environment
        ),
        false => all.join("; "),
    }
}

/// Our own processes and engines that are not as they should be.
async fn look(platform: &Platform, environment: Environment) -> Result<Vec<Ailing>, Fault> {
    let fault = |error: &dyn std::error::Error| Fault::of(KIND, error);
    let layout = &platform.installation.layout;
    let mut ailing = Vec::new();
    for role in ["edge", "data", "egress", "signal"] {
        let unit = UnitName::new(role).map_err(|error| fault(&error))?;
        let socket = layout.status_socket(role);
        let answer = crate::client::get(&socket, "/");
        let answers = async { matches!(tokio::time::timeout(PATIENCE, answer).await, Ok(Ok(_))) };
        ailing.extend(ask(platform, unit, answers).await?);
    }
    let cluster = environment.cluster();
    let unit = engines::cluster_unit(cluster).map_err(|error| fault(&error))?;
    let admin = engines::admin_access(platform, cluster).map_err(|error| fault(&error))?;
    let answers = async { postgres::wait_ready(&admin, PATIENCE).await.is_ok() };
    ailing.extend(ask(platform, unit, answers).await?);
    let secrets = platform
        .credentials
        .existing(environment)
        .map_err(|error| fault(&error))?;
    let unit = engines::redis_unit(environment).map_err(|error| fault(&error))?;
    let socket = layout.redis_socket(environment);
    let answers = async {
        match &secrets {
            Some(secrets) => {
                let password = secrets.redis_password.expose();
                redis::ping(&socket, redis::USER, password, PATIENCE)
                    .await
                    .is_ok()
            }
            None => false,
        }
    };
    ailing.extend(ask(platform, unit, answers).await?);
    Ok(ailing)
}

/// The live deployment's own process, where it does not run or does not answer as a good one does.
async fn workers(
    platform: &Platform,
    live: &Deployment,
    application: &Application,
) -> Result<Option<Ailing>, Fault> {
    let unit =
        deploy::unit_name(live.environment, &live.id.to_string()).map_err(|error| Fault::of(KIND, &error))?;
    let story = Story::new(live.environment, live.clone(), false);
    let answers = async { deploy::probe(platform, KIND, &story, application).await.is_ok() };
    ask(platform, unit, answers).await
}

async fn ask(
    platform: &Platform,
    unit: UnitName,
    answers: impl Future<Output = bool>,
) -> Result<Option<Ailing>, Fault> {
    let known = status::unit(platform, &unit)
        .await
        .map_err(|error| Fault::of_supervisor(KIND, &error))?;
    let runs = known.is_some_and(|known| known.phase == UnitPhase::Running);
    if runs && answers.await {
        return Ok(None);
    }
    Ok(Some(Ailing { unit, silent: runs }))
}

/// Ends the processes that do not answer, and starts them: who does not run is started by what follows.
async fn restart(
    platform: &Platform,
    environment: Environment,
    ailing: &[Ailing],
    events: &mpsc::Sender<Progress>,
) -> Result<(), Fault> {
    let silent: Vec<&Ailing> = ailing.iter().filter(|one| one.silent).collect();
    if silent.is_empty() {
        return Ok(());
    }
    let journal = |error: &dyn std::error::Error| Fault::of("journal", error);
    let steps: Vec<StepDescription> = silent
        .iter()
        .map(|one| StepDescription {
            name: format!("restart {}", one.unit),
            detail: json!(null),
        })
        .collect();
    let operation = platform
        .begin(KIND, &environment.to_string(), &steps)
        .map_err(|error| journal(&error))?;
    let mut failed = None;
    for (index, one) in silent.into_iter().enumerate() {
        let part = format!("restart {}", one.unit);
        events.send(Progress::Begin { part: part.clone() }).await.ok();
        let began = Instant::now();
        platform
            .intent(operation, index)
            .map_err(|error| journal(&error))?;
        let restarted = platform.supervisor.restart(&one.unit).await;
        let outcome = match &restarted {
            Ok(_) => Outcome::Done,
            Err(error) => Outcome::Failed {
                error: crate::words::chain(error),
            },
        };
        platform
            .result(operation, index, &outcome, &json!(null))
            .map_err(|error| journal(&error))?;
        if let Err(error) = restarted {
            failed = Some(Fault::of_supervisor(&part, &error));
            break;
        }
        let end = Progress::End {
            part,
            detail: "started anew".into(),
            elapsed_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        events.send(end).await.ok();
    }
    let end = failed.as_ref().map_or(Outcome::Done, |fault| Outcome::Failed {
        error: fault.message.clone(),
    });
    platform.end(operation, &end);
    failed.map_or(Ok(()), Err)
}

/// Whether it was the deployment that did not come up, and not what it needs.
fn is_of_deployment(fault: &Fault, environment: Environment) -> bool {
    ["start", "probe"]
        .iter()
        .any(|part| fault.part == format!("{part} {environment}"))
}

/// Rolls back from the deployment, and from no other; returns which one serves, in words.
async fn go_back(
    daemon: &Daemon,
    live: &Deployment,
    request: RollbackRequest,
    actor: &str,
    events: &mpsc::Sender<Progress>,
) -> Result<String, Fault> {
    let began = now_ms();
    let (steps, mut received) = mpsc::channel(EVENTS);
    let work = async move { daemon.go_back(actor, request, Some(live.id), &steps).await };
    let pass_on = async {
        while let Some(event) = received.recv().await {
            let progress = match event {
                Event::Begin { part } => Progress::Begin { part },
                Event::End {
                    part,
                    detail,
                    elapsed_ms,
                    ..
                } => Progress::End {
                    part,
                    detail,
                    elapsed_ms,
                },
                _ => continue,
            };
            events.send(progress).await.ok();
        }
    };
    let (end, ()) = tokio::join!(Box::pin(work), pass_on);
    match end? {
        Event::Superseded { by, .. } => Ok(format!("{by} serves: somebody else's change came first")),
        Event::Done { environment, .. } => Ok(format!(
            "{} (release {}) serves after {} ms",
            environment.deployment.as_deref().unwrap_or("-"),
            environment.release.as_deref().map_or("-", short),
            now_ms().saturating_sub(began)
        )),
        _ => Ok("another deployment serves".into()),
    }
}
