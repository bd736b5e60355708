//! Engines made ready: a cluster, a database, a Redis. Every function is idempotent and says whether it found
//! work.

use crate::credentials::EnvironmentSecrets;
use crate::platform::Platform;
use crate::words::{Application, Fault, StepOutcome};
use astraler_host::supervisor::Started;
use astraler_manifest::Config;
use astraler_model::{
    Cluster, Environment, LogPolicy, Ready, ResourceLimits, RestartPolicy, StopPolicy, UnitName, UnitPhase,
    UnitSpec,
};
use astraler_postgres as postgres;
use astraler_redis as redis;
use std::path::Path;
use std::time::Duration;

/// Oldest and newest major version that the platform runs.
pub const POSTGRES_VERSIONS: (u32, u32) = (14, 18);

const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a starting engine's process is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The share of the machine's memory that one cluster may plan with: there are two, and the rest of the
/// platform lives beside them.
const MEMORY_SHARE: f32 = 0.25;

/// Segments that wait for the destination of backups: 4 GiB, before compression.
const MAX_SPOOLED_SEGMENTS: u32 = 256;

/// How a step ended, with a few words for people.
pub(crate) type Step = Result<(StepOutcome, String), Fault>;

/// Creates the cluster if there is none, starts it, waits until it answers.
pub(crate) async fn cluster(platform: &Platform, cluster: Cluster, settings: &Config) -> Step {
    let part = format!("postgres {cluster}");
    let fault = |error: &dyn std::error::Error| Fault::of(&part, error);
    let binaries = postgres_binaries(platform, cluster).map_err(|error| fault(&error))?;
    let major = binaries.major;
    let version = binaries.version.clone();
    let config = config_of(platform, cluster, binaries, settings);
    let password = platform
        .credentials
        .cluster_superuser(cluster)
        .map_err(|error| fault(&error))?;
    platform
        .credentials
        .hand_over(&config.superuser_password_file, &password)
        .map_err(|error| fault(&error))?;
    let folder = platform.installation.layout.cluster(cluster).join("conf");
    let changed_files = write_configuration(
        platform,
        &folder,
        postgres::configuration_files(&config),
        platform
            .installation
            .identities
            .postgres
            .as_ref()
            .map(|identity| identity.gid),
    )
    .map_err(|error| fault(&error))?;
    let initdb = postgres::initdb_unit(&config);
    platform
        .supervisor
        .remove(&initdb.name)
        .await
        .map_err(|error| Fault::of_supervisor(&part, &error))?;
    start(platform, &part, &initdb).await?;
    // A job that has done its work is nothing to look after.
    platform
        .supervisor
        .remove(&initdb.name)
        .await
        .map_err(|error| Fault::of_supervisor(&part, &error))?;
    let server = postgres::server_unit(&config);
    let started = start(platform, &part, &server).await?;
    let admin = admin_access(platform, cluster).map_err(|error| fault(&error))?;
    while_running(
        platform,
        &part,
        &server,
        postgres::wait_ready(&admin, READY_TIMEOUT),
    )
    .await?;
    let version_file = platform.installation.layout.cluster_version(cluster);
    if !version_file.exists() {
        astraler_host::file::replace(&version_file, major.to_string().as_bytes(), 0o644)
            .map_err(|error| fault(&error))?;
    }
    Ok((
        outcome(changed_files || matches!(started, Started::Fresh(_))),
        format!("PostgreSQL {version}"),
    ))
}

/// The installed PostgreSQL that made the cluster, or for a new one the newest.
pub(crate) fn postgres_binaries(
    platform: &Platform,
    cluster: Cluster,
) -> Result<postgres::Binaries, postgres::BinariesError> {
    let recorded = std::fs::read_to_string(platform.installation.layout.cluster_version(cluster));
    let made_by = recorded.ok().and_then(|text| text.trim().parse().ok());
    let (min, max) = made_by.map_or(POSTGRES_VERSIONS, |major| (major, major));
    platform.installation.engines.postgres(min, max)
}

