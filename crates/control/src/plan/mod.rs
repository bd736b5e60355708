//! Plan, apply, drift, destroy: what is wanted is compared with what is there, shown, and made true step by step.
//!
//! The comparison itself is `astraler-plan`, which is pure. Here is what it is made of ([`wanted`] from manifests and
//! deployments, [`observe`] from the real machine) and what follows from it ([`apply`]). Looking never writes.

pub(crate) mod api;
mod apply;
mod observe;
mod scope;
mod wanted;

pub(crate) use scope::is_protected;

use crate::words::{Application, Fault, StepOutcome, WorkerPlan};
use astraler_model::Environment;
use astraler_plan::Plan;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a manifest says, for every kind of environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ManifestWords {
    /// `astraler.toml`.
    pub config: astraler_manifest::Config,
    /// Workers without their modules, for `development`, `preview`, `staging` and `production`: the code is that of the
    /// release which the environment runs.
    pub workers: BTreeMap<String, Vec<WorkerPlan>>,
}

/// What would the manifest change?
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanRequest {
    /// The manifest.
    pub manifest: ManifestWords,
    /// Only these, which come up when they are not; all that are up when empty.
    #[serde(default)]
    pub environments: BTreeSet<Environment>,
}

/// Carry a plan out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApplyRequest {
    /// What it was made from.
    pub request: PlanRequest,
    /// What was shown and agreed to: when the machine has changed since, it is refused.
    pub plan: Plan,
}

/// Destroy environments with everything in them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DestroyRequest {
    /// Which; every one on record when empty.
    pub environments: BTreeSet<Environment>,
    /// What was shown and agreed to; without one, the plan is only shown.
    #[serde(default)]
    pub plan: Option<Plan>,
}

/// One line of the answer to a request that carries a plan out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ApplyEvent {
    /// A step begins.
    Begin {
        /// `change environment.staging.redis`.
        part: String,
    },
    /// A step ended well.
    End {
        /// Its name.
        part: String,
        /// What happened.
        outcome: StepOutcome,
        /// A few words for people.
        detail: String,
        /// How long it took.
        elapsed_ms: u64,
    },
    /// The end: every step is done.
    Applied {
        /// So many.
        steps: usize,
    },
    /// The end: nothing was done.
    Refused(Refusal),
    /// The end, here; what was done stays, and the next `apply` goes on from it.
    Failed(Fault),
}

/// Why a plan is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "refusal", rename_all = "snake_case")]
pub enum Refusal {
    /// It is not the plan for this machine any more.
    Stale {
        /// What differs, one line each.
        differences: Vec<String>,
    },
    /// It destroys what is protected.
    Protected {
        /// What.
        addresses: Vec<String>,
    },
}

/// What shall be compared with the machine.
pub(crate) enum Question<'a> {
    /// What the manifest wants.
    Manifest(&'a PlanRequest),
    /// What was made, as it was made: every difference is drift.
    Recorded,
    /// That these are not there, or none when empty.
    Without(&'a BTreeSet<Environment>),
}

/// The answer: the plan, and what its execution needs beside it.
pub(crate) struct Answer {
    pub(crate) plan: Plan,
    /// What runs in each environment when the plan is done.
    pub(crate) applications: BTreeMap<Environment, Application>,
}

/// Looks and compares. Writes nothing.
pub(crate) async fn answer(
    platform: &crate::platform::Platform,
    question: &Question<'_>,
) -> Result<Answer, Fault> {
    let wanted = wanted::wanted(platform, question).map_err(|error| match error {
        wanted::WantedError::Secret(error) => error.into(),
        error => Fault::of("plan", &error),
    })?;
    if let Question::Manifest(_) = question {
        let scope = wanted.scope.as_ref();
        for (environment, application) in &wanted.applications {
            if scope.is_none_or(|scope| scope.contains(environment)) {
                crate::waf::ready(platform, *environment, application).await?;
            }
        }
    }
    let mut observed = observe::observe(platform, &wanted).await?;
    let mut desired = wanted.desired;
    if let Some(scope) = &wanted.scope {
        let inside = |address: &astraler_plan::Address| {
            address
                .environment()
                .is_none_or(|environment| scope.contains(&environment))
        };
        desired.resources.retain(|address, _| inside(address));
        observed.resources.retain(|address, _| inside(address));
        observed
            .destroying
            .retain(|environment| scope.contains(environment));
    }
    Ok(Answer {
        plan: astraler_plan::plan(&desired, &observed),
        applications: wanted.applications,
    })
}
