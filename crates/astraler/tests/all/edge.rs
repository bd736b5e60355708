//! The edge by itself, as a process.

#![expect(clippy::disallowed_methods, reason = "tests: no file is for keeps")]

use crate::support::{PROGRAM, eventually};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

/// A running edge; killed when dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
}

impl Running {
    pub(crate) fn start(words: &[&str]) -> Self {
        Self::logging(words, Stdio::inherit())
    }

    /// Its log goes there.
    pub(crate) fn logging(words: &[&str], log: impl Into<Stdio>) -> Self {
        let mut child = Command::new(PROGRAM)
            .arg("edge")
            .args(words)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.trim().rsplit_once('/').unwrap().1;
        Self {
            child,
            address: address.parse().unwrap(),
        }
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Answers every request with its name, one request a connection; ends with the test.
pub(crate) fn origin(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut line = String::new();
            while stream.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            let length = name.len();
            let answer =
                format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{name}");
            let _ = stream.get_mut().write_all(answer.as_bytes());
        }
    });
    address
}

pub(crate) fn get(address: SocketAddr, host: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn it_serves_an_origin_by_itself_and_reads_its_file_again() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (origin("one"), origin("two"));
    let file = folder.path().join("edge.toml");
    let write = |more: &str| {
        let text = format!("[[sites]]\nhosts = [\"one.test\"]\norigin = \"http://{one}\"\n{more}");
        std::fs::write(&file, text).unwrap();
    };
    write("");
    let log = folder.path().join("access.log");
    let mut edge = Running::start(&[
        "--listen",
        "127.0.0.1:0",
        "--config",
        path(&file),
        "--access-log",
        path(&log),
    ]);
    let body = |host: &str| get(edge.address, host).unwrap().split_off(9);
    assert!(body("one.test").ends_with("one"));
    assert!(body("two.test").starts_with("421"), "{}", body("two.test"));

    write(&format!("[[sites]]\norigin = \"http://{two}\"\n"));
    edge.signal(nix::sys::signal::Signal::SIGHUP);
    eventually("the file is read", PATIENCE, || body("two.test").ends_with("two"));
    // A file with an error changes nothing.
    write("[[sites]]\norign = \"http://127.0.0.1:1\"\n");
    edge.signal(nix::sys::signal::Signal::SIGHUP);
    for _ in 0..50 {
        assert!(body("two.test").ends_with("two"));
    }

    edge.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(edge.child.wait().unwrap().success());
    let lines = std::fs::read_to_string(&log).unwrap();
    assert!(lines.lines().count() >= 4, "{lines}");
    assert!(
        lines.lines().all(|line| line.contains("\"environment\":")),
        "{lines}"
    );
}

