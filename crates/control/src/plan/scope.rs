//! Which environments a plan is about, and what runs in each when it is done: the configuration of the manifest with the
//! code of a release that is there.

use super::wanted::WantedError;
use super::{ManifestWords, PlanRequest};
use crate::platform::{Platform, PlatformError, application_of, origin_of};
use crate::words::{Action, Application, WorkerPlan};
use astraler_manifest::Config;
use astraler_model::Environment;
use std::collections::{BTreeMap, BTreeSet};

/// What runs in each environment, with the deployment's name.
type Live = BTreeMap<Environment, (String, Application)>;

/// The environments that a request is about: those that are named, or all that are up, with those that an `apply` which
/// was stopped was to bring up. What a deployment could not bring up waits for the next deployment.
pub(super) fn in_scope(
    platform: &Platform,
    request: &PlanRequest,
    live: &Live,
) -> Result<BTreeSet<Environment>, PlatformError> {
    if !request.environments.is_empty() {
        return Ok(request.environments.clone());
    }
    let mut all: BTreeSet<Environment> = live.keys().copied().collect();
    for record in platform.environments()? {
        if record.desired == astraler_store::Desired::Up
            && !all.contains(&record.environment)
            && begun(platform, record.environment)?.is_some()
        {
            all.insert(record.environment);
        }
    }
    Ok(all)
}

/// What an `apply` that was stopped was to bring up in an environment in which nothing runs.
fn begun(platform: &Platform, environment: Environment) -> Result<Option<Application>, PlatformError> {
    if environment == Environment::Production {
        return Ok(None);
    }
    match platform.deployments(Some(environment), 1)?.first() {
        // It had not come to the deployment.
        None => platform.newest_live(),
        Some(newest) if origin_of(newest).action == Action::Apply => application_of(newest).map(Some),
        Some(_) => Ok(None),
    }
}

/// Whether a manifest protects an environment.
pub(crate) fn is_protected(config: &Config, environment: Environment) -> bool {
    use astraler_manifest::EnvironmentKind as Named;
    let named = match environment {
        Environment::Development => Named::Development,
        Environment::Preview(_) => Named::Preview,
        Environment::Staging => Named::Staging,
        Environment::Production => Named::Production,
    };
    let own = match environment {
        Environment::Development => config.environments.development.protected,
        Environment::Preview(_) => config.environments.preview.protected,
        Environment::Staging => config.environments.staging.protected,
        Environment::Production => config.environments.production.protected,
    };
    own || config.protection.environments.contains(&named)
}

fn kind(environment: Environment) -> &'static str {
    match environment {
        Environment::Development => "development",
        Environment::Preview(_) => "preview",
        Environment::Staging => "staging",
        Environment::Production => "production",
    }
}

