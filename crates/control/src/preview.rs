//! Previews' databases: copies of a golden copy of staging, which is made anew after each deployment there.

use crate::backups::PasswordFile;
use crate::credentials::EnvironmentSecrets;
use crate::engines;
use crate::platform::{Platform, application_of};
use crate::words::Fault;
use astraler_model::{Cluster, Environment};
use astraler_postgres as postgres;
use tokio::sync::{Mutex, Notify};

/// Database and role of the golden copy: no environment's identifier.
const GOLDEN: &str = "staging_golden";
const PART: &str = "golden copy";

/// Who works on the golden copy.
#[derive(Debug, Default)]
pub(crate) struct Golden {
    turn: Mutex<()>,
    /// Staging goes: whoever makes a copy of it stops.
    ends: Notify,
}

/// Makes the golden copy anew. Staging is read in one snapshot and notices nothing; previews that are made meanwhile are
/// copies of the one before.
pub(crate) async fn refresh(platform: &Platform) -> Result<(), Fault> {
    let _turn = platform.golden.turn.lock().await;
    let ends = platform.golden.ends.notified();
    tokio::select! {
        made = Box::pin(make(platform)) => made,
        () = ends => Ok(()),
    }
}

async fn make(platform: &Platform) -> Result<(), Fault> {
    let fault = |error: &dyn std::error::Error| Fault::of(PART, error);
    // Asked in its turn: a destruction that came first has left nothing to copy.
    let live = platform
        .live_deployment(Environment::Staging)
        .map_err(|error| fault(&error))?;
    let Some(live) = live else { return Ok(()) };
    let application = application_of(&live).map_err(|error| fault(&error))?;
    let admin = engines::admin_access(platform, Cluster::Shared).map_err(|error| fault(&error))?;
    let binaries = engines::postgres_binaries(platform, Cluster::Shared).map_err(|error| fault(&error))?;
    let password = platform.credentials.golden().map_err(|error| fault(&error))?;
    let spec = postgres::GoldenSpec {
        source: Environment::Staging.identifier(),
        golden: GOLDEN.to_owned(),
        password: password.expose().to_owned(),
        mask: application.mask.clone(),
    };
    let file = PasswordFile::write(platform, "golden.pgpass", &admin).map_err(|error| fault(&error))?;
    postgres::refresh_golden(&admin, &binaries, &spec, file.path())
        .await
        .map_err(|error| fault(&error))
}

/// Makes a preview's database a copy of the golden one, unless it is there. Says so when it was made.
pub(crate) async fn copy(
    platform: &Platform,
    environment: Environment,
    secrets: &EnvironmentSecrets,
) -> Result<Option<String>, Fault> {
    if !matches!(environment, Environment::Preview(_)) {
        return Ok(None);
    }
    let part = format!("database {environment}");
    let fault = |error: &dyn std::error::Error| Fault::of(&part, error);
    let admin = engines::admin_access(platform, Cluster::Shared).map_err(|error| fault(&error))?;
    let binaries = engines::postgres_binaries(platform, Cluster::Shared).map_err(|error| fault(&error))?;
    let spec = engines::database_spec(environment, secrets, 0);
    let copied = postgres::copy_golden(&admin, &binaries, GOLDEN, &spec)
        .await
        .map_err(|error| fault(&error))?;
    Ok(copied.map(|bytes| format!("a copy of staging's, {} MiB", bytes >> 20)))
}

/// Removes the golden copy: staging goes, and no trace of its data may stay.
pub(crate) async fn drop_golden(platform: &Platform) -> Result<(), Fault> {
    let fault = |error: &dyn std::error::Error| Fault::of(PART, error);
    platform.golden.ends.notify_waiters();
    let _turn = platform.golden.turn.lock().await;
    let admin = engines::admin_access(platform, Cluster::Shared).map_err(|error| fault(&error))?;
    postgres::drop_golden(&admin, GOLDEN)
        .await
        .map_err(|error| fault(&error))
}
