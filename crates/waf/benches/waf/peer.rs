//! nginx with ModSecurity, from Debian's packages, as a peer: started, sent requests, asked for what its worker has run.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Debian's `libnginx-mod-http-modsecurity`.
const MODULE: &str = "/usr/lib/nginx/modules/ngx_http_modsecurity_module.so";
/// The variable that says where else it is.
const MODULE_VARIABLE: &str = "MODSECURITY_MODULE";
const START: Duration = Duration::from_secs(20);

/// What is loaded into nginx.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum With {
    /// ModSecurity, which writes nothing but what stops it.
    #[allow(dead_code, reason = "verdicts want the log")]
    ModSecurity,
    /// ModSecurity, which writes each match to the log.
    #[allow(dead_code, reason = "the bench wants no log")]
    ModSecurityAndLog,
    /// ModSecurity as the suite of the Core Rule Set sets it up: every rule, detecting only, each match in the log.
    #[allow(dead_code, reason = "the comparison wants every rule")]
    EveryRule,
    /// ModSecurity with rules of one's own, and each match in the log.
    #[allow(dead_code, reason = "the differential check of libinjection has its own")]
    Own,
    /// Nothing: what nginx takes by itself.
    #[allow(dead_code, reason = "verdicts need no bare nginx")]
    Nothing,
}

/// A running nginx; ended when dropped.
pub(crate) struct Peer {
    child: Child,
    port: u16,
    /// What it writes.
    #[allow(dead_code, reason = "the bench reads none")]
    pub(crate) log: PathBuf,
}

impl Peer {
    /// With the Core Rule Set, where any rules are wanted.
    #[allow(dead_code, reason = "some have rules of their own")]
    pub(crate) fn start(with: With, crs: &Path, folder: &Path) -> Result<Self, String> {
        let crs = crs
            .canonicalize()
            .map_err(|error| format!("{}: {error}", crs.display()))?;
        let (mode, before) = match with {
            With::EveryRule => ("DetectionOnly", astraler_waf::suite::SETUP),
            _ => ("On", ""),
        };
        let text = include_str!("modsecurity.conf")
            .replace("{mode}", mode)
            .replace("{before}", before)
            .replace("{crs}", &crs.display().to_string());
        Self::start_with(with, &text, folder)
    }

    /// With rules.
    pub(crate) fn start_with(with: With, text: &str, folder: &Path) -> Result<Self, String> {
        let module = std::env::var_os(MODULE_VARIABLE).map_or_else(|| PathBuf::from(MODULE), PathBuf::from);
        if with != With::Nothing && !module.exists() {
            return Err(format!(
                "{} is not there: install Debian's libnginx-mod-http-modsecurity, or say in {MODULE_VARIABLE} where it is",
                module.display()
            ));
        }
        let rules = folder.join("rules.conf");
        let (name, level) = match with {
            With::ModSecurity => ("modsecurity", "error"),
            With::ModSecurityAndLog | With::EveryRule | With::Own => ("judge", "info"),
            With::Nothing => ("bare", "error"),
        };
        let (load, on, off) = match with {
            With::Nothing => (String::new(), String::new(), ""),
            _ => (
                format!("load_module {};", module.display()),
                format!("modsecurity on; modsecurity_rules_file {};", rules.display()),
                "modsecurity off;",
            ),
        };
        let port = free_port()?;
        let server = include_str!("nginx.conf")
            .replace("{module}", &load)
            .replace("{on}", &on)
            .replace("{off}", off)
            .replace("{name}", name)
            .replace("{level}", level)
            .replace("{folder}", &folder.display().to_string())
            .replace("{origin}", &free_port()?.to_string())
            .replace("{port}", &port.to_string());
        let file = folder.join(format!("{name}.conf"));
        let failed = |error: std::io::Error| format!("cannot write the peer's files: {error}");
        fs::write(&file, server).map_err(failed)?;
        fs::write(&rules, text).map_err(failed)?;
        let child = Command::new("/usr/sbin/nginx")
            .arg("-c")
            .arg(&file)
            .arg("-p")
            .arg(folder)
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start nginx: {error}; install Debian's nginx-light"))?;
        let log = folder.join(format!("{name}.log"));
        let peer = Self { child, port, log };
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if begun.elapsed() > START {
                return Err(format!("nginx does not start; see {}", peer.log.display()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(peer)
    }

    pub(crate) fn connect(&self) -> Result<Connection, String> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))
            .and_then(|stream| {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(START))?;
                Ok(stream)
            })
            .map_err(|error| format!("cannot connect to nginx: {error}"))?;
        Ok(Connection {
            stream,
            read: Vec::new(),
        })
    }

    /// What its worker has run so far.
    #[allow(dead_code, reason = "verdicts are not measured")]
    pub(crate) fn cpu(&self) -> Result<Duration, String> {
        let own = self.child.id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        let mut nanos = 0;
        for process in children.split_whitespace() {
            let said = fs::read_to_string(format!("/proc/{process}/schedstat"))
                .map_err(|error| format!("nginx has ended: {error}"))?;
            nanos += said
                .split_whitespace()
                .next()
                .and_then(|text| text.parse::<u64>().ok())
                .unwrap_or(0);
        }
        if nanos == 0 {
            return Err("nginx has no worker".to_owned());
        }
        Ok(Duration::from_nanos(nanos))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // So that nginx takes its worker along.
        let ended = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status();
        if ended.is_err() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// A connection that is kept open.
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    /// Sends a request and reads its answer: the status.
    pub(crate) fn send(&mut self, request: &[u8]) -> Result<u16, String> {
        let failed = |error: std::io::Error| format!("nginx does not answer: {error}");
        self.stream.write_all(request).map_err(failed)?;
        self.read.clear();
        let has_body = !request.starts_with(b"HEAD ");
        let mut buffer = [0; 4096];
        loop {
            if let Some((status, length)) = answer(&self.read, has_body)
                && self.read.len() >= length
            {
                return Ok(status);
            }
            let got = self.stream.read(&mut buffer).map_err(failed)?;
            if got == 0 {
                return Err("nginx closed the connection".to_owned());
            }
            self.read.extend_from_slice(&buffer[..got]);
        }
    }
}

/// The status of an answer whose head is there, and the length of all of it.
fn answer(bytes: &[u8], has_body: bool) -> Option<(u16, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    Some((status, end + length.filter(|_| has_body).unwrap_or(0)))
}

fn free_port() -> Result<u16, String> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| format!("no free port: {error}"))
}
