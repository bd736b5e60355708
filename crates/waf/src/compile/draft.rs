//! The rules in their order, with their chains, after everything that changes rules has been applied.

use std::collections::HashMap;

use super::settings::Settings;
use crate::operator::caseless;
use crate::seclang::{
    Action, BASE_FILE, Directive, DirectiveKind, Place, Problem, Removed, Rule, Target, Wrong,
};

/// What a phase consists of, before it is compiled.
#[derive(Debug)]
pub(super) struct Drafts {
    pub(super) settings: Settings,
    pub(super) items: Vec<Item>,
}

#[derive(Debug)]
pub(super) enum Item {
    Rule(Chain),
    Marker(String),
}

/// A rule with its links.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) id: u64,
    pub(super) phase: u8,
    pub(super) links: Vec<Link>,
    /// What `SecDefaultAction` said for its phase.
    pub(super) defaults: Vec<Action>,
    /// Whether `SecRuleRemove…` took it out.
    removed: bool,
    /// Whether one of its links could not be read.
    is_unread: bool,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) place: Place,
    pub(super) rule: Rule,
}

/// How many rules a set may have: each takes a bit in some sets.
const RULES: usize = 1 << 16;

/// What is wrong goes into `problems`, and what can be compiled is there all the same.
pub(super) fn gather(directives: &[Directive], problems: &mut Vec<Problem>) -> Drafts {
    let mut gathering = Gathering::default();
    for directive in directives {
        gathering.directive(directive);
    }
    gathering.open_chain_is_wrong();
    for directive in directives {
        if let Err(wrong) = gathering.change(directive) {
            gathering.problems.push(wrong.at(&directive.place));
        }
    }
    problems.append(&mut gathering.problems);
    gathering.finish(problems)
}

#[derive(Default)]
struct Gathering {
    settings: Settings,
    items: Vec<Item>,
    defaults: HashMap<u8, Vec<Action>>,
    /// The chain that the next rule belongs to.
    open: Option<Chain>,
    places: HashMap<u64, Place>,
    problems: Vec<Problem>,
}

impl Gathering {
    fn wrong(&mut self, wrong: Wrong, place: &Place) {
        self.problems.push(wrong.at(place));
    }

    fn directive(&mut self, directive: &Directive) {
        let place = &directive.place;
        match &directive.kind {
            DirectiveKind::Rule(rule) => self.rule(rule, place),
            DirectiveKind::Marker(name) => {
                self.open_chain_is_wrong();
                self.items.push(Item::Marker(name.clone()));
            }
            DirectiveKind::DefaultAction(actions) => {
                let phase = phase(actions).unwrap_or(2);
                self.defaults.insert(phase, actions.clone());
            }
            DirectiveKind::Setting(setting) => self.settings.set(setting, &place.file),
            DirectiveKind::Unread { chained } => {
                let chain = self.open.take().unwrap_or_else(|| Chain::unread(place));
                if *chained {
                    self.open = Some(Chain {
                        is_unread: true,
                        ..chain
                    });
                }
            }
            DirectiveKind::Remove(_) | DirectiveKind::UpdateTarget(..) | DirectiveKind::UpdateAction(..) => {}
        }
    }

    fn rule(&mut self, rule: &Rule, place: &Place) {
        let link = Link {
            place: place.clone(),
            rule: rule.clone(),
        };
        let chained = rule.actions.contains(&Action::Chain);
        let mut chain = match self.open.take() {
            Some(mut chain) => {
                chain.links.push(link);
                chain
            }
            None => {
                let Some(id) = rule.id() else {
                    return self.wrong(
                        Wrong::new("the rule has no id").hint("id:100000 to 199999 are for your own"),
                        place,
                    );
                };
                let other = self.places.get(&id);
                if other.is_some_and(|place| place.file.as_os_str() == BASE_FILE) {
                    self.items
                        .retain(|item| !matches!(item, Item::Rule(chain) if chain.id == id));
                } else if let Some(other) = other {
                    let wrong = Wrong::new(format!(
                        "id {id} is taken by {}:{}",
                        other.file.display(),
                        other.line
                    ));
                    self.wrong(wrong, place);
                }
                self.places.insert(id, place.clone());
                let phase = phase(&rule.actions).unwrap_or(2);
                Chain {
                    id,
                    phase,
                    links: vec![link],
                    defaults: self.defaults.get(&phase).cloned().unwrap_or_default(),
                    removed: false,
                    is_unread: false,
                }
            }
        };
        if chained {
            self.open = Some(chain);
        } else if !chain.is_unread {
            chain.links.shrink_to_fit();
            self.items.push(Item::Rule(chain));
        }
    }

