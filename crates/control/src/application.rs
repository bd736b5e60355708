//! What an environment runs: a release with the environment's values. It follows from the release alone, so that a
//! promotion needs no working folder.

use crate::words::{Application, WorkerPlan};
use astraler_manifest::{Config, Manifest, Worker};
use astraler_model::{AssetConfig, Environment};
use astraler_release::Release;
use serde::{Deserialize, Serialize};

/// What a release keeps of the application's manifest: its `configuration`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleaseConfiguration {
    /// `astraler.toml`.
    pub config: Config,
    /// The workers, without the folders in which they stood.
    pub workers: Vec<Worker>,
    /// Text of the script `database.mask`.
    #[serde(default)]
    pub mask: Option<String>,
}

/// Larger scripts are programs.
pub const MAX_MASK_BYTES: u64 = 64 << 10;

/// A release cannot be run here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplicationError {
    /// Another program, or another version of this one, built it.
    #[error("the configuration of release {release} is not of this version")]
    Configuration {
        /// The release.
        release: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Its configuration names a worker that it does not hold.
    #[error("release {release} is not whole: it has no worker `{worker}`")]
    Worker {
        /// The release.
        release: String,
        /// The worker.
        worker: String,
    },
    /// It is not this platform's.
    #[error("release {release} is of application `{found}`, and this is the platform of `{wanted}`")]
    Application {
        /// The release.
        release: String,
        /// Its application.
        found: String,
        /// The platform's.
        wanted: String,
    },
}

impl ReleaseConfiguration {
    /// Of a manifest that was read from a folder.
    pub fn of(manifest: &Manifest, mask: Option<String>) -> Self {
        Self {
            config: manifest.config.clone(),
            workers: manifest.workers.clone(),
            mask,
        }
    }
}

impl Application {
    /// The release with the values of one environment. `application` is the platform's own name.
    pub(crate) fn of(
        release: &Release,
        environment: Environment,
        application: &str,
    ) -> Result<Self, ApplicationError> {
        let contents = &release.manifest;
        if contents.application != application {
            return Err(ApplicationError::Application {
                release: release.digest.clone(),
                found: contents.application.clone(),
                wanted: application.to_owned(),
            });
        }
        let failed = |source| ApplicationError::Configuration {
            release: release.digest.clone(),
            source,
        };
        let configuration: ReleaseConfiguration =
            serde_json::from_value(contents.configuration.clone()).map_err(failed)?;
        let workers = configuration
            .workers
            .iter()
            .map(|worker| plan(worker, environment, release))
            .collect::<Result<_, _>>()?;
        let assets = contents.has_assets().then(|| AssetConfig {
            directory: release.directory.join("assets"),
            html_handling: configuration.config.assets.html_handling,
            not_found_handling: configuration.config.assets.not_found_handling,
        });
        Ok(Self {
            release: release.digest.clone(),
            workers,
            assets,
            migrations: contents
                .has_migrations()
                .then(|| release.directory.join("migrations")),
            mask: configuration.mask,
            config: configuration.config,
        })
    }
}

fn plan(
    worker: &Worker,
    environment: Environment,
    release: &Release,
) -> Result<WorkerPlan, ApplicationError> {
    // The release's own check has seen that names are plain and modules inside.
    let entry = release.manifest.workers.get(&worker.name);
    let entry = entry.ok_or_else(|| ApplicationError::Worker {
        release: release.digest.clone(),
        worker: worker.name.clone(),
    })?;
    let modules = entry
        .modules
        .iter()
        .map(|module| serde_json::from_value(module.clone()))
        .collect::<Result<_, _>>()
        .map_err(|source| ApplicationError::Configuration {
            release: release.digest.clone(),
            source,
        })?;
    Ok(WorkerPlan {
        modules,
        compatibility_date: entry.compatibility_date.clone(),
        compatibility_flags: entry.compatibility_flags.clone(),
        ..WorkerPlan::of(worker, environment)
    })
}
