//! The regression files of the Core Rule Set, run in this process.
//!
//! The files say what is sent and which rules must match or must not, with the rules at paranoia level 4 in
//! DetectionOnly. Behind the rules stands what the project's own runner has there: a server that answers 200 and, under
//! `/reflect`, whatever the request's JSON body asks for.

mod case;
mod wire;
mod yaml;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

pub use case::{Case, Expected, Stage, read};

use crate::compile::Program;
use crate::engine::{Known, Limits, Report, Request, Response};
use crate::seclang::{LoadError, Rules};

/// What is set for the suite before its setup and the rules: what its files are written for. The id is none that the
/// project's own setup for its tests has.
pub const SETUP: &str = r#"
SecResponseBodyAccess On
SecAction "id:200011,phase:1,nolog,pass,\
    setvar:tx.blocking_paranoia_level=4,setvar:tx.detection_paranoia_level=4,\
    setvar:tx.paranoia_level=4,setvar:tx.executing_paranoia_level=4,\
    setvar:tx.crs_validate_utf8_encoding=1,\
    setvar:tx.max_num_args=255,setvar:tx.arg_name_length=100,setvar:tx.arg_length=400,\
    setvar:tx.total_arg_length=64000,setvar:tx.max_file_size=64100,setvar:tx.combined_file_sizes=65535"
"#;

/// How a test went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As expected.
    Passed,
    /// Otherwise; what was expected.
    Failed(String),
    /// Not run; why.
    Skipped(String),
}

/// Compiles the rules of a folder as the suite wants them: after a setup file, at paranoia level 4, in DetectionOnly.
pub fn program(rules: &Path, setup: Option<&Path>) -> Result<Program, LoadError> {
    let setup: Vec<PathBuf> = setup.map(Path::to_path_buf).into_iter().collect();
    let rules = Rules::base()
        .text(SETUP, Path::new("suite.conf"))
        .files(&setup)
        .text("SecRuleEngine DetectionOnly\n", Path::new("suite.conf"))
        .files(&rule_files(rules));
    Program::new(&rules)
}

/// The rule files of a folder, in the order of their names, without its setup.
pub fn rule_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "conf") && !path.ends_with("crs-setup.conf"))
        .collect();
    files.sort();
    files
}

/// Runs one test.
pub fn run(program: &Program, case: &Case) -> Verdict {
    for stage in &case.stages {
        if let Some(key) = &stage.expected.unknown {
            return Verdict::Skipped(format!("what {key} expects is not known here"));
        }
        let (status, report) = answered(program, stage);
        if let Err(what) = check(&stage.expected, status, report.as_ref()) {
            return Verdict::Failed(what);
        }
    }
    Verdict::Passed
}

/// A stage's answer. Servers differ in what they refuse before any rule: where rules are expected to match, the file was
/// written for a server that does not, and they see what can be read of the request.
fn answered(program: &Program, stage: &Stage) -> (u16, Option<Report>) {
    let reaches_rules = !stage.expected.ids.is_empty() || stage.expected.line.is_some();
    match wire::read(&stage.request) {
        Ok(read) => through(program, &read, None, Limits::default()),
        Err(_) if reaches_rules => match wire::read_loosely(&stage.request) {
            Some(read) => {
                let (status, report) = through(program, &read, None, Limits::default());
                let status = if stage.expected.status == Some(REFUSED) {
                    REFUSED
                } else {
                    status
                };
                (status, report)
            }
            None => (REFUSED, None),
        },
        Err(_) => (REFUSED, None),
    }
}

/// What a server answers to what it does not take for a request.
const REFUSED: u16 = 400;

/// Why a server would refuse these bytes before any rule sees them.
pub fn refusal(bytes: &[u8]) -> Option<&'static str> {
    wire::read(bytes).err()
}

