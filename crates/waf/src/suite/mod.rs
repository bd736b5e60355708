//! The regression files of the Core Rule Set, run in this process.
//!
//! The files say what is sent and which rules must match or must not, with the rules at paranoia level 4 in
//! DetectionOnly. Behind the rules stands what the project's own runner has there: a server that answers 200 and, under
//! `/reflect`, whatever the request's JSON body asks for.

mod case;
mod seen;
mod wire;
mod yaml;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

pub use case::{Answer, Case, Expected, Stage, read};
pub use seen::{judge, judge_logged};

use crate::compile::Program;
use crate::engine::{Known, Limits, Report, Request, Response};
use crate::seclang::{LoadError, Rules};
use seen::Seen;

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
            return Verdict::Skipped(format!("what {key} means is not known here"));
        }
        let (status, seen) = answered(program, stage);
        if let Err(what) = seen::check(&stage.expected, status, seen.as_ref()) {
            return Verdict::Failed(what);
        }
    }
    Verdict::Passed
}

/// A stage's answer. Servers differ in what they refuse before any rule: where rules are expected to match, the file was
/// written for a server that does not, and they see what can be read of the request.
fn answered(program: &Program, stage: &Stage) -> (u16, Option<Seen>) {
    let reaches_rules = !stage.expected.ids.is_empty() || stage.expected.line.is_some();
    let (read, is_refused) = match wire::read(&stage.request) {
        Ok(read) => (Some(read), false),
        Err(_) if reaches_rules => (wire::read_loosely(&stage.request), true),
        Err(_) => (None, true),
    };
    let Some(read) = read else { return (REFUSED, None) };
    let answer = stage.response.clone().unwrap_or_else(|| answer(&read));
    let (status, report) = through(program, &read, &answer, Limits::default());
    let seen = Seen::of(&report, answer.body);
    match stage.expected.status {
        Some(REFUSED) if is_refused => (REFUSED, Some(seen)),
        _ => (status, Some(seen)),
    }
}

/// What a server answers to what it does not take for a request.
const REFUSED: u16 = 400;

/// Why a server would refuse these bytes before any rule sees them.
pub fn refusal(bytes: &[u8]) -> Option<&'static str> {
    wire::read(bytes).err()
}

/// Sends a request through the rules: the status of the answer, and what matched if it got as far as the rules.
pub fn send(program: &Program, bytes: &[u8]) -> (u16, Option<Report>) {
    send_within(program, bytes, Limits::default())
}

/// As [`send`], within limits of one's own.
pub fn send_within(program: &Program, bytes: &[u8], limits: Limits) -> (u16, Option<Report>) {
    match wire::read(bytes) {
        Ok(read) => {
            let (status, report) = through(program, &read, &answer(&read), limits);
            (status, Some(report))
        }
        Err(_) => (REFUSED, None),
    }
}

/// As [`send`], to a server that answers this page, where there is one.
pub fn send_answered(program: &Program, bytes: &[u8], page: Option<&[u8]>) -> (u16, Option<Report>) {
    match wire::read(bytes) {
        Ok(read) => {
            let answer = page.map_or_else(|| answer(&read), Answer::page);
            let (status, report) = through(program, &read, &answer, Limits::default());
            (status, Some(report))
        }
        Err(_) => (REFUSED, None),
    }
}

fn through(program: &Program, read: &wire::Read<'_>, answer: &Answer, limits: Limits) -> (u16, Report) {
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
    (stopped.unwrap_or(answer.status), report)
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
