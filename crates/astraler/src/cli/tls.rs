//! `astraler tls …`.

use super::Json;
use clap::Subcommand;

/// `tls …`.
#[derive(Debug, Subcommand)]
pub(crate) enum TlsCommand {
    /// Which hosts have a certificate, from whom, until when, and what went wrong with the next one.
    #[command(after_help = "Examples:\n  astraler tls list\n  astraler tls list --json")]
    List {
        #[command(flatten)]
        json: Json,
    },
    /// Write the local CA's certificate to a file, and say how browsers and other clients get to trust it. It can vouch
    /// for private names only (localhost, .test, .example, .internal, private addresses), for no site of the internet.
    #[command(after_help = "Examples:\n  astraler tls trust\n  sudo astraler tls trust --install")]
    Trust {
        /// Install it on this machine: in Debian's store (as root), and in Chromium's of this user where certutil is there.
        #[arg(long)]
        install: bool,
        #[command(flatten)]
        json: Json,
    },
    /// Renew now, whatever time is left: the certificate of a host or an environment, or all.
    #[command(after_help = "Examples:\n  astraler tls renew app.shop.example\n  astraler tls renew")]
    Renew {
        /// A host or an environment.
        name: Option<String>,
        #[command(flatten)]
        json: Json,
    },
}
