//! The machine as it is: SQL in read-only sessions, `CONFIG GET`, units, files, snapshots, records. Nothing is written,
//! not even a credential that is missing.

use super::wanted::{AS_WRITTEN, ASLEEP, RUNS, Wanted, deployed, digest, limits, protection, short};
use crate::engines::{self, admin_access};
use crate::platform::Platform;
use crate::publish::{self, store_bucket};
use crate::words::{Application, Fault};
use crate::{deploy, services};
use astraler_model::{
    Cluster, DataSnapshot, EdgeSnapshot, Environment, UnitName, UnitPhase, UnitSpec, UnitStatus,
};
use astraler_plan::{Address, Attributes, Observed, Part};
use astraler_postgres as postgres;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// An engine that is up answers at once.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Settings of Redis that a person may have set: name in the plan → name in Redis.
const REDIS_SETTINGS: [(&str, &str); 3] = [
    ("maxmemory_bytes", "maxmemory"),
    ("maxmemory_policy", "maxmemory-policy"),
    ("appendfsync", "appendfsync"),
];

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
        ] {
            let expected: Vec<UnitSpec> = unit.into_iter().collect();
            attributes.insert(format!("process.{name}"), self.process(&expected));
        }
        self.observed.resources.insert(Address::EdgeSettings, attributes);
    }

    async fn cluster(&mut self, cluster: Cluster) -> Result<(), Fault> {
        let platform = self.platform;
        let part = format!("postgres {cluster}");
        let layout = &platform.installation.layout;
        if !layout.cluster_version(cluster).exists() {
            return Ok(());
        }
        let address = Address::PostgresSettings(cluster);
        let expected: Vec<UnitSpec> = self
            .live()
            .filter(|(environment, _)| environment.cluster() == cluster)
            .filter_map(|(_, application)| {
                engines::cluster_config(platform, cluster, &application.config).ok()
            })
            .map(|config| postgres::server_unit(&config))
            .collect();
        let mut attributes = Attributes::new();
        for name in ["postgresql.conf", "pg_hba.conf"] {
            let file = layout.cluster(cluster).join("conf").join(name);
            attributes.insert(name.into(), file_digest(&file));
        }
        let process = match expected.is_empty() {
            // All of its environments are on their way out: whatever runs is right.
            true => json!(RUNS),
            false => self.process(&expected),
        };
        attributes.insert("process".into(), process);
        let admin = admin_access(platform, cluster).map_err(|error| Fault::of(&part, &error))?;
        let runs = self
            .unit(&format!("postgres-{cluster}"))
            .is_some_and(|unit| unit.phase == UnitPhase::Running);
        if !runs {
            // Nobody can be asked; what was recorded is assumed, so that the end of the process is what is shown.
            self.assume_recorded(&address, attributes);
            for environment in self.wanted.looked_at.clone() {
                // What goes and cannot be seen is taken to be there: else it would stay for good.
                let there = self.wanted.live.contains_key(&environment) || !self.stays(environment);
                if environment.cluster() == cluster && there {
                    let database = Address::Environment(environment, Part::Database);
                    self.assume_recorded(&database, Attributes::new());
                }
            }
            return Ok(());
        }
        let asked = tokio::time::timeout(ANSWER_TIMEOUT, postgres::inspect_cluster(&admin)).await;
        let state = asked
            .map_err(|_| Fault {
                part: part.clone(),
                message: "it does not answer".into(),
                log: vec![],
                hint: Some(format!("`astraler logs postgres-{cluster}` shows what it wrote")),
            })?
            .map_err(|error| Fault::of(&part, &error))?;
        attributes.insert("max_connections".into(), json!(state.max_connections));
        for (name, value) in state.altered {
            attributes.insert(format!("alter_system.{name}"), json!(value));
        }
        self.observed.resources.insert(address, attributes);
        for environment in self.wanted.looked_at.clone() {
            if environment.cluster() == cluster {
                self.database(&admin, environment).await?;
            }
        }
        Ok(())
    }

    fn assume_recorded(&mut self, address: &Address, known: Attributes) {
        let recorded = self.wanted.recorded.get(address).and_then(|all| all.first());
        let mut attributes = recorded.cloned().unwrap_or_default();
        attributes.extend(known);
        self.observed.resources.insert(address.clone(), attributes);
    }

    async fn database(&mut self, admin: &postgres::Access, environment: Environment) -> Result<(), Fault> {
        let part = format!("database {environment}");
        let platform = self.platform;
        let secrets = platform
            .credentials
            .existing(environment)
            .map_err(|error| Fault::of(&part, &error))?;
        let (owner_password, service_password) = secrets.map_or_else(Default::default, |secrets| {
            (
                secrets.postgres_owner.expose().to_owned(),
                secrets.postgres_service.expose().to_owned(),
            )
        });
        let spec = postgres::DatabaseSpec {
            environment,
            owner: engines::owner_role(environment),
            owner_password,
            service: engines::service_role(environment),
            service_password,
            statement_timeout_ms: 0,
        };
        let found = postgres::inspect_database(admin, &spec)
            .await
            .map_err(|error| Fault::of(&part, &error))?;
        let Some(state) = found else {
            return Ok(());
        };
        let mut attributes = Attributes::from([
            ("owner".to_owned(), json!(state.owner)),
            (
                "rights".to_owned(),
                json!(if state.rights { "as granted" } else { "changed" }),
            ),
        ]);
        for (name, role) in [("owner", &state.owner_role), ("service", &state.service_role)] {
            let Some(role) = role else {
                attributes.insert(format!("{name}.role"), json!("gone"));
                continue;
            };
            let words = if role.plain { "plain" } else { "with other rights" };
            attributes.insert(format!("{name}.role"), json!(words));
            let words = if role.password_matches {
                "as sealed"
            } else {
                "another"
            };
            attributes.insert(format!("{name}.password"), json!(words));
            attributes.insert(format!("{name}.connection_limit"), json!(role.connection_limit));
        }
        for (name, value) in state.settings {
            attributes.insert(name, json!(value));
        }
        // What a newer release had applied stays when an older one runs: only what is wanted is compared.
        let address = Address::Environment(environment, Part::Database);
        let wanted = self.wanted.desired.resources.get(&address);
        for (name, checksum) in state.migrations {
            let name = format!("migration.{name}");
            if wanted.is_some_and(|wanted| wanted.contains_key(&name)) {
                attributes.insert(name, json!(short(&checksum)));
            }
        }
        if let (Some(wanted), Some(recorded)) = (wanted, self.observed.recorded.get_mut(&address)) {
            for attributes in recorded {
                attributes.retain(|name, _| !name.starts_with("migration.") || wanted.contains_key(name));
            }
        }
        self.observed.resources.insert(address, attributes);
        Ok(())
    }

    async fn redis(&mut self, environment: Environment) -> Result<(), Fault> {
        let platform = self.platform;
        let part = format!("redis {environment}");
        let layout = &platform.installation.layout;
        let folder = layout.redis(environment);
        if !folder.exists() {
            return Ok(());
        }
        let mut attributes = Attributes::new();
        for name in ["redis.conf", "users.acl"] {
            attributes.insert(name.into(), file_digest(&folder.join("conf").join(name)));
        }
        let expected: Vec<UnitSpec> = self
            .wanted
            .live
            .get(&environment)
            .and_then(|(_, application)| engines::redis_config(platform, environment, application).ok())
            .map(|config| astraler_redis::unit(&config))
            .into_iter()
            .collect();
        let sleeps = platform
            .sleeps(environment)
            .map_err(|error| Fault::of(&part, &error))?;
        let process = if sleeps {
            json!(ASLEEP)
        } else {
            self.process(&expected)
        };
        let runs = process == json!(RUNS);
        attributes.insert("process".into(), process);
        let address = Address::Environment(environment, Part::Redis);
        let secrets = platform
            .credentials
            .existing(environment)
            .map_err(|error| Fault::of(&part, &error))?;
        let (true, Some(secrets)) = (runs, secrets) else {
            self.assume_recorded(&address, attributes);
            return Ok(());
        };
        let control = astraler_redis::Control::new(
            &layout.redis_socket(environment),
            secrets.redis_control_password.expose(),
        );
        let names = REDIS_SETTINGS.map(|(_, name)| name);
        match control.settings(&names).await {
            Ok(settings) => {
                for (attribute, name) in REDIS_SETTINGS {
                    let value = settings.get(name).cloned().unwrap_or_default();
                    let value = value.parse::<u64>().map_or(json!(value), |number| json!(number));
                    attributes.insert(attribute.into(), value);
                }
            }
            // Somebody changed its users: then nothing else can be told.
            Err(error) => {
                attributes.insert("process".into(), json!(format!("does not answer: {error}")));
            }
        }
        self.observed.resources.insert(address, attributes);
        Ok(())
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

fn file_digest(path: &Path) -> Value {
    match std::fs::read(path) {
        Ok(bytes) => json!(digest(&bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => json!("gone"),
        Err(error) => json!(format!("unreadable: {error}")),
    }
}
