//! What a CA of others issues, by ACME: one order at a time, its steps written down, so that a killed daemon's successor
//! goes on where it stopped.
//!
//! Before an order is begun its private key is in a file; as soon as the CA has named the order, its address is in the store.
//! From there each step can be taken again: the CA says how far the order has come. An order that has failed is forgotten,
//! and the next attempt begins another one.

use super::record::{self, Current, OrderRecord, Record, dice};
use super::wanted::{self, Issuer, Wanted};
use super::{CertificatesError, files};
use crate::dns;
use crate::platform::Platform;
use crate::publish;
use crate::words::chain;
use astraler_manifest::{AcmeChallenge, Tls};
use astraler_secrets::Secret;
use astraler_tls::{Acme, AcmeConfig, AcmeError, Challenge, Order, Proof, inspect};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::PoisonError;

/// How often a CA is asked when it wants a certificate renewed.
const ASK_EVERY_MS: u64 = 6 * 3_600_000;
/// The longest that an order which does not end is taken up again: CAs keep them for a week.
const ORDER_LASTS_MS: u64 = 6 * 86_400_000;

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
        if is_due(platform, &wanted, &record, now) {
            match Box::pin(obtain(platform, &wanted, &mut record, now)).await {
                Ok(current) => {
                    tracing::info!(name = wanted.subject, "a new certificate");
                    record.succeeded(current);
                }
                Err((error, retry_after_ms)) => {
                    let error = chain(&error);
                    tracing::warn!(
                        name = wanted.subject,
                        error,
                        "no new certificate; the one before stays"
                    );
                    record.failed(&wanted.subject, error, retry_after_ms, now);
                }
            }
            record::put(platform, &wanted.subject, &record)?;
            if let Err(error) = publish::write_edge(platform).await {
                tracing::warn!(
                    error = chain(&error),
                    "the edge cannot be told of a new certificate"
                );
            }
        } else if may_ask(&record, now) {
            ask(platform, &wanted, &mut record, now).await;
            record::put(platform, &wanted.subject, &record)?;
        }
    }
    Ok(())
}

fn is_due(platform: &Platform, wanted: &Wanted, record: &Record, now: u64) -> bool {
    let waits = record.waits(now);
    let folder = platform.installation.layout.certificates();
    let missing = record
        .current
        .as_ref()
        .is_none_or(|current| !folder.join(&current.file).exists());
    !waits && (missing || record.order.is_some() || record.due_ms(&wanted.subject, now) <= now)
}

type Failure = (CertificatesError, Option<u64>);

/// One attempt, from where the last one stopped.
async fn obtain(
    platform: &Platform,
    wanted: &Wanted,
    record: &mut Record,
    now: u64,
) -> Result<Current, Failure> {
    let tls = &wanted.tls;
    let acme = open(platform, tls).await.map_err(|error| (error, None))?;
    let obtained = ordered(platform, &acme, wanted, record, now).await;
    obtained.map_err(|error| {
        if let CertificatesError::Acme(AcmeError::OrderLost(_) | AcmeError::NoChallenge(..)) = &error {
            record.order = None;
        }
        let refused = matches!(error, CertificatesError::Acme(AcmeError::Refused(_)));
        let wait_s = acme.retry_after_s().filter(|_| refused);
        (
            error,
            wait_s.map(|seconds| now.saturating_add(seconds.saturating_mul(1_000))),
        )
    })
}

async fn ordered(
    platform: &Platform,
    acme: &Acme,
    wanted: &Wanted,
    record: &mut Record,
    now: u64,
) -> Result<Current, CertificatesError> {
    let challenge = challenge(wanted.tls.acme_challenge);
    let (mut order, key) = begin(platform, acme, wanted, record, challenge, now).await?;
    let proofs = order.proofs().await?;
    if !proofs.is_empty() {
        show(platform, challenge, &proofs).await?;
        let validated = order.validate().await;
        hide(platform, challenge, &proofs);
        validated?;
    }
    let chain = order.finish(&wanted.subject, &key).await?;
    let facts = inspect(&chain)?;
    let file = files::write(platform, &wanted.subject, &(chain + &key))?;
    Ok(Current {
        file,
        local: false,
        facts,
        suggested_ms: None,
        asked_ms: None,
    })
}

/// The order that was begun before, or another one; with the private key that its certificate is for.
async fn begin(
    platform: &Platform,
    acme: &Acme,
    wanted: &Wanted,
    record: &mut Record,
    challenge: Challenge,
    now: u64,
) -> Result<(Order, String), CertificatesError> {
    let folder = platform.installation.layout.certificates();
    let directory = &wanted.tls.acme_directory_url;
    if let Some(begun) = &record.order
        && begun.directory == *directory
        && now.saturating_sub(begun.begun_ms) < ORDER_LASTS_MS
        && let Ok(key) = std::fs::read_to_string(folder.join(&begun.key))
    {
        return Ok((acme.resume(&begun.url, challenge).await?, key));
    }
    record.order = None;
    let key = Acme::generate_key()?;
    let file = files::write_key(platform, &wanted.subject, &key)?;
    let before = record.current.as_ref();
    let before = before.and_then(|current| std::fs::read_to_string(folder.join(&current.file)).ok());
    let order = acme.begin(&wanted.subject, challenge, before.as_deref()).await?;
    record.order = Some(OrderRecord {
        url: order.url().to_owned(),
        directory: directory.clone(),
        key: file,
        begun_ms: now,
    });
    record::put(platform, &wanted.subject, record)?;
    Ok((order, key))
}

/// The account of the CA that the manifest names; its key is made before the CA hears of it.
async fn open(platform: &Platform, tls: &Tls) -> Result<Acme, CertificatesError> {
    let digest = hex::encode(Sha256::digest(tls.acme_directory_url.as_bytes()));
    let name = format!("acme-account-{}", &digest[..16]);
    let key = match platform.credentials.platform_secret(&name)? {
        Some(key) => key,
        None => {
            let key = Secret::new(Acme::generate_key()?);
            platform.credentials.put_platform_secret(&name, &key)?;
            key
        }
    };
    let roots = tls.acme_roots.as_ref().map(|path| {
        std::fs::read_to_string(path).map_err(|source| CertificatesError::Roots {
            path: path.clone(),
            source,
        })
    });
    let config = AcmeConfig {
        directory_url: tls.acme_directory_url.clone(),
        roots: roots.transpose()?,
        email: tls.email.clone(),
    };
    Ok(Acme::open(&config, key.expose()).await?)
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

fn may_ask(record: &Record, now: u64) -> bool {
    let current = record.current.as_ref().filter(|current| !current.local);
    current.is_some_and(|current| {
        current
            .asked_ms
            .is_none_or(|asked| now.saturating_sub(asked) > ASK_EVERY_MS)
    })
}

/// Asks the CA when it wants a certificate renewed. What it does not say costs nothing: there is our own time.
async fn ask(platform: &Platform, wanted: &Wanted, record: &mut Record, now: u64) {
    let folder = platform.installation.layout.certificates();
    let Some(current) = &mut record.current else {
        return;
    };
    current.asked_ms = Some(now);
    let Ok(pem) = std::fs::read_to_string(folder.join(&current.file)) else {
        return;
    };
    let suggested = match open(platform, &wanted.tls).await {
        Ok(acme) => acme
            .suggested_ms(&pem, dice(&[&wanted.subject, &current.file]))
            .await
            .map_err(Into::into),
        Err(error) => Err(error),
    };
    match suggested {
        Ok(suggested) => current.suggested_ms = suggested,
        Err(error) => tracing::debug!(error = chain(&error), "when to renew was not said"),
    }
}