/// The configuration of a manifest with the code of the release that runs there. Where nothing runs yet, it is that of the
/// one that was made live last anywhere; but production gets its first by a promotion, which asks for its gates.
pub(super) fn described(
    platform: &Platform,
    manifest: &ManifestWords,
    environment: Environment,
    live: &Live,
) -> Result<Application, WantedError> {
    let mut base = match live.get(&environment) {
        Some((_, application)) => application.clone(),
        None if environment == Environment::Production => return Err(WantedError::NothingPromoted),
        None => match begun(platform, environment)? {
            Some(begun) => begun,
            None => platform
                .newest_live()?
                .ok_or(WantedError::NoRelease(environment))?,
        },
    };
    let words = manifest
        .workers
        .get(kind(environment))
        .map_or(&[][..], Vec::as_slice);
    base.workers = words
        .iter()
        .map(|worker| {
            let present = base.workers.iter().find(|present| present.name == worker.name);
            let present = present.ok_or_else(|| WantedError::NoWorker {
                environment,
                worker: worker.name.clone(),
                release: base.release.clone(),
            })?;
            // Compatibility goes with the bundle: it was made for it.
            Ok(WorkerPlan {
                modules: present.modules.clone(),
                compatibility_date: present.compatibility_date.clone(),
                compatibility_flags: present.compatibility_flags.clone(),
                ..worker.clone()
            })
        })
        .collect::<Result<_, WantedError>>()?;
    if let Some(assets) = &mut base.assets {
        assets.html_handling = manifest.config.assets.html_handling;
        assets.not_found_handling = manifest.config.assets.not_found_handling;
    }
    base.config = manifest.config.clone();
    platform.pin_secrets(environment, &mut base)?;
    Ok(base)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::Origin;
    use astraler_host::sim::{SimClock, SimFaults, SimSupervisor};
    use serde_json::json;
    use std::sync::Arc;

    fn application(release: &str) -> Application {
        Application {
            config: serde_json::from_value(json!({ "name": "sim", "domain": "sim.example" })).unwrap(),
            release: release.into(),
            workers: vec![],
            assets: None,
            migrations: None,
            mask: None,
        }
    }

    fn platform(folder: &std::path::Path) -> Platform {
        let supervisor = SimSupervisor::new(1, SimFaults::NONE, SimClock::automatic(1_000));
        Platform::simulated(folder, Arc::new(supervisor))
    }

    /// A deployment there, live or failed.
    fn deployed(platform: &Platform, environment: Environment, release: &str, action: Action, good: bool) {
        platform.want(environment).unwrap();
        let origin = Origin {
            action,
            ..Origin::default()
        };
        let deployment = platform
            .new_deployment(environment, &application(release), "test", &origin)
            .unwrap();
        platform.start_deployment(&deployment).unwrap();
        if good {
            platform.switch_live(&deployment).unwrap();
        } else {
            let failed = astraler_store::DeploymentState::Failed;
            platform.set_deployment_state(&deployment, failed, Some("test"));
        }
    }

    fn live(platform: &Platform) -> Live {
        let live = platform.live().unwrap().into_iter();
        live.map(|(environment, (deployment, application))| {
            (environment, (deployment.id.to_string(), application))
        })
        .collect()
    }

    fn request(environments: &[Environment]) -> PlanRequest {
        PlanRequest {
            manifest: ManifestWords {
                config: application("").config,
                workers: BTreeMap::new(),
            },
            environments: environments.iter().copied().collect(),
        }
    }

    fn release(platform: &Platform, environment: Environment) -> Result<String, String> {
        let manifest = request(&[]).manifest;
        described(platform, &manifest, environment, &live(platform))
            .map(|application| application.release)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn an_environment_begins_with_a_release_of_the_branches_and_production_with_none() {
        let folder = tempfile::tempdir().unwrap();
        let platform = platform(folder.path());
        let (preview, staging) = (Environment::Preview(7), Environment::Staging);
        deployed(&platform, preview, "sha256:pull-request", Action::Deploy, true);
        let nothing = release(&platform, staging).unwrap_err();
        assert!(nothing.contains("staging runs no release yet"), "{nothing}");
        deployed(
            &platform,
            Environment::Development,
            "sha256:branch",
            Action::Deploy,
            true,
        );
        deployed(&platform, preview, "sha256:newer", Action::Deploy, true);
        assert_eq!(release(&platform, staging).unwrap(), "sha256:branch");
        assert_eq!(
            release(&platform, Environment::Preview(8)).unwrap(),
            "sha256:branch"
        );
        assert_eq!(release(&platform, preview).unwrap(), "sha256:newer");
        let refused = release(&platform, Environment::Production).unwrap_err();
        assert!(refused.contains("astraler promote"), "{refused}");
    }

    #[test]
    fn what_an_apply_began_goes_on_and_what_a_deployment_could_not_bring_up_waits_for_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let platform = platform(folder.path());
        let (development, staging) = (Environment::Development, Environment::Staging);
        let scope = |named: &[Environment]| -> Vec<Environment> {
            in_scope(&platform, &request(named), &live(&platform))
                .unwrap()
                .into_iter()
                .collect()
        };
        deployed(&platform, development, "sha256:a", Action::Deploy, true);
        platform.want(staging).unwrap();
        assert_eq!(scope(&[]), [development, staging], "killed before its deployment");
        deployed(&platform, staging, "sha256:b", Action::Apply, false);
        assert_eq!(scope(&[]), [development, staging], "killed in it");
        assert_eq!(release(&platform, staging).unwrap(), "sha256:b");
        deployed(&platform, staging, "sha256:c", Action::Deploy, false);
        deployed(
            &platform,
            Environment::Production,
            "sha256:a",
            Action::Promote,
            false,
        );
        assert_eq!(scope(&[]), [development]);
        assert_eq!(scope(&[staging]), [staging]);
    }
}
