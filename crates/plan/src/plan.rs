//! The comparison, and the order of what follows from it.

use crate::address::{Address, Part};
use crate::resource::{Attributes, Desired, Observed};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;

/// What is done to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It is made.
    Create,
    /// It stays and gets other attributes.
    Change,
    /// A successor takes its place. Nothing that holds data is ever replaced.
    Replace,
    /// It goes, with everything in it.
    Destroy,
}

/// Why something is not as it is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The manifest wants it otherwise than it was made.
    Wanted,
    /// It is not as the platform made it: somebody changed it by hand.
    Drift,
}

/// One attribute, before and after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttributeChange {
    /// Its name.
    pub attribute: String,
    /// As it is; absent where there is none.
    pub before: Option<Value>,
    /// As it will be; absent where there will be none.
    pub after: Option<Value>,
    /// Why.
    pub cause: Cause,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Action {
    /// What is done.
    pub kind: Kind,
    /// To what.
    pub address: Address,
    /// Why, for a person.
    pub reason: String,
    /// Drift, when any of it is.
    pub cause: Cause,
    /// Whether its process restarts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restarts: bool,
    /// It destroys what is protected: no execution of a plan with such an action begins.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub protected: bool,
    /// The attributes that change.
    pub changes: Vec<AttributeChange>,
    /// Actions before this one on which it depends.
    pub needs: Vec<Address>,
}

/// Something that nobody wants any more and that stays: its environment is protected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retained {
    /// What.
    pub address: Address,
    /// Why.
    pub reason: String,
}

/// What to do, in this order and no other.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The steps.
    pub actions: Vec<Action>,
    /// What stays although nobody wants it.
    #[serde(default)]
    pub retained: Vec<Retained>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    /// Whether something was changed by hand.
    pub fn has_drift(&self) -> bool {
        self.actions.iter().any(|action| action.cause == Cause::Drift)
    }

    /// Whether the manifest wants something that is not so.
    pub fn has_wanted(&self) -> bool {
        self.actions.iter().any(|action| {
            action.cause == Cause::Wanted || action.changes.iter().any(|change| change.cause == Cause::Wanted)
        })
    }

    /// The actions that forbid the execution of this plan.
    pub fn protected(&self) -> impl Iterator<Item = &Action> {
        self.actions.iter().filter(|action| action.protected)
    }

    /// How many actions are of a kind.
    pub fn count(&self, kind: Kind) -> usize {
        self.actions.iter().filter(|action| action.kind == kind).count()
    }
}

/// Compares what is wanted with what is there. What is made and changed comes first, in the order of dependencies;
/// what is destroyed comes last, in the opposite order: nothing is taken away before its successor stands.
pub fn plan(desired: &Desired, observed: &Observed) -> Plan {
    let wanted_environments: BTreeSet<_> = desired
        .environments()
        .difference(&observed.destroying)
        .copied()
        .collect();
    let is_wanted = |address: &Address| {
        desired.resources.contains_key(address)
            && address
                .environment()
                .is_none_or(|environment| wanted_environments.contains(&environment))
    };

    let mut plan = Plan::default();
    for (address, wanted) in &desired.resources {
        if !is_wanted(address) {
            continue;
        }
        let recorded = observed.recorded.get(address).map_or(&[][..], Vec::as_slice);
        let action = match observed.resources.get(address) {
            None => Some(create(address, wanted, recorded)),
            Some(present) => change(address, wanted, present, recorded),
        };
        plan.actions.extend(action);
    }
    for (address, present) in observed.resources.iter().rev() {
        // What all environments share outlives them: the next one finds it.
        let Some(environment) = address.environment() else {
            continue;
        };
        if is_wanted(address) {
            continue;
        }
        let protected = observed.is_protected(environment);
        let stays = wanted_environments.contains(&environment);
        let holds_data = address.part().is_some_and(Part::holds_data);
        if stays && protected && holds_data {
            plan.retained.push(Retained {
                address: address.clone(),
                reason: "nothing uses it any more; it stays because its environment is protected".into(),
            });
            continue;
        }
        let reason = if observed.destroying.contains(&environment) {
            "the destruction of its environment was begun"
        } else if stays {
            "nothing uses it any more"
        } else {
            "its environment is no longer wanted"
        };
        plan.actions.push(Action {
            kind: Kind::Destroy,
            address: address.clone(),
            reason: reason.into(),
            cause: Cause::Wanted,
            restarts: false,
            protected: protected && !stays,
            changes: present
                .iter()
                .map(|(name, value)| AttributeChange {
                    attribute: name.clone(),
                    before: Some(value.clone()),
                    after: None,
                    cause: Cause::Wanted,
                })
                .collect(),
            needs: vec![],
        });
    }
    plan.retained.reverse();
    connect(&mut plan.actions);
    plan
}

