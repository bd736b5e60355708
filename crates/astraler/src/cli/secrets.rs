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
        /// A worker's name, or `pipeline`; for `--env platform`, alerts, backups or dns.
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
    /// The key above the backups of secrets, in three shares of which any two open them. It needs no platform.
    #[command(subcommand)]
    RecoveryKey(RecoveryKeyCommand),
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

/// `secrets recovery-key …`. The key in one piece is made, used and forgotten here: no platform ever holds it.
#[derive(Debug, Subcommand)]
pub(crate) enum RecoveryKeyCommand {
    /// Make a key: three shares for three people, and the line of the manifest that names its public half.
    #[command(after_help = "Examples:
  astraler secrets recovery-key create
  astraler secrets recovery-key create --output /media/stick

Each share is one line of text. Give each to another person, on paper or in a password store of theirs, and leave none on
this machine: any two of them open the backups of all secrets. They are shown once.")]
    Create {
        /// Write share-1.txt to share-3.txt into this folder, readable by you only, instead of printing them.
        #[arg(long, value_name = "DIR")]
        output: Option<PathBuf>,
        #[command(flatten)]
        json: Json,
    },
    /// Whether shares fit together, and whether they are of the key that the manifest names.
    #[command(after_help = "Example:
  astraler secrets recovery-key check --share-file share-1.txt --share-file share-3.txt")]
    Check {
        #[command(flatten)]
        shares: Shares,
        #[command(flatten)]
        json: Json,
    },
    /// Write the key in one piece, as the program `age` takes it: it opens a backup without Astraler.
    #[command(after_help = "Examples:
  astraler secrets recovery-key combine --share-file share-1.txt --share-file share-3.txt --output key.txt
  age -d -i key.txt root.key.age > root.key

Remove the file when you are done.")]
    Combine {
        #[command(flatten)]
        shares: Shares,
        /// The file; it must not be there yet, and is readable by you only.
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
}

/// Shares of a recovery key.
#[derive(Debug, Args)]
pub(crate) struct Shares {
    /// File with a share; give two of them.
    #[arg(long = "share-file", value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
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
