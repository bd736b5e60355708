//! Which versions a deployment runs with: those that were the newest when it was asked for. They stand in its record, so
//! that a process that is started anew (after a crash, from sleep) is the same one, and a secret that changes is taken by
//! the next deployment, which drains the one before.
//!
//! A rollback is a new deployment: it takes the secrets of today, not those of then.

use super::{SecretError, SecretPlace};
use crate::platform::{Platform, PlatformError, application_of};
use crate::runs::Rules;
use crate::words::{Application, Fault};
use astraler_manifest::RequiredSecret;
use astraler_model::Environment;
use astraler_store::{DeploymentState, UserSecret};
use std::collections::BTreeSet;

impl Platform {
    /// Writes the newest version of each secret that a worker is granted into what will be deployed. Refused when
    /// something is missing that the manifest requires.
    pub(crate) fn pin_secrets(
        &self,
        environment: Environment,
        application: &mut Application,
    ) -> Result<(), SecretError> {
        let place = SecretPlace::of(environment);
        let secrets = self.store.user_secrets(place.name())?;
        check(place, &application.config.secrets.required, &secrets)?;
        for worker in &mut application.workers {
            let granted = secrets.iter().filter(|secret| is_granted(secret, &worker.name));
            worker.secrets = granted
                .map(|secret| (secret.name.clone(), secret.version))
                .collect();
            let taken = |name: &&String| worker.r2.contains_key(*name) || worker.hyperdrive.contains(name);
            if let Some(name) = worker.secrets.keys().find(taken) {
                return Err(SecretError::Binding {
                    worker: worker.name.clone(),
                    name: name.clone(),
                });
            }
        }
        Ok(())
    }

    /// What runs with the secrets of a place.
    pub(super) fn running(
        &self,
        place: SecretPlace,
    ) -> Result<Vec<(Environment, Application)>, PlatformError> {
        let live = self.live()?.into_iter();
        Ok(live
            .filter(|(environment, _)| SecretPlace::of(*environment) == place)
            .map(|(environment, (_, application))| (environment, application))
            .collect())
    }

    /// Environments whose deployment has a secret otherwise than the next one would.
    pub(super) fn pending(&self, place: SecretPlace, name: &str) -> Result<Vec<Environment>, SecretError> {
        let secrets = self.store.user_secrets(place.name())?;
        let secret = secrets.iter().find(|secret| secret.name == name);
        let differs = |application: &Application| {
            application.workers.iter().any(|worker| {
                let next = secret.filter(|secret| is_granted(secret, &worker.name));
                worker.secrets.get(name).copied() != next.map(|secret| secret.version)
            })
        };
        let running = self.running(place)?.into_iter();
        Ok(running
            .filter(|(_, application)| differs(application))
            .map(|(environment, _)| environment)
            .collect())
    }

    /// After how many days a rotation is due, by the manifest whose words count.
    pub(super) fn rotation_days(&self) -> Result<u32, PlatformError> {
        Ok(Rules::of(self)?.config().secrets.rotation_days)
    }

    /// Deletes values that nothing runs with and that are not the newest. What cannot be deleted now is with the next
    /// change.
    pub(crate) fn wipe_old_secrets(&self) {
        if let Err(error) = self.wipe() {
            tracing::warn!(
                error = crate::words::chain(&error),
                "old versions of secrets are deleted later"
            );
        }
    }

    fn wipe(&self) -> Result<(), SecretError> {
        let waiting = self.store.user_secrets_to_wipe()?;
        if waiting.is_empty() {
            return Ok(());
        }
        let mut used: BTreeSet<(SecretPlace, String, u64)> = BTreeSet::new();
        let live = self.live()?.into_values().map(|(deployment, _)| deployment);
        let unsettled = self.unsettled_deployments()?.into_iter();
        let unsettled = unsettled.filter(|deployment| deployment.state != DeploymentState::Draining);
        for deployment in live.chain(unsettled) {
            let place = SecretPlace::of(deployment.environment);
            for worker in application_of(&deployment)?.workers {
                used.extend(
                    worker
                        .secrets
                        .into_iter()
                        .map(|(name, version)| (place, name, version)),
                );
            }
        }
        // A rotation of keys counts on what it has listed.
        let _vault = self.credentials.vault();
        for (scope, name, removed, newest) in waiting {
            let newest = (!removed).then_some(newest);
            let of = |(place, other, version): &(SecretPlace, String, u64)| {
                (place.name() == scope && *other == name).then_some(*version)
            };
            let kept: Vec<u64> = used.iter().filter_map(of).chain(newest).collect();
            self.store.user_secret_wipe(&scope, &name, &kept)?;
        }
        Ok(())
    }
}

