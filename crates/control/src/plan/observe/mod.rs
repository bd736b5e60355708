//! The machine as it is: SQL in read-only sessions, `CONFIG GET`, units, files, snapshots, records. Nothing is written,
//! not even a credential that is missing.

mod engines;

use super::wanted::{AS_WRITTEN, ASLEEP, RUNS, Wanted, deployed, limits, protection, records};
use crate::platform::Platform;
use crate::publish::{self, store_bucket};
use crate::words::{Application, Fault};
use crate::{deploy, services};
use astraler_model::{
    Cluster, DataSnapshot, EdgeSnapshot, Environment, SignalSnapshot, UnitName, UnitPhase, UnitSpec,
    UnitStatus,
};
use astraler_plan::{Address, Attributes, Observed, Part};
use serde_json::{Value, json};
use std::collections::BTreeMap;

struct Look<'a> {
    platform: &'a Platform,
    wanted: &'a Wanted,
    units: Vec<UnitStatus>,
    observed: Observed,
}

pub(super) async fn observe(platform: &Platform, wanted: &Wanted) -> Result<Observed, Fault> {
    let fault = |error: &dyn std::error::Error| Fault::of("plan", error);
    let units = platform
        .supervisor
        .list()
        .await
        .map_err(|error| Fault::of_supervisor("plan", &error))?;
    let marks = platform.marks().map_err(|error| fault(&error))?;
    let mut look = Look {
        platform,
        wanted,
        units,
        observed: Observed {
            recorded: wanted.recorded.clone(),
            destroying: marks
                .iter()
                .filter(|mark| mark.destroying)
                .map(|mark| mark.environment)
                .collect(),
            ..Observed::default()
        },
    };
    let records = platform.environments().map_err(|error| fault(&error))?;
    for environment in wanted.looked_at.iter().copied() {
        if records.iter().any(|record| record.environment == environment) {
            look.add(environment, Part::Record, Attributes::new());
        }
        if let Some(mark) = marks.iter().find(|mark| mark.environment == environment) {
            look.add(environment, Part::Protection, protection(mark.protected));
        }
        if platform
            .credentials
            .has_scope(environment)
            .map_err(|error| fault(&error))?
        {
            look.add(environment, Part::Secrets, Attributes::new());
        }
        look.redis(environment).await?;
        look.workers(environment).map_err(|error| fault(&error))?;
    }
    look.edge();
    for cluster in [Cluster::Shared, Cluster::Production] {
        look.cluster(cluster).await?;
    }
    look.buckets().await?;
    look.snapshots()?;
    Ok(look.observed)
}

