//! `astraler cache …`.

use super::Json;
use clap::{Args, Subcommand};

/// `cache …`.
#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// How much it holds, and how often it answered.
    #[command(after_help = "Examples:\n  astraler cache status\n  astraler cache status --json")]
    Status(Json),
    /// Forget responses, in memory and on disk; what is on its way is not kept either.
    #[command(after_help = "Examples:
  astraler cache purge --url https://app.example.com/news
  astraler cache purge --prefix app.example.com/blog/ --tag products
  astraler cache purge --everything --env staging")]
    Purge(PurgeArguments),
}

/// What shall be forgotten.
#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = true)]
pub(crate) struct PurgeWords {
    /// This URL, with all its variants; may be said several times.
    #[arg(long, value_name = "URL")]
    pub(crate) url: Vec<String>,
    /// All URLs that begin with this host and path.
    #[arg(long, value_name = "HOST/PATH")]
    pub(crate) prefix: Vec<String>,
    /// All responses with this `Cache-Tag`.
    #[arg(long)]
    pub(crate) tag: Vec<String>,
    /// All URLs of this host.
    #[arg(long)]
    pub(crate) host: Vec<String>,
    /// Everything.
    #[arg(long)]
    pub(crate) everything: bool,
}

/// `cache purge`.
#[derive(Debug, Args)]
pub(crate) struct PurgeArguments {
    #[command(flatten)]
    pub(crate) what: PurgeWords,
    /// Only what this environment answered.
    #[arg(long = "env", value_name = "NAME")]
    pub(crate) environment: Option<String>,
    #[command(flatten)]
    pub(crate) json: Json,
}
