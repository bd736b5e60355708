//! A platform of the starter in a folder of its own, driven as a user would drive it: by the built binary.

use crate::{Failure, output, run as run_command};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// A platform of the starter in a folder that goes with it.
pub(crate) struct Platform {
    program: PathBuf,
    folder: tempfile::TempDir,
    /// Port of the edge.
    pub(crate) port: u16,
}

impl Platform {
    /// Copies the starter; `profile` is the folder below target/ whose binary is driven.
    pub(crate) fn new(root: &Path, profile: &str) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| format!("cannot prepare the smoke run: {error}");
        // Short, because a socket's path has 107 bytes; open, because engines have users of their own.
        let folder = tempfile::Builder::new()
            .prefix("smoke-")
            .tempdir_in("/tmp")
            .map_err(failed)?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).map_err(failed)?;
        let application = folder.path().join("app");
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let program = target.join(profile).join("astraler");
        output(
            Command::new(&program)
                .args(["init", "--starter"])
                .arg(&application),
        )?;
        Ok(Self {
            program,
            folder,
            port: free_port()?,
        })
    }

    /// The application's folder.
    pub(crate) fn application(&self) -> PathBuf {
        self.folder.path().join("app")
    }

    /// Runs the program to its end with its output on the terminal.
    pub(crate) fn astraler(&self, words: &[&str]) -> Result<(), Failure> {
        run_command(&mut self.command(words))
    }

    /// A run of the program on this platform, not started yet.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let folder = self.folder.path();
        let mut command = Command::new(&self.program);
        command
            .arg("--dir")
            .arg(folder.join("app"))
            .arg("--state")
            .arg(folder.join("state"))
            .args(words);
        // The pinned tools stay where they are shared: fetching them is not what is tried here.
        command
            .env("ASTRALER_RUNTIME", folder.join("run"))
            .env("ASTRALER_CONFIG", folder.join("config"));
        command
    }

    /// The whole answer to a GET, head and body.
    pub(crate) fn get(&self, path: &str) -> Result<String, Failure> {
        let failed = |error: std::io::Error| format!("GET {path}: {error}");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let mut stream = TcpStream::connect_timeout(&address, REQUEST_TIMEOUT).map_err(failed)?;
        stream.set_read_timeout(Some(REQUEST_TIMEOUT)).map_err(failed)?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).map_err(failed)?;
        let mut answer = Vec::new();
        stream.take(1 << 20).read_to_end(&mut answer).map_err(failed)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Every process that names a folder of this platform in its command line or works in it, with that line.
    pub(crate) fn all_processes(&self) -> Result<Vec<(u32, String)>, Failure> {
        let folder = self.folder.path().to_string_lossy().into_owned();
        let entries = fs::read_dir("/proc").map_err(|error| format!("cannot read /proc: {error}"))?;
        let mut found = Vec::new();
        for entry in entries.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A process that has ended meanwhile is none.
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let working = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
            if line.contains(&folder) || working.starts_with(self.folder.path()) {
                found.push((pid, line.trim_end().to_owned()));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Without PostgreSQL's own children, which come and go; their parent names the folder.
    pub(crate) fn processes(&self) -> Result<Vec<(u32, String)>, Failure> {
        let mut found = self.all_processes()?;
        found.retain(|(_, line)| !line.starts_with("postgres:"));
        Ok(found)
    }

    /// Waits until no process, no socket and no listener of this platform is there.
    pub(crate) fn nothing_left(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + END_TIMEOUT;
        loop {
            let left = self.processes()?;
            let sockets = sockets(&self.folder.path().join("run"));
            let listening = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok();
            if left.is_empty() && sockets.is_empty() && !listening {
                println!("nothing left behind");
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "left behind: processes {left:?}, sockets {sockets:?}, port open: {listening}"
                ));
            }
            // Bounded by the deadline; a process has no event that its non-parent could wait for here.
            #[expect(clippy::disallowed_methods, reason = "there is no executor to block")]
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Below the ports from which the kernel takes those of outgoing connections; other for each process.
fn free_port() -> Result<u16, Failure> {
    let start = 21_000 + u16::try_from(std::process::id() % 9_000).unwrap_or(0);
    (start..start + 1_000)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .ok_or_else(|| format!("no free port in the 1000 from {start} on"))
}

fn sockets(folder: &Path) -> Vec<PathBuf> {
    use std::os::unix::fs::FileTypeExt;
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(sockets(&entry.path())),
            Ok(kind) if kind.is_socket() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left behind must be seen, or the smoke run could not fail.
    #[test]
    fn a_process_and_a_socket_that_are_left_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("run/deep")).unwrap();
        let platform = Platform {
            program: PathBuf::new(),
            folder,
            port: 0,
        };
        let folder = platform.folder.path();
        assert_eq!(platform.processes().unwrap(), []);
        assert!(sockets(&folder.join("run")).is_empty());

        let socket = folder.join("run/deep/s.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(sockets(&folder.join("run")), [socket]);
        let mut by_folder = Command::new("sleep")
            .arg("60")
            .current_dir(folder)
            .spawn()
            .unwrap();
        let mut waits = Command::new("sh");
        waits
            .args(["-c", "read line"])
            .arg(folder.join("run/x"))
            .stdin(std::process::Stdio::piped());
        let mut by_name = waits.spawn().unwrap();
        let expected = [by_folder.id(), by_name.id()];
        // In the middle of its start a process has no command line yet.
        let deadline = Instant::now() + END_TIMEOUT;
        let seen = loop {
            let found: Vec<u32> = platform
                .processes()
                .unwrap()
                .into_iter()
                .map(|(pid, _)| pid)
                .collect();
            if expected.iter().all(|pid| found.contains(pid)) {
                break true;
            } else if Instant::now() > deadline {
                break false;
            }
        };
        for child in [&mut by_folder, &mut by_name] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(seen);
        assert_eq!(platform.processes().unwrap(), []);
    }
}