pub(super) fn is_granted(secret: &UserSecret, service: &str) -> bool {
    secret.grants.iter().any(|granted| granted == service)
}

/// Whether everything that is required is there, and granted.
fn check(place: SecretPlace, required: &[RequiredSecret], secrets: &[UserSecret]) -> Result<(), SecretError> {
    let (mut missing, mut commands) = (Vec::new(), Vec::new());
    let here = |wanted: &&RequiredSecret| {
        wanted.environments.is_empty() || wanted.environments.iter().any(|name| name.name() == place.name())
    };
    for wanted in required.iter().filter(here) {
        let RequiredSecret { name, service, .. } = wanted;
        let present = secrets.iter().find(|secret| secret.name == *name);
        if present.is_none() {
            let set = format!("astraler secrets set {name} --env {place} --from-file FILE");
            if !commands.contains(&set) {
                missing.push(format!(
                    "{place} has no secret `{name}`, which the manifest requires for {service}"
                ));
                commands.push(set);
            }
        } else if !present.is_some_and(|secret| is_granted(secret, service)) {
            missing.push(format!(
                "secret `{name}` of {place} is not granted to {service}, as the manifest requires"
            ));
        }
        if !present.is_some_and(|secret| is_granted(secret, service)) {
            commands.push(format!(
                "astraler secrets grant {name} --env {place} --to {service}"
            ));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(SecretError::Missing { missing, commands })
}

impl From<SecretError> for Fault {
    fn from(error: SecretError) -> Self {
        let mut fault = Self::of("secrets", &error);
        if let SecretError::Missing { commands, .. } = &error {
            let commands: Vec<String> = commands.iter().map(|command| format!("`{command}`")).collect();
            fault.hint = Some(commands.join(", then "));
        }
        fault
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn required(name: &str, service: &str, environments: &[&str]) -> RequiredSecret {
        let value = serde_json::json!({ "name": name, "service": service, "environments": environments });
        serde_json::from_value(value).unwrap()
    }

    fn there(name: &str, grants: &[&str]) -> UserSecret {
        UserSecret {
            name: name.into(),
            version: 1,
            actor: "test".into(),
            created_ms: 0,
            grants: grants.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn what_is_missing_is_told_with_the_commands_that_mend_it() {
        let wanted = [
            required("KEY", "api", &["staging"]),
            required("KEY", "auth", &[]),
            required("OTHER", "api", &["production"]),
        ];
        let staging = SecretPlace::Staging;
        let Err(SecretError::Missing { missing, commands }) = check(staging, &wanted, &[]) else {
            panic!("it is missing");
        };
        assert_eq!(
            missing,
            ["staging has no secret `KEY`, which the manifest requires for api"]
        );
        assert_eq!(
            commands,
            [
                "astraler secrets set KEY --env staging --from-file FILE",
                "astraler secrets grant KEY --env staging --to api",
                "astraler secrets grant KEY --env staging --to auth",
            ]
        );
        let Err(SecretError::Missing { missing, commands }) =
            check(staging, &wanted, &[there("KEY", &["api"])])
        else {
            panic!("a grant is missing");
        };
        assert_eq!(
            missing,
            ["secret `KEY` of staging is not granted to auth, as the manifest requires"]
        );
        assert_eq!(commands.len(), 1);
        check(staging, &wanted, &[there("KEY", &["api", "auth"])]).unwrap();
        check(SecretPlace::Development, &wanted, &[there("KEY", &["auth"])]).unwrap();
    }
}
