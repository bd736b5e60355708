//! Rules of the edge: what their types alone do not say.

use crate::config::rules::ADMIN_HOSTS;
use crate::diagnostics::{Diagnostic, Source};
use astraler_model::{
    Characteristic, ErrorStatus, FieldName, FieldValue, Network, PagePath, RuleName, WordError,
};
use astraler_waf::expression::{Expression, Lists};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use toml_edit::{Item, TableLike, Value};

/// A folder's path in the repository; it becomes one of a release.
const MAX_PATH_BYTES: usize = 255;

/// Names of rules that the edge makes itself.
const TAKEN: [&str; 2] = [ADMIN_HOSTS, "under-attack"];

/// Checks what holds for a platform alone: its probes and jobs reach the edge from loopback.
pub(crate) fn check_platform(source: &Source, root: &dyn TableLike, errors: &mut Vec<Diagnostic>) {
    let edge = root.get("edge").and_then(Item::as_table_like);
    for (text, span) in edge.into_iter().flat_map(|edge| texts(edge, "proxy_protocol")) {
        let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        if let Ok(network) = text.parse::<Network>()
            && loopback.iter().any(|address| network.contains(*address))
        {
            let help = "name the balancer's address, or have it say the client in a field: `trusted_proxies`";
            errors.push(source.error(
                span,
                "wrong-value",
                format!("\"{text}\" contains this machine itself, which does not speak the PROXY protocol"),
                Some(help.to_owned()),
            ));
        }
    }
}

/// Checks `[edge]`, in a manifest and for an edge that stands alone.
pub(crate) fn check(source: &Source, root: &dyn TableLike, errors: &mut Vec<Diagnostic>) {
    let Some(edge) = root.get("edge").and_then(Item::as_table_like) else {
        return;
    };
    let mut wrong = |(message, span): (String, Range<usize>), help: Option<&str>| {
        let help = help.map(str::to_owned);
        errors.push(source.error(span, "wrong-value", message, help));
    };
    for text in ["trusted_proxies", "proxy_protocol", "allow_list"]
        .iter()
        .flat_map(|key| texts(edge, key))
    {
        refused(text, |text| text.parse::<Network>().map(drop), &mut wrong);
    }
    let mut names = BTreeSet::new();
    for rule in ["access", "rate_rules"].iter().flat_map(|key| tables(edge, key)) {
        if let Some((name, span)) = text(rule, "name") {
            let read: Result<RuleName, WordError> = name.clone().try_into();
            match read {
                Err(error) => wrong((error.to_string(), span), None),
                Ok(_) if TAKEN.contains(&name.as_str()) => {
                    wrong(
                        (
                            format!("\"{name}\" is the name of a rule of the edge's own"),
                            span,
                        ),
                        None,
                    );
                }
                Ok(_) if !names.insert(name.clone()) => {
                    wrong((format!("there is another rule named \"{name}\""), span), None);
                }
                Ok(_) => {}
            }
        }
        for text in texts(rule, "allow") {
            refused(text, |text| text.parse::<Network>().map(drop), &mut wrong);
        }
        for text in texts(rule, "characteristics") {
            refused(
                text,
                |text| Characteristic::try_from(text.to_owned()).map(drop),
                &mut wrong,
            );
        }
        let number = |key| {
            rule.get(key)
                .and_then(|item| Some((item.as_integer()?, item.span()?)))
        };
        if let (Some((burst, span)), Some((requests, _))) = (number("burst"), number("requests"))
            && burst > requests
        {
            let message = format!("a burst of {burst} is more than the {requests} requests of a period");
            wrong(
                (message, span),
                Some("a burst says how many of them may come at once"),
            );
        }
    }
    let rules = ["access", "rate_rules", "header_rules"];
    for (path, span) in rules
        .iter()
        .flat_map(|key| tables(edge, key))
        .flat_map(|rule| texts(rule, "paths"))
    {
        if !path.starts_with(['/', '*']) {
            wrong(
                (format!("\"{path}\" is no path"), span),
                Some("it begins with `/`, or with `*` for any beginning"),
            );
        }
    }
    let field = |text: &str| FieldName::try_from(text.to_owned()).map(drop);
    let value = |text: &str| FieldValue::try_from(text.to_owned()).map(drop);
    let headers = edge.get("headers").and_then(Item::as_table_like);
    let below = tables(edge, "header_rules").flat_map(|rule| {
        ["set", "add"]
            .into_iter()
            .filter_map(|key| rule.get(key).and_then(Item::as_table_like))
    });
    for fields in headers.into_iter().chain(below) {
        for (name, span) in keys(fields) {
            refused((name.clone(), span), field, &mut wrong);
            if let Some(text) = text(fields, &name) {
                refused(text, value, &mut wrong);
            }
        }
    }
    for text in tables(edge, "header_rules").flat_map(|rule| texts(rule, "remove")) {
        refused(text, field, &mut wrong);
    }
    let pages = edge.get("error_pages").and_then(Item::as_table_like);
    for (pages, (status, span)) in pages
        .into_iter()
        .flat_map(|pages| keys(pages).map(move |key| (pages, key)))
    {
        refused(
            (status.clone(), span),
            |text| ErrorStatus::try_from(text.to_owned()).map(drop),
            &mut wrong,
        );
        if let Some(text) = text(pages, &status) {
            refused(
                text,
                |text| PagePath::try_from(text.to_owned()).map(drop),
                &mut wrong,
            );
        }
    }
}

