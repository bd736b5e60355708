//! `astraler maintenance …`, `astraler attack-mode …`.

use super::Json;
use astraler_model::Network;
use clap::Subcommand;

/// `maintenance …`.
#[derive(Debug, Subcommand)]
pub(crate) enum MaintenanceCommand {
    /// Answer 503 with a page to all but a few, until it is switched off. Deployments do not end it.
    #[command(after_help = "Examples:
  astraler maintenance on --env production --message \"Back at 14:00 UTC\" --retry-after 30m
  astraler maintenance on --env production --allow 192.0.2.0/24 --allow 2001:db8::/32")]
    On {
        /// Environment.
        #[arg(long = "env", value_name = "NAME", default_value = "production")]
        environment: String,
        /// What the page says.
        #[arg(long)]
        message: Option<String>,
        /// A network that is served all the same, in CIDR form; may be repeated.
        #[arg(long, value_name = "CIDR")]
        allow: Vec<Network>,
        /// When clients are told to come again: a number and m, h or d.
        #[arg(long, value_name = "TIME", default_value = "5m")]
        retry_after: String,
        #[command(flatten)]
        json: Json,
    },
    /// Serve everybody again.
    Off {
        /// Environment.
        #[arg(long = "env", value_name = "NAME", default_value = "production")]
        environment: String,
        #[command(flatten)]
        json: Json,
    },
}

/// `attack-mode …`.
#[derive(Debug, Subcommand)]
pub(crate) enum AttackCommand {
    /// Tighten limits: `edge.under_attack` in the manifest says how far.
    #[command(after_help = "Examples:
  astraler attack-mode on --env production --for 1h
  astraler attack-mode off --env production")]
    On {
        /// Environment.
        #[arg(long = "env", value_name = "NAME", default_value = "production")]
        environment: String,
        /// It ends by itself after so long: a number and m, h or d. Without, when it is switched off.
        #[arg(long = "for", value_name = "TIME")]
        lasts: Option<String>,
        #[command(flatten)]
        json: Json,
    },
    /// Back to the usual limits.
    Off {
        /// Environment.
        #[arg(long = "env", value_name = "NAME", default_value = "production")]
        environment: String,
        #[command(flatten)]
        json: Json,
    },
}
