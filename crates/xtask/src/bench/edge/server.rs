//! The servers of the bench: nginx as the origin, nginx as the peer, and ours.

#![expect(
    clippy::disallowed_methods,
    reason = "a bench waits on a thread of its own; its files are not for keeps"
)]

use super::Protocol;
use crate::{Failure, output};
use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const START: Duration = Duration::from_secs(10);

/// A server under load; ended when dropped.
pub(super) struct Server {
    pub(super) name: &'static str,
    pub(super) http: u16,
    pub(super) https: u16,
    child: Child,
}

/// Both, with their origin, over files in one folder.
pub(super) struct Servers {
    pub(super) nginx: Server,
    pub(super) ours: Server,
    pub(super) folder: PathBuf,
    origin: Server,
}

impl Servers {
    pub(super) fn start(root: &Path, profile: &str, folder: &Path, threads: usize) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| format!("cannot prepare the bench: {error}");
        for (below, name, bytes) in [
            ("origin", "1k", 1 << 10),
            ("origin", "100k", 100 << 10),
            ("site", "10k.css", 10 << 10),
        ] {
            fs::create_dir_all(folder.join(below)).map_err(failed)?;
            fs::write(folder.join(below).join(name), vec![b'x'; bytes]).map_err(failed)?;
        }
        // nginx's workers have a user of their own.
        output(Command::new("chmod").args(["-R", "a+rX"]).arg(folder))?;
        certificate(folder)?;

        let socket = folder.join("origin.sock");
        // Of servers before these.
        let _ = fs::remove_file(&socket);
        let origin = Server::nginx("origin", folder, include_str!("origin.conf"), &[], threads)?;
        until(|| socket.exists(), "the origin")?;
        let nginx = Server::nginx(
            "nginx",
            folder,
            include_str!("nginx.conf"),
            &["http", "https", "h2c"],
            threads,
        )?;
        let ours = Server::ours(root, profile, folder)?;
        let servers = Self {
            nginx,
            ours,
            origin,
            folder: folder.to_owned(),
        };
        for port in [
            servers.nginx.http,
            servers.nginx.https,
            servers.ours.http,
            servers.ours.https,
        ] {
            until(
                || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok(),
                "a server",
            )?;
        }
        Ok(servers)
    }

    /// A server that has ended must not win.
    pub(super) fn alive(&self) -> Result<(), Failure> {
        for server in [&self.nginx, &self.ours, &self.origin] {
            if !Path::new(&format!("/proc/{}/task", server.child.id())).exists() {
                return Err(format!("{} has ended", server.name));
            }
        }
        Ok(())
    }
}

impl Server {
    fn nginx(
        name: &'static str,
        folder: &Path,
        template: &str,
        ports: &[&str],
        threads: usize,
    ) -> Result<Self, Failure> {
        let mut text = template
            .replace("{folder}", &folder.display().to_string())
            .replace("{threads}", &threads.to_string());
        let mut taken = Vec::new();
        for port in ports {
            let number = free_port()?;
            text = text.replace(&format!("{{{port}}}"), &number.to_string());
            taken.push(number);
        }
        let file = folder.join(format!("{name}.conf"));
        fs::write(&file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-c").arg(&file).arg("-p").arg(folder);
        Ok(Self {
            name,
            http: taken.first().copied().unwrap_or(0),
            https: taken.get(1).copied().unwrap_or(0),
            child: spawn(&mut command, name)?,
        })
    }

    fn ours(root: &Path, profile: &str, folder: &Path) -> Result<Self, Failure> {
        let (http, https) = (free_port()?, free_port()?);
        let text = include_str!("edge.toml")
            .replace("{folder}", &folder.display().to_string())
            .replace("{https}", &https.to_string())
            .replace("{http}", &http.to_string());
        let file = folder.join("edge.toml");
        fs::write(&file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let mut command = Command::new(target.join(profile).join("astraler"));
        command
            .arg("edge")
            .arg("--config")
            .arg(&file)
            .arg("--access-log")
            .arg(folder.join("edge-access.log"))
            .stdout(Stdio::null());
        Ok(Self {
            name: "ours",
            http,
            https,
            child: spawn(&mut command, "astraler edge")?,
        })
    }

    pub(super) fn port(&self, protocol: Protocol) -> u16 {
        match protocol {
            Protocol::Http1 => self.http,
            Protocol::Tls1 | Protocol::Tls2 => self.https,
        }
    }

    /// What its threads, and those of its children, have used so far.
    pub(super) fn cpu(&self) -> Result<Duration, Failure> {
        let mut nanos = 0;
        for process in self.processes() {
            let tasks = fs::read_dir(format!("/proc/{process}/task"))
                .map_err(|error| format!("{} has ended: {error}", self.name))?;
            for task in tasks.flatten() {
                let said = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
                let on_cpu = said
                    .split_whitespace()
                    .next()
                    .and_then(|text| text.parse::<u64>().ok());
                nanos += on_cpu.unwrap_or(0);
            }
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Bytes in memory that are its own: resident, without shared files.
    pub(super) fn resident(&self) -> u64 {
        let kib = |process: u32| {
            let said = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
            let line = said.lines().find_map(|line| line.strip_prefix("RssAnon:"));
            line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
                .unwrap_or(0)
        };
        self.processes().into_iter().map(kib).sum::<u64>() << 10
    }

    fn processes(&self) -> Vec<u32> {
        let own = self.child.id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|text| text.parse().ok());
        std::iter::once(own).chain(children).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // So that nginx takes its workers along.
        let _ = output(Command::new("kill").args(["-TERM", &self.child.id().to_string()]));
        let _ = self.child.wait();
    }
}

fn spawn(command: &mut Command, what: &str) -> Result<Child, Failure> {
    command.stdin(Stdio::null()).spawn().map_err(|error| {
        format!("cannot start {what}: {error}; the bench needs Debian's nginx-light and nghttp2-client")
    })
}

fn certificate(folder: &Path) -> Result<(), Failure> {
    output(
        Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
            ])
            .args([
                "-days",
                "2",
                "-subj",
                "/CN=bench.test",
                "-addext",
                "subjectAltName=DNS:bench.test",
            ])
            .arg("-keyout")
            .arg(folder.join("key.pem"))
            .arg("-out")
            .arg(folder.join("certificate.pem")),
    )?;
    Ok(())
}

fn free_port() -> Result<u16, Failure> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    bound
        .map(|address| address.port())
        .map_err(|error| format!("no free port: {error}"))
}

fn until(ready: impl Fn() -> bool, what: &str) -> Result<(), Failure> {
    let begun = Instant::now();
    while !ready() {
        if begun.elapsed() > START {
            return Err(format!("{what} does not start"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
