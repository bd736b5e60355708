//! `astraler waf test`: regression files of the Core Rule Set, here or over the wire.

use super::{folder, not_loaded};
use crate::cli::{Arguments, WafTestArguments};
use crate::failure::{Failure, Kind, Outcome};
use crate::progress::line;
use crate::table;
use astraler_waf::ruleset::Files;
use astraler_waf::suite::{self, Case, Verdict};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// What a server may take for one request.
const PATIENCE: Duration = Duration::from_secs(10);
/// A status line is found in the first bytes, or not at all.
const STATUS_LINE: usize = 64;

pub(super) fn run(arguments: &Arguments, asked: &WafTestArguments) -> Outcome {
    let unreadable =
        |error: String| Failure::new(Kind::General, error).hint("--tests names a folder of YAML files");
    let cases = suite::read(&asked.tests).map_err(unreadable)?;
    if cases.is_empty() {
        return Err(unreadable(format!(
            "there are no tests in {}",
            asked.tests.display()
        )));
    }
    let mut tally = Tally {
        json: asked.json.json,
        ..Tally::default()
    };
    if let Some(target) = &asked.target {
        let server = server(target)?;
        for case in &cases {
            tally.count(case, over_the_wire(server, case)?);
        }
    } else {
        let folder = folder(arguments, asked.rules.as_ref());
        let files = Files::find(&folder).map_err(|error| not_loaded(&error, None))?;
        let setup = asked.setup.as_ref().or(files.setup.first());
        let inner = folder.join("rules");
        let rules = if inner.is_dir() { &inner } else { &folder };
        let program = suite::program(rules, setup.map(|path| path.as_path()))
            .map_err(|error| not_loaded(&error, None))?;
        for case in &cases {
            tally.count(case, suite::run(&program, case));
        }
    }
    tally.close()
}

#[derive(Default)]
struct Tally {
    json: bool,
    passed: usize,
    failed: usize,
    skipped: usize,
    /// What did not pass, for JSON.
    others: Vec<serde_json::Value>,
}

impl Tally {
    fn count(&mut self, case: &Case, verdict: Verdict) {
        let (word, why) = match verdict {
            Verdict::Passed => {
                self.passed += 1;
                return;
            }
            Verdict::Failed(why) => {
                self.failed += 1;
                ("failed", why)
            }
            Verdict::Skipped(why) => {
                self.skipped += 1;
                ("skipped", why)
            }
        };
        if self.json {
            self.others.push(serde_json::json!({
                "test": case.name,
                "file": case.file,
                "verdict": word,
                "why": why,
            }));
        } else {
            line(&format!("{} {word}: {why}", case.name));
        }
    }

    fn close(self) -> Outcome {
        let Self {
            passed,
            failed,
            skipped,
            ..
        } = self;
        if self.json {
            table::print_json(&serde_json::json!({
                "passed": passed,
                "failed": failed,
                "skipped": skipped,
                "tests": self.others,
            }))?;
        } else {
            line(&format!("{passed} passed, {failed} failed, {skipped} skipped"));
        }
        match failed {
            0 => Ok(()),
            _ => Err(Failure::said(Kind::General)),
        }
    }
}

fn server(target: &str) -> Outcome<SocketAddr> {
    let wrong = || {
        Failure::new(Kind::General, format!("{target} is no server that can be asked"))
            .hint("http://HOST:PORT, without a path; tests break HTTP in ways that TLS would only hide")
    };
    let uri: http::Uri = target.parse().map_err(|_| wrong())?;
    let host = uri
        .host()
        .filter(|_| uri.scheme_str() == Some("http") && uri.path() == "/");
    let host = host.ok_or_else(wrong)?.trim_matches(['[', ']']);
    let addresses = (host, uri.port_u16().unwrap_or(80)).to_socket_addrs();
    addresses
        .map_err(|error| wrong().details(vec![error.to_string()]))?
        .next()
        .ok_or_else(wrong)
}

fn over_the_wire(server: SocketAddr, case: &Case) -> Outcome<Verdict> {
    let mut last = Verdict::Skipped("there is no request in it".to_owned());
    for stage in &case.stages {
        let connection = TcpStream::connect_timeout(&server, PATIENCE)
            .map_err(|error| Failure::of(&error).context(format!("{server} cannot be reached")))?;
        last = match status(connection, &stage.request) {
            Ok(status) => suite::judge(&stage.expected, status),
            Err(error) => Verdict::Failed(format!("no answer: {error}")),
        };
        if last != Verdict::Passed {
            break;
        }
    }
    Ok(last)
}

/// The status that a server answers. A server may answer, and close, before it has read everything.
fn status(mut connection: TcpStream, request: &[u8]) -> io::Result<u16> {
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    let sent = connection.write_all(request);
    let mut start = [0; STATUS_LINE];
    let mut length = 0;
    while length < STATUS_LINE && !start[..length].contains(&b'\n') {
        match connection.read(&mut start[length..]) {
            Ok(0) => break,
            Ok(bytes) => length += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return sent.and(Err(error)),
        }
    }
    let words = String::from_utf8_lossy(&start[..length]);
    words
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1)?.trim().parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "what came is no HTTP/1.1 answer"))
}
