//! `astraler plan`, `apply`, `drift`, `destroy`: what would change, and the change, after it was shown and agreed to.

use crate::cli::{ApplyArguments, Arguments, DestroyArguments, PlanArguments};
use crate::failure::{Failure, Kind, Outcome};
use crate::place::{self, Place};
use crate::progress::{Progress, line};
use crate::table;
use astraler_control::{
    ApplyEvent, ApplyRequest, DestroyRequest, Event, ManifestWords, PlanRequest, Refusal, WorkerPlan,
};
use astraler_manifest::Manifest;
use astraler_model::{Environment, ParseEnvironmentError};
use astraler_plan::Plan;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;

/// A plan in a file: what it was made from beside what it says, so that `apply` can find out whether it still fits. No
/// secret is in it.
#[derive(Debug, Serialize, Deserialize)]
struct SavedPlan {
    /// Format of the file.
    astraler_plan: u32,
    /// The platform for which it was made.
    platform: String,
    request: PlanRequest,
    plan: Plan,
}

const FORMAT: u32 = 1;

/// Why an `apply` does nothing.
const NOTHING_WANTED: &str = "everything is as the manifest wants it";

/// Larger files are no plans.
const MAX_PLAN_BYTES: u64 = 16 << 20;

pub(super) fn plan(arguments: &Arguments, asked: &PlanArguments) -> Outcome {
    let place = Place::find(arguments)?;
    let request = request(&place, &asked.environments)?;
    let client = super::daemon(arguments)?;
    let plan = ask(async { client.plan(&request).await })?;
    if let Some(path) = &asked.out {
        let saved = SavedPlan {
            astraler_plan: FORMAT,
            platform: place.id.clone(),
            request,
            plan: plan.clone(),
        };
        astraler_host::file::replace(path, &serde_json::to_vec_pretty(&saved)?, 0o600)?;
    }
    show(&plan, asked.json)?;
    found(&plan)
}

pub(super) fn drift(arguments: &Arguments, json: bool) -> Outcome {
    let client = super::daemon(arguments)?;
    let plan = ask(async { client.drift().await })?;
    if !json && plan.is_empty() {
        line("nothing was changed by hand");
        return Ok(());
    }
    show(&plan, json)?;
    if !json {
        line("`astraler apply` mends it; change the manifest to keep it");
    }
    found(&plan)
}

pub(super) fn apply(arguments: &Arguments, asked: &ApplyArguments) -> Outcome {
    let place = Place::find(arguments)?;
    let client = super::daemon(arguments)?;
    let (request, plan) = match &asked.plan {
        Some(path) => {
            let saved = read_saved(path, &place)?;
            (saved.request, saved.plan)
        }
        None => {
            let request = request(&place, &asked.environments)?;
            let plan = ask(async { client.plan(&request).await })?;
            (request, plan)
        }
    };
    if !asked.json {
        show(&plan, false)?;
    }
    // A saved plan goes to the daemon even when it is empty: whether it still fits is for the daemon to say.
    if plan.is_empty() && asked.plan.is_none() {
        return finish(0, asked.json, NOTHING_WANTED);
    }
    refuse_protected(&plan)?;
    if !asked.yes && !plan.is_empty() {
        agree(
            "Apply it? Type `yes`: ",
            "yes",
            "`astraler apply --yes` applies without asking",
        )?;
    }
    let _lock = place.lock("astraler apply")?;
    let apply = ApplyRequest { request, plan };
    carry_out(asked.json, "astraler apply", |on_event| {
        super::block_on(async {
            client
                .apply(&apply, on_event)
                .await
                .map_err(|error| super::not_up(&error))
        })
    })
}

