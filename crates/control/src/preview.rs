//! Previews' databases: copies of a golden copy of staging, which is made anew after each deployment there.

use crate::credentials::EnvironmentSecrets;
use crate::engines;
use crate::platform::{Platform, application_of};
use crate::words::Fault;
use astraler_model::{Cluster, Environment};
use astraler_postgres as postgres;
use std::path::PathBuf;
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
    let file = password_file(platform, &admin)?;
    postgres::refresh_golden(&admin, &binaries, &spec, &file.0)
        .await
        .map_err(|error| fault(&error))
}

/// A file that goes with its value.
struct PasswordFile(PathBuf);

impl Drop for PasswordFile {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

/// The superuser's password, for `pg_dump` alone and as long as it runs.
fn password_file(platform: &Platform, admin: &postgres::Access) -> Result<PasswordFile, Fault> {
    let path = platform.installation.layout.secret("golden.pgpass");
    let escaped = |text: &str| text.replace('\\', "\\\\").replace(':', "\\:");
    let line = format!("*:*:*:{}:{}\n", escaped(&admin.user), escaped(&admin.password));
    astraler_host::file::replace(&path, line.as_bytes(), 0o600).map_err(|error| Fault::of(PART, &error))?;
    Ok(PasswordFile(path))
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
