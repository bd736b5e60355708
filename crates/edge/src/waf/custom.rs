//! Custom rules and exceptions, from the manifest's words.

use crate::policy::Matcher;
use astraler_model::{ListKind, WafAction, WafConfig, WafException, WafRule, WafSkip};
use astraler_waf::engine::Transaction;
use astraler_waf::expression::{self, Expression, List, Lists, Managed, Rule, Skip};

/// When a custom rule can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Head,
    Body,
    Response,
}

impl Stage {
    pub(super) fn of(rule: &Rule) -> Self {
        let needs = rule.expression.needs();
        if needs.response {
            Self::Response
        } else if needs.body {
            Self::Body
        } else {
            Self::Head
        }
    }
}

/// Managed rules that some requests are not looked at with.
#[derive(Debug)]
pub(super) struct Exception {
    pub(super) about: Matcher,
    pub(super) managed: Managed,
}

impl Exception {
    pub(super) fn of(exception: &WafException) -> Self {
        Self {
            about: Matcher::new(&exception.hosts, &exception.paths, &[]),
            managed: managed(&exception.rules, &exception.tags),
        }
    }
}

pub(super) fn leave_out(transaction: &mut Transaction<'_>, managed: &Managed) {
    if !managed.is_none() {
        transaction.leave_out(|id, tags| managed.has(id, tags.iter().map(|tag| &**tag)));
    }
}

pub(super) fn word(action: &expression::Action) -> &'static str {
    match action {
        expression::Action::Block => "block",
        expression::Action::Log => "log",
        expression::Action::Skip(_) => "skip",
        expression::Action::Exception(_) => "exception",
    }
}

/// The lists that rules may name. The manifest has checked them, too.
pub(super) fn lists(config: &WafConfig) -> Lists {
    let mut lists = Lists::default();
    for (name, list) in &config.lists {
        let kind = match list.kind {
            ListKind::Ip => expression::ListKind::Ip,
            ListKind::Hostname => expression::ListKind::Hostname,
            ListKind::Text => expression::ListKind::Text,
            ListKind::Number => expression::ListKind::Number,
            ListKind::Asn => expression::ListKind::Asn,
        };
        match List::read(kind, list.items.iter().map(String::as_str)) {
            Ok(list) => lists.insert(name, list),
            Err(error) => tracing::error!(
                list = name,
                error = &error as &dyn std::error::Error,
                "a list is left out, and with it the rules that name it"
            ),
        }
    }
    lists
}

/// The manifest has checked it: what cannot be read comes from a snapshot of another version, and is told.
pub(super) fn rule(rule: &WafRule, lists: &Lists) -> Option<Rule> {
    let name = rule.name.as_str().to_owned();
    match Expression::compile(&rule.expression, lists) {
        Ok(expression) => Some(Rule {
            name,
            expression,
            action: match rule.action {
                WafAction::Block => expression::Action::Block,
                WafAction::Log => expression::Action::Log,
                WafAction::Skip => expression::Action::Skip(skip(&rule.skip)),
                WafAction::Exception => expression::Action::Exception(managed(&rule.rules, &rule.tags)),
            },
        }),
        Err(error) => {
            tracing::error!(
                rule = name,
                error = &error as &dyn std::error::Error,
                "a custom rule is left out"
            );
            None
        }
    }
}

fn skip(said: &[WafSkip]) -> Skip {
    let usual = [WafSkip::CustomRules, WafSkip::ManagedRules];
    let said = if said.is_empty() { &usual[..] } else { said };
    Skip {
        custom_rules: said.contains(&WafSkip::CustomRules),
        managed: Managed {
            all: said.contains(&WafSkip::ManagedRules),
            ..Managed::default()
        },
        rate_rules: said.contains(&WafSkip::RateRules),
    }
}

/// All of them where none is named.
fn managed(ids: &[u64], tags: &[String]) -> Managed {
    Managed {
        all: ids.is_empty() && tags.is_empty(),
        ids: ids.iter().copied().collect(),
        tags: tags.iter().cloned().collect(),
    }
}
