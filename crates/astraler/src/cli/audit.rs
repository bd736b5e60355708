//! `astraler audit …`.

use super::Json;
use clap::Subcommand;

/// `audit …`.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// The last entries.
    #[command(after_help = "Example:\n  astraler audit list -n 20 --json")]
    List {
        /// So many.
        #[arg(short = 'n', long, default_value_t = 50)]
        lines: usize,
        #[command(flatten)]
        json: Json,
    },
    /// Check the chain of hashes.
    #[command(after_help = "Example:\n  astraler audit verify --json")]
    Verify(Json),
}
