//! What the local CA issues: at once, without asking anybody.

use super::record::{self, Current, Record};
use super::wanted::{self, Issuer, Wanted};
use super::{CertificatesError, files};
use crate::platform::Platform;
use crate::words::chain;
use astraler_secrets::Secret;
use astraler_tls::Authority;
use std::sync::PoisonError;

/// Name of the sealed secret: its certificate and its key.
const SECRET: &str = "tls-local-authority";
/// A root with less time left is replaced: what it issues must not outlive it.
const LEAST_LEFT_MS: u64 = 60 * 86_400_000;

/// The certificate of the local CA, if there is one yet. Makes none.
pub(super) fn root(platform: &Platform) -> Result<Option<String>, CertificatesError> {
    let kept = platform.credentials.platform_secret(SECRET)?;
    let authority = kept.map(|kept| Authority::open(kept.expose())).transpose()?;
    Ok(authority.map(|authority| authority.certificate().to_owned()))
}

fn authority(platform: &Platform, now: u64) -> Result<Authority, CertificatesError> {
    if let Some(kept) = platform.credentials.platform_secret(SECRET)? {
        let authority = Authority::open(kept.expose())?;
        if authority.not_after_ms() > now + LEAST_LEFT_MS {
            return Ok(authority);
        }
    }
    let made = Secret::new(Authority::generate(&platform.installation.application, now)?);
    platform.credentials.put_platform_secret(SECRET, &made)?;
    Ok(Authority::open(made.expose())?)
}

/// Whether something is to be issued.
pub(super) fn is_due(platform: &Platform, now: u64) -> Result<bool, CertificatesError> {
    let records = record::all(platform)?;
    let due = |wanted: &Wanted| needs(platform, wanted, records.get(&wanted.subject), now);
    let mut wanted = wanted::all(platform)?.into_iter();
    Ok(wanted.any(|wanted| wanted.issuer == Issuer::Local && due(&wanted)))
}

fn needs(platform: &Platform, wanted: &Wanted, record: Option<&Record>, now: u64) -> bool {
    let Some(record) = record else { return true };
    if record.due_ms(&wanted.subject, now) <= now {
        return true;
    }
    let waits = record.waits(now);
    // Issued while the clock was ahead: clients refuse it until that day, which may be years away.
    let is_of_the_future = |current: &Current| current.facts.not_before_ms > now;
    if record.current.as_ref().is_some_and(is_of_the_future) && !waits {
        return true;
    }
    let fits = record.current.as_ref().is_some_and(|current| {
        let folder = platform.installation.layout.certificates();
        wanted.names.iter().all(|name| current.covers(name)) && folder.join(&current.file).exists()
    });
    !fits && !waits
}

/// Issues what is missing or due. One that fails is tried again later, and keeps nothing else from being issued.
pub(super) fn issue(platform: &Platform, now: u64) -> Result<(), CertificatesError> {
    let _turn = platform
        .certificates
        .turn
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let records = record::all(platform)?;
    let mut wanted = wanted::all(platform)?;
    wanted.retain(|one| one.issuer == Issuer::Local && needs(platform, one, records.get(&one.subject), now));
    if wanted.is_empty() {
        return Ok(());
    }
    let authority = authority(platform, now)?;
    for one in wanted {
        let mut record = records.get(&one.subject).cloned().unwrap_or_default();
        match issue_one(platform, &authority, &one, now) {
            Ok(current) => record.succeeded(current),
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(subject = one.subject, error, "no certificate");
                record.failed(&one.subject, error, None, now);
            }
        }
        record::put(platform, &one.subject, &record)?;
    }
    Ok(())
}

fn issue_one(
    platform: &Platform,
    authority: &Authority,
    wanted: &Wanted,
    now: u64,
) -> Result<Current, CertificatesError> {
    let issued = authority.issue(&wanted.names, now)?;
    Ok(Current {
        file: files::write(platform, &wanted.subject, &issued.pem)?,
        local: true,
        facts: issued.facts,
        suggested_ms: None,
        asked_ms: None,
    })
}
