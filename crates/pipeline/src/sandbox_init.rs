//! Process 1 of a step's sandbox: gives the step its variables, its limits and its way out, and reaps. When it ends,
//! the kernel ends all others in the namespace.

use crate::order::{NOT_STARTED, Order, PROXY_PORT, PROXY_SOCKET, SIGNAL};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Longest order.
const MAX_ORDER: u64 = 16 << 20;
/// Connections at once.
const MAX_CONNECTIONS: usize = 512;
const OPEN_FILES: u64 = 65_536;
/// Longest answer of the proxy to CONNECT.
const MAX_ANSWER: usize = 4096;

/// Runs the program that the order on standard input names, and gives its exit code: 128 and the signal's number
/// where a signal ended it. The end of standard input ends everything.
pub fn sandbox_init() -> i32 {
    let mut input = BufReader::new(io::stdin());
    let mut line = String::new();
    let read = input.by_ref().take(MAX_ORDER).read_line(&mut line);
    let order: Order = match read.map(|_| serde_json::from_str(&line)) {
        Ok(Ok(order)) => order,
        _ => return complain("the sandbox got no order"),
    };
    if let Err(error) = forward(&order) {
        return complain(&format!("no way out of the sandbox can be opened: {error}"));
    }
    if let Err(error) = limit(&order) {
        return complain(&format!("the limits cannot be set: {error}"));
    }
    let Some((program, arguments)) = order.argv.split_first() else {
        return complain("the sandbox was told to run nothing");
    };
    let started = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(&order.env)
        .current_dir(&order.cwd)
        .stdin(Stdio::null())
        .process_group(0)
        .spawn();
    let child = match started {
        Ok(child) => child.id(),
        Err(error) => {
            return complain(&format!("cannot run {program} in {}: {error}", order.cwd));
        }
    };
    let Ok(child) = i32::try_from(child) else {
        return NOT_STARTED;
    };
    thread::spawn(move || obey(input, child));
    reap(child)
}

fn complain(message: &str) -> i32 {
    let _ = writeln!(io::stderr(), "astraler: {message}");
    NOT_STARTED
}

/// Signals that the runner asks for go to the step's group; the end of the runner ends all.
fn obey(input: BufReader<io::Stdin>, child: i32) {
    for line in input.lines() {
        let Ok(line) = line else { break };
        let number = line
            .strip_prefix(SIGNAL)
            .and_then(|text| text.parse::<i32>().ok());
        if let Some(signal) = number.and_then(|number| Signal::try_from(number).ok()) {
            let _ = kill(Pid::from_raw(-child), signal);
        }
    }
    std::process::exit(128 + Signal::SIGKILL as i32);
}

fn reap(child: i32) -> i32 {
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid.as_raw() == child => return code,
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid.as_raw() == child => {
                return 128 + signal as i32;
            }
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(_) => return NOT_STARTED,
        }
    }
}

fn limit(order: &Order) -> nix::Result<()> {
    // Where memory runs out, a step goes before its runner, and before all else. A machine without this file has no such
    // order.
    let _ = crate::engine::write(Path::new("/proc/self/oom_score_adj"), b"1000");
    for (resource, wanted) in [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_NOFILE, OPEN_FILES),
        (Resource::RLIMIT_FSIZE, order.file_bytes),
        (Resource::RLIMIT_NPROC, order.processes),
    ] {
        // A limit may be lowered by everyone, never raised.
        let (_, hard) = nix::sys::resource::getrlimit(resource)?;
        let value = wanted.min(hard);
        setrlimit(resource, value, value)?;
    }
    Ok(())
}

/// Opens the loopback ports that lead out: the proxy, and those of the machine that the job may reach.
fn forward(order: &Order) -> io::Result<()> {
    if !order.proxy {
        return Ok(());
    }
    let open = Arc::new(AtomicUsize::new(0));
    let targets =
        std::iter::once((PROXY_PORT, None)).chain(order.ports.iter().map(|port| (*port, Some(*port))));
    for (port, target) in targets {
        for address in [
            SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
        ] {
            match TcpListener::bind(address) {
                Ok(listener) => {
                    let open = Arc::clone(&open);
                    thread::spawn(move || accept(&listener, target, &open));
                }
                // A machine without IPv6 has no such loopback.
                Err(_) if address.is_ipv6() => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

fn accept(listener: &TcpListener, target: Option<u16>, open: &Arc<AtomicUsize>) {
    for client in listener.incoming() {
        let Ok(client) = client else { continue };
        if open.fetch_add(1, Ordering::SeqCst) >= MAX_CONNECTIONS {
            open.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let open = Arc::clone(open);
        thread::spawn(move || {
            let _ = serve(client, target);
            open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

fn serve(client: TcpStream, target: Option<u16>) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut out = UnixStream::connect(PROXY_SOCKET)?;
    if let Some(port) = target {
        write!(
            out,
            "CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
        )?;
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() > MAX_ANSWER || out.read(&mut byte)? == 0 {
                return Ok(());
            }
            answer.push(byte[0]);
        }
        if !answer.starts_with(b"HTTP/1.1 200") {
            return Ok(());
        }
    }
    let (mut from, mut to) = (client.try_clone()?, out.try_clone()?);
    let up = thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
    let mut client = client;
    let _ = io::copy(&mut out, &mut client);
    let _ = client.shutdown(std::net::Shutdown::Write);
    let _ = up.join();
    Ok(())
}
