//! Drafts to a program.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::Program;
use super::chains::{ChainId, Chains};
use super::draft::{Chain, Drafts, Item, Link, Matcher};
use super::gate::{Bit, GateBuilder};
use super::names::Names;
use super::reach::Reach;
use super::rule::{Change, Disruption, Effect, Gated, Head, Rule, RuleId, Test};
use super::target::{Exclusion, Sums, Target};
use super::value::Value;
use crate::operator::{self, Need, Operator, Pattern};
use crate::seclang::{
    Action, Change as WrittenChange, Ctl, Disruptive, LoadError, Place, Problem, Removed, SetVar, Store,
    Target as WrittenTarget, Wrong,
};
use crate::transform::{Transformation, UnicodeMap};

/// How long a chain may be.
const LINKS: usize = 64;

/// `problems` are those found before; all are told together.
pub(super) fn program(drafts: Drafts, problems: Vec<Problem>) -> Result<Program, LoadError> {
    let compiled = compile_patterns(&drafts);
    let mut lowering = Lowering {
        drafts: &drafts,
        compiled,
        numbered: HashMap::new(),
        patterns: Vec::new(),
        chains: Chains::default(),
        names: Names::default(),
        sums: Sums::default(),
        request: GateBuilder::default(),
        response: GateBuilder::default(),
        rules: Vec::new(),
        sets: HashMap::new(),
        warnings: Vec::new(),
        problems,
    };
    let phases = lowering.phases();
    let unicode_map = lowering.unicode_map();
    let Lowering {
        patterns,
        chains,
        names,
        sums,
        request,
        response,
        rules,
        warnings,
        mut problems,
        ..
    } = lowering;
    let (request, response) = match (request.build(), response.build()) {
        (Ok(request), Ok(response)) => (request, response),
        (Err(error), _) | (_, Err(error)) => {
            problems.push(Problem {
                file: "rules".into(),
                line: 0,
                message: format!("the words of all rules together are too many: {error}"),
                hint: None,
            });
            return Err(LoadError { problems });
        }
    };
    if !problems.is_empty() {
        return Err(LoadError { problems });
    }
    let scores = (0..names.len())
        .map(|slot| {
            let name = names.name(u32::try_from(slot).unwrap_or(u32::MAX));
            name.contains("anomaly_score_pl")
        })
        .collect();
    let reach = Reach::of(&rules, &phases);
    Ok(Program {
        settings: drafts.settings,
        rules,
        phases,
        reach,
        chains,
        names,
        sums: sums.len(),
        scores,
        patterns,
        request_gate: request,
        response_gate: response,
        unicode_map,
        spare: Mutex::new(Vec::new()),
        expanded: Mutex::new(HashMap::new()),
        warnings,
    })
}

/// What is looked at, and what is not.
type Targets = (Box<[Target]>, Box<[Exclusion]>);

type Compiled = HashMap<String, Result<Arc<Pattern>, Wrong>>;

