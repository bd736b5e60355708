//! A private cluster for a test.

use astraler_model::{Cluster, Environment, Identity, UnitSpec};
use astraler_postgres::{
    Access, ClusterConfig, DatabaseSpec, Machine, SUPERUSER, configuration_files, ensure_database,
    find_binaries, initdb_unit, server_unit, wait_ready,
};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

pub(crate) const PASSWORD: &str = "superuser's password: naïve?";
const NOBODY: u32 = 65_534;

pub(crate) struct TestCluster {
    pub(crate) config: ClusterConfig,
    pub(crate) folder: tempfile::TempDir,
    server: Option<Child>,
}

impl TestCluster {
    /// Initialised, not started.
    pub(crate) fn stopped() -> Self {
        let cluster = Self::empty();
        let data = cluster.config.data_directory();
        let template = template(&cluster.config);
        let status = Command::new("cp")
            .arg("-a")
            .arg(&template)
            .arg(&data)
            .status()
            .unwrap();
        assert!(status.success());
        cluster
    }

    /// A folder with configuration and no data.
    pub(crate) fn empty() -> Self {
        let folder = tempfile::Builder::new().prefix("pg").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let root = fs::metadata("/proc/self")
            .map(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
            .unwrap();
        let config = ClusterConfig {
            cluster: Cluster::Shared,
            binaries: find_binaries(14, 18).unwrap(),
            directory: folder.path().join("shared"),
            socket_directory: folder.path().join("run"),
            port: 5_432,
            listen_loopback: false,
            identity: root.then(|| Identity {
                uid: NOBODY,
                gid: NOBODY,
                groups: vec![],
            }),
            superuser_password_file: folder.path().join("superuser"),
            max_connections: 60,
            machine: Machine {
                memory_bytes: 2 << 30,
                cores: 2,
            },
            share: 0.25,
            archive: None,
        };
        fs::create_dir_all(config.conf_directory()).unwrap();
        for (name, contents) in configuration_files(&config) {
            fs::write(config.conf_directory().join(name), contents).unwrap();
        }
        fs::write(&config.superuser_password_file, PASSWORD).unwrap();
        let cluster = Self {
            config,
            folder,
            server: None,
        };
        cluster.own(&cluster.config.superuser_password_file);
        cluster
    }

    /// Initialised, started, ready.
    pub(crate) async fn running() -> Self {
        let mut cluster = Self::stopped();
        cluster.start().await;
        cluster
    }

    pub(crate) async fn start(&mut self) {
        assert!(self.server.is_none());
        self.server = Some(self.command(&server_unit(&self.config)).spawn().unwrap());
        wait_ready(&self.admin(), Duration::from_secs(30)).await.unwrap();
    }

    pub(crate) fn stop(&mut self, signal: &str) -> Option<ExitStatus> {
        let mut server = self.server.take()?;
        let pid = server.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
        Some(server.wait().unwrap())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.server.as_ref().unwrap().id()
    }

    pub(crate) fn admin(&self) -> Access {
        Access {
            socket_directory: self.config.socket_directory.clone(),
            port: self.config.port,
            database: "postgres".into(),
            user: SUPERUSER.into(),
            password: PASSWORD.into(),
        }
    }

    pub(crate) fn spec(&self, environment: Environment) -> DatabaseSpec {
        let name = environment.identifier();
        DatabaseSpec {
            environment,
            owner: format!("{name}_owner"),
            owner_password: format!("{name} owner's"),
            service: format!("{name}_service"),
            service_password: format!("{name} service's"),
            statement_timeout_ms: 30_000,
        }
    }

    /// Makes an environment's database and says how its owner and its service get in.
    pub(crate) async fn environment(&self, environment: Environment) -> (Access, Access) {
        let spec = self.spec(environment);
        ensure_database(&self.admin(), &spec).await.unwrap();
        let database = environment.identifier();
        let admin = self.admin();
        (
            admin.with(&database, &spec.owner, &spec.owner_password),
            admin.with(&database, &spec.service, &spec.service_password),
        )
    }

    /// What the supervisor would run, with a death signal so that an aborted test leaves nothing behind.
    pub(crate) fn command(&self, unit: &UnitSpec) -> Command {
        for directory in &unit.directories {
            fs::create_dir_all(&directory.path).unwrap();
            fs::set_permissions(&directory.path, fs::Permissions::from_mode(directory.mode)).unwrap();
            self.own(&directory.path);
        }
        let credentials = self.folder.path().join("credentials");
        fs::create_dir_all(&credentials).unwrap();
        for credential in &unit.credentials {
            let target = credentials.join(&credential.name);
            fs::copy(&credential.source, &target).unwrap();
            self.own(&target);
        }
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "QUIT"]);
        if let Some(identity) = &unit.identity {
            command.args(["--clear-groups", "--reuid", &identity.uid.to_string()]);
            command.args(["--regid", &identity.gid.to_string()]);
        }
        command
            .args(&unit.argv)
            .env_clear()
            .envs(&unit.env)
            .env("CREDENTIALS_DIRECTORY", &credentials)
            .current_dir(unit.cwd.as_deref().unwrap_or(Path::new("/")))
            .stdin(Stdio::null())
            .stdout(fs::File::create(self.folder.path().join("stdout")).unwrap())
            .stderr(
                fs::File::options()
                    .create(true)
                    .append(true)
                    .open(self.log())
                    .unwrap(),
            );
        command
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder.path().join("stderr")
    }

    pub(crate) fn own(&self, path: &Path) {
        if let Some(identity) = &self.config.identity {
            chown(path, Some(identity.uid), Some(identity.gid)).unwrap();
        }
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        self.stop("-QUIT");
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.log()).unwrap_or_default());
        }
    }
}

/// The data folder that `initdb_unit` makes, once for all tests of this build: it takes seconds.
fn template(config: &ClusterConfig) -> PathBuf {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(tmp).unwrap();
    let lock = fs::File::create(tmp.join("astraler-postgres-template.lock")).unwrap();
    lock.lock().unwrap();
    let mut key = initdb_unit(config);
    key.argv
        .retain(|argument| !argument.contains(&*config.directory.to_string_lossy()));
    key.directories.clear();
    key.credentials.clear();
    let path = tmp.join(format!("astraler-postgres-{}", &key.digest()[..16]));
    if !path.exists() {
        let cluster = TestCluster::empty();
        let status = cluster.command(&initdb_unit(&cluster.config)).status().unwrap();
        assert!(status.success(), "{}", fs::read_to_string(cluster.log()).unwrap());
        let partial = path.with_extension("partial");
        let _ = fs::remove_dir_all(&partial);
        let data = cluster.config.data_directory();
        assert!(
            Command::new("cp")
                .arg("-a")
                .arg(data)
                .arg(&partial)
                .status()
                .unwrap()
                .success()
        );
        fs::rename(&partial, &path).unwrap();
    }
    path
}
