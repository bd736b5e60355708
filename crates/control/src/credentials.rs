//! The platform's own credentials: generated once, sealed in the store, opened when something needs them.

use crate::platform::now_ms;
use astraler_host::file;
use astraler_model::{Cluster, Environment};
use astraler_secrets::{Redactor, Sealed, Secret, Vault, WrappedKey, generate_password, generate_token};
use astraler_store::Store;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Scope of what belongs to no environment.
const PLATFORM: &str = "platform";

/// Names of an environment's credentials, as `astraler env credential` takes them.
pub(crate) const NAMES: [&str; 9] = [
    "postgres_owner_password",
    "postgres_service_password",
    "postgres_client_token",
    "redis_password",
    "redis_control_password",
    "redis_rest_token",
    "redis_rest_read_only_token",
    "s3_access_key_id",
    "s3_secret_access_key",
];

/// A credential cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialError {
    #[error("the store cannot be used")]
    Store(#[from] astraler_store::StoreError),
    #[error("a secret cannot be sealed or opened")]
    Envelope(#[from] astraler_secrets::EnvelopeError),
    #[error("a secret cannot be handed over")]
    File(#[from] file::FileError),
    #[error("there is no credential `{0}`: expected one of {names}", names = NAMES.join(", "))]
    Unknown(String),
}

/// All of one environment.
pub(crate) struct EnvironmentSecrets {
    pub(crate) postgres_owner: Secret,
    pub(crate) postgres_service: Secret,
    pub(crate) postgres_client_token: Secret,
    pub(crate) redis_password: Secret,
    pub(crate) redis_control_password: Secret,
    pub(crate) redis_token: Secret,
    pub(crate) redis_read_only_token: Secret,
    pub(crate) s3_access_key_id: Secret,
    pub(crate) s3_secret_access_key: Secret,
}

/// Seals and opens; cheap to share.
pub(crate) struct Credentials {
    pub(crate) store: Arc<Store>,
    vault: Mutex<Vault>,
    /// What masks all values; made when it is needed.
    pub(crate) masks: Mutex<Option<Arc<Redactor>>>,
}

impl Credentials {
    pub(crate) fn new(store: Arc<Store>, vault: Vault) -> Self {
        Self {
            store,
            vault: Mutex::new(vault),
            masks: Mutex::default(),
        }
    }

    /// The superuser's password of a cluster.
    pub(crate) fn cluster_superuser(&self, cluster: Cluster) -> Result<Secret, CredentialError> {
        self.get_or_create(
            PLATFORM,
            &format!("postgres-{cluster}-superuser"),
            generate_password,
        )
    }

    /// A secret of the platform that something else than chance makes; the newest of its versions.
    pub(crate) fn platform_secret(&self, name: &str) -> Result<Option<Secret>, CredentialError> {
        let mut vault = self.vault();
        self.unlock(&mut vault, PLATFORM, true)?;
        let Some(record) = self.store.sealed_get(PLATFORM, name, None)? else {
            return Ok(None);
        };
        let sealed = Sealed::from_bytes(record.ciphertext);
        Ok(Some(vault.open(PLATFORM, name, record.version, &sealed)?))
    }

    /// Keeps such a secret, as a new version.
    pub(crate) fn put_platform_secret(&self, name: &str, secret: &Secret) -> Result<(), CredentialError> {
        let mut vault = self.vault();
        self.unlock(&mut vault, PLATFORM, true)?;
        let before = self.store.sealed_get(PLATFORM, name, None)?;
        let version = before.map_or(1, |record| record.version + 1);
        let sealed = vault.seal(PLATFORM, name, version, secret)?;
        self.store
            .sealed_put(PLATFORM, name, version, sealed.as_bytes(), now_ms())?;
        drop(vault);
        self.sealed_another();
        Ok(())
    }

    /// The password of the role that owns what is in the golden copy of staging.
    pub(crate) fn golden(&self) -> Result<Secret, CredentialError> {
        self.get_or_create(PLATFORM, "postgres-golden", generate_password)
    }

    /// The key that signs the zone; `fresh` becomes it where there is none.
    pub(crate) fn dns_signing_key(&self, name: &str, fresh: String) -> Result<Secret, CredentialError> {
        self.get_or_create(PLATFORM, name, || Secret::new(fresh))
    }

    /// Deletes the key of an environment and with it all its secrets.
    pub(crate) fn forget(&self, environment: Environment) -> Result<(), CredentialError> {
        let mut vault = self.vault();
        let scope = environment.to_string();
        self.store.scope_remove(&scope)?;
        vault.remove_key(&scope);
        Ok(())
    }

    /// Everything of an environment.
    pub(crate) fn environment(
        &self,
        environment: Environment,
    ) -> Result<EnvironmentSecrets, CredentialError> {
        Ok(EnvironmentSecrets {
            postgres_owner: self.named(environment, "postgres_owner_password")?,
            postgres_service: self.named(environment, "postgres_service_password")?,
            postgres_client_token: self.named(environment, "postgres_client_token")?,
            redis_password: self.named(environment, "redis_password")?,
            redis_control_password: self.named(environment, "redis_control_password")?,
            redis_token: self.named(environment, "redis_rest_token")?,
            redis_read_only_token: self.named(environment, "redis_rest_read_only_token")?,
            s3_access_key_id: self.named(environment, "s3_access_key_id")?,
            s3_secret_access_key: self.named(environment, "s3_secret_access_key")?,
        })
    }

    /// One credential of an environment by its public name.
    pub(crate) fn named(&self, environment: Environment, name: &str) -> Result<Secret, CredentialError> {
        let make: fn() -> Secret = match name {
            "postgres_owner_password"
            | "postgres_service_password"
            | "redis_password"
            | "redis_control_password" => generate_password,
            "postgres_client_token" => || generate_token("apg", 24),
            "redis_rest_token" => || generate_token("arr", 24),
            "redis_rest_read_only_token" => || generate_token("aro", 24),
            "s3_access_key_id" => || generate_token("ak", 15),
            "s3_secret_access_key" => || generate_token("sk", 30),
            _ => return Err(CredentialError::Unknown(name.to_owned())),
        };
        self.get_or_create(&environment.to_string(), name, make)
    }

    /// The token that a worker's R2 binding carries.
    pub(crate) fn binding_token(
        &self,
        environment: Environment,
        bucket: &str,
    ) -> Result<Secret, CredentialError> {
        self.get_or_create(&environment.to_string(), &format!("r2-{bucket}"), || {
            generate_token("r2", 24)
        })
    }

    /// Writes a secret where only the daemon and root can read it, for `keep` to pass on as a credential.
    pub(crate) fn hand_over(&self, path: &Path, secret: &Secret) -> Result<(), CredentialError> {
        if std::fs::read(path).is_ok_and(|present| present == secret.expose().as_bytes()) {
            return Ok(());
        }
        Ok(file::replace(path, secret.expose().as_bytes(), 0o600)?)
    }

    /// Everything of an environment, when all of it is there already: makes nothing.
    pub(crate) fn existing(
        &self,
        environment: Environment,
    ) -> Result<Option<EnvironmentSecrets>, CredentialError> {
        let scope = environment.to_string();
        for name in NAMES {
            if self.store.sealed_get(&scope, name, None)?.is_none() {
                return Ok(None);
            }
        }
        self.environment(environment).map(Some)
    }

    /// Whether an environment has secrets.
    pub(crate) fn has_scope(&self, environment: Environment) -> Result<bool, CredentialError> {
        let scope = environment.to_string();
        Ok(self
            .store
            .scope_keys()?
            .iter()
            .any(|(present, _)| *present == scope))
    }

    /// Names of an environment's own credentials; no value.
    pub(crate) fn names(&self, environment: Environment) -> Result<Vec<String>, CredentialError> {
        let versions = self.store.sealed_list(Some(&environment.to_string()), None)?;
        let mut names: Vec<String> = versions.into_iter().map(|version| version.name).collect();
        names.retain(|name| !astraler_store::is_user_secret(name));
        names.dedup();
        Ok(names)
    }

    fn get_or_create(
        &self,
        scope: &str,
        name: &str,
        make: impl FnOnce() -> Secret,
    ) -> Result<Secret, CredentialError> {
        // The lock also makes two callers agree on one new secret.
        let mut vault = self.vault();
        self.unlock(&mut vault, scope, true)?;
        if let Some(record) = self.store.sealed_get(scope, name, None)? {
            return Ok(vault.open(
                scope,
                name,
                record.version,
                &Sealed::from_bytes(record.ciphertext),
            )?);
        }
        let secret = make();
        let sealed = vault.seal(scope, name, 1, &secret)?;
        self.store
            .sealed_put(scope, name, 1, sealed.as_bytes(), now_ms())?;
        self.sealed_another();
        Ok(secret)
    }

    /// The vault with the key of a scope, which is made where there is none and one is wanted.
    pub(crate) fn unlock(&self, vault: &mut Vault, scope: &str, make: bool) -> Result<(), CredentialError> {
        if vault.has_key(scope) {
            return Ok(());
        }
        let stored = self.store.scope_keys()?;
        match stored.into_iter().find(|(present, _)| present == scope) {
            Some((_, wrapped)) => vault.add_key(scope, &WrappedKey::from_bytes(wrapped))?,
            None if make => {
                let wrapped = vault.create_key(scope)?;
                self.store.scope_key_put(scope, wrapped.as_bytes(), now_ms())?;
            }
            None => {}
        }
        Ok(())
    }

    /// Whoever seals or opens holds it: keys do not change meanwhile.
    pub(crate) fn vault(&self) -> MutexGuard<'_, Vault> {
        self.vault.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
