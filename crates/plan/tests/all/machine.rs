//! A model of a machine: it does what an action says and nothing else.

use astraler_model::{Cluster, Environment};
use astraler_plan::{
    Action, Attributes, Desired, EnvironmentWanted, Kind, Observed, Part, Plan, SharedWanted, plan,
};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// What a manifest says, as far as plans are concerned.
#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    pub(crate) environments: BTreeSet<Environment>,
    pub(crate) pool_size: u32,
    pub(crate) redis_memory: u64,
    pub(crate) max_connections: u32,
    pub(crate) max_body_bytes: u64,
    pub(crate) buckets: BTreeSet<String>,
    pub(crate) release: String,
    pub(crate) protected: BTreeSet<Environment>,
}

impl Default for Manifest {
    fn default() -> Self {
        Self {
            environments: BTreeSet::new(),
            pool_size: 20,
            redis_memory: 128 << 20,
            max_connections: 100,
            max_body_bytes: 100 << 20,
            buckets: ["files".to_owned()].into(),
            release: "sha256:aaaa".into(),
            protected: [Environment::Production].into(),
        }
    }
}

fn attributes<const N: usize>(list: [(&str, serde_json::Value); N]) -> Attributes {
    list.into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

impl Manifest {
    pub(crate) fn desired(&self) -> Desired {
        let clusters: BTreeMap<Cluster, Attributes> = self
            .environments
            .iter()
            .map(|environment| {
                let settings = attributes([("max_connections", json!(self.max_connections))]);
                (environment.cluster(), settings)
            })
            .collect();
        let shared = SharedWanted {
            edge: attributes([("max_body_bytes", json!(self.max_body_bytes))]),
            clusters,
        };
        let environments: Vec<EnvironmentWanted> = self
            .environments
            .iter()
            .map(|environment| EnvironmentWanted {
                environment: *environment,
                protected: self.protected.contains(environment),
                secrets: attributes([("names", json!(["redis_password"]))]),
                database: attributes([("owner", json!(format!("{}_owner", environment.identifier())))]),
                redis: attributes([
                    ("maxmemory_bytes", json!(self.redis_memory)),
                    ("redis.conf", json!(format!("memory {}", self.redis_memory))),
                ]),
                buckets: self.buckets.clone(),
                pool: attributes([("size", json!(self.pool_size))]),
                workers: attributes([("process", json!("runs")), ("release", json!(self.release))]),
                routes: attributes([("hosts", json!([format!("{environment}.localhost")]))]),
            })
            .collect();
        Desired::of(&shared, &environments)
    }
}

/// An empty machine after its first apply.
pub(crate) fn made_from(manifest: &Manifest) -> Observed {
    let mut machine = Observed::default();
    let first = plan(&manifest.desired(), &machine);
    apply(&mut machine, &first).expect("nothing is protected yet");
    machine
}

/// Carries a whole plan out, unless it is forbidden.
pub(crate) fn apply(machine: &mut Observed, plan: &Plan) -> Result<(), String> {
    if let Some(action) = plan.protected().next() {
        return Err(format!("{} is protected", action.address));
    }
    for (index, action) in plan.actions.iter().enumerate() {
        for need in &action.needs {
            assert!(
                plan.actions[..index]
                    .iter()
                    .any(|earlier| earlier.address == *need),
                "{} needs {need}, which does not come before it",
                action.address
            );
        }
        step(machine, action);
    }
    Ok(())
}

/// Carries one action out.
pub(crate) fn step(machine: &mut Observed, action: &Action) {
    let address = &action.address;
    match action.kind {
        Kind::Create => {
            for needed in machine_needs(machine, address) {
                assert!(
                    machine.resources.contains_key(&needed),
                    "{address} is made before {needed}"
                );
            }
            let made = action
                .changes
                .iter()
                .filter_map(|change| Some((change.attribute.clone(), change.after.clone()?)))
                .collect();
            assert!(
                machine.resources.insert(address.clone(), made).is_none(),
                "{address} is there"
            );
        }
        Kind::Change | Kind::Replace => {
            let present = machine
                .resources
                .get_mut(address)
                .expect("only what is there changes");
            for change in &action.changes {
                assert_eq!(
                    present.get(&change.attribute),
                    change.before.as_ref(),
                    "{address}: {}",
                    change.attribute
                );
                match &change.after {
                    Some(value) => present.insert(change.attribute.clone(), value.clone()),
                    None => present.remove(&change.attribute),
                };
            }
        }
        Kind::Destroy => {
            let dependents: Vec<String> = machine
                .resources
                .keys()
                // Workers that stay have been replaced by ones without the binding.
                .filter(|other| other.needs(address) && !matches!(address.part(), Some(Part::Bucket(_))))
                .map(ToString::to_string)
                .collect();
            assert!(
                dependents.is_empty(),
                "{address} goes while {dependents:?} need it"
            );
            machine
                .resources
                .remove(address)
                .expect("only what is there goes");
            machine.recorded.remove(address);
            if address.part() == Some(&Part::Record)
                && let Some(environment) = address.environment()
            {
                machine.destroying.remove(&environment);
            }
            return;
        }
    }
    let made = machine.resources[address].clone();
    machine.recorded.insert(address.clone(), vec![made]);
}

/// What must be there before a part of an environment is made, whatever it is made of.
fn machine_needs(machine: &Observed, address: &astraler_plan::Address) -> Vec<astraler_plan::Address> {
    use astraler_plan::Address;
    let Some(environment) = address.environment() else {
        return vec![];
    };
    let singles = [
        Part::Record,
        Part::Secrets,
        Part::Database,
        Part::Redis,
        Part::Pool,
    ]
    .map(|part| Address::Environment(environment, part));
    let clusters = [Address::PostgresSettings(environment.cluster())];
    let workers = [Address::Environment(environment, Part::Workers)];
    let buckets = machine
        .resources
        .keys()
        .filter(|other| matches!(other.part(), Some(Part::Bucket(_))))
        .cloned();
    singles
        .into_iter()
        .chain(clusters)
        .chain(workers)
        .chain(buckets)
        .filter(|other| address.needs(other))
        .collect()
}