/// Checks what `[edge.waf]` says beyond its types: expressions are compiled, as the edge will. An edge that stands alone
/// has no repository.
pub(crate) fn check_waf(
    source: &Source,
    root: &dyn TableLike,
    in_repository: bool,
    lists: &Lists,
    errors: &mut Vec<Diagnostic>,
) {
    let edge = root.get("edge").and_then(Item::as_table_like);
    let Some(waf) = edge
        .and_then(|edge| edge.get("waf"))
        .and_then(Item::as_table_like)
    else {
        return;
    };
    let mut wrong = |(message, span): (String, Range<usize>), help: Option<String>| {
        errors.push(source.error(span, "wrong-value", message, help));
    };
    if let Some((rules, span)) = text(waf, "rules")
        && !rules.starts_with('/')
        && !(in_repository && is_inside(&rules))
    {
        let help = match in_repository {
            true => {
                "write a path in this folder (nothing hidden, no `..`), or an absolute one that the edge's user can read"
            }
            false => "write the absolute path of a folder that the edge's user can read",
        };
        wrong(
            (format!("\"{rules}\" is no folder for rules"), span),
            Some(help.to_owned()),
        );
    }
    for of in ["countries", "networks"] {
        if let Some((file, span)) = text(waf, of)
            && !file.starts_with('/')
        {
            let help = "write the absolute path of a `.mmdb` file that the edge's user can read";
            let message = format!("\"{file}\" is no file for {of}");
            wrong((message, span), Some(help.to_owned()));
        }
    }
    let mut names = BTreeSet::new();
    for rule in tables(waf, "custom_rules") {
        if let Some((name, span)) = text(rule, "name") {
            if let Err(error) = RuleName::try_from(name.clone()) {
                wrong((error.to_string(), span), None);
            } else if !names.insert(name.clone()) {
                wrong((format!("there is another rule named \"{name}\""), span), None);
            }
        }
        let action = rule.get("action").and_then(Item::as_str);
        let skips: Vec<Text> = texts(rule, "skip").collect();
        for (key, of) in [("skip", "skip"), ("rules", "exception"), ("tags", "exception")] {
            let said = rule.get(key).and_then(Item::as_array);
            if let Some((_, span)) = keys(rule).find(|(name, _)| name == key)
                && said.is_some_and(|said| !said.is_empty())
                && action.is_some_and(|action| action != of)
            {
                let help = format!("write action = \"{of}\", or leave `{key}` out");
                wrong((format!("`{key}` is of the action \"{of}\""), span), Some(help));
            }
        }
        let Some((expression, span)) = text(rule, "expression") else {
            continue;
        };
        let compiled = Expression::compile(&expression, lists);
        if let Ok(compiled) = &compiled {
            let needs = compiled.needs();
            for (is_needed, of) in [(needs.country, "countries"), (needs.network, "networks")] {
                if is_needed && text(waf, of).is_none() {
                    let message =
                        format!("this rule asks for what a database of {of} says, and there is none");
                    let help = format!("name a `.mmdb` file in `edge.waf.{of}`");
                    wrong((message, span.clone()), Some(help));
                }
            }
        }
        match compiled {
            Err(error) => wrong((error.to_string(), span), None),
            Ok(compiled) if compiled.needs().body || compiled.needs().response => {
                if let Some((_, span)) = skips.into_iter().find(|(name, _)| name == "rate_rules") {
                    let help = "look at the head alone in a rule that passes over rate rules";
                    let message = "rate rules have been asked before this rule can be";
                    wrong((message.to_owned(), span), Some(help.to_owned()));
                }
            }
            Ok(_) => {}
        }
    }
    for (path, span) in tables(waf, "exceptions").flat_map(|rule| texts(rule, "paths")) {
        if !path.starts_with(['/', '*']) {
            let help = "it begins with `/`, or with `*` for any beginning";
            wrong((format!("\"{path}\" is no path"), span), Some(help.to_owned()));
        }
    }
}

/// Whether a path leads into the folder that it is read from, and never out of it. It becomes one of a release.
pub(crate) fn is_inside(path: &str) -> bool {
    !path.is_empty()
        && path.len() <= MAX_PATH_BYTES
        && path
            .trim_end_matches('/')
            .split('/')
            .all(|part| !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', '\0']))
}

pub(crate) type Text = (String, Range<usize>);

fn refused<E: std::fmt::Display>(
    (text, span): Text,
    read: impl Fn(&str) -> Result<(), E>,
    wrong: &mut impl FnMut(Text, Option<&str>),
) {
    if let Err(error) = read(&text) {
        wrong((error.to_string(), span), None);
    }
}

pub(crate) fn text(table: &dyn TableLike, key: &str) -> Option<Text> {
    let item = table.get(key)?;
    Some((item.as_str()?.to_owned(), item.span()?))
}

fn keys(table: &dyn TableLike) -> impl Iterator<Item = Text> + '_ {
    table.iter().filter_map(|(name, item)| {
        let span = table
            .key(name)
            .and_then(toml_edit::Key::span)
            .or_else(|| item.span())?;
        Some((name.to_owned(), span))
    })
}

pub(crate) fn texts<'a>(table: &'a dyn TableLike, key: &str) -> impl Iterator<Item = Text> + 'a {
    let array = table.get(key).and_then(Item::as_array);
    array
        .into_iter()
        .flatten()
        .filter_map(|value| Some((value.as_str()?.to_owned(), value.span()?)))
}

/// Of an array of tables, however it is written.
fn tables<'a>(table: &'a dyn TableLike, key: &str) -> impl Iterator<Item = &'a dyn TableLike> + 'a {
    let item = table.get(key);
    let named = item.and_then(Item::as_array_of_tables).into_iter().flatten();
    let inline = item.and_then(Item::as_array).into_iter().flatten();
    let named = named.map(|table| table as &dyn TableLike);
    named.chain(
        inline
            .filter_map(Value::as_inline_table)
            .map(|table| table as &dyn TableLike),
    )
}
