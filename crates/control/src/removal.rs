//! An environment goes, part by part: what `destroy` and the end of a preview share. Every part is idempotent; the
//! order is the caller's plan, routes first, the record last.

use crate::platform::{Platform, application_of};
use crate::words::Fault;
use crate::{deploy, engines, preview, publish, status, steps};
use astraler_model::{Environment, UnitPhase};
use astraler_plan::Part;

/// Removes one part of an environment, with everything in it.
pub(crate) async fn part(platform: &Platform, environment: Environment, part: &Part) -> Result<(), Fault> {
    let name = format!("remove {environment}");
    let fault = |error: &dyn std::error::Error| Fault::of(&name, error);
    match part {
        Part::Routes => publish::edge(platform).await.map_err(|error| fault(&error)),
        Part::Pool => publish::data(platform).await.map_err(|error| fault(&error)),
        Part::Workers => deploy::end_all(platform, environment).await,
        Part::Redis => engines::remove_redis(platform, environment).await,
        Part::Database => {
            cluster_runs(platform, environment).await?;
            // The copy first: while the database is there, a destruction that was killed comes here again.
            if environment == Environment::Staging {
                preview::drop_golden(platform).await?;
            }
            engines::remove_database(platform, environment).await
        }
        Part::Bucket(bucket) => {
            // The data role refuses to remove what its snapshot still names.
            publish::data(platform).await.map_err(|error| fault(&error))?;
            steps::remove_bucket(platform, environment, bucket).await
        }
        Part::Secrets => platform
            .credentials
            .forget(environment)
            .map_err(|error| fault(&error)),
        // The marks go with the record: that it is being destroyed must outlive every other part.
        Part::Protection => {
            let records = platform.environments().map_err(|error| fault(&error))?;
            if records.iter().any(|record| record.environment == environment) {
                return Ok(());
            }
            platform.forget(environment).map_err(|error| fault(&error))
        }
        Part::Record => {
            // A kill may have come between the end of a process and the record of it.
            deploy::end_all(platform, environment).await?;
            platform.forget(environment).map_err(|error| fault(&error))
        }
    }
}

/// Removes every bucket of an environment that is on its way out, with all that is in it.
pub(crate) async fn buckets(platform: &Platform, environment: Environment) -> Result<(), Fault> {
    let name = format!("remove {environment}");
    let fault = |error: &dyn std::error::Error| Fault::of(&name, error);
    let there = publish::buckets(platform).await.map_err(|error| fault(&error))?;
    let prefix = publish::store_bucket(environment, "");
    for bucket in there.iter().filter_map(|name| name.strip_prefix(&prefix)) {
        part(platform, environment, &Part::Bucket(bucket.to_owned())).await?;
    }
    Ok(())
}

/// A database goes by SQL: its cluster runs for that, also where nothing that is up needs it.
async fn cluster_runs(platform: &Platform, environment: Environment) -> Result<(), Fault> {
    let cluster = environment.cluster();
    let part = format!("postgres {cluster}");
    let fault = |error: &dyn std::error::Error| Fault::of(&part, error);
    let unit = engines::cluster_unit(cluster).map_err(|error| fault(&error))?;
    let present = status::unit(platform, &unit)
        .await
        .map_err(|error| Fault::of_supervisor(&part, &error))?;
    if present.is_some_and(|present| present.phase == UnitPhase::Running) {
        return Ok(());
    }
    // As whoever shares it wants it, or as it was when the environment was deployed last.
    let shares = platform.live().map_err(|error| fault(&error))?;
    let shares = shares
        .into_iter()
        .find(|(other, _)| other.cluster() == cluster)
        .map(|(_, (_, application))| application);
    let application = match shares {
        Some(application) => Some(application),
        None => platform
            .deployments(Some(environment), 1)
            .map_err(|error| fault(&error))?
            .first()
            .map(application_of)
            .transpose()
            .map_err(|error| fault(&error))?,
    };
    let application = application.ok_or_else(|| Fault {
        part: part.clone(),
        message: "it does not run, and no deployment says with what settings it did".into(),
        log: vec![],
        hint: Some(format!(
            "`astraler up --env {environment}` starts it; then destroy"
        )),
    })?;
    steps::cluster(platform, environment, &application).await?;
    Ok(())
}
