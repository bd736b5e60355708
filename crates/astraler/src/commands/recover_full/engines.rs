//! What the daemon would have: its database, the repository, the releases; and the data of each cluster.

use super::keys::Known;
use super::sets::Sets;
use super::{Work, failed_at, remove};
use crate::failure::{Failure, Kind, Outcome};
use crate::place::{self, Place};
use astraler_control::{Fault, Installation};
use astraler_host::keep::Client;
use astraler_host::supervisor::Supervisor;
use astraler_model::{Cluster, Identity};
use astraler_postgres as postgres;
use astraler_recovery::{
    Destination, RestoreError, fetch, fetch_set, plan_newest, plan_restore, timestamp, upload_spool,
};
use astraler_release::{Releases, directory_name};
use std::fs::File;
use std::os::unix::fs::{PermissionsExt, chown, lchown};
use std::path::Path;
use std::process::{Command, Stdio};

/// Folders, users, ports; then the database and the repository go where the daemon looks for them.
pub(super) fn place(place: &Place, work: &Work, known: &Known, port: Option<u16>) -> Outcome<String> {
    let config = &known.governing()?.config;
    let installation = place::prepare(place, config, port)?;
    let daemon = installation.identities.daemon.as_ref();
    let database = place.layout.control_database();
    let next = database.with_extension("recovered");
    std::fs::copy(work.installed(), &next).map_err(failed_at(&next))?;
    std::fs::set_permissions(&next, std::fs::Permissions::from_mode(0o600)).map_err(failed_at(&next))?;
    give(&next, daemon)?;
    File::open(&next)
        .and_then(|file| file.sync_all())
        .and_then(|()| std::fs::rename(&next, &database))
        .map_err(failed_at(&next))?;
    let repository = work.repository();
    if repository.is_dir() {
        let there = place.layout.repository(&config.name);
        give_all(&repository, daemon)?;
        std::fs::rename(&repository, &there).map_err(failed_at(&there))?;
    }
    if let Some(folder) = database.parent() {
        astraler_host::file::sync_dir(folder)?;
    }
    Ok(format!("http port {}", installation.ports.http))
}

/// Every release that serves.
pub(super) async fn releases(
    destination: &Destination,
    installation: &Installation,
    work: &Work,
    sets: &Sets,
    known: &Known,
) -> Outcome<String> {
    let folder = installation.layout.releases();
    let releases = Releases::prepare(&folder)?;
    let wanted = known.releases();
    for digest in &wanted {
        let name = directory_name(digest);
        let stored = sets.release(&name).ok_or_else(|| {
            Failure::new(
                Kind::General,
                format!("release {digest} serves, and is not at {}", destination.url()),
            )
            .hint("it goes there within a minute after its deployment: --to a time before that has the one before")
        })?;
        known.check(stored)?;
        let from = work.emptied("release")?;
        fetch_set(destination, stored, &from)
            .await
            .map_err(|error| Failure::of(&error).kind(Kind::Damaged))?;
        let tar = from.join("release.tar");
        let file = File::open(&tar).map_err(failed_at(&tar))?;
        let imported = releases.import(std::io::BufReader::new(file))?;
        if imported.digest != **digest {
            return Err(Failure::new(
                Kind::Damaged,
                format!("`{}` holds release {}, not {digest}", stored.key, imported.digest),
            ));
        }
    }
    give_all(&folder, installation.identities.daemon.as_ref())?;
    Ok(format!("{} releases", wanted.len()))
}

