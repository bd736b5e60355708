//! Rules in their order, links of chains, what a match sets off.

use super::name::{Held, Matched, Name};
use super::subject::Subject;
use super::sum::Sum;
use super::test::Argument;
use super::texts::{Side, TextId};
use super::{Beyond, Interruption, Stop, Transaction};
use crate::compile::rule::{Disruption, Gated, Head, Rule, RuleId, Test};
use crate::compile::target::{Listed, Members, Pick, Target};
use crate::compile::value::Value;
use crate::seclang::{Allow, Collection, Mode};

/// How many matches of one rule `MATCHED_VARS` keeps.
const MATCHED: usize = 256;

impl<'t> Transaction<'t> {
    pub(super) fn run(&mut self, phase: u8) {
        let over = self.interruption.is_some() || self.exceeded;
        if self.mode == Mode::Off || (over && phase != 5) || self.is_allowed(phase) {
            return;
        }
        self.phase = phase;
        let side = if phase <= 2 { Side::Request } else { Side::Response };
        if self.side != side {
            // Their answers are those of another search.
            self.sums.fill(Sum::default());
        }
        self.side = side;
        let program = self.program;
        let steps = &program.phases[usize::from(phase - 1)];
        let mut at = 0usize;
        while let Some(step) = steps.get(at) {
            at += 1;
            if self.is_removed(*step) {
                continue;
            }
            let rule = program.rule(*step);
            if self.chain(*step, rule) {
                if let Some(to) = rule.head.as_ref().and_then(|head| head.go_to) {
                    at = to as usize;
                }
                let stopped = self.interruption.is_some() && phase != 5;
                if stopped || self.is_allowed(phase) || self.mode == Mode::Off {
                    break;
                }
            }
            if self.takes_too_much() {
                break;
            }
        }
    }

    fn is_removed(&self, rule: RuleId) -> bool {
        has(&self.removed, rule)
    }

    fn is_allowed(&self, phase: u8) -> bool {
        match self.allowed {
            None => false,
            Some((Allow::All, _)) => phase != 5,
            Some((Allow::Phase, at)) => phase == at,
            Some((Allow::Request, _)) => phase <= 2,
        }
    }

    fn takes_too_much(&mut self) -> bool {
        let too_much =
            self.work + self.texts.work > self.limits.work || self.texts.exhausted || self.tx.exhausted;
        if too_much && !self.exceeded {
            self.exceeded = true;
            if let (Beyond::Stop(status), Mode::On) = (self.limits.beyond, self.mode)
                && self.interruption.is_none()
            {
                self.interruption = Some(Interruption {
                    rule: 0,
                    phase: self.phase,
                    action: Stop::Deny,
                    status,
                });
            }
        }
        too_much
    }

    /// A rule with all its links.
    fn chain(&mut self, head: RuleId, rule: &'t Rule) -> bool {
        let program = self.program;
        self.matched.clear();
        self.head = head;
        self.score = 0;
        if !self.link(rule, true) {
            return false;
        }
        let first = rule.next.and_then(|_| self.matched.last().cloned());
        let mut link = rule;
        while let Some(next) = link.next {
            link = program.rule(next);
            if !self.link(link, false) {
                return false;
            }
        }
        if let Some(head) = &rule.head {
            let first = first.or_else(|| self.matched.last().cloned());
            self.whole_match(head, first.as_ref());
        }
        true
    }

    fn whole_match(&mut self, head: &'t Head, first: Option<&Matched>) {
        if let Some(severity) = head.severity {
            let highest = self.highest_severity.map_or(severity, |one| one.min(severity));
            self.highest_severity = Some(highest);
        }
        if head.log {
            self.record(head, first);
        }
        if self.mode != Mode::On || self.phase == 5 {
            return;
        }
        let action = match &head.disruption {
            Disruption::None => return,
            Disruption::Allow(allow) => {
                self.allowed = Some((*allow, self.phase));
                return;
            }
            Disruption::Deny => Stop::Deny,
            Disruption::Drop => Stop::Drop,
            Disruption::Redirect(to) => {
                let mut location = Vec::new();
                self.write_value(to, &mut location);
                Stop::Redirect(super::write::location(&location))
            }
        };
        let status = match (&action, head.status) {
            (Stop::Redirect(_), status) if !matches!(status, 301 | 302 | 303 | 307) => 302,
            (_, status) => status,
        };
        self.interruption = Some(Interruption {
            rule: head.id,
            phase: self.phase,
            action,
            status,
        });
    }

