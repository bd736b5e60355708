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
    /// What the server behind the rules answers, where the file says it.
    pub response: Option<Answer>,
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
    /// The answer's body has something that this pattern matches.
    pub contains: Option<String>,
    /// Whether the server refuses the request before any rule.
    pub error: Option<bool>,
    /// No other rules match than these.
    pub isolated: bool,
    /// A key, of the input or the output, that is not known here.
    pub unknown: Option<String>,
}

/// What a server answers.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
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
                .collect::<Result<Vec<_>, _>>()?
                .concat();
            Ok(Case {
                name,
                file: file.to_path_buf(),
                stages,
            })
        })
        .collect()
}

/// A stage for each of its targets.
fn parse_stage(stage: &Node) -> Result<Vec<Stage>, String> {
    let input = stage.get("input").ok_or("a stage has no input")?;
    let mut expected = expected(stage.get("output"))?;
    let wants = |key: &str| input.get(key).and_then(Node::text) == Some("true");
    let unknown = unknown(input, &INPUT);
    // What an earlier stage was answered is not kept.
    let of_before = ["follow_redirect", "save_cookie"]
        .into_iter()
        .find(|key| wants(key));
    expected.unknown = expected.unknown.or(unknown).or(of_before.map(str::to_owned));
    let several = input.get("uris").map_or(&[][..], Node::list);
    let targets: Vec<&str> = match several {
        [] => vec![input.get("uri").and_then(Node::text).unwrap_or("/")],
        several => several.iter().filter_map(Node::text).collect(),
    };
    let response = input.get("response").map(response).transpose()?;
    let stage = |target| {
        Ok(Stage {
            request: request(input, target)?,
            response: response.clone(),
            expected: expected.clone(),
        })
    };
    targets.into_iter().map(stage).collect()
}

fn response(node: &Node) -> Result<Answer, String> {
    let text = |key: &str| node.get(key).and_then(Node::text);
    let status = text("status").unwrap_or("200");
    let body = match text("encoded_body") {
        Some(encoded) => decoded("encoded_body", encoded)?,
        None => text("body").unwrap_or_default().as_bytes().to_vec(),
    };
    Ok(Answer {
        status: status.parse().map_err(|_| format!("{status} is no status"))?,
        headers: pairs(node.get("headers")),
        body,
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
    let of_output = |key: &str| output.get(key).and_then(Node::text).map(str::to_owned);
    let status = match output.get("status").and_then(Node::text) {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| format!("{text} is no status"))?),
    };
    Ok(Expected {
        ids: ids("expect_ids")?,
        no_ids: ids("no_expect_ids")?,
        line: line("match_regex").or_else(|| of_output("log_contains")),
        no_line: line("no_match_regex").or_else(|| of_output("no_log_contains")),
        status,
        contains: of_output("response_contains"),
        error: of_output("expect_error").map(|text| text == "true"),
        isolated: output.get("isolated").and_then(Node::text) == Some("true"),
        unknown: unknown(output, &OUTPUT).or_else(|| log.and_then(|log| unknown(log, &LOG))),
    })
}

/// What a stage's input may say. Where to and by which name of a host is the runner's matter.
const INPUT: [&str; 19] = [
    "autocomplete_headers",
    "data",
    "dest_addr",
    "encoded_data",
    "encoded_request",
    "follow_redirect",
    "headers",
    "method",
    "ordered_headers",
    "port",
    "protocol",
    "raw_request",
    "response",
    "save_cookie",
    "stop_magic",
    "uri",
    "uris",
    "version",
    "virtual_host_mode",
];
/// What its output may say. `retry_once` is about a log that is written late.
const OUTPUT: [&str; 8] = [
    "expect_error",
    "isolated",
    "log",
    "log_contains",
    "no_log_contains",
    "response_contains",
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
fn request(input: &Node, target: &str) -> Result<Vec<u8>, String> {
    let text = |key: &str| input.get(key).and_then(Node::text);
    for key in ["encoded_request", "raw_request"] {
        if let Some(encoded) = text(key).filter(|encoded| !encoded.is_empty()) {
            return decoded(key, encoded);
        }
    }
    // `stop_magic` is its name of old, and says the opposite.
    let complete = text("autocomplete_headers").is_none_or(|value| value != "false")
        && text("stop_magic").is_none_or(|value| value != "true");
    let method = text("method").unwrap_or("GET");
    let version = text("version").unwrap_or("HTTP/1.1");
    let data = match text("encoded_data") {
        Some(encoded) => decoded("encoded_data", encoded)?,
        None => text("data").unwrap_or_default().as_bytes().to_vec(),
    };
    let ordered = input.get("ordered_headers").map_or(&[][..], Node::list);
    let mut headers: Vec<(String, String)> = match ordered {
        [] => pairs(input.get("headers")),
        ordered => ordered.iter().filter_map(tuple).collect(),
    };
    let has = |headers: &[(String, String)], name: &str| {
        headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name))
    };
    if complete {
        let mut complete = |name: &str, value: String| {
            if !has(&headers, name) {
                headers.push((name.to_owned(), value));
            }
        };
        if !data.is_empty() {
            complete("Content-Type", "application/x-www-form-urlencoded".to_owned());
            complete("Content-Length", data.len().to_string());
        }
        complete("Connection", "close".to_owned());
    }
    let mut bytes = format!("{method} {target} {version}\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&data);
    Ok(bytes)
}

fn decoded(key: &str, encoded: &str) -> Result<Vec<u8>, String> {
    let compact: String = encoded.split_whitespace().collect();
    base64::engine::general_purpose::STANDARD
        .decode(compact)
        .map_err(|error| format!("{key}: {error}"))
}

fn pairs(node: Option<&Node>) -> Vec<(String, String)> {
    let entries = match node {
        Some(Node::Map(entries)) => entries.as_slice(),
        _ => &[],
    };
    let text = |value: &Node| value.text().unwrap_or_default().to_owned();
    entries
        .iter()
        .map(|(name, value)| (name.clone(), text(value)))
        .collect()
}

/// A header as an entry of a list: `name` and `value`.
fn tuple(node: &Node) -> Option<(String, String)> {
    let text = |key: &str| node.get(key).and_then(Node::text).map(str::to_owned);
    Some((text("name")?, text("value").unwrap_or_default()))
}
