//! The requests of the blocking suite, and what ModSecurity said to them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde_json::Value;

/// A request of the suite.
pub(crate) struct Asked {
    pub(crate) id: String,
    pub(crate) kind: String,
    /// As it is sent.
    pub(crate) bytes: Vec<u8>,
}

/// What a firewall says to a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Said {
    Pass,
    Block,
}

/// Where the suite is.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/blocking")
}

/// Reads a file of requests.
pub(crate) fn requests(name: &str) -> Result<Vec<Asked>, String> {
    let file = folder().join(name);
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    text.lines()
        .enumerate()
        .map(|(at, line)| request(line).ok_or_else(|| format!("{}:{}: no request", file.display(), at + 1)))
        .collect()
}

fn request(line: &str) -> Option<Asked> {
    let read: Value = serde_json::from_str(line).ok()?;
    let text = |name: &str| read[name].as_str();
    let method = text("method")?;
    let mut bytes = format!("{method} {} HTTP/1.1\r\n", text("target")?);
    for header in read["headers"].as_array()? {
        bytes.push_str(&format!("{}: {}\r\n", header[0].as_str()?, header[1].as_str()?));
    }
    let body = match text("body64") {
        Some(encoded) => Some(base64::engine::general_purpose::STANDARD.decode(encoded).ok()?),
        None => text("body").map(|body| body.as_bytes().to_vec()),
    };
    // Clients send a length of 0 with methods that usually have a body.
    if body.is_some() || matches!(method, "POST" | "PUT" | "PATCH") {
        let length = body.as_ref().map_or(0, Vec::len);
        bytes.push_str(&format!("Content-Length: {length}\r\n"));
    }
    bytes.push_str("\r\n");
    let mut bytes = bytes.into_bytes();
    bytes.extend(body.unwrap_or_default());
    Some(Asked {
        id: text("id")?.to_owned(),
        kind: text("kind")?.to_owned(),
        bytes,
    })
}

/// What ModSecurity said, with the rules that it named, by the requests' ids.
#[allow(dead_code, reason = "who records verdicts reads none")]
pub(crate) fn verdicts() -> Result<BTreeMap<String, (Said, String)>, String> {
    let file = folder().join("verdicts.tsv");
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let mut words = line.split('\t');
            let (Some(id), Some(said)) = (words.next(), words.next()) else {
                return Err(format!("{}: `{line}` is no verdict", file.display()));
            };
            let said = match said {
                "block" => Said::Block,
                _ => Said::Pass,
            };
            Ok((id.to_owned(), (said, words.next().unwrap_or_default().to_owned())))
        })
        .collect()
}
