//! `[edge.dns]`: what the schema cannot say. Every record is read, and what records say together is looked at.

use crate::config::Resolver;
use crate::diagnostics::{Diagnostic, Source};
use crate::load::text;
use astraler_model::{DnsData, DnsName, DnsRecord, Network};
use std::collections::BTreeMap;
use std::ops::Range;
use toml_edit::{Item, TableLike, Value};

/// Records in a manifest.
const MAX_RECORDS: usize = 10_000;

/// Checks the table.
pub(crate) fn check(source: &Source, root: &dyn TableLike, errors: &mut Vec<Diagnostic>) {
    let edge = root.get("edge").and_then(Item::as_table_like);
    let dns = edge.and_then(|edge| edge.get("dns")?.as_table_like());
    let (Some(dns), Some((domain, _))) = (dns, text(root, "domain")) else {
        return;
    };
    let mut error = |span: &Range<usize>, message: String, help: String| {
        errors.push(source.error(span.clone(), "wrong-value", message, Some(help)));
    };
    for (name, span) in words(dns, "rate_exempt") {
        if let Err(wrong) = name.parse::<Network>() {
            error(&span, wrong.to_string(), "for example \"192.0.2.0/24\"".into());
        }
    }
    for (name, span) in words(dns, "name_servers").chain(words(dns, "caa_issuers")) {
        if let Err(wrong) = name.parse::<DnsName>() {
            error(
                &span,
                wrong.to_string(),
                "write a whole name, such as \"ns1.example.net\"".into(),
            );
        }
    }
    if let Some((contact, span)) = text(dns, "contact")
        && mailbox(contact).is_none()
    {
        let message = format!("\"{contact}\" is no mail address");
        error(&span, message, "for example \"hostmaster@example.net\"".into());
    }
    let secondaries = dns.get("secondaries");
    for table in tables(secondaries) {
        if let Some((name, span)) = text(table, "key_name")
            && let Err(wrong) = name.parse::<DnsName>()
        {
            error(&span, wrong.to_string(), "for example \"ns2.example.net\"".into());
        }
        for (address, span) in words(table, "notify") {
            server(address, &span, &mut error);
        }
    }
    let resolver = text(dns, "resolver");
    if let Some((address, span)) = &resolver {
        server(address, span, &mut error);
    }
    // A domain that is none is said where it stands.
    if let Ok(domain) = domain.parse::<DnsName>() {
        records(
            &domain,
            words(dns, "records").collect(),
            resolver.is_some(),
            &mut error,
        );
    }
}

fn server(address: &str, span: &Range<usize>, error: &mut impl FnMut(&Range<usize>, String, String)) {
    if let Err(wrong) = Resolver::try_from(address.to_owned()) {
        error(
            span,
            wrong,
            "for example \"192.0.2.53\" or \"[2001:db8::53]:5353\"".into(),
        );
    }
}

fn records(
    domain: &DnsName,
    lines: Vec<(&str, Range<usize>)>,
    has_resolver: bool,
    error: &mut impl FnMut(&Range<usize>, String, String),
) {
    if let Some((_, span)) = lines.get(MAX_RECORDS) {
        error(
            span,
            format!("there are more than {MAX_RECORDS} records"),
            "delegate a part of the zone".into(),
        );
        return;
    }
    let mut found = Vec::new();
    for (line, span) in lines {
        match DnsRecord::parse(line, domain, 300) {
            Ok(record) => found.push((record, span)),
            Err(wrong) => error(&span, wrong.message, wrong.hint),
        }
    }
    let mut at: BTreeMap<&DnsName, Vec<(&DnsData, &Range<usize>)>> = BTreeMap::new();
    for (record, span) in &found {
        at.entry(&record.name).or_default().push((&record.data, span));
    }
    for (name, data) in at {
        let is_alone = |data: &DnsData| match data {
            DnsData::Cname(_) => name != domain,
            _ => false,
        };
        let is_alias = |data: &DnsData| {
            matches!(data, DnsData::Alias(_)) || (name == domain && matches!(data, DnsData::Cname(_)))
        };
        let is_address = |data: &DnsData| matches!(data, DnsData::A(_) | DnsData::Aaaa(_));
        let help = "leave one of them out".to_owned();
        if let Some((_, span)) = data
            .iter()
            .find(|(data, _)| is_alone(data))
            .filter(|_| data.len() > 1)
        {
            error(span, format!("{name} has a CNAME record and others"), help);
        } else if let Some((_, span)) = data.iter().find(|(data, _)| is_alias(data)) {
            let addresses = data
                .iter()
                .filter(|(data, _)| is_address(data) || is_alias(data))
                .count();
            if addresses > 1 {
                error(span, format!("{name} has an alias and other addresses"), help);
            }
        }
    }
    let all: Vec<DnsRecord> = found.iter().map(|(record, _)| record.clone()).collect();
    for (record, span) in &found {
        let target = match &record.data {
            DnsData::Alias(target) => target,
            DnsData::Cname(target) if record.name == *domain => target,
            _ => continue,
        };
        if !has_resolver && leads_out(domain, &all, target) {
            let message = format!("the addresses of {target} must be asked for");
            error(
                span,
                message,
                "name a resolver with edge.dns.resolver, or write the addresses".into(),
            );
        }
    }
}

/// Whether an alias ends outside of the zone.
fn leads_out(domain: &DnsName, records: &[DnsRecord], target: &DnsName) -> bool {
    let mut target = target;
    // A chain is not longer, or it is a loop.
    for _ in 0..8 {
        if !target.is_at_or_below(domain) {
            return true;
        }
        let next = records.iter().filter(|record| record.name == *target);
        match next
            .map(|record| &record.data)
            .find(|data| matches!(data, DnsData::Cname(_) | DnsData::Alias(_)))
        {
            Some(DnsData::Cname(next) | DnsData::Alias(next)) => target = next,
            _ => return false,
        }
    }
    false
}

/// A mail address as the name that a SOA record has.
pub fn mailbox(address: &str) -> Option<DnsName> {
    let (user, host) = address.split_once('@')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
    if user.is_empty() || !user.chars().all(plain) {
        return None;
    }
    host.parse::<DnsName>()
        .ok()
        .filter(|host| !host.is_root())?
        .child(user.as_bytes())
}

fn words<'t>(table: &'t dyn TableLike, key: &str) -> impl Iterator<Item = (&'t str, Range<usize>)> {
    let array = table.get(key).and_then(Item::as_array);
    let values = array.into_iter().flat_map(toml_edit::Array::iter);
    values.filter_map(|value: &Value| Some((value.as_str()?, value.span().unwrap_or(0..0))))
}

fn tables(item: Option<&Item>) -> Vec<&dyn TableLike> {
    match item {
        Some(Item::ArrayOfTables(tables)) => tables.iter().map(|table| table as &dyn TableLike).collect(),
        Some(Item::Value(Value::Array(values))) => {
            let inline = values.iter().filter_map(Value::as_inline_table);
            inline.map(|table| table as &dyn TableLike).collect()
        }
        _ => vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_address_is_a_name_whose_first_label_may_have_dots() {
        assert_eq!(
            mailbox("jo.doe@shop.example").unwrap().to_string(),
            "jo\\.doe.shop.example."
        );
        for text in [
            "jo",
            "@x.example",
            "jo@",
            "jo@x..y",
            "a b@x.example",
            "jo@@x.example",
        ] {
            assert_eq!(mailbox(text), None, "{text}");
        }
    }
}