#[test]
fn a_successor_takes_over_without_one_failed_request() {
    let origin = format!("http://{}", origin("app"));
    let mut edge = Running::start(&["--listen", "127.0.0.1:0", "--origin", &origin]);
    let address = edge.address;
    let going = Arc::new(AtomicBool::new(true));
    let asked = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (going, asked) = (going.clone(), asked.clone());
            std::thread::spawn(move || {
                while going.load(Ordering::Relaxed) {
                    let answer = get(address, "a.test").unwrap();
                    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    eventually("requests are served", PATIENCE, || {
        asked.load(Ordering::Relaxed) > 100
    });
    edge.signal(nix::sys::signal::Signal::SIGUSR2);
    assert!(edge.child.wait().unwrap().success(), "the first one drained");
    let before = asked.load(Ordering::Relaxed);
    eventually("the successor serves", PATIENCE, || {
        asked.load(Ordering::Relaxed) > before + 100
    });
    going.store(false, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    let holder = astraler_host::port::holder(address).unwrap();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(holder.pid).unwrap()),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    eventually("nobody listens any more", PATIENCE, || {
        TcpStream::connect(address).is_err()
    });
}

#[test]
fn it_speaks_tls_with_a_certificate_that_changes_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let origin = format!("http://{}", origin("app"));
    let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
    let issue = || {
        let made = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
        std::fs::write(&chain, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        made.cert.der().clone()
    };
    let first = issue();
    let edge = Running::start(&[
        "--listen-tls",
        "127.0.0.1:0",
        "--origin",
        &origin,
        "--certificate",
        path(&chain),
        "--key",
        path(&key),
    ]);
    let ask = |trusted: &CertificateDer<'static>| get_over_tls(edge.address, "a.test", trusted);
    let answer = ask(&first).unwrap();
    assert!(answer.ends_with("app"));
    let port = edge.address.port();
    assert!(
        answer.contains(&format!("h3=\":{port}\"")),
        "HTTP/3 is offered: {answer}"
    );
    assert!(
        std::net::UdpSocket::bind(edge.address).is_err(),
        "and listened for"
    );
    let second = issue();
    assert!(ask(&second).is_err(), "not read yet");
    edge.signal(nix::sys::signal::Signal::SIGHUP);
    eventually("the certificate is read", PATIENCE, || {
        ask(&second).is_ok_and(|answer| answer.ends_with("app"))
    });
}

/// One request by a client that trusts this certificate alone.
pub(crate) fn get_over_tls(
    address: SocketAddr,
    host: &'static str,
    trusted: &CertificateDer<'static>,
) -> std::io::Result<String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = host.try_into().unwrap();
    let connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, TcpStream::connect(address)?);
    write!(
        stream,
        "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn private_names_have_a_certificate_of_a_local_ca_that_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let origin = format!("http://{}", origin("app"));
    let state = folder.path().join("state");
    let start = || {
        Running::start(&[
            "--listen-tls",
            "127.0.0.1:0",
            "--origin",
            &origin,
            "--state-folder",
            path(&state),
        ])
    };
    let edge = start();
    let root = CertificateDer::from_pem_file(state.join("local-ca.pem")).unwrap();
    for host in ["localhost", "127.0.0.1"] {
        let answer = get_over_tls(edge.address, host, &root).unwrap();
        assert!(answer.ends_with("app"), "{host}: {answer}");
    }
    assert!(get_over_tls(edge.address, "other.test", &root).is_err());
    // The same CA for the next one, and nobody else can read its key.
    drop(edge);
    let edge = start();
    assert!(get_over_tls(edge.address, "localhost", &root).is_ok());
    let mode = |name: &str| state.join(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("."), mode("local-ca.key.pem")), (0o700, 0o600));
    // A CA that was damaged is not replaced in silence: nobody would trust the new one.
    drop(edge);
    std::fs::write(state.join("local-ca.key.pem"), "damaged").unwrap();
    let words = [
        "edge",
        "--listen-tls",
        "127.0.0.1:0",
        "--origin",
        &origin,
        "--state-folder",
    ];
    let refused = Command::new(PROGRAM).args(words).arg(&state).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        said.contains("local-ca.key.pem") && said.contains("bring the file back"),
        "{said}"
    );
}

/// Kills it with its cache in full swing, again and again: what it finds afterwards is right, and what was purged stays
/// away.
#[test]
fn a_cache_whose_edge_is_killed_never_lies() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let generation = Arc::new(AtomicU64::new(0));
    let now = generation.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut target = String::new();
            if stream.read_line(&mut target).is_err() {
                continue;
            }
            let mut line = String::new();
            while stream.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            let target = target.split(' ').nth(1).unwrap_or_default();
            let body = format!("{target} {} {}", now.load(Ordering::SeqCst), target.repeat(4_000));
            let length = body.len();
            let _ = write!(
                stream.get_mut(),
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncache-control: max-age=600\r\ncontent-length: {length}\r\n\r\n{body}"
            );
        }
    });
    let ask = |address: SocketAddr, method: &str, target: &str| -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(
            stream,
            "{method} {target} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let mut hits = 0;
    for round in 0..10_u64 {
        let mut edge = Running::start(&[
            "--listen",
            "127.0.0.1:0",
            "--origin",
            &origin,
            "--cache-folder",
            path(&folder.path().join("cache")),
        ]);
        let address = edge.address;
        let current = generation.load(Ordering::SeqCst);
        for number in 0..20 {
            let target = format!("/{number}");
            let answer = ask(address, "GET", &target).unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            hits += u64::from(head.to_ascii_lowercase().contains("cf-cache-status: hit"));
            let mut words = body.split(' ');
            assert_eq!(words.next(), Some(&*target), "round {round}");
            let of: u64 = words.next().unwrap().parse().unwrap();
            assert!(
                of == current || number != 0,
                "round {round}: what an unsafe request voided is back"
            );
            assert!(of <= current);
            assert_eq!(words.next(), Some(&*target.repeat(4_000)), "round {round}");
        }
        // Another version of one page; the edge hears of it, and is killed while it writes others.
        generation.fetch_add(1, Ordering::SeqCst);
        ask(address, "DELETE", "/0").unwrap();
        let writer = std::thread::spawn(move || {
            (20..400)
                .take_while(|number| ask(address, "GET", &format!("/{round}-{number}")).is_ok())
                .count()
        });
        std::thread::park_timeout(Duration::from_millis(round * 7));
        edge.child.kill().unwrap();
        edge.child.wait().unwrap();
        assert!(writer.join().unwrap() < 380, "it was killed before the end");
    }
    assert!(hits > 20, "{hits} hits: something was kept");
}