/// Creates or repairs the environment's roles and database.
pub(crate) async fn database(
    platform: &Platform,
    environment: Environment,
    secrets: &EnvironmentSecrets,
    application: &Application,
) -> Step {
    let part = format!("database {environment}");
    let fault = |error: &dyn std::error::Error| Fault::of(&part, error);
    let admin = admin_access(platform, environment.cluster()).map_err(|error| fault(&error))?;
    let timeout = application.config.database.statement_timeout_ms;
    let spec = database_spec(environment, secrets, timeout);
    let changes = postgres::ensure_database(&admin, &spec)
        .await
        .map_err(|error| fault(&error))?;
    Ok((outcome(changes.any()), environment.identifier()))
}

/// Applies the release's migrations. Where that fails, the schema is as it was: see [`postgres::migrate`].
pub(crate) async fn migrate(
    platform: &Platform,
    environment: Environment,
    secrets: &EnvironmentSecrets,
    application: &Application,
) -> Step {
    let part = format!("migrate {environment}");
    let fault = |error: &dyn std::error::Error| Fault::of(&part, error);
    let Some(folder) = &application.migrations else {
        return Ok((StepOutcome::Unchanged, "no migrations".to_owned()));
    };
    let migrations = postgres::read_migrations(folder).map_err(|error| fault(&error))?;
    let admin = admin_access(platform, environment.cluster()).map_err(|error| fault(&error))?;
    let owner = admin.with(
        &environment.identifier(),
        &owner_role(environment),
        secrets.postgres_owner.expose(),
    );
    let applied = postgres::migrate(&owner, &migrations)
        .await
        .map_err(|error| fault(&error))?;
    let detail = format!(
        "{} migrations applied, {} already there",
        applied.applied.len(),
        applied.already
    );
    Ok((outcome(!applied.applied.is_empty()), detail))
}

/// What the environment's database must look like.
pub(crate) fn database_spec(
    environment: Environment,
    secrets: &EnvironmentSecrets,
    statement_timeout_ms: u64,
) -> postgres::DatabaseSpec {
    postgres::DatabaseSpec {
        environment,
        owner: owner_role(environment),
        owner_password: secrets.postgres_owner.expose().to_owned(),
        service: service_role(environment),
        service_password: secrets.postgres_service.expose().to_owned(),
        statement_timeout_ms,
    }
}

/// Starts the environment's Redis.
pub(crate) async fn redis(
    platform: &Platform,
    environment: Environment,
    secrets: &EnvironmentSecrets,
    application: &Application,
) -> Step {
    let part = format!("redis {environment}");
    let fault = |error: &dyn std::error::Error| Fault::of(&part, error);
    let config = redis_config(platform, environment, application).map_err(|error| fault(&error))?;
    let folder = config.directory.clone();
    let files = redis::configuration_files(
        &config,
        secrets.redis_password.expose(),
        secrets.redis_control_password.expose(),
    )
    .into_iter()
    .map(|file| (file.name, file.contents))
    .collect();
    let group = platform
        .installation
        .identities
        .redis
        .as_ref()
        .map(|identity| identity.gid);
    let changed_files =
        write_configuration(platform, &folder.join("conf"), files, group).map_err(|error| fault(&error))?;
    let unit = redis::unit(&config);
    let started = if changed_files {
        // Redis reads its files at start only.
        platform.supervisor.stop(&unit.name).await.ok();
        start(platform, &part, &unit).await?
    } else {
        start(platform, &part, &unit).await?
    };
    let password = secrets.redis_password.expose();
    let answers = redis::ping(&config.socket, redis::USER, password, READY_TIMEOUT);
    while_running(platform, &part, &unit, answers).await?;
    let detail = format!("{} {}", config.binary.flavour, config.binary.version);
    Ok((
        outcome(changed_files || matches!(started, Started::Fresh(_))),
        detail,
    ))
}

/// An environment's Redis as an application wants it. Touches nothing.
pub(crate) fn redis_config(
    platform: &Platform,
    environment: Environment,
    application: &Application,
) -> Result<redis::InstanceConfig, redis::BinaryError> {
    let layout = &platform.installation.layout;
    let folder = layout.redis(environment);
    Ok(redis::InstanceConfig {
        environment,
        binary: platform.installation.engines.redis()?,
        socket: layout.redis_socket(environment),
        identity: platform.installation.identities.redis.clone(),
        maxmemory_bytes: application.config.redis.maxmemory_bytes,
        maxmemory_policy: application.config.redis.maxmemory_policy.to_string(),
        appendfsync: application.config.redis.appendfsync.to_string(),
        acl_file: folder.join("conf/users.acl"),
        directory: folder,
    })
}

