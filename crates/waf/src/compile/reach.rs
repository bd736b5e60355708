//! What rules that run after the request's phases look at: a server that waits for the response in between need not keep
//! the rest.

use super::rule::{Change, Disruption, Effect, Rule, RuleId, Step, Test};
use super::target::Pick;
use super::value::{Part, Value};
use crate::seclang::Collection;

/// Which parts of a message the rules of phases 3 to 5 look at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Members that are read out of the request's head: headers, cookies, arguments of the query.
    pub(crate) request_head: bool,
    /// What is read out of the request's body, or the body itself.
    pub(crate) request_body: bool,
    pub(crate) response_body: bool,
    /// Of any phase: where the client is, beside its country.
    pub(crate) place: bool,
}

impl Reach {
    pub(super) fn of(rules: &[Rule], phases: &[Vec<Step>; 5]) -> Self {
        Self {
            place: Self::over(rules, &phases[..]).place,
            ..Self::over(rules, &phases[2..])
        }
    }

    fn over(rules: &[Rule], phases: &[Vec<Step>]) -> Self {
        let mut reach = Self::default();
        for head in phases.iter().flatten() {
            let mut next: Option<RuleId> = Some(*head);
            while let Some(rule) = next.and_then(|id| rules.get(id as usize)) {
                reach.rule(rule);
                next = rule.next;
            }
        }
        reach
    }

    fn rule(&mut self, rule: &Rule) {
        for target in &rule.targets {
            self.collection(target.collection, &target.pick);
        }
        if let Test::Text(_, value) | Test::Number(_, value) | Test::Expanded(value) = &rule.test {
            self.value(value);
        }
        for effect in &rule.effects {
            self.effect(effect);
        }
        if let Some(head) = &rule.head {
            for value in [&head.msg, &head.logdata].into_iter().flatten() {
                self.value(value);
            }
            if let Disruption::Redirect(to) = &head.disruption {
                self.value(to);
            }
        }
    }

    fn effect(&mut self, effect: &Effect) {
        match effect {
            Effect::SetTx(_, change) => self.change(change),
            Effect::SetNamed(_, name, change) => {
                self.value(name);
                self.change(change);
            }
            Effect::Expire(_, name, value)
            | Effect::Deprecate(_, name, value)
            | Effect::SetEnv(name, value) => {
                self.value(name);
                self.value(value);
            }
            Effect::Init(_, key) => self.value(key),
            Effect::Engine(_)
            | Effect::Remove(_)
            | Effect::RemoveTarget(..)
            | Effect::Processor(_)
            | Effect::RequestBodyAccess(_)
            | Effect::ResponseBodyAccess(_)
            | Effect::ForceRequestBody(_)
            | Effect::RequestBodyLimit(_)
            | Effect::ResponseBodyLimit(_) => {}
        }
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::Unset => {}
            Change::Set(value) | Change::Add(value) | Change::Subtract(value) => self.value(value),
        }
    }

    fn value(&mut self, value: &Value) {
        if let Value::Parts(parts) = value {
            for part in parts {
                if let Part::Variable(collection, pick) = part {
                    self.collection(*collection, pick);
                }
            }
        }
    }

    fn collection(&mut self, collection: Collection, pick: &Pick) {
        use Collection as C;
        match collection {
            C::Args | C::ArgsNames | C::ArgsCombinedSize => {
                self.request_head = true;
                self.request_body = true;
            }
            C::ArgsGet
            | C::ArgsGetNames
            | C::RequestCookies
            | C::RequestCookiesNames
            | C::RequestHeaders
            | C::RequestHeadersNames => self.request_head = true,
            C::ArgsPost
            | C::ArgsPostNames
            | C::Files
            | C::FilesCombinedSize
            | C::FilesNames
            | C::FilesSizes
            | C::FilesTmpContent
            | C::FilesTmpNames
            | C::FullRequest
            | C::FullRequestLength
            | C::MultipartFilename
            | C::MultipartName
            | C::MultipartPartHeaders
            | C::RequestBody
            | C::RequestBodyLength
            | C::Xml => self.request_body = true,
            C::ResponseBody | C::ResponseContentLength | C::OutboundDataError => self.response_body = true,
            C::Geo => {
                let is_country = matches!(pick, Pick::Name(name) if **name == *"country_code");
                self.place |= !is_country;
            }
            _ => {}
        }
    }
}