fn create(address: &Address, wanted: &Attributes, recorded: &[Attributes]) -> Action {
    let cause = if recorded.is_empty() {
        Cause::Wanted
    } else {
        Cause::Drift
    };
    Action {
        kind: Kind::Create,
        address: address.clone(),
        reason: match cause {
            Cause::Wanted => "it is wanted and not there".into(),
            Cause::Drift => "it was made and is gone".into(),
        },
        cause,
        restarts: false,
        protected: false,
        changes: wanted
            .iter()
            .map(|(name, value)| AttributeChange {
                attribute: name.clone(),
                before: None,
                after: Some(value.clone()),
                cause,
            })
            .collect(),
        needs: vec![],
    }
}

fn change(
    address: &Address,
    wanted: &Attributes,
    present: &Attributes,
    recorded: &[Attributes],
) -> Option<Action> {
    let names: BTreeSet<&String> = wanted.keys().chain(present.keys()).collect();
    let changes: Vec<AttributeChange> = names
        .into_iter()
        .filter(|name| wanted.get(*name) != present.get(*name))
        .map(|name| {
            let as_recorded =
                recorded.is_empty() || recorded.iter().any(|r| r.get(name) == present.get(name));
            AttributeChange {
                attribute: name.clone(),
                before: present.get(name).cloned(),
                after: wanted.get(name).cloned(),
                cause: if as_recorded { Cause::Wanted } else { Cause::Drift },
            }
        })
        .collect();
    if changes.is_empty() {
        return None;
    }
    let effect = changes
        .iter()
        .map(|change| effect(address, &change.attribute))
        .max()
        .unwrap_or(Effect::InPlace);
    let of = |cause| -> Vec<&str> {
        changes
            .iter()
            .filter(|change| change.cause == cause)
            .map(|change| change.attribute.as_str())
            .collect()
    };
    let (by_hand, by_manifest) = (of(Cause::Drift), of(Cause::Wanted));
    let mut reasons = Vec::new();
    if !by_hand.is_empty() {
        reasons.push(format!("not as it was made: {}", by_hand.join(", ")));
    }
    if !by_manifest.is_empty() {
        reasons.push(format!("wanted otherwise: {}", by_manifest.join(", ")));
    }
    let cause = if by_hand.is_empty() {
        Cause::Wanted
    } else {
        Cause::Drift
    };
    Some(Action {
        kind: if effect == Effect::Replace {
            Kind::Replace
        } else {
            Kind::Change
        },
        address: address.clone(),
        reason: reasons.join("; "),
        cause,
        restarts: effect == Effect::Restart,
        protected: false,
        changes,
        needs: vec![],
    })
}

/// What a change of an attribute takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    InPlace,
    Restart,
    Replace,
}

fn effect(address: &Address, attribute: &str) -> Effect {
    match (address, attribute) {
        // The successor takes the sockets over: no connection is refused.
        (Address::EdgeSettings, _) => Effect::Replace,
        (Address::PostgresSettings(_), "max_connections" | "postgresql.conf" | "pg_hba.conf" | "process")
        | (Address::Environment(_, Part::Redis), "redis.conf" | "users.acl" | "process") => Effect::Restart,
        // The new deployment is started and probed beside the old one.
        (Address::Environment(_, Part::Workers), name) if name != "process" && name != "workerd.capnp" => {
            Effect::Replace
        }
        (Address::Environment(_, Part::Workers), _) => Effect::Restart,
        _ => Effect::InPlace,
    }
}

/// Fills in which earlier actions each one depends on.
fn connect(actions: &mut [Action]) {
    for index in 0..actions.len() {
        let (before, rest) = actions.split_at_mut(index);
        let action = &mut rest[0];
        action.needs = before
            .iter()
            .filter(|earlier| match action.kind {
                Kind::Destroy => earlier.kind == Kind::Destroy && earlier.address.needs(&action.address),
                _ => action.address.needs(&earlier.address),
            })
            .map(|earlier| earlier.address.clone())
            .collect();
    }
}
