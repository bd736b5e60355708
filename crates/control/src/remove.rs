//! A preview goes, wholly: routes, processes, Redis, database, buckets, secrets, the record. Every step is idempotent
//! and journaled; a removal that was interrupted goes on by itself, because the record says `down`.

use crate::platform::Platform;
use crate::removal;
use crate::words::{Event, Fault, StepOutcome};
use astraler_model::Environment;
use astraler_plan::Part as Of;
use astraler_store::{Outcome, StepDescription};
use std::time::Instant;
use tokio::sync::mpsc;

#[derive(Debug, Clone, Copy)]
enum Part {
    Routes,
    Workers,
    Redis,
    Database,
    Buckets,
    Record,
}

const PARTS: [(Part, &str); 6] = [
    (Part::Routes, "routes"),
    (Part::Workers, "workers"),
    (Part::Redis, "redis"),
    (Part::Database, "database"),
    (Part::Buckets, "buckets"),
    (Part::Record, "secrets and record"),
];

/// Removes a preview. Its turn is the caller's.
pub(crate) async fn remove(
    platform: &Platform,
    environment: Environment,
    actor: &str,
    reason: &str,
    events: &mpsc::Sender<Event>,
) -> Result<(), Fault> {
    let record = |error: &dyn std::error::Error| Fault::of("journal", error);
    if !matches!(environment, Environment::Preview(_)) {
        return Err(Fault {
            part: "remove".into(),
            message: format!("{environment} is not a preview: only previews can be removed like this"),
            log: vec![],
            hint: Some("`astraler down` stops everything and keeps the data".into()),
        });
    }
    if platform
        .environment(environment)
        .map_err(|error| record(&error))?
        .is_none()
    {
        return Err(Fault {
            part: "remove".into(),
            message: format!("there is no environment {environment}"),
            log: vec![],
            hint: Some("`astraler env list` shows those that there are".into()),
        });
    }
    if platform
        .is_protected(environment)
        .map_err(|error| record(&error))?
    {
        return Err(Fault {
            part: "remove".into(),
            message: format!("{environment} is protected"),
            log: vec![],
            hint: Some(
                "two steps: end its protection in the manifest and run `astraler apply`, then remove it"
                    .into(),
            ),
        });
    }
    let subject = environment.to_string();
    platform
        .audit(
            actor,
            "env remove",
            &subject,
            &serde_json::json!({ "reason": reason }),
        )
        .map_err(|error| record(&error))?;
    let plan: Vec<StepDescription> = PARTS
        .iter()
        .map(|(_, name)| StepDescription {
            name: format!("{name} {environment}"),
            detail: serde_json::Value::Null,
        })
        .collect();
    let operation = platform
        .begin("env remove", &subject, &plan)
        .map_err(|error| record(&error))?;
    for (index, (part, name)) in PARTS.iter().enumerate() {
        let name = format!("{name} {environment}");
        events.send(Event::Begin { part: name.clone() }).await.ok();
        let began = Instant::now();
        platform
            .intent(operation, index)
            .map_err(|error| record(&error))?;
        let done = Box::pin(make(platform, *part, environment)).await;
        let outcome = match &done {
            Ok(()) => Outcome::Done,
            Err(fault) => Outcome::Failed {
                error: fault.message.clone(),
            },
        };
        let result = platform.result(operation, index, &outcome, &serde_json::Value::Null);
        if let Err(fault) = done {
            platform.end(operation, &outcome);
            return Err(fault);
        }
        result.map_err(|error| record(&error))?;
        let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        events
            .send(Event::End {
                part: name,
                outcome: StepOutcome::Changed,
                detail: "removed".into(),
                elapsed_ms,
            })
            .await
            .ok();
    }
    platform.end(operation, &Outcome::Done);
    Ok(())
}

async fn make(platform: &Platform, part: Part, environment: Environment) -> Result<(), Fault> {
    let fault = |error: &dyn std::error::Error| Fault::of(&format!("remove {environment}"), error);
    let removed = |part| removal::part(platform, environment, part);
    match part {
        Part::Routes => {
            platform.want_gone(environment).map_err(|error| fault(&error))?;
            removed(&Of::Routes).await
        }
        Part::Workers => removed(&Of::Workers).await,
        Part::Redis => removed(&Of::Redis).await,
        Part::Database => removed(&Of::Database).await,
        Part::Buckets => removal::buckets(platform, environment).await,
        Part::Record => {
            removed(&Of::Secrets).await?;
            removed(&Of::Record).await?;
            removed(&Of::Pool).await
        }
    }
}
