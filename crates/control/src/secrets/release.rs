//! Where values leave: into the configuration of a deployment, and into the spec of a run. Each time the audit chain has
//! it first; where that cannot be written, nothing is handed out.

use super::pins::is_granted;
use super::{PIPELINE, SecretError, SecretPlace};
use crate::credentials::CredentialError;
use crate::jobs::name_in_workflows;
use crate::platform::Platform;
use crate::words::WorkerPlan;
use astraler_model::Environment;
use astraler_pipeline::Secrets;
use astraler_secrets::{Sealed, Secret};
use astraler_store::sealed_name;
use serde_json::json;
use std::collections::BTreeMap;

impl Platform {
    /// The secrets of one worker, in the versions that its deployment was made with. For the daemon's own eyes: what is
    /// written for the worker to read goes through [`Platform::audit_release`] first.
    pub(crate) fn worker_secrets(
        &self,
        environment: Environment,
        worker: &WorkerPlan,
    ) -> Result<BTreeMap<String, Secret>, SecretError> {
        let place = SecretPlace::of(environment);
        let pinned = worker.secrets.iter();
        pinned
            .map(|(name, version)| Ok((name.clone(), self.open_secret(place, name, *version)?)))
            .collect()
    }

    /// What jobs of a run may have: those without an `environment:` what is granted in `usual`, those that name the run's
    /// environment what is granted there.
    pub(crate) fn run_secrets(
        &self,
        usual: SecretPlace,
        environment: Option<Environment>,
    ) -> Result<Secrets, SecretError> {
        let of = |place: SecretPlace| -> Result<BTreeMap<String, String>, SecretError> {
            let all = self.store.user_secrets(place.name())?;
            all.iter()
                .filter(|secret| is_granted(secret, PIPELINE))
                .map(|secret| {
                    let value = self.open_secret(place, &secret.name, secret.version)?;
                    Ok((secret.name.clone(), value.expose().to_owned()))
                })
                .collect()
        };
        let mut environments = BTreeMap::new();
        if let Some(environment) = environment {
            let own = of(SecretPlace::of(environment))?;
            environments.insert(environment.to_string(), own.clone());
            environments.insert(name_in_workflows(environment), own);
        }
        Ok(Secrets {
            all: of(usual)?,
            environments,
        })
    }

    /// Before the spec of a run is written: which secrets are in it, by environment.
    pub(crate) fn audit_run_secrets(&self, number: u64, secrets: &Secrets) -> Result<(), SecretError> {
        let names = |all: &BTreeMap<String, String>| all.keys().cloned().collect();
        let mut released: BTreeMap<String, Vec<String>> = secrets
            .environments
            .iter()
            .map(|(environment, all)| (environment.clone(), names(all)))
            .collect();
        released.insert("jobs".into(), names(&secrets.all));
        released.retain(|_, names| !names.is_empty());
        if released.is_empty() {
            return Ok(());
        }
        self.audit_release(&format!("run {number}"), &released)
    }

    /// Before anything is handed out: who gets which secrets. Names alone.
    pub(crate) fn audit_release(
        &self,
        subject: &str,
        secrets: &BTreeMap<String, Vec<String>>,
    ) -> Result<(), SecretError> {
        self.audit("daemon", "secret release", subject, &json!(secrets))?;
        Ok(())
    }

    /// The newest version of a secret that a service of the platform may have. Nothing is opened.
    pub(crate) fn granted_secret(
        &self,
        place: SecretPlace,
        name: &str,
        service: &str,
    ) -> Result<u64, SecretError> {
        let secret = self.secret(place, name)?;
        let granted = secret.filter(|secret| is_granted(secret, service));
        granted
            .map(|secret| secret.version)
            .ok_or_else(|| SecretError::NotGranted {
                place,
                name: name.to_owned(),
                service: service.to_owned(),
            })
    }

    /// Opens a version of it, after the audit chain says so.
    pub(crate) fn release_secret(
        &self,
        place: SecretPlace,
        name: &str,
        version: u64,
        service: &str,
    ) -> Result<Secret, SecretError> {
        let released = BTreeMap::from([(service.to_owned(), vec![name.to_owned()])]);
        self.audit_release(&format!("{place} v{version}"), &released)?;
        self.open_secret(place, name, version)
    }