impl Look<'_> {
    fn add(&mut self, environment: Environment, part: Part, attributes: Attributes) {
        self.observed
            .resources
            .insert(Address::Environment(environment, part), attributes);
    }

    fn unit(&self, name: &str) -> Option<&UnitStatus> {
        self.units.iter().find(|unit| unit.name.as_str() == name)
    }

    /// `runs` when it is the process that the platform would start.
    fn process(&self, expected: &[UnitSpec]) -> Value {
        let Some(first) = expected.first() else {
            return json!("not recorded");
        };
        match self.unit(first.name.as_str()) {
            None => json!("gone"),
            Some(unit) if unit.phase != UnitPhase::Running => json!("ended"),
            Some(unit) if expected.iter().any(|spec| spec.digest() == unit.spec_digest) => json!(RUNS),
            Some(_) => json!("another process"),
        }
    }

    fn live(&self) -> impl Iterator<Item = (Environment, &Application)> {
        self.wanted
            .live
            .iter()
            .map(|(environment, (_, application))| (*environment, application))
    }

    /// The limits that the running edge was given, as they stand in the file that it was given.
    fn edge(&mut self) {
        let platform = self.platform;
        let Some(running) = self.unit("edge") else {
            return;
        };
        let (digest, phase) = (running.spec_digest.clone(), running.phase);
        let folder = platform.installation.layout.runtime.join("snapshots");
        let found = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .find(|entry| {
                let path = entry.path().display().to_string();
                entry.file_name().to_string_lossy().starts_with("edge-")
                    && services::edge_unit(&platform.installation, &path)
                        .is_ok_and(|unit| unit.digest() == digest)
            });
        let settings = found
            .and_then(|entry| std::fs::read(entry.path()).ok())
            .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        let mut attributes = limits(&settings.clone().unwrap_or_default());
        let process = match (phase, settings) {
            (UnitPhase::Running, Some(_)) => RUNS,
            (UnitPhase::Running, None) => "another process",
            _ => "ended",
        };
        attributes.insert("process".into(), json!(process));
        for (name, unit) in [
            ("data", services::data_unit(&platform.installation)),
            ("egress", services::egress_unit(&platform.installation)),
            ("signal", services::signal_unit(&platform.installation)),
        ] {
            let expected: Vec<UnitSpec> = unit.into_iter().collect();
            attributes.insert(format!("process.{name}"), self.process(&expected));
        }
        let path = platform.installation.layout.snapshot("signal");
        if let Some(published) = publish::read::<SignalSnapshot>(&path) {
            attributes.extend(records(&published));
        }
        self.observed.resources.insert(Address::EdgeSettings, attributes);
    }

    fn workers(&mut self, environment: Environment) -> Result<(), crate::platform::PlatformError> {
        let platform = self.platform;
        let Some((deployment, application)) = self.wanted.live.get(&environment) else {
            // What is left of a deployment that goes.
            let prefix = format!("workers-{environment}-");
            if self
                .units
                .iter()
                .any(|unit| unit.name.as_str().starts_with(&prefix))
            {
                self.add(environment, Part::Workers, Attributes::new());
            }
            return Ok(());
        };
        let mut attributes = deployed(application);
        let unit = deploy::unit_name(environment, deployment).ok();
        let unit = unit.as_ref().map(UnitName::as_str).unwrap_or_default();
        let process = if platform.sleeps(environment)? {
            ASLEEP
        } else {
            match self.unit(unit) {
                None => "gone",
                Some(unit) if unit.phase == UnitPhase::Running => RUNS,
                Some(_) => "ended",
            }
        };
        attributes.insert("process".into(), json!(process));
        let file = platform
            .installation
            .layout
            .deployment(deployment)
            .join("workerd.capnp");
        let written = std::fs::read_to_string(&file).ok();
        let expected = platform
            .credentials
            .existing(environment)
            .ok()
            .flatten()
            .and_then(|secrets| {
                deploy::configuration(platform, environment, deployment, &secrets, application).ok()
            });
        let words = match (process, written, expected) {
            (ASLEEP, ..) => AS_WRITTEN,
            (_, Some(written), Some(expected)) if written == expected => AS_WRITTEN,
            (_, Some(_), Some(_)) => "edited",
            (_, None, _) => "gone",
            (_, _, None) => "cannot be compared",
        };
        attributes.insert("workerd.capnp".into(), json!(words));
        self.add(environment, Part::Workers, attributes);
        Ok(())
    }

    /// Buckets as the data role has them; when it is down, those that were recorded. What goes must be seen: a bucket
    /// that is overlooked would stay for good.
    async fn buckets(&mut self) -> Result<(), Fault> {
        let names = match publish::buckets(self.platform).await {
            Ok(names) => Some(names),
            Err(_) if self.wanted.looked_at.iter().all(|known| self.stays(*known)) => None,
            Err(error) => {
                let mut fault = Fault::of("buckets", &error);
                fault.hint = Some("`astraler logs data` says why; try again when it answers".into());
                return Err(fault);
            }
        };
        for environment in self.wanted.looked_at.clone() {
            let Some(names) = &names else {
                let recorded: Vec<Address> = self
                    .wanted
                    .recorded
                    .keys()
                    .filter(|address| {
                        address.environment() == Some(environment)
                            && matches!(address.part(), Some(Part::Bucket(_)))
                    })
                    .cloned()
                    .collect();
                for address in recorded {
                    self.observed.resources.insert(address, Attributes::new());
                }
                continue;
            };
            let prefix = store_bucket(environment, "");
            let own: Vec<String> = names
                .iter()
                .filter_map(|name| name.strip_prefix(&prefix).map(str::to_owned))
                .collect();
            for bucket in own {
                self.add(environment, Part::Bucket(bucket), Attributes::new());
            }
        }
        Ok(())
    }

    /// Whether the environment is wanted.
    fn stays(&self, environment: Environment) -> bool {
        self.wanted.applications.contains_key(&environment)
    }

    /// What the data plane was told, as the files have it now.
    fn snapshots(&mut self) -> Result<(), Fault> {
        let platform = self.platform;
        let layout = &platform.installation.layout;
        let fault = |error: &dyn std::error::Error| Fault::of("snapshots", error);
        let edge: Option<EdgeSnapshot> = publish::read(&layout.snapshot("edge"));
        let expected = publish::edge_snapshot(platform).map_err(|error| fault(&error))?;
        let data: Option<DataSnapshot> = publish::read(&layout.snapshot("data"));
        let granted = if self.wanted.live.keys().all(|environment| {
            platform
                .credentials
                .existing(*environment)
                .is_ok_and(|s| s.is_some())
        }) {
            publish::data_snapshot(platform).ok()
        } else {
            None
        };
        let compared = |same: bool| json!(if same { AS_WRITTEN } else { "edited" });
        for environment in self.wanted.looked_at.clone() {
            let find = |snapshot: &EdgeSnapshot| {
                snapshot
                    .routes
                    .iter()
                    .find(|route| route.environment == environment)
                    .cloned()
            };
            if let Some(route) = edge.as_ref().and_then(find) {
                let same = find(&expected).as_ref() == Some(&route);
                let attributes = Attributes::from([
                    ("hosts".to_owned(), json!(route.hosts)),
                    ("snapshot".to_owned(), compared(same)),
                ]);
                self.add(environment, Part::Routes, attributes);
            }
            if let Some(access) = data
                .as_ref()
                .and_then(|snapshot| snapshot.environments.get(&environment))
            {
                let own = |snapshot: &DataSnapshot| -> BTreeMap<_, _> {
                    let grants = snapshot.grants.iter();
                    grants
                        .filter(|(_, grant)| grant.environment == environment)
                        .map(|(token, grant)| (token.clone(), grant.clone()))
                        .collect()
                };
                let same = granted.as_ref().is_none_or(|granted| {
                    granted.environments.get(&environment) == Some(access)
                        && data.as_ref().is_none_or(|data| own(granted) == own(data))
                });
                let size = access.postgres.as_ref().map(|access| access.pool_size);
                let attributes = Attributes::from([
                    ("size".to_owned(), json!(size)),
                    ("snapshot".to_owned(), compared(same)),
                ]);
                self.add(environment, Part::Pool, attributes);
            }
        }
        Ok(())
    }
}
