//! `"id:1,phase:2,deny,msg:'…'"`: what a rule does.

use std::str::FromStr;

use super::variable::nearest;
use super::{Collection, Ctl, SetVar, Store, Template, Wrong, ctl, setvar};
use crate::transform::Transformation;

/// One action.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Action {
    Id(u64),
    Phase(u8),
    Msg(Template),
    Logdata(Template),
    Tag(Template),
    Severity(u8),
    Ver(String),
    Rev(String),
    Maturity(u8),
    Accuracy(u8),
    Disruptive(Disruptive),
    Status(u16),
    Log(bool),
    AuditLog(bool),
    Capture,
    MultiMatch,
    Chain,
    /// How many rules are passed over.
    Skip(u32),
    SkipAfter(String),
    /// None is `t:none`.
    Transform(Option<Transformation>),
    SetVar(SetVar),
    /// `expirevar`: which store, its variable, after how many seconds.
    ExpireVar(Store, Template, Template),
    /// `deprecatevar`: as `expirevar`, with what is taken off and in how many seconds.
    DeprecateVar(Store, Template, Template),
    /// `initcol`: which store, under which key.
    InitCol(Store, Template),
    SetEnv(Template, Template),
    Ctl(Ctl),
    /// Known, and without effect on what is decided: `sanitiseArg`, `xmlns`, `auditlog`'s parts.
    Inert,
}

/// What happens to the transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Disruptive {
    /// What `SecDefaultAction` of the phase says.
    Block,
    Pass,
    Allow(Allow),
    Deny,
    /// The connection is closed.
    Drop,
    Redirect(Template),
}

/// How far `allow` reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allow {
    /// All phases to come but the log.
    All,
    /// This phase.
    Phase,
    /// The phases of the request.
    Request,
}

/// What each name is, for hints.
const NAMES: &[&str] = &[
    "accuracy",
    "allow",
    "append",
    "auditlog",
    "block",
    "capture",
    "chain",
    "ctl",
    "deny",
    "deprecatevar",
    "drop",
    "exec",
    "expirevar",
    "id",
    "initcol",
    "log",
    "logdata",
    "maturity",
    "msg",
    "multiMatch",
    "noauditlog",
    "nolog",
    "pass",
    "pause",
    "phase",
    "prepend",
    "proxy",
    "redirect",
    "rev",
    "sanitiseArg",
    "sanitiseMatched",
    "sanitiseMatchedBytes",
    "sanitiseRequestHeader",
    "sanitiseResponseHeader",
    "setenv",
    "setrsc",
    "setsid",
    "setuid",
    "setvar",
    "severity",
    "skip",
    "skipAfter",
    "status",
    "t",
    "tag",
    "ver",
    "xmlns",
];

/// Reads a list of actions.
pub(super) fn list(text: &str) -> Result<Vec<Action>, Vec<Wrong>> {
    let mut actions = Vec::new();
    let mut wrong = Vec::new();
    match items(text) {
        Ok(items) => {
            for (name, value) in items {
                match action(&name, &value) {
                    Ok(action) => actions.push(action),
                    Err(error) => wrong.push(error),
                }
            }
        }
        Err(error) => wrong.push(error),
    }
    if wrong.is_empty() { Ok(actions) } else { Err(wrong) }
}

/// Names and values. A value in single quotes may hold commas, and `\'`.
fn items(text: &str) -> Result<Vec<(String, String)>, Wrong> {
    let mut items = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = rest.find([':', ',']).unwrap_or(rest.len());
        let name = rest[..end].trim().to_owned();
        let mut value = String::new();
        let after = &rest[end..];
        rest = match after.strip_prefix(':') {
            Some(after) => read_value(after, &mut value)?,
            None => after,
        };
        rest = match rest.strip_prefix(',') {
            Some(more) => more.trim_start(),
            None => rest,
        };
        if name.is_empty() {
            if value.is_empty() {
                continue;
            }
            return Err(Wrong::new("an action without a name"));
        }
        items.push((name, value));
    }
    Ok(items)
}

/// Reads a value up to the comma that ends it. Quotes may also begin within: `setvar:'…'`, `tag:a'b,c'`.
fn read_value<'t>(text: &'t str, value: &mut String) -> Result<&'t str, Wrong> {
    let text = text.trim_start();
    let Some(inner) = text.strip_prefix('\'') else {
        let end = text.find(',').unwrap_or(text.len());
        value.push_str(text[..end].trim_end());
        return Ok(&text[end..]);
    };
    let mut characters = inner.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' if characters.peek().is_some_and(|(_, next)| *next == '\'') => {
                value.push('\'');
                characters.next();
            }
            '\'' => {
                let after = inner[at + 1..].trim_start();
                if after.is_empty() || after.starts_with(',') {
                    return Ok(after);
                }
                return Err(Wrong::new(format!(
                    "after '{value}' comes {:?} where a comma should be",
                    after.chars().take(10).collect::<String>()
                )));
            }
            c => value.push(c),
        }
    }
    Err(Wrong::new("a ' is opened in the actions and never closed"))
}

