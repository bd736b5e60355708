//! What was seen of a request, held against what its test expects.

use super::{Expected, REFUSED, Verdict};
use crate::engine::{Match, Report};

/// Of a request that got as far as the rules.
#[derive(Debug, Default)]
pub(super) struct Seen {
    ids: Vec<u64>,
    /// As a log has them.
    lines: Vec<String>,
    /// Of the answer, where it is known.
    body: Option<Vec<u8>>,
}

impl Seen {
    pub(super) fn of(report: &Report, body: Vec<u8>) -> Self {
        Self {
            ids: report.matches.iter().map(|one| one.rule).collect(),
            lines: report.matches.iter().map(line).collect(),
            body: Some(body),
        }
    }

    /// In a log: of ModSecurity's form (`[id "942100"]`), or our access record's (`{"rule":"942100"`).
    fn in_log(text: &str) -> Self {
        let after = |mark: &'static str| text.split(mark).skip(1);
        let ids = after("[id \"").chain(after("{\"rule\":\"")).filter_map(|rest| {
            let (id, _) = rest.split_once('"')?;
            id.parse().ok()
        });
        Self {
            ids: ids.collect(),
            lines: text.lines().map(str::to_owned).collect(),
            body: None,
        }
    }
}

/// What a status says of a test, where a server is asked over the wire and its log is not seen: it must have refused what
/// rules are expected to match, and nothing else. Such a server blocks, at paranoia level 4.
pub fn judge(expected: &Expected, status: u16) -> Verdict {
    const BLOCKED: u16 = 403;
    if let Some(verdict) = unknown_over_the_wire(expected) {
        return verdict;
    }
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
    } else if let Some(wanted) = expected.error {
        verdict(refused(wanted, status == REFUSED))
    } else {
        Verdict::Skipped("nothing is expected that a status could show".to_owned())
    }
}

/// As [`judge`], with what the server has written to its log about the request. Such a server only detects, at paranoia
/// level 4.
pub fn judge_logged(expected: &Expected, status: u16, log: &str) -> Verdict {
    let asks_for_lines = expected.line.is_some() || expected.no_line.is_some();
    if asks_for_lines && log.starts_with('{') {
        return Verdict::Skipped("an access record does not hold what a variable held".to_owned());
    }
    unknown_over_the_wire(expected)
        .unwrap_or_else(|| verdict(check(expected, status, Some(&Seen::in_log(log)))))
}

fn unknown_over_the_wire(expected: &Expected) -> Option<Verdict> {
    let key = match &expected.contains {
        Some(_) => Some("response_contains"),
        None => expected.unknown.as_deref(),
    };
    Some(Verdict::Skipped(format!(
        "what {} means is not known over the wire",
        key?
    )))
}

fn verdict(checked: Result<(), String>) -> Verdict {
    checked.map_or_else(Verdict::Failed, |()| Verdict::Passed)
}

fn refused(wanted: bool, is_refused: bool) -> Result<(), String> {
    match (wanted, is_refused) {
        (true, false) => Err("the server took the request".to_owned()),
        (false, true) => Err("the server refused the request".to_owned()),
        _ => Ok(()),
    }
}

/// `seen` is none where the server refused the request before any rule.
pub(super) fn check(expected: &Expected, status: u16, seen: Option<&Seen>) -> Result<(), String> {
    let nothing = Seen::default();
    let Seen { ids, lines, body } = seen.unwrap_or(&nothing);
    let mut wrong: Vec<String> = Vec::new();
    if seen.is_none() && !(expected.ids.is_empty() && expected.line.is_none()) {
        wrong.push("the server refused the request".to_owned());
    }
    if let Some(wanted) = expected.error {
        wrong.extend(refused(wanted, seen.is_none() || status == REFUSED).err());
    }
    let missing = expected.ids.iter().filter(|id| !ids.contains(id));
    wrong.extend(missing.map(|id| format!("{id} did not match")));
    let unwanted = expected.no_ids.iter().filter(|id| ids.contains(id));
    wrong.extend(unwanted.map(|id| format!("{id} matched")));
    if expected.isolated {
        let others = ids
            .iter()
            .filter(|id| !sums_up(**id) && !expected.ids.contains(id));
        wrong.extend(others.map(|id| format!("{id} matched as well")));
    }
    let pattern = |pattern: &str| crate::operator::pattern(pattern).map_err(|error| error.message);
    for (expected, wanted) in [(&expected.line, true), (&expected.no_line, false)] {
        let Some(expected) = expected else { continue };
        let compiled = pattern(expected)?;
        if lines.iter().any(|line| compiled.fits(line.as_bytes())) != wanted {
            wrong.push(format!("lines that match {expected}: {}", !wanted));
        }
    }
    if let Some(expected) = &expected.contains {
        let body = body.as_deref().unwrap_or_default();
        if !pattern(expected)?.fits(body) {
            wrong.push(format!("nothing in the answer matches {expected}"));
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

/// Rules that add up what others found, and tell of it.
fn sums_up(id: u64) -> bool {
    matches!(id / 1_000, 949 | 959 | 980)
}

/// A match as ModSecurity writes it to an error log, which some tests look at.
fn line(one: &Match) -> String {
    let mut line = format!(
        "ModSecurity: Warning. Matched against variable `{}' [id \"{}\"] [msg \"{}\"] [data \"{}\"]",
        one.variable, one.rule, one.msg, one.data
    );
    for tag in &*one.tags {
        line.push_str(&format!(" [tag \"{tag}\"]"));
    }
    line
}