/// Patterns take nearly all of the time, so all cores share them.
fn compile_patterns(drafts: &Drafts) -> Compiled {
    let mut texts: Vec<&str> = drafts
        .items
        .iter()
        .filter_map(|item| match item {
            Item::Rule(chain) => Some(chain),
            Item::Marker(_) => None,
        })
        .flat_map(|chain| &chain.links)
        .filter_map(|link| link.rule.operator.as_ref())
        .filter(|operator| operator.name == "rx" || operator.name.starts_with("verify"))
        .map(|operator| operator.argument.as_str())
        .collect();
    texts.sort_unstable();
    texts.dedup();
    // The long ones first, so that no core is left with one at the end.
    texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
    let next = std::sync::atomic::AtomicUsize::new(0);
    let done = Mutex::new(Compiled::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let work = || {
        while let Some(text) = texts.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            let pattern = operator::pattern(text).map(Arc::new);
            let mut done = done.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            done.insert((*text).to_owned(), pattern);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
}

struct Lowering<'d> {
    drafts: &'d Drafts,
    compiled: Compiled,
    /// The number of each pattern, by its address.
    numbered: HashMap<*const Pattern, u32>,
    patterns: Vec<Arc<Pattern>>,
    chains: Chains,
    names: Names,
    sums: Sums,
    request: GateBuilder,
    response: GateBuilder,
    rules: Vec<Rule>,
    /// Sets of rules, by what names them.
    sets: HashMap<String, Arc<[u64]>>,
    warnings: Vec<Problem>,
    problems: Vec<Problem>,
}

impl Lowering<'_> {
    fn phases(&mut self) -> [Vec<RuleId>; 5] {
        let mut phases: [Vec<RuleId>; 5] = Default::default();
        let mut markers: HashMap<&str, [u32; 5]> = HashMap::new();
        let mut jumps: Vec<(RuleId, &Chain)> = Vec::new();
        let drafts = self.drafts;
        for item in &drafts.items {
            match item {
                Item::Marker(name) => {
                    let ends = std::array::from_fn(|phase| count(phases[phase].len()));
                    markers.insert(name, ends);
                }
                Item::Rule(chain) => {
                    let id = self.chain(chain);
                    let phase = usize::from(chain.phase - 1);
                    phases[phase].push(id);
                    jumps.push((id, chain));
                }
            }
        }
        for (id, chain) in jumps {
            let phase = usize::from(chain.phase - 1);
            let own = phases[phase].iter().position(|step| *step == id).unwrap_or(0);
            for action in &chain.links[0].rule.actions {
                let to = match action {
                    Action::Skip(many) => count(own + 1 + *many as usize),
                    Action::SkipAfter(name) => match marker(&markers, name, drafts, phase) {
                        Some(to) if to as usize > own => to,
                        Some(_) => {
                            self.wrong(
                                Wrong::new(format!("skipAfter:{name} goes backwards")),
                                &chain.links[0].place,
                            );
                            continue;
                        }
                        None => {
                            self.wrong(
                                Wrong::new(format!("skipAfter:{name}: there is no such SecMarker")),
                                &chain.links[0].place,
                            );
                            continue;
                        }
                    },
                    _ => continue,
                };
                if let Some(head) = &mut self.rules[id as usize].head {
                    head.go_to = Some(to);
                }
            }
        }
        phases
    }

    fn wrong(&mut self, wrong: Wrong, place: &Place) {
        self.problems.push(wrong.at(place));
    }

    fn unicode_map(&mut self) -> Option<UnicodeMap> {
        let (path, page) = self.drafts.settings.unicode_map.as_ref()?;
        let loaded = std::fs::read_to_string(path)
            .map_err(|error| error.to_string())
            .and_then(|text| UnicodeMap::parse(&text, *page).map_err(|error| error.to_string()));
        match loaded {
            Ok(map) => Some(map),
            Err(message) => {
                self.problems.push(Problem {
                    file: path.clone(),
                    line: 0,
                    message,
                    hint: None,
                });
                None
            }
        }
    }

    /// Compiles a chain; its links lie one behind the other.
    fn chain(&mut self, chain: &Chain) -> RuleId {
        let first = count(self.rules.len());
        if chain.links.len() > LINKS {
            let wrong = Wrong::new(format!("a chain of more than {LINKS} rules"));
            self.wrong(wrong, &chain.links[0].place);
        }
        for (index, link) in chain.links.iter().enumerate() {
            match self.link(chain, link, index == 0) {
                Ok(mut rule) => {
                    if index + 1 < chain.links.len() {
                        rule.next = Some(first + count(index) + 1);
                    }
                    self.rules.push(rule);
                }
                Err(wrong) => {
                    self.wrong(wrong, &link.place);
                    self.rules.push(Rule::placeholder());
                }
            }
        }
        first
    }

    fn link(&mut self, chain: &Chain, link: &Link, is_head: bool) -> Result<Rule, Wrong> {
        let actions = &link.rule.actions;
        let (test, negated) = self.test(link, chain.phase)?;
        let defaults = if is_head { chain.defaults.as_slice() } else { &[] };
        let mut transformations: Vec<Transformation> = Vec::new();
        let mut effects = Vec::new();
        for action in defaults.iter().chain(actions) {
            match action {
                Action::Transform(None) => transformations.clear(),
                Action::Transform(Some(one)) => transformations.push(*one),
                _ => {}
            }
        }
        for action in actions {
            effects.extend(self.effect(action)?);
        }
        let transformations_id = self
            .chains
            .intern(&transformations)
            .ok_or_else(|| Wrong::new("too many different chains of transformations"))?;
        let (targets, exclusions) = self.targets(&link.rule.targets, transformations_id)?;
        let multi_match = actions.contains(&Action::MultiMatch);
        let steps: Box<[ChainId]> = if multi_match {
            self.chains.steps(transformations_id).into()
        } else {
            Box::default()
        };
        let head = is_head
            .then(|| self.head(chain, link).map(Box::new))
            .transpose()?;
        Ok(Rule {
            test,
            negated,
            targets,
            exclusions,
            chain: transformations_id,
            multi_match,
            capture: actions.contains(&Action::Capture),
            steps,
            effects: effects.into(),
            next: None,
            head,
        })
    }

    fn test(&mut self, link: &Link, phase: u8) -> Result<(Test, bool), Wrong> {
        let Some(written) = &link.rule.operator else {
            return Ok((Test::Always, false));
        };
        let folder = link.place.file.parent().unwrap_or(Path::new("."));
        let mut warnings = Vec::new();
        let compiled = &mut self.compiled;
        let mut pattern = |text: &str| match compiled.get(text) {
            Some(Ok(pattern)) => Ok(Arc::clone(pattern)),
            Some(Err(wrong)) => Err(Wrong {
                message: wrong.message.clone(),
                hint: wrong.hint.clone(),
            }),
            None => operator::pattern(text).map(Arc::new),
        };
        let operator = operator::compile(written, folder, &mut pattern, &mut |warning| {
            warnings.push(warning.to_owned());
        })?;
        for warning in warnings {
            self.warnings.push(Wrong::new(warning).at(&link.place));
        }
        let test = match operator {
            Operator::Always => Test::Always,
            Operator::Never => Test::Never,
            Operator::Pattern(pattern) => {
                let gated = self.gated(&pattern.need, phase);
                let number = self.number(&pattern);
                Test::Pattern(pattern, number, gated)
            }
            Operator::Verify(check, pattern) => {
                let gated = self.gated(&pattern.need, phase);
                let number = self.number(&pattern);
                Test::Verify(check, pattern, number, gated)
            }
            Operator::Phrases(phrases) => {
                let shortest = phrases.iter().map(Vec::len).min().unwrap_or(0);
                Test::Phrases(Gated {
                    bytes: Box::default(),
                    length: count(shortest),
                    bit: Some(self.gate(phase).add(&phrases)),
                })
            }
            Operator::Text(test, template) => Test::Text(test, Value::new(&template, &mut self.names)?),
            Operator::Number(compare, template) => {
                Test::Number(compare, Value::new(&template, &mut self.names)?)
            }
            Operator::Address(networks) => Test::Address(networks),
            Operator::ByteOutside(set) => Test::ByteOutside(set),
            Operator::BadEscape => Test::BadEscape,
            Operator::BadUtf8 => Test::BadUtf8,
            Operator::Sqli => Test::Sqli,
            Operator::Xss => Test::Xss,
            Operator::Country => Test::Country,
            Operator::Expanded(template) => Test::Expanded(Value::new(&template, &mut self.names)?),
        };
        Ok((test, written.negated))
    }

    fn gate(&mut self, phase: u8) -> &mut GateBuilder {
        if phase <= 2 {
            &mut self.request
        } else {
            &mut self.response
        }
    }

    fn gated(&mut self, need: &Need, phase: u8) -> Gated {
        let bit: Option<Bit> = need.words.as_ref().map(|words| self.gate(phase).add(words));
        Gated {
            bytes: need.bytes.clone(),
            length: count(need.length),
            bit,
        }
    }

    fn number(&mut self, pattern: &Arc<Pattern>) -> u32 {
        let next = count(self.patterns.len());
        let number = *self.numbered.entry(Arc::as_ptr(pattern)).or_insert(next);
        if number == next {
            self.patterns.push(Arc::clone(pattern));
        }
        number
    }

    fn targets(&mut self, written: &[WrittenTarget], chain: ChainId) -> Result<Targets, Wrong> {
        let mut targets = Vec::new();
        let mut exclusions = Vec::new();
        for target in written {
            if target.exclude {
                exclusions.push(Exclusion::new(target, &mut self.names)?);
            } else {
                targets.push(Target::new(target, chain, &mut self.names, &mut self.sums)?);
            }
        }
        Ok((targets.into(), exclusions.into()))
    }

    fn value(&mut self, template: &crate::seclang::Template) -> Result<Value, Wrong> {
        Value::new(template, &mut self.names)
    }

    fn effect(&mut self, action: &Action) -> Result<Option<Effect>, Wrong> {
        Ok(Some(match action {
            Action::SetVar(set) => self.set(set)?,
            Action::ExpireVar(store, name, seconds) => {
                Effect::Expire(*store, self.value(name)?, self.value(seconds)?)
            }
            Action::DeprecateVar(store, name, value) => {
                Effect::Deprecate(*store, self.value(name)?, self.value(value)?)
            }
            Action::InitCol(store, key) => Effect::Init(*store, self.value(key)?),
            Action::SetEnv(name, value) => Effect::SetEnv(self.value(name)?, self.value(value)?),
            Action::Ctl(ctl) => return self.ctl(ctl),
            _ => return Ok(None),
        }))
    }

    fn set(&mut self, set: &SetVar) -> Result<Effect, Wrong> {
        let change = match &set.change {
            WrittenChange::Unset => Change::Unset,
            WrittenChange::Set(value) => Change::Set(self.value(value)?),
            WrittenChange::Add(value) => Change::Add(self.value(value)?),
            WrittenChange::Subtract(value) => Change::Subtract(self.value(value)?),
        };
        Ok(match (set.store, set.name.as_literal()) {
            (Store::Tx, Some(name)) => Effect::SetTx(self.names.intern(name), change),
            (store, _) => Effect::SetNamed(store, self.value(&set.name)?, change),
        })
    }

    fn ctl(&mut self, ctl: &Ctl) -> Result<Option<Effect>, Wrong> {
        Ok(Some(match ctl {
            Ctl::RuleEngine(mode) => Effect::Engine(*mode),
            Ctl::RuleRemove(which) => Effect::Remove(self.set_of(which)?),
            Ctl::RuleRemoveTarget(which, targets) => {
                let exclusions: Result<Vec<_>, _> = targets
                    .iter()
                    .map(|target| Exclusion::new(target, &mut self.names))
                    .collect();
                Effect::RemoveTarget(self.set_of(which)?, exclusions?.into())
            }
            Ctl::RequestBodyProcessor(processor) => Effect::Processor(*processor),
            Ctl::RequestBodyAccess(on) => Effect::RequestBodyAccess(*on),
            Ctl::ResponseBodyAccess(on) => Effect::ResponseBodyAccess(*on),
            Ctl::ForceRequestBodyVariable(on) => Effect::ForceRequestBody(*on),
            Ctl::RequestBodyLimit(bytes) => Effect::RequestBodyLimit(*bytes),
            Ctl::ResponseBodyLimit(bytes) => Effect::ResponseBodyLimit(*bytes),
            Ctl::Inert => return Ok(None),
        }))
    }

    /// Which rules of the program are meant, as bits by the number of their heads.
    fn set_of(&mut self, which: &Removed) -> Result<Arc<[u64]>, Wrong> {
        let key = format!("{which:?}");
        if let Some(set) = self.sets.get(&key) {
            return Ok(Arc::clone(set));
        }
        let matcher = Matcher::new(which)?;
        let mut number = 0usize;
        let mut bits: Vec<u64> = Vec::new();
        for item in &self.drafts.items {
            let Item::Rule(chain) = item else { continue };
            if matcher.means(chain) {
                if bits.len() <= number / 64 {
                    bits.resize(number / 64 + 1, 0);
                }
                bits[number / 64] |= 1 << (number % 64);
            }
            number += chain.links.len();
        }
        let set: Arc<[u64]> = bits.into();
        self.sets.insert(key, Arc::clone(&set));
        Ok(set)
    }

    fn head(&mut self, chain: &Chain, link: &Link) -> Result<Head, Wrong> {
        let mut head = Head {
            id: chain.id,
            phase: chain.phase,
            place: link.place.clone(),
            disruption: Disruption::None,
            status: 403,
            log: true,
            severity: None,
            msg: None,
            logdata: None,
            tags: Arc::default(),
            ver: None,
            rev: None,
            go_to: None,
        };
        let mut tags: Vec<Box<str>> = Vec::new();
        let mut block = Disruption::None;
        for action in &chain.defaults {
            if let Action::Disruptive(disruptive) = action {
                block = self.disruption(disruptive, &block)?;
            }
        }
        head.disruption = block.clone();
        for action in chain.defaults.iter().chain(&link.rule.actions) {
            match action {
                Action::Disruptive(disruptive) => {
                    head.disruption = self.disruption(disruptive, &block)?;
                }
                Action::Status(status) => head.status = *status,
                Action::Log(on) => head.log = *on,
                Action::Severity(severity) => head.severity = Some(*severity),
                Action::Msg(msg) => head.msg = Some(self.value(msg)?),
                Action::Logdata(data) => head.logdata = Some(self.value(data)?),
                Action::Ver(ver) => head.ver = Some(ver.as_str().into()),
                Action::Rev(rev) => head.rev = Some(rev.as_str().into()),
                Action::Tag(tag) => tags.extend(tag.as_literal().map(Into::into)),
                _ => {}
            }
        }
        head.tags = tags.into();
        Ok(head)
    }

    fn disruption(&mut self, written: &Disruptive, block: &Disruption) -> Result<Disruption, Wrong> {
        Ok(match written {
            Disruptive::Block => block.clone(),
            Disruptive::Pass => Disruption::None,
            Disruptive::Allow(allow) => Disruption::Allow(*allow),
            Disruptive::Deny => Disruption::Deny,
            Disruptive::Drop => Disruption::Drop,
            Disruptive::Redirect(to) => Disruption::Redirect(self.value(to)?),
        })
    }
}

/// Where a phase goes on behind a marker; a rule's id is one too, as `SecMarker` once was a rule.
fn marker(markers: &HashMap<&str, [u32; 5]>, name: &str, drafts: &Drafts, phase: usize) -> Option<u32> {
    if let Some(ends) = markers.get(name) {
        return Some(ends[phase]);
    }
    let id: u64 = name.parse().ok()?;
    let mut steps = 0;
    for item in &drafts.items {
        let Item::Rule(chain) = item else { continue };
        steps += u32::from(usize::from(chain.phase - 1) == phase);
        if chain.id == id {
            return Some(steps);
        }
    }
    None
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl Rule {
    /// Stands where a rule could not be compiled; the program is refused anyway.
    fn placeholder() -> Self {
        Self {
            test: Test::Never,
            negated: false,
            targets: Box::default(),
            exclusions: Box::default(),
            chain: 0,
            multi_match: false,
            capture: false,
            steps: Box::default(),
            effects: Box::default(),
            next: None,
            head: None,
        }
    }
}
