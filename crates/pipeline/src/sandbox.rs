//! bubblewrap around each step: namespaces for everything, a read-only system, the job's own folders, no capability,
//! no network but a socket.

use crate::disk::{INTERVAL, Watch};
use crate::mask::{Lines, Masks};
use crate::order::{Order, SIGNAL};
use crate::spec::{Limits, Tools};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// The home of a job.
pub(crate) const HOME: &str = "/runner";
pub(crate) const TEMP: &str = "/runner/work/_temp";
pub(crate) const TOOL_CACHE: &str = "/opt/hostedtoolcache";
/// Files of commands: not below the home, where a step could put a link in their way.
pub(crate) const COMMANDS: &str = "/run/astraler/commands";
pub(crate) const SCRIPTS: &str = "/run/astraler/scripts";
pub(crate) const EVENT: &str = "/run/astraler/event.json";
pub(crate) const REPOSITORY: &str = "/run/astraler/repository.git";
/// Asked to end by an interrupt, a step has this long…
const INTERRUPT_GRACE: Duration = Duration::from_millis(7_500);
/// …and this long after SIGTERM.
const TERMINATE_GRACE: Duration = Duration::from_millis(2_500);
/// Space of `/dev/shm`, in bytes: browsers need some.
const SHARED_MEMORY: &str = "536870912";
/// How long the end of the output is waited for.
const DRAIN: Duration = Duration::from_secs(5);
/// Most output of a step.
const MAX_OUTPUT: u64 = 64 << 20;
/// Parts of the system that a step sees.
const SYSTEM: [&str; 6] = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
const ETC: [&str; 15] = [
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/chromium.d",
    "/etc/crypto-policies",
    "/etc/debian_version",
    "/etc/fonts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/os-release",
    "/etc/pki",
    "/etc/protocols",
    "/etc/ssl",
];

/// What is made for every sandbox of a machine: a few files below `/etc`.
pub(crate) const ETC_FILES: [(&str, &str); 6] = [
    (
        "passwd",
        "root:x:0:0:root:/root:/usr/sbin/nologin\nrunner:x:1001:1001:runner:/runner:/bin/bash\n",
    ),
    ("group", "root:x:0:\nrunner:x:1001:\n"),
    ("hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"),
    ("resolv.conf", "# There is no network but the proxy.\n"),
    (
        "gitconfig",
        "[safe]\n\tdirectory = *\n[uploadpack]\n\tallowAnySHA1InWant = true\n[init]\n\tdefaultBranch = main\n[advice]\n\tdetachedHead = false\n",
    ),
];

/// The sandbox of one job.
#[derive(Debug, Clone)]
pub(crate) struct Sandbox {
    pub(crate) tools: Tools,
    pub(crate) limits: Limits,
    /// The job's folder: `home`, `tmp`, `commands`, `scripts`, `proxy.sock`, `event.json`.
    pub(crate) folder: PathBuf,
    /// The run's `etc`.
    pub(crate) etc: PathBuf,
    pub(crate) repository: PathBuf,
    pub(crate) tool_cache: PathBuf,
    /// What else is there: outside, inside; read-only.
    pub(crate) binds: Vec<(PathBuf, String)>,
    pub(crate) ports: Vec<u16>,
}

/// One program in it.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) argv: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) cwd: String,
    /// A folder that may be written beside the job's own: outside, inside.
    pub(crate) writable: Option<(PathBuf, String)>,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    Exit(i32),
    TimedOut,
    Cancelled,
    /// It took too much, in words.
    Stopped(String),
}

