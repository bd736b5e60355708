//! A platform in a temporary folder, and the questions that tests ask of it.

use astraler_host::keep::{Client, SOCKET};
use astraler_host::process;
use astraler_host::supervisor::Supervisor;
use astraler_model::{UnitName, UnitPhase, UnitSpec, UnitStatus};
use serde_json::{Value, json};
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) const UNIT: &str = env!("CARGO_BIN_EXE_host-test-unit");

pub(crate) struct Platform {
    folder: tempfile::TempDir,
    child: Option<Child>,
    /// The test binary, where the user of `keep` can execute it.
    pub(crate) program: String,
    user: Option<u32>,
    pub(crate) client: Client,
}

impl Platform {
    pub(crate) async fn start() -> Self {
        Self::start_as(None).await
    }

    /// A platform whose `keep` runs as this user. Another one than ours needs root.
    pub(crate) async fn start_as(user: Option<u32>) -> Self {
        let folder = tempfile::Builder::new().prefix("k").tempdir().unwrap();
        // Units with an identity of their own enter it.
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let client = Client::new(folder.path().join("run").join(SOCKET));
        let mut program = UNIT.to_owned();
        if user.is_some() {
            let copy = folder.path().join("program");
            std::fs::copy(UNIT, &copy).unwrap();
            program = copy.display().to_string();
            std::os::unix::fs::chown(folder.path(), user, user).unwrap();
        }
        let mut platform = Self {
            folder,
            child: None,
            program,
            user,
            client,
        };
        platform.keep().await;
        platform
    }

