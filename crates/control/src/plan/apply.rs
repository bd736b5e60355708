//! A plan, carried out: each action is written down before it is taken and its end after it. Every action is
//! idempotent, so that after a kill at any point the next plan is what is left.

use super::wanted::governing;
use super::{Answer, ApplyEvent, Refusal};
use crate::engines::{self, Step};
use crate::platform::Platform;
use crate::removal;
use crate::steps;
use crate::words::{Application, Fault, StepOutcome};
use astraler_model::Environment;
use astraler_plan::{Action, Address, AttributeChange, Kind, Part, Plan};
use astraler_postgres as postgres;
use astraler_store::{Outcome, StepDescription};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;
use tokio::sync::mpsc;

/// Differences that a stale plan names.
const MAX_DIFFERENCES: usize = 20;

/// Why a plan cannot be carried out as it was agreed to.
pub(super) fn refusal(agreed: &Plan, now: &Plan) -> Option<Refusal> {
    let protected: Vec<String> = now.protected().map(|action| action.address.to_string()).collect();
    if !protected.is_empty() {
        return Some(Refusal::Protected { addresses: protected });
    }
    if agreed.actions == now.actions {
        return None;
    }
    let of = |plan: &Plan| -> BTreeMap<Address, Action> {
        plan.actions
            .iter()
            .map(|action| (action.address.clone(), action.clone()))
            .collect()
    };
    let (then, now) = (of(agreed), of(now));
    let addresses: BTreeSet<&Address> = then.keys().chain(now.keys()).collect();
    let differences = addresses
        .into_iter()
        .filter(|address| then.get(*address) != now.get(*address))
        .map(|address| match (then.get(address), now.get(address)) {
            (Some(_), None) => format!("{address}: nothing is to do any more"),
            (None, Some(action)) => format!(
                "{address}: {} is needed now: {}",
                word(action.kind),
                action.reason
            ),
            (Some(then), Some(now)) if then.kind != now.kind => format!(
                "{address}: planned to {}, and now it would be to {}",
                word(then.kind),
                word(now.kind)
            ),
            _ => format!("{address}: it is not as it was when the plan was made"),
        })
        .take(MAX_DIFFERENCES)
        .collect();
    Some(Refusal::Stale { differences })
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Create => "create",
        Kind::Change => "change",
        Kind::Replace => "replace",
        Kind::Destroy => "destroy",
    }
}

/// Carries the plan out. A step that fails ends it: what was done stays.
pub(super) async fn apply(
    platform: &Platform,
    kind: &str,
    answer: &Answer,
    actor: &str,
    events: &mpsc::Sender<ApplyEvent>,
) -> Result<usize, Fault> {
    let actions = &answer.plan.actions;
    let record = |error: &dyn std::error::Error| Fault::of("journal", error);
    let subject = subject(actions);
    let steps: Vec<StepDescription> = actions
        .iter()
        .map(|action| StepDescription {
            name: name(action),
            detail: json!({ "reason": action.reason }),
        })
        .collect();
    let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
    platform
        .audit(actor, kind, &subject, &json!({ "steps": names }))
        .map_err(|error| record(&error))?;
    let operation = platform
        .begin(kind, &subject, &steps)
        .map_err(|error| record(&error))?;
    let result: Result<usize, Fault> = async {
        // Before anything of it goes: from here on nobody brings it back.
        for action in actions {
            if let (Kind::Destroy, Some(Part::Record), Some(environment)) =
                (action.kind, action.address.part(), action.address.environment())
            {
                platform
                    .begin_destruction(environment)
                    .map_err(|error| record(&error))?;
            }
        }
        for (index, action) in actions.iter().enumerate() {
            let part = name(action);
            events.send(ApplyEvent::Begin { part: part.clone() }).await.ok();
            let began = Instant::now();
            platform
                .intent(operation, index)
                .map_err(|error| record(&error))?;
            let done = Box::pin(take(platform, action, answer, actor))
                .await
                .map_err(|fault| platform.masked(fault));
            let recorded = match &done {
                Ok((step, detail)) => {
                    platform.result(operation, index, &Outcome::Done, &json!([step, detail]))
                }
                Err(fault) => {
                    let failed = Outcome::Failed {
                        error: fault.message.clone(),
                    };
                    platform.result(operation, index, &failed, &json!(null))
                }
            };
            let (outcome, detail) = done?;
            recorded.map_err(|error| record(&error))?;
            let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            events
                .send(ApplyEvent::End {
                    part,
                    outcome,
                    detail,
                    elapsed_ms,
                })
                .await
                .ok();
        }
        Ok(actions.len())
    }
    .await;
    let end = match &result {
        Ok(_) => Outcome::Done,
        Err(fault) => Outcome::Failed {
            error: fault.message.clone(),
        },
    };
    platform.end(operation, &end);
    result
}