impl Sandbox {
    /// bubblewrap's arguments. No secret is in them.
    fn arguments(&self, program: &Program) -> Vec<String> {
        let mut argv: Vec<String> = [
            "--unshare-all",
            "--die-with-parent",
            "--new-session",
            "--as-pid-1",
            "--cap-drop",
            "ALL",
            "--uid",
            "1001",
            "--gid",
            "1001",
            "--hostname",
            "runner",
            "--clearenv",
            "--ro-bind",
            "/usr",
            "/usr",
            "--proc",
            "/proc",
            // Whoever is root outside could write there: DAC is all that these files have.
            "--ro-bind",
            "/proc/sys",
            "/proc/sys",
            "--ro-bind-try",
            "/proc/sysrq-trigger",
            "/proc/sysrq-trigger",
            "--ro-bind-try",
            "/proc/irq",
            "/proc/irq",
            "--ro-bind-try",
            "/proc/bus",
            "/proc/bus",
            "--dev",
            "/dev",
            "--size",
            SHARED_MEMORY,
            "--tmpfs",
            "/dev/shm",
            "--remount-ro",
            "/dev",
            "--dir",
            "/run/astraler",
        ]
        .map(str::to_owned)
        .to_vec();
        for path in SYSTEM {
            // On a merged system these are links into /usr.
            match std::fs::read_link(path) {
                Ok(target) => argv.extend(["--symlink".into(), target.display().to_string(), path.into()]),
                Err(_) => argv.extend(["--ro-bind-try", path, path].map(str::to_owned)),
            }
        }
        let mut bind = |flag: &str, outside: &Path, inside: &str| {
            argv.extend([flag.to_owned(), outside.display().to_string(), inside.to_owned()]);
        };
        for path in ETC {
            bind("--ro-bind-try", Path::new(path), path);
        }
        for (name, _) in ETC_FILES {
            bind("--ro-bind", &self.etc.join(name), &format!("/etc/{name}"));
        }
        bind("--bind", &self.folder.join("home"), HOME);
        bind("--bind", &self.folder.join("tmp"), "/tmp");
        bind("--bind", &self.folder.join("commands"), COMMANDS);
        bind("--ro-bind", &self.folder.join("scripts"), SCRIPTS);
        bind("--ro-bind", &self.folder.join("event.json"), EVENT);
        bind(
            "--ro-bind",
            &self.folder.join("proxy.sock"),
            crate::order::PROXY_SOCKET,
        );
        bind("--ro-bind", &self.repository, REPOSITORY);
        bind("--ro-bind", &self.tool_cache, TOOL_CACHE);
        for (outside, inside) in &self.binds {
            bind("--ro-bind", outside, inside);
        }
        if let Some((outside, inside)) = &program.writable {
            bind("--bind", outside, inside);
        }
        let helper = self.tools.helper.first().cloned().unwrap_or_default();
        bind("--ro-bind", Path::new(&helper), "/run/astraler/init");
        // What is not bound is memory: nobody may fill it.
        argv.extend(["--remount-ro", "/", "--chdir", "/", "--", "/run/astraler/init"].map(str::to_owned));
        argv.extend(self.tools.helper.iter().skip(1).cloned());
        argv
    }

