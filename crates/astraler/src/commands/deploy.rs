//! `astraler deploy`, `promote`, `rollback`, `deployments`, and the end of a preview.

use crate::cli::{Arguments, ChangeArguments, DeployArguments, OverrideArguments};
use crate::failure::{Failure, Kind, Outcome};
use crate::place::{self, Place};
use crate::progress::Progress;
use crate::upload::upload;
use crate::{assemble, table};
use astraler_control::{
    AdminClient, ClientError, DeployRequest, DeploymentReport, EnvironmentReport, Event, GateStanding,
    Origin, PromoteRequest, RollbackRequest, Standing,
};
use astraler_model::Environment;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

/// How often a job asks for one deployment.
const MAX_ASKED: u32 = 4;

/// What a command has heard.
struct Heard {
    progress: Progress,
    wait: bool,
    began: Instant,
    live: Option<(String, EnvironmentReport)>,
    last: Option<Event>,
}

pub(super) fn run(arguments: &Arguments, deploy: &DeployArguments) -> Outcome {
    let client = super::daemon(arguments)?;
    let mut heard = Heard::new(&deploy.change);
    super::block_on(async {
        let mut origin = Origin::default();
        let release = match &deploy.release {
            Some(release) => release.clone(),
            None => {
                let place = Place::find(arguments)?;
                origin = self::origin(&place.application).await;
                built(&client, &place, deploy.no_build, &mut heard.progress).await?
            }
        };
        let request = DeployRequest {
            environment: deploy.environment.clone(),
            release,
            origin: Origin {
                override_reason: deploy.gates.override_reason.clone(),
                ..told(origin, &deploy.change)
            },
        };
        let sent = ask(&client, &request, &mut heard).await;
        heard.end(sent)
    })
}

/// Asks for a deployment. In a job, where nobody sits before it, the daemon that comes after one that was killed is
/// asked again: it has ended what that one left half-done.
async fn ask(client: &AdminClient, request: &DeployRequest, heard: &mut Heard) -> Result<(), ClientError> {
    for _ in 1..MAX_ASKED {
        match client.deploy(request, |event| heard.hear(event)).await {
            Err(ClientError::Broken { .. }) if client.is_patient() => {
                if heard.live.is_some() {
                    return Ok(());
                }
                heard.progress.clear();
                heard
                    .progress
                    .say("the daemon has ended meanwhile: the next one is asked");
            }
            sent => return sent,
        }
    }
    client.deploy(request, |event| heard.hear(event)).await
}

/// The digest of the working folder's release, which the daemon has.
async fn built(
    client: &AdminClient,
    place: &Place,
    no_build: bool,
    progress: &mut Progress,
) -> Outcome<String> {
    let key = assemble::key(place).await;
    if let Some(key) = &key {
        let known = client.release_by_key(key.as_str()).await;
        if let Some(digest) = known.map_err(|error| super::not_up(&error))? {
            let began = Instant::now();
            progress.begin("release");
            let detail = format!("{digest}, built before from this tree");
            progress.end("release", astraler_control::StepOutcome::Unchanged, detail, began);
            return Ok(digest);
        }
    }
    let manifest = place::manifest(place)?;
    let built = Box::pin(assemble::assemble(place, &manifest, no_build, progress)).await?;
    upload(client, &built, key.as_ref().map(|key| key.as_str())).await?;
    Ok(built.release.digest)
}

pub(super) fn promote(
    arguments: &Arguments,
    from: &str,
    to: &str,
    gates: &OverrideArguments,
    change: &ChangeArguments,
) -> Outcome {
    let client = super::daemon(arguments)?;
    let mut heard = Heard::new(change);
    let request = PromoteRequest {
        from: environment(from)?,
        to: environment(to)?,
        origin: Origin {
            override_reason: gates.override_reason.clone(),
            ..told(Origin::default(), change)
        },
    };
    super::block_on(async {
        let sent = client.promote(&request, |event| heard.hear(event)).await;
        heard.end(sent)
    })
}