fn name(action: &Action) -> String {
    format!("{} {}", word(action.kind), action.address)
}

/// The environments that a plan is about, in a few words.
fn subject(actions: &[Action]) -> String {
    let environments: BTreeSet<Environment> = actions
        .iter()
        .filter_map(|action| action.address.environment())
        .collect();
    let names: Vec<String> = environments.iter().take(8).map(ToString::to_string).collect();
    if names.is_empty() {
        "platform".into()
    } else {
        names.join(", ")
    }
}

async fn take(platform: &Platform, action: &Action, answer: &Answer, actor: &str) -> Step {
    let part = name(action);
    match &action.address {
        Address::EdgeSettings => {
            let (environment, application) = governed(&part, answer, |_| true)?;
            steps::data_plane(platform, environment, application).await
        }
        Address::PostgresSettings(cluster) => {
            let (environment, application) = governed(&part, answer, |other| other.cluster() == *cluster)?;
            cluster_settings(platform, environment, application, action).await
        }
        Address::Environment(environment, of) if action.kind == Kind::Destroy => {
            removal::part(platform, *environment, of).await?;
            Ok((StepOutcome::Changed, "gone".into()))
        }
        Address::Environment(environment, of) => {
            let application = answer.applications.get(environment).ok_or_else(|| Fault {
                part: part.clone(),
                message: format!("nothing is wanted of {environment}"),
                log: vec![],
                hint: None,
            })?;
            make(platform, *environment, of, application, action, actor).await
        }
    }
}

fn governed<'a>(
    part: &str,
    answer: &'a Answer,
    shares: impl Fn(Environment) -> bool,
) -> Result<(Environment, &'a Application), Fault> {
    governing(&answer.applications, shares).ok_or_else(|| Fault {
        part: part.to_owned(),
        message: "no environment wants it".into(),
        log: vec![],
        hint: None,
    })
}

async fn make(
    platform: &Platform,
    environment: Environment,
    of: &Part,
    application: &Application,
    action: &Action,
    actor: &str,
) -> Step {
    let part = name(action);
    let fault = |error: &dyn std::error::Error| Fault::of(&part, error);
    let changed = |detail: &str| Ok((StepOutcome::Changed, detail.to_owned()));
    match of {
        Part::Record => {
            platform.want(environment).map_err(|error| fault(&error))?;
            changed("wanted")
        }
        Part::Protection => {
            let protected = super::is_protected(&application.config, environment);
            platform
                .protect(environment, protected)
                .map_err(|error| fault(&error))?;
            let words = if protected { "protected" } else { "not protected" };
            platform
                .audit(
                    actor,
                    "protection",
                    &environment.to_string(),
                    &json!({ "protected": protected }),
                )
                .map_err(|error| fault(&error))?;
            changed(words)
        }
        Part::Secrets => {
            platform
                .credentials
                .environment(environment)
                .map_err(|error| fault(&error))?;
            changed("made")
        }
        Part::Database => steps::database(platform, environment, application).await,
        Part::Redis => redis(platform, environment, application, action).await,
        Part::Bucket(bucket) => {
            steps::make_bucket(platform, environment, bucket).await?;
            changed("made")
        }
        Part::Workers => {
            let restart = action.kind == Kind::Change;
            steps::deploy(platform, environment, application, actor, restart).await
        }
        Part::Pool | Part::Routes => {
            steps::publish(platform, &part).await?;
            changed("published")
        }
    }
}

fn touches(changes: &[AttributeChange], names: &[&str]) -> bool {
    changes
        .iter()
        .any(|change| names.contains(&change.attribute.as_str()))
}