#[test]
fn a_client_has_so_many_connections_and_the_process_so_much_memory() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("edge.toml");
    let origin = origin("app");
    let start = |limit: &str| {
        let text = format!("[edge.limits]\n{limit}\n[[sites]]\norigin = \"http://{origin}\"\n");
        std::fs::write(&file, text).unwrap();
        Running::start(&["--listen", "127.0.0.1:0", "--config", path(&file)])
    };
    let edge = start("max_connections_per_client = 2");
    let held: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = TcpStream::connect(edge.address).unwrap();
            write!(stream, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
            // Answered, so it has been let in: each thread accepts for itself.
            let mut start = [0; 12];
            stream.read_exact(&mut start).unwrap();
            assert_eq!(&start, b"HTTP/1.1 200");
            stream
        })
        .collect();
    eventually("a third one is refused", PATIENCE, || {
        get(edge.address, "a.test").is_ok_and(|answer| answer.starts_with("HTTP/1.1 503"))
    });
    drop(held);
    eventually("there is a place again", PATIENCE, || {
        get(edge.address, "a.test").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    });

    let edge = start("max_memory_bytes = 1048576");
    eventually("load is shed", PATIENCE, || {
        let answer = get(edge.address, "a.test")
            .unwrap_or_default()
            .to_ascii_lowercase();
        answer.starts_with("http/1.1 503") && answer.contains("retry-after:")
    });
}

#[test]
fn what_is_wrong_is_said_with_the_next_step() {
    let run = |words: &[&str]| {
        let output = Command::new(PROGRAM).arg("edge").args(words).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = run(&[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("--origin"), "{said}");
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let (code, said) = run(&["--listen", &address, "--origin", "http://127.0.0.1:1"]);
    assert_eq!(code, Some(6), "{said}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("edge.toml");
    let state = folder.path().join("state");
    let text = "[[sites]]\nhosts = [\"shop.com\"]\norigin = \"http://127.0.0.1:1\"\n";
    std::fs::write(&file, text).unwrap();
    let (code, said) = run(&[
        "--listen-tls",
        "127.0.0.1:0",
        "--config",
        path(&file),
        "--state-folder",
        path(&state),
    ]);
    assert_eq!(code, Some(1));
    assert!(!state.exists(), "no CA for a public name");
    assert!(said.contains("--certificate"), "{said}");
    let (code, said) = run(&["--origin", "ftp://example"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("http://HOST:PORT"), "{said}");
    let (code, said) = run(&["--config", "/nowhere/edge.toml"]);
    assert_eq!(code, Some(3), "{said}");
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// With the allocator of the program, which gives memory back in its own time.
#[test]
fn when_memory_is_there_again_it_serves_again() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    // More sockets than a shell allows; the edge inherits it.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let origin = origin("app");
    let file = folder.path().join("edge.toml");
    let start = |budget: u64| {
        let text = format!(
            "[edge.limits]\nheader_timeout_ms = 120000\nmax_connections_per_client = 0\nmax_memory_bytes = {budget}\n\
            [[sites]]\norigin = \"http://{origin}\"\n"
        );
        std::fs::write(&file, text).unwrap();
        Running::start(&["--listen", "127.0.0.1:0", "--config", path(&file)])
    };
    let status = |edge: &Running| get(edge.address, "app.test").map(|answer| answer[9..12].to_owned());

    let edge = start(0);
    assert_eq!(status(&edge).unwrap(), "200");
    let budget = resident_bytes(edge.child.id()) * 5 / 4 + (40 << 20);
    drop(edge);

    let edge = start(budget);
    assert_eq!(status(&edge).unwrap(), "200");
    // Heads that never end, each nearly as long as a head may be.
    let head = format!("GET / HTTP/1.1\r\nHost: app.test\r\nX: {}", "x".repeat(30_000));
    let mut held = Vec::new();
    let shed = (0..8_000).any(|count| {
        let mut stream = TcpStream::connect(edge.address).unwrap();
        let _ = stream.write_all(head.as_bytes());
        held.push(stream);
        // Looked at ten times a second; a new connection is told so before it is asked anything.
        count % 50 == 49 && status(&edge).is_ok_and(|status| status == "503")
    });
    assert!(shed, "{} of {budget} bytes", resident_bytes(edge.child.id()));
    assert!(resident_bytes(edge.child.id()) < budget);
    drop(held);
    eventually("it serves again", PATIENCE, || {
        status(&edge).is_ok_and(|status| status == "200")
    });
}

/// proc_pid_statm(5).
fn resident_bytes(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
