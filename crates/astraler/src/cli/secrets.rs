//! `astraler secrets …`.

use super::Json;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `secrets …`. No command prints a value.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretsCommand {
    /// Store a value: a new secret, or a new version of one that is there. Nobody has it before it is granted.
    #[command(after_help = "Examples:
  astraler secrets set STRIPE_KEY --env staging --from-file stripe.key
  pass show stripe | astraler secrets set STRIPE_KEY --env production

The value is read from a file or from standard input, never from the command line; one line end after it is left out.
At most 48 KiB of text.")]
    Set {
        /// Letters, digits and `_`.
        name: String,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        value: Value,
        #[command(flatten)]
        json: Json,
    },
    /// Names, versions, who may have them, and what has not taken them yet.
    #[command(after_help = "Examples:
  astraler secrets list
  astraler secrets list --env production --json")]
    List {
        /// Of one environment only.
        #[arg(long = "env", value_name = "NAME")]
        place: Option<String>,
        #[command(flatten)]
        json: Json,
    },
    /// Let a worker have a secret as a binding of that name, or jobs as `secrets.NAME`.
    #[command(after_help = "Examples:
  astraler secrets grant STRIPE_KEY --env staging --to api
  astraler secrets grant NPM_TOKEN --env development --to pipeline
  astraler secrets apply --env staging

Workers have it from the next deployment on, jobs from the next run on.")]
    Grant {
        /// Which secret.
        name: String,
        #[command(flatten)]
        place: Place,
        /// A worker's name, or `pipeline`; for `--env platform`, alerts or backups.
        #[arg(long, value_name = "SERVICE")]
        to: String,
        #[command(flatten)]
        json: Json,
    },
    /// Take a grant back.
    #[command(after_help = "Example:
  astraler secrets revoke STRIPE_KEY --env staging --from api && astraler secrets apply --env staging")]
    Revoke {
        /// Which secret.
        name: String,
        #[command(flatten)]
        place: Place,
        /// Who has it.
        #[arg(long, value_name = "SERVICE")]
        from: String,
        #[command(flatten)]
        json: Json,
    },
    /// Give a secret that is there another value. What runs keeps the old one until its next deployment.
    #[command(after_help = "Examples:
  astraler secrets rotate STRIPE_KEY --env production --from-file new.key
  astraler secrets rotate SESSION_KEY --env production --generate && astraler secrets apply --env production")]
    Rotate {
        /// Which secret.
        name: String,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        value: Value,
        /// Make a value: 32 random letters and digits, which nobody sees.
        #[arg(long, conflicts_with = "from_file")]
        generate: bool,
        #[command(flatten)]
        json: Json,
    },
    /// Versions of a secret: who made them and when.
    #[command(after_help = "Example:\n  astraler secrets history STRIPE_KEY --env production --json")]
    History {
        /// Which secret; also one that was removed.
        name: String,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        json: Json,
    },
    /// Remove a secret with its grants. Its value is deleted as soon as nothing runs with it.
    #[command(after_help = "Example:\n  astraler secrets remove STRIPE_KEY --env staging")]
    Remove {
        /// Which secret.
        name: String,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        json: Json,
    },
    /// Give what runs the secrets as they are now: its release is deployed anew, the one before drains.
    #[command(after_help = "Examples:
  astraler secrets apply --env production
  astraler secrets apply --env preview")]
    Apply {
        /// An environment, or `preview` for every one that is up.
        #[arg(long = "env", value_name = "NAME")]
        environment: String,
        /// Wait until the deployment before has ended too.
        #[arg(long)]
        wait: bool,
        /// Print each event as a line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Replace the keys that secrets are under: those of the environments, or the root key. No secret changes, nothing
    /// restarts; killed at any point, everything is readable, and the same command begins anew.
    #[command(after_help = "Examples:
  astraler secrets rotate-keys
  astraler secrets rotate-keys --root

After --root the copies that you keep of the root key open nothing that is sealed now: make new ones.")]
    RotateKeys {
        /// The root key, instead of the keys under it.
        #[arg(long)]
        root: bool,
        /// Print each event as a line of JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Where a secret belongs.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// development, preview (every one), staging, production, or platform for what alerts and backups need.
    #[arg(long = "env", value_name = "NAME")]
    pub(crate) place: String,
}

/// Where a value comes from.
#[derive(Debug, Args)]
pub(crate) struct Value {
    /// File with the value; standard input by default.
    #[arg(long, value_name = "FILE")]
    pub(crate) from_file: Option<PathBuf>,
}
