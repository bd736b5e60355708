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
