//! What the machine is set up to use: registries and certificates.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};

/// Variables that name certificates. They are passed on where what they name is visible in the sandbox.
const CERTIFICATES: [&str; 7] = [
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
];

/// What the machine is set up to use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Machine {
    /// The place of npm's packages, where it is not the public one.
    pub npm_registry: Option<String>,
    /// The place of Python's packages, where it is not the public one.
    pub pip_index: Option<String>,
    /// Variables that name certificates.
    pub certificates: BTreeMap<String, String>,
}

impl Machine {
    /// Asks the machine: `npm config get registry`, `PIP_INDEX_URL`, and the usual variables for certificates.
    pub fn probe() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let asked = Command::new("npm")
            .args(["config", "get", "registry"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output();
        let registry = asked
            .ok()
            .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        let visible =
            |path: &String| path.starts_with("/etc/ssl/") || path.starts_with("/usr/") || path == "/etc/ssl";
        Self {
            npm_registry: registry.filter(|url| {
                url.starts_with("http") && url.trim_end_matches('/') != "https://registry.npmjs.org"
            }),
            pip_index: variable("PIP_INDEX_URL"),
            certificates: CERTIFICATES
                .iter()
                .filter_map(|name| Some(((*name).to_owned(), variable(name).filter(visible)?)))
                .collect(),
        }
    }
}
