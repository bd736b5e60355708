//! An environment goes, part by part: what `destroy` and the end of a preview share. Every part is idempotent; the
//! order is the caller's plan, routes first, the record last.

use crate::platform::Platform;
use crate::words::Fault;
use crate::{deploy, engines, preview, publish, steps};
use astraler_model::Environment;
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
