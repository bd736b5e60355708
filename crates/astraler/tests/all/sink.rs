//! What alerts go to, for tests: servers of this process.

use astraler_testkit::Platform;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// PagerDuty, Slack and a mail server in one: it hears what is said, or answers that it is away.
pub(crate) struct Sink {
    pub(crate) port: u16,
    pub(crate) away: Arc<AtomicBool>,
    heard: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Sink {
    /// It is away until it is told otherwise.
    pub(crate) fn new(speak: fn(TcpStream, bool) -> Option<String>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (away, heard) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(vec![])));
        let (gone, all) = (Arc::clone(&away), Arc::clone(&heard));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (gone, all) = (Arc::clone(&gone), Arc::clone(&all));
                std::thread::spawn(move || {
                    let said = speak(stream, gone.load(Ordering::SeqCst));
                    all.lock()
                        .unwrap()
                        .extend(said.map(|said| (Instant::now(), said)));
                });
            }
        });
        Self { port, away, heard }
    }

    /// How often it heard something with these words.
    pub(crate) fn heard(&self, words: &str) -> usize {
        let all = self.heard.lock().unwrap();
        all.iter().filter(|(_, said)| said.contains(words)).count()
    }

    /// When it first did, and what it was.
    pub(crate) fn first(&self, words: &str) -> Option<(Instant, String)> {
        let all = self.heard.lock().unwrap();
        all.iter().find(|(_, said)| said.contains(words)).cloned()
    }
}

pub(crate) fn http(stream: TcpStream, away: bool) -> Option<String> {
    let mut stream = BufReader::new(stream);
    let (mut said, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        said.push_str(&line);
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    said.push_str(&String::from_utf8(body).unwrap());
    let (status, answer) = match (away, said.starts_with("POST /v2/enqueue ")) {
        (true, _) => ("503 Away", "away"),
        (false, true) => ("202 Accepted", "{}"),
        (false, false) => ("200 OK", "ok"),
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{answer}",
        answer.len()
    );
    stream.get_mut().write_all(answer.as_bytes()).ok()?;
    (!away).then_some(said)
}

pub(crate) fn smtp(stream: TcpStream, away: bool) -> Option<String> {
    let mut stream = BufReader::new(stream);
    let (mut said, mut in_mail) = (String::new(), false);
    let mut answer = if away { "421 away\r\n" } else { "220 sink\r\n" };
    loop {
        stream.get_mut().write_all(answer.as_bytes()).ok()?;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
            let ends = line == ".\r\n";
            said.push_str(&line);
            if !in_mail || ends {
                answer = match line.get(..4).unwrap_or_default() {
                    "EHLO" => "250-sink\r\n250 AUTH PLAIN\r\n",
                    "AUTH" => "235 welcome\r\n",
                    "DATA" => "354 go on\r\n",
                    "QUIT" => return Some(said),
                    _ => "250 ok\r\n",
                };
                in_mail = line.starts_with("DATA");
                break;
            }
        }
    }
}

/// Keeps a secret of the platform and grants it to alerts.
#[track_caller]
pub(crate) fn give(platform: &Platform, name: &str, value: &str) {
    give_to(platform, name, value, "alerts");
}

/// Sets a secret of the platform, and grants it to one of its services.
pub(crate) fn give_to(platform: &Platform, name: &str, value: &str, service: &str) {
    let mut child = platform
        .command(&["secrets", "set", name, "--env", "platform"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(value.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    platform
        .run(&["secrets", "grant", name, "--env", "platform", "--to", service])
        .unwrap()
        .ok();
}
