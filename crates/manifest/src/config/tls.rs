//! Certificates, and what follows from a host having one.

use astraler_model::TlsVersion;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Certificates. Names that only this machine or network knows (`localhost`, `.test`, `.example`, `.internal`, private
/// addresses) have theirs from a local CA, without asking: `astraler tls trust` says how to trust it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// Ask a CA for certificates of public names, by ACME (RFC 8555). While it is off nothing is sent to anybody.
    pub acme: bool,
    /// Directory of the ACME server.
    pub acme_directory_url: String,
    /// How names are proven: `http-01` (port 80 of each name leads to `edge.http_port`), `tls-alpn-01` (port 443 to
    /// `edge.https_port`) or `dns-01` (its zone is served here).
    pub acme_challenge: AcmeChallenge,
    /// PEM file with the roots by which the ACME server itself is trusted, for a CA of your own; public ones when absent.
    pub acme_roots: Option<PathBuf>,
    /// Contact of the ACME account.
    pub email: Option<String>,
    /// Oldest TLS version: `1.2` or `1.3`.
    pub min_version: TlsVersion,
    /// Which names are served over https only: plain HTTP is redirected there, and https answers carry
    /// `Strict-Transport-Security`. `public`: those with a certificate of a public CA; `all`: every name but those of
    /// development; `off`: none.
    pub https_only: HttpsOnly,
    /// Days of `Strict-Transport-Security`; 0 sends none.
    #[schemars(range(max = 3650))]
    pub hsts_max_age_days: u32,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            acme: false,
            acme_directory_url: "https://acme-v02.api.letsencrypt.org/directory".into(),
            acme_challenge: AcmeChallenge::default(),
            acme_roots: None,
            email: None,
            min_version: TlsVersion::default(),
            https_only: HttpsOnly::default(),
            hsts_max_age_days: 365,
        }
    }
}

/// How an ACME server is convinced that a name is ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum AcmeChallenge {
    /// A file over HTTP (RFC 8555 section 8.3).
    #[default]
    #[serde(rename = "http-01")]
    Http01,
    /// A certificate (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// A record of DNS (RFC 8555 section 8.4).
    #[serde(rename = "dns-01")]
    Dns01,
}

/// Which names are served over https only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HttpsOnly {
    /// Those with a certificate that every client trusts.
    #[default]
    Public,
    /// All but development's.
    All,
    /// None.
    Off,
}
