//! The scratch cluster's place and life.

use crate::engines;
use crate::platform::Platform;
use crate::words::Fault;
use astraler_model::{Cluster, UnitName};
use astraler_postgres as postgres;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest replay of a log.
const REPLAY_TIMEOUT: Duration = Duration::from_secs(3_600);
const REMOVE_TIMEOUT_MS: u64 = 600_000;
const PART: &str = "scratch cluster";

fn group(platform: &Platform) -> Option<u32> {
    let postgres = platform.installation.identities.postgres.as_ref();
    postgres.map(|identity| identity.gid)
}

/// An empty folder for what is fetched. A scratch cluster that an interrupted restore has left goes.
pub(super) async fn prepare(platform: &Platform) -> Result<PathBuf, Fault> {
    clean(platform).await?;
    let folder = platform.installation.layout.fetched();
    for path in [folder.clone(), folder.join("wal")] {
        platform
            .make_dir_for(&path, group(platform))
            .map_err(|error| Fault::of(PART, &error))?;
    }
    Ok(folder)
}

/// Lets the engine's user, and nobody else, read what was fetched.
pub(super) fn hand_over(platform: &Platform, folder: &Path) -> Result<(), std::io::Error> {
    use std::os::unix::fs::{PermissionsExt, chown};
    for folder in [folder.to_owned(), folder.join("wal")] {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                continue;
            }
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640))?;
            chown(&path, None, group(platform))?;
        }
    }
    Ok(())
}

/// Unpacks the base and replays the log until the point; returns when it takes connections.
pub(super) async fn start(platform: &Platform, cluster: Cluster, until: &str) -> Result<(), Fault> {
    let config = config(platform, cluster, until)?;
    let unpack = postgres::unpack_unit(&config);
    engines::start(platform, PART, &unpack).await?;
    let server = postgres::scratch_unit(&config);
    engines::start(platform, PART, &server).await?;
    let (_, access) = access(platform, cluster).map_err(|error| Fault::of(PART, &error))?;
    engines::while_running(
        platform,
        PART,
        &server,
        postgres::wait_ready(&access, REPLAY_TIMEOUT),
    )
    .await
}

/// Stops it and looks at the checksum of every page; not where PostgreSQL came without the program for it.
pub(super) async fn check_pages(platform: &Platform, cluster: Cluster) -> Result<bool, Fault> {
    let config = config(platform, cluster, "")?;
    if !config.binaries.directory.join("pg_checksums").exists() {
        return Ok(false);
    }
    let [_, server, _] = postgres::scratch_units();
    platform
        .supervisor
        .remove(&server)
        .await
        .map_err(|error| Fault::of_supervisor(PART, &error))?;
    engines::start(platform, PART, &postgres::checksums_unit(&config)).await?;
    Ok(true)
}

fn config(platform: &Platform, cluster: Cluster, until: &str) -> Result<postgres::ScratchConfig, Fault> {
    let layout = &platform.installation.layout;
    Ok(postgres::ScratchConfig {
        binaries: engines::postgres_binaries(platform, cluster).map_err(|error| Fault::of(PART, &error))?,
        directory: layout.scratch(),
        socket_directory: layout.scratch_socket(),
        port: platform.installation.postgres_port(cluster),
        identity: platform.installation.identities.postgres.clone(),
        from: layout.fetched(),
        conf: layout.cluster(cluster).join("conf"),
        until: until.to_owned(),
    })
}

/// The ways into the cluster that serves, and into the scratch cluster.
pub(super) fn access(
    platform: &Platform,
    cluster: Cluster,
) -> Result<(postgres::Access, postgres::Access), crate::credentials::CredentialError> {
    let live = engines::admin_access(platform, cluster)?;
    let scratch = postgres::Access {
        socket_directory: platform.installation.layout.scratch_socket(),
        ..live.clone()
    };
    Ok((live, scratch))
}

/// Stops the scratch cluster and removes its files, and what was fetched. Nothing there is no failure.
pub(crate) async fn clean(platform: &Platform) -> Result<(), Fault> {
    let supervised = |error: &_| Fault::of_supervisor(PART, error);
    let layout = &platform.installation.layout;
    for name in postgres::scratch_units() {
        platform
            .supervisor
            .remove(&name)
            .await
            .map_err(|error| supervised(&error))?;
    }
    let fetched = layout.fetched();
    if fetched.exists() {
        std::fs::remove_dir_all(&fetched).map_err(|error| Fault::of(PART, &error))?;
    }
    let folder = layout.scratch();
    if !folder.exists() {
        return Ok(());
    }
    // Its files are the engine's: a job of its user deletes them.
    let name = UnitName::new("postgres-scratch-remove").map_err(|error| Fault::of(PART, &error))?;
    let identity = platform.installation.identities.postgres.clone();
    let job = engines::removal(
        name.clone(),
        std::slice::from_ref(&folder),
        identity,
        REMOVE_TIMEOUT_MS,
    );
    platform
        .supervisor
        .remove(&name)
        .await
        .map_err(|error| supervised(&error))?;
    engines::start(platform, PART, &job).await?;
    platform
        .supervisor
        .remove(&name)
        .await
        .map_err(|error| supervised(&error))?;
    match std::fs::remove_dir(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Fault::of(PART, &error)),
        _ => Ok(()),
    }
}