/// Base and log of a cluster become its data folder.
pub(super) async fn cluster(
    destination: &Destination,
    installation: &Installation,
    work: &Work,
    known: &Known,
    cluster: Cluster,
    to_ms: Option<u64>,
) -> Outcome<String> {
    let failed = |error: RestoreError| {
        Failure::of(&error).hint("`--dry-run` shows which times are possible, and what is there")
    };
    let (plan, reached) = match to_ms {
        Some(to_ms) => match plan_restore(destination, cluster.name(), to_ms).await {
            Ok(plan) => (plan, to_ms),
            Err(RestoreError::None { .. }) => return Ok(nothing(cluster)),
            Err(error) => return Err(failed(error)),
        },
        None => match plan_newest(destination, cluster.name()).await.map_err(failed)? {
            Some(plan) => plan,
            None => return Ok(nothing(cluster)),
        },
    };
    known.check(&plan.base)?;
    let layout = &installation.layout;
    let major: u32 = plan
        .base
        .set
        .postgres
        .split('.')
        .next()
        .and_then(|major| major.parse().ok())
        .ok_or_else(|| {
            Failure::new(
                Kind::Damaged,
                format!("`{}` does not say which PostgreSQL made it", plan.base.key),
            )
        })?;
    let binaries = installation
        .engines
        .postgres(major, major)
        .map_err(|error| Failure::of(&error).kind(Kind::Missing))?;
    let identity = installation.identities.postgres.as_ref();
    let folder = layout.fetched();
    remove(&folder)?;
    let group = identity.map(|identity| identity.gid);
    for path in [&folder, &folder.join("wal")] {
        astraler_host::file::make_dir(path, 0o750, None, group)?;
    }
    fetch(destination, &plan, &folder).await.map_err(|error| {
        let failure = Failure::of(&error);
        match error {
            RestoreError::Full { .. } => failure,
            _ => failure.kind(Kind::Damaged),
        }
    })?;
    readable(&folder, group)?;
    let config = postgres::RecoveryConfig {
        cluster,
        binaries,
        directory: layout.cluster(cluster),
        socket_directory: layout.postgres_socket(cluster),
        port: installation.postgres_port(cluster),
        identity: identity.cloned(),
        from: folder.clone(),
        until: to_ms.map(timestamp),
    };
    // The daemon writes its configuration there; the folder around it is the engine's.
    let daemon = installation.identities.daemon.as_ref().map(|daemon| daemon.uid);
    let conf = config.directory.join("conf");
    astraler_host::file::make_dir(&conf, if group.is_some() { 0o750 } else { 0o755 }, daemon, group)?;
    let unit = postgres::recovery_unit(&config);
    let keep = Client::new(layout.keep_socket());
    let supervised = |error: &_| super::super::up::failed(&Fault::of_supervisor(unit.name.as_str(), error));
    // One that a killed command has left begins anew.
    keep.remove(&unit.name)
        .await
        .map_err(|error| supervised(&error))?;
    keep.start(&unit).await.map_err(|error| supervised(&error))?;
    keep.remove(&unit.name)
        .await
        .map_err(|error| supervised(&error))?;
    let version = layout.cluster_version(cluster);
    astraler_host::file::replace(&version, major.to_string().as_bytes(), 0o644)?;
    if let Some(system) = &plan.base.set.system {
        histories(destination, installation, work, cluster, system).await?;
    }
    remove(&folder)?;
    Ok(format!(
        "base of {}, {} segments of its log, until {}",
        timestamp(plan.base.set.ended_ms),
        plan.wal.len(),
        timestamp(reached)
    ))
}

fn nothing(cluster: Cluster) -> String {
    format!("there is no base of postgres {cluster}: its databases begin empty")
}

/// What the new timeline came from goes to the destination before anything of it does: the next recovery chooses another
/// number, and no segment is there under one name twice.
async fn histories(
    destination: &Destination,
    installation: &Installation,
    work: &Work,
    cluster: Cluster,
    system: &str,
) -> Outcome {
    let spool = work.emptied("history")?;
    let logs = installation.layout.cluster(cluster).join("data/pg_wal");
    for entry in std::fs::read_dir(&logs).map_err(failed_at(&logs))? {
        let path = entry.map_err(failed_at(&logs))?.path();
        if path.extension().is_none_or(|extension| extension != "history") {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let packed = spool.join(format!("{name}.gz"));
        let from = File::open(&path).map_err(failed_at(&path))?;
        let into = File::create(&packed).map_err(failed_at(&packed))?;
        let status = Command::new("gzip")
            .args(["-n", "-c"])
            .stdin(Stdio::from(from))
            .stdout(into)
            .status()
            .map_err(|error| {
                Failure::of(&error)
                    .kind(Kind::Missing)
                    .context("gzip cannot be run")
            })?;
        if !status.success() {
            return Err(Failure::new(
                Kind::General,
                format!("{} cannot be packed", path.display()),
            ));
        }
    }
    upload_spool(destination, cluster.name(), system, &spool)
        .await
        .map_err(|error| Failure::of(&error))?;
    Ok(())
}

/// Lets the engine's user, and nobody else, read what was fetched.
fn readable(folder: &Path, group: Option<u32>) -> Outcome {
    for folder in [folder.to_owned(), folder.join("wal")] {
        for entry in std::fs::read_dir(&folder).map_err(failed_at(&folder))? {
            let path = entry.map_err(failed_at(&folder))?.path();
            if path.is_file() {
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640))
                    .and_then(|()| chown(&path, None, group))
                    .map_err(failed_at(&path))?;
            }
        }
    }
    Ok(())
}

fn give(path: &Path, to: Option<&Identity>) -> Outcome {
    match to {
        Some(to) => lchown(path, Some(to.uid), Some(to.gid)).map_err(failed_at(path)),
        None => Ok(()),
    }
}

/// With all that is below.
fn give_all(path: &Path, to: Option<&Identity>) -> Outcome {
    if to.is_none() {
        return Ok(());
    }
    let mut queue = vec![path.to_owned()];
    while let Some(path) = queue.pop() {
        let metadata = std::fs::symlink_metadata(&path).map_err(failed_at(&path))?;
        if metadata.is_dir() {
            for entry in std::fs::read_dir(&path).map_err(failed_at(&path))? {
                queue.push(entry.map_err(failed_at(&path))?.path());
            }
        }
        give(&path, to)?;
    }
    Ok(())
}