fn action(name: &str, value: &str) -> Result<Action, Wrong> {
    let lower = name.to_ascii_lowercase();
    Ok(match lower.as_str() {
        "id" => Action::Id(number(name, value)?),
        "phase" => Action::Phase(phase(value)?),
        "msg" => Action::Msg(Template::parse(value)?),
        "logdata" => Action::Logdata(Template::parse(value)?),
        "tag" => Action::Tag(Template::parse(value)?),
        "severity" => Action::Severity(severity(value)?),
        "ver" => Action::Ver(value.to_owned()),
        "rev" => Action::Rev(value.to_owned()),
        "maturity" => Action::Maturity(number(name, value)?),
        "accuracy" => Action::Accuracy(number(name, value)?),
        "block" => Action::Disruptive(Disruptive::Block),
        "pass" => Action::Disruptive(Disruptive::Pass),
        "deny" => Action::Disruptive(Disruptive::Deny),
        "drop" => Action::Disruptive(Disruptive::Drop),
        "allow" => Action::Disruptive(Disruptive::Allow(allow(value)?)),
        "redirect" => Action::Disruptive(Disruptive::Redirect(Template::parse(value)?)),
        "status" => Action::Status(number(name, value)?),
        "log" => Action::Log(true),
        "nolog" => Action::Log(false),
        "auditlog" => Action::AuditLog(true),
        "noauditlog" => Action::AuditLog(false),
        "capture" => Action::Capture,
        "multimatch" => Action::MultiMatch,
        "chain" => Action::Chain,
        "skip" => Action::Skip(number(name, value)?),
        "skipafter" => Action::SkipAfter(value.to_owned()),
        "t" => transform(value)?,
        "setvar" => Action::SetVar(setvar::parse(value)?),
        "expirevar" => {
            let (store, name, value) = setvar::assignment(value)?;
            Action::ExpireVar(store, name, value)
        }
        "deprecatevar" => {
            let (store, name, value) = setvar::assignment(value)?;
            Action::DeprecateVar(store, name, value)
        }
        "initcol" => {
            let (store, key) = value
                .split_once('=')
                .ok_or_else(|| Wrong::new("initcol needs a collection and a key: ip=%{REMOTE_ADDR}"))?;
            Action::InitCol(Store::parse(store)?, Template::parse(key)?)
        }
        "setuid" => Action::InitCol(Store::User, Template::parse(value)?),
        "setsid" => Action::InitCol(Store::Session, Template::parse(value)?),
        "setrsc" => Action::InitCol(Store::Resource, Template::parse(value)?),
        "setenv" => {
            let (name, value) = value.split_once('=').unwrap_or((value, "1"));
            Action::SetEnv(Template::parse(name)?, Template::parse(value)?)
        }
        "ctl" => Action::Ctl(ctl::parse(value)?),
        "sanitisearg"
        | "sanitizearg"
        | "sanitisematched"
        | "sanitizematched"
        | "sanitisematchedbytes"
        | "sanitizematchedbytes"
        | "sanitiserequestheader"
        | "sanitizerequestheader"
        | "sanitiseresponseheader"
        | "sanitizeresponseheader"
        | "xmlns" => Action::Inert,
        "exec" => {
            return Err(
                Wrong::new("exec starts a program for a request, and this engine starts none")
                    .hint("take the action away; react to the log instead"),
            );
        }
        "proxy" | "pause" | "append" | "prepend" => {
            return Err(
                Wrong::new(format!("{lower} is not done here")).hint("deny, drop or redirect instead")
            );
        }
        _ => {
            return Err(
                Wrong::new(format!("unknown action {name}")).hint(nearest(name, NAMES.iter().copied()))
            );
        }
    })
}

fn number<N: FromStr>(name: &str, value: &str) -> Result<N, Wrong> {
    value.trim().parse().map_err(|_| {
        Wrong::new(format!(
            "{name} needs a number, and {value:?} is none in its range"
        ))
    })
}

fn phase(value: &str) -> Result<u8, Wrong> {
    match value.to_ascii_lowercase().as_str() {
        "1" => Ok(1),
        "2" | "request" => Ok(2),
        "3" => Ok(3),
        "4" | "response" => Ok(4),
        "5" | "logging" => Ok(5),
        _ => Err(Wrong::new(format!("{value} is no phase")).hint("1 to 5, or request, response, logging")),
    }
}

fn severity(value: &str) -> Result<u8, Wrong> {
    const WORDS: [&str; 8] = [
        "EMERGENCY",
        "ALERT",
        "CRITICAL",
        "ERROR",
        "WARNING",
        "NOTICE",
        "INFO",
        "DEBUG",
    ];
    let by_word = WORDS.iter().position(|word| word.eq_ignore_ascii_case(value));
    let by_number = value.parse::<usize>().ok().filter(|number| *number < WORDS.len());
    by_word
        .or(by_number)
        .and_then(|number| u8::try_from(number).ok())
        .ok_or_else(|| Wrong::new(format!("unknown severity {value}")).hint("EMERGENCY to DEBUG, or 0 to 7"))
}

fn allow(value: &str) -> Result<Allow, Wrong> {
    match value.to_ascii_lowercase().as_str() {
        "" => Ok(Allow::All),
        "phase" => Ok(Allow::Phase),
        "request" => Ok(Allow::Request),
        _ => Err(Wrong::new(format!("allow:{value} is unknown")).hint("allow, allow:phase or allow:request")),
    }
}

fn transform(value: &str) -> Result<Action, Wrong> {
    let transformation = Transformation::from_str(value).map_err(|error| {
        Wrong::new(error.to_string()).hint(nearest(value, Transformation::ALL.iter().map(|one| one.name())))
    })?;
    Ok(Action::Transform(match transformation {
        Transformation::None => None,
        other => Some(other),
    }))
}

/// The collections that `setvar` may write, for messages.
pub(super) fn writable(name: &str) -> Result<Store, Wrong> {
    match Collection::parse(name)? {
        Collection::Tx => Ok(Store::Tx),
        Collection::Ip => Ok(Store::Ip),
        Collection::Global => Ok(Store::Global),
        Collection::Session => Ok(Store::Session),
        Collection::User => Ok(Store::User),
        Collection::Resource => Ok(Store::Resource),
        _ => Err(Wrong::new(format!("{name} cannot be written"))
            .hint("tx, ip, global, session, user and resource can")),
    }
}
