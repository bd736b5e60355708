//! What the edge is told of certificates. It names files; no key is in it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Everything about TLS that a snapshot of the edge holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsSnapshot {
    /// The first one is also shown to clients that name no host, or one that has none.
    pub certificates: Vec<TlsCertificate>,
    /// Nothing older is spoken.
    pub min_version: TlsVersion,
    /// Where https is served: a redirect leads there.
    pub https_port: u16,
    /// HTTP-01 (RFC 8555 section 8.3): what answers for a token. It is no secret: it is published.
    pub http_challenges: BTreeMap<String, String>,
    /// TLS-ALPN-01 (RFC 8737): by host name, the file with the certificate that proves it is ours.
    pub alpn_challenges: BTreeMap<String, PathBuf>,
}

/// A certificate, and what its names are due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsCertificate {
    /// Lower-case host names; a first label `*` stands for any one label; IPv6 in brackets, as routes have it.
    pub names: Vec<String>,
    /// PEM: its chain, the leaf first, and its private key. Another certificate is another file, so that a path says
    /// which one it is.
    pub file: PathBuf,
    /// Plain HTTP for its names leads to https.
    pub redirect: bool,
    /// `Strict-Transport-Security` (RFC 6797) for its names; 0 sends none.
    pub hsts_max_age_s: u64,
}

/// Versions of TLS that are spoken (RFC 8996 ended the others).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3 (RFC 8446).
    #[serde(rename = "1.3")]
    V1_3,
}
