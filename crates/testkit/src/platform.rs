//! One platform: its folders, its port, and the program that acts on it. Dropping it stops everything.

use crate::http::{self, Answer};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Tells the platforms of one test process apart.
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A platform of its own folders and port.
#[derive(Debug)]
pub struct Platform {
    root: tempfile::TempDir,
    program: PathBuf,
    application: PathBuf,
    /// Port of the edge.
    pub port: u16,
}

/// How a run of the program ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// How long it took.
    pub took: Duration,
}

impl Finished {
    /// Fails the test unless the run succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(
            self.code, 0,
            "it failed\n--- out\n{}\n--- err\n{}",
            self.out, self.err
        );
        self
    }

    /// Fails the test unless the run ended with this code.
    #[track_caller]
    pub fn failed_with(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "another end\n--- out\n{}\n--- err\n{}",
            self.out, self.err
        );
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        match serde_json::from_str(&self.out) {
            Ok(value) => value,
            Err(error) => panic!("no JSON ({error}): {}", self.out),
        }
    }
}

impl Platform {
    /// Makes the folders and lets `write` fill the application's. Starts nothing.
    pub fn new(program: impl Into<PathBuf>, write: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<Self> {
        // Engines run as users of their own when the tests run as root: they must be able to get here.
        let root = tempfile::Builder::new()
            .prefix("astraler-")
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir_in("/tmp")?;
        let application = root.path().join("app");
        std::fs::create_dir(&application)?;
        write(&application)?;
        Ok(Self {
            application,
            program: program.into(),
            port: free_port(),
            root,
        })
    }

    /// Uses an application that stands elsewhere.
    pub fn of(program: impl Into<PathBuf>, application: impl Into<PathBuf>) -> io::Result<Self> {
        let mut platform = Self::new(program, |_| Ok(()))?;
        platform.application = application.into();
        Ok(platform)
    }

    /// The application's folder.
    pub fn application(&self) -> &Path {
        &self.application
    }

    /// The state folder.
    pub fn state(&self) -> PathBuf {
        self.root.path().join("state")
    }

    /// The folder below which the root key is kept.
    pub fn config(&self) -> PathBuf {
        self.root.path().join("config")
    }

    /// The folder below which the runtime folder is made.
    pub fn runtime(&self) -> PathBuf {
        self.root.path().join("run")
    }

    /// A run of the program on this platform, not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .arg("--dir")
            .arg(&self.application)
            .env("ASTRALER_STATE", self.state())
            .env("ASTRALER_RUNTIME", self.runtime())
            .env("ASTRALER_CONFIG", self.root.path().join("config"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> io::Result<Finished> {
        let began = Instant::now();
        let output = self.command(arguments).output()?;
        Ok(Finished {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            took: began.elapsed(),
        })
    }

    /// `up` on this platform's port.
    pub fn up(&self, arguments: &[&str]) -> io::Result<Finished> {
        let port = self.port.to_string();
        let mut all = vec!["up", "--port", &port];
        all.extend(arguments);
        self.run(&all)
    }

    /// A GET of development.
    pub fn get(&self, path: &str) -> io::Result<Answer> {
        http::request(self.port, "GET", "localhost", path, b"")
    }

    /// A request with every choice.
    pub fn request(&self, method: &str, host: &str, path: &str, body: &[u8]) -> io::Result<Answer> {
        http::request(self.port, method, host, path, body)
    }

    /// The port of the platform's own API, once it has been up.
    pub fn api_port(&self) -> io::Result<u16> {
        let record = std::fs::read(self.state().join("installation.json"))?;
        let record: serde_json::Value = serde_json::from_slice(&record)?;
        let port = record["ports"]["api"]
            .as_u64()
            .and_then(|port| u16::try_from(port).ok());
        port.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no port of the API is recorded"))
    }

    /// A request to the platform's own API, with a token or without.
    pub fn api(&self, method: &str, path: &str, token: Option<&str>, body: &[u8]) -> io::Result<Answer> {
        let authorization = token.map(|token| format!("Bearer {token}"));
        let mut fields = vec![("content-type", "application/json")];
        fields.extend(authorization.as_deref().map(|value| ("authorization", value)));
        http::request_with(self.api_port()?, method, "localhost", path, &fields, body)
    }

    /// Process id of a unit, from `status`.
    pub fn pid(&self, unit: &str) -> io::Result<Option<u32>> {
        let status = self.run(&["status", "--json"])?.json();
        let parts = status["parts"].as_array().cloned().unwrap_or_default();
        let found = parts
            .iter()
            .find(|part| part["name"] == unit)
            .and_then(|part| part["pid"].as_u64());
        Ok(found.and_then(|pid| u32::try_from(pid).ok()))
    }

    /// Processes whose command line or environment names this platform's folder.
    pub fn processes(&self) -> Vec<(u32, String)> {
        let mark = self.root.path().as_os_str().as_encoded_bytes();
        let contains = |bytes: &[u8]| bytes.windows(mark.len()).any(|window| window == mark);
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u32>().ok())
            else {
                continue;
            };
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if pid != std::process::id() && contains(&command) {
                found.push((pid, String::from_utf8_lossy(&command).replace('\0', " ")));
            }
        }
        found
    }

    /// Socket files below the platform's folders.
    pub fn sockets(&self) -> Vec<PathBuf> {
        use std::os::unix::fs::FileTypeExt;
        let mut found = Vec::new();
        let mut queue = vec![self.root.path().to_owned()];
        while let Some(folder) = queue.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => queue.push(entry.path()),
                    Ok(kind) if kind.is_socket() => found.push(entry.path()),
                    _ => {}
                }
            }
        }
        found
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.run(&["down"]).ok();
        // A test that failed half-way may leave what `down` does not know: nothing of it may outlive the test.
        for _ in 0..50 {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            for (pid, _) in left {
                Command::new("kill")
                    .args(["-9", &pid.to_string()])
                    .stderr(Stdio::null())
                    .status()
                    .ok();
            }
        }
    }
}

/// A port that nobody listens on now, below those that the kernel gives to connections: it stays free while the
/// platform is down.
fn free_port() -> u16 {
    let start = std::process::id().wrapping_mul(31) + COUNTER.fetch_add(17, Ordering::Relaxed);
    (0..10_000_u32)
        .filter_map(|step| u16::try_from(21_000 + (start + step) % 10_000).ok())
        .find(|port| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .unwrap_or(0)
}
