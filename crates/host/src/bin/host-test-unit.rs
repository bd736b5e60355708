//! Test-only: `keep`, its launcher and the units that this crate's tests run. Not part of the product.

use astraler_host::{activation, keep, launch};
use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["launch"] => std::process::exit(launch::run().exit_code()),
        ["keep", state, runtime, rest @ ..] => run_keep(state, runtime, rest.contains(&"--standby")),
        ["serve", delay_ms] => in_runtime(serve(delay_ms.parse()?)),
        ["lines", count, pause_us] => lines(count.parse()?, pause_us.parse()?),
        ["say", status, text @ ..] => {
            for line in text {
                say(line)?;
            }
            std::process::exit(status.parse()?)
        }
        ["wait"] => wait(),
        ["stubborn"] => in_runtime(stubborn()),
        ["family"] => family(),
        ["orphan"] => {
            rustix::process::setsid()?;
            let child = Command::new(std::env::current_exe()?).arg("wait").spawn()?;
            say(&format!("grandchild {}", child.id()))?;
            Ok(())
        }
        ["report"] => report(),
        ["eat", mebibytes] => {
            let block = vec![1u8; mebibytes.parse::<usize>()? << 20];
            say(&format!(
                "ate {}",
                block.iter().map(|byte| usize::from(*byte)).sum::<usize>()
            ))?;
            wait()
        }
        other => Err(format!("unknown: {other:?}").into()),
    }
}

fn run_keep(state: &str, runtime: &str, standby: bool) -> Outcome {
    let program = std::env::current_exe()?.display().to_string();
    let words = |words: &[&str]| {
        [&[program.as_str()], words]
            .concat()
            .into_iter()
            .map(String::from)
            .collect()
    };
    let config = keep::KeepConfig {
        state: PathBuf::from(state),
        runtime: PathBuf::from(runtime),
        launcher: words(&["launch"]),
        standby: words(&["keep", state, runtime, "--standby"]),
        allowed_uids: vec![],
        platform_id: format!(
            "test-{}",
            runtime.replace(|c: char| !c.is_ascii_alphanumeric(), "")
        ),
    };
    Ok(keep::run(config, standby)?)
}

fn in_runtime(future: impl Future<Output = Outcome>) -> Outcome {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(future)
}

/// Answers each connection with its own process id; on SIGTERM it finishes what it has accepted.
async fn serve(delay_ms: u64) -> Outcome {
    tokio::time::sleep(Duration::from_millis(delay_ms)).await;
    let mut listeners = activation::listeners()?;
    let tcp = tokio::net::TcpListener::from_std(listeners.take_tcp("http")?)?;
    let mut shares = Vec::new();
    for name in ["http-1", "http-2"] {
        if let Ok(socket) = listeners.take_tcp(name) {
            shares.push(tokio::net::TcpListener::from_std(socket)?);
        }
    }
    let unix = listeners
        .take_unix("local")
        .ok()
        .map(tokio::net::UnixListener::from_std)
        .transpose()?;
    let mut udp = Vec::new();
    for name in ["udp-0", "udp-1"] {
        if let Ok(socket) = listeners.take_udp(name) {
            udp.push(tokio::net::UdpSocket::from_std(socket)?);
        }
    }
    let mut terminate = signal(SignalKind::terminate())?;
    activation::notify_ready()?;
    for socket in udp {
        tokio::spawn(async move {
            let mut packet = [0; 64];
            while let Ok((length, from)) = socket.recv_from(&mut packet).await {
                let _ = socket.send_to(&packet[..length], from).await;
            }
        });
    }
    let answer = format!("{}\n", std::process::id());
    for (number, socket) in shares.into_iter().enumerate() {
        // Which of the queues it was taken from, too.
        let answer = format!("{} {}\n", std::process::id(), number + 1);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = socket.accept().await {
                let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await;
            }
        });
    }
    loop {
        tokio::select! {
            accepted = tcp.accept() => {
                let (mut stream, _) = accepted?;
                let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await;
            }
            accepted = async { match &unix { Some(unix) => unix.accept().await, None => std::future::pending().await } } => {
                let (mut stream, _) = accepted?;
                let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await;
            }
            _ = terminate.recv() => return Ok(()),
        }
    }
}

fn lines(count: u64, pause_us: u64) -> Outcome {
    for number in 0..count {
        say(&format!("line {number}"))?;
        pause(Duration::from_micros(pause_us));
    }
    say("done")?;
    wait()
}

/// Does not end when it is asked to, and has a child.
async fn stubborn() -> Outcome {
    let mut terminate = signal(SignalKind::terminate())?;
    let child = Command::new(std::env::current_exe()?)
        .arg("wait")
        .stdin(Stdio::null())
        .spawn()?;
    say(&format!("grandchild {}", child.id()))?;
    activation::notify_ready()?;
    loop {
        terminate.recv().await;
        say("no")?;
    }
}

/// Has a grandchild in a session of its own, whose parent has ended: a daemon.
fn family() -> Outcome {
    Command::new(std::env::current_exe()?).arg("orphan").status()?;
    activation::notify_ready()?;
    wait()
}

/// Says what it was given.
fn report() -> Outcome {
    for (name, value) in std::env::vars() {
        say(&format!("env {name}={value}"))?;
    }
    say(&format!(
        "argv {}",
        std::env::args().collect::<Vec<_>>().join(" ")
    ))?;
    say(&format!("cwd {}", std::env::current_dir()?.display()))?;
    say(&format!("stdin {}", io::read_to_string(io::stdin())?.trim()))?;
    for line in std::fs::read_to_string("/proc/self/status")?.lines() {
        if ["Uid", "Gid", "Groups", "NoNewPrivs", "Umask"]
            .iter()
            .any(|name| line.starts_with(name))
        {
            say(&line.split_whitespace().collect::<Vec<_>>().join(" "))?;
        }
    }
    for entry in std::fs::read_dir("/proc/self/fd")? {
        say(&format!("fd {}", entry?.file_name().to_string_lossy()))?;
    }
    if let Some(folder) = std::env::var_os("CREDENTIALS_DIRECTORY") {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path)?) & 0o7777;
            say(&format!(
                "credential {} {mode:o} {}",
                path.display(),
                std::fs::read_to_string(&path)?.trim()
            ))?;
        }
    }
    activation::notify_ready()?;
    wait()
}

fn wait() -> Outcome {
    loop {
        pause(Duration::from_secs(3600));
    }
}

fn say(line: &str) -> io::Result<()> {
    io::stdout().lock().write_all(format!("{line}\n").as_bytes())
}

fn pause(duration: Duration) {
    #[expect(
        clippy::disallowed_methods,
        reason = "a unit of a test, with nothing else to do"
    )]
    std::thread::sleep(duration);
}
