//! `astraler edge`.

use astraler_model::Origin;
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;

pub(super) const EXAMPLES: &str = "Examples:
  astraler edge --listen 127.0.0.1:9000 --origin http://127.0.0.1:8000
  astraler edge --listen-tls 0.0.0.0:443 --certificate chain.pem --key key.pem --origin unix:/run/app.sock
  astraler edge --listen-tls 127.0.0.1:8443 --origin http://127.0.0.1:8000
  astraler edge --listen 0.0.0.0:80 --listen-tls 0.0.0.0:443 --acme --host shop.com --origin http://127.0.0.1:8000
  astraler edge --config edge.toml

Signals: HUP reads the file again, USR2 starts a successor with the same sockets and drains, TERM drains.";

/// The edge by itself; with an installation, the edge of a platform.
#[derive(Debug, Args)]
pub(crate) struct EdgeArguments {
    /// Address for HTTP; may be said several times. The file's by default.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Vec<SocketAddr>,
    /// Address for https; may be said several times.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen_tls: Vec<SocketAddr>,
    /// PEM file with the certificate and its chain for --origin; with its private key, too, without --key.
    #[arg(long, value_name = "FILE", requires = "origin")]
    pub(crate) certificate: Option<PathBuf>,
    /// PEM file with its private key.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub(crate) key: Option<PathBuf>,
    /// Where requests go: http://HOST:PORT or unix:/PATH.
    #[arg(long)]
    pub(crate) origin: Option<Origin>,
    /// Host name of --origin; may be said several times. Every host by default.
    #[arg(long, value_name = "NAME", requires = "origin")]
    pub(crate) host: Vec<String>,
    /// Ask a CA (Let's Encrypt, or the file's) for certificates of public names, by ACME.
    #[arg(long)]
    pub(crate) acme: bool,
    /// Where the CA writes to.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) email: Option<String>,
    /// File with sites and settings of the edge.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// File that gets a line for each request.
    #[arg(long, value_name = "FILE", default_value = "/dev/null")]
    pub(crate) access_log: PathBuf,
    /// Folder of the cache's disk tier; without it, the cache is in memory alone.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) cache_folder: Option<PathBuf>,
    /// Folder of what must outlive this process: the local CA, which vouches for private names that have no certificate
    /// of their own, and what a CA of others has issued.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) state_folder: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) unit: Option<EdgeUnit>,
}

/// What a platform starts its edge with.
#[derive(Debug, Args)]
pub(crate) struct EdgeUnit {
    /// The installation record.
    #[arg(long, hide = true, required = false, requires = "settings")]
    pub(crate) installation: PathBuf,
    /// File with the edge's settings.
    #[arg(long, hide = true, required = false, requires = "installation")]
    pub(crate) settings: PathBuf,
}