    /// One rule without its links: every value that it names, and what each match does.
    fn link(&mut self, rule: &'t Rule, is_head: bool) -> bool {
        if matches!(rule.test, Test::Always) {
            if rule.targets.is_empty() {
                self.apply(&rule.effects);
                return true;
            }
        } else if matches!(rule.test, Test::Never) && !rule.negated {
            return false;
        }
        let mut buffer = std::mem::take(&mut self.scratch.value);
        buffer.clear();
        let argument = match &rule.test {
            Test::Text(_, value) | Test::Expanded(value) => Argument {
                text: match value {
                    Value::Literal(text, _) => text,
                    value => {
                        self.write_value(value, &mut buffer);
                        &buffer
                    }
                },
                number: 0,
            },
            Test::Number(_, value) => Argument {
                text: &[],
                number: self.number_of(value),
            },
            _ => Argument { text: &[], number: 0 },
        };
        let selective = !rule.exclusions.is_empty()
            || (is_head && self.exceptions.iter().any(|(set, _)| has(set, self.head)));
        let mut looking = Looking {
            rule,
            argument,
            gate: rule.test.gate().filter(|_| !rule.negated && !rule.multi_match),
            is_summed: !rule.negated && !rule.multi_match,
            selective,
            matched: false,
        };
        for target in &rule.targets {
            self.target(&mut looking, target);
        }
        let matched = looking.matched;
        self.scratch.value = buffer;
        matched
    }

    fn target(&mut self, looking: &mut Looking<'t, '_>, target: &'t Target) {
        let collection = target.collection;
        let plain = Name::Plain(collection);
        match &target.members {
            Members::Counted => {
                let count = self.count(target);
                self.look(looking, collection, collection, plain, Subject::Number(count));
            }
            Members::Lists(lists) => {
                for listed in lists {
                    self.list(looking, target, listed);
                }
            }
            Members::Single => {
                if let Some(subject) = self.single(collection) {
                    self.look(looking, collection, collection, plain, subject);
                }
            }
            Members::Slot(slot) => {
                let subject = match (self.tx.get(*slot), &looking.rule.test) {
                    // Most rules on variables compare numbers: no text is made for them.
                    (value, Test::Number(..)) if value.is_set() && looking.rule.chain == 0 => {
                        Some(Subject::Number(value.number()))
                    }
                    _ => self.slot(*slot),
                };
                if let Some(subject) = subject {
                    self.look(looking, collection, collection, Name::Slot(*slot), subject);
                }
            }
            Members::Others => {
                for (name, subject) in self.others(collection, &target.pick) {
                    self.look(looking, collection, collection, name, subject);
                }
            }
        }
    }

    /// All members of a list that a target takes.
    fn list(&mut self, looking: &mut Looking<'t, '_>, target: &'t Target, listed: &Listed) {
        let Listed { family, names, .. } = *listed;
        if self.items.list(family).is_empty()
            || (looking.is_summed && !self.list_may_match(&looking.rule.test, listed, looking.rule.chain))
        {
            return;
        }
        for index in 0..self.items.list(family).len() {
            let item = self.items.list(family)[index];
            if !matches!(target.pick, Pick::All) && !target.pick.takes(self.texts.get(item.name)) {
                continue;
            }
            let node = if names {
                self.items.name_node(family, index, &mut self.texts)
            } else {
                item.value
            };
            // Nearly all rules and values are through with each other here.
            if let Some(gate) = looking.gate {
                let text = self.texts.chained(node, looking.rule.chain);
                if !self.may_match(gate, text) {
                    continue;
                }
            }
            let name = Name::Member(target.collection, item.name);
            self.look(
                looking,
                target.collection,
                listed.other,
                name,
                Subject::Node(node),
            );
        }
    }