/// The configuration, in force: what a file says again is read again, and what `ALTER SYSTEM` set is taken back.
async fn cluster_settings(
    platform: &Platform,
    environment: Environment,
    application: &Application,
    action: &Action,
) -> Step {
    let part = name(action);
    let cluster = environment.cluster();
    let fault = |error: &dyn std::error::Error| Fault::of(&part, error);
    let (_, version) = steps::cluster(platform, environment, application).await?;
    let admin = engines::admin_access(platform, cluster).map_err(|error| fault(&error))?;
    // Reads the files again too.
    postgres::reset_altered(&admin)
        .await
        .map_err(|error| fault(&error))?;
    let state = postgres::inspect_cluster(&admin)
        .await
        .map_err(|error| fault(&error))?;
    let wanted = application.config.database.max_connections;
    let replaced = touches(&action.changes, &["process"]);
    if !state.pending_restart.is_empty() || state.max_connections != wanted || replaced {
        let unit = engines::cluster_unit(cluster).map_err(|error| fault(&error))?;
        platform
            .supervisor
            .stop(&unit)
            .await
            .map_err(|error| Fault::of_supervisor(&part, &error))?;
        steps::cluster(platform, environment, application).await?;
    }
    Ok((StepOutcome::Changed, version))
}

/// Redis with its files, restarted where it read others; settings that were made by hand are set back.
async fn redis(
    platform: &Platform,
    environment: Environment,
    application: &Application,
    action: &Action,
) -> Step {
    let part = name(action);
    let fault = |error: &dyn std::error::Error| Fault::of(&part, error);
    let secrets = platform
        .credentials
        .environment(environment)
        .map_err(|error| fault(&error))?;
    let (_, detail) = steps::redis(platform, environment, application).await?;
    let layout = &platform.installation.layout;
    let control = astraler_redis::Control::new(
        &layout.redis_socket(environment),
        secrets.redis_control_password.expose(),
    );
    let wanted = &application.config.redis;
    for (setting, value) in [
        ("maxmemory", wanted.maxmemory_bytes.to_string()),
        ("maxmemory-policy", wanted.maxmemory_policy.to_string()),
        ("appendfsync", wanted.appendfsync.to_string()),
    ] {
        control
            .set(setting, &value)
            .await
            .map_err(|error| fault(&error))?;
    }
    Ok((StepOutcome::Changed, detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use astraler_plan::{Cause, Retained};

    fn action(kind: Kind, address: &str, protected: bool) -> Action {
        Action {
            kind,
            address: address.parse().unwrap(),
            reason: "because".into(),
            cause: Cause::Wanted,
            restarts: false,
            protected,
            changes: vec![],
            needs: vec![],
        }
    }

    fn plan(actions: Vec<Action>) -> Plan {
        Plan {
            actions,
            retained: vec![],
        }
    }

    #[test]
    fn a_plan_that_no_longer_fits_is_refused_with_what_differs() {
        let agreed = plan(vec![
            action(Kind::Change, "environment.staging.redis", false),
            action(Kind::Create, "environment.staging.database", false),
        ]);
        assert_eq!(refusal(&agreed, &agreed), None);
        let mut kept = agreed.clone();
        kept.retained.push(Retained {
            address: "environment.production.bucket.a".parse().unwrap(),
            reason: "kept".into(),
        });
        assert_eq!(refusal(&agreed, &kept), None, "what is kept is no step");
        let now = plan(vec![
            action(Kind::Create, "environment.staging.redis", false),
            action(Kind::Replace, "environment.staging.workers", false),
        ]);
        let Some(Refusal::Stale { differences }) = refusal(&agreed, &now) else {
            panic!("it is stale");
        };
        assert_eq!(
            differences,
            [
                "environment.staging.database: nothing is to do any more",
                "environment.staging.redis: planned to change, and now it would be to create",
                "environment.staging.workers: replace is needed now: because",
            ]
        );
    }

    #[test]
    fn a_plan_that_destroys_what_is_protected_is_refused_even_when_it_was_agreed_to() {
        let agreed = plan(vec![action(
            Kind::Destroy,
            "environment.production.database",
            true,
        )]);
        assert_eq!(
            refusal(&agreed, &agreed),
            Some(Refusal::Protected {
                addresses: vec!["environment.production.database".into()]
            })
        );
    }
}
