//! Actions that are built in: they do what their namesakes do, without a download.

mod artifact;
mod cache;
mod checkout;
mod codecov;
mod node;

use crate::engine::{Failed, Job, Native};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a step gives an action.
#[derive(Debug, Clone)]
pub(crate) struct Inputs(Vec<(String, String)>);

/// Where an action runs.
pub(crate) struct Context<'a> {
    pub(crate) frame: &'a crate::engine::Frame,
    pub(crate) id: &'a str,
    pub(crate) most: Duration,
    pub(crate) uses: &'a str,
}

pub(crate) type Done = Result<BTreeMap<String, String>, Failed>;

impl Inputs {
    pub(crate) fn new(given: Vec<(String, String)>) -> Self {
        Self(given)
    }

    /// An input, without the space around it; nothing where it is empty.
    fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found
            .map(|(_, value)| value.trim())
            .filter(|value| !value.is_empty())
    }

    fn is(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    fn required(&self, name: &str) -> Result<&str, Failed> {
        self.get(name)
            .ok_or_else(|| Failed::Because(format!("Input required and not supplied: {name}")))
    }
}

/// Runs an action.
pub(crate) async fn run(job: &mut Job, native: Native, inputs: &Inputs, context: &mut Context<'_>) -> Done {
    match native {
        Native::Checkout => checkout::run(job, inputs, context).await,
        Native::SetupNode => node::setup_node(job, inputs, context).await,
        Native::SetupPnpm => node::setup_pnpm(job, inputs, context).await,
        Native::Cache => cache::cache(job, inputs, context).await,
        Native::CacheRestore => cache::restore(job, inputs).await,
        Native::CacheSave => cache::save(job, inputs).await,
        Native::UploadArtifact => artifact::upload(job, inputs).await,
        Native::DownloadArtifact => artifact::download(job, inputs).await,
        Native::Codecov => codecov::run(job, inputs).await,
        Native::MergeArtifact => Err(Failed::Because("this action is not supported".into())),
    }
}