/// What a status says of a test, where a server is asked over the wire and its log is not seen: it must have refused what
/// rules are expected to match, and nothing else. Such a server blocks, at paranoia level 4.
pub fn judge(expected: &Expected, status: u16) -> Verdict {
    const BLOCKED: u16 = 403;
    if let Some(wanted) = expected.status {
        return match status == wanted {
            true => Verdict::Passed,
            false => Verdict::Failed(format!("status {status} instead of {wanted}")),
        };
    }
    let is_refused = status == BLOCKED;
    if !expected.ids.is_empty() || expected.line.is_some() {
        match is_refused {
            true => Verdict::Passed,
            false => Verdict::Failed(format!("status {status}: it was not refused")),
        }
    } else if !expected.no_ids.is_empty() || expected.no_line.is_some() {
        match is_refused {
            false => Verdict::Passed,
            true => Verdict::Failed(format!("status {status}: it was refused")),
        }
    } else {
        Verdict::Skipped("nothing is expected that a status could show".to_owned())
    }
}

/// Sends a request through the rules: the status of the answer, and what matched if it got as far as the rules.
pub fn send(program: &Program, bytes: &[u8]) -> (u16, Option<Report>) {
    send_within(program, bytes, Limits::default())
}

/// As [`send`], within limits of one's own.
pub fn send_within(program: &Program, bytes: &[u8], limits: Limits) -> (u16, Option<Report>) {
    match wire::read(bytes) {
        Ok(read) => through(program, &read, None, limits),
        Err(_) => (REFUSED, None),
    }
}

/// As [`send`], to a server that answers this page, where there is one.
pub fn send_answered(program: &Program, bytes: &[u8], page: Option<&[u8]>) -> (u16, Option<Report>) {
    match wire::read(bytes) {
        Ok(read) => through(program, &read, page, Limits::default()),
        Err(_) => (REFUSED, None),
    }
}

fn through(
    program: &Program,
    read: &wire::Read<'_>,
    page: Option<&[u8]>,
    limits: Limits,
) -> (u16, Option<Report>) {
    let answer = match page {
        Some(page) => Answer::page(page),
        None => answer(read),
    };
    let headers = answer.fields();
    let response = Response {
        status: answer.status,
        protocol: b"HTTP/1.1",
        headers: &headers,
    };
    let mut transaction = program.begin(request(read), None, limits);
    transaction.request_headers();
    transaction.request_body(&read.body, false);
    let stopped = transaction.interruption().map(|one| one.status);
    transaction.response_headers(response);
    transaction.response_body(&answer.body, false);
    let report = transaction.finish();
    (stopped.unwrap_or(answer.status), Some(report))
}

/// As [`send`], with a pause before each phase, as a server makes them that has to wait: the same comes of it.
pub fn send_in_turns(program: &Program, bytes: &[u8]) -> (u16, Option<Report>) {
    let Ok(read) = wire::read(bytes) else {
        return (REFUSED, None);
    };
    let request = request(&read);
    let answer = answer(&read);
    let headers = answer.fields();
    let response = Response {
        status: answer.status,
        protocol: b"HTTP/1.1",
        headers: &headers,
    };
    let known = |response| Known {
        request: request.clone(),
        request_body: &read.body,
        response,
    };
    let mut first = program.begin(request.clone(), None, Limits::default());
    first.request_headers();
    let mut paused = first.pause();
    let mut second = program.resume(&mut paused, known(None), None);
    second.request_body(&read.body, false);
    let stopped = second.interruption().map(|one| one.status);
    let mut paused = second.pause();
    let mut third = program.resume(&mut paused, known(None), None);
    third.response_headers(response.clone());
    let mut paused = third.pause();
    let mut fourth = program.resume(&mut paused, known(Some(response.clone())), None);
    fourth.response_body(&answer.body, false);
    let mut paused = fourth.pause();
    let report = program.resume(&mut paused, known(Some(response)), None).finish();
    (stopped.unwrap_or(answer.status), Some(report))
}

