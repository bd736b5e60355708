//! Certificates of this platform: which ones its hosts want, what is in force, when the next one is due. Issuing is crate
//! `tls`'s; here are the store, the files, the clock and what the edge is told.
//!
//! What the local CA issues is made where it is first needed, just before the edge hears of the host: so https is there
//! with the environment. Private keys lie in files that the daemon writes and the edge's group reads; the store knows
//! their names only. The local CA's own key is sealed in the store.

mod acme;
pub(crate) mod api;
mod client;
mod files;
mod local;
mod record;
mod report;
mod tell;
#[cfg(test)]
mod tests;
mod wanted;

pub use report::{CertificateReport, TlsReport};

use crate::daemon::Daemon;
use crate::platform::{Platform, PlatformError, now_ms};
use crate::publish;
use crate::words::chain;
use astraler_manifest::HttpsOnly;
use astraler_model::{Environment, TlsCertificate, TlsSnapshot};
use record::Record;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use wanted::{Issuer, Wanted};

/// How often it is looked whether something is due.
const LOOK_EVERY: Duration = Duration::from_secs(60);
const DAY_S: u64 = 86_400;

/// What the daemon's process remembers of certificates.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    /// Something may be due.
    pub(crate) wake: Notify,
    /// Who issues does it alone.
    turn: std::sync::Mutex<()>,
    /// One look at a time.
    looking: tokio::sync::Mutex<()>,
    /// What CAs of others are shown.
    proofs: std::sync::Mutex<acme::Proofs>,
    /// What a test takes for now; the machine's clock when absent.
    #[cfg(test)]
    clock: std::sync::Mutex<Option<u64>>,
}

impl Certificates {
    fn now_ms(&self) -> u64 {
        #[cfg(test)]
        if let Some(now) = *self
            .clock
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
        {
            return now;
        }
        now_ms()
    }
}