/// Name of a cluster's server.
pub(crate) fn cluster_unit(cluster: Cluster) -> Result<UnitName, astraler_model::UnitNameError> {
    UnitName::new(format!("postgres-{cluster}"))
}

/// Name of an environment's Redis.
pub(crate) fn redis_unit(environment: Environment) -> Result<UnitName, astraler_model::UnitNameError> {
    UnitName::new(format!("redis-{environment}"))
}

/// Longest removal of a Redis's files.
const REMOVE_TIMEOUT_MS: u64 = 60_000;

/// Removes an environment's Redis with its data. Its files are another user's: a job of that user deletes them.
pub(crate) async fn remove_redis(platform: &Platform, environment: Environment) -> Result<(), Fault> {
    let part = format!("redis {environment}");
    let layout = &platform.installation.layout;
    let supervised = |error: &_| Fault::of_supervisor(&part, error);
    let named = |name: String| UnitName::new(name).map_err(|error| Fault::of(&part, &error));
    let unit = redis_unit(environment).map_err(|error| Fault::of(&part, &error))?;
    platform
        .supervisor
        .remove(&unit)
        .await
        .map_err(|error| supervised(&error))?;
    let data = layout.redis(environment);
    let mut folders = vec![data.clone()];
    folders.extend(layout.redis_socket(environment).parent().map(Path::to_owned));
    folders.retain(|folder| folder.exists());
    if folders.is_empty() {
        return Ok(());
    }
    // What the daemon wrote it removes itself; the folder around it is Redis's.
    for entry in std::fs::read_dir(data.join("conf"))
        .into_iter()
        .flatten()
        .flatten()
    {
        astraler_host::file::remove_if_present(entry.path()).map_err(|error| Fault::of(&part, &error))?;
    }
    let job = removal(
        named(format!("remove-redis-{environment}"))?,
        &folders,
        platform.installation.identities.redis.clone(),
        REMOVE_TIMEOUT_MS,
    );
    platform
        .supervisor
        .remove(&job.name)
        .await
        .map_err(|error| supervised(&error))?;
    start(platform, &part, &job).await?;
    platform
        .supervisor
        .remove(&job.name)
        .await
        .map_err(|error| supervised(&error))?;
    for folder in folders {
        if let Err(error) = std::fs::remove_dir(&folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(Fault {
                part,
                message: format!("{} cannot be removed: {error}", folder.display()),
                log: vec![],
                hint: None,
            });
        }
    }
    Ok(())
}

/// A job of an engine's user that empties folders whose files are that user's.
pub(crate) fn removal(
    name: UnitName,
    folders: &[std::path::PathBuf],
    identity: Option<astraler_model::Identity>,
    timeout_ms: u64,
) -> UnitSpec {
    let mut argv = vec!["/usr/bin/find".to_owned()];
    argv.extend(folders.iter().map(|folder| folder.display().to_string()));
    argv.extend(["-mindepth", "1", "-delete"].map(String::from));
    UnitSpec {
        name,
        argv,
        env: [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into(),
        cwd: None,
        identity,
        directories: vec![],
        credentials: vec![],
        stdin: None,
        listeners: vec![],
        ready: Ready::Exited { timeout_ms },
        restart: RestartPolicy::Never,
        stop: StopPolicy::default(),
        limits: ResourceLimits::default(),
        log: LogPolicy::default(),
    }
}

/// Drops an environment's database and roles.
pub(crate) async fn remove_database(platform: &Platform, environment: Environment) -> Result<(), Fault> {
    let part = format!("database {environment}");
    let fault = |error: &dyn std::error::Error| Fault::of(&part, error);
    let admin = admin_access(platform, environment.cluster()).map_err(|error| fault(&error))?;
    let spec = postgres::DatabaseSpec {
        environment,
        owner: owner_role(environment),
        owner_password: String::new(),
        service: service_role(environment),
        service_password: String::new(),
        statement_timeout_ms: 0,
    };
    postgres::drop_database(&admin, &spec)
        .await
        .map_err(|error| fault(&error))
}

/// Starts one unit and turns its failure into a fault with its last log lines.
pub(crate) async fn start(platform: &Platform, part: &str, unit: &UnitSpec) -> Result<Started, Fault> {
    platform
        .supervisor
        .start(unit)
        .await
        .map_err(|error| Fault::of_supervisor(part, &error))
}

/// Waits until an engine answers, unless its process ends: then its last lines say why.
pub(crate) async fn while_running<E: std::error::Error>(
    platform: &Platform,
    part: &str,
    unit: &UnitSpec,
    answers: impl Future<Output = Result<(), E>>,
) -> Result<(), Fault> {
    let ended = async {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            match crate::status::unit(platform, &unit.name).await {
                Ok(Some(status)) if matches!(status.phase, UnitPhase::Backoff | UnitPhase::Failed) => {
                    return status.last_exit.unwrap_or_else(|| "it ended".into());
                }
                // `keep` may be changing hands; the wait for the answer is bounded.
                _ => {}
            }
        }
    };
    tokio::select! {
        biased;
        answer = answers => answer.map_err(|error| Fault::of(part, &error)),
        exit = ended => Err(Fault {
            part: part.to_owned(),
            message: format!("{} ended while it was starting: {exit}", unit.name),
            log: platform.last_log_lines(&unit.name),
            hint: Some(format!("`astraler logs {}` shows all that it wrote", unit.name)),
        }),
    }
}

