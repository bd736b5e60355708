//! `astraler backup …` and `astraler recover …`.

use super::Json;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `backup`.
#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Show how old, how large and how far the backups are; exit code 1 when something is missing, old or shrunken.
    #[command(after_help = "Examples:\n  astraler backup status\n  astraler backup status --json")]
    Status(Json),
    /// Show the backups that were tried, newest first.
    #[command(after_help = "Examples:\n  astraler backup list\n  astraler backup list -n 100 --json")]
    List {
        /// So many.
        #[arg(short = 'n', long, default_value_t = 20)]
        lines: u32,
        #[command(flatten)]
        json: Json,
    },
    /// Read the newest backups back and compare them with what was written down when they were made; and replicas of
    /// buckets with the buckets.
    #[command(after_help = "Examples:\n  astraler backup verify\n  astraler backup verify --full")]
    Verify {
        /// Read every object of a replica, not 200 of each bucket.
        #[arg(long)]
        full: bool,
        /// Print each event as a line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make all backups now: a base of each cluster, a dump of each database.
    #[command(after_help = "Example:\n  astraler backup run")]
    Run {
        /// Print each event as a line of JSON.
        #[arg(long)]
        json: bool,
    },
}

/// `recover`.
#[derive(Debug, Subcommand)]
pub(crate) enum RecoverCommand {
    /// Bring an environment's database to the moment before a point in time; the others of its cluster stay as they are.
    #[command(after_help = "Examples:
  astraler recover database --env production --to 2026-11-27T18:50:30Z --dry-run
  astraler recover database --env production --to 2026-11-27T18:50:30Z

What was there is kept, closed, as DATABASE_before until the next recovery.")]
    Database {
        /// Which environment.
        #[arg(long = "env", value_name = "NAME")]
        environment: String,
        /// The point in time, UTC: all that was committed before it comes back.
        #[arg(long, value_name = "TIME")]
        to: String,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
        /// Print each event as a line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Bring an environment's service back: what does not run or answer is started anew, and a bad release is gone back from.
    #[command(after_help = "Examples:
  astraler recover service --env production --dry-run
  astraler recover service --env production

Engines and processes come first. Where the live deployment was found to be bad, or does not answer on engines that do,
the last good one takes its place. Data is not rewound: `recover database` does that.")]
    Service {
        /// Which environment.
        #[arg(long = "env", value_name = "NAME")]
        environment: String,
        /// The deployment that is to serve, whether or not the live one is good.
        #[arg(long, value_name = "DEPLOYMENT")]
        to: Option<String>,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
        /// Print each event as a line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Put objects back from the second location of buckets, where they are missing here or older.
    #[command(after_help = "Examples:
  astraler recover storage --env production --dry-run
  astraler recover storage --env production
  astraler recover storage --env production --bucket uploads

What is here and newer is never touched. It can be run again.")]
    Storage {
        /// Which environment.
        #[arg(long = "env", value_name = "NAME")]
        environment: String,
        /// Only this bucket, by the name that the application uses.
        #[arg(long)]
        bucket: Option<String>,
        /// Only say what would come back.
        #[arg(long)]
        dry_run: bool,
        /// Print each event as a line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Bring a whole platform back on a machine that has nothing of it, from its backups and two shares of the recovery key.
    #[command(after_help = "Examples:
  astraler recover full --dir shop --from s3://team-backups/shop --credentials-file backups.env --dry-run
  astraler recover full --dir shop --from s3://team-backups/shop --credentials-file backups.env \\
    --share-file share-1.txt --share-file share-3.txt

Into empty folders only. Killed anywhere, the same command goes on. The old machine must not run any more.")]
    Full(RecoverFull),
}

/// `recover full`.
#[derive(Debug, Args)]
pub(crate) struct RecoverFull {
    /// Where the backups are: what backups.target_url said.
    #[arg(long, value_name = "LOCATION")]
    pub(crate) from: String,
    /// Address of an S3 service that is not Amazon's.
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint_url: Option<String>,
    /// File with the location's credentials, as backups.credentials_file.
    #[arg(long, value_name = "FILE")]
    pub(crate) credentials_file: Option<PathBuf>,
    /// Name of the application, where the location has backups of several.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// File with a share of the recovery key; give two of them.
    #[arg(long = "share-file", value_name = "FILE", required_unless_present = "dry_run")]
    pub(crate) shares: Vec<PathBuf>,
    /// The point in time, UTC: all that was committed before it comes back. Everything that is there by default.
    #[arg(long, value_name = "TIME")]
    pub(crate) to: Option<String>,
    /// Port of the edge, instead of the manifest's.
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// Only say what would be taken, and which times are possible.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print each event as a line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `drill`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  astraler drill
  astraler drill --env production

It does so by itself every `recovery.drill_hours`; `status` shows the last restore that was proven.")]
pub(crate) struct DrillArguments {
    /// Only the cluster of this environment.
    #[arg(long = "env", value_name = "NAME")]
    pub(crate) environment: Option<String>,
    /// Print each event as a line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