pub(super) fn destroy(arguments: &Arguments, asked: &DestroyArguments) -> Outcome {
    let place = Place::find(arguments)?;
    let client = super::daemon(arguments)?;
    let environments = parse(&asked.environments)?;
    let plan = ask(async { client.destruction(environments.clone()).await })?;
    if !asked.json || asked.show {
        show(&plan, asked.json)?;
    }
    if asked.show {
        return found(&plan);
    }
    if plan.is_empty() {
        return finish(0, asked.json, "nothing of it is there");
    }
    refuse_protected(&plan)?;
    let name = match environments.iter().next() {
        Some(one) if environments.len() == 1 => one.to_string(),
        _ => place.installation()?.application,
    };
    let hint = format!("`astraler destroy … --yes {name}` destroys without asking");
    match &asked.yes {
        Some(given) if *given == name => {}
        Some(given) => {
            return Err(Failure::new(
                Kind::General,
                format!("`{given}` is not `{name}`: nothing was destroyed"),
            )
            .hint(hint));
        }
        None => agree(
            &format!("All of it goes, with its data. Type `{name}`: "),
            &name,
            &hint,
        )?,
    }
    let _lock = place.lock("astraler destroy")?;
    let destroy = DestroyRequest {
        environments,
        plan: Some(plan),
    };
    carry_out(asked.json, "the same `astraler destroy`", |on_event| {
        super::block_on(async {
            client
                .destroy(&destroy, on_event)
                .await
                .map_err(|error| super::not_up(&error))
        })
    })
}

/// What the manifest says, as the daemon takes it.
fn request(place: &Place, environments: &[String]) -> Outcome<PlanRequest> {
    let manifest = place::manifest(place)?;
    let kinds = [
        Environment::Development,
        Environment::Preview(1),
        Environment::Staging,
        Environment::Production,
    ];
    let workers: BTreeMap<String, Vec<WorkerPlan>> = kinds
        .into_iter()
        .map(|environment| {
            let kind = match environment {
                Environment::Preview(_) => "preview".to_owned(),
                other => other.to_string(),
            };
            (kind, workers(&manifest, environment))
        })
        .collect();
    Ok(PlanRequest {
        manifest: ManifestWords {
            config: manifest.config,
            workers,
        },
        environments: parse(environments)?,
    })
}

fn workers(manifest: &Manifest, environment: Environment) -> Vec<WorkerPlan> {
    manifest
        .workers
        .iter()
        .map(|worker| WorkerPlan::of(worker, environment))
        .collect()
}

fn parse(names: &[String]) -> Outcome<BTreeSet<Environment>> {
    names
        .iter()
        .map(|name| {
            name.parse().map_err(|error: ParseEnvironmentError| {
                Failure::of(&error).hint("for example `astraler plan --env staging`")
            })
        })
        .collect()
}

fn ask<T>(question: impl Future<Output = Result<T, astraler_control::ClientError>>) -> Outcome<T> {
    super::block_on(async { question.await.map_err(|error| super::not_up(&error)) })
}

fn show(plan: &Plan, json: bool) -> Outcome {
    if json {
        return Ok(table::print_json(plan)?);
    }
    line(plan.to_string().trim_end());
    Ok(())
}

/// The exit code of a look: nothing, changes wanted, something was changed by hand.
fn found(plan: &Plan) -> Outcome {
    if plan.has_drift() {
        Err(Failure::said(Kind::Drift))
    } else if plan.is_empty() {
        Ok(())
    } else {
        Err(Failure::said(Kind::Wanted))
    }
}

