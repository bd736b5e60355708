//! A private Redis for a test, and the unit's own tests.

use astraler_model::{Environment, Identity};
use astraler_redis::{ClientError, InstanceConfig, USER, configuration_files, find_binary, ping, unit};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub(crate) const PASSWORD: &str = "redis \"password\"";
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const CONTROL_PASSWORD: &str = "control password";
const NOBODY: u32 = 65_534;

pub(crate) struct Instance {
    pub(crate) config: InstanceConfig,
    folder: tempfile::TempDir,
    server: Option<Child>,
}

impl Instance {
    pub(crate) fn stopped() -> Self {
        let folder = tempfile::Builder::new().prefix("redis").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let root = fs::metadata("/proc/self").unwrap().uid() == 0;
        let config = InstanceConfig {
            environment: Environment::Preview(7),
            binary: find_binary().unwrap(),
            directory: folder.path().join("with space"),
            socket: folder.path().join("run/redis.sock"),
            identity: root.then(|| Identity {
                uid: NOBODY,
                gid: NOBODY,
                groups: vec![],
            }),
            maxmemory_bytes: 64 << 20,
            maxmemory_policy: "noeviction".into(),
            appendfsync: "always".into(),
            acl_file: folder.path().join("conf/users.acl"),
        };
        fs::create_dir_all(folder.path().join("conf")).unwrap();
        for file in configuration_files(&config, PASSWORD, CONTROL_PASSWORD) {
            assert!(!file.contents.contains(PASSWORD));
            let path = folder.path().join("conf").join(file.name);
            fs::write(&path, file.contents).unwrap();
            if root {
                chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        Self {
            config,
            folder,
            server: None,
        }
    }

    pub(crate) async fn running() -> Self {
        let mut instance = Self::stopped();
        instance.start();
        ping(&instance.config.socket, USER, PASSWORD, SECOND * 20)
            .await
            .unwrap();
        instance
    }

    pub(crate) fn start(&mut self) {
        let unit = unit(&self.config);
        for directory in &unit.directories {
            fs::create_dir_all(&directory.path).unwrap();
            fs::set_permissions(&directory.path, fs::Permissions::from_mode(directory.mode)).unwrap();
            if let Some(identity) = &unit.identity {
                chown(&directory.path, Some(identity.uid), Some(identity.gid)).unwrap();
            }
        }
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some(identity) = &unit.identity {
            command.args(["--clear-groups", "--reuid", &identity.uid.to_string()]);
            command.args(["--regid", &identity.gid.to_string()]);
        }
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .unwrap();
        command
            .args(&unit.argv)
            .env_clear()
            .envs(&unit.env)
            .current_dir("/");
        self.server = Some(command.stdin(Stdio::null()).stdout(log).spawn().unwrap());
    }

    pub(crate) fn stop(&mut self, signal: &str) {
        if let Some(mut server) = self.server.take() {
            assert!(
                Command::new("kill")
                    .args([signal, &server.id().to_string()])
                    .status()
                    .unwrap()
                    .success()
            );
            server.wait().unwrap();
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.stop("-KILL");
        if std::thread::panicking() {
            eprintln!(
                "{}",
                fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
            );
        }
    }
}

#[tokio::test]
async fn ping_waits_for_the_server_but_not_with_a_wrong_password() {
    let mut instance = Instance::stopped();
    let socket = instance.config.socket.clone();
    let error = ping(&socket, USER, PASSWORD, SECOND / 5).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    instance.start();
    ping(&socket, USER, PASSWORD, SECOND * 20).await.unwrap();
    let started = std::time::Instant::now();
    let error = ping(&socket, USER, "wrong", SECOND * 20).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { .. }), "{error}");
    assert!(started.elapsed() < SECOND * 5);
    let mode = fs::metadata(&socket).unwrap().mode() & 0o777;
    assert_eq!(mode, 0o770);
}
