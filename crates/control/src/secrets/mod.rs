//! The user's secrets: set, granted, rotated, removed. A value comes in once and is never shown again: it leaves only to
//! a service that it is granted to ([`pins`], [`release`]), after the audit chain says so.
//!
//! Deny by default: a grant is a secret, a place and a service. What the platform generates for itself is not here
//! ([`crate::credentials`]): no grant reaches it.

mod client;
mod mask;
mod pins;
mod release;
mod rotate;
pub(crate) mod routes;
mod words;

pub use rotate::KeyRotation;
pub(crate) use rotate::settle as settle_root_key;
pub use words::{ParsePlaceError, SecretGrantReport, SecretPlace, SecretReport, SecretSet};

use crate::credentials::CredentialError;
use crate::platform::{Platform, PlatformError, now_ms};
use astraler_model::Environment;
use astraler_secrets::{Sealed, Secret};
use astraler_store::{NewUserSecret, StoreError, UserSecret, UserSecretVersion, sealed_name};
use serde_json::json;

/// The service that stands for jobs of the pipeline.
pub(crate) const PIPELINE: &str = "pipeline";
/// Services that secrets of the platform itself are for.
const PLATFORM_SERVICES: [&str; 3] = ["alerts", "backups", crate::dns::SERVICE];
const MAX_NAME: usize = 64;
const MAX_SERVICE: usize = 40;
/// GitHub's own bound.
const MAX_VALUE: usize = 48 << 10;
/// Names that the platform itself fills, for workers and for jobs.
const RESERVED: [&str; 3] = [
    "UPSTASH_REDIS_REST_TOKEN",
    "UPSTASH_REDIS_REST_URL",
    "APP_ENVIRONMENT",
];
const RESERVED_PREFIXES: [&str; 2] = ["GITHUB_", "ASTRALER_"];

/// Why something was not done with a secret. Never carries any part of a value.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error("the control plane's database cannot be used")]
    Store(#[source] StoreError),
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// The store's own words.
    #[error("{0}")]
    Refused(String),
    #[error(
        "there is no secret `{name}` in {place}: `astraler secrets list --env {place}` shows those that there are"
    )]
    Unknown { place: SecretPlace, name: String },
    #[error(
        "{service} has no secret `{name}`: `astraler secrets set {name} --env {place}`, then \
         `astraler secrets grant {name} --env {place} --to {service}`"
    )]
    NotGranted {
        place: SecretPlace,
        name: String,
        service: String,
    },
    #[error("`{name}` cannot name a secret: {reason}")]
    Name { name: String, reason: &'static str },
    #[error("`{service}` is no service of {place}: {expected}")]
    Service {
        place: SecretPlace,
        service: String,
        expected: &'static str,
    },
    #[error("the value cannot be taken: {0}")]
    Value(&'static str),
    #[error("the new value of `{0}` is the old one: a rotation takes another")]
    Same(String),
    /// What a manifest wants is not there.
    #[error("{}", missing.join("; "))]
    Missing {
        missing: Vec<String>,
        commands: Vec<String>,
    },
    #[error("worker `{worker}` has a binding `{name}`, and is granted a secret of that name: rename one")]
    Binding { worker: String, name: String },
    #[error(
        "version {version} of secret `{name}` is not there any more: a newer one came meanwhile; deploy again"
    )]
    Gone { name: String, version: u64 },
}

impl From<StoreError> for SecretError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused { reason, .. } => Self::Refused(reason),
            error => Self::Store(error),
        }
    }
}