    /// Runs a program to its end. When this future is dropped, all of it is killed.
    pub(crate) async fn run(
        &self,
        program: &Program,
        most: Duration,
        cancel: &CancellationToken,
        masks: &Masks,
        out: &mpsc::Sender<String>,
    ) -> io::Result<Ended> {
        let (mut child, mut stdin, mut output) = self.start(program).await?;
        let mut lines = Lines::default();
        let mut budget = MAX_OUTPUT;
        let mut watch = Some(Watch::new(&self.folder, self.limits.disk_bytes));
        let mut looking = interval(INTERVAL);
        let mut chunk = vec![0; 16 << 10];
        let deadline = Instant::now() + most;
        // Why it must end, and when the next, harder means are due.
        let mut ending: Option<(Ended, u8, Instant)> = None;
        let mut open = true;
        let status = loop {
            let due = ending.as_ref().map_or(deadline, |(_, _, due)| *due);
            tokio::select! {
                read = output.read(&mut chunk), if open => match read {
                    Ok(0) | Err(_) => open = false,
                    Ok(count) => {
                        for line in take(&chunk[..count], &mut budget, &mut lines, masks) {
                            out.send(line).await.ok();
                        }
                    }
                },
                status = child.wait() => break status?,
                () = sleep_until(due) => {
                    let (why, step) = match ending.take() {
                        None => (Ended::TimedOut, 0),
                        Some((why, step, _)) => (why, step),
                    };
                    ending = Some(next(why, step, &mut stdin, &mut child).await);
                }
                () = cancel.cancelled(), if ending.is_none() => {
                    ending = Some(next(Ended::Cancelled, 0, &mut stdin, &mut child).await);
                }
                _ = looking.tick(), if ending.is_none() => {
                    if let Some(mut looker) = watch.take() {
                        let looked = tokio::task::spawn_blocking(move || (looker.over(), looker)).await;
                        let (over, looker) = looked.map_err(io::Error::other)?;
                        watch = Some(looker);
                        if let Some(why) = over {
                            // Whoever fills a disk gets no time to go on with it.
                            ending = Some(next(Ended::Stopped(why), 2, &mut stdin, &mut child).await);
                        }
                    }
                }
            }
        };
        let drained = async {
            while open {
                match output.read(&mut chunk).await {
                    Ok(0) | Err(_) => open = false,
                    Ok(count) => {
                        for line in take(&chunk[..count], &mut budget, &mut lines, masks) {
                            out.send(line).await.ok();
                        }
                    }
                }
            }
        };
        timeout(DRAIN, drained).await.ok();
        let mut last = Vec::new();
        lines.end(masks, |line| last.push(line));
        for line in last {
            out.send(line).await.ok();
        }
        if let Some((why, _, _)) = ending {
            return Ok(why);
        }
        use std::os::unix::process::ExitStatusExt;
        let code = status
            .code()
            .or_else(|| status.signal().map(|signal| 128 + signal));
        Ok(Ended::Exit(code.unwrap_or(1)))
    }

    async fn start(&self, program: &Program) -> io::Result<(Child, Option<ChildStdin>, pipe::Receiver)> {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let mut child = Command::new(&self.tools.bwrap)
            .args(self.arguments(program))
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::from(writer.try_clone()?))
            .stderr(Stdio::from(writer))
            .kill_on_drop(true)
            // A terminal's Ctrl-C is for the runner, which gives steps their time.
            .process_group(0)
            .spawn()?;
        let order = Order {
            argv: program.argv.clone(),
            env: program.env.clone(),
            cwd: program.cwd.clone(),
            proxy: true,
            ports: self.ports.clone(),
            file_bytes: self.limits.disk_bytes,
            processes: self.limits.processes,
        };
        let mut text = serde_json::to_vec(&order)?;
        text.push(b'\n');
        let mut stdin = child.stdin.take();
        if let Some(stdin) = &mut stdin {
            // A sandbox that cannot start says why on its output.
            stdin.write_all(&text).await.ok();
        }
        Ok((child, stdin, pipe::Receiver::from_owned_fd(reader)?))
    }
}

/// The next means to end a step: an interrupt, SIGTERM, the end of its namespace.
async fn next(
    why: Ended,
    step: u8,
    stdin: &mut Option<ChildStdin>,
    child: &mut Child,
) -> (Ended, u8, Instant) {
    let (signal, grace) = match step {
        0 => (Some(2), INTERRUPT_GRACE),
        1 => (Some(15), TERMINATE_GRACE),
        _ => (None, DRAIN),
    };
    match (signal, stdin.as_mut()) {
        (Some(signal), Some(pipe)) => {
            let line = format!("{SIGNAL}{signal}\n");
            pipe.write_all(line.as_bytes()).await.ok();
        }
        _ => {
            *stdin = None;
            child.start_kill().ok();
        }
    }
    (why, step + 1, Instant::now() + grace)
}

fn take(bytes: &[u8], budget: &mut u64, lines: &mut Lines, masks: &Masks) -> Vec<String> {
    let mut found = Vec::new();
    let before = *budget;
    let kept = usize::try_from(before).unwrap_or(usize::MAX).min(bytes.len());
    *budget -= kept as u64;
    lines.push(&bytes[..kept], masks, |line| found.push(line));
    if before > 0 && *budget == 0 {
        lines.end(masks, |line| found.push(line));
        let most = MAX_OUTPUT >> 20;
        found.push(format!("[more than {most} MiB of output: the rest is not kept]"));
    }
    found
}
