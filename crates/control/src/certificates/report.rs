//! How certificates stand, for people and programs.

use super::wanted::Issuer;
use super::{CertificatesError, local, record, wanted};
use crate::platform::{Platform, now_ms};
use astraler_model::Environment;
use serde::{Deserialize, Serialize};

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsReport {
    /// One for each certificate, and for each host that has none.
    pub certificates: Vec<CertificateReport>,
    /// PEM of the local CA's certificate, which clients are to trust; nothing before the first one was issued.
    pub authority: Option<String>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateReport {
    /// Whose hosts.
    pub environment: Environment,
    /// Host names.
    pub names: Vec<String>,
    /// Who issues it: `local`, `acme`, or nobody.
    pub source: Option<String>,
    /// Who has issued the one in force.
    pub issuer: Option<String>,
    /// Until when that holds, in milliseconds since the Unix epoch.
    pub not_after_ms: Option<u64>,
    /// When the next one is asked for.
    pub renewal_ms: Option<u64>,
    /// Attempts at it that failed, in a row.
    pub failures: u32,
    /// Why there is none, or no next one yet.
    pub error: Option<String>,
}

/// The report. Makes nothing.
pub(super) fn report(platform: &Platform) -> Result<TlsReport, CertificatesError> {
    let records = record::all(platform)?;
    let mut certificates = Vec::new();
    for wanted in wanted::all(platform)? {
        let record = records.get(&wanted.subject).cloned().unwrap_or_default();
        let current = record.current.as_ref();
        certificates.push(CertificateReport {
            environment: wanted.environment,
            source: Some(match wanted.issuer {
                Issuer::Local => "local".to_owned(),
                Issuer::Acme => "acme".to_owned(),
            }),
            issuer: current.map(|current| current.facts.issuer.clone()),
            not_after_ms: current.map(|current| current.facts.not_after_ms),
            renewal_ms: Some(record.due_ms(&wanted.subject, now_ms())).filter(|due| *due > 0),
            failures: record.failures,
            error: record.error,
            names: wanted.names,
        });
    }
    for (environment, host, why) in wanted::without(platform)? {
        certificates.push(CertificateReport {
            environment,
            names: vec![host],
            source: None,
            issuer: None,
            not_after_ms: None,
            renewal_ms: None,
            failures: 0,
            error: Some(why.to_owned()),
        });
    }
    Ok(TlsReport {
        certificates,
        authority: local::root(platform)?,
    })
}