fn read_saved(path: &Path, place: &Place) -> Outcome<SavedPlan> {
    let size = std::fs::metadata(path)
        .map_err(|error| Failure::of(&error).context(format!("the plan {} cannot be read", path.display())))?
        .len();
    if size > MAX_PLAN_BYTES {
        return Err(Failure::new(
            Kind::General,
            format!("{} is too large for a plan", path.display()),
        ));
    }
    let saved: SavedPlan = serde_json::from_slice(&std::fs::read(path)?).map_err(|error| {
        Failure::of(&error)
            .context(format!("{} is not a plan of this version", path.display()))
            .hint("`astraler plan --out FILE` writes one")
    })?;
    if saved.astraler_plan != FORMAT {
        return Err(Failure::new(
            Kind::General,
            format!(
                "{} has format {}, and this program knows {FORMAT}",
                path.display(),
                saved.astraler_plan
            ),
        ));
    }
    if saved.platform != place.id {
        return Err(Failure::new(
            Kind::Stale,
            format!(
                "the plan was made for the platform {}, and this one is {}",
                saved.platform, place.id
            ),
        ));
    }
    Ok(saved)
}

fn refuse_protected(plan: &Plan) -> Outcome {
    let addresses: Vec<String> = plan
        .protected()
        .map(|action| action.address.to_string())
        .collect();
    if addresses.is_empty() {
        Ok(())
    } else {
        Err(protected(addresses))
    }
}

fn protected(addresses: Vec<String>) -> Failure {
    Failure::new(Kind::Protected, "what is protected is not destroyed")
        .details(addresses)
        .hint(
            "two steps: take it out of `protection.environments` (and `environments.*.protected`) and run \
             `astraler apply`, then destroy",
        )
}

/// Asks on a terminal; refuses elsewhere.
fn agree(question: &str, expected: &str, hint: &str) -> Outcome {
    if !std::io::stdin().is_terminal() {
        return Err(
            Failure::new(Kind::General, "nobody can be asked here, and nothing was changed").hint(hint),
        );
    }
    let mut out = std::io::stdout().lock();
    out.write_all(question.as_bytes())?;
    out.flush()?;
    drop(out);
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if answer.trim() == expected {
        Ok(())
    } else {
        Err(Failure::new(Kind::General, "not agreed to: nothing was changed").hint(hint))
    }
}

/// Follows the work to its end.
pub(super) fn carry_out(
    json: bool,
    again: &str,
    work: impl FnOnce(&mut dyn FnMut(ApplyEvent)) -> Outcome,
) -> Outcome {
    let mut progress = Progress::new(false);
    let mut last = None;
    work(&mut |event| {
        if json {
            line(&serde_json::to_string(&event).unwrap_or_default());
        }
        match event {
            ApplyEvent::Begin { part } if !json => progress.event(&Event::Begin { part }),
            ApplyEvent::End {
                part,
                outcome,
                detail,
                elapsed_ms,
            } if !json => progress.event(&Event::End {
                part,
                outcome,
                detail,
                elapsed_ms,
            }),
            ApplyEvent::Begin { .. } | ApplyEvent::End { .. } => {}
            end => last = Some(end),
        }
    })?;
    progress.clear();
    match last {
        Some(ApplyEvent::Applied { steps }) => {
            if !json {
                finish(steps, false, NOTHING_WANTED)?;
            }
            Ok(())
        }
        Some(ApplyEvent::Refused(Refusal::Stale { differences })) => Err(Failure::new(
            Kind::Stale,
            "the plan does not fit this machine any more; nothing was changed",
        )
        .details(differences)
        .hint("make a new one with `astraler plan`")),
        Some(ApplyEvent::Refused(Refusal::Protected { addresses })) => Err(protected(addresses)),
        Some(ApplyEvent::Failed(fault)) => Err(super::up::failed(&fault)),
        _ => Err(Failure::new(
            Kind::General,
            "the control process stopped in the middle of its work",
        )
        .hint(format!(
            "run {again} again: it goes on from what was done; `astraler logs daemon` says why"
        ))),
    }
}

/// Says how much was done, or why nothing was.
fn finish(steps: usize, json: bool, nothing: &str) -> Outcome {
    if json {
        line(&serde_json::to_string(&ApplyEvent::Applied { steps })?);
    } else if steps == 0 {
        line(&format!("nothing was done: {nothing}"));
    } else {
        line(&format!("{steps} steps done"));
    }
    Ok(())
}
