//! `astraler dns …`.

use super::Json;
use clap::Subcommand;

/// `dns …`.
#[derive(Debug, Subcommand)]
pub(crate) enum DnsCommand {
    /// Show the zone that is served, and what the registrar must be told: name servers, glue, DS record.
    #[command(after_help = "Examples:\n  astraler dns show\n  astraler dns show --json")]
    Show(Json),
    /// Ask our own server for every record of the zone; exit code 1 when an answer is not as it should be. Nobody else is
    /// asked.
    #[command(after_help = "Examples:\n  astraler dns check\n  astraler dns check --json")]
    Check(Json),
    /// Serve a proof for a certificate authority (ACME DNS-01), for ACME clients of your own; returns when it is served.
    #[command(after_help = "Examples:
  astraler dns challenge mail.shop.example gfj9Xq...Rg85nM
  astraler dns challenge mail.shop.example gfj9Xq...Rg85nM --remove")]
    Challenge {
        /// The host that a certificate is for.
        host: String,
        /// The value of the TXT record.
        value: String,
        /// Take it away.
        #[arg(long)]
        remove: bool,
    },
}