    /// Starts another `keep` on the same state, and waits until it answers.
    pub(crate) async fn keep(&mut self) {
        let mut command = Command::new(&self.program);
        if let Some(user) = self.user {
            std::os::unix::process::CommandExt::uid(&mut command, user);
            std::os::unix::process::CommandExt::gid(&mut command, user);
        }
        let child = command
            .arg("keep")
            .arg(self.path("state"))
            .arg(self.path("run"))
            .env("ASTRALER_TEST_GATE", self.path("gate"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        until("keep answers", async || self.client.list().await.is_ok()).await;
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The process id of the active `keep`, as its lock says.
    pub(crate) fn keep_pid(&self) -> Option<u32> {
        let text = std::fs::read_to_string(self.path("state/keep/lock")).ok()?;
        text.split(' ')
            .next()?
            .parse()
            .ok()
            .filter(|pid| process::is_alive(*pid))
    }

    /// Every `keep` of this platform: the active one and its standby.
    pub(crate) fn keeps(&self) -> Vec<u32> {
        let state = self.path("state").display().to_string();
        pids_with(&[&self.program, "keep", &state])
    }

    /// Every process of the test binary whose command has this word.
    pub(crate) fn units_with(&self, word: &str) -> Vec<u32> {
        pids_with(&[&self.program, word])
    }

    pub(crate) async fn kill_keep(&mut self) -> u32 {
        let pid = self.keep_pid().unwrap();
        self.kill(pid);
        pid
    }

    pub(crate) fn kill(&mut self, pid: u32) {
        signal(pid, 9);
        if let Some(mut child) = self.child.take_if(|child| child.id() == pid) {
            child.wait().unwrap();
        }
    }

    pub(crate) async fn status(&self, name: &str) -> UnitStatus {
        let units = self.client.list().await.unwrap();
        units.into_iter().find(|unit| unit.name.as_str() == name).unwrap()
    }

    pub(crate) async fn until_phase(&self, name: &str, phase: UnitPhase) -> UnitStatus {
        until(&format!("{name} is {phase:?}"), async || {
            self.status(name).await.phase == phase
        })
        .await;
        self.status(name).await
    }

    /// What the unit wrote, without the times.
    pub(crate) fn lines(&self, name: &str) -> Vec<String> {
        let lines = astraler_host::logs::tail(self.path("state/logs"), &unit_name(name), 1_000_000).unwrap();
        lines
            .into_iter()
            .map(|line| line.split_once(' ').unwrap().1.to_owned())
            .collect()
    }

    pub(crate) async fn until_line(&self, name: &str, start: &str) -> String {
        until(&format!("{name} says {start}"), async || {
            self.lines(name).iter().any(|line| line.starts_with(start))
        })
        .await;
        self.lines(name)
            .into_iter()
            .find(|line| line.starts_with(start))
            .unwrap()
    }

    pub(crate) async fn shutdown(&mut self) {
        self.client.shutdown().await.unwrap();
        if let Some(mut child) = self.child.take() {
            assert!(child.wait().unwrap().success());
        }
        until("every keep is gone", async || self.keeps().is_empty()).await;
    }
}

impl Drop for Platform {
    /// A test that failed may have left anything: `keep` knows it, and ends it.
    fn drop(&mut self) {
        let folder_used = exists(self.path("state/keep/units.json"));
        if folder_used && self.keep_pid().is_none() && self.child.is_none() {
            let _ = std::fs::remove_file(self.path("run/keep.sock"));
            let child = Command::new(UNIT)
                .arg("keep")
                .arg(self.path("state"))
                .arg(self.path("run"))
                .spawn();
            self.child = child.ok();
            wait_until(|| exists(self.path("run/keep.sock")));
        }
        if let Some(pid) = self.keep_pid() {
            signal(pid, 15);
            wait_until(|| {
                let _ = self.child.as_mut().map(|child| child.try_wait());
                self.keeps().is_empty()
            });
        }
        for pid in self.keeps() {
            signal(pid, 9);
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }
}

fn wait_until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !condition() && Instant::now() < deadline {
        #[expect(
            clippy::disallowed_methods,
            reason = "a destructor cannot await, and the test is over"
        )]
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn unit_name(name: &str) -> UnitName {
    UnitName::new(name).unwrap()
}

/// A unit that runs the test binary with these arguments; `more` is merged into its description.
pub(crate) fn unit(name: &str, arguments: &[&str], more: impl std::borrow::Borrow<Value>) -> UnitSpec {
    let mut argv = vec![UNIT];
    argv.extend(arguments);
    let mut spec = json!({ "name": name, "argv": argv });
    for (key, value) in more.borrow().as_object().unwrap() {
        spec[key] = value.clone();
    }
    serde_json::from_value(spec).unwrap()
}

/// A unit that answers on this address, ready when it says so.
pub(crate) fn server(name: &str, address: SocketAddr, delay_ms: u64) -> UnitSpec {
    let more = json!({
        "listeners": [{ "name": "http", "address": { "tcp": address } }],
        "ready": { "line": { "timeout_ms": 10_000 } },
    });
    unit(name, &["serve", &delay_ms.to_string()], more)
}

/// A port that was free just now, below those that the kernel gives to clients, so that no connection of another test
/// takes it while nobody listens.
pub(crate) fn free_address() -> SocketAddr {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(std::process::id());
    let port = 10_000 + u16::try_from(random % 20_000).unwrap();
    astraler_host::port::next_free(SocketAddr::from(([127, 0, 0, 1], port))).unwrap()
}

pub(crate) fn signal(pid: u32, number: i32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::from_named_raw(number).unwrap());
}

/// Waits for a condition, at most 20 seconds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(Instant::now() < deadline, "not in 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn exists(path: impl AsRef<Path>) -> bool {
    path.as_ref().symlink_metadata().is_ok()
}

fn pids_with(words: &[&str]) -> Vec<u32> {
    let has = |pid: &u32| {
        process::command(*pid).is_some_and(|command| {
            let found: Vec<&str> = command.split(' ').collect();
            found.get(..words.len()).is_some_and(|found| found == words)
        })
    };
    process::pids()
        .filter(has)
        .filter(|pid| process::is_alive(*pid))
        .collect()
}