/// The least-privilege role of an environment's services.
pub(crate) fn service_role(environment: Environment) -> String {
    format!("{}_service", environment.identifier())
}

pub(crate) fn owner_role(environment: Environment) -> String {
    format!("{}_owner", environment.identifier())
}

pub(crate) fn outcome(changed: bool) -> StepOutcome {
    if changed {
        StepOutcome::Changed
    } else {
        StepOutcome::Unchanged
    }
}

pub(crate) fn admin_access(
    platform: &Platform,
    cluster: Cluster,
) -> Result<postgres::Access, crate::credentials::CredentialError> {
    Ok(postgres::Access {
        socket_directory: platform.installation.layout.postgres_socket(cluster),
        port: platform.installation.postgres_port(cluster),
        database: "postgres".into(),
        user: postgres::SUPERUSER.into(),
        password: platform
            .credentials
            .cluster_superuser(cluster)?
            .expose()
            .to_owned(),
    })
}

/// A cluster as a configuration wants it. Touches nothing.
pub(crate) fn cluster_config(
    platform: &Platform,
    cluster: Cluster,
    settings: &Config,
) -> Result<postgres::ClusterConfig, postgres::BinariesError> {
    let binaries = postgres_binaries(platform, cluster)?;
    Ok(config_of(platform, cluster, binaries, settings))
}

fn config_of(
    platform: &Platform,
    cluster: Cluster,
    binaries: postgres::Binaries,
    settings: &Config,
) -> postgres::ClusterConfig {
    let layout = &platform.installation.layout;
    postgres::ClusterConfig {
        cluster,
        binaries,
        directory: layout.cluster(cluster),
        socket_directory: layout.postgres_socket(cluster),
        port: platform.installation.postgres_port(cluster),
        listen_loopback: true,
        identity: platform.installation.identities.postgres.clone(),
        superuser_password_file: layout.secret(&format!("postgres-{cluster}-superuser")),
        max_connections: settings.database.max_connections,
        machine: platform.machine,
        share: MEMORY_SHARE,
        archive: settings.backups.archives().then(|| postgres::ArchiveConfig {
            spool: layout.wal_spool(cluster),
            // Twice as often as what may be lost: the segment has still to be taken away.
            timeout_s: (settings.recovery.recovery_point_s / 2).max(1),
            max_segments: MAX_SPOOLED_SEGMENTS,
        }),
    }
}

/// Writes the files that differ; says whether any did.
fn write_configuration(
    platform: &Platform,
    folder: &Path,
    files: Vec<(String, String)>,
    group: Option<u32>,
) -> Result<bool, astraler_host::file::FileError> {
    use astraler_host::file;
    platform.make_dir_for(folder, group)?;
    let mut changed = false;
    for (name, contents) in files {
        let path = folder.join(name);
        if std::fs::read(&path).is_ok_and(|present| present == contents.as_bytes()) {
            continue;
        }
        file::replace_owned(&path, contents.as_bytes(), 0o640, group)?;
        changed = true;
    }
    Ok(changed)
}
