//! `ctl:ruleRemoveById=1`: settings that a rule changes for its transaction, and rules it takes out.

use super::setting::Mode;
use super::variable::{self, Target, nearest};
use super::{Wrong, setting};

/// Which rules are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// Those with an id in one of these ranges, ends included.
    Ids(Vec<(u64, u64)>),
    /// Those with a tag that the pattern matches.
    Tag(String),
    /// Those with a message that the pattern matches.
    Msg(String),
}

/// What `ctl` changes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Ctl {
    RuleEngine(Mode),
    RuleRemove(Removed),
    RuleRemoveTarget(Removed, Vec<Target>),
    RequestBodyProcessor(Processor),
    RequestBodyAccess(bool),
    ResponseBodyAccess(bool),
    ForceRequestBodyVariable(bool),
    RequestBodyLimit(usize),
    ResponseBodyLimit(usize),
    /// Known, and without effect on what is decided: the audit log's and the debug log's.
    Inert,
}

/// Which reader of request bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Processor {
    UrlEncoded,
    Multipart,
    Json,
    Xml,
}

const NAMES: &[&str] = &[
    "auditEngine",
    "auditLogParts",
    "debugLogLevel",
    "forceRequestBodyVariable",
    "requestBodyAccess",
    "requestBodyLimit",
    "requestBodyProcessor",
    "responseBodyAccess",
    "responseBodyLimit",
    "ruleEngine",
    "ruleRemoveById",
    "ruleRemoveByMsg",
    "ruleRemoveByTag",
    "ruleRemoveTargetById",
    "ruleRemoveTargetByMsg",
    "ruleRemoveTargetByTag",
    "hashEngine",
    "hashEnforcement",
    "parseXmlIntoArgs",
];

pub(super) fn parse(text: &str) -> Result<Ctl, Wrong> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| Wrong::new(format!("ctl:{text} has no value")))?;
    let value = value.trim();
    Ok(match name.trim().to_ascii_lowercase().as_str() {
        "ruleengine" => Ctl::RuleEngine(Mode::parse(value)?),
        "ruleremovebyid" => Ctl::RuleRemove(Removed::Ids(ids(value)?)),
        "ruleremovebytag" => Ctl::RuleRemove(Removed::Tag(value.to_owned())),
        "ruleremovebymsg" => Ctl::RuleRemove(Removed::Msg(value.to_owned())),
        "ruleremovetargetbyid" => {
            let (which, targets) = with_targets(value)?;
            Ctl::RuleRemoveTarget(Removed::Ids(ids(which)?), targets)
        }
        "ruleremovetargetbytag" => {
            let (which, targets) = with_targets(value)?;
            Ctl::RuleRemoveTarget(Removed::Tag(which.to_owned()), targets)
        }
        "ruleremovetargetbymsg" => {
            let (which, targets) = with_targets(value)?;
            Ctl::RuleRemoveTarget(Removed::Msg(which.to_owned()), targets)
        }
        "requestbodyprocessor" => Ctl::RequestBodyProcessor(processor(value)?),
        "requestbodyaccess" => Ctl::RequestBodyAccess(setting::switch(value)?),
        "responsebodyaccess" => Ctl::ResponseBodyAccess(setting::switch(value)?),
        "forcerequestbodyvariable" => Ctl::ForceRequestBodyVariable(setting::switch(value)?),
        "requestbodylimit" => Ctl::RequestBodyLimit(setting::number(value)?),
        "responsebodylimit" => Ctl::ResponseBodyLimit(setting::number(value)?),
        "auditengine" | "auditlogparts" | "debugloglevel" => Ctl::Inert,
        "hashengine" | "hashenforcement" | "parsexmlintoargs" if value.eq_ignore_ascii_case("off") => {
            Ctl::Inert
        }
        "hashengine" | "hashenforcement" => {
            return Err(Wrong::new("links are not signed here (ctl:hashEngine)"));
        }
        "parsexmlintoargs" => {
            return Err(
                Wrong::new("XML does not become arguments here (ctl:parseXmlIntoArgs)")
                    .hint("look at XML:/* and XML://@*"),
            );
        }
        _ => {
            return Err(Wrong::new(format!("unknown ctl:{name}")).hint(nearest(name, NAMES.iter().copied())));
        }
    })
}

/// `1-9,12 20`: ids and ranges of them.
pub(super) fn ids(text: &str) -> Result<Vec<(u64, u64)>, Wrong> {
    let mut ranges = Vec::new();
    for word in text.split([',', ' ', '"']).filter(|word| !word.is_empty()) {
        let range = match word.split_once('-') {
            Some((from, to)) => from.parse().ok().zip(to.parse().ok()),
            None => word.parse().ok().map(|id| (id, id)),
        };
        match range {
            Some((from, to)) if from <= to => ranges.push((from, to)),
            _ => return Err(Wrong::new(format!("{word} is neither an id nor a range of ids"))),
        }
    }
    if ranges.is_empty() {
        return Err(Wrong::new("no id is named"));
    }
    Ok(ranges)
}

fn with_targets(value: &str) -> Result<(&str, Vec<Target>), Wrong> {
    let (which, targets) = value
        .split_once(';')
        .ok_or_else(|| Wrong::new(format!("{value}: no target")).hint("942100;ARGS:password"))?;
    Ok((which.trim(), variable::list(targets)?))
}

fn processor(value: &str) -> Result<Processor, Wrong> {
    match value.to_ascii_uppercase().as_str() {
        "URLENCODED" => Ok(Processor::UrlEncoded),
        "MULTIPART" => Ok(Processor::Multipart),
        "JSON" => Ok(Processor::Json),
        "XML" => Ok(Processor::Xml),
        _ => Err(Wrong::new(format!("no body processor is called {value}"))
            .hint("URLENCODED, MULTIPART, JSON or XML")),
    }
}
