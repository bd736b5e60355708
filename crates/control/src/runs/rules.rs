//! Whose words count for pushes: which branch goes where, which are protected, what jobs may reach.
//!
//! A pushed manifest cannot say so of itself, or a push to a feature branch could send itself to production. The words
//! are those of the manifest that production runs, else staging's, else that of the owner's last `up`.

use crate::platform::{Platform, PlatformError, application_of, origin_of};
use crate::words::Action;
use astraler_manifest::Config;
use astraler_model::Environment;

/// Deployments among which the last `up` is looked for.
const HISTORY: u32 = 1_000;

/// The manifest whose words count.
#[derive(Debug, Clone)]
pub(crate) struct Rules(Config);

impl Rules {
    /// The rules as they are now.
    pub(crate) fn of(platform: &Platform) -> Result<Self, PlatformError> {
        for environment in [Environment::Production, Environment::Staging] {
            if let Some(live) = platform.live_deployment(environment)? {
                return Ok(Self(application_of(&live)?.config));
            }
        }
        let ups = platform.deployments(None, HISTORY)?;
        let last = ups.iter().find(|deployment| {
            origin_of(deployment).action == Action::Up && deployment.switched_ms.is_some()
        });
        match last {
            Some(last) => Ok(Self(application_of(last)?.config)),
            None => Self::usual(&platform.installation.application),
        }
    }

    /// Before anything was deployed: the defaults.
    fn usual(application: &str) -> Result<Self, PlatformError> {
        let least = serde_json::json!({ "name": application, "domain": "app.invalid" });
        let config = serde_json::from_value(least).map_err(|source| PlatformError::Record {
            record: "the default manifest".into(),
            source,
        })?;
        Ok(Self(config))
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0
    }

    /// The environment that a branch is deployed to.
    pub(crate) fn environment(&self, branch: &str) -> Option<Environment> {
        self.0.environments.of_branch(branch)
    }

    /// The preview of a pull request, unless its branch gets none.
    pub(crate) fn preview(&self, number: u32, branch: &str) -> Option<Environment> {
        let preview = Environment::Preview(number);
        self.0.environments.takes(preview, branch).then_some(preview)
    }

    /// Staging and production are deployed from these: their history stays.
    pub(crate) fn protected(&self, branch: &str) -> bool {
        matches!(
            self.environment(branch),
            Some(Environment::Staging | Environment::Production)
        )
    }
}
