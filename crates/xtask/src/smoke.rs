//! `cargo xtask smoke`: what a new user does, on the built binary and in folders of its own: up, a page, a
//! request that passes every layer, up again, down; then nothing may be left.

use crate::{Failure, cargo, output, run as run_command};
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
struct Platform {
    program: PathBuf,
    folder: tempfile::TempDir,
    port: u16,
}

pub(crate) fn run(root: &Path) -> Result<(), Failure> {
    // With the same features as `cargo test --workspace`, so that after the tests nothing is built again.
    let build = ["build", "--locked", "--workspace", "--bins", "--tests"];
    run_command(cargo().current_dir(root).args(build))?;
    let platform = Platform::new(root)?;
    let result = platform.play();
    // Whatever happened, nothing of it may go on running; a second `down` is harmless.
    let ended = platform
        .astraler(&["down"])
        .and_then(|()| platform.nothing_left());
    result.and(ended)
}

impl Platform {
    fn new(root: &Path) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| format!("cannot prepare the smoke run: {error}");
        // Short, because a socket's path has 107 bytes; open, because engines have users of their own.
        let folder = tempfile::Builder::new()
            .prefix("smoke-")
            .tempdir_in("/tmp")
            .map_err(failed)?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).map_err(failed)?;
        let application = folder.path().join("app");
        let copy = ["-R", "--"];
        output(
            Command::new("cp")
                .args(copy)
                .arg(root.join("starter"))
                .arg(&application),
        )?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        Ok(Self {
            program: target.join("debug/astraler"),
            folder,
            port,
        })
    }

    fn play(&self) -> Result<(), Failure> {
        let port = self.port.to_string();
        let start = Instant::now();
        self.astraler(&["up", "--port", &port])?;
        println!("up after {:.1} s", start.elapsed().as_secs_f64());
        let page = self.get("/")?;
        expect(
            "GET / is a page",
            page.starts_with("HTTP/1.1 200") && page.contains("<html"),
            &page,
        )?;
        let health = self.get("/api/health")?;
        expect(
            "GET /api/health is 200",
            health.starts_with("HTTP/1.1 200"),
            &health,
        )?;
        let before = self.processes()?;
        let start = Instant::now();
        self.astraler(&["up", "--port", &port])?;
        println!("up again after {:.1} s", start.elapsed().as_secs_f64());
        let after = self.processes()?;
        expect(
            "a second up starts and ends no process",
            before == after,
            &format!("{before:?}\n{after:?}"),
        )?;
        self.astraler(&["status"])?;
        let start = Instant::now();
        self.astraler(&["down"])?;
        println!("down after {:.1} s", start.elapsed().as_secs_f64());
        Ok(())
    }

    fn astraler(&self, words: &[&str]) -> Result<(), Failure> {
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
        run_command(&mut command)
    }

    fn get(&self, path: &str) -> Result<String, Failure> {
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

    /// Every process that names a folder of this platform in its command line, with that line.
    fn processes(&self) -> Result<Vec<(u32, String)>, Failure> {
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
            // PostgreSQL's own children come and go; their parent names the folder.
            if line.contains(&folder)
                || (working.starts_with(self.folder.path()) && !line.starts_with("postgres:"))
            {
                found.push((pid, line.trim_end().to_owned()));
            }
        }
        found.sort();
        Ok(found)
    }

    fn nothing_left(&self) -> Result<(), Failure> {
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

fn expect(what: &str, holds: bool, seen: &str) -> Result<(), Failure> {
    let shown: String = seen.chars().take(2_000).collect();
    if holds {
        Ok(())
    } else {
        Err(format!("smoke: expected that {what}, but saw:\n{shown}"))
    }
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
