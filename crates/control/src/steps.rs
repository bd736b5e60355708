//! The steps of which changes are made, one by one, as `apply` takes them.

use crate::engines::{self, Step};
use crate::platform::Platform;
use crate::platform::{application_of, origin_of};
use crate::publish::{self, store_bucket};
use crate::words::{Action, Application, Fault, Origin, StepOutcome};
use crate::{change, deploy, preview};
use astraler_model::Environment;
use std::time::Duration;

/// A bucket with its objects is gone within this, or the removal goes on with the next try.
const BUCKET_TIMEOUT: Duration = Duration::from_secs(120);

/// Our own processes, with these limits.
pub(crate) async fn data_plane(
    platform: &Platform,
    environment: Environment,
    application: &Application,
) -> Step {
    let _shared = platform.shared.lock().await;
    change::data_plane_services(platform, environment, application).await?;
    let (_, detail) = change::edge(platform, environment, application).await?;
    Ok((StepOutcome::Changed, detail))
}

/// The cluster of an environment.
pub(crate) async fn cluster(
    platform: &Platform,
    environment: Environment,
    application: &Application,
) -> Step {
    let _shared = platform.shared.lock().await;
    engines::cluster(platform, environment.cluster(), &application.config).await
}

/// The database with its roles and migrations.
pub(crate) async fn database(
    platform: &Platform,
    environment: Environment,
    application: &Application,
) -> Step {
    let part = format!("database {environment}");
    let secrets = platform
        .credentials
        .environment(environment)
        .map_err(|error| Fault::of(&part, &error))?;
    let copied = preview::copy(platform, environment, &secrets).await?;
    engines::database(platform, environment, &secrets, application).await?;
    let (_, migrated) = engines::migrate(platform, environment, &secrets, application).await?;
    let detail = copied.map_or_else(|| migrated.clone(), |copied| format!("{copied}, {migrated}"));
    Ok((StepOutcome::Changed, detail))
}

/// Redis, with its files.
pub(crate) async fn redis(platform: &Platform, environment: Environment, application: &Application) -> Step {
    let part = format!("redis {environment}");
    let secrets = platform
        .credentials
        .environment(environment)
        .map_err(|error| Fault::of(&part, &error))?;
    engines::redis(platform, environment, &secrets, application).await
}

/// The deployment, as a story. `restart`: the live one's process starts anew when the application is the same.
pub(crate) async fn deploy(
    platform: &Platform,
    environment: Environment,
    application: &Application,
    actor: &str,
    restart: bool,
) -> Step {
    let part = format!("workers {environment}");
    let fault = |error: &dyn std::error::Error| Fault::of(&part, error);
    let secrets = platform
        .credentials
        .environment(environment)
        .map_err(|error| fault(&error))?;
    let live = platform
        .live_deployment(environment)
        .map_err(|error| fault(&error))?;
    let same = match &live {
        Some(live) => application_of(live).map_err(|error| fault(&error))? == *application,
        None => false,
    };
    let (deployment, fresh) = match live {
        Some(live) if same => {
            if restart {
                let id = live.id.to_string();
                let unit = deploy::unit_name(environment, &id).map_err(|error| fault(&error))?;
                platform
                    .supervisor
                    .remove(&unit)
                    .await
                    .map_err(|error| Fault::of_supervisor(&part, &error))?;
            }
            (live, false)
        }
        live => {
            // The release stays, and with it what is known of it.
            let source = live.as_ref().map(origin_of).unwrap_or_default();
            let origin = Origin {
                action: Action::Apply,
                commit: source.commit,
                branch: source.branch,
                gates: source.gates,
                override_reason: source.override_reason,
                ..Origin::default()
            };
            let new = platform
                .new_deployment(environment, application, actor, &origin)
                .map_err(|error| fault(&error))?;
            (new, true)
        }
    };
    let mut story = deploy::Story::new(environment, deployment, fresh);
    let told = async {
        let (_, detail) = deploy::start(platform, &part, &story, &secrets, application).await?;
        deploy::probe(platform, &part, &story, application).await?;
        deploy::switch(platform, &part, &mut story).await?;
        deploy::drain(platform, &story).await?;
        deploy::stop(platform, &part, &story).await?;
        Ok((StepOutcome::Changed, detail))
    };
    let told: Step = Box::pin(told).await;
    if let Err(fault) = &told {
        story.take_back(platform, &fault.message).await;
    }
    platform.wipe_old_secrets();
    told
}

/// Both snapshots, confirmed by their readers.
pub(crate) async fn publish(platform: &Platform, part: &str) -> Result<(), Fault> {
    publish::data(platform)
        .await
        .map_err(|error| Fault::of(part, &error))?;
    publish::edge(platform)
        .await
        .map_err(|error| Fault::of(part, &error))
}

/// A bucket, made by the data role, which owns the store.
pub(crate) async fn make_bucket(
    platform: &Platform,
    environment: Environment,
    bucket: &str,
) -> Result<(), Fault> {
    bucket_request(platform, http::Method::PUT, environment, bucket).await
}

/// A bucket with everything in it.
pub(crate) async fn remove_bucket(
    platform: &Platform,
    environment: Environment,
    bucket: &str,
) -> Result<(), Fault> {
    bucket_request(platform, http::Method::DELETE, environment, bucket).await
}

async fn bucket_request(
    platform: &Platform,
    method: http::Method,
    environment: Environment,
    bucket: &str,
) -> Result<(), Fault> {
    let part = format!("bucket {bucket} of {environment}");
    let socket = platform.installation.layout.status_socket("data");
    let path = format!("/buckets/{}", store_bucket(environment, bucket));
    let asked = tokio::time::timeout(BUCKET_TIMEOUT, crate::client::ask(&socket, method, &path));
    let answer = asked
        .await
        .map_err(|_| Fault {
            part: part.clone(),
            message: format!("it takes longer than {} s", BUCKET_TIMEOUT.as_secs()),
            log: vec![],
            hint: Some("the same command again goes on with what is left".into()),
        })?
        .map_err(|error| Fault::of(&part, &error))?;
    if answer.status == 200 {
        return Ok(());
    }
    let said: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    Err(Fault {
        part,
        message: said["message"]
            .as_str()
            .unwrap_or("the data role refused")
            .to_owned(),
        log: vec![],
        hint: None,
    })
}
