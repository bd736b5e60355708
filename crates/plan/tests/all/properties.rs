//! Whatever is wanted and whatever is there: carrying the plan out leads to what is wanted, and then nothing is to do.

use crate::machine::{self, Manifest};
use astraler_model::Environment;
use astraler_plan::{Address, Kind, Observed, Part, plan};
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeSet;

fn environment() -> impl Strategy<Value = Environment> {
    prop_oneof![
        Just(Environment::Development),
        Just(Environment::Staging),
        Just(Environment::Production),
        (1u32..4).prop_map(Environment::Preview),
    ]
}

fn manifest() -> impl Strategy<Value = Manifest> {
    (
        prop::collection::btree_set(environment(), 0..5),
        (1u32..4, 1u64..4, 10u32..13, 1u64..4),
        prop::collection::btree_set("[a-c]", 0..3),
        "[ab]",
        prop::collection::btree_set(environment(), 0..3),
    )
        .prop_map(|(environments, numbers, buckets, release, protected)| Manifest {
            environments,
            pool_size: numbers.0,
            redis_memory: numbers.1,
            max_connections: numbers.2,
            max_body_bytes: numbers.3,
            buckets,
            release,
            protected,
        })
}

/// A machine that the platform made from one manifest and that people have worked on: some things are gone, some are
/// changed, and the destruction of some environments was begun.
fn observed() -> impl Strategy<Value = Observed> {
    (
        manifest(),
        prop::collection::vec(0usize..64, 0..6),
        prop::collection::vec((0usize..64, 0u8..4), 0..6),
        prop::collection::btree_set(environment(), 0..2),
    )
        .prop_map(|(manifest, gone, edited, destroying)| {
            let mut machine = machine::made_from(&manifest);
            for index in edited {
                let addresses: Vec<Address> = machine.resources.keys().cloned().collect();
                if let Some(address) = addresses.get(index.0 % addresses.len().max(1))
                    && address.part() != Some(&Part::Protection)
                {
                    let attributes = machine.resources.get_mut(address).unwrap();
                    let name = attributes.keys().next().cloned().unwrap_or_else(|| "new".into());
                    attributes.insert(name, json!(index.1));
                }
            }
            for index in gone {
                let addresses: Vec<Address> = machine.resources.keys().cloned().collect();
                if let Some(address) = addresses.get(index % addresses.len().max(1))
                    && !matches!(address.part(), Some(Part::Record | Part::Protection))
                {
                    machine.resources.remove(address);
                }
            }
            machine.destroying = destroying
                .into_iter()
                .filter(|environment| {
                    machine
                        .resources
                        .contains_key(&Address::Environment(*environment, Part::Record))
                        && !machine.is_protected(*environment)
                })
                .collect();
            machine
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn an_applied_plan_leads_to_what_is_wanted_and_the_next_is_empty(
        manifest in manifest(), machine in observed()
    ) {
        let mut machine = machine;
        let desired = manifest.desired();
        let first = plan(&desired, &machine);
        let protected: BTreeSet<Environment> = machine
            .resources
            .keys()
            .filter_map(Address::environment)
            .filter(|environment| machine.is_protected(*environment))
            .collect();
        // Nothing that holds data in a protected environment is ever destroyed, in whatever plan.
        for action in &first.actions {
            if action.kind == Kind::Destroy
                && action.address.part().is_some_and(Part::holds_data)
                && protected.contains(&action.address.environment().unwrap())
            {
                prop_assert!(action.protected, "{}", action);
            }
            prop_assert!(
                action.kind != Kind::Replace || !action.address.part().is_some_and(Part::holds_data),
                "data is replaced: {}", action
            );
        }
        if first.protected().next().is_some() {
            let before = machine.clone();
            prop_assert!(machine::apply(&mut machine, &first).is_err());
            prop_assert_eq!(before, machine);
            return Ok(());
        }
        let destroyed = machine.destroying.clone();
        machine::apply(&mut machine, &first).unwrap();
        let mut next = plan(&desired, &machine);
        // An environment whose destruction was finished is wanted again, if it is; what was kept for its protection's
        // sake goes when the protection went in this plan.
        let retained: BTreeSet<Address> = first.retained.iter().map(|kept| kept.address.clone()).collect();
        for action in &next.actions {
            let again = action.kind == Kind::Create
                && (action.address.environment().is_some_and(|environment| destroyed.contains(&environment))
                    || matches!(action.address, Address::PostgresSettings(_) | Address::EdgeSettings));
            let released = action.kind == Kind::Destroy && retained.contains(&action.address);
            prop_assert!(again || released, "{}", action);
        }
        machine::apply(&mut machine, &next).unwrap();
        next = plan(&desired, &machine);
        prop_assert!(next.is_empty(), "{}", next);
        for (address, attributes) in &desired.resources {
            prop_assert_eq!(machine.resources.get(address), Some(attributes), "{}", address);
        }
    }

    #[test]
    fn a_machine_left_alone_shows_no_drift(before in manifest(), after in manifest()) {
        let machine = machine::made_from(&before);
        let next = plan(&after.desired(), &machine);
        prop_assert!(!next.has_drift(), "{}", next);
    }

    #[test]
    fn a_plan_stopped_anywhere_goes_on(before in manifest(), after in manifest(), stop in 0usize..80) {
        let mut machine = machine::made_from(&before);
        let desired = after.desired();
        let first = plan(&desired, &machine);
        if first.protected().next().is_some() {
            return Ok(());
        }
        // The destruction of an environment is written down before its first step.
        for action in &first.actions {
            if action.kind == Kind::Destroy && action.address.part() == Some(&Part::Record) {
                machine.destroying.insert(action.address.environment().unwrap());
            }
        }
        for action in first.actions.iter().take(stop) {
            machine::step(&mut machine, action);
        }
        for _ in 0..2 {
            let rest = plan(&desired, &machine);
            machine::apply(&mut machine, &rest).unwrap();
        }
        prop_assert!(plan(&desired, &machine).is_empty());
    }
}
