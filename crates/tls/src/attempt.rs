//! One attempt at a certificate of a CA of others: its steps are written down, so that the successor of a killed process
//! goes on where it stopped.
//!
//! Before an order is begun its private key is in a file; as soon as the CA has named the order, its address is in the
//! record. From there each step can be taken again: the CA says how far the order has come. An order that has failed is
//! forgotten, and the next attempt begins another one.

use crate::record::{Current, OrderRecord, Record, dice};
use crate::{Acme, AcmeError, Challenge, InspectError, Order, Proof, inspect};

/// The longest that an order which does not end is taken up again: CAs keep them for a week.
const ORDER_LASTS_MS: u64 = 6 * 86_400_000;

/// Who keeps certificates. What it writes is durable when it returns.
pub trait Keeper: Sync {
    /// It could not.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The account at the CA of a certificate; its key is on disk before the CA hears of it.
    fn open(&self) -> impl Future<Output = Result<Acme, AttemptError<Self::Error>>> + Send;
    /// What is in a file that it has written; nothing where it cannot be read.
    fn read(&self, file: &str) -> Option<String>;
    /// Writes a certificate with its key; the file's name.
    fn write(&self, subject: &str, pem: &str) -> Result<String, Self::Error>;
    /// Writes the key of a certificate that is still to come; the file's name.
    fn write_key(&self, subject: &str, pem: &str) -> Result<String, Self::Error>;
    /// Writes the record down.
    fn put(&self, subject: &str, record: &Record) -> Result<(), Self::Error>;
    /// Lets a CA see the proofs: when this returns, whoever asks gets them.
    fn show(
        &self,
        challenge: Challenge,
        proofs: &[Proof],
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
    /// Takes them back.
    fn hide(&self, challenge: Challenge, proofs: &[Proof]);
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The name.
    pub subject: &'a str,
    /// The CA's directory.
    pub directory_url: &'a str,
    /// How it is convinced.
    pub challenge: Challenge,
}

/// There is no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError<E: std::error::Error + 'static> {
    /// The CA.
    #[error(transparent)]
    Acme(#[from] AcmeError),
    /// What it sent.
    #[error("what the CA sent is no certificate")]
    Inspect(#[from] InspectError),
    /// Whoever keeps it.
    #[error(transparent)]
    Keeper(E),
}

/// Why an attempt failed, and before when the CA wants to hear of no other.
#[derive(Debug)]
pub struct Failed<E: std::error::Error + 'static> {
    /// Why.
    pub error: AttemptError<E>,
    /// Milliseconds since the Unix epoch.
    pub retry_after_ms: Option<u64>,
}

impl<E: std::error::Error + 'static> AttemptError<E> {
    /// What a person can do about it.
    pub fn next_step(&self, wish: &Wish<'_>) -> Option<String> {
        match self {
            Self::Acme(error) => error.next_step(wish.subject, wish.challenge),
            Self::Inspect(_) | Self::Keeper(_) => None,
        }
    }
}

/// One attempt, from where the last one stopped.
///
/// # Errors
/// See [`AttemptError`]. The caller notes it in the record.
pub async fn obtain<K: Keeper>(
    keeper: &K,
    wish: &Wish<'_>,
    record: &mut Record,
    now: u64,
) -> Result<Current, Failed<K::Error>> {
    let opened = keeper.open().await;
    let acme = opened.map_err(|error| Failed {
        error,
        retry_after_ms: None,
    })?;
    let is_another_ones = record.order.is_some() && record.failures == 0;
    let mut obtained = ordered(keeper, &acme, wish, record, now).await;
    if is_another_ones && matches!(obtained, Err(AttemptError::Acme(AcmeError::OrderLost(_)))) {
        // Whoever began it died while the CA looked, which says nothing about the name. Once: one that dies again and again
        // must not use up what a CA allows.
        record.order = None;
        record.failures = 1;
        obtained = ordered(keeper, &acme, wish, record, now).await;
    }
    obtained.map_err(|error| {
        if let AttemptError::Acme(AcmeError::OrderLost(_) | AcmeError::NoChallenge(..)) = &error {
            record.order = None;
        }
        let refused = matches!(error, AttemptError::Acme(AcmeError::Refused(_)));
        let wait_s = acme.retry_after_s().filter(|_| refused);
        Failed {
            error,
            retry_after_ms: wait_s.map(|seconds| now.saturating_add(seconds.saturating_mul(1_000))),
        }
    })
}

async fn ordered<K: Keeper>(
    keeper: &K,
    acme: &Acme,
    wish: &Wish<'_>,
    record: &mut Record,
    now: u64,
) -> Result<Current, AttemptError<K::Error>> {
    let (mut order, key) = begin(keeper, acme, wish, record, now).await?;
    let proofs = order.proofs().await?;
    if !proofs.is_empty() {
        let shown = keeper.show(wish.challenge, &proofs).await;
        let validated = match shown {
            Ok(()) => order.validate().await.map_err(AttemptError::from),
            Err(error) => Err(AttemptError::Keeper(error)),
        };
        keeper.hide(wish.challenge, &proofs);
        validated?;
    }
    let chain = order.finish(wish.subject, &key).await?;
    let facts = inspect(&chain)?;
    let file = keeper.write(wish.subject, &(chain + &key));
    Ok(Current {
        file: file.map_err(AttemptError::Keeper)?,
        local: false,
        facts,
        suggested_ms: None,
        asked_ms: None,
    })
}

/// The order that was begun before, or another one; with the private key that its certificate is for.
async fn begin<K: Keeper>(
    keeper: &K,
    acme: &Acme,
    wish: &Wish<'_>,
    record: &mut Record,
    now: u64,
) -> Result<(Order, String), AttemptError<K::Error>> {
    if let Some(begun) = &record.order
        && begun.directory == wish.directory_url
        && now.saturating_sub(begun.begun_ms) < ORDER_LASTS_MS
        && let Some(key) = keeper.read(&begun.key)
    {
        return Ok((acme.resume(&begun.url, wish.challenge).await?, key));
    }
    record.order = None;
    let key = Acme::generate_key()?;
    let file = keeper
        .write_key(wish.subject, &key)
        .map_err(AttemptError::Keeper)?;
    let before = record.current.as_ref();
    let before = before.and_then(|current| keeper.read(&current.file));
    let order = acme
        .begin(wish.subject, wish.challenge, before.as_deref())
        .await?;
    record.order = Some(OrderRecord {
        url: order.url().to_owned(),
        directory: wish.directory_url.to_owned(),
        key: file,
        begun_ms: now,
    });
    keeper.put(wish.subject, record).map_err(AttemptError::Keeper)?;
    Ok((order, key))
}

/// Asks the CA when it wants a certificate renewed, and notes it. What it does not say costs nothing: there is our own time.
///
/// # Errors
/// See [`AttemptError`].
pub async fn ask<K: Keeper>(
    keeper: &K,
    subject: &str,
    record: &mut Record,
    now: u64,
) -> Result<(), AttemptError<K::Error>> {
    let Some(current) = &mut record.current else {
        return Ok(());
    };
    current.asked_ms = Some(now);
    let Some(pem) = keeper.read(&current.file) else {
        return Ok(());
    };
    let acme = keeper.open().await?;
    current.suggested_ms = acme.suggested_ms(&pem, dice(&[subject, &current.file])).await?;
    Ok(())
}
