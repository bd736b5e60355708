//! Where alerts are heard: a server on loopback that answers as PagerDuty's Events API v2 and as an incoming webhook of
//! Slack do, and keeps what it was told.

use crate::Failure;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);
/// Longer is no notice.
const MAX_BODY: u64 = 1 << 20;
/// More are not kept.
const MAX_HEARD: usize = 1_000;

/// A notice.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    /// When.
    pub(crate) at: Instant,
    /// `/slack` or `/pagerduty`.
    pub(crate) path: String,
    /// What it said.
    pub(crate) body: Value,
}

/// The server; its thread ends with the process.
pub(crate) struct Sink {
    port: u16,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Sink {
    pub(crate) fn start() -> Result<Self, Failure> {
        let failed = |error: std::io::Error| format!("cannot listen for alerts: {error}");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let heard: Arc<Mutex<Vec<Heard>>> = Arc::default();
        let keeps = Arc::clone(&heard);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Some(one) = answer(stream) {
                    let mut all = keeps.lock().unwrap_or_else(PoisonError::into_inner);
                    if all.len() < MAX_HEARD {
                        all.push(one);
                    }
                }
            }
        });
        Ok(Self { port, heard })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Everything so far.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn answer(stream: TcpStream) -> Option<Heard> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split_whitespace().nth(1)?.to_owned();
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let field = line.trim().to_ascii_lowercase();
        if field.is_empty() {
            break;
        }
        if let Some(value) = field.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = Vec::new();
    reader
        .by_ref()
        .take(u64::min(length, MAX_BODY))
        .read_to_end(&mut body)
        .ok()?;
    let body = serde_json::from_slice(&body).ok()?;
    let (status, words) = match path.as_str() {
        "/pagerduty" => (
            "202 Accepted",
            r#"{"status":"success","message":"Event processed","dedup_key":"day"}"#,
        ),
        _ => ("200 OK", "ok"),
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{words}",
        words.len()
    );
    reader.get_mut().write_all(answer.as_bytes()).ok()?;
    Some(Heard {
        at: Instant::now(),
        path,
        body,
    })
}