    pub(super) fn open_secret(
        &self,
        place: SecretPlace,
        name: &str,
        version: u64,
    ) -> Result<Secret, SecretError> {
        let (scope, stored) = (place.name(), sealed_name(name));
        let mut vault = self.credentials.vault();
        self.credentials.unlock(&mut vault, scope, false)?;
        let gone = || SecretError::Gone {
            name: name.to_owned(),
            version,
        };
        let record = self.store.sealed_get(scope, &stored, Some(version))?;
        let record = record.ok_or_else(gone)?;
        let open = vault.open(scope, &stored, version, &Sealed::from_bytes(record.ciphertext));
        Ok(open.map_err(CredentialError::from)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::Application;
    use astraler_host::sim::{SimClock, SimFaults, SimSupervisor};
    use std::path::Path;
    use std::sync::Arc;

    fn platform(folder: &Path) -> Platform {
        let supervisor = SimSupervisor::new(1, SimFaults::NONE, SimClock::automatic(1_000));
        Platform::simulated(folder, Arc::new(supervisor))
    }

    fn application(workers: &[&str]) -> Application {
        let worker = |name: &&str| {
            json!({
                "name": name, "routes": [], "modules": [], "compatibility_date": "2026-10-01",
                "compatibility_flags": [], "vars": {}, "r2": {}, "hyperdrive": [], "memory_bytes": null,
            })
        };
        serde_json::from_value(json!({
            "config": { "name": "sim", "domain": "sim.example" },
            "release": "sha256:a",
            "workers": workers.iter().map(worker).collect::<Vec<_>>(),
            "assets": null,
            "migrations": null,
        }))
        .unwrap()
    }

    fn set(platform: &Platform, place: SecretPlace, name: &str, services: &[&str]) {
        let value = Secret::new(format!("value of {name} in {place}"));
        platform.secret_set("test", place, name, &value, false).unwrap();
        for service in services {
            platform.secret_grant("test", place, name, service).unwrap();
        }
    }

    /// Writes what a deployment's process is given; whether it is there afterwards, and in the chain.
    fn handed_out(
        platform: &Platform,
        environment: Environment,
        id: &str,
        application: &Application,
    ) -> (bool, bool) {
        let secrets = platform.credentials.environment(environment).unwrap();
        // It fails in either case: the simulated machine has no workerd.
        crate::deploy::worker_unit(platform, environment, id, &secrets, application).unwrap_err();
        let file = platform.installation.layout.deployment(id).join("workerd.capnp");
        let audit = platform.audit_list(100).unwrap();
        let told = audit
            .iter()
            .any(|entry| entry.action == "secret release" && entry.subject == format!("{environment}/{id}"));
        (file.exists(), told)
    }

    #[test]
    fn what_the_audit_chain_does_not_take_is_not_handed_out() {
        let folder = tempfile::tempdir().unwrap();
        let platform = platform(folder.path());
        let staging = Environment::Staging;
        let mut application = application(&["one", "two"]);
        set(&platform, SecretPlace::Staging, "KEY", &["one"]);
        platform.pin_secrets(staging, &mut application).unwrap();
        assert_eq!(handed_out(&platform, staging, "d-1", &application), (true, true));
        // An entry holds 64 KiB of detail: more names than that are refused by the chain.
        let name = "N".repeat(60);
        for number in 0..600 {
            let worker = &mut application.workers[0];
            worker.r2.insert(format!("{name}{number}{name}"), "files".into());
        }
        assert_eq!(
            handed_out(&platform, staging, "d-2", &application),
            (false, false)
        );
    }

    #[test]
    fn each_service_has_what_it_is_granted_where_it_is_granted() {
        let folder = tempfile::tempdir().unwrap();
        let platform = platform(folder.path());
        let places = [
            SecretPlace::Development,
            SecretPlace::Preview,
            SecretPlace::Staging,
        ];
        for place in places {
            set(&platform, place, "ONE", &["one"]);
            set(&platform, place, "BOTH", &["one", "two", PIPELINE]);
            set(&platform, place, "NOBODY", &[]);
        }
        for environment in [
            Environment::Development,
            Environment::Preview(7),
            Environment::Staging,
        ] {
            let place = SecretPlace::of(environment);
            let mut application = application(&["one", "two", "three"]);
            platform.pin_secrets(environment, &mut application).unwrap();
            for (worker, expected) in [("one", &["BOTH", "ONE"][..]), ("two", &["BOTH"]), ("three", &[])] {
                let plan = application
                    .workers
                    .iter()
                    .find(|plan| plan.name == worker)
                    .unwrap();
                let open = platform.worker_secrets(environment, plan).unwrap();
                assert!(open.keys().eq(expected), "{worker} in {environment}: {open:?}");
                for (name, value) in open {
                    assert_eq!(value.expose(), format!("value of {name} in {place}"));
                }
            }
        }
        let mut production = application(&["one"]);
        platform
            .pin_secrets(Environment::Production, &mut production)
            .unwrap();
        assert!(production.workers[0].secrets.is_empty());

        // Jobs: of the run's environment, where they name it; of no other.
        let run = |usual, environment| platform.run_secrets(usual, environment).unwrap();
        let of = |secrets: &Secrets, name: Option<&str>| secrets.of(name).get("BOTH").cloned();
        let topic = run(SecretPlace::Development, None);
        let development = Some("value of BOTH in development".to_owned());
        for name in [None, Some("staging"), Some("production"), Some("preview")] {
            assert_eq!(of(&topic, name), development, "{name:?}");
        }
        let develop = run(SecretPlace::Development, Some(Environment::Staging));
        assert_eq!(of(&develop, Some("Staging")).unwrap(), "value of BOTH in staging");
        assert_eq!(of(&develop, None), development);
        let pull_request = run(SecretPlace::Preview, Some(Environment::Preview(7)));
        for name in [None, Some("preview"), Some("pr-7"), Some("staging")] {
            assert_eq!(of(&pull_request, name).unwrap(), "value of BOTH in preview");
        }
        assert!(pull_request.of(None).keys().eq(["BOTH"]));
    }
}