/// A certificate could not be had, or what there is cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificatesError {
    #[error(transparent)]
    Platform(#[from] PlatformError),
    #[error("the control plane's database cannot be used")]
    Store(#[from] astraler_store::StoreError),
    #[error(transparent)]
    Credential(#[from] crate::credentials::CredentialError),
    #[error(transparent)]
    Authority(#[from] astraler_tls::AuthorityError),
    #[error(transparent)]
    Acme(#[from] astraler_tls::AcmeError),
    #[error("what the CA sent is no certificate")]
    Inspect(#[from] astraler_tls::InspectError),
    #[error("edge.tls.acme_roots, {path}, cannot be read", path = .path.display())]
    Roots {
        path: std::path::PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the edge does not show the proof: {0}")]
    Told(String),
    #[error("no proof by DNS: {0}")]
    Zone(String),
    #[error("a certificate cannot be written")]
    File(#[from] astraler_host::file::FileError),
    #[error("the record of the certificate {subject} is not of this version")]
    Record {
        subject: String,
        #[source]
        source: serde_json::Error,
    },
}

/// What the edge is told: of what is wanted, what is in force. Makes nothing.
pub(crate) fn snapshot(platform: &Platform) -> Result<TlsSnapshot, PlatformError> {
    let records = record::all(platform)?;
    let mut certificates: Vec<TlsCertificate> = Vec::new();
    for wanted in wanted::all(platform)? {
        let record = records.get(&wanted.subject);
        if let Some(current) = record.and_then(|record| record.current.as_ref()) {
            let file = platform.installation.layout.certificates().join(&current.file);
            let shown = wanted.names.iter().filter(|name| current.covers(name));
            certificates.extend(entries(&wanted, &file, shown.cloned()));
        }
    }
    let governing = governing(platform)?;
    let proofs = platform.certificates.proofs.lock();
    let proofs = proofs.unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(TlsSnapshot {
        certificates,
        min_version: governing.map(|config| config.min_version).unwrap_or_default(),
        https_port: platform.installation.ports.https,
        http_challenges: proofs.http.clone(),
        alpn_challenges: proofs.alpn.clone(),
    })
}

/// Hosts that have a certificate.
pub(crate) fn secured(platform: &Platform) -> Result<BTreeSet<String>, PlatformError> {
    let certificates = snapshot(platform)?.certificates;
    Ok(certificates.into_iter().flat_map(|one| one.names).collect())
}

/// One for each of what its names are due: which is not the same for `localhost` and for a domain.
fn entries(
    wanted: &Wanted,
    file: &std::path::Path,
    names: impl Iterator<Item = String>,
) -> Vec<TlsCertificate> {
    let mut by_due: BTreeMap<(bool, u64), Vec<String>> = BTreeMap::new();
    for name in names {
        let only = match wanted.tls.https_only {
            HttpsOnly::Off => false,
            HttpsOnly::Public => matches!(wanted.issuer, Issuer::Acme),
            HttpsOnly::All => wanted.environment != Environment::Development,
        };
        // A browser that has heard it from `localhost` refuses what every other program serves there.
        let is_local = name == "localhost" || name.ends_with(".localhost") || is_address(&name);
        let days = u64::from(wanted.tls.hsts_max_age_days);
        let age = if only && !is_local { days * DAY_S } else { 0 };
        by_due.entry((only, age)).or_default().push(name);
    }
    let entry = |((redirect, hsts_max_age_s), names)| TlsCertificate {
        names,
        file: file.to_owned(),
        redirect,
        hsts_max_age_s,
    };
    by_due.into_iter().map(entry).collect()
}

fn is_address(name: &str) -> bool {
    name.starts_with('[') || name.parse::<std::net::IpAddr>().is_ok()
}

/// What holds for all of the edge.
fn governing(platform: &Platform) -> Result<Option<astraler_manifest::Tls>, PlatformError> {
    let live = platform.live()?;
    let Some((environment, (_, application))) = live.iter().next() else {
        return Ok(None);
    };
    let config = platform.governing(*environment, application, |_| true)?;
    Ok(Some(config.edge.tls))
}

/// Makes what the local CA can make at once, before the edge hears of its names. A failure is told, and stands in the
/// record: hosts without a certificate are better than none.
pub(crate) fn ready(platform: &Platform) {
    if let Err(error) = local::issue(platform, platform.certificates.now_ms()) {
        tracing::warn!(
            error = chain(&error),
            "certificates of the local CA cannot be made; trying again"
        );
    }
}

/// Looks after certificates for as long as the daemon runs.
pub(crate) async fn keep(daemon: Arc<Daemon>) {
    let mut told = tell::Told::default();
    loop {
        if let Err(error) = look(&daemon, &mut told, now_ms()).await {
            tracing::warn!(
                error = chain(&error),
                "certificates cannot be looked after; trying again"
            );
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = daemon.platform.certificates.wake.notified() => {}
        }
    }
}

/// One look: what is due is renewed, people hear of what is late, old files go.
async fn look(daemon: &Daemon, told: &mut tell::Told, now: u64) -> Result<(), CertificatesError> {
    let platform = &daemon.platform;
    let _looking = platform.certificates.looking.lock().await;
    if local::is_due(platform, now)? {
        local::issue(platform, now)?;
        if let Err(error) = publish::write_edge(platform).await {
            tracing::warn!(
                error = chain(&error),
                "the edge cannot be told of new certificates"
            );
        }
    }
    acme::turn(platform, now).await?;
    told.tell(daemon, now);
    if is_stale(platform)?
        && let Err(error) = publish::write_edge(platform).await
    {
        tracing::warn!(error = chain(&error), "the edge cannot be told of certificates");
    }
    record::forget_unwanted(platform, now)?;
    files::remove_unused(platform)?;
    Ok(())
}

/// Whether the edge was told something else than what is: a killed daemon's proofs, for example.
fn is_stale(platform: &Platform) -> Result<bool, CertificatesError> {
    let path = platform.installation.layout.snapshot("edge");
    let published = publish::read::<astraler_model::EdgeSnapshot>(&path);
    let Some(published) = published.filter(|published| published.version > 0) else {
        return Ok(false);
    };
    Ok(published.tls != snapshot(platform)?)
}

/// Renews what a person asks for, one subject or host name, or all: at once what the local CA issues, and others as soon as
/// their CA does. What is asked for.
pub(crate) async fn renew(daemon: &Daemon, name: Option<&str>) -> Result<Vec<String>, CertificatesError> {
    let platform = &daemon.platform;
    let mut asked = vec![];
    let records = record::all(platform)?;
    for wanted in wanted::all(platform)? {
        let meant =
            name.is_none_or(|name| wanted.subject == name || wanted.names.iter().any(|one| one == name));
        if meant {
            let record = records.get(&wanted.subject).cloned();
            let record = Record {
                asked: true,
                next_try_ms: None,
                ..record.unwrap_or_default()
            };
            record::put(platform, &wanted.subject, &record)?;
            asked.push(wanted.subject);
        }
    }
    if local::is_due(platform, now_ms())?
        && let Err(error) = publish::write_edge(platform).await
    {
        tracing::warn!(
            error = chain(&error),
            "the edge cannot be told of new certificates"
        );
    }
    platform.certificates.wake.notify_one();
    Ok(asked)
}
