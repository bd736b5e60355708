//! What a CA of others issues, by ACME: one order at a time. Its steps are those of [`astraler_tls::obtain`]; here is where
//! they are written down and how proofs are shown.

use super::record::{self, Record};
use super::wanted::{self, Issuer, Wanted};
use super::{CertificatesError, files};
use crate::dns;
use crate::platform::Platform;
use crate::publish;
use crate::words::chain;
use astraler_manifest::{AcmeChallenge, Tls};
use astraler_secrets::Secret;
use astraler_tls::{Acme, AcmeConfig, AttemptError, Challenge, Keeper, Proof, Wish};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::PoisonError;

/// What CAs look at now.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    pub(super) http: BTreeMap<String, String>,
    pub(super) alpn: BTreeMap<String, PathBuf>,
}

/// Asks for what is missing or due, one after the other.
pub(super) async fn turn(platform: &Platform, now: u64) -> Result<(), CertificatesError> {
    let records = record::all(platform)?;
    for wanted in wanted::all(platform)? {
        if wanted.issuer != Issuer::Acme {
            continue;
        }
        let mut record = records.get(&wanted.subject).cloned().unwrap_or_default();
        let folder = platform.installation.layout.certificates();
        let keeper = Kept {
            platform,
            tls: &wanted.tls,
        };
        if record.is_due(&wanted.subject, |file| folder.join(file).exists(), now) {
            obtain(&keeper, &wanted, &mut record, now).await;
            record::put(platform, &wanted.subject, &record)?;
            if let Err(error) = publish::write_edge(platform).await {
                tracing::warn!(
                    error = chain(&error),
                    "the edge cannot be told of a new certificate"
                );
            }
        } else if record.may_ask(now) {
            let asked = astraler_tls::ask(&keeper, &wanted.subject, &mut record, now).await;
            if let Err(error) = asked {
                tracing::debug!(error = chain(&error), "when to renew was not said");
            }
            record::put(platform, &wanted.subject, &record)?;
        }
    }
    Ok(())
}

/// One attempt, and what came of it in the record.
async fn obtain(keeper: &Kept<'_>, wanted: &Wanted, record: &mut Record, now: u64) {
    let wish = Wish {
        subject: &wanted.subject,
        directory_url: &wanted.tls.acme_directory_url,
        challenge: challenge(wanted.tls.acme_challenge),
    };
    match Box::pin(astraler_tls::obtain(keeper, &wish, record, now)).await {
        Ok(current) => {
            tracing::info!(name = wanted.subject, "a new certificate");
            record.succeeded(current);
        }
        Err(failed) => {
            let next_step = failed.error.next_step(&wish);
            let mut error = chain(&failed.error);
            error.extend(next_step.into_iter().flat_map(|step| ["; ".to_owned(), step]));
            tracing::warn!(
                name = wanted.subject,
                error,
                "no new certificate; the one before stays"
            );
            record.failed(&wanted.subject, error, failed.retry_after_ms, now);
        }
    }
}

/// What the platform keeps of certificates of the CA that the manifest names.
struct Kept<'a> {
    platform: &'a Platform,
    tls: &'a Tls,
}

impl Keeper for Kept<'_> {
    type Error = CertificatesError;

    async fn open(&self) -> Result<Acme, AttemptError<CertificatesError>> {
        open(self.platform, self.tls).await
    }

    fn read(&self, file: &str) -> Option<String> {
        let folder = self.platform.installation.layout.certificates();
        std::fs::read_to_string(folder.join(file)).ok()
    }

    fn write(&self, subject: &str, pem: &str) -> Result<String, CertificatesError> {
        files::write(self.platform, subject, pem)
    }

    fn write_key(&self, subject: &str, pem: &str) -> Result<String, CertificatesError> {
        files::write_key(self.platform, subject, pem)
    }

    fn put(&self, subject: &str, record: &Record) -> Result<(), CertificatesError> {
        record::put(self.platform, subject, record)
    }

    async fn show(&self, challenge: Challenge, proofs: &[Proof]) -> Result<(), CertificatesError> {
        show(self.platform, challenge, proofs).await
    }

    fn hide(&self, challenge: Challenge, proofs: &[Proof]) {
        hide(self.platform, challenge, proofs);
    }
}

/// The account of the CA that the manifest names; its key is made before the CA hears of it.
async fn open(platform: &Platform, tls: &Tls) -> Result<Acme, AttemptError<CertificatesError>> {
    let key = account_key(platform, tls).map_err(AttemptError::Keeper)?;
    let roots = tls.acme_roots.as_ref().map(|path| {
        std::fs::read_to_string(path).map_err(|source| CertificatesError::Roots {
            path: path.clone(),
            source,
        })
    });
    let config = AcmeConfig {
        directory_url: tls.acme_directory_url.clone(),
        roots: roots.transpose().map_err(AttemptError::Keeper)?,
        email: tls.email.clone(),
    };
    Ok(Acme::open(&config, key.expose()).await?)
}

fn account_key(platform: &Platform, tls: &Tls) -> Result<Secret, CertificatesError> {
    let digest = hex::encode(Sha256::digest(tls.acme_directory_url.as_bytes()));
    let name = format!("acme-account-{}", &digest[..16]);
    if let Some(key) = platform.credentials.platform_secret(&name)? {
        return Ok(key);
    }
    let key = Secret::new(Acme::generate_key()?);
    platform.credentials.put_platform_secret(&name, &key)?;
    Ok(key)
}

fn challenge(challenge: AcmeChallenge) -> Challenge {
    match challenge {
        AcmeChallenge::Http01 => Challenge::Http01,
        AcmeChallenge::TlsAlpn01 => Challenge::TlsAlpn01,
        AcmeChallenge::Dns01 => Challenge::Dns01,
    }
}

/// Lets a CA see the proofs: when this returns, the edge answers with them.
async fn show(platform: &Platform, challenge: Challenge, proofs: &[Proof]) -> Result<(), CertificatesError> {
    for proof in proofs {
        match challenge {
            Challenge::Http01 => {
                let mut shown = shown(platform);
                shown
                    .http
                    .insert(proof.token.clone(), proof.authorisation.clone());
            }
            Challenge::TlsAlpn01 => {
                let file = files::write(
                    platform,
                    &format!("challenge-{}", proof.name),
                    &proof.certificate()?,
                )?;
                let path = platform.installation.layout.certificates().join(file);
                shown(platform).alpn.insert(proof.name.clone(), path);
            }
            Challenge::Dns01 => {
                let presented = dns::present(platform, &proof.name, &proof.dns_value).await;
                presented.map_err(|error| CertificatesError::Zone(chain(&error)))?;
            }
        }
    }
    if challenge != Challenge::Dns01 {
        publish::edge(platform)
            .await
            .map_err(|error| CertificatesError::Told(chain(&error)))?;
    }
    Ok(())
}

/// Takes them back; the edge hears of it with the next snapshot, which is soon.
fn hide(platform: &Platform, challenge: Challenge, proofs: &[Proof]) {
    for proof in proofs {
        let mut shown = shown(platform);
        shown.http.remove(&proof.token);
        shown.alpn.remove(&proof.name);
        drop(shown);
        if challenge == Challenge::Dns01 {
            dns::forget(platform, &proof.name, &proof.dns_value);
        }
    }
}

fn shown(platform: &Platform) -> std::sync::MutexGuard<'_, Proofs> {
    let proofs = &platform.certificates.proofs;
    proofs.lock().unwrap_or_else(PoisonError::into_inner)
}
