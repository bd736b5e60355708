//! What a test file says.

use std::path::{Path, PathBuf};

use base64::Engine as _;

use super::yaml::{self, Node};

/// One test.
#[derive(Debug, Clone)]
pub struct Case {
    /// The rule and the number of the test: `942100-3`.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// Its requests in their order.
    pub stages: Vec<Stage>,
}

/// One request of a test and what is expected of it.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The request's bytes as they go over the wire.
    pub request: Vec<u8>,
    /// What is expected.
    pub expected: Expected,
}

/// What a stage expects.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// These rules match.
    pub ids: Vec<u64>,
    /// These do not.
    pub no_ids: Vec<u64>,
    /// The log has a line that this pattern matches.
    pub line: Option<String>,
    /// The log has no such line.
    pub no_line: Option<String>,
    /// The status of the answer.
    pub status: Option<u16>,
    /// A key that says something else, which is not known here.
    pub unknown: Option<String>,
}

/// Reads all test files of a folder and its folders, in the order of their names.
pub fn read(folder: &Path) -> Result<Vec<Case>, String> {
    let mut files = Vec::new();
    gather(folder, &mut files, 0)?;
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file)
            .map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
        let more = parse(&text, &file).map_err(|error| format!("{}: {error}", file.display()))?;
        cases.extend(more);
    }
    Ok(cases)
}

/// How deep folders may nest.
const DEPTH: usize = 8;

fn gather(folder: &Path, files: &mut Vec<PathBuf>, depth: usize) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{} cannot be read: {error}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() && depth < DEPTH {
            gather(&path, files, depth + 1)?;
        } else if path.extension().is_some_and(|end| end == "yaml" || end == "yml") {
            files.push(path);
        }
    }
    Ok(())
}

fn parse(text: &str, file: &Path) -> Result<Vec<Case>, String> {
    let document = yaml::parse(text)?;
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let rule = document
        .get("rule_id")
        .and_then(Node::text)
        .map(str::to_owned)
        .or(stem)
        .unwrap_or_default();
    let tests = document.get("tests").ok_or("there are no tests")?;
    tests
        .list()
        .iter()
        .map(|test| {
            let number = test.get("test_id").and_then(Node::text).unwrap_or("?");
            let name = format!("{rule}-{number}");
            let stages = test
                .get("stages")
                .map_or(&[][..], Node::list)
                .iter()
                .map(|stage| parse_stage(stage).map_err(|error| format!("{name}: {error}")))
                .collect::<Result<Vec<_>, _>>()?;
            Ok(Case {
                name,
                file: file.to_path_buf(),
                stages,
            })
        })
        .collect()
}

fn parse_stage(stage: &Node) -> Result<Stage, String> {
    let input = stage.get("input").ok_or("a stage has no input")?;
    Ok(Stage {
        request: request(input)?,
        expected: expected(stage.get("output"))?,
    })
}

fn expected(output: Option<&Node>) -> Result<Expected, String> {
    let Some(output) = output else {
        return Ok(Expected::default());
    };
    let log = output.get("log");
    let ids = |key: &str| {
        let list = log.and_then(|log| log.get(key)).map_or(&[][..], Node::list);
        list.iter()
            .map(|id| {
                let text = id.text().unwrap_or_default();
                text.parse::<u64>().map_err(|_| format!("{key}: {text} is no id"))
            })
            .collect::<Result<Vec<_>, _>>()
    };
    let line = |key: &str| {
        let line = log.and_then(|log| log.get(key)).and_then(Node::text);
        line.map(str::to_owned)
    };
    let of_old = |key: &str| output.get(key).and_then(Node::text).map(str::to_owned);
    let status = match output.get("status").and_then(Node::text) {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| format!("{text} is no status"))?),
    };
    Ok(Expected {
        ids: ids("expect_ids")?,
        no_ids: ids("no_expect_ids")?,
        line: line("match_regex").or_else(|| of_old("log_contains")),
        no_line: line("no_match_regex").or_else(|| of_old("no_log_contains")),
        status,
        unknown: unknown(output, &OUTPUT).or_else(|| log.and_then(|log| unknown(log, &LOG))),
    })
}

/// What a stage's output may say. `retry_once` and `isolated` are about a log that others write to as well, and a
/// connection's failure is a refusal.
const OUTPUT: [&str; 7] = [
    "expect_error",
    "isolated",
    "log",
    "log_contains",
    "no_log_contains",
    "retry_once",
    "status",
];
/// What its log may.
const LOG: [&str; 4] = ["expect_ids", "match_regex", "no_expect_ids", "no_match_regex"];

/// The first key that is none of these.
fn unknown(node: &Node, known: &[&str]) -> Option<String> {
    node.keys().find(|key| !known.contains(key)).map(str::to_owned)
}

/// The bytes that the project's own runner sends: what the file says, and the headers that it completes.
fn request(input: &Node) -> Result<Vec<u8>, String> {
    let text = |key: &str| input.get(key).and_then(Node::text);
    if let Some(encoded) = text("encoded_request") {
        let compact: String = encoded.split_whitespace().collect();
        return base64::engine::general_purpose::STANDARD
            .decode(compact)
            .map_err(|error| format!("encoded_request: {error}"));
    }
    let complete = text("autocomplete_headers").is_none_or(|value| value != "false");
    let method = text("method").unwrap_or("GET");
    let uri = text("uri").unwrap_or("/");
    let version = text("version").unwrap_or("HTTP/1.1");
    let data = text("data").unwrap_or_default();
    let mut headers: Vec<(&str, String)> = match input.get("headers") {
        Some(Node::Map(entries)) => entries
            .iter()
            .map(|(name, value)| (name.as_str(), value.text().unwrap_or_default().to_owned()))
            .collect(),
        _ => Vec::new(),
    };
    let has = |headers: &[(&str, String)], name: &str| {
        headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name))
    };
    if complete {
        if !data.is_empty() && !has(&headers, "content-type") {
            headers.push(("Content-Type", "application/x-www-form-urlencoded".to_owned()));
        }
        if !data.is_empty() && !has(&headers, "content-length") {
            headers.push(("Content-Length", data.len().to_string()));
        }
        if !has(&headers, "connection") {
            headers.push(("Connection", "close".to_owned()));
        }
    }
    let mut bytes = format!("{method} {uri} {version}\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(data.as_bytes());
    Ok(bytes)
}