impl Platform {
    /// Stores a value as the newest version; one that is there already makes none. `rotate`: it must be another than
    /// that of a secret that is there.
    pub(crate) fn secret_set(
        &self,
        actor: &str,
        place: SecretPlace,
        name: &str,
        value: &Secret,
        rotate: bool,
    ) -> Result<SecretSet, SecretError> {
        check_name(name)?;
        let scope = place.name();
        let mut vault = self.credentials.vault();
        self.credentials.unlock(&mut vault, scope, true)?;
        let present = self.secret(place, name)?;
        let same = match &present {
            Some(present) => {
                let record = self
                    .store
                    .sealed_get(scope, &sealed_name(name), Some(present.version))?;
                let open = record.map(|record| {
                    let sealed = Sealed::from_bytes(record.ciphertext);
                    vault.open(scope, &sealed_name(name), present.version, &sealed)
                });
                open.transpose().map_err(CredentialError::from)?.as_ref() == Some(value)
            }
            None if rotate => {
                return Err(SecretError::Unknown {
                    place,
                    name: name.to_owned(),
                });
            }
            None => false,
        };
        if same && rotate {
            return Err(SecretError::Same(name.to_owned()));
        }
        let version = match &present {
            Some(present) if same => present.version,
            _ => {
                let version = self.store.user_secret_next(scope, name)?;
                let sealed = vault
                    .seal(scope, &sealed_name(name), version, value)
                    .map_err(CredentialError::from)?;
                let action = if rotate { "secret rotate" } else { "secret set" };
                self.audit(
                    actor,
                    action,
                    &subject(place, name),
                    &json!({ "version": version }),
                )?;
                let new = NewUserSecret {
                    scope,
                    name,
                    version,
                    ciphertext: sealed.as_bytes(),
                    actor,
                };
                self.store.user_secret_put(&new, now_ms())?;
                self.credentials.sealed_another();
                version
            }
        };
        drop(vault);
        if place == SecretPlace::Platform {
            // A secondary may have another key from now on.
            crate::dns::wake(self);
        }
        let grants = present.map(|present| present.grants).unwrap_or_default();
        Ok(SecretSet {
            name: name.to_owned(),
            place,
            version,
            changed: !same,
            masked: astraler_secrets::Redactor::new().add(value),
            pending: self.pending(place, name)?,
            grants,
        })
    }

    /// The secrets of a place.
    pub(crate) fn secret_list(&self, place: SecretPlace) -> Result<Vec<SecretReport>, SecretError> {
        let rotation_ms = u64::from(self.rotation_days()?) * 24 * 3_600_000;
        self.store
            .user_secrets(place.name())?
            .into_iter()
            .map(|secret| {
                Ok(SecretReport {
                    pending: self.pending(place, &secret.name)?,
                    due_ms: secret.created_ms.saturating_add(rotation_ms),
                    name: secret.name,
                    place,
                    version: secret.version,
                    actor: secret.actor,
                    created_ms: secret.created_ms,
                    grants: secret.grants,
                })
            })
            .collect()
    }

    /// Versions of a secret, newest first, also of one that was removed.
    pub(crate) fn secret_history(
        &self,
        place: SecretPlace,
        name: &str,
    ) -> Result<Vec<UserSecretVersion>, SecretError> {
        let history = self.store.user_secret_history(place.name(), name)?;
        if history.is_empty() {
            return Err(SecretError::Unknown {
                place,
                name: name.to_owned(),
            });
        }
        Ok(history)
    }

    /// Lets a service have a secret from its next start on.
    pub(crate) fn secret_grant(
        &self,
        actor: &str,
        place: SecretPlace,
        name: &str,
        service: &str,
    ) -> Result<SecretGrantReport, SecretError> {
        check_service(place, service)?;
        let unknown = || SecretError::Unknown {
            place,
            name: name.to_owned(),
        };
        self.secret(place, name)?.ok_or_else(unknown)?;
        self.audit(
            actor,
            "secret grant",
            &subject(place, name),
            &json!({ "service": service }),
        )?;
        let granted = self
            .store
            .user_secret_grant(place.name(), name, service, actor, now_ms());
        let changed = granted.map_err(|error| match error {
            StoreError::NotFound { .. } => unknown(),
            error => error.into(),
        })?;
        crate::dns::wake(self);
        self.granted(place, name, service, changed)
    }

    /// Takes a grant back, from the service's next start on.
    pub(crate) fn secret_revoke(
        &self,
        actor: &str,
        place: SecretPlace,
        name: &str,
        service: &str,
    ) -> Result<SecretGrantReport, SecretError> {
        self.audit(
            actor,
            "secret revoke",
            &subject(place, name),
            &json!({ "service": service }),
        )?;
        let changed = self.store.user_secret_revoke(place.name(), name, service)?;
        if !changed {
            self.secret(place, name)?.ok_or_else(|| SecretError::Unknown {
                place,
                name: name.to_owned(),
            })?;
        }
        self.granted(place, name, service, changed)
    }

    /// Removes a secret with its grants. Its value goes as soon as nothing runs with it.
    pub(crate) fn secret_remove(
        &self,
        actor: &str,
        place: SecretPlace,
        name: &str,
    ) -> Result<Vec<Environment>, SecretError> {
        self.audit(actor, "secret remove", &subject(place, name), &json!(null))?;
        if !self
            .store
            .user_secret_remove(place.name(), name, actor, now_ms())?
        {
            return Err(SecretError::Unknown {
                place,
                name: name.to_owned(),
            });
        }
        self.wipe_old_secrets();
        self.pending(place, name)
    }