pub(super) fn rollback(
    arguments: &Arguments,
    name: &str,
    to: Option<&str>,
    change: &ChangeArguments,
) -> Outcome {
    let client = super::daemon(arguments)?;
    let mut heard = Heard::new(change);
    let request = RollbackRequest {
        environment: environment(name)?,
        to: to.map(str::to_owned),
        origin: told(Origin::default(), change),
    };
    super::block_on(async {
        let sent = client.rollback(&request, |event| heard.hear(event)).await;
        heard.end(sent)
    })
}

pub(super) fn remove(client: &AdminClient, name: &str, json: bool) -> Outcome {
    let environment = environment(name)?;
    let change = ChangeArguments {
        reason: None,
        wait: true,
        json,
    };
    let mut heard = Heard::new(&change);
    super::block_on(async {
        let sent = client
            .remove_environment(environment, |event| heard.hear(event))
            .await;
        heard.end(sent)
    })
}

/// Deploys what runs anew, with the secrets as they are now.
pub(super) fn apply_secrets(
    client: &AdminClient,
    environment: Environment,
    wait: bool,
    json: bool,
) -> Outcome {
    let change = ChangeArguments {
        reason: None,
        wait,
        json,
    };
    let mut heard = Heard::new(&change);
    super::block_on(async {
        let sent = client.secrets_apply(environment, |event| heard.hear(event)).await;
        heard.end(sent)
    })
}

pub(super) fn list(arguments: &Arguments, of: Option<&str>, lines: u32, json: bool) -> Outcome {
    let client = super::daemon(arguments)?;
    let environment = of.map(environment).transpose()?;
    let all = super::block_on(async {
        let all = client.deployments(environment, lines).await;
        all.map_err(|error| super::not_up(&error))
    })?;
    if json {
        return Ok(table::print_json(&all)?);
    }
    table::print(
        &[
            "id",
            "environment",
            "state",
            "release",
            "commit",
            "action",
            "actor",
            "when",
            "took",
            "why",
        ],
        all.iter().map(row),
    );
    Ok(())
}

fn row(deployment: &DeploymentReport) -> Vec<String> {
    let origin = &deployment.origin;
    let action = serde_json::to_value(origin.action).ok();
    let action = action.and_then(|action| action.as_str().map(str::to_owned));
    let from = origin.from.as_ref().map(|from| format!(" from {from}"));
    let at = i64::try_from(deployment.created_ms).unwrap_or(i64::MAX);
    let when = jiff::Timestamp::from_millisecond(at).map(|at| format!("{at:.0}"));
    let why = [
        &deployment.error,
        &deployment.bad,
        &origin.reason,
        &origin.override_reason,
    ];
    vec![
        deployment.id.clone(),
        deployment.environment.to_string(),
        match deployment.bad {
            Some(_) => format!("{} (bad)", deployment.state),
            None => deployment.state.clone(),
        },
        short(&deployment.release),
        commit(origin.commit.as_deref(), origin.branch.as_deref()),
        format!("{}{}", action.unwrap_or_default(), from.unwrap_or_default()),
        deployment.actor.clone(),
        when.unwrap_or_default(),
        deployment
            .took_ms
            .map_or_else(|| "-".into(), |ms| format!("{ms} ms")),
        why.into_iter().flatten().cloned().collect::<Vec<_>>().join("; "),
    ]
}

/// A commit and its branch for a table.
pub(super) fn commit(commit: Option<&str>, branch: Option<&str>) -> String {
    let commit = commit.map(|commit| commit.chars().take(10).collect::<String>());
    let words = [commit, branch.map(str::to_owned)];
    let words: Vec<String> = words.into_iter().flatten().collect();
    if words.is_empty() {
        "-".to_owned()
    } else {
        words.join(" ")
    }
}

fn short(digest: &str) -> String {
    digest.trim_start_matches("sha256:").chars().take(12).collect()
}