    /// One value: whether it matches, and what that does.
    fn look(
        &mut self,
        looking: &mut Looking<'t, '_>,
        collection: Collection,
        other: Collection,
        name: Name,
        subject: Subject,
    ) {
        let rule = looking.rule;
        if let (Subject::Number(number), Test::Number(compare, _), 0) = (subject, &rule.test, rule.chain) {
            if compare.holds(number, looking.argument.number) != rule.negated
                && !self.is_excluded(looking, collection, other, &name)
            {
                let value = Held::Number(number);
                self.matches(looking, Matched { name, value }, None);
            }
            return;
        }
        if rule.multi_match {
            return self.look_at_each_step(looking, collection, other, &name, subject);
        }
        let text = match subject {
            Subject::Node(node) => self.texts.chained(node, rule.chain),
            subject => {
                let text = self.as_text(subject);
                self.texts.transformed(text, rule.chain)
            }
        };
        if self.holds(rule, text, looking.argument) != rule.negated
            && !self.is_excluded(looking, collection, other, &name)
        {
            let value = Held::Text(text);
            self.matches(looking, Matched { name, value }, Some(text));
        }
    }

    /// `multiMatch`: the value as it came and after each transformation that changed it.
    fn look_at_each_step(
        &mut self,
        looking: &mut Looking<'t, '_>,
        collection: Collection,
        other: Collection,
        name: &Name,
        subject: Subject,
    ) {
        if looking.selective && self.is_excluded(looking, collection, other, name) {
            return;
        }
        let rule = looking.rule;
        let mut last: Option<TextId> = None;
        let base = match subject {
            Subject::Node(node) => self.texts.base(node),
            subject => self.as_text(subject),
        };
        for &step in &rule.steps {
            let text = match subject {
                Subject::Node(node) => self.texts.chained(node, step),
                _ => self.texts.transformed(base, step),
            };
            if last.replace(text) == Some(text) {
                continue;
            }
            if self.holds(looking.rule, text, looking.argument) != looking.rule.negated {
                let matched = Matched {
                    name: name.clone(),
                    value: Held::Text(text),
                };
                self.matches(looking, matched, Some(text));
            }
        }
    }

    fn as_text(&mut self, subject: Subject) -> TextId {
        match subject {
            Subject::Text(text) => text,
            Subject::Node(node) => self.texts.base(node),
            Subject::Number(number) => {
                let mut digits = Vec::with_capacity(20);
                super::write::number(number, &mut digits);
                self.texts.owned(&digits)
            }
        }
    }

    fn is_excluded(
        &self,
        looking: &Looking<'t, '_>,
        collection: Collection,
        other: Collection,
        name: &Name,
    ) -> bool {
        if !looking.selective {
            return false;
        }
        let mut own = Vec::new();
        let name = match name {
            Name::Member(_, text) => self.text(*text),
            Name::Slot(slot) => self.program.names.name(*slot).as_bytes(),
            Name::Own(_, own) => own,
            Name::Capture(digit) => {
                own.push(b'0' + digit);
                &own
            }
            Name::Plain(_) => &[],
        };
        let covers =
            |exclusion: &crate::compile::target::Exclusion| exclusion.covers(collection, other, name);
        looking.rule.exclusions.iter().any(covers)
            || (looking.rule.head.is_some()
                && self
                    .exceptions
                    .iter()
                    .filter(|(set, _)| has(set, self.head))
                    .any(|(_, exclusions)| exclusions.iter().any(covers)))
    }

    fn matches(&mut self, looking: &mut Looking<'t, '_>, matched: Matched, text: Option<TextId>) {
        looking.matched = true;
        if let Some(text) = text.filter(|_| looking.rule.capture && !looking.rule.negated) {
            self.capture(looking.rule, text);
        }
        if self.matched.len() >= MATCHED {
            self.matched.remove(0);
        }
        self.matched.push(matched);
        self.apply(&looking.rule.effects);
    }
}

/// What a link of a chain is looking for, and whether it was found.
struct Looking<'t, 'a> {
    rule: &'t Rule,
    argument: Argument<'a>,
    /// What a text must have to match, where that decides.
    gate: Option<&'t Gated>,
    /// Whether what a list has together decides whether its members are looked at.
    is_summed: bool,
    /// Whether some members are not looked at.
    selective: bool,
    matched: bool,
}

fn has(set: &[u64], rule: RuleId) -> bool {
    set.get((rule / 64) as usize)
        .is_some_and(|word| word & (1 << (rule % 64)) != 0)
}
