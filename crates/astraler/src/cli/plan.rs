//! What `plan`, `apply` and `destroy` are told.

use clap::Args;
use std::path::PathBuf;

/// `plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanArguments {
    /// Only this environment, which comes up when it is not; may be repeated. All that are up by default.
    #[arg(long = "env", value_name = "NAME")]
    pub(crate) environments: Vec<String>,
    /// Print the plan as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the plan to a file, for `astraler apply FILE`. No secret is in it.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// `apply`.
#[derive(Debug, Args)]
pub(crate) struct ApplyArguments {
    /// A plan of `astraler plan --out`; refused when it does not fit this machine any more.
    pub(crate) plan: Option<PathBuf>,
    /// Only this environment; may be repeated.
    #[arg(long = "env", value_name = "NAME", conflicts_with = "plan")]
    pub(crate) environments: Vec<String>,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print each event as a line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `destroy`.
#[derive(Debug, Args)]
pub(crate) struct DestroyArguments {
    /// This environment; may be repeated. Every environment by default.
    #[arg(long = "env", value_name = "NAME")]
    pub(crate) environments: Vec<String>,
    /// The name that would be typed: the environment's, or the application's when it is several.
    #[arg(long, value_name = "NAME")]
    pub(crate) yes: Option<String>,
    /// Show the plan only.
    #[arg(long)]
    pub(crate) show: bool,
    /// Print each event as a line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