/// Commit and branch of the working folder, where git knows them. `-dirty` says that there is more than the commit.
pub(super) async fn origin(application: &Path) -> Origin {
    let git = async |words: &[&str]| {
        let output = tokio::process::Command::new("git")
            .args(words)
            .current_dir(application)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .await
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    Origin {
        commit: git(&["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]).await,
        branch: git(&["symbolic-ref", "--short", "HEAD"]).await,
        ..Origin::default()
    }
}

fn told(origin: Origin, change: &ChangeArguments) -> Origin {
    Origin {
        reason: change.reason.clone(),
        ..origin
    }
}

/// How all gates stand, those that block with a cross.
fn gates_table(environment: Environment, gates: &[GateStanding]) -> Vec<String> {
    let width = gates.iter().map(|gate| gate.gate.chars().count()).max();
    let width = width.unwrap_or_default();
    let rows = gates.iter().map(|gate| {
        let (mark, state) = match (gate.state, gate.blocks) {
            (Standing::Passed, _) => ("✓", "passed"),
            (Standing::Failed, true) => ("✗", "failed"),
            (Standing::Failed, false) => ("!", "warning"),
            (Standing::Skipped, _) => ("✗", "skipped"),
            (Standing::Expected, _) => ("✗", "not yet"),
            (Standing::Missing, true) => ("✗", "missing"),
            (Standing::Missing, false) => ("!", "missing"),
        };
        let run = gate.run.map_or_else(String::new, |run| format!("run {run}"));
        format!("{mark} {:width$}  {state:8} {run:8} {}", gate.gate, gate.detail)
    });
    std::iter::once(format!("gates of {environment}"))
        .chain(rows.map(|row| row.trim_end().to_owned()))
        .collect()
}

fn environment(name: &str) -> Outcome<Environment> {
    name.parse()
        .map_err(|error: astraler_model::ParseEnvironmentError| Failure::of(&error))
}

impl Heard {
    fn new(change: &ChangeArguments) -> Self {
        Self {
            progress: Progress::new(change.json),
            wait: change.wait,
            began: Instant::now(),
            live: None,
            last: None,
        }
    }

    /// Whether to go on listening.
    fn hear(&mut self, event: Event) -> bool {
        self.progress.event(&event);
        if let Event::Live {
            deployment,
            environment,
        } = &event
        {
            self.live = Some((deployment.clone(), environment.clone()));
            return self.wait;
        }
        self.last = Some(event);
        true
    }

    fn end(mut self, sent: Result<(), ClientError>) -> Outcome {
        self.progress.clear();
        sent.map_err(|error| super::not_up(&error))?;
        match (self.last, self.live) {
            (Some(Event::Failed(fault)), _) => Err(super::up::failed(&fault)),
            (Some(Event::Superseded { deployment, by }), _) => Err(Failure::new(
                Kind::Superseded,
                format!("{deployment} was superseded by {by}"),
            )
            .hint("a newer deployment of this environment was asked for while this one waited")),
            (
                Some(Event::Blocked {
                    environment,
                    message,
                    hint,
                    gates,
                }),
                _,
            ) => Err(Failure::new(Kind::Gates, message)
                .details(gates_table(environment, &gates))
                .hint(hint)),
            (Some(Event::Removed { environment }), _) => {
                self.progress.say(&format!("{environment} is gone"));
                Ok(())
            }
            (_, Some((deployment, environment))) => {
                let seconds = self.began.elapsed().as_secs_f64();
                let url = environment.urls.first().cloned().unwrap_or_default();
                let environment = environment.environment;
                self.progress.say(&format!(
                    "{deployment} serves {environment} after {seconds:.1} s: {url}"
                ));
                Ok(())
            }
            (Some(Event::Done { environment, .. }), None) => {
                self.progress
                    .say(&format!("{} is as it should be", environment.environment));
                Ok(())
            }
            _ => Err(super::up::stopped()),
        }
    }
}
