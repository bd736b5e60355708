//! What every step of the control plane works with: the installation, the store, the credentials, the
//! supervisor.

use crate::credentials::Credentials;
use crate::installation::Installation;
use crate::words::{Application, DeploymentReport, Origin};
use astraler_host::file::{self, FileError};
use astraler_host::keep::Client;
use astraler_host::supervisor::{Supervisor, SupervisorError};
use astraler_model::{Environment, UnitName};
use astraler_release::Releases;
use astraler_secrets::Vault;
use astraler_store::{
    AuditEntry, AuditFilter, AuditVerifyError, Deployment, DeploymentId, DeploymentState, Desired,
    EnvironmentRecord, NewDeployment, OperationId, Outcome, StepDescription, Store, StoreError,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Mutex;

/// One platform, as its control process holds it.
pub(crate) struct Platform {
    pub(crate) installation: Installation,
    pub(crate) credentials: Credentials,
    pub(crate) supervisor: Arc<dyn Supervisor>,
    pub(crate) machine: astraler_postgres::Machine,
    /// The releases of this machine: the daemon alone writes them.
    pub(crate) releases: Releases,
    /// Held while what environments share is changed: our own processes, a cluster.
    pub(crate) shared: Mutex<()>,
    /// Held while a snapshot is made and published, so that none is made of less than the one before.
    pub(crate) publishing: Mutex<()>,
    /// The golden copy of staging: made by one at a time.
    pub(crate) golden: crate::preview::Golden,
    /// Certificates: issued by one at a time.
    pub(crate) certificates: crate::certificates::Certificates,
    /// Backups: made by one at a time.
    pub(crate) backups: crate::backups::Backups,
    /// DNS: proofs, and what is known of names outside.
    pub(crate) dns: crate::dns::Dns,
    pub(crate) store: Arc<Store>,
    version: AtomicU64,
}

/// Something that the platform stands on cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlatformError {
    #[error("the control plane's database cannot be used")]
    Store(#[from] StoreError),
    #[error("the root key cannot be used")]
    RootKey(#[from] astraler_secrets::RootKeyError),
    #[error("the parent process `keep` does not answer")]
    Supervisor(#[source] SupervisorError),
    #[error("the record of {record} is not of this version")]
    Record {
        record: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("a file of the platform cannot be written")]
    File(#[from] FileError),
    #[error("the folder of releases cannot be used")]
    Releases(#[from] astraler_release::StoreError),
    #[error("work of the daemon's own broke")]
    Task(#[source] tokio::task::JoinError),
}

impl Platform {
    /// Opens the store and the root key. Starts nothing.
    pub(crate) fn open(installation: Installation) -> Result<Self, PlatformError> {
        let keep = Client::new(installation.layout.keep_socket());
        Self::with(installation, Arc::new(keep))
    }

    fn with(installation: Installation, supervisor: Arc<dyn Supervisor>) -> Result<Self, PlatformError> {
        let store = Arc::new(Store::open(&installation.layout.control_database())?);
        let root = crate::secrets::settle_root_key(&installation.layout, &store)?;
        let releases = Releases::prepare(installation.layout.releases())?;
        Ok(Self {
            releases,
            shared: Mutex::default(),
            publishing: Mutex::default(),
            golden: crate::preview::Golden::default(),
            certificates: crate::certificates::Certificates::default(),
            backups: crate::backups::Backups::default(),
            dns: crate::dns::Dns::default(),
            credentials: Credentials::new(Arc::clone(&store), Vault::new(root)),
            supervisor,
            machine: machine(),
            store,
            version: AtomicU64::new(now_ms()),
            installation,
        })
    }

    /// Versions grow, over restarts too: they begin with the clock.
    pub(crate) fn next_version(&self) -> u64 {
        let now = now_ms();
        let previous = self.version.fetch_max(now, Ordering::SeqCst);
        if previous < now {
            now
        } else {
            self.version.fetch_add(1, Ordering::SeqCst) + 1
        }
    }

    /// Host names by which an environment is reached.
    pub(crate) fn hosts(&self, environment: Environment, config: &astraler_manifest::Config) -> Vec<String> {
        let mut hosts = environment.local_hosts();
        hosts.extend(environment.domain_hosts(&config.domain));
        let number = match environment {
            Environment::Preview(number) => number.to_string(),
            _ => String::new(),
        };
        hosts.extend(
            config
                .hosts(environment)
                .iter()
                .map(|host| host.to_ascii_lowercase().replace("{number}", &number)),
        );
        hosts
    }

    /// A folder of the daemon's that a group may enter and read.
    pub(crate) fn make_dir_for(&self, path: &Path, group: Option<u32>) -> Result<(), FileError> {
        let mode = if group.is_some() { 0o750 } else { 0o755 };
        file::make_dir(path, mode, None, group)
    }

    /// The npm tools, which the command line has installed.
    pub(crate) fn tools(&self) -> Result<astraler_workers::tools::Tools, ToolsMissing> {
        let config = astraler_workers::tools::ToolsConfig {
            directory: self.installation.layout.tools.clone(),
        };
        astraler_workers::tools::find(&config).ok_or(ToolsMissing)
    }

    /// How workerd is fenced in.
    pub(crate) fn sandbox(&self, application: &Application) -> Result<astraler_workers::Sandbox, NoSandbox> {
        match application.config.runtime.sandbox {
            astraler_manifest::Sandbox::Off => Ok(astraler_workers::Sandbox::Off),
            astraler_manifest::Sandbox::Bubblewrap => {
                ["/usr/bin/bwrap", "/usr/local/bin/bwrap", "/bin/bwrap"]
                    .iter()
                    .map(Path::new)
                    .find(|path| path.is_file())
                    .map(|path| astraler_workers::Sandbox::Bubblewrap(path.to_owned()))
                    .ok_or(NoSandbox)
            }
        }
    }

    /// The configuration that decides for what environments share: of those that are up, and this one, production's
    /// before staging's before development's before a preview's. So that nobody's preview restarts the edge.
    pub(crate) fn governing(
        &self,
        environment: Environment,
        application: &Application,
        shares: impl Fn(Environment) -> bool,
    ) -> Result<astraler_manifest::Config, PlatformError> {
        let mut all: BTreeMap<Environment, astraler_manifest::Config> = self
            .live()?
            .into_iter()
            .map(|(environment, (_, application))| (environment, application.config))
            .collect();
        all.insert(environment, application.config.clone());
        let governing = all
            .into_iter()
            .filter(|(other, _)| shares(*other))
            .min_by_key(|(other, _)| governs(*other));
        Ok(governing.map_or_else(|| application.config.clone(), |(_, config)| config))
    }

    /// Writes the edge's settings to a file named by their digest, so that a change changes the unit.
    pub(crate) fn edge_settings(&self, config: &astraler_manifest::Config) -> Result<String, PlatformError> {
        use sha2::Digest;
        let limits = serde_json::to_vec_pretty(&config.edge.limits).unwrap_or_default();
        let digest = hex::encode(sha2::Sha256::digest(&limits));
        let path = self
            .installation
            .layout
            .runtime
            .join("snapshots")
            .join(format!("edge-{}.json", &digest[..12]));
        if !path.exists() {
            file::replace(&path, &limits, 0o644)?;
        }
        Ok(path.display().to_string())
    }

    /// The last lines that a unit wrote, without any secret's value.
    pub(crate) fn last_log_lines(&self, unit: &UnitName) -> Vec<String> {
        let lines = astraler_host::logs::tail(self.installation.layout.logs(), unit, 15).unwrap_or_default();
        // A worker may have written what it should not.
        self.mask_lines(&lines).unwrap_or_default()
    }

    /// Removes a deployment's configuration (it holds secrets) and sockets from the runtime folder.
    pub(crate) fn forget_runtime(&self, deployment: &str) {
        let folder = self.installation.layout.deployment(deployment);
        if let Err(error) = std::fs::remove_dir_all(&folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(folder = %folder.display(), %error, "a deployment's runtime folder stays");
        }
    }
}

/// The tools have been removed since `up` installed them.
#[derive(Debug, thiserror::Error)]
#[error("workerd is not installed: run `astraler up`, which installs it")]
pub(crate) struct ToolsMissing;

/// Workers run in a sandbox, and there is none.
#[derive(Debug, thiserror::Error)]
#[error(
    "bubblewrap is not installed: install it, or set `sandbox = \"off\"` where you trust the workers' code"
)]
pub(crate) struct NoSandbox;

/// What is wanted, and what is deployed.
impl Platform {
    /// Records that an environment should be up.
    pub(crate) fn want(&self, environment: Environment) -> Result<(), PlatformError> {
        self.store.environment_set(environment, Desired::Up, now_ms())?;
        Ok(())
    }

    /// Records that an environment should go.
    pub(crate) fn want_gone(&self, environment: Environment) -> Result<(), PlatformError> {
        self.store.environment_set(environment, Desired::Down, now_ms())?;
        Ok(())
    }

    /// Every environment that is known.
    pub(crate) fn environments(&self) -> Result<Vec<EnvironmentRecord>, PlatformError> {
        Ok(self.store.environments()?)
    }

    /// What is known of an environment.
    pub(crate) fn environment(
        &self,
        environment: Environment,
    ) -> Result<Option<EnvironmentRecord>, PlatformError> {
        let mut known = self.environments()?.into_iter();
        Ok(known.find(|record| record.environment == environment))
    }

    /// Environments that sleep.
    pub(crate) fn asleep(&self) -> Result<BTreeSet<Environment>, PlatformError> {
        let known = self.environments()?.into_iter();
        Ok(known
            .filter(|record| record.asleep)
            .map(|record| record.environment)
            .collect())
    }

    /// Records that an environment sleeps, or is awake.
    pub(crate) fn set_asleep(&self, environment: Environment, asleep: bool) -> Result<bool, PlatformError> {
        Ok(self.store.environment_sleep(environment, asleep)?)
    }

    /// Records when an environment was last asked for.
    pub(crate) fn set_active(&self, environment: Environment, at_ms: u64) -> Result<(), PlatformError> {
        Ok(self.store.environment_active(environment, at_ms)?)
    }

    /// Forgets an environment and its deployments.
    pub(crate) fn forget(&self, environment: Environment) -> Result<(), PlatformError> {
        self.store.environment_remove(environment)?;
        Ok(())
    }

    /// Environments that should be up and have a live deployment, with the application it was made with.
    pub(crate) fn live(&self) -> Result<BTreeMap<Environment, (Deployment, Application)>, PlatformError> {
        let mut live = BTreeMap::new();
        for record in self.store.environments()? {
            if record.desired != Desired::Up {
                continue;
            }
            if let Some(deployment) = self.store.deployment_live(record.environment)? {
                let application = application_of(&deployment)?;
                live.insert(record.environment, (deployment, application));
            }
        }
        Ok(live)
    }

    /// [`Platform::live`] without those that sleep.
    pub(crate) fn awake(&self) -> Result<BTreeMap<Environment, (Deployment, Application)>, PlatformError> {
        let asleep = self.asleep()?;
        let mut live = self.live()?;
        live.retain(|environment, _| !asleep.contains(environment));
        Ok(live)
    }

    /// The live deployment of an environment.
    pub(crate) fn live_deployment(
        &self,
        environment: Environment,
    ) -> Result<Option<Deployment>, PlatformError> {
        Ok(self.store.deployment_live(environment)?)
    }

    /// Writes down a deployment that was asked for. Nothing of it runs yet.
    pub(crate) fn new_deployment(
        &self,
        environment: Environment,
        application: &Application,
        actor: &str,
        origin: &Origin,
    ) -> Result<Deployment, PlatformError> {
        let record = |source| PlatformError::Record {
            record: format!("a deployment of {environment}"),
            source,
        };
        let configuration = serde_json::to_value(application).map_err(record)?;
        let origin = serde_json::to_value(origin).map_err(record)?;
        let new = NewDeployment {
            environment,
            release: &application.release,
            configuration: &configuration,
            actor,
            origin: &origin,
        };
        Ok(self.store.deployment_create(&new, now_ms())?)
    }

    /// A deployment is about to start.
    pub(crate) fn start_deployment(&self, deployment: &Deployment) -> Result<(), PlatformError> {
        let starting = DeploymentState::Starting;
        self.store
            .deployment_transition(deployment.id, starting, None, now_ms())?;
        Ok(())
    }

    /// One deployment by its id, `d-12`.
    pub(crate) fn deployment(&self, id: DeploymentId) -> Result<Deployment, PlatformError> {
        Ok(self.store.deployment(id)?)
    }

    /// The newest deployments, newest first.
    pub(crate) fn deployments(
        &self,
        environment: Option<Environment>,
        limit: u32,
    ) -> Result<Vec<Deployment>, PlatformError> {
        Ok(self.store.deployments(environment, limit)?)
    }

    /// In one transaction: the new one live, the old one draining. Returns the old one.
    pub(crate) fn switch_live(&self, new: &Deployment) -> Result<Option<Deployment>, PlatformError> {
        Ok(self.store.deployment_switch(new.id, now_ms())?.previous)
    }

    /// Records a state that follows from what has already happened; a failure to do so is told, not fatal.
    pub(crate) fn set_deployment_state(
        &self,
        deployment: &Deployment,
        to: DeploymentState,
        error: Option<&str>,
    ) {
        if let Err(error) = self
            .store
            .deployment_transition(deployment.id, to, error, now_ms())
        {
            tracing::warn!(deployment = %deployment.id, %error, "the state of a deployment cannot be recorded");
        }
    }

    /// Deployments whose processes may run beside the live ones: they start, or drain.
    pub(crate) fn in_motion(&self) -> Result<Vec<Deployment>, PlatformError> {
        let mut unsettled = self.unsettled_deployments()?;
        unsettled.retain(|deployment| deployment.state != DeploymentState::Created);
        Ok(unsettled)
    }

    /// Deployments that are between two states: in the middle of a change, or left there by a killed process.
    pub(crate) fn unsettled_deployments(&self) -> Result<Vec<Deployment>, PlatformError> {
        let mut unsettled = self.store.deployments(None, 1_000)?;
        unsettled.retain(|deployment| {
            matches!(
                deployment.state,
                DeploymentState::Created | DeploymentState::Starting | DeploymentState::Draining
            )
        });
        Ok(unsettled)
    }

    /// Retired, failed and superseded deployments are kept for so long as there are few of them.
    pub(crate) fn prune_deployments(&self, environment: Environment) {
        if let Err(error) = self.store.deployments_prune(environment, DEPLOYMENTS_KEPT) {
            tracing::warn!(%environment, %error, "old deployments stay on record");
        }
        self.wipe_old_secrets();
    }
}

/// Ended deployments that one environment remembers.
const DEPLOYMENTS_KEPT: u32 = 200;

/// Where a deployment comes from, as it was recorded; empty for those of the first version.
pub(crate) fn origin_of(deployment: &Deployment) -> Origin {
    serde_json::from_value(deployment.origin.clone()).unwrap_or_default()
}

/// A deployment as a list shows it.
pub(crate) fn report_of(deployment: &Deployment) -> DeploymentReport {
    let ended = deployment.switched_ms.or(deployment.ended_ms);
    DeploymentReport {
        id: deployment.id.to_string(),
        environment: deployment.environment,
        generation: deployment.generation,
        release: deployment.release.clone(),
        actor: deployment.actor.clone(),
        origin: origin_of(deployment),
        state: deployment.state.name().to_owned(),
        created_ms: deployment.created_ms,
        switched_ms: deployment.switched_ms,
        ended_ms: deployment.ended_ms,
        took_ms: ended.map(|at| at.saturating_sub(deployment.created_ms)),
        error: deployment.error.clone(),
        bad: None,
    }
}

/// Which environments there are, and what marks they bear.
impl Platform {
    /// Marks of environments.
    pub(crate) fn marks(&self) -> Result<Vec<astraler_store::EnvironmentMark>, PlatformError> {
        Ok(self.store.marks()?)
    }

    /// Whether the environment's processes are stopped until somebody asks for it.
    pub(crate) fn sleeps(&self, environment: Environment) -> Result<bool, PlatformError> {
        Ok(self.asleep()?.contains(&environment))
    }

    /// Protects an environment, or ends its protection: only a plan that was agreed to does the latter.
    pub(crate) fn protect(&self, environment: Environment, protected: bool) -> Result<bool, PlatformError> {
        Ok(self.store.mark_protected(environment, protected)?)
    }

    /// Whether the state says that the environment's data takes two steps to destroy.
    pub(crate) fn is_protected(&self, environment: Environment) -> Result<bool, PlatformError> {
        let marks = self.store.marks()?;
        Ok(marks
            .iter()
            .any(|mark| mark.environment == environment && mark.protected))
    }

    /// Takes over what a manifest says of an environment's protection, as far as that protects more than before.
    pub(crate) fn protect_at_least(
        &self,
        environment: Environment,
        config: &astraler_manifest::Config,
    ) -> Result<(), PlatformError> {
        let wanted = crate::plan::is_protected(config, environment);
        let marks = self.store.marks()?;
        let mark = marks.iter().find(|mark| mark.environment == environment);
        if mark.is_none_or(|mark| wanted && !mark.protected) {
            self.store.mark_protected(environment, wanted)?;
        }
        Ok(())
    }

    /// Writes down that an environment's destruction begins. Refused while it is protected.
    pub(crate) fn begin_destruction(&self, environment: Environment) -> Result<(), PlatformError> {
        self.store.mark_destroying(environment)?;
        Ok(())
    }

    /// The application that was made live last, anywhere but in a preview: a pull request's code is nobody else's.
    pub(crate) fn newest_live(&self) -> Result<Option<Application>, PlatformError> {
        let newest = self
            .live()?
            .into_iter()
            .filter(|(environment, _)| !matches!(environment, Environment::Preview(_)))
            .max_by_key(|(_, (deployment, _))| deployment.switched_ms);
        Ok(newest.map(|(_, (_, application))| application))
    }
}

/// The application that a deployment was made with.
pub(crate) fn application_of(deployment: &Deployment) -> Result<Application, PlatformError> {
    serde_json::from_value(deployment.configuration.clone()).map_err(|source| PlatformError::Record {
        record: format!("deployment {}", deployment.id),
        source,
    })
}

/// Journal and audit.
impl Platform {
    pub(crate) fn begin(
        &self,
        kind: &str,
        subject: &str,
        plan: &[StepDescription],
    ) -> Result<OperationId, StoreError> {
        self.store.operation_begin(kind, subject, plan, now_ms())
    }

    pub(crate) fn intent(&self, operation: OperationId, index: usize) -> Result<(), StoreError> {
        self.store.step_intent(operation, index, now_ms())
    }

    pub(crate) fn result(
        &self,
        operation: OperationId,
        index: usize,
        outcome: &Outcome,
        data: &Value,
    ) -> Result<(), StoreError> {
        self.store
            .step_result(operation, index, outcome, Some(data), now_ms())
    }

    pub(crate) fn end(&self, operation: OperationId, outcome: &Outcome) {
        if let Err(error) = self.store.operation_end(operation, outcome, now_ms()) {
            tracing::warn!(%error, "the end of an operation cannot be recorded");
        }
    }

    /// Operations that a killed process left open: their steps are idempotent, so that the next run of the
    /// same operation goes on from them; deployments they had not switched to are taken back.
    pub(crate) fn note_interrupted(&self) -> Result<(), PlatformError> {
        for operation in self.store.unfinished()? {
            tracing::info!(
                kind = operation.kind,
                subject = operation.subject,
                "was interrupted"
            );
            let interrupted = Outcome::Failed {
                error: "interrupted".into(),
            };
            self.store.operation_end(operation.id, &interrupted, now_ms())?;
        }
        Ok(())
    }

    pub(crate) fn interrupted(&self) -> Result<Vec<String>, PlatformError> {
        let unfinished = self.store.unfinished()?;
        Ok(unfinished
            .iter()
            .map(|operation| format!("{} {}", operation.kind, operation.subject))
            .collect())
    }

    pub(crate) fn audit(
        &self,
        actor: &str,
        action: &str,
        subject: &str,
        detail: &Value,
    ) -> Result<(), StoreError> {
        self.store
            .audit(actor, action, subject, detail, now_ms())
            .map(|_| ())
    }

    pub(crate) fn audit_list(&self, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        self.store.audit_list(&AuditFilter::default(), limit)
    }

    pub(crate) fn audit_verify(&self) -> Result<Value, StoreError> {
        audit_report(&self.store)
    }
}

/// What `GET /v1/audit/verify` answers: `{"ok": true, "entries", "head"}` or `{"ok": false, "seq", "reason"}`.
pub fn audit_report(store: &Store) -> Result<Value, StoreError> {
    match store.audit_verify() {
        Ok(report) => Ok(json!({ "ok": true, "entries": report.entries, "head": report.head.hash })),
        Err(AuditVerifyError::Broken { seq, reason }) => {
            Ok(json!({ "ok": false, "seq": seq, "reason": reason }))
        }
        Err(AuditVerifyError::Store(error)) => Err(error),
    }
}

/// For tests of what the control plane does whatever its supervisor does.
/// Whose configuration decides for what environments share: the least of those that are up.
pub(crate) fn governs(environment: Environment) -> (u8, u32) {
    match environment {
        Environment::Production => (0, 0),
        Environment::Staging => (1, 0),
        Environment::Development => (2, 0),
        Environment::Preview(number) => (3, number),
    }
}

#[cfg(test)]
impl Platform {
    /// A platform in an empty folder, whose units are simulated.
    pub(crate) fn simulated(folder: &Path, supervisor: Arc<dyn Supervisor>) -> Self {
        use crate::installation::{Engines, Identities, Layout, Ports};
        let layout = Layout {
            state: folder.join("state"),
            runtime: folder.join("run"),
            config: folder.join("config"),
            tools: folder.join("tools"),
        };
        let snapshots = layout.runtime.join("snapshots");
        for folder in [&layout.state.join("control"), &snapshots, &layout.config] {
            std::fs::create_dir_all(folder).unwrap();
        }
        if !layout.root_key().exists() {
            let key = astraler_secrets::RootKey::generate();
            key.save_new(&layout.root_key()).unwrap();
        }
        let installation = Installation {
            id: "sim".into(),
            application: "sim".into(),
            layout,
            identities: Identities::default(),
            owner_uid: 0,
            program: "/nowhere/astraler".into(),
            ports: Ports {
                http: 3000,
                https: 3443,
                s3: 3900,
                api: 3033,
                redis_rest: 3079,
                postgres_shared: 3432,
                postgres_production: 3433,
                dns: 0,
            },
            listen_addresses: vec![],
            engines: Engines::default(),
            isolation: vec![],
        };
        Self::with(installation, supervisor).unwrap()
    }
}

/// Planned with where /proc/meminfo cannot be read.
const DEFAULT_MEMORY_BYTES: u64 = 2 << 30;

pub(crate) fn now_ms() -> u64 {
    use astraler_host::clock::{Clock, RealClock};
    RealClock.now_ms()
}

fn machine() -> astraler_postgres::Machine {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    astraler_postgres::Machine {
        memory_bytes: astraler_host::process::machine_memory_bytes().unwrap_or(DEFAULT_MEMORY_BYTES),
        cores: u32::try_from(cores).unwrap_or(u32::MAX),
    }
}