    fn granted(
        &self,
        place: SecretPlace,
        name: &str,
        service: &str,
        changed: bool,
    ) -> Result<SecretGrantReport, SecretError> {
        let mut runs = self.running(place)?.into_iter().peekable();
        let known = service == PIPELINE
            || place == SecretPlace::Platform
            || runs.peek().is_none()
            || runs.any(|(_, application)| application.workers.iter().any(|worker| worker.name == service));
        Ok(SecretGrantReport {
            changed,
            known,
            pending: self.pending(place, name)?,
        })
    }

    fn secret(&self, place: SecretPlace, name: &str) -> Result<Option<UserSecret>, SecretError> {
        let all = self.store.user_secrets(place.name())?;
        Ok(all.into_iter().find(|secret| secret.name == name))
    }
}

fn subject(place: SecretPlace, name: &str) -> String {
    format!("{place}/{name}")
}

/// Takes a value as it came: one line end after it is nobody's.
pub(crate) fn value(bytes: &[u8]) -> Result<Secret, SecretError> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    if bytes.is_empty() {
        return Err(SecretError::Value("it is empty"));
    }
    if bytes.len() > MAX_VALUE {
        return Err(SecretError::Value("it has more than 48 KiB"));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(Secret::new(text)),
        _ => Err(SecretError::Value(
            "it is not UTF-8 text without zeros: encode it, for example in base64",
        )),
    }
}

fn check_name(name: &str) -> Result<(), SecretError> {
    let refused = |reason| {
        // What is no name may be a value at the wrong place.
        let shown = name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_');
        Err(SecretError::Name {
            name: if name.len() <= MAX_NAME && shown.count() == name.len() {
                name.to_owned()
            } else {
                "…".to_owned()
            },
            reason,
        })
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !(1..=MAX_NAME).contains(&name.len())
        || !name.chars().all(plain)
        || name.starts_with(|c: char| c.is_ascii_digit())
    {
        return refused("it has 1 to 64 letters, digits and `_`, and does not begin with a digit");
    }
    let upper = name.to_ascii_uppercase();
    if RESERVED.contains(&&*upper) || RESERVED_PREFIXES.iter().any(|prefix| upper.starts_with(prefix)) {
        return refused("the platform fills that name itself");
    }
    Ok(())
}

fn check_service(place: SecretPlace, service: &str) -> Result<(), SecretError> {
    let refused = |expected| {
        Err(SecretError::Service {
            place,
            service: service.to_owned(),
            expected,
        })
    };
    if place == SecretPlace::Platform {
        return match PLATFORM_SERVICES.contains(&service) {
            true => Ok(()),
            false => refused("expected alerts, backups or dns"),
        };
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !(1..=MAX_SERVICE).contains(&service.len()) || !service.chars().all(plain) {
        return refused("expected a worker's name, or `pipeline` for jobs");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_workers_and_workflows_and_none_of_the_platforms() {
        for good in ["STRIPE_KEY", "stripeKey", "_x", "A1", &"A".repeat(64)] {
            check_name(good).unwrap();
        }
        for bad in [
            "",
            "1A",
            "A-B",
            "A B",
            "Ä",
            "GITHUB_TOKEN",
            "github_x",
            "ASTRALER_X",
            "app_environment",
            &"A".repeat(65),
        ] {
            check_name(bad).unwrap_err();
        }
        let pasted = check_name("sk_live/4eC39HqLyjWDarj").unwrap_err().to_string();
        assert!(!pasted.contains("4eC39"), "{pasted}");
    }

    #[test]
    fn a_value_is_text_within_bounds_without_the_line_end_after_it() {
        let of = |bytes: &[u8]| value(bytes).map(|secret| secret.expose().to_owned());
        assert_eq!(of(b"x\n").unwrap(), "x");
        assert_eq!(of(b"x\r\n").unwrap(), "x");
        assert_eq!(of(b" x\n\n").unwrap(), " x\n");
        assert_eq!(of(&vec![b'x'; MAX_VALUE]).unwrap().len(), MAX_VALUE);
        for bad in [&b""[..], b"\n", b"a\0b", b"\xff", &vec![b'x'; MAX_VALUE + 1]] {
            of(bad).unwrap_err();
        }
    }

    #[test]
    fn what_is_the_platforms_own_is_for_its_own_services() {
        check_service(SecretPlace::Staging, "api").unwrap();
        check_service(SecretPlace::Staging, PIPELINE).unwrap();
        check_service(SecretPlace::Platform, "alerts").unwrap();
        check_service(SecretPlace::Platform, "api").unwrap_err();
        check_service(SecretPlace::Staging, "a b").unwrap_err();
    }
}
