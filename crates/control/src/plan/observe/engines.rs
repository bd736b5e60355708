//! The engines as they are: PostgreSQL with its databases and roles, Redis.

use super::Look;
use crate::engines::{self, admin_access};
use crate::plan::wanted::{ASLEEP, RUNS, digest, short};
use crate::words::Fault;
use astraler_model::{Cluster, Environment, UnitPhase, UnitSpec};
use astraler_plan::{Address, Attributes, Part};
use astraler_postgres as postgres;
use serde_json::{Value, json};
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

impl Look<'_> {
    pub(super) async fn cluster(&mut self, cluster: Cluster) -> Result<(), Fault> {
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
            // Roles, or a copy that was interrupted: who goes leaves none of it.
            let left = !self.stays(environment)
                && postgres::has_traces(admin, &spec)
                    .await
                    .map_err(|error| Fault::of(&part, &error))?;
            if left {
                self.add(environment, Part::Database, Attributes::new());
            }
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

    pub(super) async fn redis(&mut self, environment: Environment) -> Result<(), Fault> {
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
}

fn file_digest(path: &Path) -> Value {
    match std::fs::read(path) {
        Ok(bytes) => json!(digest(&bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => json!("gone"),
        Err(error) => json!(format!("unreadable: {error}")),
    }
}