    fn open_chain_is_wrong(&mut self) {
        if let Some(chain) = self.open.take().filter(|chain| !chain.is_unread) {
            let place = chain.links[0].place.clone();
            self.wrong(
                Wrong::new(format!("rule {} says chain, and no rule follows", chain.id)),
                &place,
            );
        }
    }

    /// Applies what changes other rules; those before it and those after.
    fn change(&mut self, directive: &Directive) -> Result<(), Wrong> {
        match &directive.kind {
            DirectiveKind::Remove(which) => {
                for chain in self.meant(which)? {
                    chain.removed = true;
                }
            }
            DirectiveKind::UpdateTarget(which, targets) => {
                for chain in self.meant(which)? {
                    update(&mut chain.links[0].rule.targets, targets);
                }
            }
            DirectiveKind::UpdateAction(id, link, actions) => {
                let which = Removed::Ids(vec![(*id, *id)]);
                for chain in self.meant(&which)? {
                    let links = chain.links.len();
                    let Some(link) = chain.links.get_mut(*link) else {
                        return Err(Wrong::new(format!("rule {id} has {links} links")));
                    };
                    replace(&mut link.rule.actions, actions);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn meant(&mut self, which: &Removed) -> Result<Vec<&mut Chain>, Wrong> {
        let matcher = Matcher::new(which)?;
        let chains = self.items.iter_mut().filter_map(|item| match item {
            Item::Rule(chain) => Some(chain),
            Item::Marker(_) => None,
        });
        Ok(chains.filter(|chain| matcher.means(chain)).collect())
    }

    fn finish(mut self, problems: &mut Vec<Problem>) -> Drafts {
        self.items
            .retain(|item| !matches!(item, Item::Rule(chain) if chain.removed));
        if self.items.len() > RULES {
            self.items.truncate(RULES);
            problems.push(Problem {
                file: "rules".into(),
                line: 0,
                message: format!("more than {RULES} rules"),
                hint: None,
            });
        }
        Drafts {
            settings: self.settings,
            items: self.items,
        }
    }
}

/// Which rules a removal means.
pub(super) struct Matcher<'r> {
    which: &'r Removed,
    pattern: Option<crate::operator::Pattern>,
}

impl<'r> Matcher<'r> {
    pub(super) fn new(which: &'r Removed) -> Result<Self, Wrong> {
        let pattern = match which {
            Removed::Ids(_) => None,
            Removed::Tag(pattern) | Removed::Msg(pattern) => Some(caseless(pattern)?),
        };
        Ok(Self { which, pattern })
    }

    pub(super) fn means(&self, chain: &Chain) -> bool {
        let fits = |text: &str| {
            self.pattern
                .as_ref()
                .is_some_and(|pattern| pattern.fits(text.as_bytes()))
        };
        match self.which {
            Removed::Ids(ranges) => ranges.iter().any(|(from, to)| (*from..=*to).contains(&chain.id)),
            Removed::Tag(_) => chain.actions().any(|action| match action {
                Action::Tag(tag) => tag.as_literal().is_some_and(fits),
                _ => false,
            }),
            Removed::Msg(_) => chain.actions().any(|action| match action {
                Action::Msg(msg) => msg.as_literal().is_some_and(fits),
                _ => false,
            }),
        }
    }
}

impl Chain {
    /// Stands for one whose head cannot be read.
    fn unread(place: &Place) -> Self {
        let rule = Rule {
            targets: Vec::new(),
            operator: None,
            actions: Vec::new(),
        };
        Self {
            id: 0,
            phase: 2,
            links: vec![Link {
                place: place.clone(),
                rule,
            }],
            defaults: Vec::new(),
            removed: false,
            is_unread: true,
        }
    }

    /// The head's actions.
    fn actions(&self) -> impl Iterator<Item = &Action> {
        self.links[0].rule.actions.iter()
    }
}

fn phase(actions: &[Action]) -> Option<u8> {
    actions.iter().find_map(|action| match action {
        Action::Phase(phase) => Some(*phase),
        _ => None,
    })
}

fn update(targets: &mut Vec<Target>, more: &[Target]) {
    for target in more {
        if !targets.contains(target) {
            targets.push(target.clone());
        }
    }
}

/// New actions replace those of their kind, where a rule can have only one of it.
fn replace(actions: &mut Vec<Action>, new: &[Action]) {
    use std::mem::discriminant;
    for action in new {
        let many = matches!(
            action,
            Action::Tag(_)
                | Action::SetVar(_)
                | Action::Ctl(_)
                | Action::Transform(_)
                | Action::ExpireVar(..)
                | Action::Inert
        );
        if !many {
            actions.retain(|old| discriminant(old) != discriminant(action));
        }
        actions.push(action.clone());
    }
}
