//! `astraler waf explain`: one request, and what the rules make of it.

use super::{folder, not_loaded};
use crate::cli::{Arguments, WafExplainArguments};
use crate::failure::{Failure, Outcome};
use crate::progress::line;
use crate::table;
use astraler_waf::engine::{Match, Report};
use astraler_waf::ruleset::{Files, Options};
use astraler_waf::seclang::Mode;
use astraler_waf::suite;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// A request is read as far as this.
const MAX_REQUEST: u64 = 16 << 20;
/// How much of a value is shown.
const EXCERPT: usize = 60;

pub(super) fn run(arguments: &Arguments, asked: &WafExplainArguments) -> Outcome {
    let bytes = read(&asked.request).map_err(|error| {
        Failure::of(&error).context(format!("{} cannot be read", asked.request.display()))
    })?;
    let bytes = as_on_the_wire(&bytes);
    if let Some(why) = suite::refusal(&bytes) {
        return Err(Failure::new(
            crate::failure::Kind::General,
            format!("this is no HTTP/1.1 request: {why}"),
        )
        .hint("request line, fields, an empty line, body; the edge answers 400 before any rule is asked"));
    }
    let options = Options {
        mode: Some(Mode::On),
        paranoia_level: asked.paranoia,
        ..Options::default()
    };
    let folder = folder(arguments, asked.rules.as_ref());
    let files = Files::find(&folder).map_err(|error| not_loaded(&error, None))?;
    let program = files
        .compile(&options)
        .map_err(|error| not_loaded(&error, None))?;
    let (_, report) = suite::send(&program, &bytes);
    let report = report.unwrap_or_default();
    if asked.json.json {
        return Ok(table::print_json(&as_json(&report))?);
    }
    show(&report);
    Ok(())
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        io::stdin().lock().take(MAX_REQUEST).read_to_end(&mut bytes)?;
    } else {
        File::open(path)?.take(MAX_REQUEST).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// What people write by hand: lines end with LF, and nobody has counted the body.
fn as_on_the_wire(bytes: &[u8]) -> Vec<u8> {
    let mut lines = bytes;
    let mut head = Vec::with_capacity(bytes.len() + 64);
    let mut is_framed = false;
    while !lines.is_empty() {
        let end = lines
            .iter()
            .position(|byte| *byte == b'\n')
            .unwrap_or(lines.len());
        let text = lines[..end].strip_suffix(b"\r").unwrap_or(&lines[..end]);
        lines = lines.get(end + 1..).unwrap_or_default();
        if text.is_empty() {
            break;
        }
        let name = text.split(|byte| *byte == b':').next().unwrap_or_default();
        is_framed |=
            name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"transfer-encoding");
        head.extend_from_slice(text);
        head.extend_from_slice(b"\r\n");
    }
    if !is_framed && !lines.is_empty() {
        head.extend_from_slice(format!("Content-Length: {}\r\n", lines.len()).as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    head.extend_from_slice(lines);
    head
}

fn verdict(report: &Report) -> String {
    match &report.interruption {
        Some(stop) if stop.rule == 0 => format!("refused with {}: it takes too much to look at", stop.status),
        Some(stop) => format!(
            "refused with {} by rule {} in phase {}",
            stop.status, stop.rule, stop.phase
        ),
        None => "passes".to_owned(),
    }
}

fn show(report: &Report) {
    if report.matches.is_empty() {
        line("no rule matches");
    } else {
        let row = |one: &Match| {
            vec![
                one.rule.to_string(),
                one.score.to_string(),
                one.variable.clone(),
                one.excerpt(EXCERPT).unwrap_or_else(|| "(not shown)".to_owned()),
                one.msg.clone(),
            ]
        };
        table::print(
            &["rule", "score", "variable", "value", "message"],
            report.matches.iter().map(row),
        );
    }
    if report.left_out > 0 {
        line(&format!("and {} more", report.left_out));
    }
    line(&format!("score {}: {}", report.inbound_score, verdict(report)));
}

fn as_json(report: &Report) -> serde_json::Value {
    let one = |one: &Match| {
        serde_json::json!({
            "rule": one.rule,
            "phase": one.phase,
            "message": one.msg,
            "variable": one.variable,
            "value": one.excerpt(EXCERPT),
            "score": one.score,
            "severity": one.severity,
            "tags": one.tags.iter().map(|tag| &**tag).collect::<Vec<_>>(),
        })
    };
    serde_json::json!({
        "matches": report.matches.iter().map(one).collect::<Vec<_>>(),
        "left_out": report.left_out,
        "inbound_score": report.inbound_score,
        "outbound_score": report.outbound_score,
        "refused": report.interruption.as_ref().map(|stop| serde_json::json!({
            "status": stop.status,
            "rule": stop.rule,
            "phase": stop.phase,
        })),
        "verdict": verdict(report),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_by_hand_becomes_a_request() {
        let wire = as_on_the_wire(b"POST /a HTTP/1.1\nHost: b\n\nc=d");
        assert_eq!(
            wire,
            b"POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: 3\r\n\r\nc=d"
        );
        let framed = b"POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: 1\r\n\r\nc";
        assert_eq!(as_on_the_wire(framed), framed);
        assert_eq!(
            as_on_the_wire(b"GET / HTTP/1.1\nHost: b"),
            b"GET / HTTP/1.1\r\nHost: b\r\n\r\n"
        );
    }
}