fn request<'t>(read: &'t wire::Read<'t>) -> Request<'t> {
    Request {
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        client_port: 40_000,
        server: IpAddr::V4(Ipv4Addr::LOCALHOST),
        server_port: 80,
        method: read.method,
        target: read.target,
        protocol: read.protocol,
        headers: &read.headers,
        unique_id: "suite",
        now: 1_700_000_000,
        country: None,
    }
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn page(body: &[u8]) -> Self {
        Self {
            status: 200,
            headers: vec![("Content-Type".to_owned(), "text/html".to_owned())],
            body: body.to_vec(),
        }
    }

    fn fields(&self) -> Vec<(&[u8], &[u8])> {
        let headers = self.headers.iter();
        headers
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect()
    }
}

/// What the server behind the rules answers.
fn answer(read: &wire::Read<'_>) -> Answer {
    let mut answer = Answer {
        status: 200,
        headers: Vec::new(),
        body: Vec::new(),
    };
    let path = read.target.split(|byte| *byte == b'?').next().unwrap_or_default();
    if path == b"/reflect"
        && let Ok(wanted) = serde_json::from_slice::<serde_json::Value>(&read.body)
    {
        if let Some(status) = wanted["status"].as_u64().and_then(|one| u16::try_from(one).ok()) {
            answer.status = status;
        }
        if let Some(headers) = wanted["headers"].as_object() {
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            answer
                .headers
                .extend(headers.iter().map(|(name, value)| (name.clone(), text(value))));
        }
        if let Some(body) = wanted["body"].as_str() {
            answer.body = body.as_bytes().to_vec();
        } else if let Some(encoded) = wanted["encodedBody"].as_str() {
            use base64::Engine as _;
            answer.body = base64::engine::general_purpose::STANDARD
                .decode(encoded)
                .unwrap_or_default();
        }
    }
    let has_type = answer
        .headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    if !has_type {
        // What a server guesses that sends text without saying so.
        let kind = if answer.body.trim_ascii_start().starts_with(b"<") {
            "text/html"
        } else {
            "text/plain"
        };
        answer.headers.push(("Content-Type".to_owned(), kind.to_owned()));
    }
    answer
}

fn check(expected: &Expected, status: u16, report: Option<&Report>) -> Result<(), String> {
    let lines: Vec<String> = report.map_or_else(Vec::new, |report| report.matches.iter().map(line).collect());
    let matched = |id: &u64| report.is_some_and(|report| report.matches.iter().any(|one| one.rule == *id));
    let mut wrong: Vec<String> = Vec::new();
    if report.is_none() && !(expected.ids.is_empty() && expected.line.is_none()) {
        wrong.push("the server refused the request".to_owned());
    }
    wrong.extend(
        expected
            .ids
            .iter()
            .filter(|id| !matched(id))
            .map(|id| format!("{id} did not match")),
    );
    wrong.extend(
        expected
            .no_ids
            .iter()
            .filter(|id| matched(id))
            .map(|id| format!("{id} matched")),
    );
    for (pattern, wanted) in [(&expected.line, true), (&expected.no_line, false)] {
        let Some(pattern) = pattern else { continue };
        let compiled = crate::operator::pattern(pattern).map_err(|error| error.message)?;
        if lines.iter().any(|line| compiled.fits(line.as_bytes())) != wanted {
            wrong.push(format!("lines that match {pattern}: {}", !wanted));
        }
    }
    if let Some(expected) = expected.status.filter(|expected| *expected != status) {
        wrong.push(format!("status {status} instead of {expected}"));
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("; "))
    }
}

/// A match as ModSecurity writes it to an error log, which some tests look at.
fn line(one: &crate::engine::Match) -> String {
    let mut line = format!(
        "ModSecurity: Warning. Matched against variable `{}' [id \"{}\"] [msg \"{}\"] [data \"{}\"]",
        one.variable, one.rule, one.msg, one.data
    );
    for tag in &*one.tags {
        line.push_str(&format!(" [tag \"{tag}\"]"));
    }
    line
}
